"""Phase: the latent value moves, and news happens.

Log-volatility is a sum of three mean-reverting processes with different half-lives, correlated with the value's own moves
(leverage); the value follows a random walk with that volatility, weak reversion to its long-run level, and public events
that move it at once and by a drift.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics import exact
from torchgym.sim.noise import Noise, StartNoise
from torchgym.sim.params import Params
from torchgym.sim.session import Hour
from torchgym.sim.state import EVENTS, Value, push, total_log_volatility


def start(params: Params, noise: StartNoise) -> Value:
    """A value drawn around the list price, volatilities from their stationary law, no news. Shapes as in `Value`."""
    shape = noise.value[..., 0].shape
    device = noise.value.device
    floats = torch.zeros((*shape, EVENTS), dtype=torch.float64, device=device)
    integers = torch.zeros((*shape, EVENTS), dtype=torch.int64, device=device)
    zero = floats[..., 0].clone()
    first, second, third = (noise.value[..., 1 + k] for k in range(3))
    root = params.fundamentals.volatility_root.unbind(-1)  # row by row
    return Value(
        level=noise.value[..., 0] * params.fundamentals.spread_of_start,
        log_volatility=torch.stack(
            [
                root[0] * first,
                root[3] * first + root[4] * second,
                root[6] * first + root[7] * second + root[8] * third,
            ],
            dim=-1,
        ),
        estimate_error=noise.value[..., 4] * params.estimate_error,
        public_move=zero.clone(),
        arrived=torch.zeros(shape, dtype=torch.bool, device=device),
        headline=zero,
        sentiment=floats,
        magnitude=floats.clone(),
        drift=floats.clone(),
        duration=integers,
        remaining=integers.clone(),
    )


def advance(
    structure: Structure,
    params: Params,
    value: Value,
    noise: Noise,
    bought: Tensor | None = None,
    hours: Hour | None = None,
) -> Value:
    """One tick of value, volatility, news and the public estimate's error.

    With e the standardised move, sigma = volatility * exp(h - var h), h = h1 + h2 + h3:

        h_k <- phi_k h_k + sqrt(1 - phi_k^2) s_k (lev e + sqrt(1 - lev^2) z_k)
        x   <- x - kappa x + sigma e + immediate effect of news + drifts of the active events

    `public_move` is what every market maker sees of it: sigma sqrt(public share) e_public, and a part of the headline.

    Args:
        bought: [N, S] int64 shares that learners bought in the tick, less those sold; a value of steps takes it in. None is none.
        hours: of the day; a value of steps has none.

    Invariant: market i depends on row i alone; no sum of floats is left to the order of a reduction.
    Source: multi-scale log-volatility, Calvet and Fisher (2004) in spirit; leverage, Bouchaud, Matacz and Potters (2001).
    """
    if structure.process == "steps":
        return _step(params, value, noise, bought)
    fundamentals = params.fundamentals
    common = _common_move(structure, params, noise)
    shares = torch.cat([fundamentals.public_share, 1.0 - fundamentals.public_share], dim=-1)
    public_weight, private_weight = exact.sqrt(shares).split(1, dim=-1)
    move = public_weight * common + private_weight * noise.value[..., 1]

    log_volatility = value.log_volatility
    hidden = total_log_volatility(value) - fundamentals.volatility_variance
    misreading = fundamentals.misreading * noise.value[..., 5] - fundamentals.misreading_mean
    hidden_scale, misread = exact.exp(torch.stack([hidden, misreading], -1)).unbind(-1)
    sigma = fundamentals.volatility * hidden_scale
    if hours is not None:
        sigma = sigma * hours.move
    leverage, residual = fundamentals.leverage.unsqueeze(-1), fundamentals.residual.unsqueeze(-1)
    shocks = leverage * move.unsqueeze(-1) + residual * noise.value[..., 2:5]
    log_volatility = fundamentals.volatility_keep * log_volatility + fundamentals.volatility_shock * shocks

    arrived, sentiment, magnitude, scale, duration, immediate = _news(structure, params, noise)
    headline = scale * sentiment * magnitude
    true_effect = headline * misread
    now = true_effect * immediate
    active = value.remaining > 0
    drifts = exact.halving_sum(torch.where(active, value.drift, 0.0)).squeeze(-1)
    level = value.level - fundamentals.reversion * value.level + sigma * move + now + drifts

    lasting = torch.where(arrived, duration, 1).to(torch.float64)
    remaining = torch.clamp(value.remaining - 1, min=0)
    return Value(
        level=level,
        log_volatility=log_volatility,
        estimate_error=params.estimate_keep * value.estimate_error + params.estimate_shock * noise.value[..., 6],
        public_move=sigma * public_weight * common + fundamentals.headline_pass_through * headline * immediate,
        arrived=arrived,
        headline=headline,
        sentiment=_push(value.sentiment, sentiment, arrived),
        magnitude=_push(value.magnitude, magnitude, arrived),
        drift=_push(value.drift, (true_effect - now) / lasting, arrived),
        duration=_push(value.duration, duration, arrived),
        remaining=_push(remaining, duration, arrived),
    )


def _step(params: Params, value: Value, noise: Noise, bought: Tensor | None) -> Value:
    """A value that takes one step of so many points up or down, each with a chance, and moves with what learners trade.

    Source: the arithmetic random walk of Avellaneda and Stoikov (2008) and of Almgren and Chriss (2001), with linear permanent
    impact, on a grid of points.
    """
    own = params.fundamentals
    drawn = noise.value[..., 1]
    steps = (drawn > own.step_beyond).to(torch.float64) - (drawn < -own.step_beyond).to(torch.float64)
    price = points(params, value.level) + own.step * steps
    if bought is not None:
        price = price + own.step_impact * bought.to(torch.float64)
    level = exact.log(torch.clamp(price, min=1.0) / params.list_price.to(torch.float64))
    return replace(value, level=level, public_move=level - value.level)


def points(params: Params, level: Tensor) -> Tensor:
    """The value in points, [N, S] float64, from the log of value over list price."""
    return params.list_price.to(torch.float64) * exact.exp(level)


def _common_move(structure: Structure, params: Params, noise: Noise) -> Tensor:
    """Standard normal public move [N, S]: market factor, sector factor and the symbol's own."""
    own = params.fundamentals
    market, sector = noise.factors[:, :1], _of_sector(structure, noise.factors[:, 1:])
    return own.market_loading * market + own.sector_loading * sector + own.own_loading * noise.value[..., 0]


def _of_sector(structure: Structure, per_sector: Tensor) -> Tensor:
    """[N, sectors, ...] -> [N, S, ...]: symbol s belongs to sector s modulo the number of sectors."""
    repeats = -(-structure.num_symbols // per_sector.shape[1])
    return torch.cat([per_sector] * repeats, 1)[:, : structure.num_symbols]


def _news(structure: Structure, params: Params, noise: Noise) -> tuple[Tensor, ...]:
    """At most one event per symbol and tick; the wider audience goes first: market, sector, the symbol's own.

    Returns arrived [N, S] bool, and zero where nothing arrived: sentiment, magnitude, scale (log) [N, S] float64, duration
    [N, S] int64, immediate share [N, S] float64.
    """
    fundamentals = params.fundamentals
    shape = noise.news[..., 0].shape
    market = noise.factor_news[:, :1].expand(*shape, 3).unbind(-1)
    sector, own = _of_sector(structure, noise.factor_news[:, 1:]).unbind(-1), noise.news.unbind(-1)
    rate = fundamentals.news_rate
    is_macro = market[0] < fundamentals.macro.probability * rate
    is_sector = ~is_macro & (sector[0] < fundamentals.sector.probability * rate)
    either = fundamentals.earnings.probability + fundamentals.guidance.probability
    is_own = ~is_macro & ~is_sector & (own[0] < either * rate)
    is_earnings = own[0] < fundamentals.earnings.probability * rate

    def pick(macro: Tensor | float, of_sector: Tensor | float, of_own: Tensor | float) -> Tensor:
        rest = torch.where(is_own, of_own, 0.0)
        return torch.where(is_macro, macro, torch.where(is_sector, of_sector, rest)).to(torch.float64)

    def by_kind(read: str) -> Tensor:
        of_own = torch.where(is_earnings, getattr(fundamentals.earnings, read), getattr(fundamentals.guidance, read))
        return pick(getattr(fundamentals.macro, read), getattr(fundamentals.sector, read), of_own)

    def magnitude(uniform: Tensor) -> Tensor:
        return fundamentals.magnitude[..., 0] + fundamentals.magnitude_span * uniform

    return (
        is_macro | is_sector | is_own,
        pick(2.0 * market[1] - 1.0, 2.0 * sector[1] - 1.0, 2.0 * own[1] - 1.0),
        pick(magnitude(market[2]), magnitude(sector[2]), magnitude(own[2])),
        by_kind("scale"),
        by_kind("duration").to(torch.int64),
        by_kind("immediate"),
    )


def _push(ring: Tensor, new: Tensor, arrived: Tensor) -> Tensor:
    """Shift the newest event in where one arrived; the oldest place falls out."""
    return torch.where(arrived.unsqueeze(-1), push(ring, new.to(ring.dtype)), ring)
