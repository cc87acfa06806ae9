"""What a command is doing, on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from torchgym.cli.output import figure
from torchgym.progress import Progress

INTERVAL = 10.0  # seconds from one plain line to the next
_RECENT = 600.0  # seconds that the rate is of: steps are faster once they are compiled
_BARS = 8  # stages that are shown together on a terminal


@contextmanager
def progress_bars(per_second: float = 10.0) -> Iterator[Progress]:
    """Shows stages on stderr while they run.

    On a terminal each has a bar with its rate and the time left; the bars are gone at the end. Where stderr is a pipe, a file or
    a terminal that cannot move its cursor (`TERM=dumb`), plain lines say the same: see `Lines`.
    """
    console = Console(stderr=True)
    # FORCE_COLOR makes rich take a pipe for a terminal.
    if not (sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal):
        with _lines() as tell:
            yield tell
        return
    with Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(24),
        _Standing(),
        console=console,
        transient=True,
        refresh_per_second=per_second,
        redirect_stdout=sys.stdout.isatty(),  # what goes to a file still does
        speed_estimate_period=_RECENT,
    ) as bars:
        yield Stages(bars).tell


@contextmanager
def stage(progress: Progress, name: str) -> Iterator[None]:
    """A stage of one step: what the block does."""
    progress(name, 0, 1)
    yield
    progress(name, 1, 1)


class Stages:
    """The stages of a command, which rich counts as its tasks; one that is over may begin again."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, Task] = {}

    def tell(self, stage: str, done: int, total: int) -> None:
        """So much of the stage is done, of so much."""
        task = self._tasks.get(stage)
        total_shown = None if total == 1 and not done else total  # one step: the bar pulses
        if task is None or (_is_over(task) and done < total):
            self._bars.add_task(stage, total=total_shown, completed=done)
            *earlier, self._tasks[stage] = self._bars.tasks
            for hidden in earlier[: 1 - _BARS]:
                hidden.visible = False
        else:
            self._bars.update(task.id, total=total_shown, completed=done)


class Lines(Stages):
    """Progress as plain lines: when a stage begins, when it ends, and every ten seconds in between.

    Nothing depends on how often `tell` is called: from one line to the next it takes ten seconds, unless a stage begins or ends.

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
        super().__init__(Bars(disable=True, get_time=clock, speed_estimate_period=_RECENT))  # counts and draws nothing
        self._write = write
        self._clock = clock
        self._latest: Task | None = None  # the stage that a call was about last
        self._written = clock()  # when the last line was
        self._lock = threading.RLock()  # a signal's handler may tell while this thread does

    def tell(self, stage: str, done: int, total: int) -> None:
        """So much of the stage is done, of so much."""
        with self._lock:
            before = self._tasks.get(stage)
            if before is not None and _is_over(before) and done >= total:
                return
            super().tell(stage, done, total)
            self._latest = self._tasks[stage]
            self._write_line(at_once=self._latest is not before or _is_over(self._latest))

    def beat(self) -> None:
        """Say again where the stage stands, where ten seconds have brought no line."""
        with self._lock:
            if self._latest is not None and not _is_over(self._latest):
                self._write_line(at_once=False)

    def _write_line(self, *, at_once: bool) -> None:
        if self._latest is not None and (at_once or self._clock() - self._written >= INTERVAL):
            self._written = self._clock()
            standing = _standing(self._latest)
            self._write(f"{self._latest.description}{': ' if standing else ' ...'}{standing}")


class _Standing(ProgressColumn):
    """Says beside a bar what a plain line says."""

    def render(self, task: Task) -> Text:
        return Text(_standing(task))


def _is_over(task: Task) -> bool:
    return task.total is not None and task.completed >= task.total


def _standing(task: Task) -> str:
    """How far a stage is and for how long: "2,000 of 10,000, 100/s, 1:20 left"; nothing of a single step that begins.

    The rate leaves out what was done first, which may include compiling.
    """
    spent, parts = task.finished_time or task.elapsed or 0.0, []
    if task.total not in (None, 1):
        parts.append(f"{task.completed:,.0f} of {task.total:,.0f}")
        if task.speed:
            parts.append(f"{figure(task.speed)}/s")
    if _is_over(task):
        parts.append(f"done in {_minutes(spent)}")
    elif task.time_remaining is not None:
        parts.append(f"{_minutes(task.time_remaining)} left")
    elif spent >= 1.0:
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
    """Plain lines, also while no progress is reported."""

    def write(text: str) -> None:
        with suppress(OSError, ValueError):  # a reader that has gone away ends no training
            sys.stderr.write(f"torchgym: {text}\n")
            sys.stderr.flush()

    def watch() -> None:
        while not ended.wait(INTERVAL / 10.0):
            lines.beat()

    lines, ended = Lines(write), threading.Event()
    watcher = threading.Thread(target=watch, name="torchgym progress", daemon=True)
    watcher.start()
    try:
        yield lines.tell
    finally:
        ended.set()
        watcher.join()
