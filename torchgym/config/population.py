"""Who trades: the settings of each family of background traders."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from torchgym.config.validation import HalfLife, Range, Share, Within, check_fields, check_name, require, shown
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


@dataclass(frozen=True, kw_only=True)
class Family:
    """What every trader family has: how many per symbol, and a bound on the shares of one order.

    Settings of a family of your own are checked by their types too (`torchgym.config.validation`), unless its own `__post_init__`
    does not call this one.
    """

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
    threshold: Range[Gap] = (0.001, 0.006)  # gap (log) that makes them take a side, uniform
    belief_error: Gap = 0.02  # standard deviation of the belief's error (log), times exp(0.4 N(0,1))
    belief_memory: Share = 0.9  # share of the error kept at each act
    capacity: Capacity = 500.0  # shares held at a 3 % gap, times exp(0.5 N(0,1))
    size: Range[Size] = (4.0, 14.0)  # shares of a two-sided quiet order, uniform
    aggressive: Share = 0.5  # chance that a convinced trader takes liquidity at once
    start_inventory: Inventory = 60.0  # shares, standard deviation


@dataclass(frozen=True, kw_only=True)
class TrendFollowers(Family):
    """Moving-average crossing (even traders) and its signal-line variant (odd traders)."""

    count: Count = 24
    max_size: Shares = 20
    rate: Range[Rate] = (0.04, 0.12)
    lookback: Range[Lookback] = (6.0, 60.0)  # ticks, log-uniform
    gain: Range[Score] = (0.4, 1.0)
    capacity: Capacity = 50.0
    dead_zone: Score = 0.25
    market_share: Share = 0.6  # chance of a marketable order; else it joins the touch


@dataclass(frozen=True, kw_only=True)
class ReversionTraders(Family):
    """Fade departures from a moving average (even) or a lopsided run of returns (odd)."""

    count: Count = 16
    max_size: Shares = 20
    rate: Range[Rate] = (0.04, 0.12)
    lookback: Range[Lookback] = (10.0, 60.0)
    entry: Range[Score] = (1.0, 1.8)  # score at which they begin to trade
    capacity: Capacity = 150.0
    market_share: Share = 0.2


@dataclass(frozen=True, kw_only=True)
class NoiseTraders(Family):
    """Trade for reasons of their own, in sizes with a long tail."""

    count: Count = 50
    max_size: Shares = 150
    rate: Rate = 0.055
    size: Size = 8.0  # median shares
    market_share: Share = 0.8
    start_inventory: Inventory = 60.0


@dataclass(frozen=True, kw_only=True)
class Executors(Family):
    """Work large orders of Pareto size in small pieces."""

    count: Count = 12
    max_size: Shares = 300
    start_rate: Share = 0.02
    rate: Rate = 0.5
    parent: Range[Annotated[float, Within(1.0, 1e6)]] = (150.0, 10_000.0)  # shares, truncated Pareto
    exponent: Annotated[float, Within(1.01, 100.0)] = 1.5
    child: Range[Size] = (8.0, 30.0)  # typical shares of one piece, log-uniform
    market_share: Share = 0.9
    start_inventory: Inventory = 1_450.0


@dataclass(frozen=True, kw_only=True)
class NewsReactors(Family):
    """Read the headline, misjudge it a little, and trade on what is left of it."""

    count: Count = 10
    max_size: Shares = 40
    rate: Share = 0.15
    misjudgement: Annotated[float, Within(0.0, 10.0)] = 0.4
    capacity: Capacity = 250.0
    unwind_rate: Share = 0.03


@dataclass(frozen=True, kw_only=True)
class StopTraders(Family):
    """Hold a position between a stop-loss and a take-profit; their exits come all at once."""

    count: Count = 24
    max_size: Shares = 200
    rate: Rate = 0.008
    long_share: Share = 0.6
    size: Size = 40.0
    stop_loss: Range[Gap] = (0.008, 0.03)  # log, log-uniform
    take_profit: Range[Gap] = (0.01, 0.05)


@dataclass(frozen=True, kw_only=True)
class PairsTraders(Family):
    """Bet on two symbols' log-price spread returning to its mean; present with two or more symbols."""

    count: Count = 6
    max_size: Shares = 20
    rate: Share = 0.05
    lookback: Range[Lookback] = (100.0, 400.0)
    capacity: Capacity = 60.0
    entry: Score = 2.0
    exit: Score = 0.5


@dataclass(frozen=True, kw_only=True)
class SectorRotators(Family):
    """Shift holdings towards the sectors with the better news and returns; present with two or more sectors."""

    count: Count = 4
    max_size: Shares = 20
    rate: Share = 0.02
    capacity: Capacity = 200.0
    tilt: Share = 0.3


@dataclass(frozen=True, kw_only=True)
class Makers(Family):
    """Quote both sides every tick around a common reference price that follows the auctions' surprises."""

    count: Count = 12
    max_size: Shares = 60
    depth: Range[Annotated[float, Within(0.01, 100.0)]] = (
        1.0,
        8.0,
    )  # distance of the quote in half-spread units, geometric grid over makers
    size: Range[Size] = (5.0, 14.0)
    limit: Annotated[float, Within(1.0, 2**23)] = 500.0  # inventory in shares at which a maker stops adding
    base_width: Annotated[float, Within(0.0, 1e3)] = 3.0  # points
    volatility_width: Annotated[float, Within(0.0, 5.0)] = 0.22  # of the one-tick standard deviation in points
    news_width: Annotated[float, Within(0.0, 10.0)] = (
        0.5  # wider by this share when an event has just begun, fading while it lasts
    )
    surprise_gain: Annotated[float, Within(0.0, 2.0)] = 0.80
    # The gain goes with the market's activity to this power: the busier it is, the more of a surprise is noise.
    gain_elasticity: Annotated[float, Within(-2.0, 2.0)] = -0.2
    # Means of past surprises, by half-life in ticks, and the shares of them that were to be expected again.
    expectation_half_lives: tuple[HalfLife, HalfLife, HalfLife] = (1.0, 9.0, 80.0)
    expectation_weights: tuple[Share, Share, Share] = (0.25, 0.36, 0.30)
    # Standard deviations of a tick that a trade of the usual volume is worth to makers; it goes with the root of the size.
    trade_impact: Annotated[float, Within(0.0, 10.0)] = 0.55
    start_inventory: Inventory = 170.0


# The settings of each family. One of your own takes a row here, for its settings, and one in `torchgym.sim.traders.TRADERS`, for
# what it does; `Population.others` lets it in.
FAMILIES: Table[type[Family]] = Table(
    "family",
    {
        "value": ValueTraders,
        "trend": TrendFollowers,
        "reversion": ReversionTraders,
        "noise": NoiseTraders,
        "executor": Executors,
        "news": NewsReactors,
        "stop": StopTraders,
        "pairs": PairsTraders,
        "rotator": SectorRotators,
        "maker": Makers,
    },
)


@dataclass(frozen=True, kw_only=True)
class Population:
    """All background traders of one symbol.

    Raises:
        ValueError: at construction, for settings of the wrong class, or a family in `others` that is not in `FAMILIES`.
    """

    value: ValueTraders = field(default_factory=ValueTraders)
    trend: TrendFollowers = field(default_factory=TrendFollowers)
    reversion: ReversionTraders = field(default_factory=ReversionTraders)
    noise: NoiseTraders = field(default_factory=NoiseTraders)
    executor: Executors = field(default_factory=Executors)
    news: NewsReactors = field(default_factory=NewsReactors)
    stop: StopTraders = field(default_factory=StopTraders)
    pairs: PairsTraders = field(default_factory=PairsTraders)
    rotator: SectorRotators = field(default_factory=SectorRotators)
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
                isinstance(family, kind),
                f"the family {name!r} must have settings of {kind.__name__}, got {shown(family)}",
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
