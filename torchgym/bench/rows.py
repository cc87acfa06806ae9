"""Rows of results: what they hold, the CSV file that collects them, and what was measured before."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure, with all that is needed to measure it again."""

    date: str  # YYYY-MM-DD
    commit: str
    device: str
    torch: str  # version
    threads: int
    preset: str
    markets: int
    traders: int  # background traders per market
    dtype: str
    mode: str  # "compiled" or "eager"
    case: int
    measure: str
    unit: str
    median: float
    low: float
    high: float
    target: str  # such as "≥ 15,000"; empty where there is none
    met: bool | None
    noise: str  # what speaks against the figure
    note: str
    command: str

    @property
    def subject(self) -> tuple[object, ...]:
        """What was measured: rows with equal subjects can be compared, whenever they were taken."""
        size = (self.preset, self.markets, self.traders, self.threads, self.mode)
        return (self.case, self.measure, self.unit, *size)


COLUMNS = tuple(entry.name for entry in fields(Row))

_MET = {True: "yes", False: "no", None: ""}
_READ = {"yes": True, "no": False, "": None}


def append(path: Path, rows: Sequence[Row]) -> None:
    """Add rows to a CSV file, which is made where there is none.

    Raises:
        ValueError: when the file has other columns; it is left as it was.
        OSError: when it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    if not new:
        _check_columns(path)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        writer.writerows([_told(getattr(row, name)) for name in COLUMNS] for row in rows)


def read(path: Path) -> list[Row]:
    """The rows of a file that `append` wrote, the oldest first; numbers have six digits.

    Raises:
        ValueError: when the file has other columns, or a cell that cannot be read.
        OSError: when there is no such file.
    """
    _check_columns(path)
    with path.open(newline="", encoding="utf-8") as file:
        return [_row(cells, f"{path}, row {number}") for number, cells in enumerate(csv.DictReader(file), 2)]


def previous(stored: Iterable[Row], device: str, commit: str) -> list[Row]:
    """The rows of the commit that was measured last on this device, apart from the given one; none where there is no such.

    Args:
        stored: the oldest first.
        device: name of the device to compare on.
        commit: what is compared with it.
    """
    others = [row for row in stored if row.device == device and row.commit != commit]
    return [row for row in others if row.commit == others[-1].commit]


def speedup(row: Row, before: Iterable[Row]) -> float | None:
    """How many times as good as before: rates by ratio, costs by its inverse; None without a counterpart.

    Of several counterparts the last counts.
    """
    same = [old for old in before if old.subject == row.subject]
    if not same or not same[-1].median > 0.0 or not row.median > 0.0:
        return None
    gain = row.median / same[-1].median
    return gain if more_is_better(row.unit) else 1.0 / gain


def more_is_better(unit: str) -> bool:
    """Whether the unit is one of a rate, or of a share of a rate.

    >>> more_is_better("market-steps/s"), more_is_better("µs/market-tick"), more_is_better("of Market.step")
    (True, False, True)
    """
    return unit.endswith("/s") or unit.startswith("of ")


def _told(value: object) -> str:
    if value is None or isinstance(value, bool):
        return _MET[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _row(cells: dict[str, str], place: str) -> Row:
    if None in cells or None in cells.values():  # what csv tells of a line too long or too short
        raise ValueError(f"{place} cannot be read: it has not {len(COLUMNS)} cells")
    kinds: dict[str, Callable[[str], object]] = {
        "int": int,
        "float": float,
        "str": str,
        "bool | None": _READ.__getitem__,
    }
    try:
        values: dict[str, Any] = {entry.name: kinds[str(entry.type)](cells[entry.name]) for entry in fields(Row)}
    except (ValueError, KeyError) as error:
        raise ValueError(f"{place} cannot be read: {error}") from error
    return Row(**values)


def _check_columns(path: Path) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        found = next(csv.reader(file), [])
    if tuple(found) != COLUMNS:
        raise ValueError(f"{path} has other columns than a table of speeds: move it away, or name another file")
