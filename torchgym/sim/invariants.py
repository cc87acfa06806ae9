"""What must hold after every phase of a tick, checked when a market runs with `debug=True`, and what holds for any state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics.trees import leaves
from torchgym.sim import actions, resting
from torchgym.sim.params import Params
from torchgym.sim.state import (
    LONGEST,
    NOWHERE,
    Accounts,
    Auction,
    Book,
    Execution,
    Ledger,
    MarketData,
    MarketState,
    Value,
)


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


def total_cash(accounts: Accounts, ledger: Ledger) -> Tensor:
    """All money of a market, [N] int64 points x shares: background traders, learners, fees and borrow charges."""
    return accounts.cash.sum((1, 2)) + (ledger.cash + ledger.fees + ledger.borrow).sum(-1)


def total_shares(accounts: Accounts, ledger: Ledger) -> Tensor:
    """All inventories of each symbol, [N, S] int64, measured from the endowments: nothing but the learners' starting shares."""
    return accounts.shares.sum(-1) + ledger.shares.sum(-1)


def standing(structure: Structure, params: Params, state: MarketState) -> dict[str, Tensor]:
    """Which rules a state holds at the end of a tick, whatever came before: bool tensors that begin with [N], by rule.

    A state from elsewhere that holds them all may still be one that no market reaches; one that breaks any certainly is.
    """
    clock, book, market_data, own = state.clock, state.book, state.market_data, state.ledger
    cash, learners = params.starting_cash, structure.num_learners
    endowment = structure.num_symbols * params.starting_shares[..., 0] * params.list_price
    rules = {
        f"{name} is finite": torch.isfinite(leaf)
        for name, leaf in leaves(state)
        if leaf.dtype.is_floating_point and name != "delays.asked"  # of numbers, which are none where nobody decided
    }
    if state.delays is not None:
        rules["actions on their way are of the scheme, or rest"] = _allowed(structure, state.delays.asked)
    rules |= {
        "seeds are not negative": clock.seed >= 0,
        "episodes are counted from 0, or -1 before the first of a new seed": clock.episode >= -1,
        "the warm-up is as long as the configuration says": clock.tick >= -structure.warmup_ticks,
        "ticks are counted up to 2**30": clock.tick <= LONGEST,
        "an episode has a length": clock.last >= 1,
        "prices are at least one point": (book.size == 0) | (book.price >= 1),
        "the book is uncrossed": _uncrossed(book),
        "the spread is at least one point": market_data.ask > market_data.bid,
        "bids are at least one point": market_data.bid >= 1,
        "mids are at least one point": market_data.mids_x2 >= 2,
        "volumes are not negative": market_data.volumes >= 0,
        "positions are within their limit": own.shares.abs() <= params.position_limit,
        "fees and borrow charges are not negative": (
            ((own.fees >= 0) | (params.maker_rate[..., 0] < 0)) & (own.borrow >= 0) & (own.borrow_accrued >= 0)
        ),
        "cash adds up to the learners' starting cash": total_cash(state.accounts, own) == learners * cash[:, 0],
        "shares add up to the learners' starting shares": total_shares(state.accounts, own)
        == learners * params.starting_shares[..., 0],
        "realised profit and basis explain the learners' cash": own.cash
        == cash + endowment + own.realized - own.basis.sum(-2),
    }
    if structure.quotes:
        bids, asks = resting.shown(structure, book)
        rules["positions stay within their limit if what rests is filled"] = (
            own.shares + bids <= params.position_limit
        ) & (own.shares - asks >= -params.position_limit)
    if book.since is not None:
        rules["orders took their places in the past"] = book.since <= clock.tick[:, None, None]
    if structure.mark == "mid":
        worth = (own.shares * market_data.mids_x2[..., -1:]).sum(-2)
        rules["equity is cash and shares at the mid"] = own.equity_x2 == 2 * own.cash + worth
    return rules


def _allowed(structure: Structure, asked: Tensor) -> Tensor:
    """Which entries of actions [N, L * W, T] a learner may have given, bool [N, T, L, W]."""
    space, symbols = actions.space(structure), structure.num_symbols
    each = asked.transpose(1, 2).unflatten(-1, (-1, space.width(symbols)))
    return space.resting(each) | actions.within(space, symbols, each)


def _execute(state: MarketState, standing: Book, book: Book, execution: Execution) -> dict[str, Tensor]:
    price, bought, sold = state.book.price, execution.filled > 0, execution.filled < 0
    highest = torch.where(bought, execution.limit, 0).amax(-1, keepdim=True)
    lowest = torch.where(sold, execution.limit, NOWHERE).amin(-1, keepdim=True)
    return {
        "shares taken equal shares received": execution.fills.sum(-1) == -execution.filled.sum(-1),
        "what is taken leaves the book": (book.size == standing.size - execution.fills)
        | ((book.size == 0) & (execution.cancelled is not None)),  # or was the taker's own
        "no resting order changes side": torch.sign(book.size) * state.book.size >= 0,
        "no fill beyond the limit": ((execution.fills >= 0) | (price <= highest))
        & ((execution.fills <= 0) | (price >= lowest)),
    }


def _clear(state: MarketState, book: Book, auction: Auction) -> dict[str, Tensor]:
    price = auction.price.unsqueeze(-1)
    fills = auction.fills[..., : book.price.shape[-1]]
    return {
        "fills sum to zero": auction.fills.sum(-1) == 0,
        "shares bought are the volume": torch.clamp(auction.fills, min=0).sum(-1) == auction.volume,
        "no buyer pays above its limit": ~((fills > 0) & (book.price < price)),
        "no seller gets below its limit": ~((fills < 0) & (book.price > price)),
        "the book is uncrossed": _uncrossed(book),
    }


def _settle(state: MarketState, accounts: Accounts, ledger: Ledger) -> dict[str, Tensor]:
    return {
        "cash is conserved": total_cash(accounts, ledger) == total_cash(state.accounts, state.ledger),
        "shares are conserved": total_shares(accounts, ledger) == total_shares(state.accounts, state.ledger),
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


def _mark(state: MarketState, accounts: Accounts, ledger: Ledger) -> dict[str, Tensor]:
    before = state.ledger
    return {
        **_settle(state, accounts, ledger),
        "realised profit and basis explain the learners' cash": ledger.cash
        == before.cash + (ledger.realized - before.realized) - (ledger.basis - before.basis).sum(-2),
    }


def _uncrossed(book: Book) -> Tensor:
    bid = torch.where(book.size > 0, book.price, -1).amax(-1)
    ask = torch.where(book.size < 0, book.price, NOWHERE).amin(-1)
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
