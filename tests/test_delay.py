"""Actions that take time to arrive, and what is seen late: against the same market without delays."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from markets import acting, differences, random_actions
from torch import Tensor

from torchgym.config import MarketConfig, preset
from torchgym.engine import Market, StepResult
from torchgym.numerics.trees import leaves
from torchgym.sim.invariants import first_broken, standing, total_cash, total_shares

MARKETS, TICKS = 4, 30


def opened(action: str = "sized", markets: int = MARKETS, **changes: Any) -> Market:
    market = Market(preset("toy", max_ticks=40, action=action, **changes), markets, seed=5, compile=False)
    market.reset()
    return market


def choices(ticks: int = TICKS, count: int = 7) -> Tensor:
    return torch.randint(0, count, (ticks, MARKETS, 1), generator=torch.Generator().manual_seed(1))


def played(market: Market, actions: Tensor) -> list[StepResult]:
    return [market.observe(), *(market.step(action) for action in actions)]


def same(one: StepResult, other: StepResult) -> bool:
    """What is seen, and every info."""
    pairs = ((one.observation, other.observation), (one.account, other.account))
    infos = ((one.info[name], other.info[name]) for name in one.info)
    return all(torch.equal(first, second) for first, second in (*pairs, *infos))


def test_room_for_delays_changes_no_bit() -> None:
    actions = choices()
    plain, roomy = played(opened(), actions), played(opened(longest_delay=8), actions)
    assert all(same(one, other) for one, other in zip(plain, roomy, strict=True))


@pytest.mark.parametrize("action", ["sized", "position", "weights", "quotes"])
@pytest.mark.parametrize("delays", [{"latency": 1}, {"feed_delay": 2}, {"latency": 3, "ticks_per_action": 2}])
def test_what_is_on_its_way_is_saved(action: str, delays: dict[str, int], tmp_path: Path) -> None:
    """Right after an opening nothing is, which for numbers is no number."""
    market = Market(acting(action, max_ticks=40, **delays), 2, seed=5, compile=False)
    market.reset()
    decisions = random_actions(market.config, 4, 2)
    for decided in (None, *decisions):
        if decided is not None:
            market.step(decided)
        market.save(tmp_path / "market.pt")
        again = Market.load(tmp_path / "market.pt", compile=False)
        for later in random_actions(market.config, 3, 2, seed=1):
            assert differences(market.fork().step(later).info, again.fork().step(later).info) == []
    content = torch.load(tmp_path / "market.pt", weights_only=True)
    assert "delays.asked" in content["state"]


@pytest.mark.parametrize(
    ("action", "foreign"), [("sized", 7), ("sized", -2), ("position", 1.5), ("position", math.inf)]
)
def test_what_no_learner_can_have_sent_is_refused(action: str, foreign: float) -> None:
    market = Market(acting(action, max_ticks=40, latency=1), 2, seed=5, compile=False)
    market.reset()
    state = market.state
    assert state.delays is not None
    asked = state.delays.asked.clone()
    asked[1, 0, -1] = foreign
    forged = replace(state, delays=replace(state.delays, asked=asked))
    broken = first_broken(standing(market.structure, market.params, forged))
    assert broken == ("actions on their way are of the scheme, or rest", "1")
    assert first_broken(standing(market.structure, market.params, state)) is None


@pytest.mark.parametrize("delay", [1, 3, 8])
@pytest.mark.parametrize("ticks_per_action", [1, 2])
def test_the_feed_shows_what_was(delay: int, ticks_per_action: int) -> None:
    """Observation and account are those of so many ticks ago; rewards and info are not delayed."""
    actions = choices(TICKS // ticks_per_action)
    held = actions.repeat_interleave(ticks_per_action, 0)
    held[torch.arange(len(held)) % ticks_per_action != 0] = 3  # the hold: as in the later ticks of a decision
    plain = played(opened(collar=0.5), held)  # with the usual collar the limits depend on what is seen
    late = played(opened(collar=0.5, feed_delay=delay, ticks_per_action=ticks_per_action), actions)
    for at, result in enumerate(late):
        now = at * ticks_per_action
        assert torch.equal(result.info["mid"], plain[now].info["mid"])
        assert torch.equal(result.info["equity"], plain[now].info["equity"])
        if now >= delay:
            assert torch.equal(result.observation, plain[now - delay].observation)
            assert torch.equal(result.account, plain[now - delay].account)
    assert not torch.equal(late[-1].observation, plain[-1].observation)


@pytest.mark.parametrize("latency", [1, 2, 8])
def test_orders_arrive_late(latency: int) -> None:
    """An order whose size does not depend on what is seen is the same order later."""
    actions = choices()
    waiting = torch.cat([torch.full((latency, MARKETS, 1), 3), actions])[:TICKS]
    plain, late = played(opened(collar=0.5), waiting), played(opened(collar=0.5, latency=latency), actions)
    assert all(same(one, other) for one, other in zip(plain, late, strict=True))
    assert bool((plain[-1].info["turnover"] != 0).any() or (plain[-2].info["turnover"] != 0).any())


def test_quotes_stand_around_the_mid_that_was_seen() -> None:
    latency, feed_delay = 2, 3
    market = opened("depths", quotes=1, latency=latency, feed_delay=feed_delay)
    mids, depth, compared = [market.state.market_data.mids_x2[..., -1].clone()], 31.0, 0
    for _ in range(20):
        market.step(torch.full((MARKETS, 2), depth, dtype=torch.float64))
        mids.append(market.state.market_data.mids_x2[..., -1].clone())
        prices, sizes = market.state.book.price[..., -2:], market.state.book.size[..., -2:]
        decided = len(mids) - 2 - latency  # at the end of this tick
        if decided < 0:
            assert bool((sizes == 0).all())
            continue
        seen = mids[max(decided - feed_delay, 0)].double() * 0.5
        if decided >= feed_delay:
            bids, asks = torch.floor(seen - depth), torch.ceil(seen + depth)
            free = (sizes[..., 0] > 0) & (sizes[..., 1] < 0)
            compared += int(free.sum())
            assert bool(((prices[..., 0] <= bids) & (prices[..., 1] >= asks))[free].all())  # post-only, so never nearer
            assert bool(((prices[..., 0] == bids) | (prices[..., 1] == asks))[free].all())
    assert compared > 20


def test_a_target_is_not_traded_twice() -> None:
    """What is held is looked up when the action arrives."""
    market = opened("position", latency=4)
    half = torch.full((MARKETS, 1), 0.5, dtype=torch.float64)
    for _ in range(20):
        held = market.step(half).info["position"]
    assert held.flatten().tolist() == [25] * MARKETS


def test_cancellations_are_late_too() -> None:
    market = opened("depths", quotes=1, latency=3)
    quote, cancel = (torch.full((MARKETS, 2), depth, dtype=torch.float64) for depth in (25.0, 32.0))
    rests = []
    for at in range(12):
        market.step(quote if at < 5 else cancel)
        rests.append(bool((market.state.book.size[..., -2:] != 0).any()))
    assert rests == [False] * 3 + [True] * 5 + [False] * 4


def test_delays_are_drawn_per_market() -> None:
    config = preset("toy", max_ticks=40, randomize={"latency": (0, 4), "feed_delay": (1, 8)})
    assert config.longest_delay == 8
    market = Market(config, 64, seed=0, compile=False)
    market.reset()
    assert set(market.params.latency.flatten().tolist()) == {0, 1, 2, 3, 4}
    assert set(market.params.feed_delay.flatten().tolist()) == set(range(1, 9))
    row = 17
    alone = Market(config, 1, seed=row, compile=False)
    alone.reset()
    for action in torch.randint(0, 3, (20, 64, 1), generator=torch.Generator().manual_seed(2)):
        together, single = market.step(action), alone.step(action[row : row + 1])
        assert torch.equal(together.observation[row], single.observation[0])
        assert torch.equal(together.info["filled"][row], single.info["filled"][0])


def test_several_learners_and_symbols_conserve_everything() -> None:
    config = preset(
        "toy",
        max_ticks=40,
        num_learners=2,
        num_symbols=2,
        action="quotes",
        quotes=2,
        latency=2,
        feed_delay=1,
        priority="time",
    )
    market = Market(config, 3, seed=1, compile=False, debug=True)
    market.reset()
    generator = torch.Generator().manual_seed(3)
    for _ in range(25):
        market.step(torch.rand((3, 2, 4), generator=generator, dtype=torch.float64))
    state = market.state
    assert total_cash(state.accounts, state.ledger).tolist() == [2 * config.starting_cash] * 3
    assert bool((total_shares(state.accounts, state.ledger) == 0).all())


def test_a_market_with_things_on_their_way_goes_on_as_it_would_have(tmp_path: Any) -> None:
    actions = choices()
    market = opened(latency=3, feed_delay=2)
    played(market, actions[:10])
    market.save(tmp_path / "market.pt")
    loaded, fork = Market.load(tmp_path / "market.pt", compile=False), market.fork()
    told = [[result.observation for result in played(one, actions[10:])] for one in (market, loaded, fork)]
    assert all(
        torch.equal(first, other)
        for row in zip(*told, strict=True)
        for first, other in ((row[0], row[1]), (row[0], row[2]))
    )
    ends = [dict(leaves(one.state)) for one in (market, loaded)]
    assert all(torch.equal(leaf, ends[1][name]) for name, leaf in ends[0].items())


def test_resets_forget_what_was_on_its_way() -> None:
    market = opened(latency=2, feed_delay=2)
    first = market.observe()
    played(market, choices()[:5])
    again = market.reset(seeds=torch.arange(5, 5 + MARKETS))
    assert torch.equal(first.observation, again.observation)
    assert market.step(torch.full((MARKETS, 1), 3)).info["filled"].abs().sum() == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latency": 9}, "latency must be an integer <= 8, got 9"),
        ({"feed_delay": -1}, "feed_delay must be an integer >= 0, got -1"),
        ({"latency": 3, "longest_delay": 2}, "latency = 3 exceeds longest_delay = 2, .* give longest_delay=3"),
        ({"randomize": {"latency": (0, 5)}, "longest_delay": 4}, "latency = 5 exceeds longest_delay = 4"),
    ],
)
def test_impossible_delays_name_the_remedy(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MarketConfig(**changes)


def test_numbers_of_markets_stay_within_the_longest_delay() -> None:
    with pytest.raises(ValueError, match="latency = 2 exceeds longest_delay = 0"):
        Market(MarketConfig(), 1, params={"latency": 2})
    market = Market(preset("toy", longest_delay=2), 2, params={"latency": [0, 2]}, seed=0, compile=False)
    market.reset()
    filled = [market.step(torch.tensor([[2], [2]])).info["filled"].abs().flatten().tolist() for _ in range(3)]
    assert [shares[1] for shares in filled[:2]] == [0, 0] and filled[0][0] > 0 and filled[2][1] > 0
