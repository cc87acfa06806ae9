"""Noise traders: reasons of their own, lognormal sizes, most of them in a hurry."""

from __future__ import annotations

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.numerics import exact
from torchgym.sim.noise import Draws, StartDraws
from torchgym.sim.state import MarketParams
from torchgym.sim.traders.view import View, coin_side
from torchgym.sim.traders.wish import AT_MARKET, Wish


def start(config: MarketConfig, draws: StartDraws, log_mid: Tensor) -> tuple[None, Tensor]:
    """No memory; a normal opening inventory."""
    return None, torch.floor(config.population.noise.start_inventory * draws.normal + 0.5)


def decide(
    config: MarketConfig, params: MarketParams, memory: None, *, view: View, shares: Tensor, draws: Draws
) -> tuple[Wish, None]:
    """Buy or sell by a coin that leans against the inventory; one in five rests inside or behind the spread."""
    family = config.population.noise
    rate = params.noise_rate * view.activity
    hurried = draws.u2 < family.market_share
    rest = (draws.u2 - family.market_share) * (1.0 / max(1.0 - family.market_share, 1e-6))
    tail = -exact.log(torch.clamp(rest, min=1e-6))
    # At most a quarter of the spread inside one's own best price, so never at the other side's.
    distance = 1.5 * view.volatility * view.mid * tail - 0.25 * (view.ask - view.bid)
    wish = Wish(
        acts=draws.u0 < rate,
        side=coin_side(draws.u1, 0.5 - 0.45 * torch.clamp(shares * (1.0 / 300.0), -1.0, 1.0)),
        size=family.size,
        most=family.max_size,
        growth=draws.normal,
        life=torch.where(hurried, 0.0, 2.0 + 10.0 * draws.u0 / rate),
        distance=torch.where(hurried, AT_MARKET, distance),
    )
    return wish, None
