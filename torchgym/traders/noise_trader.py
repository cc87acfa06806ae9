"""Noise traders: reasons of their own, lognormal sizes, most of them in a hurry."""

from __future__ import annotations

import torch
from torch import Tensor

from torchgym import exact
from torchgym.config import MarketConfig
from torchgym.noise import Draws, StartDraws
from torchgym.state import MarketParams, Orders
from torchgym.traders.view import View, coin_side, market_limit, orders, touch


def start(config: MarketConfig, draws: StartDraws, log_mid: Tensor) -> tuple[None, Tensor]:
    """No memory; a normal opening inventory."""
    return None, torch.floor(config.population.noise.start_inventory * draws.normal + 0.5)


def decide(
    config: MarketConfig, params: MarketParams, memory: None, *, view: View, shares: Tensor, draws: Draws
) -> tuple[Orders, None]:
    """Buy or sell by a coin that leans against the inventory; one in five rests inside or behind the spread."""
    family = config.population.noise
    rate = params.noise_rate * view.activity
    acts = draws.u0 < rate
    side = coin_side(draws.u1, 0.5 - 0.45 * torch.clamp(shares * (1.0 / 300.0), -1.0, 1.0))
    size = torch.ceil(torch.clamp(family.size * exact.exp(draws.normal), max=float(family.max_size)))
    hurried = draws.u2 < family.market_share
    rest = (draws.u2 - family.market_share) * (1.0 / max(1.0 - family.market_share, 1e-6))
    tail = -exact.log(torch.clamp(rest, min=1e-6))
    distance = 1.5 * view.volatility * view.mid * tail - 0.25 * (view.ask - view.bid)
    other = touch(view, -side)
    behind = side * torch.minimum(torch.floor(side * touch(view, side) - distance), side * other - 1.0)
    price = torch.where(hurried, market_limit(view, side), behind)
    life = torch.where(hurried, 0.0, torch.floor(2.0 + 10.0 * draws.u0 / rate))
    return orders(acts, side, size, price, life), None
