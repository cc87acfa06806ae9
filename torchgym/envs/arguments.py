"""What the faces of numpy are asked for: arguments that they share, checked."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec

from torchgym.config import TASKS, MarketConfig, from_keywords


@dataclasses.dataclass(frozen=True)
class Form:
    """A market, and the form in which a face shows it."""

    config: MarketConfig
    include_account: bool
    dtype: np.dtype[Any]

    @property
    def steps(self) -> int:
        """Decisions in an episode, at most."""
        return self.config.longest_episode


def asked(
    face: type,
    config: MarketConfig | None,
    *,
    preset: str | None,
    task: str | None,
    include_account: bool | None,
    dtype: npt.DTypeLike | None,
    overrides: dict[str, Any],
) -> Form:
    """What a face's arguments mean. A configuration that is given is taken as it is: a task adds nothing to it.

    Args:
        face: the class that is being made, for the error message.
        config: as given.
        preset: as given.
        task: as given.
        include_account: as given; None is as the task has it, else False.
        dtype: as given, of observations; None is as the task has it, else float64.
        overrides: all other keywords given; settings, if they are right.

    Raises:
        TypeError: for a keyword that is no setting, as Python itself words it: TorchRL's GymEnv and stable-baselines3 read that.
        ValueError: when `config` is no MarketConfig or comes with a preset; for impossible settings, an unknown task or preset,
            another dtype; for several learners.
    """
    row = None if task is None else TASKS.find(task)
    made = from_keywords(face, config, preset=preset, task=task, overrides=overrides)
    if config is not None:
        row = None
    if include_account is None:
        include_account = row is not None and row.include_account
    if dtype is None:
        dtype = "float64" if row is None else row.dtype
    return Form(made, include_account, _check_dtype(dtype))


def _check_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(np.void)
    if found not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype must be numpy's float32 or float64, in this machine's byte order, got {dtype!r}")
    return found


def check_max_episode_steps(steps: int | None, form: Form) -> None:
    """Raises ValueError for another number of steps than the episodes have; None is any."""
    if steps not in (None, form.steps):
        ticks = form.config.ticks_per_action
        raise ValueError(
            f"max_episode_steps = {steps}, and max_ticks = {form.config.max_ticks} with ticks_per_action = {ticks} makes"
            f" {form.steps}: give max_ticks={steps} * {ticks} instead"
        )


def check_options(options: dict[str, Any] | None, known: tuple[str, ...] = ()) -> None:
    """Raises ValueError for options of `reset` that a face does not know."""
    unknown = {name: value for name, value in (options or {}).items() if name not in known}
    if unknown:
        wanted, why = (
            (f"be {', '.join(known)}", "there are no others") if known else ("be empty", "the market has none")
        )
        raise ValueError(f"reset options must {wanted}, got {unknown}: {why}")


def with_length(spec: EnvSpec | None, form: Form) -> EnvSpec | None:
    """The specification that gymnasium gives a made environment, with the length of its episodes.

    The environment itself ends them. A number in gymnasium's registry would wrap a `TimeLimit` around it, which ends episodes
    there whatever `max_ticks` the caller gives.
    """
    return None if spec is None else dataclasses.replace(spec, max_episode_steps=form.steps)


def episode_seed(env: gymnasium.Env[Any, Any], seed: int | None) -> int:
    """The core seed of the next episode of `env`, whose generator is seeded or, without a seed, asked for the next number."""
    gymnasium.Env.reset(env, seed=seed)
    return int(env.np_random.integers(2**63)) if seed is None else seed
