"""`from_keywords`: the market that the arguments of an environment mean."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from torchgym.config.changes import meant
from torchgym.config.presets import preset as named_preset
from torchgym.config.presets import task as named_task
from torchgym.config.settings import MarketConfig
from torchgym.config.tasks import TASKS
from torchgym.config.validation import check_one_learner


def from_keywords(
    face: type,
    config: MarketConfig | None,
    *,
    preset: str | None,
    task: str | None,
    overrides: Mapping[str, Any],
) -> MarketConfig:
    """The market that an environment's arguments mean; to a configuration that is given, a task adds nothing.

    Args:
        face: the class that is being made, for the error message.
        config: as given.
        preset: as given.
        task: as given.
        overrides: all other keywords given; settings, if they are right.

    Raises:
        TypeError: for a keyword that is no setting, as Python words it: TorchRL's GymEnv and stable-baselines3 read that.
        ValueError: when `config` is no MarketConfig or comes with a preset; for impossible settings, an unknown task or preset;
            for several learners.
    """
    settings = [field.name for field in dataclasses.fields(MarketConfig)]
    for name in overrides:
        if name.partition(".")[0] not in settings:
            arguments = [known for known in inspect.signature(face).parameters if known != "overrides"]
            told = f"{face.__name__}.__init__() got an unexpected keyword argument {name!r}: its arguments are"
            told += f" {', '.join(arguments)}; settings are {', '.join(settings)}"
            raise TypeError(told + meant([name], [*arguments, *settings], MarketConfig()))
    if config is not None and preset is not None:
        raise ValueError(
            f"config and preset={preset!r} contradict each other: give one, and change its settings by name"
        )
    if config is not None and not isinstance(config, MarketConfig):
        raise ValueError(f"config must be a MarketConfig, got {config!r}: a named one is preset=...")
    if task is not None:
        TASKS.find(task)
    if config is not None:
        made = config.replace(**overrides)
    elif task is not None:
        made = named_task(task, "default" if preset is None else preset, **overrides)
    else:
        made = named_preset("default" if preset is None else preset, **overrides)
    check_one_learner(face.__name__, made)
    return made
