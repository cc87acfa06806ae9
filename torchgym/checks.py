"""What must hold after every phase of a tick, checked when a market runs with `debug=True`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchgym.state import Accounts, Auction, Book, Execution, MarketState, Tape, Value, leaves


class BrokenInvariant(AssertionError):
    """A phase broke a rule of the market: which phase, which rule, which markets."""


def watch(phase: str, products: dict[str, Any]) -> None:
    """Check one phase's products.

    Raises:
        BrokenInvariant: naming the phase, the rule and the first markets that broke it.
    """
    for rule, holds in _RULES[phase](**products).items():
        broken = (~holds.reshape(holds.shape[0], -1).all(-1)).nonzero().flatten().tolist()
        if broken:
            raise BrokenInvariant(f"phase {phase!r} broke {rule!r} in market {', '.join(map(str, broken[:8]))}")


def total_cash(accounts: Accounts) -> Tensor:
    """All money of a market, [N] int64 points x shares: background traders, learner, fees and borrow charges."""
    return accounts.cash.sum((1, 2)) + accounts.learner_cash + accounts.fees + accounts.borrow


def total_shares(accounts: Accounts) -> Tensor:
    """All inventories of each symbol, [N, S] int64, measured from the endowments: nothing but the learner's starting shares."""
    return accounts.shares.sum(-1) + accounts.learner_shares


def _execute(state: MarketState, book: Book, execution: Execution) -> dict[str, Tensor]:
    limit, price = execution.limit.unsqueeze(-1), state.book.price
    touched = execution.fills != 0
    side = torch.sign(execution.filled).unsqueeze(-1)
    return {
        "shares taken equal shares received": execution.fills.sum(-1) == -execution.filled,
        "what is taken leaves the book": book.size == state.book.size - execution.fills,
        "no resting order changes side": book.size * state.book.size >= 0,
        "no fill beyond the limit": ~touched | (side * price <= side * limit),
    }


def _clear(state: MarketState, book: Book, auction: Auction) -> dict[str, Tensor]:
    price = auction.price.unsqueeze(-1)
    fills = auction.fills[..., :-1]
    return {
        "fills sum to zero": auction.fills.sum(-1) == 0,
        "shares bought are the volume": torch.clamp(auction.fills, min=0).sum(-1) == auction.volume,
        "no buyer pays above its limit": ~((fills > 0) & (book.price < price)),
        "no seller gets below its limit": ~((fills < 0) & (book.price > price)),
        "the book is uncrossed": _uncrossed(book),
    }


def _settle(state: MarketState, accounts: Accounts) -> dict[str, Tensor]:
    return {
        "cash is conserved": total_cash(accounts) == total_cash(state.accounts),
        "shares are conserved": total_shares(accounts) == total_shares(state.accounts),
    }


def _advance(state: MarketState, value: Value) -> dict[str, Tensor]:
    return {f"{name} is finite": torch.isfinite(leaf) for name, leaf in leaves(value)}


def _quote(state: MarketState, book: Book) -> dict[str, Tensor]:
    return {
        "the book is uncrossed": _uncrossed(book),
        "prices are at least one point": (book.size == 0) | (book.price >= 1),
    }


def _measure(state: MarketState, tape: Tape) -> dict[str, Tensor]:
    finite = {f"{name} is finite": torch.isfinite(leaf) for name, leaf in leaves(tape)}
    return {**finite, "the spread is at least one point": tape.ask > tape.bid}


def _mark(state: MarketState, accounts: Accounts) -> dict[str, Tensor]:
    return {
        **_settle(state, accounts),
        "realised profit and basis explain the learner's cash": accounts.learner_cash
        == state.accounts.learner_cash
        + (accounts.realized - state.accounts.realized)
        - (accounts.basis - state.accounts.basis).sum(-1),
    }


def _uncrossed(book: Book) -> Tensor:
    bid = torch.where(book.size > 0, book.price, -1).amax(-1)
    ask = torch.where(book.size < 0, book.price, 2**40).amin(-1)
    return bid < ask


_RULES: dict[str, Callable[..., dict[str, Tensor]]] = {
    "execute": _execute,
    "clear": _clear,
    "settle": _settle,
    "advance": _advance,
    "quote": _quote,
    "measure": _measure,
    "mark": _mark,
}
