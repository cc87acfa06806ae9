"""Several learners in one market: each has an account of its own, and none is favoured. With one, a market is as before."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from markets import TWO_QUOTING, differences, narrow, opened, random_actions, seen, toy
from torch import Tensor

import torchgym as tg
from torchgym import Market, MarketConfig
from torchgym.config import structure
from torchgym.envs.sb3 import SB3VecEnv
from torchgym.envs.skrl import SkrlEnv
from torchgym.lab.performance import evaluate
from torchgym.lab.policies import BASELINES
from torchgym.numerics.trees import leaves
from torchgym.recording import EpisodeRecorder
from torchgym.sim import matching
from torchgym.sim.invariants import total_cash, total_shares
from torchgym.sim.state import Book

BUY, HOLD, SELL = 2, 1, 0


def several(learners: int, **changes: Any) -> MarketConfig:
    return toy(num_learners=learners, **changes)


@pytest.mark.parametrize("execution", ["book", "auction"])
@pytest.mark.parametrize("mark", ["mid", "liquidation"])
def test_one_who_never_trades_changes_nothing(execution: str, mark: str) -> None:
    terms = {"num_symbols": 2, "execution": execution, "mark": mark, "ticks_per_action": 2}
    alone, pair = opened(toy(**terms), 3), opened(several(2, **terms), 3)
    for action in random_actions(alone.config, 40, 3):
        one, two = alone.step(action), pair.step(torch.stack([action, torch.full_like(action, HOLD)], 1))
        assert torch.equal(one.observation, two.observation)
        assert torch.equal(one.account, two.account[:, 0])
        assert torch.equal(one.reward, two.reward[:, 0]) and not two.reward[:, 1].any()
    first, second = dict(leaves(alone.state)), dict(leaves(pair.state))
    for name, leaf in first.items():
        theirs = second[name][..., :1] if name.startswith(("ledger", "reward")) else second[name]
        assert torch.equal(leaf, theirs), name


@pytest.mark.parametrize("settings", [{}, {"num_symbols": 3, "execution": "auction", "starting_shares": 7}], ids=str)
def test_nothing_appears_and_nothing_is_lost(settings: dict[str, Any]) -> None:
    config = several(3, commission_bps=5.0, borrow_ppb=10_000_000, **settings)
    market = opened(config, 2, debug=True)
    for action in random_actions(config, 30, 2):
        market.step(action)
        assert total_cash(market.state.accounts, market.state.ledger).tolist() == [3 * config.starting_cash] * 2
        assert (total_shares(market.state.accounts, market.state.ledger) == 3 * config.starting_shares).all()
    owned = market.holdings()
    assert torch.equal(owned["learner"]["shares"], market.state.ledger.shares.sum(-1))
    assert market.state.ledger.shares.unique(dim=-1).shape[-1] == 3  # they have done different things


def test_who_comes_first_changes_with_the_tick() -> None:
    """Three who each want what is offered at the best price: they get it in turn, and nothing depends on who else is there."""
    config = several(3)
    plan = dataclasses.replace(structure(config), families={"value": slice(0, 3), "maker": slice(3, 3)})
    price, size = torch.tensor([[[100, 101, 102]]]).expand(4, 1, 3), torch.tensor([[[-5, -5, -5]]]).expand(4, 1, 3)
    book, ticks = narrow(Book(price, size, expiry=torch.zeros_like(size))), torch.arange(4)
    five, limit = torch.full((4, 1, 3), 5), torch.full((4, 1, 3), 200)
    after, execution = matching.take(plan, book, five, limit, torch.full((4, 1), 199), ticks)
    assert (execution.paid // 5).squeeze(1).tolist() == [
        [100, 101, 102],
        [102, 100, 101],
        [101, 102, 100],
        [100, 101, 102],
    ]
    assert torch.equal(execution.filled, five) and not execution.remainder.any() and not after.size.any()
    assert execution.last_price.flatten().tolist() == [102] * 4
    assert torch.equal(execution.fills, size)


def test_what_is_told_has_an_axis_of_learners() -> None:
    config = several(3, num_symbols=2, reward={"pnl": 1.0, "inventory": 0.5})
    market = opened(config, 4)
    result = market.step(torch.full((4, 3), BUY))  # the same in every symbol
    assert result.observation.shape == (4, 108)
    assert result.account.shape == (4, 3, 5)
    assert result.reward.shape == result.terminated.shape == result.info["reward_pnl"].shape == (4, 3)
    assert result.truncated.shape == result.info["tick"].shape == (4,)
    assert result.info["position"].shape == result.info["filled"].shape == (4, 3, 2)
    assert torch.equal(result.info["position"], market.state.ledger.shares.transpose(1, 2))
    assert torch.equal(result.account[..., :2], result.info["position"].double() * (1.0 / config.position_limit))
    standing = market.observe()
    assert torch.equal(standing.account, result.account) and not standing.info["filled"].any()
    paths = market.run(3, record=["mid", "position", "equity"])
    assert {name: tuple(path.shape) for name, path in paths.items()} == {
        **{"mid": (4, 3, 2), "position": (4, 3, 3, 2), "equity": (4, 3, 3)}
    }


@pytest.mark.parametrize("action", [torch.zeros(4), torch.full((4, 3), 3), torch.zeros(4, 2, dtype=torch.int64)])
def test_bad_actions_are_named(action: Tensor) -> None:
    market = opened(several(3), 4)
    with pytest.raises(ValueError, match=r"action (of market 0 is \[3, 3, 3\]|must)"):
        market.step(action)


def test_compiled_saved_and_forked_go_on_in_the_same_bits(tmp_path: Path) -> None:
    """With orders of two learners that rest, whose decisions last two ticks."""
    plain, compiled = opened(TWO_QUOTING, 5), opened(TWO_QUOTING, 5, compile=True)
    given = random_actions(TWO_QUOTING, 30, 5)
    for at, action in enumerate(given[:20]):
        mask = torch.arange(5) % 2 == 0
        plain.reset(mask=mask), compiled.reset(mask=mask)
        decided = None if at % 3 == 2 else action  # the compiled step is given a number that is none
        assert differences(seen(plain.step(decided)), seen(compiled.step(decided))) == []
    assert differences(plain.state, compiled.state) == []
    compiled.save(tmp_path / "market")
    others = [plain.fork(), Market.load(tmp_path / "market")]
    for action in given[20:]:
        for market in (plain, *others):
            market.step(action)
    assert all(differences(plain.state, other.state) == [] for other in others)


FACES: dict[str, Callable[[MarketConfig], Any]] = {
    "TradingEnv": tg.TradingEnv,
    "TradingVectorEnv": tg.TradingVectorEnv,
    "MarketEnv": tg.MarketEnv,
    "SB3VecEnv": SB3VecEnv,
    "SkrlEnv": SkrlEnv,
}


@pytest.mark.parametrize("name", FACES)
def test_faces_serve_one(name: str) -> None:
    with pytest.raises(ValueError, match=rf"num_learners = 2, and {name} serves one learner: step several with"):
        FACES[name](several(2))


def test_so_do_recordings_and_evaluations(tmp_path: Path) -> None:
    market = opened(several(2), 2)
    with pytest.raises(ValueError, match=r"num_learners = 2, and EpisodeRecorder serves one"):
        EpisodeRecorder(tmp_path / "episodes.parquet", market)
    with pytest.raises(ValueError, match=r"num_learners = 2, and evaluate serves one"):
        evaluate(several(2), {"hold": BASELINES["hold"].make}, episodes=2)
