"""Accounts on paper: who pays whom, commission, average cost through zero, borrow, marks; and money that adds up."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from markets import narrow
from torch import Tensor

from torchgym import MarketConfig
from torchgym.config import structure
from torchgym.sim import accounts, matching
from torchgym.sim.invariants import total_cash, total_shares
from torchgym.sim.params import Params, make_params
from torchgym.sim.state import Accounts, Auction, Book, Execution, Ledger

# Two single-order traders and one maker: owners 0, 1, M; slots 0, 1, M's bid, M's ask.
PLACES = dataclasses.replace(structure(MarketConfig()), families={"value": slice(0, 2), "maker": slice(2, 3)})
CASH = 1_000_000
FIRST = torch.tensor([1])  # tick


@dataclasses.dataclass
class Balances:
    """Of background traders, and of one learner."""

    owned: Accounts
    own: Ledger


def config(**changes: Any) -> MarketConfig:
    return MarketConfig(starting_cash=CASH, **changes)


def params(settings: MarketConfig, markets: int = 1) -> Params:
    return make_params(settings, markets, torch.device("cpu"))


def per_slot(values: list[int]) -> Tensor:
    return torch.tensor([[values]])


def number(value: int) -> Tensor:
    return torch.tensor([[value]])


def learners(value: int) -> Tensor:
    return torch.tensor([[[value]]])


def execution(fills: list[int], prices: list[int]) -> Execution:
    """The learner against resting orders: what it got is what they gave, each at its own price."""
    filled = -sum(fills)
    paid = -sum(fill * price for fill, price in zip(fills, prices, strict=True))
    return Execution(
        filled=learners(filled),
        paid=learners(paid),
        last_price=number(0),
        fills=per_slot(fills).to(torch.int32),
        remainder=learners(0),
        limit=learners(0),
    )


def auction(fills: list[int], price: int) -> Auction:
    return Auction(
        price=number(price), volume=number(sum(max(fill, 0) for fill in fills)), fills=per_slot(fills).to(torch.int32)
    )


NO_EXECUTION, NO_AUCTION = execution([0] * 4, [0] * 4), auction([0] * 5, 1)


def opening(settings: MarketConfig, shares: list[int] | None = None) -> Balances:
    return Balances(*accounts.start(PLACES, params(settings), per_slot(shares or [0, 0, 0])))


def settle(settings: MarketConfig, before: Balances, **tick: Any) -> Balances:
    singles, makers, own = accounts.settle(PLACES, params(settings), before.owned, before.own, **tick)
    return Balances(singles.joined(makers), own)


def mark(
    settings: MarketConfig, before: Balances, mid_x2: Tensor, liquidation: Any = None, now: Any = FIRST
) -> Balances:
    return Balances(before.owned, accounts.mark(params(settings), before.own, mid_x2, liquidation, now=now))


def trade(settings: MarketConfig, before: Balances, shares: int, price: int) -> Balances:
    """The learner trades with trader 0 at a price."""
    return settle(
        settings,
        before,
        execution=execution([-shares, 0, 0, 0], [price, 0, 0, 0]),
        auction=NO_AUCTION,
        standing_price=per_slot([price, 1, 1, 1]),
    )


def test_opening_balances() -> None:
    start = opening(config(), [7, -9, 2])
    assert start.owned.cash.flatten().tolist() == [0, 0, 0]
    assert start.owned.shares.flatten().tolist() == [7, -9, 2]
    assert (start.own.cash.item(), start.own.equity_x2.item()) == (CASH, 2 * CASH)
    assert (start.own.shares.item(), start.own.basis.item()) == (0, 0)


@pytest.mark.parametrize("held", [7, -7])
def test_an_endowment_is_booked_at_the_list_price(held: int) -> None:
    settings = config(num_symbols=2, starting_shares=held, list_price=200)
    start = Balances(*accounts.start(PLACES, params(settings, 3), torch.zeros(3, 2, 4, dtype=torch.int64)))
    assert start.own.cash.tolist() == [[CASH]] * 3
    assert start.own.shares.tolist() == [[[held]] * 2] * 3
    assert start.own.basis.tolist() == [[[held * 200]] * 2] * 3
    assert start.own.equity_x2.tolist() == [[2 * (CASH + 2 * held * 200)]] * 3
    assert not (start.own.realized.any() or start.own.borrow.any() or start.owned.shares.any())


def test_appraisal_charges_nothing() -> None:
    settings = config(starting_shares=-4, borrow_ppb=500_000_000)
    start = opening(settings)
    at_mid = Balances(start.owned, accounts.appraise(start.own, number(301), None))
    assert at_mid.own.equity_x2.item() == 2 * CASH - 4 * 301
    assert accounts.appraise(start.own, number(301), learners(-1_300)).equity_x2.item() == 2 * CASH - 1_300
    assert (at_mid.own.cash.item(), at_mid.own.borrow.item(), at_mid.own.borrow_accrued.item()) == (CASH, 0, 0)


def test_profit_of_an_endowment_is_measured_from_the_list_price() -> None:
    settings = config(commission_bps=0.0, starting_shares=10, list_price=100)
    now = opening(settings)
    steps = [  # shares, price; position, basis and realised profit afterwards
        (-4, 105, 6, 600, 20),
        (2, 90, 8, 780, 20),  # average 97.5
        (-8, 100, 0, 0, 40),
        (-3, 100, -3, -300, 40),
    ]
    for shares, price, held, basis, realized in steps:
        now = trade(settings, now, shares, price)
        assert (now.own.shares.item(), now.own.basis.item(), now.own.realized.item()) == (held, basis, realized)
        assert now.own.cash.item() == CASH + 10 * 100 + realized - basis


def test_every_owner_of_a_tick_by_hand() -> None:
    settings = config(commission_bps=2.0)
    prices = [101, 90, 97, 103]
    after = settle(
        settings,
        opening(settings),
        execution=execution([-3, 0, 0, -2], prices),  # the learner buys 3 from trader 0 at 101, 2 from the maker at 103
        auction=auction([0, -4, 5, -2, 1], 100),  # trader 1 sells 4, the maker buys 5 and sells 2, the learner buys 1
        standing_price=per_slot(prices),
    )
    assert after.owned.shares.flatten().tolist() == [-3, -4, 5 - 2 - 2]
    assert after.owned.cash.flatten().tolist() == [303, 400, -500 + 200 + 206]
    traded = 3 * 101 + 2 * 103 + 100
    fee = 1  # 609 * 2 / 10000 = 0.1218, rounded up
    assert after.own.shares.item() == after.own.filled.item() == 6
    assert after.own.turnover.item() == traded == 609
    assert (after.own.cash.item(), after.own.fees.item()) == (CASH - traded - fee, fee)
    assert (after.own.basis.item(), after.own.realized.item()) == (609, -fee)
    assert total_cash(after.owned, after.own).item() == CASH
    assert total_shares(after.owned, after.own).item() == 0


@pytest.mark.parametrize(
    ("bps", "shares", "price", "fee"),
    [
        (2.0, 0, 100, 0),  # no trade, no fee
        (2.0, 1, 1, 1),  # a whole unit at least
        (2.0, 1, 5_000, 1),  # exactly one
        (2.0, 1, 5_001, 2),
        (2.0, -100, 10_000, 200),  # sales pay alike
        (0.0, 100, 10_000, 0),
        (0.25, 10, 10_000, 3),  # 2.5
        (10_000.0, 7, 13, 91),  # the whole amount
        (0.004, 1_000, 10_000, 0),  # a rate is resolved to a hundredth of a basis point
    ],
)
def test_commission_is_rounded_up(bps: float, shares: int, price: int, fee: int) -> None:
    settings = config(commission_bps=bps)
    after = trade(settings, opening(settings), shares, price)
    assert after.own.fees.item() == fee
    assert after.own.cash.item() == CASH - shares * price - fee


def test_commission_is_rounded_per_symbol() -> None:
    settings = config(num_symbols=2, commission_bps=2.0)
    fills = torch.tensor([[[-1, 0, 0, 0], [1, 0, 0, 0]]])
    both = Execution(
        filled=torch.tensor([[[1], [-1]]]),
        paid=torch.tensor([[[5_001], [-100]]]),
        last_price=torch.zeros(1, 2, dtype=torch.int64),
        fills=fills,
        remainder=torch.zeros(1, 2, 1, dtype=torch.int64),
        limit=torch.zeros(1, 2, 1, dtype=torch.int64),
    )
    quiet = torch.zeros(1, 2, 5, dtype=torch.int64)
    after = settle(
        settings,
        Balances(*accounts.start(PLACES, params(settings), torch.zeros(1, 2, 3, dtype=torch.int64))),
        execution=both,
        auction=Auction(price=quiet[..., 0] + 1, volume=quiet[..., 0], fills=quiet),
        standing_price=torch.tensor([[[5_001, 1, 1, 1], [100, 1, 1, 1]]]),
    )
    assert after.own.fees.tolist() == [[2 + 1]]
    assert after.own.turnover.tolist() == [[5_101]]
    assert total_cash(after.owned, after.own).tolist() == [CASH]


def test_average_cost_through_zero() -> None:
    settings = config(commission_bps=0.0)
    steps = [  # shares, price; position, basis and realised profit afterwards
        (10, 100, 10, 1_000, 0),
        (10, 110, 20, 2_100, 0),  # average 105
        (-5, 120, 15, 1_575, 75),  # 5 closed at +15
        (-25, 90, -10, -900, 75 - 225),  # 15 closed at -15, 10 opened short at 90
        (4, 95, -6, -540, -150 - 20),  # 4 covered at -5
        (6, 80, 0, 0, -170 + 60),  # the rest covered at +10
        (-1, 70, -1, -70, -110),
        (2, 71, 1, 71, -111),  # covered at -1, and long again
    ]
    now = opening(settings)
    for shares, price, held, basis, realized in steps:
        now = trade(settings, now, shares, price)
        assert (now.own.shares.item(), now.own.basis.item(), now.own.realized.item()) == (held, basis, realized)


@settings(deadline=None, derandomize=True)
@given(
    trades=st.lists(st.tuples(st.integers(-60, 60), st.integers(1, 20_000)), min_size=1, max_size=30),
    held=st.integers(-50, 50),
)
def test_profit_and_basis_explain_the_cash(trades: list[tuple[int, int]], held: int) -> None:
    """Whatever is rounded in a partial close: cash = start + endowment + realised - basis; a flat position costs nothing."""
    settings = config(commission_bps=2.0, starting_shares=held)
    endowment = held * settings.list_price
    prices = [settings.list_price] * (held != 0) + [price for _, price in trades]
    now = opening(settings)
    for shares, price in trades:
        now = trade(settings, now, shares, price)
        assert now.own.cash.item() == CASH + endowment + now.own.realized.item() - now.own.basis.item()
        assert total_cash(now.owned, now.own).item() == CASH
        assert total_shares(now.owned, now.own).item() == held
        if now.own.shares.item() == 0:
            assert now.own.basis.item() == 0
        else:  # the average cost lies among the prices paid, up to the rounding of each close
            average = now.own.basis.item() / now.own.shares.item()
            assert min(prices) - len(trades) <= average <= max(prices) + len(trades)


def test_a_makers_two_slots_are_one_owner() -> None:
    before = torch.tensor([[[5, 0, 7]]])
    assert torch.cat(accounts.credit(PLACES, before, per_slot([1, 20, 300, 4_000])), -1).tolist() == [[[6, 20, 4_307]]]
    two = dataclasses.replace(PLACES, families={"value": slice(0, 1), "maker": slice(1, 3)})
    assert torch.cat(accounts.credit(two, before, per_slot([1, 10, 20, 300, 400])), -1).tolist() == [[[6, 310, 427]]]


def test_borrow_falls_due_in_whole_units() -> None:
    settings = config(commission_bps=0.0, borrow_ppb=30_000_000)  # 3 % a tick
    short = trade(settings, opening(settings), -1, 100)
    marks = [200, 201, 202, 190, 210, 0]  # half points
    owed, charged = 0.0, 0
    for mid_x2 in marks:
        short = mark(settings, short, number(mid_x2))
        owed += 0.03 * mid_x2 / 2
        charged = int(owed + 1e-9)
        assert short.own.borrow.item() == charged
        assert short.own.cash.item() == CASH + 100 - charged
        assert short.own.realized.item() == -charged
        assert short.own.equity_x2.item() == 2 * (CASH + 100 - charged) - mid_x2
        assert total_cash(short.owned, short.own).item() == CASH
    assert charged == 15  # of 15.045


def test_only_short_positions_pay() -> None:
    settings = config(num_symbols=2, borrow_ppb=500_000_000)
    both = Balances(*accounts.start(PLACES, params(settings), torch.zeros(1, 2, 3, dtype=torch.int64)))
    both.own.shares = torch.tensor([[[10], [-4]]])
    marked = mark(settings, both, torch.tensor([[2_000, 300]]))
    assert marked.own.borrow.tolist() == [[300]]  # half of 4 x 150
    assert marked.own.equity_x2.tolist() == [[2 * (CASH - 300) + 20_000 - 1_200]]
    both.own.shares = torch.tensor([[[10], [4]]])
    assert mark(settings, both, torch.tensor([[2_000, 300]])).own.borrow.tolist() == [[0]]


def test_default_borrow_is_about_half_a_percent_a_year() -> None:
    settings = config()
    short = opening(settings)
    short.own.shares = learners(-50)
    ticks = 98_280  # minutes of 252 sessions
    yearly = ticks * 50 * 10_000 * settings.borrow_ppb * 1e-9
    assert yearly / (50 * 10_000) == pytest.approx(0.005, rel=0.02)
    for _ in range(80):  # 0.025 a tick
        short = mark(settings, short, number(20_000))
    assert (short.own.borrow.item(), short.own.borrow_accrued.item()) == (2, 0)


def test_the_account_begins_at_tick_0() -> None:
    """Up to then nothing is charged and nobody is ruined; afterwards ruin lasts, whatever equity becomes."""
    settings = config(starting_shares=-4, list_price=100, borrow_ppb=500_000_000, maintenance=CASH - 450)
    short = opening(settings)
    for now, mid_x2, equity, borrow, ruined in (
        (-1, 300, CASH - 600, 0, False),
        (0, 300, CASH - 600, 0, False),
        (1, 100, CASH - 300, 100, False),
        (2, 150, CASH - 550, 250, True),
        (3, 0, CASH - 250, 250, True),
    ):
        short = mark(settings, short, number(mid_x2), now=torch.tensor([now]))
        assert (short.own.equity_x2.item(), short.own.borrow.item(), short.own.ruined.item()) == (
            2 * equity,
            borrow,
            ruined,
        )


def book(bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> Book:
    """Levels of (price, shares)."""
    price = per_slot([p for p, _ in bids + asks] or [1])
    size = per_slot([s for _, s in bids] + [-s for _, s in asks] or [0])
    return narrow(Book(price=price, size=size, expiry=torch.zeros_like(size)))


@pytest.mark.parametrize(
    ("held", "worth"),
    [
        (0, 0),
        (3, 3 * 99),
        (8, 5 * 99 + 3 * 98),
        (20, 5 * 99 + 10 * 98 + 5 * 98),  # what the book cannot take counts at its worst price
        (-2, -2 * 102),
        (-9, -(4 * 102 + 5 * 105)),
        (-30, -(4 * 102 + 6 * 105 + 20 * 105)),
    ],
)
def test_liquidation_walks_the_book(held: int, worth: int) -> None:
    standing = book([(99, 5), (98, 10)], [(102, 4), (105, 6)])
    settings = config(mark="liquidation", borrow_ppb=0)
    value = matching.liquidation_value(settings, standing, number(held), number(201))
    assert value.item() == 2 * worth
    owner = opening(settings)
    owner.own.shares = learners(held)
    marked = mark(settings, owner, number(201), value.unsqueeze(-1))
    assert marked.own.equity_x2.item() == 2 * (CASH + worth)


def test_liquidation_of_an_empty_book_is_the_mid() -> None:
    value = matching.liquidation_value(structure(config(mark="liquidation")), book([], []), number(7), number(201))
    assert value.item() == 7 * 201
