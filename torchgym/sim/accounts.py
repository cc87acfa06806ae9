"""Phase: money and shares change hands. Integers throughout, so that totals are conserved exactly.

Every trade moves shares one way and price x shares of cash the other way. A learner also pays commission into `fees`, or gets a
rebate from there, and, while short, pays a charge into `borrow`; nothing else creates or destroys money.

A learner may own shares from the start, an endowment from outside the market, booked at the list price. So at all times
cash = starting cash + endowment at the list price + realised profit - basis. (tests/test_accounts.py)

A learner's account begins at tick 0. In the warm-up before it nothing is charged and nobody is ruined.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.sim.params import Params
from torchgym.sim.state import Accounts, Auction, Execution, Hits, Ledger, MarketState, Rested

_COMMISSION_UNIT = 1_000_000  # commission is resolved to a hundredth of a basis point
_BORROW_UNIT = 2_000_000_000  # half units of money x parts per billion


def start(structure: Structure, params: Params, shares: Tensor) -> tuple[Accounts, Ledger]:
    """Opening balances: learners have their cash and starting shares; background traders their inventories [N, S, A] int64.

    The learners' shares count at the list price, in the basis and in the equity, until `appraise` or `mark` looks at a market.
    """
    markets, symbols = shares.shape[:2]
    learners = structure.num_learners

    def zeros(*shape: int) -> Tensor:
        return torch.zeros((markets, *shape), dtype=torch.int64, device=shares.device)

    held = zeros(symbols, learners) + params.starting_shares
    endowment = held * params.list_price.unsqueeze(-1)
    cash = zeros(learners) + params.starting_cash
    ledger = Ledger(
        cash=cash,
        shares=held,
        fees=zeros(learners),
        borrow=zeros(learners),
        borrow_accrued=zeros(learners),
        basis=endowment,
        realized=zeros(learners),
        equity_x2=2 * (cash + endowment.sum(-2)),
        ruined=torch.zeros((markets, learners), dtype=torch.bool, device=shares.device),
        filled=zeros(symbols, learners),
        turnover=zeros(learners),
    )
    if structure.quotes:
        places = symbols, structure.places
        ledger = replace(ledger, rested=Rested(zeros(*places), zeros(*places)), cancelled=zeros(symbols, learners))
    return Accounts(cash=torch.zeros_like(shares), shares=shares), ledger


def settle(
    structure: Structure,
    params: Params,
    accounts: Accounts,
    ledger: Ledger,
    *,
    execution: Execution,
    auction: Auction,
    standing_price: Tensor,
) -> tuple[Accounts, Accounts, Ledger]:
    """Book all fills of the tick: those of the standing book at the resting limits, the auction's at its one price.

    Returns the accounts of single traders, those of makers, who may go on trading (see `settle_hits`), and the ledger.

    `standing_price` [N, S, K] int32 points: the limits of the book that the learners' orders met.

    Invariants: over background traders, learners and fees the cash adds up to what it was; shares too. Commission is rounded
    up to a whole unit per symbol and tick.
    """
    price = auction.price.unsqueeze(-1)
    in_book, remainders = auction.fills.split((structure.slots, structure.num_learners), dim=-1)
    moved = execution.fills + in_book
    spent = execution.fills.to(torch.int64) * standing_price + in_book * price
    filled = execution.filled + remainders
    paid = execution.paid + remainders * price
    traded = paid.abs()
    charge = traded * params.commission_rate
    rested = None
    if structure.quotes:
        moved, got = moved.split((structure.background, structure.places), -1)
        got = got.to(torch.int64)
        spent, money = spent.split((structure.background, structure.places), -1)
        rested = Rested(got, money)
        filled, paid = filled + _each(structure, got), paid + _each(structure, money)
        provided = _each(structure, money.abs())
        traded, charge = traded + provided, charge + provided * params.maker_rate
    cash, shares = credit(structure, accounts.cash, -spent), credit(structure, accounts.shares, moved)
    singles, makers = (Accounts(*parts) for parts in zip(cash, shares, strict=True))
    booked = replace(
        ledger,
        filled=torch.zeros_like(filled),
        turnover=torch.zeros_like(ledger.turnover),
        cancelled=execution.cancelled,
    )
    return singles, makers, _booked(booked, filled=filled, paid=paid, traded=traded, charge=charge, rested=rested)


def settle_hits(
    structure: Structure, params: Params, makers: Accounts, ledger: Ledger, hits: Hits
) -> tuple[Accounts, Ledger]:
    """Book what the makers' quotes traded with learners' resting orders: see `torchgym.sim.resting.hit`.

    Invariants: those of `settle`.
    """
    own, before = hits.rested, ledger.rested
    assert before is not None
    cash, shares = _of_makers(structure, makers.cash, -hits.spent), _of_makers(structure, makers.shares, hits.fills)
    owned = Accounts(cash, shares)
    filled, paid, traded = (_each(structure, values) for values in (own.filled, own.paid, own.paid.abs()))
    total = Rested(before.filled + own.filled, before.paid + own.paid)
    charge = traded * params.maker_rate
    return owned, _booked(ledger, filled=filled, paid=paid, traded=traded, charge=charge, rested=total)


def _each(structure: Structure, per_place: Tensor) -> Tensor:
    """Sums over each learner's places, [N, S, P] to [N, S, L]."""
    return per_place.unflatten(-1, (structure.num_learners, 2 * structure.quotes)).sum(-1)


def _booked(
    ledger: Ledger, *, filled: Tensor, paid: Tensor, traded: Tensor, charge: Tensor, rested: Rested | None
) -> Ledger:
    """The ledger after trades, [N, S, L] int64 each; `charge` in millionths, rounded up to whole units per symbol."""
    fee = torch.div(charge + (_COMMISSION_UNIT - 1), _COMMISSION_UNIT, rounding_mode="floor").sum(-2)
    basis, realized = _close(ledger.shares, ledger.basis, filled, paid)
    return replace(
        ledger,
        cash=ledger.cash - paid.sum(-2) - fee,
        shares=ledger.shares + filled,
        fees=ledger.fees + fee,
        basis=basis,
        realized=ledger.realized + realized.sum(-2) - fee,
        filled=ledger.filled + filled,
        turnover=ledger.turnover + traded.sum(-2),
        rested=rested,
    )


def credit(structure: Structure, balances: Tensor, per_slot: Tensor) -> tuple[Tensor, Tensor]:
    """Balances [N, S, A] plus what the owners' slots received, [N, S, K]: those of single traders, and of makers."""
    own, quotes = per_slot.split((structure.singles, 2 * structure.makers), dim=-1)
    singles, makers = balances.split((structure.singles, structure.makers), dim=-1)
    return singles + own, _of_makers(structure, makers, quotes)


def _of_makers(structure: Structure, balances: Tensor, per_quote: Tensor) -> Tensor:
    """Balances [N, S, M] plus what the quotes received, [N, S, 2 M]: a maker's two are one owner."""
    bids, asks = per_quote.split((structure.makers, structure.makers), dim=-1)
    return balances + bids + asks


def _close(held: Tensor, basis: Tensor, fill: Tensor, paid: Tensor) -> tuple[Tensor, Tensor]:
    """Average-cost accounting: the new signed cost of the open position and the profit just realised, [N, S, L] int64.

    A trade against the position closes part of it, and its proceeds are split in the same proportion; what is left of the trade
    opens a position the other way. Whatever the rounding, opening balances + realised + marked value - basis stays equal to
    equity, the opening balances being cash and endowment.
    """
    size, depth = fill.abs(), held.abs()
    closed = torch.where(torch.sign(fill) * torch.sign(held) < 0, torch.minimum(size, depth), 0)
    cost = torch.div(basis * closed, torch.clamp(depth, min=1), rounding_mode="floor")
    money = torch.div(paid * closed, torch.clamp(size, min=1), rounding_mode="floor")
    return basis - cost + (paid - money), -money - cost


def mark(params: Params, ledger: Ledger, mid_x2: Tensor, liquidation: Tensor | None, *, now: Tensor) -> Ledger:
    """Charge for short positions, mark equity to the end of tick `now` ([N] int64), and see who is ruined.

    The charge accrues in parts per billion of the short value and falls due in whole units of money. Both begin with tick 1, the
    first that a learner has a say in: an episode never begins ended. Whoever is ruined stays so until the next episode.

    Args:
        mid_x2: as in `appraise`, and `liquidation` too.
    """
    begun = (now > 0).unsqueeze(-1)
    short_value = (torch.clamp(-ledger.shares, min=0) * mid_x2.unsqueeze(-1)).sum(-2)
    owed = ledger.borrow_accrued + torch.where(begun, short_value, 0) * params.borrow_ppb
    due = torch.div(owed, _BORROW_UNIT, rounding_mode="floor")
    charged = replace(
        ledger,
        cash=ledger.cash - due,
        borrow=ledger.borrow + due,
        borrow_accrued=owed - due * _BORROW_UNIT,
        realized=ledger.realized - due,
    )
    marked = appraise(charged, mid_x2, liquidation)
    return replace(marked, ruined=ledger.ruined | (begun & (marked.equity_x2 <= 2 * params.maintenance)))


def appraise(ledger: Ledger, mid_x2: Tensor, liquidation: Tensor | None) -> Ledger:
    """Mark the learners' equity: their cash and what their shares are worth.

    Args:
        mid_x2: [N, S] int64 half points.
        liquidation: [N, S, L] int64 half units, what unwinding the positions would bring; None marks at the mid.
    """
    worth = ledger.shares * mid_x2.unsqueeze(-1) if liquidation is None else liquidation
    return replace(ledger, equity_x2=2 * ledger.cash + worth.sum(-2))


def holdings(structure: Structure, state: MarketState) -> dict[str, dict[str, Tensor]]:
    """Who owns what: for each class of owner cash [N] int64 points x shares, and shares [N, S] int64; see `Market.holdings`."""
    accounts, ledger = state.accounts, state.ledger
    owned = {
        name: {"cash": accounts.cash[..., place].sum((1, 2)), "shares": accounts.shares[..., place].sum(-1)}
        for name, place in structure.families.items()
    }
    none = torch.zeros_like(ledger.shares[..., 0])
    return {
        **owned,
        "learner": {"cash": ledger.cash.sum(-1), "shares": ledger.shares.sum(-1)},
        "fees": {"cash": ledger.fees.sum(-1), "shares": none},
        "borrow": {"cash": ledger.borrow.sum(-1), "shares": none.clone()},
    }
