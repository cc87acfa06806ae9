"""Each family in a situation whose right answer is obvious, and what every order must obey in a living market."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from markets import narrow, opened, toy
from torch import Tensor

from torchgym import MarketConfig
from torchgym.config import (
    FAMILIES,
    Family,
    Fundamentals,
    Makers,
    MetaOrders,
    NewsKind,
    NewsReactors,
    NoiseTraders,
    PairsTraders,
    Population,
    ReversionTraders,
    SectorRotators,
    StopTraders,
    Takers,
    TrendFollowers,
    ValueTraders,
    structure,
)
from torchgym.numerics.random import make_key
from torchgym.sim import traders
from torchgym.sim.noise import Draws, StartDraws, draw, draw_start, make_plan
from torchgym.sim.params import make_params
from torchgym.sim.state import HIGHEST, Auction, Book, Execution, MarketState, Orders
from torchgym.sim.traders import maker, meta_order, news, noise_trader, pairs, reversion, rotator, stop, trend, value
from torchgym.sim.traders.intent import OrderIntent, orders_of
from torchgym.sim.traders.signals import Signals, read_signals

# The numbers worked out below belong to these settings, whatever the defaults are.
POPULATION = Population(
    value=ValueTraders(max_size=25, belief_memory=0.9, aggressive=0.5),
    trend=TrendFollowers(max_size=20, capacity=150.0, dead_zone=0.25, market_share=0.6),
    reversion=ReversionTraders(max_size=20, capacity=150.0, market_share=0.2),
    noise=NoiseTraders(max_size=150, rate=0.055, size=8.0, market_share=0.8),
    meta_order=MetaOrders(
        max_size=300, start_rate=0.02, rate=0.5, pieces=(100.0, 6_000.0), exponent=1.5, market_share=0.9
    ),
    news=NewsReactors(max_size=40, rate=0.15, misjudgement=0.4, capacity=250.0, unwind_rate=0.03),
    stop=StopTraders(max_size=200, rate=0.008, long_share=0.6, size=40.0),
    pairs=PairsTraders(max_size=20, rate=0.05, capacity=60.0, entry=2.0, exit=0.5),
    rotator=SectorRotators(max_size=20, rate=0.02, capacity=200.0, tilt=0.3),
    maker=Makers(count=3, limit=100.0),
)
CONFIG = MarketConfig(population=POPULATION, usual_return=7.5e-4)
CPU = torch.device("cpu")
PARAMS = make_params(CONFIG, 1, CPU)
ALWAYS, NEVER = 1e-6, 1.0 - 1e-6  # a first uniform that lets everybody act, or nobody


def singles(*values: float) -> Tensor:
    """[1, 1, n] float32."""
    return torch.tensor([[list(values)]], dtype=torch.float32)


def per_symbol(*values: float) -> Tensor:
    """[1, S, 1] float32."""
    return torch.tensor([[[value] for value in values]], dtype=torch.float32)


def signals(**changes: Tensor) -> Signals:
    """A quiet market at 10,000 points with a spread of four."""
    usual = {
        "mid": 10_000.0,
        "bid": 9_998.0,
        "ask": 10_002.0,
        "log_mid": 0.0,
        "last_return": 0.0,
        "value": 0.0,
        "volatility": 1e-3,
        "half_spread": 2.0,
        "activity": 1.0,
        "attention": 1.0,
        "buy_limit": 10_100.0,
        "sell_limit": 9_900.0,
        "headline": 0.0,
        "duration": 0.0,
        "sector_mood": 0.0,
    }
    symbols = next((change.shape[1] for change in changes.values()), 1)
    parts: dict[str, Tensor] = {name: per_symbol(*[number] * symbols) for name, number in usual.items()}
    wide = torch.ones(1, symbols, dtype=torch.float64)
    parts |= {
        "arrived": torch.zeros(1, symbols, 1, dtype=torch.bool),
        "reference_mid": 10_000.0 * wide,
        "maker_volatility": 1e-3 * wide,
        "maker_half_spread": 2.0 * wide,
        "maker_gain": 0.9 * wide,
    }
    return Signals(**{**parts, **changes})


def draws(
    count: int = 1, *, symbols: int = 1, u0: float = ALWAYS, u1: float = 0.5, u2: float = 0.25, normal: float = 0.0
) -> Draws:
    """The same numbers for every trader."""

    def full(number: float) -> Tensor:
        return torch.full((1, symbols, count), number)

    return Draws(u0=full(u0), u1=full(u1), u2=full(u2), normal=full(normal))


def decide(family: Any, config: MarketConfig, memory: Any, *, signals: Signals, **seen: Any) -> tuple[Orders, Any]:
    """The orders of one family alone, and its new memory."""
    intent, memory = family.decide(structure(config), PARAMS, memory, signals=signals, **seen)
    return orders_of(PARAMS, signals, [intent]), memory


def sizes(orders: Orders) -> list[float]:
    return orders.size.flatten().tolist()


def price(orders: Orders) -> float:
    return orders.price.flatten()[0].item()


def test_prices_have_a_lowest_and_a_highest_point() -> None:
    for side, expected in ((1.0, 1.0), (-1.0, float(HIGHEST))):
        intent = OrderIntent(singles(1.0) > 0.0, singles(side), size=5.0, most=9.0, distance=1e30)
        assert price(orders_of(PARAMS, signals(), [intent])) == expected


# --- value traders


def believer(**changes: float) -> value.ValueMemory:
    traits = {"rate": 0.05, "threshold": 0.004, "error_scale": 0.0, "capacity": 500.0, "quiet_size": 9.0, "error": 0.0}
    return value.ValueMemory(**{name: singles(number) for name, number in {**traits, **changes}.items()})


def believe(memory: value.ValueMemory, seen: Signals, held: float = 0.0, **numbers: float) -> Orders:
    orders, _ = decide(value, CONFIG, memory, signals=seen, shares=singles(held), draws=draws(**numbers))
    return orders


def test_value_trader_buys_what_is_cheap_and_sells_what_is_dear() -> None:
    cheap = believe(believer(), signals(value=per_symbol(0.05)))
    assert (sizes(cheap), price(cheap), cheap.life.item()) == ([25.0], 10_100.0, 0.0)  # at once, at any price
    dear = believe(believer(), signals(value=per_symbol(-0.05)))
    assert (sizes(dear), price(dear)) == ([-25.0], 9_900.0)


def test_value_trader_wants_more_the_wider_the_gap() -> None:
    # 0.35 x 500 shares x gap / 3 %
    small = believe(believer(threshold=0.0001), signals(value=per_symbol(0.001)))
    assert sizes(small) == [6.0]
    # Never beyond its own belief less half the threshold: 10,000 exp(0.00095) = 10009.5
    assert price(small) == 10_009.0


def test_value_trader_acts_by_chance() -> None:
    assert sizes(believe(believer(), signals(value=per_symbol(0.05)), u0=NEVER)) == [0.0]
    assert sizes(believe(believer(rate=0.05), signals(value=per_symbol(0.05)), u0=0.0501)) == [0.0]
    assert sizes(believe(believer(rate=0.05), signals(value=per_symbol(0.05)), u0=0.0499)) == [25.0]


def test_value_trader_has_a_capacity() -> None:
    full = believe(believer(), signals(value=per_symbol(0.03)), held=500.0)
    assert [abs(size) for size in sizes(full)] == [9.0]  # no gap left: a quiet quote
    beyond = believe(believer(), signals(value=per_symbol(0.03)), held=1_000.0)
    assert sizes(beyond) == [-25.0]


def test_patient_value_trader_waits_behind_the_touch() -> None:
    waits = believe(believer(), signals(value=per_symbol(0.05)), u2=0.9)
    assert sizes(waits) == [25.0]
    assert price(waits) < 9_998.0
    assert waits.life.item() > 0.0


def test_unconvinced_value_trader_quotes_around_its_belief() -> None:
    fair = signals(value=per_symbol(0.0))
    buys, sells = believe(believer(), fair, u1=0.49), believe(believer(), fair, u1=0.51)
    assert (sizes(buys), sizes(sells)) == ([9.0], [-9.0])
    assert (price(buys), price(sells)) == (9_960.0, 10_041.0)  # 10,000 exp(-+0.004), rounded away
    assert min(buys.life.item(), sells.life.item()) >= 20.0
    # Half a threshold of cheapness tilts the coin to three in four.
    tilted = signals(value=per_symbol(0.002))
    assert sizes(believe(believer(), tilted, u1=0.74)) == [9.0]
    assert sizes(believe(believer(), tilted, u1=0.76)) == [-9.0]


def test_beliefs_change_only_when_their_owner_acts() -> None:
    memory = believer(error=0.02, error_scale=0.02)
    _, rests = decide(value, CONFIG, memory, signals=signals(), shares=singles(0.0), draws=draws(u0=NEVER, normal=2.0))
    assert rests.error.item() == pytest.approx(0.02)
    _, acts = decide(value, CONFIG, memory, signals=signals(), shares=singles(0.0), draws=draws(normal=2.0))
    assert acts.error.item() == pytest.approx(0.9 * 0.02 + (1 - 0.81) ** 0.5 * 0.02 * 2.0)


# --- trend followers and mean reversion


def follower(fast: float, slow: float, *, signal: float = 0.0, uses_signal: float = 0.0) -> trend.TrendMemory:
    numbers = {
        "rate": 0.1,
        "gain": 1.0,
        "fast_weight": 0.1,
        "slow_weight": 0.03,
        "signal_weight": 0.14,
        "uses_signal": uses_signal,
        "fast": fast,
        "slow": slow,
        "signal": signal,
    }
    return trend.TrendMemory(**{name: singles(number) for name, number in numbers.items()})


def follow(memory: trend.TrendMemory, log_mid: float, held: float = 0.0, **numbers: float) -> Orders:
    seen = signals(log_mid=per_symbol(log_mid))
    return decide(trend, CONFIG, memory, signals=seen, shares=singles(held), draws=draws(**numbers))[0]


def test_trend_follower_goes_with_the_trend() -> None:
    up, down = follow(follower(0.02, 0.01), 0.02), follow(follower(-0.02, -0.01), -0.02)
    assert (sizes(up), price(up)) == ([20.0], 10_100.0)
    assert (sizes(down), price(down)) == ([-20.0], 9_900.0)
    assert sizes(follow(follower(0.0, 0.0), 0.0)) == [0.0]
    assert sizes(follow(follower(0.02, 0.01), 0.02, u0=NEVER)) == [0.0]


def test_trend_follower_stops_at_its_capacity_and_leaves_when_the_trend_ends() -> None:
    assert sizes(follow(follower(0.02, 0.01), 0.02, held=150.0)) == [0.0]
    assert sizes(follow(follower(0.0, 0.0), 0.0, held=150.0)) == [-20.0]
    assert sizes(follow(follower(0.0, 0.0), 0.0, held=2.0)) == [0.0]  # not worth an order


def test_trend_follower_may_join_the_touch() -> None:
    waits = follow(follower(0.02, 0.01), 0.02, u2=0.7)
    assert (sizes(waits), price(waits), waits.life.item()) == ([20.0], 9_998.0, 4.0)


def test_signal_line_followers_trade_the_turn() -> None:
    # The averages still say up, but by less than their own average: time to leave.
    assert sizes(follow(follower(0.02, 0.01), 0.02)) == [20.0]
    assert sizes(follow(follower(0.02, 0.01, signal=0.03, uses_signal=1.0), 0.02)) == [-20.0]


def fader(**changes: float) -> reversion.ReversionMemory:
    numbers = {"rate": 0.1, "entry": 1.0, "weight": 0.05, "scale": 0.3, "mean": 0.0, "up": 3e-4, "down": 3e-4}
    parts: dict[str, Tensor] = {name: singles(number) for name, number in {**numbers, **changes}.items()}
    parts.setdefault("uses_runs", singles(0.0))
    return reversion.ReversionMemory(**parts)


def fade(memory: reversion.ReversionMemory, held: float = 0.0, **changes: Tensor) -> list[float]:
    orders, _ = decide(reversion, CONFIG, memory, signals=signals(**changes), shares=singles(held), draws=draws(u2=0.1))
    return sizes(orders)


def test_reversion_trader_leans_against_the_move() -> None:
    assert fade(fader(), log_mid=per_symbol(0.02)) == [-20.0]
    assert fade(fader(), log_mid=per_symbol(-0.02)) == [20.0]
    assert fade(fader(), log_mid=per_symbol(0.002)) == [0.0]  # within the band
    assert fade(fader(), held=-80.0, log_mid=per_symbol(0.0)) == [20.0]  # back home
    assert fade(fader(), held=-150.0, log_mid=per_symbol(0.02)) == [0.0]


def test_odd_reversion_traders_watch_runs_of_returns() -> None:
    one_way = fader(uses_runs=1.0, up=9e-4, down=1e-4)
    assert fade(one_way, last_return=per_symbol(1e-3)) == [-20.0]
    assert fade(fader(uses_runs=1.0, up=1e-4, down=9e-4), last_return=per_symbol(-1e-3)) == [20.0]
    assert fade(fader(uses_runs=1.0), log_mid=per_symbol(0.02)) == [0.0]  # blind to the level


# --- noise traders


def stir(held: float = 0.0, **numbers: float) -> Orders:
    seen = signals()
    return decide(noise_trader, CONFIG, None, signals=seen, shares=singles(held), draws=draws(**numbers))[0]


def test_noise_trader_flips_a_coin() -> None:
    assert sizes(stir(u1=0.49)) == [8.0]  # the median size
    assert sizes(stir(u1=0.51)) == [-8.0]
    assert sizes(stir(u0=0.056)) == [0.0]
    assert (price(stir(u1=0.1)), price(stir(u1=0.9))) == (10_100.0, 9_900.0)


def test_noise_trader_leans_against_its_inventory() -> None:
    # At 300 shares and beyond, it buys one time in twenty.
    assert [sizes(stir(held=held, u1=0.06)) for held in (300.0, 3_000.0)] == [[-8.0], [-8.0]]
    assert sizes(stir(held=300.0, u1=0.04)) == [8.0]
    assert sizes(stir(held=-300.0, u1=0.94)) == [8.0]


def test_noise_trader_sizes_have_a_cap() -> None:
    assert sizes(stir(u1=0.1, normal=5.0)) == [150.0]
    assert sizes(stir(u1=0.1, normal=-5.0)) == [1.0]


@pytest.mark.parametrize("u2", [0.8001, 0.82, 0.9, 0.99, 0.9999])
def test_resting_noise_orders_do_not_cross_the_spread(u2: float) -> None:
    buys, sells = stir(u1=0.1, u2=u2), stir(u1=0.9, u2=u2)
    assert price(buys) < 10_002.0
    assert price(sells) > 9_998.0
    assert min(buys.life.item(), sells.life.item()) >= 2.0


# --- meta-orders


def working(remaining: float, child: float = 15.0) -> meta_order.MetaOrderMemory:
    return meta_order.MetaOrderMemory(child=singles(child), remaining=singles(remaining))


def work(memory: meta_order.MetaOrderMemory, held: float = 0.0, **numbers: float) -> tuple[Orders, float]:
    orders, after = decide(meta_order, CONFIG, memory, signals=signals(), shares=singles(held), draws=draws(**numbers))
    return orders, after.remaining.item()


def test_meta_order_trader_never_sends_more_than_is_left() -> None:
    assert sizes(work(working(4_000.0))[0]) == [15.0]
    assert sizes(work(working(7.0))[0]) == [7.0]
    assert sizes(work(working(-7.0))[0]) == [-7.0]
    assert sizes(work(working(-4_000.0), normal=9.0)[0]) == [-300.0]
    assert sizes(work(working(4_000.0), u0=0.6)[0]) == [0.0]


def test_idle_meta_order_trader_takes_on_an_order_and_works_it_from_the_next_tick() -> None:
    orders, remaining = work(working(0.0), u1=0.4, u2=0.5)
    assert sizes(orders) == [0.0]
    assert remaining > 0.0
    assert work(working(0.0), u1=0.6, u2=0.5)[1] == -remaining
    assert work(working(0.0), u0=0.03)[1] == 0.0
    assert work(working(0.0), held=50_000.0, u1=0.06)[1] < 0.0  # who holds much, sells


def test_parent_orders_have_pareto_sizes() -> None:
    """Of as many pieces, each of the trader's own typical size."""
    low, high = CONFIG.population.meta_order.pieces
    drawn = [work(working(0.0), u1=0.01, u2=u2)[1] / 15.0 for u2 in (1e-7, 0.5, 0.9, 1.0 - 1e-7)]
    assert drawn == sorted(drawn)
    assert low <= drawn[0] <= low + 1
    assert high - 20 <= drawn[-1] <= high
    # The median of a Pareto law with exponent 1.5 (the cut at the top hardly matters).
    assert drawn[1] == pytest.approx(low * 2 ** (1 / 1.5), rel=0.01)


def test_meta_order_trader_counts_its_fills() -> None:
    def left(remaining: float, fills: float) -> float:
        memory = meta_order.settle(
            working(remaining), shares_before=singles(0.0), fills=singles(fills), log_close=per_symbol(0.0)
        )
        return memory.remaining.item()

    assert (left(100.0, 15.0), left(-100.0, -15.0), left(15.0, 15.0)) == (85.0, -85.0, 0.0)
    assert (left(10.0, 15.0), left(-10.0, -15.0)) == (0.0, 0.0)  # never past zero


# --- news reactors


def reader(anchor: float = 0.0, perceived: float = 0.0, timer: float = 0.0) -> news.NewsMemory:
    return news.NewsMemory(anchor=singles(anchor), perceived=singles(perceived), timer=singles(timer))


def read(memory: news.NewsMemory, seen: Signals, held: float = 0.0, **numbers: float) -> tuple[Orders, news.NewsMemory]:
    return decide(news, CONFIG, memory, signals=seen, shares=singles(held), draws=draws(**numbers))


def headline(effect: float, **changes: Tensor) -> Signals:
    return signals(
        arrived=torch.ones(1, 1, 1, dtype=torch.bool),
        headline=per_symbol(effect),
        duration=per_symbol(60.0),
        **changes,
    )


def test_news_reactor_trades_the_headline() -> None:
    good, memory = read(reader(), headline(0.02))
    assert sizes(good) == [40.0]
    assert price(good) == 10_100.0
    assert memory.timer.item() == 60 * 0.75 - 1
    assert sizes(read(reader(), headline(-0.02))[0]) == [-40.0]
    # 0.3 x 250 shares x 0.45 % / 2 %, rounded up, and no higher than the perceived effect less 0.1 %
    small, _ = read(reader(), headline(0.0045))
    assert (sizes(small), price(small)) == ([17.0], 10_035.0)


def test_news_reactor_misjudges() -> None:
    _, memory = read(reader(), headline(0.02), normal=1.0)
    assert memory.perceived.item() == pytest.approx(0.02 * 1.4)
    assert sizes(read(reader(), headline(0.02), normal=-3.0)[0])[0] < 0.0  # reads +2 % as -0.4 %


def test_news_reactor_lets_go_when_the_price_has_done_it() -> None:
    interested = reader(anchor=0.0, perceived=0.02, timer=30.0)
    assert sizes(read(interested, signals(log_mid=per_symbol(0.005)))[0]) == [40.0]
    assert sizes(read(interested, signals(log_mid=per_symbol(0.019)))[0]) == [0.0]
    assert sizes(read(interested, signals(log_mid=per_symbol(0.031)))[0]) == [-40.0]
    assert sizes(read(interested, signals(), held=250.0)[0]) == [0.0]  # its capacity


def test_news_reactor_unwinds_afterwards() -> None:
    over = reader(perceived=0.02, timer=0.0)
    assert sizes(read(over, signals(), held=90.0)[0]) == [-20.0]
    assert sizes(read(over, signals(), held=-6.0)[0]) == [6.0]
    assert sizes(read(over, signals(), held=0.0)[0]) == [0.0]
    assert sizes(read(over, signals(), held=90.0, u0=0.04)[0]) == [0.0]


# --- stop traders


def stopper(entry: float = 0.0, leaving: bool = False) -> stop.StopMemory:
    return stop.StopMemory(
        stop_loss=singles(0.01), take_profit=singles(0.02), entry=singles(entry), leaving=singles(float(leaving))
    )


def guard(memory: stop.StopMemory, log_mid: float, held: float, **numbers: float) -> tuple[Orders, stop.StopMemory]:
    seen = signals(log_mid=per_symbol(log_mid), volatility=per_symbol(9e-4))  # the usual: bounds as they are
    return decide(stop, CONFIG, memory, signals=seen, shares=singles(held), draws=draws(**numbers))


@pytest.mark.parametrize(
    ("held", "log_mid", "size"),
    [
        (37.0, -0.011, -37.0),  # stop-loss: everything, whatever the chance
        (37.0, -0.009, 0.0),
        (37.0, 0.021, -37.0),  # take-profit
        (37.0, 0.019, 0.0),
        (-37.0, 0.011, 37.0),  # a short position, the other way about
        (-37.0, -0.021, 37.0),
        (-37.0, -0.019, 0.0),
    ],
)
def test_stop_trader_leaves_at_its_bounds(held: float, log_mid: float, size: float) -> None:
    orders, memory = guard(stopper(), log_mid, held, u0=NEVER)
    assert sizes(orders) == [size]
    assert memory.leaving.item() == (size != 0.0)
    if size:
        assert price(orders) == (10_100.0 if size > 0 else 9_900.0)


def test_stop_trader_leaves_until_it_is_out() -> None:
    orders, memory = guard(stopper(leaving=True), 0.0, 12.0, u0=NEVER)  # the price has come back: too late
    assert (sizes(orders), memory.leaving.item()) == ([-12.0], True)
    assert not guard(stopper(leaving=True), 0.0, 0.0, u0=NEVER)[1].leaving.item()


def test_stop_trader_enters_mostly_long() -> None:
    assert sizes(guard(stopper(), 0.0, 0.0, u1=0.59)[0]) == [40.0]
    assert sizes(guard(stopper(), 0.0, 0.0, u1=0.61)[0]) == [-40.0]
    assert sizes(guard(stopper(), 0.0, 0.0, u0=0.009)[0]) == [0.0]


def test_stop_trader_remembers_where_it_came_in() -> None:
    def entry(before: float, fills: float) -> float:
        memory = stop.settle(
            stopper(entry=0.5), shares_before=singles(before), fills=singles(fills), log_close=per_symbol(0.25)
        )
        return memory.entry.item()

    assert (entry(0.0, 12.0), entry(0.0, 0.0), entry(12.0, -12.0)) == (0.25, 0.5, 0.5)


# --- pairs traders and sector rotators


def test_pairs_trader_buys_the_cheap_leg_and_sells_the_dear_one() -> None:
    config = CONFIG.replace(num_symbols=3)
    leg = torch.tensor([[[1.0], [-1.0], [0.0]]])
    one = torch.ones_like(leg)
    memory = pairs.PairsMemory(leg=leg, weight=0.01 * one, mean=0.0 * one, variance=1e-4 * one, bet=0.0 * one)
    wide = signals(log_mid=per_symbol(0.03, -0.01, 0.5), mid=per_symbol(10_000.0, 5_000.0, 10_000.0))
    flat, numbers = torch.zeros_like(leg), draws(symbols=3)
    orders, after = decide(pairs, config, memory, signals=wide, shares=flat, draws=numbers)
    assert sizes(orders) == [-20.0, 20.0, 0.0]
    assert after.bet.flatten().tolist() == [-1.0, -1.0, -1.0]
    assert orders.price.flatten()[:2].tolist() == [9_900.0, 10_100.0]

    # Equal notional: 60 shares at 10,000 points, 120 at 5,000.
    held = torch.tensor([[[-60.0], [120.0], [0.0]]])
    assert sizes(decide(pairs, config, memory, signals=wide, shares=held, draws=numbers)[0]) == [0.0] * 3
    # Two standard deviations open a bet, half of one closes it; in between it stays.
    betting = dataclasses.replace(memory, bet=-one)
    between = signals(log_mid=per_symbol(0.01, 0.0, 0.0))
    closed = signals(log_mid=per_symbol(0.004, 0.0, 0.0))
    small = torch.tensor([[[-60.0], [60.0], [0.0]]])
    assert sizes(decide(pairs, config, betting, signals=between, shares=small, draws=numbers)[0]) == [0.0] * 3
    assert sizes(decide(pairs, config, betting, signals=closed, shares=small, draws=numbers)[0]) == [20, -20, 0]
    assert sizes(decide(pairs, config, memory, signals=between, shares=flat, draws=numbers)[0]) == [0.0] * 3


def test_every_pair_has_its_trader() -> None:
    config = CONFIG.replace(num_symbols=4)
    _, memories = born(config)
    legs = memories["pairs"].leg[0]
    assert {tuple(legs[:, k].nonzero().flatten().tolist()) for k in range(6)} == {
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 2),
        (1, 3),
        (2, 3),
    }
    assert legs.sum(0).tolist() == [0.0] * 6


def test_rotator_moves_to_the_sector_with_the_better_news() -> None:
    config = CONFIG.replace(num_symbols=4)  # sectors 0, 1, 0, 1
    memory = rotator.RotatorMemory(drift=torch.zeros(1, 4, 1))
    mood = signals(sector_mood=per_symbol(0.8, -0.4, 0.8, -0.4))
    flat, numbers = torch.zeros(1, 4, 1), draws(symbols=4)
    orders, _ = decide(rotator, config, memory, signals=mood, shares=flat, draws=numbers)
    # Each symbol beats two of the three others: 200 shares x 0.3 x 2/3 = 40, a tenth of it at a time.
    assert sizes(orders) == [4.0, -4.0, 4.0, -4.0]
    held = torch.tensor([[[40.0], [-40.0], [40.0], [-40.0]]])
    assert sizes(decide(rotator, config, memory, signals=mood, shares=held, draws=numbers)[0]) == [0.0] * 4
    quiet = signals(mid=per_symbol(*[1e4] * 4))
    unwinds, _ = decide(rotator, config, memory, signals=quiet, shares=held, draws=numbers)
    assert sizes(unwinds) == [-4.0, 4.0, -4.0, 4.0]


def test_rotator_follows_returns_too() -> None:
    config = CONFIG.replace(num_symbols=2, num_sectors=2)
    memory = rotator.RotatorMemory(drift=torch.tensor([[[1e-3], [-1e-3]]]))
    quiet = signals(mid=per_symbol(1e4, 1e4))
    orders, _ = decide(rotator, config, memory, signals=quiet, shares=torch.zeros(1, 2, 1), draws=draws(symbols=2))
    assert sizes(orders) == [6.0, -6.0]


# --- makers

MAKERS = dataclasses.replace(
    structure(CONFIG), families={"value": slice(0, 1), "maker": slice(1, 1 + CONFIG.population.maker.count)}
)


HALF = torch.tensor([[2.0]], dtype=torch.float64)


def quoting(reference: float = 10_000.0) -> maker.MakerMemory:
    """Three makers at one, two and four half-spreads, ten shares each."""
    zero = torch.zeros(1, 1, 3)
    nothing = StartDraws(**{entry.name: zero for entry in dataclasses.fields(StartDraws)})
    opening, _ = maker.start(MAKERS, PARAMS, nothing, torch.zeros((1, 1), dtype=torch.float64))
    return dataclasses.replace(
        opening,
        reference=torch.full((1, 1), reference, dtype=torch.float64),
        depth=torch.tensor([[[1.0, 2.0, 4.0]]], dtype=torch.float64),
        size=torch.tensor([[[10.0, 10.0, 10.0]]], dtype=torch.float64),
    )


def resting(price: int = 1, size: int = 0) -> Book:
    """One other trader's order, and the makers' empty slots."""
    prices = torch.tensor([[[price] + [1] * 6]])
    sizes = torch.tensor([[[size] + [0] * 6]])
    return narrow(Book(price=prices, size=sizes, expiry=torch.zeros_like(sizes)))


def quoted(held: list[int], book: Book) -> tuple[Book, Book]:
    """What is left of the other trader's order, and the quotes."""
    shares, seen = torch.tensor([[held]]), dataclasses.replace(signals(), maker_half_spread=HALF)
    return traders.quote(MAKERS, PARAMS, {"maker": quoting()}, seen, shares, book)


def quotes(held: list[int], book: Book | None = None) -> tuple[list[int], list[int], list[int], list[int]]:
    """Bids, asks, and their shares."""
    _, own = quoted(held, book or resting())
    own_price, own_size = own.price[0, 0].tolist(), own.size[0, 0].tolist()
    return own_price[:3], own_price[3:], own_size[:3], own_size[3:]


def test_makers_quote_both_sides_of_the_reference() -> None:
    bids, asks, bid_sizes, ask_sizes = quotes([0, 0, 0])
    assert bids == [9_998, 9_996, 9_992]
    assert asks == [10_002, 10_004, 10_008]
    assert (bid_sizes, ask_sizes) == ([10] * 3, [-10] * 3)


def test_makers_who_are_long_quote_lower_and_buy_less() -> None:
    flat_bids, flat_asks, *_ = quotes([0, 0, 0])
    bids, asks, bid_sizes, ask_sizes = quotes([50, 50, 50])
    assert all(long < flat for long, flat in zip(bids, flat_bids, strict=True))
    assert all(long < flat for long, flat in zip(asks, flat_asks, strict=True))
    assert (bid_sizes, ask_sizes) == ([5] * 3, [-10] * 3)
    bids, asks, bid_sizes, ask_sizes = quotes([-50, -50, -50])
    assert all(short > flat for short, flat in zip(bids, flat_bids, strict=True))
    assert (bid_sizes, ask_sizes) == ([10] * 3, [-5] * 3)


def test_one_makers_inventory_moves_its_own_quotes_alone() -> None:
    flat, loaded = quotes([0, 0, 0]), quotes([100, 0, 0])
    moved = [before - after for before, after in zip(flat[1], loaded[1], strict=True)]
    assert moved[0] > 0 == moved[1] == moved[2]
    assert loaded[2][0] == 0  # at its limit a maker buys no more


def test_makers_never_cross_one_another() -> None:
    """However much one of them wants to buy and the others to sell, all bids stay below the reference and all asks above it."""
    bids, asks, *_ = quotes([-100, 100, 100])
    assert max(bids) < min(asks)
    bids, asks, *_ = quotes([100, -100, -100])
    assert max(bids) < min(asks)


def test_orders_that_the_quotes_overtake_are_pulled() -> None:
    """Makers would trade at once with an ask at their best bid or lower, 9,998, and with a bid at their best ask, 10,002."""

    def left(price: int, size: int) -> int:
        others, _ = quoted([0, 0, 0], resting(price, size))
        return int(others.size.item())

    assert [left(price, -5) for price in (9_997, 9_998, 9_999, 10_003)] == [0, 0, -5, -5]
    assert [left(price, 5) for price in (10_003, 10_002, 10_001, 9_997)] == [0, 0, 5, 5]
    assert quotes([0, 0, 0], resting(9_997, -5)) == quotes([0, 0, 0])  # the quotes themselves give no way


def surprise(
    fills: list[int], prices: list[int], cleared: int, volume: int, *, reported: float = 0.0
) -> tuple[float, float]:
    """This tick's surprise and the report for the next, with a mid of 10,000."""
    filled, paid = -sum(fills), -sum(f * p for f, p in zip(fills, prices, strict=True))

    def number(value: int) -> Tensor:
        return torch.tensor([[value]])

    taken = Execution(
        filled=torch.tensor([[[filled]]]),
        paid=torch.tensor([[[paid]]]),
        last_price=number(0),
        fills=torch.tensor([[fills]]),
        remainder=torch.tensor([[[0]]]),
        limit=torch.tensor([[[0]]]),
    )
    auction = Auction(price=number(cleared), volume=number(volume), fills=torch.tensor([[[0] * (len(fills) + 1)]]))
    memory = dataclasses.replace(quoting(), reported=torch.full((1, 1), reported, dtype=torch.float64))
    now, later = maker.surprise(
        PARAMS, memory, signals=signals(), execution=taken, auction=auction, mid_x2=number(20_000)
    )
    return now.item(), later.item()


def test_surprise_is_the_traded_price_less_the_mid() -> None:
    assert surprise([0], [1], 10_006, 30) == (6.0, 0.0)
    assert surprise([0], [1], 9_999, 0) == (0.0, 0.0)  # nothing traded
    assert surprise([0], [1], 9_996, 5, reported=1.5) == (-2.5, 0.0)


def test_the_learners_trades_are_reported_a_tick_later() -> None:
    bought, sold = surprise([-10], [10_002], 9_999, 0), surprise([10], [9_998], 9_999, 0)
    assert (bought[0], sold[0]) == (0.0, 0.0)
    assert bought[1] == -sold[1] > 0.0
    # Half a standard deviation of a tick, 10 points, for a trade of the usual volume; a quarter of the size counts half.
    usual = int(CONFIG.usual_volume)
    whole, quarter = surprise([-usual], [10_002], 9_999, 0), surprise([-usual // 4], [10_002], 9_999, 0)
    assert whole[1] == pytest.approx(10.0 * CONFIG.population.maker.trade_impact)
    assert quarter[1] == pytest.approx(0.5 * whole[1], rel=0.02)


def learnt(surprised: float = 0.0, public: float = 0.0, bought: int = 0, **changes: Tensor) -> maker.MakerMemory:
    """After a surprise that was reported a tick ago, public news, and shares that a learner bought."""
    wide, nothing = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.int64)
    own = torch.tensor([[[bought]]])
    return maker.learn(
        PARAMS,
        dataclasses.replace(quoting(), reported=surprised * wide, **changes),
        signals=signals(),
        execution=Execution(own, own * 10_001, nothing, -own, own * 0, own * 0),
        auction=Auction(nothing, nothing, torch.zeros(1, 1, 2, dtype=torch.int64)),
        mid_x2=nothing + 20_000,
        public_move=public * wide,
    )


def test_makers_follow_surprises_they_did_not_expect() -> None:
    assert learnt().reference.item() == 10_000.0
    up, down = learnt(5.0), learnt(-5.0)
    assert 10_000.0 < up.reference.item() < 10_005.0
    assert up.reference.item() - 10_000.0 == pytest.approx(10_000.0 - down.reference.item())
    means = up.expected.flatten().tolist()
    assert means == sorted(means, reverse=True)
    assert means[-1] > 0.0
    for k, weight in enumerate(CONFIG.population.maker.expectation_weights):
        awaited = torch.zeros(1, 1, len(means), dtype=torch.float64)
        awaited[..., k] = 5.0
        assert (learnt(5.0, expected=awaited).reference.item() < up.reference.item()) == (weight > 0.0)
    # However wild the print, the reference moves by a bounded step: five standard deviations of a tick, 50 points.
    assert 10_010.0 < learnt(1e6).reference.item() < 10_051.0
    assert learnt(bought=10).reported.item() == surprise([-10], [10_001], 9_999, 0)[1] > 0.0


def test_makers_take_in_public_news_at_once() -> None:
    assert learnt(public=0.01).reference.item() == pytest.approx(10_100.5, abs=0.01)


def test_makers_come_back_to_the_mid() -> None:
    """Quotes that stand far above the market are brought down, whatever the surprises say."""
    above = torch.full((1, 1), 10_040.0, dtype=torch.float64)
    assert learnt(reference=above).reference.item() < 10_040.0 - 0.4 * (40.0 - 6.0)


# --- the market as a whole


def born(config: MarketConfig, markets: int = 4) -> tuple[Tensor, dict[str, Any]]:
    """Opening inventories [N, S, A] and memories."""
    places = structure(config)
    seeds = torch.arange(markets)
    plan, params = make_plan(places, CPU), make_params(config, markets, CPU)
    noise = draw_start(places, plan, make_key(seeds, torch.zeros_like(seeds)))
    zero = torch.zeros(markets, config.num_symbols, dtype=torch.float64)

    class Latent:
        level = zero

    memories, shares, _ = traders.start(places, params, Latent(), noise)  # type: ignore[arg-type]
    return shares, memories


@pytest.mark.parametrize("config", [MarketConfig(), toy(num_symbols=3)], ids=["default", "toy of three"])
def test_opening_inventories_cancel(config: MarketConfig) -> None:
    shares, memories = born(config, markets=16)
    assert shares.dtype == torch.int64
    assert shares.sum(-1).unique().tolist() == [0]
    assert (shares != 0).any()
    assert set(memories) == {*structure(config).families} - {"noise"}


def test_traits_lie_in_their_ranges() -> None:
    config = MarketConfig()
    _, memories = born(config, markets=64)
    family = config.population

    def within(values: Tensor, low_high: tuple[float, float]) -> None:
        low, high = low_high
        assert low * 0.999 <= values.min() <= low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) <= values.max() <= high * 1.001

    within(memories["value"].rate, family.value.rate)
    within(memories["value"].threshold, family.value.threshold)
    within(memories["stop"].stop_loss, family.stop.stop_loss)
    within(memories["stop"].take_profit, family.stop.take_profit)
    child = memories["meta_order"].child
    rank = torch.arange(1, family.meta_order.count + 1)
    torch.testing.assert_close(
        child, (family.meta_order.child * rank**-family.meta_order.concentration).expand_as(child)
    )
    within(memories["reversion"].entry, family.reversion.entry)
    assert memories["maker"].size.max() <= family.maker.max_size
    remaining = memories["meta_order"].remaining
    assert 0.4 < (remaining == 0.0).float().mean() < 0.6
    assert (remaining.abs() <= torch.ceil(family.meta_order.pieces[1] * child)).all()


def lively() -> MarketConfig:
    """Much news, and stop traders easily stopped who need several ticks to leave: every family has something to do."""
    often = {
        kind: NewsKind(probability=0.02, scale=0.02, duration=20, immediate=0.5)
        for kind in ("earnings", "guidance", "sector", "macro")
    }
    crowd = toy().population
    nervous = dataclasses.replace(crowd.stop, max_size=15, stop_loss=(0.001, 0.004))
    population = dataclasses.replace(crowd, stop=nervous, taker=Takers(count=1))
    return toy(num_symbols=4, fundamentals=Fundamentals(**often), population=population)


@pytest.fixture(scope="module")
def week() -> list[tuple[MarketState, Orders, MarketState]]:
    """State, orders on it, and the state after the tick, for many ticks of a lively market."""
    market = opened(lively(), 4)
    places = structure(market.config)
    params, plan = make_params(market.config, 4, CPU), make_plan(places, CPU)
    seen = []
    for _ in range(40):
        state = market.state
        world = read_signals(params, state)
        noise = draw(places, plan, state.clock.key, state.clock.tick + 1)
        orders, _ = traders.decide(places, params, state, signals=world, noise=noise)
        market.step()
        seen.append((state, orders, market.state))
    return seen


def of_family(orders: Orders, name: str) -> Orders:
    place = structure(lively()).families[name]
    return Orders(price=orders.price[..., place], size=orders.size[..., place], life=orders.life[..., place])


@pytest.mark.parametrize("name", [name for name, row in traders.TRADERS.items() if row.decide is not None])
def test_orders_of_every_family_are_orders(name: str, week: list[Any]) -> None:
    family: Family = getattr(lively().population, name)
    acted = 0
    for _, orders, _ in week:
        own = of_family(orders, name)
        assert all(part.dtype == torch.float32 for part in (own.price, own.size, own.life))
        assert torch.equal(own.size, torch.round(own.size))
        assert own.size.abs().max() <= family.max_size
        acts = own.size != 0.0
        acted += int(acts.sum())
        price, life = own.price[acts], own.life[acts]
        assert torch.equal(price, torch.round(price))
        assert torch.equal(life, torch.round(life))
        assert price.numel() == 0 or (price.min() >= 1.0 and life.min() >= 0.0)
    assert acted > 0


def test_a_living_meta_order_trader_stays_within_its_parent_order(week: list[Any]) -> None:
    place = structure(lively()).families["meta_order"]
    worked = 0
    for before, orders, after in week:
        remaining = before.traders["meta_order"].remaining
        own = of_family(orders, "meta_order")
        assert (own.size.abs() <= remaining.abs()).all()
        assert (own.size * remaining >= 0.0).all()
        left, rests = after.traders["meta_order"].remaining, after.book.size[..., place]
        assert (rests.abs() <= left.abs()).all()
        assert (rests * left >= 0.0).all()
        bought = (after.accounts.shares - before.accounts.shares)[..., place]
        busy = remaining != 0.0
        assert torch.equal((remaining - left)[busy], bought.to(torch.float32)[busy])
        assert not bought[~busy].any()
        worked += int(bought.abs().sum())
    assert worked > 0


def test_a_living_stop_trader_sells_out(week: list[Any]) -> None:
    place = structure(lively()).families["stop"]
    left = 0
    for before, orders, _ in week:
        held = before.accounts.shares[..., place].to(torch.float32)
        leaving = (before.traders["stop"].leaving > 0.0) & (held != 0.0)
        size = of_family(orders, "stop").size
        cap = float(lively().population.stop.max_size)
        assert torch.equal(size[leaving], -held[leaving].clamp(-cap, cap))
        left += int(leaving.sum())
    assert left > 0


def test_makers_always_quote_around_their_reference(week: list[Any]) -> None:
    places = structure(lively())
    for _, _, after in week:
        reference = after.traders["maker"].reference.unsqueeze(-1)
        quoted, own = after.book.price[..., places.singles :], after.book.size[..., places.singles :]
        assert (quoted[..., : places.makers] < reference).all()
        assert (quoted[..., places.makers :] > reference).all()
        assert (own[..., : places.makers] >= 0).all()
        assert (own[..., places.makers :] <= 0).all()


def test_a_family_is_a_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table alone decides who trades: when a row is changed to rest, its traders rest and the others go on."""
    decide: Callable[..., Any] = traders.TRADERS["noise"].decide

    def rest(*arguments: Any, **named: Any) -> Any:
        intent, memory = decide(*arguments, **named)
        return dataclasses.replace(intent, acts=torch.zeros_like(intent.acts)), memory

    monkeypatch.setitem(traders.TRADERS, "noise", dataclasses.replace(traders.TRADERS["noise"], decide=rest))
    config = toy()
    before, _ = born(config, markets=2)
    accounts, places = opened(config, 2).state.accounts, structure(config)
    noise = places.families["noise"]
    assert torch.equal(accounts.shares[..., noise], before[..., noise])
    assert not torch.equal(accounts.shares[..., noise.stop :], before[..., noise.stop :])


def test_the_table_and_the_population_name_the_same_families() -> None:
    assert list(traders.TRADERS) == list(FAMILIES) == list(Population().families)
