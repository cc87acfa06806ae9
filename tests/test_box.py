"""Actions that are numbers, through every face: spaces, precision, refusals, recordings, and compiled in the same bits."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from markets import differences, opened, random_actions, seen, toy
from stable_baselines3.common import env_checker as sb3_checker
from torchrl.envs.utils import check_env_specs

import torchgym as tg
from torchgym import MarketConfig
from torchgym.recording import EpisodeRecorder
from torchgym.training import PPOSettings, start

LIMIT = 50


def config(**changes: Any) -> MarketConfig:
    return toy(action="position", position_limit=LIMIT, **changes)


@pytest.mark.parametrize("symbols", [1, 2])
def test_gymnasium_and_its_checkers(symbols: int) -> None:
    env = tg.TradingEnv(config(num_symbols=symbols))
    assert env.action_space == gym.spaces.Box(-1.0, 1.0, (symbols,), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # features have no bounds
        check_env(env, skip_render_check=True)
    sb3_checker.check_env(tg.TradingEnv(config(num_symbols=symbols, scaling="relative")), warn=False)
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


def test_the_core_refuses_them_too() -> None:
    market = opened(config(), 2)
    with pytest.raises(ValueError, match=r"action of market 1 is nan, must be -1 to 1 \('position' actions\)"):
        market.step(torch.tensor([0.0, float("nan")]))
    with pytest.raises(ValueError, match=r"action must be of a floating dtype, got torch.int64"):
        market.step(torch.tensor([0, 1]))
    assert market.state.clock.tick.tolist() == [0, 0]


def test_batches_of_every_library() -> None:
    vector = tg.TradingVectorEnv(config(), num_envs=3)
    vector.reset(seed=0)
    sb3 = tg.SB3VecEnv(config(), num_envs=3, seed=0)
    sb3.reset()
    skrl = tg.SkrlEnv(config(), num_envs=3, seed=0)
    skrl.reset()
    actions = np.array([[-1.0], [0.0], [0.26]], np.float32)
    wanted = [[-LIMIT], [0], [13]]
    for _ in range(4):  # more than one where the book is thin
        infos, listed = vector.step(actions)[-1], sb3.step(actions)[-1]
        told = skrl.step(torch.from_numpy(actions))[-1]
    assert infos["position"].tolist() == [info["position"].tolist() for info in listed] == wanted
    assert told["position"].tolist() == wanted
    assert vector.single_action_space == sb3.action_space == skrl.action_space


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("symbols", [1, 2])
def test_torchrl_specs(symbols: int, dtype: torch.dtype) -> None:
    env = tg.MarketEnv(config(num_symbols=symbols), num_envs=2, seed=0, dtype=dtype)
    check_env_specs(env)
    data = env.rollout(5)
    assert data["action"].shape == (2, 5, symbols) and data["action"].dtype == dtype


def test_recordings_hold_the_numbers(tmp_path: Path) -> None:
    market = tg.Market(config(max_ticks=8), 2)
    given = random_actions(market.config, 7, 2)
    with EpisodeRecorder(tmp_path / "episodes.parquet", market) as recorder:
        recorder.reset(seeds=[1, 2])
        for action in given:
            recorder.step(action)
        recorder.step()  # holds
    column = pq.read_table(tmp_path / "episodes.parquet")["action"].to_pylist()
    expected = [[*given[:, row, 0].tolist(), None, None] for row in (0, 1)]
    known = [value if value is None or value == value else None for value in column]
    assert known == [value for row in expected for value in row]


def test_compiled_is_the_same_bits_and_no_decision_is_no_trade() -> None:
    """Where no decision is taken the compiled step is given a number that is none."""
    terms = config(starting_shares=7)
    plain, compiled = opened(terms, 3), opened(terms, 3, compile=True)
    assert compiled.observe().info["position"].unique().tolist() == [7]
    for at, action in enumerate(random_actions(terms, 20, 3)):
        given = None if at % 3 == 2 else action
        one, two = plain.step(given), compiled.step(given)
        assert differences(seen(one), seen(two)) == []
    assert differences(plain.state, compiled.state) == []


def test_the_agent_names_what_it_can_do() -> None:
    settings = PPOSettings(total_frames=32, num_envs=4, rollout=4, hidden=(4,))
    with pytest.raises(ValueError, match=r"takes choices, and action='position' has none: use 'discrete', 'sized'"):
        start(config(), settings, compile=False)
