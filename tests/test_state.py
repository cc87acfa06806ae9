"""The shape of the state: every tensor starts with N and is what its comment says; trees of tensors are mapped row by row."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import pytest
import torch
from markets import cold, differences, opened, random_actions, same_bits, toy

from torchgym import MarketConfig
from torchgym.config import Fundamentals, Population, TrendFollowers, structure
from torchgym.numerics.trees import clone, leaves, map_tensors, put_rows, rows
from torchgym.sim import state
from torchgym.sim.noise import draw, make_plan
from torchgym.sim.params import make_params
from torchgym.sim.state import MarketState

MARKETS, SYMBOLS = 3, 4
CONFIG = toy(num_symbols=SYMBOLS, max_ticks=50)


@pytest.fixture(scope="module")
def lived() -> MarketState:
    """A state that has seen a few trades of the learner."""
    market = opened(CONFIG, MARKETS)
    for action in random_actions(CONFIG, 3, MARKETS):
        market.step(action)
    return market.state


def test_every_state_tensor_starts_with_the_markets(lived: MarketState) -> None:
    shapes = {name: leaf.shape for name, leaf in leaves(lived)}
    assert len(shapes) > 90
    assert {name: shape for name, shape in shapes.items() if shape[:1] != (MARKETS,)} == {}
    params = make_params(CONFIG, MARKETS, torch.device("cpu"))
    assert {name: leaf.shape for name, leaf in leaves(params) if leaf.shape[0] != MARKETS} == {}


def form(tree: MarketState) -> dict[str, Any]:
    return {name: (leaf.shape, leaf.dtype, leaf.stride()) for name, leaf in leaves(tree)}


def test_a_tick_keeps_every_shape_dtype_and_stride(lived: MarketState) -> None:
    """From the opening on; a compiled tick would be compiled again for each new form."""
    one = cold(CONFIG, MARKETS)
    opening = form(one.state)
    one.step()
    assert form(one.state) == opening
    assert form(lived) == opening


def documented(kind: type[Any]) -> dict[str, tuple[str, str]]:
    """Shape and dtype that the comments of a dataclass give."""
    pattern = r"^    (\w+): Tensor  # \[([^\]]+)\] (int64|int32|float64|float32|bool)\b"
    return {name: (shape, dtype) for name, shape, dtype in re.findall(pattern, inspect.getsource(kind), re.MULTILINE)}


@pytest.mark.parametrize("part", ["clock", "value", "book", "market_data", "accounts", "reward"])
def test_comments_tell_the_true_shapes(lived: MarketState, part: str) -> None:
    places = structure(CONFIG)
    letters = {"N": MARKETS, "S": SYMBOLS, "A": places.owners, "K": places.slots, "L": places.num_learners}
    letters |= {name: getattr(state, name) for name in ("EVENTS", "LOOKBACK", "VOLUME_LOOKBACK", "FLOW_LOOKBACK")}
    tree = getattr(lived, part)
    told = documented(type(tree))
    assert len(told) >= 1
    for name, (shape, dtype) in told.items():
        sizes = tuple(eval(size, letters) for size in shape.split(","))
        leaf = getattr(tree, name)
        assert (name, tuple(leaf.shape), leaf.dtype) == (name, sizes, getattr(torch, dtype))


def test_noise_starts_with_the_markets() -> None:
    places = structure(CONFIG)
    key = torch.zeros(MARKETS, 2, dtype=torch.int32)
    noise = draw(places, make_plan(places, torch.device("cpu")), key, torch.arange(MARKETS))
    assert all(leaf.shape[0] == MARKETS for _, leaf in leaves(noise))


@pytest.mark.parametrize("symbols", [1, 2, 3])
def test_families_fill_the_owners_without_gaps(symbols: int) -> None:
    places = structure(MarketConfig(num_symbols=symbols))
    covered = [at for place in places.orders.values() for at in range(place.start, place.stop)]
    assert covered == list(range(places.singles))
    assert places.families["maker"] == slice(places.singles, places.owners)
    assert (places.owners, places.slots) == (places.singles + places.makers, places.singles + 2 * places.makers)


def test_families_that_need_company_are_absent_alone() -> None:
    def present(**settings: Any) -> set[str]:
        return set(structure(MarketConfig(**settings)).orders)

    assert {"pairs", "rotator"} & present(num_symbols=1) == set()
    assert {"pairs", "rotator"} & present(num_symbols=2) == {"pairs"}
    assert {"pairs", "rotator"} & present(num_symbols=2, num_sectors=2) == {"pairs", "rotator"}
    without = Population(trend=TrendFollowers(count=0))
    assert present(population=without) == present() - {"trend"}


@dataclasses.dataclass
class Pair:
    left: torch.Tensor
    right: dict[str, torch.Tensor]


def pair(start: int, markets: int) -> Pair:
    left = torch.arange(start, start + markets)
    return Pair(left=left, right={"deep": left.to(torch.float64).unsqueeze(-1) * 0.5})


def test_leaves_are_named_in_order() -> None:
    assert [name for name, _ in leaves(pair(0, 2))] == ["left", "right.deep"]


def test_map_tensors_keeps_the_tree_and_joins_others() -> None:
    total = map_tensors(torch.add, pair(0, 3), pair(10, 3))
    assert isinstance(total, Pair)
    assert total.left.tolist() == [10, 12, 14]
    assert total.right["deep"].flatten().tolist() == [5.0, 6.0, 7.0]


def test_rows_and_put_rows_undo_one_another() -> None:
    whole, index = pair(0, 5), torch.tensor([3, 1])
    part = rows(whole, index)
    assert part.left.tolist() == [3, 1]
    changed = map_tensors(lambda leaf: leaf * 100, part)
    put = put_rows(whole, index, changed)
    assert put.left.tolist() == [0, 100, 2, 300, 4]
    assert put.right["deep"].flatten().tolist() == [0.0, 50.0, 1.0, 150.0, 2.0]
    assert whole.left.tolist() == [0, 1, 2, 3, 4]
    assert differences(put_rows(put, index, part), whole) == []


def test_clone_shares_nothing() -> None:
    first = pair(0, 2)
    second = clone(first)
    second.left += 1
    assert first.left.tolist() == [0, 1]


def test_parameters_are_the_configuration() -> None:
    fundamentals = Fundamentals(volatility_half_lives=(10, 100, 600), volatility_scales=(0.25, 0.42, 0.52))
    params = make_params(MarketConfig(fundamentals=fundamentals), 2, torch.device("cpu"))
    assert params.fundamentals.volatility.tolist() == [[8.0e-4], [8.0e-4]]
    assert params.population.noise.rate.flatten().tolist() == pytest.approx([0.055, 0.055])
    keep = params.fundamentals.volatility_keep[0, 0].tolist()
    assert keep == pytest.approx([2 ** (-1 / h) for h in fundamentals.volatility_half_lives])
    # Stationary: the variance that is forgotten in a tick is the variance that comes in.
    for kept, shock, scale in zip(
        keep, params.fundamentals.volatility_shock[0, 0].tolist(), fundamentals.volatility_scales, strict=True
    ):
        assert kept**2 * scale**2 + shock**2 == pytest.approx(scale**2)


def test_same_bits_tells_zeros_apart() -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    assert not same_bits(zero, -zero)
    assert not same_bits(zero, zero.to(torch.float32))
    assert same_bits(zero / 0.0, zero / 0.0)
