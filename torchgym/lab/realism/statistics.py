"""The statistics behind the stylised facts, each a batched function over time.

They take tensors [N, T], one row per market, of any real dtype on any device, and give float64 tensors [N] or [N, K]. Row i
depends on row i alone. Where a statistic is undefined (a constant row, a NaN in it) it is NaN; a series too short for it is a
ValueError that names T, and so is an argument out of range. (tests/test_realism_statistics.py holds them to that, and to scipy
and statsmodels.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

# A series whose values differ by less than this share of the largest one has no variance, only the rounding of one.
_CONSTANT = 1e-13
_EWMA_START = 100
_FEWEST_IN_TAIL = 10
_DECAY_BINS = 20
_GRID = 601
_STEEPEST_POWER = 3.0


# --- the distribution of returns and their scale


def standardise(returns: Tensor) -> Tensor:
    """Each market's returns with mean 0 and (population) variance 1, [N, T]."""
    deviation = _centred(series(returns, 2, "standardise"))
    return deviation / deviation.square().mean(-1, keepdim=True).sqrt()


def aggregate(returns: Tensor, horizon: int) -> Tensor:
    """Returns over `horizon` ticks, overlapping, [N, T − horizon + 1]: entry t is the sum of the ticks t … t + horizon − 1.

    Exact to the rounding of one running sum over T.
    """
    returns = series(returns, _at_least("horizon", horizon, 1), f"a horizon of {horizon} ticks")
    total = functional.pad(returns.cumsum(-1), (1, 0))
    return total[:, horizon:] - total[:, :-horizon]


def skewness(x: Tensor) -> Tensor:
    """Third standardised moment of each row, the population's (biased) form."""
    deviation = _centred(series(x, 2, "skewness"))
    square = deviation.square()
    return (square * deviation).mean(-1) / square.mean(-1).pow(1.5)


def excess_kurtosis(x: Tensor) -> Tensor:
    """Fourth standardised moment of each row less the Gaussian's 3, the population's (biased) form."""
    square = _centred(series(x, 2, "excess kurtosis")).square()
    return square.square().mean(-1) / square.mean(-1).square() - 3.0


def hill_index(x: Tensor, fraction: float = 0.01, tail: Literal["upper", "lower"] = "upper") -> Tensor:
    """Exponent α of a tail P(X > x) ~ x^−α: the inverse mean of log(X₍ᵢ₎ / X₍ₖ₊₁₎) over the k largest values.

    Scaling x leaves it alone, shifting x does not. NaN where the (k + 1)-th largest value is not positive.

    Args:
        x: [N, T], T ≥ 11.
        fraction: of the T values that count as the tail, in (0, 1); k = ⌊fraction · T⌋, but at least 10.
        tail: "lower" measures the tail of −x.

    Source: Hill 1975, A simple general approach to inference about the tail of a distribution.
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}")
    if tail not in ("upper", "lower"):
        raise ValueError(f'tail must be "upper" or "lower", got {tail!r}')
    x = series(x, _FEWEST_IN_TAIL + 1, "the Hill index")
    count = min(max(int(fraction * x.shape[1]), _FEWEST_IN_TAIL), x.shape[1] - 1)
    largest = (x if tail == "upper" else -x).topk(count + 1, dim=-1).values
    positive = largest.where(largest[:, -1:] > 0.0, torch.nan)
    spread = (positive[:, :-1] / positive[:, -1:]).log().mean(-1)
    return 1.0 / spread.where(spread > 0.0, torch.nan)


def ewma_volatility(returns: Tensor, decay: float = 0.94) -> Tensor:
    """Forecast √v_t [N, T] of each tick's volatility from the ticks before it: v_t = decay · v_{t−1} + (1 − decay) · r²_{t−1}.

    v_0 is the mean square of the first 100 returns, so only these have seen their own future. The recursion is summed by
    doubling: after k rounds every entry holds the last 2^k terms.

    Source: J.P. Morgan/Reuters 1996, RiskMetrics technical document, section 5.2.
    """
    if not 0.0 < decay < 1.0:
        raise ValueError(f"decay must lie between 0 and 1, got {decay}")
    square = series(returns, _EWMA_START, "the EWMA volatility").square()
    start = square[:, :_EWMA_START].mean(-1, keepdim=True)
    variance = torch.cat([start, (1.0 - decay) * square[:, :-1]], dim=-1)
    span, weight = 1, decay
    while span < variance.shape[1] and weight > 0.0:
        variance = variance + weight * functional.pad(variance[:, :-span], (span, 0))
        span, weight = 2 * span, weight * weight
    return variance.sqrt()


# --- what a series remembers of its own past


def autocorrelation(x: Tensor, max_lag: int) -> Tensor:
    """Autocorrelation of each row, Σ d_t d_{t+k} / Σ d_t² with d the deviation from the row's mean: the biased form.

    [N, max_lag + 1], entry k at lag k, entry 0 exactly 1; max_lag is below T.
    """
    deviation = _centred(series(x, _at_least("max_lag", max_lag, 0) + 1, f"an autocorrelation up to lag {max_lag}"))
    products = _lagged_products(deviation, deviation, max_lag)
    return products / products[:, :1]


def robust_lag_error(returns: Tensor, max_lag: int) -> Tensor:
    """Standard error of each autocorrelation when returns can't be predicted but their variance can, [N, max_lag + 1].

    √((1 + γ(k)/σ⁴) / T), γ being the autocovariance of squared deviations; entry 0 is 0. Independent returns give the familiar
    1/√T; volatility clustering makes γ positive, and the band ±1.96/√T too narrow.

    Source: Diebold 1986, Testing for serial correlation in the presence of ARCH; Lo and MacKinlay 1989, The size and power
    of the variance ratio test in finite samples, section 2.
    """
    needed = _at_least("max_lag", max_lag, 0) + 1
    square = _centred(series(returns, needed, f"an error of lags up to {max_lag}")).square()
    ticks, variance = square.shape[1], square.mean(-1, keepdim=True)
    excess = square - variance
    ratio = _lagged_products(excess, excess, max_lag) / (ticks * variance.square())
    error = ((1.0 + ratio).clamp(min=0.0) / ticks).sqrt()
    error[:, 0] *= 0.0  # certain, but unknown where the row has none
    return error


def variance_ratio(returns: Tensor, horizon: int) -> Tensor:
    """Variance of overlapping returns over `horizon` ticks, over `horizon` times the variance of one tick; unbiased parts.

    1 for unpredictable returns, above 1 where they trend, below 1 where they revert.

    Source: Lo and MacKinlay 1988, Stock market prices do not follow random walks, section 1.
    """
    needed = _at_least("horizon", horizon, 1) + 1
    deviation = _centred(series(returns, needed, f"a variance ratio over {horizon} ticks"))
    ticks = deviation.shape[1]
    single = deviation.square().sum(-1) / (ticks - 1)
    weight = horizon * (ticks - horizon + 1) * (1.0 - horizon / ticks)
    return aggregate(deviation, horizon).square().sum(-1) / weight / single


def half_life(x: Tensor) -> Tensor:
    """Ticks until the autocorrelation first falls below ½, interpolated between the two lags around it.

    The sample's own mean takes out what moves more slowly than the record is long, so that at a quarter of it no series has more
    than 0.31 left. A random walk too gets a number, which then grows with T: a half-life means something only where T is many
    times as long. NaN also where no lag up to T // 4 is below ½, which takes a T of a few ticks.
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

    Windows don't overlap, and what doesn't fill the last one is left out. NaN where nothing happens.

    Source: Fano 1947, Ionization yield of radiations II.
    """
    needed = 2 * _at_least("window", window, 1)
    counts = series(events, needed, f"a Fano factor over windows of {window} ticks").unfold(-1, window, window).sum(-1)
    return counts.var(-1) / counts.mean(-1)


@dataclass(frozen=True)
class DecayFit:
    """How an autocorrelation decays, from `decay_fit`; [N] float64 each, NaN where there is no positive curve to fit."""

    exponent: Tensor  # β of the power law lag^−β, between 0 and 3
    power_error: Tensor  # squared deviations of the binned values from the power law, summed
    exponential_error: Tensor  # the same from the exponential; the larger one fits worse


def decay_fit(acf: Tensor, first: int, last: int) -> DecayFit:
    """Fit a · lag^−β and a · exp(−lag/τ) to an autocorrelation [N, K], entry k at lag k, over the lags first … last.

    The lags are averaged in at most 20 bins of equal width in log lag, so that the many noisy long lags weigh no more than the
    few short ones, and the curves are averaged in the same bins. Both have two parameters and are fitted by the same least
    squares of the values themselves (logarithms would favour the power law and fail on values below zero), so their errors
    compare. Least squares over β or τ: the best amplitude is known in closed form (variable projection), the rest is a
    search of 601 curves, refined by a parabola through the best and its neighbours.

    Source: Golub and Pereyra 1973, The differentiation of pseudo-inverses and nonlinear least squares (variable projection).
    """
    acf = series(acf, _at_least("last", last, _at_least("first", first, 1) + 2) + 1, f"a decay up to lag {last}")
    lags = torch.arange(first, last + 1, dtype=torch.float64, device=acf.device)
    averaging = _log_bins(first, last).to(acf.device)
    values = acf[:, first : last + 1] @ averaging.T
    exponent, power_error = _best_curve(values, averaging, -(lags / first).log(), (0.0, _STEEPEST_POWER), Tensor.clone)
    log_times = (math.log(first / 4), math.log(1000 * last))
    _, exponential_error = _best_curve(values, averaging, first - lags, log_times, lambda log_time: (-log_time).exp())
    return DecayFit(exponent, power_error, exponential_error)


def _log_bins(first: int, last: int) -> Tensor:
    """Averages over bins of equal width in log lag, [bins, lags], on the CPU; empty bins are left out."""
    ends = math.log10(first - 0.5), math.log10(last + 0.5)
    edges = torch.logspace(*ends, _DECAY_BINS + 1, dtype=torch.float64, device="cpu")
    lags = torch.arange(first, last + 1, dtype=torch.float64, device="cpu")
    place = torch.bucketize(lags, edges[1:-1]).unique_consecutive(return_inverse=True)[1]
    member = functional.one_hot(place).T.to(torch.float64)
    return member / member.sum(-1, keepdim=True)


def _best_curve(
    values: Tensor, averaging: Tensor, slope: Tensor, bounds: tuple[float, float], rate: Callable[[Tensor], Tensor]
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
    positive = amplitude > 0.0
    return p.where(positive, torch.nan), error.where(positive, torch.nan)


# --- how two series go together; shapes that differ are a ValueError


def ranks(x: Tensor) -> Tensor:
    """Rank of each value in its row, from 1, [N, T]; equal values share the mean of their ranks; NaN all along a row with one."""
    x = series(x, 1, "ranks").contiguous()
    order = x.sort(-1).values
    rank = (torch.searchsorted(order, x) + torch.searchsorted(order, x, right=True) + 1).to(torch.float64) / 2.0
    return rank.masked_fill(x.isnan().any(-1, keepdim=True), torch.nan)


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """Correlation of x and y in each row, in [−1, 1]."""
    x, y = map(_centred, _pair(x, y, 2, "a correlation"))
    products = (x * y).sum(-1)
    return (products / (x.square().sum(-1) * y.square().sum(-1)).sqrt()).clamp(-1.0, 1.0)


def spearman(x: Tensor, y: Tensor) -> Tensor:
    """Correlation of the ranks of x and y in each row, in [−1, 1]: unmoved by any increasing change of either."""
    x, y = _pair(x, y, 2, "a rank correlation")
    return pearson(ranks(x), ranks(y))


def r_squared(y: Tensor, x: Tensor) -> Tensor:
    """Share of the variance of y that a linear regression on x (with a constant) explains, in [0, 1]."""
    return pearson(y, x).square()


def lagged_correlation(x: Tensor, y: Tensor, max_lag: int) -> Tensor:
    """Correlation of x_t with y_{t + lag}, [N, max_lag + 1], entry k at lag k: x leads; max_lag is below T.

    Means and variances are those of the whole rows, as in `autocorrelation`.
    """
    needed = _at_least("max_lag", max_lag, 0) + 1
    x, y = map(_centred, _pair(x, y, needed, f"a correlation up to lag {max_lag}"))
    scale = (x.square().sum(-1, keepdim=True) * y.square().sum(-1, keepdim=True)).sqrt()
    return _lagged_products(x, y, max_lag) / scale


def leverage(returns: Tensor, max_lag: int) -> Tensor:
    """Correlation of a return with the squared return `lag` ticks later, [N, max_lag], entry k at lag k + 1.

    Negative where losses raise volatility.

    Source: Bouchaud, Matacz and Potters 2001, Leverage effect in financial markets; here as a correlation, which their ratio of
    moments is not.
    """
    _at_least("max_lag", max_lag, 1)
    return lagged_correlation(returns, returns.square(), max_lag)[:, 1:]


def timescale_asymmetry(returns: Tensor, window: int = 20) -> Tensor:
    """How much better coarse volatility predicts fine volatility than the other way round.

    Of each window, coarse is |Σ r| and fine is the mean of |r|: corr(coarse, next window's fine) − corr(fine, next window's
    coarse). Positive in markets, where traders of long horizons stir those of short ones. What doesn't fill the last window is
    left out.

    Source: Müller et al. 1997, Volatilities of different time resolutions: analyzing the dynamics of market components.
    """
    needed = 3 * _at_least("window", window, 2)
    blocks = series(returns, needed, f"an asymmetry over windows of {window} ticks").unfold(-1, window, window)
    coarse, fine = blocks.sum(-1).abs(), blocks.abs().mean(-1)
    return pearson(coarse[:, :-1], fine[:, 1:]) - pearson(fine[:, :-1], coarse[:, 1:])


def log_log_slope(x: Tensor, y: Tensor) -> Tensor:
    """Exponent of a power law y ~ x^slope: the least-squares slope of log y on log x, [...].

    Args:
        x: [K] positive, K ≥ 2.
        y: [..., K]; where any is not positive, the slope is NaN.
    """
    if x.dim() != 1 or len(x) < 2 or y.shape[-1:] != x.shape:
        raise ValueError(f"a slope takes x [K] with K ≥ 2 and y [..., K], got {tuple(x.shape)} and {tuple(y.shape)}")
    if not bool((x > 0.0).all()):
        raise ValueError(f"x must be positive, got {x.min().item():g}")
    deviation = _centred(x.to(torch.float64).log()[None]).squeeze(0)
    level = y.where(y > 0.0, torch.nan).to(torch.float64).log()
    return (level * deviation).sum(-1) / deviation.square().sum()


# --- what they share


def series(x: Tensor, needed: int, purpose: str) -> Tensor:
    """The series [N, T] as float64; a ValueError where it has other axes, or T is below `needed` for the purpose."""
    if x.dim() != 2:
        raise ValueError(f"{purpose} takes a tensor [markets, ticks], got the shape {tuple(x.shape)}")
    if x.shape[1] < needed:
        raise ValueError(f"{purpose} needs at least T = {needed} ticks, got T = {x.shape[1]}")
    return x.to(torch.float64)


def _pair(x: Tensor, y: Tensor, needed: int, purpose: str) -> tuple[Tensor, Tensor]:
    if x.shape != y.shape:
        raise ValueError(f"{purpose} takes two tensors of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    return series(x, needed, purpose), series(y, needed, purpose)


def _at_least(name: str, value: int, lowest: int) -> int:
    if value < lowest:
        raise ValueError(f"{name} must be at least {lowest}, got {value}")
    return value


def _centred(x: Tensor) -> Tensor:
    """Deviations from the mean over time, [N, T]; NaN all along a row that is constant or holds a NaN."""
    low, high = x.aminmax(dim=-1, keepdim=True)
    constant = high - low <= _CONSTANT * torch.maximum(high.abs(), low.abs())
    return (x - x.mean(-1, keepdim=True)).masked_fill(constant, torch.nan)


def _lagged_products(x: Tensor, y: Tensor, max_lag: int) -> Tensor:
    """Σ_t x_t y_{t+k} for k = 0 … max_lag, [N, max_lag + 1]; what lies beyond the end counts as zero.

    By the Fourier transform (Wiener–Khinchin), padded with zeros so that the end doesn't wrap round to the start.
    """
    size = 1 << (x.shape[-1] + max_lag - 1).bit_length()
    transformed = torch.fft.rfft(x, size)
    other = transformed if y is x else torch.fft.rfft(y, size)
    return torch.fft.irfft(transformed.conj() * other, size)[:, : max_lag + 1]
