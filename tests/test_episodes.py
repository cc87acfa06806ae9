"""Episodes played, what they cost, and policies evaluated side by side."""

import dataclasses
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from markets import random_actions, toy
from torch import Tensor

import torchgym as tg
from torchgym.engine import StepResult
from torchgym.lab.audit import playing
from torchgym.lab.execution import almgren_chriss
from torchgym.lab.performance import METRICS, evaluate, play
from torchgym.lab.performance.comparison import mean_interval
from torchgym.lab.performance.trace import trace
from torchgym.lab.policies import BASELINES, baselines
from torchgym.lab.policy import MakePolicy, Policy
from torchgym.lab.quoting import cartea_jaimungal, symmetric
from torchgym.lab.realism.impact import impact_config
from torchgym.numerics.trees import map_tensors
from torchgym.recording import record

pytestmark = pytest.mark.kept

CONFIG = toy(max_ticks=60, ticks_per_action=2)
SEEDS = torch.arange(5, 9)


def scripted(config: tg.MarketConfig, seeds: Tensor, seed: int = 0) -> Policy:
    """Acts at random, the same whatever it sees."""
    plan = iter(random_actions(config, 100, len(seeds), seed=seed))
    return lambda seen: next(plan)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        toy(max_ticks=50, num_symbols=3, commission_bps=0.0),
        toy(max_ticks=50, mark="liquidation", borrow_ppb=50_000),
        toy(max_ticks=50, starting_shares=-50, action="sized"),
        toy(max_ticks=48, execution="auction"),
    ],
)
def test_the_parts_of_the_profit_add_up_to_it(config: tg.MarketConfig) -> None:
    found = play(tg.Market(config, 4, seed=0), scripted, SEEDS)
    parts = found.attribution()
    assert torch.stack(list(parts.values())).sum(0).tolist() == pytest.approx(found.profit.tolist(), abs=1e-6)
    assert ("marking" in parts) == (config.mark == "liquidation")
    assert parts["fees"].max() <= 0.0
    assert parts["borrow"].max() <= 0.0
    assert (parts["fees"] < 0.0).all() == (config.commission_bps > 0.0)


def test_costs_are_those_of_the_book() -> None:
    """One buy of ten shares, worked by hand from the market's own state."""
    config = toy(max_ticks=3)
    market = tg.Market(config, 1, seed=3)
    market.reset(seeds=SEEDS[:1])
    bid, ask = market.state.market_data.bid.item() * 0.01, market.state.market_data.ask.item() * 0.01

    def once(config: tg.MarketConfig, seeds: Tensor) -> Policy:
        return lambda seen: torch.where(seen.info["tick"] == 0, 2, 1).unsqueeze(-1)

    found = play(market, once, SEEDS[:1])
    after = tg.Market(config, 1, seed=3)
    after.reset(seeds=SEEDS[:1])
    told = after.step(torch.tensor([2]))
    paid = 10_000_000 * 0.01 - told.info["cash"].item() - told.info["fees"].item()
    assert found.spread[0].tolist() == pytest.approx([10 * (ask - bid) / 2, 0.0, 0.0], abs=1e-9)
    assert found.impact[0, 0].item() == pytest.approx(paid - 10 * ask, abs=1e-6)
    assert found.fees[0].tolist() == pytest.approx([told.info["fees"].item(), 0.0, 0.0], abs=1e-9)
    assert found.traded[0].tolist() == pytest.approx([paid, 0.0, 0.0], abs=1e-6)


def test_curves_are_those_of_a_plain_loop() -> None:
    found = play(tg.Market(CONFIG, 4, seed=0), scripted, SEEDS)
    market = tg.Market(CONFIG, 4, seed=99)
    seen = market.reset(seeds=SEEDS)
    equity, reward, policy = [seen.info["equity"]], torch.zeros(4, dtype=torch.float64), scripted(CONFIG, SEEDS)
    for _ in range(30):
        seen = market.step(policy(seen))
        equity.append(seen.info["equity"])
        reward += seen.reward
    assert seen.truncated.all()
    assert torch.equal(found.equity, torch.stack(equity, 1))
    assert torch.equal(found.reward, reward)
    assert found.traded.shape == (4, 30)


def test_nothing_happens_after_ruin() -> None:
    config = toy(max_ticks=40, maintenance=9_999_500)  # a loss of five currency is ruin
    market = tg.Market(config, 40, seed=0)
    seeds = torch.arange(40)
    found = play(market, partial(scripted, seed=1), seeds)
    seen, policy = market.reset(seeds=seeds), scripted(config, seeds, seed=1)
    ended = torch.zeros(40, dtype=torch.bool)
    final = seen.info["equity"].clone()
    reward = torch.zeros_like(final)
    for _ in range(40):
        seen = market.step(policy(seen))
        final = torch.where(ended, final, seen.info["equity"])
        reward += torch.where(ended, 0.0, seen.reward)
        ended |= seen.terminated
    assert 5 < int(ended.sum()) < 40
    assert torch.equal(found.equity[:, -1], final)
    assert torch.equal(found.reward, reward)
    parts = torch.stack(list(found.attribution().values())).sum(0)
    assert parts.tolist() == pytest.approx(found.profit.tolist(), abs=1e-6)


def test_policies_meet_the_same_episodes_whatever_the_batch() -> None:
    policies = {name: BASELINES[name].make for name in ("hold", "random", "value_follower")}
    many = evaluate(CONFIG, policies, episodes=6, seed=50, agent="random")
    few = evaluate(CONFIG, {"random": policies["random"]}, episodes=3, seed=50)
    assert torch.equal(many.episodes["random"].equity[:3], few.episodes["random"].equity)
    assert [(entry.agent, entry.baseline) for entry in many.comparisons] == [
        ("random", "hold"),
        ("random", "value_follower"),
    ]
    lead = many.episodes["random"].profit - many.episodes["hold"].profit
    assert many.comparisons[0].lead == pytest.approx(lead.mean().item())
    assert few.comparisons == []
    assert many.periods_per_year == 252 * 390 / 2


def test_an_evaluation_is_told_in_plain_values() -> None:
    told: list[tuple[str, int, int]] = []
    found = evaluate(
        CONFIG,
        baselines(CONFIG),
        agent="momentum",
        descriptions={"hold": "never trades"},
        episodes=4,
        progress=lambda *entry: told.append(entry),
    )
    content = json.loads(json.dumps(found.to_dict("torchgym evaluate"), allow_nan=False))
    assert (content["torchgym"], content["command"], content["agent"]) == (
        tg.__version__,
        "torchgym evaluate",
        "momentum",
    )
    assert (content["episodes"], content["decisions"], content["seed"]) == (4, 30, 20_000_000)
    assert tg.MarketConfig.from_dict(content["config"]) == CONFIG
    for policy, metric, message in (
        ("hodl", "profit", "unknown policy 'hodl'"),
        ("hold", "proft", "unknown metric 'proft'"),
    ):
        with pytest.raises(ValueError, match=message):
            found.interval(policy, metric)
    row = found.rows()[0]
    assert row["reward"] == pytest.approx(found.episodes[row["policy"]].reward.mean().item())
    hold = content["policies"]["hold"]
    assert hold["description"] == "never trades"
    assert set(hold["metrics"]) == {"profit", "reward", *METRICS}
    assert hold["metrics"]["sharpe"] is None  # an account that stands still has none
    assert hold["profit"] == [0.0] * 4
    bought = content["policies"]["buy_and_hold"]
    assert sum(bought["attribution"].values()) == pytest.approx(sum(bought["profit"]) / 4)
    assert bought["metrics"]["profit"]["mean"] == pytest.approx(sum(bought["profit"]) / 4)
    assert [what for what in told if what[0] == "decisions of value_follower"] == [
        ("decisions of value_follower", n, 30) for n in range(31)
    ]
    assert told[-1][0] == "comparisons" and told[-1][1] == told[-1][2]
    shares: list[tuple[int, int]] = []
    found.resample(lambda done, total: shares.append((done, total)))
    assert shares == [(done, len(shares) - 1) for done in range(len(shares))]
    row = found.rows()[list(found.episodes).index("hold")]
    assert (row["policy"], row["profit"], row["sharpe"], row["from_fees"]) == ("hold", 0.0, None, 0.0)
    assert row["lead"] == pytest.approx(found.episodes["momentum"].profit.mean().item())
    assert "lead" not in found.rows()[list(found.episodes).index("momentum")]
    assert math.isfinite(bought["metrics"]["max_drawdown"]["mean"])


def test_no_interval_reaches_below_what_a_metric_can_be() -> None:
    found = evaluate(CONFIG, {"random": baselines(CONFIG)["random"]}, episodes=4)
    worst = torch.tensor([0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.9], dtype=torch.float64)
    metrics = dict.fromkeys(METRICS, worst)
    apart = dataclasses.replace(found, metrics={"random": metrics})
    plain = mean_interval(worst)
    assert -1.0 < plain[1] < 0.0
    bounded = {"annual_volatility", "max_drawdown", "turnover", "exposure", "hit_rate", "profit_factor"}
    for name in METRICS:
        interval = apart.interval("random", name)
        assert interval is not None
        assert (interval.mean, interval.high) == (plain[0], plain[2])
        assert interval.low == (0.0 if name in bounded else plain[1]), name


def test_bad_requests_are_refused() -> None:
    hold = {"hold": BASELINES["hold"].make}
    with pytest.raises(ValueError, match="unknown policy 'agent': choose from hold"):
        evaluate(CONFIG, hold, agent="agent", episodes=2)
    with pytest.raises(ValueError, match="no policy was given"):
        evaluate(CONFIG, {})
    with pytest.raises(ValueError, match="episodes must be an integer >= 2, got 1"):
        evaluate(CONFIG, hold, episodes=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("hold", r"policies\['mine'\] must be a function, got 'hold': the ready-made ones are .*BASELINES"),
        (lambda seen: torch.ones(2), r"policies\['mine'\] must make a policy .* give lambda config, seeds: policy"),
        (lambda config, seeds: None, "what make_policy makes must be a function, got None: a policy takes"),
    ],
)
def test_what_makes_no_policy_is_named(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(CONFIG, {"mine": given}, episodes=2)


def test_a_policy_sees_what_a_learner_sees() -> None:
    """Not the market: the observation, the account and the info of the step before."""
    kinds: list[type] = []

    def spy(config: tg.MarketConfig, seeds: Tensor) -> Policy:
        def act(seen: StepResult) -> Tensor:
            kinds.append(type(seen))
            return torch.ones_like(seen.info["position"])

        return act

    play(tg.Market(CONFIG, 4, seed=0), spy, SEEDS)
    assert kinds == [StepResult] * 30


# --- worlds that differ from market to market

LENGTHS = toy(
    max_ticks=20, ticks_per_action=2, reward="shortfall", starting_shares=50, randomize={"max_ticks": (4, 20)}
)
TERMS = {"position_limit": (60, 500), "order_size": (3, 40), "starting_shares": (20, 50)}


def test_an_episode_ends_where_its_own_time_is_up() -> None:
    market, every = tg.Market(LENGTHS, 4, seed=0), LENGTHS.ticks_per_action
    market.reset(seeds=SEEDS)
    ends = (market.state.clock.last // every).tolist()
    assert len(set(ends)) > 1
    own = scripted(LENGTHS, SEEDS)
    steps = [market.step(own(market.observe())) for _ in range(10)]
    found = play(tg.Market(LENGTHS, 4, seed=0), scripted, SEEDS)
    for row, end in enumerate(ends):
        assert steps[end - 1].truncated[row] and not steps[end - 2].truncated[row]
        assert found.reward[row] == sum(step.reward[row] for step in steps[:end])
        assert found.equity[row, -1] == steps[end - 1].info["equity"][row]
        assert not found.traded[row, end:].any()
    longer = tg.Market(CONFIG.replace(starting_shares=50), 2, seed=0, params={"max_ticks": [20, 90]})
    assert play(longer, BASELINES["hold"].make, [1, 2]).traded.shape == (2, 45)


def test_an_episode_of_a_drawn_length_is_traced_and_recorded_to_its_end(tmp_path: Path) -> None:
    market = tg.Market(LENGTHS, 4, seed=0)
    market.reset(seeds=SEEDS)
    ends = market.state.clock.last.tolist()
    hold = BASELINES["hold"].make
    assert [len(trace(LENGTHS, hold(LENGTHS, SEEDS[at : at + 1]), 5 + at).tick) - 1 for at in range(4)] == ends
    record(tmp_path / "file.parquet", LENGTHS, episodes=4, seed=5, num_envs=3)
    rows = pq.read_table(tmp_path / "file.parquet", columns=["episode"]).column(0).to_pylist()
    assert [rows.count(at) - 1 for at in range(4)] == [end // 2 for end in ends]


@pytest.mark.parametrize("action", ["discrete", "percent", "position"])
def test_scripted_policies_know_their_own_terms(action: str) -> None:
    config = toy(max_ticks=50, action=action, starting_shares=50, position_limit=500, randomize=TERMS)
    market = tg.Market(config, 8, seed=0)
    market.reset(seeds=range(8))
    limits = market.params.position_limit.flatten()
    assert len(limits.unique()) > 4

    def last(name: str) -> Tensor:
        play(market, BASELINES[name].make, range(8))
        return market.observe().info["position"].flatten()

    start = market.observe().info["position"].flatten()
    # How near orders come to a position: half a standard order where there is but one size.
    near = market.params.order_size.flatten() // 2 if action == "discrete" else torch.zeros(8, dtype=torch.int64)
    assert torch.equal(last("hold"), start)
    assert (last("twap_liquidator").abs() <= near).all()
    assert (last("liquidate_at_once").abs() <= near).all()
    assert (limits - last("buy_and_hold") <= near).all()


@pytest.mark.parametrize(
    ("make_policy", "name"),
    [(almgren_chriss(1e-6), "starting_shares"), (cartea_jaimungal(1e-3, 0.01), "max_ticks")],
)
def test_plans_for_one_setting_refuse_draws_of_it(make_policy: MakePolicy, name: str) -> None:
    config = toy(max_ticks=20, starting_shares=50, randomize={name: (10, 20)})
    with pytest.raises(ValueError, match=f"plans for one {name}, and randomize draws it for each episode"):
        evaluate(config, {"plan": make_policy}, episodes=2)


def test_a_maker_quotes_in_its_own_units() -> None:
    config = tg.task("MarketMaking", "toy", max_ticks=20, randomize={"population.maker.base_width": (1.0, 30.0)})
    market = tg.Market(config, 8, seed=0)
    result = market.reset(seeds=range(8))
    own = market.params.typical_half_spread
    assert len(own.unique()) > 4
    assert torch.allclose(symmetric(8.0)(config, torch.arange(8))(result)[:, :1] * own, torch.tensor(8.0).double())


def test_policies_and_configurations_are_told_by_kind() -> None:
    with pytest.raises(ValueError, match=r"policies must map names to what makes them, got \['hold'\]"):
        evaluate(CONFIG, ["hold"], episodes=2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"config must be of the class torchgym.config.MarketConfig, got 'toy'"):
        evaluate("toy", baselines(CONFIG), episodes=2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected 4 seeds, one per market, got 2"):
        play(tg.Market(CONFIG, 4, seed=0), BASELINES["hold"].make, [0, 1])


def test_an_episode_is_measured_over_its_own_decisions() -> None:
    drawn = toy(max_ticks=40, ticks_per_action=2, randomize={"max_ticks": (10, 40)})
    found = evaluate(drawn, {"random": baselines(drawn)["random"]}, episodes=6, seed=50)
    lengths = found.episodes["random"].decisions.tolist()
    assert len(set(lengths)) > 1
    for row, length in enumerate(lengths):
        alone = evaluate(
            toy(max_ticks=2 * length, ticks_per_action=2), {"random": baselines(drawn)["random"]}, episodes=6, seed=50
        )
        for name, values in found.metrics["random"].items():
            expected = alone.metrics["random"][name][row].item()
            assert values[row].item() == pytest.approx(expected, nan_ok=True), name


@pytest.mark.parametrize("name", ["symmetric_quotes", "gueant_lehalle", "avellaneda_stoikov", "hold"])
@pytest.mark.parametrize("draws", [{}, {"order_size": (3, 40)}])
def test_a_policy_follows_the_market_to_its_device(name: str, draws: dict[str, Any]) -> None:
    """Seeds may lie elsewhere than the market; a device without memory shows what would be mixed."""
    config = tg.task("MarketMaking", "toy", max_ticks=20, randomize=draws)
    policy = BASELINES[name].make(config, torch.arange(2))
    result = tg.Market(config, 2, seed=0).reset()
    assert policy(map_tensors(lambda tensor: tensor.to("meta"), result)).device.type == "meta"


def test_an_audit_draws_nothing_that_it_sets() -> None:
    drawn = toy(
        randomize={"max_ticks": (10, 40), "position_limit": (60, 500), "population.maker.base_width": (5.0, 9.0)}
    )
    assert list(playing._terms(drawn, 200).randomize) == ["population.maker.base_width"]
    assert list(impact_config(drawn).randomize) == ["max_ticks", "population.maker.base_width"]
