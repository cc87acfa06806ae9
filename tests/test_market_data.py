"""What everybody can see, on paper: quotes and depth, flows, the last price, averages and indicators."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from markets import narrow
from torch import Tensor

from torchgym import MarketConfig
from torchgym.sim import market_data
from torchgym.sim.params import make_params
from torchgym.sim.state import FLOW_LOOKBACK, LOOKBACK, VOLUME_LOOKBACK, Auction, Book, Execution, MarketData

CONFIG = MarketConfig(list_price=10_000, usual_volume=50.0, usual_return=1e-3)
PARAMS = make_params(CONFIG, 1, torch.device("cpu"))
REFERENCE = torch.tensor([[10_000.7]], dtype=torch.float64)


def per_slot(values: list[int]) -> Tensor:
    return torch.tensor([[values]])


def number(value: int) -> Tensor:
    return torch.tensor([[value]])


def book(levels: list[tuple[int, int]]) -> Book:
    """(price, shares), positive bids."""
    size = per_slot([shares for _, shares in levels])
    return narrow(Book(price=per_slot([price for price, _ in levels]), size=size, expiry=torch.zeros_like(size)))


def execution(fills: list[int], filled: int = 0, last_price: int = 0) -> Execution:
    return Execution(
        filled=per_slot([filled]),
        paid=per_slot([filled * last_price]),
        last_price=number(last_price),
        fills=per_slot(fills),
        remainder=per_slot([0]),
        limit=per_slot([0]),
    )


def auction(fills: list[int], price: int) -> Auction:
    return Auction(price=number(price), volume=number(sum(max(fill, 0) for fill in fills)), fills=per_slot(fills))


TWO_SIDED = [(9_998, 10), (10_002, -10)]


def begin(levels: list[tuple[int, int]] = TWO_SIDED, variance: float = 1e-6) -> MarketData:
    return market_data.start(PARAMS, book(levels), REFERENCE, torch.tensor([[variance]], dtype=torch.float64))


def go_on(
    before: MarketData,
    levels: list[tuple[int, int]] = TWO_SIDED,
    *,
    executed: Execution | None = None,
    cleared: Auction | None = None,
    takers: list[bool] | None = None,
) -> MarketData:
    count = len(levels)
    return market_data.measure(
        PARAMS,
        before,
        book=book(levels),
        execution=executed or execution([0] * count),
        auction=cleared or auction([0] * (count + 1), 1),
        takers=torch.tensor([[takers or [False] * count]]),
        reference=REFERENCE,
    )


@pytest.mark.parametrize(
    ("levels", "bid", "ask"),
    [
        ([(9_998, 10), (9_990, 3), (10_002, -5), (10_009, -5)], 9_998, 10_002),
        ([(9_998, 10), (9_999, 0), (10_001, 0), (10_002, -5)], 9_998, 10_002),  # empty places don't quote
        ([(9_998, 10)], 9_998, 10_020),  # no ask: 20 points above the reference
        ([(10_002, -10)], 9_980, 10_002),
        ([(10_002, 0)], 9_980, 10_020),
        ([(10_030, 10)], 10_030, 10_031),  # ... but never inside the other side
        ([(9_970, -10)], 9_969, 9_970),
    ],
)
def test_best_quotes(levels: list[tuple[int, int]], bid: int, ask: int) -> None:
    best_bid, best_ask = market_data.best_quotes(book(levels), REFERENCE)
    assert (best_bid.item(), best_ask.item()) == (bid, ask)


def test_depth_counts_ten_points() -> None:
    standing = book([(100, 1), (95, 20), (90, 300), (89, 4_000), (103, -5), (113, -60), (114, -700)])
    bids, asks = market_data.depths(standing, number(100), number(103))
    assert (bids.item(), asks.item()) == (321, 65)


def test_depth_of_an_empty_side_is_nothing() -> None:
    fresh = begin([(9_998, 10)])
    assert (fresh.bid_depth.item(), fresh.ask_depth.item()) == (10, 0)


def test_a_new_tape_has_seen_the_opening_quotes_only() -> None:
    fresh = begin([(9_997, 10), (10_002, -4)], variance=4e-6)
    assert fresh.mids_x2.flatten().tolist() == [19_999] * (LOOKBACK + 1)
    assert fresh.log_mid.item() == pytest.approx(math.log(0.99995))
    assert fresh.volumes.flatten().tolist() == [0] * (VOLUME_LOOKBACK + 1)
    assert fresh.buys.flatten().tolist() == fresh.sells.flatten().tolist() == [0] * FLOW_LOOKBACK
    assert fresh.variance.flatten().tolist() == [4e-6] * 3
    assert fresh.ema_8.item() == fresh.ema_16.item() == 9_999.5
    assert fresh.close.item() == 9_999


def test_flow_counts_what_came_in() -> None:
    # Slots: fresh buyer, resting buyer, fresh seller, maker's ask, and the learner's remainder.
    levels = [(9_998, 10), (9_997, 10), (10_002, -10), (10_003, -10)]
    after = go_on(
        begin(levels),
        levels,
        executed=execution([0, 0, 0, -7], filled=7, last_price=10_003),
        cleared=auction([20, 5, -4, -23, 2], 10_001),
        takers=[True, False, True, False],
    )
    assert after.buys[..., -1].item() == 20 + 2 + 7  # the fresh buyer and the learner
    assert after.sells[..., -1].item() == 4
    assert after.volumes[..., -1].item() == 27 + 7
    # Four orders and the remainder in the auction; the maker's quote and the learner before it.
    assert after.orders_filled.item() == 5 + 2
    sold = go_on(begin(levels), levels, executed=execution([7, 0, 0, 0], filled=-7, last_price=9_998))
    assert (sold.buys[..., -1].item(), sold.sells[..., -1].item(), sold.volumes[..., -1].item()) == (0, 7, 7)


def test_the_last_price_traded_at() -> None:
    quiet = go_on(begin())
    assert quiet.close.item() == 10_000
    taken = go_on(quiet, executed=execution([0, -3], filled=3, last_price=10_002))
    assert taken.close.item() == 10_002
    both = go_on(taken, executed=execution([0, -3], filled=3, last_price=10_002), cleared=auction([3, -3, 0], 9_999))
    assert both.close.item() == 9_999
    assert go_on(both).close.item() == 9_999


def test_histories_push_the_newest_last() -> None:
    now = begin()
    for k in range(1, LOOKBACK + 4):
        levels = [(9_998 + k, 10), (10_002 + k, -10)]
        now = go_on(now, levels, cleared=auction([k, -k, 0], 10_000), takers=[True, False])
    newest = LOOKBACK + 3
    assert now.mids_x2.flatten().tolist() == [20_000 + 2 * k for k in range(newest - LOOKBACK, newest + 1)]
    assert now.volumes.flatten().tolist() == list(range(newest - VOLUME_LOOKBACK, newest + 1))
    assert now.buys.flatten().tolist() == list(range(newest - FLOW_LOOKBACK + 1, newest + 1))
    assert now.sells.flatten().tolist() == [0] * FLOW_LOOKBACK


def test_returns_are_changes_of_the_log_mid() -> None:
    after = go_on(begin(), [(10_097, 10), (10_104, -10)])
    assert after.last_return.item() == pytest.approx(math.log(10_100.5 / 10_000))
    assert after.log_mid.item() == pytest.approx(math.log(10_100.5 / 10_000))


def test_variances_cap_a_return_and_forget_at_their_half_lives() -> None:
    jump = [(10_997, 10), (11_003, -10)]  # +10 %, counted as 2 %
    after = go_on(begin(variance=0.0), jump)
    weights = [1 - 2 ** (-1 / h) for h in (15, 150, 800)]
    assert after.variance.flatten().tolist() == pytest.approx([w * 0.02**2 for w in weights])
    for _ in range(15):
        after = go_on(after, jump)
    assert after.variance[0, 0, 0].item() == pytest.approx(0.5 * weights[0] * 0.02**2)


def test_activity_is_relative_and_capped() -> None:
    weights = [1 - 2 ** (-1 / h) for h in (3, 30, 200)]
    trades = go_on(begin(), cleared=auction([100, -100, 0], 10_000))  # twice the usual volume
    assert trades.busy_volume.flatten().tolist() == pytest.approx([1 + w * (2 - 1) for w in weights])
    assert trades.busy_return.flatten().tolist() == pytest.approx([1 - w for w in weights])
    flood = go_on(begin(), [(10_997, 10), (11_003, -10)], cleared=auction([9_999, -9_999, 0], 10_000))
    assert flood.busy_volume.flatten().tolist() == pytest.approx([1 + w * (6 - 1) for w in weights])
    assert flood.busy_return.flatten().tolist() == pytest.approx([1 + w * (8 - 1) for w in weights])


def test_indicators_by_their_definitions() -> None:
    closes: list[Any] = [10_004, None, 9_990, 10_020, None, 10_000]
    mids = [10_003, 10_001, 9_996, 10_008, 10_008, 10_000]
    now = begin()
    last, fast, slow, signal, gain, loss, true_range = 10_000.0, 10_000.0, 10_000.0, 0.0, 0.0, 0.0, 0.0
    for close, mid in zip(closes, mids, strict=True):
        cleared = None if close is None else auction([5, -5, 0], close)
        now = go_on(now, [(mid - 2, 10), (mid + 2, -10)], cleared=cleared)
        traded = mid if close is None else close
        fast += 2 / 9 * (mid - fast)
        slow += 2 / 17 * (mid - slow)
        signal += 2 / 5 * ((fast - slow) - signal)
        gain = (7 * gain + max(mid - last, 0)) / 8
        loss = (7 * loss + max(last - mid, 0)) / 8
        true_range = (7 * true_range + max(mid, traded, last) - min(mid, traded, last)) / 8
        last = mid
        measured = (now.ema_8, now.ema_16, now.macd_signal, now.rsi_gain, now.rsi_loss, now.atr_8)
        assert [value.item() for value in measured] == pytest.approx([fast, slow, signal, gain, loss, true_range])
    assert min(gain, loss, true_range) > 0.0
