"""Scripted executors: policies that trade an inventory away over an episode, with what theory says of their cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.engine import StepResult
from torchgym.lab.policies import toward
from torchgym.lab.policy import MakePolicy, OwnNumbers, Policy, check_fixed
from torchgym.sim.params import plain_params


@dataclass(frozen=True)
class Costs:
    """What trading costs in the model of Almgren and Chriss, per decision."""

    sigma: float  # points: standard deviation of the price's move
    half_spread: float  # points a share
    temporary: float  # points a share for each share of the same decision (eta)
    permanent: float  # points a share for each share ever traded (gamma)


def costs_of(config: MarketConfig) -> Costs:
    """Exact where a ladder of makers stands around a value of steps; elsewhere rules of thumb.

    Those are the opening volatility, the typical half-spread, another one of them for each usual volume of a tick, and a third of
    that for good.
    """
    maker, value, ticks = config.population.maker, config.fundamentals, config.ticks_per_action
    if value.process == "steps" and maker.grid == "even":
        near, far = (depth * maker.base_width for depth in maker.depth)
        per_point = maker.size[0] * (maker.count - 1) / (far - near)
        return Costs(value.step * math.sqrt(2.0 * value.step_chance * ticks), near, 0.5 / per_point, value.step_impact)
    half_spread = float(plain_params(config, torch.device("cpu")).typical_half_spread)
    slope = half_spread / config.usual_volume
    return Costs(config.opening_volatility * config.list_price * math.sqrt(ticks), half_spread, slope, slope / 3.0)


def almgren_chriss(risk_aversion: float) -> MakePolicy:
    """What is left follows the best schedule for expected cost + `risk_aversion` × variance of the cost, in points × shares.

        left_j = X sinh(kappa (T - j)) / sinh(kappa T),      2 (cosh(kappa) - 1) = risk_aversion sigma^2 / (eta - gamma / 2)

    Source: Almgren and Chriss (2001), Optimal execution of portfolio transactions, Journal of Risk 3, section 2.3.
    """

    def make_policy(config: MarketConfig, seeds: Tensor) -> Policy:
        check_fixed("almgren_chriss", config, "max_ticks", "starting_shares")
        decisions = config.max_ticks // config.ticks_per_action
        left = schedule(costs_of(config), config.starting_shares, decisions, risk_aversion).to(seeds.device)
        whole = torch.round(left).to(torch.int64)
        own = OwnNumbers(config, seeds)

        def act(result: StepResult) -> Tensor:
            done = result.info["tick"] // config.ticks_per_action
            target = whole[(done + 1).clamp(max=decisions)]
            return toward(
                config, result, target.unsqueeze(-1).expand_as(result.info["position"]), own.on(target.device)
            )

        return act

    return make_policy


def schedule(costs: Costs, shares: int, decisions: int, risk_aversion: float) -> Tensor:
    """Shares that are left before the first decision and after each, [T + 1] float64."""
    at = torch.arange(decisions, -1, -1, dtype=torch.float64, device="cpu")
    bend = risk_aversion * costs.sigma**2 / (costs.temporary - 0.5 * costs.permanent)
    kappa = math.acosh(1.0 + 0.5 * bend)
    if kappa < 1e-9:
        return shares * at / decisions
    # exp(-kappa ...) throughout: sinh would overflow where all is sold at once.
    top = torch.exp(-kappa * (decisions - at)) * -torch.expm1(-2.0 * kappa * at)
    return shares * top / -math.expm1(-2.0 * kappa * decisions)


def cost_of(costs: Costs, left: Tensor) -> tuple[float, float]:
    """Expected cost of a schedule [T + 1] and its standard deviation, points × shares."""
    sold = left[:-1] - left[1:]
    shares = float(left[0])
    impact = (costs.temporary - 0.5 * costs.permanent) * float((sold**2).sum())
    expected = 0.5 * costs.permanent * shares**2 + costs.half_spread * float(sold.sum()) + impact
    return expected, costs.sigma * math.sqrt(float((left[1:] ** 2).sum()))
