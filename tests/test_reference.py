"""The tensor tick equals the plain-Python market of tests/reference.py: every trader, every order, every bit, at every tick."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import reference
import torch
from markets import random_actions
from torch import Tensor

from torchgym import Market, MarketConfig, preset
from torchgym.config import (
    PRESETS,
    Fundamentals,
    Makers,
    MetaOrders,
    NewsKind,
    NewsReactors,
    NoiseTraders,
    PairsTraders,
    Population,
    SectorRotators,
    Session,
    StopTraders,
    Structure,
    ValueTraders,
    all_numbers,
    structure,
    with_numbers,
)
from torchgym.numerics.trees import leaves, map_tensors
from torchgym.sim import noise
from torchgym.sim import tick as ticking
from torchgym.sim.noise import Noise, NoisePlan
from torchgym.sim.params import Params, make_params
from torchgym.sim.state import MarketState

pytestmark = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="older numpy widens float32 scalars that meet Python numbers"
)

CPU = torch.device("cpu")
# Not part of what a tick computes: the address of the random numbers, and what rewards remember.
CLOSED_FORM = {"as_null", "ac_null"}  # beside which theory stands, not this reference: tests/test_closed_form.py
NOT_COMPARED = {"clock.seed", "clock.episode", "clock.last", "clock.key"}


@dataclasses.dataclass
class Pair:
    """A batch of markets in tensors and the same markets in plain Python, advanced with the same noise."""

    config: MarketConfig
    structure: Structure
    plan: NoisePlan
    params: Params
    state: MarketState
    plain: list[reference.Market]

    def tick(self, action: Tensor) -> None:
        draws = noise.draw(self.structure, self.plan, self.state.clock.key, self.state.clock.tick + 1)
        self.state = advance(self, self.state, action, draws)
        for row, market in enumerate(self.plain):
            market.tick(action[row].tolist(), reference.read_noise(draws, row))

    def assert_equal(self) -> None:
        for row, market in enumerate(self.plain):
            found = reference.compare(market, reference.read(market.config, self.state, row))
            assert not found, f"plain != tensor, market {row}, tick {market.tick_number}: " + "; ".join(found[:10])


def advance(pair: Pair, state: MarketState, action: Tensor, draws: Noise) -> MarketState:
    with torch.no_grad():
        return ticking.tick(pair.structure, pair.params, state, action=action, draws=draws)


def open_pair(
    config: MarketConfig, markets: int, *, seed: int = 0, numbers: dict[str, list[float]] | None = None
) -> Pair:
    """Both forms of markets before their warm-up, the learner's account opened by each of them.

    `numbers` has some by path, one for each market.
    """
    numbers = numbers or {}
    form, params = structure(config), make_params(config, markets, CPU, numbers)
    plan, seeds = noise.make_plan(form, CPU), torch.arange(seed, seed + markets)
    with torch.no_grad():
        state = ticking.start(form, params, plan=plan, seed=seeds, episode=torch.zeros_like(seeds))
    worlds = [with_numbers(config, {path: own[row] for path, own in numbers.items()}) for row in range(markets)]
    plain = [reference.read(world, state, row) for row, world in enumerate(worlds)]
    for market in plain:
        market.endow()
    return Pair(config, form, plan, params, state, plain)


@functools.cache
def warmed_up(name: str, symbols: int, markets: int) -> MarketState:
    """Markets of a preset at tick 0, by the engine."""
    market = Market(preset(name, num_symbols=symbols), markets, seed=0)
    market.reset()
    return market.state


def warm_pair(name: str, symbols: int, markets: int, **terms: Any) -> Pair:
    """Both forms of markets at tick 0; `terms` are settings that make no difference while the learner holds."""
    config = preset(name, num_symbols=symbols, **terms)
    pair = open_pair(config, markets)
    pair.state = warmed_up(name, symbols, markets)
    pair.plain = [reference.read(config, pair.state, row) for row in range(markets)]
    return pair


def run(pair: Pair, ticks: int, *, seed: int = 0) -> Iterator[Tensor]:
    """Random actions of the learner, yielded after each tick; compares everything after every tick."""
    for action in random_actions(pair.config, ticks, len(pair.plain), seed=seed):
        pair.tick(action)
        pair.assert_equal()
        yield action


def finish(steps: Iterator[Tensor]) -> None:
    for _ in steps:
        pass


SCHEMES = ("discrete", "sized", "target", "position", "signed_weights", "participation")
TERMS = [(execution, mark) for execution in ("book", "auction") for mark in ("mid", "liquidation")]


@pytest.mark.parametrize("symbols", [1, 3])
@pytest.mark.parametrize(("execution", "mark"), TERMS)
@pytest.mark.parametrize("action", SCHEMES)
def test_few_traders(action: str, execution: str, mark: str, symbols: int) -> None:
    terms = {
        "action": action,
        "execution": execution,
        "mark": mark,
        "position_limit": 600 if "weights" in action else 25,
    }
    finish(run(warm_pair("toy", symbols, 1, **terms), 30))


@pytest.mark.parametrize("symbols", [1, 3])
@pytest.mark.parametrize(
    ("action", "execution", "mark"),
    [("target", "book", "liquidation"), ("sized", "auction", "mid"), ("weights", "book", "mid")],
)
def test_default_traders(action: str, execution: str, mark: str, symbols: int) -> None:
    finish(run(warm_pair("default", symbols, 1, action=action, execution=execution, mark=mark), 30))


@pytest.mark.parametrize(("name", "symbols", "execution"), [("toy", 2, "book"), ("default", 1, "auction")])
def test_older_orders_first(name: str, symbols: int, execution: str) -> None:
    """From the opening on, so that every place in the queue is one that the market itself gave."""
    config = preset(name, num_symbols=symbols, priority="time", execution=execution, action="sized")
    pair = open_pair(config, 1, seed=3)
    finish(run(pair, config.warmup_ticks + 30))
    since = pair.state.book.since
    assert since is not None and since.max() == 30 and since[pair.state.book.size != 0].unique().numel() > 0
    assert ((since < 28) & (pair.state.book.size != 0)).any()  # some have stood for a while


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"toy", "default", *CLOSED_FORM}))
def test_other_presets(name: str) -> None:
    finish(run(open_pair(preset(name), 1, seed=7), 40))


@pytest.mark.parametrize(("symbols", "execution", "priority"), [(1, "book", "time"), (3, "auction", "pro_rata")])
def test_days(symbols: int, execution: str, priority: str) -> None:
    """Through several openings, closes and nights."""
    hours = Session(kind="day", ticks=7, half_life=2.0)
    terms = {"session": hours, "execution": execution, "priority": priority, "action": "sized"}
    finish(run(open_pair(preset("toy", num_symbols=symbols, **terms), 2, seed=9), 64 + 30))


@pytest.mark.parametrize(("name", "symbols"), [("toy", 1), ("toy", 3), ("default", 1)])
def test_the_warm_up_from_its_first_tick(name: str, symbols: int) -> None:
    config = preset(name, num_symbols=symbols)
    pair = open_pair(config, 1)
    pair.assert_equal()
    hold = torch.full((1, symbols), 1)
    for _ in range(config.warmup_ticks):
        pair.tick(hold)
        pair.assert_equal()
    assert pair.plain[0].tick_number == 0


@pytest.mark.parametrize(("mark", "held"), [("mid", 23), ("liquidation", -23), ("liquidation", 400)])
def test_a_starting_inventory(mark: str, held: int) -> None:
    """From the opening quotes on, the learner trading back 100 shares: through zero, or of more than a book takes at once."""
    terms = {"mark": mark, "position_limit": 400, "starting_shares": held, "borrow_ppb": 100_000}
    config = preset("toy", num_symbols=2, **terms)
    pair = open_pair(config, 2)
    pair.assert_equal()
    back = torch.full((2, 2), 0 if held > 0 else 2)
    for tick in range(-config.warmup_ticks, 40):
        pair.tick(back if tick >= 0 and tick % 4 == 3 else torch.full((2, 2), 1))
        pair.assert_equal()
    own = pair.state.ledger
    assert torch.equal(own.shares[..., 0], torch.full((2, 2), held - (100 if held > 0 else -100)))
    assert own.borrow.gt(0).all() == (held < 100)  # short at the start or at the end
    assert own.realized.ne(0).all()


def test_ruin_begins_after_the_warm_up_and_lasts() -> None:
    """The maintenance level is just below what the starting shares are worth at the list price; a market opens near that."""
    config = preset("toy", starting_shares=50)
    config = config.replace(maintenance=config.starting_cash + 50 * config.list_price - 1)
    pair = open_pair(config, 8)
    for tick in range(-config.warmup_ticks, 12):
        pair.tick(torch.full((8, 1), 1))
        pair.assert_equal()
        assert tick >= 0 or not pair.state.ledger.ruined[:, 0].any()
    own = pair.state.ledger
    assert own.ruined.any() and not own.ruined.all()


def test_an_eventful_market() -> None:
    """All that is rare: news of every kind, pairs and rotators at work, parent orders, stops, borrow fees, huge orders."""
    population = dataclasses.replace(
        preset("toy").population,
        pairs=PairsTraders(count=5, rate=0.5, lookback=(4.0, 8.0), entry=0.8),
        rotator=SectorRotators(count=3, rate=0.5, capacity=600.0),
        news=NewsReactors(count=4, rate=0.7, unwind_rate=0.5, max_size=15),
        meta_order=MetaOrders(count=4, start_rate=0.5, pieces=(2.0, 10.0), child=10.0),
        stop=StopTraders(count=4, rate=0.3),
        maker=Makers(count=3, limit=30.0),
    )
    brief = {
        name: NewsKind(probability=0.02, scale=0.02, duration=4, immediate=0.4)
        for name in ("earnings", "guidance", "sector", "macro")
    }
    config = preset(
        "toy",
        num_symbols=5,
        action="sized",
        order_size=400,
        position_limit=3_000,
        borrow_ppb=3_000,
        population=population,
        fundamentals=Fundamentals(**brief),
    )
    pair = open_pair(config, 2)
    seen: dict[str, int] = dict.fromkeys(
        ("news", "book exhausted", "borrow", "short", "pairs", "rotator", "parent begun", "stopped", "unquoted"), 0
    )
    for action in run(pair, 90):
        state, families_at = pair.state, pair.structure.families
        shares = state.accounts.shares
        seen["news"] += int(state.value.arrived.sum())
        seen["book exhausted"] += int(((state.ledger.filled[..., 0].abs() < 400) & ((action - 3).abs() > 1)).sum())
        seen["borrow"] += int((state.ledger.borrow[:, 0] > 0).sum())
        seen["short"] += int((state.ledger.shares[..., 0] < 0).sum())
        for family in ("pairs", "rotator"):
            seen[family] += int((shares[..., families_at[family]] != 0).sum())
        seen["parent begun"] += int((state.traders["meta_order"].remaining.abs() >= 10).sum())
        seen["stopped"] += int(state.traders["stop"].leaving.sum())
        seen["unquoted"] += int((state.book.size[..., pair.structure.singles :] == 0).sum())
    assert min(seen.values()) > 10, seen


def test_an_all_but_empty_market() -> None:
    """Two traders and a maker that is soon full: sides without an order, ticks without a trade, absent families."""
    families = {
        name: dataclasses.replace(family, count=0) for name, family in preset("toy").population.families.items()
    }
    families |= {
        "value": ValueTraders(count=1),
        "noise": NoiseTraders(count=1, rate=0.3),
        "maker": Makers(count=1, limit=3.0, start_inventory=0.0),
    }
    config = preset("toy", population=Population(**families), mark="liquidation", order_size=2, position_limit=7)
    pair, seen = open_pair(config, 24), {"no bid": 0, "no ask": 0, "quoted 20 points away": 0, "no trade": 0}
    for _ in run(pair, 20):
        size, market_data = pair.state.book.size, pair.state.market_data
        no_bid, no_ask = (size <= 0).all(-1), (size >= 0).all(-1)
        centre = torch.floor(pair.state.traders["maker"].reference)
        away = (no_bid & (market_data.bid == centre - 20)) | (no_ask & (market_data.ask == centre + 20))
        volume = market_data.volumes[..., -1]
        for name, happened in zip(seen, (no_bid, no_ask, away, volume == 0), strict=True):
            seen[name] += int(happened.sum())
    assert min(seen.values()) > 10, seen


@pytest.mark.parametrize("points", [150, 200_000])
def test_coarse_and_fine_points(points: int) -> None:
    """Spreads of many per cent, and prices of which the band covers only a sliver."""
    finish(run(open_pair(preset("toy", num_symbols=3, list_price=points, action="sized"), 1), 80))


def test_parameters_of_their_own() -> None:
    """Markets of one batch may differ in every number; here in all but those that others have to fit, by their own factors."""
    config = preset("toy", num_symbols=4, usual_return=2e-3, action="sized", execution="book", mark="liquidation")
    numbers = scattered(config, 3)
    assert len(numbers) > 120
    pair = open_pair(config, 3, numbers=numbers)
    assert pair.plain[0].config.fundamentals.news_rate != pair.plain[1].config.fundamentals.news_rate
    finish(run(pair, 40))


FITTED = ("list_price", "max_ticks", "order_size", "position_limit", "starting_", "maintenance", "reward", "randomize")


def scattered(config: MarketConfig, markets: int) -> dict[str, list[float]]:
    """Every real number of a configuration that isn't 0, each market's its own, within its bounds.

    All numbers of a tuple go with one factor, so a range stays in order.
    """
    generator, numbers = torch.Generator().manual_seed(3), dict[str, list[float]]()
    for path, setting in all_numbers(config).items():
        factors = (0.7 + 0.28 * torch.rand(markets, generator=generator, dtype=torch.float64)).tolist()
        several = isinstance(setting.value, tuple)
        values = setting.value if isinstance(setting.value, tuple) else (setting.value,)
        if path.startswith(FITTED) or not all(isinstance(value, float) for value in values):
            continue
        for at, value in enumerate(values):
            own = [max(value * factor, setting.bounds.low) for factor in factors]
            numbers[f"{path}.{at}" if several else path] = own
    return numbers


def test_many_numbers_at_once_with_eventful_news() -> None:
    """Coefficients of every phase away from their defaults, the same in the configuration as given to the markets."""
    config = preset("toy", num_symbols=4, action="sized")
    often = {f"fundamentals.{kind}.probability": 0.03 for kind in ("earnings", "guidance", "sector", "macro")}
    moved = {path: own[0] for path, own in scattered(config, 1).items()} | often | {"population.news.rate": 0.6}
    finish(run(open_pair(with_numbers(config, moved), 2, seed=5), 40))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(PRESETS) - CLOSED_FORM))
@pytest.mark.parametrize("execution", ["book", "auction"])
def test_long_runs(name: str, execution: str) -> None:
    config = preset(name, num_symbols=3, action="sized", execution=execution, order_size=30)
    finish(run(open_pair(config, 2, seed=100), 300))


def test_nothing_goes_uncompared() -> None:
    """A change of any tensor of the state, in any place that means something, shows up in the comparison."""
    pair = warm_pair("toy", 3, 1)
    names = [name for name, _ in leaves(pair.state)]
    compared = [name for name in names if name not in NOT_COMPARED and not name.startswith("reward.")]
    unnoticed = []
    for changed in compared:
        each = iter(names)

        def nudge(leaf: Tensor, changed: str = changed, each: Iterator[str] = each) -> Tensor:
            if next(each) != changed:
                return leaf
            if leaf.dtype == torch.bool:
                return ~leaf
            return torch.nextafter(leaf, torch.ones_like(leaf) * 1e9) if leaf.is_floating_point() else leaf + 1

        other = reference.read(pair.config, map_tensors(nudge, pair.state), 0)
        if not reference.compare(pair.plain[0], other):
            unnoticed.append(changed)
    assert len(compared) > 80
    assert not unnoticed
