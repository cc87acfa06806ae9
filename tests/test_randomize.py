"""Domain randomisation: every episode of every market draws its own parameters, from its seed and number alone."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from markets import counted_graphs, differences, opened, random_actions, same_bits, seen, toy

from torchgym import Market, MarketConfig
from torchgym.config import RANDOMIZABLE, NewsKind, Population
from torchgym.sim import noise, tick
from torchgym.sim.state import MarketParams, leaves, make_params, map_tensors, rows

CPU = torch.device("cpu")
EVERY = dict.fromkeys(RANDOMIZABLE, (0.01, 0.09))
BRIEF = 50  # ticks in which even the largest volatility leads nowhere
WORLDS = {"value_volatility": (5e-4, 1.5e-3), "noise_rate": (0.1, 0.4), "public_share": (0.2, 0.8)}
CONFIG = toy(randomize=WORLDS)


def keys(count: int, episode: int = 0, first: int = 0) -> torch.Tensor:
    seeds = torch.arange(first, first + count)
    return noise.make_key(seeds, torch.full_like(seeds, episode))


def draw(randomize: dict[str, tuple[float, float]], key: torch.Tensor) -> MarketParams:
    config = MarketConfig(randomize=randomize, max_ticks=BRIEF)
    return tick.draw_params(config, make_params(config, len(key), CPU), key)


def told(market: Market, ticks: int = 3) -> list[Any]:
    """What the next few steps show, and the worlds they happen in."""
    steps = [seen(market.step(action)) for action in random_actions(market.config, ticks, market.num_envs)]
    return [*steps, market.params, market.state]


def same(first: list[Any], second: list[Any]) -> bool:
    return all(differences(one, other) == [] for one, other in zip(first, second, strict=True))


# --- the draw


def test_the_table_names_the_parameters_that_are_single_numbers() -> None:
    base = make_params(MarketConfig(), 2, CPU)
    assert set(RANDOMIZABLE) == {name for name, leaf in leaves(base) if leaf[0].numel() == 1}


@pytest.mark.parametrize("count", [1, 4])
def test_drawn_parameters_lie_in_memory_as_the_plain_ones(count: int) -> None:
    drawn, plain = draw(EVERY, keys(count)), make_params(MarketConfig(), count, CPU)
    for (name, one), (_, other) in zip(leaves(drawn), leaves(plain), strict=True):
        assert (one.shape, one.dtype, one.stride()) == (other.shape, other.dtype, other.stride()), name
        assert one.is_contiguous() and one.storage_offset() == 0
    changed = [name for name, leaf in leaves(drawn) if not same_bits(leaf, getattr(plain, name))]
    assert changed == list(RANDOMIZABLE)


@pytest.mark.parametrize("name", RANDOMIZABLE)
def test_the_law_of_a_number(name: str) -> None:
    """Within bounds, and uniform in the number or in its logarithm: a Kolmogorov-Smirnov test at one in 100 000."""
    low, high = 0.002, 0.1
    number = getattr(draw({name: (low, high)}, keys(4_000)), name).double().flatten()
    assert number.min() >= np.float32(low) and number.max() <= np.float32(high)
    if RANDOMIZABLE[name].by_ratio:
        place = (number / low).log() / math.log(high / low)
    else:
        place = (number - low) / (high - low)
    steps = (torch.arange(4_000) + 0.5) / 4_000
    assert (place.sort().values - steps).abs().max() < 2.47 / math.sqrt(4_000)
    assert name in {"public_share", "surprise_gain"} or place.median() > 0.4  # the other law would give 0.2 or 0.7


def test_from_zero_every_number_is_uniform() -> None:
    drawn = draw(dict.fromkeys(RANDOMIZABLE, (0.0, 0.1)), keys(1_000))
    for name in RANDOMIZABLE:
        number = getattr(drawn, name)
        assert 0.0 < number.min() < 0.01 and 0.09 < number.max() <= 0.1
        assert abs(number.double().mean() - 0.05) < 5 * 0.1 / math.sqrt(12 * 1_000)


@pytest.mark.parametrize("value", [0.0, 0.007, 0.1])
def test_equal_bounds_are_the_number_itself(value: float) -> None:
    drawn = draw(dict.fromkeys(RANDOMIZABLE, (value, value)), keys(3))
    for name in RANDOMIZABLE:
        number = getattr(drawn, name)
        assert number.flatten().tolist() == [torch.tensor(value, dtype=number.dtype).item()] * 3


def test_each_name_has_a_number_of_its_own() -> None:
    everything, alone = draw(EVERY, keys(500)), draw({"stop_rate": (0.01, 0.09)}, keys(500))
    assert same_bits(alone.stop_rate, everything.stop_rate)
    places = torch.stack(list(noise.draw_params(keys(500)).values()))
    correlations = torch.corrcoef(places.double()) - torch.eye(len(RANDOMIZABLE))
    assert correlations.abs().max() < 5 / math.sqrt(500)


def test_worlds_have_addresses_of_their_own() -> None:
    """No number of a world is also a number of a tick or of an opening."""
    market = opened(toy(num_symbols=3), 1)
    mine = noise.counters(noise._PARAMS, len(RANDOMIZABLE))
    assert not torch.isin(mine, torch.cat([market._world.lanes.tick, market._world.lanes.start])).any()


@pytest.mark.parametrize(("count", "first"), [(1, 5), (3, 4), (20, 0)])
def test_a_world_does_not_depend_on_its_batch(count: int, first: int) -> None:
    whole, part = draw(EVERY, keys(8)), draw(EVERY, keys(count, first=first))
    assert differences(rows(whole, torch.tensor([5])), rows(part, torch.tensor([5 - first]))) == []


def test_every_seed_and_every_episode_is_another_world() -> None:
    numbers = torch.cat([draw(EVERY, keys(50, episode)).base_width for episode in range(4)])
    assert numbers.unique().numel() == 200


# --- the market


def test_a_world_is_the_plain_market_with_its_numbers() -> None:
    market = opened(CONFIG, 3, seed=8)
    for row in range(3):
        params = rows(market.params, torch.tensor([row]))
        population, fundamentals = CONFIG.population, CONFIG.fundamentals
        plain = CONFIG.replace(
            randomize={},
            population=dataclasses.replace(
                population, noise=dataclasses.replace(population.noise, rate=params.noise_rate.item())
            ),
            fundamentals=dataclasses.replace(
                fundamentals, volatility=params.value_volatility.item(), public_share=params.public_share.item()
            ),
        )
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
        assert (getattr(market.params, name)[fresh] != getattr(before, name)[fresh]).all()
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
    assert set(differences(twin.params, before)) == set(WORLDS)
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


@pytest.mark.parametrize(
    ("randomize", "message"),
    [
        ([("noise_rate", (0.1, 0.2))], r"randomize must be a mapping from names to \(low, high\) pairs, got \["),
        ({"noise": (0.1, 0.2)}, r"unknown name 'noise' in randomize: choose from value_volatility, .*, stop_rate"),
        ({"variance_decay": (0.1, 0.2)}, r"unknown name 'variance_decay' in randomize"),
        ({3: (0.1, 0.2)}, r"unknown name 3 in randomize"),
        ({"noise_rate": 0.1}, r"randomize\['noise_rate'\] must be a \(low, high\) pair, got 0\.1"),
        ({"noise_rate": (0.1, 0.2, 0.3)}, r"randomize\['noise_rate'\] must be a \(low, high\) pair"),
        ({"noise_rate": (0.2, 0.1)}, r"randomize\['noise_rate'\] must be in order, .* got \(0\.2, 0\.1\)"),
        (
            {"noise_rate": (-0.1, 0.1)},
            r"randomize\['noise_rate'\]\[0\] must be a finite .* \[0\.0, 100\.0\], got -0",
        ),
        ({"noise_rate": (0.1, math.inf)}, r"randomize\['noise_rate'\]\[1\] must be a finite number"),
        ({"noise_rate": (math.nan, 0.1)}, r"randomize\['noise_rate'\]\[0\] must be a finite number"),
        ({"noise_rate": ("0.1", "0.2")}, r"randomize\['noise_rate'\]\[0\] must be a finite number"),
        (
            {"news_rate": (5e-324, 1.0)},
            r"randomize\['news_rate'\]\[0\] must be 0 or at least 1e-30 in size, got 5e-324",
        ),
        (
            {"public_share": (0.5, 1.5)},
            r"randomize\['public_share'\]\[1\] must be .* \[0\.0, 1\.0\], got 1\.5",
        ),
        ({"value_volatility": (0.01, 0.2)}, r"randomize\['value_volatility'\]\[1\] must be .* \[0\.0, 0\.1\]"),
        (
            {"news_rate": (1.0, 900.0)},
            r"randomize\['news_rate'\] up to 900\.0 times a news probability of .* exceeds 1",
        ),
    ],
)
def test_impossible_ranges_are_refused(randomize: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MarketConfig(randomize=randomize)


@pytest.mark.parametrize("kind", ["earnings", "sector", "macro"])
def test_news_can_never_be_more_than_certain(kind: str) -> None:
    likely = NewsKind(probability=0.4, scale=0.01, duration=10, immediate=0.5)
    fundamentals = dataclasses.replace(MarketConfig().fundamentals, **{kind: likely})
    MarketConfig(fundamentals=fundamentals, randomize={"news_rate": (0.5, 2.0)})
    with pytest.raises(ValueError, match=r"exceeds 1: lower one of them"):
        MarketConfig(fundamentals=fundamentals, randomize={"news_rate": (0.5, 3.0)})


def limits_of_the_plain_setting(name: str) -> Callable[[float], object]:
    """Sets a number the plain way."""
    config = MarketConfig()
    fundamentals = {"value_volatility": "volatility", "public_share": "public_share"}
    families = {
        **{name: ("maker", name) for name in ("base_width", "volatility_width", "surprise_gain")},
        **{f"{family}_rate": (family, "rate") for family in ("noise", "executor", "stop")},
        "news_reactor_rate": ("news", "rate"),
    }
    if name in fundamentals:
        return lambda value: dataclasses.replace(config.fundamentals, **{fundamentals[name]: value})
    family, setting = families[name]
    settings = getattr(config.population, family)
    return lambda value: Population(**{family: dataclasses.replace(settings, **{setting: value})})


@pytest.mark.parametrize(
    "name", sorted(set(RANDOMIZABLE) - {"news_rate", "value_rate", "trend_rate", "reversion_rate"})
)
def test_a_range_may_be_drawn_where_the_plain_setting_may_stand(name: str) -> None:
    plain, high = limits_of_the_plain_setting(name), RANDOMIZABLE[name].high
    for allowed in (0.0, min(high, 50.0)):
        plain(allowed)
        MarketConfig(randomize={name: (allowed, allowed)}, max_ticks=BRIEF)
    for refused in (-1e-6, high * 1.000001):
        with pytest.raises(ValueError, match="must be a finite number"):
            plain(refused)
        with pytest.raises(ValueError, match="must be a finite number"):
            MarketConfig(randomize={name: (refused, refused)})


def test_ranges_survive_json_and_compare_by_value() -> None:
    again = MarketConfig.from_dict(json.loads(json.dumps(CONFIG.to_dict())))
    assert again == CONFIG
    assert hash(again) == hash(CONFIG)
    assert again.randomize == WORLDS
    assert CONFIG.replace(order_size=3).randomize == WORLDS
    assert CONFIG.replace(randomize={}) == toy() != CONFIG
    assert toy(randomize={"noise_rate": (0, 1)}).to_dict()["randomize"] == {"noise_rate": (0, 1)}
    assert isinstance(hash(toy(reward={"pnl": 1.0})), int)


def test_ranges_are_kept_apart_from_what_was_given() -> None:
    given: dict[str, Any] = {"noise_rate": [0.1, 0.2]}
    config = toy(randomize=given)
    given["noise_rate"][0] = 7.0
    given["stop_rate"] = None
    assert config.randomize == {"noise_rate": (0.1, 0.2)}
