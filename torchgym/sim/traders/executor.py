"""Executors: parent orders of Pareto size, worked in small pieces with the market's activity."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.numerics import exact
from torchgym.sim.noise import Draws, StartDraws
from torchgym.sim.state import MarketParams
from torchgym.sim.traders.view import View, coin_side, log_uniform
from torchgym.sim.traders.wish import Wish, market_or_touch


@dataclass
class ExecutorMemory:
    """[N, S, n] float32 each, whole shares where shares are meant."""

    child: Tensor  # typical shares of one piece
    remaining: Tensor  # shares left of the parent order, signed; 0 is idle


def start(config: MarketConfig, draws: StartDraws, log_mid: Tensor) -> tuple[ExecutorMemory, Tensor]:
    """Half of them are in the middle of a parent order; inventories are what earlier ones left."""
    family = config.population.executor
    running = draws.u0 < 0.5
    length_biased = _pareto(config, draws.u1, family.exponent - 1.0)
    remaining = torch.ceil(length_biased * draws.u2) * coin_side(draws.u3, 0.5)
    memory = ExecutorMemory(
        child=log_uniform(family.child, draws.u4),
        remaining=torch.where(running, remaining, torch.zeros_like(remaining)),
    )
    return memory, torch.floor(family.start_inventory * draws.normal + 0.5)


def _pareto(config: MarketConfig, uniform: Tensor, exponent: float) -> Tensor:
    """Truncated Pareto on the parent sizes; with the exponent lowered by one it is the size-biased law."""
    low, high = config.population.executor.parent
    span = 1.0 - (low / high) ** exponent
    return torch.floor(low * exact.exp(exact.log(1.0 - span * uniform) * (-1.0 / exponent)))


def decide(
    config: MarketConfig, params: MarketParams, memory: ExecutorMemory, *, view: View, shares: Tensor, draws: Draws
) -> tuple[Wish, ExecutorMemory]:
    """The idle ones may take on a parent order (worked from the next tick); the others send a piece."""
    family = config.population.executor
    idle = memory.remaining == 0.0
    lean = 0.5 - 0.45 * exact.tanh(shares * (1.0 / 800.0))
    parent = coin_side(draws.u1, lean) * _pareto(config, draws.u2, family.exponent)
    begins = idle & (draws.u0 < family.start_rate)
    life, distance = market_or_touch(draws.u1 < family.market_share, 2.0)
    wish = Wish(
        acts=draws.u0 < params.executor_rate * view.activity,
        side=torch.sign(memory.remaining),
        size=memory.child,
        most=torch.clamp(memory.remaining.abs(), max=float(family.max_size)),
        growth=0.4 * draws.normal,
        life=life,
        distance=distance,
    )
    return wish, replace(memory, remaining=torch.where(begins, parent, memory.remaining))


def settle(memory: ExecutorMemory, *, shares_before: Tensor, fills: Tensor, log_close: Tensor) -> ExecutorMemory:
    """What is left of the parent order after this tick's fills ([N, S, n] float32), never past zero."""
    left = memory.remaining - fills
    overshot = torch.sign(left) * torch.sign(memory.remaining) < 0.0
    return replace(memory, remaining=torch.where(overshot, 0.0, left))
