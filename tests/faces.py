"""Every face alike: made on a toy market, opened, stepped through the ends of episodes, and what it says as plain arrays.

A face's library is imported when it is made, so that an interpreter without the other libraries can use it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import torchgym as tg

ENVS = 2  # of a batch
MAX_TICKS = 2
ACTIONS = (2, 1, 0, 2, 1)  # through the end of an episode and on


@dataclass(frozen=True)
class Face:
    """How a face is used."""

    make: Callable[..., Any]  # takes `seed` and `compile` and, but for those of `quant_gym`, `information`
    open: Callable[[Any], Any]
    step: Callable[[Any, int], Any]  # the same choice in all markets; an ended episode is followed by the next one
    seeded: Callable[[Any, Any], Any] | None  # opens an episode of this seed; None where only the constructor takes one
    overrides: bool = True  # whether settings are given by name
    needs: str | None = None  # the distribution of an optional library


def _vector(env: tg.TradingVectorEnv, choice: int) -> Any:
    return env.step(np.full(env.action_space.shape, choice))


def _single(env: tg.TradingEnv, choice: int) -> Any:
    last = env.step(choice)
    return (last, env.reset()) if last[2] or last[3] else last


def _batch(env: Any, choice: int) -> Any:
    from tensordict import TensorDict

    action = torch.full((env.num_envs,), choice, device="cpu")
    after = env.step(TensorDict({"action": action}, [env.num_envs], device="cpu"))["next"]
    return (after, env.reset()) if bool(after["done"].any()) else after


def _plain(env: Any, choice: int) -> Any:
    last = env.step(choice)
    return (last, env.reset()) if last[2] or last[3] else last


def _plain_batch(env: Any, choice: int) -> Any:
    last = env.step_all([choice] * env.num_envs)
    return (last, env.reset_all()) if any(last[2]) or any(last[3]) else last


def _quant_gym(name: str, *arguments: Any, **options: Any) -> Any:
    from torchgym import quant_gym

    return getattr(quant_gym, name)(*arguments, **options)


def _sb3_seeded(env: Any, seed: Any) -> Any:
    env.seed(seed)
    return env.reset()


TOY: dict[str, Any] = {"preset": "toy", "max_ticks": MAX_TICKS}

FACES: dict[str, Face] = {
    "TradingEnv": Face(
        make=lambda **options: tg.TradingEnv(**{**TOY, "include_account": True, **options}),
        open=lambda env: env.reset(),
        step=_single,
        seeded=lambda env, seed: env.reset(seed=seed),
    ),
    "TradingVectorEnv": Face(
        make=lambda **options: tg.TradingVectorEnv(**{**TOY, "num_envs": ENVS, "num_symbols": 2, **options}),
        open=lambda env: env.reset(),
        step=_vector,
        seeded=lambda env, seed: env.reset(seed=seed),
    ),
    "SB3VecEnv": Face(
        make=lambda **options: tg.SB3VecEnv(**{**TOY, "num_envs": ENVS, **options}),
        open=lambda env: env.reset(),
        step=lambda env, choice: env.step(np.full(env.num_envs, choice)),
        seeded=_sb3_seeded,
        needs="stable-baselines3",
    ),
    "SkrlEnv": Face(
        make=lambda **options: tg.SkrlEnv(**{**TOY, "num_envs": ENVS, **options}),
        open=lambda env: env.reset(),
        step=lambda env, choice: env.step(torch.full((env.num_envs, 1), choice, device="cpu")),
        seeded=None,
        needs="skrl",
    ),
    "MarketEnv": Face(
        make=lambda **options: tg.MarketEnv(**{**TOY, "num_envs": ENVS, "info_keys": ("equity", "tick"), **options}),
        open=lambda env: env.reset(),
        step=_batch,
        seeded=lambda env, seed: env.reset(seed=seed),
    ),
    "PyTradingEnv": Face(
        make=lambda **options: _quant_gym("PyTradingEnv", **{"max_ticks": MAX_TICKS, **options}),
        open=lambda env: env.reset(),
        step=_plain,
        seeded=lambda env, seed: env.reset(seed),
        overrides=False,
    ),
    "PyVecTradingEnv": Face(
        make=lambda seed=None, num_envs=ENVS, **options: _quant_gym(
            "PyVecTradingEnv", num_envs, MAX_TICKS, seed, **options
        ),
        open=lambda env: env.reset_all(),
        step=_plain_batch,
        seeded=None,
        overrides=False,
    ),
}


def plain(said: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The numbers of anything that a face says, each as an array with its place."""
    if hasattr(said, "to_dict") and hasattr(said, "batch_size"):
        said = said.to_dict()
    if isinstance(said, Mapping):
        entries = [(str(key), value) for key, value in said.items() if key != "t"]  # seconds since it was made
    elif isinstance(said, (tuple, list)):
        entries = [(str(place), value) for place, value in enumerate(said)]
    elif isinstance(said, np.ndarray) and said.dtype == object:
        entries = [(str(place), value) for place, value in enumerate(said) if value is not None]
    else:
        yield "", said.detach().cpu().numpy() if isinstance(said, torch.Tensor) else np.asarray(said)
        return
    for name, value in entries:
        for place, array in plain(value):
            yield f"{name}.{place}", array


def play(face: Face, env: Any, choices: tuple[int, ...] = ACTIONS) -> list[tuple[str, np.ndarray]]:
    """What an open environment says."""
    return list(plain([face.step(env, choice) for choice in choices]))


def digest(said: list[tuple[str, np.ndarray]]) -> str:
    """Of every name, dtype, shape and bit."""
    whole = hashlib.sha256()
    for place, array in said:
        whole.update(f"{place} {array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()


def run(name: str, **options: Any) -> str:
    """The digest of a face of one seed from its first reset on."""
    face = FACES[name]
    env = face.make(seed=5, **options)
    return digest([*plain(face.open(env)), *play(face, env)])
