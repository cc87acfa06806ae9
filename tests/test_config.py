"""Settings: derived defaults, refusals that name value and remedy, presets, plain-value round trips."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import torchgym as tg
from torchgym.config import (
    Fundamentals,
    Makers,
    MarketConfig,
    MetaOrders,
    NewsKind,
    Population,
    TrendFollowers,
    ValueTraders,
    task_presets,
)

FAMILIES = list(Population().families)


def test_derived_defaults() -> None:
    config = MarketConfig(num_symbols=5, order_size=7, list_price=2_000)
    assert (config.num_sectors, config.position_limit, config.starting_cash) == (3, 35, 1_400_000)


def test_replace_moves_derived_settings_but_not_explicit_ones() -> None:
    derived = MarketConfig().replace(order_size=30, num_symbols=4)
    assert (derived.num_sectors, derived.position_limit, derived.starting_cash) == (2, 150, 30_000_000)
    explicit = MarketConfig(position_limit=99, starting_cash=123_456, num_symbols=3, num_sectors=1)
    changed = explicit.replace(order_size=30, num_symbols=4)
    assert (changed.num_sectors, changed.position_limit, changed.starting_cash) == (1, 99, 123_456)
    assert explicit.order_size == 10


def test_a_path_changes_one_setting_of_a_part() -> None:
    """The rest of the part stays as the preset has it."""
    crash = tg.preset("crash")
    busy = tg.preset("crash", **{"population.noise.count": 80, "population.value.rate.0": 0.01, "order_size": 20})
    assert busy.population == dataclasses.replace(
        crash.population,
        noise=dataclasses.replace(crash.population.noise, count=80),
        value=dataclasses.replace(crash.population.value, rate=(0.01, crash.population.value.rate[1])),
    )
    assert (busy.fundamentals, busy.position_limit) == (crash.fundamentals, 100)
    assert tg.TradingEnv(preset="crash", **{"population.noise.count": 80}).config.population.stop.count == 40
    assert tg.task("Trading", "crash", **{"population.noise.count": 80}).population.stop == crash.population.stop


def test_settings_of_one_part_are_changed_at_once() -> None:
    """Between the two changes the range would be out of order."""
    bounds = {"population.value.rate.0": 0.5, "population.value.rate.1": 0.6}
    assert MarketConfig().replace(**bounds).population.value.rate == (0.5, 0.6)


def test_added_families_and_weights_have_paths_too(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Dippers(tg.config.Family):
        count: int = 3
        max_size: int = 5
        greed: float = 1.0

    monkeypatch.setitem(tg.config.FAMILIES, "dipper", Dippers)
    config = MarketConfig(population=Population(others={"dipper": Dippers()}), reward={"pnl": 1.0})
    changed = config.replace(**{"population.dipper.count": 7, "population.noise.count": 9, "reward.inventory": 0.5})
    assert changed.population.others == {"dipper": Dippers(count=7)}
    assert changed.population.noise.count == 9
    assert changed.reward == {"pnl": 1.0, "inventory": 0.5}
    both = {"population.dipper.count": 8, "population.others.dipper.greed": 2.0}
    assert config.replace(**both).population.others == {"dipper": Dippers(count=8, greed=2.0)}
    none = config.replace(**{"population.others": {}, "population.noise.count": 9})
    assert (none.population.others, none.population.noise.count) == ({}, 9)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("population.nois.count", "unknown setting population.nois: choose from value, .*; did you mean noise"),
        ("population.noise.cont", "unknown setting population.noise.cont: choose from count, .*; did you mean count"),
        ("population.value.rate.2", "unknown setting population.value.rate.2: choose from 0, 1"),
        ("max_ticks.count", "unknown setting max_ticks.count: max_ticks has none"),
        ("position_limit.count", "unknown setting position_limit.count: position_limit has none"),
        ("action.count", "unknown setting action.count: action has none"),
        ("randomize.commission_bps", "unknown setting randomize.commission_bps: randomize has none"),
        ("population.others.nobody.count", "population.others.nobody has none"),
        ("nobody.count", "unknown setting nobody: choose from num_symbols, "),
        ("population.", "unknown setting population.: choose from value, "),
        ("skew", r"; did you mean population\.maker\.skew\?$"),
        ("threshold", r"; did you mean population\.\w+\.threshold or population\.\w+\.threshold"),
        ("population.skew", r"; did you mean population\.maker\.skew\?$"),
        ("num_traders", r"has a path, such as population\.noise\.count$"),
    ],
)
def test_a_path_that_leads_nowhere_is_named(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MarketConfig().replace(**{path: 3})


@pytest.mark.parametrize("order", [1, -1])
def test_a_whole_part_comes_before_what_lies_within_it(order: int) -> None:
    """A task gives its reward whole, and somebody else one more term."""
    both = {"population": Population(maker=Makers(count=8)), "population.noise.count": 3}
    population = tg.preset("crash", **dict(list(both.items())[::order])).population
    assert population == Population(maker=Makers(count=8), noise=dataclasses.replace(Population().noise, count=3))
    usual = tg.task("MarketMaking").reward
    assert isinstance(usual, dict)
    assert tg.task("MarketMaking", **{"reward.inventory": 0.5}).reward == {**usual, "inventory": 0.5}
    assert MarketConfig(reward="pnl").replace(**{"reward.inventory": 0.5}).reward == {"pnl": 1.0, "inventory": 0.5}


def test_what_is_fixed_is_drawn_no_more() -> None:
    drawn = {"population.value.rate.0": (0.02, 0.03), "population.noise.rate": (0.1, 0.2), "commission_bps": (0.0, 1.0)}
    fixed = MarketConfig(randomize=drawn).fixed(**{"population.value.rate": (0.01, 0.1), "commission_bps": 0.5})
    assert (set(fixed.randomize), fixed.commission_bps) == ({"population.noise.rate"}, 0.5)


def test_replace_lists_the_known_settings() -> None:
    with pytest.raises(ValueError, match=r"unknown setting ordersize: choose from num_symbols, .*order_size"):
        MarketConfig().replace(ordersize=3)


@pytest.mark.parametrize("part", [MarketConfig(), Fundamentals(), Population(), Makers(), Fundamentals().macro])
def test_frozen(part: Any) -> None:
    name = dataclasses.fields(part)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(part, name, getattr(part, name))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_symbols": 0}, r"num_symbols must be an integer >= 1, got 0"),
        ({"num_symbols": 2.0}, r"num_symbols must be an integer >= 1, got 2\.0"),
        ({"num_symbols": True}, r"num_symbols must be an integer >= 1, got True"),
        ({"max_ticks": 0}, r"max_ticks must be an integer >= 1, got 0"),
        ({"ticks_per_action": 0}, r"ticks_per_action must be an integer >= 1"),
        ({"ticks_per_action": 3}, r"max_ticks = 10000 must be a multiple of ticks_per_action = 3"),
        ({"warmup_ticks": 63}, r"warmup_ticks must be an integer >= 64, got 63"),
        ({"band": 7}, r"band must be an integer >= 8"),
        ({"list_price": 99}, r"list_price must be an integer >= 100"),
        ({"list_price": 2**18}, r"list_price must be an integer <= 262143, got 262144"),
        ({"num_sectors": 2}, r"num_sectors = 2 exceeds num_symbols = 1: every sector needs a symbol"),
        ({"num_sectors": 0}, r"num_sectors must be an integer >= 1"),
        ({"point_size": 0.0}, r"point_size must be a finite number in"),
        ({"point_size": float("nan")}, r"point_size must be a finite number .* got nan"),
        ({"usual_volume": 0}, r"usual_volume must be a finite number"),
        ({"usual_return": -1.0}, r"usual_return must be a finite number"),
        ({"opening_volatility": 2.0}, r"opening_volatility must be a finite number"),
        ({"order_size": 0}, r"order_size must be an integer >= 1"),
        ({"order_size": "10"}, r"order_size must be an integer >= 1, got '10'"),
        ({"position_limit": 9}, r"position_limit = 9 is below order_size = 10: no order could ever be sent"),
        ({"starting_cash": 0}, r"starting_cash must be an integer >= 1"),
        ({"starting_shares": 2.0}, r"starting_shares must be an integer >= -16777216, got 2\.0"),
        ({"starting_shares": True}, r"starting_shares must be an integer >= -16777216, got True"),
        (
            {"starting_shares": 51},
            r"starting_shares = 51 exceeds position_limit = 50: start with fewer or raise the limit",
        ),
        ({"starting_shares": -51}, r"starting_shares = -51 exceeds position_limit = 50"),
        (
            {"starting_shares": -50, "maintenance": 9_500_000},
            r"starting_cash = 10000000 with starting_shares = -50 at the list price is not above maintenance = 9500000: ruined",
        ),
        ({"starting_shares": -10, "starting_cash": 150_000, "num_symbols": 2}, r"is not above maintenance = 0: ruined"),
        (
            {"maintenance": 10**7},
            r"starting_cash = 10000000 is not above maintenance = 10000000: ruined from the start",
        ),
        ({"maintenance": 0.5}, r"maintenance must be an integer >= -140737488355328, got 0\.5"),
        ({"maintenance": True}, r"maintenance must be an integer >= -140737488355328, got True"),
        ({"starting_cash": 2**47}, r"starting_cash must be an integer <= 140737488355327, got 140737488355328"),
        ({"position_limit": 2**23}, r"position_limit must be an integer <= 8388607, got 8388608"),
        (
            {"order_size": 10**6},
            r"position_limit = 5000000 times the position limit's value overflows the accounts: lower",
        ),
        (
            {"commission_bps": 1e4, "position_limit": 900_000, "list_price": 2**18 - 1, "starting_cash": 10**12},
            r"commission_bps = 10000\.0 times the position limit's value overflows the accounts",
        ),
        ({"commission_bps": -1.0}, r"commission_bps must be a finite number in \[0\.0, 10000\.0\], got -1\.0"),
        ({"borrow_ppb": -1}, r"borrow_ppb must be an integer >= 0"),
        ({"borrow_ppb": 2**50}, r"borrow_ppb must be an integer <= 1000000000"),
        (
            {"borrow_ppb": 10**9, "position_limit": 30_000},
            r"borrow_ppb = 1000000000 times the position limit's value overflows the accounts",
        ),
        ({"collar": 0.6}, r"collar must be a finite number in \[0\.0, 0\.5\], got 0\.6"),
        ({"estimate_error": 2.0}, r"estimate_error must be a finite number"),
        ({"estimate_half_life": 0.0}, r"estimate_half_life must be a finite number"),
        ({"execution": "dark"}, r"unknown execution 'dark': choose one of book, auction"),
        ({"mark": "last"}, r"unknown mark 'last': choose one of mid, liquidation"),
        ({"scaling": "log"}, r"unknown scaling 'log': choose one of raw, relative"),
        ({"information": "all"}, r"unknown information 'all': choose one of public, privileged, none"),
        ({"action": 3}, r"action must be a name, got 3"),
        ({"features": None}, r"features must be a name, got None"),
        ({"fundamentals": {}}, r"fundamentals must be of the class torchgym\.config\.Fundamentals, got \{\}"),
        ({"population": 3}, r"population must be of the class torchgym\.config\.Population, got 3"),
        ({"reward": 1.0}, r"reward must be a name or a mapping, got 1\.0"),
        ({"reward": {}}, r"reward must name at least one term"),
        (
            {"reward": {"pnl": float("inf")}},
            r"reward\['pnl'\] must be a finite number in \[-1000000000\.0, 1000000000\.0\], got inf",
        ),
        ({"reward": {1: 2.0}}, r"each term of reward must be a name, got 1"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MarketConfig(**changes)
    with pytest.raises(ValueError, match=message):
        MarketConfig().replace(**changes)


def test_too_many_shares_for_exact_sums() -> None:
    crowd = Population(value=ValueTraders(count=700_000, max_size=25))
    with pytest.raises(
        ValueError, match=r"could add up to \d+ shares, not below 2\*\*24: use fewer or smaller traders"
    ):
        MarketConfig(population=crowd)


@pytest.mark.parametrize(
    "changes",
    [
        {"depth": (60.0, 60.0)},
        {"base_width": 1_000.0, "depth": (3.0, 8.0)},
        {"volatility_width": 5.0, "depth": (3.0, 8.0)},
        {"news_width": 10.0, "depth": (8.0, 8.0)},
    ],
)
def test_the_nearest_quotes_stay_within_the_price(changes: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"quotes could stand \d+ points from the price, beyond list_price = 10000: lower"
    ):
        MarketConfig(population=Population(maker=Makers(**changes)))


def test_drawn_quotes_stay_within_the_price() -> None:
    maker = Makers(depth=(3.0, 8.0))
    with pytest.raises(ValueError, match=r"quotes could stand \d+ points from the price"):
        MarketConfig(population=Population(maker=maker), randomize={"population.maker.volatility_width": (0.1, 5.0)})
    MarketConfig(population=Population(maker=maker), randomize={"population.maker.volatility_width": (0.1, 1.0)})


@pytest.mark.parametrize(
    "changes",
    [
        {"fundamentals": Fundamentals(volatility=0.02)},
        {"fundamentals": Fundamentals(volatility=0.005, reversion_half_life=1e12), "max_ticks": 10**6},
        {"fundamentals": Fundamentals(macro=NewsKind(probability=0.1, scale=0.2, duration=9, immediate=0.5))},
        {"randomize": {"fundamentals.volatility": (1e-3, 0.1)}},
        {"randomize": {"fundamentals.news_rate": (0.0, 400.0)}, "max_ticks": 10**5, "list_price": 2**18 - 1},
        {"list_price": 2**18 - 1, "fundamentals": Fundamentals(spread_of_start=0.9)},
    ],
)
def test_the_value_stays_where_quotes_are_exact(changes: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"the value may move by [\d.]+ in logs, with list_price = \d+ beyond 2\*\*24 points"
    ):
        MarketConfig(**changes)
    MarketConfig(**{**changes, "max_ticks": 100, "list_price": 1_000})


def test_a_market_opens_near_its_value() -> None:
    with pytest.raises(
        ValueError, match=r"start_inventory = 500000\.0 of 12 meta-order traders is too much for 5 value traders"
    ):
        MarketConfig(
            population=Population(value=ValueTraders(count=5), meta_order=MetaOrders(start_inventory=500_000.0))
        )


def test_a_market_needs_makers() -> None:
    with pytest.raises(ValueError, match=r"population\.maker\.count must be >= 1"):
        MarketConfig(population=Population(maker=Makers(count=0)))


def test_a_market_needs_traders_beside_makers() -> None:
    none = {name: dataclasses.replace(getattr(Population(), name), count=0) for name in FAMILIES if name != "maker"}
    none["pairs"] = Population().pairs  # absent in a market of one symbol
    with pytest.raises(ValueError, match=r"no trader beside makers, pairs traders and sector rotators"):
        MarketConfig(population=Population(**none))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ValueTraders(count=-1), r"ValueTraders\.count must be an integer >= 0, got -1"),
        (lambda: ValueTraders(max_size=0), r"ValueTraders\.max_size must be an integer >= 1, got 0"),
        (lambda: ValueTraders(belief_error=-0.1), r"ValueTraders\.belief_error must be a finite number in \[0"),
        (lambda: ValueTraders(rate=(0.2, 0.1)), r"ValueTraders\.rate must be in order, .* got \(0\.2, 0\.1\)"),
        (lambda: ValueTraders(rate=(0.1,)), r"ValueTraders\.rate must be a \(low, high\) pair"),
        (lambda: ValueTraders(size="8"), r"ValueTraders\.size must be a \(low, high\) pair, got '8'"),
        (lambda: ValueTraders(rate=0.1), r"ValueTraders\.rate must be a \(low, high\) pair, got 0\.1"),
        (
            lambda: ValueTraders(capacity=(10.0, 20.0)),
            r"ValueTraders\.capacity must be a finite .* got \(10\.0, 20\.0\)",
        ),
        (
            lambda: ValueTraders(belief_memory=1.1),
            r"ValueTraders\.belief_memory must be a finite number in \[0\.0, 1\.0\]",
        ),
        (lambda: NewsKind(probability=1.1, scale=0.1, duration=9, immediate=0.5), r"NewsKind\.probability"),
        (lambda: NewsKind(probability=0.1, scale=-0.1, duration=9, immediate=0.5), r"NewsKind\.scale"),
        (lambda: NewsKind(probability=0.1, scale=0.1, duration=0, immediate=0.5), r"NewsKind\.duration"),
        (lambda: NewsKind(probability=0.1, scale=0.1, duration=9, immediate=1.5), r"NewsKind\.immediate"),
        (lambda: Fundamentals(leverage=-1.5), r"Fundamentals\.leverage must be a finite number in \[-1\.0, 1\.0\]"),
        (lambda: Fundamentals(public_share=1.5), r"Fundamentals\.public_share"),
        (
            lambda: Fundamentals(volatility_half_lives=(1.0, 2.0)),
            r"volatility_half_lives must be a tuple of 3 entries",
        ),
        (
            lambda: Fundamentals(volatility_scales=(0.1, 0.1, -0.1)),
            r"volatility_scales\[2\] must be a finite number in \[0",
        ),
        (lambda: Fundamentals(spread_of_start=float("nan")), r"spread_of_start must be a finite number"),
        (lambda: Fundamentals(headline_pass_through=2.0), r"headline_pass_through must be a finite number in \[0"),
        (
            lambda: Fundamentals(macro=None),
            r"Fundamentals\.macro must be of the class torchgym\.config\.NewsKind, got None",
        ),
        (
            lambda: Population(trend=None),
            r"the family 'trend' must have settings of torchgym\.config\.TrendFollowers, got None",
        ),
        (lambda: Makers(limit=0), r"Makers\.limit must be a finite number in \[1"),
        (lambda: Makers(depth=(0.0, 8.0)), r"Makers\.depth\[0\] must be a finite number in \[0\.01"),
        (lambda: ValueTraders(capacity=0), r"ValueTraders\.capacity must be a finite number in \[10"),
        (lambda: TrendFollowers(lookback=(0.0, 60.0)), r"TrendFollowers\.lookback\[0\] must be"),
        (lambda: MetaOrders(exponent=1.0), r"MetaOrders\.exponent must be a finite number in \[1\.01"),
        (lambda: Fundamentals(market_loading=0.9, sector_loading=0.9), r"lower one of the loadings"),
        (
            lambda: Fundamentals(
                earnings=NewsKind(probability=0.6, scale=0.1, duration=9, immediate=0.5),
                guidance=NewsKind(probability=0.6, scale=0.1, duration=9, immediate=0.5),
            ),
            r"the probability of earnings and that of guidance must add up to <= 1, got 1\.2",
        ),
    ],
)
def test_impossible_parts_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("name", tg.PRESETS)
def test_presets_survive_json(name: str) -> None:
    config = tg.preset(name, num_symbols=3, reward={"pnl": 1.0, "log_return": 0.5})
    assert MarketConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_presets_differ_and_take_changes() -> None:
    configs = [tg.preset(name, max_ticks=600) for name in tg.PRESETS]
    assert all(config.max_ticks == 600 for config in configs)
    assert all(first != second for at, first in enumerate(configs) for second in configs[:at])
    assert tg.preset("default") == MarketConfig()


@pytest.mark.parametrize("name", tg.PRESETS)
def test_every_preset_says_what_it_is_for(name: str) -> None:
    first = (tg.PRESETS[name].__doc__ or "").splitlines()[0]
    assert first.endswith(".") and 10 < len(first) < 130


def test_tasks_are_presets_too() -> None:
    names = task_presets()
    assert names == {
        "trading": "Trading",
        "market_making": "MarketMaking",
        "execution": "Execution",
        "portfolio": "Portfolio",
    }
    for name, row in names.items():
        assert name not in tg.PRESETS
        assert tg.preset(name) == tg.task(row)
        assert tg.preset(name, max_ticks=200) == tg.task(row, max_ticks=200)
    assert tg.TradingEnv(preset="execution", compile=False).config == tg.task("Execution")
    assert tg.task("Trading", "market_making") == tg.task("MarketMaking")


def test_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown preset 'wild': choose one of default, calm, volatile"):
        tg.preset("wild")
    with pytest.raises(ValueError, match=r"or a task: trading, market_making, execution, portfolio"):
        tg.preset("MarketMaking")
    with pytest.raises(ValueError, match=r"unknown setting wildness"):
        tg.preset("calm", wildness=3)


def test_from_dict_names_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"unknown setting speed of MarketConfig: choose from num_symbols"):
        MarketConfig.from_dict({"speed": 3})
    with pytest.raises(ValueError, match=r"unknown setting speed of TrendFollowers: choose from count"):
        MarketConfig.from_dict({"population": {"trend": {"speed": 3}}})
    with pytest.raises(ValueError, match=r"population must be a mapping of settings of Population, got 3"):
        MarketConfig.from_dict({"population": 3})
    with pytest.raises(ValueError, match=r"population\.trend: unknown setting 1 of TrendFollowers: choose from count"):
        MarketConfig.from_dict({"population": {"trend": {1: 3}}})


def test_from_dict_names_what_is_missing() -> None:
    with pytest.raises(
        ValueError, match=r"fundamentals\.macro must have probability, duration, immediate: NewsKind has no"
    ):
        MarketConfig.from_dict({"fundamentals": {"macro": {"scale": 0.1}}})


@settings(deadline=None, derandomize=True)
@given(
    symbols=st.integers(1, 6),
    order_size=st.integers(1, 50),
    limit=st.integers(50, 500),
    held=st.integers(-10, 50),
    rate=st.tuples(st.floats(0.001, 0.1), st.floats(0.1, 1.0)),
    count=st.integers(0, 40),
    half_lives=st.tuples(*[st.floats(1.0, 1e4)] * 3),
)
def test_dictionaries_are_the_configuration(
    symbols: int,
    order_size: int,
    limit: int,
    held: int,
    rate: tuple[float, float],
    count: int,
    half_lives: tuple[float, float, float],
) -> None:
    config = MarketConfig(
        num_symbols=symbols,
        order_size=order_size,
        position_limit=limit,
        starting_shares=held,
        fundamentals=Fundamentals(volatility_half_lives=half_lives),
        population=Population(trend=TrendFollowers(count=count, rate=rate)),
    )
    assert MarketConfig.from_dict(config.to_dict()) == config
    assert MarketConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_its_settings(name: str) -> None:
    family = getattr(MarketConfig().population, name)
    with pytest.raises(ValueError, match=r"count must be an integer >= 0, got -3"):
        dataclasses.replace(family, count=-3)
