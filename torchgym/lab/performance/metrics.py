"""The table of metrics: what is measured of an episode's curves, what it is called, and which way is better.

Each row names a function of `torchgym.lab.performance.measures`, whose conventions on ruin, undefined values and rounding hold
here too. Tables and reports enumerate `METRICS`; a new metric takes a function there and a row here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from torchgym.lab.performance.measures import (
    ROUNDING,
    annual_return,
    annual_volatility,
    calmar,
    check_beside,
    check_equity,
    check_periods,
    conditional_value_at_risk,
    drawdown,
    exposure,
    hit_rate,
    max_drawdown,
    profit_factor,
    returns,
    sharpe,
    sortino,
    turnover,
    value_at_risk,
)

__all__ = [
    "METRICS",
    "ROUNDING",
    "Curves",
    "Metric",
    "annual_return",
    "annual_volatility",
    "calmar",
    "conditional_value_at_risk",
    "drawdown",
    "exposure",
    "hit_rate",
    "max_drawdown",
    "measure",
    "profit_factor",
    "returns",
    "sharpe",
    "sortino",
    "turnover",
    "value_at_risk",
]


@dataclass(frozen=True)
class Curves:
    """What the account of each episode did: all that the table of metrics reads.

    Raises:
        ValueError: at once, for shapes that disagree, another dtype, T < 1, or periods_per_year not positive.
    """

    equity: Tensor  # [E, T + 1] float64, currency, from before the first decision on
    traded: Tensor  # [E, T] float64, currency bought plus sold in each period
    position_value: Tensor  # [E, T + 1] float64, currency, signed
    periods_per_year: float

    def __post_init__(self) -> None:
        check_periods(self.periods_per_year)
        check_equity(self.equity)
        if self.equity.dim() != 2:
            raise ValueError(f"equity must be [episodes, T + 1], got the shape {tuple(self.equity.shape)}")
        episodes, points = self.equity.shape
        check_beside("traded", self.traded, (episodes, points - 1))
        check_beside("position_value", self.position_value, (episodes, points))


@dataclass(frozen=True)
class Metric:
    """One row of the table: what a report says about it, and how it is computed."""

    heading: str  # of a column
    unit: str  # "" for a plain number; fractions are fractions, not per cent
    better: Literal["higher", "lower", ""]  # "": neither
    meaning: str  # one sentence
    compute: Callable[[Curves], Tensor]  # [E] float64
    least: float | None = None  # no episode, and so no mean of them, can have less


def measure(curves: Curves) -> dict[str, Tensor]:
    """Every metric of every episode: name of a row of `METRICS` -> [E] float64."""
    return {name: metric.compute(curves) for name, metric in METRICS.items()}


METRICS: dict[str, Metric] = {
    "annual_return": Metric(
        "Annual return",
        "fraction per year",
        "higher",
        "Compound growth of equity per year.",
        lambda c: annual_return(c.equity, periods_per_year=c.periods_per_year),
    ),
    "annual_volatility": Metric(
        "Volatility",
        "fraction per √year",
        "lower",
        "Standard deviation of the returns, scaled to a year.",
        lambda c: annual_volatility(c.equity, periods_per_year=c.periods_per_year),
        least=0.0,
    ),
    "sharpe": Metric(
        "Sharpe",
        "per √year",
        "higher",
        "Mean return over its standard deviation, scaled to a year.",
        lambda c: sharpe(c.equity, periods_per_year=c.periods_per_year),
    ),
    "sortino": Metric(
        "Sortino",
        "per √year",
        "higher",
        "Mean return over the deviation of the losses alone, scaled to a year.",
        lambda c: sortino(c.equity, periods_per_year=c.periods_per_year),
    ),
    "calmar": Metric(
        "Calmar",
        "per year",
        "higher",
        "Annual return over the maximum drawdown.",
        lambda c: calmar(c.equity, periods_per_year=c.periods_per_year),
    ),
    "max_drawdown": Metric(
        "Max drawdown",
        "fraction",
        "lower",
        "Deepest fall of equity below its highest value so far.",
        lambda c: max_drawdown(c.equity),
        least=0.0,
    ),
    "value_at_risk": Metric(
        "VaR 95 %",
        "fraction per period",
        "lower",
        "Loss that one period in twenty exceeds.",
        lambda c: value_at_risk(c.equity),
    ),
    "conditional_value_at_risk": Metric(
        "CVaR 95 %",
        "fraction per period",
        "lower",
        "Mean loss of the worst twentieth of the periods.",
        lambda c: conditional_value_at_risk(c.equity),
    ),
    "hit_rate": Metric(
        "Hit rate",
        "fraction",
        "higher",
        "Share of periods with a gain among those with a gain or a loss.",
        lambda c: hit_rate(c.equity),
        least=0.0,
    ),
    "profit_factor": Metric(
        "Profit factor",
        "",
        "higher",
        "Sum of the gains over the sum of the losses.",
        lambda c: profit_factor(c.equity),
        least=0.0,
    ),
    "turnover": Metric(
        "Turnover",
        "per year",
        "",
        "Amount traded per year over mean equity.",
        lambda c: turnover(c.traded, c.equity, periods_per_year=c.periods_per_year),
        least=0.0,
    ),
    "exposure": Metric(
        "Exposure",
        "fraction",
        "",
        "Mean size of the position, long or short, over equity.",
        lambda c: exposure(c.position_value, c.equity),
        least=0.0,
    ),
}
