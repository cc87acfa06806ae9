"""What a second process brings: decisions a second that an agent learns from, alone, with torchrun and with Ray.

    python benchmarks/scale_out.py                       # about twelve minutes on two CPU cores, once all is compiled
    python benchmarks/scale_out.py --cases torchrun --markets 1024

Every case trains on the default market (1,000 ticks, a decision every five) as the command in its row says. The first update is
left out, since it opens the markets; the figure is the median over the others. Rows are added to a CSV file.
"""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import tyro
from rows import add, tell

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "scale_out.csv"
COLUMNS = (
    *("case", "processes", "threads", "markets", "rollout"),
    *("updates", "decisions_per_second", "low", "high", "command"),
)

Case = Literal["alone", "threads", "torchrun", "ray"]


@dataclass
class Args:
    cases: tuple[Case, ...] = get_args(Case)
    markets: tuple[int, ...] = (128, 1024)
    """of all processes together"""
    updates: int = 12
    """after the first"""
    rollout: int = 50
    output: Path = RESULTS


def main(args: Args) -> None:
    if args.updates < 2:
        raise SystemExit(f"updates must be at least 2, got {args.updates}: a median needs them")
    for markets in args.markets:
        for case in args.cases:
            tell(f"{case}, {markets:,} markets: measuring")
            row = measured(case, markets, args)
            add(args.output, COLUMNS, row)
            print(f"{case:9s} {markets:5,d} markets: {row['decisions_per_second']:>7,.0f} decisions/s", flush=True)


def measured(case: Case, markets: int, args: Args) -> dict[str, object]:
    """One case, in processes of its own."""
    frames = (args.updates + 1) * markets * args.rollout
    train = ["train", "RUN", "--ppo.total-frames", str(frames), "--ppo.num-envs", str(markets)]
    train += ["--ppo.rollout", str(args.rollout), "--validations", "0", "--episodes", "0"]
    workers = ["--total-steps", str(frames), "--num-envs", str(markets // 2), "--rollout", str(args.rollout)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "torchgym"]
    words = {
        "alone": ["-m", "torchgym", *train],
        "threads": ["-m", "torchgym", *train, "--threads", "2"],
        "torchrun": [*torchrun, *train],
        "ray": [
            "examples/ray_collector.py",
            "--workers",
            "2",
            *workers,
            "--test-episodes",
            "2",
            "--log",
            "RUN/learning_curve.csv",
        ],
    }[case]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, *(word.replace("RUN", folder) for word in words)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "2" if case == "threads" else "1"},
        )
        if done.returncode:
            raise SystemExit(f"{case} failed:\n{done.stderr[-3000:]}")
        with (Path(folder) / "learning_curve.csv").open() as file:
            seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    speeds = [markets * args.rollout / (after - before) for before, after in pairwise(seconds)]
    quarters = statistics.quantiles(speeds, n=4)
    return {
        "case": case,
        "processes": {"alone": 1, "threads": 1, "torchrun": 2, "ray": 3}[case],
        "threads": 2 if case == "threads" else 1,
        "markets": markets,
        "rollout": args.rollout,
        "updates": len(speeds),
        "decisions_per_second": round(statistics.median(speeds)),
        "low": round(quarters[0]),
        "high": round(quarters[2]),
        "command": " ".join(["python", *words]),
    }


if __name__ == "__main__":
    main(tyro.cli(Args))
