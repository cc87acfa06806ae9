"""`TradingVectorEnv` equals gymnasium's SyncVectorEnv of single environments, step by step, in every autoreset mode."""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import torchgym as tg
from torchgym.envs.gymnasium import TradingEnv
from torchgym.envs.vector import TradingVectorEnv

# Whoever trades is ruined by the commission, so rows end one by one.
FRAGILE = tg.preset("toy", max_ticks=3, starting_cash=10_000_000, maintenance=9_999_999, commission_bps=500.0)
MODES = list(AutoresetMode)

Call = tuple[str, dict[str, Any]]


def step(*actions: Any) -> Call:
    return "step", {"actions": np.array(actions)}


def reset(*mask: int, seed: Any = None) -> Call:
    return "reset", {"seed": seed, "options": {"reset_mask": np.array(mask, dtype=np.bool_)} if mask else None}


SCRIPTS: dict[AutoresetMode, tuple[dict[str, Any], list[Call]]] = {
    AutoresetMode.NEXT_STEP: (
        {},
        [
            reset(seed=11),
            step(2, 1, 1),  # row 0 is ruined
            step(2, 1, 1),  # and opens its next episode, its action ignored
            step(1, 1, 1),  # rows 1 and 2 run out of time
            reset(0, 1, 0, seed=[1, None, 3]),  # row 1 no longer waits for its reset
            step(1, 2, 0),
            step(1, 2, 0),
        ],
    ),
    AutoresetMode.SAME_STEP: (
        {"include_account": True},
        [
            reset(seed=[5, 2**62, 5]),
            step(2, 1, 1),
            step(1, 1, 1),
            step(1, 1, 1),
            reset(0, 1, 0),
            step(1, 2, 1),
        ],
    ),
    AutoresetMode.DISABLED: (
        {"num_symbols": 2},
        [
            reset(seed=0),
            step([1, 2], [1, 1], [1, 1]),
            reset(1, 0, 0),
            step([1, 1], [1, 1], [1, 1]),
            step([1, 1], [1, 1], [1, 1]),
            reset(0, 1, 1, seed=[None, 7, None]),
            step([1, 1], [0, 2], [1, 1]),
        ],
    ),
}


def play(env: VectorEnv, calls: list[Call]) -> list[Any]:
    played = []
    for name, arguments in calls:
        if arguments.get("options"):
            arguments = {**arguments, "options": dict(arguments["options"])}  # SyncVectorEnv takes the mask out of it
        played.append(getattr(env, name)(**arguments))
    return played


def assert_same(one: Any, other: Any, where: str) -> None:
    """Equal in every value, key, type, dtype and shape."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where} {key}")
    elif isinstance(one, tuple):
        assert len(one) == len(other), where
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f"{where}[{index}]")
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), where
        if one.dtype == object:
            for left, right in zip(one, other, strict=True):
                assert_same(left, right, where)
        else:
            np.testing.assert_array_equal(one, other, where)
    else:
        assert one == other, where


@pytest.mark.parametrize("mode", MODES)
def test_it_equals_single_environments_side_by_side(mode: AutoresetMode) -> None:
    settings, calls = SCRIPTS[mode]
    batch = TradingVectorEnv(FRAGILE, num_envs=3, autoreset_mode=mode, **settings)
    single = SyncVectorEnv([partial(TradingEnv, FRAGILE, **settings)] * 3, autoreset_mode=mode)
    for name in ("observation_space", "single_observation_space", "action_space", "single_action_space"):
        assert getattr(batch, name) == getattr(single, name)
    assert batch.metadata == {
        "render_modes": [],
        "autoreset_mode": mode,
    }  # it draws nothing, whatever a single one does
    assert single.metadata["autoreset_mode"] == mode
    ours, theirs = play(batch, calls), play(single, calls)
    for index, (call, one, other) in enumerate(zip(calls, ours, theirs, strict=True)):
        assert_same(one, other, f"call {index}, {call[0]}:")
    ended = [result[2].tolist() for result in ours if len(result) == 5]
    assert [True, False, False] in ended, "no row was ruined alone, so the script shows little"
    assert [False, True, True] in [result[3].tolist() for result in ours if len(result) == 5]


@pytest.mark.parametrize("seed", [4, None])
def test_the_constructors_seed_is_that_of_the_first_reset(seed: int | None) -> None:
    env = TradingVectorEnv(preset="toy", num_envs=2, seed=seed)
    first = env.reset()[0]
    same = np.array_equal(first, TradingVectorEnv(preset="toy", num_envs=2).reset(seed=4)[0])
    assert same is (seed == 4)
    assert not np.array_equal(env.reset()[0], first)


@pytest.fixture(scope="module")
def opened() -> TradingVectorEnv:
    """An environment in its first episode, for tests that leave it where it is."""
    env = TradingVectorEnv(preset="toy", num_envs=3, max_ticks=8)
    env.reset(seed=1)
    return env


@pytest.mark.parametrize(
    ("actions", "complaint"),
    [
        ([1, 1, 7], r"0 to 2, got 7 at \(2,\)"),
        ([1, -1, 1], r"0 to 2, got -1 at \(1,\)"),
        ([1, 1], r"shape \(3,\), got \(2,\)"),
        (1, r"shape \(3,\), got \(\)"),
        (np.ones((3, 1), dtype=np.int64), r"shape \(3,\), got \(3, 1\)"),
        ([1, 1.0, 1], "integers"),
        (np.ones(3), "integers"),
        ([True, 1, 1], "integers"),
        (torch.ones(3, dtype=torch.bool), "integers"),
        (None, "integers"),
    ],
    ids=repr,
)
def test_a_bad_action_in_any_row_changes_nothing(opened: TradingVectorEnv, actions: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        opened.step(actions)
    assert opened.market.state.clock.tick.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "error", "complaint"),
    [
        ({"seed": [1, 2]}, ValueError, "expected 3 seeds, one per environment, got 2"),
        ({"seed": [1, -2, None]}, ValueError, "seed 0 must be an integer from 0 to .*, got -2"),
        ({"seed": 2**63 - 2}, ValueError, "must be an integer from 0 to"),
        ({"seed": 0.5}, ValueError, "got 0.5"),
        ({"options": {"reset_mask": [True, False, True]}}, TypeError, "numpy array of bools, got list"),
        ({"options": {"reset_mask": np.array([1, 0, 1])}}, TypeError, "numpy array of bools, got dtype int64"),
        ({"options": {"reset_mask": np.array([True])}}, ValueError, r"shape \(3,\), got \(1,\)"),
        ({"options": {"reset_mask": np.zeros(3, dtype=np.bool_)}}, ValueError, "at least one True"),
    ],
    ids=str,
)
def test_a_bad_reset_changes_nothing(
    opened: TradingVectorEnv, arguments: dict[str, Any], error: type[Exception], complaint: str
) -> None:
    before = opened.market.state.clock.key.tolist()
    with pytest.raises(error, match=complaint):
        opened.reset(**arguments)
    assert opened.market.state.clock.key.tolist() == before


def test_the_first_reset_opens_every_market() -> None:
    env = TradingVectorEnv(preset="toy", num_envs=2)
    with pytest.raises(ResetNeeded, match=r"no episode has begun: call reset\(\)"):
        env.step([1, 1])
    with pytest.raises(ResetNeeded, match="without a reset_mask"):
        env.reset(options={"reset_mask": np.array([True, False])})


def test_without_autoreset_an_ended_episode_is_not_stepped() -> None:
    env = TradingVectorEnv(FRAGILE, num_envs=2, autoreset_mode="Disabled")
    env.reset(seed=0)
    assert env.step([1, 2])[2].tolist() == [False, True]
    with pytest.raises(ResetNeeded, match=r"environments \[1\] have ended"):
        env.step([1, 1])
    assert env.market.state.clock.tick.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"num_envs": 0}, "num_envs must be an integer >= 1, got 0"),
        (
            {"autoreset_mode": "Never"},
            "unknown autoreset_mode 'Never': choose one of 'NextStep', 'SameStep', 'Disabled'",
        ),
        ({"render_mode": "human"}, "render_mode must be None"),
        ({"seed": -1}, "got -1"),
        ({"num_symbol": 2}, "unknown setting num_symbol"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        TradingVectorEnv(**settings)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_episode_statistics_of_gymnasiums_wrapper(mode: str) -> None:
    """The wrapper, which counts steps and rewards itself, finds episodes of `max_ticks` steps; a mask resets its rows alone."""
    env = TradingVectorEnv(preset="toy", num_envs=2, max_ticks=2, autoreset_mode=mode)
    wrapped = RecordEpisodeStatistics(env)
    wrapped.reset(seed=0)
    wrapped.step(np.array([2, 0]))
    wrapped.reset(options={"reset_mask": np.array([False, True])})
    *_, truncations, infos = wrapped.step(np.array([2, 0]))
    equity = infos["final_info"]["equity"] if mode == "SameStep" else infos["equity"]
    assert truncations.tolist() == infos["_episode"].tolist() == [True, False]
    assert infos["episode"]["l"].tolist() == [2, 0]
    assert infos["episode"]["r"][0] == pytest.approx(equity[0] - 100_000.0, rel=1e-9)


def test_what_comes_back_is_the_callers_own() -> None:
    env = TradingVectorEnv(FRAGILE, num_envs=2, autoreset_mode="SameStep")
    results = [env.reset(seed=0), env.step([2, 1]), env.step([1, 1])]  # the second with a row that ends
    arrays: list[np.ndarray] = []

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            value = tuple(value.values())
        if isinstance(value, tuple):
            for part in value:
                collect(part)
        elif isinstance(value, np.ndarray):
            arrays.append(value)
            if value.dtype == object:
                collect(tuple(value))

    collect(tuple(results))
    assert len(arrays) > 60
    assert results[1][-1]["final_obs"][0].base is None, "keeping a last observation keeps those of the whole batch"
    for index, array in enumerate(arrays):
        assert array.flags.writeable
        assert not any(np.shares_memory(array, other) for other in arrays[:index])


def test_it_is_what_make_vec_makes() -> None:
    made = gymnasium.make_vec("torchgym/Trading-v0", num_envs=2, preset="toy", num_symbols=2, autoreset_mode="SameStep")
    assert isinstance(made, TradingVectorEnv)
    assert made.config == tg.preset("toy", num_symbols=2)
    assert made.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert made.spec is not None and made.spec.id == "torchgym/Trading-v0"
    assert len(made.feature_names) == made.single_observation_space.shape[0]
    made.close()
    made.close()
