"""The baselines: what each does where it is clear what it must do."""

from dataclasses import replace

import pytest
import torch
from markets import acting, opened, toy
from torch import Tensor

import torchgym as tg
from torchgym.engine import StepResult
from torchgym.lab import policies
from torchgym.lab.audit.attempts import AuditSnapshot
from torchgym.lab.audit.playing import columns
from torchgym.lab.policies import (
    BASELINES,
    averaged,
    baselines,
    decided_by,
    entered,
    proportional,
    shown,
    to_limit,
    to_value,
    toward,
    trend,
    value_follower,
    value_gap,
)
from torchgym.readout.features import names
from torchgym.sim.actions import ACTIONS, scheme, space
from torchgym.sim.params import plain_params

pytestmark = pytest.mark.kept

SEEDS = torch.arange(3)


def seen(config: tg.MarketConfig, markets: int = 3) -> StepResult:
    return tg.Market(config, markets, seed=0).reset()


def showing(found: StepResult, config: tg.MarketConfig, name: str, values: list[float]) -> StepResult:
    observation = found.observation.clone()
    observation[:, names(config).index(name)] = torch.tensor(values, dtype=torch.float64)
    return replace(found, observation=observation)


def holding(found: StepResult, shares: list[int]) -> StepResult:
    return replace(found, info={**found.info, "position": torch.tensor(shares).unsqueeze(-1)})


def traded(config: tg.MarketConfig, found: StepResult, action: Tensor) -> list[int]:
    """Shares that the market would try to trade."""
    limit, known = config.position_limit, policies.known_of(config, found, plain_params(config, torch.device("cpu")))
    asked, one = scheme(config).wanted(known, action.to(space(config).dtype).unsqueeze(-1)), known.held
    return (torch.clamp(one + asked, -limit, limit) - one).flatten().tolist()


@pytest.mark.parametrize("scheme_name", ACTIONS)
@pytest.mark.parametrize("scaling", ["raw", "relative"])
def test_every_baseline_plays_every_scheme_that_it_fits(scheme_name: str, scaling: str) -> None:
    config = acting(scheme_name, num_symbols=2, scaling=scaling, starting_shares=20, max_ticks=12)
    start = opened(config, 3)
    known = baselines(config)
    assert len(known) >= 5
    for make in known.values():
        market = start.fork()
        policy, found = make(config, SEEDS), market.observe()
        for _ in range(3):
            action = policy(found)
            assert action.shape == (3, space(config).width(2))
            found = market.step(action)  # it refuses what is no choice


@pytest.mark.parametrize("scheme_name", [name for name, row in ACTIONS.items() if row.rests is None])
def test_toward_reaches_the_target_and_stays(scheme_name: str) -> None:
    config = toy(action=scheme_name, order_size=100, position_limit=500)
    found = seen(config, 4)
    target = torch.tensor([[500], [0 if scheme_name == "weights" else -500], [0], [250]])  # weights are never short
    held = torch.zeros_like(target)
    for _ in range(100):
        now = holding(found, held.flatten().tolist())
        held = held + torch.tensor(traded(config, now, toward(config, now, target))).unsqueeze(-1)
    left = (held - target).abs().flatten().tolist()
    assert left[:3] == [0, 0, 0]
    assert left[3] <= 50  # half an order where orders come whole


@pytest.mark.parametrize("limit", [49, 50, 1_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["position", "signed_weights"])
def test_every_position_can_be_had_in_either_precision(name: str, limit: int, dtype: torch.dtype) -> None:
    config = toy(action=name, order_size=20, position_limit=limit)  # the equity is worth 2,000 shares
    target = torch.arange(-limit, limit + 1).unsqueeze(-1)
    found = seen(config, len(target))
    for held in (-limit, -1, 0, 7, limit):
        now = holding(found, [held] * len(target))
        reached = held + torch.tensor(traded(config, now, toward(config, now, target).to(dtype)))
        assert torch.equal(reached, target.flatten())


def test_toward_trades_less_of_two_alike() -> None:
    config = toy()  # ten shares an order
    found = holding(seen(config), [0, 10, -50])
    assert toward(config, found, torch.tensor([[5], [5], [-60]])).flatten().tolist() == [1, 1, 1]
    assert toward(config, found, torch.tensor([[6], [4], [-44]])).flatten().tolist() == [2, 0, 2]


@pytest.mark.parametrize(("scaling", "unit"), [("raw", 1.0), ("relative", 100.0)])
def test_the_value_follower_acts_beyond_its_gap_and_then_stays(scaling: str, unit: float) -> None:
    config = toy(scaling=scaling)
    follower = value_follower(config, SEEDS, clear_gap=0.01)
    found = showing(seen(config), config, "f_fair_value_dev", [0.011 * unit, -0.011 * unit, 0.009 * unit])
    assert value_gap(config, found).flatten().tolist() == pytest.approx([0.011, -0.011, 0.009])
    assert follower(holding(found, [0, 0, 0])).flatten().tolist() == [0, 2, 1]
    assert follower(holding(found, [20, 20, 20])).flatten().tolist() == [0, 2, 1]
    assert follower(holding(found, [-50, 50, 50])).flatten().tolist() == [1, 1, 1]


@pytest.mark.parametrize(("name", "sign"), [("momentum", 1), ("mean_reversion", -1)])
@pytest.mark.parametrize("scaling", ["raw", "relative"])
def test_trends_are_judged_by_the_usual_move(name: str, sign: int, scaling: str) -> None:
    config = toy(scaling=scaling)
    usual = 0.001 * 24**0.5 if scaling == "raw" else 1.0
    found = showing(seen(config), config, "f_log_return_24", [1.1 * usual, -1.1 * usual, 0.9 * usual])
    if scaling == "raw":
        found = showing(found, config, "f_realized_vol_32", [0.001] * 3)
    action = BASELINES[name].make(config, SEEDS)(holding(found, [0, 0, 0]))
    assert (action.flatten() - 1).tolist() == [sign, -sign, 0]


@pytest.mark.parametrize(
    ("gaps", "weights"),
    [
        ([0.0, 0.0], [0.5, 0.25, 0.25]),
        ([0.01, -0.01], [0.5, 0.5, 0.0]),
        ([0.3, 0.3], [0.0, 0.5, 0.5]),
        ([-0.3, -0.005], [0.875, 0.0, 0.125]),
    ],
)
def test_a_tilt_holds_more_of_what_is_cheap(gaps: list[float], weights: list[float]) -> None:
    config = acting("weights", num_symbols=2)
    found = seen(config, 1)
    at = [names(config).index(f"f_fair_value_dev@{symbol}") for symbol in range(2)]
    found.observation[:, at] = -torch.tensor([gaps], dtype=torch.float64)
    action = BASELINES["value_tilt"].make(config, SEEDS[:1])(found)
    assert action[0].tolist() == pytest.approx(weights)


def test_uneven_weights_become_constant_ones() -> None:
    config = acting("weights", num_symbols=3, starting_cash=2_000_000, position_limit=1_000)
    market, policy = opened(config, 2), BASELINES["constant_weights"].make(config, SEEDS[:2])

    def weights(found: StepResult) -> list[float]:
        return (found.info["position"] * found.info["mid"] / found.info["equity"].unsqueeze(-1)).flatten().tolist()

    uneven = torch.tensor([[0.0, 0.6, 0.2, 0.2]], dtype=torch.float64).expand(2, -1)
    for _ in range(20):
        found = market.step(uneven)
    assert weights(found) == pytest.approx([0.6, 0.2, 0.2] * 2, abs=0.02)
    for _ in range(20):
        found = market.step(policy(found))
    assert weights(found) == pytest.approx([1.0 / 3.0] * 6, abs=0.02)


def test_random_depends_on_the_episode_alone() -> None:
    config = toy(max_ticks=40)
    found = seen(config, 200)
    seeds = torch.arange(200)
    action = BASELINES["random"].make(config, seeds)(found)
    alone = BASELINES["random"].make(config, seeds[7:8])(
        replace(found, info={key: value[7:8] for key, value in found.info.items()})
    )
    assert torch.equal(action[7:8], alone)
    assert torch.bincount(action.flatten(), minlength=3).min() > 40  # of 67; six standard deviations
    later = {**found.info, "tick": found.info["tick"] + 1}
    assert not torch.equal(BASELINES["random"].make(config, seeds)(replace(found, info=later)), action)


def test_liquidators_sell_what_there_is() -> None:
    config = toy(starting_shares=50, max_ticks=100)
    for name, sold in (("twap_liquidator", 52), ("liquidate_at_once", 5)):
        market = tg.Market(config, 2, seed=0)
        policy, found, flat = BASELINES[name].make(config, SEEDS[:2]), market.reset(), 0
        for index in range(100):
            found = market.step(policy(found))
            if not found.info["position"].any() and not flat:
                flat = index + 1
        assert not found.info["position"].any()
        assert flat >= sold if name == "twap_liquidator" else flat == sold
    market = tg.Market(config := tg.preset("ac_null"), 2, seed=0)  # whose book takes any slice
    policy, found = BASELINES["twap_liquidator"].make(config, SEEDS[:2]), market.reset()
    for left in range(980, -1, -20):
        found = market.step(policy(found))
        assert found.info["position"].tolist() == [[left]] * 2


def test_which_policies_play_which_market() -> None:
    config = toy(starting_shares=50, max_ticks=100)
    quoting = {name for name, row in BASELINES.items() if row.quotes}
    sharing = {name for name, row in BASELINES.items() if row.weights}
    assert set(baselines(config)) == set(BASELINES) - quoting - sharing
    assert set(baselines(acting("weights"))) - set(baselines(toy())) == sharing
    assert set(baselines(config)) - set(baselines(toy())) == {"twap_liquidator", "liquidate_at_once"}
    assert set(baselines(acting("quotes"))) == {"hold", "random", *quoting}


def test_a_feature_that_is_not_shown_is_named() -> None:
    config = toy(features="canonical28")
    with pytest.raises(ValueError, match=r"looks at f_log_return_24, which features='canonical28' does not show"):
        BASELINES["momentum"].make(config, SEEDS)(seen(config))


RULES = {
    "trend": trend(6),
    "fade": trend(24, -1.0),
    "limit": to_limit(-1),
    "value": to_value(0.002),
    "book": entered(shown("f_book_imbalance"), 0.3, leave=0.0),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_decides_alike_for_a_learner_and_in_the_audit(name: str) -> None:
    """Orders of 100 shares, a limit of five: where the action may be any number of shares, both come to the same trades."""
    config = toy(features="full55", scaling="raw", action="percent", order_size=100, position_limit=500, max_ticks=40)
    market = tg.Market(config, 3, seed=0)
    policy, found, trades = decided_by(RULES[name])(config, SEEDS), market.reset(), 0
    for now in range(40):
        held = found.info["position"][:, 0]
        snapshot = AuditSnapshot(columns(market, found), slice(0, 3), held, now, last=40, order=100, limit=500)
        shares, action = RULES[name](snapshot, {}), policy(found)
        whole = held % 100 == 0  # the audit trades whole orders, and leaves what a thin book has left unfilled
        assert (action.flatten() - 100)[whole].tolist() == shares[whole].tolist()
        trades += int(shares[whole].ne(0).sum())
        found = market.step(action)
    assert trades > 0


def test_each_policy_has_a_memory_of_its_own() -> None:
    config = toy(features="full55", position_limit=100)
    make_policy = decided_by(proportional(averaged(1.0, shown("f_rsi_8", 0.01)), 1.0))
    first, other = make_policy(config, SEEDS), make_policy(config, SEEDS)
    low, high = (holding(showing(seen(config), config, "f_rsi_8", [level] * 3), [60] * 3) for level in (0.0, 80.0))
    assert first(low).tolist() == [[0]] * 3  # towards 0
    assert first(high).tolist() == [[0]] * 3  # towards the mean, 40
    assert other(high).tolist() == [[2]] * 3  # towards 80
