"""Sector rotators: hold more of the sectors with the better news and returns. One slot per symbol."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.sim.noise import Draws, StartDraws
from torchgym.sim.state import MarketParams
from torchgym.sim.traders.view import View
from torchgym.sim.traders.wish import Wish

_SCALE = 1_000_000.0  # scores are compared as integers, so that their sums are exact
_WEIGHT = 1.0 - 2.0 ** (-1.0 / 50.0)


@dataclass
class RotatorMemory:
    """[N, S, n] float32."""

    drift: Tensor  # exponential mean of returns, half-life 50 ticks


def start(config: MarketConfig, draws: StartDraws, log_mid: Tensor) -> tuple[RotatorMemory, Tensor]:
    """No view yet, nothing held beyond the endowment."""
    return RotatorMemory(drift=torch.zeros_like(draws.u0)), torch.zeros_like(draws.u0)


def decide(
    config: MarketConfig, params: MarketParams, memory: RotatorMemory, *, view: View, shares: Tensor, draws: Draws
) -> tuple[Wish, RotatorMemory]:
    """Tilt the holdings by the rank of each symbol's sector, a tenth of the gap at a time."""
    family = config.population.rotator
    drift = memory.drift + _WEIGHT * (view.last_return - memory.drift)
    symbols = torch.arange(config.num_symbols, device=drift.device)
    sector = symbols % (config.num_sectors or 1)
    same = (sector.unsqueeze(0) == sector.unsqueeze(1)).unsqueeze(-1)  # [S, S, 1]
    own = torch.floor((50.0 * drift + 0.01 * view.sector_mood) * _SCALE)
    score = torch.where(same, own.to(torch.int64).unsqueeze(-3), 0).sum(-2)  # [N, S, n]
    members = same.sum(1)
    score = torch.div(score, members, rounding_mode="floor")
    beats = (score.unsqueeze(-2) > score.unsqueeze(-3)).sum(-2) - (score.unsqueeze(-2) < score.unsqueeze(-3)).sum(-2)
    rank = beats.to(torch.float32) * (1.0 / max(config.num_symbols - 1, 1))
    gap = torch.floor(family.capacity * family.tilt * rank) - shares
    wish = Wish(
        acts=(draws.u0 < family.rate) & (gap != 0.0),
        side=torch.sign(gap),
        size=gap.abs() * 0.1,
        most=family.max_size,
    )
    return wish, RotatorMemory(drift=drift)
