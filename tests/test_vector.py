"""`TradingVectorEnv` equals gymnasium's SyncVectorEnv of single environments, step by step, in every autoreset mode."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import vector as wrappers
from torchrl.envs import GymWrapper
from torchrl.envs.utils import check_env_specs

import torchgym as tg
from torchgym.envs.gymnasium import TradingEnv
from torchgym.envs.vector import TradingVectorEnv

pytestmark = pytest.mark.kept

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
        {"include_account": True, "information": "privileged"},
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
    """What each call returns and, with a render mode, what the first market looks like afterwards."""
    played = []
    for name, arguments in calls:
        if arguments.get("options"):
            arguments = {**arguments, "options": dict(arguments["options"])}  # SyncVectorEnv takes the mask out of it
        played.append(getattr(env, name)(**arguments))
        if env.render_mode is not None:
            played[-1] += env.render()[:1]
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
    settings = {**settings, "render_mode": "ansi"}
    batch = TradingVectorEnv(FRAGILE, num_envs=3, autoreset_mode=mode, **settings)
    single = SyncVectorEnv([partial(TradingEnv, FRAGILE, **settings)] * 3, autoreset_mode=mode)
    for name in ("observation_space", "single_observation_space", "action_space", "single_action_space"):
        assert getattr(batch, name) == getattr(single, name)
    assert batch.metadata == single.metadata
    assert batch.metadata["autoreset_mode"] == mode
    ours, theirs = play(batch, calls), play(single, calls)
    for index, (call, one, other) in enumerate(zip(calls, ours, theirs, strict=True)):
        assert_same(one, other, f"call {index}, {call[0]}:")
    ended = [result[2].tolist() for result in ours if len(result) == 6]
    assert [True, False, False] in ended, "no row was ruined alone, so the script shows little"
    assert [False, True, True] in [result[3].tolist() for result in ours if len(result) == 6]


@pytest.mark.parametrize("seed", [4, None])
def test_the_constructors_seed_is_that_of_the_first_reset(seed: int | None) -> None:
    env = TradingVectorEnv(preset="toy", num_envs=2, seed=seed)
    first = env.reset()[0]
    others = TradingVectorEnv(preset="toy", num_envs=2)
    seeds = (4, np.int64(4), [4, 5], (4, 5), range(4, 6), np.array([4, 5]), torch.tensor([4, 5]))
    same = all(np.array_equal(first, others.reset(seed=one)[0]) for one in seeds)
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
        ({"seed": [1, -2, None]}, ValueError, "seed of environment 1 must be an integer from 0 to .*, got -2"),
        ({"seed": 2**63 - 2}, ValueError, r"leads 3 environments to seeds beyond .*: give a smaller one"),
        ({"seed": 0.5}, ValueError, "got 0.5"),
        ({"seed": b"abc"}, ValueError, "got b'abc'"),
        ({"seed": {1, 2, 3}}, ValueError, r"got \{1, 2, 3\}"),
        ({"seed": [1, 2.0, 3]}, ValueError, "got 2.0"),
        ({"seed": np.array([True, False, True])}, ValueError, "got True"),
        ({"seed": torch.tensor([0.5, 1.5, 2.5])}, ValueError, "got 0.5"),
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
        ({"render_mode": "paper"}, "unknown render_mode 'paper': choose one of human, rgb_array, ansi, or None"),
        ({"seed": -1}, "got -1"),
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
    counted = wrappers.RecordEpisodeStatistics(env)
    counted.reset(seed=0)
    counted.step(np.array([2, 0]))
    counted.reset(options={"reset_mask": np.array([False, True])})
    *_, truncations, infos = counted.step(np.array([2, 0]))
    equity = infos["final_info"]["equity"] if mode == "SameStep" else infos["equity"]
    assert truncations.tolist() == infos["_episode"].tolist() == [True, False]
    assert infos["episode"]["l"].tolist() == [2, 0]
    assert infos["episode"]["r"][0] == pytest.approx(equity[0] - 100_000.0, rel=1e-9)


def wrapped(make: Callable[[VectorEnv], VectorEnv], env: VectorEnv) -> list[Any] | type[Exception]:
    """What a wrapper says of this environment through the ends of two episodes, or why it refuses it."""
    try:
        made = make(env)
        played = [made.reset(seed=3)]
        for choices in ([2, 0], [1, 2], [2, 1], [0, 1], [1, 1]):
            played.append(copy.deepcopy(made.step(np.array(choices))))  # a wrapper writes into what it gave before
            if env.metadata["autoreset_mode"] is AutoresetMode.DISABLED and played[-1][3].any():
                played.append(made.reset(options={"reset_mask": played[-1][3]}))
    except (AssertionError, ValueError) as error:  # gymnasium refuses by assertions before 1.4
        return type(error)
    return played


def without_clock(played: Any) -> Any:
    """Without the seconds that an episode took."""
    if isinstance(played, dict):
        return {key: without_clock(value) for key, value in played.items() if key not in ("t", "_t")}
    if isinstance(played, (list, tuple)):
        return tuple(map(without_clock, played))
    return played


WRAPPERS: dict[str, Callable[[VectorEnv], VectorEnv]] = {
    "RecordEpisodeStatistics": wrappers.RecordEpisodeStatistics,
    "NormalizeObservation": wrappers.NormalizeObservation,
    "NormalizeReward": wrappers.NormalizeReward,
    "ClipReward": partial(wrappers.ClipReward, min_reward=-1.0, max_reward=1.0),
    "TransformReward": partial(wrappers.TransformReward, func=np.tanh),
    "VectorizeTransformReward": partial(
        wrappers.VectorizeTransformReward, wrapper=gymnasium.wrappers.TransformReward, func=np.tanh
    ),
    "TransformObservation": partial(wrappers.TransformObservation, func=np.tanh),
    "FlattenObservation": wrappers.FlattenObservation,
    "ReshapeObservation": partial(wrappers.ReshapeObservation, shape=(6, 9)),
    "DictInfoToList": wrappers.DictInfoToList,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_gymnasiums_wrappers_do_with_it_what_they_do_with_single_ones(wrapper: str, mode: AutoresetMode) -> None:
    # All that infos can have, where they are what the wrapper changes.
    information = "privileged" if wrapper == "DictInfoToList" else "public"
    settings = {"preset": "toy", "max_ticks": 2, "information": information}
    batch = wrapped(WRAPPERS[wrapper], TradingVectorEnv(num_envs=2, autoreset_mode=mode, **settings))
    single = SyncVectorEnv([partial(TradingEnv, **settings)] * 2, autoreset_mode=mode)
    assert_same(without_clock(batch), without_clock(wrapped(WRAPPERS[wrapper], single)), wrapper)
    refused = {"NormalizeObservation", "TransformObservation", "FlattenObservation", "ReshapeObservation"}
    assert isinstance(batch, type) == (
        (mode is AutoresetMode.SAME_STEP and wrapper in refused)
        or (mode is AutoresetMode.DISABLED and wrapper == "NormalizeObservation")
    )


@pytest.mark.parametrize("vector", [True, False])
def test_gymnasium_makes_torch_tensors_of_all_it_says(vector: bool) -> None:
    """But for `final_obs` of mode "SameStep", an array of objects, which it can convert in no environment."""
    pytest.importorskip("array_api_compat")
    settings: dict[str, Any] = {"preset": "toy", "max_ticks": 2, "information": "privileged"}
    if vector:
        made: Any = wrappers.NumpyToTorch(TradingVectorEnv(num_envs=2, **settings))
    else:
        made = gymnasium.wrappers.NumpyToTorch(gymnasium.make("torchgym/Trading-v0", **settings))
    _, info = made.reset(seed=3)
    for _ in range(2):
        observation, *_, told = made.step(torch.tensor([2, 0] if vector else 2))
        assert torch.is_tensor(observation)
        assert all(map(torch.is_tensor, told.values()))
    assert info.keys() == told.keys()


@pytest.mark.parametrize("symbols", [1, 2])
@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
def test_torchrl_wraps_it(mode: str, symbols: int) -> None:
    """In the two modes that it has; its data are those of the environment itself, last observations included."""
    settings: dict[str, Any] = {"preset": "toy", "max_ticks": 3, "num_envs": 2, "num_symbols": symbols}
    wrapper = GymWrapper(
        TradingVectorEnv(autoreset_mode=mode, information="privileged", **settings), categorical_action_encoding=True
    )
    check_env_specs(wrapper)
    wrapper.set_seed(7)
    data = wrapper.rollout(6, break_when_any_done=False)
    assert data.batch_size == (2, 6)
    assert data["next", "truncated"][..., 0].tolist() == [[False, False, True] * 2] * 2
    env = TradingVectorEnv(autoreset_mode="SameStep", information="privileged", **settings)
    env.reset(seed=7)  # as `set_seed` does at once
    observation, _ = env.reset()  # as `rollout` does
    np.testing.assert_array_equal(data["observation"][:, 0].numpy(), observation)
    for step, action in enumerate(data["action"].unbind(1)):
        observation, rewards, *_, infos = env.step(action.numpy())
        last = np.stack(list(infos["final_obs"])) if "final_obs" in infos else observation
        np.testing.assert_array_equal(data["next", "observation"][:, step].numpy(), last)
        np.testing.assert_array_equal(data["next", "reward"][:, step, 0].numpy(), rewards.astype(np.float32))
        if mode == "SameStep" and "final_obs" in infos:
            env.reset()  # as the wrapper does where all end at once


def test_torchrl_refuses_the_mode_that_it_does_not_have() -> None:
    with pytest.raises(RuntimeError, match="must be one of SAME_STEP or DISABLED"):
        GymWrapper(TradingVectorEnv(preset="toy", num_envs=2))


def test_attributes_and_generators_are_those_of_single_environments() -> None:
    batch, single = TradingVectorEnv(FRAGILE, num_envs=3), SyncVectorEnv([partial(TradingEnv, FRAGILE)] * 3)
    for call in (reset(seed=11), step(2, 1, 1), step(2, 1, 1), reset(0, 1, 0, seed=[1, None, 3])):  # draws from some
        play(batch, [call])
        play(single, [call])
        for name in (
            *("config", "feature_names", "include_account", "render_mode", "np_random_seed"),
            *("observation_space", "action_space"),
        ):
            assert batch.get_attr(name) == single.get_attr(name) == batch.call(name), name
        assert batch.np_random_seed == single.np_random_seed
        states = [[one.bit_generator.state for one in env.np_random] for env in (batch, single)]
        assert states[0] == states[1] == [one.bit_generator.state for one in batch.get_attr("np_random")]
    assert batch.np_random_seed == (11, 12, 13)
    assert batch.call("close") == single.call("close") == (None,) * 3
    for env in (batch, single):
        with pytest.raises(AttributeError, match="nothing"):
            env.get_attr("nothing")
        env.set_attr("label", "x")
        assert env.get_attr("label") == ("x",) * 3
        env.set_attr("label", [7, 7, 7])
        assert env.get_attr("label") == (7,) * 3
        with pytest.raises(ValueError, match="values"):
            env.set_attr("label", [7, 7])


@pytest.mark.parametrize(
    ("use", "complaint"),
    [
        (lambda env: env.call("step", 1), r"step\(\) of a single environment cannot be called"),
        (lambda env: env.get_attr("reset"), r"reset\(\) of a single environment cannot be called"),
        (lambda env: env.set_attr("label", [1, 2, 1]), r"'label' is one for all environments: .* got \[1, 2, 1\]"),
        (lambda env: env.set_attr("label", [1]), "expected 3 values of 'label', one per environment, got 1"),
        (lambda env: env.set_attr("np_random", np.random.default_rng(1)), "'np_random' cannot be set: seeds are given"),
        (lambda env: env.set_attr("action_space", None), "'action_space' cannot be set"),
    ],
)
def test_what_would_differ_between_environments_is_refused(
    opened: TradingVectorEnv, use: Callable[[TradingVectorEnv], Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        use(opened)
    assert not hasattr(opened, "label")
    assert opened.market.state.clock.tick.tolist() == [0, 0, 0]


def test_equal_arrays_are_one_value() -> None:
    env = TradingVectorEnv(preset="toy", num_envs=2)
    env.set_attr("label", [np.arange(3), np.arange(3)])
    np.testing.assert_array_equal(env.get_attr("label"), [np.arange(3)] * 2)
    with pytest.raises(ValueError, match="one for all"):
        env.set_attr("label", [np.arange(3), np.arange(2)])


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
    assert made.config == tg.task("Trading", "toy", num_symbols=2)
    assert made.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert made.spec is not None and made.spec.id == "torchgym/Trading-v0"
    assert len(made.feature_names) == made.single_observation_space.shape[0]
    made.close()
    made.close()
