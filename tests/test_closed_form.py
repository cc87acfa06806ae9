"""The null markets, where theory has an answer: the engine must give it, and the formulas must be the literature's.

Figures of theory are written out. What is played is held against recursions over whole points, `benchmarks/whole_points.py`, that
play no episode: within four standard errors of the sample, and exactly where nothing is left to chance.
"""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from closed_form import ALPHA, MAKERS, PHIS, learnt_depths, play_execution, play_making, points
from whole_points import best_quotes, depths_of, expected, ladder_cost, mean_ladder_cost

import torchgym as tg
from torchgym.engine import Market, StepResult, consecutive_seeds
from torchgym.lab.execution import almgren_chriss, cost_of, costs_of, schedule
from torchgym.lab.quoting import avellaneda_stoikov, cartea_jaimungal, closed_form_value, flow_of, quoted, symmetric
from torchgym.sim.actions import DEEPEST
from torchgym.training import Agent, PPOSettings
from torchgym.training.ladder import TASKS
from torchgym.training.ladder.tasks import PHI, RISK_AVERSION

SEED = 30_000_000
NAN = math.nan

# What a schedule costs and its standard deviation, points x shares, by risk aversion.
COSTS = {
    0.0: (4_480, 20_106),
    1e-6: (4_527, 17_304),
    1e-5: (5_224, 10_506),
    5e-5: (6_721, 6_583),
    2e-4: (9_340, 4_121),
    1e-3: (14_909, 2_023),
}


@pytest.fixture(scope="module")
def maker() -> Market:
    return Market(tg.preset("as_null", max_ticks=200), 256, compile=False)


@pytest.fixture(scope="module")
def executor() -> Market:
    return Market(tg.preset("ac_null"), 64, compile=False)


def off(values: torch.Tensor, wanted: float) -> float:
    """Standard errors between a sample's mean and what it should be."""
    return abs(float(values.mean()) - wanted) / (float(values.std()) / math.sqrt(len(values)))


# --- theory


@pytest.mark.parametrize(
    ("phi", "theory", "best"), [(1e-4, 682.56, 681.88), (1e-3, 670.38, 669.69), (5e-3, 647.83, 647.23)]
)
def test_the_best_that_a_maker_can_expect(phi: float, theory: float, best: float) -> None:
    config = tg.preset("as_null")
    flow = flow_of(config)
    assert closed_form_value(flow, config.max_ticks, phi, ALPHA) == pytest.approx(theory, abs=0.005)
    value, bids, asks = best_quotes(flow, config.max_ticks, phi, ALPHA)
    assert value == pytest.approx(best, abs=0.005)
    # What the recursion says of the quotes that it found is what they were found by.
    assert expected(flow, bids, asks, phi, ALPHA).criterion == pytest.approx(value, abs=1e-6)
    # The closed form's quotes, rounded to whole points, are no better, and lose next to nothing.
    rounded = expected(flow, *depths_of(config, cartea_jaimungal(phi, ALPHA)), phi, ALPHA).criterion
    assert value - 0.2 < rounded <= value + 1e-9


def test_the_makers_problem_in_the_units_of_the_paper() -> None:
    flow = flow_of(tg.preset("as_null"))
    assert (flow.sigma * math.sqrt(1_000) / 10, flow.rate * 1_000, flow.decay * 10) == pytest.approx((2.0, 140.0, 1.5))


def test_risk_averse_quotes_by_hand() -> None:
    config = tg.preset("as_null")
    bids, asks = depths_of(config, avellaneda_stoikov(0.01), most=3)
    # half the spread 0.002 x 1000 + 100 ln(1 + 1 / 15) = 8.454, skew 0.004 x 1000 a share
    assert asks[0].tolist() == [20.0, 16.0, 12.0, 8.0, 4.0, 0.0, 0.0]
    assert bids[0].tolist() == asks[0].flip(0).tolist()
    assert asks[-1].tolist() == [6.0] * 7  # at the end risk is over: 6.454 either way


@pytest.mark.parametrize(("risk_aversion", "cost", "deviation"), [(key, *value) for key, value in COSTS.items()])
def test_what_a_schedule_costs(risk_aversion: float, cost: float, deviation: float) -> None:
    costs = costs_of(tg.preset("ac_null"))
    left = schedule(costs, 1_000, 50, risk_aversion)
    assert (left[0], left[-1]) == (1_000.0, 0.0)
    assert bool((left.diff() < 0.0).all())
    assert cost_of(costs, left) == pytest.approx((cost, deviation), abs=0.5)


def test_all_at_once_costs_what_the_ladder_says() -> None:
    costs = costs_of(tg.preset("ac_null"))
    assert cost_of(costs, torch.tensor([1_000.0, 0.0, 0.0])) == pytest.approx((28_000.0, 0.0))
    assert schedule(costs, 1_000, 50, 1e6)[1] == pytest.approx(0.0, abs=1e-3)
    assert ladder_cost([1_000, 0], half_spread=3, per_point=20, permanent=0.002) == 28_000
    # Ten at 3 points and twenty at 4; half of the shares later the mid is a point lower.
    assert ladder_cost([500, 470], half_spread=3, per_point=20, permanent=0.002) == 10 * 3 + 20 * 4
    assert (
        ladder_cost([1_000, 470, 460], half_spread=3, per_point=20, permanent=0.0)
        == ladder_cost([1_000, 470, 460], half_spread=3, per_point=20, permanent=0.002) - 10
    )


# --- played


@pytest.mark.parametrize("make_policy", [avellaneda_stoikov(0.01), symmetric(7.0)], ids=["Avellaneda-Stoikov", "fixed"])
def test_quotes_earn_what_theory_says(maker: Market, make_policy: object) -> None:
    exact = expected(flow_of(maker.config), *depths_of(maker.config, make_policy))  # type: ignore[arg-type]
    found = play_making(maker, make_policy, SEED)  # type: ignore[arg-type]
    assert off(found["pnl"], exact.pnl) < 4.0
    assert off(found["pnl"] - found["steps"], exact.pnl) < 4.0  # less what is luck alone
    assert off(found["steps"], 0.0) < 4.0
    assert off(found["held"], 0.0) < 4.0
    assert off(found["held"] ** 2, exact.inventory**2) < 4.0
    assert off(found["squares"] / maker.config.max_ticks, exact.square) < 4.0
    assert off((found["pnl"] - exact.pnl) ** 2, exact.deviation**2) < 4.0


@pytest.mark.parametrize("risk_aversion", [0.0, 1e-5, 1e-3])
def test_schedules_cost_what_theory_says(executor: Market, risk_aversion: float) -> None:
    config, costs = executor.config, costs_of(executor.config)
    found = play_execution(executor, almgren_chriss(risk_aversion), SEED)
    executor.reset(seeds=consecutive_seeds(SEED, executor.num_envs))
    openings = points(config, executor.read("value")["value"][:, 0])
    whole = torch.round(schedule(costs, config.starting_shares, config.max_ticks, risk_aversion))
    cost = partial(ladder_cost, whole.to(torch.int64).tolist(), half_spread=3, per_point=20, permanent=costs.permanent)
    # But for the opening and the mid's steps nothing is left to chance.
    assert (found["cost"] + found["steps"]).tolist() == [cost(opening=opening) for opening in openings.tolist()]
    _, deviation = cost_of(costs, whole)
    assert off(found["steps"], 0.0) < 4.0
    assert off(found["steps"] ** 2, deviation**2) < 4.0


@pytest.mark.parametrize("risk_aversion", COSTS)
def test_whole_points_change_the_cost_by_less_than_a_hundredth(risk_aversion: float) -> None:
    config = tg.preset("ac_null")
    left = schedule(costs := costs_of(config), config.starting_shares, config.max_ticks, risk_aversion)
    whole = torch.round(left).to(torch.int64).tolist()
    mean = mean_ladder_cost(whole, half_spread=3, per_point=20, permanent=costs.permanent)
    assert mean == pytest.approx(cost_of(costs, left)[0], rel=0.01)


def test_the_mean_cost_over_openings_by_hand() -> None:
    """Of 500 shares, 250 first: then the mid is half a point lower, and rounds to a point less in every second episode."""
    cost = partial(mean_ladder_cost, [500, 250, 0], half_spread=3, per_point=500)
    assert cost(permanent=0.0) == 2 * 250 * 3
    assert cost(permanent=0.002) == 2 * 250 * 3 + 250 * 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_quotes_earn_what_theory_says_to_a_part_in_a_thousand(name: str) -> None:
    config = tg.preset("as_null")
    market = Market(config, 2_048, compile=True)
    parts = [play_making(market, MAKERS[name], SEED + 2_048 * at) for at in range(20)]
    found = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    exact = expected(flow_of(config), *depths_of(config, MAKERS[name]))
    steady = found["pnl"] - found["steps"]
    assert float(steady.std()) / math.sqrt(len(steady)) < 1e-3 * exact.pnl
    assert off(steady, exact.pnl) < 4.0
    assert off(found["pnl"], exact.pnl) < 4.0
    assert off((found["pnl"] - exact.pnl) ** 2, exact.deviation**2) < 4.0
    for phi in PHIS:
        of_phi = expected(flow_of(config), *depths_of(config, MAKERS[name]), phi, ALPHA).criterion
        assert off(steady - phi * found["squares"] - ALPHA * found["held"] ** 2, of_phi) < 4.0


# --- quotes as actions


def one(*values: float) -> torch.Tensor:
    """[N, 1] float64."""
    return torch.tensor(values, dtype=torch.float64).unsqueeze(-1)


def test_depths_as_an_action() -> None:
    config = tg.preset("as_null")
    action = quoted(config, one(3.4, 3.6, NAN, -2.0, 99.0), one(7.5, NAN, 1.0, 0.2, 30.9))
    assert action.tolist() == [[3.0, 8.0], [4.0, DEEPEST], [DEEPEST, 1.0], [0.0, 0.0], [31.0, 31.0]]


def test_depths_of_several_places_and_symbols() -> None:
    config = tg.preset("default", num_symbols=2, quotes=2, action="depths")
    action = quoted(config, torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]))
    assert action.tolist() == [[1.0, DEEPEST, 3.0, DEEPEST, 2.0, DEEPEST, 4.0, DEEPEST]]


def test_half_spread_and_skew_as_an_action() -> None:
    config = tg.preset("default", quotes=1, action="quotes")  # a typical half-spread is 5.2 points
    depths = [(5.2, 5.2), (5.2, 10.4), (10.4, 5.2), (NAN, 5.2), (5.2, NAN), (NAN, NAN), (520.0, 10.4), (26.0, 31.2)]
    action = quoted(config, *(one(*side) for side in zip(*depths, strict=True)))
    wanted = [(1, 0), (1.5, 0.5), (1.5, -0.5), (2.5, -1.5), (2.5, 1.5), (4, 0), (3, -1), (4, 0)]
    torch.testing.assert_close(action, torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize("action", ["depths", "quotes"])
def test_quotes_stand_where_they_were_wanted(action: str) -> None:
    config = tg.preset("default", quotes=1, action=action)
    market = Market(config, 2, seed=0, compile=False)
    before = market.reset()
    market.step(
        quoted(config, one(30.0, 25.0), one(28.0, 31.0))
        if action == "depths"
        else quoted(config, one(15.0, 16.0), one(18.0, 15.0))
    )
    price = market.state.book.price[:, 0, -2:]
    mid = torch.round(before.info["mid"] / (0.5 * config.point_size)) * 0.5
    distance = (price - mid) * torch.tensor([-1.0, 1.0])
    wanted = torch.tensor([[30.0, 28.0], [25.0, 31.0]] if action == "depths" else [[15.0, 18.0], [16.0, 15.0]])
    assert bool(((distance >= wanted) & (distance < wanted + 1.0)).all())


def test_a_scheme_that_quotes_no_depths_is_refused() -> None:
    with pytest.raises(ValueError, match="action='discrete' quotes no depths: choose 'depths' or 'quotes'"):
        quoted(tg.preset("default"), one(1.0), one(1.0))


def test_nothing_is_quoted_at_the_most_that_may_be_held() -> None:
    config = tg.preset("as_null")
    bids, asks = depths_of(config, cartea_jaimungal(1e-3, ALPHA, most=5), most=5)
    assert bool((bids[:, -1] == DEEPEST).all() and (asks[:, 0] == DEEPEST).all())
    assert bool((bids[:, :-1] < DEEPEST).all() and (asks[:, 1:] < DEEPEST).all())


def test_play_tells_every_tick() -> None:
    """A market that nobody trades with earns nothing."""
    market = Market(tg.preset("as_null", max_ticks=5), 2, compile=False)

    def nobody(config: tg.MarketConfig, seeds: torch.Tensor) -> object:
        def act(result: StepResult) -> torch.Tensor:
            return quoted(config, one(NAN, NAN), one(NAN, NAN))

        return act

    found = play_making(market, nobody, SEED)  # type: ignore[arg-type]
    assert {name: values.tolist() for name, values in found.items()} == {
        name: [0.0, 0.0] for name in ("steps", "squares", "spread", "both", "pnl", "held")
    }


# --- the rungs of the ladder


def test_the_makers_rung_knows_its_optimum() -> None:
    """A limit of 20 shares costs less than a thousandth of a point, and the reference is as good as the best on whole points."""
    task = TASKS["as_null"]
    config = task.config("default")
    flow, limit = flow_of(config), config.position_limit
    best, _, _ = best_quotes(flow, config.max_ticks, PHI, ALPHA, limit)
    assert best == pytest.approx(best_quotes(flow, config.max_ticks, PHI, ALPHA)[0], abs=1e-3)
    assert task.optimum == pytest.approx(best * config.point_size, abs=1e-5)
    (reference,) = task.references.values()
    assert expected(flow, *depths_of(config, reference, limit), PHI, ALPHA).criterion == pytest.approx(best, abs=0.01)


@pytest.mark.parametrize(("discount", "lost"), [(0.98, 0.014), (0.995, 0.002)])
def test_what_a_learner_loses_by_its_discount(discount: float, lost: float) -> None:
    """Quotes that are best under a discount, worth without it: part of the best criterion."""
    config = tg.preset("as_null")
    flow, ticks = flow_of(config), config.max_ticks
    best, _, _ = best_quotes(flow, ticks, PHI, ALPHA)
    _, bids, asks = best_quotes(flow, ticks, PHI, ALPHA, discount=discount)
    assert 1.0 - expected(flow, bids, asks, PHI, ALPHA).criterion / best == pytest.approx(lost, abs=5e-4)


def test_what_the_executors_rung_asks_for() -> None:
    """At most 3 % more than the best schedule pays against the mid before its sales, risk included."""
    task = TASKS["ac_null"]
    config = task.config("default")
    paid = []
    for aversion in (RISK_AVERSION, 0.0):
        left = torch.round(schedule(costs_of(config), config.starting_shares, config.max_ticks, aversion))
        slippage = ladder_cost(left.to(torch.int64).tolist(), half_spread=3, per_point=20, permanent=0.0)
        _, deviation = cost_of(costs_of(config), left)
        paid.append(slippage + RISK_AVERSION * deviation**2)
    assert paid == pytest.approx([5_346, 7_542], abs=1)
    assert task.least_share is not None
    assert (1.0 - task.least_share) * (paid[1] - paid[0]) == pytest.approx(0.03 * paid[0], rel=0.01)


def test_the_table_of_an_agents_quotes_is_what_it_does() -> None:
    task = TASKS["as_null"]
    config = task.config("default").replace(max_ticks=40)
    torch.manual_seed(0)
    agent = Agent(config, task.ppo())
    for parameter in agent.actor.parameters():
        if parameter.ndim == 2:  # a fresh agent hardly looks at its inputs
            parameter.data *= 20.0
    bids, asks = learnt_depths(agent)
    market = Market(config, 32, compile=False)
    seen, varied = market.reset(seeds=torch.arange(32)), set()
    for tick in range(40):
        action, held = agent.policy(seen), seen.info["position"][:, 0] + config.position_limit
        assert torch.equal(torch.ceil(action), torch.stack([bids[tick, held], asks[tick, held]], -1))
        varied |= set(action[:, 0].tolist())
        seen = market.step(action)
    assert len(varied) > 10
    with pytest.raises(ValueError, match="needs an agent of position and time_left alone"):
        learnt_depths(Agent(config, PPOSettings(hidden=(4,))))
