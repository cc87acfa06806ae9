"""`Trainer`: proximal policy optimisation on a batch of markets, one update at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torchrl.envs.utils import step_mdp
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from torchgym.config import MarketConfig
from torchgym.envs.torchrl import MarketEnv
from torchgym.noise import make_key
from torchgym.training.agent import Agent
from torchgym.training.settings import PPOSettings


class Trainer:
    """Learns by `PPOSettings.updates` updates. Each is a function of what the last one left, the seed and its number.

    All that an update draws, choices of actions and of minibatches, comes from torch's generator, seeded anew for it. So what
    `state_dict` holds between two updates is all there is: training that goes on from it ends in the same bits as training
    that was never interrupted, on the same machine with the same torch and number of threads.

    Args:
        config: the market.
        settings: of the agent and of learning.
        seed: market i of the training gets seed + i; the networks and all choices follow from it as well.
        device: where markets and networks live.
        compile: run compiled markets.
    """

    def __init__(
        self,
        config: MarketConfig,
        settings: PPOSettings,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        compile: bool = True,
    ) -> None:
        self.config = config
        self.settings = settings
        self.seed = seed
        self.update = 0  # how many are done
        with generator(_seed_of(seed, 0)):
            self.agent = Agent(config, settings).to(device)
        self.env = MarketEnv(config, settings.num_envs, device=device, seed=seed)
        self.env.market.compile = compile
        self._loss = ClipPPOLoss(
            self.agent.actor,
            self.agent.critic,
            clip_epsilon=settings.clip,
            entropy_coeff=settings.entropy,
            critic_coeff=settings.critic,
            normalize_advantage=True,
        )
        self._advantage = GAE(gamma=settings.gamma, lmbda=settings.gae_lambda, value_network=self.agent.critic)
        self._optimizer = torch.optim.Adam(self._loss.parameters(), lr=settings.learning_rate, eps=1e-5)
        self._carried: TensorDictBase | None = None  # what the markets show now

    @property
    def frames(self) -> int:
        """Decisions so far."""
        return self.update * self.settings.frames_per_update

    def step(self) -> float:
        """One update: play, then learn from it.

        Returns:
            Mean reward of a decision while playing, before scaling.
        """
        with generator(_seed_of(self.seed, self.update + 1)):
            data = self._play()
            reward = data["next", "reward"].mean().item()
            data["next", "reward"] *= self.settings.reward_scale
            self._learn(data)
        self.update += 1
        return reward

    def state_dict(self) -> dict[str, Any]:
        """Everything that later updates depend on, made of tensors and plain values."""
        carried = None if self._carried is None else dict(self._carried.flatten_keys(".").items())
        return {
            "update": self.update,
            "agent": self.agent.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "market": self.env.get_extra_state(),
            "carried": carried,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError, RuntimeError: when it belongs to another configuration or other settings.
        """
        self.agent.load_state_dict(state["agent"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.env.set_extra_state(state["market"])
        if state["carried"] is not None:
            flat = TensorDict(state["carried"], [self.settings.num_envs], device=self.env.device)
            self._carried = flat.unflatten_keys(".")
        self.update = state["update"]

    def _play(self) -> TensorDictBase:
        """Decisions [N, rollout] of the agent as it is, with its choices' log-probabilities."""
        if self._carried is None:
            self._carried = self.env.reset()
        with torch.no_grad():
            data = self.env.rollout(
                self.settings.rollout,
                self.agent.actor,
                auto_reset=False,
                break_when_any_done=False,
                tensordict=self._carried,
            )
            # A copy: a view would keep the whole rollout in memory, and in the checkpoint.
            self._carried = self.env.maybe_reset(step_mdp(data[:, -1]).clone())
        return data

    def _learn(self, data: TensorDictBase) -> None:
        settings, count = self.settings, self.settings.frames_per_update
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate * (1.0 - self.update / settings.updates)
        parts = min(settings.minibatches, count)
        for _ in range(settings.epochs):
            with torch.no_grad():
                self._advantage(data)
            flat = data.reshape(-1)
            for rows in torch.randperm(count, device=flat.device).tensor_split(parts):
                self._descend(self._loss(flat[rows]))

    def _descend(self, losses: TensorDictBase) -> None:
        loss: Tensor = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._loss.parameters(), self.settings.max_grad_norm)
        self._optimizer.step()


@contextmanager
def generator(seed: int) -> Iterator[None]:
    """Torch's generators begin at the seed here, and are afterwards what they were."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _seed_of(seed: int, number: int) -> int:
    """A seed for update `number` (0: the networks), 63 mixed bits; see `torchgym.noise.make_key`."""
    low, high = make_key(torch.tensor([seed]), torch.tensor([number]))[0].tolist()
    return (high << 32 | low & 0xFFFFFFFF) & 0x7FFFFFFFFFFFFFFF
