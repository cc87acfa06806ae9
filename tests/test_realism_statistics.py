"""The statistics of realism: against processes with known answers, against scipy and statsmodels, and by their symmetries.

Seeds are fixed. Where a sample meets a process's own value, the tolerance is at least four standard errors of the mean over
rows, taken from the sample (`close_to`), unless a comment says otherwise.
"""

from collections.abc import Callable

import numpy as np
import processes
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize, stats
from statsmodels.tsa import stattools
from torch import Tensor

from torchgym.lab.realism import statistics, surrogates

MARKETS, TICKS = 4, 500


def tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def same(actual: Tensor, expected: object, rtol: float = 1e-10, atol: float = 1e-12) -> None:
    np.testing.assert_allclose(actual.numpy(), expected, rtol=rtol, atol=atol)


def close_to(values: Tensor, expected: np.ndarray | float, errors: float = 4.0) -> None:
    """The mean over rows lies within that many standard errors of what is expected."""
    distance = (values.mean(0) - torch.as_tensor(expected)).abs() / (values.std(0) / len(values) ** 0.5)
    assert (distance < errors).all(), f"{distance.max():.1f} standard errors"


@pytest.fixture(scope="module")
def returns() -> np.ndarray:
    return 0.01 * processes.garch(random(1), MARKETS, TICKS)


# --- moments and tails


def test_standardised_returns_have_mean_0_and_variance_1(returns: np.ndarray) -> None:
    same(statistics.standardise(tensor(returns)), stats.zscore(returns, axis=1))


def test_aggregate_sums_each_window(returns: np.ndarray) -> None:
    for horizon in (1, 7, TICKS):
        windows = np.lib.stride_tricks.sliding_window_view(returns, horizon, axis=1)
        same(statistics.aggregate(tensor(returns), horizon), windows.sum(-1))


def test_moments_equal_scipys(returns: np.ndarray) -> None:
    same(statistics.skewness(tensor(returns)), stats.skew(returns, axis=1))
    same(statistics.excess_kurtosis(tensor(returns)), stats.kurtosis(returns, axis=1))


def test_hill_index_by_hand() -> None:
    """The ten largest of 1, 2, 4 … 2^19 lie 1 … 10 doublings above the next: mean log ratio 5.5 log 2."""
    powers = 2.0 ** np.arange(20)[None]
    same(statistics.hill_index(tensor(powers), 0.01), [1.0 / (5.5 * np.log(2.0))])
    same(statistics.hill_index(tensor(powers), 0.75), [1.0 / (8.0 * np.log(2.0))])  # 15 values
    same(statistics.hill_index(tensor(-powers), tail="lower"), [1.0 / (5.5 * np.log(2.0))])
    assert statistics.hill_index(tensor(-powers)).isnan().all()


@pytest.mark.parametrize("exponent", [2.0, 3.5])
def test_hill_index_finds_the_exponent_of_a_pareto_tail(exponent: float) -> None:
    """Its mean is k / (k − 1) of the exponent, k = 1,000."""
    sample = tensor(processes.pareto(random(2), 32, 20_000, exponent))
    close_to(statistics.hill_index(sample, 0.05), exponent * 1000 / 999)


def test_hill_index_finds_both_tails_of_student_t() -> None:
    """Far enough out, that is: at 0.1 % of t(3) the bias is about 1 %, the standard error of the mean 1.5 %."""
    sample = tensor(processes.student(random(3), 64, 65_536, 3.0))
    assert 2.85 < statistics.hill_index(sample, 0.001).mean() < 3.15
    assert 2.85 < statistics.hill_index(sample, 0.001, "lower").mean() < 3.15


def test_ewma_volatility_equals_its_recursion(returns: np.ndarray) -> None:
    for decay in (0.5, 0.94, 0.9999):
        expected = np.empty_like(returns)
        variance = np.square(returns[:, :100]).mean(-1)
        for t in range(TICKS):
            expected[:, t] = np.sqrt(variance)
            variance = decay * variance + (1.0 - decay) * returns[:, t] ** 2
        same(statistics.ewma_volatility(tensor(returns), decay), expected)


def test_ewma_volatility_sees_the_past_alone(returns: np.ndarray) -> None:
    other = returns.copy()
    other[:, 300:] *= 5.0
    before, after = statistics.ewma_volatility(tensor(returns)), statistics.ewma_volatility(tensor(other))
    assert torch.equal(before[:, :301], after[:, :301])
    assert (before[:, 301:] < after[:, 301:]).all()


# --- memory


@pytest.mark.parametrize("max_lag", [0, 1, 60, TICKS - 1])
def test_autocorrelation_equals_statsmodels(returns: np.ndarray, max_lag: int) -> None:
    expected = [stattools.acf(np.abs(row), nlags=max_lag, adjusted=False, fft=False) for row in returns]
    same(statistics.autocorrelation(tensor(np.abs(returns)), max_lag), expected)


def test_autocorrelation_of_an_autoregression() -> None:
    sample = processes.autoregression(random(4), 64, 16_384, 0.8)
    close_to(statistics.autocorrelation(tensor(sample), 10)[:, 1:], 0.8 ** np.arange(1, 11))


def test_robust_lag_error_equals_its_sums(returns: np.ndarray) -> None:
    square = np.square(returns - returns.mean(-1, keepdims=True))
    expected = []
    for row in square:
        covariance = stattools.acovf(row, adjusted=False, fft=False, nlag=20)
        expected.append(np.sqrt((1.0 + covariance / row.mean() ** 2) / TICKS))
    error = statistics.robust_lag_error(tensor(returns), 20)
    same(error[:, 1:], np.array(expected)[:, 1:])
    assert (error[:, 0] == 0.0).all()


def test_changing_volatility_leaves_the_naive_band_but_not_the_robust_one() -> None:
    """Returns that can't be predicted: 5 % of lags should lie outside. The naive band ±1.96/√T claims that and sees 22 %."""
    sample = tensor(processes.garch(random(5), 200, 4096))
    correlation = statistics.autocorrelation(sample, 20)[:, 1:].abs()
    naive = (correlation > 1.96 / 4096**0.5).double().mean().item()
    robust = (correlation > 1.96 * statistics.robust_lag_error(sample, 20)[:, 1:]).double().mean().item()
    print(f"outside: naive {naive:.3f}, robust {robust:.3f}")
    assert naive > 0.15
    assert 0.03 < robust < 0.07


def test_both_bands_agree_on_independent_returns() -> None:
    sample = tensor(processes.gaussian(random(6), 200, 4096))
    correlation = statistics.autocorrelation(sample, 20)[:, 1:].abs()
    assert 0.04 < (correlation > 1.96 / 4096**0.5).double().mean() < 0.06
    assert 0.04 < (correlation > 1.96 * statistics.robust_lag_error(sample, 20)[:, 1:]).double().mean() < 0.06


def test_variance_ratio_equals_its_sums(returns: np.ndarray) -> None:
    horizon, mean = 7, returns.mean(-1, keepdims=True)
    long = np.lib.stride_tricks.sliding_window_view(returns, horizon, axis=1).sum(-1) - horizon * mean
    weight = horizon * (TICKS - horizon + 1) * (1.0 - horizon / TICKS)
    expected = np.square(long).sum(-1) / weight / returns.var(-1, ddof=1)
    same(statistics.variance_ratio(tensor(returns), horizon), expected)
    same(statistics.variance_ratio(tensor(returns), 1), np.ones(MARKETS))


@pytest.mark.parametrize("phi", [0.0, 0.3, -0.3])
def test_variance_ratio_of_an_autoregression(phi: float) -> None:
    """1 + 2 Σ (1 − k/q) phi^k; without bias even where the horizon is a tenth of a short record, if returns are independent."""
    horizon, ticks = (50, 500) if phi == 0.0 else (8, 8192)
    sample = tensor(processes.autoregression(random(7), 500 if phi == 0.0 else 100, ticks, phi))
    lag = np.arange(1, horizon)
    expected = 1.0 + 2.0 * ((1.0 - lag / horizon) * phi**lag).sum()
    close_to(statistics.variance_ratio(sample, horizon), expected)


def test_half_life_interpolates_the_autocorrelation() -> None:
    sample = processes.autoregression(random(8), 8, 4000, 0.97)
    for row, half in zip(sample, statistics.half_life(tensor(sample)).tolist(), strict=True):
        correlation = stattools.acf(row, nlags=1000, adjusted=False, fft=True)
        assert int(half) + 1 == np.argmax(correlation < 0.5)
        assert np.interp(half, np.arange(1001), correlation) == pytest.approx(0.5)
    assert statistics.half_life(tensor(sample)).median() == pytest.approx(np.log(0.5) / np.log(0.97), rel=0.15)


def test_half_life_by_hand() -> None:
    """Of −2 … 2 the lag 1 has 4/10; of −3 … 3 it has 16/28, and seven ticks allow no further lag."""
    same(statistics.half_life(torch.arange(5.0)[None]), [0.5 / 0.6])
    assert statistics.half_life(torch.arange(7.0)[None]).isnan().all()


def test_half_life_of_a_walk_grows_with_the_record() -> None:
    walk = tensor(processes.gaussian(random(28), 32, 4096).cumsum(-1))
    short, long = (statistics.half_life(walk[:, :ticks]).median().item() for ticks in (512, 4096))
    assert long > 4.0 * short
    assert long < 4096 / 4


def test_decay_fit_tells_a_power_from_an_exponential() -> None:
    lag = np.arange(201)
    power = 0.3 * np.maximum(lag, 1.0) ** -0.37
    exponential = 0.3 * np.exp(-lag / 31.0)
    fit = statistics.decay_fit(tensor(np.stack([power, exponential])), 5, 200)
    same(fit.exponent[:1], [0.37], rtol=1e-4)
    assert fit.power_error[0] < 1e-9 < 1e-4 < fit.exponential_error[0]
    assert fit.exponential_error[1] < 1e-9 < 1e-4 < fit.power_error[1]


def test_decay_fit_is_the_least_squares_of_binned_values() -> None:
    """20 bins over lags 1 … 4 leave each lag its own, so scipy can fit the same."""
    values = np.array([[1.0, 0.42, 0.17, 0.2, 0.02]])
    fit = statistics.decay_fit(tensor(values), 1, 4)
    lag = np.arange(1.0, 5.0)

    def error(curve: Callable[[float], np.ndarray], bounds: tuple[float, float]) -> tuple[float, float]:
        def loss(parameter: float) -> float:
            amplitude = values[0, 1:] @ curve(parameter) / (curve(parameter) @ curve(parameter))
            return float(np.square(values[0, 1:] - amplitude * curve(parameter)).sum())

        best = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-10})
        return best.x, best.fun

    exponent, power_error = error(lambda beta: lag**-beta, (0.0, 3.0))
    _, exponential_error = error(lambda tau: np.exp(-lag / tau), (0.25, 100.0))
    same(fit.exponent, [exponent], rtol=1e-4)
    same(fit.power_error, [power_error], rtol=1e-6)
    same(fit.exponential_error, [exponential_error], rtol=1e-6)


def test_decay_fit_finds_the_exponent_of_long_memory() -> None:
    """β = 1 − 2d. Removing the sample mean lowers all lags, by about the variance of that mean, and steepens the fit."""
    d = 0.3
    theory = processes.long_memory_autocorrelation(d, 200)
    fit = statistics.decay_fit(tensor(theory[None]), 5, 200)
    assert fit.exponent.item() == pytest.approx(1.0 - 2.0 * d, abs=0.01)
    sample = statistics.autocorrelation(tensor(processes.long_memory(random(9), 64, 16_384, d)), 200)
    fit = statistics.decay_fit(sample, 5, 200)
    assert fit.exponent.median().item() == pytest.approx(1.0 - 2.0 * d, abs=0.08)
    assert (fit.power_error < fit.exponential_error).double().mean() > 0.95


def test_decay_fit_finds_the_short_memory_of_an_autoregression() -> None:
    sample = statistics.autocorrelation(tensor(processes.autoregression(random(10), 64, 16_384, 0.97)), 200)
    fit = statistics.decay_fit(sample, 5, 200)
    assert (fit.exponential_error < fit.power_error).double().mean() > 0.9


def test_decay_fit_lets_values_below_zero_pass() -> None:
    noise = 0.01 * random(11).standard_normal((50, 201))
    lag = np.maximum(np.arange(201), 1.0)
    fit = statistics.decay_fit(tensor(0.3 * lag**-0.8 + noise), 5, 200)
    close_to(fit.exponent, 0.8)
    assert statistics.decay_fit(-tensor(lag[None] ** -0.8), 5, 200).exponent.isnan().all()


def test_fano_factor_equals_numpys() -> None:
    events = random(12).random((MARKETS, 1010)) < 0.1
    counts = events[:, :1000].reshape(MARKETS, 10, 100).sum(-1)
    same(statistics.fano_factor(tensor(events), 100), counts.var(-1, ddof=1) / counts.mean(-1))


def test_fano_factor_of_poisson_and_of_excited_counts() -> None:
    """1 and 1 / (1 − n)²; a window of 500 ticks is long beside the memory of 2 ticks, and misses 3 % of the latter."""
    poisson = tensor(random(13).poisson(0.3, (32, 50_000)))
    close_to(statistics.fano_factor(poisson, 500), 1.0)
    counts = tensor(processes.hawkes_counts(random(14), 32, 50_000, 0.1, 0.5, 0.5))
    assert counts.mean().item() == pytest.approx(0.2, rel=0.02)
    assert statistics.fano_factor(counts, 500).mean().item() == pytest.approx(4.0, rel=0.08)


# --- relations


def test_ranks_equal_scipys_with_ties() -> None:
    values = random(15).integers(0, 40, (MARKETS, TICKS))
    same(statistics.ranks(tensor(values)), stats.rankdata(values, axis=1))


def test_correlations_equal_scipys(returns: np.ndarray) -> None:
    other = np.round(100.0 * (returns + 0.01 * processes.gaussian(random(16), MARKETS, TICKS)))  # many ties
    x, y = tensor(returns), tensor(other)
    same(
        statistics.pearson(x, y),
        [stats.pearsonr(a, b).statistic for a, b in zip(returns, other, strict=True)],
    )
    same(
        statistics.spearman(x, y),
        [stats.spearmanr(a, b).statistic for a, b in zip(returns, other, strict=True)],
    )
    same(
        statistics.r_squared(y, x),
        [stats.linregress(a, b).rvalue ** 2 for a, b in zip(returns, other, strict=True)],
    )


def test_lagged_correlation_equals_statsmodels(returns: np.ndarray) -> None:
    other = np.roll(returns, 3, axis=1) ** 2
    expected = [stattools.ccf(b, a, adjusted=False, fft=False)[:31] for a, b in zip(returns, other, strict=True)]
    same(statistics.lagged_correlation(tensor(returns), tensor(other), 30), expected)


def test_lagged_correlation_knows_who_leads() -> None:
    leader = processes.gaussian(random(17), MARKETS, TICKS)
    follower = np.roll(leader, 5, axis=1)
    ahead = statistics.lagged_correlation(tensor(leader), tensor(follower), 10)
    behind = statistics.lagged_correlation(tensor(follower), tensor(leader), 10)
    assert (ahead.argmax(-1) == 5).all()
    assert (ahead[:, 5] > 0.95).all()
    assert (behind.abs() < 0.25).all()


def test_leverage_finds_the_planted_correlation() -> None:
    sample = tensor(processes.losses_stir(random(18), 128, 8192))
    planted = processes.losses_stir_correlation(10)
    assert (planted < -0.02).all()
    close_to(statistics.leverage(sample, 10), planted)
    same(statistics.leverage(-sample, 10), -statistics.leverage(sample, 10).numpy())


def test_timescale_asymmetry_by_hand() -> None:
    """Windows of two ticks: coarse is |sum|, fine the mean of absolute values."""
    blocks = np.array([[1.0, 1.0], [2.0, -1.0], [3.0, 2.0], [1.0, -2.0], [0.5, 4.0]])
    coarse, fine = np.abs(blocks.sum(-1)), np.abs(blocks).mean(-1)
    expected = stats.pearsonr(coarse[:-1], fine[1:]).statistic - stats.pearsonr(fine[:-1], coarse[1:]).statistic
    same(statistics.timescale_asymmetry(tensor(blocks.reshape(1, -1)), 2), [expected])


def test_timescale_asymmetry_sees_trends_that_stir() -> None:
    """Volatility set by the size of the last window's sum; and the same path backwards, where fine foretells coarse."""
    shocks = processes.gaussian(random(19), 64, 20 * 200).reshape(64, 200, 20)
    blocks = shocks.copy()
    for window in range(1, 200):
        last = np.abs(blocks[:, window - 1].sum(-1)) / np.abs(blocks[:, window - 1]).mean(-1)
        blocks[:, window] *= (0.5 + last / 8.0)[:, None]
    path = tensor(blocks.reshape(64, -1))
    assert statistics.timescale_asymmetry(path).mean() > 0.1
    assert statistics.timescale_asymmetry(path.flip(-1)).mean() < -0.1
    close_to(statistics.timescale_asymmetry(tensor(shocks.reshape(64, -1))), 0.0)


def test_log_log_slope_equals_scipys() -> None:
    x = np.array([1.0, 2.0, 5.0, 11.0])
    y = random(20).lognormal(size=(2, 3, 4))
    expected = [[stats.linregress(np.log(x), np.log(b)).slope for b in a] for a in y]
    same(statistics.log_log_slope(tensor(x), tensor(y)), expected)
    same(statistics.log_log_slope(tensor(x), tensor(7.0 * x**0.5)), 0.5)


@pytest.mark.parametrize("worst", [0.0, -1.0, np.nan])
def test_log_log_slope_is_unknown_without_logarithms(worst: float) -> None:
    slopes = statistics.log_log_slope(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[1.0, worst, 2.0], [1.0, 2.0, 3.0]]))
    assert slopes[0].isnan()
    assert slopes[1] == pytest.approx(1.0)


def test_planted_impact_has_its_exponent() -> None:
    sizes = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    without, pushed = processes.planted_impact(random(21), sizes, 0.5, 1e-4)
    impact = tensor((pushed - without).mean(0))
    assert statistics.log_log_slope(tensor(sizes), impact[:, 99]).item() == pytest.approx(0.5, abs=0.01)
    same(impact[:, 150:].mean(-1) / impact[:, 99], np.full(5, 2.0 / 3.0), rtol=0.02)
    assert impact[:, :50].abs().max() < 2e-4


# --- all of them: symmetries, and what they do with bad rows

PER_ROW: dict[str, Callable[[Tensor], Tensor]] = {
    "standardise": statistics.standardise,
    "aggregate": lambda x: statistics.aggregate(x, 5),
    "skewness": statistics.skewness,
    "excess_kurtosis": statistics.excess_kurtosis,
    "hill_index": lambda x: statistics.hill_index(x, 0.1),
    "lower_hill_index": lambda x: statistics.hill_index(x, 0.1, "lower"),
    "ewma_volatility": statistics.ewma_volatility,
    "autocorrelation": lambda x: statistics.autocorrelation(x, 20),
    "robust_lag_error": lambda x: statistics.robust_lag_error(x, 20),
    "variance_ratio": lambda x: statistics.variance_ratio(x, 4),
    "half_life": lambda x: statistics.half_life(x.cumsum(-1)),
    "exponent": lambda x: statistics.decay_fit(statistics.autocorrelation(x.abs(), 40), 1, 40).exponent,
    "power_error": lambda x: statistics.decay_fit(statistics.autocorrelation(x.abs(), 40), 1, 40).power_error,
    "exponential_error": lambda x: statistics.decay_fit(statistics.autocorrelation(x, 40), 1, 40).exponential_error,
    "fano_factor": lambda x: statistics.fano_factor(x.abs(), 10),
    "ranks": statistics.ranks,
    "spearman": lambda x: statistics.spearman(x, x.square()),
    "pearson": lambda x: statistics.pearson(x, x.square()),
    "lagged_correlation": lambda x: statistics.lagged_correlation(x, x.abs(), 20),
    "leverage": lambda x: statistics.leverage(x, 10),
    "timescale_asymmetry": lambda x: statistics.timescale_asymmetry(x, 10),
    "r_squared": lambda x: statistics.r_squared(x, x.square()),
    "log_log_slope": lambda x: statistics.log_log_slope(torch.arange(1.0, x.shape[1] + 1.0), x.abs() + 1e-9),
}
IN_UNITS = {"aggregate", "ewma_volatility", "fano_factor", "log_log_slope"}  # they change with the scale of x
NEEDS_ONE_TICK = {"log_log_slope", "ranks", "aggregate"}  # and may take other shapes
EVERY = pytest.mark.parametrize("name", PER_ROW)
seeds = st.integers(0, 2**32 - 1)


def heavy(seed: int, n: int = MARKETS, ticks: int = 200) -> Tensor:
    return tensor(processes.student(random(seed), n, ticks, 3.0))


def alike(actual: Tensor, expected: Tensor) -> None:
    """To rounding; NaN where NaN."""
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-9, equal_nan=True)


@EVERY
@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_row_independence(name: str, seed: int) -> None:
    sample = heavy(seed)
    batch = PER_ROW[name](sample)
    assert batch.dtype == torch.float64
    assert len(batch) == MARKETS
    for row in range(MARKETS):
        alike(batch[row], PER_ROW[name](sample[row : row + 1])[0])


@pytest.mark.parametrize("name", sorted(PER_ROW.keys() - IN_UNITS))
@settings(max_examples=10, deadline=None)
@given(seed=seeds, scale=st.floats(1e-5, 1e5))
def test_scale_invariance(name: str, seed: int, scale: float) -> None:
    alike(PER_ROW[name](scale * heavy(seed)), PER_ROW[name](heavy(seed)))


@EVERY
def test_a_nan_stays_in_its_row(name: str) -> None:
    sample = heavy(22)
    broken = sample.clone()
    broken[1, 50] = torch.nan
    result, expected = PER_ROW[name](broken), PER_ROW[name](sample)
    alike(result[[0, 2, 3]], expected[[0, 2, 3]])
    assert result[1].isnan().any()


@EVERY
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0 / 3.0, 1.234567e-5, -3.1e8])
def test_a_constant_row_never_raises(name: str, value: float) -> None:
    sample = heavy(23)
    sample[2] = value
    result = PER_ROW[name](sample)
    alike(result[[0, 1, 3]], PER_ROW[name](heavy(23))[[0, 1, 3]])
    defined = {"aggregate", "ewma_volatility", "ranks", "half_life", "fano_factor", "log_log_slope"}
    assert name in defined or result[2].isnan().all()


@pytest.mark.parametrize("name", sorted(PER_ROW.keys() - NEEDS_ONE_TICK))
@pytest.mark.parametrize("shape", [(3, 1), (200,), (2, 3, 200)])
def test_a_wrong_shape_or_a_short_series_is_named(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"T = 1|shape"):
        PER_ROW[name](torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: statistics.aggregate(x, 41), "at least T = 41 ticks, got T = 40"),
        (lambda x: statistics.aggregate(x, 0), "horizon must be at least 1, got 0"),
        (lambda x: statistics.autocorrelation(x, 40), "at least T = 41 ticks, got T = 40"),
        (lambda x: statistics.autocorrelation(x, -1), "max_lag must be at least 0"),
        (lambda x: statistics.robust_lag_error(x, 40), "T = 41"),
        (lambda x: statistics.lagged_correlation(x, x, 40), "T = 41"),
        (lambda x: statistics.leverage(x, 0), "max_lag must be at least 1"),
        (lambda x: statistics.variance_ratio(x, 40), "T = 41"),
        (statistics.ewma_volatility, "T = 100"),
        (lambda x: statistics.ewma_volatility(x, 1.0), "decay must lie between 0 and 1"),
        (lambda x: statistics.hill_index(x, 1.5), "fraction must lie between 0 and 1"),
        (lambda x: statistics.hill_index(x, tail="left"), 'tail must be "upper" or "lower"'),
        (lambda x: statistics.hill_index(x[:, :10]), "T = 11"),
        (lambda x: statistics.decay_fit(x, 5, 40), "T = 41"),
        (lambda x: statistics.decay_fit(x, 0, 20), "first must be at least 1"),
        (lambda x: statistics.decay_fit(x, 5, 6), "last must be at least 7"),
        (lambda x: statistics.fano_factor(x, 21), "T = 42"),
        (lambda x: statistics.timescale_asymmetry(x, 20), "T = 60"),
        (lambda x: statistics.half_life(x[:, :3]), "T = 4"),
        (lambda x: statistics.pearson(x, x[:, :20]), "one shape"),
        (lambda x: statistics.log_log_slope(x[0], x[:, :20]), "y \\[..., K\\]"),
        (lambda x: statistics.log_log_slope(x[0] - 1.0, x), "x must be positive"),
    ],
)
def test_what_cannot_be_measured_is_named(call: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.arange(1.0, 41.0).repeat(2, 1))


@settings(max_examples=50, deadline=None)
@given(values=hnp.arrays(np.float64, (2, 12), elements=st.floats(-5, 5).map(lambda x: round(x, 1))))
def test_ranks_of_anything_equal_scipys(values: np.ndarray) -> None:
    same(statistics.ranks(tensor(values)), stats.rankdata(values, axis=1))


@settings(max_examples=20, deadline=None)
@given(seed=seeds, shift=st.floats(-100, 100))
def test_deviations_forget_the_mean(seed: int, shift: float) -> None:
    sample = heavy(seed)
    for name in ("standardise", "skewness", "excess_kurtosis", "autocorrelation", "robust_lag_error", "variance_ratio"):
        torch.testing.assert_close(PER_ROW[name](sample + shift), PER_ROW[name](sample), rtol=1e-7, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_spearman_sees_order_alone(seed: int) -> None:
    x, y = heavy(seed), heavy(seed + 1)
    alike(statistics.spearman(x, y), statistics.spearman(x.exp(), y**3))


def test_any_real_dtype_is_measured_in_float64() -> None:
    counts = tensor(random(24).integers(0, 9, (MARKETS, 200)))
    for name, measure in PER_ROW.items():
        if name != "log_log_slope":
            alike(measure(counts), measure(counts.double()))


# --- bootstrap


def test_blocks_run_on_and_paths_repeat() -> None:
    indices = list(surrogates.block_indices(5, 23, 6, 50, seed=3))
    assert len(indices) == 50
    for path, tick in indices:
        assert path.shape == (5, 1)
        assert tick.shape == (5, 23)
        assert ((path >= 0) & (path < 5)).all()
        steps = tick.diff(dim=-1) % 23
        inside = torch.arange(1, 23) % 6 != 0
        assert (steps[:, inside] == 1).all()
    paths, ticks = (torch.cat(part) for part in zip(*indices, strict=True))
    assert len(paths.unique()) == 5
    assert len(ticks[:, 0].unique()) == 23
    assert (ticks[:, 5] < ticks[:, 0]).any()  # some blocks wrap round


def test_every_path_and_tick_is_drawn_alike_often() -> None:
    paths, ticks = (torch.cat(part) for part in zip(*surrogates.block_indices(8, 20, 5, 500, seed=4), strict=True))
    assert stats.chisquare(np.bincount(paths.flatten().numpy(), minlength=8)).pvalue > 1e-3
    starts = ticks[:, ::5].flatten().numpy()
    assert stats.chisquare(np.bincount(starts, minlength=20)).pvalue > 1e-3


def test_indices_repeat_by_seed() -> None:
    first, again, longer, other = (
        list(surrogates.block_indices(3, 40, 7, count, seed)) for count, seed in ((4, 5), (4, 5), (9, 5), (4, 6))
    )
    for one, two, three, four in zip(first, again, longer[:4], other, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))
        assert not torch.equal(one[1], four[1])


def test_one_path_resamples_blocks_alone_and_a_whole_block_rotates() -> None:
    for path, tick in surrogates.block_indices(1, 30, 4, 10, seed=7):
        assert (path == 0).all()
        assert len(tick.unique()) < 30
    for _, tick in surrogates.block_indices(4, 30, 30, 10, seed=7):
        assert (tick.diff(dim=-1) % 30 == 1).all()


def test_arrays_are_read_at_the_same_places() -> None:
    place = torch.arange(6 * 50).reshape(6, 50)
    seen: list[dict[str, Tensor]] = []

    def remember(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(arrays)
        return {"mean": arrays["x"].double().mean(-1)}

    surrogates.interval(remember, {"x": place, "y": place + 1000}, block=8, resamples=5)
    assert len(seen) == 5
    for arrays in seen:
        assert torch.equal(arrays["x"] + 1000, arrays["y"])
        assert not torch.equal(arrays["x"], place)


def test_interval_holds_the_quantiles_of_the_medians() -> None:
    """Against the same resamples written out; an even number of markets, whose median is the mean of two."""
    x = heavy(25, 4, 60)
    medians = [x[path, tick].mean(-1).quantile(0.5).item() for path, tick in surrogates.block_indices(4, 60, 10, 40, 9)]
    progress: list[tuple[int, int]] = []
    low, high = surrogates.interval(
        lambda arrays: {"mean": arrays["x"].mean(-1)},
        {"x": x},
        block=10,
        resamples=40,
        coverage=0.8,
        seed=9,
        progress=lambda done, total: progress.append((done, total)),
    )["mean"]
    assert (low, high) == pytest.approx(tuple(np.quantile(medians, [0.1, 0.9])))
    assert progress == [(done, 40) for done in range(1, 41)]


def test_markets_without_a_value_are_left_out() -> None:
    def statistic(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        mean = arrays["x"].mean(-1)
        return {"some": mean.where(arrays["x"].amax(-1) < 1e6, torch.nan), "none": mean * torch.nan}

    x = torch.cat([torch.full((10, 20), 2.0), torch.full((10, 20), 1e9)]).double()
    found = surrogates.interval(statistic, {"x": x}, block=5, resamples=20)
    assert found["some"] == (2.0, 2.0)
    assert all(np.isnan(end) for end in found["none"])


def coverage(
    sample: Callable[[int], np.ndarray], statistic: Callable[[Tensor], Tensor], truth: float, block: int, tries: int
) -> float:
    """Share of samples whose 90 % interval holds the truth."""
    inside = 0
    for seed in range(tries):
        low, high = surrogates.interval(
            lambda arrays: {"value": statistic(arrays["x"])},
            {"x": tensor(sample(seed))},
            block=block,
            resamples=50,
            seed=seed,
        )["value"]
        inside += low <= truth <= high
    return inside / tries


def mean_of(x: Tensor) -> Tensor:
    return x.mean(-1)


def test_coverage_for_the_mean_of_one_autoregression() -> None:
    """90 % is claimed; 120 tries have a standard error of 3 %. Blocks of one tick ignore the dependence and fail."""

    def sample(seed: int) -> np.ndarray:
        return processes.autoregression(random(seed), 1, 2000, 0.7)

    blocks, ticks = (coverage(sample, mean_of, 0.0, block, 120) for block in (50, 1))
    print(f"covered: blocks {blocks:.2f}, single ticks {ticks:.2f}")
    assert 0.82 < blocks < 0.96
    assert ticks < 0.65


def test_coverage_over_markets() -> None:
    """Twelve alike markets: whole paths are near 90 %; blocks inside paths count their noise twice and cover more."""

    def sample(seed: int) -> np.ndarray:
        return processes.autoregression(random(seed), 12, 300, 0.7)

    whole, blocks = (coverage(sample, mean_of, 0.0, block, 80) for block in (300, 30))
    print(f"covered: whole paths {whole:.2f}, blocks {blocks:.2f}")
    assert whole > 0.82
    assert whole < blocks


def test_coverage_for_clustered_volatility() -> None:
    """The autocorrelation of absolute returns at lag 1; its own median over many markets serves as the truth."""

    def measure(x: Tensor) -> Tensor:
        return statistics.autocorrelation(x.abs(), 1)[:, 1]

    def sample(seed: int) -> np.ndarray:
        return processes.garch(random(seed), 16, 500)

    truth = measure(tensor(processes.garch(random(99), 2000, 500))).quantile(0.5).item()
    whole = coverage(sample, measure, truth, 500, 50)
    print(f"covered: {whole:.2f}")
    assert whole > 0.78


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({}, {}, "one shape"),
        ({"x": torch.zeros(2, 9), "y": torch.zeros(2, 8)}, {}, "one shape"),
        ({"x": torch.zeros(9)}, {}, "one shape"),
        ({"x": torch.zeros(2, 9)}, {"block": 10}, "1 to T = 9"),
        ({"x": torch.zeros(2, 9)}, {"block": 0}, "1 to T = 9"),
        ({"x": torch.zeros(2, 9)}, {"resamples": 0}, "at least one"),
        ({"x": torch.zeros(2, 9)}, {"coverage": 1.0}, "coverage must lie"),
    ],
)
def test_a_bootstrap_that_cannot_be_is_refused(
    arrays: dict[str, Tensor], options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        surrogates.interval(lambda a: {"x": mean_of(a["x"])}, arrays, **{"block": 3, "resamples": 4, **options})


# --- null models


def test_geometric_brownian_motion_has_no_facts() -> None:
    log_price = surrogates.geometric_brownian(0.02, paths=64, ticks=4097, seed=11)
    assert log_price.shape == (64, 4097)
    assert log_price.dtype == torch.float64
    assert (log_price[:, 0] == 0.0).all()
    steps = log_price.diff(dim=-1)
    close_to(steps.mean(-1), 0.0)
    close_to(steps.square().mean(-1), 0.02**2)
    close_to(statistics.skewness(steps), 0.0)
    close_to(statistics.excess_kurtosis(steps), -6.0 / 4096)
    close_to(statistics.autocorrelation(steps, 5)[:, 1:], -1.0 / 4096)
    close_to(statistics.autocorrelation(steps.abs(), 5)[:, 1:], -1.0 / 4096)
    assert stats.kstest(steps.flatten().numpy() / 0.02, "norm").pvalue > 1e-3
    between = torch.corrcoef(steps)[~torch.eye(64, dtype=torch.bool)]
    assert between.abs().max() < 5.0 / 4096**0.5


def test_geometric_brownian_motion_repeats_row_by_row() -> None:
    volatility = torch.tensor([0.01, 0.02, 0.03], dtype=torch.float64)
    batch = surrogates.geometric_brownian(volatility, paths=3, ticks=50, seed=5)
    assert torch.equal(batch, surrogates.geometric_brownian(volatility, paths=3, ticks=50, seed=5))
    for row in range(3):
        alone = surrogates.geometric_brownian(volatility[row].item(), paths=1, ticks=80, seed=5 + row)
        assert torch.equal(batch[row], alone[0, :50])
    assert not torch.equal(batch[0], surrogates.geometric_brownian(volatility, paths=3, ticks=50, seed=6)[0])


def test_shuffled_returns_keep_their_values_and_lose_their_memory() -> None:
    sample = tensor(processes.garch(random(26), 32, 4096))
    mixed = surrogates.shuffled(sample, seed=3)
    assert torch.equal(mixed.sort(-1).values, sample.sort(-1).values)
    before, after = (statistics.autocorrelation(x.abs(), 20)[:, 1:] for x in (sample, mixed))
    assert before.mean() > 0.1
    close_to(after, -1.0 / 4096)
    assert (
        abs(stats.spearmanr(np.arange(4096), surrogates.shuffled(torch.arange(4096.0)[None], seed=4)[0]).statistic)
        < 0.06
    )


def test_shuffling_repeats_row_by_row() -> None:
    sample = heavy(27)
    batch = surrogates.shuffled(sample, seed=8)
    assert torch.equal(batch, surrogates.shuffled(sample, seed=8))
    for row in range(MARKETS):
        assert torch.equal(batch[row], surrogates.shuffled(sample[row : row + 1], seed=8 + row)[0])
    order = surrogates.shuffled(torch.arange(200.0).repeat(2, 1), seed=8)
    assert not torch.equal(order[0], order[1])


@pytest.mark.parametrize(
    ("volatility", "options", "message"),
    [
        (-0.1, {}, "finite and not negative"),
        (float("nan"), {}, "finite and not negative"),
        (torch.ones(3), {}, "a number or"),
        (0.1, {"ticks": 1}, "two ticks"),
        (0.1, {"paths": 0}, "one path"),
    ],
)
def test_a_walk_that_cannot_be_is_refused(volatility: Tensor | float, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        surrogates.geometric_brownian(volatility, **{"paths": 2, "ticks": 10, "seed": 0, **options})
