"""Tasks: what a learner is asked to do in any market, in a form that learns well. Each is a gymnasium id, `torchgym/NAME-v0`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torchgym.config.presets import preset as named_preset
from torchgym.config.settings import MarketConfig
from torchgym.table import Table


@dataclass(frozen=True)
class Task:
    """One row of `TASKS`: settings of the market that make the task, and in which form the faces show it."""

    meaning: str
    settings: Mapping[str, Any]
    include_account: bool = True
    dtype: str = "float32"  # of observations in numpy


TASKS: Table[Task] = Table(
    "task",
    {
        "Trading": Task(
            "earn by trading one stock on public information",
            # Networks need features without a scale. Short episodes end, and so tell a mean reward, within minutes.
            {"scaling": "relative", "max_ticks": 1_000},
        ),
    },
)


def task(name: str, preset: str = "default", **changes: Any) -> MarketConfig:
    """The configuration of a task in the market of a preset, with `changes` applied.

    What the preset itself sets comes before the task: in the preset "toy" episodes stay short.

    Raises:
        ValueError: for an unknown task or preset, listing the known ones.

    >>> task("Trading").max_ticks, task("Trading", "toy").max_ticks, task("Trading", "toy", max_ticks=50).scaling
    (1000, 200, 'relative')
    """
    market, plain = named_preset(preset), MarketConfig()
    settings = TASKS.find(name).settings
    own = {key: value for key, value in settings.items() if getattr(market, key) == getattr(plain, key)}
    return market.replace(**{**own, **changes})
