"""`MarketConfig`: one market, the learner's terms in it, and what the learner sees."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from torchgym.config.fundamentals import Fundamentals
from torchgym.config.population import Makers, PairsTraders, Population, SectorRotators, family_kind
from torchgym.config.randomization import check_randomize
from torchgym.config.validation import check_count, check_integer, check_number, require

_MAX_SHARES = 2**24  # integer-valued float32 is exact below this, and the auction sums shares in float32
_MAX_CASH = 2**53  # integer-valued float64 is exact below this


@dataclass(frozen=True, kw_only=True)
class MarketConfig:
    """A market, the learner's terms in it, and what the learner sees.

    `randomize` makes every episode of every market a world of its own: for each name it gives (a row of
    `torchgym.config.RANDOMIZABLE`) the number is drawn between the two bounds, log-uniformly where it is a scale and the lower
    bound is positive, else uniformly, and stands in for the plain setting. Seed and episode alone decide it, and each name has
    a random number of its own, so that one more name changes no other. `Market.params` shows what was drawn. Settings that are
    not drawn stay: `opening_volatility`, `usual_volume` and `usual_return` describe the market one should expect on average.

    Raises:
        ValueError: at construction, naming the value and the remedy, when a setting is impossible or two contradict.

    >>> MarketConfig(max_ticks=1000).replace(order_size=30).position_limit
    150
    >>> MarketConfig(randomize={"value_volatility": (5e-4, 1.5e-3)}).randomize
    {'value_volatility': (0.0005, 0.0015)}
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
    opening_volatility: float = 1.0e-3  # of one-tick returns, as traders remember it when a market opens

    order_size: int = 10  # shares of the learner's standard order
    position_limit: int = None  # type: ignore[assignment]  # shares, either side; None: five orders
    starting_cash: int = None  # type: ignore[assignment]  # points x shares; None: a hundred orders at the list price
    starting_shares: int = 0  # of each symbol, negative short; an endowment from outside, booked at the list price
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
    # A row of torchgym.rewards.REWARDS, or weights of several.
    reward: str | Mapping[str, float] = field(default="pnl", hash=False)

    fundamentals: Fundamentals = field(default_factory=Fundamentals)
    population: Population = field(default_factory=Population)
    randomize: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)  # bounds; drawn per market

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
        fill(self, "randomize", check_randomize(self.randomize))
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
            check_count(name, getattr(self, name), low)
        check_count("list_price", self.list_price, low=100)
        for name in ("num_sectors", "position_limit", "starting_cash"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), low=1)
        check_integer("starting_shares", self.starting_shares)
        require(isinstance(self.maintenance, int), f"maintenance must be an integer, got {self.maintenance!r}")
        check_number("point_size", self.point_size, 1e-9)
        check_number("usual_volume", self.usual_volume, 1e-3)
        check_number("usual_return", self.usual_return, 1e-9)
        check_number("opening_volatility", self.opening_volatility, 1e-9, 1.0)
        check_number("commission_bps", self.commission_bps, 0.0, 10_000.0)
        check_number("collar", self.collar, 0.0, 0.5)
        check_number("estimate_error", self.estimate_error, 0.0, 1.0)
        check_number("estimate_half_life", self.estimate_half_life, 1e-3)
        for name, known in (
            ("execution", ("book", "auction")),
            ("mark", ("mid", "liquidation")),
            ("scaling", ("raw", "relative")),
            ("information", ("public", "privileged", "none")),
        ):
            value = getattr(self, name)
            require(value in known, f"unknown {name} {value!r}: choose one of {', '.join(known)}")
        for name in ("action", "features"):
            require(isinstance(getattr(self, name), str), f"{name} must be a name, got {getattr(self, name)!r}")
        for name, kind in (("fundamentals", Fundamentals), ("population", Population)):
            value = getattr(self, name)
            require(isinstance(value, kind), f"{name} must be of the class {kind.__name__}, got {value!r}")
        require(isinstance(self.reward, (str, Mapping)), f"reward must be a name or a mapping, got {self.reward!r}")
        if isinstance(self.reward, Mapping):
            require(len(self.reward) > 0, "reward must name at least one term, got an empty mapping")
            for term, weight in self.reward.items():
                check_number(f"the weight of reward term {term!r}", weight, -math.inf)

    def _check_consistency(self) -> None:
        assert self.num_sectors is not None
        require(
            self.num_sectors <= self.num_symbols,
            f"num_sectors = {self.num_sectors} exceeds num_symbols = {self.num_symbols}: every sector needs a symbol",
        )
        require(
            self.position_limit >= self.order_size,
            f"position_limit = {self.position_limit} is below order_size = {self.order_size}: no order could ever be sent",
        )
        self._check_opening_account()
        require(
            self.warmup_ticks >= 64,
            f"warmup_ticks = {self.warmup_ticks} is below 64, the longest lookback of the features",
        )
        require(
            self.max_ticks % self.ticks_per_action == 0,
            f"max_ticks = {self.max_ticks} must be a multiple of ticks_per_action = {self.ticks_per_action}",
        )
        self._check_news_rate()
        require(self.population.maker.count >= 1, "population.maker.count must be >= 1: without makers nobody quotes")
        families = list(self.population.families.values())
        everywhere = [family for family in families if not isinstance(family, (Makers, PairsTraders, SectorRotators))]
        require(
            sum(family.count for family in everywhere) >= 1,
            "population has no trader beside makers, pairs traders and sector rotators: add at least one",
        )
        orders = [(1 + isinstance(family, Makers)) * family.count * family.max_size for family in families]
        shares = sum(orders) + 2 * self.position_limit
        require(
            shares < _MAX_SHARES,
            f"the orders of one symbol could add up to {shares} shares, not below 2**24: use fewer or smaller traders",
        )
        require(
            self.starting_cash < _MAX_CASH // 64 and self.position_limit * self.list_price < _MAX_CASH // 64,
            f"starting_cash = {self.starting_cash} or the position limit's value is too large for exact accounts (2**47)",
        )
        owed = 40 * self.position_limit * self.list_price * self.num_symbols * max(self.borrow_ppb, 1)
        require(
            owed < 2**62,
            f"borrow_ppb = {self.borrow_ppb} times the position limit's value overflows the accounts: lower one of them",
        )
        require(
            self.list_price < 2**18, f"list_price = {self.list_price} must be below 2**18 points: use larger points"
        )

    def _check_opening_account(self) -> None:
        """Within the position limit, and solvent at the list price."""
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

    def _check_news_rate(self) -> None:
        """A probability times the highest rate that can be drawn is still one."""
        news = self.fundamentals
        own = news.earnings.probability + news.guidance.probability
        likeliest = max(own, news.sector.probability, news.macro.probability)
        _, highest = self.randomize.get("news_rate", (0.0, 0.0))
        require(
            highest * likeliest <= 1.0,
            f"randomize['news_rate'] up to {highest!r} times a news probability of {likeliest!r} exceeds 1: lower one of them",
        )

    def replace(self, **changes: Any) -> MarketConfig:
        """A copy with some settings changed; derived defaults follow unless they were set explicitly.

        Raises:
            ValueError: for an unknown setting, listing the known ones.
        """
        known = [entry.name for entry in dataclasses.fields(self)]
        unknown = sorted(set(changes) - set(known))
        require(not unknown, f"unknown setting {', '.join(unknown)}: choose from {', '.join(known)}")
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
    require(isinstance(values, Mapping), f"the settings of {kind.__name__} must be a mapping, got {values!r}")
    unknown = sorted(set(values) - set(hints))
    require(not unknown, f"unknown setting {', '.join(unknown)} of {kind.__name__}: choose from {', '.join(hints)}")
    read = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            read[name] = _from_dict(hints[name], value)
        elif kind is Population:  # `others`
            require(isinstance(value, Mapping), f"Population.others must map names to settings, got {value!r}")
            read[name] = {family: _from_dict(family_kind(family), own) for family, own in value.items()}
        else:
            read[name] = tuple(value) if isinstance(value, list) else value
    return kind(**read)
