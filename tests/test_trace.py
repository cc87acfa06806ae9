"""One episode tick by tick: the same market and the same sight of it as in decisions of several ticks; what is written down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from markets import EVERYTHING, differences, opened, same_bits, seen, toy
from torch import Tensor

import torchgym as tg
from torchgym import Market, MarketConfig, StepResult
from torchgym.lab.performance.trace import Trace, trace
from torchgym.lab.quoting import symmetric
from torchgym.readout.depth import depth
from torchgym.sim.actions import Choices, scheme

pytestmark = pytest.mark.kept

SEED = 11


class Follower:
    """Acts on everything that a step tells, and remembers what it was shown."""

    def __init__(self, config: MarketConfig) -> None:
        self.config = config
        self.shown: list[dict[str, Any]] = []
        self.chosen: list[Tensor] = []

    def __call__(self, result: StepResult) -> Tensor:
        self.shown.append(seen(result))
        told = result.info["filled"].sum() * 31 + (1e3 * result.reward + result.info["turnover"]).sum().long()
        turn = len(self.shown) * 7 + told + (1e6 * result.account.sum()).long()
        space = scheme(self.config).space
        choice = turn + torch.arange(space.width(self.config.num_symbols))
        if isinstance(space, Choices):
            self.chosen.append((choice % space.count).unsqueeze(0))
        else:  # close quotes, which trade
            told = told + result.info["rested"].sum() + 3 * result.info["self_cancelled"].sum()
            self.chosen.append((0.1 * ((choice + told) % 8)).double().unsqueeze(0))
        return self.chosen[-1]


def played(config: MarketConfig, policy: Callable[[StepResult], Tensor]) -> tuple[list[StepResult], Market]:
    """Every result of the same episode in whole decisions."""
    market = Market(config, 1, seed=SEED)
    results = [market.reset()]
    while not bool(results[-1].terminated | results[-1].truncated):
        results.append(market.step(policy(results[-1])))
    return results, market


# The last one is ruined in the middle of a decision at whose end it would be solvent again: its episode ends early.
CONFIGS = {
    "everything": EVERYTHING.replace(max_ticks=24),
    "odd": toy(ticks_per_action=5, max_ticks=60),
    "single": toy(max_ticks=30),
    "points": toy(ticks_per_action=5, max_ticks=20, randomize={"point_size": (0.002, 0.05), "max_ticks": (10, 20)}),
    "quotes": tg.task("MarketMaking", "toy", max_ticks=60, ticks_per_action=5),
    "ruin": toy(ticks_per_action=5, max_ticks=60, maintenance=9_997_880, commission_bps=20.0),
}


@pytest.fixture(scope="module", params=CONFIGS)
def both(
    request: pytest.FixtureRequest,
) -> tuple[MarketConfig, Trace, list[dict[str, Any]], list[dict[str, Any]], Market]:
    config = CONFIGS[request.param]
    stepping, deciding = Follower(config), Follower(config)
    found = trace(config, stepping, SEED, time_columns=13)
    results, market = played(config, deciding)
    return config, found, stepping.shown, [seen(result) for result in results], market


def test_the_policy_is_shown_what_a_market_of_whole_decisions_shows(both: Any) -> None:
    _, _, shown, told, _ = both
    assert len(shown) == len(told) - 1
    assert [differences(one, other) for one, other in zip(shown, told, strict=False)] == [[]] * len(shown)
    assert any(int(one["info"]["filled"].abs().sum()) > 0 for one in shown)


def test_the_rows_at_decisions_are_that_markets(both: Any) -> None:
    config, found, _, told, _ = both
    every = config.ticks_per_action
    assert same_bits(found.tick, torch.arange((len(told) - 1) * every + 1))
    assert same_bits(found.equity[::every], torch.cat([one["info"]["equity"] for one in told]))
    assert same_bits(found.position[::every], torch.cat([one["info"]["position"] for one in told]))
    filled = torch.cat([one["info"]["filled"] for one in told[1:]])
    assert same_bits(found.filled[1:].reshape(-1, every, config.num_symbols).sum(1), filled)
    assert same_bits(found.position[0] + found.filled.cumsum(0), found.position)


def test_the_episode_ends_as_the_market_does(both: Any) -> None:
    config, found, _, told, market = both
    ruined = bool(told[-1]["terminated"])
    assert ruined == (config.maintenance > 0)
    assert (int(found.tick[-1]) == int(market.state.clock.last)) != ruined
    assert found.equity[-1].item() > config.maintenance * config.point_size


def test_rows_are_what_a_market_of_single_ticks_records() -> None:
    config = CONFIGS["odd"]
    follower = Follower(config)
    found = trace(config, follower, SEED)
    waiting = [None] * (config.ticks_per_action - 1)
    plan = iter([action for chosen in follower.chosen for action in (chosen, *waiting)])
    paths = opened(config.replace(ticks_per_action=1), 1, seed=SEED).run(config.max_ticks, lambda _: next(plan))
    for name in ("bid", "ask", "mid", "close", "value", "estimate", "news", "volume", "position", "equity"):
        assert same_bits(getattr(found, name)[1:], paths[name][0]), name


def test_fills_are_priced_by_what_they_cost() -> None:
    config = CONFIGS["single"]
    found = trace(config, Follower(config), SEED)
    traded = found.filled[:, 0] != 0
    assert 0 < int(traded.sum()) < len(traded)
    assert torch.equal(traded, ~found.fill_price[:, 0].isnan())
    # A standard order walks the standing book at its start: it never pays less than the ask shown before it.
    bought, sold = found.filled[1:, 0] > 0, found.filled[1:, 0] < 0
    assert bool((found.fill_price[1:, 0] >= found.ask[:-1, 0])[bought].all())
    assert bool((found.fill_price[1:, 0] <= found.bid[:-1, 0])[sold].all())
    assert bool(bought.any()) and bool(sold.any())


def test_a_tick_that_bought_and_sold_has_no_price_of_its_own() -> None:
    config = tg.task("MarketMaking", "toy", max_ticks=200)
    found = trace(config, symmetric(1.0)(config, torch.tensor([0])), 0)
    gross = torch.nn.functional.pad(found.fills.filled[:, 0].abs(), (0, 0, 1, 0))
    priced = ~found.fill_price.isnan()
    assert 0 < int(priced.sum()) < int((gross != 0).sum())
    assert ((found.fill_price - found.mid).abs()[priced] < 1.0).all()  # prices are about 100


def test_symbols_that_trade_at_once_have_no_price_of_their_own() -> None:
    found = trace(CONFIGS["everything"], Follower(EVERYTHING), SEED)
    at_once = (found.filled != 0).sum(-1)
    assert bool((at_once > 1).any())
    assert torch.equal(~found.fill_price.isnan(), (found.filled != 0) & (at_once == 1).unsqueeze(-1))


def test_the_book_is_looked_at_in_whole_where_it_fits() -> None:
    config = CONFIGS["single"]
    found = trace(config, lambda _: torch.tensor([1]), SEED, price_rows=10_000)
    market = opened(config, 1, seed=SEED)
    assert found.depth_time.tolist() == found.tick.tolist()
    for column in found.depth:
        prices, sizes = depth(market.state)
        shown = dict(
            zip(
                [round(price / config.point_size) for price in found.depth_price.tolist()], column.tolist(), strict=True
            )
        )
        standing = {price: size for price, size in zip(prices.tolist(), sizes.tolist(), strict=True) if price in shown}
        assert {price: size for price, size in shown.items() if size} == standing
        market.step()
    assert len(standing) > 10


def test_a_coarse_picture_of_the_book_adds_levels_up() -> None:
    config = CONFIGS["single"]
    fine, coarse = (
        trace(config, lambda _: torch.tensor([1]), SEED, price_rows=rows, time_columns=4) for rows in (10_000, 15)
    )
    assert coarse.depth_time.tolist() == [0, 10, 20, 30] == fine.depth_time.tolist()
    assert coarse.depth.shape[1] <= 15 < fine.depth.shape[1]
    assert torch.equal(coarse.depth.sum(1), fine.depth.sum(1))
    heights = torch.diff(coarse.depth_price)
    step = round(float(heights[0]) / config.point_size)
    assert torch.allclose(heights, torch.full_like(heights, step * config.point_size))
    padded = torch.nn.functional.pad(fine.depth, (0, step * coarse.depth.shape[1] - fine.depth.shape[1]))
    assert torch.equal(padded.unflatten(1, (-1, step)).sum(-1), coarse.depth)
    assert coarse.depth_price[0].item() == pytest.approx(fine.depth_price[:step].mean().item())


@pytest.mark.parametrize("bad", [{"price_rows": 0}, {"time_columns": 1}])
def test_a_picture_without_extent_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must be at least"):
        trace(toy(), lambda _: torch.tensor([1]), SEED, **bad)


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"policy must be a function, got 'momentum': it takes"):
        trace(toy(), "momentum", SEED)  # type: ignore[arg-type]
