"""Agent-based stock markets as batched torch operations, for reinforcement learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium

from torchgym.config import PRESETS, TASKS, MarketConfig, preset, task
from torchgym.extras import loaded
from torchgym.version import __version__ as __version__

if TYPE_CHECKING:
    from torchgym.engine import Market, StepResult
    from torchgym.envs.gymnasium import TradingEnv
    from torchgym.envs.sb3 import SB3VecEnv
    from torchgym.envs.skrl import SkrlEnv
    from torchgym.envs.torchrl import MarketEnv
    from torchgym.envs.vector import TradingVectorEnv

# Loaded when first touched, so that `import torchgym` stays light.
_LAZY = {
    "Market": "torchgym.engine",
    "StepResult": "torchgym.engine",
    "MarketEnv": "torchgym.envs.torchrl",
    "TradingEnv": "torchgym.envs.gymnasium",
    "TradingVectorEnv": "torchgym.envs.vector",
    "SB3VecEnv": "torchgym.envs.sb3",
    "SkrlEnv": "torchgym.envs.skrl",
}

__all__ = [
    "PRESETS",
    "TASKS",
    "Market",
    "MarketConfig",
    "MarketEnv",
    "SB3VecEnv",
    "SkrlEnv",
    "StepResult",
    "TradingEnv",
    "TradingVectorEnv",
    "preset",
    "task",
]


# Without `max_episode_steps`: gymnasium would cut episodes there, whatever the settings. Environments tell it once they are made.
for _name in TASKS:
    gymnasium.register(
        id=f"torchgym/{_name}-v0",
        entry_point="torchgym.envs.gymnasium:TradingEnv",
        vector_entry_point="torchgym.envs.vector:TradingVectorEnv",
        kwargs={"task": _name},
    )


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return loaded(_LAZY[name], name)
    raise AttributeError(f"module 'torchgym' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
