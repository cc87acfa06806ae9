"""What each trainer of examples/ makes of the same task in the same number of decisions, and how long it takes.

    python benchmarks/trainers.py                        # about fifty minutes on one CPU core
    python benchmarks/trainers.py --trainers sb3_dqn --seeds 0
    python benchmarks/trainers.py --rllib .venv-rllib/bin/python     # RLlib too, in the environment that `make rllib` makes

Every training runs in a process of its own, with the example's defaults but for the seed; the market is compiled before the clock
starts. Rows are added to a CSV file: profit in currency per held-out episode, the same episodes for all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import tyro
from rows import add, tell

import torchgym as tg

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "trainers.csv"
COLUMNS = (
    *("threads", "trainer", "library", "version", "seed", "markets"),
    *("decisions", "seconds", "decisions_per_second", "profit", "value_follower", "command"),
)

Name = Literal["torchgym", "sb3_ppo", "sb3_dqn", "skrl_ppo", "cleanrl_ppo", "rllib_ppo"]
# File of examples/, its library, its options; torchgym's own trainer needs none.
TRAINERS: dict[Name, tuple[str, str, str]] = {
    "sb3_ppo": ("sb3_agents", "stable-baselines3", "--algorithm ppo"),
    "sb3_dqn": ("sb3_agents", "stable-baselines3", "--algorithm dqn"),
    "skrl_ppo": ("skrl_ppo", "skrl", ""),
    "cleanrl_ppo": ("cleanrl_ppo", "torch", ""),
    "rllib_ppo": ("rllib_ppo", "ray", ""),
}

# In the process of its own: compile what the example will need, then let it train, and tell what came of it.
CHILD = """
import importlib.metadata, importlib.util, json, sys, time
import torchgym as tg
path, library, options = sys.argv[1], sys.argv[2], sys.argv[3:]
for market in (64, 256):
    config = tg.MarketConfig(max_ticks=1000, ticks_per_action=5, scaling="relative", reward={"pnl": 0.05})
    tg.Market(config, market, seed=0, compile=True).prepare()
spec = importlib.util.spec_from_file_location("example", path)
example = importlib.util.module_from_spec(spec)
sys.modules["example"] = example
spec.loader.exec_module(example)
import tyro
args = tyro.cli(example.Args, args=options)
tested = []
plain = example.evaluate
def evaluate(*given, **named):
    tested.append(time.monotonic())
    return plain(*given, **named)
example.evaluate = evaluate
begin = time.monotonic()
profits = example.main(args)
told = {"seconds": tested[0] - begin, "version": importlib.metadata.version(library), **profits}
print("RESULT " + json.dumps({**told, "markets": args.num_envs, "decisions": args.total_steps}))
"""


@dataclass
class Args:
    trainers: tuple[Name, ...] = tuple(name for name in get_args(Name) if name != "rllib_ppo")
    seeds: tuple[int, ...] = (0, 1000, 2000)
    """of the trainings; markets have those from here on"""
    rllib: Path | None = None
    """Python of an environment with ray[rllib]"""
    output: Path = RESULTS


def main(args: Args) -> None:
    torch.set_num_threads(1)
    names: list[Name] = list(args.trainers)
    if args.rllib and "rllib_ppo" not in names:
        names.append("rllib_ppo")
    for name in names:
        for seed in args.seeds:
            tell(f"{name}, seed {seed}: compiling where need be, training, testing; some minutes")
            row = torchgym(seed) if name == "torchgym" else example(name, seed, args.rllib)
            speed = round(row["decisions"] / row["seconds"])
            told = {name: round(value, 1) if isinstance(value, float) else value for name, value in row.items()}
            about = {"threads": 1, "trainer": name, "seed": seed, "decisions_per_second": speed}
            add(args.output, COLUMNS, {**about, **told})
            print(f"{name:12s} seed {seed:5d}: {row['profit']:+6.1f} currency, {row['seconds']:4.0f} s", flush=True)


def example(name: Name, seed: int, rllib: Path | None) -> dict[str, Any]:
    """One training by an example."""
    file, library, options = TRAINERS[name]
    python = str(rllib) if name == "rllib_ppo" and rllib is not None else sys.executable
    words = [*options.split(), "--seed", str(seed)]
    path = ROOT / "examples" / f"{file}.py"
    done = subprocess.run(
        [python, "-W", "ignore", "-c", CHILD, str(path), library, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not found:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    told = json.loads(found[0].removeprefix("RESULT "))
    command = f"python examples/{file}.py {' '.join(words)}"
    return {**told, "profit": told["agent"], "library": library, "command": command}


def torchgym(seed: int) -> dict[str, Any]:
    """One training by `torchgym.training`, in as many decisions as the examples take."""
    from torchgym.lab.performance import evaluate
    from torchgym.lab.policies import value_follower
    from torchgym.training import PPOSettings, start

    config = tg.MarketConfig(max_ticks=1000, ticks_per_action=5, scaling="relative")
    settings = PPOSettings(total_frames=640_000, num_envs=64)
    run = start(config, settings, seed=seed, validations=0)
    tg.Market(config, 64, compile=True).prepare()
    run.advance()
    policies = {"agent": run.trainer.agent.make_policy, "value_follower": value_follower}
    found = evaluate(config, policies, episodes=256, compile=True)
    profits = {name: found.episodes[name].profit.mean().item() for name in policies}
    return {
        "seconds": run.curve[-1]["seconds"],
        "version": tg.__version__,
        "markets": settings.num_envs,
        "decisions": settings.total_frames,
        "profit": profits["agent"],
        "value_follower": profits["value_follower"],
        "library": "torchgym",
        "command": f"torchgym train --ppo.total-frames 640000 --ppo.num-envs 64 --validations 0 --seed {seed}",
    }


if __name__ == "__main__":
    main(tyro.cli(Args))
