"""The hours of trading: none, or days with an opening and a closing auction and a night between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torchgym.config.validation import HalfLife, Settings, Within, check_fields, require

Times = Annotated[float, Within(0.01, 100.0)]  # of what is usual at midday
_LEAST = 0.001  # of midday's activity and volatility, that every tick keeps


@dataclass(frozen=True, kw_only=True)
class Session(Settings):
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
        for name in ("activity", "volatility") if self.kind == "day" else ():
            opening, close = (getattr(self, f"{end}_{name}") for end in ("open", "close"))
            least = self._least(opening, close)
            require(
                least >= _LEAST,
                f"Session.open_{name} = {opening:g} and close_{name} = {close:g} leave {least:.3g} of midday's {name} in a day of"
                f" ticks = {self.ticks} with half_life = {self.half_life:g}, and at least {_LEAST:g} must be left: raise either,"
                " or choose more ticks or a shorter half_life",
            )

    def variance(self, ticks: int) -> float:
        """Of the value's moves over so many ticks and the nights among them, at most, in units of a tick at midday."""
        if self.kind == "none":
            return float(ticks)
        nights = -(-ticks // self.ticks)
        return ticks * (self._mean_square() if ticks > self.ticks else self._highest() ** 2) + nights * self.night**2

    def _least(self, opening: float, close: float) -> float:
        """The least of 1 + a f^d + b f^(ticks - 1 - d), with a, b and f as in `_mean_square`.

        Where both a and b are negative it is concave in d, hence least at an end of the day. Otherwise this is a bound of it.
        """
        a, b = opening - 1.0, close - 1.0
        if max(a, b) >= 0.0:
            return 1.0 + min(a, b, 0.0)
        far = 2.0 ** (-(self.ticks - 1) / self.half_life)
        return 1.0 + min(a + b * far, a * far + b)

    def _mean_square(self) -> float:
        """Over a day, of V(d) = 1 + a f^d + b f^(ticks - 1 - d) with f = 2^(-1 / half_life)."""
        a, b = self.open_volatility - 1.0, self.close_volatility - 1.0
        fall = 2.0 ** (-1.0 / self.half_life)
        once, twice = ((1.0 - f**self.ticks) / (1.0 - f) for f in (fall, fall * fall))
        return (
            1.0 + (2.0 * (a + b) * once + (a * a + b * b) * twice) / self.ticks + 2.0 * a * b * fall ** (self.ticks - 1)
        )

    def _highest(self) -> float:
        return 1.0 + max(self.open_volatility - 1.0, 0.0) + max(self.close_volatility - 1.0, 0.0)
