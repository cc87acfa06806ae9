"""Learners' resting orders: their places, the queue, the position limit, own orders, and makers who pick them off.

What a phase does is compared with plain Python: lists of orders, one order at a time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from markets import cold, narrow, opened, random_actions, toy
from torch import Tensor

from torchgym import Market, MarketConfig
from torchgym.config import structure
from torchgym.readout.entries import account_entries, account_names
from torchgym.sim import matching, resting
from torchgym.sim.actions import ACTIONS, Known, Resting
from torchgym.sim.invariants import total_cash, total_shares
from torchgym.sim.params import plain_params
from torchgym.sim.state import HIGHEST, NOWHERE, Book, Execution

RESTING = [name for name, row in ACTIONS.items() if row.rests is not None]
CPU = torch.device("cpu")
SINCE = torch.tensor([7])


def quoting(**changes: Any) -> MarketConfig:
    """A toy market in which each learner has two places a side."""
    return toy(**{"quotes": 2, "action": "depths", "priority": "time", **changes})


def depths(*numbers: float, markets: int = 1) -> Tensor:
    """The same action of every market."""
    return torch.tensor(numbers, dtype=torch.float64).expand(markets, -1)


KEEP, NONE = -1.0, 32.0
FAR = 30.0  # points from the mid, where a toy market does not trade at once


def own(market: Market) -> list[tuple[int, int, int]]:
    """Price, signed size and date of the places of the only learner in the only symbol of the first market; zeros if empty."""
    book = market.state.book
    parts = [resting.places(market.structure, part)[0, 0, 0].flatten().tolist() for part in (book.price, book.size)]
    assert book.since is not None
    dates = resting.places(market.structure, book.since)[0, 0, 0].flatten().tolist()
    return [entry if entry[1] else (0, 0, 0) for entry in zip(*parts, dates, strict=True)]


# --- what an action says -------------------------------------------------------------------------------------------------


def test_orders_rest_where_the_action_says_and_are_seen_by_all() -> None:
    market = opened(quoting(), 1)
    mid_x2 = market.state.market_data.mids_x2[0, 0, -1].item()
    market.step(depths(FAR, FAR - 1, FAR, NONE))
    bids, asks = own(market)[:2], own(market)[2:]
    low, high = mid_x2 // 2 - 30, -(-mid_x2 // 2) + 30
    assert [(price, size) for price, size, _ in bids] == [(low, 10), (low + 1, 10)]
    assert asks[0][:2] == (high, -10)
    assert asks[1][1] == 0
    whole = market.state.book.size[0, 0].abs().sum().item()
    assert whole >= 30


def test_a_place_that_stays_keeps_price_size_and_age() -> None:
    market = opened(quoting(), 1)
    market.step(depths(FAR, NONE, FAR, NONE))
    first = own(market)
    for _ in range(5):
        market.step(depths(KEEP, KEEP, KEEP, KEEP))
    kept = own(market)
    assert [kept[0], kept[2]] == [first[0], first[2]]
    market.step()  # no decision
    assert own(market) == kept
    market.step(depths(FAR - 5, KEEP, KEEP, KEEP))
    moved = own(market)
    assert moved[0][0] != kept[0][0] and moved[0][2] == market.state.clock.tick.item()
    assert moved[2] == kept[2]


def test_no_order_rests_higher_than_prices_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def high(known: Known, action: Tensor) -> Resting:
        price = torch.full((*known.held.shape, 2, known.quotes), 2**40) + torch.arange(known.quotes)
        return Resting(price, torch.full_like(price, 5), torch.zeros_like(price, dtype=torch.bool))

    monkeypatch.setitem(ACTIONS, "high", dataclasses.replace(ACTIONS["depths"], rests=high))
    market = opened(quoting(action="high"), 1)
    for _ in range(3):  # bids stand a point behind the best ask, and what stays keeps its date
        market.step(depths(KEEP, KEEP, KEEP, KEEP))
        bids, asks = own(market)[:2], own(market)[2:]
    assert asks == [(HIGHEST, -5, asks[0][2])] * 2
    assert all(size == 5 and price < market.live.market_data.ask.item() for price, size, _ in bids)
    assert asks[0][2] == market.live.clock.tick.item() - 2


def test_later_ticks_of_a_decision_leave_everything_where_it_is() -> None:
    market = opened(quoting(ticks_per_action=4), 1)
    market.step(depths(FAR, NONE, FAR, NONE))
    (_, _, bid_since), _, (_, _, ask_since), _ = own(market)
    assert {bid_since, ask_since} == {1} and market.state.clock.tick.item() == 4


def test_the_choices_of_limit_work_off_what_is_held() -> None:
    """3 joins the best ask, 6 stands five points behind, 0 keeps, 1 cancels, 2 sells at market; a short learner buys."""
    for start, side in ((25, -1), (-25, 1)):
        market = opened(quoting(action="limit", quotes=1, starting_shares=start), 1)

        def rests(choice: int, market: Market = market) -> list[tuple[int, int]]:
            market.step(torch.tensor([[choice]]))
            return [(price, size) for price, size, _ in own(market) if size]

        data = market.state.market_data
        best = (data.ask if side < 0 else data.bid).item()
        for choice, behind in ((3, 0), (4, 1), (5, 2), (6, 5)):
            twin = market.fork()
            assert rests(choice, twin) in ([(best - side * behind, side * 10)], [])  # or it was filled at once
        far = rests(6)
        assert rests(0) == far and rests(1) == []
        held = market.state.ledger.shares.item()
        rests(2)
        assert market.state.ledger.shares.item() == held + side * min(10, abs(held))


def test_quotes_are_half_spread_and_skew_in_typical_half_spreads() -> None:
    market = opened(quoting(action="quotes", quotes=1), 1)
    unit = float(plain_params(market.config, CPU).typical_half_spread)
    for half, skew in ((3.5, 0.0), (3.0, 0.5), (2.9, -1.0)):
        mid = market.state.market_data.mids_x2[0, 0, -1].item() / 2
        twin = market.fork()
        twin.step(depths(half, skew))
        bid, ask = own(twin)
        assert bid[1] == 0 or bid[:2] == (math.floor(mid + (skew - half) * unit), 10)
        assert ask[1] == 0 or ask[:2] == (math.ceil(mid + (skew + half) * unit), -10)
        assert bid[1] or ask[1]
    for skew, side in ((0.5, 0), (-0.5, 1)):  # one side is so far away that it does not rest
        twin = market.fork()
        twin.step(depths(3.7, skew))
        assert own(twin)[1 - side] == (0, 0, 0) and own(twin)[side][1] != 0
    market.step(depths(4.0, 0.0))  # both are
    assert own(market) == [(0, 0, 0)] * 2


def put_by_hand(
    size: list[int],
    price: list[int],
    wished: list[tuple[int, int] | None],
    *,
    held: int = 0,
    best: tuple[int, int] = (9_900, 10_100),
    limit: int = 50,
    since: int = 3,
) -> list[tuple[int, int, int]]:
    """What rests (price, size, date) after tick 9, where `size` at `price` rested since a tick; a wish of None keeps."""
    config = quoting(position_limit=limit)
    plan = structure(config)
    market = cold(config, 1)
    slots = plan.background

    def slot(background: dict[int, int], places: list[int]) -> Tensor:
        line = [background.get(at, 0) for at in range(slots)]
        return torch.tensor([[[*line, *places]]])

    book = narrow(
        Book(
            price=slot({0: best[0], 1: best[1]}, price).clamp(min=1),
            size=slot({0: 5, 1: -5}, size),
            expiry=slot(dict.fromkeys(range(slots), 99), [resting.FOREVER] * 4),
            since=slot({}, [since] * 4),
        )
    )
    state = dataclasses.replace(
        market.state,
        book=book,
        ledger=dataclasses.replace(market.state.ledger, shares=torch.tensor([[[held]]])),
    )
    shape = (1, 1, 1, 2, 2)
    wish = Resting(
        price=torch.tensor([1 if entry is None else entry[0] for entry in wished]).view(shape),
        size=torch.tensor([0 if entry is None else entry[1] for entry in wished]).view(shape),
        keep=torch.tensor([entry is None for entry in wished]).view(shape),
    )
    nothing = torch.zeros(1, 1, 1, dtype=torch.int64)
    standing = resting.withdraw(plan, book, wish)
    execution = Execution(nothing, nothing, nothing[..., 0], torch.zeros_like(book.size), nothing, nothing)
    params = plain_params(config, CPU)
    made = resting.put(
        plan, params, state, wish=wish, taken=standing, execution=execution, book=standing, now=torch.tensor([9])
    )
    assert made.since is not None
    rows = [resting.places(plan, part).flatten().tolist() for part in (made.price, made.size, made.since)]
    return list(zip(*rows, strict=True))


def test_a_smaller_size_keeps_the_age_and_a_larger_one_does_not() -> None:
    made = put_by_hand(
        [10, 10, -10, -10], [9_950, 9_940, 10_050, 10_060], [(9_950, 4), (9_940, 12), None, (10_061, 10)]
    )
    assert made == [(9_950, 4, 3), (9_940, 12, 9), (10_050, -10, 3), (10_061, -10, 9)]


def test_an_order_that_would_take_stands_a_point_behind() -> None:
    made = put_by_hand([0] * 4, [1] * 4, [(10_200, 10), (10_099, 10), (10_300, 5), (9_000, 0)])
    assert [entry[:2] for entry in made][:3] == [(10_099, 10), (10_099, 10), (10_300, -5)]
    made = put_by_hand([0] * 4, [1] * 4, [(9_000, 0), (9_000, 0), (9_800, 7), (9_901, 7)])
    assert [entry[:2] for entry in made][2:] == [(9_901, -7), (9_901, -7)]


def test_moved_behind_the_same_quote_it_keeps_its_age() -> None:
    """The price asked for is another one, the price where it rests is not."""
    made = put_by_hand([10, 0, 0, 0], [10_099, 1, 1, 1], [(10_200, 10), (1, 0), (1, 0), (1, 0)])
    assert made[0] == (10_099, 10, 3)


def test_own_bids_stay_below_own_asks() -> None:
    """New asks give way to a bid that is kept, new bids to every ask."""
    made = put_by_hand([10, 0, 0, 0], [10_000, 1, 1, 1], [None, (9_990, 5), (10_000, 5), (10_001, 5)])
    assert [size for _, size, _ in made] == [10, 5, 0, -5]
    made = put_by_hand([0] * 4, [1] * 4, [(10_000, 5), (9_999, 5), (10_000, 5), (10_020, 5)])
    assert [size for _, size, _ in made] == [0, 5, -5, -5]


def test_what_rests_counts_for_the_position_limit() -> None:
    wished: list[tuple[int, int] | None] = [(9_950, 30), (9_940, 30), (10_050, 30), (10_060, 30)]
    assert [size for _, size, _ in put_by_hand([0] * 4, [1] * 4, wished)] == [30, 20, -30, -20]
    assert [size for _, size, _ in put_by_hand([0] * 4, [1] * 4, wished, held=45)] == [5, 0, -30, -30]
    assert [size for _, size, _ in put_by_hand([0] * 4, [1] * 4, wished, held=-50)] == [30, 30, 0, 0]
    # What is kept is never cut: new orders get what it leaves.
    kept = put_by_hand([0, 35, 0, 0], [1, 9_940, 1, 1], [(9_950, 30), None, (1, 0), (1, 0)])
    assert [size for _, size, _ in kept] == [15, 35, 0, 0]


# --- own orders at market ------------------------------------------------------------------------------------------------


def python_walk(orders: list[tuple[int, int, int, bool]], shares: int, worst: int) -> tuple[dict[int, int], set[int]]:
    """Fills by place, and own places that are cancelled: older orders first at a price, then pro rata.

    An order is price, signed size, age, and whether it is the taker's own.
    """
    side = 1 if shares > 0 else -1
    others = [
        (price * side, -age, at, abs(size))
        for at, (price, size, age, is_own) in enumerate(orders)
        if size * side < 0 and price * side <= worst * side and not is_own
    ]
    left, fills, last = abs(shares), {}, None
    for price, age in sorted({(price, age) for price, age, _, _ in others}):
        here = [(at, size) for other, when, at, size in others if (other, when) == (price, age)]
        total = sum(size for _, size in here)
        share = min(left, total)
        before = 0
        for at, size in here:
            taken = (before + size) * share // total - before * share // total
            before += size
            if taken:
                fills[at] = taken
        left -= share
        last = price if share else last
        if not left:
            break
    reach = worst * side if left else last
    cancelled = {
        at
        for at, (price, size, _, is_own) in enumerate(orders)
        if is_own and size * side < 0 and reach is not None and price * side <= reach
    }
    return fills, cancelled


def random_books(rng: np.random.Generator, books: int, plan: Any) -> Iterator[list[tuple[int, int, int]]]:
    """Uncrossed books of price, signed size and age around 10,000, which is the best bid at most."""
    for _ in range(books):
        orders = []
        for _ in range(plan.slots):
            size = int(rng.integers(-9, 10)) * int(rng.random() < 0.8)
            distance = int(rng.integers(1, 6))
            price = 10_000 + (distance if size < 0 else 1 - distance)
            orders.append((price, size, int(rng.integers(0, 4))))
        yield orders


def small(learners: int) -> Any:
    """The structure of a market with few slots."""
    plan = structure(quoting(num_learners=learners))
    return dataclasses.replace(plan, families={"value": slice(0, 5), "maker": slice(5, 7)})


def stacked(orders: list[list[tuple[int, int, int]]], now: int) -> Book:
    price, size, age = (torch.tensor([[entry[k] for entry in book] for book in orders]).unsqueeze(1) for k in range(3))
    return narrow(Book(price=price, size=size, expiry=torch.full_like(size, 99), since=now - age))


@pytest.mark.parametrize("books", [400, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("learners", [1, 2])
def test_orders_at_market_go_past_own_orders_as_in_plain_python(learners: int, books: int) -> None:
    rng, plan, now = np.random.default_rng(learners), small(learners), 7
    listed = list(random_books(rng, books, plan))
    shares = rng.integers(-25, 26, (books, learners))
    worst = 10_000 + np.sign(shares) * rng.integers(0, 7, (books, learners))  # the mid or worse, as collars are
    given = torch.tensor(shares).unsqueeze(1), torch.tensor(worst).unsqueeze(1)
    mid_x2 = torch.full((books, 1), 20_000)
    book, execution = matching.take(plan, stacked(listed, now), *given, mid_x2, torch.full((books,), now))
    each = 2 * plan.quotes
    for row, before in enumerate(listed):
        orders = [list(order) for order in before]
        filled, cancelled = [0] * learners, [0] * learners
        for turn in range(learners):
            learner = (turn + now) % learners
            first = plan.background + learner * each
            labelled = [(*order, first <= at < first + each) for at, order in enumerate(orders)]
            fills, gone = python_walk(labelled, int(shares[row, learner]), int(worst[row, learner]))
            for at, taken in fills.items():
                orders[at][1] += taken if orders[at][1] < 0 else -taken
                filled[learner] += taken if shares[row, learner] > 0 else -taken
            for at in gone:
                cancelled[learner] += abs(orders[at][1])
                orders[at][1] = 0
        assert book.size[row, 0].tolist() == [order[1] for order in orders], row
        assert execution.filled[row, 0].tolist() == filled
        assert execution.cancelled is not None and execution.cancelled[row, 0].tolist() == cancelled


# --- picked off ----------------------------------------------------------------------------------------------------------


def picked_off(makers: list[tuple[int, int]], own_orders: list[tuple[int, int]]) -> tuple[list[int], int]:
    """Shares left of the learner's orders, and what it received: the makers' keenest quotes meet its keenest orders."""
    left = [size for _, size in own_orders]
    quotes = [[price, size] for price, size in makers]
    received = 0
    for side in (1, -1):  # makers who buy, makers who sell
        buyers = sorted(
            (at for at in range(len(quotes)) if quotes[at][1] * side > 0), key=lambda at: -side * quotes[at][0]
        )
        sellers = sorted(
            (at for at in range(len(left)) if left[at] * side < 0), key=lambda at: side * own_orders[at][0]
        )
        for seller in sellers:
            for buyer in buyers:
                price = own_orders[seller][0]
                if quotes[buyer][0] * side >= price * side:
                    shares = min(abs(quotes[buyer][1]), abs(left[seller]))
                    quotes[buyer][1] -= side * shares
                    left[seller] += side * shares
                    received += side * shares * price
    return left, received


@pytest.mark.parametrize("books", [400, pytest.param(100_000, marks=pytest.mark.slow)])
def test_stale_orders_are_hit_as_in_plain_python(books: int) -> None:
    """At their own limits, the keenest first, up to the sizes of the quotes that cross them; and every unit is paid."""
    rng = np.random.default_rng(5)
    plan = dataclasses.replace(small(1), families={"value": slice(0, 2), "maker": slice(2, 5)})
    rows, expected = [], []
    for _ in range(books):
        reference = 10_000 + int(rng.integers(-8, 9))
        bids = [(reference - int(rng.integers(1, 5)), int(rng.integers(0, 7))) for _ in range(3)]
        asks = [(reference + int(rng.integers(1, 5)), -int(rng.integers(0, 7))) for _ in range(3)]
        middle = int(rng.integers(-2, 3))
        places = [(10_000 + middle - int(rng.integers(0, 4)), int(rng.integers(0, 9))) for _ in range(2)]
        places += [(10_001 + middle + int(rng.integers(0, 4)), -int(rng.integers(0, 9))) for _ in range(2)]
        rows.append((reference, [*bids, *asks, *places]))
        expected.append(picked_off([*bids, *asks], places))
    book = stacked([[(price, size, 0) for price, size in orders] for _, orders in rows], 7)
    after, hits = resting.hit(plan, book, torch.tensor([[2 * reference] for reference, _ in rows]), SINCE)
    left = after.size[:, 0, 6:]
    paid = hits.rested.paid.sum((1, 2))
    for row, (sizes, received) in enumerate(expected):
        assert by_price(rows[row][1][-4:], left[row].tolist()) == by_price(rows[row][1][-4:], sizes), row
        assert paid[row].item() == -received
    assert torch.equal(hits.fills.sum(-1), -hits.rested.filled.sum(-1))
    assert torch.equal(hits.spent.sum(-1), -hits.rested.paid.sum(-1))
    assert torch.equal(hits.shares, hits.fills.sum(-1))
    bids, asks = after.size > 0, after.size < 0
    highest = torch.where(bids, after.price, 0).amax(-1)
    assert bool((highest < torch.where(asks, after.price, NOWHERE).amin(-1)).all())
    limits = torch.where(hits.fills > 0, hits.fills * book.price[..., :6] - hits.spent, 0)
    assert bool((limits >= 0).all())  # no maker pays more than it bid


def by_price(places: list[tuple[int, int]], sizes: list[int]) -> dict[int, int]:
    """Orders of one price and age share a fill pro rata; plain Python fills the first of them first."""
    total: dict[int, int] = {}
    for (price, _), size in zip(places, sizes, strict=True):
        total[price] = total.get(price, 0) + size
    return total


def test_a_stale_ask_is_hit_at_its_own_limit() -> None:
    plan = dataclasses.replace(small(1), families={"value": slice(0, 0), "maker": slice(0, 1)})
    book = stacked([[(10_001, 4, 0), (10_005, -4, 0), (9_000, 0, 0), (9_000, 0, 0), (9_996, -3, 0), (9_999, -9, 0)]], 7)
    after, hits = resting.hit(plan, book, torch.tensor([[20_006]]), SINCE)
    assert after.size[0, 0].tolist() == [0, -4, 0, 0, 0, -8]
    assert hits.spent[0, 0].tolist() == [3 * 9_996 + 9_999, 0]
    assert hits.rested.paid[0, 0].tolist() == [0, 0, -3 * 9_996, -9_999]
    assert (hits.shares.item(), hits.last_price.item()) == (4, 9_999)


@pytest.mark.parametrize("last", [9_998, 10_000, 10_004])
def test_a_stale_ask_may_meet_the_makers_in_an_auction(last: int) -> None:
    """At -4 against a new bid at +1 it trades at the old mid, or at the end of that range which is nearest to it."""
    plan = dataclasses.replace(small(1), families={"value": slice(0, 0), "maker": slice(0, 1)}, snipe="auction")
    book = stacked(
        [[(10_001, 5, 0), (10_005, -4, 0), (9_000, 0, 0), (9_000, 0, 0), (9_996, -3, 0), (10_002, -9, 0)]], 7
    )
    after, hits = resting.hit(plan, book, torch.tensor([[2 * last]]), SINCE)
    price = min(last, 10_001)
    assert after.size[0, 0].tolist() == [2, -4, 0, 0, 0, -9]
    assert hits.spent[0, 0].tolist() == [3 * price, 0] and hits.rested.paid[0, 0].tolist() == [0, 0, -3 * price, 0]
    assert (hits.shares.item(), hits.last_price.item()) == (3, price)


def test_what_is_out_of_reach_is_pulled() -> None:
    """A quote beyond the band around the reference trades with nobody; the order that it crosses may not stay."""
    plan = dataclasses.replace(small(1), families={"value": slice(0, 0), "maker": slice(0, 1)})
    far = 10_000 + plan.band + 50
    book = stacked([[(9_000, 4, 0), (far, -4, 0), (far + 1, 5, 0), (9_000, 0, 0), (20_000, 0, 0), (20_000, 0, 0)]], 7)
    after, hits = resting.hit(plan, book, torch.tensor([[20_000]]), SINCE)
    assert after.size[0, 0].tolist() == [4, -4, 0, 0, 0, 0] and hits.shares.item() == 0


# --- the whole tick ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RESTING)
@pytest.mark.parametrize("learners", [1, 2])
@pytest.mark.parametrize(("priority", "snipe"), [("time", "limit"), ("pro_rata", "limit"), ("time", "auction")])
def test_money_and_shares_are_conserved_and_every_rule_holds(
    name: str, learners: int, priority: str, snipe: str
) -> None:
    config = quoting(
        action=name,
        num_learners=learners,
        num_symbols=2,
        priority=priority,
        snipe=snipe,
        starting_shares=20,
        maker_bps=-0.5,
    )
    market = opened(config, 4, debug=True)
    rested = 0
    for action in random_actions(config, 40, 4):
        near = action * 0.3 if action.is_floating_point() else action
        rested += market.step(near).info["rested"].sum().item()
    state = market.state
    assert rested > 0
    assert total_cash(state.accounts, state.ledger).tolist() == [learners * config.starting_cash] * 4
    assert bool((total_shares(state.accounts, state.ledger) == learners * 20).all())


def test_fills_add_up_and_cost_the_makers_fee() -> None:
    config = quoting(maker_bps=-1.0, commission_bps=5.0)
    market = opened(config, 8)
    before = market.state.ledger
    for _ in range(30):
        result = market.step(depths(2.0, 6.0, 2.0, 6.0, markets=8))
        after = market.state.ledger
        assert after.rested is not None
        money, shares = after.rested.paid, after.rested.filled
        assert torch.equal(result.info["filled"], shares.sum(-1)) and torch.equal(
            result.info["rested"], shares.abs().sum(-1)
        )
        charged = (after.fees - before.fees).squeeze(-1)
        once = -torch.div(money.abs().sum((1, 2)), 10_000, rounding_mode="floor")
        assert bool(
            ((charged - once) >= 0).all() and ((charged - once) <= 2).all()
        )  # rounded up, auction and hits apart
        assert torch.equal(before.cash - after.cash, money.sum((1, 2)).unsqueeze(-1) + charged.unsqueeze(-1))
        before = after
    assert bool((before.fees < 0).any())


def test_without_places_nothing_is_told_of_them() -> None:
    assert account_names(toy()) == ["position", "cash", "equity", "time_left"]
    names = account_names(quoting(quotes=1))
    assert names[4:13] == [
        f"bid_1_{name}" for name in ("price", "size", "age", "ahead", "older", "same", "behind", "filled", "fill_price")
    ]
    assert len(names) == 22 and len(account_entries(toy(num_symbols=2))) == 4
    assert "rested" not in opened(toy(), 1).observe().info


def test_the_queue_is_what_the_book_says() -> None:
    """Counted order by order from the book, which everybody sees."""
    market = opened(quoting(), 3)
    for action in random_actions(market.config, 25, 3):
        market.step(action * 0.3)
        book, now = market.state.book, market.state.clock.tick
        found = resting.queue(market.structure, market.state)
        assert book.since is not None
        for row in range(3):
            ages = now[row] - book.since
            orders = list(zip(*(part[row, 0].tolist() for part in (book.price, book.size, ages)), strict=True))
            for place in range(market.structure.places):
                index = market.structure.background + place
                price, size, age = orders[index]
                told = [
                    getattr(found, name)[row, 0, 0].flatten()[place].item()
                    for name in ("ahead", "older", "same", "behind")
                ]
                side = (size > 0) - (size < 0)
                others = [(p, abs(s), a) for k, (p, s, a) in enumerate(orders) if s * side > 0 and k != index]
                assert told == [
                    sum(s for p, s, _ in others if (p - price) * side > 0),
                    sum(s for p, s, a in others if p == price and a > age),
                    sum(s for p, s, a in others if p == price and a == age),
                    sum(s for p, s, a in others if p == price and a < age),
                ]
        assert int(now[0]) > 0


def test_in_a_queue_orders_of_64_ticks_and_more_are_of_one_age() -> None:
    """As in the auction. Two learners' places beside each other at two prices, and nobody else on that side of the book."""
    market = opened(quoting(num_learners=2), 1)
    state, structure = market.state, market.structure
    now = int(state.clock.tick[0])
    others = torch.zeros_like(state.book.size[..., : structure.background])

    def placed(part: Tensor, rows: list[list[list[int]]]) -> Tensor:
        return resting.with_places(structure, part, torch.tensor(rows)[None, None])

    book = Book(
        price=placed(state.book.price, [[[50, 49], [90, 91]], [[50, 50], [90, 90]]]),
        size=placed(
            torch.cat([others, state.book.size[..., structure.background :]], -1),
            [[[7, 5], [-1, 0]], [[3, 2], [-4, -6]]],
        ),
        expiry=state.book.expiry,
        since=placed(
            state.book.since, [[[now - 70, now], [now - 63, 0]], [[now - 64, now - 63], [now - 64, now - 99]]]
        ),
    )
    found = resting.queue(structure, dataclasses.replace(state, book=book))
    told = [getattr(found, name)[0, 0].tolist() for name in ("ahead", "older", "same", "behind", "age")]
    assert told == [
        [[[0, 12], [0, 0]], [[0, 0], [0, 0]]],
        [[[0, 0], [10, 0]], [[0, 10], [0, 0]]],
        [[[3, 0], [0, 0]], [[7, 0], [6, 4]]],
        [[[2, 0], [0, 0]], [[2, 0], [1, 1]]],
        [[[70, 0], [63, 0]], [[64, 63], [64, 99]]],
    ]


def test_the_older_of_two_orders_of_a_price_never_fills_later() -> None:
    """Two learners let the same order rest at the same price; the second comes a tick later."""
    config = quoting(quotes=1, num_learners=2, mark="mid")
    market = opened(config, 256)
    filled = torch.zeros(256, 2, dtype=torch.int64)
    wait = torch.full((256, 2, 2), KEEP, dtype=torch.float64)
    mid_x2 = market.state.market_data.mids_x2[:, 0, -1]
    first = wait.clone()
    first[:, 0] = torch.tensor([4.0, NONE])
    first[:, 1] = NONE
    market.step(first)
    price = resting.places(market.structure, market.state.book.price)[:, 0, 0, 0, 0]
    now = market.state.market_data.mids_x2[:, 0, -1]
    second = wait.clone()
    second[:, 1, 0] = (now.double() / 2 - price).clamp(0.0, 31.0)  # the same price, where it can still be had
    second[:, 1, 1] = NONE
    market.step(second)
    prices = resting.places(market.structure, market.state.book.price)[:, 0, :, 0, 0]
    sizes = resting.places(market.structure, market.state.book.size)[:, 0, :, 0, 0]
    alike = (prices[:, 0] == prices[:, 1]) & (sizes == 10).all(-1)
    for _ in range(60):
        result = market.step(wait)
        filled += result.info["rested"].squeeze(-1)
        assert bool((~alike | (filled[:, 0] == 10) | (filled[:, 1] == 0)).all())
    assert int((alike & (filled[:, 0] > 0)).sum()) >= 20, (int(alike.sum()), mid_x2[:2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quotes": 0}, r"action='depths' lets orders rest, and quotes = 0 leaves no place for them: give quotes=1"),
        ({"quotes": 9}, r"quotes must be .* <= 8|quotes must be an integer"),
    ],
)
def test_places_and_schemes_must_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Market(quoting(**changes), 1)


def test_bad_actions_move_nothing() -> None:
    market = opened(quoting(), 2)
    for action, message in (
        (depths(1.0, 1.0, 1.0, float("nan"), markets=2), r"nan\], must be -1 to 32 \('depths' actions\)"),
        (depths(1.0, -1.5, 1.0, 1.0, markets=2), "must be -1 to 32"),
        (depths(1.0, 1.0, markets=2), r"action must have shape \(2, 4\), got \(2, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            market.step(action)
    assert market.state.clock.tick.tolist() == [0, 0]
