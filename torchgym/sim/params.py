"""The numbers of a batch of markets as tensors: those of the configuration, what follows from them, and what an episode draws.

`params.population.maker.skew` is a tensor that broadcasts over the batch: [N, 1] float64 or int64, or [N, 1, k] where the setting
is a tuple; of a family of single orders [N, 1, 1] float32, or [N, 1, 1, k]; of what learners order and hold (`PER_LEARNER`)
[N, 1, 1] float64 or int64. Beside the settings stand numbers that follow from
them (`DERIVED`): reciprocals, decays, roots. They are made once, by Python, in float64; so a market has the same bits whether a
number comes from the configuration, from `params=` or from `randomize`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgym.config import MarketConfig, all_numbers, with_numbers
from torchgym.config.numbers import Number, Setting, corners, find
from torchgym.config.validation import check_integer, check_number, shown
from torchgym.numerics import exact
from torchgym.numerics.trees import clone, map_tensors
from torchgym.sim import noise

_DTYPES = (torch.float32, torch.float64, torch.int64)
_MOST_WORLDS = 1_000  # that are checked one by one


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
    (low, high), count = c.population.maker.depth, c.population.maker.count
    return tuple(low * (high / low) ** (index / max(count - 1, 1)) for index in range(count))


def _estimate_keep(c: Any) -> float:
    return float(2.0 ** (-1.0 / c.estimate_half_life))


# Numbers that follow from settings, by path; c has the settings as attributes.
DERIVED: dict[str, Callable[[Any], Number]] = {
    "half_point": lambda c: 0.5 * c.point_size,  # currency per half point
    "list_value": lambda c: c.list_price * c.point_size,  # currency
    "per_list_price_x2": lambda c: 0.5 / c.list_price,
    "per_usual_volume": lambda c: 1.0 / c.usual_volume,
    "per_usual_return": lambda c: 1.0 / c.usual_return,
    "collar_up": lambda c: 0.5 * (1.0 + c.collar),
    "collar_down": lambda c: 0.5 * (1.0 - c.collar),
    "commission_rate": lambda c: round(c.commission_bps * 1_000_000 / 10_000),  # millionths
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
    low, high = c.population.meta_order.parent
    return float(low / high)


def _span(path: str) -> Callable[[Any], Number]:
    return lambda c: _look(c, path)[1] - _look(c, path)[0]


def _log_ratio(path: str) -> Callable[[Any], Number]:
    def function(c: Any) -> float:
        low, high = _look(c, path)
        return math.log(high / low) if low > 0.0 else 0.0

    return function


def _look(c: Any, path: str) -> Any:
    for name in path.split("."):
        c = getattr(c, name)
    return c


# Numbers of each learner in each symbol, which broadcast over [N, S, L].
PER_LEARNER = frozenset({"order_size", "position_limit", "per_position_limit", "starting_shares", "commission_rate"})


@dataclass(frozen=True)
class Place:
    """Where a number is: the tensor of its dtype, its columns there, and how it broadcasts."""

    dtype: torch.dtype
    columns: slice
    is_tuple: bool
    per_trader: bool


@dataclass(frozen=True)
class Table:
    """Where every number of a structure is, and by which function those come that follow from others."""

    places: dict[str, Place]
    parts: frozenset[str]  # paths that lead to numbers
    settings: dict[str, Setting] = field(compare=False, repr=False)  # of the configuration that it was made of
    derived: dict[str, Callable[[Any], Number]] = field(compare=False, repr=False)
    reads: dict[str, frozenset[str]] = field(compare=False, repr=False)  # settings that a derived number follows from


def make_table(config: MarketConfig) -> tuple[Table, dict[str, Number]]:
    """The table of a configuration, equal for all of one structure; and its numbers by path, with those that follow."""
    settings = all_numbers(config)
    numbers: dict[str, Number] = {path: setting.value for path, setting in settings.items()}
    singles = {f"population.{name}" for name in config.population.families} - {"population.maker"}
    derived = dict(DERIVED)
    for path, value in numbers.items():
        if isinstance(value, tuple) and len(value) == 2 and path.rpartition(".")[0] in singles:
            for name, function in ((f"{path}_span", _span(path)), (f"{path}_log_ratio", _log_ratio(path))):
                assert name not in numbers and name not in derived, name
                derived[name] = function
    derived["population.list_price"] = lambda c: float(c.list_price)  # as traders need it
    reads: dict[str, frozenset[str]] = {}
    for path, function in derived.items():
        source = _Source(config, dict(numbers))
        numbers[path] = function(source)
        reads[path] = frozenset(source._read)
    ends = dict.fromkeys(_DTYPES, 0)
    places: dict[str, Place] = {}
    for path, value in numbers.items():
        is_tuple = isinstance(value, tuple)
        of_trader = path.rpartition(".")[0] in singles or path == "population.list_price"
        per_trader = of_trader or path in PER_LEARNER
        first = value[0] if isinstance(value, tuple) else value
        dtype = torch.float32 if of_trader else torch.int64 if isinstance(first, int) else torch.float64
        width = len(value) if isinstance(value, tuple) else 1
        places[path] = Place(dtype, slice(ends[dtype], ends[dtype] + width), is_tuple, per_trader)
        ends[dtype] += width
    above = (path.split(".")[:count] for path in places for count in range(1, path.count(".") + 1))
    return Table(places, frozenset(map(".".join, above)), settings, derived, reads), numbers


@dataclass(frozen=True)
class Params:
    """Numbers of N markets; see the module. By attribute, or by path: `params["population.maker.skew"]`."""

    float32: Tensor  # [N, ...], every number of that dtype side by side
    float64: Tensor
    int64: Tensor
    table: Table = field(metadata={"static": True}, repr=False)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _remembered(self, name, self, name)

    def __getitem__(self, path: str) -> Any:
        place = self.table.places.get(path)
        if place is None:
            if path not in self.table.parts:
                raise KeyError(f"there is no number {path!r} among the parameters")
            return Numbers(self, path)
        columns = getattr(self, str(place.dtype).removeprefix("torch."))[:, place.columns]
        if place.is_tuple or place.per_trader:
            columns = columns.unsqueeze(1)
        return columns.unsqueeze(1) if place.is_tuple and place.per_trader else columns

    def __reduce__(self) -> Any:
        plain = Table(self.table.places, self.table.parts, {}, {}, {})  # functions have no name to be found by
        return Params, (self.float32, self.float64, self.int64, plain)


def _remembered(part: Any, name: str, params: Params, path: str) -> Any:
    """An attribute that is looked up once."""
    try:
        value = params[path]
    except KeyError as error:
        raise AttributeError(error.args[0]) from None
    part.__dict__[name] = value
    return value


class Numbers:
    """One part of the parameters, by attribute."""

    def __init__(self, params: Params, path: str) -> None:
        self._params = params
        self._path = path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _remembered(self, name, self._params, f"{self._path}.{name}")


class _Source:
    """Settings as attributes, of one market; notes which numbers were read."""

    def __init__(
        self, config: Any, numbers: Mapping[str, Number], path: str = "", read: set[str] | None = None
    ) -> None:
        self._config, self._numbers, self._path = config, numbers, path
        self._read = set() if read is None else read

    def __getattr__(self, name: str) -> Any:
        path = f"{self._path}{name}"
        if path in self._numbers:
            self._read.add(path)
            return self._numbers[path]
        families = getattr(self._config, "families", {})
        part = families[name] if name in families else getattr(self._config, name)
        plain = isinstance(part, (int, float, str, tuple))
        return part if plain else _Source(part, self._numbers, f"{path}.", self._read)


def make_params(
    config: MarketConfig, num_envs: int, device: torch.device, given: Mapping[str, Any] | Params | None = None
) -> Params:
    """Parameters of markets before anything is drawn: the configuration's numbers, or those given instead.

    Args:
        num_envs: N.
        given: numbers by path, each one for all markets or [N] of them; or nested mappings of such; or `Market.params` of as many
            markets of the same structure.

    Raises:
        ValueError: for an unknown path, a number that the setting refuses, a wrong count, or markets that would be impossible.
    """
    table, numbers = make_table(config)
    if isinstance(given, Params):
        if given.table.places != table.places or len(given.int64) != num_envs:
            raise ValueError(f"params must be those of {num_envs} markets of the same structure")
        return map_tensors(lambda tensor: tensor.to(device, copy=True), replace(given, table=table))
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"params must map paths to numbers, or be those of a market, got {shown(given)}")
    rows = {path: _checked_rows(config, path, value, num_envs) for path, value in _flat(given or {}, ())}
    for world in _worlds(rows):
        with_numbers(config, world)
    params = _filled(table, numbers, num_envs)
    for path, values in rows.items():
        _put(params, path, values)
    _derive_again(config, params, rows)
    return map_tensors(lambda tensor: tensor.to(device), params)


def _worlds(rows: Mapping[str, Sequence[float]]) -> Iterator[dict[str, float]]:
    """The different markets; of more than a thousand their corners, of which some may be stricter."""
    different = dict.fromkeys(zip(*rows.values(), strict=True))
    if len(different) <= _MOST_WORLDS:
        yield from (dict(zip(rows, world, strict=True)) for world in different)
    else:
        yield from corners({path: (min(values), max(values)) for path, values in rows.items()})


def _filled(table: Table, numbers: Mapping[str, Number], num_envs: int) -> Params:
    """The same numbers for all markets, on the CPU."""
    flat: dict[torch.dtype, list[float]] = {dtype: [] for dtype in _DTYPES}
    for path, place in table.places.items():
        value = numbers[path]
        flat[place.dtype] += value if isinstance(value, tuple) else (value,)
    float32, float64, int64 = (
        torch.tensor(flat[dtype], dtype=dtype, device="cpu").expand(num_envs, -1).contiguous() for dtype in _DTYPES
    )
    return Params(float32, float64, int64, table)


def _flat(given: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        if isinstance(value, Mapping):
            yield from _flat(value, (*above, name))
        else:
            yield ".".join((*above, name)), value


def _checked_rows(config: MarketConfig, path: str, value: Any, num_envs: int) -> list[float]:
    """One number for each market."""
    setting, _ = find(config, path)
    values = value.tolist() if isinstance(value, (Tensor, np.ndarray)) else value
    listed = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values] * num_envs
    if len(listed) != num_envs:
        raise ValueError(
            f"params[{path!r}] must be one number, or one for each of {num_envs} markets, got {shown(value)}"
        )
    bounds, name = setting.bounds, f"params[{path!r}]"
    check = check_integer if isinstance(setting.value, int) else check_number
    return [check(name, number, bounds.low, bounds.high) for number in listed]


def _column(table: Table, path: str) -> tuple[torch.dtype, int]:
    """Tensor and column of a single number."""
    place = table.places.get(path)
    if place is not None:
        return place.dtype, place.columns.start
    above, _, at = path.rpartition(".")
    return table.places[above].dtype, table.places[above].columns.start + int(at)


def _put(params: Params, path: str, values: Sequence[float] | Tensor) -> None:
    dtype, column = _column(params.table, path)
    packed = getattr(params, str(dtype).removeprefix("torch."))
    packed[:, column] = torch.as_tensor(values, dtype=dtype, device=packed.device)


def _derive_again(config: MarketConfig, params: Params, rows: Mapping[str, Sequence[float]]) -> None:
    """Write anew what follows from these numbers, market by market; equal worlds are worked out once."""
    numbers: dict[str, Number] = {path: setting.value for path, setting in params.table.settings.items()}
    for path, function in params.table.derived.items():
        mine = [name for name in rows if {name, name.rpartition(".")[0]} & params.table.reads[path]]
        if not mine:
            continue
        known: dict[tuple[float, ...], Number] = {}
        worlds = list(zip(*(rows[name] for name in mine), strict=True))
        for world in worlds:
            if world not in known:
                known[world] = function(_Source(config, _with(numbers, dict(zip(mine, world, strict=True)))))
        place = params.table.places[path]
        made = [value if isinstance(value, tuple) else (value,) for value in (known[world] for world in worlds)]
        packed = getattr(params, str(place.dtype).removeprefix("torch."))
        packed[:, place.columns] = torch.tensor(made, dtype=place.dtype, device=packed.device)


def _with(numbers: Mapping[str, Number], world: Mapping[str, float]) -> dict[str, Number]:
    """The numbers with some of them replaced, by path; integers stay such."""
    new = dict(numbers)
    for path, value in world.items():
        name, _, at = (path, "", "") if path in new else path.rpartition(".")
        old = new[name]
        if isinstance(old, tuple):
            new[name] = tuple(value if index == int(at) else entry for index, entry in enumerate(old))
        else:
            new[name] = int(value) if isinstance(old, int) else value
    return new


def draw_params(config: MarketConfig, base: Params, key: Tensor) -> Params:
    """The world of an episode: what `config.randomize` names is drawn, everything else is the base's.

        log-uniform:  exp(log low + u (log high - log low))        uniform:  low + u (high - low)

    Which of the two: see `MarketConfig`. Logarithm and exponential are the exact ones, so a world has the same bits everywhere.
    What follows from a drawn number is worked out by Python on the host.

    Args:
        base: before the draw; returned as it is where nothing is randomised.
        key: [N, 2] int32, of the episode.
    """
    if not config.randomize:
        return base
    uniforms = noise.draw_params(key, tuple(config.randomize))
    drawn = clone(base)
    rows: dict[str, list[float]] = {}
    for path, bounds in config.randomize.items():
        setting, _ = find(config, path, base.table.settings)
        whole = isinstance(setting.value, int)
        uniform = uniforms[path].to(torch.float64)
        by_ratio = not setting.bounds.even and bounds[0] > 0.0
        ends = (bounds[0], bounds[1] + 1.0) if whole else bounds
        number = torch.clamp(_between(ends, uniform, by_ratio=by_ratio), *ends)
        number = torch.clamp(torch.floor(number), *bounds) if whole else number
        _put(drawn, path, number)
        dtype, _ = _column(base.table, path)
        rows[path] = number.to(dtype).tolist()
    _derive_again(config, drawn, rows)
    return drawn


def _between(bounds: tuple[float, float], uniform: Tensor, *, by_ratio: bool) -> Tensor:
    """[N] float64, by a uniform number."""
    ends = torch.tensor(bounds, dtype=torch.float64, device=uniform.device)
    low, high = exact.log(ends) if by_ratio else ends
    number = low + uniform * (high - low)
    return exact.exp(number) if by_ratio else number


@functools.lru_cache(maxsize=16)
def plain_params(config: MarketConfig, device: torch.device) -> Params:
    """The configuration's numbers for one market, which broadcast over any batch; made once."""
    return make_params(config, 1, device)
