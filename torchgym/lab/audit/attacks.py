"""Attempts on the market's weak points, with orders that take liquidity: one row of `ATTACKS` each.

Large attacks act on both sides in turn, or come with their mirror, so that the market's drift averages out and even a small
gift would show.

Sources: Huberman and Stanzl 2004 (a price that round trips can push up for profit is no equilibrium price); Gatheral 2010
(slow in and fast out, or the reverse, pays when impact decays in the wrong way); Comerton-Forde and Putniņš 2011 (closing
prices); Osler 2005 (stop-loss cascades); Tetlock 2007 (news that is already public).
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchgym.lab.audit.policy import (
    FULL_GAP,
    Act,
    Memory,
    Policy,
    alternating,
    averaged,
    entered,
    held_after,
    proportional,
    scripted,
    shown,
    standardised,
    twins,
)
from torchgym.lab.audit.scene import Scene, kept, lean
from torchgym.lab.audit.verdicts import BORROW, COMMISSION, LOSES, NO_GAIN, informed

WAITS = (1, 2, 5, 10, 20, 60)  # ticks between a burst and its sale
NEWS = 0.002  # log effect of a headline worth trading on


# --- price impact


def _burst(wait: int) -> Act:
    """Three orders in, `wait` ticks later three out; twenty ticks of rest."""

    def script(scene: Scene, now: int) -> int:
        return 3 * scene.order if now < 2 + wait else 0

    return alternating(wait + 25, script)


def _slow_in_fast_out(scene: Scene, now: int) -> int:
    """Five orders in tenths over 50 ticks, out in five ticks."""
    return (now + 1) * scene.order // 10 if now < 50 else 0


def _fast_in_slow_out(scene: Scene, now: int) -> int:
    """Five orders in as fast as possible, out in tenths over 50 ticks."""
    return 5 * scene.order if now < 10 else max(0, (60 - now) * scene.order // 10)


def _marking_the_close(scene: Scene) -> int:
    """Half the limit held from early on; in the last ticks before unwinding the other half pushes the mark."""
    left = scene.last - scene.now
    if left > 60:
        return 0
    return scene.limit if left <= scene.limit // (2 * scene.order) else scene.limit // 2


def _stop_hunt(scene: Scene) -> int:
    """To the limit in one go, then half as far to the other side for the price's way back, out after 40 ticks."""
    now, burst = scene.now % 200, scene.limit // scene.order
    if now < burst:
        return -scene.limit
    return scene.limit // 2 if now < burst + 40 else 0


# --- activity


def _stuffing(scene: Scene, now: int) -> int:
    """Single shares to and fro for 20 ticks, then the limit for 10."""
    if now < 20:
        return 1 - now % 2
    return scene.limit if now < 30 else 0


def _washing(scene: Scene, now: int) -> int:
    """Whole orders to and fro for 10 ticks, then half the limit for 20."""
    if now < 10:
        return scene.order * (1 - now % 2)
    return scene.limit // 2 if now < 30 else 0


def _tiny(scene: Scene) -> int:
    """One share in, one share out."""
    return 1 - scene.now % 2


# --- the clock


def _opening(scene: Scene) -> int:
    """The limit over the first 100 ticks."""
    return scene.limit if scene.now < 100 else 0


def _clock(scene: Scene) -> int:
    """One order over the first half of every 20 ticks."""
    return scene.order if scene.now % 20 < 10 else 0


def _all_in(scene: Scene) -> int:
    return scene.limit


# --- what the book and the tape show


def _cheap_imbalance(scene: Scene, memory: Memory) -> Tensor:
    """Enters only while the spread is one point, in the direction of the heavier side; out when that turns."""
    side, now = scene["f_book_imbalance"], kept(scene)
    stay = torch.where(side * now < 0.0, 0.0, now)
    return lean(scene, torch.where((scene["spread"] <= 1.0) & (side.abs() > 0.5), torch.sign(side), stay))


def _estimate_change(scene: Scene, memory: Memory) -> Tensor:
    """How far the gap between estimate and price is from its mean of 20 ticks: the estimate's news, without its lasting error."""
    gap = scene["estimate_gap"]
    return gap - averaged(20.0, shown("estimate_gap"))(scene, memory)


ATTACKS: dict[str, Policy] = {
    **{
        f"own_impact_{wait}": Policy(
            f"three large orders in, {wait} ticks for others to follow, three out; both sides in turn",
            NO_GAIN,
            _burst(wait),
            large=True,
        )
        for wait in WAITS
    },
    "slow_in_fast_out": Policy(
        "builds in small orders, which the market may take for noise, and leaves in large ones; both sides in turn",
        NO_GAIN,
        alternating(105, _slow_in_fast_out),
        large=True,
    ),
    "fast_in_slow_out": Policy(
        "builds in large orders and leaves in small ones; both sides in turn",
        NO_GAIN,
        alternating(110, _fast_in_slow_out),
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
    "quote_stuffing": Policy(
        "20 orders of one share to and fro to stir the market, then the limit for 10 ticks; both sides in turn",
        LOSES,
        alternating(50, _stuffing),
    ),
    "wash_trading": Policy(
        "10 large orders to and fro to feign volume, then a position for 20 ticks; both sides in turn",
        LOSES,
        alternating(60, _washing),
        large=True,
    ),
    "tiny_orders": Policy("one share in, one share out, every tick", COMMISSION, scripted(_tiny)),
    "borrowed_shares": Policy("short to the limit for the whole episode", BORROW, scripted(_all_in, -1)),
    **twins("opening", "holds the limit over the first 100 ticks", _opening),
    **twins("clock", "holds one order over the first half of every 20 ticks", _clock),
    "imbalance_fade": Policy(
        "trades against the heavier side of the book, where makers want to get rid of inventory",
        NO_GAIN,
        entered(shown("f_book_imbalance", -1.0), 0.5, leave=0.0),
    ),
    "imbalance_cheap": Policy(
        "follows the heavier side of the book, entering only while the spread is one point", NO_GAIN, _cheap_imbalance
    ),
    "maker_inventory": Policy(
        "holds what the makers hold, who quote low to get rid of it; reads their books, which nobody can",
        informed("exact_value"),
        proportional(shown("maker_shares"), 1_500.0),
    ),
    "flow": Policy(
        "follows the sign of taken liquidity, averaged over a half-life of 30 ticks",
        NO_GAIN,
        entered(averaged(30.0, shown("f_net_order_flow")), 0.15, leave=0.0),
    ),
    "print_reversal": Policy(
        "trades towards the mid when the last price was more than 10 bp away from it",
        NO_GAIN,
        entered(shown("print_gap", -1.0), 0.001, leave=0.0),
    ),
    "jump_chase": Policy("follows moves of 3 usual ones for 20 ticks", NO_GAIN, held_after(20, standardised(1), 3.0)),
    "jump_fade": Policy(
        "fades moves of 3 usual ones for 20 ticks", NO_GAIN, held_after(20, standardised(1, -1.0), 3.0)
    ),
    "news_chase": Policy(
        "follows a headline for 30 ticks after it is public; prices take some time to digest one",
        informed("exact_value", 0.5),
        held_after(30, shown("headline"), NEWS),
    ),
    "news_sweep": Policy(
        "the same with large orders, against all that rests in the book when the headline comes",
        informed("exact_value", 0.5),
        held_after(30, shown("headline"), NEWS),
        large=True,
    ),
    "estimate_change": Policy(
        "follows recent changes of the public estimate that the price has not made",
        informed("exact_value"),
        proportional(_estimate_change, FULL_GAP),
    ),
    "estimate_mean": Policy(
        "averages the gap to the public estimate over a half-life of 50 ticks, and so its error",
        informed("exact_value"),
        proportional(averaged(50.0, shown("estimate_gap")), FULL_GAP),
    ),
}
