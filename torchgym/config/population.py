"""Who trades: the settings of each family of background traders."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from torchgym.config.validation import (
    Chance,
    HalfLife,
    Range,
    Settings,
    Share,
    Within,
    check_fields,
    check_name,
    full_name,
    require,
    shown,
)
from torchgym.table import Table

# What settings are measured in, with the bounds in which every formula of `torchgym.sim.traders` stays finite and every float32
# that stands for an integer exact.
Count = Annotated[int, Within(0, 2**24)]
Shares = Annotated[int, Within(1, 2**23)]
Rate = Annotated[
    float, Within(0.0, 100.0)
]  # chance to act per tick at normal activity; above 1 it is one in quiet markets too
Size = Annotated[float, Within(0.0, 1e6)]  # shares
Inventory = Annotated[float, Within(0.0, 1e6)]  # shares, standard deviation
Capacity = Annotated[float, Within(10.0, 1e6)]  # shares; a trader's own is a fifteenth or more, and divided by
Gap = Annotated[float, Within(0.0, 1.0)]  # log price
Score = Annotated[float, Within(0.0, 1e3)]
Lookback = Annotated[float, Within(1.0, 1e6)]  # ticks
Life = Annotated[float, Within(0.0, 1e6)]  # ticks that an order rests, rounded down; 0 is immediate-or-cancel
Factor = Annotated[float, Within(0.0, 100.0)]  # multiplies something that is drawn per trader
Spread = Annotated[float, Within(0.0, 2.0)]  # standard deviation of a logarithm over traders or orders
Expected = Annotated[float, Within(-1.0, 1.0, even=True)]
HalfLives = tuple[HalfLife, HalfLife, HalfLife, HalfLife, HalfLife, HalfLife]
Expectations = tuple[Expected, Expected, Expected, Expected, Expected, Expected]
Lean = Annotated[float, Within(0.0, 0.5, even=True)]  # how far the chance to buy departs from 1/2 at most


@dataclass(frozen=True, kw_only=True)
class Family(Settings):
    """What every trader family has: how many per symbol, and a bound on the shares of one order.

    Numbers of a family of your own are data as well (`params.population.<name>.<setting>`), but those named in `STRUCTURE`.
    Settings are checked by their types (`torchgym.config.validation`), unless the family's own `__post_init__` does not call
    this one.
    """

    STRUCTURE: ClassVar[tuple[str, ...]] = ("count",)  # settings that shape tensors; all other numbers are data

    count: Count
    max_size: Shares

    def __post_init__(self) -> None:
        for declared in (type(self), Family):  # a subclass may call its count a plain integer
            check_fields(self, declared, f"{type(self).__name__}.")


@dataclass(frozen=True, kw_only=True)
class ValueTraders(Family):
    """Trade the gap between their own noisy belief about value and the price."""

    count: Count = 50
    max_size: Shares = 25
    rate: Range[Rate] = (0.02, 0.10)  # chance to act per tick, log-uniform over traders
    rate_factor: Factor = 1.0
    threshold: Range[Gap] = (0.001, 0.006)  # gap (log) that makes them take a side, uniform
    belief_error: Gap = 0.02  # standard deviation of the belief's error (log), median over traders
    belief_error_spread: Spread = 0.4
    belief_memory: Share = 0.9  # share of the error kept at each act
    full_gap: Annotated[float, Within(1e-4, 1.0)] = 0.03  # gap (log) at which a trader wants its whole capacity
    capacity: Capacity = 500.0  # shares, median over traders
    capacity_spread: Spread = 0.5
    urgency: Share = 0.35  # share of what the gap is worth that one order asks for
    size: Range[Size] = (4.0, 14.0)  # shares of a two-sided quiet order, uniform
    aggressive: Share = 0.2  # chance that a convinced trader takes liquidity at once
    patience: Annotated[float, Within(0.0, 100.0)] = 5.0  # mean distance behind the touch of the others, half-spreads
    margin: Share = 0.5  # of the threshold, that a convinced trader wants to earn; a quiet one wants the whole
    life: Range[Life] = (20.0, 120.0)  # ticks of a quiet order, uniform
    patient_life: Share = 0.3  # of that, for a patient order
    start_inventory: Inventory = 60.0  # shares, standard deviation


@dataclass(frozen=True, kw_only=True)
class TrendFollowers(Family):
    """Moving-average crossing (even traders) and its signal-line variant (odd traders)."""

    count: Count = 24
    max_size: Shares = 20
    rate: Range[Rate] = (0.04, 0.12)
    rate_factor: Factor = 1.0
    lookback: Range[Lookback] = (6.0, 60.0)  # ticks of the fast average, log-uniform
    slow: Annotated[float, Within(1.0, 1e3)] = 3.5  # lookback of the slow average, in fast ones
    signal: Annotated[float, Within(0.01, 1e3)] = 0.7  # lookback of the signal line, in fast ones
    gain: Range[Score] = (0.4, 1.0)
    capacity: Capacity = 50.0
    dead_zone: Score = 0.25
    least_size: Size = 3.0  # shares; smaller gaps to the target are left
    market_share: Share = 0.6  # chance of a marketable order; else it joins the touch
    life: Life = 4.0  # there


@dataclass(frozen=True, kw_only=True)
class ReversionTraders(Family):
    """Fade departures from a moving average (even) or a lopsided run of returns (odd)."""

    count: Count = 16
    max_size: Shares = 20
    rate: Range[Rate] = (0.04, 0.12)
    rate_factor: Factor = 1.0
    lookback: Range[Lookback] = (10.0, 60.0)
    run_score: Score = 4.0  # of a run of returns all one way
    start_run: Annotated[float, Within(1e-9, 1.0)] = 3e-4  # opening mean of up moves and of down moves
    entry: Range[Score] = (1.0, 1.8)  # score at which they begin to trade
    capacity: Capacity = 150.0
    least_size: Size = 3.0
    market_share: Share = 0.2
    life: Life = 6.0


@dataclass(frozen=True, kw_only=True)
class NoiseTraders(Family):
    """Trade for reasons of their own, in sizes with a long tail."""

    count: Count = 50
    max_size: Shares = 150
    rate: Rate = 0.055
    size: Size = 4.5  # median shares; lognormal with a unit deviation
    lean: Lean = 0.45  # the chance to buy falls by this as the inventory grows to full_inventory
    full_inventory: Capacity = 300.0
    market_share: Share = 0.8
    tail: Annotated[float, Within(0.0, 100.0)] = 1.5  # mean distance of the other orders, one-tick deviations
    inside: Annotated[float, Within(0.0, 0.5, even=True)] = 0.25  # of the spread, that they may improve on the touch
    life: Life = 2.0  # ticks, and a share of the mean time between two acts
    life_spread: Annotated[float, Within(0.0, 1e3)] = 10.0
    start_inventory: Inventory = 60.0


@dataclass(frozen=True, kw_only=True)
class MetaOrders(Family):
    """Work large orders of Pareto size in small pieces."""

    count: Count = 12
    max_size: Shares = 300
    start_rate: Chance = 0.6
    start_share: Share = 0.5  # of them that work an order when a market opens
    rate: Rate = 1.5
    pieces: Range[Annotated[float, Within(1.0, 1e6)]] = (1.0, 1_000.0)  # of a parent order, truncated Pareto
    exponent: Annotated[float, Within(1.01, 100.0)] = 1.5
    child: Annotated[float, Within(1.0, 1e6)] = 45.0  # typical shares of a piece of the largest one
    concentration: Annotated[float, Within(0.0, 10.0)] = (
        0.9  # the k-th largest sends k to minus this power times as much
    )
    child_spread: Spread = 0.4
    lean: Lean = 0.45
    full_inventory: Capacity = 6_000.0
    market_share: Share = 1.0
    life: Life = 2.0  # at the touch
    start_inventory: Inventory = 1_450.0


@dataclass(frozen=True, kw_only=True)
class NewsReactors(Family):
    """Read the headline, misjudge it a little, and trade on what is left of it."""

    count: Count = 10
    max_size: Shares = 40
    rate: Chance = 0.15
    misjudgement: Annotated[float, Within(0.0, 10.0)] = 0.4
    interest: Share = 0.5  # least ticks of interest, in durations of the event; at most one duration more
    full_gap: Annotated[float, Within(1e-4, 1.0)] = 0.02  # gap (log) at which a trader wants its whole capacity
    threshold: Gap = 0.002  # gap (log) below which they rest
    margin: Gap = 0.001  # log, that they want to earn
    capacity: Capacity = 170.0
    urgency: Share = 0.3
    unwind_rate: Chance = 0.03


@dataclass(frozen=True, kw_only=True)
class StopTraders(Family):
    """Hold a position between a stop-loss and a take-profit; their exits come all at once."""

    count: Count = 24
    max_size: Shares = 200
    rate: Rate = 0.008
    long_share: Share = 0.6
    size: Size = 28.0
    size_spread: Spread = 0.5
    start_share: Share = 0.5  # of them that hold a position when a market opens
    start_size: Annotated[float, Within(0.0, 2.0**23)] = 28.0  # shares, whole
    stop_loss: Range[Gap] = (0.008, 0.03)  # log, log-uniform
    take_profit: Range[Gap] = (0.01, 0.05)
    # Both widen with the volatility over the usual return times the first number, between the two bounds.
    usual_stretch: Annotated[float, Within(0.01, 100.0)] = 1.2
    stretch: Range[Annotated[float, Within(0.0, 100.0)]] = (0.6, 2.5)


@dataclass(frozen=True, kw_only=True)
class PairsTraders(Family):
    """Bet on two symbols' log-price spread returning to its mean; present with two or more symbols."""

    count: Count = 6
    max_size: Shares = 20
    rate: Chance = 0.05
    lookback: Range[Lookback] = (100.0, 400.0)
    start_variance: Annotated[float, Within(1e-12, 1.0)] = 1e-4  # of the spread (log), when a market opens
    capacity: Capacity = 60.0
    entry: Score = 2.0
    exit: Score = 0.5
    least_size: Size = 3.0


@dataclass(frozen=True, kw_only=True)
class SectorRotators(Family):
    """Shift holdings towards the sectors with the better news and returns; present with two or more sectors."""

    count: Count = 4
    max_size: Shares = 20
    rate: Chance = 0.02
    half_life: HalfLife = 50.0  # ticks, of the mean return
    return_weight: Annotated[float, Within(0.0, 1e3)] = 50.0  # of the mean return in a sector's score
    news_weight: Annotated[float, Within(0.0, 1e3)] = 0.01  # of its mood
    capacity: Capacity = 200.0
    tilt: Share = 0.3
    urgency: Share = 0.1


@dataclass(frozen=True, kw_only=True)
class Takers(Family):
    """Come by chance and take up to a limit of their own; only in markets that ask for them."""

    count: Count = 0
    max_size: Shares = 1
    rate: Chance = 0.28  # to come in a tick
    size: Size = 1.0  # shares
    decay: Annotated[float, Within(1e-3, 10.0)] = (
        0.15  # per point: the limit is so far from the mid or further, exp(-decay d)
    )


@dataclass(frozen=True, kw_only=True)
class Makers(Family):
    """Quote both sides every tick around a common reference price that follows the auctions' surprises."""

    STRUCTURE: ClassVar[tuple[str, ...]] = ("count", "grid")

    count: Count = 12
    max_size: Shares = 60
    # Distance of the quote in half-spreads, from the first maker to the last: each step the same ratio, or the same difference.
    grid: Literal["geometric", "even"] = "geometric"
    depth: Range[Annotated[float, Within(0.01, 100.0)]] = (1.0, 8.0)
    depth_spread: Spread = 0.15
    size: Range[Size] = (6.5, 18.0)
    size_power: Annotated[float, Within(0.0, 2.0)] = 0.5  # sizes go with the distance to this power
    limit: Annotated[float, Within(1.0, 2**23)] = 650.0  # inventory in shares at which a maker stops adding
    skew: Annotated[float, Within(0.0, 100.0)] = 1.5  # half-spreads that the quotes shift at full inventory
    base_width: Annotated[float, Within(0.0, 1e3)] = 3.0  # points
    volatility_width: Annotated[float, Within(0.0, 5.0)] = 0.22  # of the one-tick standard deviation in points
    width_elasticity: Annotated[float, Within(-2.0, 2.0, even=True)] = 0.7  # width goes with activity to this power
    # Wider by this share when an event has just begun, fading while it lasts.
    news_width: Annotated[float, Within(0.0, 10.0)] = 0.5
    volatility_bounds: Range[Annotated[float, Within(1e-6, 0.1)]] = (2e-4, 0.02)  # of one tick, that makers believe
    surprise_gain: Annotated[float, Within(0.0, 2.0, even=True)] = 0.87
    # The gain goes with the market's activity to this power: the busier it is, the more of a surprise is noise.
    gain_elasticity: Annotated[float, Within(-2.0, 2.0, even=True)] = -0.2
    # Surprises are cut, smoothly, at so many one-tick deviations and so many points.
    surprise_cap: Annotated[float, Within(0.0, 1e3)] = 5.0
    surprise_cap_points: Annotated[float, Within(1e-3, 1e3)] = 1.0
    pull: Annotated[float, Within(0.0, 1.0)] = (
        0.04  # of the reference's distance from the mid, that each tick takes back
    )
    # The reference may stand so many half-spreads off the mid; the given share of what lies beyond is taken back.
    band: Annotated[float, Within(0.0, 1e3)] = 3.0
    band_pull: Share = 0.5
    # Means of past surprises, by half-life in ticks, and the shares of them that were to be expected again.
    expectation_half_lives: HalfLives = (0.6, 4.0, 16.0, 64.0, 256.0, 1024.0)
    expectation_weights: Expectations = (0.454, 0.089, 0.308, 0.092, -0.012, 0.013)
    # Standard deviations of a tick that a trade of the usual volume is worth to makers; it goes with the root of the size.
    trade_impact: Annotated[float, Within(0.0, 10.0)] = 0.55
    start_inventory: Inventory = 170.0
    start_inventory_own: Annotated[float, Within(0.0, 10.0)] = 0.5  # deviation of a maker's own part, in common ones


# The settings of each family. One of your own takes a row here, for its settings, and one in `torchgym.sim.traders.TRADERS`, for
# what it does; `Population.others` lets it in.
FAMILIES: Table[type[Family]] = Table(
    "family",
    {
        "value": ValueTraders,
        "trend": TrendFollowers,
        "reversion": ReversionTraders,
        "noise": NoiseTraders,
        "meta_order": MetaOrders,
        "news": NewsReactors,
        "stop": StopTraders,
        "pairs": PairsTraders,
        "rotator": SectorRotators,
        "taker": Takers,
        "maker": Makers,
    },
)


@dataclass(frozen=True, kw_only=True)
class Population(Settings):
    """All background traders of one symbol.

    Raises:
        ValueError: at construction, for settings of the wrong class, or a family in `others` that is not in `FAMILIES`.
    """

    value: ValueTraders = field(default_factory=ValueTraders)
    trend: TrendFollowers = field(default_factory=TrendFollowers)
    reversion: ReversionTraders = field(default_factory=ReversionTraders)
    noise: NoiseTraders = field(default_factory=NoiseTraders)
    meta_order: MetaOrders = field(default_factory=MetaOrders)
    news: NewsReactors = field(default_factory=NewsReactors)
    stop: StopTraders = field(default_factory=StopTraders)
    pairs: PairsTraders = field(default_factory=PairsTraders)
    rotator: SectorRotators = field(default_factory=SectorRotators)
    taker: Takers = field(default_factory=Takers)
    maker: Makers = field(default_factory=Makers)
    others: Mapping[str, Family] = field(default_factory=dict, hash=False)  # families of your own, by name

    def __post_init__(self) -> None:
        require(
            isinstance(self.others, Mapping), f"Population.others must map names to settings, got {shown(self.others)}"
        )
        object.__setattr__(self, "others", dict(self.others))
        own = [entry.name for entry in dataclasses.fields(self) if entry.name != "others"]
        for name in self.others:
            check_name("each name in Population.others", name)
            require(name not in own, f"Population.others may not name {name!r}: that family is Population.{name}")
        for name, family in self.families.items():
            kind = family_kind(name)
            require(
                type(family) is kind,  # the class says which numbers a compiled market is given
                f"the family {name!r} must have settings of {full_name(kind)}, got {shown(family)}",
            )

    @property
    def families(self) -> dict[str, Family]:
        """The settings of every family by name: those of the class in its order, then the others."""
        own = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self) if entry.name != "others"}
        return {**own, **self.others}


def family_kind(name: str) -> type[Family]:
    """The class of a family's settings.

    Raises:
        ValueError: for a name that is not in `FAMILIES`, naming the remedy, or one that is no class of settings there.
    """
    check_name("each name in Population.others", name)
    require(
        name in FAMILIES,
        f"Population.others: unknown family {name!r}: import the module that sets torchgym.config.FAMILIES[{name!r}], or choose"
        f" from {', '.join(FAMILIES)}",
    )
    kind = FAMILIES[name]
    require(
        isinstance(kind, type) and issubclass(kind, Family),
        f"torchgym.config.FAMILIES[{name!r}] must be a subclass of Family, got {kind!r}",
    )
    return kind
