"""What all subcommands need: where to write, and how to show progress and figures."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[str, int, int], None]

MARKS = {True: "[green]pass[/]", False: "[bold red]FAIL[/]", None: "-"}
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
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def make_console() -> Console:
    """Standard output, as wide as the tables need where it is not a terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDTH)


@contextmanager
def progress_bars(per_second: float = 10.0) -> Iterator[Progress]:
    """A bar per stage, on stderr, gone at the end; drawn so many times a second."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
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
