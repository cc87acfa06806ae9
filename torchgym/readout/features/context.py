"""What the features of one tick share, computed once: mids and returns, deviations, news, the estimate of value."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics import exact
from torchgym.numerics.compiled import stored, sum_of_few
from torchgym.sim.params import Params
from torchgym.sim.state import EVENTS, MarketData, MarketState

LOOKBACKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # ticks, of price changes and log returns
LEVELS = 10  # points, of the ladder of each side
VOLATILITY_FLOOR = 1e-4  # a usual move is never less than 1 bp per tick

_AT_8, _AT_32 = LOOKBACKS.index(8), LOOKBACKS.index(32)
_ROOTS = tuple(math.sqrt(k) for k in LOOKBACKS)
# (first, last, step) of the places of the mids `LOOKBACKS` ticks before the newest of 65, oldest first
_PAST = ((0, 16, 16), (32, 40, 8), (48, 52, 4), (56, 58, 2), (60, 63, 1))


def _once(compute: Callable[[FeatureContext], Any]) -> property:
    """A property that is computed when first asked for.

    `functools.cached_property` takes a lock before Python 3.12, and a traced graph cannot hold one.
    """
    name = compute.__name__

    def get(context: FeatureContext) -> Any:
        if name not in context.memo:
            context.memo[name] = compute(context)
        return context.memo[name]

    return property(get, doc=compute.__doc__)


def levels_of(data: MarketData, price: Tensor, size: Tensor) -> Tensor:
    """Shares of the bids and of the asks among orders [N, S, K] at each of `LEVELS` points, [N, S, 2, LEVELS] float32.

    The first is the market's best price on that side, the next a point behind it, and so on.
    """
    levels = torch.arange(LEVELS, device=size.device).unsqueeze(-1)
    shares = size.to(torch.float32).unsqueeze(-2)  # which adds these integers exactly
    behind = (data.bid.unsqueeze(-1) - price, price - data.ask.unsqueeze(-1))
    at = [
        (points.unsqueeze(-2) == levels) & (shares * side > 0.0)
        for points, side in zip(behind, (1.0, -1.0), strict=True)
    ]
    return torch.stack([torch.where(here, shares.abs(), 0.0).sum(-1) for here in at], -2)


def ratio(part: Tensor, whole: Tensor, neutral: float) -> Tensor:
    """The quotient, or `neutral` where the whole is not positive."""
    return torch.where(whole > 0.0, part / whole, neutral)


class FeatureContext:
    """What the features of one tick share: [N, S, 1] float64 in currency unless said otherwise, each computed at most once.

    The market_data's histories are always full (a fresh market starts with a constant one) and its mids positive.
    """

    def __init__(self, structure: Structure, params: Params, state: MarketState) -> None:
        self.structure = structure
        self.params = params
        self.market_data = state.market_data
        self.book = state.book
        self.value = state.value
        self.memo: dict[str, Any] = {}

    @_once
    def point(self) -> Tensor:
        """Currency per point: [N, 1, 1]."""
        return self.params.point_size.unsqueeze(-1)

    @_once
    def mids_x2(self) -> Tensor:
        """Mids of the last 65 ticks, newest last: [N, S, 65] half points."""
        return self.market_data.mids_x2.to(torch.float64)

    @_once
    def mid_x2(self) -> Tensor:
        """The newest mid in half points."""
        return self.mids_x2[..., -1:]

    @_once
    def mid(self) -> Tensor:
        """The newest mid."""
        return self.mid_x2 * (0.5 * self.point)

    @_once
    def past(self) -> Tensor:
        """Mids at each of `LOOKBACKS` ticks before the newest: [N, S, 12] half points."""
        history = self.mids_x2
        strided = [history[..., first : last + 1 : step] for first, last, step in _PAST]
        return torch.cat(strided, -1).flip(-1)

    @_once
    def changes(self) -> Tensor:
        """Percent by which the mid exceeds each past one: [N, S, 12]."""
        return (self.mid_x2 - self.past) * 100.0 / self.past

    @_once
    def logs(self) -> tuple[Tensor, Tensor]:
        """Log returns over each lookback [N, S, 12], and of each of the last 32 ticks, newest last [N, S, 32]."""
        history = self.mids_x2
        ratios = torch.cat([self.mid_x2 / self.past, history[..., -32:] / history[..., -33:-1]], -1)
        over, each = exact.log(ratios).split([len(LOOKBACKS), 32], -1)
        return over, each

    @_once
    def deviations(self) -> tuple[Tensor, Tensor, Tensor]:
        """Standard deviations: of 12 mids (population), and of 8 and 32 one-tick log returns (sample, fraction per tick).

        The mean one-tick return over k ticks is the log return over k ticks by k, so one pass over the squares is enough. They
        are summed in blocks of eight: the first is the short window, the others are the long one.
        """
        over, each = self.logs
        short = each[..., -8:] - over[..., _AT_8 : _AT_8 + 1] * 0.125
        long = each - over[..., _AT_32 : _AT_32 + 1] * 0.03125
        both = torch.cat([short, long], -1)
        blocks = exact.halving_sum((both * both).unflatten(-1, (5, 8))).squeeze(-1)
        squares = [self.spread_of_mids, blocks[..., :1], exact.halving_sum(blocks[..., 1:])]
        mids, vol_8, vol_32 = exact.sqrt(torch.cat(squares, -1)).split(1, -1)
        return mids * self.params.half_point_12th.unsqueeze(-1), vol_8 * 7.0**-0.5, vol_32 * 31.0**-0.5

    @_once
    def window(self) -> Tensor:
        """The last 12 mids: [N, S, 12] int64 half points."""
        return self.market_data.mids_x2[..., -12:]

    @_once
    def total(self) -> Tensor:
        """Their sum, int64 half points."""
        return sum_of_few(self.window)

    @_once
    def spread_of_mids(self) -> Tensor:
        """144 population variances of the last 12 mids: an integer number of squared half points."""
        squares = sum_of_few(self.window * self.window)
        return (12 * squares - self.total * self.total).to(torch.float64)

    @_once
    def averages(self) -> tuple[Tensor, ...]:
        """The market data's recursions: exponential means over 8 and 16 ticks, signal line, average gain, loss and range."""
        t = self.market_data
        points = torch.stack([t.ema_8, t.ema_16, t.macd_signal, t.rsi_gain, t.rsi_loss, t.atr_8], -1)
        return (points * self.point).split(1, -1)

    @_once
    def line(self) -> Tensor:
        """Convergence-divergence: the faster exponential mean less the slower."""
        return self.averages[0] - self.averages[1]

    @_once
    def rsi(self) -> Tensor:
        """Relative strength index, 0 to 100."""
        gain, loss = self.averages[3:5]
        return 100.0 * ratio(gain, gain + loss, 0.5)

    @_once
    def bands(self) -> tuple[Tensor, Tensor, Tensor]:
        """Upper, middle and lower Bollinger band: the mean of 12 mids and two standard deviations either side."""
        middle = self.total.to(torch.float64) * self.params.half_point_12th.unsqueeze(-1)
        width = 2.0 * self.deviations[0]
        return middle + width, middle, middle - width

    @_once
    def counts(self) -> tuple[Tensor, ...]:
        """Best bid and ask in points, shares resting near them, orders filled."""
        t = self.market_data
        integers = torch.stack([t.bid, t.ask, t.bid_depth, t.ask_depth, t.orders_filled], -1)
        return integers.to(torch.float64).split(1, -1)

    @_once
    def levels(self) -> Tensor:
        """Shares of bids and of asks at their best price and up to nine points behind it: [N, S, 2, LEVELS]."""
        return levels_of(self.market_data, self.book.price, self.book.size).to(torch.float64)

    @_once
    def decayed(self) -> Tensor:
        """Sentiment of each remembered event by the share of its time that remains, 0 once it is over: [N, S, EVENTS]."""
        return self.value.sentiment * (self.remaining / self.value.duration.clamp(min=1))

    @_once
    def remaining(self) -> Tensor:
        """Ticks that each remembered event still lasts: [N, S, EVENTS]."""
        return self.value.remaining.to(torch.float64)

    @_once
    def newest(self) -> tuple[Tensor, ...]:
        """Of the newest event still active: 1, its decayed sentiment, magnitude and remaining ticks; zeros without one."""
        active = self.value.remaining > 0
        place = stored(active * torch.arange(1.0, EVENTS + 1.0, dtype=torch.float32, device=active.device))
        chosen = place == stored(place.amax(-1, keepdim=True).clamp(min=1.0))
        entries = torch.stack([active.to(torch.float64), self.decayed, self.value.magnitude, self.remaining], -2)
        newest = torch.where(chosen.unsqueeze(-2), entries, 0.0).sum(-1)  # exact: at most one term is not zero
        return newest.split(1, -1)

    @_once
    def fair(self) -> Tensor:
        """The estimate of value that `MarketConfig.information` grants; the mid where it grants none."""
        information, value = self.structure.information, self.value
        if information == "none":
            return self.mid
        level = value.level if information == "privileged" else value.level + value.estimate_error
        return (exact.exp(level) * self.params.list_value).unsqueeze(-1)

    @_once
    def fair_dev(self) -> Tensor:
        """Fraction by which the mid exceeds the estimate of value."""
        return (self.mid - self.fair) / self.fair

    @_once
    def volatility(self) -> Tensor:
        """Running volatility, fraction per tick: that of the last 32 returns, with a floor."""
        return self.deviations[2].clamp(min=VOLATILITY_FLOOR)

    @_once
    def move(self) -> Tensor:
        """A usual one-tick move of the price."""
        return self.mid * self.volatility

    @_once
    def moves(self) -> Tensor:
        """Usual log return over each of `LOOKBACKS`: volatility × √k, [N, S, 12]."""
        return torch.cat([self.volatility * root for root in _ROOTS], -1)
