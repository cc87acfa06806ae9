"""What a series remembers of its own past: autocorrelations, their errors and their decay, clustering of events."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from torchgym.lab.realism.series import at_least, centred, lagged_products, series
from torchgym.lab.realism.tails import aggregate

_DECAY_BINS = 20
_GRID = 601
_STEEPEST_POWER = 3.0


def autocorrelation(x: Tensor, max_lag: int) -> Tensor:
    """Autocorrelation of each row, Σ d_t d_{t+k} / Σ d_t² with d the deviation from the row's mean: the biased form.

    Args:
        x: [N, T].
        max_lag: below T.

    Returns:
        [N, max_lag + 1] float64, entry k at lag k, entry 0 exactly 1; NaN for a constant row.
    """
    deviation = centred(series(x, at_least("max_lag", max_lag, 0) + 1, f"an autocorrelation up to lag {max_lag}"))
    products = lagged_products(deviation, deviation, max_lag)
    return products / products[:, :1]


def robust_lag_error(returns: Tensor, max_lag: int) -> Tensor:
    """Standard error of each autocorrelation when returns can't be predicted but their variance can.

    √((1 + γ(k)/σ⁴) / T), γ being the autocovariance of squared deviations. Independent returns give the familiar 1/√T;
    volatility clustering makes γ positive, and the band ±1.96/√T too narrow.

    Args:
        returns: [N, T].
        max_lag: below T.

    Returns:
        [N, max_lag + 1] float64; entry 0 is 0, NaN for a constant row.

    Source: Diebold 1986, Testing for serial correlation in the presence of ARCH; Lo and MacKinlay 1989, The size and power
    of the variance ratio test in finite samples, section 2.
    """
    needed = at_least("max_lag", max_lag, 0) + 1
    square = centred(series(returns, needed, f"an error of lags up to {max_lag}")).square()
    ticks, variance = square.shape[1], square.mean(-1, keepdim=True)
    excess = square - variance
    ratio = lagged_products(excess, excess, max_lag) / (ticks * variance.square())
    error = ((1.0 + ratio).clamp(min=0.0) / ticks).sqrt()
    error[:, 0] *= 0.0  # certain, but unknown where the row has none
    return error


def variance_ratio(returns: Tensor, horizon: int) -> Tensor:
    """Variance of overlapping returns over `horizon` ticks, over `horizon` times the variance of one tick; unbiased parts.

    1 for unpredictable returns, above 1 where they trend, below 1 where they revert.

    Args:
        returns: [N, T], T > horizon.
        horizon: ticks, at least 1, where the ratio is 1.

    Returns:
        [N] float64; NaN for a constant row.

    Source: Lo and MacKinlay 1988, Stock market prices do not follow random walks, section 1.
    """
    needed = at_least("horizon", horizon, 1) + 1
    deviation = centred(series(returns, needed, f"a variance ratio over {horizon} ticks"))
    ticks = deviation.shape[1]
    single = deviation.square().sum(-1) / (ticks - 1)
    weight = horizon * (ticks - horizon + 1) * (1.0 - horizon / ticks)
    return aggregate(deviation, horizon).square().sum(-1) / weight / single


def half_life(x: Tensor) -> Tensor:
    """Ticks until the autocorrelation first falls below ½, interpolated between the two lags around it.

    The sample's own mean takes out what moves more slowly than the record is long, so that at a quarter of it no series has more
    than 0.31 left. A random walk too gets a number, which then grows with T: a half-life means something only where T is many
    times as long.

    Args:
        x: [N, T], T ≥ 4.

    Returns:
        [N] float64 ticks; NaN for a constant row, and where no lag up to T // 4 is below ½, which takes a T of a few ticks.
    """
    x = series(x, 4, "the half-life")
    correlation = autocorrelation(x, x.shape[1] // 4)
    below = correlation < 0.5
    lag = below.to(torch.int8).argmax(-1, keepdim=True).clamp(min=1)  # the first of equal maxima
    before, after = correlation.gather(1, lag - 1), correlation.gather(1, lag)
    crossing = lag - 1 + (before - 0.5) / (before - after)
    return crossing.where(below.any(-1, keepdim=True), torch.nan).squeeze(-1)


def fano_factor(events: Tensor, window: int) -> Tensor:
    """Variance of the number of events in a window over its mean: 1 for a Poisson process, above 1 where events cluster.

    Args:
        events: [N, T] bool, 0/1, or counts per tick.
        window: ticks; windows don't overlap, and what doesn't fill the last one is left out.

    Returns:
        [N] float64; NaN where nothing happens.

    Raises:
        ValueError: fewer than two windows.

    Source: Fano 1947, Ionization yield of radiations II.
    """
    needed = 2 * at_least("window", window, 1)
    counts = series(events, needed, f"a Fano factor over windows of {window} ticks").unfold(-1, window, window).sum(-1)
    return counts.var(-1) / counts.mean(-1)


@dataclass(frozen=True)
class DecayFit:
    """How an autocorrelation decays, from `decay_fit`; [N] float64 each, NaN where there is no positive curve to fit."""

    exponent: Tensor  # β of the power law lag^−β, between 0 and 3
    power_error: Tensor  # squared deviations of the binned values from the power law, summed
    exponential_error: Tensor  # the same from the exponential; the larger one fits worse


def decay_fit(acf: Tensor, first: int, last: int) -> DecayFit:
    """Fit a · lag^−β and a · exp(−lag/τ) to an autocorrelation over the lags first … last.

    The lags are averaged in at most 20 bins of equal width in log lag, so that the many noisy long lags weigh no more than the
    few short ones, and the curves are averaged in the same bins. Both have two parameters and are fitted by the same least
    squares of the values themselves (logarithms would favour the power law and fail on values below zero), so their errors
    compare. Least squares over β or τ: the best amplitude is known in closed form (variable projection), the rest is a
    search of 601 curves, refined by a parabola through the best and its neighbours.

    Args:
        acf: [N, K], entry k at lag k, K > last.
        first: shortest lag, at least 1.
        last: longest lag, at least first + 2.

    Raises:
        ValueError: lags out of order or beyond the autocorrelation.

    Source: Golub and Pereyra 1973, The differentiation of pseudo-inverses and nonlinear least squares (variable projection).
    """
    acf = series(acf, at_least("last", last, at_least("first", first, 1) + 2) + 1, f"a decay up to lag {last}")
    lags = torch.arange(first, last + 1, dtype=torch.float64, device=acf.device)
    averaging = _log_bins(first, last).to(acf.device)
    values = acf[:, first : last + 1] @ averaging.T
    exponent, power_error = _best_curve(values, averaging, -(lags / first).log(), (0.0, _STEEPEST_POWER), Tensor.clone)
    log_times = (math.log(first / 4), math.log(1000 * last))
    _, exponential_error = _best_curve(values, averaging, first - lags, log_times, lambda log_time: (-log_time).exp())
    return DecayFit(exponent, power_error, exponential_error)


def _log_bins(first: int, last: int) -> Tensor:
    """Averages over bins of equal width in log lag, [bins, lags], on the CPU; empty bins are left out."""
    edges = torch.logspace(
        math.log10(first - 0.5), math.log10(last + 0.5), _DECAY_BINS + 1, dtype=torch.float64, device="cpu"
    )
    place = torch.bucketize(
        torch.arange(first, last + 1, dtype=torch.float64, device="cpu"), edges[1:-1]
    ).unique_consecutive(return_inverse=True)[1]
    member = functional.one_hot(place).T.to(torch.float64)
    return member / member.sum(-1, keepdim=True)


def _best_curve(
    values: Tensor,
    averaging: Tensor,
    slope: Tensor,
    bounds: tuple[float, float],
    rate: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Fit a · exp(rate(p) · slope) with a > 0: the parameter p and the sum of squared deviations, both [N].

    Args:
        values: [N, bins].
        averaging: [bins, lags], takes a curve over lags to its bins.
        slope: [lags], the curve's logarithm at rate 1.
        bounds: of p, which is tried at even steps.
        rate: elementwise.
    """

    def curves(p: Tensor) -> Tensor:
        return (rate(p)[:, None] * slope).exp() @ averaging.T

    grid = torch.linspace(*bounds, _GRID, dtype=torch.float64, device=values.device)
    tried = curves(grid)
    explained = (values @ tried.T).clamp(min=0.0).square() / tried.square().sum(-1)
    best = explained.argmax(-1, keepdim=True).clamp(1, _GRID - 2)
    left, middle, right = (explained.gather(1, best + step).squeeze(1) for step in (-1, 0, 1))
    bend = left - 2.0 * middle + right
    step = (0.5 * (left - right) / bend).where(bend < 0.0, 0.0).clamp(-1.0, 1.0)
    p = grid[best.squeeze(1)] + step * (grid[1] - grid[0])
    curve = curves(p)
    amplitude = (values * curve).sum(-1) / curve.square().sum(-1)
    error = (values - amplitude[:, None] * curve).square().sum(-1)
    found = amplitude > 0.0
    return p.where(found, torch.nan), error.where(found, torch.nan)
