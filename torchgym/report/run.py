"""From the folder of a run to its page."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from torchgym.config import MarketConfig
from torchgym.files import replacing
from torchgym.performance.trace import trace
from torchgym.policies import PolicyMaker
from torchgym.report.page import chosen_policy, page

EVALUATION = "evaluation.json"
CURVE = "learning_curve.csv"
TRAINING = "run.json"
REPORT = "report.html"
_ENTRIES = ("torchgym", "config", "seed", "episodes", "decisions", "periods_per_year", "policies", "comparisons")
_OF_TRAINING = ("torchgym", "command", "seed", "settings")


def write_report(
    folder: Path,
    maker: PolicyMaker,
    *,
    policy: str | None = None,
    episode: int | None = None,
    output: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Trace an episode of an evaluation again and write its page.

    Args:
        folder: of the run; holds evaluation.json, and learning_curve.csv and run.json where an agent learnt.
        maker: of the policy to trace.
        policy: its name in the evaluation; None is the agent, or the first policy where there is none.
        episode: which one, from 0; None is the one of median profit.
        output: file to write; None is report.html in the folder.
        progress: called after every decision with the ticks done and the ticks in all.

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
    found = trace(config, maker(config, torch.tensor([seed])), seed, progress=progress)
    text = page(evaluation, found, policy=chosen, curve=read_curve(folder), training=read_training(folder))
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
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}; `torchgym evaluate {folder}` makes it anew") from error
    missing = [name for name in _ENTRIES if not isinstance(found, dict) or name not in found]
    if missing or not found["policies"]:
        lacks = ", ".join(missing) or "policies"
        raise ValueError(f"{path} lacks {lacks}: `torchgym evaluate {folder}` makes it anew")
    return dict(found)


def read_curve(folder: Path) -> list[dict[str, float | None]]:
    """Rows of the learning curve, None where nothing was measured; no rows without the file.

    Raises:
        ValueError: when it holds something else.
    """
    path = folder / CURVE
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{name: float(told) if told else None for name, told in row.items()} for row in csv.DictReader(file)]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def read_training(folder: Path) -> dict[str, Any] | None:
    """How the agent of the folder was trained, as `torchgym train` wrote it down; None without the file.

    Raises:
        ValueError: when it holds something else.
    """
    path = folder / TRAINING
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    missing = [name for name in _OF_TRAINING if not isinstance(found, dict) or name not in found]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: `torchgym train` writes it")
    return dict(found)
