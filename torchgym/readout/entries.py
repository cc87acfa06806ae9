"""What is told of a market, one row for each entry: of the learner's account, of a step, and of a recorded path.

Specs, packed results, paths, recordings and the docs follow from the rows; one more entry is one more row.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchgym.config import MarketConfig, Structure
from torchgym.readout import rewards
from torchgym.readout.features import FEATURE_SETS, FEATURES
from torchgym.readout.features.context import LEVELS, levels_of
from torchgym.readout.rewards import REWARDS
from torchgym.sim import actions, resting, session
from torchgym.sim.params import Params
from torchgym.sim.resting import Queue
from torchgym.sim.state import MarketState
from torchgym.table import Table


@dataclass
class Events:
    """What happened in a step, over all its ticks."""

    reward: Tensor  # [N, L] float64
    terms: dict[str, Tensor]  # [N, L] float64 each, before their weights
    filled: Tensor  # [N, S, L] int64 shares, signed
    turnover: Tensor  # [N, L] int64 points x shares
    rested: Tensor | None = (
        None  # [N, S, L] int64 shares that resting orders traded, both sides positive; None without places
    )
    cancelled: Tensor | None = None  # [N, S, L] int64 shares of own orders cancelled so as not to trade with oneself


@dataclass
class Moment:
    """What the formulas of the entries read: a state, and the step that led to it."""

    structure: Structure
    params: Params
    state: MarketState
    events: Events

    @functools.cached_property
    def queue(self) -> Queue:
        """Where the learners' resting orders stand."""
        return resting.queue(self.structure, self.state)

    @functools.cached_property
    def others(self) -> Tensor:
        """Shares at each level of the ladder that are not the learner's own, [N, S, L, 2, LEVELS]."""
        book, data, structure = self.state.book, self.state.market_data, self.structure
        price, size = (resting.places(structure, part).flatten(3) for part in (book.price, book.size))
        own = [levels_of(data, *one) for one in zip(price.unbind(2), size.unbind(2), strict=True)]
        return levels_of(data, book.price, book.size).unsqueeze(2) - torch.stack(own, 2)

    def currency(self, money: Tensor) -> Tensor:
        """Points, or points x shares, [N, S] or [N, L], as float64 currency."""
        return money.to(torch.float64) * self.params.point_size

    def currency_of_x2(self, doubled: Tensor) -> Tensor:
        """The same of doubled units."""
        return doubled.to(torch.float64) * self.params.half_point

    def makers(self, owned: Tensor) -> Tensor:
        """What all makers own together: [N, S, A] to [N, S]."""
        return owned[..., self.structure.families["maker"]].sum(-1)

    def listed(self, log_price: Tensor) -> Tensor:
        """Currency, from the log of a price over the list price."""
        return self.params.list_value * torch.exp(log_price)


Formula = Callable[[Moment], Tensor]


@dataclass(frozen=True)
class Entry:
    """One row: what it is, and the formula that reads it.

    The formula gives [N], with another axis S where it is per symbol, and L where it is per learner: [N, S, L] with both.
    """

    formula: Formula
    unit: str
    meaning: str
    dtype: torch.dtype = torch.float64
    per_symbol: bool = False
    per_learner: bool = False
    hidden: bool = False  # nobody in the market knows it
    event: bool = False  # happened in the step: zero where nothing did
    bounds: tuple[float, float] = (-math.inf, math.inf)

    def shape(self, structure: MarketConfig | Structure) -> tuple[int, ...]:
        """What is told of a market: (), (S,), (L,) or (L, S); a single learner has no axis."""
        learners = (structure.num_learners,) if self.per_learner and structure.num_learners > 1 else ()
        return (*learners, structure.num_symbols) if self.per_symbol else learners

    def read(self, moment: Moment) -> Tensor:
        """The entry as it is told, [N, *shape]."""
        value = self.formula(moment)
        if not self.per_learner:
            return value
        if moment.structure.num_learners == 1:
            return value.squeeze(-1)
        return value.transpose(1, 2) if self.per_symbol else value


def _shares(formula: Formula, meaning: str, unit: str = "shares", *, hidden: bool = False) -> Entry:
    return Entry(formula, unit, meaning, torch.int64, per_symbol=True, hidden=hidden)


def _price(formula: Formula, meaning: str, unit: str = "currency", *, hidden: bool = False) -> Entry:
    return Entry(formula, unit, meaning, per_symbol=True, hidden=hidden)


def _time_left(m: Moment) -> Tensor:
    clock = m.state.clock
    length = clock.last.to(torch.float64)
    return torch.minimum((clock.last - clock.tick).clamp(min=0), clock.last).to(torch.float64) * (1.0 / length)


def _present(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def _own(formula: Formula, unit: str, meaning: str, *, event: bool = False) -> Entry:
    return Entry(formula, unit, meaning, per_learner=True, event=event)


def _own_shares(formula: Formula, meaning: str, *, event: bool = False) -> Entry:
    return Entry(formula, "shares", meaning, torch.int64, per_symbol=True, per_learner=True, event=event)


_MID = _price(lambda m: m.currency_of_x2(m.state.market_data.mids_x2[..., -1]), "halfway between the best bid and ask")
_BID = _price(lambda m: m.currency(m.state.market_data.bid), "best bid")
_ASK = _price(lambda m: m.currency(m.state.market_data.ask), "best ask")
_RECENT_VOLUME = Entry(
    lambda m: actions.recent_volume(m.state.market_data.volumes),
    "shares",
    "shares traded per tick, the mean over the last nine",
    per_symbol=True,
)
# Where markets have days. In the account, the info and the paths.
DAY: Table[Entry] = Table(
    "entry of the trading day",
    {
        "day_left": Entry(
            lambda m: (
                session.ticks_left(m.params, m.state.clock.tick).to(torch.float64) / m.params.session.ticks
            ).squeeze(-1),
            "fraction",
            "share of the trading day that is left; 0 after the closing auction, and the opening auction follows",
            bounds=(0.0, 1.0),
        )
    },
)
_POSITION = _own_shares(lambda m: m.state.ledger.shares, "what the learner holds of the symbol, negative when short")
_EQUITY = _own(
    lambda m: m.currency_of_x2(m.state.ledger.equity_x2), "currency", "cash and marked positions in all symbols"
)

# What a learner observes of itself, first: [N, S + 3] float64, in this order; more may follow, see `account_entries`.
ACCOUNT: Table[Entry] = Table(
    "account entry",
    {
        "position": Entry(
            lambda m: m.state.ledger.shares.to(torch.float64) * m.params.per_position_limit,
            "fraction",
            "position in the symbol over the position limit",
            per_symbol=True,
            per_learner=True,
            bounds=(-1.0, 1.0),
        ),
        "cash": _own(
            lambda m: (m.state.ledger.cash - m.params.starting_cash).to(torch.float64) * m.params.per_starting_cash,
            "fraction",
            "cash over the starting cash, less 1",
        ),
        "equity": _own(
            lambda m: (
                (m.state.ledger.equity_x2 - 2 * m.params.starting_cash).to(torch.float64)
                * m.params.per_starting_cash_x2
            ),
            "fraction",
            "equity over the starting cash, less 1",
        ),
        "time_left": Entry(_time_left, "fraction", "share of the episode that is left", bounds=(0.0, 1.0)),
    },
)


def _orders(m: Moment, shares: Tensor) -> Tensor:
    """In standard orders, [N, S, L, 2, Q] float64."""
    return shares.to(torch.float64) * m.params.per_order_size[..., None, None]


def _from_mid(m: Moment, points: Tensor, real: Tensor) -> Tensor:
    """Distance of prices [N, S, L, 2, Q] from the mid, positive above, in typical half-spreads; 0 where none is real."""
    mid = m.state.market_data.mids_x2[..., -1][..., None, None, None].to(torch.float64) * 0.5
    return torch.where(real, (points - mid) * m.params.per_typical_half_spread[..., None, None, None], 0.0)


def _rested(m: Moment) -> tuple[Tensor, Tensor]:
    """Shares and money of this tick's fills, [N, S, L, 2, Q] int64."""
    rested, shape = m.state.ledger.rested, (m.structure.num_learners, 2, m.structure.quotes)
    assert rested is not None
    return rested.filled.unflatten(-1, shape), rested.paid.unflatten(-1, shape)


def _average_price(m: Moment) -> Tensor:
    filled, paid = _rested(m)
    real = filled != 0
    return _from_mid(m, paid.to(torch.float64) / torch.where(real, filled, 1).to(torch.float64), real)


# What a learner observes of each of its resting orders; zeros where nothing rests. Sizes in standard orders.
PLACE: Table[Entry] = Table(
    "entry of a resting order",
    {
        "price": Entry(
            lambda m: _from_mid(m, m.queue.price, m.queue.size > 0), "half-spreads", "its price less the mid"
        ),
        "size": Entry(lambda m: _orders(m, m.queue.size), "orders", "what is left of it"),
        "age": Entry(
            lambda m: m.queue.age.to(torch.float64).clamp(max=64.0) * (1.0 / 64.0),
            "64 ticks",
            "how long it has had its place, at most 1; 0 without time priority",
        ),
        "ahead": Entry(lambda m: _orders(m, m.queue.ahead), "orders", "what rests at better prices"),
        "older": Entry(
            lambda m: _orders(m, m.queue.older),
            "orders",
            "what rests at its price for longer; from 64 ticks on all are as old",
        ),
        "same": Entry(
            lambda m: _orders(m, m.queue.same),
            "orders",
            "what rests at its price as long, of others; all without time priority",
        ),
        "behind": Entry(lambda m: _orders(m, m.queue.behind), "orders", "what came to its price later"),
        "filled": Entry(lambda m: _orders(m, _rested(m)[0]), "orders", "what it traded in the tick, negative sold"),
        "fill_price": Entry(_average_price, "half-spreads", "at what average price, less the mid"),
    },
)


def _of_others(side: int) -> Formula:
    """In usual volumes of a tick, [N, S, L, LEVELS] float64."""
    return lambda m: m.others[..., side, :].to(torch.float64) * m.params.per_usual_volume[..., None, None]


# And of the depth where it rests itself, if the features show the ladder: a row for each level, from 1.
LADDER: Table[Entry] = Table(
    "entry of the ladder",
    {
        f"{side}_others": Entry(
            _of_others(index),
            "usual volumes",
            f"shares of others at the level of f_{side}_level",
            per_symbol=True,
            per_learner=True,
        )
        for index, side in enumerate(("bid", "ask"))
    },
)


def _queued(name: str) -> Entry:
    """A number of shares of the queue, as it is."""
    return Entry(lambda m: getattr(m.queue, name), "shares", PLACE[name].meaning, torch.int64)


def _currency_at(m: Moment, money: Tensor, shares: Tensor) -> Tensor:
    """Money in points x shares per share, [N, S, L, 2, Q] currency; not a number where there are no shares."""
    price = money.to(torch.float64) / torch.where(shares != 0, shares, 1).to(torch.float64)
    return torch.where(shares != 0, price * m.params.point_size[..., None, None, None], torch.nan)


# The same as paths and recordings have it, in shares and currency.
PLACE_PATHS: Table[Entry] = Table(
    "entry of a resting order's path",
    {
        "price": Entry(
            lambda m: _currency_at(m, m.queue.price * m.queue.size, m.queue.size),
            "currency",
            "its price; not a number where nothing rests",
        ),
        "size": _queued("size"),
        "age": Entry(lambda m: m.queue.age, "ticks", "how long it has had its place, if that counts", torch.int64),
        **{name: _queued(name) for name in ("ahead", "older", "same", "behind")},
        "filled": Entry(lambda m: _rested(m)[0], "shares", PLACE["filled"].meaning, torch.int64),
        "fill_price": Entry(
            lambda m: _currency_at(m, _rested(m)[1], _rested(m)[0]),
            "currency",
            "at what average price; not a number where it traded nothing",
        ),
    },
)

# What `StepResult.info` holds beside the terms of the reward.
INFO: Table[Entry] = Table(
    "info entry",
    {
        "tick": Entry(lambda m: m.state.clock.tick, "ticks", "ticks played since the episode began", torch.int64),
        "equity": _EQUITY,
        "cash": _own(lambda m: m.currency(m.state.ledger.cash), "currency", "the learner's cash"),
        "realized_pnl": _own(
            lambda m: m.currency(m.state.ledger.realized),
            "currency",
            "profit of closed positions so far, less fees and borrow",
        ),
        "fees": _own(lambda m: m.currency(m.state.ledger.fees), "currency", "commission paid so far"),
        "borrow": _own(lambda m: m.currency(m.state.ledger.borrow), "currency", "paid so far for short positions"),
        "turnover": _own(
            lambda m: m.currency(m.events.turnover),
            "currency",
            "amount traded in all symbols, both sides positive",
            event=True,
        ),
        "position": _POSITION,
        "filled": _own_shares(
            lambda m: m.events.filled, "what the learner traded of the symbol, positive when it bought", event=True
        ),
        "mid": _MID,
        "bid": _BID,
        "ask": _ASK,
        "recent_volume": _RECENT_VOLUME,
    },
)

# And where learners have places for resting orders.
RESTING_INFO: Table[Entry] = Table(
    "info entry of resting orders",
    {
        "rested": _own_shares(
            lambda m: _present(m.events.rested),
            "what resting orders traded of the symbol, both sides positive",
            event=True,
        ),
        "self_cancelled": _own_shares(
            lambda m: _present(m.events.cancelled),
            "what of the learner's resting orders was cancelled because an order of its own would have met it",
            event=True,
        ),
    },
)

# What `Market.run` and recordings can hold of each tick.
PATHS: Table[Entry] = Table(
    "entry of a path",
    {
        "mid": _MID,
        "close": _price(lambda m: m.currency(m.state.market_data.close), "last price traded at"),
        "bid": _BID,
        "ask": _ASK,
        "volume": _shares(lambda m: m.state.market_data.volumes[..., -1], "shares traded in the tick"),
        "recent_volume": _RECENT_VOLUME,
        "fills": _shares(lambda m: m.state.market_data.orders_filled, "orders filled in the tick", "orders"),
        "bid_depth": _shares(
            lambda m: m.state.market_data.bid_depth, "shares resting within 10 points of the best bid"
        ),
        "ask_depth": _shares(
            lambda m: m.state.market_data.ask_depth, "shares resting within 10 points of the best ask"
        ),
        "buys": _shares(
            lambda m: m.state.market_data.buys[..., -1],
            "shares bought in the tick by orders that came to trade at once",
        ),
        "sells": _shares(
            lambda m: m.state.market_data.sells[..., -1], "shares sold in the tick by orders that came to trade at once"
        ),
        "value": _price(
            lambda m: m.listed(m.state.value.level),
            "fundamental value, which no trader knows; seen with information='privileged' only",
            hidden=True,
        ),
        "estimate": _price(
            lambda m: m.listed(m.state.value.level + m.state.value.estimate_error),
            "public estimate of value; not shown to the learner with information='none'",
        ),
        "news": _price(
            lambda m: m.state.value.headline,
            "effect on the log price that the headline of the tick implies; 0 without one",
            "fraction",
        ),
        "maker_shares": _shares(
            lambda m: m.makers(m.state.accounts.shares),
            "shares that all makers own together, measured from what they began with",
            hidden=True,
        ),
        "maker_cash": _price(
            lambda m: m.currency(m.makers(m.state.accounts.cash)),
            "cash that all makers own together, measured from what they began with",
            hidden=True,
        ),
        "position": _POSITION,
        "equity": _EQUITY,
    },
)


def info_entries(structure: MarketConfig | Structure) -> dict[str, Entry]:
    """The rows of `StepResult.info`: those of `INFO`, and `reward_<term>` for each term, before its weight."""
    chosen = rewards.terms(structure)

    def term(name: str) -> Entry:
        row = REWARDS[name]
        meaning = f"{row.meaning}, before its weight in the reward"
        return _own(lambda m: m.events.terms[name], row.unit, meaning, event=True)

    added = {**(RESTING_INFO if structure.quotes else {}), **_day_entries(structure)}
    return {**INFO, **added, **{f"reward_{name}": term(name) for name in chosen}}


def account_entries(structure: MarketConfig | Structure) -> dict[str, Entry]:
    """The rows of a learner's observed account: those of `ACCOUNT`, and of `PLACE` for each of its resting orders.

    Where there are days, that of `DAY` stands between them.

    A row of a place is called by its side, its number from 1, and what it says: bid_1_size. Where the features show the ladder,
    the rows of `LADDER` say what of each level is others': bid_others_1.
    """
    rows = ACCOUNT | _day_entries(structure) | place_entries(structure, PLACE)
    shown = FEATURE_SETS.find(structure.features)
    if structure.quotes and any(name in shown for name in FEATURES["f_bid_level"].names):
        rows |= {f"{name}_{at + 1}": _at_level(row, at) for name, row in LADDER.items() for at in range(LEVELS)}
    return rows


def changed(structure: MarketConfig | Structure) -> bool:
    """Whether a table that info and account come from has other rows, or another order, than it began with."""
    tables = [INFO, ACCOUNT]
    tables += [RESTING_INFO, PLACE, LADDER] if structure.quotes else []
    tables += [DAY] if _has_days(structure) else []
    return any(table.changed for table in tables)


def path_entries(structure: MarketConfig | Structure) -> Table[Entry]:
    """The rows of a path: those of `PATHS`, and those of `PLACE_PATHS` for each resting order, called as in the account."""
    added = {**_day_entries(structure), **place_entries(structure, PLACE_PATHS)}
    return Table(PATHS.kind, PATHS | added) if added else PATHS


def _day_entries(structure: MarketConfig | Structure) -> dict[str, Entry]:
    """The rows of `DAY`; none where every tick is like every other."""
    return dict(DAY) if _has_days(structure) else {}


def _has_days(structure: MarketConfig | Structure) -> bool:
    return (structure.session if isinstance(structure, Structure) else structure.session.kind) == "day"


def place_entries(structure: MarketConfig | Structure, rows: Mapping[str, Entry]) -> dict[str, Entry]:
    """These rows for each place of a learner, bids first; none without places."""
    sides = enumerate(("bid", "ask"))
    places = [(f"{side}_{at + 1}", index, at) for index, side in sides for at in range(structure.quotes)]

    def one(row: Entry, side: int, at: int) -> Entry:
        return replace(row, formula=lambda m: row.formula(m)[..., side, at], per_symbol=True, per_learner=True)

    return {f"{place}_{name}": one(row, *where) for place, *where in places for name, row in rows.items()}


def _at_level(row: Entry, at: int) -> Entry:
    return replace(row, formula=lambda m: row.formula(m)[..., at])


def account_names(structure: MarketConfig | Structure) -> list[str]:
    """Names of the numbers of a learner's observed account, in order.

    >>> account_names(MarketConfig())
    ['position', 'cash', 'equity', 'time_left']
    """
    many = structure.num_symbols > 1
    return [f"{name}@{at}" if many and row.per_symbol else name for name, row, at in account_numbers(structure)]


def account_bounds(structure: MarketConfig | Structure) -> list[tuple[float, float]]:
    """Between which bounds each number of the account lies."""
    return [row.bounds for _, row, _ in account_numbers(structure)]


def account_numbers(structure: MarketConfig | Structure) -> Iterator[tuple[str, Entry, int]]:
    """Name, row and symbol (0 where the row has none) of each number of a learner's observed account."""
    for name, row in account_entries(structure).items():
        for at in range(structure.num_symbols if row.per_symbol else 1):
            yield name, row, at
