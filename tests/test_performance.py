"""Measures of equity curves: against empyrical, against cases worked by hand, and by their symmetries."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import empyrical
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from torchgym.lab.performance import metrics
from torchgym.lab.performance.metrics import METRICS, ROUNDING, Curves, measure

pytestmark = pytest.mark.kept

INF, NAN = math.inf, math.nan


def curve(*equity: float) -> Tensor:
    return torch.tensor(equity, dtype=torch.float64)


def random_curves(*shape: int, seed: int = 0) -> Tensor:
    """Equity [..., T + 1] of fat-tailed returns of a few per cent, some curves rising and some falling."""
    rng = np.random.default_rng(seed)
    drift = rng.normal(0.0, 0.002, (*shape[:-1], 1))
    growth = np.cumsum(0.02 * rng.standard_t(4, shape).clip(-20, 20) + drift, axis=-1)
    return 1e6 * torch.from_numpy(np.exp(np.concatenate([np.zeros((*shape[:-1], 1)), growth], axis=-1)))


def same(actual: Tensor, expected: object, rtol: float = 1e-12, atol: float = 1e-14) -> None:
    assert actual.dtype == torch.float64
    np.testing.assert_allclose(actual.numpy(), expected, rtol=rtol, atol=atol)


# --- against empyrical, which takes returns and gives losses as negative numbers

OURS_AND_THEIRS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[np.ndarray], float]]] = {
    "annual_return": (
        lambda e: metrics.annual_return(e, periods_per_year=252.0),
        lambda r: empyrical.annual_return(r, annualization=252.0),
    ),
    "annual_volatility": (
        lambda e: metrics.annual_volatility(e, periods_per_year=12.0),
        lambda r: empyrical.annual_volatility(r, annualization=12.0),
    ),
    "sharpe": (
        lambda e: metrics.sharpe(e, periods_per_year=252.0),
        lambda r: empyrical.sharpe_ratio(r, annualization=252.0),
    ),
    "sharpe over the risk-free rate": (
        lambda e: metrics.sharpe(e, periods_per_year=52.0, risk_free=0.05),
        lambda r: empyrical.sharpe_ratio(r, risk_free=0.05 / 52.0, annualization=52.0),
    ),
    "sortino": (
        lambda e: metrics.sortino(e, periods_per_year=252.0),
        lambda r: empyrical.sortino_ratio(r, annualization=252.0),
    ),
    "sortino over a target": (
        lambda e: metrics.sortino(e, periods_per_year=52.0, target=0.1),
        lambda r: empyrical.sortino_ratio(r, required_return=0.1 / 52.0, annualization=52.0),
    ),
    "calmar": (
        lambda e: metrics.calmar(e, periods_per_year=252.0),
        lambda r: empyrical.calmar_ratio(r, annualization=252.0) if (r < 0.0).any() else INF,  # theirs is NaN
    ),
    "max_drawdown": (metrics.max_drawdown, lambda r: -empyrical.max_drawdown(r)),
    "value_at_risk": (metrics.value_at_risk, lambda r: -empyrical.value_at_risk(r, cutoff=0.05)),
    "value_at_risk 0.9": (
        lambda e: metrics.value_at_risk(e, level=0.9),
        lambda r: -empyrical.value_at_risk(r, cutoff=0.1),
    ),
    "conditional_value_at_risk": (
        metrics.conditional_value_at_risk,
        lambda r: -empyrical.conditional_value_at_risk(r, cutoff=0.05),
    ),
    "conditional_value_at_risk 0.9": (
        lambda e: metrics.conditional_value_at_risk(e, level=0.9),
        lambda r: -empyrical.conditional_value_at_risk(r, cutoff=0.1),
    ),
}


@pytest.mark.parametrize("periods", [2, 20, 101, 512])
@pytest.mark.parametrize("name", OURS_AND_THEIRS)
def test_equals_empyrical(name: str, periods: int) -> None:
    """101 periods put the tail of one in ten or twenty exactly on a return, where 1 − 0.9 in floats would miss it."""
    ours, theirs = OURS_AND_THEIRS[name]
    equity = random_curves(2, 3, periods, seed=periods)
    returned = (equity[..., 1:] / equity[..., :-1] - 1.0).numpy()
    same(ours(equity), np.apply_along_axis(theirs, -1, returned), rtol=1e-9)


def test_the_drawdown_path_equals_empyricals() -> None:
    equity = random_curves(100)
    expected = -empyrical.stats.drawdown_series(metrics.returns(equity).numpy())
    same(metrics.drawdown(equity)[1:], expected[-100:], atol=1e-12)  # older versions put the beginning in front


# --- by hand


def test_returns_and_drawdown_by_hand() -> None:
    equity = curve(100, 110, 99, 99, 121)
    same(metrics.returns(equity), [0.1, -0.1, 0.0, 22 / 99])
    same(metrics.drawdown(equity), [0.0, 0.0, 0.1, 0.1, 0.0])
    same(metrics.max_drawdown(equity), 0.1)


def test_ratios_by_hand() -> None:
    """Returns 10 %, −5 %, 10 %, 5 % in a quarter each: mean 5 %, sample variance (25 + 100 + 25 + 0) / 3 %²."""
    equity = curve(100.0, 110.0, 104.5, 114.95, 120.6975)
    year = {"periods_per_year": 4.0}
    same(metrics.annual_return(equity, **year), 0.206975)
    same(metrics.annual_return(equity, periods_per_year=8.0), 1.206975**2 - 1.0)
    same(metrics.annual_volatility(equity, **year), 2.0 * math.sqrt(0.0050))
    same(metrics.sharpe(equity, **year), 0.05 / math.sqrt(0.0050) * 2.0)
    same(metrics.sharpe(equity, **year, risk_free=0.08), 0.03 / math.sqrt(0.0050) * 2.0)
    same(metrics.sortino(equity, **year), 0.05 / 0.025 * 2.0)
    same(metrics.sortino(equity, **year, target=0.4), (0.05 - 0.1) / math.sqrt((0.15**2 + 0.05**2) / 4) * 2.0)
    same(metrics.calmar(equity, **year), 0.206975 / 0.05)


def test_tail_losses_by_hand() -> None:
    """Eleven returns −5 % … 5 %: a level of 0.75 lies halfway between the third and the fourth worst."""
    steps = torch.arange(-5, 6, dtype=torch.float64).flip(0) / 100.0
    equity = torch.cat([torch.ones(1, dtype=torch.float64), (1.0 + steps).cumprod(0)])
    same(metrics.value_at_risk(equity, level=0.75), 0.025)
    same(metrics.conditional_value_at_risk(equity, level=0.75), 0.04)
    same(metrics.value_at_risk(equity, level=0.9), 0.04)
    same(metrics.conditional_value_at_risk(equity, level=0.9), 0.045)
    same(metrics.value_at_risk(equity, level=0.25), -0.025)  # a gain


def test_trades_by_hand() -> None:
    equity = curve(100, 130, 120, 120, 150)
    same(metrics.hit_rate(equity), 2 / 3)
    same(metrics.profit_factor(equity), 60 / 10)
    same(metrics.turnover(curve(62, 0, 62, 124), equity, periods_per_year=8.0), 62.0 * 8.0 / 124.0)
    same(metrics.exposure(curve(0, 65, -60, 240, 75), equity), (0 + 0.5 + 0.5 + 2 + 0.5) / 5)


# --- where a ratio is not defined


def test_a_constant_curve_has_no_ratios() -> None:
    flat = measure(of(curve(100, 100, 100, 100)))
    expected = {
        **dict.fromkeys(("annual_return", "annual_volatility", "max_drawdown", "turnover", "exposure"), 0.0),
        **dict.fromkeys(("value_at_risk", "conditional_value_at_risk"), 0.0),
        **dict.fromkeys(("sharpe", "sortino", "calmar", "hit_rate", "profit_factor"), NAN),
    }
    assert flat.keys() == expected.keys()
    for name, value in expected.items():
        same(flat[name], [value])


@pytest.mark.parametrize("name", ["sharpe", "sortino", "calmar", "hit_rate", "profit_factor"])
def test_rounding_is_no_risk_and_no_gain(name: str) -> None:
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 300)))
    equity = 1e6 * (1.0 + 2e-16 * noise)
    assert (equity.diff(dim=-1) != 0.0).any()
    for periods_per_year in (252.0, 1e8):  # the second makes much of little
        same(METRICS[name].compute(of(equity, periods_per_year)), [NAN] * 5)


def test_a_real_risk_counts_however_small() -> None:
    """One cent, ten times the threshold, of an account of 10⁹."""
    equity = curve(1e9, 1e9 + 0.01, 1e9 - 0.01, 1e9 + 0.01)
    same(metrics.hit_rate(equity), 2 / 3)
    same(metrics.profit_factor(equity), 1.5, rtol=1e-4)
    same(metrics.calmar(equity, periods_per_year=3.0), 0.5, rtol=1e-4)
    same(metrics.sharpe(equity, periods_per_year=1.0), 1 / 3 / math.sqrt((4 + 49 + 25) / 18), rtol=1e-4)


@pytest.mark.parametrize(("growth", "ratio"), [(1.01, INF), (0.99, -INF)])
def test_a_steady_gain_has_no_volatility(growth: float, ratio: float) -> None:
    """Rounding gives every period a slightly different return."""
    equity = 1e6 * growth ** torch.arange(200, dtype=torch.float64)
    assert 0.0 < metrics.returns(equity).std() < ROUNDING
    same(metrics.sharpe(equity, periods_per_year=252.0), ratio)
    same(metrics.sharpe(equity, periods_per_year=1.0, risk_free=growth - 1.0), NAN)


def test_a_curve_without_a_loss_has_infinite_ratios_of_loss() -> None:
    """And one that never gains has a profit factor and a hit rate of 0."""
    rising, falling = curve(100, 101, 101, 110), curve(100, 99, 99, 90)
    for name in ("sortino", "calmar", "profit_factor"):
        same(METRICS[name].compute(of(rising)), [INF])
    same(metrics.hit_rate(rising), 1.0)
    same(metrics.profit_factor(falling), 0.0)
    same(metrics.hit_rate(falling), 0.0)


def test_a_single_period_has_no_volatility_to_speak_of() -> None:
    equity = curve(100, 110)
    for name in ("annual_volatility", "sharpe"):
        same(METRICS[name].compute(of(equity)), [NAN])
    same(metrics.annual_return(equity, periods_per_year=2.0), 0.21)
    same(metrics.value_at_risk(equity), -0.1)


@pytest.mark.parametrize("end", [0.0, -30.0])
def test_a_ruined_account_is_worth_nothing_ever_after(end: float) -> None:
    equity = curve(100, 120, end, 50, 60)
    same(metrics.returns(equity), [0.2, -1.0, 0.0, 0.0])
    same(metrics.drawdown(equity), [0.0, 0.0, 1.0, 1.0, 1.0])
    same(metrics.annual_return(equity, periods_per_year=252.0), -1.0)
    same(metrics.calmar(equity, periods_per_year=252.0), -1.0)
    same(metrics.sharpe(equity, periods_per_year=1.0), -0.2 / math.sqrt((0.4**2 + 0.8**2 + 2 * 0.2**2) / 3))
    same(metrics.value_at_risk(equity, level=0.999), 1.0, rtol=1e-2)
    same(metrics.hit_rate(equity), 0.5)
    same(metrics.profit_factor(equity), 20 / 120)
    same(metrics.turnover(curve(10, 12, 0, 0), equity, periods_per_year=4.0), 22.0 / 44.0)
    same(metrics.exposure(curve(50, 60, 70, 80, 90), equity), 0.5)


@pytest.mark.parametrize("fault", [(0, 0.0), (0, -5.0), (0, NAN), (2, NAN), (2, INF), (3, -INF)])
@pytest.mark.parametrize("name", METRICS)
def test_a_curve_that_is_none_gives_nan_and_leaves_the_others_alone(name: str, fault: tuple[int, float]) -> None:
    equity = random_curves(3, 6)
    sound = METRICS[name].compute(of(equity))
    place, value = fault
    equity[1, place] = value
    found = METRICS[name].compute(of(equity))
    assert found[1].isnan()
    assert torch.equal(found[[0, 2]], sound[[0, 2]])


# --- the table


def of(equity: Tensor, periods_per_year: float = 252.0) -> Curves:
    """Curves of one or more episodes whose accounts never traded."""
    equity = equity.reshape(-1, equity.shape[-1])
    return Curves(equity, torch.zeros_like(equity[:, 1:]), torch.zeros_like(equity), periods_per_year)


def test_the_table_speaks_and_measures() -> None:
    equity = random_curves(4, 50)
    curves = Curves(equity, equity[:, 1:] * 0.1, -0.5 * equity, periods_per_year=252.0)
    found = measure(curves)
    assert list(found) == list(METRICS)
    for name, metric in METRICS.items():
        assert found[name].shape == (4,)
        assert found[name].isfinite().all(), name
        assert metric.heading
        assert metric.meaning.endswith(".")
        assert metric.better in ("higher", "lower", "")
        assert metric.least is None or (found[name] >= metric.least).all()
    same(found["exposure"], [0.5] * 4)
    for name in ("annual_return", "annual_volatility", "sharpe", "sortino", "calmar"):
        same(found[name], getattr(metrics, name)(equity, periods_per_year=252.0))
    same(found["turnover"], metrics.turnover(curves.traded, equity, periods_per_year=252.0))
    assert len({metric.heading for metric in METRICS.values()}) == len(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_a_row_of_a_batch_is_measured_as_if_alone(name: str) -> None:
    equity = random_curves(5, 100)
    curves = Curves(equity, 0.1 * equity[:, 1:], 0.5 * equity, 252.0)
    together = METRICS[name].compute(curves)
    for row in range(5):
        part = {field: getattr(curves, field)[row : row + 1] for field in ("equity", "traded", "position_value")}
        same(METRICS[name].compute(dataclasses.replace(curves, **part)), together[row : row + 1])


# --- bad input


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: metrics.returns(curve(100)), r"\(1,\)"),
        (lambda: metrics.returns(torch.tensor(1.0, dtype=torch.float64)), r"\(\)"),
        (lambda: metrics.drawdown(torch.ones(3)), "equity.*float32"),
        (lambda: metrics.max_drawdown(np.ones(3)), "ndarray"),
        (lambda: metrics.annual_return(curve(1, 2), periods_per_year=0), "periods_per_year.*got 0"),
        (lambda: metrics.annual_volatility(curve(1, 2), periods_per_year=-1.0), "got -1.0"),
        (lambda: metrics.sharpe(curve(1, 2), periods_per_year=NAN), "got nan"),
        (lambda: metrics.sharpe(curve(1, 2), periods_per_year=1.0, risk_free=INF), "risk_free.*inf"),
        (lambda: metrics.sortino(curve(1, 2), periods_per_year=INF), "got inf"),
        (lambda: metrics.sortino(curve(1, 2), periods_per_year=1.0, target=NAN), "target.*nan"),
        (lambda: metrics.calmar(curve(1, 2), periods_per_year=-0.0), "got -0.0"),
        (lambda: metrics.value_at_risk(curve(1, 2), level=1.0), "level.*1.0"),
        (lambda: metrics.conditional_value_at_risk(curve(1, 2), level=0.0), "level.*0.0"),
        (lambda: metrics.turnover(curve(1, 2), curve(1, 2), periods_per_year=1.0), r"traded.*\(1,\).*\(2,\)"),
        (lambda: metrics.turnover(curve(-3), curve(1, 2), periods_per_year=1.0), "traded.*-3.0"),
        (lambda: metrics.turnover(curve(3), curve(1, 2), periods_per_year=0.0), "got 0.0"),
        (lambda: metrics.exposure(curve(1), curve(1, 2)), r"position_value.*\(2,\).*\(1,\)"),
        (lambda: metrics.exposure(torch.ones(2), curve(1, 2)), "position_value.*float32"),
        (lambda: Curves(curve(1, 2), curve(0), curve(0, 0), 252.0), r"episodes.*\(2,\)"),
        (lambda: dataclasses.replace(of(curve(1, 2)), traded=curve(0, 0)), r"traded.*\(1, 1\).*\(2,\)"),
        (lambda: dataclasses.replace(of(curve(1, 2)), position_value=curve(0, 0)), r"position_value.*\(1, 2\)"),
        (lambda: of(curve(1, 2), periods_per_year=0.0), "periods_per_year.*0.0"),
    ],
)
def test_bad_input_is_refused_by_name(call: Callable[[], object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()


# --- whatever the curve

RETURNS = st.lists(st.floats(-0.9, 3.0), min_size=2, max_size=30)
PROPERTIES = settings(max_examples=100, deadline=None, derandomize=True)


def grown(steps: list[float]) -> Tensor:
    return 100.0 * torch.tensor([0.0, *steps], dtype=torch.float64).add(1.0).cumprod(0)


@PROPERTIES
@given(RETURNS, st.integers(-20, 20))
def test_the_currency_does_not_matter(steps: list[float], power: int) -> None:
    """A power of two scales without rounding, so even the last bits stay."""
    equity = grown(steps)
    amount, position, scale = 0.2 * equity[1:], -0.7 * equity, 2.0**power
    curves = Curves(equity[None], amount[None], position[None], 252.0)
    scaled = Curves(scale * equity[None], scale * amount[None], scale * position[None], 252.0)
    for name, metric in METRICS.items():
        assert torch.equal(metric.compute(curves).nan_to_num(7.0), metric.compute(scaled).nan_to_num(7.0)), name


@PROPERTIES
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_drawdown_is_a_fraction_through_ruin_too(levels: list[float]) -> None:
    path = metrics.drawdown(curve(1.0, *levels))
    assert ((path >= 0.0) & (path <= 1.0)).all()
    assert path[0] == 0.0
    assert (metrics.returns(curve(1.0, *levels)) >= -1.0).all()


@PROPERTIES
@given(RETURNS, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_tail_losses_are_ordered(steps: list[float], level: float, other: float) -> None:
    """CVaR ≥ VaR at the same level, and both grow with the level."""
    equity, slack = grown(steps), 1e-12
    assert metrics.conditional_value_at_risk(equity, level=level) >= metrics.value_at_risk(equity, level=level) - slack
    low, high = min(level, other), max(level, other)
    for loss in (metrics.value_at_risk, metrics.conditional_value_at_risk):
        assert loss(equity, level=high) >= loss(equity, level=low) - slack


@PROPERTIES
@given(RETURNS)
def test_the_profit_factor_tells_gain_from_loss(steps: list[float]) -> None:
    equity = grown([*steps, 0.1, -0.1])
    assert (metrics.profit_factor(equity) > 1.0) == (equity[-1] > equity[0] * (1.0 + 1e-9)) or math.isclose(
        equity[-1], equity[0], rel_tol=1e-9
    )
