"""From the folder of a run to its page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from torchgym.config import MarketConfig
from torchgym.files import read_json, replacing
from torchgym.lab.performance.trace import trace
from torchgym.lab.policies import MakePolicy
from torchgym.progress import Count, silent
from torchgym.visual.report.page import chosen_policy, page

EVALUATION = "evaluation.json"
TRAINING = "run.json"
REPORT = "report.html"
_ENTRIES = ("torchgym", "config", "seed", "episodes", "decisions", "periods_per_year", "policies", "comparisons")
_OF_TRAINING = ("torchgym", "command", "seed", "settings")


def write_report(
    folder: Path,
    make_policy: MakePolicy,
    *,
    policy: str | None = None,
    episode: int | None = None,
    output: Path | None = None,
    progress: Count = silent,
) -> Path:
    """Trace an episode of an evaluation again and write its page.

    Args:
        folder: of the run; holds evaluation.json, and checkpoint.pt and run.json where an agent learnt.
        make_policy: of the policy to trace.
        policy: its name in the evaluation; None is the agent, or the first policy where there is none.
        episode: which one, from 0; None is the one of median profit.
        output: file to write; None is report.html in the folder.
        progress: called with the ticks played and the ticks in all: before the episode, after each decision, when it is over.

    Returns:
        The file.

    Raises:
        ValueError: without an evaluation or for one that cannot be read, an unknown policy or episode; nothing is written then.
        OSError: when the file cannot be written; an old one is still whole.
    """
    evaluation = read_evaluation(folder)
    chosen = chosen_policy(evaluation, policy)
    config = MarketConfig.from_dict(evaluation["config"])
    seed = evaluation["seed"] + _number(evaluation, chosen, episode)
    progress(0, config.max_ticks)
    traced = trace(config, make_policy(config, torch.tensor([seed], device="cpu")), seed, progress=progress)
    progress(config.max_ticks, config.max_ticks)  # also where ruin ended it
    text = page(evaluation, traced, policy=chosen, curve=read_curve(folder), training=read_training(folder))
    path = folder / REPORT if output is None else output
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def median_episode(evaluation: Mapping[str, Any], policy: str) -> int:
    """The episode whose profit is the median, the lower one of two.

    >>> median_episode({"policies": {"hold": {"profit": [3.0, -1.0, 2.0, 9.0]}}}, "hold")
    2
    """
    profit = evaluation["policies"][policy]["profit"]
    return sorted(range(len(profit)), key=lambda episode: (profit[episode], episode))[(len(profit) - 1) // 2]


def _number(evaluation: Mapping[str, Any], policy: str, episode: int | None) -> int:
    if episode is None:
        return median_episode(evaluation, policy)
    if not 0 <= episode < evaluation["episodes"]:
        raise ValueError(f"episode must be 0 to {evaluation['episodes'] - 1}, got {episode}")
    return episode


def read_evaluation(folder: Path) -> dict[str, Any]:
    """What `torchgym evaluate` wrote.

    Raises:
        ValueError: when there is nothing, or something else, naming the command that makes it.
    """
    path = folder / EVALUATION
    if not path.is_file():
        raise ValueError(f"{path} does not exist: `torchgym evaluate {folder}` makes it")
    try:
        evaluation = read_json(path, _ENTRIES)
    except ValueError as error:
        raise ValueError(f"{error}; `torchgym evaluate {folder}` makes it anew") from error
    if not evaluation["policies"]:
        raise ValueError(f"{path} has no policies; `torchgym evaluate {folder}` makes it anew")
    return evaluation


def read_curve(folder: Path) -> list[dict[str, float]]:
    """Rows of the learning curve in the checkpoint of the folder; no rows without one.

    Raises:
        ValueError: when the checkpoint is damaged.
    """
    from torchgym.training import CHECKPOINT, read_checkpoint

    path = folder / CHECKPOINT
    return list(read_checkpoint(path)["curve"]) if path.is_file() else []


def read_training(folder: Path) -> dict[str, Any] | None:
    """How the agent of the folder was trained, as `torchgym train` wrote it down; None without the file.

    Raises:
        ValueError: when it is damaged or holds something else.
    """
    path = folder / TRAINING
    return read_json(path, _OF_TRAINING) if path.is_file() else None
