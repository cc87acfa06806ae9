"""Soft actor-critic on the task Portfolio: markets beside copies of themselves, and networks for each stock."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from per_stock import Copies, Inputs, PerStock
from stable_baselines3 import SAC

import torchgym as tg

CONFIG = tg.task("Portfolio", "toy", max_ticks=40, ticks_per_action=20, num_symbols=2, num_sectors=2)


def made(num_envs: int = 4, copies: int = 2) -> tuple[Copies, tg.SB3VecEnv]:
    markets = tg.SB3VecEnv(CONFIG, num_envs, include_account=True, compile=False)
    return Copies(markets, Inputs(markets.feature_names, 2), copies, scale=10.0), markets


def test_copies_play_the_same_episodes_and_are_rewarded_beyond_their_mean() -> None:
    env, markets = made()
    env.seed(5)
    first = env.reset()
    assert first.shape == (4, 5) and env.observation_space.shape == (5,)
    for _ in range(2):  # the second opens the next episodes
        action = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 1.0]], dtype=np.float32)
        shown, rewards, dones, infos = env.step(action)
        earned = np.array([info["reward_log_return"] for info in infos]).reshape(2, 2)
        assert rewards.reshape(2, 2) == pytest.approx(10.0 * (earned - earned.mean(1, keepdims=True)), abs=1e-6)
        assert np.any(rewards)
    assert dones.all() and infos[0]["terminal_observation"].shape == (5,)
    for observations in (first, shown):
        assert np.array_equal(observations[0], observations[1]) and np.array_equal(observations[2], observations[3])
        assert not np.array_equal(observations[0], observations[2])
    assert not np.array_equal(first, shown)
    plain = tg.Market(CONFIG, 2, seed=5, compile=False).reset()
    assert np.array_equal(
        first[::2, 2:], np.concatenate([np.zeros((2, 2)), np.ones((2, 1))], 1)
    )  # nothing held, all time left
    column = markets.feature_names.index("f_fair_value_dev@1")
    assert np.array_equal(first[::2, 1], plain.observation[:, column].float().numpy())


def test_networks_treat_stocks_alike() -> None:
    """Two stocks that change places change places in the action, and nothing in the value."""
    env, _ = made()
    model = SAC(PerStock, env, seed=3, policy_kwargs={"net_arch": [8, 8]}, buffer_size=100)
    shown = torch.tensor([[0.5, -2.0, 0.1, 0.4, 0.7], [-2.0, 0.5, 0.4, 0.1, 0.7]])
    chosen = torch.from_numpy(model.predict(shown.numpy(), deterministic=True)[0])
    assert torch.allclose(chosen[0], chosen[1][[0, 2, 1]]) and not torch.allclose(chosen[0], chosen[1])
    action = torch.tensor([[0.1, 0.9, -0.4], [0.1, -0.4, 0.9]])
    for value in model.critic(shown, action):
        assert torch.allclose(value[0], value[1])
    model.learn(12)
