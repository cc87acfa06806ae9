"""Scripted traders that let orders rest: one row of `QUOTING` each.

They say what shall rest, place by place, and may trade at market beside it. A rebate is the exchange's money, so rows with a fee
of their own have a requirement of their own, `verdicts.subsidised`.

Sources: Avellaneda and Stoikov 2008 and Guéant, Lehalle and Fernandez-Tapia 2013 (quotes by inventory); Moallemi and Yuan 2017
(the value of a place in the queue); Lee, Eom and Park 2013 (spoofing); Cartea, Jaimungal and Wang 2020 (spoofing and layering by
the imbalance); Clark-Joseph 2014 (exploratory orders); Egginton, Van Ness and Van Ness 2016 (quote stuffing); Malinova and Park
2015 (rebates); Comerton-Forde and Putniņš 2011 (closing prices); Budish, Cramton and Shim 2015 (races to stale quotes).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.engine import StepResult
from torchgym.lab import quoting as theory
from torchgym.lab.audit import verdicts as must
from torchgym.lab.audit.attempts import NEWS, AuditSnapshot, beyond, lasting
from torchgym.lab.audit.scheme import KEEP, PLACES, Wanted
from torchgym.lab.policies import Memory, standardised
from torchgym.lab.policy import MakePolicy, Policy
from torchgym.sim.actions import DEEPEST
from torchgym.sim.params import plain_params

QuotingRule = Callable[[AuditSnapshot, Memory], Wanted]


@dataclass(frozen=True)
class QuotingAttempt:
    """A rule that quotes, and what must come of it; orders and limit as those of an `Attempt`.

    `maker_bps` is the fee that it asks for its resting orders; None is the market's.
    """

    description: str
    requirement: must.Requirement
    rule: QuotingRule
    large: bool = False
    maker_bps: Callable[[MarketConfig], float] | None = None


# --- parts of rules


def ladder(snapshot: AuditSnapshot, *behind: int) -> Tensor:
    """Prices so many points behind the best of all others, negative inside the spread: [n, 2, k] int64."""
    away = torch.tensor(behind, dtype=torch.float64, device=snapshot.held.device)
    bid, ask = (snapshot[f"touch_{side}"].unsqueeze(-1) for side in ("bid", "ask"))
    return torch.stack([bid - away, ask + away], 1).to(torch.int64)


def orders(
    snapshot: AuditSnapshot,
    price: Tensor,
    size: int | Tensor,
    shares: int | Tensor = 0,
    *,
    renewed: bool = False,
) -> Wanted:
    """Orders at prices [n, 2, k] in the first k places, nothing in the others; sizes broadcast to the prices.

    What rests at its price already is kept with its age, unless all is to be `renewed`.
    """
    empty = (0, PLACES - price.shape[-1])
    sizes = torch.nn.functional.pad(torch.as_tensor(size, device=price.device).expand(price.shape), empty)
    prices = torch.nn.functional.pad(price.clamp(min=1), empty, value=1)
    stays = (snapshot.resting("price") == prices) & (snapshot.resting("size") > 0) & (sizes > 0)
    kept = torch.where(stays & (not renewed), KEEP, sizes)
    return Wanted(prices, kept, torch.zeros_like(snapshot.held) + shares)


def at_market(snapshot: AuditSnapshot, shares: int | Tensor) -> Wanted:
    """Nothing rests."""
    return orders(snapshot, ladder(snapshot, 0), 0, shares)


def on_side(snapshot: AuditSnapshot, side: int, size: int) -> Tensor:
    """Sizes for the bids alone, or for the asks where `side` is -1, [2, 1] int64."""
    return torch.tensor([[size * (side > 0)], [size * (side < 0)]], device=snapshot.held.device)


def _turn(snapshot: AuditSnapshot, period: int) -> tuple[int, int]:
    """The tick of a cycle, and its side: +1 and -1 in turn."""
    return snapshot.now % period, 1 - 2 * (snapshot.now // period % 2)


def touch(*behind: int) -> QuotingRule:
    """Quotes both sides so many points behind the touch."""
    return lambda snapshot, memory: orders(snapshot, ladder(snapshot, *behind), snapshot.order)


def pulled(trouble: Callable[[AuditSnapshot, Memory], Tensor], ticks: int) -> QuotingRule:
    """Quotes the touch, but not within so many ticks of trouble."""

    def rule(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
        until = memory.get("until", torch.zeros_like(snapshot["spread"]))
        memory["until"] = torch.where(trouble(snapshot, memory), float(snapshot.now + ticks), until)
        size = torch.where(memory["until"] <= snapshot.now, snapshot.order, 0)
        return orders(snapshot, ladder(snapshot, 0), size[:, None, None])

    return rule


def around(entry: str) -> QuotingRule:
    """Quotes the usual half-spread around what `entry` says the price should be, behind the touch of the other side."""

    def rule(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
        assert snapshot.terms is not None
        half = float(plain_params(snapshot.terms, torch.device("cpu")).typical_half_spread)
        centre = snapshot["mid"] * torch.exp(snapshot[entry])
        price = torch.stack([torch.floor(centre - half), torch.ceil(centre + half)], -1)
        return orders(snapshot, price.unsqueeze(-1).to(torch.int64), snapshot.order)

    return rule


@functools.lru_cache(maxsize=8)
def _made(make_policy: MakePolicy, terms: MarketConfig) -> Policy:
    return make_policy(terms.replace(action="depths", quotes=1), torch.zeros(0, dtype=torch.int64, device="cpu"))


def by_theory(make_policy: MakePolicy) -> QuotingRule:
    """The quotes of a policy of `torchgym.lab.quoting`, which looks at position and clock alone."""

    def rule(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
        assert snapshot.terms is not None
        info = {"position": snapshot.held.unsqueeze(-1), "tick": torch.full_like(snapshot.held, snapshot.now)}
        depth = _made(make_policy, snapshot.terms)(cast("StepResult", SimpleNamespace(info=info)))
        mid = snapshot["mid"]
        price = torch.stack([torch.floor(mid - depth[:, 0]), torch.ceil(mid + depth[:, 1])], -1).unsqueeze(-1)
        size = torch.where(depth < DEEPEST, snapshot.order, 0).unsqueeze(-1)
        return orders(snapshot, price.to(torch.int64), size)

    return rule


# --- rules


def _inside(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
    """A point inside the spread of the others, where that leaves one between the own quotes."""
    wide = snapshot["touch_ask"] - snapshot["touch_bid"] >= 3.0
    return orders(snapshot, ladder(snapshot, -1), torch.where(wide, snapshot.order, 0)[:, None, None])


def _leaning(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
    """Ten points behind the touch, both quotes up to ten points lower the more is held, and higher the more is owed."""
    shift = torch.round(10.0 * snapshot.held / snapshot.limit).to(torch.int64)
    return orders(snapshot, ladder(snapshot, 10) - shift[:, None, None], snapshot.order)


def _feigned(period: int, *behind: int) -> QuotingRule:
    """Three orders in; then for ten ticks all places full on the own side; then they go and the position is sold."""

    def rule(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
        now, side = _turn(snapshot, period)
        shares = snapshot.to_position(side * 3 * snapshot.order if now < 15 else 0)
        size = on_side(snapshot, side, snapshot.order if 5 <= now < 15 else 0)
        return orders(snapshot, ladder(snapshot, *behind), size, shares)

    return rule


def _layering(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
    """Full places behind the touch on one side for ten ticks, two orders at market on the other, out twenty ticks later."""
    now, side = _turn(snapshot, 60)
    shares = snapshot.to_position(-side * 2 * snapshot.order if 10 <= now < 32 else 0)
    return orders(snapshot, ladder(snapshot, 1, 3), on_side(snapshot, side, snapshot.order if now < 10 else 0), shares)


def _pinging(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
    """One share a side inside the spread; whoever trades with it shows which way the flow goes, followed for ten ticks."""
    flow = -torch.sign(snapshot.resting("filled").sum((1, 2))).to(torch.float64)
    left, side = lasting(snapshot, memory, flow, 10)
    shares = snapshot.to_fraction(torch.where(left > 0.0, side, 0.0))
    return orders(snapshot, ladder(snapshot, -1), 1, shares)


def _queueing(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
    """At the touch as long as others stand before it there; away for a tick once its turn has come."""
    wanted = orders(snapshot, ladder(snapshot, 0), snapshot.order)
    before = sum((snapshot.resting(entry) for entry in ("ahead", "older", "same")), torch.zeros_like(wanted.price))
    next_one = (wanted.size == KEEP) & (before < snapshot.order)
    return Wanted(wanted.price, torch.where(next_one, 0, wanted.size), wanted.shares)


def _first_in_line(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
    """Waits at the touch for its turn, and leaves the side that the book is about to run over."""
    imbalance = snapshot["f_book_imbalance"]
    favour = torch.stack([imbalance, -imbalance], -1).unsqueeze(-1)
    return orders(snapshot, ladder(snapshot, 0), torch.where(favour > -0.3, snapshot.order, 0))


def _racing(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
    """At the touch. For two ticks after a move of two usual ones it trades with it before others act; then back.

    The quote that the move would run over is pulled meanwhile.
    """
    left, side = lasting(snapshot, memory, beyond(standardised(1)(snapshot, memory), 2.0), 2)
    shares = snapshot.to_position(torch.where(left > 0.0, side * snapshot.limit, 0.0).to(torch.int64))
    favoured = torch.stack([side >= 0.0, side <= 0.0], -1) | (left <= 0.0).unsqueeze(-1)
    quoted = torch.where(favoured, snapshot.order, 0).unsqueeze(-1)
    return orders(snapshot, ladder(snapshot, 0), quoted, torch.where(left > -2.0, shares, 0))


def _join_then_cross(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
    """One order in by the touch, what is missing at market after ten ticks; then out in the same way."""
    now, side = _turn(snapshot, 40)
    target = side * snapshot.order if now < 20 else 0
    missing = target - snapshot.held
    if now % 20 >= 10:
        return at_market(snapshot, snapshot.to_position(target))
    size = torch.stack([missing.clamp(min=0), (-missing).clamp(min=0)], -1).unsqueeze(-1)
    return orders(snapshot, ladder(snapshot, 0), size)


def _amending_price(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
    return orders(snapshot, ladder(snapshot, snapshot.now % 2), snapshot.order, renewed=True)


def _amending_size(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
    """A share less every tick, which keeps the place in the queue, and full again every tenth, which does not."""
    return orders(snapshot, ladder(snapshot, 0), max(1, snapshot.order - snapshot.now % 10), renewed=True)


def _keeping(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
    """At the touch once, and then left alone, however far the market goes, until it is filled."""
    rests = snapshot.resting("size") > 0
    fresh = orders(snapshot, ladder(snapshot, 0), snapshot.order)
    return Wanted(fresh.price, torch.where(rests, KEEP, fresh.size), fresh.shares)


def _ramping(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
    """To the limit; then the mid is led on by one share just before the other side for fifty ticks; then out."""
    now, side = _turn(snapshot, 120)
    shares = snapshot.to_position(side * snapshot.limit if now < 60 else 0)
    return _leading(snapshot, side if 10 <= now < 65 else 0, shares)


def _leading(snapshot: AuditSnapshot, side: int, shares: Tensor) -> Wanted:
    """One share a point before the best price of the other side, so that the mid lies there; none where `side` is 0."""
    opposite = torch.stack([snapshot["touch_ask"] - 1.0, snapshot["touch_bid"] + 1.0], -1).unsqueeze(-1)
    return orders(snapshot, opposite.to(torch.int64), on_side(snapshot, side, 1), shares)


def _marking(side: int) -> QuotingRule:
    """Holds the limit, and leads the mid on in the last 60 ticks before everything is unwound."""

    def rule(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
        close = snapshot.last - snapshot.now <= 60
        return _leading(snapshot, side if close else 0, snapshot.to_position(side * snapshot.limit))

    return rule


def _self_trading(snapshot: AuditSnapshot, memory: Memory) -> Wanted:
    """Own bid above own ask, both inside the spread; every other tick an order at market against the own ask, or bid."""
    now, side = _turn(snapshot, 4)
    middle = torch.floor(snapshot["mid"]).to(torch.int64)
    price = torch.stack([middle + 1, middle], -1).unsqueeze(-1)
    return orders(snapshot, price, snapshot.order, side * snapshot.order if now % 2 else 0)


def _half_spread_rebate(config: MarketConfig) -> float:
    """A rebate as large as the typical half-spread, bp."""
    params = plain_params(config, torch.device("cpu"))
    return -round(1e4 * float(params.typical_half_spread / params.list_price), 2)


_VALUE = "quote_exact_value"


def _vain(large: bool = False, **rows: tuple[str, QuotingRule]) -> dict[str, QuotingAttempt]:
    """Rows that must not gain."""
    return {name: QuotingAttempt(told, must.VAIN_QUOTES, rule, large) for name, (told, rule) in rows.items()}


QUOTING = {
    **_vain(
        quote_touch=("quotes both sides at the best prices", touch(0)),
        quote_inside=("quotes both sides a point inside the spread", _inside),
        quote_deep=("quotes both sides ten points behind the touch", touch(10)),
        quote_deeper=("quotes both sides twenty points behind the touch", touch(20)),
        quote_deep_leaning=("quotes both sides ten points behind the touch, leaning against what is held", _leaning),
        quote_ladder=("quotes both sides at the touch and five points behind", touch(0, 5)),
        quote_but_moves=(
            "quotes the touch, but not for five ticks after a move beyond a usual one",
            pulled(lambda snapshot, memory: standardised(1)(snapshot, memory).abs() > 1.0, 5),
        ),
        quote_but_news=(
            "quotes the touch, but not for twenty ticks after a headline",
            pulled(lambda snapshot, memory: snapshot["headline"].abs() > NEWS, 20),
        ),
        quote_symmetric=("quotes a typical half-spread around the mid", by_theory(theory.symmetric())),
        avellaneda_stoikov=("quotes by inventory and time left", by_theory(theory.avellaneda_stoikov(2e-5))),
        gueant_lehalle=("quotes by inventory", by_theory(theory.gueant_lehalle(0.001))),
        pinging=("looks for flow with single shares inside the spread, and follows it at market", _pinging),
        queueing=("waits at the touch, and leaves when its turn comes", _queueing),
        first_in_line=("waits at the touch for its turn, but not against a heavy book", _first_in_line),
        latency_race=(
            "quotes the touch; after a fast move it pulls one side and takes the other before others act, out two ticks later",
            _racing,
        ),
        join_then_cross=("joins the touch, crosses the spread ten ticks later; both sides in turn", _join_then_cross),
        amending_price=("moves its quotes a point to and fro every tick", _amending_price),
        amending_size=("takes a share off its quotes every tick, which costs no priority", _amending_size),
        keeping=("keeps old orders for their age, wherever the market goes", _keeping),
        ramping=("holds the limit, leads the mid on with one share, sells; both sides in turn", _ramping),
    ),
    **_vain(
        large=True,
        spoof_touch=(
            "buys, feigns demand with large bids at the touch, cancels and sells; both sides in turn",
            _feigned(50, 0, 1),
        ),
        spoof_deep=("the same with bids five and eight points behind the touch", _feigned(50, 5, 8)),
        layering=("layers bids behind the touch, sells at market, cancels; both sides in turn", _layering),
        large_quote_deep=("quotes both sides ten points behind the touch, as a large trader", touch(10)),
        large_ramping=("ramping with the limit of a large trader", _ramping),
    ),
    "self_trading": QuotingAttempt("tries to trade with itself", must.LOSES, _self_trading),
    "marking_by_quotes_long": QuotingAttempt(
        "holds the limit, and quotes the mid up just before the end",
        must.loses_with("marking_by_quotes_short"),
        _marking(1),
        large=True,
    ),
    "marking_by_quotes_short": QuotingAttempt(
        "the mirror of marking_by_quotes_long", must.loses_with("marking_by_quotes_long"), _marking(-1), large=True
    ),
    "quote_value_estimate": QuotingAttempt(
        "quotes a typical half-spread around the public estimate of value",
        must.informed(_VALUE),
        around("estimate_gap"),
    ),
    _VALUE: QuotingAttempt(
        "the same around the exact value, which nobody in the market knows",
        must.earns_clearly("quote_value_estimate"),
        around("exact_gap"),
    ),
    "rebate_none": QuotingAttempt(
        "quotes the touch for no fee", must.subsidised("quote_touch"), touch(0), maker_bps=lambda config: 0.0
    ),
    "rebate_half_spread": QuotingAttempt(
        "quotes the touch for a rebate as large as the typical half-spread",
        must.subsidised("quote_touch"),
        touch(0),
        maker_bps=_half_spread_rebate,
    ),
}
