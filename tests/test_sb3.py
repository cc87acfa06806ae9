"""The stable-baselines3 face: its contract, what it shows at the ends of episodes, and that its learners run on it."""

import importlib
import sys

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecEnv,
    VecMonitor,
    VecNormalize,
)

import torchgym as tg

pytestmark = pytest.mark.kept

TOY = tg.preset("toy", max_ticks=20)


def uneven(num_envs: int = 2, **settings) -> tg.SB3VecEnv:
    """Opened; whoever trades at all is ruined at once; the time is up after three ticks."""
    env = tg.SB3VecEnv(
        TOY, num_envs, seed=0, max_ticks=3, maintenance=TOY.starting_cash - 1, commission_bps=100.0, **settings
    )
    env.reset()
    return env


def test_it_is_a_vec_env_with_the_spaces_of_the_market():
    env = tg.SB3VecEnv(TOY, 2)
    assert isinstance(env, VecEnv)
    assert env.num_envs == 2
    assert env.render_mode is None
    assert env.observation_space.shape == (54,)
    assert env.observation_space.dtype == np.float32
    assert env.action_space == spaces.Discrete(3)
    account = tg.SB3VecEnv(TOY, include_account=True, dtype=np.float64, num_symbols=2, action="target")
    assert account.observation_space.shape == (2 * 54 + 5,)
    assert account.observation_space.dtype == np.float64
    assert account.action_space == spaces.MultiDiscrete([5, 5])
    assert account.feature_names[-1] == "time_left"
    named = tg.SB3VecEnv(preset="toy", max_ticks=77, compile=True)
    assert named.config.max_ticks == 77
    assert named.market.compile is True
    assert not tg.SB3VecEnv(TOY, 2, compile=False).market.compile


def test_it_shows_what_the_market_does():
    env = tg.SB3VecEnv(TOY, 2, seed=4, include_account=True, dtype=np.float64)
    market = tg.Market(TOY, 2, seed=4)
    truth, observations = market.reset(), env.reset()
    assert np.array_equal(observations, torch.cat([truth.observation, truth.account], 1).numpy())
    assert [info["tick"] for info in env.reset_infos] == [0, 0]
    for action in ([2, 0], [1, 2], [0, 0]):
        truth = market.step(torch.tensor(action))
        observations, rewards, dones, infos = env.step(np.array(action))
        assert np.array_equal(observations, torch.cat([truth.observation, truth.account], 1).numpy())
        assert all(observation in env.observation_space for observation in observations)
        assert np.array_equal(rewards, truth.reward.numpy().astype(np.float32))
        assert not dones.any()
        for name, value in truth.info.items():
            assert np.array_equal([info[name] for info in infos], value.numpy()), name
    assert [type(infos[0][name]) for name in ("tick", "equity", "TimeLimit.truncated")] == [int, float, bool]


def test_everything_returned_is_the_callers_own():
    env, twin = tg.SB3VecEnv(TOY, 2, seed=0), tg.SB3VecEnv(TOY, 2, seed=0)
    actions, kept = np.array([2, 0]), [env.reset()]
    twin.reset()
    for _ in range(3):
        observations, rewards, dones, infos = env.step(actions)
        assert rewards.dtype == np.float32
        assert dones.dtype == np.bool_
        assert infos[0] is not infos[1]
        kept += [observations, rewards, dones, *(info["position"] for info in infos)]
    assert not any(np.shares_memory(one, other) for i, one in enumerate(kept) for other in kept[:i])
    for array in kept:
        array[...] = 0
    for _ in range(3):
        twin.step(actions)
    for scribbled, unharmed in zip(env.step(actions)[:3], twin.step(actions)[:3], strict=True):
        assert np.array_equal(scribbled, unharmed)


def test_an_ended_row_goes_on_with_its_next_episode():
    env = uneven(include_account=True)
    env.step(np.array([1, 1]))
    fork, opening = env.market.fork(), list(env.reset_infos)
    observations, _, dones, infos = env.step(np.array([2, 1]))
    truth = fork.step(torch.tensor([2, 1]))
    opened = fork.reset(mask=torch.tensor([True, False]))
    last = torch.cat([truth.observation, truth.account], 1).numpy().astype(np.float32)
    current = torch.cat([opened.observation, opened.account], 1).numpy().astype(np.float32)
    assert dones.tolist() == [True, False]
    assert np.array_equal(infos[0]["terminal_observation"], last[0])
    assert np.array_equal(observations, current)
    assert np.array_equal(observations[1], last[1])
    assert not np.array_equal(observations[0], last[0])
    assert infos[0]["equity"] == truth.info["equity"][0]
    assert [info["tick"] for info in infos] == [2, 2]
    assert [info["tick"] for info in env.reset_infos] == [0, 0]
    assert [new is old for new, old in zip(env.reset_infos, opening, strict=True)] == [False, True]
    assert "terminal_observation" not in infos[1]
    assert "episode" not in infos[1]
    observations[:] = 0.0
    assert np.array_equal(infos[0]["terminal_observation"], last[0])


def test_time_up_is_told_from_ruin():
    env = uneven()
    told, done = [], []
    for action in ([1, 1], [2, 1], [1, 1]):
        _, _, dones, infos = env.step(np.array(action))
        done.append(dones.tolist())
        told.append([info["TimeLimit.truncated"] for info in infos])
    assert done == [[False, False], [True, False], [False, True]]
    assert told == [[False, False], [False, False], [False, True]]


def test_episodes_are_told_as_vec_monitor_tells_them():
    env = uneven()
    with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):
        monitored = VecMonitor(uneven())
    ended = 0
    for action in ([1, 0], [2, 1], [1, 1], [1, 1], [0, 0]):
        infos, expected = env.step(np.array(action))[3], monitored.step(np.array(action))[3]
        for info, other in zip(infos, expected, strict=True):
            assert ("episode" in info) == ("episode" in other)
            if "episode" in info:
                ended += 1
                assert info["episode"]["l"] == other["episode"]["l"]
                assert info["episode"]["r"] == pytest.approx(other["episode"]["r"], rel=1e-6)
                assert info["episode"]["t"] >= 0.0
    assert ended == 5


def test_an_episode_cut_short_counts_for_nothing():
    env = tg.SB3VecEnv(TOY, 2, seed=0, max_ticks=3)
    env.reset()
    assert (env.step(np.array([2, 0]))[1] != 0.0).all()
    env.reset()
    steps = [env.step(np.array([0, 2])) for _ in range(3)]
    episodes = [info["episode"] for info in steps[-1][3]]
    assert [episode["l"] for episode in episodes] == [3, 3]
    returns = sum(rewards.astype(np.float64) for _, rewards, _, _ in steps)
    assert [episode["r"] for episode in episodes] == pytest.approx(returns, rel=1e-6)


def test_seeds_decide_the_next_reset():
    env = tg.SB3VecEnv(TOY, 2, seed=7)
    first = env.reset()
    second = env.reset()
    assert not np.array_equal(first, second)
    assert env.seed(7) == [7, 8]
    assert np.array_equal(env.reset(), first)
    assert np.array_equal(env.reset(), second)
    env.seed(8)
    assert np.array_equal(env.reset()[0], first[1])


def test_bad_seeds_and_options_are_refused():
    env = tg.SB3VecEnv(TOY, 2, seed=7)
    for seed in (-1, 0.5, True):
        with pytest.raises(ValueError, match=rf"^seed must be an integer from 0 to 2\*\*63 - 1, got {seed}"):
            env.seed(seed)
    env.seed(2**63 - 1)
    with pytest.raises(ValueError, match=rf"seed of market 1 must be an integer .*, got {2**63}"):
        env.reset()
    env.set_options({"tick": 3})
    with pytest.raises(ValueError, match=r"options must be empty, got .*'tick': 3"):
        env.reset()
    assert env.reset().shape == (2, 54)


def test_a_refused_option_leaves_the_seed_for_the_next_reset():
    env, plain = tg.SB3VecEnv(TOY, 2, seed=7), tg.SB3VecEnv(TOY, 2, seed=70)
    plain.reset()
    plain.seed(7)
    plain.set_options({"tick": 3})
    with pytest.raises(ValueError, match="options must be empty"):
        plain.reset()
    assert np.array_equal(plain.reset(), env.reset())


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.array([1, 3]), "0 to 2, got 3"),
        (np.array([-1, 1]), "0 to 2, got -1"),
        (np.array([1.0, 1.0]), "integers"),
        (np.array([1]), r"shape \(2,\)"),
        (np.array([[1], [1]]), r"shape \(2,\)"),
    ],
)
def test_bad_actions_move_nothing(actions, message):
    env = uneven()
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    assert env.market.state.clock.tick.tolist() == [0, 0]


def test_waiting_for_nothing_is_refused():
    env = uneven()
    with pytest.raises(RuntimeError, match="no actions"):
        env.step_wait()
    env.step_async(np.array([1, 1]))
    env.reset()
    with pytest.raises(RuntimeError, match="no actions"):
        env.step_wait()
    with pytest.raises(RuntimeError, match="call reset"):
        tg.SB3VecEnv(TOY).step(np.array([1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": np.float16}, "float32 or float64"),
        ({"num_envs": 0}, "num_envs"),
        ({"config": "toy"}, "preset="),
        ({"config": TOY, "preset": "toy"}, "contradict"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tg.SB3VecEnv(**arguments)


def test_attributes_and_methods_answer_for_the_markets_asked_for():
    env = tg.SB3VecEnv(TOY, 3)
    assert env.get_attr("num_envs") == [3, 3, 3]
    assert env.get_attr("render_mode", indices=1) == [None]
    assert env.env_method("get_attr", "num_envs", indices=[0, 2]) == [[3, 3, 3]] * 2
    assert env.env_is_wrapped(TimeLimit, indices=[0, 1]) == [False, False]
    env.set_attr("label", "x")
    assert env.get_attr("label", indices=[2]) == ["x"]
    with pytest.raises(ValueError, match="one for all markets"):
        env.set_attr("label", "y", indices=[0])
    env.close()
    env.close()


def test_a_missing_library_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.vec_env", None)
    monkeypatch.delitem(sys.modules, "torchgym.envs.sb3")
    with pytest.raises(ImportError, match=r'pip install "torchgym\[sb3\]"'):
        importlib.import_module("torchgym.envs.sb3")


def test_evaluation_needs_no_monitor():
    """`evaluate_policy` warns where none tells it of episodes, and warnings are errors here."""
    env = tg.SB3VecEnv(TOY, 2, seed=0)
    assert env.env_is_wrapped(Monitor) == [True, True]
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=32, device="cpu")
    rewards, lengths = evaluate_policy(model, env, n_eval_episodes=4, return_episode_rewards=True)
    assert lengths == [20] * 4
    assert len(rewards) == 4


def test_ppo_learns_through_the_usual_wrappers():
    env = VecNormalize(VecCheckNan(tg.SB3VecEnv(TOY, 4, include_account=True), raise_exception=True))
    model = PPO("MlpPolicy", env, n_steps=24, batch_size=32, n_epochs=1, seed=3, device="cpu")
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(192)
    assert model.num_timesteps == 192
    assert [episode["l"] for episode in model.ep_info_buffer] == [20] * 8
    assert not all(torch.equal(old, new) for old, new in zip(before, model.policy.parameters(), strict=True))
    assert env.unwrapped.market.state.clock.seed.tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("workers", [DummyVecEnv, SubprocVecEnv])
def test_its_own_vector_environments_run_single_markets(workers):
    env = make_vec_env(
        "torchgym:torchgym/Trading-v0", 2, env_kwargs={"preset": "toy", "max_ticks": 3}, seed=3, vec_env_cls=workers
    )
    alone = [tg.TradingEnv(task="Trading", preset="toy", max_ticks=3) for _ in range(2)]
    firsts = [one.reset(seed=3 + row)[0] for row, one in enumerate(alone)]
    assert np.array_equal(env.reset(), np.stack(firsts))
    for action in ([2, 0], [1, 1], [0, 2]):
        results = [one.step(choice) for one, choice in zip(alone, action, strict=True)]
        observations, _, dones, infos = env.step(np.array(action))
        last = [
            info["terminal_observation"] if done else observation
            for observation, done, info in zip(observations, dones, infos, strict=True)
        ]
        assert np.array_equal(last, np.stack([result[0] for result in results]))
        assert [info["equity"] for info in infos] == [result[-1]["equity"] for result in results]
    assert dones.all()
    env.close()


def test_ppo_learns_from_the_name_alone():
    model = PPO("MlpPolicy", "torchgym/Trading-v0", n_steps=16, batch_size=16, n_epochs=1, device="cpu").learn(32)
    assert model.num_timesteps == 32
    assert model.get_env().render_mode == "rgb_array"


def test_ppo_learns_with_settings_by_name():
    env = make_vec_env("torchgym/Trading-v0", n_envs=2, env_kwargs={"preset": "toy", "max_ticks": 8})
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, device="cpu").learn(32)
    assert [episode["l"] for episode in model.ep_info_buffer] == [8] * 4
    with pytest.raises(TypeError, match="unexpected keyword argument 'max_tick'"):
        make_vec_env("torchgym/Trading-v0", env_kwargs={"max_tick": 8})


def test_ppo_trades_several_symbols():
    model = PPO("MlpPolicy", tg.SB3VecEnv(TOY, 2, num_symbols=2), n_steps=8, batch_size=16, n_epochs=1, device="cpu")
    model.learn(16)
    assert model.predict(np.zeros((2, 108), dtype=np.float32))[0].shape == (2, 2)


def test_dqn_stores_truncation_and_the_last_observation():
    env = tg.SB3VecEnv(TOY, 2, seed=1)
    model = DQN("MlpPolicy", env, learning_starts=40, buffer_size=400, train_freq=20, batch_size=16, device="cpu")
    model.learn(200)
    buffer = model.replay_buffer
    ended = buffer.dones[:100].astype(bool)
    assert ended.any(1).nonzero()[0].tolist() == [19, 39, 59, 79, 99]
    assert np.array_equal(buffer.timeouts[:100].astype(bool), ended)
    follows = (buffer.next_observations[:99] == buffer.observations[1:100]).all(-1)
    assert np.array_equal(follows, ~ended[:99])
