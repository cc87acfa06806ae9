"""Mean-reversion traders: Bollinger-type (even) and strength-index-type (odd)."""

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
class ReversionMemory:
    """[N, S, n] float32 each."""

    rate: Tensor
    entry: Tensor
    weight: Tensor
    scale: Tensor  # 1 / sqrt(lookback / 2)
    uses_runs: Tensor  # 1 for odd traders, else 0
    mean: Tensor  # of log prices
    up: Tensor  # mean of positive returns
    down: Tensor  # mean of negative returns, positive


def start(structure: Structure, params: Params, draws: StartDraws, log_mid: Tensor) -> tuple[ReversionMemory, Tensor]:
    """Traits from the seed; the mean at the opening price (log_mid [N, S, 1] float32); no inventory."""
    family = params.population.reversion
    lookback = log_uniform(family, "lookback", draws.u1)
    one = torch.ones_like(lookback)
    odd = torch.arange(lookback.shape[-1], device=lookback.device) % 2
    memory = ReversionMemory(
        rate=log_uniform(family, "rate", draws.u0),
        entry=uniform_between(family, "entry", draws.u2),
        weight=ema_weight(lookback),
        scale=one / exact.sqrt(0.5 * lookback),
        uses_runs=odd.to(torch.float32).expand_as(lookback).clone(),
        mean=log_mid.expand_as(lookback).clone(),
        up=family.start_run * one,
        down=family.start_run * one,
    )
    return memory, torch.zeros_like(one)


def decide(
    structure: Structure, params: Params, memory: ReversionMemory, *, signals: Signals, shares: Tensor, draws: Draws
) -> tuple[OrderIntent, ReversionMemory]:
    """Lean against the score once it is beyond the entry level."""
    family = params.population.reversion
    mean = memory.mean + memory.weight * (signals.log_mid - memory.mean)
    up = memory.up + memory.weight * (torch.clamp(signals.last_return, min=0.0) - memory.up)
    down = memory.down + memory.weight * (torch.clamp(-signals.last_return, min=0.0) - memory.down)
    stretch = (signals.log_mid - mean) * memory.scale / signals.volatility
    runs = family.run_score * (up - down) / (up + down + 1e-7)
    score = torch.where(memory.uses_runs > 0.0, runs, stretch)
    target = -family.capacity * torch.sign(score) * torch.clamp(score.abs() - memory.entry, 0.0, 1.0)
    acts = draws.u0 < memory.rate * family.rate_factor * signals.attention
    takes = draws.u2 < family.market_share
    intent = toward_target(family, target, shares, acts, takes, life=family.life)
    return intent, replace(memory, mean=mean, up=up, down=down)
