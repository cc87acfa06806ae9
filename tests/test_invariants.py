"""What holds in every market at every tick, whatever the settings, the seeds and the learner: money, shares, books, costs."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markets import cold, opened, random_actions, toy
from torch import Tensor

from torchgym import MarketConfig
from torchgym.config import Fundamentals, NewsKind, Population, structure
from torchgym.engine import StepResult
from torchgym.numerics.trees import leaves
from torchgym.readout.rewards import REWARDS
from torchgym.sim import matching
from torchgym.sim.actions import ACTIONS
from torchgym.sim.invariants import total_cash, total_shares
from torchgym.sim.state import NOWHERE, Book, MarketState

MARKETS = 3


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def configurations(draw: st.DrawFn) -> MarketConfig:
    """Small markets of every kind."""
    families: dict[str, Any] = {
        name: dataclasses.replace(family, count=draw(st.integers(1 if name in ("value", "maker") else 0, 6)))
        for name, family in Population().families.items()
    }
    population = Population(**families)
    often = NewsKind(probability=draw(st.sampled_from([0.0, 0.1])), scale=0.02, duration=12, immediate=0.5)
    symbols = draw(st.integers(1, 3))
    order_size = draw(st.integers(1, 60))
    return MarketConfig(
        num_symbols=symbols,
        num_sectors=draw(st.integers(1, symbols)),
        list_price=draw(st.sampled_from([1_000, 10_000, 30_000])),
        point_size=draw(st.sampled_from([0.01, 0.25, 1.0])),
        max_ticks=600,
        ticks_per_action=draw(st.sampled_from([1, 1, 2])),
        order_size=order_size,
        position_limit=(limit := draw(st.integers(order_size, 300))),
        starting_shares=draw(st.one_of(st.just(0), st.integers(-limit, limit))),
        starting_cash=3 * 300 * 30_000 + 1,  # above the dearest short start
        commission_bps=draw(st.sampled_from([0.0, 2.0, 37.5])),
        borrow_ppb=draw(st.sampled_from([0, 50, 10_000_000])),
        collar=draw(st.sampled_from([0.001, 0.01, 0.05])),
        execution=draw(st.sampled_from(list(matching.EXECUTIONS))),
        mark=draw(st.sampled_from(["mid", "liquidation"])),
        action=(action := draw(st.sampled_from(list(ACTIONS)))),
        quotes=draw(st.integers(1, 3)) if ACTIONS[action].rests else 0,
        maker_bps=draw(st.sampled_from([0.0, 1.0])),
        priority=draw(st.sampled_from(["pro_rata", "time"])),
        reward=draw(st.sampled_from(list(REWARDS))),
        fundamentals=Fundamentals(earnings=often, sector=often),
        population=population,
    )


def crossed(book: Book) -> Tensor:
    bid = torch.where(book.size > 0, book.price, 0).amax(-1)
    ask = torch.where(book.size < 0, book.price, NOWHERE).amin(-1)
    return bid >= ask


def check(config: MarketConfig, before: MarketState, after: MarketState, result: StepResult) -> None:
    """What one step must leave behind."""
    own, market_data = after.ledger, after.market_data
    assert total_cash(after.accounts, own).tolist() == [config.starting_cash] * MARKETS
    assert (total_shares(after.accounts, own) == config.starting_shares).all()
    assert (own.fees >= before.ledger.fees).all()
    assert (own.borrow >= before.ledger.borrow).all()
    assert (own.shares.abs() <= config.position_limit).all()
    assert torch.equal((own.shares - before.ledger.shares)[..., 0], result.info["filled"])
    endowment = config.num_symbols * config.starting_shares * config.list_price
    assert torch.equal(own.cash, config.starting_cash + endowment + own.realized - own.basis.sum(-2))
    if config.mark == "mid":
        worth = (own.shares * market_data.mids_x2[..., -1:]).sum(-2)
        assert torch.equal(own.equity_x2, 2 * own.cash + worth)

    assert not crossed(after.book).any()
    assert ((after.book.size == 0) | (after.book.price >= 1)).all()
    assert (market_data.ask > market_data.bid).all()
    assert torch.equal(market_data.bid + market_data.ask, market_data.mids_x2[..., -1])
    assert (market_data.volumes >= 0).all()
    assert (torch.maximum(market_data.buys[..., -1], market_data.sells[..., -1]) <= market_data.volumes[..., -1]).all()

    assert all(leaf.isfinite().all() for _, leaf in leaves(after))
    assert result.observation.isfinite().all()
    assert result.reward.isfinite().all()


@examples(25)
@given(config=configurations(), seed=st.integers(0, 2**63 - 1), choices=st.integers(0, 2**31))
def test_every_market_keeps_its_books(config: MarketConfig, seed: int, choices: int) -> None:
    market = cold(config, MARKETS, seed=seed, debug=True)
    for action in random_actions(config, 10, MARKETS, seed=choices):
        before = market.state
        result = market.step(action)
        check(config, before, market.state, result)


@examples(15)
@given(config=configurations(), seed=st.integers(0, 2**63 - 1))
def test_the_learner_never_pays_beyond_its_collar(config: MarketConfig, seed: int) -> None:
    config = config.replace(ticks_per_action=1)
    market = cold(config, MARKETS, seed=seed)
    for action in random_actions(config, 8, MARKETS, seed=seed % 1000):
        mid_x2 = market.state.market_data.mids_x2[..., -1].double()
        before = market.state.ledger
        market.step(action)
        after = market.state.ledger
        # Both are sums over symbols: the dearest and the cheapest that its fills could have come to.
        filled = after.filled[..., 0].double()
        slack = filled.abs() * mid_x2 * 0.5 * config.collar
        paid = (before.cash - after.cash - (after.fees - before.fees) - (after.borrow - before.borrow))[:, 0]
        fair = (filled * mid_x2 * 0.5).sum(-1)
        assert (paid.double() <= fair + slack.sum(-1)).all()
        assert after.turnover.ge(0).all()


def standing_books(config: MarketConfig, markets: int) -> tuple[Book, Tensor, Tensor, Tensor]:
    """Books of a living market, its mids, and the collar on both sides."""
    state = opened(config, markets).state
    mid_x2 = state.market_data.mids_x2[..., -1]
    mid = mid_x2.double() * 0.5
    return state.book, mid_x2, torch.floor(mid * 1.01).long(), torch.ceil(mid * 0.99).long()


@pytest.mark.parametrize("config", [toy(), MarketConfig()], ids=["toy", "default"])
def test_larger_orders_pay_no_better_price(config: MarketConfig) -> None:
    book, mid_x2, up, down = standing_books(config, 24)
    for side, limit in ((1, up), (-1, down)):
        filled, paid = [], []
        for size in range(1, 260, 3):
            _, execution = matching.execute(structure(config), book, torch.full_like(limit, side * size), limit, mid_x2)
            filled.append(execution.filled.abs())
            paid.append(execution.paid.abs())
            assert (execution.filled * side >= 0).all()
            assert torch.equal(execution.filled + execution.remainder, torch.full_like(limit, side * size))
        shares, money = torch.stack(filled), torch.stack(paid)
        more = shares[1:] > shares[:-1]
        assert more.any()
        # paid / shares never improves: cross-multiplied, exact in integers.
        worse = side * (money[1:] * shares[:-1] - money[:-1] * shares[1:])
        assert (worse[more] >= 0).all()
        assert (worse > 0).any()
        # Each further share costs no less than the last.
        assert torch.equal(shares, torch.cummax(shares, 0).values)
        marginal = side * (money[1:] - money[:-1]).double() / (shares[1:] - shares[:-1]).clamp(min=1).double()
        for first, second, grew in zip(marginal[:-1], marginal[1:], more[1:] & more[:-1], strict=True):
            assert (second[grew] >= first[grew] - 1e-9).all()


def test_costs_grow_with_the_order_through_the_whole_market() -> None:
    """The same markets, learners who differ only in the size of their order."""
    sizes, markets = (1, 10, 30, 60), 24
    prices, worlds = [], []
    for size in sizes:
        config = toy(order_size=size, position_limit=300, starting_cash=10**9)
        market = opened(config, markets)
        worlds.append(market.state)
        book, mid_x2 = market.state.book, market.state.market_data.mids_x2[..., -1:]
        reachable = (book.size < 0) & (2 * book.price <= mid_x2 * (1.0 + config.collar))
        depth = torch.where(reachable, -book.size, 0).sum(-1)
        result = market.step(torch.full((markets,), 2))
        filled = result.info["filled"][:, 0]
        whole = (filled == size) & (depth[:, 0] >= size)
        prices.append(torch.where(whole, result.info["turnover"] / filled, torch.inf))
    for world in worlds[1:]:
        assert torch.equal(world.market_data.mids_x2, worlds[0].market_data.mids_x2)
    for first, second in itertools.pairwise(prices):
        both = second.isfinite() & first.isfinite()
        assert both.sum() > markets // 4
        assert (second[both] >= first[both] - 1e-9).all()
    finite = prices[-1].isfinite()
    assert (prices[-1][finite] > prices[0][finite]).any()


@pytest.mark.parametrize("config", [toy(order_size=1), MarketConfig(order_size=1)], ids=["toy", "default"])
def test_there_and_back_costs_the_spread_and_two_commissions(config: MarketConfig) -> None:
    """Two forks of one moment, of which one buys and the other sells a share: exactly what a round trip would cost there."""
    buyer = opened(config, 24)
    seller = buyer.fork()
    market_data = buyer.state.market_data
    spread = (market_data.ask - market_data.bid).sum(-1)
    buyer.step(torch.full((24,), 2))
    seller.step(torch.full((24,), 0))
    paid = config.starting_cash - buyer.state.ledger.cash[:, 0]
    got = seller.state.ledger.cash[:, 0] - config.starting_cash
    fees = buyer.state.ledger.fees[:, 0] + seller.state.ledger.fees[:, 0]
    assert torch.equal(paid - got, spread + fees)
    assert spread.min() >= 1
    assert fees.min() >= 2


def test_a_book_taken_from_both_sides_costs_at_least_its_spread() -> None:
    book, mid_x2, up, down = standing_books(MarketConfig(), 24)
    spread = torch.where(book.size < 0, book.price, NOWHERE).amin(-1) - torch.where(book.size > 0, book.price, 0).amax(
        -1
    )
    for size in (1, 7, 40):
        shares = torch.full_like(mid_x2, size)
        _, bought = matching.execute(MarketConfig(), book, shares, up, mid_x2)
        _, sold = matching.execute(MarketConfig(), book, -shares, down, mid_x2)
        both = (bought.filled == size) & (sold.filled == -size)
        cost = bought.paid + sold.paid
        assert both.any()
        assert (cost[both] >= size * spread[both]).all()
        if size == 1:
            assert torch.equal(cost[both], spread[both])


def test_a_learner_who_holds_keeps_its_money() -> None:
    market = opened(toy(num_symbols=2), MARKETS)
    for _ in range(10):
        result = market.step()
        assert result.reward.tolist() == [0.0] * MARKETS
    own = market.state.ledger
    assert own.cash[:, 0].tolist() == [market.config.starting_cash] * MARKETS
    assert not (own.fees.any() or own.borrow.any() or own.realized.any())


@pytest.mark.parametrize("held", [0, 37, -37])
def test_shares_and_cash_add_up_to_what_the_learner_brought(held: int) -> None:
    """Also through the warm-up, and in the market's own list of who owns what."""
    config = toy(num_symbols=2, starting_shares=held, action="sized", borrow_ppb=1_000_000)
    market = opened(config, MARKETS, debug=True)
    for action in random_actions(config, 12, MARKETS):
        owned = market.holdings().values()
        assert sum(owner["shares"] for owner in owned).tolist() == [[held] * 2] * MARKETS
        assert sum(owner["cash"] for owner in owned).tolist() == [config.starting_cash] * MARKETS
        market.step(action)


@pytest.mark.parametrize("config", [toy(band=8), MarketConfig(list_price=2**17)], ids=["narrow band", "high price"])
def test_no_book_stays_crossed_beyond_the_band(config: MarketConfig) -> None:
    """Prices that move further in a tick than the auction can price in."""
    market = cold(config, 16, debug=True)
    for action in random_actions(config, 60, 16):
        market.step(action)
    assert not crossed(market.state.book).any()
