"""Bars of real prices: read from a file, and made into a path that the facts can be measured on."""

from __future__ import annotations

import csv
import gzip
import itertools
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchgym.extras import needs
from torchgym.lab.realism.paths import Paths

FEWEST = 500  # returns that the facts are measured on
TIMES = (
    "time",
    "date",
    "datetime",
    "timestamp",
    "",
    "__index_level_0__",
)  # an index without a name becomes the last two
EPOCHS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_TEXT, _TABLE = (".csv", ".csv.gz"), (".parquet", ".pq")
_DAY = 86_400  # seconds
_INTRADAY = 20 * 3_600  # seconds between two bars of one day, at most
_GAP = 1.5  # usual distances of two bars
_PER_GROUP = 50  # returns that a scale of volatility is measured on, at least
_ROUNDS = 8  # of scales by time of day and by weekday, which settle at once


@dataclass(frozen=True)
class Bars:
    """One series of bars, in order of time.

    `time` is int64 seconds since 1970, `close` float64 prices, `volume` float64 of any unit or None; [B] each.
    """

    name: str
    time: Tensor
    close: Tensor
    volume: Tensor | None = None


@dataclass(frozen=True)
class BarPath:
    """A single path [1, T] of returns and volume, and what was done to the bars to get it."""

    name: str
    paths: Paths
    first: str  # time of the first bar
    last: str
    spacing: int  # seconds between two bars, the median
    bars: int
    gaps: int  # returns that were left out because they span a gap
    pattern: bool  # whether the pattern of the day and the week was taken out

    @property
    def about(self) -> tuple[str, ...]:
        """What a reader must know of the figures, a sentence each."""
        every = str(timedelta(seconds=self.spacing)).removesuffix(", 0:00:00")
        told = [f"{self.bars:,} bars from {self.first} to {self.last}, one every {every}"]
        if self.gaps:
            told.append(f"{self.gaps:,} returns over nights, weekends and other gaps are left out")
        if self.pattern:
            told.append("the pattern of volatility and volume over the day and the week is taken out")
        elif self.paths.volume is not None:
            told.append("the trend of volume is taken out")
        if self.paths.volume is None:
            told.append("without volume fact 8 is not measured")
        return tuple(told)


def read_bars(path: Path, *, close: str = "close", time_format: str = "") -> Bars:
    """Read a CSV file (.csv, .csv.gz, with a line of names) or a Parquet file.

    Columns are found by name, whatever its case: one of `TIMES`, the closing price and, if there is one, "volume". Times with a
    time zone count in UTC. A volume that never changes, as files of indices have it, counts as none.

    Args:
        close: the column of prices, such as "adj close".
        time_format: of times that are text, as `datetime.strptime` takes it, or one of `EPOCHS` for numbers since 1970; empty for
            ISO 8601.

    Raises:
        ValueError: an unknown suffix, a missing column, a value that is no time or no positive finite number (a volume may be
            zero), times that do not increase; says the file, the row (counted from 1, without the line of names), the column,
            and the remedy.
        OSError: the file cannot be read.
    """
    columns, rows = _table(path)
    places = {name.strip().lower(): at for at, name in reversed(list(enumerate(columns)))}
    there = ", ".join(map(repr, columns)) or "none"
    at_time = next((places[name] for name in TIMES if name in places), None)
    if at_time is None:
        raise ValueError(f"{path} has no column of times, only {there}: name it time, date, datetime or timestamp")
    at_close = places.get(close.strip().lower())
    if at_close is None:
        raise ValueError(f"{path} has no column {close!r}, only {there}: name the column of prices with --close")
    at_volume = places.get("volume")
    times: list[float] = []
    prices, volumes = [], []
    for number, row in enumerate(rows, start=1):
        where = f"{path}, row {number}, column"
        if len(row) != len(columns):
            raise ValueError(
                f"{path}, row {number} has {len(row)} values for {len(columns)} columns: mend or drop the row"
            )
        moment = _moment(row[at_time], time_format, f"{where} {columns[at_time]!r}")
        if times and not moment > times[-1]:
            raise ValueError(
                f"{where} {columns[at_time]!r}: {row[at_time]} is not after the time of the row before: sort the rows by time and"
                " keep one row for each time of one series"
            )
        times.append(moment)
        prices.append(_number(row[at_close], f"{where} {columns[at_close]!r}", positive=True))
        if at_volume is not None:
            volumes.append(_number(row[at_volume], f"{where} {columns[at_volume]!r}", positive=False))
    traded = torch.tensor(volumes, dtype=torch.float64, device="cpu") if len(set(volumes)) > 1 else None
    seconds = torch.tensor(times, dtype=torch.float64, device="cpu").to(torch.int64)
    return Bars(path.name, seconds, torch.tensor(prices, dtype=torch.float64, device="cpu"), traded)


def name_of(path: Path) -> str:
    """The file's name without the ending that says of which kind it is.

    >>> name_of(Path("prices/eurusd.2019.CSV.gz"))
    'eurusd.2019'
    """
    lower = path.name.lower()
    kind = max((end for end in _TEXT + _TABLE if lower.endswith(end)), key=len, default="")
    return path.name[: len(path.name) - len(kind)]


def bar_path(bars: Bars) -> BarPath:
    """The path of returns that the facts are measured on.

    Of bars within a day, returns over gaps (more than 1.5 usual distances) are left out, and returns and volume are divided by
    the pattern of the day and the week: a return by the scale of absolute returns at its time of day and on its weekday. Times
    of day with fewer than 50 returns share a scale with their neighbours. Volume is then divided by its trend: a parabola through
    its logarithm. Of daily and longer bars all returns are kept, weekends too.

    Raises:
        ValueError: fewer than 500 returns are left.

    Source: Taylor and Xu 1997, The incremental volatility information in one million foreign exchange quotations, and Andersen
    and Bollerslev 1997, Intraday periodicity and volatility persistence in financial markets (the pattern); Gallant, Rossi and
    Tauchen 1992, Stock prices and volume (the trend).
    """
    apart = bars.time.diff()
    spacing = int(apart.median()) if len(apart) else 0
    intraday = 0 < spacing < _INTRADAY
    kept = apart <= _GAP * spacing if intraday else torch.ones_like(apart, dtype=torch.bool)
    count = int(kept.sum())
    if count < FEWEST:
        raise ValueError(
            f"{bars.name} has {count} returns without a gap, too few to measure the facts: give {FEWEST} or more"
        )
    returns, time = bars.close.log().diff()[kept], bars.time[1:][kept]
    volume = None if bars.volume is None else bars.volume[1:][kept]
    if intraday:
        returns = returns / pattern(returns.abs(), time)
        volume = None if volume is None else volume / pattern(volume, time)
    if volume is not None:
        volume = volume / _trend(volume)
    ends = (datetime.fromtimestamp(int(bars.time[at]), UTC).replace(tzinfo=None) for at in (0, -1))
    first, last = (end.isoformat(" ", "minutes") if intraday else end.date().isoformat() for end in ends)
    paths = Paths(returns=returns[None], volume=None if volume is None else volume[None])
    return BarPath(bars.name, paths, first, last, spacing, len(bars.time), int((~kept).sum()), intraday)


def pattern(size: Tensor, time: Tensor) -> Tensor:
    """The scale of `size` at each time of day times that of each weekday, [T], about 1 on average.

    Args:
        size: [T], not negative; where a group of times has none the scale is 1.
        time: [T] int64 seconds since 1970.
    """
    scale = torch.ones_like(size)
    groups = (_groups(time % _DAY), _groups(time // _DAY % 7))
    for _, group in itertools.product(range(_ROUNDS), groups):
        rest = size / scale
        total = rest.new_zeros(int(group.max()) + 1).index_add_(0, group, rest)
        mean = total / group.bincount() / rest.mean()
        scale = scale * mean.where(mean > 0.0, 1.0)[group]
    return scale


def _groups(values: Tensor) -> Tensor:
    """A number for each value, [T]: neighbouring values share one until it has 50 members."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    numbers, members, group = [], 0, 0
    left = len(values)
    for count in counts.tolist():
        numbers.append(group)
        members, left = members + count, left - count
        if members >= _PER_GROUP and left >= _PER_GROUP:
            group, members = group + 1, 0
    return torch.tensor(numbers, device="cpu")[inverse]


def _trend(volume: Tensor) -> Tensor:
    """The least-squares parabola of log volume over time, as a factor [T]; zeros have no say."""
    traded = volume > 0.0
    time = torch.linspace(-1.0, 1.0, len(volume), dtype=torch.float64, device="cpu")
    powers = torch.stack([torch.ones_like(time), time, time.square()], dim=-1)
    fitted = torch.linalg.lstsq(powers[traded], volume[traded].log()[:, None]).solution
    return (powers @ fitted).squeeze(-1).exp()


def _table(path: Path) -> tuple[Sequence[str], Iterator[Sequence[Any]]]:
    """Names of the columns, and the rows."""
    name = path.name.lower()
    if name.endswith(_TABLE):
        with needs("a Parquet file", "torchgym[data]"):
            import pyarrow
            from pyarrow import parquet
        with path.open("rb"):  # errors of the system as they are
            pass
        try:
            table = parquet.read_table(path)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise ValueError(f"{path} is no Parquet file that can be read: {error}") from error
        columns = [_without_nanoseconds(pyarrow, column).to_pylist() for column in table.columns]
        return table.column_names, zip(*columns, strict=True)
    if not name.endswith(_TEXT):
        raise ValueError(f"{path} is of an unknown kind: give a .csv, .csv.gz or .parquet file")
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig")
            if name.endswith(".gz")
            else path.open(encoding="utf-8-sig") as file
        ):
            lines = file.read().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read as text: save it as UTF-8") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged or no gzip file ({error}): fetch or write it again") from error
    head = lines[0] if lines else ""
    found = csv.reader(filter(str.strip, lines), delimiter=max(",;\t", key=head.count))
    rows = _readable(path, found)
    return next(rows, []), rows


def _readable(path: Path, rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """The rows of a CSV file; a ValueError where one cannot be split into fields."""
    for number in itertools.count():
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            where = f"row {number}" if number else "the line of names"
            raise ValueError(f"{path}, {where} cannot be split into fields ({error}): mend it") from error


def _without_nanoseconds(pyarrow: Any, column: Any) -> Any:
    """Times to the microsecond, which Python has a type for."""
    if not pyarrow.types.is_timestamp(column.type):
        return column
    return column.cast(pyarrow.timestamp("us", column.type.tz), safe=False)


def _moment(value: Any, time_format: str, where: str) -> float:
    """Seconds since 1970, of the years 1 to 9999."""
    given = value
    try:
        if time_format in EPOCHS and not isinstance(value, date):
            seconds = float(value) / EPOCHS[time_format]
        else:
            if isinstance(value, str):
                text = value.strip()
                value = datetime.strptime(text, time_format) if time_format else datetime.fromisoformat(text)
            if not isinstance(value, datetime):
                value = datetime(value.year, value.month, value.day)
            seconds = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        datetime.fromtimestamp(seconds, UTC)
        return float(seconds)
    except (ValueError, TypeError, AttributeError, OverflowError, OSError) as error:
        raise ValueError(
            f"{where}: {given!r} is not a time"
            + (f" of the form {time_format!r}" if time_format else " such as 2024-01-31 or 2024-01-31 09:30")
            + ": say how times are written with --time-format, such as '%m/%d/%Y', or s or ms for numbers since 1970"
        ) from error


def _number(value: Any, where: str, *, positive: bool) -> float:
    try:
        number = float(value)
    except (ValueError, TypeError):
        number = math.nan
    if not math.isfinite(number) or number < 0.0 or (positive and number == 0.0):
        wanted = "a positive, finite number" if positive else "a finite number of at least 0"
        raise ValueError(f"{where}: {value!r} is not {wanted}: fill in or drop the row")
    return number
