"""`Market`: opening, stepping, observing, recording, saving and forking; and every refusal leaves the market as it was."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from markets import EVERYTHING, cold, differences, opened, random_actions, seen, toy
from torch import Tensor

import torchgym as tg
from torchgym import Market, MarketConfig
from torchgym import engine as market
from torchgym.config import Fundamentals
from torchgym.engine import read_content, write_content
from torchgym.numerics.trees import clone, leaves
from torchgym.numerics.trees import rows as take_rows
from torchgym.readout.entries import PATHS
from torchgym.readout.features import FEATURE_SETS
from torchgym.readout.rewards import REWARDS
from torchgym.sim import accounts, fundamental, matching
from torchgym.sim.actions import ACTIONS
from torchgym.sim.invariants import BrokenInvariant, total_cash, total_shares
from torchgym.sim.state import Ledger

MARKETS, SYMBOLS = 3, 2
CONFIG = toy(num_symbols=SYMBOLS)
SELL, HOLD, BUY = 0, 1, 2


@pytest.fixture(scope="module")
def original() -> Market:
    """Opened once; tests take forks of it."""
    return opened(CONFIG, MARKETS)


@pytest.fixture
def one(original: Market) -> Market:
    return original.fork()


def all_do(choice: int) -> Tensor:
    return torch.full((MARKETS,), choice)


def test_the_first_sight(original: Market) -> None:
    result = original.observe()
    assert result.observation.shape == (MARKETS, 54 * SYMBOLS)
    assert result.account.shape == (MARKETS, SYMBOLS + 3)
    assert result.observation.dtype == result.account.dtype == result.reward.dtype == torch.float64
    assert len(original.feature_names) == 54 * SYMBOLS
    assert result.observation.isfinite().all()
    assert result.info["tick"].tolist() == [0] * MARKETS
    assert result.info["equity"].tolist() == [CONFIG.starting_cash * CONFIG.point_size] * MARKETS
    assert not result.terminated.any()
    assert not result.truncated.any()
    for name in ("reward_pnl", "realized_pnl", "fees", "borrow", "turnover"):
        assert result.info[name].tolist() == [0.0] * MARKETS
    assert result.info["position"].tolist() == result.info["filled"].tolist() == [[0] * SYMBOLS] * MARKETS


def test_a_market_opens_warm(original: Market) -> None:
    market_data, book = original.state.market_data, original.state.book
    assert (market_data.mids_x2[..., 1:] != market_data.mids_x2[..., :-1]).any(-1).all()
    assert (market_data.volumes > 0).any(-1).all()
    assert ((book.size > 0).any(-1) & (book.size < 0).any(-1)).all()


@pytest.mark.parametrize("held", [45, -45])
@pytest.mark.parametrize("mark", ["mid", "liquidation"])
def test_an_episode_may_begin_with_shares(mark: str, held: int, original: Market) -> None:
    terms = {"starting_shares": held, "mark": mark, "borrow_ppb": 1_000_000}
    config = CONFIG.replace(reward={"pnl": 1.0, "risk_adjusted": 1.0}, **terms)
    loaded = opened(config, MARKETS)
    cold_start = loaded._openings.blank().ledger
    state, result = loaded.state, loaded.observe()
    assert torch.equal(state.market_data.mids_x2, original.state.market_data.mids_x2)  # who holds moves nothing
    assert result.info["position"].tolist() == [[held] * SYMBOLS] * MARKETS
    assert result.account[:, :SYMBOLS].tolist() == [[held * (1.0 / config.position_limit)] * SYMBOLS] * MARKETS

    book, mid_x2, own = state.book, state.market_data.mids_x2[..., -1], state.ledger
    worth = own.shares[..., 0] * mid_x2
    if mark == "liquidation":
        at_mid, worth = worth, matching.liquidation_value(loaded.structure, book, own.shares[..., 0], mid_x2)
        assert (worth < at_mid).all()
    assert torch.equal(own.equity_x2[:, 0], 2 * own.cash[:, 0] + worth.sum(-1))
    assert own.equity_x2.ne(cold_start.equity_x2).all()
    # The account begins at tick 0: nobody pays for the warm-up, and those who are short pay from then on.
    assert torch.equal(own.cash, torch.full_like(own.cash, config.starting_cash))
    assert not (own.borrow.any() or own.borrow_accrued.any() or own.realized.any() or own.ruined.any())
    assert loaded.step().info["borrow"].gt(0).all() == (held < 0)


def test_opening_quotes_mark_what_an_episode_begins_with() -> None:
    for mark in ("mid", "liquidation"):
        config = CONFIG.replace(starting_shares=45, mark=mark)
        quoted = cold(config, MARKETS)
        state = quoted.state
        mid_x2, held = state.market_data.mids_x2[..., -1], state.ledger.shares[..., 0]
        plan = quoted.structure
        worth = held * mid_x2 if mark == "mid" else matching.liquidation_value(plan, state.book, held, mid_x2)
        assert torch.equal(state.ledger.equity_x2[:, 0], 2 * config.starting_cash + worth.sum(-1))
        assert torch.equal(state.reward.peak_x2, state.ledger.equity_x2)
        assert mid_x2.ne(2 * config.list_price).all()


@pytest.mark.parametrize("per_action", [1, 3, 4])
def test_rewards_begin_after_the_warm_up(per_action: int) -> None:
    """Whatever starting shares have gained or lost by then: no drawdown is old, none is new."""
    config = CONFIG.replace(reward="risk_adjusted", starting_shares=45, max_ticks=60, ticks_per_action=per_action)
    whole, parts = opened(config, 8), opened(config, 8, seed=50)
    parts.reset(seeds=range(8), mask=torch.arange(8) < 5)
    parts.reset(seeds=range(8), mask=torch.arange(8) >= 5)
    for either in (whole, parts):
        memory, equity = either.state.reward, either.state.ledger.equity_x2
        assert torch.equal(memory.peak_x2, equity)
        assert not (memory.drawdown.any() or memory.mean_return.any() or memory.mean_square.any())
    assert differences(whole.state, parts.state) == []
    if per_action == 1:
        before = whole.state.ledger.equity_x2[:, 0]
        result = whole.step()
        change = (whole.state.ledger.equity_x2[:, 0] - before).double() * 0.5 * config.point_size
        assert torch.allclose(result.reward, change + 0.5 * change.clamp(max=0.0), rtol=1e-12, atol=0.0)
        assert change.gt(0).any() and change.lt(0).any()


def test_a_buy_pays_the_ask_that_was_shown() -> None:
    config = CONFIG.replace(order_size=1)
    small = opened(config, MARKETS)
    ask = small.state.market_data.ask
    result = small.step(all_do(BUY))
    assert result.info["filled"].tolist() == [[1] * SYMBOLS] * MARKETS
    assert torch.equal(result.info["turnover"], ask.sum(-1).double() * config.point_size)
    fees = sum(-(-2 * ask[:, at] // 10_000) for at in range(SYMBOLS))  # 2 bp, rounded up in each symbol
    assert torch.equal(result.info["fees"], fees.double() * config.point_size)
    assert small.state.ledger.cash[:, 0].tolist() == (config.starting_cash - ask.sum(-1) - fees).tolist()


def test_actions_per_market_and_per_symbol(one: Market) -> None:
    other = one.fork()
    first = one.step(torch.tensor([SELL, HOLD, BUY]))
    second = other.step(torch.tensor([[SELL] * 2, [HOLD] * 2, [BUY] * 2], dtype=torch.uint8))
    assert differences(seen(first), seen(second)) == []
    assert differences(one.state, other.state) == []
    assert first.info["position"].sign().tolist() == [[-1, -1], [0, 0], [1, 1]]
    mixed = other.step(torch.tensor([[BUY, HOLD], [SELL, BUY], [HOLD, HOLD]]))
    assert mixed.info["filled"].sign().tolist() == [[1, 0], [-1, 1], [0, 0]]


def test_no_action_holds(one: Market) -> None:
    other = one.fork()
    assert differences(seen(one.step()), seen(other.step(all_do(HOLD)))) == []
    assert one.observe().info["tick"].tolist() == [1] * MARKETS


def test_rewards_add_up_to_the_change_of_equity(one: Market) -> None:
    before = one.observe().info["equity"]
    total = torch.zeros(MARKETS, dtype=torch.float64)
    for action in random_actions(CONFIG, 40, MARKETS):
        result = one.step(action)
        total += result.reward
        assert torch.equal(result.reward, result.info["reward_pnl"])
    assert torch.allclose(total, result.info["equity"] - before, rtol=0.0, atol=1e-6)
    assert total.abs().min() > 0.0
    # The account explains it: realised profit plus what the open position has gained.
    own = one.state.ledger
    mids = one.state.market_data.mids_x2[..., -1]
    unrealized = (
        ((own.shares[..., 0] * mids).sum(-1) - 2 * own.basis[..., 0].sum(-1)).double() * 0.5 * CONFIG.point_size
    )
    assert torch.allclose(total, result.info["realized_pnl"] + unrealized, rtol=0.0, atol=1e-6)


def test_observe_does_not_move(one: Market) -> None:
    stepped = one.step(all_do(BUY))
    before = clone(one.state)
    again = one.observe()
    assert differences(before, one.state) == []
    for name in ("observation", "account", "terminated", "truncated"):
        assert torch.equal(getattr(again, name), getattr(stepped, name))
    assert again.reward.tolist() == [0.0] * MARKETS


def test_results_share_nothing_with_the_market(one: Market) -> None:
    before = clone(one.step(all_do(BUY)) and one.state)
    for result in (one.observe(), one.fork().step(all_do(SELL))):
        for _, leaf in leaves(seen(result)):
            leaf.zero_()
    assert differences(before, one.state) == []


def test_several_ticks_per_action_are_single_ticks_with_hold() -> None:
    ticks = 3
    slow, fast = opened(toy(max_ticks=30, ticks_per_action=ticks), 2), opened(toy(max_ticks=30), 2)
    assert differences(slow.state, fast.state) == []
    for action in random_actions(slow.config, 4, 2):
        long = slow.step(action)
        short = [fast.step(action), *(fast.step() for _ in range(ticks - 1))]
        assert differences(slow.state, fast.state) == []
        assert torch.equal(long.observation, short[-1].observation)
        assert torch.allclose(long.reward, sum(result.reward for result in short), rtol=0.0, atol=1e-9)
        assert torch.equal(long.info["turnover"], short[0].info["turnover"])
        assert torch.equal(long.info["filled"], short[0].info["filled"])
        assert long.info["tick"].tolist() == short[-1].info["tick"].tolist()


def test_ruin_at_any_tick_of_a_decision_ends_the_episode() -> None:
    """Maintenance is just below the starting cash: the spread and the commission of one trade are ruin."""
    start = MarketConfig().starting_cash
    config, markets = toy(max_ticks=40, ticks_per_action=4, maintenance=start - 3), 32
    one, single = opened(config, markets), opened(config.replace(ticks_per_action=1), markets)
    action = torch.tensor([BUY, HOLD] * (markets // 2))
    result, steps = one.step(action), [single.step(action), *(single.step() for _ in range(3))]
    ruined = torch.stack([step.info["equity"] <= config.maintenance * config.point_size for step in steps])
    assert result.terminated.tolist() == ruined.any(0).tolist()
    assert (ruined.any(0) & ~ruined[-1]).any()  # some recover within the decision: too late
    assert not ruined[:, 1::2].any()
    assert not result.truncated.any()


def test_time_is_up_at_the_last_tick() -> None:
    one = opened(toy(max_ticks=6, ticks_per_action=2), 2)
    assert [one.step().truncated.tolist() for _ in range(3)] == [[False] * 2, [False] * 2, [True] * 2]
    again = one.reset(mask=torch.tensor([True, False]))
    assert again.truncated.tolist() == [False, True]
    assert again.info["tick"].tolist() == [0, 6]
    assert not again.terminated.any()


def test_reset_goes_on_to_the_next_episode(original: Market) -> None:
    one, first = original.fork(), original.state
    one.reset()
    assert one.state.clock.episode.tolist() == [1] * MARKETS
    assert torch.equal(one.state.clock.seed, first.clock.seed)
    assert (one.state.market_data.mids_x2 != first.market_data.mids_x2).any(-1).all()
    one.reset(seeds=first.clock.seed)
    assert differences(one.state, first) == []


def test_the_seed_alone_decides() -> None:
    first, second = opened(toy(), 2, seed=41), Market(toy(), 2, seed=7)
    second.reset()
    second.step(torch.tensor([BUY, SELL]))
    second.reset(seeds=[41, 42])
    assert differences(first.state, second.state) == []
    assert not torch.equal(first.state.market_data.mids_x2[0], first.state.market_data.mids_x2[1])


@pytest.mark.parametrize("seeds", [(5, 6), [5, 6], torch.tensor([5, 6]), np.array([5, 6]), range(5, 7)])
def test_seeds_come_in_many_forms(seeds: Any) -> None:
    assert market.check_seeds(seeds, 2).tolist() == [5, 6]


def test_without_a_seed_every_market_is_new() -> None:
    seeds = [Market(toy(), 3)._first_seeds.tolist() for _ in range(2)]
    assert seeds[0] != seeds[1]
    assert Market(toy(), 3, seed=9)._first_seeds.tolist() == [9, 10, 11]
    assert market.consecutive_seeds(2**63 - 1, 2).tolist() == [2**63 - 1, 0]


def test_reseeding_decides_the_next_episodes(one: Market, original: Market) -> None:
    one.step(all_do(BUY))
    before = clone(one.state)
    one.reseed([0, 1, 2])
    assert set(differences(before, one.state)) <= {"clock.seed", "clock.episode"}
    one.reset()
    assert differences(one.state, original.state) == []
    unopened = Market(CONFIG, MARKETS, seed=99)
    unopened.reseed([0, 1, 2])
    assert unopened._first_seeds.tolist() == [0, 1, 2]


def test_masked_steps_move_the_masked_markets_only(one: Market) -> None:
    before, whole = clone(one.state), one.fork()
    mask = torch.tensor([True, False, True])
    result, full = one.step(all_do(BUY), mask=mask), whole.step(all_do(BUY))
    for at, moved in enumerate(mask.tolist()):
        here = torch.tensor([at])
        expected = whole.state if moved else before
        assert differences(take_rows(one.state, here), take_rows(expected, here)) == []
    assert result.info["filled"].ne(0).any(-1).tolist() == mask.tolist()
    assert result.reward[1] == 0.0
    assert torch.equal(result.observation[mask], full.observation[mask])


def test_a_fork_goes_its_own_way(one: Market) -> None:
    twin = one.fork()
    before = clone(twin.state)
    one.step(all_do(BUY))
    assert differences(twin.state, before) == []
    assert differences(
        seen(twin.step(all_do(BUY))), seen(one.observe())
    )  # rewards differ, for one moved and one looked
    assert differences(twin.state, one.state) == []
    twin.step(all_do(SELL))
    assert differences(twin.state, one.state)
    twin.reset()
    one.reset()
    assert differences(twin.state, one.state) == []


def test_paired_forks_share_their_noise(one: Market) -> None:
    """What differs between two forks is what their learners did."""
    twin = one.fork()
    first, second = one.run(5), twin.run(5, policy=lambda seen: all_do(BUY))
    assert torch.equal(first["value"], second["value"])
    assert torch.equal(first["news"], second["news"])
    assert not torch.equal(first["mid"], second["mid"])


def test_holdings_account_for_everything(one: Market) -> None:
    for action in random_actions(CONFIG, 15, MARKETS):
        one.step(action)
    owned = one.holdings()
    assert list(owned) == [*one.structure.families, "learner", "fees", "borrow"]
    assert sum(owner["cash"] for owner in owned.values()).tolist() == [CONFIG.starting_cash] * MARKETS
    assert sum(owner["shares"] for owner in owned.values()).tolist() == [[0] * SYMBOLS] * MARKETS
    info = one.observe().info
    assert torch.equal(owned["learner"]["shares"], info["position"])
    assert torch.equal(owned["learner"]["cash"].double() * CONFIG.point_size, info["cash"])
    assert owned["fees"]["cash"].min() > 0
    owned["learner"]["cash"].zero_()
    assert one.state.ledger.cash[:, 0].min() > 0


def test_paths_are_what_was_seen(one: Market) -> None:
    twin = one.fork()
    ticks = 8
    paths = one.run(ticks, policy=lambda result: torch.where(result.info["tick"] % 2 == 0, BUY, SELL))
    assert paths.batch_size == (MARKETS, ticks)
    names = [
        "mid",
        "close",
        "value",
        "estimate",
        "bid",
        "ask",
        "volume",
        "recent_volume",
        "fills",
        "bid_depth",
        "ask_depth",
        "buys",
        "sells",
        "maker_shares",
        "maker_cash",
        "position",
        "news",
    ]
    assert set(paths.keys()) == {*names, "equity"}
    assert all(paths[name].shape == (MARKETS, ticks, SYMBOLS) for name in names)
    assert paths["equity"].shape == (MARKETS, ticks)
    for at in range(ticks):
        result = twin.step(all_do(BUY if at % 2 == 0 else SELL))
        market_data = twin.state.market_data
        assert torch.equal(paths["mid"][:, at], market_data.mids_x2[..., -1].double() * (0.5 * CONFIG.point_size))
        assert torch.equal(paths["volume"][:, at], market_data.volumes[..., -1])
        assert torch.equal(paths["fills"][:, at], market_data.orders_filled)
        assert torch.equal(paths["ask"][:, at], market_data.ask.double() * CONFIG.point_size)
        assert torch.equal(paths["position"][:, at], result.info["position"])
        makers = twin.holdings()["maker"]
        assert torch.equal(paths["maker_shares"][:, at], makers["shares"])
        assert torch.allclose(paths["maker_cash"][:, at].sum(-1), makers["cash"].double() * CONFIG.point_size)
        assert torch.equal(paths["equity"][:, at], result.info["equity"])
    assert differences(one.state, twin.state) == []
    assert torch.allclose(paths["mid"], 0.5 * (paths["bid"] + paths["ask"]))


def test_progress_is_told(one: Market, capsys: pytest.CaptureFixture[str]) -> None:
    one.run(4, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == "tick 4 of 4"
    told: list[tuple[int, int]] = []
    one.run(3, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    one.run(2, progress=False)
    assert capsys.readouterr().err == ""


def test_progress_is_told_now_and_then_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    still = cold(toy(ticks_per_action=2), 1)
    told: list[int] = []
    still.step = lambda action=None, mask=None: None  # type: ignore[method-assign, assignment, return-value]
    still.run(2 * 250, record=["mid"], progress=lambda done, total: told.append(done))
    assert told == [4 * k for k in range(1, 126)]
    still.run(2 * 25, record=["mid"], progress=True)
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == [*map(str, range(4, 50, 4)), "50"]


def test_paths_hold_what_is_asked_for(one: Market) -> None:
    twin = one.fork()
    whole, part = one.run(3), twin.run(3, record=["equity", "fills"])
    assert list(part.keys()) == ["equity", "fills"]
    assert all(torch.equal(path, whole[name]) for name, path in part.items())
    assert whole["fills"].dtype == torch.int64
    assert whole["fills"].min() >= 0 and whole["fills"].max() > 2


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (["mid", "spread"], r"unknown entry of a path 'spread': choose from mid, close, .*fills.*, equity"),
        ("mid", r"record must be a sequence of names, got 'mid': write \['mid'\]"),
    ],
)
def test_unknown_entries_list_the_known_ones(one: Market, record: Any, message: str) -> None:
    before = clone(one.state)
    with pytest.raises(ValueError, match=message):
        one.run(2, record=record)
    assert differences(one.state, before) == []


def test_a_path_takes_its_memory_once(one: Market) -> None:
    paths = one.run(3)
    assert all(path.is_contiguous() and path.untyped_storage().nbytes() == path.nbytes for path in paths.values())


def test_a_checkpoint_is_the_market(one: Market, tmp_path: Path) -> None:
    one.step(all_do(BUY))
    one.save(tmp_path / "market.pt")
    loaded = Market.load(tmp_path / "market.pt")
    assert loaded.config == one.config
    assert differences(loaded.state, one.state) == []
    for action in random_actions(CONFIG, 3, MARKETS):
        assert differences(seen(loaded.step(action)), seen(one.step(action))) == []
    one.reset()
    loaded.reset()
    assert differences(loaded.state, one.state) == []


def test_a_checkpoint_keeps_every_setting(tmp_path: Path) -> None:
    config = tg.preset("illiquid", reward={"pnl": 1.0, "log_return": 2.0}, action="sized", mark="liquidation")
    one = opened(config, 1)
    one.save(tmp_path / "market.pt")
    assert Market.load(tmp_path / "market.pt", debug=True).config == config


def damaged(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        saved = read_content(path)
        change(saved)
        write_content(path, saved)

    return rewrite


def drop_a_market(saved: dict[str, Any]) -> None:
    saved["state"]["book.size"] = saved["state"]["book.size"][:-1]


def drop_a_tensor(saved: dict[str, Any]) -> None:
    del saved["state"]["market_data.bid"]


def drop_the_state(saved: dict[str, Any]) -> None:
    del saved["state"]


def halve_precision(saved: dict[str, Any]) -> None:
    saved["state"]["value.level"] = saved["state"]["value.level"].float()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), r"market\.pt is damaged, or was not written by this version"),
        (lambda path: path.write_text("hello"), r"market\.pt is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5_000]), r"market\.pt is damaged"),
        (lambda path: torch.save({"model": torch.zeros(1)}, path), r"market\.pt is damaged, or was not written by"),
        (damaged(lambda saved: saved.pop("torchgym_checkpoint")), r"market\.pt is not a saved market"),
        (damaged(lambda saved: saved.update(torchgym_checkpoint=99)), r"of version 99, this torchgym reads version 6"),
        (damaged(drop_the_state), r"market\.pt lacks its settings or its tensors"),
        (damaged(lambda saved: saved.update(config=[1])), r"market\.pt lacks its settings or its tensors"),
        (damaged(lambda saved: saved["state"].update({"clock.tick": 3})), r"something else than tensors"),
        (damaged(lambda saved: saved["state"].pop("clock.seed")), r"market\.pt holds no market"),
        (damaged(lambda saved: saved["state"].update({"clock.seed": torch.tensor(3)})), r"market\.pt holds no market"),
        (damaged(drop_a_market), r"the saved tensors do not fit this market"),
        (damaged(halve_precision), r"the saved tensors do not fit this market"),
        (damaged(drop_a_tensor), r"the saved tensors do not fit this market"),
        (damaged(lambda saved: saved["config"].update(speed=3)), r"unknown setting speed of MarketConfig"),
    ],
)
def test_bad_checkpoints_are_refused(
    original: Market, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "market.pt"
    original.save(path)
    damage(path)
    with pytest.raises(ValueError, match=message):
        Market.load(path)


def test_a_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Market.load(tmp_path / "none.pt")


def test_restore_refuses_another_market(one: Market) -> None:
    other = opened(toy(), MARKETS)
    before = clone(other.state)
    with pytest.raises(ValueError, match=r"do not fit this market"):
        other.restore(dict(leaves(one.state)))
    assert differences(other.state, before) == []


def with_leaf(market: Market, name: str, change: Callable[[Tensor], Any]) -> dict[str, Tensor]:
    """The market's tensors, one of them changed in place by the function."""
    tensors = {leaf_name: leaf.clone() for leaf_name, leaf in leaves(market.state)}
    change(tensors[name])
    return tensors


REALS = [name for name, leaf in leaves(opened(CONFIG, 1).state) if leaf.dtype.is_floating_point]


@pytest.mark.parametrize("name", REALS)
def test_a_number_that_is_none_is_refused(one: Market, name: str) -> None:
    before = clone(one.state)
    for bad in (math.nan, math.inf):
        spoilt = with_leaf(one, name, lambda leaf, bad=bad: leaf[1].fill_(bad))
        with pytest.raises(ValueError, match=rf"in market 1 it is not so that {name} is finite"):
            one.restore(spoilt)
    assert differences(one.state, before) == []


@pytest.mark.parametrize(
    ("name", "change", "rule"),
    [
        ("book.price", lambda leaf: leaf.neg_(), "prices are at least one point"),
        ("book.size", lambda leaf: leaf.neg_(), "the book is uncrossed"),
        ("market_data.ask", lambda leaf: leaf.zero_(), "the spread is at least one point"),
        ("market_data.bid", lambda leaf: leaf.zero_(), "bids are at least one point"),
        ("market_data.mids_x2", lambda leaf: leaf[..., 0].zero_(), "mids are at least one point"),
        ("market_data.volumes", lambda leaf: leaf.sub_(10**6), "volumes are not negative"),
        ("clock.seed", lambda leaf: leaf.sub_(10**6), "seeds are not negative"),
        ("clock.episode", lambda leaf: leaf.sub_(2), "episodes are counted from 0"),
        ("clock.tick", lambda leaf: leaf.sub_(100), "the warm-up is as long"),
        ("clock.last", lambda leaf: leaf.zero_(), "an episode has a length"),
        ("accounts.cash", lambda leaf: leaf[..., 0].add_(1), "cash adds up"),
        ("accounts.shares", lambda leaf: leaf[..., 0].add_(1), "shares add up"),
        ("ledger.cash", lambda leaf: leaf.add_(1), "cash adds up"),
        ("ledger.shares", lambda leaf: leaf.add_(10**6), "positions are within their limit"),
        ("ledger.fees", lambda leaf: leaf.sub_(10**6), "fees and borrow charges are not negative"),
        ("ledger.basis", lambda leaf: leaf.add_(1), "realised profit and basis explain"),
        ("ledger.equity_x2", lambda leaf: leaf.add_(2), "equity is cash and shares at the mid"),
    ],
)
def test_a_state_that_no_market_can_have_is_refused(
    one: Market, name: str, change: Callable[[Tensor], Any], rule: str
) -> None:
    before = clone(one.state)
    with pytest.raises(
        ValueError, match=rf"no market can have such a state: in market 0, 1, 2 it is not so that {rule}"
    ):
        one.restore(with_leaf(one, name, change))
    assert differences(one.state, before) == []


def test_a_state_is_what_a_market_can_have_at_any_moment() -> None:
    """Warm-up, running, reseeded, ended and ruined episodes, every option away from its default."""
    for config in (CONFIG, EVERYTHING, toy(max_ticks=5, starting_shares=-50, starting_cash=510_000)):
        one = opened(config, 3)
        for action in random_actions(config, 8, 3):
            one.restore(dict(leaves(one.state)))
            one.step(action)
            assert {leaf.dtype for _, leaf in leaves(one.live.book)} == {torch.int32}
        one.reseed([5, 6, 7])
        one.restore(dict(leaves(one.state)))
        cold_start = cold(config, 3)
        cold_start.restore(dict(leaves(cold_start.state)))


# --- copies, threads


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda market: pickle.loads(pickle.dumps(market))])
def test_a_copy_is_independent_and_goes_on_alike(copied: Callable[[Market], Market]) -> None:
    for original in (Market(CONFIG, MARKETS, seed=3), opened(CONFIG, MARKETS, seed=3)):
        if original.opened:
            original.step(all_do(BUY))
            original.reseed(range(70, 70 + MARKETS))
        twin = copied(original)
        if not original.opened:
            twin.reset()
            original.reset()
        assert differences(twin.state, original.state) == []
        before = clone(original.state)
        twin.step(all_do(BUY))
        assert differences(original.state, before) == []
        original.step(all_do(BUY))
        assert differences(twin.state, original.state) == []
        twin.reset()
        original.reset()
        assert differences(twin.state, original.state) == []
        assert differences(twin.params, original.params) == []


def test_threads_take_turns() -> None:
    """No step is lost, and the market moves as if one thread had made them all."""
    one, same, steps = opened(CONFIG, 1), opened(CONFIG, 1), 40

    def work() -> None:
        for _ in range(steps):
            one.step()

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for _ in range(3 * steps):
        same.step()
    assert differences(one.state, same.state) == []


# --- ruin


def test_an_episode_never_begins_ended() -> None:
    """Accounts that the opening price alone may ruin: they end at the first step at the earliest."""
    for options in (
        {"starting_shares": -50, "starting_cash": 510_000},
        {"starting_shares": 50, "maintenance": 10_000_000 + 50 * 10_000 - 1},
        {"starting_shares": 50, "maintenance": 10_000_000 + 50 * 10_000 - 1, "mark": "liquidation"},
    ):
        one = opened(toy(max_ticks=8, **options), 16)
        opening = one.observe()
        below = one.state.ledger.equity_x2[:, 0] <= 2 * one.config.maintenance
        assert below.any() and not opening.terminated.any()
        assert not one.reset().terminated.any()
        stepped = one.step()
        below = one.state.ledger.equity_x2[:, 0] <= 2 * one.config.maintenance
        assert below.any() and torch.equal(stepped.terminated, below)


@pytest.mark.parametrize("per_action", [1, 2])
def test_ruin_lasts_until_the_reset(per_action: int) -> None:
    """Also where equity recovers within a decision or after it: step and observe agree at every moment."""
    config = toy(max_ticks=40, ticks_per_action=per_action, starting_shares=50)
    config = config.replace(maintenance=config.starting_cash + 50 * config.list_price - 2_000)
    one, recovered = opened(config, 64), torch.zeros(64, dtype=torch.bool)
    ruined = one.observe().terminated
    for _ in range(12):
        result = one.step()
        assert torch.equal(result.terminated, one.observe().terminated)
        assert not (ruined & ~result.terminated).any()
        ruined = result.terminated
        recovered |= ruined & (one.state.ledger.equity_x2[:, 0] > 2 * config.maintenance)
    assert recovered.any()
    assert not one.reset(mask=ruined).terminated.any()


# --- refusals


def bad_entry(value: int, shape: tuple[int, ...] = (MARKETS,)) -> Tensor:
    """All hold, but for one choice that does not exist."""
    action = torch.ones(shape, dtype=torch.int64)
    action.view(MARKETS, -1)[1, -1] = value
    return action


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ([1, 1, 1], r"action must be a torch\.Tensor, got list"),
        (np.ones(MARKETS, dtype=np.int64), r"action must be a torch\.Tensor, got ndarray"),
        (torch.ones(MARKETS + 1, dtype=torch.int64), r"action must have shape \(3,\) or \(3, 2\), got \(4,\)"),
        (torch.tensor(1), r"action must have shape \(3,\) or \(3, 2\), got \(\)"),
        (torch.ones(MARKETS, 3, dtype=torch.int64), r"got \(3, 3\)"),
        (torch.ones(MARKETS), r"action must be of an integer dtype, got torch\.float32"),
        (torch.ones(MARKETS, dtype=torch.bool), r"action must be of an integer dtype, got torch\.bool"),
        (bad_entry(3), r"action of market 1 is 3, must be 0 to 2 \('discrete' actions\)"),
        (bad_entry(-1), r"action of market 1 is -1, must be 0 to 2"),
        (bad_entry(2**40), r"action of market 1 is 1099511627776"),
        (bad_entry(7, (MARKETS, SYMBOLS)), r"action of market 1 is \[1, 7\], must be 0 to 2"),
    ],
)
def test_bad_actions_move_nothing(one: Market, action: Any, message: str) -> None:
    before = clone(one.state)
    with pytest.raises(ValueError, match=message):
        one.step(action)
    assert differences(one.state, before) == []


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([1, 2], r"expected 3 seeds, one per market, got 2"),
        ([1, 2, 3, 4], r"expected 3 seeds, one per market, got 4"),
        (5, r"seeds must be a list of 3 integers, one per market, got 5"),
        ([5], r"expected 3 seeds, one per market, got 1"),
        ([1, -2, 3], r"seed of market 1 must be an integer from 0 to 2\*\*63 - 1, got -2"),
        ([1, 2, 2**63], r"seed of market 2 must be an integer .* got 9223372036854775808"),
        ([1, 2.0, 3], r"seed of market 1 must be an integer .* got 2\.0"),
        (["1", "2", "3"], r"seed of market 0 must be an integer .* got '1'"),
        ("123", r"seeds must be a list of 3 integers, .* got '123'"),
        (b"123", r"seeds must be a list of 3 integers"),
        ({1, 2, 3}, r"seeds must be a list of 3 integers"),
        ({1: 1, 2: 2, 3: 3}, r"seeds must be a list of 3 integers"),
        (iter([1, 2, 3]), r"seeds must be a list of 3 integers"),
        (torch.tensor([True, False, True]), r"seed of market 0 must be an integer .* got True"),
        (np.array([True, False, True]), r"seed of market 0 must be an integer .* got True"),
        ([1, np.bool_(True), 3], r"seed of market 1 must be an integer"),
        ([1, torch.tensor(1.7), 3], r"seed of market 1 must be an integer"),
        ([1, torch.tensor([2]), 3], r"seed of market 1 must be an integer"),
        ([1, np.float64(2.0), 3], r"seed of market 1 must be an integer"),
        (torch.tensor([1.7, 2.0, 3.0]), r"seed of market 0 must be an integer .* got 1\.7"),
        ([1, True, 3], r"seed of market 1 must be an integer .* got True"),
        ([1, None, 3], r"seed of market 1 must be an integer .* got None"),
        (torch.tensor([1.0, 2.0, 3.0]), r"seed of market 0 must be an integer .* got 1\.0"),
        (torch.tensor([1, -1, 3]), r"seed of market 1 must be an integer .* got -1"),
    ],
)
def test_bad_seeds_change_nothing(one: Market, seeds: Any, message: str) -> None:
    before = clone(one.state)
    for call in (one.reset, one.reseed):
        with pytest.raises(ValueError, match=message):
            call(seeds)
    assert differences(one.state, before) == []


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([True, False, True], r"mask must be a bool tensor of shape \(3,\), got list"),
        (torch.tensor([1, 0, 1]), r"mask must be a bool tensor of shape \(3,\), got torch\.int64 \(3,\)"),
        (torch.tensor([True, False]), r"got torch\.bool \(2,\)"),
        (torch.ones(MARKETS, 1, dtype=torch.bool), r"got torch\.bool \(3, 1\)"),
    ],
)
def test_bad_masks_change_nothing(one: Market, mask: Any, message: str) -> None:
    before = clone(one.state)
    with pytest.raises(ValueError, match=message):
        one.reset(mask=mask)
    with pytest.raises(ValueError, match=message):
        one.step(mask=mask)
    assert differences(one.state, before) == []


def test_an_empty_mask_resets_nothing(one: Market) -> None:
    before = clone(one.state)
    one.reset(mask=torch.zeros(MARKETS, dtype=torch.bool))
    assert differences(one.state, before) == []


def test_nothing_happens_before_the_first_reset(tmp_path: Path) -> None:
    closed = Market(CONFIG, MARKETS, seed=0)
    assert not closed.opened
    for call in (
        closed.step,
        closed.observe,
        closed.holdings,
        lambda: closed.run(3),
        lambda: closed.save(tmp_path / "closed.pt"),
    ):
        with pytest.raises(RuntimeError, match=r"has not been opened yet: call reset\(\) first"):
            call()
    with pytest.raises(RuntimeError, match=r"the first reset must open every market"):
        closed.reset(mask=torch.tensor([True, False, True]))
    assert not closed.opened


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": "default"}, r"config must be a MarketConfig, got str"),
        ({"num_envs": 0}, r"num_envs must be an integer >= 1, got 0"),
        ({"num_envs": 2.0}, r"num_envs must be an integer >= 1, got 2\.0"),
        ({"num_envs": True}, r"num_envs must be an integer >= 1, got True"),
        ({"seed": -1}, r"^seed must be an integer from 0 to 2\*\*63 - 1, got -1"),
        ({"seed": 1.5}, r"^seed must be an integer .* got 1\.5"),
        ({"compile": True, "debug": True}, r"compile=True and debug=True contradict each other"),
    ],
)
def test_impossible_markets(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Market(**arguments)


@pytest.mark.parametrize(
    ("setting", "table", "message"),
    [
        ({"action": "greedy"}, ACTIONS, r"unknown action scheme 'greedy'"),
        ({"features": "all"}, FEATURE_SETS, r"unknown features 'all'"),
        ({"reward": "fame"}, REWARDS, r"unknown reward 'fame'"),
        ({"reward": {"pnl": 1.0, "fame": 2.0}}, REWARDS, r"unknown reward 'fame'"),
    ],
)
def test_unknown_names_list_the_known_ones(setting: dict[str, Any], table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Market(MarketConfig(**setting))
    assert all(name in str(error.value) for name in table)


@pytest.mark.parametrize("ticks", [0, -4, 2.0, 3, None, True, 10**12, 2**62, 2**70])
def test_bad_numbers_of_ticks(ticks: Any) -> None:
    pairs = opened(toy(ticks_per_action=2), 1)
    before = clone(pairs.state)
    with pytest.raises(ValueError, match=r"num_ticks must be|does not fit into memory"):
        pairs.run(ticks)
    with pytest.raises(ValueError, match=r"policy must be a function, got 1: it takes what was seen last"):
        pairs.run(4, 1)  # type: ignore[arg-type]
    assert differences(pairs.state, before) == []


# --- what debug=True finds


def planted(module: Any, name: str, spoil: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on `module.name` returns what `spoil` makes of its result."""
    honest = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *arguments, **named: spoil(honest(*arguments, **named)))


def raised(tensor: Tensor, row: int, amount: float = 1) -> Tensor:
    """One number of one market is off."""
    tensor = tensor.clone()
    tensor[row].view(-1)[0] += amount
    return tensor


def printed_money(balances: Any) -> Any:
    if isinstance(balances, Ledger):
        return dataclasses.replace(balances, cash=raised(balances.cash, 1))
    owned, *others = balances
    return dataclasses.replace(owned, cash=raised(owned.cash, 1)), *others


def printed_shares(balances: Any) -> Any:
    *owned, ledger = balances
    return *owned, dataclasses.replace(ledger, shares=raised(ledger.shares, 2))


def lost_number(value: Any) -> Any:
    return dataclasses.replace(value, level=raised(value.level, 0, float("nan")))


def unequal_fills(result: Any) -> Any:
    book, auction = result
    return book, dataclasses.replace(auction, fills=raised(auction.fills, 1))


def short_change(result: Any) -> Any:
    book, execution = result
    return book, dataclasses.replace(execution, fills=raised(execution.fills, 2))


@pytest.fixture
def guarded(one: Market) -> Market:
    """The same market under the checks of debug."""
    market = Market(CONFIG, MARKETS, seed=0, debug=True)
    market.restore(dict(leaves(one.state)))
    return market


def test_books_may_lie_far_from_a_mid_that_is_the_value() -> None:
    """Without makers nothing holds prices near it: orders at market take what stands on its wrong side level by level too."""
    config = toy(reference="value")
    everybody = config.population
    config = config.replace(
        population=dataclasses.replace(everybody, maker=dataclasses.replace(everybody.maker, count=0))
    )
    market = opened(config, 8, seed=3, debug=True)
    for action in random_actions(config, 40, 8):
        market.step(action)
    state = market.live
    apart = (state.market_data.bid + state.market_data.ask - state.market_data.mids_x2[..., -1]).abs()
    assert int(apart.max()) > 20


@pytest.mark.parametrize("reference", ["quotes", "value"])
def test_a_price_beyond_all_bounds_leaves_a_market_that_can_be(reference: str, tmp_path: Path) -> None:
    """A seed found by trying thousands, of a value whose volatility explodes: within 60 ticks it is millions of list prices."""
    wild = Fundamentals(
        volatility=0.1,
        volatility_half_lives=(1e9, 1e9, 1e9),
        volatility_scales=(0.0, 0.0, 1.0),
        public_share=1.0,
        spread_of_start=1.0,
        reversion_half_life=1e18,
        leverage=0.0,
        news_rate=0.0,
    )
    config = MarketConfig(list_price=100, max_ticks=400, reference=reference, fundamentals=wild)
    market = Market(config, 1, seed=569, debug=True)
    market.reset()
    for _ in range(60):
        market.step()
    assert market.live.market_data.bid.item() > 10**8
    market.save(tmp_path / "market.pt")
    assert differences(Market.load(tmp_path / "market.pt").state, market.state) == []


@pytest.mark.parametrize(
    ("module", "name", "spoil", "message"),
    [
        (accounts, "settle", printed_money, r"phase 'settle' broke 'cash is conserved' in market 1$"),
        (accounts, "settle", printed_shares, r"phase 'settle' broke 'shares are conserved' in market 2$"),
        (fundamental, "advance", lost_number, r"phase 'advance' broke 'level is finite' in market 0$"),
        (matching, "clear", unequal_fills, r"phase 'clear' broke 'fills sum to zero' in market 1$"),
        (accounts, "mark", printed_money, r"phase 'mark' broke 'cash is conserved' in market 1$"),
    ],
)
def test_debug_names_the_market_and_the_phase(
    one: Market,
    guarded: Market,
    module: Any,
    name: str,
    spoil: Any,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planted(module, name, spoil, monkeypatch)
    one.fork().step()  # unguarded: nobody notices
    before = clone(guarded.state)
    with pytest.raises(BrokenInvariant, match=message):
        guarded.step()
    assert differences(guarded.state, before) == []
    monkeypatch.undo()
    guarded.step()


def test_debug_looks_at_the_learners_order(guarded: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = matching.EXECUTIONS["book"]
    monkeypatch.setitem(matching.EXECUTIONS, "book", lambda *arguments: short_change(honest(*arguments)))
    with pytest.raises(
        BrokenInvariant, match=r"phase 'execute' broke 'shares taken equal shares received' in market 2"
    ):
        guarded.step(all_do(BUY))


def test_debug_looks_at_what_was_taken(guarded: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave_it(config: Any, book: Any, *rest: Any) -> Any:
        return book, honest(config, book, *rest)[1]

    honest = matching.EXECUTIONS["book"]
    monkeypatch.setitem(matching.EXECUTIONS, "book", leave_it)
    with pytest.raises(
        BrokenInvariant, match=r"phase 'execute' broke 'what is taken leaves the book' in market 0, 1, 2"
    ):
        guarded.step(all_do(BUY))


def test_debug_looks_for_crossed_books(guarded: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave_crossed(config: Any, book: Any, *rest: Any) -> Any:
        after, auction = honest(config, book, *rest)
        return dataclasses.replace(after, size=book.size), auction

    honest = matching.clear
    monkeypatch.setattr(matching, "clear", leave_crossed)
    with pytest.raises(BrokenInvariant, match=r"phase 'clear' broke 'the book is uncrossed' in market"):
        for _ in range(10):
            guarded.step()


@pytest.mark.parametrize(
    "config",
    [
        *(tg.preset(name) for name in tg.PRESETS),
        toy(num_symbols=3, execution="auction", mark="liquidation"),
        toy(num_symbols=4, action="sized", ticks_per_action=2, borrow_ppb=10_000_000),
        toy(num_symbols=2, starting_shares=-50, mark="liquidation", borrow_ppb=1_000_000),
        toy(num_symbols=2, priority="time", action="sized"),
    ],
    ids=[*tg.PRESETS, "sealed", "short", "short from the start", "older first"],
)
def test_every_preset_keeps_the_rules(config: MarketConfig) -> None:
    guarded = opened(config, 2, debug=True)
    for action in random_actions(config, 8, 2):
        result = guarded.step(action)
    assert result.observation.isfinite().all()
    assert total_cash(guarded.state.accounts, guarded.state.ledger).tolist() == [config.starting_cash] * 2
    assert (total_shares(guarded.state.accounts, guarded.state.ledger) == config.starting_shares).all()


# --- presets


def test_defaults() -> None:
    config = MarketConfig()
    assert (config.num_symbols, config.max_ticks, config.ticks_per_action) == (1, 10_000, 1)
    assert (config.order_size, config.position_limit, config.starting_cash) == (10, 50, 10_000_000)
    assert (config.commission_bps, config.collar, config.point_size) == (2.0, 0.01, 0.01)
    assert (config.action, config.features, config.reward) == ("discrete", "full54", "pnl")
    assert (config.information, config.execution, config.mark, config.maintenance) == ("public", "book", "mid", 0)
    assert Market(seed=0).num_envs == 1


def test_presets_are_what_they_are_called() -> None:
    """Moves and spreads over many short paths; the gaps between presets are several times the sampling error."""
    moves, spreads, volumes = {}, {}, {}
    for name in ("default", "calm", "volatile", "illiquid"):
        paths = opened(tg.preset(name), 24).run(40)
        returns = paths["mid"].log().diff(dim=1)
        moves[name] = returns.std().item()
        spreads[name] = (paths["ask"] - paths["bid"]).median().item()
        volumes[name] = paths["volume"].double().mean().item()
    assert moves["calm"] < moves["default"] < moves["volatile"]
    assert spreads["calm"] < spreads["illiquid"]
    assert volumes["illiquid"] < volumes["default"]


def test_zero_intelligence_trades_at_random_all_the_time() -> None:
    """Everybody acts in every tick, whatever happened; nobody follows value or news; and prices move all the same."""
    market = opened(tg.preset("zero_intelligence"), 4)
    assert list(market.structure.orders) == ["noise"]
    assert (market.params.population.noise.rate * 0.25 >= 1.0).all()  # the lowest activity
    path = market.run(30, record=["mid", "volume", "news"])
    assert path["mid"].std(1).min() > 0
    assert path["volume"].min() > 0
    assert not path["news"].any() and not market.state.value.public_move.any()
    assert not market.state.value.log_volatility.any()


def test_what_is_read_stays_as_it_was() -> None:
    """None of it lies in the state, which compiled steps overwrite."""
    market = opened(toy(), 3)
    held = {leaf.untyped_storage().data_ptr() for _, leaf in leaves(market.live)}
    entries = market.read(*PATHS)
    assert {entry.untyped_storage().data_ptr() for entry in entries.values()} & held == set()
