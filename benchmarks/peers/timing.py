"""The clock and the report that the scripts of this folder share, so that all peers are timed alike.

It imports the standard library alone, since each script runs where little but its peer is installed. A script writes one line
of JSON per figure to stdout.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SPREAD = 0.10  # (highest - lowest) / median above which the repeats disagree
BUSY = 0.90  # share of wall time that a process with a core of its own spends on it


@dataclass(frozen=True)
class Window:
    """One timed repeat."""

    steps: int
    wall: float  # s
    cpu: float  # s of processor time, over all threads of the process

    def rate(self, clock: str) -> float:
        """Steps per second on that clock."""
        return self.steps / (self.cpu if clock == "cpu" else self.wall)


def parser(about: str | None) -> argparse.ArgumentParser:
    """The arguments that every script takes."""
    made = argparse.ArgumentParser(description=about)
    made.add_argument("--seconds", type=float, default=1.0, help="of a repeat, at least")
    made.add_argument("--repeats", type=int, default=5)
    made.add_argument("--threads", type=int, default=1, help="of the peer, where it can have several")
    made.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="what a second is a second of")
    return made


def measure(
    step: Callable[[], object],
    options: argparse.Namespace,
    *,
    before_each: Callable[[], object] | None = None,
) -> list[Window]:
    """Time a step, again and again; the first half second is a warm-up and is not counted.

    Args:
        before_each: what is done, untimed, before the warm-up and before every repeat.
    """
    lengths = [min(0.5, options.seconds)] + [options.seconds] * options.repeats
    windows = []
    for seconds in lengths:
        if before_each is not None:
            before_each()
        windows.append(window(step, seconds))
    return windows[1:]


def window(step: Callable[[], object], seconds: float) -> Window:
    """Steps for at least that many seconds."""
    steps, elapsed, cpu, start = 0, 0.0, time.process_time(), time.perf_counter()
    while elapsed < seconds:
        step()
        steps += 1
        elapsed = time.perf_counter() - start
    return Window(steps, elapsed, time.process_time() - cpu)


def report(
    windows: Sequence[Window],
    options: argparse.Namespace,
    *,
    peer: str,
    version: str,
    case: str,
    contains: str,
    markets: int = 1,
    traders: int = 0,
    per_step: int | None = None,
    unit: str = "market-steps/s",
    torch: str = "",
) -> None:
    """Write one figure: the median over the repeats, with the lowest and the highest, and what speaks against it.

    Args:
        contains: what one step of one market consists of, in one sentence.
        markets: how many a step moves.
        traders: per market, the learner not counted.
        per_step: how many of the unit a step counts for; the number of markets, unless given.
        torch: its version, where the peer uses it.
    """
    count = markets if per_step is None else per_step
    rates = [count * one.rate(options.clock) for one in windows]
    figure = {
        "peer": peer,
        "version": version,
        "case": case,
        "markets": markets,
        "traders": traders,
        "unit": unit,
        "median": statistics.median(rates),
        "low": min(rates),
        "high": max(rates),
        "noise": noise(windows, options.clock),
        "contains": contains,
        "python": platform.python_version(),
        "torch": torch,
    }
    print(json.dumps(figure), flush=True)


def noise(windows: Sequence[Window], clock: str) -> str:
    """Why the repeats cannot be trusted; empty where nothing speaks against them."""
    rates = [one.rate(clock) for one in windows]
    spread = (max(rates) - min(rates)) / statistics.median(rates)
    share = sum(one.cpu for one in windows) / sum(one.wall for one in windows)
    faults = [f"spread {100 * spread:.0f} %"] * (spread > SPREAD)
    faults += [f"CPU time {100 * share:.0f} % of wall time"] * (clock == "wall" and share < BUSY)
    return ", ".join(faults)
