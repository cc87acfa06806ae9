"""Phase: orders meet. The learner's order walks the standing book; everybody else meets in a call auction.

Sums over orders run in float32 holding integers, which is exact because the configuration keeps them below 2**24; money is
int64. Prices are measured from the mid, in points, inside a band, so every search has a fixed number of steps.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.state import Auction, Book, Execution

_FAR = 1.0e6  # beyond every band


def execute(
    config: MarketConfig, book: Book, shares: Tensor, limit: Tensor, half_mid: Tensor
) -> tuple[Book, Execution]:
    """The learner's order against the resting orders it saw, level by level, each fill at the resting order's own limit.

    Levels better than the last one reached fill whole; that one is shared pro rata by cumulative floors. What the book
    within the limit (and the band) cannot fill is left as `remainder`.

    Args:
        book: the standing book, [N, S, K].
        shares: [N, S] int64, positive buys; 0 does nothing.
        limit: [N, S] int64 points, the worst price accepted.
        half_mid: [N, S] int64 half points.

    Returns:
        The book without the shares taken, and the execution.

    Invariants: shares taken equal shares received; no fill beyond the limit; a one-share buy pays the best ask.
    """
    side = torch.sign(shares)
    resting = torch.clamp(-book.size * side.unsqueeze(-1), min=0).to(torch.float32)
    base = half_mid >> 1
    climb = ((book.price - base.unsqueeze(-1)) * side.unsqueeze(-1)).to(torch.float32)
    wanted = shares.abs().to(torch.float32)
    reach = torch.clamp(((limit - base) * side).to(torch.float32), -1.0, float(config.band))

    low, high = torch.full_like(reach, -1.0), reach
    for _ in range((config.band + 1).bit_length()):
        middle = torch.floor((low + high) * 0.5)
        enough = torch.where(climb <= middle.unsqueeze(-1), resting, 0.0).sum(-1) >= wanted
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    level = high.unsqueeze(-1)

    better = torch.where(climb < level, resting, 0.0)
    marginal = torch.where(climb == level, resting, 0.0)
    available = marginal.sum(-1)
    need = torch.minimum(wanted - better.sum(-1), available)
    taken = (better + _pro_rata(marginal, need, available)).to(torch.int64)

    filled = taken.sum(-1)
    worst = torch.where(taken > 0, climb, -_FAR).amax(-1).to(torch.int64)
    execution = Execution(
        filled=filled * side,
        paid=(taken * book.price).sum(-1) * side,
        last_price=torch.where(filled > 0, base + worst * side, 0),
        fills=-taken * side.unsqueeze(-1),
        remainder=shares - filled * side,
        limit=limit,
    )
    return replace(book, size=book.size - execution.fills), execution


def defer(config: MarketConfig, book: Book, shares: Tensor, limit: Tensor, half_mid: Tensor) -> tuple[Book, Execution]:
    """The sealed-auction variant: nothing is executed now, the whole order goes to the auction."""
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


def clear(
    config: MarketConfig, book: Book, remainder: Tensor, limit: Tensor, half_mid: Tensor, coin: Tensor
) -> tuple[Book, Auction]:
    """Call auction: one price per symbol that trades the most shares, every limit respected.

    Among the prices with the largest volume the smallest imbalance wins, then the nearest to the mid; a mid between two
    points is rounded by the coin. Orders better than the worst price that still trades fill whole, on either side; at that
    price the shares are cut pro rata by cumulative floors, so shares bought equal shares sold exactly.

    The excess of bids over asks falls with the price, so bisection finds the last price u with excess >= 0; the best price
    lies on the flat stretch of volume around u or the one around u + 1.

    Args:
        book: all orders, [N, S, K]; may be crossed.
        remainder: [N, S] int64 shares of the learner, signed; immediate-or-cancel.
        limit: [N, S] int64 points of that order.
        half_mid: [N, S] int64 half points.
        coin: [N, S] int64, 0 or 1.

    Returns:
        The uncrossed book, limits keener than the band cut to it; and the auction (fills of the K slots and the learner).

    Invariants: fills sum to zero; no other price trades more; nobody trades beyond a limit; best bid < best ask afterwards.

    Source: Budish, Cramton and Shim (2015), section VII; exchange rules for opening auctions.
    """
    band = float(config.band)
    base = half_mid >> 1
    prices = torch.cat([book.price, limit.unsqueeze(-1)], dim=-1)
    sizes = torch.cat([book.size, remainder.unsqueeze(-1)], dim=-1)
    quantity = sizes.to(torch.float32)
    side = torch.sign(quantity)
    # How far its owner would go: upward for a bid, downward for an ask. Keener than the band is cut to it.
    keen = torch.clamp((prices - base.unsqueeze(-1)).to(torch.float32) * side, max=band)
    quantity = torch.where(keen >= -band, quantity, 0.0)
    offset = keen * side
    bids, asks = torch.clamp(quantity, min=0.0), torch.clamp(-quantity, min=0.0)

    low = torch.full(base.shape, -band - 1.0, dtype=torch.float32, device=base.device)
    high = torch.full_like(low, band + 1.0)
    for _ in range((2 * config.band + 1).bit_length()):
        middle = torch.floor((low + high) * 0.5)
        excess = torch.where(keen >= side * middle.unsqueeze(-1), quantity, 0.0).sum(-1)
        low, high = torch.where(excess >= 0.0, middle, low), torch.where(excess >= 0.0, high, middle)

    price, volume = _best_price(offset, bids, asks, low, ((half_mid & 1) * coin).to(torch.float32))
    taken = _ration(keen, bids, asks, side, price, volume)
    fills = (side * taken).to(torch.int64)
    auction = Auction(price=base + price.to(torch.int64), volume=volume.to(torch.int64), fills=fills)
    # A limit keener than the band stays cut: two orders left beyond the same edge could else stay crossed.
    top, bottom = (base + config.band).unsqueeze(-1), (base - config.band).unsqueeze(-1)
    limits = torch.where(book.size > 0, torch.minimum(book.price, top), torch.maximum(book.price, bottom))
    limits = torch.where(book.size != 0, limits, book.price)
    return replace(book, price=limits, size=book.size - fills[..., :-1]), auction


def _best_price(offset: Tensor, bids: Tensor, asks: Tensor, low: Tensor, mid: Tensor) -> tuple[Tensor, Tensor]:
    """Price (offset from the base) and volume [N, S] float32, choosing between the stretches around `low` and `low + 1`."""
    is_bid, is_ask = bids > 0.0, asks > 0.0
    high = low + 1.0
    below, above = low.unsqueeze(-1), high.unsqueeze(-1)

    def demand_supply(level: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(offset >= level, bids, 0.0).sum(-1), torch.where(offset <= level, asks, 0.0).sum(-1)

    demand_low, supply_low = demand_supply(below)
    demand_high, supply_high = demand_supply(above)
    volume_low, volume_high = torch.minimum(demand_low, supply_low), torch.minimum(demand_high, supply_high)
    imbalance_low, imbalance_high = (demand_low - supply_low).abs(), (demand_high - supply_high).abs()

    floor_low = torch.maximum(
        torch.where(is_ask & (offset <= below), offset, -_FAR).amax(-1),
        torch.where(is_bid & (offset < below), offset + 1.0, -_FAR).amax(-1),
    )
    ceiling_high = torch.minimum(
        torch.where(is_bid & (offset >= above), offset, _FAR).amin(-1),
        torch.where(is_ask & (offset > above), offset - 1.0, _FAR).amin(-1),
    )
    price_low = torch.minimum(torch.maximum(mid, floor_low), low)
    price_high = torch.maximum(torch.minimum(mid, ceiling_high), high)
    nearer = (price_high - mid).abs() < (price_low - mid).abs()
    calmer = (imbalance_high < imbalance_low) | ((imbalance_high == imbalance_low) & nearer)
    upper = (volume_high > volume_low) | ((volume_high == volume_low) & calmer)
    volume = torch.maximum(volume_low, volume_high)
    price = torch.where(upper, price_high, price_low)
    return torch.where(volume > 0.0, price, mid), volume


def _ration(keen: Tensor, bids: Tensor, asks: Tensor, side: Tensor, price: Tensor, volume: Tensor) -> Tensor:
    """Shares each order trades at the price, [N, S, K + 1] float32: `volume` on either side."""
    eligible = (keen >= side * price.unsqueeze(-1)) & (volume > 0.0).unsqueeze(-1)

    def one_side(sizes: Tensor) -> Tensor:
        sizes = torch.where(eligible, sizes, 0.0)
        margin = torch.where(sizes > 0.0, keen, _FAR).amin(-1, keepdim=True)
        better = torch.where(keen > margin, sizes, 0.0)
        marginal = sizes - better
        return better + _pro_rata(marginal, volume - better.sum(-1), marginal.sum(-1))

    return one_side(bids) + one_side(asks)


def _pro_rata(sizes: Tensor, share: Tensor, total: Tensor) -> Tensor:
    """Cut `sizes` [N, S, K] down to `share` of `total` [N, S] by cumulative floors; sums to the share exactly.

    Products stay below 2**48, so the float64 quotient is never rounded up to the next integer.
    """
    running = torch.cumsum(sizes.to(torch.float64), dim=-1)
    ratio_of = share.to(torch.float64).unsqueeze(-1)
    out_of = torch.clamp(total, min=1.0).to(torch.float64).unsqueeze(-1)
    upto = torch.floor(running * ratio_of / out_of)
    before = torch.floor((running - sizes) * ratio_of / out_of)
    return (upto - before).to(torch.float32)


def replace_orders(book: Book, price: Tensor, size: Tensor, expiry: Tensor) -> Book:
    """A new order of a trader takes the place of its resting one; size 0 leaves that where it is. All [N, S, <= K] int64.

    Slots beyond the given ones (the makers') keep what they have.
    """
    count = price.shape[-1]
    acts = size != 0

    def put(old: Tensor, new: Tensor) -> Tensor:
        return torch.cat([torch.where(acts, new, old[..., :count]), old[..., count:]], dim=-1)

    return Book(price=put(book.price, price), size=put(book.size, size), expiry=put(book.expiry, expiry))


def expire(book: Book, tick: Tensor) -> Book:
    """Drop what ends with this tick ([N] int64)."""
    return replace(book, size=torch.where(book.expiry <= tick[:, None, None], 0, book.size))


def liquidation_value(config: MarketConfig, book: Book, shares: Tensor, half_mid: Tensor) -> Tensor:
    """What selling (buying back) the position against the standing book would bring, [N, S] int64 half units of money.

    Shares that the book inside the band cannot take are valued at the worst price it reached, or the mid if it is empty.
    """
    direction = torch.sign(-shares)
    edge = (half_mid >> 1) + direction * config.band
    _, walked = execute(config, book, -shares, torch.clamp(edge, min=1), half_mid)
    last = torch.where(walked.last_price > 0, 2 * walked.last_price, half_mid)
    return -2 * walked.paid - walked.remainder * last
