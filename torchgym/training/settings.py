"""`PPOSettings`: how an agent is built and how it learns."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class PPOSettings:
    """Proximal policy optimisation with a clipped objective (Schulman et al. 2017), as TorchRL has it.

    Raises:
        ValueError: at construction, naming a setting that makes no sense.
    """

    total_frames: int = 1_024_000
    """Decisions over all markets."""
    num_envs: int = 128
    """Markets that are played at once."""
    rollout: int = 50
    """Decisions per market between two updates."""
    epochs: int = 4
    """Passes over the decisions of an update."""
    minibatches: int = 4
    """Parts of the decisions that a pass is made in."""
    learning_rate: float = 7e-4
    """Of Adam at the start; it falls in proportion to what is left."""
    gamma: float = 0.98
    """Discount per decision."""
    gae_lambda: float = 0.9
    """Weight of longer returns in the advantage (Schulman et al. 2016)."""
    clip: float = 0.2
    """How far the policy's ratio may move in an update."""
    entropy: float = 0.005
    """Weight of the bonus for undecided policies."""
    critic: float = 0.5
    """Weight of the value network's loss."""
    max_grad_norm: float = 0.5
    """Gradients are cut to this norm."""
    reward_scale: float = 0.05
    """Of the reward, so that its sum over the discount's horizon is about one."""
    hidden: tuple[int, ...] = (64, 64)
    """Width of each layer of both networks."""
    inputs: tuple[str, ...] = ()
    """Features that the agent sees beside its account, of every symbol; none named are all."""

    def __post_init__(self) -> None:
        for name in ("total_frames", "num_envs", "rollout", "epochs", "minibatches"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
        for name in ("learning_rate", "clip", "max_grad_norm", "reward_scale"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")
        for name in ("entropy", "critic"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)!r}")
        for name in ("gamma", "gae_lambda"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)!r}")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):  # as JSON has it
                object.__setattr__(self, field.name, tuple(value))
        if not self.hidden or any(not isinstance(width, int) or width < 1 for width in self.hidden):
            raise ValueError(f"hidden must be integers >= 1, got {self.hidden!r}")

    @property
    def frames_per_update(self) -> int:
        """Decisions between two updates."""
        return self.num_envs * self.rollout

    @property
    def updates(self) -> int:
        """How many whole updates fit into `total_frames`, at least one."""
        return max(self.total_frames // self.frames_per_update, 1)
