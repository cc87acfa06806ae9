"""The learnability ladder: tasks as they are described, runs that go on where they stopped, figures by hand."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor

import torchgym as tg
from torchgym.lab.performance import play
from torchgym.lab.policies import BASELINES, baselines
from torchgym.lab.policy import MakePolicy
from torchgym.training import Agent
from torchgym.training.ladder import TASKS, Plan, Task, TaskResult, curve_rows, run_ladder, summarise
from torchgym.training.ladder.summary import _stretch
from torchgym.training.ladder.tasks import ALPHA, PHI, RISK_AVERSION, VALUE_TASKS
from torchgym.visual.plots import ladder_panel

pytestmark = pytest.mark.kept

SMALL = Task(
    description="small",
    market={"max_ticks": 20, "information": "privileged"},
    settings={"num_envs": 4, "rollout": 4, "total_frames": 48, "hidden": (4,), "epochs": 1, "minibatches": 1},
    references={"hold": BASELINES["hold"].make, "value_follower": BASELINES["value_follower"].make},
)


@pytest.fixture(autouse=True)
def small_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "small", SMALL)


def plan(**changes: Any) -> Plan:
    return Plan(**{"preset": "toy", "tasks": ("small",), "seeds": 2, "episodes": 3, **changes})


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    whole = run_ladder(plan(), tmp_path / "whole", progress=lambda *entry: told.append(entry))
    assert whole is not None
    assert told[:2] == [("small, training 1 of 2", 0, 3), ("small, training 1 of 2", 1, 3)]
    assert told[-1] == ("small, hold, test", 4, 4)
    for stage in {stage for stage, _, _ in told}:
        own = [(done, total) for name, done, total in told if name == stage]
        assert own[0][0] == 0 and own[-1][0] == own[-1][1]
    for _ in range(2):  # in the middle of the first training; then at the beginning of the second
        answers = iter([False, True])
        assert run_ladder(plan(), tmp_path / "parts", stop=lambda answers=answers: next(answers)) is None  # type: ignore[misc]
    parts = run_ladder(plan(), tmp_path / "parts")
    assert parts is not None
    assert torch.equal(parts[0].agent_scores, whole[0].agent_scores)
    assert parts[0].agent_scores.shape == (2, 3)
    told.clear()
    again = run_ladder(plan(), tmp_path / "parts", progress=lambda *entry: told.append(entry))
    assert told == []  # nothing was left to train
    assert again is not None
    assert torch.equal(again[0].agent_scores, whole[0].agent_scores)
    assert (again[0].reference, again[0].frames) == (whole[0].reference, 48)


def test_trainings_of_another_plan_are_not_mixed_in(tmp_path: Path) -> None:
    answers = iter([True])
    assert run_ladder(plan(), tmp_path, stop=lambda: next(answers)) is None
    with pytest.raises(ValueError, match=r"training_1 holds results of another settings: give another folder"):
        run_ladder(plan(frames=64), tmp_path)
    run_ladder(plan(), tmp_path)
    with pytest.raises(ValueError, match=r"holds results of another episodes"):
        run_ladder(plan(episodes=4), tmp_path)


def test_the_reference_is_the_one_that_earns_most_where_nobody_is_judged(tmp_path: Path) -> None:
    references: dict[str, MakePolicy] = {"flip": _flip, "hold": BASELINES["hold"].make}
    TASKS["small"] = Task("small", SMALL.market, SMALL.settings, references=references)
    results = run_ladder(plan(), tmp_path)
    assert results is not None
    assert results[0].reference == "hold"
    assert results[0].reference_scores.tolist() == [0.0] * 3


def _flip(config: tg.MarketConfig, seeds: Tensor):  # type: ignore[no-untyped-def]
    """Buys and sells in turn: loses."""
    return lambda seen: torch.where(seen.info["position"] > 0, 0, 2)


@pytest.mark.parametrize("name", list(TASKS))
def test_every_task_is_a_market_and_an_agent(name: str) -> None:
    task = TASKS[name]
    config, settings = task.config("default"), task.ppo()
    assert (config.scaling, task.ppo(1).updates) == ("relative", 1)
    assert task.naive in baselines(config) and task.references
    agent = Agent(config, settings)
    assert agent.policy(tg.Market(config, 2, seed=0).reset()).shape[0] == 2


@pytest.mark.parametrize("name", VALUE_TASKS)
def test_the_tasks_of_value(name: str) -> None:
    task = TASKS[name]
    config, settings = task.config("default"), task.ppo()
    assert (config.max_ticks, config.ticks_per_action) == (1_000, 5)
    exact = config.information == "privileged"
    assert exact == name.startswith("exact")
    assert (config.commission_bps == 0.0) == (name == "exact_free")
    assert (settings.inputs == ()) == (name == "public")
    assert (task.least_share is not None) == (name in ("exact_free", "exact", "inventory"))


@pytest.mark.parametrize(
    ("name", "own"), [("as_null", None), ("market_making", "MarketMaking"), ("portfolio", "Portfolio")]
)
def test_the_base_of_a_task(name: str, own: str | None) -> None:
    """The closed forms keep their market, whatever the preset of the ladder is; the tasks of the faces are in it."""
    calm, toy = (TASKS[name].config(preset) for preset in ("calm", "toy"))
    if own is None:
        assert calm == toy and calm.fundamentals == tg.preset("as_null").fundamentals
    else:
        assert (calm, toy) == (tg.task(own, "calm"), tg.task(own, "toy")) and calm != toy


def test_the_reward_of_the_makers_rung_is_the_criterion() -> None:
    """Without what the mid moved on shares held, after the trades of its tick."""
    task, ticks = TASKS["as_null"], 60
    config = task.config("default").replace(max_ticks=ticks)
    (make_policy,) = task.references.values()
    market = tg.Market(config, 64)
    first = before = market.reset(seeds=torch.arange(64))
    policy = make_policy(config, torch.arange(64))
    reward, squares, moved = torch.zeros(3, 64, dtype=torch.float64)
    for _ in range(ticks):
        after = market.step(policy(before))
        held = after.info["position"][:, 0]
        reward += after.reward
        squares += held**2
        moved += held * (after.info["mid"] - before.info["mid"])[:, 0]
        before = after
    assert held.abs().max() > 3
    earned = before.info["equity"] - first.info["equity"] - moved
    points = earned / config.point_size - PHI * squares - ALPHA * held**2
    assert reward / config.point_size == pytest.approx(points, abs=1e-6)


def test_the_reward_of_the_executors_rung_is_expected_utility() -> None:
    """The profit of all that is sold, less the price of risk and what the mid moved on shares held; the rest walks the ladder."""
    task = TASKS["ac_null"]
    config = task.config("default")
    market, point = tg.Market(config, 8), config.point_size
    for make_policy in (*task.references.values(), BASELINES[task.naive].make, _half_is_left):
        first = before = market.reset(seeds=torch.arange(8))
        policy, reward = make_policy(config, torch.arange(8)), torch.zeros(8, dtype=torch.float64)
        risk, moved = torch.zeros_like(reward), torch.zeros_like(reward)
        for _ in range(config.max_ticks):
            after = market.step(policy(before))
            reward += after.reward
            held = after.info["position"][:, 0]
            risk += RISK_AVERSION * 25.0 * held**2
            moved += held * (after.info["mid"] - before.info["mid"])[:, 0]
            before = after
        left = before.info["position"][:, 0]
        walked = 3.0 * left + 0.025 * left**2  # between two prices of the ladder up to 2.5 points less
        profit = (before.info["equity"] - first.info["equity"] - moved) / point
        torch.testing.assert_close(reward / point, profit - risk - walked, rtol=0.0, atol=2.6)
    assert left.tolist() == [500] * 8


def _half_is_left(config: tg.MarketConfig, seeds: Tensor):  # type: ignore[no-untyped-def]
    return lambda seen: torch.where(seen.info["position"] > 500, 0, 100)


@pytest.mark.parametrize("preset", [name for name in tg.PRESETS if tg.preset(name).reference == "quotes"])
def test_the_known_optimum_is_what_selling_at_once_gets(preset: str) -> None:
    task = TASKS["inventory"]
    config = task.config(preset)
    (make_policy,) = task.references.values()
    found = play(tg.Market(config.replace(max_ticks=30), 4, seed=0), make_policy, torch.arange(4))
    assert task.optimum is not None
    assert found.reward.tolist() == pytest.approx([task.optimum] * 4)


def result(agent: Tensor, reference: Tensor, task: Task = SMALL) -> TaskResult:
    return TaskResult(
        name="small",
        task=task,
        reference="it",
        reference_scores=reference,
        naive_scores=torch.zeros_like(reference),
        agent_scores=agent,
        curves=[
            [
                {
                    "frames": 48,
                    "seconds": 60.0,
                    "validation_profit": 1.0,
                    "validation_return": 1.0,
                    "training_return": 0.5,
                }
            ]
        ]
        * len(agent),
        frames=48,
    )


def test_shares_and_intervals_by_hand() -> None:
    reference = torch.tensor([8.0, 12.0, 10.0, 10.0], dtype=torch.float64)
    step = summarise(result(torch.stack([0.8 * reference, 0.8 * reference]), reference))
    assert (step.reference_mean, step.agent_mean) == pytest.approx((10.0, 8.0))
    assert (step.share, step.share_low, step.share_high) == pytest.approx((0.8, 0.8, 0.8))  # the same episodes
    assert 8.0 < step.reference_low < 10.0 < step.reference_high < 12.0
    assert step.minutes == 1.0
    assert step.agent_by_training == pytest.approx((8.0, 8.0))


def test_trainings_and_episodes_both_count_as_chance() -> None:
    """Trainings that differ widen the interval even where all episodes are alike, and the other way round."""
    flat = torch.ones(4, dtype=torch.float64)
    by_training = summarise(result(torch.stack([1.0 * flat, 3.0 * flat]), flat))
    student = 12.7062 / 1.959964 * 2.0**0.5  # two trainings have one degree of freedom
    assert (by_training.agent_low, by_training.agent_high) == pytest.approx((2.0 - student, 2.0 + student))
    rising = torch.tensor([1.0, 3.0, 1.0, 3.0], dtype=torch.float64)
    by_episode = summarise(result(rising.unsqueeze(0), flat))
    assert 1.0 <= by_episode.agent_low < 2.0 < by_episode.agent_high <= 3.0


@pytest.mark.parametrize(
    ("agent", "least", "passed"),
    [(8.0, 0.8, True), (7.9, 0.8, False), (0.5, None, True), (-0.5, None, False), (-0.5, 0.0, False)],
)
def test_what_a_rung_needs(agent: float, least: float | None, passed: bool) -> None:
    reference = torch.full((4,), 10.0, dtype=torch.float64)
    task = Task("small", SMALL.market, SMALL.settings, least_share=least)
    step = summarise(result(torch.full((2, 4), agent, dtype=torch.float64), reference, task))
    assert step.passed == passed


@pytest.mark.parametrize("scores", [[-0.9, 1.1, -1.9, 2.1], [0.0] * 4, [-5.0, -4.0, -6.0, -5.0]])
def test_a_rung_where_nothing_is_to_be_had_asks_for_nothing(scores: list[float]) -> None:
    reference = torch.tensor(scores, dtype=torch.float64)
    found = result(torch.full((2, 4), -3.0, dtype=torch.float64), reference)
    step = summarise(found)
    assert step.passed
    assert "earns nothing" in step.needs
    assert math.isnan(step.share)
    ladder_panel([step], curve_rows([found]))
    asked = summarise(result(found.agent_scores, reference, replace(SMALL, least_share=0.8)))
    assert not asked.passed


def test_the_stretch_is_students() -> None:
    for trainings in (2, 5, 9, 10, 20):
        student = scipy.stats.t.ppf(0.975, trainings - 1) / scipy.stats.norm.ppf(0.975)
        assert _stretch(trainings) == pytest.approx(student * (trainings / (trainings - 1)) ** 0.5, rel=1e-4)


def test_intervals_cover_what_they_promise() -> None:
    """Trainings that differ as much as episodes do: at least 95 % of intervals, less three standard errors of 100 tries."""
    drawn = torch.Generator().manual_seed(0)
    inside = 0
    for _ in range(100):
        spread = torch.randn(5, 1, generator=drawn, dtype=torch.float64)
        noise = torch.randn(1, 30, generator=drawn, dtype=torch.float64)
        step = summarise(result(spread + noise, torch.ones(30, dtype=torch.float64)))
        inside += step.agent_low < 0.0 < step.agent_high
    assert inside >= 100 * (0.95 - 3.0 * (0.95 * 0.05 / 100) ** 0.5)


def test_curves_and_pictures() -> None:
    found = result(torch.ones(2, 4, dtype=torch.float64), torch.full((4,), 2.0, dtype=torch.float64))
    rows = curve_rows([found])
    assert [(row["task"], row["training"], row["frames"]) for row in rows] == [("small", 0, 48), ("small", 1, 48)]
    figure = ladder_panel([summarise(found)], rows)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["small", "Share of the reference reached"]
    assert len(figure.axes[0].lines) == 6  # two trainings, their tests, the reference, nothing


def test_bad_plans_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown task 'moon': choose from inventory, exact_free"):
        Plan(tasks=("moon",))
    with pytest.raises(ValueError, match="tasks must have at least one entry, got none"):
        Plan(tasks=())
    with pytest.raises(ValueError, match="seeds must be an integer >= 1, got 0"):
        Plan(seeds=0)
    with pytest.raises(ValueError, match="unknown preset 'moon'"):
        Plan(preset="moon")
    with pytest.raises(ValueError, match="a task is named twice: exact, exact"):
        Plan(tasks=("exact", "exact"))
    with pytest.raises(ValueError, match="leads to markets of seed 10004000"):
        Plan(seed=9_999_000)
