"""The hours of trading: none, or days with an opening and a closing auction and a night between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torchgym.config.validation import HalfLife, Within, check_fields

Times = Annotated[float, Within(0.01, 100.0)]  # of what is usual at midday


@dataclass(frozen=True, kw_only=True)
class Session:
    """How trading is spread over time; see docs/market.md.

    "none": every tick is like every other. "day": days of `ticks` ticks. The first and the last tick of a day are call auctions
    in which learners' market orders meet everybody else's at one price. Activity and volatility are high after the opening and
    before the close. The night lies at the end of the closing tick: unfilled orders end, the value moves, and makers quote anew.
    """

    kind: Literal["none", "day"] = "none"
    ticks: Annotated[int, Within(4, 1_000_000)] = 390  # of a day
    # At the opening and at the close, times midday's; what is above falls by half within so many ticks.
    open_activity: Times = 8.0
    close_activity: Times = 8.0
    open_volatility: Times = 3.5
    close_volatility: Times = 2.2
    half_life: HalfLife = 28.0
    auction_activity: Times = 12.0  # times that of the ticks beside an auction
    # Standard deviation of the value's move over a night, times that of a tick at midday.
    night: Annotated[float, Within(0.0, 1_000.0)] = 15.0

    def __post_init__(self) -> None:
        check_fields(self, Session, "Session.")

    def mean_square(self) -> float:
        """Of the value's moves over a day and its night, per tick, in units of a tick at midday."""
        if self.kind == "none":
            return 1.0
        fall = 2.0 ** (-1.0 / self.half_life)
        opens, closes = self.open_volatility - 1.0, self.close_volatility - 1.0
        moves = [1.0 + opens * fall**at + closes * fall ** (self.ticks - 1 - at) for at in range(self.ticks - 1)]
        return (sum(move * move for move in moves) + self.night**2) / self.ticks
