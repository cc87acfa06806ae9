"""Soft actor-critic of stable-baselines3 on the task Portfolio: networks that look at each stock by itself, markets with copies.

Most of what a portfolio gains is chance that all who hold stocks share. Markets that play the same episode have the same
chance, so `Copies` rewards each by what it earned beyond their mean. Given the others, a market's own choice changes that mean
only by its own part of it, so what is best stays best.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.common.vec_env import VecEnvWrapper
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import Tensor, nn

from torchgym import SB3VecEnv

Array = npt.NDArray[Any]

_PER_WEIGHT = 8.0  # weights of about an eighth become inputs of about one


class Inputs:
    """What networks are shown of an observation with the account: how dear each stock is, what is held of it, the time left."""

    def __init__(self, names: Sequence[str], stocks: int) -> None:
        wanted = [f"{name}@{stock}" for name in ("f_fair_value_dev", "position") for stock in range(stocks)]
        self.columns = [names.index(name) for name in (*wanted, "time_left")]
        self.space = spaces.Box(-np.inf, np.inf, (len(self.columns),), np.float32)

    def __call__(self, observations: Array) -> Array:
        """These columns, [..., 2 S + 1]."""
        return observations[..., self.columns]


class Copies(VecEnvWrapper):
    """Markets of which so many in a row play the same episode; rewards are what each earned beyond the mean of these.

    Args:
        env: of a whole multiple of `copies` markets.
        inputs: what observations become.
        copies: that play an episode side by side.
        scale: of the rewards.
    """

    venv: SB3VecEnv

    def __init__(self, env: SB3VecEnv, inputs: Inputs, copies: int, scale: float) -> None:
        super().__init__(env, observation_space=inputs.space)
        self._inputs, self._copies, self._scale = inputs, copies, scale

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Copies get one seed together, the next ones the next; None draws the first."""
        first = secrets.randbits(62) if seed is None else seed
        seeds = [first + market // self._copies for market in range(self.num_envs)]
        self.venv.market.reseed(seeds)
        return list(seeds)

    def reset(self) -> Array:
        """The inputs at the start of the next episodes."""
        return self._inputs(self.venv.reset())

    def step_wait(self) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        """As of the markets, with the inputs for observations."""
        observations, rewards, dones, infos = self.venv.step_wait()
        groups = rewards.reshape(-1, self._copies)
        together = dones.reshape(-1, self._copies)
        assert (together == together[:, :1]).all(), "one of the copies was ruined: they no longer play the same episode"
        beyond = self._scale * (groups - groups.mean(1, keepdims=True))
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = self._inputs(info["terminal_observation"])
        return self._inputs(observations), beyond.reshape(-1), dones, infos


class PerStock(SACPolicy):
    """Actor and critics of soft actor-critic for weights of cash and stocks, one small network each, used for all stocks."""

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        """See `SACPolicy`."""
        return _Actor(**self._update_features_extractor(self.actor_kwargs, features_extractor)).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        """See `SACPolicy`."""
        return _Critic(**self._update_features_extractor(self.critic_kwargs, features_extractor)).to(self.device)


class _Actor(Actor):
    """From what is shown of a stock to the mean and log deviation of its number; cash has the mean of what comes out for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.latent_pi = nn.Sequential(*create_mlp(3, 4, self.net_arch, nn.Tanh))
        del self.mu, self.log_std

    def get_action_dist_params(self, obs: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:  # type: ignore[override]
        made = self.latent_pi(torch.stack(_shown(obs), -1))
        cash = made[..., 2:].mean(1)
        means, deviations = (torch.cat([cash[:, at : at + 1], made[..., at]], -1) for at in range(2))
        # Numbers that are nearly 0 or 1 would hardly be learnt from.
        return 2 * torch.tanh(means / 2), (deviations - 1).clamp(-5.0, 0.5), {}


class _Critic(ContinuousCritic):
    """The value of an action: the sum over stocks of the value of the weight that it gives each."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.q_networks = [_Stocks(kwargs["net_arch"]) for _ in range(self.n_critics)]
        for at, network in enumerate(self.q_networks):
            self.add_module(f"qf{at}", network)

    def forward(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        return tuple(network(obs, actions) for network in self.q_networks)

    def q1_forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        first: Tensor = self.q_networks[0](obs, actions)
        return first


class _Stocks(nn.Module):
    """Summed over stocks: a network of what is shown, the change of weight, and gap × weight, by which tilts earn."""

    def __init__(self, arch: list[int]) -> None:
        super().__init__()
        self.network = nn.Sequential(*create_mlp(5, 1, arch, nn.ReLU))

    def forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        # What is held is a part of the limit, which is all of the equity at the start: nearly a weight.
        gap, held, left = _shown(obs)
        numbers = (actions + 1) / 2 + 1e-6
        weight = (numbers / numbers.sum(-1, keepdim=True))[:, 1:]
        change = _PER_WEIGHT * (weight - held)
        value: Tensor = self.network(
            torch.stack([gap, change / 2, change.abs(), _PER_WEIGHT * gap * weight, left], -1)
        ).sum(1)
        return value


def _shown(inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How dear each stock is, in percent, what is held of it, as a part of the limit, and the time left, each [N, S]."""
    stocks = inputs.shape[-1] // 2
    gap, held, left = inputs.split([stocks, stocks, 1], -1)
    return gap.clamp(-5.0, 5.0), held, left.expand_as(gap)
