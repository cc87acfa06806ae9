"""What a learner with its own defaults makes of each way to pose the same market: which one the ready-made ids should have.

    python benchmarks/defaults.py                                    # two hours on one CPU core
    python benchmarks/defaults.py --poses literal relative --seeds 0

stable-baselines3's PPO, all of its arguments at their defaults, trains on `SB3VecEnv` for the same number of decisions in each
pose, and then trades held-out episodes of 1,000 ticks, the same for all poses. Rows are added to a CSV file: the mean profit
in currency with a 95 % bootstrap interval over episodes, and after how many decisions the first episode ended, which is when the
learner first tells a mean reward.
"""

from __future__ import annotations

import importlib.metadata
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rows import add, tell
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

import torchgym as tg
from torchgym.lab.performance import evaluate
from torchgym.lab.policy import Policy

RESULTS = Path(__file__).parent / "results" / "defaults.csv"
COLUMNS = (
    *("threads", "library", "version", "pose", "seed", "markets", "decisions", "first_episode", "seconds"),
    *("profit", "low", "high", "command"),
)

_RELATIVE: dict[str, Any] = {"scaling": "relative", "include_account": True}
_SHORT: dict[str, Any] = {"max_ticks": 1_000}
POSES: Mapping[str, Mapping[str, Any]] = {
    "literal": {},
    "relative": {"scaling": "relative"},
    "relative, account": _RELATIVE,
    "raw, account, short": {**_SHORT, "include_account": True},
    "relative, short": {**_SHORT, "scaling": "relative"},
    "relative, account, short": {**_RELATIVE, **_SHORT},
    "relative, account, short, every 5 ticks": {**_RELATIVE, **_SHORT, "ticks_per_action": 5},
    "relative, account, short, every 5 ticks, scaled": {
        **_RELATIVE,
        **_SHORT,
        "ticks_per_action": 5,
        "reward": {"pnl": 0.05},
    },
}


@dataclass
class Args:
    poses: tuple[str, ...] = tuple(POSES)
    seeds: tuple[int, ...] = (0, 1000, 2000)
    """of the trainings; markets have those from here on"""
    decisions: int = 120_000
    """over all markets"""
    markets: int = 8
    episodes: int = 256
    """held out, of 1,000 ticks"""
    output: Path = RESULTS


class FirstEpisode(BaseCallback):
    """Notes how many decisions had been taken when the first episode ended."""

    at: int | None = None

    def _on_step(self) -> bool:
        if self.at is None and self.locals["dones"].any():
            self.at = self.num_timesteps
        return True


def main(args: Args) -> None:
    torch.set_num_threads(1)
    for seed in args.seeds:
        for pose in args.poses:
            tell(f"{pose}, seed {seed}")
            row = train(pose, seed, args)
            add(args.output, COLUMNS, row)
            print(
                f"{pose:50s} seed {seed:5d}: {row['profit']:+6.1f} ({row['low']:+.1f} … {row['high']:+.1f})", flush=True
            )


def train(pose: str, seed: int, args: Args) -> dict[str, Any]:
    """One training and its test."""
    env = tg.SB3VecEnv(num_envs=args.markets, seed=seed, compile=True, **POSES[pose])
    env.market.prepare()
    model, first = PPO("MlpPolicy", env, seed=seed, device="cpu"), FirstEpisode()
    begin = time.monotonic()
    model.learn(args.decisions, callback=first)
    seconds = time.monotonic() - begin

    def make_policy(config: tg.MarketConfig, seeds: Tensor) -> Policy:
        def act(seen: tg.StepResult) -> Tensor:
            parts = [seen.observation, seen.account] if env.include_account else [seen.observation]
            choices, _ = model.predict(torch.cat(parts, -1).to(torch.float32).numpy(), deterministic=True)
            return torch.from_numpy(choices)

        return act

    config = env.config.replace(**_SHORT)
    found = evaluate(config, {"agent": make_policy}, episodes=args.episodes, compile=True)
    profit = found.interval("agent", "profit")
    return {
        "threads": 1,
        "library": "stable-baselines3",
        "version": importlib.metadata.version("stable-baselines3"),
        "pose": pose,
        "seed": seed,
        "markets": args.markets,
        "decisions": args.decisions,
        "first_episode": first.at,
        "seconds": round(seconds, 1),
        "profit": profit.mean,
        "low": profit.low,
        "high": profit.high,
        "command": f"python benchmarks/defaults.py {shlex.join(sys.argv[1:])}".strip(),
    }


if __name__ == "__main__":
    main(tyro.cli(Args))
