"""What resting orders and time priority add to the time of a compiled step: the market is otherwise the same; timed in turns.

    python benchmarks/quotes.py      # a minute on an idle CPU core, and four more while steps are compiled

The default market, and the same with two places a side for the learner (`quotes=2`), with `priority="time"`, and with both. Each
is stepped for a short while in turn, so that what slows the machine down slows all of them; a ratio is the median over rounds.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rows import add, command, tell
from torch import Tensor

import torchgym as tg
from torchgym.engine import Market
from torchgym.sim import actions

RESULTS = Path(__file__).parent / "results" / "quotes.csv"
_QUOTES, _TIME = {"quotes": 2, "action": "depths"}, {"priority": "time"}
TERMS: dict[str, dict[str, Any]] = {
    "default": {},
    "quotes": {**_QUOTES},
    "time priority": {**_TIME},
    "both": {**_QUOTES, **_TIME},
}


@dataclass
class Options:
    """How many markets, and how long."""

    markets: int = 256
    steps: int = 40
    """of a market in a round"""
    rounds: int = 25
    threads: int = 1
    results: Path = RESULTS


def drawn(config: tg.MarketConfig, markets: int) -> list[Tensor]:
    """Eight actions by chance: a choice, or depths of up to twenty points."""
    generator = torch.Generator().manual_seed(0)
    space = actions.space(config)
    if isinstance(space, actions.Choices):
        return [torch.randint(space.count, (markets, 1), generator=generator) for _ in range(8)]
    shape = (markets, space.width(config.num_symbols))
    return [torch.floor(20.0 * torch.rand(shape, generator=generator, dtype=torch.float64)) for _ in range(8)]


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    markets, given = {}, {}
    for name, changes in TERMS.items():
        tell(f"{name}: opening")
        config = tg.preset("default", **changes)
        markets[name], given[name] = Market(config, options.markets, compile=True), drawn(config, options.markets)
        markets[name].reset()
        for at in range(options.steps):
            markets[name].step(given[name][at % 8])
    costs: dict[str, list[float]] = {name: [] for name in TERMS}
    for _ in range(options.rounds):
        for name, market in markets.items():
            begin = time.perf_counter()
            for at in range(options.steps):
                market.step(given[name][at % 8])
            costs[name].append((time.perf_counter() - begin) / options.steps / options.markets)
    for name, own in costs.items():
        ratio = statistics.median(cost / usual for cost, usual in zip(own, costs["default"], strict=True))
        row = {
            "threads": options.threads,
            "markets": options.markets,
            "traders": markets[name].structure.owners,
            "terms": name,
        }
        row |= {
            "microseconds": 1e6 * statistics.median(own),
            "fastest": 1e6 * min(own),
            "ratio": ratio,
            "command": command(),
        }
        add(options.results, list(row), row)
        print(f"{name:15s} {row['microseconds']:.2f} µs a market-step, {ratio:.2f} of the default")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
