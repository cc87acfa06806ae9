"""News reactors: read the headline, misjudge it a little, trade what the price has not yet done."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.sim.noise import Draws, StartDraws
from torchgym.sim.state import MarketParams
from torchgym.sim.traders.view import View
from torchgym.sim.traders.wish import ANY_PRICE, Wish


@dataclass
class NewsMemory:
    """[N, S, n] float32 each."""

    anchor: Tensor  # log mid when the news came
    perceived: Tensor  # log effect as this trader reads it
    timer: Tensor  # ticks of interest left


def start(config: MarketConfig, draws: StartDraws, log_mid: Tensor) -> tuple[NewsMemory, Tensor]:
    """Nothing read yet, nothing held."""
    zero = torch.zeros_like(draws.u0)
    return NewsMemory(anchor=zero, perceived=zero.clone(), timer=zero.clone()), zero.clone()


def decide(
    config: MarketConfig, params: MarketParams, memory: NewsMemory, *, view: View, shares: Tensor, draws: Draws
) -> tuple[Wish, NewsMemory]:
    """While interested, trade the rest of the perceived move; afterwards unwind now and then."""
    family = config.population.news
    anchor = torch.where(view.arrived, view.log_mid, memory.anchor)
    reading = view.headline * (1.0 + family.misjudgement * draws.normal)
    perceived = torch.where(view.arrived, reading, memory.perceived)
    timer = torch.where(view.arrived, torch.floor(view.duration * (0.5 + draws.u2)), memory.timer)

    interested = timer > 0.0
    gap = anchor + perceived - view.log_mid - (0.02 / family.capacity) * shares
    trades = interested & (gap.abs() > 0.002) & (draws.u0 < params.news_reactor_rate)
    unwinds = ~interested & (shares != 0.0) & (draws.u0 < family.unwind_rate)
    side = torch.where(interested, torch.sign(gap), -torch.sign(shares))
    wanted = (0.3 * family.capacity / 0.02) * gap.abs()
    left = torch.clamp(shares.abs(), max=float(family.max_size // 2))
    wish = Wish(
        acts=trades | unwinds,
        side=side,
        size=torch.where(interested, wanted, left),
        most=family.max_size,
        reach=torch.where(interested, side * (view.log_mid + gap - side * 0.001), ANY_PRICE),
    )
    return wish, NewsMemory(anchor=anchor, perceived=perceived, timer=torch.clamp(timer - 1.0, min=0.0))
