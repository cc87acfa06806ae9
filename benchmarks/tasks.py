"""What scripted policies earn in each task: the references that docs/tasks.md lists.

    python benchmarks/tasks.py      # half an hour on two CPU cores

Held-out episodes, the same for every policy of a task. Reward and profit are means of an episode with their standard errors. For
tasks that begin with shares `shortfall` is what these fetched less than at the mid of the first observation, in basis points of
that, commission included (Perold 1988, The implementation shortfall).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import tyro
from rows import add, command, mean, tell
from torch import Tensor

import torchgym as tg
from torchgym.lab.execution import almgren_chriss
from torchgym.lab.performance import TEST_SEED, Episodes, evaluate
from torchgym.lab.policies import baselines
from torchgym.lab.policy import MakePolicy, Policy

RESULTS = Path(__file__).parent / "results" / "tasks.csv"
AVERSIONS = (1e-7, 1e-6)  # per point and share, of variance


@dataclass
class Options:
    """Which tasks, how many episodes, and where rows go."""

    tasks: tuple[str, ...] = tuple(tg.TASKS)
    episodes: int = 1_024
    seed: int = TEST_SEED
    csv: Path = RESULTS


def main(options: Options) -> None:
    about = {"episodes": options.episodes, "seed": options.seed, "command": command()}
    for name in options.tasks:
        config = tg.task(name)
        policies = baselines(config)
        if config.starting_shares:
            policies |= {f"almgren_chriss {risk:g}": almgren_chriss(risk) for risk in AVERSIONS}
        single = config.replace(ticks_per_action=1)
        played = {policy: tick_by_tick(config, make_policy) for policy, make_policy in policies.items()}
        made = evaluate(single, played, episodes=options.episodes, seed=options.seed, compile=True)
        for policy, episodes in made.episodes.items():
            row = {"task": name, "policy": policy, **figures(config, episodes), **about}
            tell(str(row))
            add(options.csv, list(row), row)


def tick_by_tick(config: tg.MarketConfig, make_policy: MakePolicy) -> MakePolicy:
    """Decisions of the task in a market of single ticks, which compiles in a tenth of the time; the episodes are the same."""

    def make(single: tg.MarketConfig, seeds: Tensor) -> Policy:
        policy = make_policy(config, seeds)

        def act(result: tg.StepResult) -> Tensor | None:
            decides = int(result.info["tick"][0]) % config.ticks_per_action == 0
            return policy(result) if decides else None

        return cast(Policy, act)  # a market takes None as no decision

    return make


def figures(config: tg.MarketConfig, episodes: Episodes) -> dict[str, Any]:
    """Means over the episodes, and their standard errors."""
    parts = {"reward": episodes.reward, "profit": episodes.profit}
    arrival = episodes.worth[:, 0]
    fetched = episodes.equity[:, -1] - config.starting_cash * config.point_size
    parts["shortfall"] = 1e4 * (arrival - fetched) / arrival if config.starting_shares else arrival * float("nan")
    return {
        f"{name}{end}": value
        for name, values in parts.items()
        for end, value in zip(("", "_error"), mean(values), strict=True)
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
