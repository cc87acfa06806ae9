"""Numbers that follow from settings: reciprocals, decays, roots. Made by Python in float64, once for each world."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

from torchgym.config.numbers import Number


def _decays(half_lives: Sequence[float]) -> tuple[float, ...]:
    """Weight of the newest value in exponential means with these half-lives."""
    return tuple(1.0 - 2.0 ** (-1.0 / half_life) for half_life in half_lives)


def _volatility_keep(c: Any) -> tuple[float, ...]:
    """What is left of each log-volatility after a tick."""
    return tuple(2.0 ** (-1.0 / half_life) for half_life in c.fundamentals.volatility_half_lives)


def _volatility_covariance(c: Any) -> list[list[float]]:
    """Stationary covariances of the three log-volatilities: leverage gives their shocks the value's move in common."""
    keep, scales, leverage = _volatility_keep(c), c.fundamentals.volatility_scales, c.fundamentals.leverage

    def entry(j: int, k: int) -> float:
        shared = 1.0 if j == k else leverage**2
        shocks = math.sqrt((1.0 - keep[j] ** 2) * (1.0 - keep[k] ** 2))
        return float(shared * scales[j] * scales[k] * shocks / (1.0 - keep[j] * keep[k]))

    return [[entry(j, k) for k in range(3)] for j in range(3)]


def _volatility_variance(c: Any) -> float:
    """Stationary variance of the log-volatility, all three scales together."""
    return sum(sum(row) for row in _volatility_covariance(c))


def _volatility_root(c: Any) -> tuple[float, ...]:
    """Lower triangular root of the covariance, row by row; a variance of zero gives a column of zeros.

    Not a linear algebra library's, which refuses that and rounds differently from machine to machine.
    """
    covariance = _volatility_covariance(c)
    root = [[0.0] * 3 for _ in range(3)]
    for j in range(3):
        rest = max(covariance[j][j] - sum(entry * entry for entry in root[j][:j]), 0.0)
        root[j][j] = math.sqrt(rest)
        for i in range(j + 1, 3):
            left = covariance[i][j] - sum(a * b for a, b in zip(root[i][:j], root[j][:j], strict=True))
            root[i][j] = left / root[j][j] if root[j][j] > 0.0 else 0.0
    return tuple(itertools.chain.from_iterable(root))


def _volatility_shock(c: Any) -> tuple[float, ...]:
    """Size of each log-volatility's shock."""
    scales = c.fundamentals.volatility_scales
    return tuple((1.0 - k * k) ** 0.5 * scale for k, scale in zip(_volatility_keep(c), scales, strict=True))


def _own_loading(c: Any) -> float:
    """Of a symbol's public move on itself."""
    market, sector = c.fundamentals.market_loading, c.fundamentals.sector_loading
    return math.sqrt(1.0 - market * market - sector * sector)


def _depth_grid(c: Any) -> tuple[float, ...]:
    """Distance of each maker's quote, half-spreads."""
    (low, high), count = c.population.maker.depth, max(c.population.maker.count, 1)
    parts = [index / max(count - 1, 1) for index in range(count)]
    if c.population.maker.grid == "even":
        return tuple(low + (high - low) * part for part in parts)
    return tuple(low * (high / low) ** part for part in parts)


def _children(c: Any) -> tuple[float, ...]:
    """Typical shares of a piece of each meta-order trader, by Zipf's law, at least one."""
    family = c.population.meta_order
    return tuple(max(family.child * rank**-family.concentration, 1.0) for rank in range(1, max(family.count, 1) + 1))


def _typical_half_spread(c: Any) -> float:
    """Points from the mid to the makers' nearest quotes in usual times, at least one."""
    maker = c.population.maker
    return max(
        1.0, float(maker.depth[0] * (maker.base_width + maker.volatility_width * c.opening_volatility * c.list_price))
    )


def _estimate_keep(c: Any) -> float:
    return float(2.0 ** (-1.0 / c.estimate_half_life))


# Numbers that follow from settings, by path; c has the settings as attributes.
DERIVED: dict[str, Callable[[Any], Number]] = {
    "half_point": lambda c: 0.5 * c.point_size,  # currency per half point
    "half_point_12th": lambda c: c.point_size / 24.0,  # of a sum of 12 numbers of half points, their mean in currency
    "list_value": lambda c: c.list_price * c.point_size,  # currency
    "per_list_price_x2": lambda c: 0.5 / c.list_price,
    "per_usual_volume": lambda c: 1.0 / c.usual_volume,
    "per_usual_return": lambda c: 1.0 / c.usual_return,
    "collar_up": lambda c: 0.5 * (1.0 + c.collar),
    "collar_down": lambda c: 0.5 * (1.0 - c.collar),
    "commission_rate": lambda c: round(c.commission_bps * 1_000_000 / 10_000),  # millionths
    "maker_rate": lambda c: round(c.maker_bps * 1_000_000 / 10_000),  # millionths
    "typical_half_spread": _typical_half_spread,
    "per_typical_half_spread": lambda c: 1.0 / _typical_half_spread(c),
    "per_order_size": lambda c: 1.0 / c.order_size,
    "per_position_limit": lambda c: 1.0 / c.position_limit,
    "per_position_limit_squared": lambda c: 1.0 / c.position_limit**2,
    "per_starting_cash": lambda c: 1.0 / c.starting_cash,
    "per_starting_cash_x2": lambda c: 0.5 / c.starting_cash,
    "equity_floor_x2": lambda c: max(1, 2 * c.starting_cash // 10**6),
    "estimate_keep": _estimate_keep,
    "estimate_shock": lambda c: math.sqrt(1.0 - _estimate_keep(c) * _estimate_keep(c)) * c.estimate_error,
    "opening_slope": lambda c: c.opening_pressure * c.population.value.full_gap,
    "activity.decays": lambda c: _decays(c.activity.half_lives),
    "activity.volatility_decays": lambda c: _decays(c.activity.volatility_half_lives),
    "activity.half_hidden_variance": lambda c: 0.5 * _volatility_variance(c),
    "activity.buys_up_to": lambda c: 1.0 + c.activity.marketable,
    "activity.sells_down_to": lambda c: 1.0 - c.activity.marketable,
    "fundamentals.volatility_root": _volatility_root,
    "fundamentals.volatility_keep": _volatility_keep,
    "fundamentals.volatility_shock": _volatility_shock,
    "fundamentals.volatility_variance": _volatility_variance,
    # Of a standard normal number, beyond which the value takes a step.
    "fundamentals.step_beyond": lambda c: (
        -NormalDist().inv_cdf(c.fundamentals.step_chance) if c.fundamentals.step_chance > 0.0 else 1e9
    ),
    "session.fall": lambda c: -math.log(2.0) / c.session.half_life,  # of a logarithm, per tick
    "fundamentals.residual": lambda c: math.sqrt(1.0 - c.fundamentals.leverage**2),
    "fundamentals.own_loading": _own_loading,
    "fundamentals.reversion": lambda c: math.log(2.0) / c.fundamentals.reversion_half_life,
    "fundamentals.magnitude_span": lambda c: c.fundamentals.magnitude[1] - c.fundamentals.magnitude[0],
    "fundamentals.misreading_mean": lambda c: 0.5 * (c.fundamentals.misreading * c.fundamentals.misreading),
    "population.maker.grid": _depth_grid,
    "population.maker.size_span": lambda c: c.population.maker.size[1] - c.population.maker.size[0],
    "population.maker.limit_shares": lambda c: int(c.population.maker.limit),
    "population.maker.per_limit": lambda c: 1.0 / int(c.population.maker.limit),
    "population.maker.decays": lambda c: _decays(c.population.maker.expectation_half_lives),
    "population.value.size_per_gap": lambda c: c.population.value.urgency / c.population.value.full_gap,
    "population.value.renewal": lambda c: math.sqrt(
        1.0 - c.population.value.belief_memory * c.population.value.belief_memory
    ),
    "population.noise.per_full_inventory": lambda c: 1.0 / c.population.noise.full_inventory,
    "population.noise.per_rest": lambda c: 1.0 / max(1.0 - c.population.noise.market_share, 1e-6),
    "population.meta_order.children": _children,
    "population.meta_order.per_full_inventory": lambda c: 1.0 / c.population.meta_order.full_inventory,
    **{
        f"population.meta_order.{name}_{part}": function
        for name, less in (("pareto", 0.0), ("biased", 1.0))
        for part, function in (
            ("span", lambda c, less=less: 1.0 - _ratio(c) ** (c.population.meta_order.exponent - less)),
            ("power", lambda c, less=less: -1.0 / (c.population.meta_order.exponent - less)),
        )
    },
    "population.news.gap_per_share": lambda c: c.population.news.full_gap / c.population.news.capacity,
    "population.news.size_per_gap": lambda c: (
        c.population.news.urgency * c.population.news.capacity / c.population.news.full_gap
    ),
    "population.news.most_unwound": lambda c: c.population.news.max_size // 2,
    "population.stop.per_usual_return": lambda c: 1.0 / (c.population.stop.usual_stretch * c.usual_return),
    "population.pairs.notional": lambda c: c.population.pairs.capacity * float(c.list_price),
    "population.rotator.weight": lambda c: 1.0 - 2.0 ** (-1.0 / c.population.rotator.half_life),
    "population.rotator.most": lambda c: c.population.rotator.capacity * c.population.rotator.tilt,
}


def _ratio(c: Any) -> float:
    low, high = c.population.meta_order.pieces
    return float(low / high)


def span(path: str) -> Callable[[Any], Number]:
    """How far the two ends of a setting lie apart."""
    return lambda c: _look(c, path)[1] - _look(c, path)[0]


def log_ratio(path: str) -> Callable[[Any], Number]:
    """Logarithm of the second end over the first."""

    def function(c: Any) -> float:
        low, high = _look(c, path)
        return math.log(high / low) if low > 0.0 else 0.0

    return function


def _look(c: Any, path: str) -> Any:
    for name in path.split("."):
        c = getattr(c, name)
    return c
