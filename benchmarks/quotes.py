"""What resting orders and time priority add to the time of a compiled step: the market is otherwise the same; timed in turns.

    python benchmarks/quotes.py      # a minute on an idle CPU core, and four more while steps are compiled

The default market, and the same with two places a side for the learner (`quotes=2`), with `priority="time"`, and with both. Each
is stepped for a short while in turn, so that what slows the machine down slows all of them; a ratio is the median over rounds.
"""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rows import add, command, tell
from timing import Work, time_work

import torchgym as tg
from torchgym.config import structure
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
    seconds: float = 0.1
    """of a window"""
    windows: int = 25
    threads: int = 1
    results: Path = RESULTS


def stepping(terms: dict[str, Any], markets: int) -> Work:
    """Steps of markets, with actions drawn beforehand: a choice, or depths of up to twenty points."""
    config = tg.preset("default", **terms)
    market, generator = Market(config, markets, compile=True), torch.Generator().manual_seed(0)
    space = actions.space(config)
    if isinstance(space, actions.Choices):
        drawn = torch.randint(space.count, (8, markets, 1), generator=generator)
    else:
        width = space.width(config.num_symbols)
        drawn = torch.floor(20.0 * torch.rand(8, markets, width, generator=generator, dtype=torch.float64))
    market.reset()
    given = itertools.cycle(drawn)
    return lambda: market.step(next(given))


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    work = []
    for name, terms in TERMS.items():
        tell(f"{name}: opening")
        work.append(stepping(terms, options.markets))
    usual, *_ = timings = time_work(work, seconds=options.seconds, repeats=options.windows)
    about = {"threads": options.threads, "markets": options.markets, "traders": structure(tg.preset("default")).owners}
    for name, own in zip(TERMS, timings, strict=True):
        ratio = statistics.median(cost / plain for cost, plain in zip(own.costs, usual.costs, strict=True))
        costs = [1e6 * cost / options.markets for cost in own.costs]
        row = {**about, "terms": name, "microseconds": statistics.median(costs), "fastest": min(costs)}
        row |= {"ratio": ratio, "command": command()}
        add(options.results, list(row), row)
        print(f"{name:15s} {row['microseconds']:.2f} µs a market-step, {ratio:.2f} of the default")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
