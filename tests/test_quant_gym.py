"""The literal gym interface: its three usage scripts run unchanged, and it says the numbers of the other faces."""

import inspect
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

import torchgym as tg
from torchgym.quant_gym import PyTradingEnv, PyVecTradingEnv

pytestmark = pytest.mark.kept

BAD_ACTION = "action must be 0 (sell), 1 (hold), or 2 (buy)"

# Usage as documented for the Rust extension, but for the import line and smaller numbers.
BASIC = """
from torchgym.quant_gym import PyTradingEnv

env = PyTradingEnv(max_ticks=20, seed=42)
obs = env.reset(seed=42)
print(f"Observation shape: {obs.shape}")  # (54,)
print(f"Feature names: {env.feature_names()[:5]}")

total_reward = 0
for step in range(20):
    action = 1  # Hold
    obs, reward, terminated, truncated, info = env.step(action)
    total_reward += reward
    if terminated:
        print(f"Episode ended at step {step}, total reward: {total_reward:.2f}")
        break
"""
EPISODES = """
from torchgym.quant_gym import PyTradingEnv
import numpy as np

# Collect episodes for supervised learning
env = PyTradingEnv(max_ticks=10, seed=0)
X, y = [], []

for episode in range(2):
    obs = env.reset(seed=episode)
    for _ in range(10):
        action = np.random.choice([0, 1, 2])  # Random policy
        next_obs, reward, done, _, info = env.step(action)
        X.append(obs)
        y.append(1 if reward > 0 else (0 if reward == 0 else -1))
        obs = next_obs
        if done:
            break

X = np.array(X)
y = np.array(y)
"""
VECTORISED = """
from torchgym.quant_gym import PyVecTradingEnv
import numpy as np

vec_env = PyVecTradingEnv(num_envs=8, max_ticks=20, base_seed=42)
obs = vec_env.reset_all()  # shape: (8, 54)

for _ in range(20):
    actions = np.random.randint(0, 3, size=8).tolist()
    obs, rewards, dones, truncs, infos = vec_env.step_all(actions)
    # Auto-reset terminated envs
    for i, done in enumerate(dones):
        if done:
            # Individual reset handled by env internally (or manually)
            pass
"""


def test_the_basic_script_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(BASIC, names)
    assert capsys.readouterr().out.startswith("Observation shape: (54,)\nFeature names: ['f_mid_price', ")
    assert names["total_reward"] == 0.0
    assert names["truncated"] is True


def test_the_script_that_collects_episodes_runs() -> None:
    names: dict[str, Any] = {}
    exec(EPISODES, names)
    assert (names["X"].shape, names["X"].dtype, names["y"].shape) == ((20, 54), np.float64, (20,))
    assert len(np.unique(names["X"], axis=0)) == 20  # every observation is an array of its own


def test_the_vectorised_script_runs() -> None:
    names: dict[str, Any] = {}
    exec(VECTORISED, names)
    assert names["obs"].shape == (8, 54)
    assert names["truncs"] == [True] * 8


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """Positional parameters and their defaults."""
    found = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in found if p.kind is not p.KEYWORD_ONLY and p.name != "self"}


def test_signatures_are_kept() -> None:
    missing = inspect.Parameter.empty
    assert parameters(PyTradingEnv) == {"max_ticks": 10000, "seed": None, "num_symbols": 1}
    assert parameters(PyTradingEnv.reset) == {"seed": None}
    assert parameters(PyTradingEnv.step) == {"action": missing}
    assert parameters(PyVecTradingEnv) == {"num_envs": missing, "max_ticks": 10000, "base_seed": None}
    assert parameters(PyVecTradingEnv.reset_all) == {"seeds": None}
    assert parameters(PyVecTradingEnv.step_all) == {"actions": missing}


@pytest.fixture(scope="module")
def single() -> PyTradingEnv:
    env = PyTradingEnv(max_ticks=50, seed=7)
    env.reset()
    return env


@pytest.fixture(scope="module")
def batch() -> PyVecTradingEnv:
    env = PyVecTradingEnv(3, max_ticks=50, base_seed=7)
    env.reset_all()
    return env


def test_return_types_of_one_environment(single: PyTradingEnv) -> None:
    box = spaces.Box(low=-np.inf, high=np.inf, shape=(54,), dtype=np.float64)
    assert single.observation_space == box
    assert single.action_space == spaces.Discrete(3)
    names = single.feature_names()
    assert (type(names), len(names), len(set(names))) == (list, 54, 54)
    result = single.step(2)
    observation, *_, info = result
    assert [type(part) for part in result] == [np.ndarray, float, bool, bool, dict]
    assert observation in box
    assert list(info) == ["tick", "equity", "realized_pnl"]
    assert [type(value) for value in info.values()] == [int, float, float]


def test_return_types_of_a_batch(batch: PyVecTradingEnv) -> None:
    assert batch.num_envs == 3
    before = batch._market.state.clock.tick[0].item()
    result = batch.step_all([2, 1, 0])
    observations, rewards, terminateds, truncateds, infos = result
    assert [type(part) for part in result] == [np.ndarray, np.ndarray, list, list, list]
    assert (observations.shape, observations.dtype) == ((3, 54), np.float64)
    assert (rewards.shape, rewards.dtype) == ((3,), np.float64)
    assert (terminateds, truncateds) == ([False] * 3, [False] * 3)
    assert all(type(flag) is bool for flag in terminateds + truncateds)
    for info in infos:
        assert list(info) == ["tick", "equity"]
        assert (type(info["tick"]), info["tick"], type(info["equity"])) == (int, before + 1, float)


@pytest.mark.parametrize(
    "action", [3, -1, 2**80, 1.0, True, None, "1", [1], np.array([1]), torch.tensor(1.0)], ids=repr
)
def test_a_bad_action_is_refused(single: PyTradingEnv, batch: PyVecTradingEnv, action: Any) -> None:
    before = single._market.state.clock.tick.tolist(), batch._market.state.clock.tick.tolist()
    with pytest.raises(ValueError) as refused:
        single.step(action)
    assert str(refused.value) == BAD_ACTION
    with pytest.raises(ValueError, match=f"^{re.escape(BAD_ACTION)}: action 1 is "):
        batch.step_all([1, action, 1])
    assert (single._market.state.clock.tick.tolist(), batch._market.state.clock.tick.tolist()) == before


@pytest.mark.parametrize("actions", [[1, 1], np.ones(4, dtype=np.int64), torch.ones(0, dtype=torch.int64)], ids=repr)
def test_another_number_of_actions_is_refused(batch: PyVecTradingEnv, actions: Any) -> None:
    with pytest.raises(ValueError) as refused:
        batch.step_all(actions)
    assert str(refused.value) == f"expected 3 actions, got {len(actions)}"


@pytest.mark.parametrize(
    "actions", [1, None, np.ones(3), torch.ones(3, dtype=torch.bool), np.ones((3, 1), dtype=int)], ids=repr
)
def test_what_is_no_row_of_integers_is_refused(batch: PyVecTradingEnv, actions: Any) -> None:
    with pytest.raises(ValueError, match=r"^action"):
        batch.step_all(actions)


def test_actions_come_in_any_container(single: PyTradingEnv, batch: PyVecTradingEnv) -> None:
    for action in (1, np.int64(1), np.array(1), torch.tensor(1)):
        single.step(action)
    for actions in ([1, np.int64(1), torch.tensor(1)], (1, 1, 1), np.ones(3, dtype=np.int32), torch.ones(3).long()):
        batch.step_all(actions)


def test_seeds_decide_episodes() -> None:
    env = PyTradingEnv(max_ticks=50, seed=5)
    first, second = env.reset(), env.reset()
    again = PyVecTradingEnv(num_envs=2, max_ticks=50, base_seed=5)
    firsts, seconds = again.reset_all(), again.reset_all()
    np.testing.assert_array_equal(firsts[0], first)  # market i has base_seed + i ...
    np.testing.assert_array_equal(seconds[0], second)  # ... and goes on to its own next episode
    np.testing.assert_array_equal(firsts[1], env.reset(6))
    np.testing.assert_array_equal(again.reset_all(seeds=[9, 5])[1], first)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("seed", [-1, 0.5, "3", True])
def test_bad_seeds_are_named(single: PyTradingEnv, batch: PyVecTradingEnv, seed: Any) -> None:
    for opening in (
        lambda: PyTradingEnv(seed=seed),
        lambda: single.reset(seed),
        lambda: PyVecTradingEnv(2, base_seed=seed),
        lambda: batch.reset_all([1, 2, seed]),
    ):
        with pytest.raises(ValueError, match=re.escape(f"got {seed!r}")):
            opening()
    with pytest.raises(ValueError, match="expected 3 seeds"):
        batch.reset_all([1, 2])


def test_without_a_seed_markets_differ() -> None:
    one, other = PyVecTradingEnv(2).reset_all(), PyVecTradingEnv(2).reset_all()
    assert not np.array_equal(one[0], one[1])
    assert not np.array_equal(one, other)


def test_a_step_needs_a_reset() -> None:
    with pytest.raises(RuntimeError, match=r"call reset\(\) first"):
        PyTradingEnv().step(1)


def test_the_market_trades_on_after_the_end() -> None:
    env = PyTradingEnv(max_ticks=1, seed=0)
    env.reset()
    assert [(truncated, info["tick"]) for _, _, _, truncated, info in (env.step(1), env.step(1))] == [
        (True, 1),
        (True, 2),
    ]


def test_all_faces_say_the_same_numbers() -> None:
    literal = PyTradingEnv(max_ticks=50, seed=3, num_symbols=2)
    gym = literal.as_gymnasium()
    assert isinstance(gym, tg.TradingEnv)
    np.testing.assert_array_equal(literal.reset(), gym.reset()[0])  # both start from the constructor's seed
    for action in (2, 0, 0):  # one action trades in every symbol
        observation, reward, terminated, truncated, info = literal.step(action)
        after, same_reward, same_terminated, same_truncated, more = gym.step([action, action])
        np.testing.assert_array_equal(observation, after)
        assert (reward, terminated, truncated) == (same_reward, same_terminated, same_truncated)
        assert info == {name: more[name] for name in info}
    assert more["position"].tolist() == [-10, -10]
    assert len(literal.feature_names()) == observation.size == 108


def play(env: PyVecTradingEnv, seed: int, steps: int) -> list[np.ndarray]:
    """Observations and rewards of a short episode."""
    played = [env.reset_all([seed + index for index in range(env.num_envs)])]
    for step in range(steps):
        observations, rewards, *_ = env.step_all([(step + index) % 3 for index in range(env.num_envs)])
        played += [observations, rewards]
    return played


def test_threads_do_not_touch_each_others_markets() -> None:
    envs = [PyVecTradingEnv(2, max_ticks=50) for _ in range(4)]
    alone = [play(env, seed, 4) for seed, env in enumerate(envs[:2])]
    together: dict[int, list[np.ndarray]] = {}
    start = threading.Barrier(2)

    def run(seed: int, env: PyVecTradingEnv) -> None:
        start.wait()
        together[seed] = play(env, seed, 4)

    threads = [threading.Thread(target=run, args=(seed, env)) for seed, env in enumerate(envs[2:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, serial in enumerate(alone):
        for one, other in zip(serial, together[seed], strict=True):
            np.testing.assert_array_equal(one, other)


def test_other_threads_run_while_a_batch_steps() -> None:
    """Tensor operations release the interpreter lock: with forced switching off, only that lets the counter count."""
    env = PyVecTradingEnv(256, max_ticks=50, base_seed=0)
    env.reset_all()
    counted, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            counted[0] += 1
            time.sleep(1e-5)  # lets go of the lock, so that the stepping thread gets it back

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=count)
    try:
        sys.setswitchinterval(1000.0)  # seconds: a thread keeps the lock until it lets go of it
        thread.start()
        before = counted[0]
        for _ in range(40):  # a busy processor may wake the counting thread too late for one step, not for all of them
            env.step_all([1] * 256)
            if counted[0] > before:
                break
        during = counted[0] - before
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        thread.join()
    assert during > 0
