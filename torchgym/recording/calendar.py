"""`Calendar`: the trading time that ticks stand for, so that a path of equity has dates."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from torchgym.config import MarketConfig
from torchgym.config.validation import Settings, Within, check_fields, shown

_OPEN = np.timedelta64(9 * 60 + 30, "m")  # after midnight
_SESSION = int(np.timedelta64(390, "m") // np.timedelta64(1, "us"))  # from 09:30 to 16:00


@dataclass(frozen=True)
class Calendar(Settings):
    """Trading days from Monday to Friday, 09:30 to 16:00, without holidays and time zones; every episode begins with the first.

    Tick 0, before the first decision, is the first morning at 09:30. A day has `ticks_per_day` ticks at even distances, the last
    of them at 16:00; the next tick belongs to the next day. With 390 a tick is a minute, with 1 a tick is a day.

    Args:
        origin: first trading day, a date or its ISO format, "2000-01-03"; a day of a weekend stands for the Monday after.
        ticks_per_day: how many ticks a trading day has.

    Raises:
        ValueError: for an origin that is no date, or a number of ticks out of range.

    >>> print(Calendar().times([0, 1, 390, 391]))
    ['2000-01-03T09:30:00.000000' '2000-01-03T09:31:00.000000'
     '2000-01-03T16:00:00.000000' '2000-01-04T09:31:00.000000']
    """

    origin: datetime.date | str = "2000-01-03"
    ticks_per_day: Annotated[int, Within(1, _SESSION // 1_000)] = 390

    def __post_init__(self) -> None:
        check_fields(self, Calendar)
        given: object = self.origin
        try:
            if isinstance(given, datetime.datetime):
                given = given.date()
            first = given if isinstance(given, datetime.date) else datetime.date.fromisoformat(given)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise ValueError(f"origin must be a date such as 2000-01-03, got {shown(given)}") from None
        object.__setattr__(self, "origin", first.isoformat())

    @classmethod
    def of(
        cls, config: MarketConfig, origin: datetime.date | str = "2000-01-03", ticks_per_day: int | None = None
    ) -> Calendar:
        """So many ticks a day; None is the day of the market, or 390 where it has none.

        Raises:
            ValueError: as of `Calendar`, and for None where each market has a day of its own length.
        """
        if ticks_per_day is None:
            ticks_per_day = config.common_day() or 390
        return cls(origin, ticks_per_day)

    def times(self, ticks: npt.ArrayLike) -> npt.NDArray[np.datetime64]:
        """The moments of these ticks, counted from 0 in each episode: datetime64[us] of their shape."""
        ticks = np.asarray(ticks, dtype=np.int64)
        day, tick = np.divmod(np.maximum(ticks - 1, 0), self.ticks_per_day)
        microseconds = np.where(ticks > 0, tick + 1, 0) * _SESSION // self.ticks_per_day
        days = np.busday_offset(np.datetime64(self.origin), day, roll="forward")
        return days.astype("datetime64[us]") + _OPEN + microseconds.astype("timedelta64[us]")
