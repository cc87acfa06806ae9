"""What all subcommands need: checks of their options, files, tables."""

from __future__ import annotations

import csv
import math
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgym.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table

MARKS = {True: "[green]pass[/]", False: "[bold red]FAIL[/]", None: "-"}
INTERRUPTED = 130  # what a shell calls a command that Ctrl-C ended
NO_READER = 141  # and one whose output nobody reads
NUMBERS_PER_MARKET = 500  # of 8 bytes: fewer than any market's state has
_WIDTH = 170  # columns
_MOST_THREADS = 1_024
_MOST = 1e9


def _named_options(options: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name on the command line, value and default of every option, with those of an option's own, as `ppo.gamma`."""
    for entry in fields(options):
        value, name = getattr(options, entry.name), prefix + entry.name.replace("_", "-")
        if is_dataclass(value):
            yield from _named_options(value, f"{name}.")
        else:
            yield name, value, entry.default if entry.default_factory is MISSING else entry.default_factory()


def check_numbers(options: Any) -> None:
    """Raise ValueError for an option that cannot be meant: a number beyond a billion, an integer of more than 64 bits."""
    for name, value, _ in _named_options(options):
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not abs(number) <= _MOST:
                raise ValueError(f"--{name} must be a number of at most {_MOST:,.0f}, got {number}")
            if isinstance(number, int) and not -(2**63) <= number < 2**63:
                raise ValueError(f"--{name} must be an integer of 64 bits, got {number}")


def check_memory(what: str, numbers: int) -> None:
    """Raise ValueError where this machine lacks the memory for so many numbers of 8 bytes, the least that `what` needs."""
    if not hasattr(os, "sysconf"):  # on Windows, which has no simple way to ask
        return
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 8 * numbers > here:
        raise ValueError(
            f"{what} would take {8e-9 * numbers:,.0f} GB of memory and more, this machine has {1e-9 * here:,.0f}: choose fewer"
        )


def set_threads(count: int) -> None:
    """Give torch so many threads; ValueError for none, or more than any machine has use for."""
    import torch

    if not 1 <= count <= _MOST_THREADS:
        raise ValueError(f"threads must be from 1 to {_MOST_THREADS:,}, got {count}")
    torch.set_num_threads(count)


def picked(options: Any, *names: str) -> dict[str, Any]:
    """These options, to be handed on as keyword arguments of the same names."""
    return {name: getattr(options, name) for name in names}


def command_line(command: str, options: Any, *, first: Sequence[str] = (), leave_out: Sequence[str] = ()) -> str:
    """The command that does the same: its arguments without a name, then the options that are not at their defaults.

    `leave_out` names options that change nothing in what comes out, or are among the first.
    """
    return shlex.join(["torchgym", command, *first, *option_words(options, leave_out=leave_out)])


def option_words(options: Any, leave_out: Sequence[str] = ()) -> list[str]:
    """The options that are not at their defaults, as words of a command line."""
    words: list[str] = []
    for name, value, default in _named_options(options):
        if value == default or name.split(".")[0].replace("-", "_") in leave_out:
            continue
        if isinstance(value, bool):
            group, dot, last = name.rpartition(".")
            words.append(f"--{name}" if value else f"--{group}{dot}no-{last}")
        else:
            words += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
    return words


@contextmanager
def made_folder(folder: Path) -> Iterator[Path]:
    """The folder to write to, made before minutes of work are spent; where the work fails, what is empty of it goes again."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except BaseException:
        with suppress(OSError):  # something is in it
            for each in filter(Path.exists, missing):
                each.rmdir()
        raise


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows under the names of all their entries, in order of appearance; what a row lacks is left empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_figure(path: Path, figure: Figure) -> None:
    """Write a picture as PNG."""
    with replacing(path) as part:
        figure.savefig(part, dpi=110, format="png")


@contextmanager
def interruptible(*, quiet: bool = False) -> Iterator[Callable[[], bool]]:
    """Yields whether Ctrl-C has been pressed, so that work can end where it can be taken up again; a second one ends it at once.

    `quiet` leaves it to another process to say so.
    """
    pressed = False

    def note(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        if not quiet:
            with suppress(RuntimeError):  # this thread may be writing there just now
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


def make_table(title: str, *headings: str, right: Sequence[str] = ()) -> Table:
    """A table without rows; the columns of the headings in `right` are aligned at their right ends."""
    from rich.table import Column, Table

    columns = (Column(head, justify="right" if head in right else "left", overflow="fold") for head in headings)
    return Table(*columns, title=title, title_justify="left")


def figure(value: float) -> str:
    """Three significant digits, more of a large number.

    >>> figure(0.12345), figure(44209.3), figure(float("nan"))
    ('0.123', '44,209', 'undefined')
    """
    if not math.isfinite(value):
        return "undefined"
    return f"{value:,.0f}" if abs(value) >= 1000.0 else f"{value:.3g}"
