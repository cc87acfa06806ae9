"""What callers hand in: seeds, masks, actions, checked before anything moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.numerics import random
from torchgym.sim import actions
from torchgym.sim.actions import Choices

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_REALS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

Seeds = Sequence[int] | npt.NDArray[np.integer[Any]] | Tensor


def consecutive_seeds(seed: int | None, count: int) -> Tensor:
    """seed, seed + 1, … [count] int64, counting around at 2**63; a fresh start when None."""
    first = random.fresh_seed() if seed is None else check_seed(seed)
    return torch.tensor([(first + index) % 2**63 for index in range(count)], dtype=torch.int64, device="cpu")


def check_seeds(seeds: Seeds, count: int) -> Tensor:
    """[count] int64, on the CPU.

    Args:
        seeds: a list, tuple, range, array or tensor of integers.

    Raises:
        ValueError: for something else, another number of seeds, or one that is not an integer from 0 to 2**63 - 1.
    """
    listed = seeds.tolist() if isinstance(seeds, (Tensor, np.ndarray)) else seeds
    if isinstance(listed, (str, bytes, bytearray)) or not isinstance(listed, Sequence):
        raise ValueError(f"seeds must be a list of {count} integers, one per market, got {seeds!r}")
    if len(listed) != count:
        raise ValueError(f"expected {count} seeds, one per market, got {len(listed)}")
    whole = [check_seed(seed, f"seed of market {at}") for at, seed in enumerate(listed)]
    return torch.tensor(whole, dtype=torch.int64, device="cpu")


def check_seed(seed: object, name: str = "seed") -> int:
    """The seed as a Python int; a ValueError when it is not an integer from 0 to 2**63 - 1."""
    plain = seed.item() if isinstance(seed, Tensor) and seed.dim() == 0 else seed
    if isinstance(plain, (int, np.integer)) and not isinstance(plain, bool) and 0 <= plain < 2**63:
        return int(plain)
    raise ValueError(f"{name} must be an integer from 0 to 2**63 - 1, got {seed!r}")


def check_device(device: torch.device | str) -> torch.device:
    """The device; a ValueError where this torch or machine cannot use it."""
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError, TypeError) as error:  # AssertionError from a build without CUDA
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"device {str(device)!r} cannot be used: {why}") from error


def check_mask(mask: Tensor | None, count: int, device: torch.device) -> Tensor:
    """[count] bool, all of them for None.

    Raises:
        ValueError: for another shape or dtype.
    """
    if mask is None:
        return torch.ones(count, dtype=torch.bool, device=device)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) != (count,):
        got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"mask must be a bool tensor of shape ({count},), got {got}")
    return mask.to(device)


def check_action(config: MarketConfig, action: Tensor, count: int, device: torch.device) -> Tensor:
    """[count, L * W] of the action scheme's dtype, from actions per market, learner and, where they differ, number or symbol.

    Raises:
        ValueError: for another shape or dtype, or an action that the scheme does not have.
    """
    space = actions.space(config)
    width, learners = space.width(config.num_symbols), (config.num_learners,) if config.num_learners > 1 else ()
    each, shared = (count, *learners, width), (count, *learners)
    shapes = (shared, each) if width == config.num_symbols else (each,)
    if not isinstance(action, Tensor):
        raise ValueError(f"action must be a torch.Tensor, got {type(action).__name__}")
    if tuple(action.shape) not in shapes:
        raise ValueError(f"action must have shape {' or '.join(map(str, shapes))}, got {tuple(action.shape)}")
    if action.dtype not in (_INTEGERS if isinstance(space, Choices) else _REALS):
        kind = "an integer" if isinstance(space, Choices) else "a floating"
        raise ValueError(f"action must be of {kind} dtype, got {action.dtype}")
    action = action.to(device=device, dtype=space.dtype)
    full = action.unsqueeze(-1).expand(each) if action.shape == shared else action
    right = actions.within(space, config.num_symbols, full)
    if not bool(right.all()):
        low, high = space.bounds(config.num_symbols)
        market, *_, at = (~right).nonzero()[0].tolist()
        raise ValueError(
            f"action of market {market} is {action[market].tolist()}, must be {low[at]:g} to {high[at]:g} ({config.action!r}"
            " actions)"
        )
    return full.reshape(count, -1).contiguous()
