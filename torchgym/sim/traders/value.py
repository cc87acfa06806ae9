"""Value traders: each has its own noisy idea of what the share is worth, and trades the gap."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics import exact
from torchgym.sim.noise import Draws, StartDraws
from torchgym.sim.params import Params
from torchgym.sim.traders.intent import AT_MARKET, OrderIntent
from torchgym.sim.traders.signals import Signals, coin_side, log_uniform, uniform_between


@dataclass
class ValueMemory:
    """[N, S, n] float32 each."""

    rate: Tensor  # chance to act per tick
    threshold: Tensor  # log
    error_scale: Tensor  # log, standard deviation of the belief's error
    capacity: Tensor  # shares, whole
    quiet_size: Tensor  # shares, whole
    error: Tensor  # log, belief minus value


def start(structure: Structure, params: Params, draws: StartDraws, log_mid: Tensor) -> tuple[ValueMemory, Tensor]:
    """Traits from the seed; beliefs from their stationary law; inventories before the market's total is evened out."""
    family = params.population.value
    error_scale = family.belief_error * exact.exp(family.belief_error_spread * draws.normal)
    memory = ValueMemory(
        rate=log_uniform(family, "rate", draws.u0),
        threshold=uniform_between(family, "threshold", draws.u1),
        error_scale=error_scale,
        capacity=torch.floor(family.capacity * exact.exp(family.capacity_spread * draws.normal_2) + 0.5),
        quiet_size=torch.minimum(torch.floor(uniform_between(family, "size", draws.u2) + 0.5), family.max_size),
        error=error_scale * draws.normal_3,
    )
    return memory, torch.floor(family.start_inventory * draws.normal_4 + 0.5)


def decide(
    structure: Structure, params: Params, memory: ValueMemory, *, signals: Signals, shares: Tensor, draws: Draws
) -> tuple[OrderIntent, ValueMemory]:
    """Convinced traders take liquidity or wait below the touch; the others quote both ways around their belief."""
    family = params.population.value
    acts = draws.u0 < memory.rate * family.rate_factor * signals.attention
    renewed = family.belief_memory * memory.error + family.renewal * memory.error_scale * draws.normal
    error = torch.where(acts, renewed, memory.error)
    held = family.full_gap * shares / memory.capacity
    gap = signals.value + error - signals.log_mid - held
    convinced = gap.abs() > memory.threshold
    side = torch.where(convinced, torch.sign(gap), coin_side(draws.u1, 0.5 + 0.5 * gap / memory.threshold))
    margin = torch.where(convinced, family.margin * memory.threshold, memory.threshold)
    wanted = family.size_per_gap * memory.capacity * gap.abs()
    patient = convinced & (draws.u2 >= family.aggressive)
    passive = uniform_between(family, "life", draws.u2)
    intent = OrderIntent(
        acts=acts,
        side=side,
        size=torch.where(convinced, wanted, memory.quiet_size),
        most=family.max_size,
        life=torch.where(convinced, torch.where(patient, family.patient_life * passive, 0.0), passive),
        distance=torch.where(patient, -exact.log(draws.u1) * family.patience * signals.half_spread, AT_MARKET),
        reach=side * (signals.log_mid + gap - side * margin),
    )
    return intent, replace(memory, error=error)
