"""Timed windows: what a piece of work costs, window by window, and whether the figures can be trusted."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.utils import benchmark

from torchgym.progress import silent

Work = Callable[[], object]

SPREAD = 0.10  # (highest - lowest) / median above which windows disagree
BUSY = 0.90  # share of wall time that a process with a processor of its own spends on it

_CALIBRATION = 0.2  # of a window: how long a piece is timed before the number of pieces in a window is fixed


@dataclass(frozen=True)
class Timing:
    """The windows of one piece of work, in the order they were taken."""

    costs: tuple[float, ...]  # seconds per piece of work, one per window
    busy: float  # processor time of all threads over wall time; above 1 when several threads work

    @property
    def rates(self) -> list[float]:
        """Pieces of work per second, one per window."""
        return [1.0 / cost for cost in self.costs]

    @property
    def spread(self) -> float:
        """(highest - lowest) / median of the rates, a pure number."""
        return (max(self.rates) - min(self.rates)) / statistics.median(self.rates)


def noise(*timings: Timing) -> str:
    """What speaks against a figure that these timings went into; empty where nothing does.

    Windows further apart than 10 % of their median, or a process that was on a processor for less than 90 % of the wall time,
    because it waited for another one. The worst of the timings is told.

    >>> steady, uneven, waiting = Timing((0.010, 0.010), 1.0), Timing((0.010, 0.0125), 1.0), Timing((0.010, 0.010), 0.5)
    >>> noise(steady), noise(uneven, waiting)
    ('', 'spread 22 %, CPU time 50 % of wall time')
    """
    faults = []
    spread, busy = max(timing.spread for timing in timings), min(timing.busy for timing in timings)
    if spread > SPREAD:
        faults.append(f"spread {100.0 * spread:.0f} %")
    if busy < BUSY:
        faults.append(f"CPU time {100.0 * busy:.0f} % of wall time")
    return ", ".join(faults)


def time_work(
    work: Sequence[Work],
    *,
    seconds: float,
    repeats: int,
    clock: Callable[[], float] = benchmark.timer,
    tell: Callable[[int, int], None] | None = None,
) -> list[Timing]:
    """Time several pieces of work in turn: window 1 of each, then window 2 of each, and so on.

    A machine that slows down for a while slows all of them down, and their ratios stay. Every window of a piece holds the same
    number of calls.

    Args:
        work: each call does one piece.
        seconds: length of a window; a piece that takes longer makes a window by itself.
        repeats: windows of each piece.
        clock: in seconds; the default is wall time, and waits for the device.
        tell: called with the windows done and the windows in all, before the first one too.
    """
    tell = tell or silent
    tell(0, repeats * len(work))
    threads = torch.get_num_threads()
    timers = [
        benchmark.Timer("piece()", "gc.enable()", timer=clock, globals={"piece": piece, "gc": gc}, num_threads=threads)
        for piece in work
    ]
    counts = [math.ceil(seconds / one.blocked_autorange(min_run_time=_CALIBRATION * seconds).mean) for one in timers]
    costs: list[list[float]] = [[] for _ in work]
    walls, cpus = [0.0] * len(work), [0.0] * len(work)
    for window in range(repeats):
        for index, timer in enumerate(timers):
            wall, cpu = time.perf_counter(), time.process_time()
            costs[index].append(timer.timeit(counts[index]).mean)
            walls[index] += time.perf_counter() - wall
            cpus[index] += time.process_time() - cpu
            tell(window * len(work) + index + 1, repeats * len(work))
    return [Timing(tuple(cost), cpu / wall) for cost, cpu, wall in zip(costs, cpus, walls, strict=True)]
