"""News reactors: read the headline, misjudge it a little, trade what the price has not yet done."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.sim.noise import Draws, StartDraws
from torchgym.sim.params import Params
from torchgym.sim.traders.intent import ANY_PRICE, OrderIntent
from torchgym.sim.traders.signals import Signals


@dataclass
class NewsMemory:
    """[N, S, n] float32 each."""

    anchor: Tensor  # log mid when the news came
    perceived: Tensor  # log effect as this trader reads it
    timer: Tensor  # ticks of interest left


def start(structure: Structure, params: Params, draws: StartDraws, log_mid: Tensor) -> tuple[NewsMemory, Tensor]:
    """Nothing read yet, nothing held."""
    zero = torch.zeros_like(draws.u0)
    return NewsMemory(anchor=zero, perceived=zero.clone(), timer=zero.clone()), zero.clone()


def decide(
    structure: Structure, params: Params, memory: NewsMemory, *, signals: Signals, shares: Tensor, draws: Draws
) -> tuple[OrderIntent, NewsMemory]:
    """While interested, trade the rest of the perceived move; afterwards unwind now and then."""
    family = params.population.news
    anchor = torch.where(signals.arrived, signals.log_mid, memory.anchor)
    reading = signals.headline * (1.0 + family.misjudgement * draws.normal)
    perceived = torch.where(signals.arrived, reading, memory.perceived)
    timer = torch.where(signals.arrived, torch.floor(signals.duration * (family.interest + draws.u2)), memory.timer)

    interested = timer > 0.0
    gap = anchor + perceived - signals.log_mid - family.gap_per_share * shares
    trades = interested & (gap.abs() > family.threshold) & (draws.u0 < family.rate)
    unwinds = ~interested & (shares != 0.0) & (draws.u0 < family.unwind_rate)
    side = torch.where(interested, torch.sign(gap), -torch.sign(shares))
    wanted = family.size_per_gap * gap.abs()
    left = torch.minimum(shares.abs(), family.most_unwound)
    intent = OrderIntent(
        acts=trades | unwinds,
        side=side,
        size=torch.where(interested, wanted, left),
        most=family.max_size,
        reach=torch.where(interested, side * (signals.log_mid + gap - side * family.margin), ANY_PRICE),
    )
    return intent, NewsMemory(anchor=anchor, perceived=perceived, timer=torch.clamp(timer - 1.0, min=0.0))
