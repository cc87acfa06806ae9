"""Phase: the latent value moves, and news happens.

Log-volatility is a sum of three mean-reverting processes with different half-lives, correlated with the value's own moves
(leverage); the value follows a random walk with that volatility, weak reversion to its long-run level, and public events
that move it at once and by a drift.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchgym.config import MarketConfig, NewsKind
from torchgym.numerics import exact
from torchgym.sim.noise import Noise, StartNoise
from torchgym.sim.state import EVENTS, MarketParams, Value, push, total_log_volatility


def start(config: MarketConfig, noise: StartNoise) -> Value:
    """A value drawn around the list price, volatilities from their stationary law, no news. Shapes as in `Value`."""
    shape = noise.value[..., 0].shape
    device = noise.value.device
    floats = torch.zeros((*shape, EVENTS), dtype=torch.float64, device=device)
    integers = torch.zeros((*shape, EVENTS), dtype=torch.int64, device=device)
    zero = floats[..., 0].clone()
    first, second, third = (noise.value[..., 1 + k] for k in range(3))
    root = _cholesky(config.fundamentals.log_volatility_covariance)
    return Value(
        level=noise.value[..., 0] * config.fundamentals.spread_of_start,
        log_volatility=torch.stack(
            [
                root[0][0] * first,
                root[1][0] * first + root[1][1] * second,
                root[2][0] * first + root[2][1] * second + root[2][2] * third,
            ],
            dim=-1,
        ),
        estimate_error=noise.value[..., 4] * config.estimate_error,
        public_move=zero.clone(),
        arrived=torch.zeros(shape, dtype=torch.bool, device=device),
        headline=zero,
        sentiment=floats,
        magnitude=floats.clone(),
        drift=floats.clone(),
        duration=integers,
        remaining=integers.clone(),
    )


def _cholesky(covariance: tuple[tuple[float, ...], ...]) -> list[list[float]]:
    """Lower triangular root of a matrix; a variance of zero gives a column of zeros.

    Not a linear algebra library's, which refuses that and rounds differently from machine to machine.
    """
    root = [[0.0] * len(covariance) for _ in covariance]
    for j in range(len(covariance)):
        rest = max(covariance[j][j] - sum(entry * entry for entry in root[j][:j]), 0.0)
        root[j][j] = math.sqrt(rest)
        for i in range(j + 1, len(covariance)):
            left = covariance[i][j] - sum(a * b for a, b in zip(root[i][:j], root[j][:j], strict=True))
            root[i][j] = left / root[j][j] if root[j][j] > 0.0 else 0.0
    return root


def advance(config: MarketConfig, params: MarketParams, value: Value, noise: Noise) -> Value:
    """One tick of value, volatility, news and the public estimate's error.

    With e the standardised move, sigma = volatility * exp(h - var h), h = h1 + h2 + h3:

        h_k <- phi_k h_k + sqrt(1 - phi_k^2) s_k (lev e + sqrt(1 - lev^2) z_k)
        x   <- x - kappa x + sigma e + immediate effect of news + drifts of the active events

    `public_move` is what every market maker sees of it: sigma sqrt(public share) e_public, and a part of the headline.

    Invariant: market i depends on row i alone; no sum of floats is left to the order of a reduction.
    Source: multi-scale log-volatility, Calvet and Fisher (2004) in spirit; leverage, Bouchaud, Matacz and Potters (2001).
    """
    fundamentals = config.fundamentals
    common = _common_move(config, noise)
    shares = torch.cat([params.public_share, 1.0 - params.public_share], dim=-1)
    public_weight, private_weight = exact.sqrt(shares).split(1, dim=-1)
    move = public_weight * common + private_weight * noise.value[..., 1]

    log_volatility = value.log_volatility
    hidden = total_log_volatility(value) - fundamentals.log_volatility_variance
    hidden_scale, misread = exact.exp(torch.stack([hidden, 0.3 * noise.value[..., 5] - 0.045])).unbind()
    sigma = params.value_volatility * hidden_scale
    residual = math.sqrt(1.0 - fundamentals.leverage**2)
    shocks = fundamentals.leverage * move.unsqueeze(-1) + residual * noise.value[..., 2:5]
    log_volatility = params.volatility_decay * log_volatility + params.volatility_shock * shocks

    arrived, sentiment, magnitude, scale, duration, immediate = _news(config, params, noise)
    headline = scale * sentiment * magnitude
    true_effect = headline * misread
    now = true_effect * immediate
    active = value.remaining > 0
    drifts = exact.halving_sum(torch.where(active, value.drift, 0.0)).squeeze(-1)
    kappa = math.log(2.0) / fundamentals.reversion_half_life
    level = value.level - kappa * value.level + sigma * move + now + drifts

    keep = 2.0 ** (-1.0 / config.estimate_half_life)
    spread = math.sqrt(1.0 - keep * keep) * config.estimate_error
    lasting = torch.where(arrived, duration, 1).to(torch.float64)
    remaining = torch.clamp(value.remaining - 1, min=0)
    return Value(
        level=level,
        log_volatility=log_volatility,
        estimate_error=keep * value.estimate_error + spread * noise.value[..., 6],
        public_move=sigma * public_weight * common + fundamentals.headline_pass_through * headline * immediate,
        arrived=arrived,
        headline=headline,
        sentiment=_push(value.sentiment, sentiment, arrived),
        magnitude=_push(value.magnitude, magnitude, arrived),
        drift=_push(value.drift, (true_effect - now) / lasting, arrived),
        duration=_push(value.duration, duration, arrived),
        remaining=_push(remaining, duration, arrived),
    )


def _common_move(config: MarketConfig, noise: Noise) -> Tensor:
    """Standard normal public move [N, S]: market factor, sector factor and the symbol's own."""
    market, sector = config.fundamentals.market_loading, config.fundamentals.sector_loading
    own = math.sqrt(1.0 - market * market - sector * sector)
    return market * noise.factors[:, :1] + sector * _of_sector(config, noise.factors[:, 1:]) + own * noise.value[..., 0]


def _of_sector(config: MarketConfig, per_sector: Tensor) -> Tensor:
    """[N, sectors] -> [N, S]: symbol s belongs to sector s modulo the number of sectors."""
    sectors = per_sector.shape[1]
    repeats = -(-config.num_symbols // sectors)
    return per_sector.repeat(1, repeats)[:, : config.num_symbols]


def _news(config: MarketConfig, params: MarketParams, noise: Noise) -> tuple[Tensor, ...]:
    """At most one event per symbol and tick; the wider audience goes first: market, sector, the symbol's own.

    Returns arrived [N, S] bool, and zero where nothing arrived: sentiment, magnitude, scale (log) [N, S] float64, duration
    [N, S] int64, immediate share [N, S] float64.
    """
    fundamentals = config.fundamentals
    shape = noise.news[..., 0].shape
    market = [noise.factor_news[:, :1, k].expand(shape) for k in range(3)]
    sector = [_of_sector(config, noise.factor_news[:, 1:, k]) for k in range(3)]
    own = [noise.news[..., k] for k in range(3)]
    rate = params.news_rate
    is_macro = market[0] < fundamentals.macro.probability * rate
    is_sector = ~is_macro & (sector[0] < fundamentals.sector.probability * rate)
    either = fundamentals.earnings.probability + fundamentals.guidance.probability
    is_own = ~is_macro & ~is_sector & (own[0] < either * rate)
    is_earnings = own[0] < fundamentals.earnings.probability * rate

    def pick(macro: Tensor | float, of_sector: Tensor | float, of_own: Tensor | float) -> Tensor:
        rest = torch.where(is_own, of_own, 0.0)
        return torch.where(is_macro, macro, torch.where(is_sector, of_sector, rest)).to(torch.float64)

    def by_kind(read: str) -> Tensor:
        def number(kind: NewsKind) -> float:
            return float(getattr(kind, read))

        earnings = torch.full_like(own[0], number(fundamentals.earnings))
        of_own = torch.where(is_earnings, earnings, number(fundamentals.guidance))
        return pick(number(fundamentals.macro), number(fundamentals.sector), of_own)

    return (
        is_macro | is_sector | is_own,
        pick(2.0 * market[1] - 1.0, 2.0 * sector[1] - 1.0, 2.0 * own[1] - 1.0),
        pick(0.2 + 0.8 * market[2], 0.2 + 0.8 * sector[2], 0.2 + 0.8 * own[2]),
        by_kind("scale"),
        by_kind("duration").to(torch.int64),
        by_kind("immediate"),
    )


def _push(ring: Tensor, new: Tensor, arrived: Tensor) -> Tensor:
    """Shift the newest event in where one arrived; the oldest place falls out."""
    return torch.where(arrived.unsqueeze(-1), push(ring, new.to(ring.dtype)), ring)
