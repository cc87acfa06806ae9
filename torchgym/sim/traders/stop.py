"""Stop traders: enter, then leave everything at a stop-loss or a take-profit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.sim.noise import Draws, StartDraws
from torchgym.sim.params import Params
from torchgym.sim.traders.intent import OrderIntent
from torchgym.sim.traders.signals import Signals, coin_side, log_uniform


@dataclass
class StopMemory:
    """[N, S, n] float32."""

    stop_loss: Tensor  # log
    take_profit: Tensor  # log
    entry: Tensor  # log price at which the position was opened
    leaving: Tensor  # 1 for those who sell out every tick until flat, else 0


def start(structure: Structure, params: Params, draws: StartDraws, log_mid: Tensor) -> tuple[StopMemory, Tensor]:
    """A share of them hold a position opened at the opening price (log_mid [N, S, 1] float32)."""
    family = params.population.stop
    memory = StopMemory(
        stop_loss=log_uniform(family, "stop_loss", draws.u0),
        take_profit=log_uniform(family, "take_profit", draws.u1),
        entry=log_mid.expand_as(draws.u0).clone(),
        leaving=torch.zeros_like(draws.u0),
    )
    holds = family.start_size * (draws.u2 < family.start_share)
    return memory, holds * coin_side(draws.u3, family.long_share)


def decide(
    structure: Structure, params: Params, memory: StopMemory, *, signals: Signals, shares: Tensor, draws: Draws
) -> tuple[OrderIntent, StopMemory]:
    """Flat traders enter by chance; holders watch their profit against bounds that widen with volatility."""
    family = params.population.stop
    flat = shares == 0.0
    profit = torch.sign(shares) * (signals.log_mid - memory.entry)
    stretch = torch.clamp(signals.volatility * family.per_usual_return, *family.stretch.unbind(-1))
    hit = (profit < -memory.stop_loss * stretch) | (profit > memory.take_profit * stretch)
    leaving = ~flat & ((memory.leaving > 0.0) | hit)
    enters = flat & (draws.u0 < family.rate * signals.activity)
    intent = OrderIntent(
        acts=enters | leaving,
        side=torch.where(flat, coin_side(draws.u1, family.long_share), -torch.sign(shares)),
        size=torch.where(flat, family.size, shares.abs()),
        most=family.max_size,
        growth=torch.where(flat, family.size_spread * draws.normal, 0.0),
    )
    return intent, replace(memory, leaving=leaving.to(torch.float32))


def settle(memory: StopMemory, *, shares_before: Tensor, fills: Tensor, log_close: Tensor) -> StopMemory:
    """A position opened this tick is measured from its price (log_close [N, S, 1] float32)."""
    opened = (shares_before == 0.0) & (fills != 0.0)
    return replace(memory, entry=torch.where(opened, log_close, memory.entry))
