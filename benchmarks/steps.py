"""Steps per second of `Market.step`, eager and compiled, over batch sizes.

    python benchmarks/steps.py --threads 1 --output benchmarks/results/steps.csv

A step is one tick of every market with a random action: all traders, all 54 features, the reward. The first steps, which compile,
are not timed; each figure is the median over repeats. Rows are appended to the CSV file.
"""

from __future__ import annotations

import csv
import platform
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

import torchgym as tg
from torchgym.state import layout


@dataclass
class Args:
    preset: str = "default"
    num_envs: tuple[int, ...] = (1, 8, 64, 1024)
    modes: tuple[str, ...] = ("eager", "compiled")
    threads: int = 1
    seconds: float = 3.0
    """of timed steps per repeat"""
    repeats: int = 5
    device: str = "cpu"
    output: Path | None = None


def main(args: Args) -> list[dict[str, object]]:
    torch.set_num_threads(args.threads)
    rows = []
    for mode in args.modes:
        for count in args.num_envs:
            row = measure(args, mode, count)
            rows.append(row)
            print(
                f"{mode:9s} {count:6d} markets {row['steps_per_second']:9,.0f} steps/s"
                f" {row['market_steps_per_second']:11,.0f} market-steps/s (repeats {row['low']:,.0f} to {row['high']:,.0f})",
                flush=True,
            )
    if args.output is not None:
        write(args.output, rows)
    return rows


def measure(args: Args, mode: str, count: int) -> dict[str, object]:
    config = tg.preset(args.preset)
    market = tg.Market(config, count, seed=0, device=args.device, compile=mode == "compiled")
    market.reset()
    actions = torch.randint(0, 3, (64, count), generator=torch.Generator().manual_seed(0)).to(args.device)
    for index in range(3):
        market.step(actions[index])
    rates = [timed(market, actions, args.seconds) for _ in range(args.repeats)]
    median = statistics.median(rates)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "device": device_name(args.device),
        "torch": torch.__version__,
        "threads": args.threads,
        "preset": args.preset,
        "markets": count,
        "traders": layout(config).owners,
        "dtype": "int64 books, float32 traders, float64 features",
        "mode": mode,
        "steps_per_second": median,
        "market_steps_per_second": median * count,
        "low": min(rates),
        "high": max(rates),
    }


def timed(market: tg.Market, actions: torch.Tensor, seconds: float) -> float:
    """Steps per second over at least that many seconds."""
    steps, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        market.step(actions[steps % len(actions)])
        steps += 1
    return steps / elapsed


def commit() -> str:
    result = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].split(":")[1].strip() if names else platform.processor()


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if new:
            writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(tyro.cli(Args))
