"""The standing book, price by price."""

from dataclasses import replace

import pytest
import torch
from markets import opened, random_actions, toy

from torchgym.engine import levels
from torchgym.readout.depth import depth
from torchgym.sim.market_data import DEPTH_POINTS


@pytest.fixture(scope="module")
def market():
    config = toy(num_symbols=2)
    market = opened(config, 3, seed=4)
    for action in random_actions(config, 6, 3):
        market.step(action)
    return market


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("symbol", range(2))
def test_it_is_what_the_tape_says(market, row: int, symbol: int) -> None:
    state, at = market.state, (row, symbol)
    prices, sizes = depth(state, row, symbol)
    bid, ask = state.market_data.bid[at], state.market_data.ask[at]
    assert prices[sizes > 0].max() == bid
    assert prices[sizes < 0].min() == ask
    assert sizes[(sizes > 0) & (prices >= bid - DEPTH_POINTS)].sum() == state.market_data.bid_depth[at]
    assert -sizes[(sizes < 0) & (prices <= ask + DEPTH_POINTS)].sum() == state.market_data.ask_depth[at]
    assert sizes.sum() == state.book.size[at].sum()
    assert sizes.abs().sum() == state.book.size[at].abs().sum()
    assert (prices.diff() > 0).all()
    assert (prices.dtype, sizes.dtype) == (torch.int64, torch.int64)

    bids, asks = levels(state, row, symbol, 3)
    assert [price for price, _ in bids] == sorted(prices[sizes > 0].tolist(), reverse=True)[:3]
    assert [price for price, _ in asks] == sorted(prices[sizes < 0].tolist())[:3]
    assert (bids[0][0], asks[0][0]) == (bid, ask)
    assert all(size > 0 for _, size in bids + asks)


def test_orders_at_one_price_add_up_and_empty_places_do_not_count(market) -> None:
    state = market.state
    book = replace(state.book, price=state.book.price.clone(), size=torch.zeros_like(state.book.size))
    book.price[1, 0, :5] = torch.tensor([100, 99, 100, 103, 103])
    book.size[1, 0, :5] = torch.tensor([4, 2, 5, -3, -1])
    made = replace(state, book=book)
    prices, sizes = depth(made, 1)
    assert (prices.tolist(), sizes.tolist()) == ([99, 100, 103], [2, 9, -4])
    assert levels(made, 1) == ([(100, 9), (99, 2)], [(103, 4)])
    assert levels(made, 1, count=1) == ([(100, 9)], [(103, 4)])
    assert [part.tolist() for part in depth(made, 1, 1)] == [[], []]
    assert levels(made, 0) == ([], [])


@pytest.mark.parametrize(
    ("place", "complaint"),
    [((3, 0), "market must be 0 to 2, got 3"), ((0, 2), "symbol must be 0 to 1, got 2"), ((-1, 0), "got -1")],
)
def test_a_market_that_is_not_there_is_named(market, place: tuple[int, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        levels(market.state, *place)


def test_a_count_of_levels_is_not_negative(market) -> None:
    assert levels(market.state, count=0) == ([], [])
    with pytest.raises(ValueError, match="count must be at least 0, got -1"):
        levels(market.state, count=-1)
