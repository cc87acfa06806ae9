"""Phase: orders meet. The learners' orders walk the standing book; everybody else meets in a call auction.

Sums over orders run in float32 holding integers, which is exact because the configuration keeps them below 2**24; money is
int64. Prices are measured from the mid, in points, inside a band, so every search has a fixed number of steps.

A compiled graph turns each search step into one loop over the orders. What such loops share is written down once (`stored`),
in floats: bools are slow to write, so masks are compared anew where they are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics.compiled import last_level, running_sum, stored
from torchgym.sim.state import Auction, Book, Execution, book_tick

_FAR = 1.0e6  # beyond every band
OLDEST = 64  # ticks; orders older than that are of one age


def execute(
    structure: Structure, book: Book, shares: Tensor, limit: Tensor, mid_x2: Tensor, age: Tensor | None = None
) -> tuple[Book, Execution]:
    """The learner's order against the resting orders it saw, level by level, each fill at the resting order's own limit.

    Levels better than the last one reached fill whole; that one is shared pro rata by cumulative floors, among the oldest that
    it reaches. What the book within the limit (and the band) cannot fill is left as `remainder`.

    Args:
        book: the standing book, [N, S, K].
        shares: [N, S] int64, positive buys; 0 does nothing.
        limit: [N, S] int64 points, the worst price accepted.
        mid_x2: [N, S] int64 half points. Where it is the value and the best order is better than that, the band begins there.
        age: [N, S, K] float32 ticks, from `ages`; None gives no priority to age.

    Returns:
        The book without the shares taken, and the execution; its entries of a learner are [N, S].

    Invariants: shares taken equal shares received; no fill beyond the limit; a one-share buy pays the best ask.
    """
    side = torch.sign(shares).unsqueeze(-1)
    base = (mid_x2 >> 1).unsqueeze(-1)
    own, near = side.to(torch.int32), base.to(torch.int32)
    resting = stored(torch.clamp(-book.size * own, min=0).to(torch.float32))
    climb = stored(torch.where(resting > 0.0, ((book.price - near) * own).to(torch.float32), _FAR))
    wanted = shares.abs().to(torch.float32).unsqueeze(-1)
    limits, band = ((limit.unsqueeze(-1) - base) * side).to(torch.float32), float(structure.band)
    if structure.reference == "quotes":  # no order is on the wrong side of such a mid
        low = torch.full_like(limits, -1.0)
        reach = torch.clamp(limits, -1.0, band)
    else:
        low = torch.clamp(climb.amin(-1, keepdim=True), max=0.0) - 1.0
        reach = torch.minimum(torch.maximum(limits, low), low + (band + 1.0))

    level = last_level(climb, resting, torch.clamp(wanted, min=1.0), low=low, span=structure.band + 1)
    level = stored(torch.minimum(level, reach))
    better = resting * (climb < level)
    marginal = resting * (climb == level)
    whole, available = better.sum(-1, keepdim=True), marginal.sum(-1, keepdim=True)
    need = torch.minimum(wanted - whole, available)
    worst = torch.where(climb <= level, climb, -_FAR).amax(-1, keepdim=True)

    filled = (whole + need).to(torch.int64) * side
    fills = (better + _shared(marginal, need, available, age)).to(torch.int32) * -own
    execution = Execution(
        filled=filled.squeeze(-1),
        paid=-(fills.to(torch.int64) * book.price).sum(-1),
        last_price=torch.where(filled != 0, base + worst.to(torch.int64) * side, 0).squeeze(-1),
        fills=fills,
        remainder=shares - filled.squeeze(-1),
        limit=limit,
    )
    return replace(book, size=book.size - fills), execution


def defer(
    structure: Structure, book: Book, shares: Tensor, limit: Tensor, mid_x2: Tensor, age: Tensor | None = None
) -> tuple[Book, Execution]:
    """The sealed-auction variant: nothing is executed now, whatever its age; the whole order goes to the auction."""
    nothing = torch.zeros_like(shares)
    execution = Execution(
        filled=nothing,
        paid=nothing.clone(),
        last_price=nothing.clone(),
        fills=torch.zeros_like(book.size),
        remainder=shares,
        limit=limit,
    )
    return book, execution


EXECUTIONS = {"book": execute, "auction": defer}


def take(
    structure: Structure,
    book: Book,
    shares: Tensor,
    limit: Tensor,
    mid_x2: Tensor,
    tick: Tensor,
    waits: Tensor | None = None,
) -> tuple[Book, Execution]:
    """All learners' orders, in the way that `EXECUTIONS` has: one after another, each tick another one first.

    Args:
        shares: [N, S, L] int64, positive buys.
        limit: [N, S, L] int64 points.
        mid_x2: [N, S] int64 half points.
        tick: [N] int64; learner l is the ((l - tick) mod L)-th.
        waits: [N, 1] bool, whose orders go to the auction whole; None is nobody's.
    """
    execute_one, learners = EXECUTIONS[structure.execution], structure.num_learners
    if waits is not None:
        execute_one = partial(_unless_it_waits, execute_one, waits)

    def rotated(values: Tensor, by: Tensor) -> Tensor:
        """[N, S, L] with learner l + by in the place of learner l."""
        if learners == 1:
            return values
        place = (torch.arange(learners, device=by.device) + by.unsqueeze(-1)) % learners
        return values.gather(-1, place.unsqueeze(1).expand(values.shape))

    shares_in_turn, limits_in_turn, age = rotated(shares, tick), rotated(limit, tick), ages(book, tick)
    executions = []
    for at in range(learners):
        own = shares_in_turn[..., at], limits_in_turn[..., at]
        if structure.quotes:
            book, execution = _sparing_own(structure, execute_one, book, *own, mid_x2, age, (tick + at) % learners)
        else:
            book, execution = execute_one(structure, book, *own, mid_x2, age)
        executions.append(execution)
    fills, last_price = executions[0].fills, executions[0].last_price
    for execution in executions[1:]:
        fills = fills + execution.fills
        last_price = torch.where(execution.filled != 0, execution.last_price, last_price)
    names = ("filled", "paid", "remainder", *(["cancelled"] if structure.quotes else []))
    filled, paid, remainder, *cancelled = (
        rotated(torch.stack([getattr(execution, name) for execution in executions], -1), -tick) for name in names
    )
    return book, Execution(filled, paid, last_price, fills, remainder, limit, *cancelled)


def _unless_it_waits(
    execute_one: Callable[..., tuple[Book, Execution]],
    waits: Tensor,
    structure: Structure,
    book: Book,
    shares: Tensor,
    *others: Tensor | None,
) -> tuple[Book, Execution]:
    """One learner's orders now, but where `waits`, in the auction."""
    later = torch.where(waits, shares, 0)
    book, execution = execute_one(structure, book, shares - later, *others)
    return book, replace(execution, remainder=execution.remainder + later)


def nobody_takes(
    structure: Structure, book: Book, shares: Tensor, limit: Tensor, mid_x2: Tensor
) -> tuple[Book, Execution]:
    """`take` where no learner ever sends an order to the market: all `shares` are 0."""
    none = torch.zeros_like(mid_x2)
    return book, Execution(
        shares, shares, none, torch.zeros_like(book.size), shares, limit, shares if structure.quotes else None
    )


def _sparing_own(
    structure: Structure,
    execute_one: Callable[..., tuple[Book, Execution]],
    book: Book,
    shares: Tensor,
    limit: Tensor,
    mid_x2: Tensor,
    age: Tensor | None,
    learner: Tensor,
) -> tuple[Book, Execution]:
    """One learner's order, past its own resting orders of the other side, of which those that it would have met are cancelled.

    Args:
        learner: [N] int64, whose order it is; everything else as in `execute`.

    Source: self-trade prevention by cancelling the resting order, as exchanges offer it.
    """
    owner = torch.arange(structure.places, device=learner.device) // (2 * structure.quotes)
    own = torch.where(owner == learner[:, None, None], book.size[..., structure.background :], 0)
    others = torch.cat([book.size[..., : structure.background], book.size[..., structure.background :] - own], -1)
    after, execution = execute_one(structure, replace(book, size=others), shares, limit, mid_x2, age)
    side = torch.sign(shares).unsqueeze(-1)
    furthest = torch.where(execution.remainder != 0, limit, execution.last_price).unsqueeze(-1)
    meets = (own * side < 0) & ((book.price[..., structure.background :] - furthest) * side <= 0)
    reached = meets & ((execution.filled != 0) | (execution.remainder != 0)).unsqueeze(-1)
    left = torch.where(reached, 0, own)
    size = torch.cat([after.size[..., : structure.background], after.size[..., structure.background :] + left], -1)
    return replace(after, size=size), replace(execution, cancelled=(own - left).abs().sum(-1))


def clear(
    structure: Structure,
    book: Book,
    remainder: Tensor,
    limit: Tensor,
    mid_x2: Tensor,
    coin: Tensor,
    age: Tensor | None = None,
) -> tuple[Book, Auction]:
    """Call auction: one price per symbol that trades the most shares, every limit respected.

    Among the prices with the largest volume the smallest imbalance wins, then the nearest to the mid; a mid between two
    points is rounded by the coin. Orders better than the worst price that still trades fill whole, on either side; at that
    price the shares are cut pro rata by cumulative floors, among the oldest that trade there, so shares bought equal shares sold
    exactly.

    The excess of bids over asks falls with the price: an order lowers it by its shares right after one price, its step, which
    is the limit of a bid and the point before the limit of an ask. A search finds the last price u with excess >= 0. Up to u
    the asks with a step below u trade whole, from u + 1 on the bids with a step above u; so the best price lies on the flat
    stretch of the excess around u or the one around u + 1, and only orders with the step u are ever cut.

    Args:
        book: all orders, [N, S, K]; may be crossed.
        remainder: [N, S, L] int64 shares of the learners, signed; immediate-or-cancel.
        limit: [N, S, L] int64 points of these orders.
        mid_x2: [N, S] int64 half points.
        coin: [N, S] int64, 0 or 1.
        age: [N, S, K] float32 ticks, from `ages`; None gives no priority to age. The learners' orders have none.

    Returns:
        The uncrossed book, limits keener than the band cut to it; and the auction (fills of the K slots and the learners).

    Invariants: fills sum to zero; no other price trades more; nobody trades beyond a limit; best bid < best ask afterwards.

    Source: Budish, Cramton and Shim (2015), section VII, orders of earlier auctions first; exchange rules for opening auctions.
    """
    if age is not None:
        age = torch.cat([age, torch.zeros_like(remainder, dtype=torch.float32)], dim=-1)
    base = (mid_x2 >> 1).unsqueeze(-1).to(torch.int32)
    step, bids, asks = _steps(structure, book, remainder=remainder, limit=limit, base=base)

    low = torch.full_like(step[..., :1], -structure.band - 1.0)
    # The excess at a price is all bids less the shares of the steps below it.
    bound = bids.sum(-1, keepdim=True) + 1.0
    low = last_level(step, stored(bids - asks), bound, low=low, span=2 * structure.band + 1)
    low = stored(torch.clamp(low, max=float(structure.band)))
    mid = ((mid_x2 & 1) * coin).to(torch.float32).unsqueeze(-1)
    price, volume, fills = _trade(step, bids, asks, low=low, mid=mid, age=age)
    auction = Auction(
        price=(base + price.to(torch.int64)).squeeze(-1),
        volume=volume.to(torch.int64).squeeze(-1),
        fills=fills.to(torch.int32),
    )
    # A limit keener than the band stays cut: two orders left beyond the same edge could else stay crossed.
    top, bottom = base + structure.band, base - structure.band
    limits = torch.where(book.size > 0, torch.minimum(book.price, top), torch.maximum(book.price, bottom))
    limits = torch.where(book.size != 0, limits, book.price)
    return replace(book, price=limits, size=book.size - auction.fills[..., : book.size.shape[-1]]), auction


def _steps(
    structure: Structure, book: Book, *, remainder: Tensor, limit: Tensor, base: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Steps of the excess as offsets from the base; bids (>= 0) and asks (<= 0). [N, S, K + L] float32, the learners last.

    Steps are cut to the band, from the last point before it to its last point. That is what cutting limits keener than the band
    comes to, and it puts orders out of reach, and the empty slots, where the auction never trades: at the end that is theirs.
    """
    offset = torch.cat([(book.price - base).to(torch.float32), (limit - base).to(torch.float32)], dim=-1)
    size = torch.cat([book.size.to(torch.float32), remainder.to(torch.float32)], dim=-1)
    first, last = -structure.band - 1.0, float(structure.band)
    step = torch.where(size > 0.0, offset, torch.where(size < 0.0, offset - 1.0, first))
    bids, asks = torch.clamp(size, min=0.0), torch.clamp(size, max=0.0)
    return stored(torch.clamp(step, first, last)), stored(bids), stored(asks)


def _trade(
    step: Tensor, bids: Tensor, asks: Tensor, *, low: Tensor, mid: Tensor, age: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Price (an offset from the base) and volume, [N, S, 1], and fills [N, S, K + L], all float32.

    Args:
        low: [N, S, 1], the last level with an excess >= 0: u of `clear`.
        mid: [N, S, 1], 0 or 1.
        age: [N, S, K + L], or None.
    """
    asks_low = -(asks * (step < low)).sum(-1, keepdim=True)
    asks_at = -(asks * (step == low)).sum(-1, keepdim=True)
    bids_at = (bids * (step == low)).sum(-1, keepdim=True)
    bids_high = (bids * (step > low)).sum(-1, keepdim=True)
    floor = torch.where(step < low, step, -_FAR).amax(-1, keepdim=True) + 1.0
    ceiling = torch.where(step > low, step, _FAR).amin(-1, keepdim=True)

    price_low = torch.minimum(torch.maximum(mid, floor), low)
    price_high = torch.maximum(torch.minimum(mid, ceiling), low + 1.0)
    imbalance_low, imbalance_high = bids_high + bids_at - asks_low, asks_low + asks_at - bids_high
    nearer = (price_high - mid).abs() < (price_low - mid).abs()
    calmer = (imbalance_high < imbalance_low) | ((imbalance_high == imbalance_low) & nearer)
    upper = (bids_high > asks_low) | ((bids_high == asks_low) & calmer)
    volume = torch.maximum(asks_low, bids_high)
    price = torch.where(volume > 0.0, torch.where(upper, price_high, price_low), mid)

    # The side that is cut: bids (1) at the lower price, asks (-1) at the upper one.
    longer = stored(torch.where(upper, -1.0, 1.0))
    marginal = torch.clamp((bids + asks) * longer, min=0.0) * (step == low)
    share = volume - torch.where(upper, asks_low, bids_high)
    cut = _shared(marginal, share, torch.where(upper, asks_at, bids_at), age) * longer
    return price, volume, torch.where(step == low, cut, torch.where(step > low, bids, asks))


def ages(book: Book, tick: Tensor) -> Tensor | None:
    """How long orders have had their places by the tick [N] int64: [N, S, K] float32, 64 at most; None without time priority."""
    if book.since is None:
        return None
    return stored(torch.clamp(book_tick(tick) - book.since, max=OLDEST).to(torch.float32))


def _shared(sizes: Tensor, share: Tensor, total: Tensor, age: Tensor | None) -> Tensor:
    """Cut `sizes` [N, S, K] down to `share` of `total` [N, S, 1]: older orders whole, those of the last age reached pro rata."""
    if age is None:
        return _pro_rata(sizes, share, total)

    level = stored(last_level(age, sizes, total - share + 1.0, low=torch.zeros_like(share), span=OLDEST))
    older, same = sizes * (age > level), sizes * (age == level)
    return older + _pro_rata(same, share - older.sum(-1, keepdim=True), same.sum(-1, keepdim=True))


def _pro_rata(sizes: Tensor, share: Tensor, total: Tensor) -> Tensor:
    """Cut `sizes` [N, S, K] down to `share` of `total` [N, S, 1] by cumulative floors; sums to the share exactly.

        fill_k = floor(running_k share / total) - floor(running_(k-1) share / total)

    One division per symbol is enough, in float64: a product of shares is below 2**48, so adding a half keeps it exact and the
    quotient at least 2**-25 away from every integer, while the rounded reciprocal moves it by less than 2**-27.
    """
    running = running_sum(sizes)
    share, per_total = share.to(torch.float64), 1.0 / torch.clamp(total, min=1.0).to(torch.float64)
    upto = torch.floor((running.to(torch.float64) * share + 0.5) * per_total)
    before = torch.floor(((running - sizes).to(torch.float64) * share + 0.5) * per_total)
    return (upto - before).to(torch.float32)


def replace_orders(book: Book, price: Tensor, size: Tensor, expiry: Tensor) -> Book:
    """A new order of a trader takes the place of its resting one; size 0 leaves that where it is. All [N, S, <= K] int32.

    Slots beyond the given ones (the makers') keep what they have.
    """
    count = price.shape[-1]
    acts = size != 0

    def put(old: Tensor, new: Tensor) -> Tensor:
        return torch.cat([torch.where(acts, new, old[..., :count]), old[..., count:]], dim=-1)

    return Book(price=put(book.price, price), size=put(book.size, size), expiry=put(book.expiry, expiry))


def dated(book: Book, before: Book, tick: Tensor) -> Book:
    """When orders took their places: they keep them while price and side stand and the size does not grow. tick [N] int64.

    Args:
        book: with new orders in it.
        before: the same without; where it has no dates there are none.

    Source: the rules of exchanges for amended orders.
    """
    if before.since is None:
        return book
    stands = (
        (book.price == before.price)
        & (torch.sign(book.size) * before.size > 0)
        & (book.size.abs() <= before.size.abs())
    )
    return replace(book, since=torch.where(stands, before.since, book_tick(tick)))


def expire(book: Book, tick: Tensor) -> Book:
    """Drop what ends with this tick ([N] int64)."""
    return replace(book, size=torch.where(book.expiry <= book_tick(tick), 0, book.size))


def liquidation_value(structure: Structure, book: Book, shares: Tensor, mid_x2: Tensor) -> Tensor:
    """What selling (buying back) the position against the standing book would bring, [N, S] int64 half units of money.

    Shares that the book inside the band cannot take are valued at the worst price it reached, or the mid if it is empty.
    """
    direction = torch.sign(-shares)
    edge = (mid_x2 >> 1) + direction * structure.band
    _, walked = execute(structure, book, -shares, torch.clamp(edge, min=1), mid_x2)
    last = torch.where(walked.last_price > 0, 2 * walked.last_price, mid_x2)
    return -2 * walked.paid - walked.remainder * last
