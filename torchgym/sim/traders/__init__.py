"""Phase: background populations turn what they saw at the end of the last tick into orders.

A family is one file with a `start` and a `decide` (and a `settle`, if it must remember its fills), and one row of `TRADERS`; its
settings are a field of `torchgym.config.Population`, or a row of `torchgym.config.FAMILIES` where it lives in a program of one's
own. Makers are the family that quotes both sides: it has a `learn` and a `quote` in place of a `decide`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.sim.noise import Noise, StartNoise
from torchgym.sim.params import Params
from torchgym.sim.state import HIGHEST, LONGEST, NOWHERE, Accounts, Auction, Book, Execution, MarketState, Orders, Value
from torchgym.sim.traders import (
    maker,
    meta_order,
    news,
    noise_trader,
    pairs,
    reversion,
    rotator,
    stop,
    taker,
    trend,
    value,
)
from torchgym.sim.traders.intent import AT_MARKET, OrderIntent, orders_of, toward_target
from torchgym.sim.traders.signals import Signals, activity_of
from torchgym.table import Table, check_made


@dataclass(frozen=True)
class TraderFamily:
    """Functions of one family; n traders per symbol.

    `start(structure, params, draws, log_mid) -> (memory, shares)`: log_mid [N, S, 1] float32, shares [N, S, n] float32 holding
    integers. Makers get log_mid as [N, S] float64.

    Traders with one order each:
    `decide(structure, params, memory, *, signals, shares, draws) -> (OrderIntent, memory)`.
    `settle(memory, *, shares_before, fills, log_close) -> memory`: float32 holding integers.

    Makers, whose memory has their `reference` price [N, S] float64 points:
    `learn(params, memory, *, signals, execution, auction, mid_x2, public_move) -> memory`.
    `quote(structure, params, memory, *, half_spread, shares, book) -> quotes`: a `Book` [N, S, 2 M] int32, bids and then asks,
    with negative sizes. Every bid lies below every ask. shares [N, S, M] int64 are the makers', book [N, S, K] is all that
    stands.
    """

    start: Callable[..., tuple[Any, Tensor]]
    decide: Callable[..., tuple[OrderIntent, Any]] | None = None
    settle: Callable[..., Any] | None = None
    learn: Callable[..., Any] | None = None
    quote: Callable[..., Book] | None = None


TRADERS: Table[TraderFamily] = Table(
    "trader family",
    {
        "value": TraderFamily(value.start, value.decide),
        "trend": TraderFamily(trend.start, trend.decide),
        "reversion": TraderFamily(reversion.start, reversion.decide),
        "noise": TraderFamily(noise_trader.start, noise_trader.decide),
        "meta_order": TraderFamily(meta_order.start, meta_order.decide, meta_order.settle),
        "news": TraderFamily(news.start, news.decide),
        "stop": TraderFamily(stop.start, stop.decide, stop.settle),
        "pairs": TraderFamily(pairs.start, pairs.decide),
        "rotator": TraderFamily(rotator.start, rotator.decide),
        "taker": TraderFamily(taker.start, taker.decide),
        "maker": TraderFamily(maker.start, learn=maker.learn, quote=maker.quote),
    },
)


def start(
    structure: Structure, params: Params, latent: Value, noise: StartNoise
) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Traits, beliefs and inventories of a fresh market.

    Value traders hold the other side of the meta-order traders' inventory by capacity, and the first trader takes what is left,
    so that inventories sum to zero.

    Returns:
        Memories by family; shares [N, S, A] int64; the opening mid [N, S] float64, log of price over list price.
    """
    log_mid = latent.level + params.opening_gap * noise.value[..., 5]
    absorbed = None
    if "meta_order" in structure.families and "value" in structure.families:
        nowhere = torch.zeros_like(log_mid, dtype=torch.float32).unsqueeze(-1)
        _, parents = meta_order.start(structure, params, noise.trader(structure.families["meta_order"]), nowhere)
        believers, _ = value.start(structure, params, noise.trader(structure.families["value"]), nowhere)
        total, capacity = parents.sum(-1, keepdim=True), believers.capacity.sum(-1, keepdim=True)
        absorbed = torch.floor(believers.capacity * total / capacity)
        log_mid = log_mid + params.opening_slope * (total / capacity).squeeze(-1).to(torch.float64)

    memories: dict[str, Any] = {}
    held = []
    opening = log_mid.to(torch.float32).unsqueeze(-1)
    for name, place in structure.families.items():
        log_price = log_mid if name == "maker" else opening
        memory, shares = TRADERS[name].start(structure, params, noise.trader(place), log_price)
        check_made(f"start of TRADERS[{name!r}]", shares, _shape(log_mid, place), torch.float32)
        if memory is not None:
            memories[name] = memory
        held.append(shares - absorbed if name == "value" and absorbed is not None else shares)
    owned = torch.cat(held, dim=-1).to(torch.int64)
    owned[..., 0] -= owned.sum(-1)
    return memories, owned, log_mid


def decide(
    structure: Structure, params: Params, state: MarketState, *, signals: Signals, noise: Noise
) -> tuple[Orders, dict[str, Any]]:
    """Everybody's orders for this tick, [N, S, singles] float32 holding integers, and the new memories."""
    memories = dict(state.traders)
    intents = []
    counts = [place.stop - place.start for place in structure.orders.values()]
    held = state.accounts.shares[..., : structure.singles].to(torch.float32).split(counts, dim=-1)
    for name, shares, draws in zip(structure.orders, held, noise.of_families(counts), strict=True):
        decide = TRADERS[name].decide
        assert decide is not None, name
        intent, memory = decide(structure, params, state.traders.get(name), signals=signals, shares=shares, draws=draws)
        intents.append(_checked(name, intent, params[f"population.{name}.max_size"], shares.shape))
        if memory is not None:
            memories[name] = memory
    return orders_of(params, signals, intents), memories


def _shape(per_symbol: Tensor, place: slice) -> tuple[int, ...]:
    """[N, S, n] of a family."""
    return (*per_symbol.shape, place.stop - place.start)


def _checked(name: str, intent: OrderIntent, max_size: Tensor, shape: Sequence[int]) -> OrderIntent:
    """The intent; no order of an added family exceeds its `max_size`, on which the bound on exact sums counts, or lives for ever.

    Raises:
        ValueError: naming the family and what is wrong.
    """
    row = f"TRADERS[{name!r}]"
    for entry in dataclasses.fields(intent):
        value = getattr(intent, entry.name)
        own = entry.name in ("acts", "side")  # each trader has its own; the others may be one number for all, [N, 1, 1]
        if isinstance(value, Tensor) and (own or value.shape != max_size.shape):
            dtype = torch.bool if entry.name == "acts" else torch.float32
            check_made(f"{entry.name} of the intent of {row}", value, shape, dtype)
    if not TRADERS.added([name]):
        return intent
    most, life = intent.most, intent.life
    return dataclasses.replace(
        intent,
        most=torch.minimum(most.clamp(min=0.0), max_size)
        if isinstance(most, Tensor)
        else max_size.clamp(max=max(0.0, most)),
        life=life.clamp(max=float(LONGEST)) if isinstance(life, Tensor) else min(life, float(LONGEST)),
    )


def settle(
    memories: dict[str, Any],
    *,
    structure: Structure,
    before: Accounts,
    execution: Execution,
    auction: Auction,
    log_close: Tensor,
) -> dict[str, Any]:
    """Tell the families that care what they traded; log_close [N, S] float64, the auction's price over the list price."""
    updated = dict(memories)
    fills = (execution.fills + auction.fills[..., : structure.slots]).to(torch.float32)
    for name, place in structure.orders.items():
        remember = TRADERS[name].settle
        if remember is not None:
            updated[name] = remember(
                memories[name],
                shares_before=before.shares[..., place].to(torch.float32),
                fills=fills[..., place],
                log_close=log_close.to(torch.float32).unsqueeze(-1),
            )
    return updated


def renew(structure: Structure, book: Book, standing: Book) -> Book:
    """Makers cancel and replace their quotes before the auction: the same prices, and the sizes of the `standing` book again.

    So they are whole also where a learner has taken some of them.
    """
    first, end = structure.singles, structure.background
    sizes = [book.size[..., :first], standing.size[..., first:end], book.size[..., end:]]
    return dataclasses.replace(book, size=torch.cat(sizes if structure.quotes else sizes[:2], dim=-1))


def learn(params: Params, memories: dict[str, Any], **observed: Any) -> dict[str, Any]:
    """Makers take in what was traded and what became public; see `TraderFamily`."""
    function = TRADERS["maker"].learn
    if function is None:
        raise ValueError("TRADERS['maker'] must have a learn and a quote")
    return {**memories, "maker": function(params, memories["maker"], **observed)}


def quote(
    structure: Structure, params: Params, memories: dict[str, Any], signals: Signals, shares: Tensor, book: Book
) -> tuple[Book, Book]:
    """The new book in two parts: orders of single traders, and the makers' new quotes with the learners' orders behind them.

    Orders that the quotes would trade against are pulled. Learners' orders stay as they are. No quote of a row that was added
    exceeds the makers' `max_size`, on which the bound on exact sums counts.

    Stale orders are cancelled before the learner can trade against them: without the pulling, a one-point spread between a stale
    order and the quotes held back by it foretold the next move by more than a trade costs.

    Args:
        shares: [N, S, M] int64, of the makers.

    Raises:
        ValueError: naming the row and what is wrong.

    Source: fleeting orders, Hasbrouck and Saar (2009); limit orders at risk of being picked off, Foucault (1999).
    """
    function = TRADERS["maker"].quote
    if function is None:
        raise ValueError("TRADERS['maker'] must have a learn and a quote")
    others, learners = book.slots(slice(structure.singles)), book.slots(slice(structure.background, None))
    if not structure.makers:
        return others, learners
    quotes = function(
        structure,
        params,
        memories["maker"],
        half_spread=signals.maker_half_spread,
        shares=shares,
        book=book,
    )
    reach = quotes.price
    if TRADERS.added(["maker"]):
        quotes, reach = _checked_quotes(params, quotes, shape=(*shares.shape[:-1], 2 * structure.makers))
    # Extremes of integers are slow. As points from the first quote they are floats, exact up to 2**24 points from it.
    first = reach[..., :1]
    bids, asks = (reach - first).to(torch.float32).split(structure.makers, -1)
    highest = first + bids.amax(-1, keepdim=True).to(torch.int32)
    lowest = first + asks.amin(-1, keepdim=True).to(torch.int32)
    # How far a quote of the other side is from trading with it; as a number, since a mask that has to be stored is slow.
    apart = torch.where(others.size > 0, lowest - others.price, others.price - highest)
    others = dataclasses.replace(others, size=torch.where(apart > 0, others.size, 0))
    return others, quotes.joined(learners) if structure.quotes else quotes


def _checked_quotes(params: Params, quotes: Book, *, shape: tuple[int, ...]) -> tuple[Book, Tensor]:
    """Quotes of a row that was added, none larger than `max_size`; and prices, where empty bids have 0 and empty asks `NOWHERE`.

    Prices are cut to those of orders. What has the wrong sign, a bid below zero or an ask above, counts as empty.
    """
    for name in ("price", "size", "expiry"):
        check_made(f"{name} of the quotes of TRADERS['maker']", getattr(quotes, name), shape, torch.int32)
    bids, asks = quotes.size.split(shape[-1] // 2, -1)
    most = params.population.maker.max_size.unsqueeze(-1).to(torch.int32)
    size = torch.cat([torch.clamp(bids, min=0), torch.clamp(asks, max=0)], -1)
    nowhere = torch.cat([torch.zeros_like(bids), torch.full_like(asks, NOWHERE)], -1)
    cut = dataclasses.replace(quotes, price=torch.clamp(quotes.price, 1, HIGHEST), size=torch.clamp(size, -most, most))
    return cut, torch.where(size != 0, cut.price, nowhere)


__all__ = [
    "AT_MARKET",
    "TRADERS",
    "OrderIntent",
    "Signals",
    "TraderFamily",
    "activity_of",
    "decide",
    "learn",
    "quote",
    "renew",
    "settle",
    "start",
    "toward_target",
]
