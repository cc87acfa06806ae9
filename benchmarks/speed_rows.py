"""Rows of the speed table: what they hold, the CSV file that collects them, and what was measured before."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rows import append as add_rows

from torchgym.files import hexdigest

_DIGEST = "digest"  # the last column: of the other cells of the row


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


_OF_ROW = tuple(entry.name for entry in fields(Row))
COLUMNS = (*_OF_ROW, _DIGEST)

_MET = {True: "yes", False: "no", None: ""}
_READ = {"yes": True, "no": False, "": None}


def append(path: Path, rows: Sequence[Row]) -> None:
    """Add rows to a CSV file, which is made where there is none; a digest in each row tells later whether it is as it was.

    Raises:
        ValueError: when the file has other columns, or a row that is not as it was written; it is left as it was.
        OSError: when it cannot be written; it is left as it was.
    """
    if path.exists():
        read(path)
    cells_of = [[_cell(getattr(row, name)) for name in _OF_ROW] for row in rows]
    add_rows(path, COLUMNS, [dict(zip(COLUMNS, [*cells, _digest(cells)], strict=True)) for cells in cells_of])


def read(path: Path) -> list[Row]:
    """The rows of a file that `append` wrote, the oldest first; numbers have six digits.

    Raises:
        ValueError: when the file has other columns, or a row that is not as it was written.
        OSError: when there is no such file.
    """
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged, or no table of speeds: {error}") from error
    if not lines or tuple(lines[0]) != COLUMNS:
        raise ValueError(f"{path} has other columns than a table of speeds: move it away, or name another file")
    return [_row(cells, f"{path}, row {number}") for number, cells in enumerate(lines[1:], 2)]


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


def _cell(value: object) -> str:
    if value is None or isinstance(value, bool):
        return _MET[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _digest(cells: Sequence[str]) -> str:
    """Of the cells of a row, 16 hexadecimal digits: short, since a table has many rows."""
    return hexdigest(f"{cell}\n".encode() for cell in cells)[:16]


def _row(line: Sequence[str], place: str) -> Row:
    if len(line) != len(COLUMNS):
        raise ValueError(f"{place} cannot be read: it has {len(line)} cells, not {len(COLUMNS)}")
    if line[-1] != _digest(line[:-1]):
        raise ValueError(f"{place} is not as it was written: its digest does not fit; remove the row, or measure again")
    cells = dict(zip(COLUMNS, line, strict=True))
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
