"""The standing book of one market, price by price: for pictures and for reading."""

from __future__ import annotations

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.sim.state import MarketState

Level = tuple[int, int]  # price in points, shares


def depth(state: MarketState, market: int = 0, symbol: int = 0) -> tuple[Tensor, Tensor]:
    """All orders that rest at the end of the tick, added up price by price.

    Args:
        state: of a batch of markets.
        market: the row of the batch.
        symbol: which symbol.

    Returns:
        Distinct prices [L] int64 points, rising, and shares [L] int64 at each: bids positive, asks negative. Fresh tensors; empty
        for an empty book.

    Raises:
        ValueError: when there is no such market or symbol.

    Invariants: bids end below where asks begin; sizes add up to those of the resting orders. (tests/test_depth.py)
    """
    markets, symbols = state.book.size.shape[:2]
    for name, index, count in (("market", market, markets), ("symbol", symbol, symbols)):
        if not 0 <= index < count:
            raise ValueError(f"{name} must be 0 to {count - 1}, got {index}")
    price, size = (part[market, symbol].to(torch.int64) for part in (state.book.price, state.book.size))
    standing = size != 0
    prices, place = torch.unique(price[standing], return_inverse=True)
    return prices, torch.zeros_like(prices).index_add_(0, place, size[standing])


def levels(state: MarketState, market: int = 0, symbol: int = 0, count: int = 5) -> tuple[list[Level], list[Level]]:
    """The best levels of either side of the book, the best one first.

    Args:
        state: of a batch of markets.
        market: the row of the batch.
        symbol: which symbol.
        count: how many levels a side at most.

    Returns:
        Bids and asks, (price in points, shares) each; shares are positive on both sides. A thin side has fewer levels.

    Raises:
        ValueError: when there is no such market or symbol, or for a negative count.
    """
    if count < 0:
        raise ValueError(f"count must be at least 0, got {count}")
    prices, sizes = (tensor.tolist() for tensor in depth(state, market, symbol))
    bids = [(price, size) for price, size in zip(prices, sizes, strict=True) if size > 0]
    asks = [(price, -size) for price, size in zip(prices, sizes, strict=True) if size < 0]
    return bids[::-1][:count], asks[:count]


def own_orders(config: MarketConfig, state: MarketState, market: int = 0, symbol: int = 0) -> dict[int, int]:
    """Shares that the first learner lets rest at each price in points: bids positive, asks negative; empty without places."""
    first, count = -2 * config.quotes * config.num_learners, 2 * config.quotes  # learners' places come last in the book
    price, size = (part[market, symbol][first:][:count].tolist() for part in (state.book.price, state.book.size))
    own: dict[int, int] = {}
    for at, shares in zip(price, size, strict=True) if count else ():
        if shares:
            own[at] = own.get(at, 0) + shares
    return own
