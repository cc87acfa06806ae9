"""Where a profit comes from: the parts add up exactly, and each is what a hand would count."""

from __future__ import annotations

import math

import pytest
import torch
from markets import opened, toy

import torchgym as tg
from torchgym.lab.fills import Fills, markouts, profit, watch
from torchgym.lab.policies import BASELINES, baselines


def column(*values: int) -> torch.Tensor:
    """[T, 1, 1] of one market and symbol."""
    return torch.tensor(values).view(-1, 1, 1)


# Buys 2 at 99 with the mid at 100, which then goes to 98 and 101; sells 3 at 102 in the last tick, with 1 share from the start.
PAPER = Fills(
    mid_x2=column(200, 196, 202, 204),
    filled=column(2, 0, -3),
    paid=torch.tensor([[198], [0], [-306]]),
    charged=torch.tensor([[1], [0], [2]]),
    held=torch.tensor([[1]]),
)


def test_the_parts_by_hand() -> None:
    at_once, later = profit(PAPER), profit(PAPER, horizon=1)
    # In half points: (100 - 99) x 2 and (102 - 101) x 3 earned; at the end nothing is held.
    assert at_once.spread.tolist() == later.spread.tolist() == [2 * (2 + 3)]
    assert at_once.selection.tolist() == [2 * (196 - 200) - 3 * (204 - 202)]
    assert later.selection.tolist() == [2 * (202 - 200) - 3 * (204 - 202)]  # nothing follows the last mid
    assert at_once.fees.tolist() == [-6]
    assert at_once.total.tolist() == [2 * (-198 + 306 - 3) - 200]
    for parts in (at_once, later):
        assert torch.equal(parts.spread + parts.selection + parts.inventory + parts.fees, parts.total)
        assert torch.equal(parts.realised, parts.spread + parts.selection)


def test_markouts_by_hand() -> None:
    found = markouts(PAPER, (0, 1, 99))
    assert found.tolist() == [[-7 * 2 / 2 / 5], [(4 - 6) / 2 / 5], [(2 * 4 - 3 * 2) / 2 / 5]]
    nothing = Fills(PAPER.mid_x2, column(0, 0, 0), PAPER.paid * 0, PAPER.charged, PAPER.held)
    assert math.isnan(markouts(nothing, (1,)).item())


@pytest.mark.parametrize("horizon", [0, 1, 30])
@pytest.mark.parametrize(
    "config",
    [
        toy(quotes=2, action="depths", priority="time", num_symbols=2, maker_bps=-0.3),
        toy(action="sized", starting_shares=20, borrow_ppb=100_000),
        tg.preset("as_null"),
    ],
    ids=["quotes", "trades", "closed form"],
)
def test_the_parts_add_up_to_the_profit_in_every_episode(config: tg.MarketConfig, horizon: int) -> None:
    market = opened(config, 4)
    before = market.live.ledger.equity_x2.clone()
    fills = watch(market, BASELINES["random"].make(config, torch.arange(4)), 60)
    parts = profit(fills, horizon)
    assert torch.equal(parts.spread + parts.selection + parts.inventory + parts.fees, parts.total)
    assert torch.equal(parts.total, (market.live.ledger.equity_x2 - before)[:, 0])
    assert bool((fills.filled != 0).any())


def test_other_markets_are_refused() -> None:
    for changes in ({"num_learners": 2}, {"ticks_per_action": 2}, {"mark": "liquidation"}):
        with pytest.raises(ValueError, match="fills are told apart for one learner, tick by tick, at the mid"):
            watch(opened(toy(**changes), 1), lambda result: torch.ones(1, 1, dtype=torch.int64), 1)
    with pytest.raises(ValueError, match="an episode ended after 8 of 9 ticks: watch fewer"):
        watch(opened(toy(max_ticks=8), 1), lambda result: torch.ones(1, 1, dtype=torch.int64), 9)


def test_baselines_fit_their_markets() -> None:
    quoting = set(baselines(tg.task("MarketMaking")))
    assert quoting == {"hold", "random", "symmetric_quotes", "avellaneda_stoikov", "gueant_lehalle"}
    assert not quoting & set(baselines(tg.task("Execution"))) - {"hold", "random"}
