"""Settings as two things: numbers, which are data of a compiled step, and structure, which decides what is compiled.

A number has a path: the names that lead to it, as "population.maker.skew". Of settings that are pairs or triples each element has
one as well, "population.value.rate.0".
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torchgym.config.changes import changed, entries
from torchgym.config.population import Family
from torchgym.config.validation import Within, bounds_of, check_range, kinds, require, shown

Number = float | int | tuple[float, ...]


@dataclass(frozen=True)
class Setting:
    """A number of the configuration, or a tuple of them: its value, and the settings object it belongs to."""

    value: Number
    owner: Any
    name: str

    @property
    def bounds(self) -> Within:
        """The declared bounds of each element; none where a family of the user's declares none."""
        owner: type = type(self.owner)
        return bounds_of(kinds(owner).get(self.name)) or Within(-(2.0**63), 2.0**63)


def all_numbers(config: Any) -> dict[str, Setting]:
    """Every number of a configuration, by path; tuples count as one."""
    return dict(_walk(config, ()))


def _walk(part: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Setting]]:
    for name, value in entries(part).items():
        here = (*path, name)
        if dataclasses.is_dataclass(value):
            yield from _walk(value, here)
        elif isinstance(part, Mapping) or (name not in getattr(part, "STRUCTURE", ()) and _is_number(value)):
            yield ".".join(here), Setting(value, part, name)
        elif name == "reward":
            weights = value if isinstance(value, Mapping) else {value: 1.0}
            for term, weight in weights.items():
                yield f"reward.{term}", Setting(float(weight), part, "reward")


def _is_number(value: object) -> bool:
    if isinstance(value, tuple):
        return len(value) > 0 and all(_is_number(entry) for entry in value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def find(config: Any, path: str, known: Mapping[str, Setting] | None = None) -> tuple[Setting, int | None]:
    """The number at a path, and which element of it.

    Args:
        known: `all_numbers(config)`, where it is at hand.

    Raises:
        ValueError: for a path that leads to no single number, naming the closest ones.
    """
    known = all_numbers(config) if known is None else known
    if path in known:
        if not isinstance(known[path].value, tuple):
            return known[path], None
    else:
        above, _, last = path.rpartition(".")
        if above in known and isinstance(value := known[above].value, tuple) and last in map(str, range(len(value))):
            return known[above], int(last)
    part = config
    for name in path.split("."):
        part = entries(part).get(name) if dataclasses.is_dataclass(part) else None
    if isinstance(part, (int, str)) and path != "reward":
        raise ValueError(f"{path!r} is structure, which all markets of a batch share: set it in the configuration")
    single = list(paths(config))
    close = difflib.get_close_matches(path, single, n=5, cutoff=0.3)
    raise ValueError(
        f"{path!r} is no number of this configuration, closest are {', '.join(close)}; `torchgym.config.paths` has them all"
    )


def paths(config: Any) -> Iterator[str]:
    """The path of every single number."""
    for path, setting in all_numbers(config).items():
        if isinstance(setting.value, tuple):
            yield from (f"{path}.{at}" for at in range(len(setting.value)))
        else:
            yield path


def with_numbers(config: Any, numbers: Mapping[str, float | int]) -> Any:
    """The configuration with these numbers in place of its own, checked like any other.

    Raises:
        ValueError: for an unknown path, or a number that the setting refuses.
    """
    known = all_numbers(config)

    def plain(path: str, number: float | int) -> float | int:
        setting, at = find(config, path, known)
        own = setting.value if at is None else setting.value[at]  # type: ignore[index]
        whole = isinstance(own, int) and float(number).is_integer()  # an integer setting refuses others
        return int(number) if whole else number

    return changed(config, {path: plain(path, number) for path, number in numbers.items()})


def check_randomize(config: Any, given: object) -> dict[str, tuple[float, float]]:
    """The same ranges as a dict of tuples.

    Raises:
        ValueError: for what is no mapping, an unknown path, or bounds that are no pair, out of order, out of range, or between
            which some world would be impossible.
    """
    require(isinstance(given, Mapping), f"randomize must map paths to (low, high) pairs, got {shown(given)}")
    assert isinstance(given, Mapping)
    ranges: dict[str, tuple[float, float]] = {}
    known = all_numbers(config) if given else {}
    for path, bounds in given.items():
        require(isinstance(path, str), f"each name in randomize must be a path, got {shown(path)}")
        try:
            allowed = find(config, str(path), known)[0].bounds
        except ValueError as error:
            raise ValueError(f"randomize: {error}") from None
        ranges[str(path)] = check_range(f"randomize[{path!r}]", bounds, allowed.low, allowed.high)
    return ranges


def corners(ranges: Mapping[str, tuple[float, float]]) -> Iterator[dict[str, float]]:
    """The extreme worlds of some ranges: all up to six ranges, beyond that the two ends and what differs in one number."""
    if len(ranges) <= 6:
        for ends in itertools.product(*(sorted(set(bounds)) for bounds in ranges.values())):
            yield dict(zip(ranges, ends, strict=True))
        return
    for end in (0, 1):
        world = {path: bounds[end] for path, bounds in ranges.items()}
        yield world
        yield from ({**world, path: bounds[1 - end]} for path, bounds in ranges.items())


@dataclass(frozen=True)
class Structure:
    """What is compiled into a step: sizes, switches, and who trades. Two configurations of one structure share their programs.

    Letters: S symbols, L learners, A owners (background traders of one symbol), K slots of the book (one per trader, two per
    maker: bids, then asks; then the learners' places). `families` has the place of each family on the owner axis, the makers
    last; families of single orders have the same place among the slots.
    """

    num_symbols: int
    num_sectors: int
    num_learners: int
    quotes: int
    ticks_per_action: int
    warmup_ticks: int
    band: int
    longest_delay: int
    execution: str
    priority: str
    snipe: str
    mark: str
    reference: str
    process: str
    session: str
    action: str
    features: str
    scaling: str
    information: str
    rewards: tuple[str, ...]
    families: dict[str, slice]
    settings: dict[str, dict[str, Any]]  # of each family, what is no number

    @property
    def orders(self) -> dict[str, slice]:
        """The families of single orders, which are all but the makers."""
        return {name: place for name, place in self.families.items() if name != "maker"}

    @property
    def singles(self) -> int:
        """Traders with one order, per symbol."""
        return self.families["maker"].start

    @property
    def makers(self) -> int:
        """Traders who quote both sides, per symbol."""
        return self.owners - self.singles

    @property
    def owners(self) -> int:
        """A."""
        return self.families["maker"].stop

    @property
    def background(self) -> int:
        """Slots of the background traders, which come first."""
        return self.singles + 2 * self.makers

    @property
    def places(self) -> int:
        """P, slots of the learners' resting orders, which come last."""
        return 2 * self.quotes * self.num_learners

    @property
    def slots(self) -> int:
        """K."""
        return self.background + self.places


def structure(config: Any) -> Structure:
    """The structure of a configuration.

    >>> from torchgym.config import MarketConfig
    >>> structure(MarketConfig()).slots
    210
    >>> structure(MarketConfig(commission_bps=9.0)) == structure(MarketConfig())
    True
    """
    few = {"pairs": config.num_symbols < 2, "rotator": config.num_sectors < 2}
    families: dict[str, slice] = {}
    begin = 0
    for name, family in config.population.families.items():
        if name != "maker" and family.count > 0 and not few.get(name, False):
            families[name] = slice(begin, begin + family.count)
            begin += family.count
    families["maker"] = slice(begin, begin + config.population.maker.count)
    names = (
        *config.STRUCTURE,
        "execution",
        "priority",
        "snipe",
        "mark",
        "reference",
        "action",
        "features",
        "scaling",
        "information",
    )
    return Structure(
        **{name: getattr(config, name) for name in names},
        process=config.fundamentals.process,
        session=config.session.kind,
        rewards=tuple(sorted(config.reward)) if isinstance(config.reward, Mapping) else (config.reward,),
        families=families,
        settings={name: _structural(config.population.families[name]) for name in families},
    )


def _structural(family: Family) -> dict[str, Any]:
    entries = {entry.name: getattr(family, entry.name) for entry in dataclasses.fields(family)}
    return {name: value for name, value in entries.items() if name in family.STRUCTURE or not _is_number(value)}
