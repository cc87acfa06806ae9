"""Actions that are numbers, through every face: spaces, precision, refusals, recordings, and compiled in the same bits."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from markets import acting, differences, only, opened, random_actions, seen
from stable_baselines3.common import env_checker as sb3_checker
from torchrl.envs.utils import check_env_specs

import torchgym as tg
from torchgym import MarketConfig
from torchgym.lab.policies import known_of
from torchgym.recording import EpisodeRecorder
from torchgym.sim import actions
from torchgym.sim.actions import ACTIONS, Box

pytestmark = pytest.mark.kept

LIMIT = 50
BOXES = [name for name in ACTIONS if isinstance(actions.space(acting(name)), Box)]
TRADING = [name for name in BOXES if ACTIONS[name].wanted]  # those that do not let orders rest
FLOWS = {"participation"}  # schemes whose action is a trade; others say what to hold


def config(name: str = "position", **changes: Any) -> MarketConfig:
    return acting(name, position_limit=LIMIT, **changes)


def ends(name: str, symbols: int = 1) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The least and the largest numbers, [W] float32 each."""
    low, high = (end.float().numpy() for end in actions.space(config(name)).bounds(symbols))
    return low, high


@pytest.mark.parametrize("symbols", [1, 2])
@pytest.mark.parametrize("name", BOXES)
def test_gymnasium_and_its_checkers(name: str, symbols: int) -> None:
    terms = config(name, num_symbols=symbols, max_ticks=20)
    env = tg.TradingEnv(terms)
    low, high = ends(name, symbols)
    assert env.action_space == gym.spaces.Box(low, high, dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # features have no bounds
        check_env(env, skip_render_check=True)
        sb3_checker.check_env(tg.TradingEnv(terms.replace(scaling="relative")), warn=False)


@pytest.mark.parametrize("symbols", [1, 2])
def test_numbers_come_as_arrays_lists_and_tensors(symbols: int) -> None:
    env = tg.TradingEnv(config(num_symbols=symbols))
    env.reset(seed=0)
    for action in (np.full(symbols, 0.58, np.float32), [0.58] * symbols, torch.full((symbols,), 0.58)):
        info = env.step(action)[-1]
    assert info["position"].tolist() == [29] * symbols


@pytest.mark.parametrize(
    ("action", "complaint"),
    [
        (np.array([np.nan]), r"-1 to 1, got nan at \(0,\)"),
        ([1.01], r"-1 to 1, got 1.01 at \(0,\)"),
        ([-np.inf], r"-1 to 1, got -inf"),
        (0.5, r"shape \(1,\), got \(\)"),
        ([True], r"numbers, got \[True\]"),
        (["0"], "numbers"),
        ([0.1, 0.2], r"shape \(1,\), got \(2,\)"),
    ],
    ids=repr,
)
def test_what_is_no_number_in_the_box_is_refused(action: Any, complaint: str) -> None:
    env = tg.TradingEnv(config())
    env.reset(seed=0)
    with pytest.raises(ValueError, match=complaint):
        env.step(action)
    assert env.market.live.clock.tick.item() == 0


@pytest.mark.parametrize("name", BOXES)
def test_each_number_has_its_own_bounds_and_nothing_moves_where_one_is_missed(name: str) -> None:
    """By a face of arrays and by the core."""
    terms = config(name, num_symbols=2)
    env, market = tg.TradingEnv(terms), opened(terms, 2)
    env.reset(seed=0)
    low, high = ends(name, 2)
    middle = (low + high) / 2
    wrong = []
    for at in range(len(low)):
        for value in (np.nan, low[at] - 0.01, high[at] + 0.01, np.inf):
            wrong.append(middle.copy())
            wrong[-1][at] = value
    for action in wrong:
        with pytest.raises(ValueError, match=r"action must be .* to \d+, got .* at \("):
            env.step(action)
        with pytest.raises(ValueError, match=rf"action of market 1 is .*, must be .* to \d+ \('{name}' actions\)"):
            market.step(torch.from_numpy(np.stack([middle, action])))
    for width in (0, len(low) + 1):
        with pytest.raises(ValueError, match="action must have shape"):
            env.step(np.zeros(width))
        with pytest.raises(ValueError, match="action must have shape"):
            market.step(torch.zeros(2, width))
    assert env.market.live.clock.tick.item() == 0 and market.state.clock.tick.tolist() == [0, 0]


def test_the_core_refuses_them_too() -> None:
    market = opened(config(), 2)
    with pytest.raises(ValueError, match=r"action of market 1 is nan, must be -1 to 1 \('position' actions\)"):
        market.step(torch.tensor([0.0, float("nan")]))
    with pytest.raises(ValueError, match=r"action must be of a floating dtype, got torch.int64"):
        market.step(torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"action must have shape \(2, 2\), got \(2,\)"):
        opened(config("weights"), 2).step(torch.zeros(2))
    assert market.state.clock.tick.tolist() == [0, 0]


@pytest.mark.parametrize("name", BOXES)
def test_batches_of_every_library(name: str) -> None:
    """They trade as the core does with the same numbers."""
    terms = config(name)
    vector = tg.TradingVectorEnv(terms, num_envs=3)
    vector.reset(seed=0)
    sb3 = tg.SB3VecEnv(terms, num_envs=3, seed=0)
    sb3.reset()
    skrl = tg.SkrlEnv(terms, num_envs=3, seed=0)
    skrl.reset()
    market = opened(terms, 3)
    for given in random_actions(terms, 4, 3).float():
        infos, listed = vector.step(given.numpy())[-1], sb3.step(given.numpy())[-1]
        told, wanted = skrl.step(given)[-1], market.step(given).info["position"].tolist()
        assert infos["position"].tolist() == [info["position"].tolist() for info in listed] == wanted
        assert told["position"].tolist() == wanted
    assert any(position != [0] for position in wanted)
    assert vector.single_action_space == sb3.action_space == skrl.action_space


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("symbols", [1, 2])
@pytest.mark.parametrize("name", BOXES)
def test_torchrl_specs(name: str, symbols: int, dtype: torch.dtype) -> None:
    env = tg.MarketEnv(config(name, num_symbols=symbols), num_envs=2, seed=0, dtype=dtype)
    check_env_specs(env)
    data = env.rollout(5)
    low, high = (torch.from_numpy(end) for end in ends(name, symbols))
    assert data["action"].shape == (2, 5, len(low)) and data["action"].dtype == dtype
    assert bool((data["action"] >= low).all() and (data["action"] <= high).all())


@pytest.mark.parametrize("name", BOXES)
def test_recordings_hold_the_numbers(name: str, tmp_path: Path) -> None:
    market = tg.Market(config(name, max_ticks=8, num_symbols=2), 2)
    given = random_actions(market.config, 7, 2)
    with EpisodeRecorder(tmp_path / "episodes.parquet", market) as recorder:
        recorder.reset(seeds=[1, 2])
        for action in given:
            recorder.step(action)
        recorder.step()  # holds
    rows = pq.read_table(tmp_path / "episodes.parquet").to_pylist()
    nothing = torch.full_like(given[0], torch.nan)
    decided = torch.cat([given, nothing.unsqueeze(0)])  # after the last decision a row shows the end
    box = actions.space(market.config)
    assert isinstance(box, Box)
    names = ["action"] if box.each == 1 else [f"action_{at + 1}" for at in range(box.each)]
    for row in rows:
        step, which, symbol = row["step"], row["seed"] - 1, int(row["symbol"])
        numbers = decided[step, which] if step < len(decided) else nothing[0]
        expected = numbers[box.cash + symbol * box.each :][: box.each].tolist()
        expected += [numbers[0].item()] * box.cash
        found = [row[column] for column in names + ["action_cash"] * box.cash]
        assert [torch.nan if value is None else value for value in found] == pytest.approx(
            expected, nan_ok=True, abs=0.0
        )
    assert len(rows) == 2 * 2 * 9


@pytest.mark.parametrize("name", [name for name in TRADING if name not in FLOWS])
def test_an_action_repeated_at_the_same_prices_rests(name: str) -> None:
    market = opened(config(name, num_symbols=2), 3)
    known = known_of(market.config, market.observe(), market.params)
    scheme = actions.scheme(market.config)
    for action in random_actions(market.config, 50, 3):
        chosen = action.unsqueeze(-1)
        held = known.held + scheme.wanted(known, chosen)
        assert not scheme.wanted(replace(known, held=held), chosen).any()
        assert not scheme.wanted(replace(known, held=held), chosen.float().double()).any()
        known = replace(known, held=held)


@pytest.mark.parametrize(
    "name", ["position", *(pytest.param(box, marks=pytest.mark.slow) for box in BOXES if box != "position")]
)
def test_compiled_is_the_same_bits_and_no_decision_is_no_trade(name: str) -> None:
    """Where no decision is taken the compiled step is given a number that is none."""
    terms = only(config(name, starting_shares=7), "value", "noise", "maker").replace(features="canonical28")
    plain, compiled = (opened(terms, 3, compile=compile) for compile in (False, True))
    assert compiled.observe().info["position"].unique().tolist() == [7]
    for at, action in enumerate(random_actions(terms, 20, 3)):
        given = None if at % 3 == 2 else action
        one, two = plain.step(given), compiled.step(given)
        assert differences(seen(one), seen(two)) == []
    assert differences(plain.state, compiled.state) == []
