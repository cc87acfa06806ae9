"""Options that several subcommands share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from torchgym.config import MarketConfig, preset, task_presets

if TYPE_CHECKING:
    from torchgym.engine import Compile

_MEANING = (
    "When to compile the market's step; the numbers are the same. auto: step at once, change over when another process has"
    " compiled it. yes: compile first, and wait. no: never, which is many times slower. On a GPU auto does not compile: say"
    " yes there."
)
CompileOption = Annotated[Literal["auto", "yes", "no"], tyro.conf.arg(help=_MEANING)]
COMPILE: dict[str, Compile] = {"auto": "auto", "yes": True, "no": False}  # as `torchgym.Market` takes it


def chosen_market(name: str, given: Mapping[str, Any], usual: Mapping[str, Any]) -> MarketConfig:
    """The market of a preset with the settings that are given, those that are not None.

    The others are `usual`, but in a task they are as the task has them.
    """
    settings = {} if name in task_presets() else dict(usual)
    return preset(name, **settings | {setting: value for setting, value in given.items() if value is not None})
