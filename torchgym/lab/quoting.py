"""Scripted market makers: policies for action schemes that let orders rest, with what theory says of them.

Each `name(…)` returns a function that makes a policy for a configuration and the seeds of its episodes, as those in
`torchgym.lab.policies` do. Depths are points from the mid, γ and φ per point; an episode's time is its ticks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.engine import StepResult
from torchgym.lab.policy import MakePolicy, OwnNumbers, Policy, check_fixed
from torchgym.sim import actions
from torchgym.sim.params import Params, plain_params

_LAST_DEPTH = actions.DEEPEST - 1.0  # of an order that rests; deeper ones are none in the scheme "depths"


@dataclass(frozen=True)
class Flow:
    """How a market moves and fills, per tick: what the formulas are about."""

    sigma: float  # points: standard deviation of the mid's move
    decay: float  # per point: a quote d points from the mid is filled with a chance that goes as exp(-decay d)
    rate: float  # chance that a quote at the mid is filled, either side


def flow_of(config: MarketConfig) -> Flow:
    """Exact where takers come by chance to a value of steps; elsewhere rules of thumb.

    Those are the opening volatility, a decay of one in a typical half-spread, and half of the usual volume in standard orders.
    """
    taker, value = config.population.taker, config.fundamentals
    if value.process == "steps" and taker.count:
        return Flow(value.step * math.sqrt(2.0 * value.step_chance), taker.decay, 0.5 * taker.rate * taker.count)
    half_spread = float(plain_params(config, torch.device("cpu")).typical_half_spread)
    rate = min(0.5, 0.5 * config.usual_volume / config.order_size)
    return Flow(config.opening_volatility * config.list_price, 1.0 / half_spread, rate)


def quoted(config: MarketConfig, bid: Tensor, ask: Tensor, params: Params | None = None) -> Tensor:
    """The action that quotes a bid and an ask at these depths, [N, S] points each; not a number is no order on that side.

    What is to be deeper than "depths" lets rest stands as deep as it does; in "quotes" nothing rests beyond four typical
    half-spreads, those of the configuration or of `params`: see `torchgym.lab.policy.OwnNumbers`.

    Raises:
        ValueError: for an action scheme that cannot quote depths.
    """
    if config.action == "depths":
        depth = torch.stack([bid, ask], -1)
        whole = torch.where(depth.isnan(), actions.DEEPEST, torch.round(depth).clamp(0.0, _LAST_DEPTH))
        others = whole.new_full((*whole.shape, config.quotes - 1), actions.DEEPEST)
        return torch.cat([whole.unsqueeze(-1), others], -1).flatten(1)
    if config.action == "quotes":
        unit = (plain_params(config, bid.device) if params is None else params).typical_half_spread
        most = actions.WIDEST
        below, above = ((depth / unit).nan_to_num(most).clamp(-most, most) for depth in (bid, ask))
        half, skew = (0.5 * (below + above)).clamp(min=0.0), 0.5 * (above - below)
        return torch.stack([half, skew], -1).flatten(1)
    raise ValueError(f"action={config.action!r} quotes no depths: choose 'depths' or 'quotes'")


def nothing(config: MarketConfig, seeds: Tensor) -> Policy:
    """Lets nothing rest."""

    def act(result: StepResult) -> Tensor:
        none = torch.full_like(result.info["mid"], math.nan)
        return quoted(config, none, none)

    return act


def _by_inventory(depths: Callable[[Params, Flow, Tensor, Tensor], tuple[Tensor, Tensor]]) -> MakePolicy:
    """Policies that quote by the shares held, in standard orders [N, S] float64, and the ticks that are left [N, 1]."""

    def make_policy(config: MarketConfig, seeds: Tensor) -> Policy:
        flow, own = flow_of(config), OwnNumbers(config, seeds)

        def act(result: StepResult) -> Tensor:
            params = own.on(result.info["tick"].device)
            held = result.info["position"].to(torch.float64) / params.order_size.squeeze(-1)
            left = (params.max_ticks - result.info["tick"].unsqueeze(-1)).to(torch.float64)
            return quoted(config, *depths(params, flow, held, left), params)

        return act

    return make_policy


def symmetric(depth: float | None = None) -> MakePolicy:
    """Quotes both sides so many points from the mid, whatever is held; None is a typical half-spread."""

    def depths(params: Params, flow: Flow, held: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        own = params.typical_half_spread if depth is None else depth
        same = torch.zeros_like(held) + own
        return same, same

    return _by_inventory(depths)


def avellaneda_stoikov(gamma: float, *, skewed: bool = True) -> MakePolicy:
    """The quotes of a maker with exponential utility and a horizon, around its reservation price.

        mid - reservation = q gamma sigma^2 (T - t),      spread = gamma sigma^2 (T - t) + (2 / gamma) ln(1 + gamma / k)

    `gamma` is the risk aversion per point and standard order; `skewed=False` quotes the same spread around the mid.

    Source: Avellaneda and Stoikov (2008), High-frequency trading in a limit order book, Quantitative Finance 8, section 3.
    """

    def depths(params: Params, flow: Flow, held: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        risk = gamma * flow.sigma**2 * left
        half = 0.5 * risk + math.log1p(gamma / flow.decay) / gamma
        shift = held * risk if skewed else torch.zeros_like(held)
        return half + shift, half - shift

    return _by_inventory(depths)


def gueant_lehalle(gamma: float) -> MakePolicy:
    """The same maker far from its horizon: quotes that depend on what is held alone.

        depth = ln(1 + gamma / k) / gamma + (1 +- 2 q) / 2 sqrt(sigma^2 gamma / (2 k A) (1 + gamma / k)^(1 + k / gamma))

    Source: Guéant, Lehalle and Fernandez-Tapia (2013), Dealing with the inventory risk, Mathematics and Financial Economics 7,
    section 4.
    """

    def depths(params: Params, flow: Flow, held: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        ratio = gamma / flow.decay
        slope = math.sqrt(flow.sigma**2 * gamma / (2.0 * flow.decay * flow.rate) * (1.0 + ratio) ** (1.0 + 1.0 / ratio))
        base = math.log1p(ratio) / gamma
        return base + (0.5 + held) * slope, base + (0.5 - held) * slope

    return _by_inventory(depths)


def cartea_jaimungal(phi: float, alpha: float, *, most: int = 40) -> MakePolicy:
    """The best quotes where an inventory q costs phi q^2 a tick and alpha q^2 at the end, of orders of one share.

    With h(t, q) = ln(w(t, q)) / k the ask stands at 1 / k + h(t, q) - h(t, q - 1), the bid at 1 / k + h(t, q) - h(t, q + 1), and
    w solves w' = -M w: M has -phi k q^2 on its diagonal and A / e beside it, and w(T, q) = exp(-alpha k q^2).

    Args:
        most: at this inventory, in shares, no more is quoted on the side that adds to it.

    Source: Cartea, Jaimungal and Penalva (2015), Algorithmic and High-Frequency Trading, section 10.2.
    """

    def make_policy(config: MarketConfig, seeds: Tensor) -> Policy:
        check_fixed("cartea_jaimungal", config, "max_ticks", "order_size")
        own = OwnNumbers(config, seeds)
        flow = flow_of(config)
        bid, ask = (table.to(seeds.device) for table in closed_form_depths(flow, config.max_ticks, phi, alpha, most))

        def act(result: StepResult) -> Tensor:
            at = result.info["position"].clamp(-most, most) + most
            time = result.info["tick"].clamp(0, config.max_ticks - 1).unsqueeze(-1).expand_as(at)
            return quoted(config, bid[time, at], ask[time, at], own.on(at.device))

        return act

    return make_policy


def closed_form_depths(flow: Flow, ticks: int, phi: float, alpha: float, most: int) -> tuple[Tensor, Tensor]:
    """Depths of bid and ask before each of the ticks at each inventory from -most to most, [T, 2 most + 1] float64 points.

    Not a number where nothing is quoted.
    """
    values = torch.log(_ansatz(flow, ticks, phi, alpha, most)) / flow.decay
    nothing = torch.full((ticks, 1), math.nan, dtype=torch.float64, device="cpu")
    now = values[:-1]
    bid = torch.cat([1.0 / flow.decay + now[:, :-1] - now[:, 1:], nothing], 1)
    ask = torch.cat([nothing, 1.0 / flow.decay + now[:, 1:] - now[:, :-1]], 1)
    return bid, ask


def closed_form_value(flow: Flow, ticks: int, phi: float, alpha: float, most: int = 40) -> float:
    """The criterion in continuous time, in points, of a maker that begins with nothing: expected profit less the penalties."""
    return float(torch.log(_ansatz(flow, ticks, phi, alpha, most))[0, most] / flow.decay)


def _ansatz(flow: Flow, ticks: int, phi: float, alpha: float, most: int) -> Tensor:
    """W before each tick and at the end, [T + 1, 2 most + 1] float64."""
    held = torch.arange(-most, most + 1, dtype=torch.float64, device="cpu")
    beside = torch.full((2 * most,), flow.rate / math.e, dtype=torch.float64, device="cpu")
    matrix = torch.diag(-phi * flow.decay * held**2) + torch.diag(beside, 1) + torch.diag(beside, -1)
    one_tick = torch.linalg.matrix_exp(matrix)
    steps = [torch.exp(-alpha * flow.decay * held**2)]
    for _ in range(ticks):
        steps.append(one_tick @ steps[-1])
    return torch.stack(steps[::-1])
