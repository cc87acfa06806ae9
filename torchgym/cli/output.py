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

MARKS = {True: "[green]pass[/]", False: "[bold red]FAIL[/]", None: "-"}
INTERRUPTED = 130  # what a shell calls a command that Ctrl-C ended
NO_READER = 141  # and one whose output nobody reads
NUMBERS_PER_MARKET = 500  # of 8 bytes: fewer than any market's state has
_WIDTH = 170  # columns
_MOST_THREADS = 1_024
_MOST = 1e9


def check_numbers(options: Any, prefix: str = "") -> None:
    """Nothing, where every number of a command's options is one that can be meant: real numbers up to a billion, 64-bit integers.

    Args:
        options: its dataclass.
        prefix: of the names.

    Raises:
        ValueError: naming the option.
    """
    for entry in fields(options):
        value, name = getattr(options, entry.name), prefix + entry.name.replace("_", "-")
        if is_dataclass(value):
            check_numbers(value, f"{name}.")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not abs(number) <= _MOST:
                raise ValueError(f"--{name} must be a number of at most {_MOST:,.0f}, got {number}")
            if isinstance(number, int) and not -(2**63) <= number < 2**63:
                raise ValueError(f"--{name} must be an integer of 64 bits, got {number}")


def check_memory(what: str, numbers: int) -> None:
    """Nothing, where this machine has the memory for so many numbers of 8 bytes.

    Args:
        what: needs them, with the options that decide how many.
        numbers: at least; what a command really takes may be several times as much.

    Raises:
        ValueError: where it has not.
    """
    if not hasattr(os, "sysconf"):  # on Windows, which does not tell so easily
        return
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 8 * numbers > here:
        raise ValueError(
            f"{what} would take {8e-9 * numbers:,.0f} GB of memory and more, this machine has {1e-9 * here:,.0f}: choose fewer"
        )


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
        ValueError: for none, or more than any machine has use for.
    """
    import torch

    check_threads(count)
    torch.set_num_threads(count)


def check_threads(count: int) -> None:
    """Nothing, where torch can have so many threads.

    Raises:
        ValueError: where it cannot.
    """
    if not 1 <= count <= _MOST_THREADS:
        raise ValueError(f"threads must be from 1 to {_MOST_THREADS:,}, got {count}")


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
    parts: list[str] = []
    for entry in fields(options):
        value, name = getattr(options, entry.name), prefix + entry.name.replace("_", "-")
        usual = entry.default if entry.default_factory is MISSING else entry.default_factory()
        if value == usual or entry.name in leave_out:
            continue
        if is_dataclass(value):
            parts += option_words(value, f"{name}.")
        elif isinstance(value, bool):
            parts.append(f"--{name}" if value else f"--{prefix}no-{name.removeprefix(prefix)}")
        else:
            parts += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
    return parts


def make_folder(output: Path, name: str) -> Path:
    """The folder to write to, made before minutes of work are spent.

    Raises:
        OSError: when it cannot be made.
    """
    folder = output / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
