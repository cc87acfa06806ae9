"""What an agent gains that learnt without any information about value, in each preset.

    python benchmarks/attackers.py                  # eight trainings, an hour on one CPU core
    python benchmarks/attackers.py --collect-only   # gather what an earlier call left in runs/attackers

Each is trained by PPO and then audited: it must not gain after costs. Where it does, prices alone give something away.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rows import add, tell

from torchgym.cli import main
from torchgym.files import read_json

RESULTS = Path(__file__).parent / "results" / "attackers.csv"
KEPT = ("profit_mean", "profit_standard_error", "t_statistic", "turnover", "passed")


@dataclass
class Options:
    """Where, how long they learn, and in how many episodes they are tried."""

    presets: tuple[str, ...] = ("default", "calm", "volatile", "illiquid", "crash", "day", "toy", "zero_intelligence")
    frames: int = 512_000
    """decisions of a training"""
    episodes: int = 512
    runs: Path = Path("runs/attackers")
    collect_only: bool = False
    """run nothing"""
    results: Path = RESULTS


def attack(options: Options) -> None:
    for name in options.presets:
        run = options.runs / f"run_{name}"
        if not options.collect_only:
            main([*training(run, name, options.frames), "--compile", "yes"])
            main([*audit(run, name, options.episodes), "--output", str(options.runs), "--compile", "yes"])
        path = options.runs / name / "audit.json"
        if not path.exists():
            tell(f"{name}: no {path}")
            continue
        found, decisions = read_json(path), read_json(run / "run.json")["settings"]["total_frames"]
        (agent,) = [row for row in found["rows"] if row["policy"] == "trained_agent"]
        row = {"preset": name, "decisions": decisions, "episodes": found["episodes"]} | {
            key: agent[key] for key in KEPT
        }
        own = Path("runs/attackers") / f"run_{name}"
        commands = training(own, name, decisions), audit(own, name, found["episodes"])
        row["command"] = "; ".join(f"torchgym {' '.join(command)}" for command in commands)
        add(options.results, list(row), row)


def training(run: Path, name: str, frames: int) -> list[str]:
    """Without held-out episodes, which the audit has."""
    own = ["--preset", name, "--information", "none", "--ppo.total-frames", str(frames)]
    return ["train", str(run), *own, "--episodes", "0"]


def audit(run: Path, name: str, episodes: int) -> list[str]:
    """Of the agent alone."""
    return ["audit", "--preset", name, "--agent", str(run), "--policies", "--episodes", str(episodes)]


if __name__ == "__main__":
    attack(tyro.cli(Options))
