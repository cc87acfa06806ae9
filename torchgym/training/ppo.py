"""`PPO`: the networks of an agent, and how they change by what it has played."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from torchgym.config import MarketConfig
from torchgym.numerics.random import make_key
from torchgym.training.agent import Agent
from torchgym.training.parallel import ALONE, Ranks
from torchgym.training.settings import PPOSettings


class PPO:
    """Proximal policy optimisation of an `Agent` on decisions from anywhere: a rollout here, a collector, other machines.

    Args:
        config: the market.
        settings: of the agent and of learning.
        seed: the networks follow from it.
        device: where they live.
        ranks: the processes that learn together; their networks are and stay the same in every bit.
    """

    def __init__(
        self,
        config: MarketConfig,
        settings: PPOSettings,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        ranks: Ranks = ALONE,
    ) -> None:
        self.settings = settings
        self.ranks = ranks
        with generator(seed_of(seed, 0)):
            self.agent = Agent(config, settings).to(device)
            self.ranks.copy_from_first(parameter.data for parameter in self.agent.parameters())
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

    def learn(self, data: TensorDictBase, *, done: float) -> None:
        """One update.

        Minibatches are drawn from torch's generator; each process draws its own, from its own decisions.

        Args:
            data: decisions [N, T] with the log-probabilities of the choices, as `MarketEnv.rollout` and collectors give them.
            done: share of the training that lies behind, by which the learning rate has fallen.
        """
        settings = self.settings
        data = data.clone(recurse=False)  # the caller keeps its rewards
        data["next", "reward"] = data["next", "reward"] * settings.reward_scale
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate * (1.0 - done)
        count = data.numel()
        for _ in range(settings.epochs):
            with torch.no_grad():
                self._advantage(data)
            flat = data.reshape(-1)
            for rows in torch.randperm(count, device=flat.device).tensor_split(min(settings.minibatches, count)):
                self._descend(self._loss(flat[rows]))

    def check_alike(self) -> None:
        """Nothing, where all processes hold the same networks.

        Raises:
            RuntimeError: where they do not.
        """
        self.ranks.check_alike(self.agent.parameters())

    def state_dict(self) -> dict[str, Any]:
        """Networks and optimiser."""
        return {"agent": self.agent.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError, RuntimeError: when it belongs to other settings.
        """
        self.agent.load_state_dict(state["agent"])
        self._optimizer.load_state_dict(state["optimizer"])

    def _descend(self, losses: TensorDictBase) -> None:
        loss: Tensor = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.ranks.average(parameter.grad for parameter in self._loss.parameters() if parameter.grad is not None)
        nn.utils.clip_grad_norm_(self._loss.parameters(), self.settings.max_grad_norm)
        self._optimizer.step()


@contextmanager
def generator(seed: int) -> Iterator[None]:
    """Torch's generators begin at the seed here, and are afterwards what they were.

    What is made without a device is made on the CPU, whatever torch's default device is: the same seed gives the same weights.
    """
    usual = torch.get_default_device() == torch.device("cpu")
    on_cpu = nullcontext() if usual else torch.device("cpu")  # which costs something at every operation
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), on_cpu:
        torch.manual_seed(seed)
        yield


def seed_of(seed: int, number: int, rank: int = 0) -> int:
    """A seed for update `number` (0: the networks) of a process, 63 mixed bits; see `torchgym.numerics.random.make_key`."""
    seeds, numbers = (torch.tensor([word], device="cpu") for word in (seed, rank << 40 | number))
    low, high = make_key(seeds, numbers)[0].tolist()
    return (high << 32 | low & 0xFFFFFFFF) & 0x7FFFFFFFFFFFFFFF
