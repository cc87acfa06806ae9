"""How the audit's quoting traders act: an action scheme in which any price, size and order at market can be said.

It is a row of `ACTIONS` only while an audit plays. The schemes for learners have standard orders at prices relative to the mid,
which networks can learn; whoever tries to cheat may want any order, and nobody should have to learn in such a space. So it is no
choice of `MarketConfig`, and nothing that lists the schemes meets it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.sim.actions import ACTIONS, ActionScheme, Box, Known, Resting

NAME = "audit"
PLACES = 2  # a side
KEEP = -1  # as a size: what rests in the place stays as it is, price, size and age
_MOST = 2.0**24  # points and shares


@dataclass(frozen=True)
class Wanted:
    """What a rule wants, in n episodes: shares to trade at market [n], positive buys; prices and sizes to rest, bids first.

    Prices are points and sizes shares, [n, 2, PLACES]; all are int64. A size of 0 is nothing, `KEEP` what rests there.
    """

    price: Tensor
    size: Tensor
    shares: Tensor


@contextmanager
def any_order() -> Iterator[None]:
    """The scheme is there."""
    ACTIONS[NAME] = ActionScheme(_space, _shares, rests=_rests)
    try:
        yield
    finally:
        ACTIONS.pop(NAME, None)


def action(wanted: Sequence[Wanted], symbols: int) -> Tensor:
    """One action for all these episodes, [N, S * (1 + 4 PLACES)] float64; in the first symbol, nothing in the others."""
    each = [
        torch.cat([own.shares.unsqueeze(-1), own.price.flatten(1), own.size.flatten(1)], -1).to(torch.float64)
        for own in wanted
    ]
    first = torch.cat(each)
    nothing = torch.zeros_like(first)
    nothing[:, 1 : 1 + 2 * PLACES] = 1.0
    return torch.cat([first, *[nothing] * (symbols - 1)], -1)


def _space(quotes: int) -> Box:
    """Of a symbol: shares at market, then the prices of all places, bids first, then their sizes."""
    places = 2 * quotes
    low = (-_MOST, *(1.0,) * places, *(float(KEEP),) * places)
    return Box(low, (_MOST,) * (1 + 2 * places))


def _numbers(known: Known, action: Tensor) -> Tensor:
    """[N, S, L, 1 + 4 Q] int64; zeros where no decision was taken."""
    each = action.unflatten(1, (-1, 1 + 4 * known.quotes)).movedim(-1, 2)
    return torch.where(torch.isnan(each), 0.0, each).to(torch.int64)


def _shares(known: Known, action: Tensor) -> Tensor:
    return _numbers(known, action)[..., 0]


def _rests(known: Known, action: Tensor) -> Resting:
    price, size = _numbers(known, action)[..., 1:].unflatten(-1, (2, 2, known.quotes)).unbind(-3)
    return Resting(price, size, size == KEEP)
