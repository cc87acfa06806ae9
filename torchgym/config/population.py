"""Who trades: the settings of each family of background traders."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torchgym.config.validation import check_count, check_number, check_numbers, check_range, require
from torchgym.table import Table

# Bounds of settings that are divided by, or whose law needs them; the others are any numbers from 0 up.
_BOUNDS = {
    "capacity": (10.0, math.inf),
    "lookback": (1.0, math.inf),
    "limit": (1.0, math.inf),
    "depth": (0.01, math.inf),
    "parent": (1.0, math.inf),
    "exponent": (1.01, math.inf),
    "gain_elasticity": (-2.0, 2.0),
    "expectation_half_lives": (1e-3, math.inf),
    "expectation_weights": (0.0, 1.0),
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """What every trader family has: how many per symbol, and a bound on the shares of one order.

    Settings of a family of your own are checked by its own `__post_init__`, which calls this one.
    """

    count: int
    max_size: int

    def __post_init__(self) -> None:
        check_count(f"{type(self).__name__}.count", self.count)
        check_count(f"{type(self).__name__}.max_size", self.max_size, low=1)


@dataclass(frozen=True, kw_only=True)
class _Bounded(Family):
    """A family all of whose settings are numbers within bounds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for entry in dataclasses.fields(self):
            name, value = f"{type(self).__name__}.{entry.name}", getattr(self, entry.name)
            low, high = _BOUNDS.get(entry.name, (0.0, math.inf))
            if isinstance(entry.default, tuple) and len(entry.default) > 2:
                check_numbers(name, value, len(entry.default), low, high)
            elif isinstance(value, tuple):
                check_range(name, value, low)
            else:
                check_number(name, value, low, high)


@dataclass(frozen=True, kw_only=True)
class ValueTraders(_Bounded):
    """Trade the gap between their own noisy belief about value and the price."""

    count: int = 50
    max_size: int = 25
    rate: tuple[float, float] = (0.02, 0.10)  # chance to act per tick, log-uniform over traders
    threshold: tuple[float, float] = (0.001, 0.006)  # gap (log) that makes them take a side, uniform
    belief_error: float = 0.02  # standard deviation of the belief's error (log), times exp(0.4 N(0,1))
    belief_memory: float = 0.9  # share of the error kept at each act
    capacity: float = 500.0  # shares held at a 3 % gap, times exp(0.5 N(0,1))
    size: tuple[float, float] = (4.0, 14.0)  # shares of a two-sided quiet order, uniform
    aggressive: float = 0.5  # chance that a convinced trader takes liquidity at once
    start_inventory: float = 60.0  # shares, standard deviation


@dataclass(frozen=True, kw_only=True)
class TrendFollowers(_Bounded):
    """Moving-average crossing (even traders) and its signal-line variant (odd traders)."""

    count: int = 24
    max_size: int = 20
    rate: tuple[float, float] = (0.04, 0.12)
    lookback: tuple[float, float] = (6.0, 60.0)  # ticks, log-uniform
    gain: tuple[float, float] = (0.4, 1.0)
    capacity: float = 50.0
    dead_zone: float = 0.25
    market_share: float = 0.6  # chance of a marketable order; else it joins the touch


@dataclass(frozen=True, kw_only=True)
class ReversionTraders(_Bounded):
    """Fade departures from a moving average (even) or a lopsided run of returns (odd)."""

    count: int = 16
    max_size: int = 20
    rate: tuple[float, float] = (0.04, 0.12)
    lookback: tuple[float, float] = (10.0, 60.0)
    entry: tuple[float, float] = (1.0, 1.8)  # score at which they begin to trade
    capacity: float = 150.0
    market_share: float = 0.2


@dataclass(frozen=True, kw_only=True)
class NoiseTraders(_Bounded):
    """Trade for reasons of their own, in sizes with a long tail."""

    count: int = 50
    max_size: int = 150
    rate: float = 0.055
    size: float = 8.0  # median shares
    market_share: float = 0.8
    start_inventory: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Executors(_Bounded):
    """Work large orders of Pareto size in small pieces."""

    count: int = 12
    max_size: int = 300
    start_rate: float = 0.02
    rate: float = 0.5
    parent: tuple[float, float] = (150.0, 10_000.0)  # shares, truncated Pareto
    exponent: float = 1.5
    child: tuple[float, float] = (8.0, 30.0)  # typical shares of one piece, log-uniform
    market_share: float = 0.9
    start_inventory: float = 1_450.0


@dataclass(frozen=True, kw_only=True)
class NewsReactors(_Bounded):
    """Read the headline, misjudge it a little, and trade on what is left of it."""

    count: int = 10
    max_size: int = 40
    rate: float = 0.15
    misjudgement: float = 0.4
    capacity: float = 250.0
    unwind_rate: float = 0.03


@dataclass(frozen=True, kw_only=True)
class StopTraders(_Bounded):
    """Hold a position between a stop-loss and a take-profit; their exits come all at once."""

    count: int = 24
    max_size: int = 200
    rate: float = 0.008
    long_share: float = 0.6
    size: float = 40.0
    stop_loss: tuple[float, float] = (0.008, 0.03)  # log, log-uniform
    take_profit: tuple[float, float] = (0.01, 0.05)


@dataclass(frozen=True, kw_only=True)
class PairsTraders(_Bounded):
    """Bet on two symbols' log-price spread returning to its mean; present with two or more symbols."""

    count: int = 6
    max_size: int = 20
    rate: float = 0.05
    lookback: tuple[float, float] = (100.0, 400.0)
    capacity: float = 60.0
    entry: float = 2.0
    exit: float = 0.5


@dataclass(frozen=True, kw_only=True)
class SectorRotators(_Bounded):
    """Shift holdings towards the sectors with the better news and returns; present with two or more sectors."""

    count: int = 4
    max_size: int = 20
    rate: float = 0.02
    capacity: float = 200.0
    tilt: float = 0.3


@dataclass(frozen=True, kw_only=True)
class Makers(_Bounded):
    """Quote both sides every tick around a common reference price that follows the auctions' surprises."""

    count: int = 12
    max_size: int = 60
    depth: tuple[float, float] = (1.0, 8.0)  # distance of the quote in half-spread units, geometric grid over makers
    size: tuple[float, float] = (5.0, 14.0)
    limit: float = 500.0  # inventory in shares at which a maker stops adding
    base_width: float = 3.0  # points
    volatility_width: float = 0.22  # of the one-tick standard deviation in points
    news_width: float = 0.5  # wider by this share when an event has just begun, fading while it lasts
    surprise_gain: float = 0.80
    # The gain goes with the market's activity to this power: the busier it is, the more of a surprise is noise.
    gain_elasticity: float = -0.2
    # Means of past surprises, by half-life in ticks, and the shares of them that were to be expected again.
    expectation_half_lives: tuple[float, float, float] = (1.0, 9.0, 80.0)
    expectation_weights: tuple[float, float, float] = (0.25, 0.36, 0.30)
    # Standard deviations of a tick that a trade of the usual volume is worth to makers; it goes with the root of the size.
    trade_impact: float = 0.55
    start_inventory: float = 170.0


# The settings of each family. One of your own takes a row here, for its settings, and one in `torchgym.traders.TRADERS`, for
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
        require(isinstance(self.others, Mapping), f"Population.others must map names to settings, got {self.others!r}")
        object.__setattr__(self, "others", dict(self.others))
        own = [entry.name for entry in dataclasses.fields(self) if entry.name != "others"]
        for name in self.others:
            require(name not in own, f"Population.others may not name {name!r}: that family is Population.{name}")
            kind = family_kind(name)
            require(
                isinstance(kind, type) and issubclass(kind, Family),
                f"torchgym.config.FAMILIES[{name!r}] must be a subclass of Family, got {kind!r}",
            )
        for name, family in self.families.items():
            kind = FAMILIES[name]
            require(
                isinstance(family, kind), f"the family {name!r} must have settings of {kind.__name__}, got {family!r}"
            )

    @property
    def families(self) -> dict[str, Family]:
        """The settings of every family by name: those of the class in its order, then the others."""
        own = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self) if entry.name != "others"}
        return {**own, **self.others}


def family_kind(name: str) -> type[Family]:
    """The class of a family's settings.

    Raises:
        ValueError: for a name that is not in `FAMILIES`, naming the remedy.
    """
    require(
        name in FAMILIES,
        f"unknown family {name!r}: import the module that sets torchgym.config.FAMILIES[{name!r}], or choose from"
        f" {', '.join(FAMILIES)}",
    )
    return FAMILIES[name]
