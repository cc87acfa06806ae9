"""The tasks of the ladder: from one that is easy for an agent that sees the value, to trading on public information.

In each task an agent and a scripted reference get the same information. Where the reference earns and the agent does not, it is
the agent's learning that fails; where neither does, there is nothing to learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torchgym.config import MarketConfig, preset
from torchgym.lab.policies import BASELINES, value_follower
from torchgym.lab.policy import MakePolicy
from torchgym.table import Table
from torchgym.training import PPOSettings

# Distances of value and price at which a follower acts, as fractions. The reference is the one that earns most on the validation
# episodes, so that the agent is not measured against a badly set rule.
_GAPS = (0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02)
_FOLLOWERS = {f"value_follower {gap:g}": partial(value_follower, clear_gap=gap) for gap in _GAPS}


@dataclass(frozen=True)
class Task:
    """One task.

    Args:
        description: what the agent sees and pays.
        market: settings of the market that make it.
        settings: of the agent, changed from the usual ones.
        references: scripted policies with the same information; the best on the validation episodes counts.
        score: what is compared, "profit" (currency per episode) or "reward" (sum per episode).
        least_share: of the reference that the agent must reach; None asks only for a significant gain.
        optimum: the score that nothing can exceed, if it is known.
    """

    description: str
    market: Mapping[str, Any]
    settings: Mapping[str, Any]
    references: Mapping[str, MakePolicy] = field(default_factory=lambda: _FOLLOWERS)
    score: str = "profit"
    least_share: float | None = None
    optimum: float | None = None

    def config(self, name: str) -> MarketConfig:
        """The market of a preset, on this task's terms: 1,000 ticks, a decision every five."""
        return preset(name, **{"scaling": "relative", "max_ticks": 1_000, "ticks_per_action": 5, **self.market})

    def ppo(self, frames: int | None = None) -> PPOSettings:
        """The agent's settings; `frames` instead of the task's own."""
        return PPOSettings(**{**self.settings, **({} if frames is None else {"total_frames": frames})})


_GAP_ALONE = {"inputs": ("f_fair_value_dev",), "total_frames": 640_000}

TASKS = Table(
    "task",
    {
        "inventory": Task(
            description="starts with 50 shares, five orders; holding shares is all that costs",
            market={"reward": "inventory", "starting_shares": 50},
            settings={"inputs": ("f_fair_value_dev",), "total_frames": 320_000},
            references={"liquidate_at_once": BASELINES["liquidate_at_once"].make},
            score="reward",
            least_share=0.99,
            # An order of a fifth of the limit at once, and one more at each of the next decisions, five ticks each.
            optimum=-5.0 * (0.8**2 + 0.6**2 + 0.4**2 + 0.2**2),
        ),
        "exact_free": Task(
            description="exact value, no commission and no borrow charge (the spread stays)",
            market={"information": "privileged", "commission_bps": 0.0, "borrow_ppb": 0},
            settings=_GAP_ALONE,
            least_share=0.8,
        ),
        "exact": Task("exact value, all costs", {"information": "privileged"}, _GAP_ALONE, least_share=0.8),
        "estimate": Task("noisy public estimate of value, all costs", {}, _GAP_ALONE),
        "public": Task("all 54 public features, scale-free, all costs", {}, {"total_frames": 1_280_000}),
    },
)
