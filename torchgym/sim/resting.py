"""Phase: learners' resting orders. Each learner has `quotes` places a side and symbol in the book, behind those of the makers.

They are places like any other trader's: shown in the public depth, cleared in the same auction, older ones first where
`priority="time"`. Four things are their own:

* An action says what shall rest, place by place, not which messages to send; a place that stays as it is keeps its age.
* A new order never takes: it stands behind the best order of the other side, as a post-only order does.
* What rests counts for the position limit as if it were filled.
* Orders that the makers' new quotes would cross are hit at their own limits. Other traders pull theirs in time; a learner who
  quotes is picked off, as on an exchange.

Letters: P places of all learners, in the order learner, side (bids first), place. [N, S, P] is [N, S, L, 2, Q] in one axis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics.compiled import running_sum, stored
from torchgym.sim import matching
from torchgym.sim.actions import Resting
from torchgym.sim.params import Params
from torchgym.sim.state import FOREVER, HIGHEST, NOWHERE, Book, Execution, Hits, MarketState, Rested

_LEVEL = 2 * matching.OLDEST + 2  # a point in a rank: half of it is more than two ages differ
_FURTHEST = 2**31 // _LEVEL - 2  # points from the mid, near the highest price: what lies further counts as there


def places(structure: Structure, per_slot: Tensor) -> Tensor:
    """The learners' part of [N, S, K]: [N, S, L, 2, Q], a view."""
    return per_slot[..., structure.background :].unflatten(-1, (structure.num_learners, 2, structure.quotes))


def with_places(structure: Structure, per_slot: Tensor, own: Tensor) -> Tensor:
    """[N, S, K] with [N, S, L, 2, Q] as the learners' part."""
    return torch.cat([per_slot[..., : structure.background], own.flatten(2).to(per_slot.dtype)], -1)


def shown(structure: Structure, book: Book) -> tuple[Tensor, Tensor]:
    """Shares that each learner has in bids and in asks, [N, S, L] int64 each, none negative."""
    size = places(structure, book.size)
    return size[..., 0, :].sum(-1), -size[..., 1, :].sum(-1)


def without_own(structure: Structure, book: Book) -> list[Book]:
    """The book that each learner would meet: without its own orders."""
    size = places(structure, book.size)
    each = torch.arange(structure.num_learners, device=size.device)[:, None, None]
    return [
        replace(book, size=with_places(structure, book.size, torch.where(each == learner, 0, size)))
        for learner in range(structure.num_learners)
    ]


def _sides(like: Tensor) -> Tensor:
    """+1 for bids and -1 for asks, [2, 1] int64."""
    return 1 - 2 * torch.arange(2, dtype=torch.int64, device=like.device).unsqueeze(-1)


def withdraw(structure: Structure, book: Book, wish: Resting) -> Book:
    """The book before anything trades: what is not to rest any more is gone, and what is to be smaller is."""
    size = places(structure, book.size)
    shares = size.abs()
    stays = (wish.price == places(structure, book.price)) & ~wish.keep
    left = torch.where(wish.keep, shares, torch.where(stays, torch.minimum(shares, wish.size), 0))
    return replace(book, size=with_places(structure, book.size, torch.sign(size) * left))


def put(
    structure: Structure,
    params: Params,
    state: MarketState,
    *,
    wish: Resting,
    taken: Book,
    execution: Execution,
    book: Book,
    now: Tensor,
) -> Book:
    """The book with the learners' new orders in it, cut to what the position limit leaves, the first places first.

    An order that would trade against an own one, or with what is left of the learner's order at market, is not put.

    Args:
        state: at the end of the last tick.
        taken: the book after the learners' orders at market.
        book: the same, with the other traders' new orders.
        now: [N] int64, this tick.
    """
    side = _sides(now)
    resting = places(structure, taken.size).abs()
    keeps = wish.keep
    price = torch.where(
        keeps, places(structure, taken.price), torch.clamp(_behind(structure, taken, wish.price), min=1)
    )

    moved = execution.filled + places(structure, execution.fills).sum((-2, -1))
    held, left = state.ledger.shares + moved, execution.remainder
    furthest = torch.stack([held + torch.clamp(left, min=0), held + torch.clamp(left, max=0)], -1)
    kept = torch.where(keeps, resting, 0)
    room = params.position_limit.unsqueeze(-1) - furthest * side.squeeze(-1) - kept.sum(-1)
    asked = torch.where(keeps, 0, wish.size)
    fresh = torch.minimum(torch.clamp(room.unsqueeze(-1) - (running_sum(asked) - asked), min=0), asked)

    # Own bids stay below own asks: new asks give way to bids that are kept, then new bids to all asks.
    bid, ask = price[..., 0, :], price[..., 1, :]
    highest = torch.where(kept[..., 0, :] > 0, bid, 0).amax(-1, keepdim=True)
    left, limit = left.unsqueeze(-1), execution.limit.unsqueeze(-1)
    asks = torch.where((ask > highest) & ((left <= 0) | (ask > limit)), fresh[..., 1, :], 0)
    all_asks = kept[..., 1, :] + asks
    lowest = torch.where(all_asks > 0, ask, NOWHERE).amin(-1, keepdim=True)
    bids = torch.where((bid < lowest) & ((left >= 0) | (bid < limit)), fresh[..., 0, :], 0)
    size = torch.stack([kept[..., 0, :] + bids, -all_asks], -2)
    placed = Book(
        price=with_places(structure, book.price, price),
        size=with_places(structure, book.size, size),
        expiry=with_places(structure, book.expiry, torch.full_like(size, FOREVER)),
    )
    if taken.since is not None and book.since is not None:
        # What was withdrawn only to be put back as it was has kept its place.
        had = places(structure, state.book.size - execution.fills)
        elsewhere = price != places(structure, state.book.price)
        new = (size != 0) & (elsewhere | (size * side > torch.clamp(had * side, min=0)))
        since = torch.where(new, now[:, None, None, None, None], places(structure, taken.since))
        placed = replace(placed, since=with_places(structure, book.since, since))
    return placed


def _behind(structure: Structure, book: Book, price: Tensor) -> Tensor:
    """Prices [N, S, L, 2, Q] that do not take from the other traders' orders in the book: at the nearest a point behind them."""
    own = places(structure, book.size)
    prices = places(structure, book.price)
    bid, ask = _best(book.size[..., : structure.background], book.price[..., : structure.background])
    bids, asks = bid.unsqueeze(-1), ask.unsqueeze(-1)
    if structure.num_learners > 1:  # the other learners' orders too
        own_bid, own_ask = _best(own.flatten(-2), prices.flatten(-2))
        same = torch.eye(structure.num_learners, dtype=torch.bool, device=own_bid.device)
        bids = torch.maximum(bids, torch.where(same, 0, own_bid.unsqueeze(-2)).amax(-1))
        asks = torch.minimum(asks, torch.where(same, NOWHERE, own_ask.unsqueeze(-2)).amin(-1))
    bid_price, ask_price = price.unbind(-2)
    return torch.stack(
        [
            torch.minimum(bid_price, torch.clamp(asks.unsqueeze(-1), max=HIGHEST) - 1),
            torch.maximum(ask_price, bids.unsqueeze(-1) + 1),
        ],
        -2,
    )


def _best(size: Tensor, price: Tensor) -> tuple[Tensor, Tensor]:
    """Highest bid and lowest ask over the last axis; 0 and `NOWHERE` where there is none."""
    return torch.where(size > 0, price, 0).amax(-1), torch.where(size < 0, price, NOWHERE).amin(-1)


def hit(structure: Structure, book: Book, centre_x2: Tensor, now: Tensor) -> tuple[Book, Hits]:
    """Makers' new quotes against the learners' orders that they cross: keenest first, each at the learner's own limit.

    With `snipe="auction"` the same orders meet in an auction: all trade at its one price, the nearest to `centre_x2`.

    Args:
        book: the makers' new quotes and the learners' orders, [N, S, 2 M + P].
        centre_x2: [N, S] int64 half points, around which the auction looks for prices.
        now: [N] int64, this tick.

    Returns:
        Both, uncrossed, and the hits. An order too far from the centre to be reached is pulled.

    Source: stale quotes are sniped, Budish, Cramton and Shim (2015), section VI; Foucault (1999) on being picked off.
    """
    quoted, own_price = book.price.split((2 * structure.makers, structure.places), -1)
    none = centre_x2.new_zeros((*centre_x2.shape, 0))
    age = matching.ages(book, now)
    _, auction = matching.clear(structure, book, none, none, centre_x2, torch.zeros_like(centre_x2), age)
    makers, own = auction.fills.split((2 * structure.makers, structure.places), -1)
    at_once = auction.price.unsqueeze(-1)
    together = structure.snipe == "auction"
    spent = makers * at_once if together else _paired(makers, own, own_price)
    own = own.to(torch.int64)
    paid = own * (at_once if together else own_price)

    quotes, resting = (book.size - auction.fills).split((2 * structure.makers, structure.places), -1)
    best_bid, best_ask = (end.unsqueeze(-1) for end in _best(quotes, quoted))
    apart = torch.where(resting > 0, best_ask - own_price, own_price - best_bid)
    resting = torch.where(apart > 0, resting, 0)

    bought = makers.sum(-1)
    highest, lowest = _best(-own, own_price)  # of the asks that were hit, and of the bids
    last_price = torch.where(bought > 0, highest, torch.where(bought < 0, lowest, 0)).to(torch.int64)
    if together:
        last_price = torch.where(bought == 0, 0, auction.price)
    left = replace(book, size=torch.cat([quotes, resting], -1))
    return left, Hits(Rested(own, paid), makers, spent, bought, last_price)


def _paired(makers: Tensor, own: Tensor, own_price: Tensor) -> Tensor:
    """What each quote pays, [N, S, 2 M]: the shares of either side are paired in the order of places.

    Sums are exact: shares are integers that float32 holds, and money integers that float64 holds.
    """
    shares, offered = makers.abs().to(torch.float32), own.abs().to(torch.float32)
    end, last = running_sum(shares), running_sum(offered)
    start, first, price = end - shares, last - offered, own_price.to(torch.float64)
    spent = torch.zeros_like(shares, dtype=torch.float64)
    for at in range(own.shape[-1]):
        place = slice(at, at + 1)
        both = torch.minimum(end, last[..., place]) - torch.maximum(start, first[..., place])
        spent = spent + torch.clamp(both, min=0.0).to(torch.float64) * price[..., place]
    return torch.sign(makers) * spent.to(torch.int64)


@dataclass
class Queue:
    """Where a learner's orders stand at the end of a tick, [N, S, L, 2, Q] int64 shares but where said."""

    price: Tensor  # points
    size: Tensor  # shares left, none negative
    age: Tensor  # ticks, 0 without time priority
    ahead: Tensor  # of all traders at better prices
    older: Tensor  # at the same price, older; all from 64 ticks on are of one age
    same: Tensor  # at the same price, of the same age, others' only
    behind: Tensor  # at the same price, younger


def queue(structure: Structure, state: MarketState) -> Queue:
    """Of all places; zeros where nothing rests. Orders at one price share as `priority` has it: by age up to 64 ticks, or not."""
    book = state.book
    price, size = places(structure, book.price), places(structure, book.size)
    shares = size.abs()
    age, oldest = torch.zeros_like(shares), matching.ages(book, state.clock.tick)
    if book.since is not None:
        age = state.clock.tick[:, None, None, None, None] - places(structure, book.since)
    middle = (state.market_data.mids_x2[..., -1] >> 1).unsqueeze(-1)
    level = torch.clamp(book.price - middle.to(torch.int32), -_FURTHEST, _FURTHEST) * _LEVEL
    sides = [_standing(structure, book.size, level, oldest, side) for side in (0, 1)]
    ahead, older, same, behind = (torch.stack(parts, -2).to(torch.int64) for parts in zip(*sides, strict=True))
    parts = (price, shares, age, ahead, older, same - shares, behind)
    return Queue(*(torch.where(shares > 0, part, 0).to(torch.int64) for part in parts))


def _standing(
    structure: Structure, size: Tensor, level: Tensor, oldest: Tensor | None, side: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shares ahead of, older than, with and behind each place of the bids (0) or asks (1), [N, S, L, Q] float32 each.

    An order's rank grows with price and age, so what stands before a place is one sum over what has a larger rank. Sums are
    integers that float32 holds.
    """
    sign = 1 - 2 * side
    volume = stored(torch.clamp(sign * size, min=0).to(torch.float32))[:, :, None, None]
    rank = stored(sign * level if oldest is None else sign * level + oldest.to(torch.int32))
    own, rank = places(structure, rank)[..., side, :].unsqueeze(-1), rank[:, :, None, None]

    def total(where: Tensor) -> Tensor:
        return torch.where(where, volume, 0.0).sum(-1)

    better, upto = total(rank > own + _LEVEL // 2), total(rank >= own)
    if oldest is None:
        return better, torch.zeros_like(better), upto - better, torch.zeros_like(better)
    older = total(rank > own)
    return better, older - better, upto - older, total(rank >= own - _LEVEL // 2) - upto
