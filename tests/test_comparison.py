"""Comparisons of policies: against scipy and statsmodels, against known coverage, and by what they promise of themselves."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from torch import Tensor

from torchgym.lab.performance import comparison
from torchgym.lab.performance.comparison import Comparison, holm, mean_interval, paired

PROPERTIES = settings(max_examples=60, deadline=None, derandomize=True)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def luck(episodes: int, seed: int = 0) -> dict[str, Tensor]:
    """Three policies in the same markets: far more luck in common than skill apart."""
    common = 100.0 * normal(episodes, seed=seed)
    own = normal(3, episodes, seed=seed + 1)
    return {"value": common + own[0] + 0.5, "trend": common + own[1], "hold": common + own[2] + 0.4}


# --- against kept libraries


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_the_interval_meets_scipys_bootstrap(method: str) -> None:
    """With 1,000 episodes all bootstraps agree to the first order; ends within 5 % of the width, some 3 errors of B = 4,000."""
    profits = luck(1_000)
    found = paired(profits, "value", resamples=4_000)[0]
    data = [profits[name].numpy() for name in ("value", "trend")]

    def lead(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return np.mean(x - y, axis=axis)

    theirs = stats.bootstrap(data, lead, paired=True, n_resamples=4_000, method=method, batch=500, rng=1)
    low, high = theirs.confidence_interval
    assert found.lead == pytest.approx(lead(*data, axis=0))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_the_interval_is_the_studentised_one() -> None:
    """Twelve skewed values, where the kind of bootstrap matters: |t| drawn anew by numpy, tails within Monte Carlo error."""
    rng = np.random.default_rng(3)
    values = rng.exponential(size=12)
    resampled = values[rng.integers(12, size=(40_000, 12))]
    size = np.abs(resampled.mean(-1) - values.mean()) / (resampled.std(-1, ddof=1) / math.sqrt(12))
    mean, low, high = mean_interval(torch.from_numpy(values), resamples=40_000, coverage=0.9)
    error = values.std(ddof=1) / math.sqrt(12)
    share = (size <= (high - mean) / error).mean()
    assert share == pytest.approx(0.9, abs=4.0 * math.sqrt(2 * 0.09 / 40_000))
    assert high - mean == pytest.approx(mean - low)
    percentile = np.quantile(resampled.mean(-1), [0.05, 0.95])
    assert high - low > 1.2 * (percentile[1] - percentile[0])


def test_the_p_value_is_that_of_students_test_for_normal_differences() -> None:
    """And grows as the lead shrinks; 300 episodes leave the bootstrap within 4 errors of t."""
    for shift in (0.0, 0.05, 0.1, 0.2):
        values = normal(300, seed=7) + shift
        found = paired({"a": values, "b": torch.zeros(300)}, "a", resamples=20_000)[0].p_value
        expected = stats.ttest_1samp(values.numpy(), 0.0).pvalue
        assert found == pytest.approx(expected, abs=4.0 * math.sqrt(expected * (1 - expected) / 20_000) + 0.003)


@pytest.mark.parametrize("count", [1, 2, 12, 60])
@pytest.mark.parametrize("decimals", [16, 1])
def test_holm_equals_statsmodels(count: int, decimals: int) -> None:
    """Small and large values, and with one decimal ties, zeros and ones."""
    p = (np.random.default_rng(count).uniform(size=count) ** 3).round(decimals)
    np.testing.assert_allclose(holm(torch.from_numpy(p)).numpy(), multipletests(p, method="holm")[1], rtol=1e-14)


def test_holm_by_hand() -> None:
    """0.01 × 4, 0.02 × 3 = 0.06, 0.03 × 2 = 0.06, and 0.04 × 1 raised to 0.06."""
    assert holm(torch.tensor([0.03, 0.01, 0.04, 0.02], dtype=torch.float64)).tolist() == pytest.approx(
        [0.06, 0.04, 0.06, 0.06]
    )
    assert holm(torch.tensor([0.9, 0.6])).tolist() == [1.0, 1.0]
    assert holm(torch.empty(0)).shape == (0,)


# --- what an interval promises

Population = Callable[[np.random.Generator, int], np.ndarray]


def covered(draw: Population, episodes: int, sets: int, resamples: int = 399) -> float:
    """Share of samples from a population of mean 0 whose 95 % interval holds 0."""
    rng = np.random.default_rng(episodes)
    inside = 0
    for seed in range(sets):
        _, low, high = mean_interval(torch.from_numpy(draw(rng, episodes)), resamples=resamples, seed=seed)
        inside += low <= 0.0 <= high
    return inside / sets


def test_95_percent_intervals_cover_95_percent_of_small_samples() -> None:
    """500 samples of 12: one standard error is 1 %. The percentile interval would cover 90 %."""
    assert covered(lambda rng, n: rng.normal(size=n), 12, 500) == pytest.approx(0.958, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "episodes", "coverage"),
    [
        (lambda rng, n: rng.normal(size=n), 16, 0.959),
        (lambda rng, n: rng.normal(size=n), 64, 0.953),
        (lambda rng, n: rng.standard_t(3, size=n), 16, 0.971),
        (lambda rng, n: rng.standard_t(3, size=n), 64, 0.961),
        (lambda rng, n: np.exp(rng.normal(size=n)) - math.exp(0.5), 16, 0.896),
        (lambda rng, n: np.exp(rng.normal(size=n)) - math.exp(0.5), 64, 0.923),
    ],
)
def test_coverage_of_normal_heavy_tailed_and_skewed_differences(
    draw: Population, episodes: int, coverage: float
) -> None:
    """2,000 samples each, to four standard errors of 0.5 %; the expected values come from the same bootstrap in numpy."""
    assert covered(draw, episodes, 2_000) == pytest.approx(coverage, abs=0.02 if coverage > 0.94 else 0.027)


def test_the_test_of_no_lead_is_as_rare_as_it_says() -> None:
    """Policies without a lead: p ≤ 5 % in 5 % of 500 comparisons, to three errors of 1 %."""
    rejected = 0
    for seed in range(500):
        x = normal(2, 20, seed=seed)
        rejected += paired({"a": x[0], "b": x[1]}, "a", resamples=399, seed=seed)[0].p_value <= 0.05
    assert rejected / 500 == pytest.approx(0.05, abs=0.03)


@PROPERTIES
@given(st.integers(0, 10_000), st.integers(4, 40), st.floats(0.0, 1.5), st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_p_is_small_exactly_where_the_interval_leaves_0_out(
    seed: int, episodes: int, shift: float, coverage: float
) -> None:
    profits = {"a": normal(episodes, seed=seed) + shift, "b": torch.zeros(episodes)}
    found = paired(profits, "a", resamples=200, coverage=coverage)[0]
    assert (found.p_value <= 1.0 - coverage + 1e-12) == (found.low > 0.0 or found.high < 0.0)
    assert found.low <= found.lead <= found.high


# --- what a comparison promises


def test_pairing_finds_a_lead_that_luck_hides() -> None:
    profits = luck(200)
    against_trend, against_hold = paired(profits, "value", resamples=2_000)
    assert (against_trend.baseline, against_hold.baseline) == ("trend", "hold")
    assert against_trend.agent == "value"
    assert against_trend.episodes == 200
    assert against_trend.lead == pytest.approx(float((profits["value"] - profits["trend"]).mean()))
    assert against_trend.p_adjusted < 0.01
    assert against_trend.p_adjusted == 2 * against_trend.p_value
    assert against_hold.p_adjusted == against_hold.p_value > 0.01
    shuffled = {"value": profits["value"], "trend": profits["trend"].roll(1)}
    assert paired(shuffled, "value", resamples=2_000)[0].p_value > 0.2


def test_swapping_the_two_turns_the_lead_round() -> None:
    profits = luck(30)
    one = next(c for c in paired(profits, "value", resamples=500) if c.baseline == "trend")
    other = next(c for c in paired(profits, "trend", resamples=500) if c.baseline == "value")
    assert (one.lead, one.low, one.high) == pytest.approx((-other.lead, -other.high, -other.low), rel=1e-12)
    assert one.p_value == other.p_value


def test_a_comparison_depends_on_its_own_two_policies_and_the_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    profits = luck(40)
    together = paired(profits, "value", resamples=300, seed=5)
    assert together == paired(profits, "value", resamples=300, seed=5)
    assert together != paired(profits, "value", resamples=300, seed=6)
    alone = paired({name: profits[name] for name in ("value", "hold")}, "value", resamples=300, seed=5)[0]
    assert alone.p_adjusted == alone.p_value
    assert (alone.low, alone.high, alone.p_value) == (together[1].low, together[1].high, together[1].p_value)
    monkeypatch.setattr(comparison, "_CHUNK", 90)  # two resamples at a time
    assert together == paired(profits, "value", resamples=300, seed=5)


def test_every_episode_is_drawn_alike() -> None:
    """And every resample on its own: counts of 37 episodes over 2,000 resamples, by chi-square."""
    places = torch.cat(list(comparison._places(37, 2_000, 3)))
    assert places.shape == (2_000, 37)
    assert 0 <= int(places.min()) <= int(places.max()) < 37
    assert stats.chisquare(places.flatten().bincount(minlength=37).numpy()).pvalue > 0.001
    assert len(places.unique(dim=0)) == 2_000
    fewer = torch.cat(list(comparison._places(37, 50, 3)))
    assert torch.equal(fewer, places[:50])


def test_mean_interval_is_the_comparison_with_nothing() -> None:
    values = normal(25) + 0.3
    mean, low, high = mean_interval(values, resamples=300)
    found = paired({"a": values, "nothing": torch.zeros(25)}, "a", resamples=300)[0]
    assert (mean, low, high) == (found.lead, found.low, found.high)
    wider = mean_interval(values, resamples=300, coverage=0.99)
    assert wider[1] < low < mean < high < wider[2]
    shifted = mean_interval(10.0 * values - 2.0, resamples=300)
    assert shifted == pytest.approx((10 * mean - 2, 10 * low - 2, 10 * high - 2))
    whole = torch.tensor([1, 2, 4, 8, 16])
    assert mean_interval(whole, resamples=300) == mean_interval(whole.to(torch.float64), resamples=300)


# --- where there is no spread


def test_identical_policies_have_no_lead() -> None:
    values = 1e6 * normal(20)
    for twin in (values.clone(), values * (1.0 + 1e-15)):
        found = paired({"a": values, "b": twin, "c": values + 3.1}, "a", resamples=99)
        same, constant = found
        assert same.lead == pytest.approx(0.0, abs=1e-8)
        assert (same.low, same.high) == (same.lead, same.lead)
        assert same.p_value == same.p_adjusted == 1.0
        assert constant.lead == pytest.approx(-3.1)
        assert (constant.low, constant.high) == (constant.lead, constant.lead)
        assert constant.p_value == 0.01
    assert mean_interval(torch.zeros(5), resamples=99) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, 2.0, 4.0], [0.0] * 63 + [5.0]])
def test_too_few_differences_set_no_bound(values: list[float]) -> None:
    """More than one resample in twenty holds one value only, and has no spread to measure its mean in."""
    profit = torch.tensor(values, dtype=torch.float64)
    mean, low, high = mean_interval(profit)
    assert (mean, low, high) == (pytest.approx(sum(values) / len(values)), -math.inf, math.inf)
    found = paired({"a": profit, "b": torch.zeros(len(values))}, "a")[0]
    assert 0.05 < found.p_value <= 1.0


def test_rounding_is_no_spread() -> None:
    """Policies that differ in one episode of 64, and in the last digits of the others."""
    profit = 1e6 * normal(64)
    twin = profit * (1.0 + 1e-15)
    twin[7] -= 5.0
    found = paired({"a": profit, "b": twin}, "a", resamples=999)[0]
    assert found.lead == pytest.approx(5.0 / 64.0)
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_one_policy_has_nothing_to_be_compared_with() -> None:
    assert paired({"a": normal(5)}, "a") == []


# --- bad input

GOOD = {"a": torch.arange(5.0), "b": torch.ones(5)}


def with_b(values: Tensor) -> list[Comparison]:
    return paired({**GOOD, "b": values}, "a", resamples=99)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: paired(GOOD, "c"), "'c'.*a, b"),
        (lambda: with_b(torch.ones(4)), "'a': 5, 'b': 4"),
        (lambda: with_b(torch.tensor([1.0, 2.0, math.nan, 4.0, 5.0])), "'b'.*finite.*1 .*of 5"),
        (lambda: with_b(torch.tensor([1.0, 2.0, math.inf, 4.0, -math.inf])), "'b'.*finite.*2 .*of 5"),
        (lambda: with_b(torch.ones(5, 1)), r"'b'.*\(5, 1\)"),
        (lambda: paired({"a": torch.ones(1), "b": torch.ones(1)}, "a"), r"at least two episodes.*\(1,\)"),
        (lambda: paired(GOOD, "a", coverage=1.0), "coverage.*1.0"),
        (lambda: paired({"a": torch.ones(5)}, "a", coverage=0.0), "coverage.*0.0"),
        (lambda: paired(GOOD, "a", resamples=18), "at least 19 resamples, got 18"),
        (lambda: paired(GOOD, "a", resamples=0, coverage=0.3), "at least 1 resamples, got 0"),
        (lambda: paired(GOOD, "a", seed=-1), "seed.*-1"),
        (lambda: paired(GOOD, "a", seed=1 << 63), "seed.*2\\^63"),
        (lambda: mean_interval(torch.tensor([1.0, math.nan])), "values.*1 NaN"),
        (lambda: mean_interval(torch.ones(())), "values"),
        (lambda: mean_interval(torch.ones(3), coverage=math.nan), "coverage.*nan"),
        (lambda: holm(torch.ones(2, 2)), r"\(2, 2\)"),
        (lambda: holm(torch.tensor([0.5, 1.5])), "1.5"),
        (lambda: holm(torch.tensor([0.5, math.nan])), "nan"),
    ],
)
def test_bad_input_is_refused_by_name(call: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()


def test_the_least_number_of_resamples_is_enough() -> None:
    assert with_b(torch.ones(5))[0].p_value <= 1.0
    assert paired(GOOD, "a", resamples=19)[0].low < paired(GOOD, "a", resamples=19)[0].high
    assert comparison._rank(0.55, 99) == 55  # though 0.55 × 100 is a little above it in floats
