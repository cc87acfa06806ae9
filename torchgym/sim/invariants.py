"""What must hold after every phase of a tick, checked when a market runs with `debug=True`, and what holds for any state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics.trees import leaves
from torchgym.sim.params import Params
from torchgym.sim.state import Accounts, Auction, Book, Execution, MarketData, MarketState, Value


class BrokenInvariant(AssertionError):
    """A phase broke a rule of the market: which phase, which rule, which markets."""


def watch(phase: str, products: dict[str, Any]) -> None:
    """Check one phase's products.

    Raises:
        BrokenInvariant: naming the phase, the rule and the first markets that broke it.
    """
    if broken := first_broken(_RULES[phase](**products)):
        rule, markets = broken
        raise BrokenInvariant(f"phase {phase!r} broke {rule!r} in market {markets}")


def first_broken(rules: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """The first rule that does not hold everywhere, and the first markets that break it, as text; None where all hold.

    Args:
        rules: bool tensors that begin with [N], by rule.
    """
    for rule, holds in rules.items():
        broken = (~holds.reshape(holds.shape[0], -1).all(-1)).nonzero().flatten().tolist()
        if broken:
            return rule, ", ".join(map(str, broken[:8]))
    return None


def total_cash(accounts: Accounts) -> Tensor:
    """All money of a market, [N] int64 points x shares: background traders, learner, fees and borrow charges."""
    return accounts.cash.sum((1, 2)) + accounts.learner_cash + accounts.fees + accounts.borrow


def total_shares(accounts: Accounts) -> Tensor:
    """All inventories of each symbol, [N, S] int64, measured from the endowments: nothing but the learner's starting shares."""
    return accounts.shares.sum(-1) + accounts.learner_shares


def standing(structure: Structure, params: Params, state: MarketState) -> dict[str, Tensor]:
    """Which rules a state holds at the end of a tick, whatever came before: bool tensors that begin with [N], by rule.

    A state from elsewhere that holds them all may still be one that no market reaches; one that breaks any certainly is.
    """
    clock, book, market_data, own = state.clock, state.book, state.market_data, state.accounts
    cash = params.starting_cash[:, 0]
    endowment = structure.num_symbols * (params.starting_shares * params.list_price)[:, 0]
    rules = {f"{name} is finite": torch.isfinite(leaf) for name, leaf in leaves(state) if leaf.dtype.is_floating_point}
    rules |= {
        "seeds are not negative": clock.seed >= 0,
        "episodes are counted from 0, or -1 before the first of a new seed": clock.episode >= -1,
        "the warm-up is as long as the configuration says": clock.tick >= -structure.warmup_ticks,
        "an episode has a length": clock.last >= 1,
        "prices are at least one point": (book.size == 0) | (book.price >= 1),
        "the book is uncrossed": _uncrossed(book),
        "the spread is at least one point": market_data.ask > market_data.bid,
        "bids are at least one point": market_data.bid >= 1,
        "mids are at least one point": market_data.mids_x2 >= 2,
        "volumes are not negative": market_data.volumes >= 0,
        "positions are within their limit": own.learner_shares.abs() <= params.position_limit,
        "fees and borrow charges are not negative": (own.fees >= 0) & (own.borrow >= 0) & (own.borrow_accrued >= 0),
        "cash adds up to the learner's starting cash": total_cash(own) == cash,
        "shares add up to the learner's starting shares": total_shares(own) == params.starting_shares,
        "realised profit and basis explain the learner's cash": own.learner_cash
        == cash + endowment + own.realized - own.basis.sum(-1),
    }
    if structure.mark == "mid":
        worth = (own.learner_shares * market_data.mids_x2[..., -1]).sum(-1)
        rules["equity is cash and shares at the mid"] = own.equity_x2 == 2 * own.learner_cash + worth
    return rules


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


def _measure(state: MarketState, market_data: MarketData) -> dict[str, Tensor]:
    finite = {f"{name} is finite": torch.isfinite(leaf) for name, leaf in leaves(market_data)}
    return {**finite, "the spread is at least one point": market_data.ask > market_data.bid}


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
