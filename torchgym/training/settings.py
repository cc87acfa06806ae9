"""`PPOSettings`: how an agent is built and how it learns."""

from __future__ import annotations

from dataclasses import dataclass

from torchgym.config.validation import check_count, check_number, require


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
            check_count(name, getattr(self, name), 1)
        for name in ("learning_rate", "clip", "max_grad_norm", "reward_scale"):
            check_number(name, getattr(self, name), 1e-12)
        for name in ("entropy", "critic"):
            check_number(name, getattr(self, name), 0.0)
        for name in ("gamma", "gae_lambda"):
            check_number(name, getattr(self, name), 0.0, 1.0)
        for name in ("hidden", "inputs"):
            require(
                isinstance(getattr(self, name), (tuple, list)), f"{name} must be a tuple, got {getattr(self, name)!r}"
            )
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists
        require(len(self.hidden) > 0, "hidden must name the width of one layer at least, got none")
        for width in self.hidden:
            check_count("a width of hidden", width, 1)

    @property
    def frames_per_update(self) -> int:
        """Decisions between two updates."""
        return self.num_envs * self.rollout

    @property
    def updates(self) -> int:
        """How many whole updates fit into `total_frames`, at least one."""
        return max(self.total_frames // self.frames_per_update, 1)
