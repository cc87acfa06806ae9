"""What the families intend, and how that becomes orders: once, over all traders together."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchgym.numerics import exact
from torchgym.sim.params import Params
from torchgym.sim.state import HIGHEST, Orders
from torchgym.sim.traders.signals import Signals

AT_MARKET = -math.inf  # the distance of an order that doesn't wait behind anything
ANY_PRICE = 1e3  # the reach of those without a limit of their own: beyond every log price


@dataclass
class OrderIntent:
    """What one family intends for this tick: [N, S, n] float32, [N, 1, 1] where all its traders have the same, or a number.

    The size is `size * exp(growth)`, at most `most`, rounded up. The limit is a marketable order's, or a worse one if the trader
    insists on its own limit or waits behind the best price of its side; it is rounded away from trading.
    """

    acts: Tensor  # bool; the others rest
    side: Tensor  # +1 buys, -1 sells, 0 rests
    size: Tensor | float  # shares
    most: Tensor | float  # shares, whole
    life: Tensor | float = 0.0  # ticks beyond this one, rounded down; 0 is immediate-or-cancel
    growth: Tensor | float = 0.0
    distance: Tensor | float = AT_MARKET  # points behind the best price of one's own side
    reach: Tensor | float = ANY_PRICE  # side × log(own limit / list price)


def toward_target(
    family: Any, target: Tensor, shares: Tensor, acts: Tensor, takes: Tensor, *, life: Tensor | float
) -> OrderIntent:
    """Close the gap to a target inventory: at market where `takes`, else at the touch for `life` ticks.

    Of the family's numbers `least_size` and `max_size` count; gaps below the first rest.
    """
    gap = target - shares
    size = gap.abs()
    rests, distance = market_or_touch(takes, life)
    return OrderIntent(
        acts=acts & (size >= family.least_size),
        side=gap.sign(),
        size=size.floor(),
        most=family.max_size,
        life=rests,
        distance=distance,
    )


def market_or_touch(takes: Tensor, life: Tensor | float) -> tuple[Tensor, Tensor]:
    """Life and distance of an order at market where `takes`, else at the touch for `life` ticks; always float32."""
    return (
        torch.where(takes, 0.0, life).to(torch.float32),
        torch.where(takes, AT_MARKET, 0.0).to(torch.float32),
    )


def orders_of(params: Params, signals: Signals, intents: list[OrderIntent]) -> Orders:
    """The orders of all families, side by side in the order given: [N, S, singles] float32 holding integers.

    Those who rest have size 0 and a price of no meaning; a price is never below one point, nor above `HIGHEST`. Masks stay within
    a family and only floats are joined: a compiled graph writes a joined tensor to memory, which is slow lane by lane for bools.
    """
    sides = [torch.where(intent.acts, intent.side, 0.0) for intent in intents]

    def join(name: str) -> Tensor:
        return _join([getattr(intent, name) for intent in intents], sides)

    side = torch.cat(sides, dim=-1)
    factor, limit = exact.exp(torch.cat([join("growth"), side * join("reach")], dim=-1)).chunk(2, dim=-1)
    buys = side > 0.0
    at_market = side * torch.where(buys, signals.buy_limit, signals.sell_limit)
    behind = torch.floor(side * torch.where(buys, signals.bid, signals.ask) - join("distance"))
    own = torch.floor(side * (limit * params.population.list_price))
    price = side * torch.minimum(torch.minimum(at_market, behind), own)
    return Orders(
        price=torch.clamp(price, 1.0, float(HIGHEST)),
        size=side * torch.ceil(torch.minimum(join("size") * factor, join("most"))),
        life=torch.floor(join("life")),
    )


def _join(values: list[Tensor | float], like: list[Tensor]) -> Tensor:
    """Side by side, each as wide as its neighbour in `like`; a number is repeated, together with equal ones next to it."""
    pieces: list[Tensor] = []
    for number, run in itertools.groupby(zip(values, like, strict=True), key=lambda pair: _number(pair[0])):
        if number is None:
            pieces += [value.expand_as(side) for value, side in run if isinstance(value, Tensor)]
        else:
            width = sum(side.shape[-1] for _, side in run)
            pieces.append(like[0].new_full((*like[0].shape[:-1], width), number))
    return torch.cat(pieces, dim=-1)


def _number(value: Tensor | float) -> float | None:
    return None if isinstance(value, Tensor) else float(value)
