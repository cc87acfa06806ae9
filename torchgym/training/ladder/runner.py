"""`run_ladder`: train an agent on every task from several seeds, judge each on held-out episodes, go on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from torchgym.config import preset
from torchgym.config.validation import Settings, Within, check_fields
from torchgym.engine import Compile, Market, check_compile, consecutive_seeds
from torchgym.files import read_json, write_json
from torchgym.lab.performance import TEST_SEED, TRAINING_SEEDS, VALIDATION_SEED, play
from torchgym.lab.policies import BASELINES
from torchgym.lab.policy import MakePolicy
from torchgym.progress import Progress, silent
from torchgym.training import CHECKPOINT, Run, resume, start
from torchgym.training.ladder.tasks import TASKS, VALUE_TASKS, Task
from torchgym.version import __version__

_SEED_STEP = 1_000
_SAVE_EVERY = 20  # updates


@dataclass(frozen=True)
class Plan(Settings):
    """What to train and how; a ValueError at construction for what is unknown or impossible.

    Args:
        preset: which market, for the tasks that have none of their own.
        tasks: names of `TASKS`, in order; the default are those that trade on value.
        seeds: trainings per task.
        seed: seed of the first training; each following training adds 1,000, so that they share no market.
        episodes: held-out episodes on which every agent and reference is judged.
        frames: decisions per training; None takes each task's own number.
    """

    preset: str = "default"
    tasks: tuple[str, ...] = VALUE_TASKS
    seeds: Annotated[int, Within(1, 1_000)] = 5
    seed: Annotated[int, Within(0, TRAINING_SEEDS)] = 0
    episodes: Annotated[int, Within(2, 1_000_000)] = 1_024
    frames: Annotated[int, Within(1, 2**53)] | None = None
    device: str = "cpu"
    compile: Compile = "auto"

    def __post_init__(self) -> None:
        check_fields(self, Plan)
        object.__setattr__(self, "compile", check_compile(self.compile))
        preset(self.preset)
        try:
            TASKS.check(self.tasks)
        except ValueError as error:
            raise ValueError(f"tasks: {error}") from None
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks: a task is named twice: {', '.join(self.tasks)}")
        last = self.seed + _SEED_STEP * self.seeds
        if last > TRAINING_SEEDS:
            raise ValueError(
                f"seed = {self.seed} leads to markets of seed {last}, from {TRAINING_SEEDS} on they are held out"
            )

    def seed_of(self, training: int) -> int:
        """Seed of a training, counted from 0."""
        return self.seed + _SEED_STEP * training


@dataclass(frozen=True)
class TaskResult:
    """One task done: scores per held-out episode."""

    name: str
    task: Task
    reference: str  # the reference that was chosen
    reference_scores: Tensor  # [E] float64
    naive_scores: Tensor  # [E] float64: of the task's naive policy
    agent_scores: Tensor  # [trainings, E] float64
    curves: list[list[dict[str, float]]]  # of each training, see `torchgym.training.Run`
    frames: int  # of each training


def run_ladder(
    plan: Plan, folder: Path, *, progress: Progress = silent, stop: Callable[[], bool] = lambda: False
) -> list[TaskResult] | None:
    """Train and judge what the folder does not hold yet: every task, or None where it was stopped before the end.

    Args:
        folder: has a sub-folder per task and training, with its checkpoint and its result. A second call with the same plan goes
            on from there, in the same bits; trainings of another plan are a ValueError.
        progress: called with the stage, how much of it is done and how much there is: before it begins, after every update of a
            training and after every decision of a test.
        stop: asked after every update and before every judgement; True saves and ends.
    """
    try:
        return [_Work(plan, name, folder / name, progress, stop).result() for name in plan.tasks]
    except _Stopped:
        return None


class _Stopped(Exception):
    """Somebody asked to stop; all that was done is saved."""


class _Work:
    """What there is to do on one task, and what of it the folder holds already."""

    def __init__(self, plan: Plan, name: str, folder: Path, progress: Progress, stop: Callable[[], bool]) -> None:
        self.plan, self.name, self.folder = plan, name, folder
        self.progress, self.stop = progress, stop
        self.task = TASKS[name]
        self.config = self.task.config(plan.preset)
        self.settings = self.task.ppo(plan.frames)
        self._market: Market | None = None

    def result(self) -> TaskResult:
        """Every training and the references, judged."""
        runs = [self._train(training) for training in range(self.plan.seeds)]
        own = {"references": list(self.task.references), "naive": self.task.naive}
        asked = self._asked(**own, validation_seed=VALIDATION_SEED)
        references = _kept(
            self.folder / "reference.json", asked, ("reference", "scores", "naive_scores"), self._references
        )
        reference, naive, agent = (
            torch.tensor(scores, dtype=torch.float64, device="cpu")
            for scores in (references["scores"], references["naive_scores"], [run["scores"] for run in runs])
        )
        curves = [run["curve"] for run in runs]
        return TaskResult(
            self.name, self.task, references["reference"], reference, naive, agent, curves, self.settings.frames
        )

    def _train(self, training: int) -> dict[str, Any]:
        """Scores and curve of one training."""
        folder, seed = self.folder / f"training_{training + 1}", self.plan.seed_of(training)
        asked = self._asked(seed=seed, settings=vars(self.settings))
        label, total = f"{self.name}, training {training + 1} of {self.plan.seeds}", self.settings.updates

        def report(run: Run) -> None:
            self.progress(label, run.trainer.update, total)
            if run.trainer.update % _SAVE_EVERY == 0:
                run.save(folder)

        def result() -> dict[str, Any]:
            run = self._run(folder, asked, seed)
            self.progress(label, run.trainer.update, total)
            complete = run.advance(on_update=report, stop=self.stop)
            run.save(folder)
            if not complete or self.stop():
                raise _Stopped
            scores = self._scores(f"{label}, test", run.trainer.agent.make_policy, TEST_SEED)
            return {"scores": scores.tolist(), "curve": run.curve}

        return _kept(folder / "result.json", asked, ("scores", "curve"), result)

    def _references(self) -> dict[str, Any]:
        """The best reference, its scores and those of the naive policy."""
        references = self.task.references
        tried: dict[str, float] = {}
        for reference, make_policy in references.items():
            if self.stop():
                raise _Stopped
            scores = self._scores(f"{self.name}, {reference}, tried", make_policy, VALIDATION_SEED)
            tried[reference] = scores.mean().item()
        best = max(tried, key=lambda reference: tried[reference])
        best_scores = self._scores(f"{self.name}, {best}, test", references[best], TEST_SEED).tolist()
        naive = self.task.naive
        naive_scores = self._scores(f"{self.name}, {naive}, test", BASELINES[naive].make, TEST_SEED).tolist()
        return {"reference": best, "validation_means": tried, "scores": best_scores, "naive_scores": naive_scores}

    def _run(self, folder: Path, asked: dict[str, Any], seed: int) -> Run:
        """A new run, or the one that waits in the folder."""
        if not (folder / CHECKPOINT).is_file():
            return start(self.config, self.settings, seed=seed, device=self.plan.device, compile=self.plan.compile)
        run = resume(folder, device=self.plan.device, compile=self.plan.compile)
        trainer = run.trainer
        going = {"config": trainer.config.to_dict(), "settings": vars(trainer.settings), "seed": trainer.seed}
        _check_same(folder, {key: asked[key] for key in going}, _plain(going))
        return run

    def _scores(self, stage: str, make_policy: MakePolicy, seed: int) -> Tensor:
        """Score of every episode, [E] float64."""
        plan = self.plan
        self.progress(stage, 0, self.config.max_ticks // self.config.ticks_per_action)
        if self._market is None:
            self._market = Market(self.config, plan.episodes, seed=seed, device=plan.device, compile=plan.compile)
        seeds = consecutive_seeds(seed, plan.episodes)
        result = play(self._market, make_policy, seeds, lambda done, total: self.progress(stage, done, total))
        return result.profit if self.task.score == "profit" else result.reward

    def _asked(self, **more: Any) -> dict[str, Any]:
        """What decides a result."""
        common = {"torchgym": __version__, "config": self.config.to_dict(), "episodes": self.plan.episodes}
        return _plain({**common, "test_seed": TEST_SEED, "score": self.task.score, **more})


def _kept(
    path: Path, asked: dict[str, Any], entries: Sequence[str], make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """The result that is there already, with these entries; else a new one, kept from now on."""
    if path.is_file():
        result = read_json(path, ("asked", *entries))
        _check_same(path.parent, asked, result["asked"])
        return result
    result = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"asked": asked, **result})
    return result


def _check_same(folder: Path, asked: dict[str, Any], result: dict[str, Any]) -> None:
    differing = [key for key in asked if asked[key] != result.get(key)]
    if differing:
        raise ValueError(
            f"{folder} holds results of another {', '.join(differing)}: give another folder, or remove it to begin anew"
        )


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """The content as JSON returns it: lists in place of tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain
