"""Features: hand-worked cases, a plain recomputation of every one, neutral values, scale, and the same bits everywhere."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from markets import narrow

from torchgym.config import MarketConfig, preset, structure
from torchgym.engine import Market
from torchgym.numerics.trees import map_tensors, rows
from torchgym.readout import features
from torchgym.readout.entries import ACCOUNT, Events, Moment, account_names
from torchgym.readout.features.context import LOOKBACKS
from torchgym.sim.params import plain_params
from torchgym.sim.state import EVENTS, Book, Clock, Ledger, MarketData, MarketState, Value

SCALINGS = ("raw", "relative")


CPU = torch.device("cpu")


@dataclasses.dataclass
class Series:
    """One symbol's history in plain numbers; prices in half points, the newest last."""

    mids: list[int]
    traded: list[int]  # clearing price of each tick, in half points
    spread: int = 2  # points
    depths: tuple[int, int] = (50, 50)
    volumes: tuple[int, ...] = (5,) * 9
    buys: tuple[int, ...] = (3,) * 8
    sells: tuple[int, ...] = (3,) * 8
    filled: int = 0
    level: float = 0.0
    error: float = 0.0
    news: tuple[tuple[float, float, int, int], ...] = ()  # sentiment, magnitude, remaining, duration

    def recursions(self) -> tuple[float, float, float, float, float, float]:
        """ema_8, ema_16, macd_signal, rsi_gain, rsi_loss, atr_8 in points, by their definitions."""
        fast = slow = self.mids[0] / 2
        signal = gain = loss = span = 0.0
        for before, now, traded in zip(self.mids, self.mids[1:], self.traded[1:], strict=False):
            m, m1, x = now / 2, before / 2, traded / 2
            fast += 2 / 9 * (m - fast)
            slow += 2 / 17 * (m - slow)
            signal += 2 / 5 * (fast - slow - signal)
            gain = (7 * gain + max(m - m1, 0.0)) / 8
            loss = (7 * loss + max(m1 - m, 0.0)) / 8
            span = (7 * span + max(m, x, m1) - min(m, x, m1)) / 8
        return fast, slow, signal, gain, loss, span


def still(mid: int = 20_000, **changes: object) -> Series:
    """A market in which nothing has happened."""
    return Series(mids=[mid] * 80, traded=[mid] * 80, **changes)  # type: ignore[arg-type]


def wild(rng: np.random.Generator, volatility: float) -> Series:
    """A random market: news of all ages, lopsided books, busy and quiet ticks."""
    steps = rng.normal(0.0, volatility, 120)
    mids = np.maximum(2, np.round(20_000 * np.exp(np.cumsum(steps)))).astype(int)
    news = []
    for _ in range(rng.integers(0, EVENTS + 1)):
        duration = int(rng.integers(20, 90))
        remaining = int(rng.integers(0, duration + 1)) * int(rng.integers(0, 2))
        news.append((float(rng.uniform(-1, 1)), float(rng.uniform(0, 1)), remaining, duration))
    return Series(
        mids=mids.tolist(),
        traded=(mids + 2 * rng.integers(-6, 7, 120)).clip(2).tolist(),
        spread=int(mids[-1] % 2 + 2 * rng.integers(1, 5)) if mids[-1] > 20 else int(mids[-1] % 2),
        depths=(int(rng.integers(0, 300)), int(rng.integers(0, 300))),
        volumes=tuple(int(v) for v in rng.integers(0, 90, 9)),
        buys=tuple(int(v) for v in rng.integers(0, 90, 8)),
        sells=tuple(int(v) for v in rng.integers(0, 90, 8)),
        filled=int(rng.integers(0, 30)),
        level=float(rng.normal(0.0, 0.05)),
        error=float(rng.normal(0.0, 0.01)),
        news=tuple(news),
    )


def make_state(config: MarketConfig, table: list[list[Series]]) -> MarketState:
    """A state whose market i holds the series `table[i]`, one per symbol. Parts that features don't read are missing."""

    def integers(pick: object) -> torch.Tensor:
        return torch.tensor([[pick(s) for s in row] for row in table], dtype=torch.int64)  # type: ignore[operator]

    def numbers(pick: object) -> torch.Tensor:
        return torch.tensor([[pick(s) for s in row] for row in table], dtype=torch.float64)  # type: ignore[operator]

    def news(part: int) -> object:
        return lambda s: [0] * (EVENTS - len(s.news)) + [event[part] for event in s.news]

    averages = numbers(lambda s: s.recursions()).unbind(-1)
    mids_x2 = integers(lambda s: s.mids[-65:])
    three = torch.zeros(len(table), len(table[0]), 3, dtype=torch.float64)
    return MarketState(
        clock=Clock(*(torch.zeros(len(table), dtype=torch.int64) for _ in range(4)), key=None),  # type: ignore[arg-type]
        value=Value(
            level=numbers(lambda s: s.level),
            log_volatility=three,
            estimate_error=numbers(lambda s: s.error),
            public_move=three[..., 0],
            arrived=three[..., 0] > 0,
            headline=three[..., 0],
            sentiment=numbers(news(0)),
            magnitude=numbers(news(1)),
            drift=numbers(news(1)),
            duration=integers(news(3)),
            remaining=integers(news(2)),
        ),
        book=narrow(
            Book(
                price=integers(
                    lambda s: [(s.mids[-1] + way * s.spread) // 2 + way * at for way in (-1, 1) for at in range(12)]
                ),
                size=integers(lambda s: [-way * (s.depths[0] + at % 5) for way in (-1, 1) for at in range(12)]),
                expiry=integers(lambda s: [0] * 24),
            )
        ),
        market_data=MarketData(
            bid=integers(lambda s: (s.mids[-1] - s.spread) // 2),
            ask=integers(lambda s: (s.mids[-1] + s.spread) // 2),
            bid_depth=integers(lambda s: s.depths[0]),
            ask_depth=integers(lambda s: s.depths[1]),
            close=integers(lambda s: s.traded[-1] // 2),
            log_mid=torch.log(mids_x2[..., -1].to(torch.float64) * (0.5 / config.list_price)),
            last_return=three[..., 0],
            mids_x2=mids_x2,
            volumes=integers(lambda s: s.volumes),
            buys=integers(lambda s: s.buys),
            sells=integers(lambda s: s.sells),
            orders_filled=integers(lambda s: s.filled),
            variance=three,
            busy_volume=three,
            busy_return=three,
            **dict(zip(("ema_8", "ema_16", "macd_signal", "rsi_gain", "rsi_loss", "atr_8"), averages, strict=True)),
        ),
        accounts=None,  # type: ignore[arg-type]
        ledger=None,  # type: ignore[arg-type]
        traders={},
        reward=None,  # type: ignore[arg-type]
    )


def observation(config: MarketConfig, state: MarketState) -> torch.Tensor:
    """What is seen of a batch of markets with the configuration's numbers."""
    return features.observe(structure(config), plain_params(config, CPU), state)


def observe(config: MarketConfig, *series: Series) -> dict[str, float]:
    """The named features of one market."""
    config = config.replace(num_symbols=len(series))
    values = observation(config, make_state(config, [list(series)]))
    return dict(zip(features.names(config), values[0].tolist(), strict=True))


def random_state(config: MarketConfig, markets: int, seed: int = 0) -> tuple[list[list[Series]], MarketState]:
    rng = np.random.default_rng(seed)
    volatilities = (1e-3, 1e-2, 1e-4, 0.1)
    table = [[wild(rng, volatilities[n % 4]) for _ in range(config.num_symbols)] for n in range(markets)]
    return table, make_state(config, table)


def reference(config: MarketConfig, s: Series) -> dict[str, float]:
    """All features of one symbol from its series, straight from their definitions, in currency."""
    point = config.point_size
    m = [mid / 2 * point for mid in s.mids]
    now = m[-1]
    fast, slow, signal, gain, loss, span = (x * point for x in s.recursions())
    returns = np.log(np.array(m[1:]) / np.array(m[:-1]))
    band = np.array(m[-12:])
    middle, width = float(band.mean()), 2 * float(band.std())
    if len(set(s.mids[-12:])) == 1:
        width = 0.0
    vol_8, vol_32 = float(np.std(returns[-8:], ddof=1)), float(np.std(returns[-32:], ddof=1))
    rsi = 50.0 if gain == loss == 0 else 100.0 if loss == 0 else 100 - 100 / (1 + gain / loss)
    log_fair = {"public": s.level + s.error, "privileged": s.level}
    fair = now
    if config.information != "none":
        fair = config.list_price * point * math.exp(log_fair[config.information])
    running = [event for event in s.news if event[2] > 0]
    newest = running[-1] if running else (0.0, 0.0, 0, 1)
    before = sum(s.volumes[:-1])
    flow = sum(s.buys) + sum(s.sells)
    values = {"f_mid_price": now}
    values |= {f"f_price_change_{k}": 100 * (now - m[-1 - k]) / m[-1 - k] for k in LOOKBACKS}
    values |= {f"f_log_return_{k}": math.log(now / m[-1 - k]) for k in LOOKBACKS}
    return values | {
        "f_sma_8": sum(m[-8:]) / 8,
        "f_sma_16": sum(m[-16:]) / 16,
        "f_ema_8": fast,
        "f_ema_16": slow,
        "f_rsi_8": rsi,
        "f_macd_line": fast - slow,
        "f_macd_signal": signal,
        "f_macd_histogram": fast - slow - signal,
        "f_bb_upper": middle + width,
        "f_bb_middle": middle,
        "f_bb_lower": middle - width,
        "f_bb_percent_b": 0.5 if width == 0 else (now - (middle - width)) / (2 * width),
        "f_atr_8": span,
        "f_has_active_news": float(bool(running)),
        "f_news_sentiment": newest[0] * newest[2] / newest[3],
        "f_news_magnitude": newest[1],
        "f_news_ticks_remaining": newest[2],
        "f_spread_bps": 1e4 * s.spread * point / now,
        "f_book_imbalance": 0.0 if sum(s.depths) == 0 else (s.depths[0] - s.depths[1]) / sum(s.depths),
        "f_net_order_flow": 0.0 if flow == 0 else (sum(s.buys) - sum(s.sells)) / flow,
        "f_realized_vol_8": vol_8,
        "f_realized_vol_32": vol_32,
        "f_vol_ratio": 1.0 if vol_32 == 0 else vol_8 / vol_32,
        "f_fair_value_dev": (now - fair) / fair,
        "f_price_to_fair": now / fair,
        "f_trend_strength": 0.0 if span == 0 else abs(fast - slow) / span,
        "f_rsi_divergence": rsi - 50,
        "f_volume_surge": 1.0 if before == 0 else s.volumes[-1] / (before / 8),
        "f_trade_intensity": s.filled / 8,
        "f_sentiment_price_gap": sum(e[0] * e[2] / e[3] for e in s.news) * (now - fair) / fair,
    }


def bits(values: torch.Tensor) -> torch.Tensor:
    return values.contiguous().view(torch.int64)


# --- sets, names, bounds -----------------------------------------------------------------------------------------------------


def test_sets_hold_the_documented_features_in_order() -> None:
    sets = features.FEATURE_SETS
    full = sets["full54"]
    assert [len(sets[name]) for name in sets] == [54, 55, 42, 28, 20, 74]
    ladder = tuple(f"f_{side}_level_{at}" for side in ("bid", "ask") for at in range(1, 11))
    assert sets["ladder20"] == ladder and sets["full74"] == (*full, *ladder)
    assert full[0] == "f_mid_price"
    assert full[12:14] == ("f_price_change_64", "f_log_return_1")
    assert full[24:31] == ("f_log_return_64", "f_sma_8", "f_sma_16", "f_ema_8", "f_ema_16", "f_rsi_8", "f_macd_line")
    assert full[36:43] == (
        *("f_bb_percent_b", "f_atr_8", "f_has_active_news", "f_news_sentiment", "f_news_magnitude"),
        *("f_news_ticks_remaining", "f_spread_bps"),
    )
    assert full[53] == "f_sentiment_price_gap"
    assert sets["full55"] == (*full[:44], "f_net_order_flow", *full[44:])
    assert sets["minimal42"] == full[:42]
    assert sets["canonical28"] == (
        *("f_mid_price", "f_price_change_1", "f_price_change_32", "f_price_change_48", "f_price_change_64"),
        *("f_log_return_32", "f_log_return_48", "f_log_return_64", *full[25:38]),
        *("f_realized_vol_8", "f_realized_vol_32", "f_vol_ratio", "f_fair_value_dev", "f_price_to_fair"),
        *("f_trend_strength", "f_rsi_divergence"),
    )


def test_names_and_size_count_symbols() -> None:
    one, two = MarketConfig(), MarketConfig(num_symbols=2, features="canonical28")
    assert features.names(one) == list(features.FEATURE_SETS["full54"])
    assert features.names(two)[27:29] == ["f_rsi_divergence@0", "f_mid_price@1"]
    assert (features.size(one), features.size(two)) == (54, 56)
    assert len(features.names(two)) == 56


def test_unknown_set_lists_the_known_ones() -> None:
    config = MarketConfig(features="full53")
    _, state = random_state(MarketConfig(), 1)
    for call in (features.names, features.size, features.bounds, lambda c: observation(c, state)):
        with pytest.raises(ValueError, match=r"'full53'.*full54, full55, minimal42, canonical28, ladder20, full74"):
            call(config)


def test_raw_bounds_come_from_the_table() -> None:
    config = MarketConfig(num_symbols=2)
    low, high = features.bounds(config)
    names = features.names(config)
    assert low.dtype == high.dtype == np.float64
    assert (low[names.index("f_rsi_8@1")], high[names.index("f_rsi_8@1")]) == (0.0, 100.0)
    assert (low[names.index("f_log_return_8@0")], high[names.index("f_log_return_8@0")]) == (-math.inf, math.inf)
    low, high = features.bounds(config.replace(scaling="relative"))
    assert set(low) == {-features.LIMIT} and set(high) == {features.LIMIT} and len(low) == 108


@pytest.mark.parametrize("name", features.FEATURE_SETS)
@pytest.mark.parametrize("scaling", SCALINGS)
def test_every_set_selects_its_columns_of_the_whole(name: str, scaling: str) -> None:
    config = MarketConfig(num_symbols=2, features=name, scaling=scaling)
    _, state = random_state(config, 3)
    all_of_it = [config.replace(features=part) for part in ("full55", "ladder20")]
    whole = torch.cat([observation(part, state) for part in all_of_it], 1)
    known = [shown for part in all_of_it for shown in features.names(part)]
    columns = [known.index(shown) for shown in features.names(config)]
    assert torch.equal(observation(config, state), whole[:, columns])


# --- hand-worked ----------------------------------------------------------------------------------------------------------


def test_a_jump_from_100_to_102() -> None:
    mids = [20_000] * 79 + [20_400]
    seen = observe(MarketConfig(features="full55"), Series(mids=mids, traded=mids))
    step = math.log(1.02)
    expected = {
        "f_mid_price": 102.0,
        "f_sma_8": 100.25,
        "f_sma_16": 100.125,
        "f_ema_8": 100 + 4 / 9,
        "f_ema_16": 100 + 4 / 17,
        "f_rsi_8": 100.0,
        "f_macd_line": 4 / 9 - 4 / 17,
        "f_macd_signal": 0.4 * (4 / 9 - 4 / 17),
        "f_macd_histogram": 0.6 * (4 / 9 - 4 / 17),
        "f_bb_middle": 100 + 1 / 6,
        "f_bb_upper": 100 + 1 / 6 + math.sqrt(11) / 3,  # the variance of eleven 0 and one 2 is 11 / 36
        "f_bb_lower": 100 + 1 / 6 - math.sqrt(11) / 3,
        "f_bb_percent_b": 0.5 + math.sqrt(11) / 4,
        "f_atr_8": 0.25,
        "f_realized_vol_8": step / math.sqrt(8),  # the sample variance of n - 1 zeros and one r is r² / n
        "f_realized_vol_32": step / math.sqrt(32),
        "f_vol_ratio": 2.0,
        "f_trend_strength": 4 * (4 / 9 - 4 / 17),
        "f_rsi_divergence": 50.0,
    }
    expected |= {f"f_price_change_{k}": 2.0 for k in LOOKBACKS} | {f"f_log_return_{k}": step for k in LOOKBACKS}
    for name, value in expected.items():
        assert seen[name] == pytest.approx(value, rel=1e-12), name


def test_each_lookback_reaches_its_own_tick() -> None:
    mids = [20_000 + 2 * k for k in range(80)]
    seen = observe(MarketConfig(), Series(mids=mids, traded=mids))
    for k in LOOKBACKS:
        assert seen[f"f_price_change_{k}"] == pytest.approx(100 * k / (10_079 - k), rel=1e-12)


def test_newest_running_event_and_the_sum_of_all() -> None:
    news = ((0.8, 0.3, 30, 60), (-0.5, 0.9, 10, 40), (1.0, 1.0, 0, 20))  # the newest is over
    seen = observe(MarketConfig(information="privileged"), still(news=news, level=math.log(0.8)))
    assert seen["f_has_active_news"] == 1.0
    assert seen["f_news_sentiment"] == -0.125
    assert seen["f_news_magnitude"] == 0.9
    assert seen["f_news_ticks_remaining"] == 10.0
    assert seen["f_fair_value_dev"] == pytest.approx(0.25)
    assert seen["f_sentiment_price_gap"] == pytest.approx((0.4 - 0.125) * 0.25)


def test_book_flow_and_volume() -> None:
    series = still(
        spread=4,
        depths=(30, 10),
        volumes=(1, 2, 3, 4, 5, 6, 7, 12, 20),
        buys=(1, 0, 0, 0, 0, 0, 0, 2),
        sells=(0, 0, 0, 0, 0, 0, 4, 5),
        filled=6,
    )
    seen = observe(MarketConfig(features="full55"), series)
    assert seen["f_spread_bps"] == pytest.approx(4.0)
    assert seen["f_book_imbalance"] == 0.5
    assert seen["f_net_order_flow"] == -0.5
    assert seen["f_volume_surge"] == 4.0
    assert seen["f_trade_intensity"] == 0.75


@pytest.mark.parametrize("learners", [1, 2])
def test_the_ladder_is_what_the_book_says(learners: int) -> None:
    """Counted price by price from the whole book; what is others' leaves out the learner's own orders."""
    config = preset("toy", features="ladder20", quotes=2, action="depths", num_learners=learners, num_symbols=2)
    market = Market(config, 3, seed=2, compile=False)
    market.reset()
    generator, own_there = torch.Generator().manual_seed(4), 0
    names = account_names(config)
    for _ in range(12):
        near = 12.0 * torch.rand((3, learners, 2 * 4), generator=generator, dtype=torch.float64)
        result = market.step(near if learners > 1 else near[:, 0])
        state, unit = market.state, config.usual_volume
        for row, symbol in itertools.product(range(3), range(2)):
            book = list(zip(state.book.price[row, symbol].tolist(), state.book.size[row, symbol].tolist(), strict=True))
            best = state.market_data.bid[row, symbol].item(), state.market_data.ask[row, symbol].item()
            seen = result.observation[row, 20 * symbol : 20 * (symbol + 1)].tolist()
            for side, at in itertools.product(range(2), range(10)):
                sign = 1 - 2 * side
                price = best[side] - sign * at
                assert seen[10 * side + at] == sum(sign * size for p, size in book if p == price and size * sign > 0)
                for learner in range(learners):
                    first = market.structure.background + 4 * learner
                    others = book[:first] + book[first + 4 :]
                    told = result.account[row, learner] if learners > 1 else result.account[row]
                    shares = sum(sign * size for p, size in others if p == price and size * sign > 0)
                    own_there += shares != seen[10 * side + at]
                    name = f"{('bid', 'ask')[side]}_others_{at + 1}@{symbol}"
                    assert told[names.index(name)].item() == pytest.approx(shares / unit, rel=1e-12)
    assert own_there > 50


def test_the_ladder_in_usual_volumes() -> None:
    """Relative: over the usual volume of a tick, so that the price does not matter."""
    raw, relative = (
        Market(preset("toy", features="ladder20", scaling=scaling), 2, seed=1, compile=False).reset().observation
        for scaling in ("raw", "relative")
    )
    assert (raw[:, [0, 10]] > 0).all()
    torch.testing.assert_close(relative, raw / preset("toy").usual_volume)


def test_information_decides_what_value_features_show() -> None:
    series = still(level=math.log(1.25), error=math.log(1.6))
    for information, fair in (("public", 200.0), ("privileged", 125.0), ("none", 100.0)):
        seen = observe(MarketConfig(information=information), series)
        assert seen["f_price_to_fair"] == pytest.approx(100.0 / fair, rel=1e-14)
        assert seen["f_fair_value_dev"] == pytest.approx((100.0 - fair) / fair, rel=1e-14)
    assert (seen["f_price_to_fair"], seen["f_fair_value_dev"]) == (1.0, 0.0)


# --- every feature ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("information", ["public", "privileged", "none"])
def test_every_feature_equals_a_plain_recomputation(information: str) -> None:
    config = MarketConfig(num_symbols=2, features="full55", information=information, point_size=0.05)
    table, state = random_state(config, 24)
    seen = observation(config, state).reshape(24, 2, 55).numpy()
    names = features.FEATURE_SETS["full55"]
    for market, row in enumerate(table):
        for symbol, series in enumerate(row):
            expected = reference(config, series)
            assert tuple(sorted(expected)) == tuple(sorted(names))
            for place, name in enumerate(names):
                # differences of nearly equal prices are as exact as the prices are
                floor = 1e-13 * expected["f_mid_price"] if "macd" in name else 1e-15
                assert seen[market, symbol, place] == pytest.approx(expected[name], rel=1e-9, abs=floor), name


def test_where_nothing_happens_every_feature_is_neutral() -> None:
    series = still(spread=0)
    seen = observe(MarketConfig(features="full55", information="none"), series)
    neutral = {name: row.neutral for row in features.FEATURES.values() for name in row.names}
    assert seen == {name: 100.0 if neutral[name] is None else neutral[name] for name in features.FEATURE_SETS["full55"]}


def test_no_volume_before_is_neutral() -> None:
    empty = still(spread=0, depths=(0, 0), volumes=(0,) * 8 + (7,), buys=(0,) * 8, sells=(0,) * 8)
    seen = observe(MarketConfig(features="full55"), empty)
    assert (seen["f_volume_surge"], seen["f_book_imbalance"], seen["f_net_order_flow"]) == (1.0, 0.0, 0.0)


def degenerate() -> list[Series]:
    rounding = still(mid=19_999)
    rounding.recursions = lambda: (9999.500000000002, 9999.5, 1e-12, 5e-324, 0.0, 1e-321)  # type: ignore[method-assign]
    steady = [round(20_000 * 1.01**k) for k in range(80)]
    flip = [20_000 if k % 2 else 1 for k in range(80)]
    last = [2] * 79 + [2**19]
    full = tuple((1.0, 1.0, 60, 60) for _ in range(EVENTS))
    return [
        still(volumes=(0,) * 9, depths=(0, 0), buys=(0,) * 8, sells=(0,) * 8, spread=0),
        still(mid=1, spread=1, level=3.0, news=full),
        still(mid=2**19, level=-3.0, news=full),
        rounding,  # what a very long standstill leaves in the recursions
        Series(mids=steady, traded=steady),
        Series(mids=flip, traded=flip, spread=0),
        Series(mids=last, traded=last, volumes=(0,) * 8 + (2**23,)),
        Series(mids=last[::-1], traded=last[::-1], spread=0),
    ]


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("information", ["public", "none"])
def test_always_finite_and_within_bounds(scaling: str, information: str) -> None:
    config = MarketConfig(features="full55", scaling=scaling, information=information)
    table, _ = random_state(config, 40, seed=1)
    seen = observation(config, make_state(config, table + [[series] for series in degenerate()])).numpy()
    low, high = features.bounds(config)
    assert np.isfinite(seen).all()
    outside = ((seen < low) | (seen > high)).any(0)
    assert not outside.any(), [name for name, bad in zip(features.names(config), outside, strict=True) if bad]


# --- relative scaling -----------------------------------------------------------------------------------------------------


def doubled(state: MarketState) -> MarketState:
    """The same market at twice the price in points."""
    prices = ("bid", "ask", "close", "mids_x2", "ema_8", "ema_16", "macd_signal", "rsi_gain", "rsi_loss", "atr_8")
    twice = {name: getattr(state.market_data, name) * 2 for name in prices}
    return dataclasses.replace(state, market_data=dataclasses.replace(state.market_data, **twice))


def test_doubling_prices_leaves_relative_observations_unchanged() -> None:
    config = MarketConfig(num_symbols=2, features="full55", scaling="relative")
    _, state = random_state(config, 16)
    seen = observation(config, state)
    larger_points = observation(config.replace(point_size=2 * config.point_size), state)
    more_points = observation(config.replace(list_price=2 * config.list_price), doubled(state))
    assert torch.equal(bits(larger_points), bits(seen))
    assert torch.equal(bits(more_points), bits(seen))
    raw = config.replace(scaling="raw")
    assert not torch.equal(observation(raw, doubled(state)), observation(raw, state))


def test_relative_forms() -> None:
    mids = [20_000] * 79 + [20_400]
    series = Series(
        mids=mids, traded=mids, level=math.log(1.02 / 0.99), spread=20, filled=16, news=((0.5, 0.25, 25, 50),)
    )
    config = MarketConfig(information="privileged")
    raw, seen = observe(config, series), observe(config.replace(scaling="relative"), series)
    volatility = math.log(1.02) / math.sqrt(32)
    assert seen["f_mid_price"] == pytest.approx(20 * math.log(1.02))
    assert seen["f_price_change_64"] == pytest.approx(0.02 / volatility / 8)
    assert seen["f_log_return_4"] == pytest.approx(math.sqrt(8))
    assert seen["f_sma_8"] == pytest.approx((100.25 - 102) / 102 / volatility)
    assert seen["f_atr_8"] == pytest.approx(0.25 / 102 / volatility)
    assert seen["f_rsi_8"] == seen["f_rsi_divergence"] == 1.0
    assert seen["f_bb_percent_b"] == pytest.approx(math.sqrt(11) / 2)
    assert seen["f_fair_value_dev"] == pytest.approx(-1.0)
    assert seen["f_price_to_fair"] == pytest.approx(-1.0)
    assert seen["f_news_ticks_remaining"] == 0.5
    assert seen["f_vol_ratio"] == pytest.approx(1.0)
    assert seen["f_trade_intensity"] == 1.0
    for name in ("f_has_active_news", "f_news_sentiment", "f_news_magnitude", "f_book_imbalance", "f_trend_strength"):
        assert seen[name] == raw[name]


def test_relative_observations_of_usual_markets_are_of_unit_size() -> None:
    config = MarketConfig(scaling="relative")
    rng = np.random.default_rng(5)
    seen = observation(config, make_state(config, [[wild(rng, 1e-3)] for _ in range(100)]))
    size = (seen * seen).mean(0).sqrt()
    for name, value in zip(features.names(config), size.tolist(), strict=True):
        assert 0.05 < value < 6.0, name


# --- the same bits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", features.FEATURE_SETS)
def test_a_market_alone_is_the_same_bits_as_its_row_of_a_batch(name: str, scaling: str) -> None:
    config = MarketConfig(num_symbols=2, features=name, scaling=scaling)
    _, state = random_state(config, 64)
    whole = dataclasses.replace(state, clock=None)  # type: ignore[arg-type]
    seen = observation(config, whole)
    for row in (0, 1, 31, 63):
        index = torch.tensor([row])
        parts = {name: rows(getattr(state, name), index) for name in ("market_data", "value", "book")}
        alone = dataclasses.replace(whole, **parts)
        assert torch.equal(bits(observation(config, alone)), bits(seen[row : row + 1]))


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("markets", [pytest.param(1, marks=pytest.mark.slow), 65])
def test_compiled_is_the_same_bits_as_eager(markets: int, scaling: str) -> None:
    config = MarketConfig(num_symbols=2, features="full55", scaling=scaling)
    _, state = random_state(config, markets)
    torch.compiler.reset()
    plan, params = structure(config), plain_params(config, CPU)
    compiled = torch.compile(lambda state: features.observe(plan, params, state), fullgraph=True, dynamic=False)
    assert torch.equal(bits(compiled(state)), bits(observation(config, state)))


def test_observing_changes_nothing() -> None:
    config = MarketConfig(num_symbols=2, features="full55")
    _, state = random_state(config, 4)
    before = map_tensors(torch.clone, state.market_data), map_tensors(torch.clone, state.value)
    observation(config, state)
    for kept, part in zip(before, (state.market_data, state.value), strict=True):
        map_tensors(lambda old, new: torch.testing.assert_close(old, new, rtol=0, atol=0) or new, kept, part)


# --- the account ----------------------------------------------------------------------------------------------------------


def make_ledger(cash: list[int], shares: list[list[int]], equity_x2: list[int]) -> Ledger:
    fields = {entry.name: None for entry in dataclasses.fields(Ledger)}
    own = {"cash": cash, "shares": shares, "equity_x2": equity_x2}
    return Ledger(**(fields | {name: torch.tensor(value).unsqueeze(-1) for name, value in own.items()}))  # type: ignore[arg-type]


def test_account() -> None:
    config = MarketConfig(num_symbols=2, max_ticks=1000, starting_cash=1_000_000, position_limit=50)
    plan = structure(config)
    _, state = random_state(config, 3)
    state.ledger = make_ledger(
        [1_000_000, 500_000, 1_250_000], [[0, 0], [50, -25], [-50, 10]], [2_000_000, 2_000_001, 1_000_000]
    )
    state.clock.tick, state.clock.last = torch.tensor([0, 250, 1001]), torch.full((3,), 1000)
    nothing = torch.zeros(3)
    moment = Moment(plan, plain_params(config, CPU), state, Events(nothing, {}, nothing, nothing))
    parts = [row.formula(moment) for row in ACCOUNT.values()]
    seen = torch.cat([part.reshape(len(part), -1) for part in parts], -1)
    assert account_names(config) == ["position@0", "position@1", "cash", "equity", "time_left"]
    assert seen.dtype == torch.float64
    assert seen[0].tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert seen[1].tolist() == pytest.approx([1.0, -0.5, -0.5, 5e-7, 0.75], rel=1e-12)
    assert seen[2].tolist() == pytest.approx([-1.0, 0.2, 0.25, -0.5, 0.0], rel=1e-12)
