"""Scripted traders that a sound market must treat in a known way: one row of `BASIC` each.

The rules are textbook ones, on purpose without a search over their settings: a rule fitted until it paid would show the fit.

Sources: Brock, Lakonishok and LeBaron 1992 (moving-average and range rules as tests of a market); Wilder 1978 (relative
strength); Cartea, Donnelly and Jaimungal 2018 (book imbalance); Allen and Gale 1992 (pump and dump: manipulation by trades
alone).
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchgym.lab.audit.policy import (
    CLEAR_GAP,
    FULL_GAP,
    Act,
    Memory,
    Policy,
    averaged,
    entered,
    proportional,
    scripted,
    shown,
    standardised,
    twins,
)
from torchgym.lab.audit.scene import Scene, kept, lean
from torchgym.lab.audit.verdicts import LOSES, NO_GAIN, NOTHING, earns, earns_clearly, informed, loses_with, round_trip


def _hold(scene: Scene, memory: Memory) -> Tensor:
    return torch.zeros_like(scene.held)


def _round_trip(scene: Scene) -> int:
    """One order in at every twentieth tick, out at the next."""
    return scene.order if scene.now % 20 == 0 else 0


def _all_in(scene: Scene) -> int:
    return scene.limit


def _flip_flop(scene: Scene) -> int:
    """As far as one order reaches from side to side."""
    return (scene.order // 2 or 1) * (1 - 2 * (scene.now % 2))


def _random(scene: Scene, memory: Memory) -> Tensor:
    return (torch.floor(3.0 * scene["luck"]).to(torch.int64) - 1) * scene.order


def _pump_and_hold(scene: Scene) -> int:
    """Up to the limit as fast as orders allow, kept for 100 ticks, out as fast; every 200 ticks."""
    return scene.limit if scene.now % 200 < 100 + scene.limit // scene.order else 0


def _pump_and_dump(scene: Scene) -> int:
    """Up to the limit as fast as orders allow, and out the moment it is reached; every 100 ticks."""
    return scene.limit if scene.now % 100 < scene.limit // scene.order else 0


def _rsi(scene: Scene, memory: Memory) -> Tensor:
    """Buys below 30, sells above 70, is out again at 50."""
    index, now = scene["f_rsi_8"], kept(scene)
    stay = torch.where((index - 50.0) * now > 0.0, 0.0, now)
    return lean(scene, torch.where(index < 30.0, 1.0, torch.where(index > 70.0, -1.0, stay)))


def _trend(lookback: int) -> Act:
    return entered(standardised(lookback), 1.0)


def _fade(lookback: int) -> Act:
    return entered(standardised(lookback, -1.0), 1.0)


BASIC: dict[str, Policy] = {
    "hold": Policy("never trades", NOTHING, _hold),
    "round_trip_buy_first": Policy(
        "buys one order, sells it a tick later; every 20 ticks",
        round_trip("round_trip_sell_first"),
        scripted(_round_trip),
    ),
    "round_trip_sell_first": Policy(
        "sells one order, buys it back a tick later; every 20 ticks",
        round_trip("round_trip_buy_first"),
        scripted(_round_trip, -1),
    ),
    "always_buy": Policy("buys to the limit and holds it", loses_with("always_sell"), scripted(_all_in)),
    "always_sell": Policy("sells to the limit and holds it", loses_with("always_buy"), scripted(_all_in, -1)),
    "flip_flop": Policy("from long to short and back, one order each tick", LOSES, scripted(_flip_flop)),
    "random": Policy("buys, holds or sells one order by chance", LOSES, _random),
    **twins("pump_and_hold", "drives the price to the limit, holds 100 ticks, unwinds", _pump_and_hold),
    **twins("pump_and_dump", "drives the price to the limit, unwinds at once", _pump_and_dump),
    **twins("large_pump_and_hold", "the same with orders and limit of a large trader", _pump_and_hold, large=True),
    **twins("large_pump_and_dump", "the same with orders and limit of a large trader", _pump_and_dump, large=True),
    "momentum_6": Policy("follows returns over 6 ticks beyond a usual move", NO_GAIN, _trend(6)),
    "momentum_24": Policy("follows returns over 24 ticks beyond a usual move", NO_GAIN, _trend(24)),
    "momentum_64": Policy("follows returns over 64 ticks beyond a usual move", NO_GAIN, _trend(64)),
    "reversion_6": Policy("fades returns over 6 ticks beyond a usual move", NO_GAIN, _fade(6)),
    "reversion_24": Policy("fades returns over 24 ticks beyond a usual move", NO_GAIN, _fade(24)),
    "reversion_64": Policy("fades returns over 64 ticks beyond a usual move", NO_GAIN, _fade(64)),
    "rsi": Policy("buys when the relative strength index is below 30, sells above 70, out at 50", NO_GAIN, _rsi),
    "imbalance": Policy(
        "follows the heavier side of the book", NO_GAIN, entered(shown("f_book_imbalance"), 0.5, leave=0.0)
    ),
    "imbalance_mean": Policy(
        "follows the heavier side of the book, averaged over a half-life of 10 ticks",
        NO_GAIN,
        entered(averaged(10.0, shown("f_book_imbalance")), 0.3, leave=0.0),
    ),
    "value_estimate": Policy(
        "goes to the limit where the public estimate of value is 0.6 % from the price, and stays until it says otherwise",
        earns("exact_value"),
        entered(shown("estimate_gap"), CLEAR_GAP),
    ),
    "exact_value": Policy(
        "the same with the exact value, which nobody in the market knows",
        earns_clearly("value_estimate"),
        entered(shown("exact_gap"), CLEAR_GAP),
    ),
    "value_estimate_leaning": Policy(
        "holds a position in proportion to the gap of the estimate: the same knowledge, traded five times as much",
        informed("exact_value"),
        proportional(shown("estimate_gap"), FULL_GAP),
    ),
}
