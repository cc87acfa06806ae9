"""What theory says of the null markets on whole points: recursions that play no episode, and the best quotes there.

In `as_null` a tick brings at most one taker. A quote d whole points from the mid is filled with the chance

    p(d) = rate / 2 x exp(-decay d)                                    on its side, one share

and then the mid moves by a step, up or down. A state is (ticks played, shares held); shares run from -most to most.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import cast

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.engine import StepResult
from torchgym.lab.policy import MakePolicy
from torchgym.lab.quoting import Flow
from torchgym.sim.actions import DEEPEST


@dataclass(frozen=True)
class Expected:
    """Of a policy's episode that begins with nothing, exactly; points and shares."""

    pnl: float
    deviation: float  # standard deviation of the P&L
    inventory: float  # standard deviation of the last inventory
    square: float  # mean over ticks of the squared inventory at their ends
    criterion: float  # P&L less phi q^2 at the end of each tick and alpha q^2 at the end


def chances(flow: Flow, depth: Tensor) -> Tensor:
    """Of a fill at these depths in a tick; 0 where nothing is quoted."""
    return torch.where(depth >= DEEPEST, 0.0, flow.rate * torch.exp(-flow.decay * depth))


def best_quotes(
    flow: Flow, ticks: int, phi: float, alpha: float, most: int = 40, discount: float = 1.0
) -> tuple[float, Tensor, Tensor]:
    """The largest criterion on whole depths 0 to 31, or none; in points. A tick later it counts `discount` times as much.

    Returns:
        The criterion of a maker that begins with nothing; depths of bid and ask before each tick, [T, 2 most + 1] float64.

    Source: dynamic programming, Bellman (1957).
    """
    held = torch.arange(-most, most + 1, dtype=torch.float64)
    depth = torch.arange(DEEPEST + 1.0, dtype=torch.float64).unsqueeze(-1)
    chance = chances(flow, depth)
    value, none = -alpha * held**2, torch.full((1,), -math.inf, dtype=torch.float64)
    quotes = []
    for _ in range(ticks):
        stay = discount * value - phi * held**2
        gains = []
        for after in (torch.cat([stay[1:], none]), torch.cat([none, stay[:-1]])):
            gain = torch.where(chance > 0.0, chance * (depth + after - stay), 0.0).nan_to_num(nan=-math.inf)
            gains.append(gain.max(0))
        value = stay + gains[0].values + gains[1].values
        quotes.append([gain.indices.to(torch.float64) for gain in gains])
    bids, asks = (torch.stack(side[::-1]) for side in zip(*quotes, strict=True))
    return float(value[most]), bids, asks


def depths_of(config: MarketConfig, make_policy: MakePolicy, most: int = 100) -> tuple[Tensor, Tensor]:
    """What a policy that looks at the tick and the position alone quotes, [T, 2 most + 1] float64 each."""
    held = torch.arange(-most, most + 1).unsqueeze(-1)
    policy = make_policy(config, torch.zeros(len(held), dtype=torch.int64))
    quotes = []
    for tick in range(config.max_ticks):
        info = {"position": held, "tick": torch.full((len(held),), tick)}
        quotes.append(policy(cast(StepResult, SimpleNamespace(info=info))))
    bids, asks = torch.stack(quotes).unbind(-1)
    return bids, asks


def expected(flow: Flow, bids: Tensor, asks: Tensor, phi: float = 0.0, alpha: float = 0.0) -> Expected:
    """Of quotes [T, 2 most + 1], by first and second moments from the last tick backwards.

    With r = e + q' s of a tick, e earned by its fill, q' held afterwards and s the mid's step, and R what is earned from then on,

    E[r + R] = e + E[R],      E[(r + R)^2] = e^2 + q'^2 E[s^2] + 2 e E[R] + E[R^2]
    """
    most = bids.shape[1] // 2
    held = torch.arange(-most, most + 1, dtype=torch.float64)
    first, second, last, square = torch.zeros_like(held), torch.zeros_like(held), held**2, torch.zeros_like(held)

    def after(values: Tensor, bid: Tensor, ask: Tensor) -> Tensor:
        """Mean over a tick's fills of values at the inventory that they lead to; at the ends nothing is filled."""
        up, down = torch.roll(values, -1), torch.roll(values, 1)
        return values + bid * (up - values) + ask * (down - values)

    for bid, ask in zip(bids.flip(0), asks.flip(0), strict=True):
        buys, sells = chances(flow, bid), chances(flow, ask)
        buys[-1] = sells[0] = 0.0
        crossed = 2.0 * (buys * bid * torch.roll(first, -1) + sells * ask * torch.roll(first, 1))
        paid = buys * bid**2 + sells * ask**2
        second = paid + crossed + after(flow.sigma**2 * held**2 + second, buys, sells)
        first = buys * bid + sells * ask + after(first, buys, sells)
        last = after(last, buys, sells)
        square = after(held**2 + square, buys, sells)
    pnl, total = float(first[most]), float(square[most])
    return Expected(
        pnl=pnl,
        deviation=math.sqrt(float(second[most]) - pnl**2),
        inventory=math.sqrt(float(last[most])),
        square=total / len(bids),
        criterion=pnl - phi * total - alpha * float(last[most]),
    )


def ladder_cost(
    left: Sequence[int], *, half_spread: int, per_point: int, permanent: float, opening: float = 0.0
) -> float:
    """Points x shares that a schedule of whole shares costs in `ac_null`, whose ladder and mid stand on whole points.

    Half of a point's shares rest at the half-spread and all of them at every point behind; the mid is rounded to the nearest.

    Args:
        left: shares that are left before the first decision and after each.
        opening: points, the value at the start; only what it has beyond a whole point matters.
    """
    cost, first = 0, math.floor(opening + 0.5)
    for before, now in itertools.pairwise(left):
        drop = first - math.floor(opening - permanent * (left[0] - before) + 0.5)
        shares, distance, level = before - now, half_spread, per_point // 2
        while shares > 0:
            taken = min(shares, level)
            cost += taken * (distance + drop)
            shares, distance, level = shares - taken, distance + 1, per_point
    return float(cost)


def mean_ladder_cost(left: Sequence[int], *, half_spread: int, per_point: int, permanent: float) -> float:
    """The mean of `ladder_cost` over openings anywhere between two points, exact where 1 / permanent is whole and even.

    Then a cost changes only where the opening passes a multiple of `permanent`, and one opening between any two is enough.
    """
    parts = round(1.0 / permanent) if permanent else 1
    cost = partial(ladder_cost, left, half_spread=half_spread, per_point=per_point, permanent=permanent)
    return math.fsum(cost(opening=(part + 0.5) / parts) for part in range(parts)) / parts
