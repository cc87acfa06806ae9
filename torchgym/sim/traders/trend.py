"""Trend followers: moving averages crossing, and the signal-line variant."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics import exact
from torchgym.sim.noise import Draws, StartDraws
from torchgym.sim.params import Params
from torchgym.sim.traders.intent import OrderIntent, toward_target
from torchgym.sim.traders.signals import Signals, ema_weight, log_uniform, uniform_between


@dataclass
class TrendMemory:
    """[N, S, n] float32 each; averages of log prices."""

    rate: Tensor
    gain: Tensor  # per unit of volatility x sqrt(lookback)
    fast_weight: Tensor
    slow_weight: Tensor
    signal_weight: Tensor
    uses_signal: Tensor  # 1 for odd traders, else 0
    fast: Tensor
    slow: Tensor
    signal: Tensor


def start(structure: Structure, params: Params, draws: StartDraws, log_mid: Tensor) -> tuple[TrendMemory, Tensor]:
    """Traits from the seed; averages at the opening price (log_mid [N, S, 1] float32); no inventory."""
    family = params.population.trend
    lookback = log_uniform(family, "lookback", draws.u1)
    level = log_mid.expand_as(lookback).clone()
    odd = torch.arange(lookback.shape[-1], device=lookback.device) % 2
    memory = TrendMemory(
        rate=log_uniform(family, "rate", draws.u0),
        gain=uniform_between(family, "gain", draws.u2) / exact.sqrt(lookback),
        fast_weight=ema_weight(lookback),
        slow_weight=ema_weight(family.slow * lookback),
        signal_weight=ema_weight(family.signal * lookback),
        uses_signal=odd.to(torch.float32).expand_as(lookback).clone(),
        fast=level,
        slow=level.clone(),
        signal=torch.zeros_like(level),
    )
    return memory, torch.zeros_like(level)


def decide(
    structure: Structure, params: Params, memory: TrendMemory, *, signals: Signals, shares: Tensor, draws: Draws
) -> tuple[OrderIntent, TrendMemory]:
    """Hold what the trend's strength suggests, beyond a dead zone, up to the capacity."""
    family = params.population.trend
    fast = memory.fast + memory.fast_weight * (signals.log_mid - memory.fast)
    slow = memory.slow + memory.slow_weight * (signals.log_mid - memory.slow)
    line = fast - slow
    signal = memory.signal + memory.signal_weight * (line - memory.signal)
    score = memory.gain * (line - memory.uses_signal * signal) / signals.volatility
    strength = torch.clamp(score.abs() - family.dead_zone, 0.0, 1.0)
    target = family.capacity * torch.sign(score) * strength
    acts = draws.u0 < memory.rate * family.rate_factor * signals.attention
    takes = draws.u2 < family.market_share
    intent = toward_target(family, target, shares, acts, takes, life=family.life)
    return intent, replace(memory, fast=fast, slow=slow, signal=signal)
