"""What a command is doing, on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchgym.cli.output import figure
from torchgym.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

INTERVAL = 10.0  # seconds from one plain line to the next
_BARS = 8  # stages that are shown together on a terminal


@contextmanager
def progress_bars(per_second: float = 10.0) -> Iterator[Progress]:
    """Shows stages on stderr while they run.

    On a terminal each has a bar with its rate and the time left; the bars are gone at the end. Where stderr is a pipe, a file or
    a terminal that cannot move its cursor (`TERM=dumb`), plain lines say the same: see `Lines`.

    Args:
        per_second: how often bars are drawn.

    Yields:
        What is to be called with the stage, how much of it is done and how much there is.
    """
    from rich.console import Console

    console = Console(stderr=True)
    # FORCE_COLOR makes rich take a pipe for a terminal.
    if sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal:
        with _bars(console, per_second) as tell:
            yield tell
    else:
        with _lines() as tell:
            yield tell


@contextmanager
def stage(progress: Progress, name: str) -> Iterator[None]:
    """A stage of one step: what the block does."""
    progress(name, 0, 1)
    yield
    progress(name, 1, 1)


@dataclass
class _Stage:
    """What a stage has come to."""

    start: float  # s, when it began
    done: int
    total: int
    first: tuple[float, int] | None = None  # when its first part was done, and how much that was

    @property
    def ended(self) -> bool:
        return self.done >= self.total

    def rate(self, now: float) -> float | None:
        """Parts a second after the first one, which may include compiling; None where nothing can be said."""
        if self.first is None or now <= self.first[0] or self.done <= self.first[1]:
            return None
        return (self.done - self.first[1]) / (now - self.first[0])


class Lines:
    """Progress as plain lines: when a stage begins, when it ends, and every ten seconds in between.

    Nothing depends on how often `tell` is called: from one line to the next it takes ten seconds, unless a stage begins or ends.

    Args:
        write: takes a line without its end.
        clock: seconds that only grow.

    >>> lines = Lines(print)
    >>> lines.tell("paths", 0, 2000)
    paths: 0 of 2,000
    >>> lines.tell("paths", 1500, 2000)
    >>> lines.tell("loading", 0, 1)
    loading ...
    >>> lines.tell("loading", 1, 1)
    loading: done in 0:00
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._stages: dict[str, _Stage] = {}
        self._current = ""  # the stage that was told last
        self._last = clock()  # when the last line was written
        self._lock = threading.RLock()  # a signal's handler may tell while this thread does

    def tell(self, stage: str, done: int, total: int) -> None:
        """So much of the stage is done, of so much."""
        with self._lock:
            now, known = self._clock(), self._stages.get(stage)
            if known is not None and known.ended and done >= total:
                return
            self._current = stage
            if known is None or known.ended:
                self._stages[stage] = known = _Stage(now, done, total)
                self._say(known.ended, now)
                return
            if known.first is None and done > known.done:
                known.first = (now, done)
            known.done, known.total = done, total
            if known.ended or now - self._last >= INTERVAL:
                self._say(known.ended, now)

    def beat(self) -> None:
        """Say again where the stage stands, where ten seconds have brought no line."""
        with self._lock:
            now, known = self._clock(), self._stages.get(self._current)
            if known is not None and not known.ended and now - self._last >= INTERVAL:
                self._say(False, now)

    def _say(self, ended: bool, now: float) -> None:
        known = self._stages[self._current]
        self._last = now
        self._write(_line(self._current, known, now))


def _line(name: str, stage: _Stage, now: float) -> str:
    """One line on a stage."""
    spent = now - stage.start
    if stage.total == 1:  # one step
        if stage.ended:
            return f"{name}: done in {_minutes(spent)}"
        return f"{name}: {_minutes(spent)} so far" if spent else f"{name} ..."
    parts = [f"{name}: {stage.done:,} of {stage.total:,}"]
    rate = stage.rate(now)
    if rate is not None:
        parts.append(f"{figure(rate)}/s")
    if stage.ended:
        parts.append(f"done in {_minutes(spent)}")
    elif rate is not None:
        parts.append(f"{_minutes((stage.total - stage.done) / rate)} left")
    elif spent:
        parts.append(f"{_minutes(spent)} so far")
    return ", ".join(parts)


def _minutes(seconds: float) -> str:
    """Minutes and seconds, hours before them where there are some.

    >>> _minutes(7.4), _minutes(186), _minutes(3723)
    ('0:07', '3:06', '1:02:03')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


@contextmanager
def _lines() -> Iterator[Progress]:
    """Plain lines, also while nothing is told."""
    lines, ended = Lines(_write_line), threading.Event()

    def watch() -> None:
        while not ended.wait(INTERVAL / 10.0):
            lines.beat()

    watcher = threading.Thread(target=watch, name="torchgym progress", daemon=True)
    watcher.start()
    try:
        yield lines.tell
    finally:
        ended.set()
        watcher.join()


def _write_line(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # a reader that has gone away ends no training
        sys.stderr.write(f"torchgym: {text}\n")
        sys.stderr.flush()


@contextmanager
def _bars(console: Console, per_second: float) -> Iterator[Progress]:
    """A bar per stage, of the latest ones."""
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Count(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.total in (None, 1) else f"{task.completed:,.0f}/{task.total:,.0f}")

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None or task.total == 1 else f"{figure(speed)}/s", style="progress.data.speed")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(24),
        Count(),
        Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    bars = Bars(
        *columns,
        console=console,
        transient=True,
        refresh_per_second=per_second,
        redirect_stdout=sys.stdout.isatty(),  # what goes to a file still does
    )
    with bars:
        tasks: dict[str, TaskID] = {}

        def tell(stage: str, done: int, total: int) -> None:
            running = None if total == 1 and not done else total  # one step: the bar pulses
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=running)
                for earlier in list(tasks.values())[:-_BARS]:
                    bars.update(earlier, visible=False)
            bars.update(tasks[stage], completed=done, total=running)

        yield tell
