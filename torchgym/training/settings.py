"""`PPOSettings`: how an agent is built and how it learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torchgym.config.validation import Settings, Share, Within, check_fields

Decisions = Annotated[int, Within(1, 2**53)]
Parts = Annotated[int, Within(1, 2**20)]
Scale = Annotated[float, Within(1e-12, 1e12)]
Weight = Annotated[float, Within(0.0, 1e6)]
Width = Annotated[int, Within(1, 2**16)]


@dataclass(frozen=True, kw_only=True)
class PPOSettings(Settings):
    """Proximal policy optimisation with a clipped objective (Schulman et al. 2017), as TorchRL has it.

    A setting that makes no sense is a ValueError at construction, which names it.
    """

    total_frames: Decisions = 1_024_000
    """Decisions of the whole training, over all markets; rounded down to whole updates of num_envs × rollout, at least one."""
    num_envs: Parts = 128
    """Markets played at once."""
    copies: Parts = 1
    """Markets that play the same episode and differ in the agent's actions alone. A decision's advantage is then what it has over
    their mean, so that what the market does to all of them is no noise (common random numbers). It divides num_envs. A market
    that is ruined plays on an episode ahead of its copies."""
    rollout: Parts = 50
    """Decisions of each market between two updates."""
    epochs: Parts = 4
    """Passes over the decisions of each update."""
    minibatches: Parts = 4
    """Parts that a pass splits the decisions into; the optimiser makes one step per part."""
    learning_rate: Annotated[float, Within(1e-12, 1.0)] = 7e-4
    """Learning rate of Adam at the start; it falls linearly to zero over the training."""
    gamma: Share = 0.98
    """Discount factor per decision."""
    gae_lambda: Share = 0.9
    """Weight of longer returns in the advantage: lambda of Schulman et al. (2016)."""
    clip: Scale = 0.2
    """Most that the ratio of new to old probabilities may differ from 1 in an update."""
    entropy: Weight = 0.005
    """Weight of the entropy bonus, which keeps the policy exploring."""
    critic: Scale = 0.5
    """Weight of the value network's loss."""
    max_grad_norm: Scale = 0.5
    """Largest norm of the gradients; larger gradients are scaled down to it."""
    reward_scale: Scale = 0.05
    """Factor on the reward; choose it so that discounted sums of rewards are about one."""
    hidden: tuple[Width, ...] = (64, 64)
    """Width of each layer of both networks."""
    inputs: tuple[str, ...] = ()
    """Features of each symbol, and entries of its account, that the agent sees; without names, all of them. Where no entry of the
    account is named, all of the account."""
    shared: bool = False
    """Whether one network looks at each symbol by itself, and at the account, in place of one that looks at all symbols at once.
    It learns from all of them together; cash and the value of a state are their means (Jiang, Xu and Liang 2017, section 5)."""
    first_numbers: Annotated[float, Within(0.001, 0.999)] = 0.5
    """Where between their bounds an untrained agent's likeliest numbers lie, of an action of numbers; 0.5 is the middle. Orders
    at far `depths` seldom fill, so an agent that begins there learns slowly that nearer is better."""
    normalise: bool = True
    """Whether the networks see their inputs less their means and over their deviations in the training so far."""
    bootstrap: bool = True
    """Whether the value network says what an episode that is out of time would still have brought; otherwise nothing, which is
    right where the agent sees the time left and nothing counts afterwards (Pardo et al. 2018)."""

    def __post_init__(self) -> None:
        check_fields(self, PPOSettings)
        if self.num_envs % self.copies:
            raise ValueError(f"copies = {self.copies} does not divide num_envs = {self.num_envs}: choose a part of it")

    @property
    def frames_per_update(self) -> int:
        """Decisions between two updates."""
        return self.num_envs * self.rollout

    @property
    def updates(self) -> int:
        """How many whole updates fit into `total_frames`, at least one."""
        return max(self.total_frames // self.frames_per_update, 1)

    @property
    def frames(self) -> int:
        """Decisions that are made: those of whole updates, where `total_frames` is no multiple of them."""
        return self.updates * self.frames_per_update
