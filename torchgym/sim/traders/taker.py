"""Takers: come by chance, at market up to a limit of their own; the counterparties of market makers in closed-form models."""

from __future__ import annotations

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics import exact
from torchgym.sim.noise import Draws, StartDraws
from torchgym.sim.params import Params
from torchgym.sim.traders.intent import OrderIntent
from torchgym.sim.traders.signals import Signals, coin_side


def start(structure: Structure, params: Params, draws: StartDraws, log_mid: Tensor) -> tuple[None, Tensor]:
    """No memory, nothing owned."""
    return None, torch.zeros_like(draws.normal)


def decide(
    structure: Structure, params: Params, memory: None, *, signals: Signals, shares: Tensor, draws: Draws
) -> tuple[OrderIntent, None]:
    """Buy or sell by a fair coin, with a limit `reach` points beyond the mid: P(reach >= d) = exp(-decay d) for whole d.

    Source: Avellaneda and Stoikov (2008), High-frequency trading in a limit order book, section 2.5.
    """
    family = params.population.taker
    reach = torch.floor(-exact.log(torch.clamp(draws.u2, min=1e-30)) / family.decay)
    side = coin_side(draws.u1, 0.5)
    own = torch.where(side > 0.0, signals.bid, signals.ask)
    limit = torch.where(side > 0.0, torch.floor(signals.mid) + reach, torch.ceil(signals.mid) - reach)
    intent = OrderIntent(
        acts=draws.u0 < family.rate,
        side=side,
        size=family.size,
        most=family.max_size,
        distance=side * (own - limit),
    )
    return intent, None
