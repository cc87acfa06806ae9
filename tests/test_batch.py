"""A market's bits are its own: the same alone, in any row of any batch, whatever the other rows do or when they were reset."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from markets import EVERYTHING, cold, differences, opened, random_actions, seen, toy
from torch import Tensor

from torchgym import Market, MarketConfig
from torchgym.numerics.trees import clone, leaves, rows

BATCH, STEPS = 7, 12
SEEDS = [3, 2**63 - 1, 3, 12345, 0, 999_999_999_999, 8]  # the third as the first
# After these steps, in these rows.
RESETS = {4: [1, 0, 0, 1, 0, 1, 0], 5: [1, 0, 1, 0, 0, 0, 0], 9: [0, 0, 0, 1, 0, 0, 1]}


CONFIGS: dict[str, MarketConfig] = {
    "toy": toy(),
    "default": MarketConfig(),
    "everything": EVERYTHING,
}


def story(config: MarketConfig, picked: list[int], *, episodes: bool = True) -> list[dict[str, Any]]:
    """What the picked rows of the batch go through: state and sight after every step, and after every reset."""
    actions = random_actions(config, STEPS, BATCH, seed=5)[:, picked]
    market = Market(config, len(picked), seed=0)
    market.reset([SEEDS[row] for row in picked])
    told = []
    for at in range(STEPS):
        told.append({"seen": seen(market.step(actions[at])), "state": market.state})
        mask = torch.tensor([bool(RESETS.get(at, [0] * BATCH)[row]) for row in picked])
        if episodes and mask.any():
            market.reset(mask=mask)
        told.append({"seen": seen(market.observe()), "state": market.state})
    return told


def check(whole: list[dict[str, Any]], part: list[dict[str, Any]], at: list[int], into: list[int]) -> None:
    """Rows `at` of the whole story are rows `into` of the other one."""
    assert len(whole) == len(part)
    for step, (first, second) in enumerate(zip(whole, part, strict=True)):
        here, there = rows(first, torch.tensor(at)), rows(second, torch.tensor(into))
        assert (step, differences(here, there)) == (step, [])


@pytest.fixture(scope="module", params=["toy", "default"])
def told(request: pytest.FixtureRequest) -> tuple[MarketConfig, list[dict[str, Any]]]:
    config = CONFIGS[request.param]
    return config, story(config, list(range(BATCH)))


@pytest.mark.parametrize("row", [0, 3, BATCH - 1])
def test_a_row_is_the_market_alone(told: Any, row: int) -> None:
    config, whole = told
    check(whole, story(config, [row]), [row], [0])


def test_the_order_of_rows_does_not_matter(told: Any) -> None:
    config, whole = told
    order = [6, 3, 3, 0, 5, 3, 1]
    check(whole, story(config, order), order, list(range(BATCH)))


def test_every_mode_of_the_market_keeps_rows_apart() -> None:
    config = CONFIGS["everything"]
    whole = story(config, list(range(BATCH)), episodes=False)
    for row in (0, 3, BATCH - 1):
        check(whole, story(config, [row], episodes=False), [row], [0])


def test_rows_differ_at_all(told: Any) -> None:
    """Equality above means something: seeds make markets differ in nearly every tensor."""
    _, whole = told
    last = whole[-1]
    different = differences(rows(last, torch.tensor([0])), rows(last, torch.tensor([3])))
    assert len(different) > 60
    value = whole[0]["state"].value
    assert differences(rows(value, torch.tensor([0])), rows(value, torch.tensor([2]))) == []  # the same seed


@pytest.mark.parametrize("config", [toy(num_symbols=2), MarketConfig()], ids=["toy of two", "default"])
def test_an_action_concerns_its_own_market(config: MarketConfig) -> None:
    markets, row = 5, 2
    one = opened(config, markets) if config.num_symbols == 1 else cold(config, markets)
    other = one.fork()
    others = torch.tensor([at for at in range(markets) if at != row])
    for at, action in enumerate(random_actions(config, 10, markets)):
        changed = action.clone()
        if at in (0, 4):
            changed[row] = 2 - action[row] if action[row].ne(1).all() else 2
        first, second = seen(one.step(action)), seen(other.step(changed))
        assert differences(rows(first, others), rows(second, others)) == []
        assert differences(rows(one.state, others), rows(other.state, others)) == []
    mine = torch.tensor([row])
    assert "book.size" in differences(rows(one.state, mine), rows(other.state, mine))


def test_a_masked_reset_leaves_the_others_alone() -> None:
    market = opened(toy(), BATCH)
    market.step(torch.full((BATCH,), 2))
    before = clone(market.state)
    mask = torch.tensor([False, True, False, False, True, False, False])
    market.reset(seeds=list(range(70, 70 + BATCH)), mask=mask)
    still, fresh = (~mask).nonzero().flatten(), mask.nonzero().flatten()
    assert differences(rows(market.state, still), rows(before, still)) == []
    assert market.state.clock.seed[fresh].tolist() == [71, 74]
    alone = Market(toy(), 2, seed=0)
    alone.reset(seeds=[71, 74])
    assert differences(rows(market.state, fresh), alone.state) == []


def test_what_ran_before_does_not_matter() -> None:
    used = opened(toy(), 3, seed=50)
    for action in random_actions(toy(), 5, 3):
        used.step(action)
    used.reset(mask=torch.tensor([True, False, False]))
    used.reset(seeds=[1, 2, 3])
    assert differences(used.state, opened(toy(), 3, seed=1).state) == []


def test_a_larger_batch_continues_the_smaller_one() -> None:
    small, large = cold(toy(), 2), cold(toy(), 64)
    for action in random_actions(toy(), 10, 64):
        first, second = small.step(action[:2]), large.step(action)
        two: Tensor = torch.arange(2)
        assert differences(seen(first), rows(seen(second), two)) == []
        assert differences(small.state, rows(large.state, two)) == []


@pytest.mark.parametrize("markets", [1, 2])
def test_a_market_opens_with_the_layout_in_memory_that_it_keeps(markets: int) -> None:
    """Strides count for the compiled step even where a dimension is one; another layout would be compiled a second time."""
    for name, leaf in leaves(cold(toy(), markets).state):
        assert leaf.stride() == torch.empty(leaf.shape).stride(), name


def test_the_default_dtype_does_not_matter() -> None:
    plain = cold(toy(num_symbols=2), 2)
    actions = random_actions(plain.config, 12, 2)
    for action in actions:
        plain.step(action)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        wide = cold(plain.config, 2)
        for action in actions:
            wide.step(action)
    finally:
        torch.set_default_dtype(before)
    assert differences(plain.state, wide.state) == []
