"""MetaOrders: parent orders of Pareto size, worked in small pieces with the market's activity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics import exact
from torchgym.sim.noise import Draws, StartDraws
from torchgym.sim.params import Params
from torchgym.sim.traders.intent import OrderIntent, market_or_touch
from torchgym.sim.traders.signals import Signals, coin_side


@dataclass
class MetaOrderMemory:
    """[N, S, n] float32 each, whole shares where shares are meant."""

    child: Tensor  # typical shares of one piece
    remaining: Tensor  # shares left of the parent order, signed; 0 is idle


def start(structure: Structure, params: Params, draws: StartDraws, log_mid: Tensor) -> tuple[MetaOrderMemory, Tensor]:
    """Half of them are in the middle of a parent order; inventories are what earlier ones left."""
    family = params.population.meta_order
    running = draws.u0 < family.start_share
    length_biased = _pareto(family, draws.u1, family.biased_span, family.biased_power)
    child = family.children.squeeze(1).expand_as(running)
    remaining = torch.ceil(length_biased * draws.u2 * child) * coin_side(draws.u3, 0.5)
    memory = MetaOrderMemory(
        child=child.clone(),
        remaining=torch.where(running, remaining, torch.zeros_like(remaining)),
    )
    return memory, torch.floor(family.start_inventory * draws.normal + 0.5)


def _pareto(family: Any, uniform: Tensor, span: Tensor, power: Tensor) -> Tensor:
    """Pieces of a parent order, truncated Pareto; with the exponent lowered by one it is the size-biased law.

    low (1 - span u)^power,        span = 1 - (low / high)^exponent,        power = -1 / exponent
    """
    low = family.pieces[..., 0]
    return torch.floor(low * exact.exp(exact.log(1.0 - span * uniform) * power))


def decide(
    structure: Structure, params: Params, memory: MetaOrderMemory, *, signals: Signals, shares: Tensor, draws: Draws
) -> tuple[OrderIntent, MetaOrderMemory]:
    """The idle ones may take on a parent order (worked from the next tick); the others send a piece."""
    family = params.population.meta_order
    idle = memory.remaining == 0.0
    lean = 0.5 - family.lean * exact.tanh(shares * family.per_full_inventory)
    pieces = _pareto(family, draws.u2, family.pareto_span, family.pareto_power)
    parent = coin_side(draws.u1, lean) * torch.ceil(pieces * memory.child)
    begins = idle & (draws.u0 < family.start_rate)
    life, distance = market_or_touch(draws.u1 < family.market_share, family.life)
    intent = OrderIntent(
        acts=draws.u0 < family.rate * signals.activity,
        side=torch.sign(memory.remaining),
        size=memory.child,
        most=torch.minimum(memory.remaining.abs(), family.max_size),
        growth=family.child_spread * draws.normal,
        life=life,
        distance=distance,
    )
    return intent, replace(memory, remaining=torch.where(begins, parent, memory.remaining))


def settle(memory: MetaOrderMemory, *, shares_before: Tensor, fills: Tensor, log_close: Tensor) -> MetaOrderMemory:
    """What is left of the parent order after this tick's fills ([N, S, n] float32), never past zero."""
    left = memory.remaining - fills
    overshot = torch.sign(left) * torch.sign(memory.remaining) < 0.0
    return replace(memory, remaining=torch.where(overshot, 0.0, left))
