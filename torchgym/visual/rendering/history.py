"""What a market and its learner have gone through lately, as plain numbers."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import torch

from torchgym.config import MarketConfig
from torchgym.sim.state import MarketState

KEEP = 500  # rows


class HistoryRow(NamedTuple):
    """One symbol of one market, and the learner's account, at the end of a decision. Prices and money in currency."""

    tick: int
    bid: float
    ask: float
    mid: float
    last: float  # price traded at
    value: float  # latent; only with `information="privileged"` does the learner see it
    news: float  # tone of the headlines since the row before, sentiment times magnitude; 0 without one
    headlines: int  # how many these are
    filled: int  # shares the learner traded since the row before, positive bought
    position: int  # shares
    cash: float
    equity: float
    peak: float  # highest equity of the episode so far


class History:
    """The last rows of an episode, the first market of a batch; memory is bounded by `keep`.

    Args:
        config: of the market.
        symbol: the symbol whose prices and position are kept.
        keep: how many rows.
    """

    def __init__(self, config: MarketConfig, symbol: int = 0, keep: int = KEEP) -> None:
        self.config = config
        self.symbol = symbol
        self.rows: deque[HistoryRow] = deque(maxlen=keep)
        self.opening_equity = 0.0
        self._tones: list[float] = []  # of the headlines that the market remembers, newest last

    def begin(self, state: MarketState) -> None:
        """Forget what was, and keep the opening of a new episode."""
        self.rows.clear()
        self._tones = self._read_tones(state)
        self.add(state)
        self.opening_equity = self.rows[-1].equity

    def add(self, state: MarketState) -> None:
        """Keep the end of a decision. The state is read, not kept, so its memory may be overwritten afterwards."""
        tones, before = self._read_tones(state), self.rows[-1] if self.rows else None
        fresh = newcomers(self._tones, tones)
        self._tones = tones
        point, market_data, ledger, at = self.config.point_size, state.market_data, state.ledger, (0, self.symbol)
        whole = (  # the numbers of a recorded path's entries, in a third of the time
            *(state.clock.tick[0], market_data.bid[at], market_data.ask[at], market_data.close[at]),
            *(ledger.shares[at][0], ledger.cash[0, 0], ledger.equity_x2[0, 0]),
        )
        tick, bid, ask, last, position, cash, equity_x2 = torch.stack(whole).tolist()
        equity = 0.5 * equity_x2 * point
        self.rows.append(
            HistoryRow(
                tick=tick,
                bid=bid * point,
                ask=ask * point,
                mid=0.5 * (bid + ask) * point,
                last=last * point,
                value=self.config.list_price * point * float(torch.exp(state.value.level[at])),
                news=sum(tones[len(tones) - fresh :]),
                headlines=fresh,
                filled=position - before.position if before else 0,
                position=position,
                cash=cash * point,
                equity=equity,
                peak=max(equity, before.peak) if before else equity,
            )
        )

    def _read_tones(self, state: MarketState) -> list[float]:
        at = (0, self.symbol)
        tones: list[float] = (state.value.sentiment[at] * state.value.magnitude[at]).tolist()
        return tones


def newcomers(before: list[float], after: list[float]) -> int:
    """How many entries came in at the end of a list of fixed length, pushing out as many at the beginning.

    >>> newcomers([0.0, 0.3, 0.1], [0.3, 0.1, -0.7])
    1
    """
    return next(count for count in range(len(after) + 1) if after[: len(after) - count] == before[count:])
