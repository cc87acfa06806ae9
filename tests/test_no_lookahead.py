"""Nothing comes from the future: not in features, not in rewards, not in what the traders do."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from markets import cold, differences, opened, random_actions, same_bits, seen, toy
from torch import Tensor

from torchgym import Market, MarketConfig
from torchgym.config import Fundamentals, NewsKind
from torchgym.numerics.trees import clone, leaves, map_tensors
from torchgym.readout import features
from torchgym.readout.step import step
from torchgym.sim import matching, noise, traders
from torchgym.sim.market_data import log_price
from torchgym.sim.noise import Noise
from torchgym.sim.params import Params
from torchgym.sim.state import FLOW_LOOKBACK, LOOKBACK, VOLUME_LOOKBACK, MarketData, MarketState, Orders

OFTEN = NewsKind(probability=0.05, scale=0.02, duration=10, immediate=0.5)
CONFIG = toy(
    num_symbols=2, fundamentals=Fundamentals(earnings=OFTEN, guidance=OFTEN, sector=OFTEN, macro=OFTEN), max_ticks=100
)
MARKETS, TICKS = 3, 12


def sights(market: Market, actions: Tensor) -> list[dict[str, Any]]:
    """All that is seen and all that there is, after each action."""
    return [{"seen": seen(market.step(action)), "state": clone(market.state)} for action in actions]


# --- the noise of later ticks


@pytest.mark.parametrize("last", [1, 3, 6])
def test_later_noise_changes_nothing_before_it(last: int, monkeypatch: pytest.MonkeyPatch) -> None:
    markets, ticks = 32, 8  # enough for the rare effects of a single draw, as of an auction's coin
    actions = random_actions(CONFIG, ticks, markets)
    base = cold(CONFIG, markets)
    other = base.fork()
    for action in actions[:2]:
        base.step(action)
        other.step(action)
    start = int(base.state.clock.tick[0])
    first = sights(base, actions)
    honest = noise.draw

    def changed(places: Any, addresses: Any, key: Tensor, tick: Tensor) -> Noise:
        return honest(places, addresses, torch.where((tick > start + last).unsqueeze(-1), key ^ 0x5A5A5A5, key), tick)

    monkeypatch.setattr(noise, "draw", changed)
    second = sights(other.fork(), actions)  # a copy, whose operations are recorded with these draws
    for at in range(ticks):
        different = differences(first[at], second[at])
        assert (different == []) == (at + 1 <= last), (at + 1, different[:5])


# --- features from the recorded past alone


def looks(market: Market, state: MarketState) -> Tensor:
    """The features of a state under a market's numbers."""
    return features.observe(market.structure, market.params, state)


def recorded(state: MarketState) -> dict[str, Tensor]:
    """What happened in one tick, and nothing that sums up more than it."""
    market_data = state.market_data
    return {
        "bid": market_data.bid,
        "ask": market_data.ask,
        "bid_depth": market_data.bid_depth,
        "ask_depth": market_data.ask_depth,
        "close": market_data.close,
        "volume": market_data.volumes[..., -1],
        "buys": market_data.buys[..., -1],
        "sells": market_data.sells[..., -1],
        "orders_filled": market_data.orders_filled,
    }


def retold(params: Params, state: MarketState, past: list[dict[str, Tensor]]) -> MarketState:
    """The state at the end of the past, its market data replaced by those made from the ticks of the past in plain arithmetic.

    The first entry is the opening. Python's floats are the same IEEE numbers, so the bits must be the same.
    """
    stacked = {name: torch.stack([tick[name] for tick in past], dim=-1) for name in past[0]}
    mids_x2 = stacked["bid"] + stacked["ask"]
    opening = mids_x2[..., :1].expand(*mids_x2.shape[:-1], LOOKBACK + 1)
    averages: dict[str, list[float]] = {name: [] for name in ("ema_8", "ema_16", "macd_signal", "gain", "loss", "atr")}
    for halves, closes, volumes in zip(
        mids_x2.flatten(0, -2).tolist(),
        stacked["close"].flatten(0, -2).tolist(),
        stacked["volume"].flatten(0, -2).tolist(),
        strict=True,
    ):
        fast = slow = halves[0] * 0.5
        signal = gain = loss = spread = 0.0
        for at in range(1, len(halves)):
            now, before = halves[at] * 0.5, halves[at - 1] * 0.5
            traded = float(closes[at]) if volumes[at] > 0 else now
            fast = fast + (2.0 / 9.0) * (now - fast)
            slow = slow + (2.0 / 17.0) * (now - slow)
            signal = signal + 0.4 * ((fast - slow) - signal)
            gain = (7.0 * gain + max(now - before, 0.0)) * 0.125
            loss = (7.0 * loss + max(before - now, 0.0)) * 0.125
            spread = (7.0 * spread + (max(now, traded, before) - min(now, traded, before))) * 0.125
        for name, value in zip(averages, (fast, slow, signal, gain, loss, spread), strict=True):
            averages[name].append(value)
    six = [
        torch.tensor(values, dtype=torch.float64).reshape(state.market_data.bid.shape) for values in averages.values()
    ]
    nothing = torch.zeros_like(state.market_data.bid).unsqueeze(-1)

    def newest(name: str, count: int) -> Tensor:
        return torch.cat([nothing.expand(*nothing.shape[:-1], count), stacked[name][..., 1:]], dim=-1)[..., -count:]

    forgotten = map_tensors(lambda leaf: torch.full_like(leaf, -9_999), state.market_data)
    market_data: MarketData = dataclasses.replace(
        forgotten,
        **{name: stacked[name][..., -1] for name in ("bid", "ask", "bid_depth", "ask_depth", "close", "orders_filled")},
        log_mid=log_price(params, mids_x2[..., -1]),
        mids_x2=torch.cat([opening, mids_x2[..., 1:]], dim=-1)[..., -(LOOKBACK + 1) :],
        volumes=newest("volume", VOLUME_LOOKBACK + 1),
        buys=newest("buys", FLOW_LOOKBACK),
        sells=newest("sells", FLOW_LOOKBACK),
        **dict(zip(("ema_8", "ema_16", "macd_signal", "rsi_gain", "rsi_loss", "atr_8"), six, strict=True)),
    )
    return dataclasses.replace(state, market_data=market_data)


@pytest.mark.parametrize("scaling", ["raw", "relative"])
def test_features_are_made_of_the_recorded_past(scaling: str) -> None:
    config = CONFIG.replace(scaling=scaling)
    market = cold(config, MARKETS)
    past = [recorded(market.state)]
    checked = 0
    for at, action in enumerate(random_actions(config, LOOKBACK + 20, MARKETS)):
        observation = market.step(action).observation
        past.append(recorded(market.state))
        if at in (0, 5, 30, LOOKBACK - 1, LOOKBACK, LOOKBACK + 19):
            assert same_bits(looks(market, retold(market.params, market.state, past)), observation)
            checked += 1
    assert checked == 6


HIDDEN = ["value.drift", "value.log_volatility", "value.public_move", "book.", "traders.", "accounts.", "clock.key"]


def test_the_hidden_is_not_seen() -> None:
    """Neither drifts, nor volatilities, nor anybody's beliefs, inventories and quotes reach the features."""
    market = opened(CONFIG, MARKETS)
    for action in random_actions(CONFIG, 5, MARKETS):
        market.step(action)
    state, hits = market.state, 0
    names = iter([name for name, _ in leaves(state)])

    def blur(leaf: Tensor) -> Tensor:
        nonlocal hits
        hidden = any(next_name.startswith(prefix) for prefix in HIDDEN) if (next_name := next(names)) else False
        hits += hidden
        return leaf if not hidden else ~leaf if leaf.dtype == torch.bool else leaf * 3 + 1

    blurred = map_tensors(blur, state)
    assert hits > 50
    assert same_bits(looks(market, blurred), looks(market, state))


@pytest.mark.parametrize(
    ("information", "sees_level", "sees_error"),
    [("public", True, True), ("privileged", True, False), ("none", False, False)],
)
def test_value_is_seen_as_the_configuration_says(information: str, sees_level: bool, sees_error: bool) -> None:
    config = CONFIG.replace(information=information)
    market = cold(config, MARKETS)
    state = market.state
    before = looks(market, state)

    def moved(**change: Tensor) -> bool:
        value = dataclasses.replace(state.value, **change)
        return not same_bits(looks(market, dataclasses.replace(state, value=value)), before)

    assert moved(level=state.value.level + 0.01) == sees_level
    assert moved(estimate_error=state.value.estimate_error + 0.01) == sees_error
    # The public sees the sum: what one adds and the other takes away does not show.
    if information == "public":
        both = dataclasses.replace(
            state.value, level=state.value.level + 0.01, estimate_error=state.value.estimate_error - 0.01
        )
        after = looks(market, dataclasses.replace(state, value=both))
        assert torch.allclose(after, before, rtol=1e-12, atol=1e-12)


# --- within one tick


class Ear:
    """What a tick told its watcher, and the orders that were decided in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.phases: dict[str, dict[str, Any]] = {}
        self.orders: list[Orders] = []
        honest = traders.decide

        def decide(*arguments: Any, **named: Any) -> Any:
            orders, memories = honest(*arguments, **named)
            self.orders.append(clone(orders))
            return orders, memories

        monkeypatch.setattr(traders, "decide", decide)

    def __call__(self, phase: str, products: dict[str, Any]) -> None:
        self.phases[phase] = products

    def listen(self, market: Market, action: Tensor) -> MarketState:
        state, _ = step(market._static, market.params, market.state, action, self)
        return state


def test_nobody_sees_the_learners_order_before_the_auction(monkeypatch: pytest.MonkeyPatch) -> None:
    market = opened(CONFIG, MARKETS)
    ear, after = Ear(monkeypatch), []
    for choice in (0, 1, 2):
        after.append(ear.listen(market, torch.full((MARKETS, 2), choice)))
    assert differences(ear.orders[0], ear.orders[1]) == differences(ear.orders[1], ear.orders[2]) == []
    assert ear.orders[0].size.any()
    # It did trade, and in the next tick others have noticed.
    assert after[0].ledger.shares[..., 0].lt(0).all()
    assert after[2].ledger.shares[..., 0].gt(0).all()
    assert after[0].value is not after[2].value
    assert differences(after[0].value, after[2].value) == []  # value is nobody's doing
    sold, bought = market.fork(), market.fork()
    sold._state, bought._state = after[0], after[2]
    hold = torch.ones((MARKETS, 2), dtype=torch.int64)
    ear.listen(sold, hold)
    ear.listen(bought, hold)
    assert differences(ear.orders[3], ear.orders[4])


def test_the_learner_trades_with_the_book_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its execution depends on the state and its action; not on this tick's noise."""
    market = opened(CONFIG, MARKETS)
    buy = torch.full((MARKETS, 2), 2)
    ear = Ear(monkeypatch)
    ear.listen(market, buy)
    first = clone(ear.phases["execute"]["execution"])
    honest = noise.draw
    monkeypatch.setattr(noise, "draw", lambda places, at, key, tick: honest(places, at, key ^ 77, tick))
    ear.listen(market, buy)
    assert differences(first, ear.phases["execute"]["execution"]) == []
    assert differences(ear.orders[0], ear.orders[1])
    assert first.filled.gt(0).all()


def test_nobody_trades_on_this_ticks_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """Value and news of a tick move after its auction: orders, fills and prices of the tick do not depend on them."""
    market = opened(CONFIG, MARKETS)
    hold = torch.ones((MARKETS, 2), dtype=torch.int64)
    ear = Ear(monkeypatch)
    quiet = ear.listen(market, hold)
    first = {name: clone(ear.phases["clear"][name]) for name in ("book", "auction")}
    honest = noise.draw

    def headline(*arguments: Any) -> Noise:
        draws = honest(*arguments)
        return dataclasses.replace(
            draws,
            value=draws.value + 1.0,
            factors=draws.factors - 1.0,
            news=torch.full_like(draws.news, 1e-3),
            factor_news=torch.full_like(draws.factor_news, 1e-3),
        )

    monkeypatch.setattr(noise, "draw", headline)
    stormy = ear.listen(market, hold)
    second = {name: ear.phases["clear"][name] for name in ("book", "auction")}
    assert differences(ear.orders[0], ear.orders[1]) == []
    assert differences(first, second) == []
    assert same_bits(quiet.market_data.close, stormy.market_data.close)
    assert stormy.value.arrived.all()
    assert differences(quiet.value, stormy.value)


def test_rewards_are_of_this_tick_alone() -> None:
    """The reward of a tick is known at its end: equity before and after it, which the observation shows."""
    market = opened(CONFIG, MARKETS)
    before = market.observe().info["equity"]
    for action in random_actions(CONFIG, TICKS, MARKETS):
        result = market.step(action)
        assert torch.allclose(result.reward, result.info["equity"] - before, rtol=0.0, atol=1e-9)
        before = result.info["equity"]


def test_a_sealed_order_meets_the_auction_only(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIG.replace(execution="auction")
    market = cold(config, MARKETS)
    ear = Ear(monkeypatch)
    ear.listen(market, torch.full((MARKETS, 2), 2))
    execution = ear.phases["execute"]["execution"]
    assert not execution.filled.any()
    assert (execution.remainder == config.order_size).all()
    assert matching.EXECUTIONS["auction"] is matching.defer


def test_default_configuration_shows_the_public_estimate() -> None:
    assert MarketConfig().information == "public"
