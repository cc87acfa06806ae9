"""What a market is made of: frozen, validated settings and the named presets.

Numbers here are plain Python values. Those that may differ from market to market become `[N]` tensors in
`torchgym.state.MarketParams`; the others are constants of the compiled tick.

Units: prices in points, quantities in shares, time in ticks, log prices and their changes as fractions. One tick stands for
about a minute of trading: at the defaults a one-tick return has a standard deviation near 0.1 %.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

_MAX_SHARES = 2**24  # integer-valued float32 is exact below this, and the auction sums shares in float32
_MAX_CASH = 2**53  # integer-valued float64 is exact below this
# Settings of the families that are divided by, or whose law needs it.
_LOWEST = {"capacity": 10.0, "lookback": 1.0, "limit": 1.0, "depth": 0.01, "parent": 1.0, "exponent": 1.01}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_count(name: str, value: object, low: int = 0) -> None:
    _require(
        isinstance(value, int) and not isinstance(value, bool) and value >= low,
        f"{name} must be an integer >= {low}, got {value!r}",
    )


def _check_number(name: str, value: object, low: float, high: float = math.inf) -> None:
    _require(
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high,
        f"{name} must be a finite number in [{low}, {high}], got {value!r}",
    )


def _check_range(name: str, value: tuple[float, float], low: float) -> None:
    _require(isinstance(value, tuple) and len(value) == 2, f"{name} must be a (low, high) pair, got {value!r}")
    _check_number(f"{name}[0]", value[0], low)
    _check_number(f"{name}[1]", value[1], value[0])


@dataclass(frozen=True, kw_only=True)
class Family:
    """What every trader family has: how many per symbol, and a bound on the shares of one order."""

    count: int
    max_size: int

    def __post_init__(self) -> None:
        _check_count(f"{type(self).__name__}.count", self.count)
        _check_count(f"{type(self).__name__}.max_size", self.max_size, low=1)
        for entry in dataclasses.fields(self):
            value, low = getattr(self, entry.name), _LOWEST.get(entry.name, 0.0)
            if isinstance(value, tuple):
                _check_range(f"{type(self).__name__}.{entry.name}", value, low)
            else:
                _check_number(f"{type(self).__name__}.{entry.name}", value, low)


@dataclass(frozen=True, kw_only=True)
class ValueTraders(Family):
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
class TrendFollowers(Family):
    """Moving-average crossing (even traders) and its signal-line variant (odd traders)."""

    count: int = 24
    max_size: int = 20
    rate: tuple[float, float] = (0.04, 0.12)
    lookback: tuple[float, float] = (6.0, 60.0)  # ticks, log-uniform
    gain: tuple[float, float] = (0.4, 1.0)
    capacity: float = 150.0
    dead_zone: float = 0.25
    market_share: float = 0.6  # chance of a marketable order; else it joins the touch


@dataclass(frozen=True, kw_only=True)
class ReversionTraders(Family):
    """Fade departures from a moving average (even) or a lopsided run of returns (odd)."""

    count: int = 16
    max_size: int = 20
    rate: tuple[float, float] = (0.04, 0.12)
    lookback: tuple[float, float] = (10.0, 60.0)
    entry: tuple[float, float] = (1.0, 1.8)  # score at which they begin to trade
    capacity: float = 150.0
    market_share: float = 0.2


@dataclass(frozen=True, kw_only=True)
class NoiseTraders(Family):
    """Trade for reasons of their own, in sizes with a long tail."""

    count: int = 50
    max_size: int = 150
    rate: float = 0.055
    size: float = 8.0  # median shares
    market_share: float = 0.8
    start_inventory: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Executors(Family):
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
class NewsReactors(Family):
    """Read the headline, misjudge it a little, and trade on what is left of it."""

    count: int = 10
    max_size: int = 40
    rate: float = 0.15
    misjudgement: float = 0.4
    capacity: float = 250.0
    unwind_rate: float = 0.03


@dataclass(frozen=True, kw_only=True)
class StopTraders(Family):
    """Hold a position between a stop-loss and a take-profit; their exits come all at once."""

    count: int = 24
    max_size: int = 200
    rate: float = 0.008
    long_share: float = 0.6
    size: float = 40.0
    stop_loss: tuple[float, float] = (0.008, 0.03)  # log, log-uniform
    take_profit: tuple[float, float] = (0.01, 0.05)


@dataclass(frozen=True, kw_only=True)
class PairsTraders(Family):
    """Bet on two symbols' log-price spread returning to its mean; present with two or more symbols."""

    count: int = 6
    max_size: int = 20
    rate: float = 0.05
    lookback: tuple[float, float] = (100.0, 400.0)
    capacity: float = 60.0
    entry: float = 2.0
    exit: float = 0.5


@dataclass(frozen=True, kw_only=True)
class SectorRotators(Family):
    """Shift holdings towards the sectors with the better news and returns; present with two or more sectors."""

    count: int = 4
    max_size: int = 20
    rate: float = 0.02
    capacity: float = 200.0
    tilt: float = 0.3


@dataclass(frozen=True, kw_only=True)
class Makers(Family):
    """Quote both sides every tick around a common reference price that follows the auctions' surprises."""

    count: int = 12
    max_size: int = 60
    depth: tuple[float, float] = (1.0, 8.0)  # distance of the quote in half-spread units, geometric grid over makers
    size: tuple[float, float] = (5.0, 14.0)
    limit: float = 400.0  # inventory in shares at which a maker stops adding
    base_width: float = 3.0  # points
    volatility_width: float = 0.22  # of the one-tick standard deviation in points
    surprise_gain: float = 0.87
    fast_weight: float = 0.35  # share of the recent mean surprise (half-life 1) that was to be expected
    slow_weight: float = 0.7  # same, half-life 40
    taker_weight: float = 2.0  # of a share the learner takes from standing quotes, against one traded in the auction
    inventory_shift: float = 6.0
    start_inventory: float = 170.0


@dataclass(frozen=True, kw_only=True)
class Population:
    """All background traders of one symbol."""

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

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            family = getattr(self, entry.name)
            _require(isinstance(family, Family), f"Population.{entry.name} must be a family's settings, got {family!r}")


@dataclass(frozen=True, kw_only=True)
class NewsKind:
    """One kind of public event: chance per tick, size (log), duration in ticks, share that hits value at once."""

    probability: float
    scale: float
    duration: int
    immediate: float

    def __post_init__(self) -> None:
        _check_number("NewsKind.probability", self.probability, 0.0, 1.0)
        _check_number("NewsKind.scale", self.scale, 0.0)
        _check_count("NewsKind.duration", self.duration, low=1)
        _check_number("NewsKind.immediate", self.immediate, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Fundamentals:
    """Latent value: a random walk with three-scale stochastic volatility, leverage, weak reversion and news."""

    volatility: float = 8e-4  # per tick
    volatility_half_lives: tuple[float, float, float] = (10.0, 100.0, 600.0)  # ticks
    volatility_scales: tuple[float, float, float] = (0.25, 0.42, 0.52)  # log-volatility standard deviations
    leverage: float = -0.3  # correlation of value moves with volatility moves
    public_share: float = 0.6  # of the variance of value moves that makers see at once
    reversion_half_life: float = 20_000.0  # ticks
    spread_of_start: float = 0.05  # standard deviation of log(value / list price) at the start
    market_loading: float = 0.6  # of a symbol's public move on the market factor (several symbols)
    sector_loading: float = 0.4
    headline_pass_through: float = 0.5  # share of a headline's immediate effect that makers quote at once
    earnings: NewsKind = NewsKind(probability=0.0012, scale=0.020, duration=60, immediate=0.5)
    guidance: NewsKind = NewsKind(probability=0.0008, scale=0.016, duration=90, immediate=0.4)
    sector: NewsKind = NewsKind(probability=0.0010, scale=0.010, duration=40, immediate=0.5)
    macro: NewsKind = NewsKind(probability=0.0005, scale=0.012, duration=80, immediate=0.5)

    def __post_init__(self) -> None:
        _check_number("Fundamentals.volatility", self.volatility, 0.0, 0.1)
        _check_number("Fundamentals.leverage", self.leverage, -1.0, 1.0)
        _check_number("Fundamentals.public_share", self.public_share, 0.0, 1.0)
        _check_number("Fundamentals.reversion_half_life", self.reversion_half_life, 1.0)
        _check_number("Fundamentals.spread_of_start", self.spread_of_start, 0.0, 1.0)
        _check_number("Fundamentals.market_loading", self.market_loading, -1.0, 1.0)
        _check_number("Fundamentals.sector_loading", self.sector_loading, -1.0, 1.0)
        _check_number("Fundamentals.headline_pass_through", self.headline_pass_through, 0.0, 1.0)
        for name, low, high in (("volatility_half_lives", 1e-3, math.inf), ("volatility_scales", 0.0, 2.0)):
            values = getattr(self, name)
            three = isinstance(values, tuple) and len(values) == 3
            _require(three, f"Fundamentals.{name} must be a tuple of three numbers, got {values!r}")
            for value in values:
                _check_number(f"Fundamentals.{name}", value, low, high)
        for name in ("earnings", "guidance", "sector", "macro"):
            kind = getattr(self, name)
            _require(isinstance(kind, NewsKind), f"Fundamentals.{name} must be a NewsKind, got {kind!r}")
        shared = self.market_loading**2 + self.sector_loading**2
        _require(
            shared <= 1.0,
            f"market_loading² + sector_loading² must be <= 1, got {shared:.3g}: lower one of the loadings",
        )
        total = self.earnings.probability + self.guidance.probability
        _require(total <= 1.0, f"earnings and guidance probabilities must add up to <= 1, got {total}")


@dataclass(frozen=True, kw_only=True)
class MarketConfig:
    """A market, the learner's terms in it, and what the learner sees.

    Raises:
        ValueError: at construction, naming the value and the remedy, when a setting is impossible or two contradict.

    >>> MarketConfig(max_ticks=1000).replace(order_size=30).position_limit
    150
    """

    num_symbols: int = 1
    num_sectors: int | None = None  # None: one per two symbols, rounded up
    max_ticks: int = 10_000  # an episode is truncated here
    ticks_per_action: int = 1  # ticks simulated per decision; the order goes in at the first
    warmup_ticks: int = 64
    point_size: float = 0.01  # currency per point
    list_price: int = 10_000  # points; the level that log prices are measured from
    band: int = 512  # points around the mid in which an auction can price
    usual_volume: float = 90.0  # shares per tick that traders take for normal activity
    usual_return: float = 7.5e-4  # absolute one-tick return that they take for normal
    opening_volatility: float = 1.3e-3  # of one-tick returns, as traders remember it when a market opens

    order_size: int = 10  # shares of the learner's standard order
    position_limit: int = None  # type: ignore[assignment]  # shares, either side; None: five orders
    starting_cash: int = None  # type: ignore[assignment]  # points x shares; None: a hundred orders at the list price
    commission_bps: float = 2.0  # per side, of the traded amount
    borrow_ppb: int = 50  # parts per billion of a short position's value, per tick (about 0.5 % a year of minutes)
    collar: float = 0.01  # the learner never pays further than this from the mid
    execution: str = "book"  # "book": the learner's order meets the standing book first; "auction": sealed bid
    mark: str = "mid"  # equity is marked at the "mid", or at "liquidation" value (walking the book)
    maintenance: int = 0  # equity (points x shares) at or below which the learner is ruined

    action: str = "discrete"  # a row of torchgym.actions.ACTIONS
    features: str = "full54"  # a row of torchgym.features.FEATURE_SETS
    scaling: str = "raw"  # "raw" or "relative"
    information: str = "public"  # what the value features show: "public", "privileged" or "none"
    estimate_error: float = 0.01  # standard deviation (log) of the public value estimate's AR(1) error
    estimate_half_life: float = 100.0  # ticks
    reward: str | Mapping[str, float] = "pnl"  # a row of torchgym.rewards.REWARDS, or weights of several

    fundamentals: Fundamentals = field(default_factory=Fundamentals)
    population: Population = field(default_factory=Population)

    def __post_init__(self) -> None:
        self._check_types()
        fill = object.__setattr__
        if self.num_sectors is None:
            fill(self, "num_sectors", (self.num_symbols + 1) // 2)
        if self.position_limit is None:
            fill(self, "position_limit", 5 * self.order_size)
        if self.starting_cash is None:
            fill(self, "starting_cash", 100 * self.order_size * self.list_price)
        if isinstance(self.reward, Mapping):
            fill(self, "reward", dict(self.reward))
        self._check_consistency()

    def _check_types(self) -> None:
        for name, low in (
            ("num_symbols", 1),
            ("max_ticks", 1),
            ("ticks_per_action", 1),
            ("warmup_ticks", 0),
            ("order_size", 1),
            ("borrow_ppb", 0),
            ("band", 8),
        ):
            _check_count(name, getattr(self, name), low)
        _check_count("list_price", self.list_price, low=100)
        for name in ("num_sectors", "position_limit", "starting_cash"):
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name), low=1)
        _require(isinstance(self.maintenance, int), f"maintenance must be an integer, got {self.maintenance!r}")
        _check_number("point_size", self.point_size, 1e-9)
        _check_number("usual_volume", self.usual_volume, 1e-3)
        _check_number("usual_return", self.usual_return, 1e-9)
        _check_number("opening_volatility", self.opening_volatility, 1e-9, 1.0)
        _check_number("commission_bps", self.commission_bps, 0.0, 10_000.0)
        _check_number("collar", self.collar, 0.0, 0.5)
        _check_number("estimate_error", self.estimate_error, 0.0, 1.0)
        _check_number("estimate_half_life", self.estimate_half_life, 1e-3)
        for name, known in (
            ("execution", ("book", "auction")),
            ("mark", ("mid", "liquidation")),
            ("scaling", ("raw", "relative")),
            ("information", ("public", "privileged", "none")),
        ):
            value = getattr(self, name)
            _require(value in known, f"unknown {name} {value!r}: choose one of {', '.join(known)}")
        for name in ("action", "features"):
            _require(isinstance(getattr(self, name), str), f"{name} must be a name, got {getattr(self, name)!r}")
        for name, kind in (("fundamentals", Fundamentals), ("population", Population)):
            value = getattr(self, name)
            _require(isinstance(value, kind), f"{name} must be of the class {kind.__name__}, got {value!r}")
        _require(isinstance(self.reward, (str, Mapping)), f"reward must be a name or a mapping, got {self.reward!r}")
        if isinstance(self.reward, Mapping):
            _require(len(self.reward) > 0, "reward must name at least one term, got an empty mapping")
            for term, weight in self.reward.items():
                _check_number(f"the weight of reward term {term!r}", weight, -math.inf)

    def _check_consistency(self) -> None:
        assert self.num_sectors is not None
        _require(
            self.num_sectors <= self.num_symbols,
            f"num_sectors = {self.num_sectors} exceeds num_symbols = {self.num_symbols}: every sector needs a symbol",
        )
        _require(
            self.position_limit >= self.order_size,
            f"position_limit = {self.position_limit} is below order_size = {self.order_size}: no order could ever be sent",
        )
        _require(
            self.starting_cash > self.maintenance,
            f"starting_cash = {self.starting_cash} is not above maintenance = {self.maintenance}: ruined from the start",
        )
        _require(
            self.warmup_ticks >= 64,
            f"warmup_ticks = {self.warmup_ticks} is below 64, the longest lookback of the features",
        )
        _require(
            self.max_ticks % self.ticks_per_action == 0,
            f"max_ticks = {self.max_ticks} must be a multiple of ticks_per_action = {self.ticks_per_action}",
        )
        _require(self.population.maker.count >= 1, "population.maker.count must be >= 1: without makers nobody quotes")
        families = [getattr(self.population, entry.name) for entry in dataclasses.fields(self.population)]
        everywhere = [family for family in families if not isinstance(family, (Makers, PairsTraders, SectorRotators))]
        _require(
            sum(family.count for family in everywhere) >= 1,
            "population has no trader beside makers, pairs traders and sector rotators: add at least one",
        )
        shares = sum(2 * family.count * family.max_size for family in families) + 2 * self.position_limit
        _require(
            shares < _MAX_SHARES,
            f"the orders of one symbol could add up to {shares} shares, not below 2**24: use fewer or smaller traders",
        )
        _require(
            self.starting_cash < _MAX_CASH // 64 and self.position_limit * self.list_price < _MAX_CASH // 64,
            f"starting_cash = {self.starting_cash} or the position limit's value is too large for exact accounts (2**47)",
        )
        owed = 40 * self.position_limit * self.list_price * self.num_symbols * max(self.borrow_ppb, 1)
        _require(
            owed < 2**62,
            f"borrow_ppb = {self.borrow_ppb} times the position limit's value overflows the accounts: lower one of them",
        )
        _require(
            self.list_price < 2**18, f"list_price = {self.list_price} must be below 2**18 points: use larger points"
        )

    def replace(self, **changes: Any) -> MarketConfig:
        """A copy with some settings changed; derived defaults follow unless they were set explicitly.

        Raises:
            ValueError: for an unknown setting, listing the known ones.
        """
        known = [entry.name for entry in dataclasses.fields(self)]
        unknown = sorted(set(changes) - set(known))
        _require(not unknown, f"unknown setting {', '.join(unknown)}: choose from {', '.join(known)}")
        for name, derived in (
            ("num_sectors", (self.num_symbols + 1) // 2),
            ("position_limit", 5 * self.order_size),
            ("starting_cash", 100 * self.order_size * self.list_price),
        ):
            if getattr(self, name) == derived:
                changes.setdefault(name, None)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values only, nested as the settings are."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> MarketConfig:
        """The inverse of `to_dict`; lists stand for tuples, so values read from JSON work too.

        >>> MarketConfig.from_dict(MarketConfig(order_size=3).to_dict()) == MarketConfig(order_size=3)
        True
        """
        return _from_dict(MarketConfig, values)


def _from_dict(kind: type[Any], values: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    _require(isinstance(values, Mapping), f"the settings of {kind.__name__} must be a mapping, got {values!r}")
    unknown = sorted(set(values) - set(hints))
    _require(not unknown, f"unknown setting {', '.join(unknown)} of {kind.__name__}: choose from {', '.join(hints)}")
    read = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            read[name] = _from_dict(hints[name], value)
        else:
            read[name] = tuple(value) if isinstance(value, list) else value
    return kind(**read)


def _calm() -> MarketConfig:
    default = Fundamentals()
    return MarketConfig(
        opening_volatility=6e-4,
        fundamentals=Fundamentals(
            volatility=5e-4,
            volatility_scales=(0.15, 0.25, 0.30),
            earnings=dataclasses.replace(default.earnings, probability=0.0006),
            guidance=dataclasses.replace(default.guidance, probability=0.0004),
            sector=dataclasses.replace(default.sector, probability=0.0005),
            macro=dataclasses.replace(default.macro, probability=0.0002),
        ),
        population=Population(
            maker=Makers(base_width=2.5, surprise_gain=0.95), executor=Executors(parent=(120.0, 8_000.0))
        ),
    )


def _volatile() -> MarketConfig:
    default = Fundamentals()
    doubled = {
        kind: dataclasses.replace(getattr(default, kind), probability=2.0 * getattr(default, kind).probability)
        for kind in ("earnings", "guidance", "sector", "macro")
    }
    return MarketConfig(
        usual_return=1.3e-3, opening_volatility=1.6e-3, fundamentals=Fundamentals(volatility=1.4e-3, **doubled)
    )


def _illiquid() -> MarketConfig:
    return MarketConfig(
        population=Population(
            value=ValueTraders(max_size=15),
            noise=NoiseTraders(rate=0.05),
            executor=Executors(parent=(100.0, 6_000.0), child=(5.0, 20.0)),
            maker=Makers(count=8, depth=(1.0, 6.0), size=(4.0, 11.0), base_width=4.5, surprise_gain=0.75),
        )
    )


def _toy() -> MarketConfig:
    return MarketConfig(
        max_ticks=200,
        usual_volume=45.0,
        population=Population(
            value=ValueTraders(count=10, rate=(0.1, 0.5)),
            trend=TrendFollowers(count=4),
            reversion=ReversionTraders(count=4),
            noise=NoiseTraders(count=10, rate=0.25),
            executor=Executors(count=3),
            news=NewsReactors(count=2),
            stop=StopTraders(count=4, rate=0.04),
            pairs=PairsTraders(count=2),
            rotator=SectorRotators(count=1),
            maker=Makers(count=6),
        ),
    )


PRESETS: dict[str, Callable[[], MarketConfig]] = {
    "default": MarketConfig,  # a liquid stock
    "calm": _calm,  # small moves, narrow spreads, little news
    "volatile": _volatile,  # larger moves, twice the news
    "illiquid": _illiquid,  # fewer makers, wide spreads, thin depth
    "toy": _toy,  # few traders, short episodes: for tests and first steps
}


def preset(name: str, **changes: Any) -> MarketConfig:
    """The named configuration, with `changes` applied.

    Raises:
        ValueError: for an unknown name, listing the known ones.

    >>> preset("calm", max_ticks=500).max_ticks
    500
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]().replace(**changes)
