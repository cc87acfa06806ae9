"""What the background traders see: the market at the end of the last tick, ready for per-trader arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.numerics import exact
from torchgym.sim.state import MarketParams, MarketState, total_log_volatility

MARKETABLE = 0.01  # a market order's limit, as a fraction of the mid


@dataclass
class View:
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


def see(config: MarketConfig, params: MarketParams, state: MarketState, reference: Tensor) -> View:
    """Gather the view.

    Args:
        reference: [N, S] float64 points, the makers' reference price.
    """
    tape, value = state.tape, state.value
    mid = tape.half_mids[..., -1].to(torch.float64) * 0.5
    short, middle, long = (tape.variance[..., k] for k in range(3))
    activity = activity_of(config, state)
    variances = (0.5 * short + 0.5 * middle, 0.5 * short + 0.4 * middle + 0.1 * long)
    volatility, maker_volatility, attention = exact.sqrt(torch.stack([*variances, activity])).unbind()
    maker_volatility = torch.clamp(maker_volatility, 2e-4, 0.02)
    share_left = value.remaining.to(torch.float64) / torch.clamp(value.duration, min=1).to(torch.float64)
    busy = exact.log(torch.clamp(activity, 0.4, 4.0))
    width_power, gain_power = exact.exp(
        torch.stack([0.7 * busy, config.population.maker.gain_elasticity * busy])
    ).unbind()
    width = (params.base_width + params.volatility_width * maker_volatility * reference) * width_power
    width = width * (1.0 + config.population.maker.news_width * share_left[..., -1])
    decayed = value.sentiment * share_left
    mood = (decayed[..., 0::2] + decayed[..., 1::2])[..., :4]
    mood = mood[..., :2] + mood[..., 2:]

    def trader(tensor: Tensor) -> Tensor:
        return tensor.to(torch.float32).unsqueeze(-1)

    return View(
        mid=trader(mid),
        bid=trader(tape.bid),
        ask=trader(tape.ask),
        log_mid=trader(tape.log_mid),
        last_return=trader(tape.last_return),
        value=trader(value.level),
        volatility=trader(volatility),
        half_spread=trader(width),
        activity=trader(activity),
        attention=trader(attention),
        buy_limit=trader(torch.floor(mid * (1.0 + MARKETABLE))),
        sell_limit=trader(torch.ceil(mid * (1.0 - MARKETABLE))),
        arrived=value.arrived.unsqueeze(-1),
        headline=trader(value.headline),
        duration=trader(value.duration[..., -1]),
        sector_mood=trader(mood[..., 0] + mood[..., 1]),
        reference_mid=mid,
        maker_volatility=maker_volatility,
        maker_half_spread=width,
        maker_gain=params.surprise_gain * gain_power,
    )


def activity_of(config: MarketConfig, state: MarketState) -> Tensor:
    """How busy the market is, [N, S] float64 in [0.25, 5]: self-exciting in volume and returns, and with hidden volatility.

    Source: Hawkes-like feedback at three half-lives, Hardiman, Bercot and Bouchaud (2013).
    """
    volume, size = state.tape.busy_volume, state.tape.busy_return
    excited = 0.20 + 0.15 * (volume[..., 0] + volume[..., 1] + volume[..., 2])
    excited = excited + (0.10 * (size[..., 0] + size[..., 1]) + 0.15 * size[..., 2])
    half_variance = 0.5 * config.fundamentals.log_volatility_variance
    return torch.clamp(excited * exact.exp(total_log_volatility(state.value) - half_variance), 0.25, 5.0)


def coin_side(uniform: Tensor, chance_to_buy: Tensor | float) -> Tensor:
    """+1 with the given chance, else -1.

    By the sign of a difference, which is exact: a compiled graph may store it where the chance took long to work out, and
    stores floats many times faster than bools.
    """
    one = torch.ones_like(uniform)
    return torch.where(chance_to_buy - uniform > 0.0, one, -one)


def log_uniform(low_high: tuple[float, float], uniform: Tensor) -> Tensor:
    """Log-uniform between the two bounds."""
    low, high = low_high
    if low <= 0.0:
        return uniform_between(low_high, uniform)
    return low * exact.exp(math.log(high / low) * uniform)


def ema_weight(lookback: Tensor) -> Tensor:
    """Weight of the newest value in an exponential mean over `lookback` ticks."""
    return 1.0 - exact.exp(-torch.ones_like(lookback) / lookback)


def uniform_between(low_high: tuple[float, float], uniform: Tensor) -> Tensor:
    """Uniform between the two bounds."""
    low, high = low_high
    return low + (high - low) * uniform
