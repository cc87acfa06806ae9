"""Phase: what everybody can see at the end of a tick: quotes, depth, trades, and the running averages of them."""

from __future__ import annotations

import torch
from torch import Tensor

from torchgym import exact
from torchgym.config import MarketConfig
from torchgym.state import (
    FLOW_LOOKBACK,
    LOOKBACK,
    VOLUME_LOOKBACK,
    Auction,
    Book,
    Execution,
    MarketParams,
    Tape,
    push,
)

DEPTH_POINTS = 10
FALLBACK_POINTS = 20  # how far from the makers' reference an empty side is quoted
RETURN_CAP = 0.02  # a one-tick return counts no more than this in the variances
_EMPTY_BID, _EMPTY_ASK = -1, 2**40


def start(config: MarketConfig, params: MarketParams, book: Book, reference: Tensor, variance: Tensor) -> Tape:
    """A tape that has seen nothing but the opening quotes.

    Args:
        reference: [N, S] float64 points, the makers' reference price.
        variance: [N, S] float64, the variance of one-tick returns to start from.
    """
    bid, ask = best_quotes(book, reference)
    half_mid = bid + ask
    bid_depth, ask_depth = depths(book, bid, ask)
    points = half_mid.to(torch.float64) * 0.5
    zero = torch.zeros_like(points)
    none = torch.zeros_like(bid)

    def history(length: int) -> Tensor:
        return none.unsqueeze(-1).repeat(1, 1, length)

    def three(values: Tensor) -> Tensor:
        return values.unsqueeze(-1).repeat(1, 1, 3)

    return Tape(
        bid=bid,
        ask=ask,
        bid_depth=bid_depth,
        ask_depth=ask_depth,
        close=half_mid >> 1,
        log_mid=log_price(config, half_mid),
        last_return=zero,
        half_mids=half_mid.unsqueeze(-1).repeat(1, 1, LOOKBACK + 1),
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
    config: MarketConfig,
    params: MarketParams,
    tape: Tape,
    *,
    book: Book,
    execution: Execution,
    auction: Auction,
    fresh: Tensor,
    reference: Tensor,
) -> Tape:
    """The tape after this tick.

    Aggressive flow counts the fills of orders that came in this tick (`fresh` [N, S, K] bool, and the learner's); what they met,
    resting orders and makers' quotes, does not count. Volume counts each share that changed hands once.

    Args:
        reference: [N, S] float64 points; quotes an empty side at 20 points from it.
    """
    bid, ask = best_quotes(book, reference)
    bid_depth, ask_depth = depths(book, bid, ask)
    half_mid = bid + ask
    log_mid = log_price(config, half_mid)
    change = log_mid - tape.log_mid

    taken = execution.filled.abs()
    volume = auction.volume + taken
    close = torch.where(taken > 0, execution.last_price, tape.close)
    close = torch.where(auction.volume > 0, auction.price, close)

    learner_fill = auction.fills[..., -1]
    incoming = torch.where(fresh, auction.fills[..., :-1], 0)
    buys = torch.clamp(incoming, min=0).sum(-1) + torch.clamp(learner_fill + execution.filled, min=0)
    sells = torch.clamp(-incoming, min=0).sum(-1) + torch.clamp(-learner_fill - execution.filled, min=0)
    filled = (auction.fills != 0).sum(-1) + (execution.fills != 0).sum(-1) + (taken > 0).to(torch.int64)

    size = torch.clamp(change.abs(), max=RETURN_CAP)
    relative_volume = torch.clamp(volume.to(torch.float64) * (1.0 / config.usual_volume), max=6.0)
    relative_return = torch.clamp(change.abs() * (1.0 / config.usual_return), max=8.0)
    return Tape(
        bid=bid,
        ask=ask,
        bid_depth=bid_depth,
        ask_depth=ask_depth,
        close=close,
        log_mid=log_mid,
        last_return=change,
        half_mids=push(tape.half_mids, half_mid),
        volumes=push(tape.volumes, volume),
        buys=push(tape.buys, buys),
        sells=push(tape.sells, sells),
        orders_filled=filled,
        variance=_blend(tape.variance, size * size, params.variance_decay),
        busy_volume=_blend(tape.busy_volume, relative_volume, params.activity_decay),
        busy_return=_blend(tape.busy_return, relative_return, params.activity_decay),
        **_indicators(tape, half_mid, torch.where(volume > 0, 2 * close, half_mid)),
    )


def best_quotes(book: Book, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Best bid and ask [N, S] int64 points; an empty side is quoted away from the reference, never inside the other."""
    bid = torch.where(book.size > 0, book.price, _EMPTY_BID).amax(-1)
    ask = torch.where(book.size < 0, book.price, _EMPTY_ASK).amin(-1)
    centre = torch.floor(reference).to(torch.int64)
    no_bid, no_ask = bid == _EMPTY_BID, ask == _EMPTY_ASK
    ask = torch.where(no_ask, torch.maximum(centre + FALLBACK_POINTS, bid + 1), ask)
    bid = torch.where(no_bid, torch.minimum(centre - FALLBACK_POINTS, ask - 1), bid)
    return bid, ask


def depths(book: Book, bid: Tensor, ask: Tensor) -> tuple[Tensor, Tensor]:
    """Shares resting within 10 points of the best bid and of the best ask, [N, S] int64."""
    near_bid = book.price >= (bid - DEPTH_POINTS).unsqueeze(-1)
    near_ask = book.price <= (ask + DEPTH_POINTS).unsqueeze(-1)
    bids, asks = torch.clamp(book.size, min=0), torch.clamp(-book.size, min=0)
    return torch.where(near_bid, bids, 0).sum(-1), torch.where(near_ask, asks, 0).sum(-1)


def log_price(config: MarketConfig, half_price: Tensor) -> Tensor:
    """log(price / list price), float64, from half points."""
    return exact.log(half_price.to(torch.float64) * (0.5 / config.list_price))


def _indicators(tape: Tape, half_mid: Tensor, half_close: Tensor) -> dict[str, Tensor]:
    """Recursions of the technical features, in points.

    Sources: Wilder (1978) for the strength index and the true range; Appel (2005) for convergence-divergence.
    """
    now = half_mid.to(torch.float64) * 0.5
    before = tape.half_mids[..., -1].to(torch.float64) * 0.5
    traded = half_close.to(torch.float64) * 0.5
    ema_8 = tape.ema_8 + (2.0 / 9.0) * (now - tape.ema_8)
    ema_16 = tape.ema_16 + (2.0 / 17.0) * (now - tape.ema_16)
    change = now - before
    true_range = torch.maximum(torch.maximum(now, traded), before) - torch.minimum(torch.minimum(now, traded), before)
    return {
        "ema_8": ema_8,
        "ema_16": ema_16,
        "macd_signal": tape.macd_signal + 0.4 * ((ema_8 - ema_16) - tape.macd_signal),
        "rsi_gain": (7.0 * tape.rsi_gain + torch.clamp(change, min=0.0)) * 0.125,
        "rsi_loss": (7.0 * tape.rsi_loss + torch.clamp(-change, min=0.0)) * 0.125,
        "atr_8": (7.0 * tape.atr_8 + true_range) * 0.125,
    }


def _blend(mean: Tensor, value: Tensor, decay: Tensor) -> Tensor:
    """Exponential means with three half-lives, [N, S, 3]."""
    return mean + decay * (value.unsqueeze(-1) - mean)
