"""Training an agent by proximal policy optimisation, so that a run can stop anywhere and go on in the same bits.

The agent's `make_policy` makes its policy for `torchgym.lab.performance.evaluate`.

>>> from torchgym.config import preset
>>> from torchgym.training import PPOSettings, start
>>> config = preset("toy", max_ticks=20, scaling="relative")
>>> settings = PPOSettings(total_frames=64, num_envs=4, rollout=8)
>>> run = start(config, settings, seed=0, compile=False, validations=0)
>>> run.advance(), run.trainer.frames, len(run.curve)
(True, 64, 2)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchgym.extras import loaded
from torchgym.training.settings import PPOSettings

if TYPE_CHECKING:
    from torchgym.training.parallel import Ranks, join_ranks
    from torchgym.training.ppo import PPO, Agent
    from torchgym.training.run import CHECKPOINT, Run, Trainer, load_agent, read_checkpoint, resume, start

__all__ = [
    "CHECKPOINT",
    "PPO",
    "Agent",
    "PPOSettings",
    "Ranks",
    "Run",
    "Trainer",
    "join_ranks",
    "load_agent",
    "read_checkpoint",
    "resume",
    "start",
]

# Loaded when first touched: TorchRL takes seconds, and the settings alone don't need it.
_LAZY = {
    **{"Agent": "ppo", "PPO": "ppo", "Ranks": "parallel", "join_ranks": "parallel"},
    **dict.fromkeys(("CHECKPOINT", "Run", "Trainer", "load_agent", "read_checkpoint", "resume", "start"), "run"),
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return loaded(f"torchgym.training.{_LAZY[name]}", name)
    raise AttributeError(f"module 'torchgym.training' has no attribute {name!r}")
