"""The trading day: where in it a tick is, and what that does to activity and volatility.

Tick 1 is the opening auction of the first day. With `session.kind = "none"` there is no day, and nothing here is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.config.validation import require
from torchgym.numerics import exact
from torchgym.sim.params import Params
from torchgym.sim.state import Book


@dataclass
class Hour:
    """Where a tick is in its day, [N, 1]."""

    auction: Tensor  # bool: the first and the last tick, in which all trade is at one price
    closes: Tensor  # bool: the last tick
    activity: Tensor  # float64: of those who send orders, times midday's; more in an auction
    volatility: Tensor  # float64, times midday's
    move: Tensor  # float64: the same of the value at the end of the tick, the night after the last one included


def hour(structure: Structure, params: Params, tick: Tensor) -> Hour | None:
    """Of a tick, [N] int64; None without days.

        1 + (open - 1) 2^(-d / half-life) + (close - 1) 2^(-(ticks - 1 - d) / half-life)        d ticks after the opening

    Source: volume and volatility are U-shaped over the day, Wood, McInish and Ord (1985), An investigation of transactions data
    for NYSE stocks; Admati and Pfleiderer (1988), A theory of intraday patterns.
    """
    if structure.session == "none":
        return None
    own = params.session
    since, left = since_opening(params, tick), ticks_left(params, tick)
    opening, closing = exact.exp(
        torch.stack([since.to(torch.float64) * own.fall, left.to(torch.float64) * own.fall], -1)
    ).unbind(-1)
    activity = 1.0 + (own.open_activity - 1.0) * opening + (own.close_activity - 1.0) * closing
    volatility = 1.0 + (own.open_volatility - 1.0) * opening + (own.close_volatility - 1.0) * closing
    closes = left == 0
    auction = closes | (since == 0)
    return Hour(
        auction=auction,
        closes=closes,
        activity=torch.where(auction, own.auction_activity * activity, activity),
        volatility=volatility,
        move=torch.where(closes, own.night, volatility),
    )


def since_opening(params: Params, tick: Tensor) -> Tensor:
    """Ticks since the day's opening auction, [N, 1] int64, from 0."""
    return torch.remainder(tick.unsqueeze(-1) - 1, params.session.ticks)


def ticks_left(params: Params, tick: Tensor) -> Tensor:
    """Ticks of the day that follow, [N, 1] int64; 0 after the closing auction."""
    return params.session.ticks - 1 - since_opening(params, tick)


def common_ticks(params: Params) -> int:
    """Ticks of the day that all markets have; a ValueError where their days differ."""
    lengths = params.session.ticks.unique().tolist()
    require(
        len(lengths) == 1,
        f"params give days of {', '.join(map(str, lengths[:8]))} ticks: give all markets the same session.ticks, or,"
        " to record them, a calendar of your own",
    )
    return int(lengths[0])


def end_day(hours: Hour | None, book: Book) -> Book:
    """After the closing auction nothing rests but what makers quote anew."""
    if hours is None:
        return book
    return Book(book.price, torch.where(hours.closes.unsqueeze(-1), 0, book.size), book.expiry, book.since)
