"""Domain randomisation: every episode of every market draws its own parameters, from its seed and number alone."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from markets import counted_graphs, differences, opened, random_actions, same_bits, seen, toy

from torchgym import Market, MarketConfig
from torchgym.config import NewsKind, paths, with_numbers
from torchgym.config.numbers import find
from torchgym.numerics import random
from torchgym.numerics.trees import leaves, map_tensors, rows
from torchgym.sim import noise
from torchgym.sim.params import Params, draw_params, make_params

CPU = torch.device("cpu")
# Numbers that had a place of their own among the drawn ones first, two of a tuple, and one that others follow from.
SOME = (
    *noise._FIRST_LANES,
    "population.value.rate.0",
    "fundamentals.volatility_scales.2",
    "population.maker.expectation_half_lives.1",
)
EVERY = dict.fromkeys(SOME, (0.01, 0.02))
BRIEF = 50  # ticks in which even the largest volatility leads nowhere
WORLDS = {
    "fundamentals.volatility": (5e-4, 1.5e-3),
    "population.noise.rate": (0.1, 0.4),
    "fundamentals.public_share": (0.2, 0.8),
    "population.maker.expectation_half_lives.1": (2.0, 30.0),
    "order_size": (5, 12),
}
CONFIG = toy(randomize=WORLDS)


def keys(count: int, episode: int = 0, first: int = 0) -> torch.Tensor:
    seeds = torch.arange(first, first + count)
    return random.make_key(seeds, torch.full_like(seeds, episode))


def draw(randomize: dict[str, tuple[float, float]], key: torch.Tensor) -> Params:
    config = MarketConfig(randomize=randomize, max_ticks=BRIEF)
    return draw_params(config, make_params(config, len(key), CPU), key)


def told(market: Market, ticks: int = 3) -> list[Any]:
    """What the next few steps show, and the worlds they happen in."""
    steps = [seen(market.step(action)) for action in random_actions(market.config, ticks, market.num_envs)]
    return [*steps, market.params, market.state]


def same(first: list[Any], second: list[Any]) -> bool:
    return all(differences(one, other) == [] for one, other in zip(first, second, strict=True))


# --- the draw


def number(params: Params, path: str) -> torch.Tensor:
    """[N], one number of the configuration in every market."""
    above, _, at = path.rpartition(".")
    if path in params.table.places:
        return params[path].flatten()
    return params[above].flatten(0, -2)[:, int(at)]


@pytest.mark.parametrize("count", [1, 4])
def test_drawn_parameters_lie_in_memory_as_the_plain_ones(count: int) -> None:
    drawn, plain = draw(EVERY, keys(count)), make_params(MarketConfig(), count, CPU)
    for (name, one), (_, other) in zip(leaves(drawn), leaves(plain), strict=True):
        assert (one.shape, one.dtype, one.stride()) == (other.shape, other.dtype, other.stride()), name
        assert one.is_contiguous() and one.storage_offset() == 0
    changed = {
        path
        for path in paths(MarketConfig())
        if path != "max_ticks" and not same_bits(number(drawn, path), number(plain, path))
    }
    assert changed == set(EVERY)
    follows = {path for path in drawn.table.derived if not same_bits(drawn[path], plain[path])}
    reads = drawn.table.reads
    touched = {
        path for path in reads if {name for name in EVERY for name in (name, name.rpartition(".")[0])} & reads[path]
    }
    assert follows and follows <= touched


@pytest.mark.parametrize("name", SOME)
def test_the_law_of_a_number(name: str) -> None:
    """Within bounds, and uniform in the number or in its logarithm: a Kolmogorov-Smirnov test at one in 100 000."""
    low, high = 0.002, 0.05
    drawn = number(draw({name: (low, high)}, keys(4_000)), name).double()
    assert drawn.min() >= np.float32(low) and drawn.max() <= np.float32(high)
    even = find(MarketConfig(), name)[0].bounds.even
    place = (drawn - low) / (high - low) if even else (drawn / low).log() / math.log(high / low)
    steps = (torch.arange(4_000) + 0.5) / 4_000
    assert (place.sort().values - steps).abs().max() < 2.47 / math.sqrt(4_000)
    assert even or place.median() > 0.4  # the other law would give 0.2


def test_from_zero_every_number_is_uniform() -> None:
    drawn = draw(dict.fromkeys(noise._FIRST_LANES, (0.0, 0.1)), keys(1_000))
    for name in noise._FIRST_LANES:
        found = number(drawn, name)
        assert 0.0 < found.min() < 0.01 and 0.09 < found.max() <= 0.1
        assert abs(found.double().mean() - 0.05) < 5 * 0.1 / math.sqrt(12 * 1_000)


@pytest.mark.parametrize("value", [0.0, 0.007, 0.1])
def test_equal_bounds_are_the_number_itself(value: float) -> None:
    drawn = draw(dict.fromkeys(noise._FIRST_LANES, (value, value)), keys(3))
    for name in noise._FIRST_LANES:
        found = number(drawn, name)
        assert found.tolist() == [torch.tensor(value, dtype=found.dtype).item()] * 3


def test_each_name_has_a_number_of_its_own() -> None:
    everything, alone = draw(EVERY, keys(500)), draw({"population.stop.rate": EVERY["population.stop.rate"]}, keys(500))
    assert same_bits(alone.population.stop.rate, everything.population.stop.rate)
    places = torch.stack(list(noise.draw_params(keys(500), SOME).values()))
    correlations = torch.corrcoef(places.double()) - torch.eye(len(SOME))
    assert correlations.abs().max() < 5 / math.sqrt(500)


def test_worlds_have_addresses_of_their_own() -> None:
    """No number of a world is also a number of a tick or of an opening."""
    market = opened(toy(num_symbols=3), 1)
    every = list(paths(toy(num_symbols=3)))
    lanes = torch.tensor(noise.param_lanes(every), dtype=torch.int32)
    mine = random.lane_counters(noise._PARAMS, lanes)
    plan = market._static.plan
    assert len(mine.unique()) == len(every)
    assert not torch.isin(mine, torch.cat([plan.tick, plan.start])).any()


@pytest.mark.parametrize(("count", "first"), [(1, 5), (3, 4), (20, 0)])
def test_a_world_does_not_depend_on_its_batch(count: int, first: int) -> None:
    whole, part = draw(EVERY, keys(8)), draw(EVERY, keys(count, first=first))
    assert differences(rows(whole, torch.tensor([5])), rows(part, torch.tensor([5 - first]))) == []


def test_every_seed_and_every_episode_is_another_world() -> None:
    numbers = torch.cat([draw(EVERY, keys(50, episode)).population.maker.base_width for episode in range(4)])
    assert numbers.unique().numel() == 200


# --- the market


def test_a_world_is_the_plain_market_with_its_numbers() -> None:
    market = opened(CONFIG, 3, seed=8)
    for row in range(3):
        params = rows(market.params, torch.tensor([row]))
        plain = with_numbers(CONFIG.replace(randomize={}), {path: number(params, path).item() for path in WORLDS})
        alone = opened(plain, 1, seed=8 + row)
        assert differences(alone.params, params) == []
        assert differences(alone.state, rows(market.state, torch.tensor([row]))) == []


def test_without_ranges_every_market_is_what_the_settings_say() -> None:
    market = opened(toy(), 3)
    plain = make_params(toy(), 3, CPU)
    assert differences(market.params, plain) == []
    market.reset(mask=torch.tensor([True, False, True]))
    assert differences(market.params, plain) == []


def test_parameters_are_known_once_the_market_is_open() -> None:
    with pytest.raises(RuntimeError, match=r"has not been opened yet: call reset\(\) first"):
        _ = Market(CONFIG, 2).params


def test_the_seed_decides_the_world_whatever_came_before() -> None:
    used, fresh = opened(CONFIG, 4, seed=90), opened(CONFIG, 2, seed=1)
    used.step()
    used.reset(mask=torch.tensor([True, False, False, True]))
    used.reset(seeds=[3, 2, 1, 0])
    index = torch.tensor([2, 1])
    assert differences(rows(used.params, index), fresh.params) == []
    assert differences(rows(used.state, index), fresh.state) == []


def test_a_masked_reset_is_a_new_world_there_and_only_there() -> None:
    market = opened(CONFIG, 5)
    before = map_tensors(torch.clone, market.params)
    mask = torch.tensor([False, True, False, False, True])
    market.reset(mask=mask)
    still, fresh = (~mask).nonzero().flatten(), mask.nonzero().flatten()
    assert differences(rows(market.params, still), rows(before, still)) == []
    for name in WORLDS:
        now, then = number(market.params, name)[fresh], number(before, name)[fresh]
        assert name == "order_size" or (now != then).all()
    whole = opened(CONFIG, 5)
    whole.reset()
    assert differences(rows(market.params, fresh), rows(whole.params, fresh)) == []
    assert differences(rows(market.state, fresh), rows(whole.state, fresh)) == []


def test_a_checkpoint_goes_on_in_the_same_world(tmp_path: Path) -> None:
    market = opened(CONFIG, 3)
    market.reset(mask=torch.tensor([True, False, False]))
    market.reseed([7, 8, 9])  # from the next reset on; the running worlds stay
    market.save(tmp_path / "worlds.pt")
    loaded = Market.load(tmp_path / "worlds.pt")
    assert loaded.config == CONFIG
    assert differences(loaded.params, market.params) == []
    assert same(told(loaded), told(market))
    loaded.reset()
    market.reset()
    assert same(told(loaded), told(market))


def test_a_fork_goes_on_in_the_same_world_and_then_its_own_way() -> None:
    market = opened(CONFIG, 2)
    twin = market.fork()
    assert same(told(twin), told(market))
    before = map_tensors(torch.clone, market.params)
    twin.reset()
    assert differences(market.params, before) == []
    assert set(differences(twin.params, before)) == {"float32", "float64", "int64"}
    market.reset()
    assert same(told(twin), told(market))


def test_a_restored_market_is_in_the_world_of_its_tensors() -> None:
    market, other = opened(CONFIG, 2, seed=3), opened(CONFIG, 2, seed=30)
    other.restore(dict(leaves(market.state)))
    assert same(told(other), told(market))


def test_new_worlds_need_no_new_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = counted_graphs(monkeypatch)
    compiled, eager = (opened(CONFIG, 3, compile=on) for on in (True, False))
    mask = torch.tensor([True, False, True])
    for market in (compiled, eager):
        market.step()
        market.reset(mask=mask)
        market.step()
        market.reset()
        market.restore(dict(leaves(market.state)))
        market.step()
        market.fork().step()
    assert counter.frame_count == 1
    assert differences(compiled.state, eager.state) == []


# --- the setting


RATE = "population.noise.rate"


@pytest.mark.parametrize(
    ("randomize", "message"),
    [
        ([("order_size", (1, 2))], r"randomize must map paths to \(low, high\) pairs, got \["),
        ({"population.noise": (0.1, 0.2)}, r"'population.noise' is no number of this configuration, closest are"),
        ({"fundamentals.volatilty": (0.1, 0.2)}, r"closest are fundamentals\.volatility"),
        ({"num_symbols": (1, 2)}, r"'num_symbols' is structure, which all markets of a batch share: set it"),
        ({"population.value.rate": (0.1, 0.2)}, r"'population.value.rate' is no number of this configuration"),
        ({"population.value.rate.2": (0.1, 0.2)}, r"'population.value.rate.2' is no number"),
        ({3: (0.1, 0.2)}, r"each name in randomize must be a path, got 3"),
        ({RATE: 0.1}, r"randomize\['population.noise.rate'\] must be a \(low, high\) pair, got 0\.1"),
        ({RATE: (0.1, 0.2, 0.3)}, r"randomize\['population.noise.rate'\] must be a \(low, high\) pair"),
        ({RATE: (0.2, 0.1)}, r"must be in order, .* got \(0\.2, 0\.1\)"),
        ({RATE: (-0.1, 0.1)}, r"rate'\]\[0\] must be a finite .* \[0\.0, 100\.0\], got -0"),
        ({RATE: (0.1, math.inf)}, r"rate'\]\[1\] must be a finite number"),
        ({RATE: (math.nan, 0.1)}, r"rate'\]\[0\] must be a finite number"),
        ({RATE: ("0.1", "0.2")}, r"rate'\]\[0\] must be a finite number"),
        ({RATE: (5e-324, 1.0)}, r"must be 0 or at least 1e-30 in size, got 5e-324"),
        ({"fundamentals.public_share": (0.5, 1.5)}, r"share'\]\[1\] must be .* \[0\.0, 1\.0\], got 1\.5"),
        ({"fundamentals.volatility": (0.01, 0.2)}, r"volatility'\]\[1\] must be .* \[0\.0, 0\.1\]"),
        ({"order_size": (5, 80)}, r"impossible world, order_size = 80: position_limit = 50 is below order_size = 80"),
        (
            {"population.value.rate.0": (0.05, 0.2)},
            r"impossible world, population.value.rate.0 = 0.2: .*rate must be in order",
        ),
        ({"fundamentals.news_rate": (1.0, 900.0)}, r"news_rate = 900\.0 times a probability of news exceeds 1"),
    ],
)
def test_impossible_ranges_are_refused(randomize: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MarketConfig(randomize=randomize)


@pytest.mark.parametrize("kind", ["earnings", "sector", "macro"])
def test_news_can_never_be_more_than_certain(kind: str) -> None:
    likely = NewsKind(probability=0.4, scale=0.01, duration=10, immediate=0.5)
    fundamentals = dataclasses.replace(MarketConfig().fundamentals, **{kind: likely})
    MarketConfig(fundamentals=fundamentals, randomize={"fundamentals.news_rate": (0.5, 2.0)})
    with pytest.raises(ValueError, match=r"exceeds 1, got .*: lower one of them"):
        MarketConfig(fundamentals=fundamentals, randomize={"fundamentals.news_rate": (0.5, 3.0)})


@pytest.mark.parametrize("name", SOME)
def test_a_range_may_be_drawn_where_the_plain_setting_may_stand(name: str) -> None:
    bounds, config = find(MarketConfig(), name)[0].bounds, MarketConfig(max_ticks=BRIEF)
    for refused in (bounds.low - 1e-6, bounds.high * 1.000001):
        with pytest.raises(ValueError, match="must be a finite number"):
            with_numbers(config, {name: refused})
        with pytest.raises(ValueError, match="must be a finite number"):
            config.replace(randomize={name: (refused, refused)})


def test_ranges_survive_json_and_compare_by_value() -> None:
    again = MarketConfig.from_dict(json.loads(json.dumps(CONFIG.to_dict())))
    assert again == CONFIG
    assert hash(again) == hash(CONFIG)
    assert again.randomize == WORLDS
    assert CONFIG.replace(order_size=3).randomize == WORLDS
    assert CONFIG.replace(randomize={}) == toy() != CONFIG
    assert toy(randomize={"population.noise.rate": (0, 1)}).to_dict()["randomize"] == {"population.noise.rate": (0, 1)}
    assert isinstance(hash(toy(reward={"pnl": 1.0})), int)


def test_ranges_are_kept_apart_from_what_was_given() -> None:
    given: dict[str, Any] = {"population.noise.rate": [0.1, 0.2]}
    config = toy(randomize=given)
    given["population.noise.rate"][0] = 7.0
    given["population.stop.rate"] = None
    assert config.randomize == {"population.noise.rate": (0.1, 0.2)}


def test_given_episodes_are_whole_decisions_however_many_worlds_there_are() -> None:
    config, lengths = toy(ticks_per_action=5, max_ticks=20), list(range(5, 2_006))
    with pytest.raises(ValueError, match=r"params\['max_ticks'\] = 6 must be a multiple of ticks_per_action = 5"):
        Market(config, len(lengths), seed=0, params={"max_ticks": lengths})
