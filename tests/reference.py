"""The market in plain Python: one market at a time, loops over traders and orders, one number at a time.

Slow and obvious on purpose. `Market.tick` is what the tensor tick has to equal, trader by trader and bit by bit
(tests/test_reference.py); it imports no phase of the engine and carries a state of its own. Its coefficients are the settings of
the configuration, read where they are used.

Integers are Python integers. Real numbers are numpy scalars of the engine's width, because a float32 that is rounded differently
can tip a floor; a Python constant takes the width of what it meets (numpy 2). The four elementary functions are the engine's, on
one number: library versions round differently, and tests/test_exact.py answers for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgym.config import Fundamentals, MarketConfig, structure
from torchgym.numerics import exact
from torchgym.sim.noise import Noise
from torchgym.sim.state import MarketState

f32, f64 = np.float32, np.float64
Real = Any  # a numpy float32 or float64 scalar
Level = tuple[int, int]  # distance from trading, and less than nothing by the order's age: lower ones trade first
Levels = list[tuple[Level, int, int]]  # (level, place, shares)


def one_by_one(function: Callable[[Tensor], Tensor]) -> Callable[[Real], Real]:
    """An elementary function of the engine as a function of one number, in its own width."""
    return lambda x: function(torch.from_numpy(np.array([x]))).numpy()[0]


exp, log, sqrt, tanh = (one_by_one(getattr(exact, name)) for name in ("exp", "log", "sqrt", "tanh"))


def clip(x: Any, low: float, high: float) -> Any:
    """x, no lower than `low` and no higher than `high`, in the width of x."""
    kind = type(x)
    return min(max(x, kind(low)), kind(high))


def sign(x: Any) -> int:
    """-1, 0 or 1."""
    return int(x > 0) - int(x < 0)


# --- orders meet ---------------------------------------------------------------------------------------------------------


@dataclass
class Order:
    """A limit order: whole points, shares (positive buys), the tick at whose end it is gone, the tick it took its place at."""

    price: int
    size: int
    expiry: int
    since: int = 0

    def keeps_place(self, old: Order | None) -> bool:
        """Whether the order that was there before stood at the same price and side, with no fewer shares."""
        return (
            old is not None and old.price == self.price and self.size * old.size > 0 and abs(self.size) <= abs(old.size)
        )


def pro_rata(sizes: list[int], share: int) -> list[int]:
    """Cut sizes down to `share` in all: order i gets what the rounded-down running total grows by at i."""
    total, before, cut = sum(sizes), 0, []
    for size in sizes:
        after = before + size
        cut.append(after * share // total - before * share // total)
        before = after
    return cut


def take(queue: Levels, wanted: int) -> dict[int, int]:
    """Fill `wanted` shares from the queue, level after level, pro rata in the order of places within one.

    Returns what each place gives.
    """
    given: dict[int, int] = {}
    for level in sorted({level for level, _, _ in queue}):
        here = sorted((place, size) for at, place, size in queue if at == level)
        share = min(wanted, sum(size for _, size in here))
        for (place, _), cut in zip(here, pro_rata([size for _, size in here], share), strict=True):
            given[place] = cut
        wanted -= share
    return given


def walk(
    band: int, book: dict[int, Order], shares: int, limit: int, mid_x2: int, now: int | None = None
) -> SimpleNamespace:
    """A market-like order against the resting ones, each at its own limit, within the order's limit and the band.

    Of one price older orders trade first, if there is a `now`.

    Returns filled (signed), paid (positive when bought), last_price (0 without a fill), and what each place gave.
    """
    side, base = sign(shares), mid_x2 // 2
    queue = []
    for place, order in book.items():
        distance = (order.price - base) * side
        if order.size * side < 0 and order.price * side <= limit * side and distance <= band:
            queue.append(((distance, -age(order.since, now)), place, abs(order.size)))
    given = {place: shares for place, shares in take(queue, abs(shares)).items() if shares > 0}
    prices = [book[place].price * side for place in given]
    return SimpleNamespace(
        filled=side * sum(given.values()),
        paid=side * sum(book[place].price * shares for place, shares in given.items()),
        last_price=side * max(prices) if prices else 0,
        fills={place: -side * shares for place, shares in given.items()},
    )


def age(since: int, now: int | None) -> int:
    """Ticks, up to 64; nothing without a `now`."""
    return 0 if now is None else min(now - since, 64)


def auction(
    band: int, orders: list[tuple[int, int]], mid_x2: int, coin: int, ages: list[int]
) -> tuple[int, int, list[int]]:
    """Price, volume and signed fills of (limit, size) orders: every price of the band is tried.

    The largest volume wins, then the smallest imbalance, then the nearest to the mid (rounded up if the coin is 1). A limit
    keener than the band is cut to it; one further from trading than the band waits. Of one price older orders trade first.
    """
    base = mid_x2 // 2
    lowest, highest = base - band, base + band
    mid = base + mid_x2 % 2 * coin
    bids = [(min(limit, highest), place, size) for place, (limit, size) in enumerate(orders) if size > 0]
    asks = [(max(limit, lowest), place, -size) for place, (limit, size) in enumerate(orders) if size < 0]
    bids = [bid for bid in bids if bid[0] >= lowest]
    asks = [ask for ask in asks if ask[0] <= highest]

    def preference(price: int) -> tuple[int, int, int]:
        demand = sum([size for limit, _, size in bids if limit >= price])
        supply = sum([size for limit, _, size in asks if limit <= price])
        return -min(demand, supply), abs(demand - supply), abs(price - mid)

    price = min(range(lowest, highest + 1), key=preference)
    volume = -preference(price)[0]
    fills = [0] * len(orders)
    if volume == 0:
        return mid, 0, fills
    buyers = [((-limit, -ages[place]), place, size) for limit, place, size in bids if limit >= price]
    sellers = [((limit, -ages[place]), place, size) for limit, place, size in asks if limit <= price]
    for place, cut in take(buyers, volume).items():
        fills[place] = cut
    for place, cut in take(sellers, volume).items():
        fills[place] = -cut
    return price, volume, fills


# --- what traders see ----------------------------------------------------------------------------------------------------


def total_log_volatility(value: SimpleNamespace) -> Real:
    return value.log_volatility[0] + value.log_volatility[1] + value.log_volatility[2]


def hidden_variance(law: Fundamentals) -> float:
    """Stationary variance of the sum of the log-volatilities, whose shocks have the leverage in common."""
    keep = [2.0 ** (-1.0 / half_life) for half_life in law.volatility_half_lives]
    total = 0.0
    for j in range(3):
        row = 0.0
        for k in range(3):
            shared = 1.0 if j == k else law.leverage**2
            shocks = math.sqrt((1.0 - keep[j] ** 2) * (1.0 - keep[k] ** 2))
            scales = shared * law.volatility_scales[j] * law.volatility_scales[k]
            row += scales * shocks / (1.0 - keep[j] * keep[k])
        total += row
    return total


def newest_weight(half_life: float) -> float:
    """Weight of the newest value in an exponential mean."""
    return 1.0 - 2.0 ** (-1.0 / half_life)


@dataclass
class Hour:
    """Of a tick in its day; without days every tick is like midday, which changes no bit."""

    auction: bool
    closes: bool
    activity: Real
    volatility: Real
    move: Real


def hour_of(config: MarketConfig, tick: int) -> Hour:
    """Activity and volatility of a tick, times midday's."""
    own, since = config.session, (tick - 1) % config.session.ticks
    if own.kind == "none":
        return Hour(auction=False, closes=False, activity=f64(1), volatility=f64(1), move=f64(1))
    left = own.ticks - 1 - since
    fall = -math.log(2.0) / own.half_life
    opening, closing = exp(f64(since) * fall), exp(f64(left) * fall)
    activity = 1.0 + (own.open_activity - 1.0) * opening + (own.close_activity - 1.0) * closing
    volatility = 1.0 + (own.open_volatility - 1.0) * opening + (own.close_volatility - 1.0) * closing
    auction = left == 0 or since == 0
    return Hour(
        auction=auction,
        closes=left == 0,
        activity=own.auction_activity * activity if auction else activity,
        volatility=volatility,
        move=f64(own.night) if left == 0 else volatility,
    )


def read_signals(config: MarketConfig, symbol: SimpleNamespace, hour: Hour) -> SimpleNamespace:
    """One symbol at the end of the last tick: float32 for the traders, float64 for the makers."""
    market_data, value, usual, maker = symbol.market_data, symbol.value, config.activity, config.population.maker
    mid = f64(market_data.mids_x2[-1]) * 0.5
    short, middle, long = market_data.variance
    own, weights = usual.volatility_weights, usual.maker_volatility_weights
    maker_volatility = sqrt(weights[0] * short + weights[1] * middle + weights[2] * long)
    maker_volatility = clip(maker_volatility * hour.volatility, *maker.volatility_bounds)

    volumes, returns = market_data.busy_volume, market_data.busy_return
    excited = usual.base + usual.volume_weight * (volumes[0] + volumes[1] + volumes[2])
    excited = excited + (usual.return_weight * (returns[0] + returns[1]) + usual.slow_return_weight * returns[2])
    half_variance = 0.5 * hidden_variance(config.fundamentals)
    activity = clip(excited * exp(total_log_volatility(value) - half_variance), *usual.bounds)

    busy = log(clip(activity * hour.volatility, *usual.maker_bounds))
    activity = activity * hour.activity
    width = maker.base_width + maker.volatility_width * maker_volatility * symbol.maker.reference
    width = width * exp(maker.width_elasticity * busy)
    left = [f64(event.remaining) / max(event.duration, 1) for event in value.events]
    width = width * (1.0 + maker.news_width * left[-1])
    fading = [event.sentiment * share for event, share in zip(value.events, left, strict=True)]
    first, second, third, fourth = (fading[i] + fading[i + 1] for i in (0, 2, 4, 6))
    return SimpleNamespace(
        mid=f32(mid),
        bid=f32(market_data.bid),
        ask=f32(market_data.ask),
        log_mid=f32(market_data.log_mid),
        last_return=f32(market_data.last_return),
        value=f32(value.level),
        volatility=f32(sqrt(own[0] * short + own[1] * middle) * hour.volatility),
        half_spread=f32(width),
        activity=f32(activity),
        attention=f32(sqrt(activity)),
        buy_limit=f32(np.floor(mid * (1.0 + usual.marketable))),
        sell_limit=f32(np.ceil(mid * (1.0 - usual.marketable))),
        arrived=value.arrived,
        headline=f32(value.headline),
        duration=f32(value.events[-1].duration),
        mood=f32((first + third) + (second + fourth)),
        reference_mid=mid,
        maker_volatility=maker_volatility,
        maker_half_spread=width,
        maker_gain=maker.surprise_gain * exp(maker.gain_elasticity * busy),
    )


def market_limit(signals: SimpleNamespace, side: int) -> Real:
    return signals.buy_limit if side > 0 else signals.sell_limit


def touch(signals: SimpleNamespace, side: int) -> Real:
    return signals.bid if side > 0 else signals.ask


def lower_for_buys(side: int, first: Real, second: Real) -> Real:
    """The limit less likely to trade."""
    return min(first, second) if side > 0 else max(first, second)


def away_from_trading(side: int, price: Real) -> Real:
    """Rounded to a whole point: down for buys, up for sells."""
    return np.floor(price) if side > 0 else np.ceil(price)


# --- traders: each gives an intent (limit, signed shares, life in ticks) or rests (None), and changes its own memory ----------

OrderIntent = tuple[Real, Real, Real] | None


def value_trader(task: SimpleNamespace) -> OrderIntent:
    config, family, signals, me, draw = task.config, task.family, task.signals, task.me, task.draw
    if not draw.u0 < me.rate * family.rate_factor * signals.attention:
        return None
    keep = family.belief_memory
    me.error = keep * me.error + math.sqrt(1.0 - keep * keep) * me.error_scale * draw.normal
    gap = signals.value + me.error - signals.log_mid - family.full_gap * task.shares / me.capacity

    if abs(gap) > me.threshold:
        side, margin = sign(gap), family.margin * me.threshold
        wanted = (family.urgency / family.full_gap) * me.capacity * abs(gap)
        size = np.ceil(min(wanted, f32(family.max_size)))
    else:
        side = 1 if draw.u1 < 0.5 + 0.5 * gap / me.threshold else -1
        margin, size = me.threshold, me.quiet_size
    worth = config.list_price * exp(signals.log_mid + gap - side * margin)
    limit = lower_for_buys(side, away_from_trading(side, worth), market_limit(signals, side))
    shortest, longest = family.life
    passive = shortest + (longest - shortest) * draw.u2
    if abs(gap) <= me.threshold:
        return limit, side * size, np.floor(passive)
    if draw.u2 < family.aggressive:
        return limit, side * size, f32(0)
    distance = -log(draw.u1) * family.patience * signals.half_spread
    behind = away_from_trading(side, touch(signals, side) - side * distance)
    return lower_for_buys(side, limit, behind), side * size, np.floor(family.patient_life * passive)


def toward_target(task: SimpleNamespace, target: Real, life: float) -> OrderIntent:
    """Close the gap to a target inventory, at market with the family's chance, else at the touch for some ticks."""
    family, gap = task.family, target - task.shares
    if abs(gap) < family.least_size:
        return None
    side, size = sign(gap), np.floor(min(abs(gap), f32(family.max_size)))
    if task.draw.u2 < family.market_share:
        return market_limit(task.signals, side), side * size, f32(0)
    return touch(task.signals, side), side * size, np.floor(f32(life))


def trend_follower(task: SimpleNamespace) -> OrderIntent:
    family, signals, me, draw = task.family, task.signals, task.me, task.draw
    me.fast = me.fast + me.fast_weight * (signals.log_mid - me.fast)
    me.slow = me.slow + me.slow_weight * (signals.log_mid - me.slow)
    line = me.fast - me.slow
    me.signal = me.signal + me.signal_weight * (line - me.signal)
    if me.uses_signal:
        line = line - me.signal
    score = me.gain * line / signals.volatility
    target = family.capacity * f32(sign(score)) * clip(abs(score) - family.dead_zone, 0.0, 1.0)
    if not draw.u0 < me.rate * family.rate_factor * signals.attention:
        return None
    return toward_target(task, target, life=family.life)


def reversion_trader(task: SimpleNamespace) -> OrderIntent:
    family, signals, me, draw = task.family, task.signals, task.me, task.draw
    me.mean = me.mean + me.weight * (signals.log_mid - me.mean)
    me.up = me.up + me.weight * (max(signals.last_return, f32(0)) - me.up)
    me.down = me.down + me.weight * (max(-signals.last_return, f32(0)) - me.down)
    if me.uses_runs:
        score = family.run_score * (me.up - me.down) / (me.up + me.down + 1e-7)
    else:
        score = (signals.log_mid - me.mean) * me.scale / signals.volatility
    target = -family.capacity * f32(sign(score)) * clip(abs(score) - me.entry, 0.0, 1.0)
    if not draw.u0 < me.rate * family.rate_factor * signals.attention:
        return None
    return toward_target(task, target, life=family.life)


def noise_trader(task: SimpleNamespace) -> OrderIntent:
    family, signals, draw = task.family, task.signals, task.draw
    rate = family.rate * signals.activity
    if not draw.u0 < rate:
        return None
    lean = family.lean * clip(task.shares * (1.0 / family.full_inventory), -1.0, 1.0)
    side = 1 if draw.u1 < 0.5 - lean else -1
    size = np.ceil(min(family.size * exp(draw.normal), f32(family.max_size)))
    if draw.u2 < family.market_share:
        return market_limit(signals, side), side * size, f32(0)
    rest = (draw.u2 - family.market_share) * (1.0 / max(1.0 - family.market_share, 1e-6))
    tail = -log(max(rest, f32(1e-6)))
    distance = family.tail * signals.volatility * signals.mid * tail - family.inside * (signals.ask - signals.bid)
    behind = away_from_trading(side, touch(signals, side) - side * distance)
    inside = touch(signals, -side) - side
    return (
        lower_for_buys(side, behind, inside),
        side * size,
        np.floor(family.life + family.life_spread * draw.u0 / rate),
    )


def pareto(config: MarketConfig, uniform: Real) -> Real:
    family = config.population.meta_order
    low, high = family.pieces
    span = 1.0 - (low / high) ** family.exponent
    return np.floor(low * exp(log(1.0 - span * uniform) * (-1.0 / family.exponent)))


def meta_order(task: SimpleNamespace) -> OrderIntent:
    family, signals, me, draw = task.family, task.signals, task.me, task.draw
    if me.remaining == 0.0:
        if draw.u0 < family.start_rate:
            buys = draw.u1 < 0.5 - family.lean * tanh(task.shares * (1.0 / family.full_inventory))
            me.remaining = (1 if buys else -1) * np.ceil(pareto(task.config, draw.u2) * me.child)
        return None
    if not draw.u0 < family.rate * signals.activity:
        return None
    side = sign(me.remaining)
    piece = min(np.ceil(me.child * exp(family.child_spread * draw.normal)), f32(family.max_size))
    size = min(abs(me.remaining), piece)
    if draw.u1 < family.market_share:
        return market_limit(signals, side), side * size, f32(0)
    return touch(signals, side), side * size, np.floor(f32(family.life))


def news_reactor(task: SimpleNamespace) -> OrderIntent:
    config, family, signals, me, draw = task.config, task.family, task.signals, task.me, task.draw
    if signals.arrived:
        me.anchor = signals.log_mid
        me.perceived = signals.headline * (1.0 + family.misjudgement * draw.normal)
        me.timer = np.floor(signals.duration * (family.interest + draw.u2))
    interested = me.timer > 0.0
    me.timer = max(me.timer - 1.0, f32(0))
    if interested:
        gap = me.anchor + me.perceived - signals.log_mid - (family.full_gap / family.capacity) * task.shares
        if not (abs(gap) > family.threshold and draw.u0 < family.rate):
            return None
        side = sign(gap)
        worth = config.list_price * exp(signals.log_mid + gap - side * family.margin)
        limit = lower_for_buys(side, away_from_trading(side, worth), market_limit(signals, side))
        wanted = (family.urgency * family.capacity / family.full_gap) * abs(gap)
        size = np.ceil(min(wanted, f32(family.max_size)))
        return limit, side * size, f32(0)
    if task.shares != 0.0 and draw.u0 < family.unwind_rate:
        side = -sign(task.shares)
        size = np.floor(min(abs(task.shares), f32(family.max_size * 0.5)))
        return market_limit(signals, side), side * size, f32(0)
    return None


def stop_trader(task: SimpleNamespace) -> OrderIntent:
    config, family, signals, me, draw = task.config, task.family, task.signals, task.me, task.draw
    if task.shares == 0.0:
        me.leaving = False
        if not draw.u0 < family.rate * signals.activity:
            return None
        side = 1 if draw.u1 < family.long_share else -1
        size = np.ceil(min(family.size * exp(family.size_spread * draw.normal), f32(family.max_size)))
        return market_limit(signals, side), side * size, f32(0)
    profit = sign(task.shares) * (signals.log_mid - me.entry)
    stretch = clip(signals.volatility * (1.0 / (family.usual_stretch * config.usual_return)), *family.stretch)
    hit = bool(profit < -me.stop_loss * stretch or profit > me.take_profit * stretch)
    me.leaving = me.leaving or hit
    if not me.leaving:
        return None
    side = -sign(task.shares)
    return market_limit(signals, side), side * min(abs(task.shares), f32(family.max_size)), f32(0)


def pairs_trader(task: SimpleNamespace) -> OrderIntent:
    """One leg of a pair; the legs agree because both look at the same spread and at the same number."""
    config, family, signals, me = task.config, task.family, task.signals, task.me
    legs = [symbol.traders[task.place].leg for symbol in task.symbols]
    first, second = legs.index(1.0), legs.index(-1.0)
    away = task.views[first].log_mid - task.views[second].log_mid - me.mean
    score = away / sqrt(me.variance + 1e-10)
    me.mean = me.mean + me.weight * away
    me.variance = me.variance + me.weight * (away * away - me.variance)
    if abs(score) > family.entry:
        me.bet = f32(-sign(score))
    elif abs(score) < family.exit:
        me.bet = f32(0)
    if me.leg == 0.0 or not task.first_draw.u0 < family.rate:
        return None
    notional = np.floor(family.capacity * config.list_price / signals.mid + 0.5)
    gap = me.bet * me.leg * notional - task.shares
    if abs(gap) < family.least_size:
        return None
    side = sign(gap)
    return market_limit(signals, side), side * np.floor(min(abs(gap), f32(family.max_size))), f32(0)


def rotator(task: SimpleNamespace) -> OrderIntent:
    """Hold more where the sector's score is better; `follow_returns` has brought all its drifts up to date."""
    config, family, signals = task.config, task.family, task.signals
    if not task.draw.u0 < family.rate:
        return None
    points: dict[int, list[int]] = {sector: [] for sector in range(config.num_sectors)}
    for s in range(config.num_symbols):
        drift, mood = task.symbols[s].traders[task.place].drift, task.views[s].mood
        own = family.return_weight * drift + family.news_weight * mood
        points[s % config.num_sectors].append(int(np.floor(own * 1e6)))
    score = {sector: sum(own) // len(own) for sector, own in points.items()}
    mine = score[task.symbol % config.num_sectors]
    beats = sum(sign(mine - score[s % config.num_sectors]) for s in range(config.num_symbols))
    gap = np.floor(family.capacity * family.tilt * (f32(beats) * (1.0 / max(config.num_symbols - 1, 1)))) - task.shares
    if gap == 0.0:
        return None
    side = sign(gap)
    return market_limit(signals, side), side * min(np.ceil(abs(gap) * family.urgency), f32(family.max_size)), f32(0)


def follow_returns(config: MarketConfig, me: SimpleNamespace, signals: SimpleNamespace) -> None:
    """A rotator's mean return of one symbol."""
    me.drift = me.drift + newest_weight(config.population.rotator.half_life) * (signals.last_return - me.drift)


TRADERS = {
    "value": value_trader,
    "trend": trend_follower,
    "reversion": reversion_trader,
    "noise": noise_trader,
    "meta_order": meta_order,
    "news": news_reactor,
    "stop": stop_trader,
    "pairs": pairs_trader,
    "rotator": rotator,
}


def remember_fills(family: str, me: SimpleNamespace, shares_before: int, fill: int, log_close: Real) -> None:
    """MetaOrders count down their parent order, never past zero; stop traders note where they came in."""
    if family == "meta_order":
        left = me.remaining - f32(fill)
        me.remaining = f32(0) if sign(left) * sign(me.remaining) < 0 else left
    if family == "stop" and shares_before == 0 and fill != 0:
        me.entry = f32(log_close)


# --- makers --------------------------------------------------------------------------------------------------------------


def learn(config: MarketConfig, maker: SimpleNamespace, signals: SimpleNamespace, e: Real, news: Real) -> None:
    """The reference price follows the surprise e (points) that recent ones did not announce, the mid, and the news."""
    family = config.population.maker
    cap = family.surprise_cap * signals.maker_volatility * maker.reference + family.surprise_cap_points
    es = cap * tanh(e / cap)
    announced = f64(0.0)
    for weight, mean in zip(family.expectation_weights, maker.expected, strict=True):
        announced = announced + weight * mean
    gap = maker.reference - signals.reference_mid
    band = family.band * signals.maker_half_spread
    beyond = gap - clip(gap, -band, band)
    moved = maker.reference + signals.maker_gain * (es - announced)
    moved = moved - family.pull * gap - family.band_pull * beyond
    maker.reference = moved * exp(news)
    for k, half_life in enumerate(family.expectation_half_lives):
        maker.expected[k] = blend(maker.expected[k], newest_weight(half_life), es)


def quote(config: MarketConfig, symbol: SimpleNamespace, singles: int, delta: Real, now: int) -> None:
    """Cancel and replace every maker's bid and ask; orders that a maker would now trade against are pulled before."""
    family, maker, count = config.population.maker, symbol.maker, config.population.maker.count
    bids, asks = [], []
    limit = int(family.limit)
    held = [clip(shares, -limit, limit) for shares in symbol.shares[singles:]]
    for i in range(count):
        load = f64(held[i]) * (1.0 / limit)
        skew = family.skew * load * delta
        reach = maker.depth[i] * delta
        bid = max(int(min(np.floor(maker.reference - reach - skew), np.ceil(maker.reference) - 1.0)), 1)
        ask = max(int(max(np.ceil(maker.reference + reach - skew), np.floor(maker.reference) + 1.0)), 2)
        bids.append(bid)
        asks.append(ask)
        buys = int(np.ceil(maker.size[i] * (1.0 - max(load, f64(0))) - 1e-3))
        sells = int(np.ceil(maker.size[i] * (1.0 + min(load, f64(0))) - 1e-3))
        post(symbol.book, singles + i, Order(bid, buys, 2**31 - 1, now))
        post(symbol.book, singles + count + i, Order(ask, -sells, 2**31 - 1, now))
    for place in range(singles):
        order = symbol.book.get(place)
        if order and (order.price >= min(asks) if order.size > 0 else order.price <= max(bids)):
            del symbol.book[place]


def post(book: dict[int, Order], place: int, order: Order) -> None:
    """Replace what was at this place; a price below one point, or no shares, is no order."""
    old = book.pop(place, None)
    if order.price >= 1 and order.size != 0:
        book[place] = replace(order, since=old.since) if old and order.keeps_place(old) else order


# --- value and news ------------------------------------------------------------------------------------------------------


def happening(config: MarketConfig, draws: SimpleNamespace, s: int) -> tuple[Any, Real, Real]:
    """The kind of news, its sentiment and its magnitude: the market's, else the sector's, else the symbol's, else None."""
    kinds = config.fundamentals
    macro, sector, own = draws.factor_news[0], draws.factor_news[1 + s % config.num_sectors], draws.news[s]
    if macro[0] < kinds.macro.probability * kinds.news_rate:
        kind, drawn = kinds.macro, macro
    elif sector[0] < kinds.sector.probability * kinds.news_rate:
        kind, drawn = kinds.sector, sector
    elif own[0] < kinds.earnings.probability * kinds.news_rate:
        kind, drawn = kinds.earnings, own
    elif own[0] < (kinds.earnings.probability + kinds.guidance.probability) * kinds.news_rate:
        kind, drawn = kinds.guidance, own
    else:
        return None, f64(0), f64(0)
    least, most = kinds.magnitude
    return kind, 2.0 * drawn[1] - 1.0, least + (most - least) * drawn[2]


def advance(config: MarketConfig, value: SimpleNamespace, draws: SimpleNamespace, s: int, hour: Hour) -> None:
    """One tick of a symbol's value, volatility, news and public estimate."""
    law, z = config.fundamentals, draws.value[s]
    own = math.sqrt(1.0 - law.market_loading * law.market_loading - law.sector_loading * law.sector_loading)
    factors = law.market_loading * draws.factors[0] + law.sector_loading * draws.factors[1 + s % config.num_sectors]
    common = factors + own * z[0]
    public = sqrt(f64(law.public_share))
    move = public * common + sqrt(f64(1.0 - law.public_share)) * z[1]
    sigma = law.volatility * exp(total_log_volatility(value) - hidden_variance(law)) * hour.move
    for k in range(3):
        shock = law.leverage * move + math.sqrt(1.0 - law.leverage**2) * z[2 + k]
        keep = 2.0 ** (-1.0 / law.volatility_half_lives[k])
        size = (1.0 - keep * keep) ** 0.5 * law.volatility_scales[k]
        value.log_volatility[k] = keep * value.log_volatility[k] + size * shock

    kind, sentiment, magnitude = happening(config, draws, s)
    immediate = f64(kind.immediate) if kind else f64(0)
    value.arrived = kind is not None
    value.headline = f64(kind.scale) * sentiment * magnitude if kind else f64(0)
    effect = value.headline * exp(law.misreading * z[5] - 0.5 * (law.misreading * law.misreading))
    d = [event.drift if event.remaining > 0 else f64(0) for event in value.events]
    drifts = ((d[0] + d[4]) + (d[2] + d[6])) + ((d[1] + d[5]) + (d[3] + d[7]))
    kappa = math.log(2.0) / law.reversion_half_life
    value.level = value.level - kappa * value.level + sigma * move + effect * immediate + drifts
    value.public_move = sigma * public * common + law.headline_pass_through * value.headline * immediate

    for event in value.events:
        event.remaining = max(event.remaining - 1, 0)
    if kind:
        drift = (effect - effect * immediate) / kind.duration
        born = SimpleNamespace(
            sentiment=sentiment, magnitude=magnitude, drift=drift, duration=kind.duration, remaining=kind.duration
        )
        value.events = [*value.events[1:], born]
    keep = 2.0 ** (-1.0 / config.estimate_half_life)
    spread = math.sqrt(1.0 - keep * keep) * config.estimate_error
    value.estimate_error = keep * value.estimate_error + spread * z[6]


# --- market data


def measure(config: MarketConfig, symbol: SimpleNamespace, done: SimpleNamespace, hour: Hour) -> None:
    """What everybody can see after the tick; `done` is what traded."""
    market_data, book, usual = symbol.market_data, symbol.book.values(), config.activity
    centre = int(np.floor(symbol.maker.reference))
    bids = [order for order in book if order.size > 0]
    asks = [order for order in book if order.size < 0]
    bid = max((order.price for order in bids), default=None)
    ask = min((order.price for order in asks), default=None)
    if ask is None:
        ask = centre + 20 if bid is None else max(centre + 20, bid + 1)
    if bid is None:
        bid = min(centre - 20, ask - 1)
    market_data.bid, market_data.ask = bid, ask
    market_data.bid_depth = sum(order.size for order in bids if order.price >= bid - 10)
    market_data.ask_depth = -sum(order.size for order in asks if order.price <= ask + 10)

    if done.volume > 0:
        market_data.close = done.price
    elif done.walked.filled != 0:
        market_data.close = done.walked.last_price
    volume = done.volume + abs(done.walked.filled)
    learner = done.fills[-1] + done.walked.filled
    incoming = [fill for place, fill in enumerate(done.fills[:-1]) if place in done.fresh] + [learner]
    market_data.volumes = [*market_data.volumes[1:], volume]
    market_data.buys = [*market_data.buys[1:], sum(fill for fill in incoming if fill > 0)]
    market_data.sells = [*market_data.sells[1:], -sum(fill for fill in incoming if fill < 0)]
    touched = sum(fill != 0 for fill in done.fills) + len(done.walked.fills)
    market_data.orders_filled = touched + int(done.walked.filled != 0)

    mid_x2, before = bid + ask, f64(market_data.mids_x2[-1]) * 0.5
    market_data.mids_x2 = [*market_data.mids_x2[1:], mid_x2]
    log_mid = log(f64(mid_x2) * (0.5 / config.list_price))
    change = log_mid - market_data.log_mid
    market_data.log_mid, market_data.last_return = log_mid, change
    move = abs(change) / max(hour.move, hour.volatility)
    size = min(move, f64(usual.move_cap))
    relative_volume = min(f64(volume) / hour.activity * (1.0 / config.usual_volume), f64(usual.volume_cap))
    relative_return = min(move * (1.0 / config.usual_return), f64(usual.return_cap))
    for k in range(3):
        market_data.variance[k] = blend(
            market_data.variance[k], newest_weight(usual.volatility_half_lives[k]), size * size
        )
        weight = newest_weight(usual.half_lives[k])
        market_data.busy_volume[k] = blend(market_data.busy_volume[k], weight, relative_volume)
        market_data.busy_return[k] = blend(market_data.busy_return[k], weight, relative_return)

    now = f64(mid_x2) * 0.5
    traded = f64(market_data.close) if volume > 0 else now
    market_data.ema_8 = blend(market_data.ema_8, 2.0 / 9.0, now)
    market_data.ema_16 = blend(market_data.ema_16, 2.0 / 17.0, now)
    market_data.macd_signal = blend(market_data.macd_signal, 0.4, market_data.ema_8 - market_data.ema_16)
    market_data.rsi_gain = (7.0 * market_data.rsi_gain + max(now - before, f64(0))) * 0.125
    market_data.rsi_loss = (7.0 * market_data.rsi_loss + max(before - now, f64(0))) * 0.125
    market_data.atr_8 = (7.0 * market_data.atr_8 + (max(now, traded, before) - min(now, traded, before))) * 0.125


def blend(mean: Real, weight: float, new: Real) -> Real:
    return mean + weight * (new - mean)


# --- the learner ---------------------------------------------------------------------------------------------------------


def wanted_shares(
    config: MarketConfig, action: list[int] | list[float], symbols: list[SimpleNamespace], equity_x2: int
) -> list[int]:
    """What an action of the configured scheme asks for in each symbol, before the position limit."""
    if config.action in ("weights", "signed_weights"):
        return weighted(action, symbols, equity_x2)
    return [wanted_in(config, one, symbol) for one, symbol in zip(action, symbols, strict=True)]


def weighted(action: list[float], symbols: list[SimpleNamespace], equity_x2: int) -> list[int]:
    """Shares that bring each symbol's part of the equity to its weight over the sum of all."""
    cash, *weights = [f64(number) for number in action]
    total = f64(abs(weights[0]))
    for weight in weights[1:]:
        total = total + abs(weight)
    total = cash + total
    wanted = []
    for weight, symbol in zip(weights, symbols, strict=True):
        part = weight / total if total > 0 else f64(0.0)
        exact = part * f64(equity_x2) / f64(symbol.market_data.mids_x2[-1])
        wanted.append(towards(exact, symbol.learner_shares))
    return wanted


def towards(exact: Real, held: int) -> int:
    """Shares to trade to hold so many, rounded towards those held."""
    return int(np.floor(exact) if exact > held else np.ceil(exact)) - held


def wanted_in(config: MarketConfig, action: int | float, symbol: SimpleNamespace) -> int:
    """What the action for one symbol asks for there."""
    held, order = symbol.learner_shares, config.order_size
    if config.action == "position":
        return towards(f64(action) * f64(config.position_limit), held)
    if config.action == "participation":
        volumes = symbol.market_data.volumes
        return int(np.trunc(f64(action) * (f64(sum(volumes)) * f64(1.0 / len(volumes)))))
    if config.action == "discrete":
        return {0: -order, 1: 0, 2: order}[action]
    if config.action == "sized":
        tenth = max(1, order // 10)
        return {0: -3 * order, 1: -order, 2: -tenth, 3: 0, 4: tenth, 5: order, 6: 3 * order}[action]
    if config.action == "percent":
        hundredths = action - 100
        return hundredths * order // 100 if hundredths > 0 else -(-hundredths * order // 100)
    half, whole = config.position_limit // 2, config.position_limit
    target = {0: -whole, 1: -half, 2: 0, 3: half, 4: whole}[action]
    return min(max(target - held, -order), order)


def average_cost(held: int, basis: int, fill: int, paid: int) -> tuple[int, int]:
    """New basis and realised profit: what closes the position takes its part of basis and proceeds, rounded down."""
    closed = min(abs(fill), abs(held)) if fill * held < 0 else 0
    cost = basis * closed // abs(held) if closed else 0
    money = paid * closed // abs(fill) if closed else 0
    return basis - cost + (paid - money), -money - cost


# --- one market ----------------------------------------------------------------------------------------------------------


@dataclass
class Market:
    """One market. Each symbol has value, book, market_data, cash, shares, traders, maker, and the learner's holding in it."""

    config: MarketConfig
    families: list[str]  # of the single-order traders, by place
    tick_number: int
    symbols: list[SimpleNamespace]
    account: SimpleNamespace  # the learner's, over all symbols

    def endow(self) -> None:
        """Open the learner's account at the first quotes: its cash, and its shares at the list price, charged for nothing."""
        config, names = self.config, ("fees", "borrow", "borrow_accrued", "realized", "turnover")
        self.account = SimpleNamespace(learner_cash=config.starting_cash, ruined=False, **dict.fromkeys(names, 0))
        for symbol in self.symbols:
            symbol.learner_shares, symbol.filled = config.starting_shares, 0
            symbol.basis = config.starting_shares * config.list_price
        self.account.equity_x2 = self.equity_x2()

    def tick(self, action: list[int] | list[float], draws: SimpleNamespace) -> None:
        """Advance by one tick: action [W], this tick's random numbers."""
        config, now = self.config, self.tick_number + 1
        hour = hour_of(config, now)
        views = [read_signals(config, symbol, hour) for symbol in self.symbols]
        asked = wanted_shares(config, action, self.symbols, self.account.equity_x2)
        done = [self.learner_walks(*one, hour) for one in zip(self.symbols, asked, strict=True)]
        for signals, symbol in zip(views, self.symbols, strict=True):
            for family, me in zip(self.families, symbol.traders, strict=True):
                if family == "rotator":
                    follow_returns(config, me, signals)
        intents = [self.intents(views, draws, s) for s in range(config.num_symbols)]
        fees = turnover = 0
        for s, symbol in enumerate(self.symbols):
            self.submit(symbol, intents[s], done[s], now)
            self.hold_auction(symbol, done[s], draws.coin[s])
            turned, fee = self.settle(symbol, done[s])
            turnover, fees = turnover + turned, fees + fee
            advance(config, symbol.value, draws, s, hour)
            heard = self.surprise(symbol, views[s], done[s])
            learn(config, symbol.maker, views[s], heard, symbol.value.public_move)
            still = {} if hour.closes else symbol.book
            symbol.book = {place: order for place, order in still.items() if order.expiry > now}
            quote(config, symbol, len(self.families), views[s].maker_half_spread, self.date(now) or 0)
            measure(config, symbol, done[s], hour)
        self.account.fees += fees
        self.account.learner_cash -= fees
        self.account.realized -= fees
        self.account.turnover = turnover
        self.mark(now)
        self.tick_number = now

    def date(self, now: int) -> int | None:
        """The tick, where orders have dates."""
        return now if self.config.priority == "time" else None

    def learner_walks(self, symbol: SimpleNamespace, asked: int, hour: Hour) -> SimpleNamespace:
        """The learner's order against the standing book; what is left of it waits for the auction, of some hours all of it."""
        config, mid_x2, held = self.config, symbol.market_data.mids_x2[-1], symbol.learner_shares
        bound = config.position_limit
        shares = min(max(held + asked, -bound), bound) - held
        if shares > 0:
            limit = int(np.floor(f64(mid_x2) * (0.5 * (1.0 + config.collar))))
        else:
            limit = int(np.ceil(f64(mid_x2) * (0.5 * (1.0 - config.collar))))
        quoted = {place: copy(order) for place, order in symbol.book.items() if place >= len(self.families)}
        goes_first = shares if config.execution == "book" and not hour.auction else 0
        walked = walk(config.band, symbol.book, goes_first, limit, mid_x2, self.date(self.tick_number + 1))
        walked.prices = {place: symbol.book[place].price for place in walked.fills}
        for place, fill in walked.fills.items():
            symbol.book[place].size -= fill
        return SimpleNamespace(walked=walked, quoted=quoted, remainder=shares - walked.filled, limit=limit)

    def intents(self, views: list[SimpleNamespace], draws: SimpleNamespace, s: int) -> list[OrderIntent]:
        """What every single-order trader of a symbol wants, seeing the end of the last tick."""
        symbol, intents = self.symbols[s], list[OrderIntent]()
        for place, family in enumerate(self.families):
            task = SimpleNamespace(
                config=self.config,
                family=getattr(self.config.population, family),
                signals=views[s],
                me=symbol.traders[place],
                shares=f32(symbol.shares[place]),
                draw=draws.traders[s][place],
                place=place,
                symbol=s,
                symbols=self.symbols,
                views=views,
                first_draw=draws.traders[0][place],
            )
            intents.append(TRADERS[family](task))
        return intents

    def submit(self, symbol: SimpleNamespace, intents: list[OrderIntent], done: SimpleNamespace, now: int) -> None:
        """New orders take the place of their owners' old ones; makers renew theirs, whole, at the same prices."""
        done.fresh = set()
        for place, intent in enumerate(intents):
            if intent is not None and int(intent[1]) != 0:
                price, size, life = intent
                post(symbol.book, place, Order(max(int(price), 1), int(size), now + int(life), self.date(now) or 0))
                if int(life) == 0:
                    done.fresh.add(place)
        for place, order in done.quoted.items():
            order.since = order.since if order.keeps_place(symbol.book.get(place)) else self.date(now) or 0
        symbol.book.update(done.quoted)

    def hold_auction(self, symbol: SimpleNamespace, done: SimpleNamespace, coin: int) -> None:
        """Everybody meets; the learner's remainder stands last."""
        slots = len(self.families) + 2 * self.config.population.maker.count
        orders = [(symbol.book[i].price, symbol.book[i].size) if i in symbol.book else (1, 0) for i in range(slots)]
        now = self.date(self.tick_number + 1)
        ages = [age(symbol.book[i].since, now) if i in symbol.book else 0 for i in range(slots)] + [0]
        orders.append((done.limit, done.remainder))
        done.mid_x2 = symbol.market_data.mids_x2[-1]
        done.price, done.volume, done.fills = auction(self.config.band, orders, done.mid_x2, coin, ages)
        for place, fill in enumerate(done.fills[:-1]):
            if fill:
                symbol.book[place].size -= fill
        symbol.book = {place: order for place, order in symbol.book.items() if order.size != 0}

    def settle(self, symbol: SimpleNamespace, done: SimpleNamespace) -> tuple[int, int]:
        """Move shares and cash, owner by owner; returns the learner's turnover and commission in this symbol."""
        singles, makers = len(self.families), self.config.population.maker.count
        log_close = log(f64(2 * done.price) * (0.5 / self.config.list_price))
        for place in range(singles + 2 * makers):
            owner = place if place < singles else singles + (place - singles) % makers
            before, at_limit = symbol.shares[owner], done.walked.fills.get(place, 0)
            symbol.shares[owner] += at_limit + done.fills[place]
            symbol.cash[owner] -= at_limit * done.walked.prices.get(place, 0) + done.fills[place] * done.price
            if place < singles:
                fill = at_limit + done.fills[place]
                remember_fills(self.families[place], symbol.traders[place], before, fill, log_close)

        fill = done.walked.filled + done.fills[-1]
        paid = done.walked.paid + done.fills[-1] * done.price
        symbol.basis, profit = average_cost(symbol.learner_shares, symbol.basis, fill, paid)
        symbol.learner_shares += fill
        symbol.filled = fill
        self.account.learner_cash -= paid
        self.account.realized += profit
        hundredths = round(self.config.commission_bps * 100)  # of a basis point
        return abs(paid), -(-abs(paid) * hundredths // 1_000_000)

    def surprise(self, symbol: SimpleNamespace, signals: SimpleNamespace, done: SimpleNamespace) -> Real:
        """How far from the old mid the tick traded, in points: the auction now, what the learner took a tick later.

        The latter is worth the root of its size over the usual volume, in units of volatility.
        """
        heard, taken = symbol.maker.reported, done.walked.filled
        worth = self.config.population.maker.trade_impact * signals.maker_volatility * symbol.maker.reference
        symbol.maker.reported = np.sign(taken) * worth * sqrt(f64(abs(taken)) * (1.0 / self.config.usual_volume))
        return f64(2 * done.price - done.mid_x2) * 0.5 + heard if done.volume > 0 else heard

    def mark(self, now: int) -> None:
        """Charge for short positions, then value the learner's holdings; from tick 1 on, with ruin."""
        account = self.account
        if now < 1:
            account.equity_x2 = self.equity_x2()
            return
        owed = sum(max(-symbol.learner_shares, 0) * symbol.market_data.mids_x2[-1] for symbol in self.symbols)
        account.borrow_accrued += owed * self.config.borrow_ppb
        due = account.borrow_accrued // 2_000_000_000
        account.borrow_accrued -= due * 2_000_000_000
        account.borrow += due
        account.learner_cash -= due
        account.realized -= due
        account.equity_x2 = self.equity_x2()
        account.ruined = account.ruined or account.equity_x2 <= 2 * self.config.maintenance

    def equity_x2(self) -> int:
        """Twice the learner's cash and what its shares are worth, at the mid or against the standing book."""
        worth = 0
        for symbol in self.symbols:
            at_mid = symbol.learner_shares * symbol.market_data.mids_x2[-1]
            worth += at_mid if self.config.mark == "mid" else self.unwound(symbol)
        return 2 * self.account.learner_cash + worth

    def unwound(self, symbol: SimpleNamespace) -> int:
        """Half units of money that closing the position against the standing book would bring."""
        held, mid_x2 = symbol.learner_shares, symbol.market_data.mids_x2[-1]
        edge = max(mid_x2 // 2 - sign(held) * self.config.band, 1)
        out = walk(self.config.band, symbol.book, -held, edge, mid_x2)
        left_at = 2 * out.last_price if out.filled else mid_x2
        return -2 * out.paid + (held + out.filled) * left_at


# --- from tensors --------------------------------------------------------------------------------------------------------


def plain(tensor: Tensor) -> Any:
    """A tensor as nested lists of Python integers and booleans, or of numpy floats of its width."""

    def unpack(array: Any) -> Any:
        return list(array) if array.ndim == 1 else [unpack(part) for part in array]

    if not tensor.is_floating_point():
        return tensor.tolist()
    return unpack(tensor.numpy()) if tensor.dim() else tensor.numpy()[()]


def columns(tree: Any, *place: int) -> SimpleNamespace:
    """A dataclass of tensors [N, ...] at one market, and there perhaps at one symbol."""
    tensors = {field.name: getattr(tree, field.name) for field in fields(tree)}
    return SimpleNamespace(**{name: plain(leaf[place]) for name, leaf in tensors.items() if leaf is not None})


def one_each(lists: SimpleNamespace) -> list[SimpleNamespace]:
    """Lists by name -> their entries, one after the other, by name."""
    names = vars(lists).keys()
    return [
        SimpleNamespace(**dict(zip(names, entry, strict=True))) for entry in zip(*vars(lists).values(), strict=True)
    ]


def read_noise(draws: Noise, row: int) -> SimpleNamespace:
    """One market's random numbers of a tick."""
    noise = columns(draws, row)
    by_symbol = zip(*noise.uniforms, noise.normals, strict=True)
    noise.traders = [one_each(SimpleNamespace(u0=a, u1=b, u2=c, normal=d)) for a, b, c, d in by_symbol]
    return noise


def read(config: MarketConfig, state: MarketState, row: int) -> Market:
    """One market of the batch in plain numbers."""
    families = [name for name, place in structure(config).orders.items() for _ in range(place.stop - place.start)]
    ledger, by_symbol = columns(state.ledger, row), []
    of_symbols = {"learner_shares": ledger.shares, "basis": ledger.basis, "filled": ledger.filled}
    for s in range(config.num_symbols):
        by_symbol.append(
            SimpleNamespace(
                **vars(columns(state.accounts, row, s)),
                **{name: of_learners[s][0] for name, of_learners in of_symbols.items()},
                value=read_value(state, row, s),
                market_data=columns(state.market_data, row, s),
                book=read_book(state, row, s),
                traders=read_traders(config, state, row, s),
                maker=columns(state.traders["maker"], row, s),
            )
        )
    whole = {name: x[0] for name, x in vars(ledger).items() if name not in ("shares", "basis", "filled")}
    whole["learner_cash"] = whole.pop("cash")
    return Market(config, families, plain(state.clock.tick[row]), by_symbol, SimpleNamespace(**whole))


def read_value(state: MarketState, row: int, s: int) -> SimpleNamespace:
    """Value and news, the events one by one."""
    value = columns(state.value, row, s)
    names = ("sentiment", "magnitude", "drift", "duration", "remaining")
    value.events = one_each(SimpleNamespace(**{name: vars(value).pop(name) for name in names}))
    return value


def read_book(state: MarketState, row: int, s: int) -> dict[int, Order]:
    """The orders that are there, by place."""
    slots = one_each(columns(state.book, row, s))
    return {place: Order(**vars(slot)) for place, slot in enumerate(slots) if slot.size != 0}


def read_traders(config: MarketConfig, state: MarketState, row: int, s: int) -> list[SimpleNamespace | None]:
    """Memories of the single-order traders by place; None for those that have none."""
    memories: list[SimpleNamespace | None] = []
    for name, place in structure(config).orders.items():
        memory = state.traders.get(name)
        memories += [None] * (place.stop - place.start) if memory is None else one_each(columns(memory, row, s))
    return memories


def differences(mine: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Where two plain things differ: the path, and both numbers. Nothing is close enough: numbers are equal or differ."""
    if isinstance(mine, (SimpleNamespace, Order)):
        mine, theirs = vars(mine), vars(theirs)
    if isinstance(mine, list) and len(mine) == len(theirs):
        mine, theirs = dict(enumerate(mine)), dict(enumerate(theirs))
    if isinstance(mine, dict) and mine.keys() == theirs.keys():
        for key in mine:
            yield from differences(mine[key], theirs[key], f"{path}.{key}" if path else str(key))
    elif mine != theirs:
        yield f"{path}: {mine!r} != {theirs!r}"


def compare(mine: Market, theirs: Market) -> list[str]:
    """Everything that differs between two plain markets."""

    def whole(market: Market) -> dict[str, Any]:
        return {"tick": market.tick_number, "symbols": market.symbols, "account": market.account}

    return [] if whole(mine) == whole(theirs) else list(differences(whole(mine), whole(theirs)))
