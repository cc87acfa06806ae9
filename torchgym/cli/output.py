"""What all subcommands need: where to write, and how to show progress and figures."""

from __future__ import annotations

import csv
import json
import math
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgym.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

Progress = Callable[[str, int, int], None]

MARKS = {True: "[green]pass[/]", False: "[bold red]FAIL[/]", None: "-"}
INTERRUPTED = 130  # what a shell calls a command that Ctrl-C ended
_WIDTH = 170  # columns


def check_device(name: str) -> None:
    """Nothing, where the device is there.

    Raises:
        ValueError: where it is not.
    """
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # the latter from a build without CUDA
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error


def set_threads(count: int) -> None:
    """Give torch so many threads.

    Raises:
        ValueError: for none.
    """
    import torch

    if count < 1:
        raise ValueError(f"threads must be at least 1, got {count}")
    torch.set_num_threads(count)


def compilable(wanted: bool) -> bool:
    """Whether markets can be compiled, if that is wanted; where the compiler is missing, a line on stderr says so."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    compiler = os.environ.get("CXX", usual)
    if not wanted or sys.platform == "win32" or shutil.which(compiler) is not None:
        return wanted
    sys.stderr.write(f"torchgym: no C++ compiler {compiler}: uncompiled, the same numbers take several times as long\n")
    return False


def command_line(command: str, options: Any, *, first: Sequence[str] = (), leave_out: Sequence[str] = ()) -> str:
    """The command that does the same, with the options that are not at their defaults.

    Args:
        command: name of the subcommand.
        options: its dataclass.
        first: arguments without a name.
        leave_out: options that change nothing in what comes out, or are among those.
    """
    return shlex.join(["torchgym", command, *first, *option_words(options, leave_out=leave_out)])


def option_words(options: Any, prefix: str = "", leave_out: Sequence[str] = ()) -> list[str]:
    """The options that are not at their defaults, as words of a command line."""
    words: list[str] = []
    for entry in fields(options):
        value, name = getattr(options, entry.name), prefix + entry.name.replace("_", "-")
        usual = entry.default if entry.default_factory is MISSING else entry.default_factory()
        if value == usual or entry.name in leave_out:
            continue
        if is_dataclass(value):
            words += option_words(value, f"{name}.")
        elif isinstance(value, bool):
            words.append(f"--{name}" if value else f"--{prefix}no-{name.removeprefix(prefix)}")
        else:
            words += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
    return words


def make_folder(output: Path, name: str) -> Path:
    """The folder to write to, made before minutes of work are spent.

    Raises:
        OSError: when it cannot be made.
    """
    folder = output / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write what JSON can say; not-a-number is refused."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows under the names of all their entries, in order of appearance; what a row lacks is left empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_figure(path: Path, figure: Figure) -> None:
    """Write a picture."""
    with replacing(path) as part:
        figure.savefig(part, dpi=110, format="png")


@contextmanager
def interruptible(*, quiet: bool = False) -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C into an answer, so that work can end where it can be taken up again; a second one ends it at once.

    Args:
        quiet: leave it to another process to say so.

    Yields:
        Whether Ctrl-C has been pressed.
    """
    pressed = False

    def note(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        if not quiet:
            sys.stderr.write(
                "\ninterrupted: finishing this update, then saving; Ctrl-C again ends at once, without saving\n"
            )

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def make_console() -> Console:
    """Standard output, as wide as the tables need where it is not a terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDTH)


@contextmanager
def progress_bars(per_second: float = 10.0) -> Iterator[Progress]:
    """A bar per stage with its rate and the time left, on stderr, gone at the end; drawn so many times a second."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{figure(speed)}/s", style="progress.data.speed")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=per_second) as bars:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield tell


def number(value: float) -> str:
    """Three significant digits.

    >>> number(0.12345), number(1234.5), number(float("nan"))
    ('0.123', '1234', 'undefined')
    """
    if not math.isfinite(value):
        return "undefined"
    return f"{value:.0f}" if abs(value) >= 1000.0 else f"{value:.3g}"


def figure(value: float) -> str:
    """Three digits, more of a large number.

    >>> figure(0.12345), figure(44209.3)
    ('0.123', '44,209')
    """
    return f"{value:,.0f}" if abs(value) >= 1000.0 else number(value)
