"""One tick of a batch of markets, phase by phase; how a market opens; when an episode ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics import exact, random
from torchgym.sim import accounts, actions, delay, fundamental, market_data, matching, noise, resting, session, traders
from torchgym.sim.noise import Noise, NoisePlan
from torchgym.sim.params import Params
from torchgym.sim.state import (
    HIGHEST,
    Book,
    Clock,
    MarketState,
    Orders,
    RewardMemory,
    Value,
    book_tick,
    total_log_volatility,
)
from torchgym.sim.traders.signals import Signals, read_signals

Watch = Callable[[str, dict[str, object]], None]


def tick(
    structure: Structure,
    params: Params,
    state: MarketState,
    *,
    action: Tensor,
    draws: Noise,
    watch: Watch | None = None,
) -> MarketState:
    """Advance every market by one tick.

    Everybody decides on the end of the last tick. The learners' orders execute first, against the book they saw; then the
    background traders' orders replace their old ones, the makers move their quotes, and all of them meet in the auction.
    Afterwards value and news move, the makers learn and quote anew, and what everybody can see is recorded.

    Args:
        action: [N, L * W], of the configured action scheme; see `torchgym.sim.actions.orders`.
        draws: this tick's random numbers.
        watch: called after each phase with its name and products, for checks; None costs nothing.

    Returns:
        The new state; the given one is untouched.
    """
    now = state.clock.tick + 1
    mid_x2 = state.market_data.mids_x2[..., -1]
    hours = session.hour(structure, params, now)
    signals = read_signals(params, state, hours)

    delays = state.delays
    if delays is not None:
        delays = delay.send(delays, action)
        action = delay.arrived(params, delays)
    wish, standing, shares, limit = _decided(structure, params, state, action)
    if actions.scheme(structure).wanted is None:
        taken, execution = matching.nobody_takes(structure, standing, shares, limit, mid_x2)
    else:
        waits = None if hours is None else hours.auction
        taken, execution = matching.take(structure, standing, shares, limit, mid_x2, now, waits)
    _tell(watch, "execute", state=state, standing=standing, book=taken, execution=execution)

    orders, memories = traders.decide(structure, params, state, signals=signals, noise=draws)
    book = matching.dated(traders.renew(structure, _submit(taken, orders, now), state.book), taken, now)
    if wish is not None:
        book = resting.put(structure, params, state, wish=wish, taken=taken, execution=execution, book=book, now=now)
    age = matching.ages(book, now)
    book, auction = matching.clear(structure, book, execution.remainder, limit, mid_x2, draws.coin, age)
    _tell(watch, "clear", state=state, book=book, auction=auction)

    singles, makers, ledger = accounts.settle(
        structure,
        params,
        state.accounts,
        state.ledger,
        execution=execution,
        auction=auction,
        standing_price=state.book.price,
    )
    owned = singles.joined(makers)
    _tell(watch, "settle", state=state, accounts=owned, ledger=ledger)

    log_close = market_data.log_price(params, 2 * auction.price)
    memories = traders.settle(
        memories, structure=structure, before=state.accounts, execution=execution, auction=auction, log_close=log_close
    )
    value = fundamental.advance(
        structure, params, state.value, draws, (ledger.shares - state.ledger.shares).sum(-1), hours
    )
    _tell(watch, "advance", state=state, value=value)

    memories = traders.learn(
        params,
        memories,
        signals=signals,
        execution=execution,
        auction=auction,
        mid_x2=mid_x2,
        public_move=value.public_move,
    )
    at_value = None
    if structure.reference == "value":
        memories, at_value = _at_value(params, memories, value)
    standing = session.end_day(hours, matching.expire(book, now))
    others, facing = quoted(structure, params, memories, signals, makers.shares, standing, now)
    hits = None
    if structure.quotes and structure.makers:
        facing, hits = resting.hit(structure, facing, _centre(structure, memories, mid_x2), now)
        makers, ledger = accounts.settle_hits(structure, params, makers, ledger, hits)
        owned = singles.joined(makers)
        _tell(watch, "settle", state=state, accounts=owned, ledger=ledger)
    book = others.joined(facing)
    _tell(watch, "quote", state=state, book=book)

    data = market_data.measure(
        params,
        state.market_data,
        book=book,
        execution=execution,
        auction=auction,
        takers=torch.where(orders.life > 0.0, 0.0, orders.size),
        reference=memories["maker"].reference,
        hits=hits,
        mid_x2=at_value,
        hours=hours,
    )
    _tell(watch, "measure", state=state, market_data=data)
    if delays is not None:
        delays = delay.watched(delays, data, ledger)
    mid_x2 = data.mids_x2[..., -1]
    ledger = accounts.mark(params, ledger, mid_x2, _marks(structure, ledger.shares, book, mid_x2), now=now)
    _tell(watch, "mark", state=state, accounts=owned, ledger=ledger)
    return MarketState(
        clock=replace(state.clock, tick=now),
        value=value,
        book=book,
        market_data=data,
        accounts=owned,
        ledger=ledger,
        traders=memories,
        reward=state.reward,
        delays=delays,
        shown=state.shown,
    )


def _tell(watch: Watch | None, phase: str, **products: object) -> None:
    if watch is not None:
        watch(phase, products)


def _decided(
    structure: Structure, params: Params, state: MarketState, action: Tensor
) -> tuple[actions.Resting | None, Book, Tensor, Tensor]:
    """What the learners want to rest, the book without what they withdraw, and shares and limits of their orders that take."""
    known = delay.known(structure, params, state)
    if not structure.quotes:
        return None, state.book, *actions.orders(structure, known, action, None)
    wish = actions.wish(structure, known, action)
    standing = resting.withdraw(structure, state.book, wish)
    return wish, standing, *actions.orders(structure, known, action, resting.shown(structure, standing))


def _centre(structure: Structure, memories: dict[str, Any], mid_x2: Tensor) -> Tensor:
    """Where makers think the price is when they take what rests, [N, S] int64 half points."""
    if structure.snipe != "limit":
        return mid_x2
    return 2 * torch.floor(memories["maker"].reference).to(torch.int64)


def _at_value(params: Params, memories: dict[str, Any], value: Value) -> tuple[dict[str, Any], Tensor]:
    """Makers who take the value for the price, and the mid there, [N, S] int64 half points, both in whole points."""
    points = torch.clamp(torch.floor(fundamental.points(params, value.level) + 0.5), 1.0, HIGHEST / 2)
    return {**memories, "maker": replace(memories["maker"], reference=points)}, 2 * points.to(torch.int64)


def _submit(book: Book, orders: Orders, now: Tensor) -> Book:
    """Put this tick's orders into the book, where they end `life` ticks from now ([N] int64)."""
    price, size, life = (part.to(torch.int32) for part in (orders.price, orders.size, orders.life))
    return matching.replace_orders(book, price, size, book_tick(now) + life)


def _marks(structure: Structure, shares: Tensor, book: Book, mid_x2: Tensor) -> Tensor | None:
    """What the learners' shares are marked at, as `liquidation`; None where they are marked at the mid."""
    return None if structure.mark == "mid" else liquidation(structure, shares, book, mid_x2)


def liquidation(structure: Structure, shares: Tensor, book: Book, mid_x2: Tensor) -> Tensor:
    """What walking the book would bring for the learners' shares [N, S, L], int64 half units.

    Each is valued as if it were the only one to unwind, past its own resting orders.
    """
    books = resting.without_own(structure, book) if structure.quotes else [book] * structure.num_learners
    values = [
        matching.liquidation_value(structure, others, own, mid_x2)
        for others, own in zip(books, shares.unbind(-1), strict=True)
    ]
    return torch.stack(values, dim=-1)


def start(structure: Structure, params: Params, *, plan: NoisePlan, seed: Tensor, episode: Tensor) -> MarketState:
    """A market as it opens, before its warm-up: traits, inventories, opening quotes; seed and episode [N] int64.

    The learners' shares are marked at these quotes.
    """
    key = random.make_key(seed, episode)
    draws = noise.draw_start(structure, plan, key)
    value = fundamental.start(params, draws)
    memories, shares, _ = traders.start(structure, params, value, draws)
    hidden = total_log_volatility(value)
    variance = params.opening_volatility * params.opening_volatility * exact.exp(hidden)
    at_value = None
    if structure.reference == "value":
        memories, at_value = _at_value(params, memories, value)
    reference = memories["maker"].reference

    empty = torch.zeros((*shares.shape[:2], structure.slots), dtype=torch.int32, device=shares.device)
    tick = torch.zeros_like(seed) - structure.warmup_ticks
    since = None if structure.priority == "pro_rata" else empty + book_tick(tick)
    book = Book(price=empty + 1, size=empty, expiry=empty.clone(), since=since)
    owned, ledger = accounts.start(structure, params, shares)
    data = market_data.start(params, book, reference, variance, at_value)
    state = MarketState(
        clock=Clock(
            seed=seed,
            episode=episode,
            tick=tick,
            last=params.max_ticks[:, 0].clone(),
            key=key,
        ),
        value=value,
        book=book,
        market_data=data,
        accounts=owned,
        ledger=ledger,
        traders=memories,
        reward=RewardMemory.start(structure, ledger, data.mids_x2[..., -1]),
    )
    held = shares[..., structure.singles :]
    others, facing = quoted(structure, params, memories, read_signals(params, state), held, book, tick)
    book = others.joined(facing)
    data = market_data.start(params, book, reference, variance, at_value)
    mid_x2 = data.mids_x2[..., -1]
    ledger = accounts.appraise(ledger, mid_x2, _marks(structure, ledger.shares, book, mid_x2))
    memory = RewardMemory.start(structure, ledger, mid_x2)
    delays = delay.start(structure, data, ledger)
    return replace(state, book=book, market_data=data, ledger=ledger, reward=memory, delays=delays)


def quoted(
    structure: Structure,
    params: Params,
    memories: dict[str, Any],
    signals: Signals,
    shares: Tensor,
    standing: Book,
    now: Tensor,
) -> tuple[Book, Book]:
    """The two parts of the book that `traders.quote` makes, with the dates of new orders."""
    others, facing = traders.quote(structure, params, memories, signals, shares, standing)
    if others.since is not None:  # what is pulled has lost its place
        others = replace(others, since=torch.where(others.size != 0, others.since, book_tick(now)))
    return others, matching.dated(facing, standing.slots(slice(structure.singles, None)), now)


def truncated(state: MarketState) -> Tensor:
    """Time is up, [N] bool."""
    return state.clock.tick >= state.clock.last
