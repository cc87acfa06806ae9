"""Phase: money and shares change hands. Integers throughout, so that totals are conserved exactly.

Every trade moves shares one way and price x shares of cash the other way. The learner also pays commission into `fees` and, while
short, a charge into `borrow`; nothing else creates or destroys money.

The learner may own shares from the start, an endowment from outside the market, booked at the list price. So at all times
cash = starting cash + endowment at the list price + realised profit - basis. (tests/test_accounts.py)

The learner's account begins at tick 0. In the warm-up before it nothing is charged and nobody is ruined.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.sim.params import Params
from torchgym.sim.state import Accounts, Auction, Execution

_COMMISSION_UNIT = 1_000_000  # commission is resolved to a hundredth of a basis point
_BORROW_UNIT = 2_000_000_000  # half units of money x parts per billion


def start(params: Params, shares: Tensor) -> Accounts:
    """Opening balances: the learner has its cash and starting shares; background traders their inventories [N, S, A] int64.

    Its shares count at the list price, in the basis and in the equity, until `appraise` or `mark` looks at a market.
    """
    markets, symbols = shares.shape[:2]
    device = shares.device
    held, cash = params.starting_shares, params.starting_cash[:, 0]
    endowment = held * params.list_price  # of each symbol

    def zeros(*shape: int) -> Tensor:
        return torch.zeros((markets, *shape), dtype=torch.int64, device=device)

    return Accounts(
        cash=torch.zeros_like(shares),
        shares=shares,
        learner_cash=zeros() + cash,
        learner_shares=zeros(symbols) + held,
        fees=zeros(),
        borrow=zeros(),
        borrow_accrued=zeros(),
        basis=zeros(symbols) + endowment,
        realized=zeros(),
        equity_x2=2 * (cash + symbols * endowment[:, 0]),
        ruined=torch.zeros(markets, dtype=torch.bool, device=device),
        filled=zeros(symbols),
        turnover=zeros(),
    )


def settle(
    structure: Structure,
    params: Params,
    accounts: Accounts,
    *,
    execution: Execution,
    auction: Auction,
    standing_price: Tensor,
) -> Accounts:
    """Book this tick's fills: the learner's against the book at the resting limits, the auction's at its one price.

    `standing_price` [N, S, K] int64 points: the limits of the book that the learner's order met.

    Invariants: over background traders, learner and fees the cash adds up to what it was; shares too. Commission is rounded
    up to a whole unit per symbol and tick.
    """
    price = auction.price.unsqueeze(-1)
    auction_fills = auction.fills[..., :-1]
    moved = execution.fills + auction_fills
    spent = execution.fills * standing_price + auction_fills * price
    learner_fill = execution.filled + auction.fills[..., -1]
    learner_paid = execution.paid + auction.fills[..., -1] * auction.price
    traded = learner_paid.abs()
    fee = torch.div(
        traded * params.commission_rate + (_COMMISSION_UNIT - 1), _COMMISSION_UNIT, rounding_mode="floor"
    ).sum(-1)
    basis, realized = _close(accounts.learner_shares, accounts.basis, learner_fill, learner_paid)
    return replace(
        accounts,
        cash=credit(structure, accounts.cash, -spent),
        shares=credit(structure, accounts.shares, moved),
        learner_cash=accounts.learner_cash - learner_paid.sum(-1) - fee,
        learner_shares=accounts.learner_shares + learner_fill,
        fees=accounts.fees + fee,
        basis=basis,
        realized=accounts.realized + realized.sum(-1) - fee,
        filled=learner_fill,
        turnover=traded.sum(-1),
    )


def credit(structure: Structure, balances: Tensor, per_slot: Tensor) -> Tensor:
    """Balances [N, S, A] plus what the owners' slots received, [N, S, K]: a maker's two slots are one owner."""
    own, bids, asks = per_slot.split((structure.singles, structure.makers, structure.makers), dim=-1)
    singles, makers = balances.split((structure.singles, structure.makers), dim=-1)
    return torch.cat([singles + own, makers + bids + asks], dim=-1)


def _close(held: Tensor, basis: Tensor, fill: Tensor, paid: Tensor) -> tuple[Tensor, Tensor]:
    """Average-cost accounting: the new signed cost of the open position and the profit just realised, [N, S] int64.

    A trade against the position closes part of it, and its proceeds are split in the same proportion; what is left of the trade
    opens a position the other way. Whatever the rounding, opening balances + realised + marked value - basis stays equal to
    equity, the opening balances being cash and endowment.
    """
    size, depth = fill.abs(), held.abs()
    closed = torch.where(torch.sign(fill) * torch.sign(held) < 0, torch.minimum(size, depth), 0)
    cost = torch.div(basis * closed, torch.clamp(depth, min=1), rounding_mode="floor")
    money = torch.div(paid * closed, torch.clamp(size, min=1), rounding_mode="floor")
    return basis - cost + (paid - money), -money - cost


def mark(params: Params, accounts: Accounts, mid_x2: Tensor, liquidation: Tensor | None, *, now: Tensor) -> Accounts:
    """Charge for short positions, mark the learner's equity to the end of tick `now` ([N] int64), and see whether it is ruined.

    The charge accrues in parts per billion of the short value and falls due in whole units of money. Both begin with tick 1, the
    first that the learner has a say in: an episode never begins ended. Whoever is ruined stays so until the next episode.

    Args:
        mid_x2: as in `appraise`, and `liquidation` too.
    """
    begun = now > 0
    short_value = (torch.clamp(-accounts.learner_shares, min=0) * mid_x2).sum(-1)
    owed = accounts.borrow_accrued + torch.where(begun, short_value, 0) * params.borrow_ppb[:, 0]
    due = torch.div(owed, _BORROW_UNIT, rounding_mode="floor")
    charged = replace(
        accounts,
        learner_cash=accounts.learner_cash - due,
        borrow=accounts.borrow + due,
        borrow_accrued=owed - due * _BORROW_UNIT,
        realized=accounts.realized - due,
    )
    marked = appraise(charged, mid_x2, liquidation)
    return replace(marked, ruined=accounts.ruined | (begun & (marked.equity_x2 <= 2 * params.maintenance[:, 0])))


def appraise(accounts: Accounts, mid_x2: Tensor, liquidation: Tensor | None) -> Accounts:
    """Mark the learner's equity: its cash and what its shares are worth.

    Args:
        mid_x2: [N, S] int64 half points.
        liquidation: [N, S] int64 half units, what unwinding the positions would bring; None marks at the mid.
    """
    worth = accounts.learner_shares * mid_x2 if liquidation is None else liquidation
    return replace(accounts, equity_x2=2 * accounts.learner_cash + worth.sum(-1))


def holdings(structure: Structure, accounts: Accounts) -> dict[str, dict[str, Tensor]]:
    """Who owns what: for each class of owner cash [N] int64 points x shares, and shares [N, S] int64; see `Market.holdings`."""
    places = {**structure.families, "maker": structure.maker_owners}
    owned = {
        name: {"cash": accounts.cash[..., place].sum((1, 2)), "shares": accounts.shares[..., place].sum(-1)}
        for name, place in places.items()
    }
    none = torch.zeros_like(accounts.learner_shares)
    return {
        **owned,
        "learner": {"cash": accounts.learner_cash.clone(), "shares": accounts.learner_shares.clone()},
        "fees": {"cash": accounts.fees.clone(), "shares": none},
        "borrow": {"cash": accounts.borrow.clone(), "shares": none.clone()},
    }
