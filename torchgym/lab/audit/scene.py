"""What a scripted trader is shown before it acts, and the orders it can form from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.engine import Market, StepResult
from torchgym.readout.paths import ENTRIES
from torchgym.sim import noise

_LUCK = 1_000  # a stream of random numbers that no market draws from


@dataclass(frozen=True)
class Scene:
    """The market before one decision, in the rows of one policy: n episodes, all at the same tick.

    `scene["f_rsi_8"]` is a feature [n] float64 of the first symbol, raw, as the learner sees it. Beside the 55 features:

    - `spread`: best ask less best bid, points;
    - `headline`: log effect of a headline that came this tick, 0 without (public);
    - `print_gap`: the last price traded at over the mid, less one (public);
    - `estimate_gap`: the public estimate of value over the mid, log;
    - `exact_gap`: value over the mid, log (nobody in the market knows it);
    - `maker_shares`: inventory of all makers together, shares (nobody in the market knows it);
    - `luck`: uniform in (0, 1), the same for every policy in the same episode and tick.
    """

    columns: Mapping[str, Tensor]  # [N] float64 each
    rows: slice
    held: Tensor  # [n] int64 shares
    now: int  # decisions made before this one
    last: int  # decisions before everything is unwound
    order: int  # shares, the largest order
    limit: int  # shares, the largest position either side

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name][self.rows]


def look(market: Market, seen: StepResult) -> dict[str, Tensor]:
    """The columns of a `Scene`, [N] float64 each, of the first symbol.

    Args:
        market: shows raw features of the set "full55" and public information.
        seen: its last result.
    """
    state = market.live
    tape, value = state.tape, state.value
    count = len(market.feature_names) // market.config.num_symbols
    names = [name.split("@")[0] for name in market.feature_names[:count]]
    columns = dict(zip(names, seen.observation[:, :count].T.contiguous(), strict=True))
    level, log_mid = value.level[:, 0], tape.log_mid[:, 0]
    counter = noise.counters(_LUCK, 1, market.device)
    own = {
        "spread": tape.ask[:, 0] - tape.bid[:, 0],
        "headline": value.headline[:, 0],
        "print_gap": 2.0 * tape.close[:, 0] / tape.half_mids[:, 0, -1] - 1.0,
        "estimate_gap": level + value.estimate_error[:, 0] - log_mid,
        "exact_gap": level - log_mid,
        "maker_shares": ENTRIES["maker_shares"](market.config, state)[:, 0],
        "luck": noise.uniform(noise.bits(state.clock.key, state.clock.tick, counter))[:, 0],
    }
    return columns | {name: column.to(torch.float64, copy=True) for name, column in own.items()}


def reach(scene: Scene, target: int | Tensor) -> Tensor:
    """Shares [n] int64 towards a position of `target` shares, as many as one order may have."""
    return torch.clamp(target - scene.held, -scene.order, scene.order)


def lean(scene: Scene, share: Tensor) -> Tensor:
    """Shares [n] int64 towards a `share` [n] of the position limit, -1 to 1, in whole orders.

    Nothing is traded while the wish is less than an order away, so a signal that trembles does not cost a spread each tick.
    """
    away = share.clamp(-1.0, 1.0) * scene.limit - scene.held
    whole = torch.trunc(away / scene.order).to(torch.int64) * scene.order
    return torch.clamp(whole, -scene.order, scene.order)


def kept(scene: Scene) -> Tensor:
    """The position as a share of the limit, [n] float64: what `lean` leaves alone."""
    return scene.held / scene.limit
