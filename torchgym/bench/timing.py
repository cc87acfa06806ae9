"""Timed windows: how often work was done, in how much wall and processor time, and whether the figures can be trusted."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Work = Callable[[], object]

SPREAD = 0.10  # (highest - lowest) / median above which windows disagree
BUSY = 0.90  # share of wall time that a process with a processor of its own spends on it

_CALIBRATION = 0.2  # share of a window that must pass before the count is believed


@dataclass(frozen=True)
class Window:
    """One timed run of the same piece of work, again and again."""

    count: int  # how often
    wall: float  # s
    cpu: float  # s of processor time, over all threads of the process


@dataclass(frozen=True)
class Timing:
    """The windows of one piece of work, in the order they were taken."""

    windows: tuple[Window, ...]

    @property
    def rates(self) -> list[float]:
        """Pieces of work per second of wall time, one per window."""
        return [window.count / window.wall for window in self.windows]

    @property
    def costs(self) -> list[float]:
        """Seconds of wall time per piece of work, one per window."""
        return [window.wall / window.count for window in self.windows]

    @property
    def spread(self) -> float:
        """(highest - lowest) / median of the rates, a pure number."""
        return (max(self.rates) - min(self.rates)) / statistics.median(self.rates)

    @property
    def busy(self) -> float:
        """Processor time over wall time; above 1 when several threads work."""
        return sum(window.cpu for window in self.windows) / sum(window.wall for window in self.windows)


def noise(*timings: Timing) -> str:
    """What speaks against a figure that these timings went into; empty where nothing does.

    Windows further apart than 10 % of their median, or a process that was on a processor for less than 90 % of the wall time,
    hence waited for somebody else. The worst of the timings is told.

    >>> fast, slow, waited = Window(100, 1.0, 1.0), Window(80, 1.0, 1.0), Window(100, 1.0, 0.5)
    >>> noise(Timing((fast, fast))), noise(Timing((fast, slow)), Timing((waited, waited)))
    ('', 'spread 22 %, CPU time 50 % of wall time')
    """
    faults = []
    apart, busy = max(timing.spread for timing in timings), min(timing.busy for timing in timings)
    if apart > SPREAD:
        faults.append(f"spread {100.0 * apart:.0f} %")
    if busy < BUSY:
        faults.append(f"CPU time {100.0 * busy:.0f} % of wall time")
    return ", ".join(faults)


def time_work(
    work: Sequence[Work],
    *,
    seconds: float,
    repeats: int,
    wait: Callable[[], None] | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> list[Timing]:
    """Time several pieces of work in turn: window 1 of each, then window 2 of each, and so on.

    So a machine that slows down for a while slows all of them down, and their ratios stay. Each piece is first done once,
    untimed, and then as often as tells how many of it make a window; every window of a piece holds the same number.

    Args:
        work: each call does one piece.
        seconds: length of a window; a piece that takes longer makes a window by itself.
        repeats: windows of each piece.
        wait: returns when the device has done all it was given.
        tell: called with the windows done and the windows in all, before the first one too.
    """
    wait = wait or _no_wait
    if tell:
        tell(0, repeats * len(work))
    counts = [_count(piece, seconds, wait) for piece in work]
    windows: list[list[Window]] = [[] for _ in work]
    for repeat in range(repeats):
        for index, piece in enumerate(work):
            windows[index].append(_window(piece, counts[index], wait))
            if tell:
                tell(repeat * len(work) + index + 1, repeats * len(work))
    return [Timing(tuple(taken)) for taken in windows]


def _count(piece: Work, seconds: float, wait: Callable[[], None]) -> int:
    """How many pieces fill a window."""
    piece()
    count = 1
    while (taken := _window(piece, count, wait)).wall < _CALIBRATION * seconds:
        count *= 2
    return max(1, math.ceil(seconds * taken.count / taken.wall))


def _window(piece: Work, count: int, wait: Callable[[], None]) -> Window:
    wait()
    cpu, start = time.process_time(), time.perf_counter()
    for _ in range(count):
        piece()
    wait()
    return Window(count, time.perf_counter() - start, time.process_time() - cpu)


def _no_wait() -> None:
    """On the processor work is done when its call returns."""
