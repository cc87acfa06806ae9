"""What the audit shows a rule before it acts, and the orders that it can form from that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.engine import Market, StepResult
from torchgym.numerics import random

_STREAM = 1_000  # random numbers that no market draws


@dataclass(frozen=True)
class AuditSnapshot:
    """The market before one decision, in the rows of one policy: n episodes, all at the same tick; decisions are shares [n].

    `snapshot["f_rsi_8"]` is a feature [n] float64 of the first symbol, raw, as the learner sees it. Beside the 55 features:

    - `spread`: best ask less best bid, points;
    - `headline`: log effect of a headline that came this tick, 0 without (public);
    - `print_gap`: the last price traded at over the mid, less one (public);
    - `estimate_gap`: the public estimate of value over the mid, log;
    - `exact_gap`: value over the mid, log (nobody in the market knows it);
    - `maker_shares`: inventory of all makers together, shares (nobody in the market knows it);
    - `uniform`: a random number in (0, 1), the same for every policy in the same episode and tick.
    """

    columns: Mapping[str, Tensor]  # [N] float64 each
    rows: slice
    held: Tensor  # [n] int64 shares
    now: int  # decisions made before this one
    last: int  # decisions before everything is unwound
    order: int  # shares, the largest order
    limit: int  # shares, the largest position on either side

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name][self.rows]

    def usual_moves(self, lookback: int) -> Tensor:
        """The log return over the lookback in usual moves, [n] float64."""
        usual = self["f_realized_vol_32"].clamp(min=1e-5) * math.sqrt(lookback)
        return self[f"f_log_return_{lookback}"] / usual

    def to_position(self, target: int | Tensor) -> Tensor:
        """Shares [n] int64 towards a position of `target` shares, as many as one order may have."""
        return torch.clamp(target - self.held, -self.order, self.order)

    def to_fraction(self, fraction: Tensor) -> Tensor:
        """Shares [n] int64 towards a `fraction` [n] of the position limit, -1 to 1, in whole orders.

        Nothing is traded while the target is less than an order away, so a signal that trembles does not cost a spread each tick.
        """
        away = fraction.clamp(-1.0, 1.0) * self.limit - self.held
        whole = torch.trunc(away / self.order).to(torch.int64) * self.order
        return torch.clamp(whole, -self.order, self.order)


def columns(market: Market, result: StepResult) -> dict[str, Tensor]:
    """The columns of an `AuditSnapshot`, [N] float64 each, of the first symbol.

    Args:
        market: shows raw features of the set "full55" and public information.
        result: its last one.
    """
    state = market.live
    market_data, value = state.market_data, state.value
    count = len(market.feature_names) // market.config.num_symbols
    names = [name.split("@")[0] for name in market.feature_names[:count]]
    level, log_mid = value.level[:, 0], market_data.log_mid[:, 0]
    counter = random.counters(_STREAM, 1, market.device)
    own = {
        "spread": market_data.ask[:, 0] - market_data.bid[:, 0],
        "headline": value.headline[:, 0],
        "print_gap": 2.0 * market_data.close[:, 0] / market_data.mids_x2[:, 0, -1] - 1.0,
        "estimate_gap": level + value.estimate_error[:, 0] - log_mid,
        "exact_gap": level - log_mid,
        "maker_shares": market.read("maker_shares")["maker_shares"][:, 0],
        "uniform": random.uniform(random.bits(state.clock.key, state.clock.tick, counter))[:, 0],
    }
    shown = dict(zip(names, result.observation[:, :count].T.contiguous(), strict=True))
    return shown | {name: column.to(torch.float64, copy=True) for name, column in own.items()}
