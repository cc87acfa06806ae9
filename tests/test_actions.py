"""The learner's action becomes an order: the table's rows by hand, the position limit, the collar."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from markets import toy

from torchgym import Market, MarketConfig
from torchgym.config import structure
from torchgym.lab.policies import known_of
from torchgym.sim.actions import ACTIONS, REST, ActionScheme, Box, Choices, Known, orders, scheme, space
from torchgym.sim.params import plain_params

# Those that trade at once; what others let rest: tests/test_resting.py.
CHOICES = [name for name, row in ACTIONS.items() if isinstance(row.space, Choices) and row.rests is None]


def choices_of(name: str) -> Choices:
    found = ACTIONS[name].space
    assert isinstance(found, Choices)
    return found


def ask_for(
    config: MarketConfig,
    actions: list[int] | list[float] | list[list[float]],
    held: list[int],
    mid_x2: int = 20_000,
    equity_x2: int = 2 * 100 * 10_000,
    volumes: tuple[int, ...] = (40,) * 9,
) -> tuple[Any, Any]:
    """Shares and limits of one market per action; the equity, if not given, is that of a hundred shares at the mid."""
    count = len(held)
    state = SimpleNamespace(
        ledger=SimpleNamespace(shares=torch.tensor(held)[:, None, None], equity_x2=torch.full((count, 1), equity_x2)),
        market_data=SimpleNamespace(
            mids_x2=torch.full((count, 1, 2), mid_x2),
            volumes=torch.tensor(volumes).expand(count, 1, -1),
            bid=torch.full((count, 1), mid_x2 // 2 - 1),
            ask=torch.full((count, 1), mid_x2 // 2 + 1),
        ),
    )
    params = plain_params(config, torch.device("cpu"))
    action = torch.tensor(actions, dtype=space(config).dtype).reshape(count, -1)
    plan = structure(config)
    shares, limit = orders(plan, Known.of(plan, params, state), action)  # type: ignore[arg-type]
    assert shares.dtype == limit.dtype == torch.int64
    return shares.flatten().tolist(), limit.flatten().tolist()


@pytest.mark.parametrize(
    ("name", "order_size", "wanted"),
    [
        ("discrete", 10, [-10, 0, 10]),
        ("sized", 10, [-30, -10, -1, 0, 1, 10, 30]),
        ("sized", 45, [-135, -45, -4, 0, 4, 45, 135]),
        ("sized", 3, [-9, -3, -1, 0, 1, 3, 9]),
        ("percent", 100, list(range(-100, 101))),
        ("percent", 1, [-1, *[0] * 199, 1]),
        ("percent", 2_000, list(range(-2_000, 2_001, 20))),
    ],
)
def test_sizes_of_a_flat_learner(name: str, order_size: int, wanted: list[int]) -> None:
    config = MarketConfig(action=name, order_size=order_size)
    count = len(wanted)
    assert ask_for(config, list(range(count)), [0] * count)[0] == wanted
    assert choices_of(name).count == count


def test_targets_are_approached_by_one_order_at_a_time() -> None:
    config = MarketConfig(action="target")  # limit 50: targets -50, -25, 0, 25, 50
    assert ask_for(config, [0, 1, 2, 3, 4], [0] * 5)[0] == [-10, -10, 0, 10, 10]
    assert ask_for(config, [0, 1, 2, 3, 4], [22] * 5)[0] == [-10, -10, -10, 3, 10]
    assert ask_for(config, [1, 3], [-25, 25])[0] == [0, 0]


def test_hundredths_of_an_order_are_cut_towards_zero() -> None:
    config = MarketConfig(action="percent", order_size=30)  # a hundredth is 0.3 shares
    choices = [0, 49, 50, 93, 96, 97, 99, 101, 103, 104, 107, 150, 151, 200]
    wanted = [-30, -15, -15, -2, -1, 0, 0, 0, 0, 1, 2, 15, 15, 30]
    assert ask_for(config, choices, [0] * len(choices))[0] == wanted


def test_halves_of_an_odd_limit_are_symmetric() -> None:
    config = MarketConfig(action="target", order_size=100, position_limit=101)
    assert ask_for(config, [1, 3], [0, 0])[0] == [-50, 50]


@pytest.mark.parametrize("name", CHOICES)
def test_holding_and_resting_ask_for_nothing(name: str) -> None:
    config, held = MarketConfig(action=name), [-50, -3, 0, 7, 50]
    assert ask_for(config, [REST] * len(held), held)[0] == [0] * len(held)
    hold = choices_of(name).hold
    if hold is None:
        assert all(any(ask_for(config, [choice] * 5, held)[0]) for choice in range(choices_of(name).count))
    else:
        assert ask_for(config, [hold] * len(held), held)[0] == [0] * len(held)


@pytest.mark.parametrize("name", [name for name, row in ACTIONS.items() if row.rests is None])
def test_where_nobody_decides_nothing_is_traded(name: str) -> None:
    """In the warm-up, at the later ticks of a decision, and without an action."""
    config = toy(action=name, starting_shares=30, ticks_per_action=5)
    market = Market(config, 2, seed=0)
    assert market.reset().info["position"].tolist() == [[30], [30]]
    assert market.step().info["position"].tolist() == [[30], [30]]
    single = Market(config.replace(ticks_per_action=1), 2, seed=0)
    single.reset(), single.step(), [single.step() for _ in range(4)]
    ends = torch.stack(space(config).bounds(1)[::-1])
    first, whole = single.step(ends), market.step(ends)
    assert torch.equal(first.info["position"], whole.info["position"])
    assert whole.info["position"].tolist() != [[30], [30]]


@pytest.mark.parametrize(("choices", "hold"), [(1, 0), (3, 3), (3, -1)])
def test_impossible_schemes_are_refused(choices: int, hold: int) -> None:
    with pytest.raises(ValueError, match=r"at least two choices, got 1|from 0 to 2, or None, got"):
        ActionScheme(Choices(choices, hold), ACTIONS["discrete"].wanted)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (1.0, -1.0), (-math.inf, 1.0), (0.0, math.nan)])
def test_impossible_boxes_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match=r"finite bounds, low < high, got"):
        Box(low, high)


def test_positions_are_rounded_towards_the_present_one() -> None:
    config = MarketConfig(action="position", position_limit=50)
    assert ask_for(config, [-1.0, -0.5, 0.0, 0.25, 1.0], [0] * 5)[0] == [-50, -25, 0, 12, 50]
    assert ask_for(config, [0.25, 0.25, 0.25], [50, 13, 12])[0] == [-37, 0, 0]  # 12.5 shares
    assert ask_for(config, [math.nan] * 3, [-50, 7, 0])[0] == [0, 0, 0]


def test_several_bounds_are_those_of_each_number() -> None:
    box = Box((0.0, -2.0), (1.0, 3.0), cash=True)
    assert (box.each, box.width(2)) == (2, 5)
    assert [end.tolist() for end in box.bounds(2)] == [[0.0, 0.0, -2.0, 0.0, -2.0], [1.0, 1.0, 3.0, 1.0, 3.0]]
    assert Box(-1.0, 1.0).bounds(2)[0].tolist() == [-1.0, -1.0]
    for low, high in (((), ()), ((0.0, 1.0), 1.0)):
        with pytest.raises(ValueError, match="as many lower bounds as upper ones"):
            Box(low, high)  # type: ignore[arg-type]


def test_weights_are_parts_of_the_sum_of_their_sizes() -> None:
    """The equity is worth a hundred shares: what a weight over the sum of all says is so many shares."""
    config = MarketConfig(action="weights", position_limit=200)
    given = [[0.5, 0.5], [0.0, 1.0], [0.0, 0.3], [1.0, 0.0], [0.0, 0.0], [0.6, 0.2], [1.0, 0.5]]
    assert ask_for(config, given, [0] * 7)[0] == [50, 100, 100, 0, 0, 25, 33]
    assert ask_for(config, given, [40] * 7)[0] == [10, 60, 60, -40, -40, -15, -6]  # 33.3 from above is 34
    assert ask_for(config, [[math.nan] * 2] * 2, [-3, 7])[0] == [0, 0]
    short = config.replace(action="signed_weights")
    assert ask_for(short, [[0.5, -0.5], [0.0, -1.0], [1.0, 0.5], [0.0, 0.0]], [0] * 4)[0] == [-50, -100, 33, 0]


def test_what_the_limit_leaves_of_a_weight_stays_in_cash() -> None:
    config = MarketConfig(action="signed_weights", position_limit=30)
    assert ask_for(config, [[0.0, 1.0], [0.0, -1.0], [0.8, 0.2]], [0] * 3)[0] == [30, -30, 20]


def test_weights_follow_price_and_equity() -> None:
    config = MarketConfig(action="weights", position_limit=200)
    assert ask_for(config, [[0.5, 0.5]], [0], mid_x2=40_000)[0] == [25]
    assert ask_for(config, [[0.5, 0.5]], [0], equity_x2=1_000_000)[0] == [25]
    assert ask_for(config, [[0.0, 1.0]], [7], equity_x2=0)[0] == [-7]


def test_weights_of_several_symbols_share_the_equity() -> None:
    market = Market(toy(action="signed_weights", num_symbols=2, position_limit=100_000), 1, seed=0)
    before = market.reset()
    action = torch.tensor([[0.2, 0.5, -0.3]], dtype=torch.float64)
    known = known_of(market.config, before, market.params)
    wanted = scheme(market.config).wanted(known, action.unsqueeze(-1)).flatten()
    worth = (wanted * known.mid_x2.flatten()).tolist()
    equity = known.equity_x2.item()
    assert worth == pytest.approx([0.5 * equity, -0.3 * equity], abs=known.mid_x2.max().item())
    assert sum(map(abs, worth)) <= 0.8 * equity


def test_participation_is_a_part_of_what_was_traded_lately() -> None:
    config = MarketConfig(action="participation")
    traded = (0, 0, 0, 0, 0, 0, 0, 0, 369)  # 41 per tick
    assert ask_for(config, [-1.0, -0.5, 0.0, 0.3, 1.0], [0] * 5, volumes=traded)[0] == [-41, -20, 0, 12, 41]
    assert ask_for(config, [1.0, -1.0], [40, 40], volumes=traded)[0] == [10, -41]  # the limit is fifty
    assert ask_for(config, [1.0, math.nan], [3, 3], volumes=(0,) * 9)[0] == [0, 0]
    assert ask_for(config, [29 / 41, -1 / 41], [0, 0], volumes=traded)[0] == [29, -1]


@pytest.mark.parametrize("action", [0.25, -0.77, 1.0])
def test_a_repeated_position_trades_once(action: float) -> None:
    config = MarketConfig(action="position", position_limit=50)
    first = ask_for(config, [action] * 3, [-50, 3, 50])[0]
    held = [before + traded for before, traded in zip([-50, 3, 50], first, strict=True)]
    assert ask_for(config, [action] * 3, held)[0] == [0, 0, 0]


@settings(deadline=None, derandomize=True)
@given(
    name=st.sampled_from(CHOICES),
    order_size=st.integers(1, 40),
    limit=st.integers(40, 200),
    place=st.floats(-1, 1),
    data=st.data(),
)
def test_the_position_limit_holds(name: str, order_size: int, limit: int, place: float, data: st.DataObject) -> None:
    config = MarketConfig(action=name, order_size=order_size, position_limit=limit)
    held = round(place * limit)
    choices = list(range(choices_of(name).count))
    shares, _ = ask_for(config, choices, [held] * len(choices))
    assert all(abs(held + size) <= limit for size in shares)
    assert sorted(shares) == shares  # a higher choice never buys less
    if name == "discrete":
        assert shares == [max(-order_size, -limit - held), 0, min(order_size, limit - held)]


def test_the_collar_is_rounded_towards_the_mid() -> None:
    config = MarketConfig(collar=0.01)
    assert ask_for(config, [0, 2], [0, 0], mid_x2=20_000)[1] == [9_900, 10_100]
    assert ask_for(config, [0, 2], [0, 0], mid_x2=20_001)[1] == [9_901, 10_100]  # 9900.495 and 10100.505
    assert ask_for(config, [0, 2], [0, 0], mid_x2=19_999)[1] == [9_900, 10_099]  # 9899.505 and 10099.495


def test_unknown_schemes_list_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"unknown action scheme 'greedy': choose from discrete, sized, target, percent, position"
    ):
        scheme(MarketConfig(action="greedy"))
    with pytest.raises(ValueError, match=r"unknown action scheme 'greedy'"):
        Market(MarketConfig(action="greedy"))
