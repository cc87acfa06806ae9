"""The tensors of a batch of markets: the state, and what one phase of the tick hands to the next.

Letters in shapes: N markets, S symbols, A owners (background traders of one symbol), L learners, K slots of the book (one per
trader, two per maker: bids, then asks; then the learners' P places). Every tensor starts with N. Prices are int64 points,
quantities int64 shares (positive buys), money int64 points x shares; "x2" marks doubled units, so that a mid between two points
stays an integer.

The book, and fills by its slots, are int32, since they are most of what a tick reads and writes: no order is above `HIGHEST`
points, the configuration bounds all shares of a symbol by 2**24, and no episode has `LONGEST` ticks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchgym.config import Structure

LOOKBACK = 64  # ticks of mid history behind the newest one
VOLUME_LOOKBACK = 8
FLOW_LOOKBACK = 8
SELECTION_TICKS = 30  # for so long the mid's move is told as that of a fill
EVENTS = 8  # news events remembered per symbol, newest last
LONGEST = 2**30  # ticks that an order lives, or an episode lasts
FOREVER = 2**31 - 1  # the tick at which orders end that do not expire
HIGHEST = 2**29  # points, of any order; at most half of it is the makers' reference, and a mid that is the value
NOWHERE = 2**30  # points: beyond every price


@dataclass
class Clock:
    """Which episode this is and how far it has come. [N] int64 each, but the key."""

    seed: Tensor
    episode: Tensor  # how many automatic resets since the seed was set
    tick: Tensor  # 0 at the end of the warm-up; negative before
    last: Tensor  # the tick at which time is up
    key: Tensor  # [N, 2] int32: the random numbers' address, mixed from seed and episode


@dataclass
class Value:
    """The latent fundamental value, its volatility, and the news. Nobody in the market sees `level` exactly."""

    level: Tensor  # [N, S] float64, log(value / list price)
    log_volatility: Tensor  # [N, S, 3] float64, three time scales
    estimate_error: Tensor  # [N, S] float64, log: public estimate = level + error
    public_move: Tensor  # [N, S] float64, log: the part of this tick's move that everybody saw
    arrived: Tensor  # [N, S] bool: an event began this tick
    headline: Tensor  # [N, S] float64, log: its publicly implied effect (0 without)
    sentiment: Tensor  # [N, S, EVENTS] float64, -1 to 1
    magnitude: Tensor  # [N, S, EVENTS] float64, 0 to 1
    drift: Tensor  # [N, S, EVENTS] float64, log per tick while the event lasts; hidden
    duration: Tensor  # [N, S, EVENTS] int64 ticks, 0 in an unused place
    remaining: Tensor  # [N, S, EVENTS] int64 ticks


@dataclass
class Book:
    """Resting limit orders, one place per owner (two per maker). A size of 0 is an empty place."""

    price: Tensor  # [N, S, K] int32 points
    size: Tensor  # [N, S, K] int32 shares, positive bids, negative asks
    expiry: Tensor  # [N, S, K] int32: gone at the end of this tick
    # [N, S, K] int32: the tick at which it took its place; None without time priority.
    since: Tensor | None = None

    def slots(self, which: slice) -> Book:
        """Of some places alone."""
        since = None if self.since is None else self.since[..., which]
        return Book(self.price[..., which], self.size[..., which], self.expiry[..., which], since)

    def joined(self, other: Book) -> Book:
        """These places, and after them those of the other one; with dates where both have them."""
        since = None if self.since is None or other.since is None else torch.cat([self.since, other.since], -1)
        price, size = torch.cat([self.price, other.price], -1), torch.cat([self.size, other.size], -1)
        return Book(price, size, torch.cat([self.expiry, other.expiry], -1), since)


@dataclass
class Orders:
    """Orders of this tick, float32 holding integers; size 0 where the trader rests. [N, S, ...] each."""

    price: Tensor  # points
    size: Tensor  # shares, positive buys
    life: Tensor  # ticks beyond this one; 0 is immediate-or-cancel


@dataclass
class Execution:
    """The learners' orders against the standing book."""

    filled: Tensor  # [N, S, L] int64 shares, signed
    paid: Tensor  # [N, S, L] int64 points x shares, positive when bought
    last_price: Tensor  # [N, S] int64 points: the worst level that the last fill reached; 0 without a fill
    fills: Tensor  # [N, S, K] int32 shares of the resting orders, signed by their side
    remainder: Tensor  # [N, S, L] int64 shares, signed: what goes on to the auction
    limit: Tensor  # [N, S, L] int64 points
    # [N, S, L] int64 shares of own resting orders that were cancelled since this order would have met them; None without places.
    cancelled: Tensor | None = None


@dataclass
class Auction:
    """One call auction per symbol."""

    price: Tensor  # [N, S] int64 points; meaningless where volume is 0
    volume: Tensor  # [N, S] int64 shares
    fills: Tensor  # [N, S, K + L] int32 shares, signed; the learners' remainders last


@dataclass
class MarketData:
    """What everybody knows at the end of a tick."""

    bid: Tensor  # [N, S] int64 points: best bid
    ask: Tensor  # [N, S] int64 points: best ask
    bid_depth: Tensor  # [N, S] int64 shares resting within 10 points of the best bid
    ask_depth: Tensor  # [N, S] int64 shares
    close: Tensor  # [N, S] int64 points: last price traded at
    log_mid: Tensor  # [N, S] float64: log(mid / list price)
    last_return: Tensor  # [N, S] float64: change of log_mid over the tick
    mids_x2: Tensor  # [N, S, LOOKBACK + 1] int64 half points (bid + ask), newest last
    volumes: Tensor  # [N, S, VOLUME_LOOKBACK + 1] int64 shares, newest last
    buys: Tensor  # [N, S, FLOW_LOOKBACK] int64 shares bought by orders that came to trade at once
    sells: Tensor  # [N, S, FLOW_LOOKBACK] int64 shares sold by them
    orders_filled: Tensor  # [N, S] int64 fills of orders this tick, against the learner and in the auction
    variance: Tensor  # [N, S, 3] float64: exponential means of squared returns
    busy_volume: Tensor  # [N, S, 3] float64: exponential means of relative volume
    busy_return: Tensor  # [N, S, 3] float64: of relative absolute returns
    ema_8: Tensor  # [N, S] float64 points, as the six below
    ema_16: Tensor
    macd_signal: Tensor
    rsi_gain: Tensor
    rsi_loss: Tensor
    atr_8: Tensor


@dataclass
class Accounts:
    """What background traders own, measured from their endowments."""

    cash: Tensor  # [N, S, A] int64 points x shares
    shares: Tensor  # [N, S, A] int64

    def joined(self, other: Accounts) -> Accounts:
        """These owners, and after them those of the other one."""
        return Accounts(torch.cat([self.cash, other.cash], -1), torch.cat([self.shares, other.shares], -1))


@dataclass
class Rested:
    """Fills of learners' resting orders, place by place."""

    filled: Tensor  # [N, S, P] int64 shares, signed
    paid: Tensor  # [N, S, P] int64 points x shares, positive when bought


@dataclass
class Hits:
    """What the makers' new quotes traded with learners' orders."""

    rested: Rested  # the learners' side
    fills: Tensor  # [N, S, 2 M] int32 shares of the makers' quotes, signed
    spent: Tensor  # [N, S, 2 M] int64 points x shares, positive when bought
    shares: Tensor  # [N, S] int64 shares, positive where the makers bought
    last_price: Tensor  # [N, S] int64 points: the worst limit that was hit; 0 where nothing was


@dataclass
class Ledger:
    """What learners own, and what is booked for them alone. With the background's, shares add up to those of the start."""

    cash: Tensor  # [N, L] int64 points x shares
    shares: Tensor  # [N, S, L] int64
    fees: Tensor  # [N, L] int64: commission taken so far
    borrow: Tensor  # [N, L] int64: charge for short positions taken so far
    borrow_accrued: Tensor  # [N, L] int64: charge not yet due, in 1e-9 of half a point x share
    basis: Tensor  # [N, S, L] int64: signed cost of the open position
    realized: Tensor  # [N, L] int64: profit of closed positions less fees and borrow
    equity_x2: Tensor  # [N, L] int64: twice the marked equity
    ruined: Tensor  # [N, L] bool: equity was at or below the maintenance level at the end of any tick of the episode
    filled: Tensor  # [N, S, L] int64 shares traded this tick, signed
    turnover: Tensor  # [N, L] int64 points x shares traded this tick, both sides positive
    rested: Rested | None = None  # fills of this tick of orders that rested; None without places for such
    cancelled: Tensor | None = None  # [N, S, L] int64 shares cancelled this tick, see `Execution`


@dataclass
class RewardMemory:
    """What path-dependent rewards remember."""

    peak_x2: Tensor  # [N, L] int64: twice the highest equity so far
    drawdown: Tensor  # [N, L] float64: fraction below the peak
    mean_return: Tensor  # [N, L] float64: exponential mean of returns
    mean_square: Tensor  # [N, L] float64: of squared returns
    arrival_x2: Tensor | None = None  # [N, S] int64 half points: the mid when rewards began; None without "shortfall"
    # [N, S, L, SELECTION_TICKS] int64 shares filled, newest last; None without "adverse_selection".
    recent: Tensor | None = None

    @staticmethod
    def start(structure: Structure, ledger: Ledger, mid_x2: Tensor) -> RewardMemory:
        """As an episode begins; mid_x2 [N, S] int64."""
        nothing, filled = torch.zeros_like(ledger.equity_x2, dtype=torch.float64), ledger.filled
        return RewardMemory(
            peak_x2=ledger.equity_x2.clone(),
            drawdown=nothing,
            mean_return=nothing.clone(),
            mean_square=nothing.clone(),
            arrival_x2=mid_x2.clone() if "shortfall" in structure.rewards else None,
            recent=filled.new_zeros((*filled.shape, SELECTION_TICKS))
            if "adverse_selection" in structure.rewards
            else None,
        )


@dataclass
class Delays:
    """What is on its way between learners and the market, oldest first; D is `Structure.longest_delay`."""

    asked: Tensor  # [N, L * W, D + 1]: actions of the last ticks, in the dtype of the scheme's space
    public: Tensor  # [N, 4 S + L, 2 D + 1] int64: what schemes look at, see `torchgym.sim.delay`


@dataclass
class MarketState:
    """Everything that changes. `traders` holds one memory dataclass per family that has one."""

    clock: Clock
    value: Value
    book: Book
    market_data: MarketData
    accounts: Accounts
    ledger: Ledger
    traders: dict[str, Any]
    reward: RewardMemory
    delays: Delays | None = None  # None without delays
    # [N, ..., D + 1] float64: observation and account of the last ticks, side by side, oldest first; None without delays.
    shown: Tensor | None = None


def book_tick(tick: Tensor) -> Tensor:
    """Ticks [N] int64 as the book counts them, [N, 1, 1] int32."""
    return tick[:, None, None].to(torch.int32)


def push(history: Tensor, newest: Tensor) -> Tensor:
    """[..., L] with the newest entry [...] last; the oldest falls out."""
    return torch.cat([history[..., 1:], newest.unsqueeze(-1)], dim=-1)


def paid(before: Ledger, after: Ledger) -> tuple[Tensor, Tensor]:
    """What learners paid in a tick for what they traded, and what they were charged, fees and borrow: [N, L] int64 each."""
    charged = after.fees + after.borrow - before.fees - before.borrow
    return before.cash - after.cash - charged, charged


def total_log_volatility(value: Value) -> Tensor:
    """H = h1 + h2 + h3, [N, S] float64, added in a fixed order."""
    return value.log_volatility[..., 0] + value.log_volatility[..., 1] + value.log_volatility[..., 2]
