"""Metrics of equity curves: returns, risk, ratios of the two, and how the account was used.

The functions take `equity` [..., T + 1] float64 in currency, the curve from before the first decision to after the last period,
and give float64 tensors without the last dimension, [...]; curves are independent of each other. Nothing here knows how long a
period is: every function that annualises asks for `periods_per_year`, positive and finite, and has no default. All raise
ValueError for another shape or dtype, T < 1, or an argument out of range. Tables and reports enumerate `METRICS`.

Conventions, for all of them:

    ruin        At the first equity ≤ 0 the account is wound up and counts as 0 from there on. The return into ruin is −1,
                debts beyond it are nobody's return, and the returns after it are 0; a recovery after it does not count.
    undefined   0 / 0 is NaN: no gain over no risk, no trade to judge. Anything else over 0 is infinite, with its sign: a gain
                without any risk. A curve that opens at equity ≤ 0, or holds a NaN or an infinity, gives NaN throughout.
    rounding    A risk, a growth or a return of at most `ROUNDING` counts as none where it decides between these, so a constant
                curve with noise in its last digits has a Sharpe ratio of NaN and not of millions.

(tests/test_performance.py holds them to that, to empyrical, and to cases worked by hand.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from inspect import signature
from typing import Literal

import torch
from torch import Tensor

ROUNDING = 1e-12  # of equity, in one period: what float64 leaves of nothing, a few thousand last digits wide


def returns(equity: Tensor) -> Tensor:
    """Simple return of each period: its change of equity over the equity it began with; [..., T] float64, none below −1."""
    curve = _wound_up(equity)
    before = curve[..., :-1]
    return (curve.diff(dim=-1) / before).where(before != 0.0, 0.0)


def annual_return(equity: Tensor, *, periods_per_year: float) -> Tensor:
    """Compound return per year: (last equity / first)^(periods_per_year / T) − 1; −1 after ruin.

    Over much less than a year it extrapolates boldly, up to infinity where float64 ends.
    """
    check_periods(periods_per_year)
    growth = _growth(_wound_up(equity))
    return torch.expm1(torch.log1p(growth) * (periods_per_year / (equity.shape[-1] - 1)))


def annual_volatility(equity: Tensor, *, periods_per_year: float) -> Tensor:
    """Sample standard deviation (T − 1 below) of the returns, times √periods_per_year; NaN for T = 1."""
    check_periods(periods_per_year)
    return _deviation(returns(equity)) * math.sqrt(periods_per_year)


def sharpe(equity: Tensor, *, periods_per_year: float, risk_free: float = 0.0) -> Tensor:
    """Mean return in excess of the risk-free one over the sample standard deviation, times √periods_per_year.

    NaN for T = 1, and without both excess and volatility; ±inf for an excess without volatility.

    Args:
        risk_free: return per year; each period bears risk_free / periods_per_year, without compounding.

    Source: Sharpe 1994, The Sharpe ratio, Journal of Portfolio Management 21(1).
    """
    excess = returns(equity) - _per_period("risk_free", risk_free, periods_per_year)
    return _ratio(excess.mean(-1), _deviation(excess)) * math.sqrt(periods_per_year)


def sortino(equity: Tensor, *, periods_per_year: float, target: float = 0.0) -> Tensor:
    """Mean return above a target over the target downside deviation, times √periods_per_year.

    The downside deviation is the root of the mean of min(return − target, 0)² over all T periods, those above the target too. inf
    where no period falls short of the target and one exceeds it, NaN where all just meet it.

    Args:
        target: return per year; each period has to bring target / periods_per_year, without compounding.

    Source: Sortino and van der Meer 1991, Downside risk, Journal of Portfolio Management 17(4).
    """
    excess = returns(equity) - _per_period("target", target, periods_per_year)
    downside = excess.clamp(max=0.0).square().mean(-1).sqrt()
    return _ratio(excess.mean(-1), downside) * math.sqrt(periods_per_year)


def calmar(equity: Tensor, *, periods_per_year: float) -> Tensor:
    """Annual return over maximum drawdown; −1 after ruin, inf for growth without a drawdown, NaN for a constant curve.

    Source: Young 1991, Calmar ratio: a smoother tool, Futures 20(1), with the whole curve for his 36 months.
    """
    grown = _growth(_wound_up(equity)).abs() > ROUNDING
    yearly = annual_return(equity, periods_per_year=periods_per_year)
    return _ratio(yearly.where(grown | yearly.isnan(), 0.0), max_drawdown(equity))


def drawdown(equity: Tensor) -> Tensor:
    """How far the curve lies below its highest value so far, as a fraction of that.

    [..., T + 1] float64 in [0, 1]; 0 at the start and at each new peak, 1 from ruin on.
    """
    curve = _wound_up(equity)
    peak = curve.cummax(-1).values
    return (peak - curve) / peak


def max_drawdown(equity: Tensor) -> Tensor:
    """Largest `drawdown` of each curve, in [0, 1]."""
    return drawdown(equity).amax(-1)


def value_at_risk(equity: Tensor, *, level: float = 0.95) -> Tensor:
    """Loss, as a fraction of equity, that a period exceeds with a chance of 1 − level: historical, without a model.

    It is minus the (1 − level) quantile of the returns, which lies at place (1 − level) (T − 1) of the returns in ascending
    order, counted from 0, and between two of them in proportion. Per period, not annualised; negative where it is a gain.

    Source of the quantile: Hyndman and Fan 1996, Sample quantiles in statistical packages, type 7.
    """
    ascending = returns(equity).sort(-1).values
    place = _tail_place(level, ascending.shape[-1])
    low, share = int(place), place - int(place)
    high = min(low + 1, ascending.shape[-1] - 1)
    return -torch.lerp(ascending[..., low], ascending[..., high], share)


def conditional_value_at_risk(equity: Tensor, *, level: float = 0.95) -> Tensor:
    """Mean loss of the worst periods: those up to the place of `value_at_risk`, the one at or just below it included.

    That is the mean of the ⌊(1 − level) (T − 1)⌋ + 1 lowest returns, negated; never below the value at risk.

    Source: Rockafellar and Uryasev 2002, Conditional value-at-risk for general loss distributions, with whole periods for their
    split one.
    """
    ascending = returns(equity).sort(-1).values
    count = int(_tail_place(level, ascending.shape[-1])) + 1
    return -ascending[..., :count].mean(-1)


def hit_rate(equity: Tensor) -> Tensor:
    """Share of periods with a gain among those with a gain or a loss; NaN without any."""
    change = returns(equity)
    gains, losses = (change > ROUNDING).sum(-1), (change < -ROUNDING).sum(-1)
    return (gains / (gains + losses).to(torch.float64)).where(~change[..., 0].isnan(), torch.nan)


def profit_factor(equity: Tensor) -> Tensor:
    """Sum of the periods' gains over the sum of their losses, in currency; inf without a loss, NaN without either.

    Above 1 if and only if the curve ends above its start.
    """
    change, rate = _wound_up(equity).diff(dim=-1), returns(equity)
    gains = change.where(~(rate <= ROUNDING), 0.0).sum(-1)
    losses = (-change).where(~(rate >= -ROUNDING), 0.0).sum(-1)  # never −0, which would turn infinity round
    return gains / losses


def turnover(traded: Tensor, equity: Tensor, *, periods_per_year: float) -> Tensor:
    """How often a year the account is traded through: the mean amount per period × periods_per_year over the mean equity.

    Args:
        traded: [..., T] float64, currency bought plus currency sold in each period, not negative.
    """
    check_periods(periods_per_year)
    curve = _wound_up(equity)
    _check("traded", traded, (*equity.shape[:-1], equity.shape[-1] - 1))
    if bool((traded < 0.0).any()):
        raise ValueError(f"traded amounts must not be negative, got {traded.min().item()}: take absolute values")
    return traded.mean(-1) * periods_per_year / curve.mean(-1)


def exposure(position_value: Tensor, equity: Tensor) -> Tensor:
    """Mean of |position value| / equity over the points in time before ruin: 1 is a fully invested account.

    Args:
        position_value: [..., T + 1] float64, currency, signed: shares × price, summed over symbols as the caller means it (net,
            or gross if positions shall not offset).
    """
    curve = _wound_up(equity)
    _check("position_value", position_value, equity.shape)
    solvent = curve != 0.0
    return (position_value.abs() / curve).where(solvent, 0.0).sum(-1) / solvent.sum(-1)


@dataclass(frozen=True)
class Curves:
    """What the account of each episode did: all that the table of metrics reads.

    A ValueError at once, for shapes that disagree, another dtype, T < 1, or periods_per_year not positive.
    """

    equity: Tensor  # [E, T + 1] float64, currency, from before the first decision on
    traded: Tensor  # [E, T] float64, currency bought plus sold in each period
    position_value: Tensor  # [E, T + 1] float64, currency, signed
    periods_per_year: float

    def __post_init__(self) -> None:
        check_periods(self.periods_per_year)
        _check_equity(self.equity)
        if self.equity.dim() != 2:
            raise ValueError(f"equity must be [episodes, T + 1], got the shape {tuple(self.equity.shape)}")
        episodes, points = self.equity.shape
        _check("traded", self.traded, (episodes, points - 1))
        _check("position_value", self.position_value, (episodes, points))


Compute = Callable[[Curves], Tensor]  # [E] float64


@dataclass(frozen=True)
class Metric:
    """One row of the table: what a report says about it, and how it is computed."""

    heading: str  # of a column
    unit: str  # "" for a plain number; fractions are fractions, not per cent
    better: Literal["higher", "lower", ""]  # "": neither
    meaning: str  # one sentence
    compute: Compute
    least: float | None = None  # no episode, and so no mean of them, can have less


def measure(curves: Curves) -> dict[str, Tensor]:
    """Every metric of every episode: name of a row of `METRICS` -> [E] float64."""
    return {name: metric.compute(curves) for name, metric in METRICS.items()}


def _of_curves(function: Callable[..., Tensor]) -> Compute:
    """The function of those fields of `Curves` that are its parameters."""
    names = [entry.name for entry in fields(Curves) if entry.name in signature(function).parameters]
    return lambda curves: function(**{name: getattr(curves, name) for name in names})


_ROWS: tuple[tuple[Callable[..., Tensor], str, str, Literal["higher", "lower", ""], float | None, str], ...] = (
    (annual_return, "Annual return", "fraction per year", "higher", None, "Compound growth of equity per year."),
    (
        *(annual_volatility, "Volatility", "fraction per √year", "lower", 0.0),
        "Standard deviation of the returns, scaled to a year.",
    ),
    (sharpe, "Sharpe", "per √year", "higher", None, "Mean return over its standard deviation, scaled to a year."),
    (
        *(sortino, "Sortino", "per √year", "higher", None),
        "Mean return over the deviation of the losses alone, scaled to a year.",
    ),
    (calmar, "Calmar", "per year", "higher", None, "Annual return over the maximum drawdown."),
    (max_drawdown, "Max drawdown", "fraction", "lower", 0.0, "Deepest fall of equity below its highest value so far."),
    (value_at_risk, "VaR 95 %", "fraction per period", "lower", None, "Loss that one period in twenty exceeds."),
    (
        *(conditional_value_at_risk, "CVaR 95 %", "fraction per period", "lower", None),
        "Mean loss of the worst twentieth of the periods.",
    ),
    (
        *(hit_rate, "Hit rate", "fraction", "higher", 0.0),
        "Share of periods with a gain among those with a gain or a loss.",
    ),
    (profit_factor, "Profit factor", "", "higher", 0.0, "Sum of the gains over the sum of the losses."),
    (turnover, "Turnover", "per year", "", 0.0, "Amount traded per year over mean equity."),
    (exposure, "Exposure", "fraction", "", 0.0, "Mean size of the position, long or short, over equity."),
)
METRICS: dict[str, Metric] = {
    function.__name__: Metric(heading, unit, better, meaning, _of_curves(function), least)
    for function, heading, unit, better, least, meaning in _ROWS
}


def _wound_up(equity: Tensor) -> Tensor:
    """The curve with 0 from the first equity ≤ 0 on; NaN throughout where it cannot be a curve."""
    _check_equity(equity)
    ruined = (equity <= 0.0).to(torch.int8).cummax(-1).values.bool()
    sound = equity.isfinite().all(-1, keepdim=True) & (equity[..., :1] > 0.0)
    return equity.masked_fill(ruined, 0.0).where(sound, torch.nan)


def _growth(curve: Tensor) -> Tensor:
    """Change of the whole curve over its first value, [...]; exact where little changed."""
    return (curve[..., -1] - curve[..., 0]) / curve[..., 0]


def _deviation(x: Tensor) -> Tensor:
    """Sample standard deviation over the last dimension; NaN for a single value, without torch's warning."""
    return x.std(-1, correction=1) if x.shape[-1] > 1 else x.mean(-1) * torch.nan


def _ratio(gain: Tensor, risk: Tensor) -> Tensor:
    """Gain / risk with what rounding leaves of a risk, or of a gain without one, counted as 0."""
    none = risk <= ROUNDING
    gain = gain.masked_fill(none & (gain.abs() <= ROUNDING), 0.0)
    return gain / risk.masked_fill(none, 0.0)


def _tail_place(level: float, count: int) -> float:
    """Place of the (1 − level) quantile among `count` ordered values; rounded, since 1 − 0.9 is not quite 0.1."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    return round((1.0 - level) * (count - 1), 9)


def _per_period(name: str, yearly: float, periods_per_year: float) -> float:
    check_periods(periods_per_year)
    if not math.isfinite(yearly):
        raise ValueError(f"{name} must be a finite return per year, got {yearly}")
    return yearly / periods_per_year


def check_periods(periods_per_year: float) -> None:
    """Refuse what is not a positive, finite number of periods."""
    if not (math.isfinite(periods_per_year) and periods_per_year > 0.0):
        raise ValueError(f"periods_per_year must be positive and finite, got {periods_per_year}")


def _check_equity(equity: Tensor) -> None:
    """Refuse what is not [..., T + 1] float64 with T ≥ 1."""
    _check("equity", equity)
    if equity.dim() < 1 or equity.shape[-1] < 2:
        raise ValueError(f"equity must be [..., T + 1] with T of at least 1, got the shape {tuple(equity.shape)}")


def _check(name: str, x: Tensor, shape: tuple[int, ...] | None = None) -> None:
    """Refuse what is not float64, or not of the shape that goes with equity."""
    if not isinstance(x, Tensor) or x.dtype != torch.float64:
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name} must be a tensor of torch.float64, got {kind}")
    if shape is not None and tuple(x.shape) != tuple(shape):
        raise ValueError(f"{name} must have the shape {tuple(shape)} beside this equity, got {tuple(x.shape)}")
