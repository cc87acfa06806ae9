"""Means and shares of each task with intervals, and the learning curves, a row per update."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.numerics import random
from torchgym.training.ladder.runner import TaskResult

_SEED_STREAM, _EPISODE_STREAM = 261, 262
RESAMPLES = 10_000
_NORMAL = 1.959964  # quantile of 97.5 %
# The same of Student's distribution, for 1, 2, ... degrees of freedom.
_STUDENT = (12.70620, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157)
_CHUNK = 100  # resamples at once; divides RESAMPLES


@dataclass(frozen=True)
class TaskSummary:
    """One task in figures; scores in currency or reward per episode, intervals of 95 %."""

    task: str
    description: str
    score: str
    trainings: int
    episodes: int
    frames: int  # per training
    minutes: float  # of learning, the median training: the first one also compiles
    reference: str
    reference_mean: float
    reference_low: float
    reference_high: float
    naive: str  # of `BASELINES`; its score counts as nothing
    naive_mean: float
    agent_mean: float  # over trainings and episodes
    agent_low: float
    agent_high: float
    agent_by_training: tuple[float, ...]  # mean over episodes of each
    share: float  # of the reference's lead over the naive policy; NaN where it has no significant one
    share_low: float
    share_high: float
    needs: str
    passed: bool
    optimum: float | None


def summarise(result: TaskResult) -> TaskSummary:
    """The figures of one task.

    The intervals come from resampling trainings and episodes together, each on its own: all trainings meet the same episodes, so
    these are two crossed sources of chance (Owen 2007, The pigeonhole bootstrap). Few trainings show too little of their spread,
    so what depends on them is stretched by as much as Student's interval would be wider than the bootstrap's; where episodes are
    the larger source this errs on the wide side. One training alone tells nothing of the spread: its intervals are those over
    episodes. Agent, reference and naive policy are read at the same resampled episodes, so what they share drops out of `share`.
    """
    means, reference, naive = _resampled(result)
    agent = result.agent_scores.mean().item()
    nothing = result.naive_scores.mean().item()
    lead = result.reference_scores.mean().item() - nothing
    stretch = _stretch(len(result.agent_scores))
    task = result.task
    earns = _ends(reference - naive)[0] > 0.0
    significant = _ends(means - naive, agent - nothing, stretch)[0] > 0.0
    share, share_low, share_high = math.nan, math.nan, math.nan
    if earns:
        share = (agent - nothing) / lead
        share_low, share_high = _ends((means - naive) / (reference - naive), share, stretch)
    if task.least_share is not None:
        needs, passed = f"{task.least_share:.0%} of the reference", share >= task.least_share and significant
    elif earns:
        needs, passed = f"significantly more than {task.naive}", significant
    else:
        needs, passed = "nothing: the reference earns nothing either", True
    seconds = [curve[-1]["seconds"] for curve in result.curves]
    low, high = _ends(means, agent, stretch)
    reference_low, reference_high = _ends(reference)
    return TaskSummary(
        task=result.name,
        description=task.description,
        score=task.score,
        trainings=len(result.agent_scores),
        episodes=result.agent_scores.shape[1],
        frames=result.frames,
        minutes=statistics.median(seconds) / 60.0,
        reference=result.reference,
        reference_mean=result.reference_scores.mean().item(),
        reference_low=reference_low,
        reference_high=reference_high,
        naive=task.naive,
        naive_mean=nothing,
        agent_mean=agent,
        agent_low=low,
        agent_high=high,
        agent_by_training=tuple(result.agent_scores.mean(1).tolist()),
        share=share,
        share_low=share_low,
        share_high=share_high,
        needs=needs,
        passed=passed,
        optimum=task.optimum,
    )


def curve_rows(results: Sequence[TaskResult]) -> list[dict[str, float | str]]:
    """The learning curves of all tasks and trainings, one row per update."""
    return [
        {"task": result.name, "training": training, **row}
        for result in results
        for training, curve in enumerate(result.curves)
        for row in curve
    ]


def _resampled(result: TaskResult) -> tuple[Tensor, Tensor, Tensor]:
    """Means of agent, reference and the naive policy in each resample, [RESAMPLES] float64 each."""
    trainings, episodes = result.agent_scores.shape
    both = torch.stack([result.reference_scores, result.naive_scores])
    key = random.make_key(
        torch.zeros(1, dtype=torch.int64, device="cpu"), torch.zeros(1, dtype=torch.int64, device="cpu")
    )
    agent, others = [], []
    for first in range(0, RESAMPLES, _CHUNK):
        ticks = torch.arange(first, first + _CHUNK, device="cpu")
        rows = _drawn(key, ticks, _SEED_STREAM, trainings)
        columns = _drawn(key, ticks, _EPISODE_STREAM, episodes)
        agent.append(result.agent_scores[:, columns].mean(-1).T.gather(1, rows).mean(1))
        others.append(both[:, columns].mean(-1))
    reference, naive = torch.cat(others, -1)
    return torch.cat(agent), reference, naive


def _drawn(key: Tensor, ticks: Tensor, stream: int, count: int) -> Tensor:
    """[resamples, count] int64 below `count`, each alike."""
    uniforms = random.uniform(random.bits(key.expand(len(ticks), 2), ticks, random.counters(stream, count)))
    return torch.floor(uniforms.to(torch.float64) * count).to(torch.int64).clamp(max=count - 1)


def _ends(values: Tensor, centre: float = 0.0, stretch: float = 1.0) -> tuple[float, float]:
    """The middle 95 %, its distances from the centre stretched."""
    ends = torch.quantile(values, torch.tensor([0.025, 0.975], dtype=torch.float64, device="cpu"))
    low, high = (centre + stretch * (ends - centre)).tolist()
    return low, high


def _stretch(trainings: int) -> float:
    """By how much Student's 95 % interval of a mean of so many is wider than the bootstrap's: its quantile, and √(n / (n − 1)).

    >>> round(_stretch(5), 3), _stretch(1)
    (1.584, 1.0)
    """
    if trainings == 1:
        return 1.0
    freedom = trainings - 1
    if freedom <= len(_STUDENT):
        quantile = _STUDENT[freedom - 1]
    else:  # Abramowitz and Stegun 1964, 26.7.5
        z, n = _NORMAL, float(freedom)
        quantile = z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        quantile += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    return quantile / _NORMAL * math.sqrt(trainings / freedom)
