"""Sector rotators: hold more of the sectors with the better news and returns. One slot per symbol."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.sim.noise import Draws, StartDraws
from torchgym.sim.params import Params
from torchgym.sim.traders.intent import OrderIntent
from torchgym.sim.traders.signals import Signals

_SCALE = 1_000_000.0  # scores are compared as integers, so that their sums are exact


@dataclass
class RotatorMemory:
    """[N, S, n] float32."""

    drift: Tensor  # exponential mean of returns


def start(structure: Structure, params: Params, draws: StartDraws, log_mid: Tensor) -> tuple[RotatorMemory, Tensor]:
    """No view yet, nothing held beyond the endowment."""
    return RotatorMemory(drift=torch.zeros_like(draws.u0)), torch.zeros_like(draws.u0)


def decide(
    structure: Structure, params: Params, memory: RotatorMemory, *, signals: Signals, shares: Tensor, draws: Draws
) -> tuple[OrderIntent, RotatorMemory]:
    """Tilt the holdings by the rank of each symbol's sector, a part of the gap at a time."""
    family = params.population.rotator
    drift = memory.drift + family.weight * (signals.last_return - memory.drift)
    symbols = torch.arange(structure.num_symbols, device=drift.device)
    sector = symbols % structure.num_sectors
    same = (sector.unsqueeze(0) == sector.unsqueeze(1)).unsqueeze(-1)  # [S, S, 1]
    own = torch.floor((family.return_weight * drift + family.news_weight * signals.sector_mood) * _SCALE)
    score = torch.where(same, own.to(torch.int64).unsqueeze(-3), 0).sum(-2)  # [N, S, n]
    members = same.sum(1)
    score = torch.div(score, members, rounding_mode="floor")
    beats = (score.unsqueeze(-2) > score.unsqueeze(-3)).sum(-2) - (score.unsqueeze(-2) < score.unsqueeze(-3)).sum(-2)
    rank = beats.to(torch.float32) * (1.0 / max(structure.num_symbols - 1, 1))
    gap = torch.floor(family.most * rank) - shares
    intent = OrderIntent(
        acts=(draws.u0 < family.rate) & (gap != 0.0),
        side=torch.sign(gap),
        size=gap.abs() * family.urgency,
        most=family.max_size,
    )
    return intent, RotatorMemory(drift=drift)
