"""Where a learner's profit comes from: spread earned, what prices did after its fills, what it held, and what it paid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.engine import Market, StepResult
from torchgym.sim.state import MarketState, paid


@dataclass(frozen=True)
class Fills:
    """Episodes tick by tick, T ticks of N markets, int64: what everything below follows from."""

    mid_x2: Tensor  # [T + 1, N, S] half points, before the first tick and after each
    filled: Tensor  # [T, N, S] shares the learner traded, positive when it bought
    paid: Tensor  # [T, N] points x shares paid for them, fees not included
    charged: Tensor  # [T, N] points x shares: commission and borrow charge, less rebates
    held: Tensor  # [N, S] shares at the beginning


@dataclass(frozen=True)
class Profit:
    """Parts of an episode's profit, [N] int64 half points x shares each; the four add up to `total` exactly.

    `spread` is what fills earned against the mid before their tick (effective spread). `selection` is what the mid moved for or
    against them until `horizon` ticks after it, `inventory` what it moved for or against all that was held, those moves aside.
    What is paid is negative.
    """

    spread: Tensor
    selection: Tensor
    inventory: Tensor
    fees: Tensor
    total: Tensor

    @property
    def realised(self) -> Tensor:
        """The realised spread: what fills earned against the mid `horizon` ticks later."""
        return self.spread + self.selection


def watch(market: Market, policy: Callable[[StepResult], Tensor], ticks: int) -> Fills:
    """Play from where the market stands and note every fill.

    Args:
        market: opened, with one learner, a decision every tick, and equity marked at the mid.
        policy: the action for what was seen last.
        ticks: T; no episode may end before.

    Raises:
        ValueError: for another market, or when an episode ends on the way, naming the tick.
    """
    config = market.config
    if config.num_learners > 1 or config.ticks_per_action > 1 or config.mark != "mid":
        raise ValueError(
            "fills are told apart for one learner, tick by tick, at the mid: num_learners=1, ticks_per_action=1, mark='mid', got"
            f" {config.num_learners}, {config.ticks_per_action}, {config.mark!r}"
        )
    result, notes = market.observe(), Notes(market.live)
    for tick in range(ticks):
        result = market.step(policy(result))
        notes.add(market.live)
        if bool((result.terminated | result.truncated).any()) and tick + 1 < ticks:
            raise ValueError(f"an episode ended after {tick + 1} of {ticks} ticks: watch fewer")
    return notes.fills()


class Notes:
    """What is noted of markets with one learner, tick by tick, from the given state on."""

    def __init__(self, state: MarketState) -> None:
        self._before, self._held = state.ledger, state.ledger.shares[..., 0].clone()
        self._mids, self._rows = [_mid_x2(state)], list[tuple[Tensor, Tensor, Tensor]]()

    def add(self, state: MarketState) -> None:
        """Note a tick that has been played, a single one."""
        after = state.ledger
        spent, charged = paid(self._before, after)
        self._rows.append((after.filled[..., 0].clone(), spent[:, 0], charged[:, 0]))
        self._mids.append(_mid_x2(state))
        self._before = after

    def fills(self) -> Fills:
        """All that was noted, of one tick at least."""
        filled, paid, charged = (torch.stack(column) for column in zip(*self._rows, strict=True))
        return Fills(torch.stack(self._mids), filled, paid, charged, self._held)


def _mid_x2(state: MarketState) -> Tensor:
    return state.market_data.mids_x2[..., -1].clone()


def markouts(fills: Fills, horizons: tuple[int, ...]) -> Tensor:
    """What the mid did so many ticks after a fill, per share filled: [H, N] float64 points, positive in the learner's favour.

    It is counted from the mid before the tick of the fill; the mid after the last tick stands for what lies beyond. Not a number
    in markets without fills.

    Source: Glosten and Milgrom (1985) on adverse selection; measured as by Huang and Stoll (1996), Dealer versus auction markets.
    """
    shares = fills.filled.abs().sum((0, 2)).to(torch.float64)
    moved = [(fills.filled * _moves(fills, horizon)).sum((0, 2)).to(torch.float64) for horizon in horizons]
    return torch.stack(moved) * 0.5 / torch.where(shares > 0, shares, torch.nan)


def _moves(fills: Fills, horizon: int) -> Tensor:
    """From the mid before each tick to that so many ticks after it, [T, N, S] int64 half points."""
    last = fills.mid_x2.shape[0] - 1
    later = (torch.arange(last, device=fills.mid_x2.device) + 1 + horizon).clamp(max=last)
    return fills.mid_x2[later] - fills.mid_x2[:-1]


def profit(fills: Fills, horizon: int = 0) -> Profit:
    """The parts of the profit; `horizon` ticks after the tick of a fill its mid counts.

    Source: the decomposition into realised spread and price impact of Huang and Stoll (1996).
    """
    earned = (fills.filled * fills.mid_x2[:-1]).sum((0, 2)) - 2 * fills.paid.sum(0)
    selection = (fills.filled * _moves(fills, horizon)).sum((0, 2))
    after = fills.held + fills.filled.cumsum(0)
    moved = (after * (fills.mid_x2[1:] - fills.mid_x2[:-1])).sum((0, 2))
    fees = -2 * fills.charged.sum(0)
    worth = (after[-1] * fills.mid_x2[-1] - fills.held * fills.mid_x2[0]).sum(-1)
    total = worth - 2 * (fills.paid + fills.charged).sum(0)
    return Profit(earned, selection, moved - selection, fees, total)
