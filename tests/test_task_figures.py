"""Figures of single tasks: what they show is what the traced episode says, and no other run has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from markets import toy

import torchgym as tg
from torchgym import MarketConfig
from torchgym.lab.execution import almgren_chriss
from torchgym.lab.fills import profit
from torchgym.lab.performance.trace import Trace, trace
from torchgym.lab.policies import BASELINES
from torchgym.lab.policy import MakePolicy
from torchgym.visual.report.figures import PageFigure
from torchgym.visual.report.task_figures import quote_figures, task_figures

pytestmark = pytest.mark.kept

SEED = 3
MAKING = tg.task("MarketMaking", "toy", max_ticks=120, maker_bps=1.0)
EXECUTION = tg.task("Execution", "toy", max_ticks=100)
PORTFOLIO = tg.task("Portfolio", "toy", max_ticks=40, ticks_per_action=10, num_symbols=3)


def played(config: MarketConfig, make: MakePolicy) -> tuple[Trace, dict[str, PageFigure]]:
    found = trace(config, make(config, torch.tensor([SEED])), SEED, time_columns=2)
    figures = [*quote_figures(config, found, "it"), *task_figures(config, found, "it")]
    return found, {each.name: each for each in figures}


@pytest.fixture(scope="module")
def making() -> tuple[Trace, dict[str, PageFigure]]:
    return played(MAKING, BASELINES["symmetric_quotes"].make)


def traces(figure: PageFigure) -> dict[str, Any]:
    return {each.name: each for each in figure.figure.data}


def test_a_trace_has_the_places_and_an_exact_account_of_the_fills(making: Any) -> None:
    found, _ = making
    assert found.places["price"].shape == (121, 1, 2, 1)
    size, price = found.places["size"][..., 0], found.places["price"][..., 0]
    assert torch.equal(size == 0, price.isnan()) and bool((size > 0).any())
    assert torch.equal(found.fills.filled[:, 0], found.filled[1:])
    earned = profit(found.fills).total.item() * 0.5 * MAKING.point_size
    assert earned == pytest.approx((found.equity[-1] - found.equity[0]).item(), abs=1e-9)
    plain, none = played(toy(max_ticks=4), BASELINES["hold"].make)
    assert plain.places == {} and none == {}


def test_quotes_and_fills_are_drawn_where_they_were(making: Any) -> None:
    found, figures = making
    assert list(figures) == ["quotes", "fills"]
    shown = traces(figures["quotes"])
    np.testing.assert_array_equal(shown["own bid"].y, found.places["price"][:, 0, 0, 0])
    np.testing.assert_array_equal(shown["own ask"].y, found.places["price"][:, 0, 1, 0])
    rests = found.places["size"][:, 0, 0, 0] > 0
    front = (found.places["ahead"] + found.places["older"])[:, 0, 0, 0]
    np.testing.assert_array_equal(shown["ahead of the bid"].y[rests], front[rests])
    assert np.isnan(shown["ahead of the bid"].y[~rests]).all()
    for side, name in enumerate(("bought resting", "sold resting")):
        filled = found.places["filled"][:, 0, side, 0]
        np.testing.assert_array_equal(shown[name].x, found.tick[filled != 0])
        np.testing.assert_allclose(shown[name].y, found.places["fill_price"][filled != 0, 0, side, 0])
        assert len(shown[name].x) > 3
    assert "bought at market" not in shown


def test_orders_at_market_are_told_from_those_that_rested() -> None:
    """The scheme limit sells what is held: here by two orders at market, then by an order that rests."""
    config = toy(max_ticks=30, quotes=1, action="limit", order_size=5, starting_shares=20)
    choices = iter([2, 2] + [3] * 28)
    found, figures = played(config, lambda config, seeds: lambda seen: torch.full((1, 1), next(choices)))
    assert list(figures) == ["quotes", "fills", "execution"]
    shown = traces(figures["quotes"])
    assert shown["sold at market"].x.tolist() == [1, 2]
    np.testing.assert_allclose(shown["sold at market"].y, found.fill_price[1:3, 0])
    assert shown["sold resting"].x.min() > 2


def test_the_parts_of_the_profit_add_up_to_it(making: Any) -> None:
    found, figures = making
    bars, kept = figures["fills"].figure.data
    assert list(bars.x) == ["Spread", "Selection", "Inventory", "Fees", "Profit"]
    gain = (found.equity[-1] - found.equity[0]).item()
    assert sum(bars.y) == pytest.approx(gain, abs=1e-9)
    assert bars.y[0] > 0 > bars.y[3]
    assert figures["fills"].figure.layout.xaxis2.type == "category"  # or Plotly takes the names for numbers
    # Against the mid before its tick each share earned the spread.
    shares = found.filled.abs().sum().item()
    assert kept.y[0] * shares * MAKING.point_size == pytest.approx(bars.y[0])
    # Thirty ticks later, what is left of it.
    assert kept.y[list(kept.x).index("+30")] * shares * MAKING.point_size == pytest.approx(bars.y[0] + bars.y[1])


@pytest.mark.parametrize("make", [BASELINES["twap_liquidator"].make, almgren_chriss(1e-7)], ids=["twap", "theory"])
def test_execution_is_drawn_beside_its_schedules(make: MakePolicy) -> None:
    found, figures = played(EXECUTION, make)
    assert list(figures) == ["execution"]
    shown = traces(figures["execution"])
    np.testing.assert_array_equal(shown["it"].y, found.position[:, 0])
    np.testing.assert_allclose(shown["equal slices"].y, np.linspace(1_000, 0, 11))
    best = shown["Almgren–Chriss"].y
    assert best[0] == pytest.approx(1_000) and best[-1] == pytest.approx(0.0) and (np.diff(best) < 0).all()
    if make is not BASELINES["twap_liquidator"].make:  # it follows what is drawn, a share at most beside it
        assert np.abs(found.position[::10, 0].numpy() - best).max() <= 1.0
    # By the cash: what the shares have brought, and those left at the mid.
    worth = 1_000 * found.mid[0, 0]
    cash = -found.fills.paid.sum() - found.fills.charged.sum()
    brought = cash.item() * EXECUTION.point_size + (found.position[-1] * found.mid[-1]).item()
    assert shown["shortfall"].y[-1] == pytest.approx(1e4 * (worth - brought).item() / worth.item())
    assert shown["shortfall"].y[0] == 0.0


def test_weights_are_parts_of_the_equity() -> None:
    found, figures = played(PORTFOLIO, BASELINES["buy_and_hold"].make)
    assert list(figures) == ["weights"]
    shown = traces(figures["weights"])
    assert list(shown) == ["cash", "symbol 0", "symbol 1", "symbol 2"]
    np.testing.assert_allclose(sum(each.y for each in shown.values()), 100.0)
    held = 100.0 * found.position[:, 1] * found.mid[:, 1] / found.equity
    np.testing.assert_allclose(shown["symbol 1"].y, held)
    assert held.max() > 10.0
    assert {each.stackgroup for each in shown.values()} == {"all"}
