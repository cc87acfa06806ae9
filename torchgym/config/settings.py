"""`MarketConfig`: one market, the learner's terms in it, and what the learner sees."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from torchgym.config.activity import Activity
from torchgym.config.changes import changed
from torchgym.config.fundamentals import Fundamentals
from torchgym.config.numbers import check_randomize, corners, with_numbers
from torchgym.config.population import Makers, PairsTraders, Population, SectorRotators, family_kind
from torchgym.config.session import Session
from torchgym.config.validation import (
    HalfLife,
    Settings,
    Share,
    Within,
    check_fields,
    check_name,
    check_number,
    kinds,
    require,
    shown,
)

_MAX_SHARES = 2**24  # integer-valued float32 is exact below this, and the auction sums shares in float32
_MAX_CASH = 2**47  # far enough below 2**53, up to which integer-valued float64 is exact
_MAX_RISE = 20  # the highest price that accounts are made for, in list prices
_MAX_MONEY = 2**63 - 2**32  # of a product in int64, with room for what is rounded
_MAX_PRICE = 2**24  # points; quotes are exact below
_MAX_WEIGHT = 1e9
_MAX_TRADERS = 2**20 // 9  # of a family in all symbols: nine opening draws each, in the numbers that a stream has

Symbols = Annotated[int, Within(1, 1024)]
Ticks = Annotated[int, Within(1, 2**30 - 1)]  # the ticks at which orders expire are int32
Shares = Annotated[int, Within(1, _MAX_SHARES // 2 - 1)]


@dataclass(frozen=True, kw_only=True)
class MarketConfig(Settings):
    """A market, the learner's terms in it, and what the learner sees.

    Numbers and structure: a number (a price, a size, a rate, a weight) is data of the compiled step; changing it compiles
    nothing. Counts, switches, `band`, `ticks_per_action` and `warmup_ticks` are its structure.

    `randomize` makes every episode of every market a world of its own. It maps the path of any number, such as
    "population.maker.skew", to two bounds, between which the number is drawn: log-uniformly where it is a scale and the lower
    bound is positive, else uniformly; whole where the setting is. Seed and episode alone decide it, and each path has a random
    number of its own, so that one more path changes no other. `Market.params` shows what was drawn. Settings that are not drawn
    stay: `opening_volatility`, `usual_volume` and `usual_return` describe the market one should expect on average.

    Raises:
        ValueError: at construction, naming the value and the remedy, when a setting is impossible or two contradict.

    >>> MarketConfig(max_ticks=1000).replace(order_size=30).position_limit
    150
    >>> MarketConfig(randomize={"fundamentals.volatility": (5e-4, 1.5e-3)}).randomize
    {'fundamentals.volatility': (0.0005, 0.0015)}
    """

    STRUCTURE: ClassVar[tuple[str, ...]] = (
        "num_symbols",
        "num_sectors",
        "num_learners",
        "quotes",
        "ticks_per_action",
        "warmup_ticks",
        "band",
        "longest_delay",
    )

    num_symbols: Symbols = 1
    num_sectors: Symbols | None = None  # None: one per two symbols, rounded up
    num_learners: Annotated[int, Within(1, 64)] = 1  # agents who trade in one market, each with an account of its own
    # Orders that a learner can let rest, a side and symbol; for action schemes such as "quotes", "depths" and "limit".
    quotes: Annotated[int, Within(0, 8)] = 0
    max_ticks: Ticks = 10_000  # an episode is truncated here
    # Ticks simulated per decision; the order goes in at the first.
    ticks_per_action: Annotated[int, Within(1, 1_000)] = 1
    warmup_ticks: Annotated[int, Within(64, 100_000)] = 64  # no fewer than the longest lookback of the features
    point_size: Annotated[float, Within(1e-9, 1e9)] = 0.01  # currency per point
    list_price: Annotated[int, Within(100, 2**18 - 1)] = 10_000  # points; the level that log prices are measured from
    band: Annotated[int, Within(8, 2**18)] = 512  # points around the mid in which an auction can price
    usual_volume: Annotated[float, Within(1e-3, 1e9)] = 90.0  # shares per tick that traders take for normal activity
    usual_return: Annotated[float, Within(1e-9, 1.0)] = 7.5e-4  # absolute one-tick return that they take for normal
    # Of one-tick returns, as traders remember it when a market opens.
    opening_volatility: Annotated[float, Within(1e-9, 1.0)] = 1.0e-3
    # The opening price departs from value by this deviation (log), and by this share of the value traders' full gap where the
    # meta-order traders' inventories equal the value traders' capacity.
    opening_gap: Annotated[float, Within(0.0, 1.0)] = 0.005
    opening_pressure: Annotated[float, Within(0.0, 10.0)] = 0.7

    order_size: Shares = 10  # shares of the learner's standard order
    position_limit: Shares = None  # type: ignore[assignment]  # shares, either side; None: five orders
    # Points x shares; None: a hundred orders at the list price.
    starting_cash: Annotated[int, Within(1, _MAX_CASH - 1)] = None  # type: ignore[assignment]
    # Of each symbol, negative short; an endowment from outside, booked at the list price.
    starting_shares: Annotated[int, Within(-_MAX_SHARES, _MAX_SHARES)] = 0
    commission_bps: Annotated[float, Within(0.0, 10_000.0)] = 2.0  # per side, of the traded amount
    maker_bps: Annotated[float, Within(-10_000.0, 10_000.0)] = (
        2.0  # the same of orders that rested; negative is a rebate
    )
    # Parts per billion of a short position's value, per tick (about 0.5 % a year of minutes).
    borrow_ppb: Annotated[int, Within(0, 1_000_000_000)] = 50
    collar: Annotated[float, Within(0.0, 0.5)] = 0.01  # the learner never pays further than this from the mid
    # "book": the learner's order meets the standing book first; "auction": sealed bid.
    execution: Literal["book", "auction"] = "book"
    # Orders of one price, where not all of them trade: shared by size alone, or older ones first.
    priority: Literal["pro_rata", "time"] = "pro_rata"
    # Where the makers' new quotes cross a learner's resting order: each pays the order's own limit, or all meet at one price.
    snipe: Literal["limit", "auction"] = "limit"
    latency: Annotated[int, Within(0, 8)] = 0  # ticks until an action arrives in the market, its cancellations too
    feed_delay: Annotated[int, Within(0, 8)] = 0  # ticks until a learner sees what happened, its own account included
    # The largest latency or feed delay that markets of this structure can have; None: the larger one that is set or drawn.
    longest_delay: Annotated[int, Within(0, 8)] = None  # type: ignore[assignment]
    # What the public mid is: halfway between the best quotes, or the latent value in whole points, which no order makes.
    reference: Literal["quotes", "value"] = "quotes"
    mark: Literal["mid", "liquidation"] = "mid"  # equity is marked at the mid, or at what walking the book would bring
    # Equity (points x shares) at or below which the learner is ruined.
    maintenance: Annotated[int, Within(-_MAX_CASH, _MAX_CASH)] = 0

    action: str = "discrete"  # a row of torchgym.sim.actions.ACTIONS
    features: str = "full54"  # a row of torchgym.readout.features.FEATURE_SETS
    scaling: Literal["raw", "relative"] = "raw"
    information: Literal["public", "privileged", "none"] = "public"  # what the value features show
    estimate_error: Share = 0.01  # standard deviation (log) of the public value estimate's AR(1) error
    estimate_half_life: HalfLife = 100.0  # ticks
    # A row of torchgym.readout.rewards.REWARDS, or weights of several.
    reward: str | Mapping[str, float] = field(default="pnl", hash=False)

    activity: Activity = field(default_factory=Activity)
    fundamentals: Fundamentals = field(default_factory=Fundamentals)
    population: Population = field(default_factory=Population)
    session: Session = field(default_factory=Session)
    randomize: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)  # bounds; drawn per market

    def __post_init__(self) -> None:
        check_fields(self, MarketConfig)
        fill = object.__setattr__
        if self.num_sectors is None:
            fill(self, "num_sectors", (self.num_symbols + 1) // 2)
        if self.position_limit is None:
            fill(self, "position_limit", 5 * self.order_size)
        if self.starting_cash is None:
            fill(self, "starting_cash", 100 * self.order_size * self.list_price)
        fill(self, "reward", _check_reward(self.reward))
        fill(self, "randomize", check_randomize(self, self.randomize))
        if self.longest_delay is None:
            fill(self, "longest_delay", self._longest_delay())
        self._check_consistency()
        if self.randomize:
            plain = dataclasses.replace(self, randomize={})
            for world in corners(self.randomize):
                try:
                    with_numbers(plain, world)
                except ValueError as error:
                    listed = ", ".join(f"{path} = {number:g}" for path, number in world.items())
                    raise ValueError(f"randomize reaches an impossible world, {listed}: {error}") from None

    def common_day(self) -> int | None:
        """Ticks of a trading day, the same in all markets; None without days.

        Raises:
            ValueError: where `randomize` draws the length of each market's day.
        """
        if self.session.kind == "none":
            return None
        require(
            "session.ticks" not in self.randomize,
            "randomize draws session.ticks, so days have no common length: leave it out here",
        )
        return self.session.ticks

    def fixed(self, **settings: Any) -> MarketConfig:
        """A copy with these settings, which `randomize` no longer draws, nor anything within them."""
        given = tuple(f"{name}." for name in settings)
        left = {path: bounds for path, bounds in self.randomize.items() if not f"{path}.".startswith(given)}
        return self.replace(randomize=left, **settings)

    @property
    def longest_episode(self) -> int:
        """Decisions of the longest episode: `max_ticks`, or the most that `randomize` draws for it, over `ticks_per_action`."""
        return int(self.randomize.get("max_ticks", (0, self.max_ticks))[1]) // self.ticks_per_action

    def _longest_delay(self) -> int:
        """Of those that are set or drawn."""
        return max(int(self.randomize.get(name, (0, getattr(self, name)))[1]) for name in ("latency", "feed_delay"))

    def _check_consistency(self) -> None:
        assert self.num_sectors is not None
        require(
            self.num_sectors <= self.num_symbols,
            f"num_sectors = {self.num_sectors} exceeds num_symbols = {self.num_symbols}: every sector needs a symbol",
        )
        require(
            self.max_ticks % self.ticks_per_action == 0,
            f"max_ticks = {self.max_ticks} must be a multiple of ticks_per_action = {self.ticks_per_action}",
        )
        for name in ("latency", "feed_delay"):
            delay = getattr(self, name)
            require(
                delay <= self.longest_delay,
                f"{name} = {delay} exceeds longest_delay = {self.longest_delay}, which is compiled: give longest_delay={delay}",
            )
        self._check_opening_account()
        self._check_products()
        self._check_traders()
        self._check_prices()
        self._check_value()

    def _check_traders(self) -> None:
        """Somebody quotes, somebody else trades, and all their orders together are summed exactly."""
        families = self.population.families
        apart = (Makers, PairsTraders, SectorRotators)
        require(
            self.population.maker.count >= 1 or self.reference == "value",
            "population.maker.count must be >= 1: without makers nobody quotes, and reference='quotes' has no mid",
        )
        require(
            self.reference == "value"
            or any(family.count for family in families.values() if not isinstance(family, apart)),
            "population has no trader beside makers, pairs traders and sector rotators: add at least one",
        )
        orders = [(1 + isinstance(family, Makers)) * family.count * family.max_size for family in families.values()]
        shares = sum(orders) + 2 * (1 + (self.quotes > 0)) * self.num_learners * self.position_limit
        require(
            shares < _MAX_SHARES,
            f"the orders of one symbol could add up to {shares} shares, not below 2**24: use fewer or smaller traders (count,"
            f" max_size), or lower position_limit = {self.position_limit}",
        )
        for name, family in families.items():
            require(
                self.num_symbols * family.count <= _MAX_TRADERS,
                f"num_symbols = {self.num_symbols} times population.{name}.count = {family.count} exceeds {_MAX_TRADERS}:"
                " use fewer of one of them",
            )

    def _check_prices(self) -> None:
        """Neither the makers' quotes nor the opening inventories carry the price far from the list price by themselves."""
        if self.reference == "value":
            return
        maker, value, worked = self.population.maker, self.population.value, self.population.meta_order
        moving = maker.volatility_width * maker.volatility_bounds[1] * self.list_price
        busiest = max(level**maker.width_elasticity for level in self.activity.maker_bounds)
        nearest = maker.depth[0] * (maker.base_width + moving) * busiest * (1.0 + maker.news_width)
        require(
            nearest <= self.list_price,
            f"the makers' nearest quotes could stand {nearest:.0f} points from the price, beyond list_price = {self.list_price}:"
            " lower depth, base_width, volatility_width or news_width of the makers",
        )
        inventory = 5.0 * math.sqrt(worked.count) * worked.start_inventory  # five standard deviations of the sum
        require(
            value.count == 0
            or self.opening_pressure * value.full_gap * inventory <= math.log(_MAX_RISE) * value.count * value.capacity,
            f"start_inventory = {worked.start_inventory} of {worked.count} meta-order traders is too much for {value.count} value"
            f" traders of capacity = {value.capacity}: the market would open far from its value",
        )

    def _check_value(self) -> None:
        """In an episode the value stays in the range in which quotes are exact, by five standard deviations."""
        ticks = self.warmup_ticks + self.max_ticks
        last = self.fundamentals.value_deviation(ticks, self.list_price, self.session.variance(ticks) / ticks)
        far = 5.0 * max(self.fundamentals.spread_of_start, last)  # on the way from one to the other it is between them
        require(
            far <= math.log(_MAX_PRICE / self.list_price),
            f"in the max_ticks = {self.max_ticks} of an episode and its warmup_ticks = {self.warmup_ticks} the value may move by"
            f" {far:.3g} in logs, with list_price = {self.list_price} beyond 2**24 points: lower one of them, volatility,"
            " spread_of_start, the news_rate, probability or scale of the news, reversion_half_life, or the night of the session",
        )

    def _check_products(self) -> None:
        """No product that the accounts make leaves int64 while prices stay below 20 times the list price."""
        highest = 2 * _MAX_RISE * self.position_limit * self.list_price  # half points x shares
        for setting, factor in (
            ("position_limit", self.position_limit),
            ("commission_bps", round(100 * self.commission_bps)),
            ("maker_bps", round(100 * abs(self.maker_bps))),
            ("borrow_ppb", self.num_symbols * self.borrow_ppb),
        ):
            require(
                highest * factor < _MAX_MONEY,
                f"{setting} = {getattr(self, setting)} times the position limit's value overflows the accounts: lower one of them"
                f" (order_size = {self.order_size}, position_limit = {self.position_limit}, list_price = {self.list_price})",
            )

    def _check_opening_account(self) -> None:
        """Orders and shares within the position limit, and solvent at the list price."""
        require(
            self.position_limit >= self.order_size,
            f"position_limit = {self.position_limit} is below order_size = {self.order_size}: no order could ever be sent",
        )
        held = self.starting_shares
        require(
            abs(held) <= self.position_limit,
            f"starting_shares = {held} exceeds position_limit = {self.position_limit}: start with fewer or raise the limit",
        )
        endowment = self.num_symbols * held * self.list_price
        with_shares = f" with starting_shares = {held} at the list price" if held else ""
        require(
            self.starting_cash + endowment > self.maintenance,
            f"starting_cash = {self.starting_cash}{with_shares} is not above maintenance = {self.maintenance}:"
            " ruined from the start",
        )

    def replace(self, **changes: Any) -> MarketConfig:
        """A copy with some settings changed; derived defaults follow unless they were set explicitly.

        A setting of a part is named by its path, and leaves the rest of the part as it is.

        Raises:
            ValueError: for an unknown setting, listing the known ones.

        >>> config = MarketConfig().replace(max_ticks=500, **{"population.noise.count": 80, "population.value.rate.0": 0.01})
        >>> config.max_ticks, config.population.noise.count, config.population.value.rate
        (500, 80, (0.01, 0.1))
        """
        for name, derived in (
            ("num_sectors", (self.num_symbols + 1) // 2),
            ("position_limit", 5 * self.order_size),
            ("starting_cash", 100 * self.order_size * self.list_price),
            ("longest_delay", self._longest_delay()),
        ):
            if getattr(self, name) == derived:
                changes.setdefault(name, None)
        config: MarketConfig = changed(self, changes)
        return config

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values only, nested as the settings are."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> MarketConfig:
        """The inverse of `to_dict`; lists stand for tuples, so values read from JSON work too.

        Raises:
            ValueError: naming a setting that is unknown, missing, or impossible.

        >>> MarketConfig.from_dict(MarketConfig(order_size=3).to_dict()) == MarketConfig(order_size=3)
        True
        """
        config: MarketConfig = _from_dict(MarketConfig, values)
        return config


def _check_reward(given: object) -> str | dict[str, float]:
    """A name as it is; weights by name as a dict of its own."""
    if not isinstance(given, Mapping):
        require(isinstance(given, str), f"reward must be a name or a mapping, got {shown(given)}")
        return check_name("reward", given)
    require(len(given) > 0, "reward must name at least one term, got an empty mapping")
    return {
        check_name("each term of reward", term): check_number(f"reward[{term!r}]", weight, -_MAX_WEIGHT, _MAX_WEIGHT)
        for term, weight in given.items()
    }


def _from_dict(kind: type, values: object, path: tuple[str, ...] = ()) -> Any:
    """Settings of the class, from those at the path; parts that are settings themselves are read likewise."""
    own = ".".join(path) or kind.__name__
    if not isinstance(values, Mapping):
        raise ValueError(f"{own} must be a mapping of settings of {kind.__name__}, got {shown(values)}")
    known = {entry.name: entry for entry in dataclasses.fields(kind)}
    unknown = [name if isinstance(name, str) else shown(name) for name in values if name not in known]
    listed = f"unknown setting {', '.join(unknown)} of {kind.__name__}: choose from {', '.join(known)}"
    require(not unknown, f"{own}: {listed}" if path else listed)
    missing = [name for name, entry in known.items() if name not in values and _is_required(entry)]
    if missing:
        raise ValueError(f"{own} must have {', '.join(missing)}: {kind.__name__} has no default, got {shown(values)}")

    def read(name: str, value: object) -> Any:
        part = kinds(kind).get(name)
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            return _from_dict(part, value, (*path, name))
        if kind is Population and isinstance(value, Mapping):  # `others`
            return {
                family: _from_dict(family_kind(family), settings, (*path, name, family))
                for family, settings in value.items()
            }
        return value

    return kind(**{name: read(name, value) for name, value in values.items()})


def _is_required(entry: dataclasses.Field[Any]) -> bool:
    """Whether there is no default."""
    return entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
