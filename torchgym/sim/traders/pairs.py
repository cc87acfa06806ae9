"""Pairs traders: bet on two symbols' log-price spread returning to its mean. One slot per symbol, used in two of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics import exact
from torchgym.sim.noise import Draws, StartDraws
from torchgym.sim.params import Params
from torchgym.sim.traders.intent import OrderIntent, toward_target
from torchgym.sim.traders.signals import Signals, ema_weight, log_uniform


@dataclass
class PairsMemory:
    """[N, S, n] float32; what belongs to the trader and not to a leg is the same in every symbol."""

    leg: Tensor  # +1 and -1 on the pair's symbols, 0 elsewhere
    weight: Tensor
    mean: Tensor  # of the spread
    variance: Tensor
    bet: Tensor  # -1, 0 or 1 times the spread


def start(structure: Structure, params: Params, draws: StartDraws, log_mid: Tensor) -> tuple[PairsMemory, Tensor]:
    """Trader k trades the k-th pair, counting around; its mean opens at the opening spread."""
    symbols, count = draws.u0.shape[-2:]
    pairs = [(i, j) for gap in range(1, symbols) for i, j in [(s, s + gap) for s in range(symbols - gap)]]
    legs = torch.zeros(symbols, count, dtype=torch.float32, device="cpu")
    for k in range(count):
        first, second = pairs[k % len(pairs)]
        legs[first, k], legs[second, k] = 1.0, -1.0
    leg = legs.to(draws.u0.device).expand_as(draws.u0).clone()
    one = torch.ones_like(leg)
    lookback = log_uniform(params.population.pairs, "lookback", draws.u0[:, :1]).expand_as(leg)
    memory = PairsMemory(
        leg=leg,
        weight=ema_weight(lookback),
        mean=_spread(leg, log_mid),
        variance=params.population.pairs.start_variance * one,
        bet=torch.zeros_like(leg),
    )
    return memory, torch.zeros_like(leg)


def _spread(leg: Tensor, log_mid: Tensor) -> Tensor:
    """Difference of the two legs' log prices. Only two terms are nonzero, so the order of the sum does not matter."""
    return (leg * log_mid).sum(-2, keepdim=True).expand_as(leg)


def decide(
    structure: Structure, params: Params, memory: PairsMemory, *, signals: Signals, shares: Tensor, draws: Draws
) -> tuple[OrderIntent, PairsMemory]:
    """Enter against a wide spread with equal notional on both legs; leave when it has closed."""
    family = params.population.pairs
    spread = _spread(memory.leg, signals.log_mid)
    score = (spread - memory.mean) / exact.sqrt(memory.variance + 1e-10)
    away = spread - memory.mean
    mean = memory.mean + memory.weight * away
    variance = memory.variance + memory.weight * (away * away - memory.variance)
    wide, closed = score.abs() > family.entry, score.abs() < family.exit
    bet = torch.where(wide, -torch.sign(score), torch.where(closed, 0.0, memory.bet))
    notional = torch.floor(family.notional / signals.mid + 0.5)
    acts = (draws.u0[:, :1] < family.rate) & (memory.leg != 0.0)
    intent = toward_target(family, bet * memory.leg * notional, shares, acts, acts, life=0.0)
    return intent, replace(memory, mean=mean, variance=variance, bet=bet)
