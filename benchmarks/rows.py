"""Rows of a benchmark's table: what they were measured on, and adding one to a CSV file."""

from __future__ import annotations

import csv
import datetime
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from torchgym.bench.machine import commit, cores, device_name


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
    new, header = not path.exists(), [*about, *columns]
    if not new and path.read_text(encoding="utf-8").splitlines()[0] != ",".join(header):
        raise ValueError(f"{path} has other columns than {', '.join(header)}: write to another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n", extrasaction="ignore")
        if new:
            writer.writeheader()
        writer.writerow({**about, **row})
