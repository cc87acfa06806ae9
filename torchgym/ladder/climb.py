"""`climb`: train an agent on every rung from several seeds, judge each on held-out episodes, go on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchgym.files import replacing
from torchgym.ladder.rungs import RUNGS, Rung
from torchgym.market import Market, consecutive_seeds
from torchgym.performance import TEST_SEED, VALIDATION_SEED, play
from torchgym.policies import BASELINES, PolicyMaker
from torchgym.training import CHECKPOINT, Run, resume, start

_SEED_STEP = 1_000
_RESULT = "result.json"

Progress = Callable[[str, int, int], None]  # what is done, updates so far, updates in all


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
    """

    preset: str = "default"
    rungs: tuple[str, ...] = tuple(RUNGS)
    seeds: int = 5
    seed: int = 0
    episodes: int = 1_024
    frames: int | None = None
    device: str = "cpu"
    compile: bool = True

    def __post_init__(self) -> None:
        unknown = [repr(name) for name in self.rungs if name not in RUNGS]
        if unknown or not self.rungs:
            raise ValueError(f"unknown rung {', '.join(unknown) or '(none given)'}: choose from {', '.join(RUNGS)}")
        for name, low in (("seeds", 1), ("episodes", 2)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")


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
        progress: called after every update.
        stop: asked after every update; True saves a checkpoint and ends.

    Returns:
        Every rung, or None where it was stopped before the end.

    Raises:
        ValueError: when the folder holds trainings of another plan.
    """
    done = []
    for name in plan.rungs:
        runs = []
        for training in range(plan.seeds):
            found = _train(plan, name, training, folder / name / f"seed_{training}", progress, stop)
            if found is None:
                return None
            runs.append(found)
        done.append(_judged(plan, name, runs, folder / name))
    return done


def _train(
    plan: Plan,
    name: str,
    training: int,
    folder: Path,
    progress: Progress | None,
    stop: Callable[[], bool] | None,
) -> dict[str, Any] | None:
    """Scores and curve of one training, from its result if it has one; None where it was stopped."""
    rung = RUNGS[name]
    config, settings, seed = rung.config(plan.preset), rung.ppo(plan.frames), plan.seed + _SEED_STEP * training
    asked = json.loads(
        json.dumps({"config": config.to_dict(), "settings": vars(settings), "seed": seed, "episodes": plan.episodes})
    )
    if (folder / _RESULT).is_file():
        found: dict[str, Any] = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
        _check_same(folder, asked, found["asked"])
        return found
    if (folder / CHECKPOINT).is_file():
        run = resume(folder, device=plan.device, compile=plan.compile)
        trainer = run.trainer
        going = {"config": trainer.config.to_dict(), "settings": vars(trainer.settings), "seed": trainer.seed}
        _check_same(folder, {key: asked[key] for key in going}, json.loads(json.dumps(going)))
    else:
        run = start(config, settings, seed=seed, device=plan.device, compile=plan.compile)
    label = f"{name}, training {training + 1} of {plan.seeds}"

    def told(run: Run) -> None:
        if progress is not None:
            progress(label, run.trainer.update, settings.updates)

    if not run.advance(told=told, stop=stop):
        run.save(folder)
        return None
    run.save(folder)
    scores = _scores(plan, name, run.trainer.agent.maker, TEST_SEED, plan.episodes)
    found = {"asked": asked, "scores": scores.tolist(), "curve": run.curve}
    with replacing(folder / _RESULT) as part:
        part.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return found


def _judged(plan: Plan, name: str, runs: Sequence[dict[str, Any]], folder: Path) -> Climbed:
    rung = RUNGS[name]
    tried = {
        reference: _scores(plan, name, maker, VALIDATION_SEED, plan.episodes).mean().item()
        for reference, maker in rung.references.items()
    }
    best = max(tried, key=lambda reference: tried[reference])
    return Climbed(
        name=name,
        rung=rung,
        reference=best,
        reference_scores=_scores(plan, name, rung.references[best], TEST_SEED, plan.episodes),
        hold_scores=_scores(plan, name, BASELINES["hold"].make, TEST_SEED, plan.episodes),
        agent_scores=torch.tensor([run["scores"] for run in runs], dtype=torch.float64),
        curves=[run["curve"] for run in runs],
        frames=rung.ppo(plan.frames).updates * rung.ppo(plan.frames).frames_per_update,
    )


def _scores(plan: Plan, name: str, maker: PolicyMaker, seed: int, episodes: int) -> Tensor:
    """Score of every episode, [E] float64."""
    rung = RUNGS[name]
    market = Market(rung.config(plan.preset), episodes, seed=seed, device=plan.device, compile=plan.compile)
    found = play(market, maker, consecutive_seeds(seed, episodes))
    return found.profit if rung.score == "profit" else found.reward


def _check_same(folder: Path, asked: dict[str, Any], found: dict[str, Any]) -> None:
    differing = [key for key in asked if asked[key] != found.get(key)]
    if differing:
        raise ValueError(
            f"{folder} holds a training with other {', '.join(differing)}: give another folder, or remove it to train anew"
        )
