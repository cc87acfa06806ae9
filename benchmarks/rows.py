"""Rows of a benchmark's table: what they were measured on, and adding one to a CSV file."""

from __future__ import annotations

import csv
import datetime
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from machine import commit, cores, device_name
from torch import Tensor

from torchgym.files import replacing


def command() -> str:
    """How this program was called, as a row tells it."""
    return f"python benchmarks/{shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])}"


def add(path: Path, columns: Sequence[str], row: Mapping[str, object]) -> None:
    """One row below those that are there, with the machine in front of it.

    Raises:
        ValueError: when the file has other columns.
    """
    about = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "device": device_name(torch.device("cpu")),
        "cores": cores(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    header = [*about, *columns]
    if path.exists() and path.read_text(encoding="utf-8").splitlines()[0] != ",".join(header):
        raise ValueError(f"{path} has other columns than {', '.join(header)}: write to another file")
    append(path, header, [{**about, **row}])


def append(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Rows below those that are there, all of them or none; real numbers with six digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        file.write(before if before.endswith("\n") or not before else f"{before}\n")
        writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
        if not before:
            writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def mean(values: Tensor) -> tuple[float, float]:
    """The mean of [E] values and its standard error."""
    return values.mean().item(), values.std().item() / len(values) ** 0.5


def tell(line: str) -> None:
    """What is being measured, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
