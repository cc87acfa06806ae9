"""Every field of every settings class with wrong kinds and extremes: refused by name with a ValueError, or a market that works.

Classes and fields are found by reflection, so a new one is walked by itself.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pytest
import torch
from markets import random_actions, toy

import torchgym
from torchgym import Market, MarketConfig
from torchgym.config import FAMILIES, Family, Fundamentals, Population, ValueTraders, structure
from torchgym.config.fundamentals import NEWS
from torchgym.config.numbers import find
from torchgym.config.validation import (
    LEAST,
    Range,
    Share,
    Within,
    bounds_of,
    check_count,
    check_integer,
    check_number,
    kinds,
)
from torchgym.numerics import random as counted
from torchgym.numerics.trees import leaves
from torchgym.sim import accounts, fundamental, noise
from torchgym.sim.params import _between, make_params
from torchgym.sim.state import Auction, Execution
from torchgym.sim.traders.signals import log_uniform

pytestmark = pytest.mark.kept

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]

PACKAGE = Path(torchgym.__file__).parent
OTHERS = {
    "Task",
    "TaskResult",
    "Place",
    "Setting",
    "Structure",
    "Table",
    "Within",
}  # beside them: results, places, bounds
# Every family is there, and so much news that each kind has its say.
OFTEN = {name: dataclasses.replace(getattr(Fundamentals(), name), probability=0.05) for name in NEWS}
TOY = toy(num_symbols=2, num_sectors=2, max_ticks=50, fundamentals=Fundamentals(**OFTEN))

# What randomize is tried with: two of each kind, and one element of a tuple.
DRAWN = ("population.noise.rate", "fundamentals.public_share", "population.value.rate.1", "list_price", "order_size")

NO_NUMBERS: list[Any] = [
    *(
        None,
        True,
        False,
        np.True_,
        "1",
        "",
        b"1",
        [],
        (),
        {},
        (1,),
        [1.0, 2.0, 3.0, 4.0, 5.0],
        {"low": 0},
        {1: 2},
        {1},
        1j,
    ),
    *(object(), len, int, Decimal(1), Fraction(1, 2), np.timedelta64(1, "s"), np.complex64(1), np.str_("1")),
    *(
        np.array(1),
        np.array([1.0, 2.0]),
        torch.tensor(1),
        torch.tensor(0.5),
        torch.tensor([0.1, 0.2]),
        torch.tensor(True),
    ),
]
EXTREMES: list[Any] = [
    *(0, -1, 2**63 - 1, 2**63, -(2**63) - 1, 2**200, -(2**200), 10**400, -(10**400), 10**5000),
    *(0.0, -0.0, -1.0, 1e308, -1e308, 1e-300, 5e-324, -5e-324, math.inf, -math.inf, math.nan),
    *(np.int8(-1), np.int64(2**63 - 1), np.uint64(2**64 - 1), np.float16(0.0), np.float32(np.inf), np.float32(-1.0)),
    *(np.float64(np.nan), np.float64(5e-324), np.longdouble("1e4000")),
]


# --- the classes and what they are changed to


def settings_classes() -> list[type]:
    """Of the configuration, of modules called settings, and of those that check fields."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.parent.name == "config" or path.name == "settings.py" or "check_fields(" in path.read_text("utf-8"):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            module = importlib.import_module(".".join(parts))
            own = [
                kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__
            ]
            found += [kind for kind in own if dataclasses.is_dataclass(kind) and kind.__name__ not in OTHERS]
    return found


def parts_of(settings: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The settings and all settings inside them, by path."""
    found = {path: settings}
    for entry in dataclasses.fields(settings):
        value = getattr(settings, entry.name)
        if dataclasses.is_dataclass(value):
            found |= parts_of(value, (*path, entry.name))
    return found


PARTS = parts_of(TOY)
CLASSES = settings_classes()
FIELDS = [(kind, entry.name) for kind in CLASSES for entry in dataclasses.fields(kind)]


def sample(kind: type) -> Any:
    """Settings of the class: the toy market's, or the defaults."""
    ours = next((part for part in PARTS.values() if type(part) is kind), None)
    return ours or (Family(count=1, max_size=1) if kind is Family else kind())


def changed(settings: Any, path: tuple[str, ...], value: Any) -> Any:
    """With the value at the path; a mapping is changed in one entry."""
    if not path:
        return value
    name, *rest = path
    before = settings.get(name) if isinstance(settings, Mapping) else getattr(settings, name)
    after = changed(before, tuple(rest), value)
    return (
        {**settings, name: after} if isinstance(settings, Mapping) else dataclasses.replace(settings, **{name: after})
    )


def arrangements(kind: type, name: str, value: Any) -> Iterator[Any]:
    """The value itself, and wherever a number stands inside the setting."""
    now = getattr(sample(kind), name)
    yield value
    if isinstance(now, tuple):
        yield (value,) * len(now)
        yield [*now[1:], value]
    if name == "reward":
        yield {"pnl": value}
    if name == "randomize":
        yield from ({entry: made} for entry in DRAWN for made in (value, (value, value), (0.0, value)))
    if name == "others":
        yield {"value": value}
    if isinstance(now, Mapping) or name == "reward":
        try:
            yield {value: 1.0}
        except TypeError:  # no key
            yield {1: value}


def accepted(make: Callable[[], Any], name: str) -> Any:
    """What was made; None where it was refused as it should be."""
    try:
        return make()
    except Exception as error:
        assert type(error) is ValueError, f"{type(error).__name__}: {error}"
        assert name in str(error), f"{name} is not named: {error}"
        assert len(str(error)) < 1_000
        return None


def is_plain(value: Any) -> bool:
    """Of Python's own types alone, and finite."""
    if dataclasses.is_dataclass(value):
        return all(is_plain(getattr(value, entry.name)) for entry in dataclasses.fields(value))
    if type(value) in (tuple, dict):
        return all(map(is_plain, [*value.values(), *value] if type(value) is dict else value))
    return type(value) in (bool, int, str, type(None)) or (type(value) is float and math.isfinite(value))


def kind_of(value: Any) -> Any:
    """What a value is, and what its entries are."""
    return [type(value), *sorted({type(entry).__name__ for entry in value})] if type(value) is tuple else type(value)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_keyword_that_is_no_setting_is_answered_with_those_that_are(kind: type) -> None:
    known = [entry.name for entry in dataclasses.fields(kind)]
    words = rf"^{kind.__name__}\.__init__\(\) got an unexpected keyword argument '{known[-1]}x': choose from {known[0]}"
    with pytest.raises(TypeError, match=rf"{words}.*; did you mean {known[-1]}\?$"):
        kind(**{f"{known[-1]}x": 1})


def test_the_walk_reaches_every_class() -> None:
    names = {kind.__name__ for kind in CLASSES}
    assert names >= {
        "MarketConfig",
        "Fundamentals",
        "NewsKind",
        "Population",
        "PPOSettings",
        "Plan",
        "Family",
    }
    assert names >= {kind.__name__ for kind in FAMILIES.values()}
    assert {type(part) for part in PARTS.values()} <= set(CLASSES)
    assert all("__post_init__" in dir(kind) and kind.__dataclass_params__.frozen for kind in CLASSES)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=[f"{kind.__name__}.{name}" for kind, name in FIELDS])
def test_a_wrong_value_is_refused_by_name(kind: type, name: str) -> None:
    """Or stored as a plain one; and settings that a market cannot have are refused when it is configured."""
    bounds = bounds_of(kinds(kind).get(name))
    for given in [*NO_NUMBERS, *EXTREMES, *([bounds.low, bounds.high, LEAST] if bounds else [])]:
        for value in arrangements(kind, name, given):
            made = accepted(lambda value=value: dataclasses.replace(sample(kind), **{name: value}), name)
            if kind is MarketConfig:
                accepted(lambda value=value: TOY.replace(**{name: value}), name)
            if made is None:
                continue
            assert is_plain(made), f"{name} = {value!r} is stored as {getattr(made, name)!r}"
            assert hash(made) == hash(dataclasses.replace(made))
            now, stored = getattr(sample(kind), name), getattr(made, name)
            if now not in (None, ()) and name not in ("reward", "compile"):
                assert kind_of(stored) == kind_of(now), f"{name} = {value!r} is stored as {stored!r}"
            for path in [path for path, part in PARTS.items() if type(part) is kind]:
                accepted(lambda path=path, made=made: changed(TOY, path, made), name)


@pytest.mark.parametrize("path", PARTS, ids=".".join)
def test_a_wrong_value_in_a_dictionary_is_refused_by_name(path: tuple[str, ...]) -> None:
    plain, part = TOY.to_dict(), PARTS[path]
    for value in NO_NUMBERS:
        if path and not isinstance(value, Mapping):
            assert accepted(lambda value=value: MarketConfig.from_dict(changed(plain, path, value)), path[-1]) is None
    for entry in dataclasses.fields(part):
        for value in [*NO_NUMBERS, *EXTREMES]:
            own = (*path, entry.name)
            made = accepted(lambda own=own, value=value: MarketConfig.from_dict(changed(plain, own, value)), entry.name)
            assert made is None or is_plain(made)
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        settings = json.loads(json.dumps(plain))
        inner = settings
        for name in path:
            inner = inner[name]
        del inner[entry.name]
        made = accepted(lambda settings=settings: MarketConfig.from_dict(settings), entry.name)
        assert made is None or not required
    for unknown in (1, None, (1, 2), "speed"):
        made = accepted(
            lambda unknown=unknown: MarketConfig.from_dict(changed(plain, (*path, unknown), 1)), str(unknown)
        )
        assert made is None


def test_what_is_no_dictionary_is_no_configuration() -> None:
    for values in [*NO_NUMBERS, *EXTREMES]:
        if not isinstance(values, Mapping):
            assert accepted(lambda values=values: MarketConfig.from_dict(values), "MarketConfig") is None


# --- what is stored


def converted(value: Any, **how: Callable[[Any], Any]) -> Any:
    """Settings, or a value of them, whose parts of the named types are turned into others."""
    if dataclasses.is_dataclass(value):
        fields = {entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)}
        return dataclasses.replace(value, **{name: converted(own, **how) for name, own in fields.items()})
    if type(value) is dict:
        value = {name: converted(own, **how) for name, own in value.items()}
    if type(value) is tuple:
        value = tuple(converted(own, **how) for own in value)
    return how.get(type(value).__name__, lambda same: same)(value)


def either(number: float) -> Any:
    return np.int64(number) if number.is_integer() else np.float64(number)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"int": np.int64, "float": np.float64, "bool": np.bool_, "str": np.str_}, {}),
        ({"float": np.float32}, {"float": lambda number: float(np.float32(number))}),
        ({"float": either}, {}),
        ({"tuple": list}, {}),
    ],
    ids=["numpy", "float32", "integers", "lists"],
)
def test_what_is_stored_is_pythons(kind: type, given: dict[str, Any], meant: dict[str, Any]) -> None:
    """Equality, hash, JSON and the text, of which compiled programs have their names, are those of Python's numbers."""
    settings = sample(kind)
    if kind is MarketConfig:
        settings = settings.replace(
            randomize={"population.noise.rate": (0.125, 1.0)}, reward={"pnl": 1.0, "inventory": -0.5}
        )
    made, expected = converted(settings, **given), converted(settings, **meant)
    assert is_plain(made)
    assert made == expected
    assert (hash(made), repr(made)) == (hash(expected), repr(expected))
    assert json.dumps(dataclasses.asdict(made)) == json.dumps(dataclasses.asdict(expected))


def test_there_is_one_zero() -> None:
    assert repr(MarketConfig(commission_bps=-0.0)) == repr(MarketConfig(commission_bps=0))
    assert math.copysign(1.0, check_number("x", np.float32(-0.0), -1.0)) == 1.0


def test_mappings_are_kept_apart_from_what_was_given() -> None:
    reward, randomize = {"pnl": 1.0}, {"population.noise.rate": [0.1, 0.2]}
    config = MarketConfig(reward=reward, randomize=randomize)  # type: ignore[arg-type]
    before = repr(config)
    reward["pnl"], randomize["population.noise.rate"][0] = 2.0, 0.15
    reward["inventory"], randomize["population.stop.rate"] = 1.0, [0.0, 1.0]
    others: dict[str, Family] = {}
    population = Population(others=others)
    others["ghost"] = ValueTraders()
    assert repr(config) == before
    assert population.others == {}
    told = config.to_dict()
    told["reward"]["pnl"] = 3.0
    assert repr(config) == before


# --- checks, and families of one's own


@pytest.mark.parametrize("check", [check_integer, check_count])
def test_integers_are_returned_as_pythons(check: Callable[..., int]) -> None:
    for value in (7, np.int8(7), np.uint64(7)):
        assert type(check("n", value)) is int and check("n", value) == 7
    for value in [value for value in [*NO_NUMBERS, *EXTREMES] if not isinstance(value, (int, np.integer))]:
        with pytest.raises(ValueError, match=r"^n must be an integer"):
            check("n", value)
    with pytest.raises(ValueError, match=r"^n must be an integer <= 9223372036854775807, got 9223372036854775808"):
        check("n", 2**63)


def test_a_count_has_a_lower_bound() -> None:
    assert check_integer("n", -(2**63)) == -(2**63)
    with pytest.raises(ValueError, match="n must be an integer >= 0, got -1"):
        check_count("n", -1)
    with pytest.raises(ValueError, match="n must be an integer >= 2, got 1"):
        check_count("n", 1, 2)


def test_a_long_value_is_cut() -> None:
    with pytest.raises(ValueError, match=r"^n must be an integer, got \[0, 1, .*\.\.\.$"):
        check_integer("n", list(range(1_000)))
    with pytest.raises(ValueError, match=r"^n must be an integer <= \d+, got a very long int$"):
        check_integer("n", 10**5000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own(Family):
    count: int = 5
    max_size: int = 20
    bold: Share = 0.5
    pair: tuple[float, float] = (2.0, 1.0)
    span: Range[float] = (1.0, 2.0)
    steps: Annotated[int, Within(1, 9)] | None = None
    names: tuple[str, ...] = ()
    mixed: int | str = 1
    anything: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Foreign(Family):
    count: int = 5
    max_size: int = 20
    other: Unknown = None


def test_settings_of_an_added_family_are_checked_by_their_types() -> None:
    made = Own(bold=np.float32(0.5), pair=[np.int64(3), 1], span=[1, 1], steps=np.int8(9), anything=[1])  # type: ignore[arg-type]
    assert made == Own(pair=(3.0, 1.0), span=(1.0, 1.0), steps=9, anything=[1])
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"count": -1}, r"Own\.count must be an integer >= 0, got -1"),
        ({"count": 2**40}, r"Own\.count must be an integer <= 16777216"),
        ({"max_size": 0}, r"Own\.max_size must be an integer >= 1, got 0"),
        ({"bold": 1.5}, r"Own\.bold must be a finite number in \[0\.0, 1\.0\], got 1\.5"),
        ({"pair": (1.0,)}, r"Own\.pair must be a tuple of 2 entries, got \(1\.0,\)"),
        ({"span": (2.0, 1.0)}, r"Own\.span must be in order, the lower bound first, got \(2\.0, 1\.0\)"),
        ({"steps": 10}, r"Own\.steps must be an integer <= 9, got 10"),
        ({"names": (1,)}, r"Own\.names\[0\] must be a name, got 1"),
    ]
    for settings, message in wrong:
        with pytest.raises(ValueError, match=message):
            Own(**settings)


def test_a_type_that_only_a_checker_knows_leaves_the_settings_to_the_family() -> None:
    assert Foreign(other=3).other == 3
    with pytest.raises(ValueError, match=r"Foreign\.count must be an integer >= 0, got -1"):
        Foreign(count=-1)


# --- what is accepted works


def allowed(path: tuple[str, ...], value: Any, config: MarketConfig = TOY) -> MarketConfig | None:
    """The market so changed; None where it is refused, which is looked at above."""
    try:
        made: MarketConfig = changed(config, path, value)
        return made
    except ValueError:
        return None


def numbers(kind: Any, now: Any) -> Iterator[Any]:
    """The extremes of a field of numbers: its bounds, the least number, and every extreme value that is right."""
    bounds = bounds_of(kind)
    assert bounds is not None
    for value in (bounds.low, bounds.high, LEAST, *EXTREMES):
        yield (value,) * len(now) if isinstance(now, tuple) else value
    if isinstance(now, tuple):
        yield (bounds.low, *now[1:-1], bounds.high)
        yield (bounds.high, *now[1:-1], bounds.low)


def extremes() -> dict[tuple[str, ...], list[tuple[tuple[str, ...], Any]]]:
    """What each part of the toy market may be changed to, one field at a time: path and value, each once."""
    found: dict[tuple[str, ...], list[tuple[tuple[str, ...], Any]]] = {}
    for path, part in PARTS.items():
        own = found.setdefault(path, [])
        for entry in dataclasses.fields(part):
            declared, now = kinds(type(part))[entry.name], getattr(part, entry.name)
            if bounds_of(declared) is None or entry.name == "warmup_ticks":  # a long one is a matter of patience
                continue
            stored = [now]
            for value in numbers(declared, now):
                made = allowed((*path, entry.name), value)
                if made is None:
                    continue
                plain = getattr(parts_of(made)[path], entry.name)
                if plain not in stored:
                    stored.append(plain)
                    own.append(((*path, entry.name), plain))
    return found


def drawn_extremes() -> dict[tuple[str, ...], list[tuple[tuple[str, ...], Any]]]:
    """The same of what is drawn anew for every market, and of the weights of rewards."""
    found = {}
    for name in DRAWN:
        own = find(TOY, name)[0].bounds
        path, bounds = ("randomize", name), (max(own.low, 0.0), max(own.low, LEAST), own.high)
        pairs = [(low, high) for low in bounds for high in bounds if low <= high]
        found[path] = [(path, pair) for pair in pairs if allowed(path, pair)]
    for term in torchgym.readout.rewards.REWARDS:
        found["reward", term] = [(("reward",), {term: weight}) for weight in (0.0, LEAST, 1e9, -1e9)]
    return found


def rounds(
    waiting: dict[tuple[str, ...], list[tuple[tuple[str, ...], Any]]],
) -> Iterator[tuple[MarketConfig, str]]:
    """Toy markets that are changed in one field of every part at once, where these changes do not contradict each other."""
    order = random.Random(0)
    for changes in waiting.values():
        order.shuffle(changes)
    while any(waiting.values()):
        config, names = TOY, []
        for changes in waiting.values():
            if changes:
                path, value = changes[-1]
                try:
                    config = changed(config, path, value)
                except ValueError:  # it waits for another round
                    continue
                names.append(f"{'.'.join(path)}={value}")
                changes.pop()
        yield config, ", ".join(names)


ROUNDS = [*rounds(extremes()), *rounds(drawn_extremes())]


def test_every_bound_is_among_the_extremes_that_are_tried() -> None:
    tried = " ".join(names for _, names in ROUNDS)
    for bound in (
        "population.value.belief_memory=1.0",
        "fundamentals.volatility=0.1",
        "randomize.population.noise.rate=(0.0, 100.0)",
    ):
        assert bound in tried
    assert len(ROUNDS) < 120


@pytest.mark.parametrize("config", [config for config, _ in ROUNDS], ids=[names for _, names in ROUNDS])
def test_what_is_accepted_works(config: MarketConfig) -> None:
    """No exception, no broken invariant, no number that is none, no integer or price beyond what is exact."""
    market = Market(config, 2, seed=0, debug=True)
    results = [market.reset()]
    results += [market.step(action) for action in random_actions(config, 5 if config.ticks_per_action < 100 else 1, 2)]
    state = market.live
    counted = [(name, leaf) for name, leaf in leaves(state) if leaf.dtype == torch.int64 and name != "clock.seed"]
    assert [name for name, leaf in leaves(state) if not torch.isfinite(leaf).all()] == []
    assert [name for name, leaf in counted if int(leaf.abs().max()) >= 2**53] == []
    assert int(state.market_data.mids_x2.max()) < 2**25
    for result in results:
        shown = {"observation": result.observation, "account": result.account, "reward": result.reward, **result.info}
        assert [name for name, tensor in shown.items() if not torch.isfinite(tensor).all()] == []


def test_the_least_number_is_one_that_a_scale_can_be_drawn_from() -> None:
    """Log-uniform to the largest bound there is."""
    half = torch.full((1, 1, 1), 0.5)
    bounds = torch.tensor([[[[LEAST, 1e6]]]])
    family = SimpleNamespace(rate=bounds, rate_span=1e6, rate_log_ratio=math.log(1e6 / LEAST))
    assert log_uniform(family, "rate", half).item() == pytest.approx(1e-12, rel=1e-4, abs=0.0)
    assert _between((LEAST, 1e6), half.to(torch.float64), by_ratio=True).item() == pytest.approx(
        1e-12, rel=1e-9, abs=0.0
    )
    assert torch.tensor(LEAST, dtype=torch.float32).item() == pytest.approx(LEAST, rel=1e-6, abs=0.0)


def test_how_far_the_value_may_move_is_how_far_it_moves() -> None:
    """Within five standard errors, over 4,000 markets after 300 ticks with much news and fast reversion."""
    news = dataclasses.replace(Fundamentals().macro, probability=0.05, scale=0.2, duration=1)
    latent = Fundamentals(volatility=0.01, reversion_half_life=100.0, spread_of_start=0.3, macro=news)
    few = Population(**{name: dataclasses.replace(own, count=1) for name, own in Population().families.items()})
    config, count = MarketConfig(max_ticks=300, fundamentals=latent, population=few), 4_000
    plan, params = structure(config), make_params(config, count, torch.device("cpu"))
    numbers = noise.make_plan(plan, torch.device("cpu"))
    key = counted.make_key(torch.arange(count), torch.zeros(count, dtype=torch.int64))
    value = fundamental.start(params, noise.draw_start(plan, numbers, key))
    for tick in range(300):
        draws = noise.draw(plan, numbers, key, torch.full((count,), tick))
        value = fundamental.advance(plan, params, value, draws)
    expected = latent.value_deviation(300, 10_000)
    error = 5.0 * math.sqrt(float((value.level**4).mean() / expected**4 - 1.0) / count)  # of the mean square
    assert float((value.level**2).mean()) == pytest.approx(expected**2, rel=error)
    assert error < 0.3
    forever = dataclasses.replace(latent, reversion_half_life=1e18, news_rate=0.0)
    assert forever.value_deviation(300, 10_000) == pytest.approx(math.sqrt(0.09 + 0.03), rel=0.01)


def largest(name: str, **changes: Any) -> MarketConfig:
    """The toy market with the largest integer that a setting may be."""
    low, high = 1, 2**40
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if allowed((name,), middle, TOY.replace(**changes)) else (low, middle)
    return TOY.replace(**changes, **{name: low})


@pytest.mark.parametrize("changes", [{}, {"commission_bps": 10_000.0}, {"borrow_ppb": 1_000_000_000}], ids=str)
@pytest.mark.parametrize("list_price", [100, 10_000, 2**18 - 1])
def test_the_largest_accounts_stay_exact(changes: dict[str, Any], list_price: int) -> None:
    """A short position that is turned around whole, at 20 times the list price, in Python's integers."""
    config = largest("position_limit", list_price=list_price, order_size=1, starting_cash=10**12, **changes)
    limit, price, plan = config.position_limit, 20 * list_price, structure(config)
    params = make_params(config, 1, torch.device("cpu"))
    assert limit >= 50

    def each(*number: int, width: int = 0) -> torch.Tensor:
        tensor = torch.tensor(number, dtype=torch.int64).expand(1, config.num_symbols)
        return tensor.unsqueeze(-1).repeat(1, 1, width) if width else tensor.clone()

    none = each(0, width=plan.slots)
    owned, before = accounts.start(plan, params, each(0, width=plan.owners))
    before = dataclasses.replace(before, shares=each(-limit, width=1), basis=each(-limit * price, width=1))
    filled, paid = 2 * limit, 2 * limit * price
    of_learner = {"filled": filled, "paid": paid, "remainder": 0, "limit": price}
    own = {name: each(number, width=1) for name, number in of_learner.items()}
    *_, traded = accounts.settle(
        plan,
        params,
        owned,
        before,
        execution=Execution(**own, last_price=each(price), fills=none),
        auction=Auction(each(0), each(0), each(0, width=plan.slots + 1)),
        standing_price=none,
    )
    fee = -(-paid * round(100 * config.commission_bps) // 1_000_000)
    assert traded.cash.tolist() == [[config.starting_cash - config.num_symbols * (paid + fee)]]
    assert traded.basis.tolist() == [[[limit * price]] * config.num_symbols]
    assert traded.realized.tolist() == [[-config.num_symbols * fee]]
    marked = accounts.mark(params, before, each(2 * price), None, now=torch.tensor([1]))
    due = config.num_symbols * limit * 2 * price * config.borrow_ppb // 2_000_000_000
    assert marked.borrow.tolist() == [[due]]
    worth = config.num_symbols * limit * 2 * price
    assert marked.equity_x2.tolist() == [[2 * (config.starting_cash - due) - worth]]


def test_a_family_may_be_as_large_as_its_random_numbers_reach() -> None:
    count = counted.MAX_LANES // 9 // 2
    population = dataclasses.replace(TOY.population, trend=dataclasses.replace(TOY.population.trend, count=count))
    assert Market(TOY.replace(population=population), 1).num_envs == 1
    more = dataclasses.replace(TOY.population, trend=dataclasses.replace(TOY.population.trend, count=count + 1))
    with pytest.raises(ValueError, match=r"num_symbols = 2 times population\.trend\.count = 58255 exceeds 116508"):
        TOY.replace(population=more)
