"""`PPOSettings`: how an agent is built and how it learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torchgym.config.validation import Share, Within, check_fields

Decisions = Annotated[int, Within(1, 2**53)]
Parts = Annotated[int, Within(1, 2**20)]
Scale = Annotated[float, Within(1e-12, 1e12)]
Weight = Annotated[float, Within(0.0, 1e6)]
Width = Annotated[int, Within(1, 2**16)]


@dataclass(frozen=True, kw_only=True)
class PPOSettings:
    """Proximal policy optimisation with a clipped objective (Schulman et al. 2017), as TorchRL has it.

    Raises:
        ValueError: at construction, naming a setting that makes no sense.
    """

    total_frames: Decisions = 1_024_000
    """Decisions over all markets."""
    num_envs: Parts = 128
    """Markets that are played at once."""
    rollout: Parts = 50
    """Decisions per market between two updates."""
    epochs: Parts = 4
    """Passes over the decisions of an update."""
    minibatches: Parts = 4
    """Parts of the decisions that a pass is made in."""
    learning_rate: Annotated[float, Within(1e-12, 1.0)] = 7e-4
    """Of Adam at the start; it falls in proportion to what is left."""
    gamma: Share = 0.98
    """Discount per decision."""
    gae_lambda: Share = 0.9
    """Weight of longer returns in the advantage (Schulman et al. 2016)."""
    clip: Scale = 0.2
    """How far the policy's ratio may move in an update."""
    entropy: Weight = 0.005
    """Weight of the bonus for undecided policies."""
    critic: Weight = 0.5
    """Weight of the value network's loss."""
    max_grad_norm: Scale = 0.5
    """Gradients are cut to this norm."""
    reward_scale: Scale = 0.05
    """Of the reward, so that its sum over the discount's horizon is about one."""
    hidden: tuple[Width, ...] = (64, 64)
    """Width of each layer of both networks."""
    inputs: tuple[str, ...] = ()
    """Features that the agent sees beside its account, of every symbol; none named are all."""

    def __post_init__(self) -> None:
        check_fields(self, PPOSettings)

    @property
    def frames_per_update(self) -> int:
        """Decisions between two updates."""
        return self.num_envs * self.rollout

    @property
    def updates(self) -> int:
        """How many whole updates fit into `total_frames`, at least one."""
        return max(self.total_frames // self.frames_per_update, 1)
