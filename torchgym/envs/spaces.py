"""Spaces of gymnasium: what the faces of numpy show, and the actions and masks that they take and give."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.engine import Market, StepResult
from torchgym.envs.arguments import Form
from torchgym.readout import features
from torchgym.readout.entries import account_names
from torchgym.sim import actions
from torchgym.sim.actions import Box, Choices

Observation = npt.NDArray[Any]
ActionSpace = spaces.Discrete | spaces.MultiDiscrete | spaces.Box


def labels(config: MarketConfig) -> dict[str, bool]:
    """What marks every info: `privileged`, True, where the learner sees the exact value; else nothing."""
    return {"privileged": True} if config.information == "privileged" else {}


def observation_names(form: Form) -> list[str]:
    """Names of the numbers of one observation, in order."""
    return features.names(form.config) + (account_names(form.config) if form.include_account else [])


def observation_space(form: Form) -> spaces.Box:
    """Box [F] of the dtype, with finite bounds where a feature has them."""
    low, high = features.bounds(form.config)
    if form.include_account:
        held = np.ones(form.config.num_symbols)
        low = np.concatenate([low, -held, [-np.inf, -np.inf, 0.0]])
        high = np.concatenate([high, held, [np.inf, np.inf, 1.0]])
    return spaces.Box(low.astype(form.dtype), high.astype(form.dtype), dtype=form.dtype.type)


def observation_array(result: StepResult, form: Form) -> Observation:
    """[N, F] of the dtype: the market's features and, if wanted, the learner's account."""
    shown = torch.cat([result.observation, result.account], -1) if form.include_account else result.observation
    return shown.cpu().numpy().astype(form.dtype, copy=False)


def action_space(config: MarketConfig) -> ActionSpace:
    """As the action scheme has it: choices are Discrete, with several symbols MultiDiscrete; numbers are a Box float32 [S]."""
    space, symbols = actions.scheme(config).space, config.num_symbols
    if isinstance(space, Box):
        return spaces.Box(space.low, space.high, (symbols,), np.float32)
    return spaces.Discrete(space.count) if symbols == 1 else spaces.MultiDiscrete([space.count] * symbols)


def action_shape(config: MarketConfig, *batch: int) -> tuple[int, ...]:
    """Of the actions of a batch: [*batch, S]; choices in a single symbol have no axis for it."""
    alone = config.num_symbols == 1 and isinstance(actions.scheme(config).space, Choices)
    return batch if alone else (*batch, config.num_symbols)


def check_action(action: Any, shape: tuple[int, ...], space: Choices | Box) -> npt.NDArray[Any]:
    """The action as an array of the shape, int64 for choices, float64 for numbers.

    Raises:
        ValueError: for anything but integers where there are choices (bools and whole floats are not), for anything but numbers
            in a box, another shape, or an action out of bounds.
    """
    low, high = space.bounds
    if type(action) is int and shape == () and low <= action <= high:  # the usual case, at a tenth of the time
        return np.array(action)
    if isinstance(action, Tensor):
        action = action.detach().cpu().numpy()
    if isinstance(action, (np.ndarray, np.generic)):
        array, fits = np.asarray(action), action.dtype.kind in ("iu" if isinstance(space, Choices) else "iuf")
    else:
        array = np.array(action, dtype=object)  # as they are: numpy would make numbers of bools, and round nothing up
        kinds = (int, np.integer) if isinstance(space, Choices) else (int, float, np.integer, np.floating)
        fits = all(isinstance(cell, kinds) and not isinstance(cell, bool) for cell in array.flat)
    if not fits:
        made_of = "integers" if isinstance(space, Choices) else "numbers"
        raise ValueError(f"action must be made of {made_of}, got {action!r}")
    if array.shape != shape:
        raise ValueError(f"action must have shape {shape}, got {array.shape}: {action!r}")
    right = (array >= low) & (array <= high)  # not a number is neither
    if not right.all():
        place = tuple(int(index) for index in np.argwhere(~right)[0])
        where = f" at {place}" if place else ""
        raise ValueError(f"action must be {low:g} to {high:g}, got {array[place]}{where}")
    return array.astype(np.int64 if isinstance(space, Choices) else np.float64)


def flat_masks(market: Market) -> npt.NDArray[np.bool_]:
    """`Market.action_mask` as sb3-contrib takes it: [N, S * C], the choices of one symbol after those of the other."""
    return market.action_mask().flatten(1).cpu().numpy()


def info_masks(market: Market) -> Tensor:
    """`Market.action_mask` for the spaces' `sample`: int8 [N, C], with several symbols [N, S, C]. Of several it takes a tuple."""
    mask = market.action_mask()
    return (mask.squeeze(1) if market.config.num_symbols == 1 else mask).to(torch.int8)
