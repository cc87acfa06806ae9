"""`Feature`: one row of the table, and the kinds of rows there are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from torchgym.readout.features.context import LEVELS, LOOKBACKS, FeatureContext

LIMIT = 10.0  # relative features are clipped here, either side
_INF = math.inf

Formula = Callable[[FeatureContext], Tensor]


@dataclass(frozen=True)
class Feature:
    """One row of the table: a feature, or a block of features of one formula, over several lookbacks or levels of the book."""

    name: str
    group: str
    unit: str
    meaning: str
    neutral: float | None  # where the formula has no value; None: the mid
    low: float
    high: float
    raw: Formula  # [N, S, len(names)] float64
    relative: Formula  # same, scale-free; clipped to ±LIMIT afterwards
    scaled: str  # what the relative form is; a move is the mid × max(volatility of 32 ticks, 1 bp)
    over: tuple[int, ...] = ()  # ticks, of a block
    levels: int = 0  # of a ladder

    @property
    def names(self) -> tuple[str, ...]:
        """Of its features: `name`, or `name_<ticks>` for each lookback, or `name_<level>` from 1."""
        numbers = self.over or range(1, self.levels + 1)
        return tuple(f"{self.name}_{number}" for number in numbers) or (self.name,)

    @property
    def meanings(self) -> tuple[str, ...]:
        """Of its features, in words."""
        if self.levels:
            return tuple(self.meaning if at == 0 else f"the same {at} points behind" for at in range(self.levels))
        spans = ("the last tick" if ticks == 1 else f"{ticks} ticks" for ticks in self.over)
        return tuple(f"{self.meaning} over {span}" for span in spans) or (self.meaning,)


def feature(
    name: str,
    group: str,
    unit: str,
    meaning: str,
    raw: Formula,
    *,
    neutral: float = 0.0,
    low: float = -_INF,
    high: float = _INF,
    centre: float = 0.0,
    size: float = 1.0,
) -> Feature:
    """One feature, [N, S, 1] float64; relative: its distance from the usual value `centre` over the usual `size`."""
    scale = 1.0 / size

    def relative(s: FeatureContext) -> Tensor:
        distance = raw(s) if centre == 0.0 else raw(s) - centre
        return distance if size == 1.0 else distance * scale

    moved = f"(x - {centre:g})" if centre else "x"
    scaling = moved if size == 1.0 else f"{moved} / {size:g}"
    return Feature(name, group, unit, meaning, neutral, low, high, raw, relative, scaling)


def ladder(name: str, raw: Formula, meaning: str) -> Feature:
    """Shares at each of `LEVELS` prices; relative: over the usual volume of a tick."""

    def relative(s: FeatureContext) -> Tensor:
        return raw(s) * s.params.per_usual_volume.unsqueeze(-1)

    return Feature(
        name, "microstructure", "shares", meaning, 0.0, 0.0, _INF, raw, relative, "x / usual_volume", levels=LEVELS
    )


def level(name: str, low: float, raw: Formula, meaning: str) -> Feature:
    """A price derived from the mids; relative: its distance from the mid in moves."""

    def relative(s: FeatureContext) -> Tensor:
        return (raw(s) - s.mid) / s.move

    return Feature(name, "technical", "currency", meaning, None, low, _INF, raw, relative, "(x - mid) / move")


def amount(name: str, low: float, raw: Formula, meaning: str) -> Feature:
    """A difference of prices; relative: in moves."""

    def relative(s: FeatureContext) -> Tensor:
        return raw(s) / s.move

    return Feature(name, "technical", "currency", meaning, 0.0, low, _INF, raw, relative, "x / move")


def block(name: str, unit: str, low: float, raw: Formula, size: float, meaning: str) -> Feature:
    """Returns over each lookback of k ticks; relative: over the usual log return in the feature's unit."""
    scale = 1.0 / size

    def relative(s: FeatureContext) -> Tensor:
        return raw(s) * scale / s.moves

    scaling = "x / (volatility √k)" if size == 1.0 else f"x / ({size:g} volatility √k)"
    return Feature(name, "price", unit, meaning, 0.0, low, _INF, raw, relative, scaling, over=LOOKBACKS)
