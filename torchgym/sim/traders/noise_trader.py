"""Noise traders: reasons of their own, lognormal sizes, most of them in a hurry."""

from __future__ import annotations

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics import exact
from torchgym.sim.noise import Draws, StartDraws
from torchgym.sim.params import Params
from torchgym.sim.traders.intent import AT_MARKET, OrderIntent
from torchgym.sim.traders.signals import Signals, coin_side


def start(structure: Structure, params: Params, draws: StartDraws, log_mid: Tensor) -> tuple[None, Tensor]:
    """No memory; a normal opening inventory."""
    return None, torch.floor(params.population.noise.start_inventory * draws.normal + 0.5)


def decide(
    structure: Structure, params: Params, memory: None, *, signals: Signals, shares: Tensor, draws: Draws
) -> tuple[OrderIntent, None]:
    """Buy or sell by a coin that leans against the inventory; one in five rests inside or behind the spread."""
    family = params.population.noise
    rate = family.rate * signals.activity
    hurried = draws.u2 < family.market_share
    rest = (draws.u2 - family.market_share) * family.per_rest
    tail = -exact.log(torch.clamp(rest, min=1e-6))
    # At most half of the spread inside one's own best price, so never at the other side's.
    distance = family.tail * signals.volatility * signals.mid * tail - family.inside * (signals.ask - signals.bid)
    intent = OrderIntent(
        acts=draws.u0 < rate,
        side=coin_side(draws.u1, 0.5 - family.lean * torch.clamp(shares * family.per_full_inventory, -1.0, 1.0)),
        size=family.size,
        most=family.max_size,
        growth=draws.normal,
        life=torch.where(hurried, 0.0, family.life + family.life_spread * draws.u0 / rate),
        distance=torch.where(hurried, AT_MARKET, distance),
    )
    return intent, None
