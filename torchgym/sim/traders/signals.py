"""What the background traders see: the market at the end of the last tick, ready for per-trader arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchgym.numerics import exact
from torchgym.sim.params import Params
from torchgym.sim.session import Hour
from torchgym.sim.state import MarketState, total_log_volatility


@dataclass
class Signals:
    """Per symbol [N, S, 1] float32 for traders, [N, S] float64 for the makers' reference price."""

    mid: Tensor  # points
    bid: Tensor  # points
    ask: Tensor  # points
    log_mid: Tensor  # log(mid / list price)
    last_return: Tensor
    value: Tensor  # log; a trader sees it only through its own error
    volatility: Tensor  # standard deviation of one-tick returns, as traders estimate it
    half_spread: Tensor  # points, the makers' unit of width
    activity: Tensor  # 1 is normal
    attention: Tensor  # square root of activity
    buy_limit: Tensor  # points, of a market order
    sell_limit: Tensor
    arrived: Tensor  # bool: news at the end of the last tick
    headline: Tensor  # log
    duration: Tensor  # ticks, of the newest event
    sector_mood: Tensor  # decayed news sentiment
    reference_mid: Tensor  # [N, S] float64 points
    maker_volatility: Tensor  # [N, S] float64
    maker_half_spread: Tensor  # [N, S] float64 points
    maker_gain: Tensor  # [N, S] float64: how far makers follow a surprise


def read_signals(params: Params, state: MarketState, hours: Hour | None = None) -> Signals:
    """Gather the signals for the tick that follows; everybody knows what hour of the day it is."""
    reference = state.traders["maker"].reference
    market_data, value = state.market_data, state.value
    mid = market_data.mids_x2[..., -1].to(torch.float64) * 0.5
    short, middle, long = (market_data.variance[..., k] for k in range(3))
    maker, usual = params.population.maker, params.activity
    activity = acting = activity_of(params, state)
    if hours is not None:
        # Makers take an hour for as busy as it is volatile: orders alone, which come on both sides, are no risk to them.
        activity, acting = activity * hours.volatility, activity * hours.activity
    own, makers = usual.volatility_weights.unbind(-1), usual.maker_volatility_weights.unbind(-1)
    variances = (own[0] * short + own[1] * middle, makers[0] * short + makers[1] * middle + makers[2] * long)
    volatility, maker_volatility, attention = exact.sqrt(torch.stack([*variances, acting], -1)).unbind(-1)
    if hours is not None:
        volatility, maker_volatility = volatility * hours.volatility, maker_volatility * hours.volatility
    maker_volatility = torch.clamp(maker_volatility, *maker.volatility_bounds.unbind(-1))
    share_left = value.remaining.to(torch.float64) / torch.clamp(value.duration, min=1).to(torch.float64)
    busy = exact.log(torch.clamp(activity, *usual.maker_bounds.unbind(-1)))
    width_power, gain_power = exact.exp(
        torch.stack([maker.width_elasticity * busy, maker.gain_elasticity * busy], -1)
    ).unbind(-1)
    width = (maker.base_width + maker.volatility_width * maker_volatility * reference) * width_power
    width = width * (1.0 + maker.news_width * share_left[..., -1])
    decayed = value.sentiment * share_left
    mood = (decayed[..., 0::2] + decayed[..., 1::2])[..., :4]
    mood = mood[..., :2] + mood[..., 2:]

    def trader(tensor: Tensor) -> Tensor:
        return tensor.to(torch.float32).unsqueeze(-1)

    return Signals(
        mid=trader(mid),
        bid=trader(market_data.bid),
        ask=trader(market_data.ask),
        log_mid=trader(market_data.log_mid),
        last_return=trader(market_data.last_return),
        value=trader(value.level),
        volatility=trader(volatility),
        half_spread=trader(width),
        activity=trader(acting),
        attention=trader(attention),
        buy_limit=trader(torch.floor(mid * usual.buys_up_to)),
        sell_limit=trader(torch.ceil(mid * usual.sells_down_to)),
        arrived=value.arrived.unsqueeze(-1),
        headline=trader(value.headline),
        duration=trader(value.duration[..., -1]),
        sector_mood=trader(mood[..., 0] + mood[..., 1]),
        reference_mid=mid,
        maker_volatility=maker_volatility,
        maker_half_spread=width,
        maker_gain=maker.surprise_gain * gain_power,
    )


def activity_of(params: Params, state: MarketState) -> Tensor:
    """How busy the market is, [N, S] float64: self-exciting in volume and returns, and with hidden volatility.

    Source: Hawkes-like feedback at three half-lives, Hardiman, Bercot and Bouchaud (2013).
    """
    volume, size = state.market_data.busy_volume, state.market_data.busy_return
    own = params.activity
    excited = own.base + own.volume_weight * (volume[..., 0] + volume[..., 1] + volume[..., 2])
    moves = own.return_weight * (size[..., 0] + size[..., 1]) + own.slow_return_weight * size[..., 2]
    hidden = exact.exp(total_log_volatility(state.value) - own.half_hidden_variance)
    return torch.clamp((excited + moves) * hidden, *own.bounds.unbind(-1))


def coin_side(uniform: Tensor, chance_to_buy: Tensor | float) -> Tensor:
    """+1 with the given chance, else -1.

    By the sign of a difference, which is exact: a compiled graph may store it where the chance took long to work out, and
    stores floats many times faster than bools.
    """
    one = torch.ones_like(uniform)
    return torch.where(chance_to_buy - uniform > 0.0, one, -one)


def log_uniform(family: Any, name: str, uniform: Tensor) -> Tensor:
    """Log-uniform between the two bounds of a family's setting; uniform where the lower one is 0."""
    low = getattr(family, name)[..., 0]
    by_ratio = low * exact.exp(getattr(family, f"{name}_log_ratio") * uniform)
    return torch.where(low > 0.0, by_ratio, uniform_between(family, name, uniform))


def ema_weight(lookback: Tensor) -> Tensor:
    """Weight of the newest value in an exponential mean over `lookback` ticks."""
    return 1.0 - exact.exp(-torch.ones_like(lookback) / lookback)


def uniform_between(family: Any, name: str, uniform: Tensor) -> Tensor:
    """Uniform between the two bounds of a family's setting."""
    return getattr(family, name)[..., 0] + getattr(family, f"{name}_span") * uniform
