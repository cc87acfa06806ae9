"""Phase: what everybody can see at the end of a tick: quotes, depth, trades, and the running averages of them."""

from __future__ import annotations

import torch
from torch import Tensor

from torchgym.numerics import exact
from torchgym.sim.params import Params
from torchgym.sim.session import Hour
from torchgym.sim.state import (
    FLOW_LOOKBACK,
    LOOKBACK,
    VOLUME_LOOKBACK,
    Auction,
    Book,
    Execution,
    Hits,
    MarketData,
    push,
)

DEPTH_POINTS = 10
FALLBACK_POINTS = 20  # how far from the makers' reference an empty side is quoted
_FAR = 2.0**31  # points: where an empty side's best quote is

# Reductions over the slots run on float32 that holds integers, which is exact in any order and several times faster than int64:
# the shares of all orders of a symbol add up to less than 2^24 (`MarketConfig` refuses more), and prices count from a price
# nearby, so that a quote is exact as long as the market has not risen to 64 times the highest list price.


def start(params: Params, book: Book, reference: Tensor, variance: Tensor, mid_x2: Tensor | None = None) -> MarketData:
    """Market data that have seen nothing but the opening quotes.

    Args:
        reference: [N, S] float64 points, the makers' reference price.
        variance: [N, S] float64, the variance of one-tick returns to start from.
        mid_x2: [N, S] int64 half points; None is halfway between the best quotes.
    """
    bid, ask = best_quotes(book, reference)
    mid_x2 = bid + ask if mid_x2 is None else mid_x2
    bid_depth, ask_depth = depths(book, bid, ask)
    points = mid_x2.to(torch.float64) * 0.5
    zero = torch.zeros_like(points)
    none = torch.zeros_like(bid)

    def history(length: int) -> Tensor:
        return none.unsqueeze(-1).repeat(1, 1, length)

    def three(values: Tensor) -> Tensor:
        return values.unsqueeze(-1).repeat(1, 1, 3)

    return MarketData(
        bid=bid,
        ask=ask,
        bid_depth=bid_depth,
        ask_depth=ask_depth,
        close=mid_x2 >> 1,
        log_mid=log_price(params, mid_x2),
        last_return=zero,
        mids_x2=mid_x2.unsqueeze(-1).repeat(1, 1, LOOKBACK + 1),
        volumes=history(VOLUME_LOOKBACK + 1),
        buys=history(FLOW_LOOKBACK),
        sells=history(FLOW_LOOKBACK),
        orders_filled=none,
        variance=three(variance),
        busy_volume=three(torch.ones_like(zero)),
        busy_return=three(torch.ones_like(zero)),
        ema_8=points,
        ema_16=points.clone(),
        macd_signal=zero.clone(),
        rsi_gain=zero.clone(),
        rsi_loss=zero.clone(),
        atr_8=zero.clone(),
    )


def measure(
    params: Params,
    market_data: MarketData,
    *,
    book: Book,
    execution: Execution,
    auction: Auction,
    takers: Tensor,
    reference: Tensor,
    hits: Hits | None = None,
    mid_x2: Tensor | None = None,
    hours: Hour | None = None,
) -> MarketData:
    """The market data after this tick.

    Aggressive flow counts the fills of orders that came to trade in this tick or not at all, the learners' too; what they met,
    orders that rest or came to rest and makers' quotes, does not count. Volume counts each share that changed hands once.

    Args:
        takers: [N, S, F], of the first F slots, not zero where an order came to trade at once: a mask, or the orders' sizes,
            which a compiled graph need not write down as bools.
        reference: [N, S] float64 points; quotes an empty side at 20 points from it.
        hits: what the makers' quotes traded with learners' orders; None without places for such.
        mid_x2: as in `start`.
        hours: of the day, for whose usual activity and volatility, or the night's, the running means are corrected.
    """
    bid, ask = best_quotes(book, reference)
    bid_depth, ask_depth = depths(book, bid, ask)
    mid_x2 = bid + ask if mid_x2 is None else mid_x2
    log_mid = log_price(params, mid_x2)
    change = log_mid - market_data.log_mid

    taken = execution.filled.abs().sum(-1)
    volume = auction.volume + taken
    close = torch.where(taken > 0, execution.last_price, market_data.close)
    close = torch.where(auction.volume > 0, auction.price, close)

    buys, sells = _aggressive(execution, auction, takers)
    filled = (_count(auction.fills) + _count(execution.fills) + _count(execution.filled)).to(torch.int64)
    if hits is not None:
        volume = volume + hits.shares.abs()
        close = torch.where(hits.shares != 0, hits.last_price, close)
        buys, sells = buys + torch.clamp(hits.shares, min=0), sells - torch.clamp(hits.shares, max=0)
        filled = filled + (_count(hits.fills) + _count(hits.rested.filled)).to(torch.int64)

    usual = params.activity
    move, traded = change.abs(), volume.to(torch.float64)
    if hours is not None:
        move, traded = move / torch.maximum(hours.move, hours.volatility), traded / hours.activity
    size = torch.minimum(move, usual.move_cap)
    relative_volume = torch.minimum(traded * params.per_usual_volume, usual.volume_cap)
    relative_return = torch.minimum(move * params.per_usual_return, usual.return_cap)
    return MarketData(
        bid=bid,
        ask=ask,
        bid_depth=bid_depth,
        ask_depth=ask_depth,
        close=close,
        log_mid=log_mid,
        last_return=change,
        mids_x2=push(market_data.mids_x2, mid_x2),
        volumes=push(market_data.volumes, volume),
        buys=push(market_data.buys, buys),
        sells=push(market_data.sells, sells),
        orders_filled=filled,
        variance=_blend(market_data.variance, size * size, usual.volatility_decays),
        busy_volume=_blend(market_data.busy_volume, relative_volume, usual.decays),
        busy_return=_blend(market_data.busy_return, relative_return, usual.decays),
        **_indicators(market_data, mid_x2, torch.where(volume > 0, 2 * close, mid_x2)),
    )


def best_quotes(book: Book, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Best bid and ask [N, S] int64 points; an empty side is quoted away from the reference, never inside the other."""
    centre = torch.floor(reference).to(torch.int64)
    offset, size = _points_from(centre, book), book.size.to(torch.float32)
    bid = torch.where(size > 0.0, offset, -_FAR).amax(-1)
    ask = torch.where(size < 0.0, offset, _FAR).amin(-1)
    no_bid, no_ask = bid == -_FAR, ask == _FAR
    ask = torch.where(no_ask, torch.clamp(bid + 1.0, min=FALLBACK_POINTS), ask)
    bid = torch.where(no_bid, torch.clamp(ask - 1.0, max=-FALLBACK_POINTS), bid)
    return centre + bid.to(torch.int64), centre + ask.to(torch.int64)


def depths(book: Book, bid: Tensor, ask: Tensor) -> tuple[Tensor, Tensor]:
    """Shares resting within 10 points of the best bid and of the best ask, [N, S] int64."""
    size = book.size.to(torch.float32)
    near_bid, near_ask = _points_from(bid, book) >= -DEPTH_POINTS, _points_from(ask, book) <= DEPTH_POINTS
    bids = torch.where(near_bid, torch.clamp(size, min=0.0), 0.0).sum(-1)
    asks = torch.where(near_ask, torch.clamp(size, max=0.0), 0.0).sum(-1)
    return bids.to(torch.int64), -asks.to(torch.int64)


def _points_from(level: Tensor, book: Book) -> Tensor:
    """How far each order's price lies above a price [N, S] int64: [N, S, K] float32 points."""
    return (book.price - level.unsqueeze(-1).to(torch.int32)).to(torch.float32)


def _aggressive(execution: Execution, auction: Auction, takers: Tensor) -> tuple[Tensor, Tensor]:
    """Shares bought and sold by those who came to trade, [N, S] int64."""
    incoming = torch.where(takers != 0, auction.fills[..., : takers.shape[-1]].to(torch.float32), 0.0)
    remainders = auction.fills[..., auction.fills.shape[-1] - execution.filled.shape[-1] :]
    learners = (remainders + execution.filled).to(torch.float32)
    bought = torch.clamp(incoming, min=0.0).sum(-1) + torch.clamp(learners, min=0.0).sum(-1)
    net = incoming.sum(-1) + learners.sum(-1)
    return bought.to(torch.int64), (bought - net).to(torch.int64)


def _count(fills: Tensor) -> Tensor:
    """How many are not zero along the last axis, [N, S] float32."""
    return torch.clamp(fills.to(torch.float32).abs(), max=1.0).sum(-1)  # no mask, which is slow where it is stored


def log_price(params: Params, price_x2: Tensor) -> Tensor:
    """log(price / list price), float64, from half points."""
    return exact.log(price_x2.to(torch.float64) * params.per_list_price_x2)


def _indicators(market_data: MarketData, mid_x2: Tensor, close_x2: Tensor) -> dict[str, Tensor]:
    """Recursions of the technical features, in points.

    Sources: Wilder (1978) for the strength index and the true range; Appel (2005) for convergence-divergence.
    """
    now = mid_x2.to(torch.float64) * 0.5
    before = market_data.mids_x2[..., -1].to(torch.float64) * 0.5
    traded = close_x2.to(torch.float64) * 0.5
    ema_8 = market_data.ema_8 + (2.0 / 9.0) * (now - market_data.ema_8)
    ema_16 = market_data.ema_16 + (2.0 / 17.0) * (now - market_data.ema_16)
    change = now - before
    true_range = torch.maximum(torch.maximum(now, traded), before) - torch.minimum(torch.minimum(now, traded), before)
    return {
        "ema_8": ema_8,
        "ema_16": ema_16,
        "macd_signal": market_data.macd_signal + 0.4 * ((ema_8 - ema_16) - market_data.macd_signal),
        "rsi_gain": (7.0 * market_data.rsi_gain + torch.clamp(change, min=0.0)) * 0.125,
        "rsi_loss": (7.0 * market_data.rsi_loss + torch.clamp(-change, min=0.0)) * 0.125,
        "atr_8": (7.0 * market_data.atr_8 + true_range) * 0.125,
    }


def _blend(mean: Tensor, value: Tensor, decay: Tensor) -> Tensor:
    """Exponential means with three half-lives, [N, S, 3]."""
    return mean + decay * (value.unsqueeze(-1) - mean)
