"""Scripted traders that send orders at market, and that a sound market must treat in a known way: one row of `TAKING` each.

The textbook rules are used without a search over their settings: a rule fitted until it paid would show the fit. Large attacks
act on both sides in turn, or come with their mirror, so that the market's drift averages out and even a small gift would show.

Sources: Brock, Lakonishok and LeBaron 1992 (moving-average and range rules as tests of a market); Wilder 1978 (relative
strength); Cartea, Donnelly and Jaimungal 2018 (book imbalance); Allen and Gale 1992 (pump and dump: manipulation by trades
alone); Huberman and Stanzl 2004 (a price that round trips can push up for profit is no equilibrium price); Gatheral 2010 (slow in
and fast out, or the reverse, pays when impact decays in the wrong way); Comerton-Forde and Putniņš 2011 (closing prices); Osler
2005 (stop-loss cascades); Tetlock 2007 (news that is already public).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.lab.audit import verdicts as must
from torchgym.lab.policies import (
    CLEAR_GAP,
    Memory,
    Signal,
    Snapshot,
    averaged,
    entered,
    hold,
    proportional,
    shown,
    standardised,
    to_limit,
    to_value,
    trend,
)

FULL_GAP = 0.012  # log gap between value and price at which the proportional rules hold the whole limit
WAITS = (1, 2, 5, 10, 20, 60)  # ticks between a burst and its sale
NEWS = 0.002  # log effect of a headline worth trading on


@dataclass(frozen=True)
class AuditSnapshot:
    """The market before one decision, in the rows of one policy: n episodes, all at the same tick; decisions are shares [n].

    `snapshot["f_rsi_8"]` is a feature [n] float64 of the first symbol, raw, as the learner sees it. Beside the 55 features:

    - `spread`: best ask less best bid, points;
    - `headline`: log effect of a headline that came this tick, 0 without (public);
    - `print_gap`: the last price traded at over the mid, less one (public);
    - `estimate_gap`: the public estimate of value over the mid, log;
    - `exact_gap`: value over the mid, log (nobody in the market knows it);
    - `maker_shares`: inventory of all makers together, shares (nobody in the market knows it);
    - `uniform`: a random number in (0, 1), the same for every policy in the same episode and tick.

    Rules that quote see more, in points and shares (public, or their own):

    - `mid`, and the best prices of all others, `touch_bid` and `touch_ask`;
    - of each of their places `price`, `size`, `age`, `ahead`, `older`, `same` and `behind`, as in `torchgym.sim.resting.Queue`,
      and what it traded in the last tick, `filled`, negative sold: `snapshot["bid_1_size"]`, `snapshot.resting("size")`.
    """

    columns: Mapping[str, Tensor]  # [N] float64 each
    rows: slice
    held: Tensor  # [n] int64 shares
    now: int  # decisions made before this one
    last: int  # decisions before everything is unwound
    order: int  # shares, the largest order
    limit: int  # shares, the largest position on either side
    terms: MarketConfig | None = None  # of a rule that quotes: its market, with its order and limit

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name][self.rows]

    def resting(self, entry: str) -> Tensor:
        """An entry of the own places, [n, 2, places] int64, bids first."""
        sides = [self._places(side, entry) for side in ("bid", "ask")]
        return torch.stack(sides, 1).to(torch.int64)

    def _places(self, side: str, entry: str) -> Tensor:
        assert self.terms is not None
        return torch.stack([self[f"{side}_{at + 1}_{entry}"] for at in range(self.terms.quotes)], -1)

    def usual_moves(self, lookback: int) -> Tensor:
        """The log return over the lookback in usual moves, [n] float64."""
        usual = self["f_realized_vol_32"].clamp(min=1e-5) * math.sqrt(lookback)
        return self[f"f_log_return_{lookback}"] / usual

    def to_position(self, target: int | Tensor) -> Tensor:
        """Shares [n] int64 towards a position of `target` shares, as many as one order may have."""
        return torch.clamp(target - self.held, -self.order, self.order)

    def to_fraction(self, fraction: Tensor) -> Tensor:
        """Shares [n] int64 towards a `fraction` [n] of the position limit, -1 to 1, in whole orders.

        Nothing is traded while the target is less than an order away, so a signal that trembles does not cost a spread each tick.
        """
        away = fraction.clamp(-1.0, 1.0) * self.limit - self.held
        whole = torch.trunc(away / self.order).to(torch.int64) * self.order
        return torch.clamp(whole, -self.order, self.order)


AuditRule = Callable[[AuditSnapshot, Memory], Tensor]  # the shares that it wants to trade, [n] int64, positive buys
Script = Callable[[AuditSnapshot], int]  # the position that it wants at `snapshot.now`, shares
CycleScript = Callable[[AuditSnapshot, int], int]  # the same by the tick of its cycle


@dataclass(frozen=True)
class Attempt:
    """A rule, and what must come of it. A large one may send ten times the standard order and hold ten such orders."""

    description: str
    requirement: must.Requirement
    rule: AuditRule
    large: bool = False


def attempts(requirement: must.Requirement, **rows: tuple[str, AuditRule]) -> dict[str, Attempt]:
    """Rows of one requirement: name -> (description, rule)."""
    return {name: Attempt(description, requirement, rule) for name, (description, rule) in rows.items()}


def twins(name: str, description: str, script: Script, *, large: bool = False) -> dict[str, Attempt]:
    """The plan begun by buying, and its mirror: two rows, judged together."""
    up, down = f"{name}_long", f"{name}_short"
    return {
        up: Attempt(description, must.loses_with(down), scripted(script), large),
        down: Attempt(f"the mirror of {up}", must.loses_with(up), scripted(script, -1), large),
    }


def scripted(script: Script, side: int = 1) -> AuditRule:
    """Follows a plan that only looks at the clock; `side` -1 does the same the other way round."""
    return lambda snapshot, memory: snapshot.to_position(side * script(snapshot))


def alternating(period: int, script: CycleScript) -> AuditRule:
    """The plan over and over, begun by buying and by selling in turn."""
    return scripted(lambda s: script(s, s.now % period) * (1 - 2 * (s.now // period % 2)))


def lasting(snapshot: AuditSnapshot, memory: Memory, side: Tensor, ticks: int) -> tuple[Tensor, Tensor]:
    """A side, 0 for none, that counts for so many ticks from when it was last seen: the ticks left, and the side, [n] float64."""
    fresh = side != 0.0
    until = memory.get("until", torch.full_like(side, -float(ticks)))
    memory["until"] = torch.where(fresh, float(snapshot.now + ticks), until)
    memory["side"] = torch.where(fresh, side, memory.get("side", torch.zeros_like(side)))
    return memory["until"] - snapshot.now, memory["side"]


def beyond(strength: Tensor, enter: float) -> Tensor:
    """The sign of what is beyond ±`enter`, else 0."""
    return torch.where(strength.abs() > enter, torch.sign(strength), 0.0)


def held_after(ticks: int, signal: Signal, enter: float) -> AuditRule:
    """Goes to the limit on the side of a signal beyond ±`enter`, and back so many ticks after the last one."""

    def rule(snapshot: AuditSnapshot, memory: Memory) -> Tensor:
        left, side = lasting(snapshot, memory, beyond(signal(snapshot, memory), enter), ticks)
        return snapshot.to_fraction(torch.where(left > 0.0, side, 0.0))

    return rule


def _random(snapshot: AuditSnapshot, memory: Memory) -> Tensor:
    return (torch.floor(3.0 * snapshot["uniform"]).to(torch.int64) - 1) * snapshot.order


def _one_order(snapshot: AuditSnapshot) -> int:
    return snapshot.order if snapshot.now % 20 == 0 else 0


def _pump_and_hold(snapshot: AuditSnapshot) -> int:
    """Up to the limit as fast as orders allow, kept for 100 ticks, out as fast; every 200 ticks."""
    return snapshot.limit if snapshot.now % 200 < 100 + snapshot.limit // snapshot.order else 0


def _pump_and_dump(snapshot: AuditSnapshot) -> int:
    """Up to the limit as fast as orders allow, and out when it is reached; every 100 ticks."""
    return snapshot.limit if snapshot.now % 100 < snapshot.limit // snapshot.order else 0


def _marking_the_close(snapshot: AuditSnapshot) -> int:
    left = snapshot.last - snapshot.now
    if left > 60:
        return 0
    return snapshot.limit if left <= snapshot.limit // (2 * snapshot.order) else snapshot.limit // 2


def _stop_hunt(snapshot: AuditSnapshot) -> int:
    """To the limit in one go, then half as far to the other side for the price's way back, out after 40 ticks."""
    now, burst = snapshot.now % 200, snapshot.limit // snapshot.order
    if now < burst:
        return -snapshot.limit
    return snapshot.limit // 2 if now < burst + 40 else 0


def _burst(wait: int) -> AuditRule:
    """Three orders in, `wait` ticks later three out; twenty ticks of rest."""
    return alternating(wait + 25, lambda snapshot, now: 3 * snapshot.order if now < 2 + wait else 0)


def _stuffing(snapshot: AuditSnapshot, now: int) -> int:
    if now < 20:
        return 1 - now % 2
    return snapshot.limit if now < 30 else 0


def _washing(snapshot: AuditSnapshot, now: int) -> int:
    if now < 10:
        return snapshot.order * (1 - now % 2)
    return snapshot.limit // 2 if now < 30 else 0


def _imbalance_where_cheap(snapshot: Snapshot, memory: Memory) -> Tensor:
    """The imbalance, kept from going beyond 0.5 while the spread is above one point."""
    imbalance = snapshot["f_book_imbalance"]
    return torch.where(snapshot["spread"] <= 1.0, imbalance, imbalance.clamp(-0.5, 0.5))


_IMBALANCE, _ESTIMATE, _HEADLINE = shown("f_book_imbalance"), shown("estimate_gap"), shown("headline")
_USUAL_ESTIMATE = averaged(20.0, _ESTIMATE)
_INFORMED = must.informed("exact_value")

TAKING = {
    "hold": Attempt("never trades", must.NOTHING, hold),
    "round_trip_buy_first": Attempt(
        "buys one order, sells it a tick later; every 20 ticks",
        must.round_trip("round_trip_sell_first"),
        scripted(_one_order),
    ),
    "round_trip_sell_first": Attempt(
        "sells one order, buys it back a tick later; every 20 ticks",
        must.round_trip("round_trip_buy_first"),
        scripted(_one_order, -1),
    ),
    "always_buy": Attempt("buys to the limit and holds it", must.loses_with("always_sell"), to_limit(1)),
    "always_sell": Attempt("sells to the limit and holds it", must.loses_with("always_buy"), to_limit(-1)),
    "flip_flop": Attempt(
        "from long to short and back, one order each tick",
        must.LOSES,
        scripted(lambda s: (s.order // 2 or 1) * (1 - 2 * (s.now % 2))),
    ),
    "random": Attempt("buys, holds or sells one order by chance", must.LOSES, _random),
    **twins("pump_and_hold", "drives the price to the limit, holds 100 ticks, unwinds", _pump_and_hold),
    **twins("pump_and_dump", "drives the price to the limit, unwinds at once", _pump_and_dump),
    **twins("large_pump_and_hold", "the same with orders and limit of a large trader", _pump_and_hold, large=True),
    **twins("large_pump_and_dump", "the same with orders and limit of a large trader", _pump_and_dump, large=True),
    **attempts(
        must.NO_GAIN,
        **{
            f"{name}_{lookback}": (f"{does} returns over {lookback} ticks beyond a usual move", trend(lookback, sign))
            for name, does, sign in (("momentum", "follows", 1.0), ("reversion", "fades", -1.0))
            for lookback in (6, 24, 64)
        },
        rsi=(
            "buys when the relative strength index is below 30, sells above 70, out at 50",
            entered(lambda snapshot, memory: 50.0 - snapshot["f_rsi_8"], 20.0, leave=0.0),
        ),
        imbalance=("follows the heavier side of the book", entered(_IMBALANCE, 0.5, leave=0.0)),
        imbalance_mean=(
            "follows the heavier side of the book, averaged over a half-life of 10 ticks",
            entered(averaged(10.0, _IMBALANCE), 0.3, leave=0.0),
        ),
    ),
    "value_estimate": Attempt(
        "goes to the limit where the public estimate of value is 0.6 % from the price, and stays until it says otherwise",
        must.earns("exact_value"),
        to_value(),
    ),
    "exact_value": Attempt(
        "the same with the exact value, which nobody in the market knows",
        must.earns_clearly("value_estimate"),
        entered(shown("exact_gap"), CLEAR_GAP),
    ),
    "value_estimate_leaning": Attempt(
        "holds a position in proportion to the gap of the estimate: the same knowledge, traded five times as much",
        _INFORMED,
        proportional(_ESTIMATE, FULL_GAP),
    ),
    # price impact
    **{
        f"own_impact_{wait}": Attempt(
            f"three large orders in, {wait} ticks for others to follow, three out; both sides in turn",
            must.NO_GAIN,
            _burst(wait),
            large=True,
        )
        for wait in WAITS
    },
    "slow_in_fast_out": Attempt(  # five orders in tenths over 50 ticks, out in five ticks
        "builds in small orders, which the market may take for noise, and leaves in large ones; both sides in turn",
        must.NO_GAIN,
        alternating(105, lambda s, now: (now + 1) * s.order // 10 if now < 50 else 0),
        large=True,
    ),
    "fast_in_slow_out": Attempt(  # five orders in as fast as possible, out in tenths over 50 ticks
        "builds in large orders and leaves in small ones; both sides in turn",
        must.NO_GAIN,
        alternating(110, lambda s, now: 5 * s.order if now < 10 else max(0, (60 - now) * s.order // 10)),
        large=True,
    ),
    **twins(
        "marking_the_close",
        "holds half the limit, and pushes the price with the other half just before the end",
        _marking_the_close,
        large=True,
    ),
    **twins(
        "stop_hunt", "pushes the price through the stops, then turns round for its recovery", _stop_hunt, large=True
    ),
    # activity
    "quote_stuffing": Attempt(
        "20 orders of one share to and fro to stir the market, then the limit for 10 ticks; both sides in turn",
        must.LOSES,
        alternating(50, _stuffing),
    ),
    "wash_trading": Attempt(
        "10 large orders to and fro to feign volume, then a position for 20 ticks; both sides in turn",
        must.LOSES,
        alternating(60, _washing),
        large=True,
    ),
    "tiny_orders": Attempt(
        "one share in, one share out, every tick", must.COMMISSION, scripted(lambda s: 1 - s.now % 2)
    ),
    "borrowed_shares": Attempt("short to the limit for the whole episode", must.BORROW, to_limit(-1)),
    # the clock
    **twins("opening", "holds the limit over the first 100 ticks", lambda s: s.limit if s.now < 100 else 0),
    **twins(
        "clock", "holds one order over the first half of every 20 ticks", lambda s: s.order if s.now % 20 < 10 else 0
    ),
    # what the book and the prints show
    **attempts(
        must.NO_GAIN,
        imbalance_fade=(
            "trades against the heavier side of the book, where makers want to get rid of inventory",
            entered(shown("f_book_imbalance", -1.0), 0.5, leave=0.0),
        ),
        imbalance_cheap=(
            "follows the heavier side of the book, entering only while the spread is one point",
            entered(_imbalance_where_cheap, 0.5, leave=0.0),
        ),
    ),
    "maker_inventory": Attempt(
        "holds what the makers hold, who quote low to get rid of it; reads their books, which nobody can",
        _INFORMED,
        proportional(shown("maker_shares"), 1_500.0),
    ),
    **attempts(
        must.NO_GAIN,
        flow=(
            "follows the sign of taken liquidity, averaged over a half-life of 30 ticks",
            entered(averaged(30.0, shown("f_net_order_flow")), 0.15, leave=0.0),
        ),
        print_reversal=(
            "trades towards the mid when the last price was more than 10 bp away from it",
            entered(shown("print_gap", -1.0), 0.001, leave=0.0),
        ),
        jump_chase=("follows moves of 3 usual ones for 20 ticks", held_after(20, standardised(1), 3.0)),
        jump_fade=("fades moves of 3 usual ones for 20 ticks", held_after(20, standardised(1, -1.0), 3.0)),
    ),
    "news_chase": Attempt(
        "follows a headline for 30 ticks after it is public; prices take some time to digest one",
        must.informed("exact_value", 0.5),
        held_after(30, _HEADLINE, NEWS),
    ),
    "news_sweep": Attempt(
        "the same with large orders, against all that rests in the book when the headline comes",
        must.informed("exact_value", 0.5),
        held_after(30, _HEADLINE, NEWS),
        large=True,
    ),
    **attempts(
        _INFORMED,
        estimate_change=(  # the gap less its mean of 20 ticks: the estimate's news, without its lasting error
            "follows recent changes of the public estimate that the price has not made",
            proportional(lambda s, memory: s["estimate_gap"] - _USUAL_ESTIMATE(s, memory), FULL_GAP),
        ),
        estimate_mean=(
            "averages the gap to the public estimate over a half-life of 50 ticks, and so its error",
            proportional(averaged(50.0, _ESTIMATE), FULL_GAP),
        ),
    ),
}
