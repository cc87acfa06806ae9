"""Value traders: each has its own noisy idea of what the share is worth, and trades the gap."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.numerics import exact
from torchgym.sim.noise import Draws, StartDraws
from torchgym.sim.state import MarketParams
from torchgym.sim.traders.view import View, coin_side, log_uniform, uniform_between
from torchgym.sim.traders.wish import AT_MARKET, Wish

_FULL_GAP = 0.03  # log gap at which a trader wants its whole capacity


@dataclass
class ValueMemory:
    """[N, S, n] float32 each."""

    rate: Tensor  # chance to act per tick
    threshold: Tensor  # log
    error_scale: Tensor  # log, standard deviation of the belief's error
    capacity: Tensor  # shares, whole
    quiet_size: Tensor  # shares, whole
    error: Tensor  # log, belief minus value


def start(config: MarketConfig, draws: StartDraws, log_mid: Tensor) -> tuple[ValueMemory, Tensor]:
    """Traits from the seed; beliefs from their stationary law; inventories before the market's total is evened out."""
    family = config.population.value
    error_scale = family.belief_error * exact.exp(0.4 * draws.normal)
    memory = ValueMemory(
        rate=log_uniform(family.rate, draws.u0),
        threshold=uniform_between(family.threshold, draws.u1),
        error_scale=error_scale,
        capacity=torch.floor(family.capacity * exact.exp(0.5 * draws.normal_2) + 0.5),
        quiet_size=torch.clamp(torch.floor(uniform_between(family.size, draws.u2) + 0.5), max=float(family.max_size)),
        error=error_scale * draws.normal_3,
    )
    return memory, torch.floor(family.start_inventory * draws.normal_4 + 0.5)


def decide(
    config: MarketConfig, params: MarketParams, memory: ValueMemory, *, view: View, shares: Tensor, draws: Draws
) -> tuple[Wish, ValueMemory]:
    """Convinced traders take liquidity or wait below the touch; the others quote both ways around their belief."""
    family = config.population.value
    acts = draws.u0 < memory.rate * params.value_rate * view.attention
    keep = family.belief_memory
    renewed = keep * memory.error + math.sqrt(1.0 - keep * keep) * memory.error_scale * draws.normal
    error = torch.where(acts, renewed, memory.error)
    held = _FULL_GAP * shares / memory.capacity
    gap = view.value + error - view.log_mid - held
    convinced = gap.abs() > memory.threshold
    side = torch.where(convinced, torch.sign(gap), coin_side(draws.u1, 0.5 + 0.5 * gap / memory.threshold))
    margin = torch.where(convinced, 0.5 * memory.threshold, memory.threshold)
    wanted = (0.35 / _FULL_GAP) * memory.capacity * gap.abs()
    patient = convinced & (draws.u2 >= family.aggressive)
    passive = 20.0 + 100.0 * draws.u2
    wish = Wish(
        acts=acts,
        side=side,
        size=torch.where(convinced, wanted, memory.quiet_size),
        most=family.max_size,
        life=torch.where(convinced, torch.where(patient, 0.3 * passive, 0.0), passive),
        distance=torch.where(patient, -exact.log(draws.u1) * 5.0 * view.half_spread, AT_MARKET),
        reach=side * (view.log_mid + gap - side * margin),
    )
    return wish, replace(memory, error=error)
