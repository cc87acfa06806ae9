"""`climb`: train an agent on every rung from several seeds, judge each on held-out episodes, go on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from torchgym.config import preset
from torchgym.config.validation import Within, check_fields
from torchgym.engine import Market, consecutive_seeds
from torchgym.files import read_json, write_json
from torchgym.lab.performance import TEST_SEED, TRAINING_SEEDS, VALIDATION_SEED, play
from torchgym.lab.policies import BASELINES, PolicyMaker
from torchgym.training import CHECKPOINT, Run, resume, start
from torchgym.training.ladder.rungs import RUNGS, Rung
from torchgym.version import __version__

_SEED_STEP = 1_000
_SAVE_EVERY = 20  # updates
_RESULT, _REFERENCE = "result.json", "reference.json"

Progress = Callable[[str, int, int], None]  # stage, updates or decisions so far, and in all


@dataclass(frozen=True)
class Plan:
    """What to climb and how.

    Args:
        preset: which market.
        rungs: names of `RUNGS`, in order.
        seeds: trainings per rung.
        seed: of the first; each following one's is 1,000 more, so that they share no market.
        episodes: held-out ones that every agent and reference is judged on.
        frames: instead of each rung's own number.
        device: where markets and networks live.
        compile: run compiled markets; the numbers are the same.

    Raises:
        ValueError: at construction, for what is unknown or impossible.
    """

    preset: str = "default"
    rungs: tuple[str, ...] = tuple(RUNGS)
    seeds: Annotated[int, Within(1, 1_000)] = 5
    seed: Annotated[int, Within(0, TRAINING_SEEDS)] = 0
    episodes: Annotated[int, Within(2, 1_000_000)] = 1_024
    frames: Annotated[int, Within(1, 2**53)] | None = None
    device: str = "cpu"
    compile: bool = True

    def __post_init__(self) -> None:
        check_fields(self, Plan)
        preset(self.preset)
        unknown = [repr(name) for name in self.rungs if name not in RUNGS]
        if unknown:
            raise ValueError(f"rungs: unknown rung {', '.join(unknown)}: choose from {', '.join(RUNGS)}")
        if len(set(self.rungs)) < len(self.rungs):
            raise ValueError(f"rungs: a rung is named twice: {', '.join(self.rungs)}")
        last = self.seed + _SEED_STEP * self.seeds
        if last > TRAINING_SEEDS:
            raise ValueError(
                f"seed = {self.seed} leads to markets of seed {last}, from {TRAINING_SEEDS} on they are held out"
            )

    def seed_of(self, training: int) -> int:
        """Of a training, from 0."""
        return self.seed + _SEED_STEP * training


@dataclass(frozen=True)
class Climbed:
    """One rung done: scores per held-out episode."""

    name: str
    rung: Rung
    reference: str  # the reference that was chosen
    reference_scores: Tensor  # [E] float64
    hold_scores: Tensor  # [E] float64: of doing nothing
    agent_scores: Tensor  # [trainings, E] float64
    curves: list[list[dict[str, float]]]  # of each training, see `torchgym.training.Run`
    frames: int  # of each training


def climb(
    plan: Plan, folder: Path, *, progress: Progress | None = None, stop: Callable[[], bool] | None = None
) -> list[Climbed] | None:
    """Train and judge what the folder does not hold yet.

    Args:
        folder: has a sub-folder per rung and training, with its checkpoint and its result. A second call with the same plan goes
            on from there, in the same bits.
        progress: called with the stage, how much of it is done and how much there is: before it begins, after every update of a
            training and after every decision of a test.
        stop: asked after every update and before every judgement; True saves and ends.

    Returns:
        Every rung, or None where it was stopped before the end.

    Raises:
        ValueError: when the folder holds trainings of another plan.
    """
    told = progress or _silent
    stopped = stop or _never
    done = []
    for name in plan.rungs:
        work = _Work(plan, name, folder / name, told, stopped)
        runs = []
        for training in range(plan.seeds):
            found = work.train(training)
            if found is None:
                return None
            runs.append(found)
        references = work.references()
        if references is None:
            return None
        done.append(_climbed(plan, name, runs, references))
    return done


class _Work:
    """What there is to do on one rung, and what of it the folder holds already."""

    def __init__(self, plan: Plan, name: str, folder: Path, told: Progress, stopped: Callable[[], bool]) -> None:
        self.plan = plan
        self.name = name
        self.rung = RUNGS[name]
        self.folder = folder
        self.told = told
        self.stopped = stopped
        self.config = self.rung.config(plan.preset)
        self.settings = self.rung.ppo(plan.frames)
        self._market: Market | None = None

    def train(self, training: int) -> dict[str, Any] | None:
        """Scores and curve of one training; None where it was stopped."""
        folder, seed = self.folder / f"training_{training + 1}", self.plan.seed_of(training)
        asked = self._asked(seed=seed, settings=vars(self.settings))
        found = _kept(folder / _RESULT, asked, ("scores", "curve"))
        if found is not None:
            return found
        run = self._run(folder, asked, seed)
        label = f"{self.name}, training {training + 1} of {self.plan.seeds}"
        total = self.settings.updates
        self.told(label, run.trainer.update, total)

        def told(run: Run) -> None:
            self.told(label, run.trainer.update, total)
            if run.trainer.update % _SAVE_EVERY == 0:
                run.save(folder)

        complete = run.advance(told=told, stop=self.stopped)
        run.save(folder)
        if not complete or self.stopped():
            return None
        scores = self._scores(f"{label}, test", run.trainer.agent.maker, TEST_SEED)
        return _keep(folder / _RESULT, asked, {"scores": scores.tolist(), "curve": run.curve})

    def references(self) -> dict[str, Any] | None:
        """The best reference, its scores and those of doing nothing; None where it was stopped."""
        makers = self.rung.references
        asked = self._asked(references=list(makers), validation_seed=VALIDATION_SEED)
        found = _kept(self.folder / _REFERENCE, asked, ("reference", "scores", "hold_scores"))
        if found is not None:
            return found
        tried: dict[str, float] = {}
        for reference, maker in makers.items():
            if self.stopped():
                return None
            tried[reference] = self._scores(f"{self.name}, {reference}, tried", maker, VALIDATION_SEED).mean().item()
        best = max(tried, key=lambda reference: tried[reference])
        scores = self._scores(f"{self.name}, {best}, test", makers[best], TEST_SEED).tolist()
        hold = self._scores(f"{self.name}, hold, test", BASELINES["hold"].make, TEST_SEED).tolist()
        found = {"reference": best, "validation_means": tried, "scores": scores, "hold_scores": hold}
        return _keep(self.folder / _REFERENCE, asked, found)

    def _run(self, folder: Path, asked: dict[str, Any], seed: int) -> Run:
        """A new run, or the one that waits in the folder."""
        if not (folder / CHECKPOINT).is_file():
            return start(self.config, self.settings, seed=seed, device=self.plan.device, compile=self.plan.compile)
        run = resume(folder, device=self.plan.device, compile=self.plan.compile)
        trainer = run.trainer
        going = {"config": trainer.config.to_dict(), "settings": vars(trainer.settings), "seed": trainer.seed}
        _check_same(folder, {key: asked[key] for key in going}, _plain(going))
        return run

    def _scores(self, stage: str, maker: PolicyMaker, seed: int) -> Tensor:
        """Score of every episode, [E] float64."""
        plan = self.plan
        self.told(stage, 0, self.config.max_ticks // self.config.ticks_per_action)
        if self._market is None:
            self._market = Market(self.config, plan.episodes, seed=seed, device=plan.device, compile=plan.compile)
        seeds = consecutive_seeds(seed, plan.episodes)
        found = play(self._market, maker, seeds, lambda done, total: self.told(stage, done, total))
        return found.profit if self.rung.score == "profit" else found.reward

    def _asked(self, **more: Any) -> dict[str, Any]:
        """What decides a result."""
        common = {"torchgym": __version__, "config": self.config.to_dict(), "episodes": self.plan.episodes}
        return _plain({**common, "test_seed": TEST_SEED, "score": self.rung.score, **more})


def _climbed(plan: Plan, name: str, runs: Sequence[dict[str, Any]], references: dict[str, Any]) -> Climbed:
    settings = RUNGS[name].ppo(plan.frames)
    return Climbed(
        name=name,
        rung=RUNGS[name],
        reference=references["reference"],
        reference_scores=torch.tensor(references["scores"], dtype=torch.float64, device="cpu"),
        hold_scores=torch.tensor(references["hold_scores"], dtype=torch.float64, device="cpu"),
        agent_scores=torch.tensor([run["scores"] for run in runs], dtype=torch.float64, device="cpu"),
        curves=[run["curve"] for run in runs],
        frames=settings.updates * settings.frames_per_update,
    )


def _kept(path: Path, asked: dict[str, Any], entries: Sequence[str]) -> dict[str, Any] | None:
    """A result that is there already, with these entries."""
    if not path.is_file():
        return None
    found = read_json(path, ("asked", *entries))
    _check_same(path.parent, asked, found["asked"])
    return found


def _keep(path: Path, asked: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"asked": asked, **found})
    return found


def _check_same(folder: Path, asked: dict[str, Any], found: dict[str, Any]) -> None:
    differing = [key for key in asked if asked[key] != found.get(key)]
    if differing:
        raise ValueError(
            f"{folder} holds results of another {', '.join(differing)}: give another folder, or remove it to begin anew"
        )


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _silent(stage: str, done: int, total: int) -> None:
    """No-op progress callback."""


def _never() -> bool:
    return False
