"""Latent value: news by hand, drifts that add up, and the statistics that the docstring's equations promise.

Statistical tolerances are five standard errors of the sample at hand, which is thousands of independent markets.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch
from markets import differences
from torch import Tensor

from torchgym import MarketConfig
from torchgym.config import Fundamentals, NewsKind, structure
from torchgym.numerics.random import make_key
from torchgym.numerics.trees import rows
from torchgym.sim import fundamental
from torchgym.sim.noise import Noise, draw, draw_start, make_plan
from torchgym.sim.params import make_params
from torchgym.sim.state import EVENTS, Value

CPU = torch.device("cpu")
SILENT = NewsKind(probability=0.0, scale=0.01, duration=10, immediate=0.5)
QUIET = {"earnings": SILENT, "guidance": SILENT, "sector": SILENT, "macro": SILENT}


def settings(symbols: int = 1, **changes: Any) -> MarketConfig:
    """No news unless asked for."""
    return MarketConfig(num_symbols=symbols, fundamentals=Fundamentals(**{**QUIET, **changes}))


class World:
    """Many markets of which only the value moves, with the generator's own noise."""

    def __init__(self, config: MarketConfig, markets: int) -> None:
        # The traders' numbers are not needed here.
        self.structure = dataclasses.replace(structure(config), families={"value": slice(0, 1), "maker": slice(1, 2)})
        self.plan = make_plan(self.structure, CPU)
        self.params = make_params(config, markets, CPU)
        seeds = torch.arange(markets)
        self.key = make_key(seeds, torch.zeros_like(seeds))
        self.tick = torch.zeros_like(seeds)
        self.value = fundamental.start(self.params, draw_start(self.structure, self.plan, self.key))

    def draw(self) -> Noise:
        self.tick = self.tick + 1
        return draw(self.structure, self.plan, self.key, self.tick)

    def advance(self, ticks: int = 1) -> Value:
        for _ in range(ticks):
            self.value = fundamental.advance(self.structure, self.params, self.value, self.draw())
        return self.value


def still(config: MarketConfig) -> Value:
    """One market of value 1, nothing going on."""
    floats = torch.zeros(1, config.num_symbols, EVENTS, dtype=torch.float64)
    zero, integers = floats[..., 0], floats.to(torch.int64)
    return Value(
        level=zero,
        log_volatility=floats[..., :3],
        estimate_error=zero,
        public_move=zero,
        arrived=zero > 0,
        headline=zero,
        sentiment=floats,
        magnitude=floats,
        drift=floats,
        duration=integers,
        remaining=integers,
    )


def silence(config: MarketConfig, *, own: Any = None, sector: Any = None, market: Any = None) -> Noise:
    """Noise of mean zero and no news; give (kind, sentiment, magnitude) uniforms where something happens.

    `own` and `sector` map a symbol or a sector to its triple.
    """
    symbols, sectors = config.num_symbols, int(config.num_sectors or 1)
    news = torch.full((1, symbols, 3), 0.999, dtype=torch.float64)
    factor_news = torch.full((1, 1 + sectors, 3), 0.999, dtype=torch.float64)
    for at, triple in (own or {}).items():
        news[0, at] = torch.tensor(triple, dtype=torch.float64)
    for at, triple in (sector or {}).items():
        factor_news[0, 1 + at] = torch.tensor(triple, dtype=torch.float64)
    if market is not None:
        factor_news[0, 0] = torch.tensor(market, dtype=torch.float64)
    return Noise(
        uniforms=torch.zeros(1, 3, symbols, 1),
        normals=torch.zeros(1, symbols, 1),
        value=torch.zeros(1, symbols, 7, dtype=torch.float64),
        factors=torch.zeros(1, 1 + sectors, dtype=torch.float64),
        coin=torch.zeros(1, symbols, dtype=torch.int64),
        news=news,
        factor_news=factor_news,
    )


EARNINGS = NewsKind(probability=0.2, scale=0.02, duration=6, immediate=0.5)
GUIDANCE = NewsKind(probability=0.1, scale=0.016, duration=9, immediate=0.4)
SECTOR = NewsKind(probability=0.2, scale=0.01, duration=4, immediate=0.25)
MACRO = NewsKind(probability=0.2, scale=0.012, duration=8, immediate=0.75)
NEWSY: dict[str, Any] = {
    "earnings": EARNINGS,
    "guidance": GUIDANCE,
    "sector": SECTOR,
    "macro": MACRO,
    "volatility": 0.0,
    "reversion_half_life": 1e15,
}


def step(config: MarketConfig, value: Value, noise: Noise) -> Value:
    return fundamental.advance(structure(config), make_params(config, 1, CPU), value, noise)


def test_at_most_one_event_a_tick_and_the_widest_audience_wins() -> None:
    config = settings(4, **NEWSY)  # sectors 0, 1, 0, 1
    everything = silence(
        config,
        own={0: (0.05, 0.9, 0.5), 1: (0.25, 0.9, 0.5), 2: (0.05, 0.1, 0.5)},
        sector={0: (0.1, 0.75, 1.0)},
    )
    value = step(config, still(config), everything)
    assert value.arrived.tolist() == [[True, True, True, False]]
    assert value.duration[0, :, -1].tolist() == [SECTOR.duration, GUIDANCE.duration, SECTOR.duration, 0]
    assert value.headline[0].tolist() == pytest.approx([0.01 * 0.5, 0.016 * 0.8 * 0.6, 0.01 * 0.5, 0.0])
    assert int((value.duration > 0).sum()) == 3

    everything.factor_news[0, 0] = torch.tensor([0.1, 0.25, 0.5])
    value = step(config, still(config), everything)
    assert value.duration[0, :, -1].tolist() == [MACRO.duration] * 4
    assert value.sentiment[0, :, -1].tolist() == pytest.approx([-0.5] * 4)
    assert value.magnitude[0, :, -1].tolist() == pytest.approx([0.6] * 4)
    assert value.headline[0].tolist() == pytest.approx([0.012 * -0.5 * 0.6] * 4)
    assert int((value.duration > 0).sum()) == 4


def test_earnings_and_guidance_share_one_number() -> None:
    config = settings(**NEWSY)
    kinds = []
    for kind in (0.1999, 0.2001, 0.2999, 0.3001):
        value = step(config, still(config), silence(config, own={0: (kind, 0.8, 0.5)}))
        kinds.append(int(value.duration[0, 0, -1]))
    assert kinds == [EARNINGS.duration, GUIDANCE.duration, GUIDANCE.duration, 0]


def test_drifts_add_up_to_the_true_effect() -> None:
    config = settings(**NEWSY)
    noise = silence(config, own={0: (0.1, 1.0, 1.0)})  # the best of news: 2 %
    noise.value[..., 5] = 1.5  # and it is worth more than it seems
    true_effect = 0.02 * math.exp(0.3 * 1.5 - 0.045)
    value = step(config, still(config), noise)
    path = [value.level.item()]
    for _ in range(EARNINGS.duration + 3):
        value = step(config, value, silence(config))
        path.append(value.level.item())
    assert path[0] == pytest.approx(0.5 * true_effect)
    drift = [after - before for before, after in itertools.pairwise(path)]
    assert drift[: EARNINGS.duration] == pytest.approx([0.5 * true_effect / EARNINGS.duration] * EARNINGS.duration)
    assert path[EARNINGS.duration] == pytest.approx(true_effect, rel=1e-12)
    assert path[-1] == pytest.approx(true_effect, rel=1e-12)
    assert value.remaining.sum() == 0


def test_overlapping_events_add_up() -> None:
    config = settings(**NEWSY)
    good, bad = {0: (0.1, 0.9, 0.5)}, {0: (0.25, 0.2, 0.5)}
    value = step(config, still(config), silence(config, own=good))
    value = step(config, value, silence(config))
    value = step(config, value, silence(config, own=bad))
    assert value.remaining[0, 0, -2:].tolist() == [EARNINGS.duration - 2, GUIDANCE.duration]
    for _ in range(12):
        value = step(config, value, silence(config))
    expected = (0.02 * 0.8 * 0.6 + 0.016 * -0.6 * 0.6) * math.exp(-0.045)
    assert value.level.item() == pytest.approx(expected, rel=1e-12)


def test_the_ring_forgets_the_oldest_event() -> None:
    config = settings(**{**NEWSY, "earnings": dataclasses.replace(EARNINGS, duration=1_000)})
    value = still(config)
    for k in range(EVENTS + 1):
        value = step(config, value, silence(config, own={0: (0.1, 0.5 + 0.05 * k, 0.5)}))
    assert value.sentiment[0, 0].tolist() == pytest.approx([0.1 * k for k in range(1, EVENTS + 1)])
    assert value.remaining[0, 0].tolist() == list(range(1_000 - EVENTS + 1, 1_001))


def test_makers_see_a_part_of_the_headline_only() -> None:
    config = settings(**{**NEWSY, "headline_pass_through": 0.4})
    noise = silence(config, own={0: (0.1, 1.0, 1.0)})
    noise.value[..., 5] = 3.0
    value = step(config, still(config), noise)
    assert value.public_move.item() == pytest.approx(0.4 * 0.02 * 0.5)


def test_value_returns_to_its_level() -> None:
    config = settings(volatility=0.0, reversion_half_life=100.0)
    value = dataclasses.replace(still(config), level=torch.tensor([[0.1]], dtype=torch.float64))
    for _ in range(100):
        value = step(config, value, silence(config))
    assert value.level.item() == pytest.approx(0.05, rel=0.01)


def near(sample: Tensor, expected: float) -> None:
    """The mean of independent numbers is the expected one within five standard errors."""
    error = sample.std() / math.sqrt(sample.numel())
    assert abs(sample.mean() - expected) < 5.0 * error, (sample.mean().item(), expected, error.item())


def correlation(first: Tensor, second: Tensor) -> float:
    return torch.corrcoef(torch.stack([first, second]))[0, 1].item()


def test_public_moves_share_market_and_sector() -> None:
    markets = 20_000
    config = settings(4, volatility_scales=(0.0, 0.0, 0.0), market_loading=0.6, sector_loading=0.4, public_share=0.6)
    moves = World(config, markets).advance().public_move
    tolerance = 5.0 / math.sqrt(markets)
    for first, second in ((0, 2), (1, 3)):  # the same sector: 0.6^2 + 0.4^2
        assert correlation(moves[:, first], moves[:, second]) == pytest.approx(0.52, abs=tolerance)
    for first, second in ((0, 1), (2, 3), (0, 3)):
        assert correlation(moves[:, first], moves[:, second]) == pytest.approx(0.36, abs=tolerance)
    near((moves / config.fundamentals.volatility) ** 2, 0.6)  # the public share of the variance


def test_private_moves_are_nobody_elses() -> None:
    markets = 20_000
    config = settings(2, volatility_scales=(0.0, 0.0, 0.0), public_share=0.25, reversion_half_life=1e15)
    world = World(config, markets)
    before = world.value.level
    after = world.advance()
    moves = after.level - before
    near((moves / config.fundamentals.volatility) ** 2, 1.0)
    near((after.public_move / config.fundamentals.volatility) ** 2, 0.25)
    private = moves - after.public_move
    assert abs(correlation(private[:, 0], private[:, 1])) < 5.0 / math.sqrt(markets)
    assert abs(correlation(private[:, 0], after.public_move[:, 0])) < 5.0 / math.sqrt(markets)


def shared_variance(law: Fundamentals) -> list[list[float]]:
    """Stationary covariances on paper: what comes in each tick over what is forgotten."""
    keep = [2.0 ** (-1.0 / half_life) for half_life in law.volatility_half_lives]
    shock = [scale * math.sqrt(1.0 - k * k) for scale, k in zip(law.volatility_scales, keep, strict=True)]
    common = [[1.0 if j == k else law.leverage**2 for k in range(3)] for j in range(3)]
    return [[common[j][k] * shock[j] * shock[k] / (1.0 - keep[j] * keep[k]) for k in range(3)] for j in range(3)]


def test_volatility_opens_in_its_stationary_law_and_stays_there() -> None:
    config, markets = settings(volatility_half_lives=(5.0, 20.0, 60.0)), 10_000
    world = World(config, markets)
    scales, covariance = config.fundamentals.volatility_scales, shared_variance(config.fundamentals)
    for ticks in (0, 1, 60):
        value = world.advance(ticks)
        for k, scale in enumerate(scales):
            sample = value.log_volatility[:, 0, k]
            near(sample, 0.0)
            near(sample**2, scale**2)
            for other in range(k):  # leverage gives the three their shocks in common
                assert covariance[k][other] > 0.0
                near(sample * value.log_volatility[:, 0, other], covariance[k][other])
        near((1.0 / 0.01 * value.estimate_error) ** 2, 1.0)
    # The factor exp(h - var h) leaves the mean variance as configured.
    total = sum(map(sum, covariance))
    assert world.params.fundamentals.volatility_variance[0].item() == pytest.approx(total)
    assert total > sum(scale**2 for scale in scales)
    near(torch.exp(2.0 * (world.value.log_volatility.sum(-1) - total)), 1.0)
    before = world.value.level
    near((world.advance().level - before) ** 2 / config.fundamentals.volatility**2, 1.0)


def test_volatility_forgets_at_its_half_lives() -> None:
    config, markets = settings(volatility_half_lives=(4.0, 12.0, 36.0)), 5_000
    world = World(config, markets)
    start = world.value.log_volatility[:, 0]
    after = world.advance(12).log_volatility[:, 0]
    for k, kept in enumerate((0.125, 0.5, 2.0 ** (-1 / 3))):
        assert correlation(start[:, k], after[:, k]) == pytest.approx(kept, abs=5.0 / math.sqrt(markets))


@pytest.mark.parametrize("leverage", [-0.3, -0.9, 0.0, 0.6])
def test_falls_raise_volatility(leverage: float) -> None:
    markets = 10_000
    config = settings(leverage=leverage, volatility=1e-3)
    world = World(config, markets)
    before = world.value
    after = world.advance()
    moves = ((after.level - before.level) / torch.exp(before.log_volatility.sum(-1)))[:, 0]
    tolerance = 5.0 / math.sqrt(markets)
    for k, half_life in enumerate(config.fundamentals.volatility_half_lives):
        kept = 2.0 ** (-1.0 / half_life)
        shock = (after.log_volatility - kept * before.log_volatility)[:, 0, k]
        assert correlation(moves, shock) == pytest.approx(leverage, abs=tolerance)


def test_news_comes_at_its_rate() -> None:
    config = settings(
        2,
        earnings=NewsKind(probability=0.03, scale=0.02, duration=6, immediate=0.5),
        guidance=NewsKind(probability=0.02, scale=0.02, duration=9, immediate=0.5),
        sector=NewsKind(probability=0.04, scale=0.02, duration=4, immediate=0.5),
        macro=NewsKind(probability=0.05, scale=0.02, duration=8, immediate=0.5),
    )
    value = World(config, 20_000).advance()
    came = torch.where(value.arrived, value.duration[..., -1], 0)
    for duration, probability in ((8, 0.05), (4, 0.95 * 0.04), (6, 0.95 * 0.96 * 0.03), (9, 0.95 * 0.96 * 0.02)):
        # One symbol alone: macro news would count the other's twice.
        near((came[:, 0] == duration).double(), probability)
    assert torch.equal(came[:, 0] == 8, came[:, 1] == 8)
    events = value.arrived
    near(value.sentiment[..., -1][events], 0.0)
    near(value.magnitude[..., -1][events], 0.6)


def test_true_effects_are_the_headlines_on_average() -> None:
    macro = NewsKind(probability=1.0, scale=0.02, duration=10, immediate=0.4)
    config = settings(macro=macro, volatility=0.0, spread_of_start=0.0)
    value = World(config, 20_000).advance()
    true_effect = (value.level + 10 * value.drift[..., -1]).flatten()
    near(true_effect / value.headline.flatten(), 1.0)


def test_the_estimate_is_an_autoregression() -> None:
    config, markets = settings().replace(estimate_half_life=10.0, estimate_error=0.02), 5_000
    world = World(config, markets)
    before = world.value.estimate_error[:, 0]
    after = world.advance(10).estimate_error[:, 0]
    assert correlation(before, after) == pytest.approx(0.5, abs=5.0 / math.sqrt(markets))
    near((after / 0.02) ** 2, 1.0)


def test_a_market_depends_on_its_row_alone() -> None:
    config = settings(3, **{name: dataclasses.replace(kind, probability=0.2) for name, kind in QUIET.items()})
    world = World(config, 9)
    world.advance(5)
    noise, before, index = world.draw(), world.value, torch.tensor([4, 0, 8])
    params = make_params(config, 3, CPU)
    whole = fundamental.advance(world.structure, world.params, before, noise)
    part = fundamental.advance(world.structure, params, rows(before, index), rows(noise, index))
    assert differences(part, rows(whole, index)) == []
    assert whole.arrived.any()
