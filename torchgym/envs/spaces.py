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
from torchgym.readout.entries import account_bounds, account_names
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
        own = np.array(account_bounds(form.config))
        low, high = np.concatenate([low, own[:, 0]]), np.concatenate([high, own[:, 1]])
    return spaces.Box(low.astype(form.dtype), high.astype(form.dtype), dtype=form.dtype.type)


def observation_array(result: StepResult, form: Form) -> Observation:
    """[N, F] of the dtype: the market's features and, if wanted, the learner's account."""
    shown = torch.cat([result.observation, result.account], -1) if form.include_account else result.observation
    return shown.cpu().numpy().astype(form.dtype, copy=False)


def action_space(config: MarketConfig) -> ActionSpace:
    """As the action scheme has it: choices are Discrete, with several symbols MultiDiscrete; numbers are a Box float32 [W]."""
    space, symbols = actions.space(config), config.num_symbols
    if isinstance(space, Box):
        low, high = (end.numpy().astype(np.float32) for end in space.bounds(symbols))
        return spaces.Box(low, high, dtype=np.float32)
    return spaces.Discrete(space.count) if symbols == 1 else spaces.MultiDiscrete([space.count] * symbols)


class ActionArrays:
    """The actions of a batch as arrays [*batch, W], checked; choices in a single symbol have no axis for it."""

    def __init__(self, config: MarketConfig, *batch: int) -> None:
        space, symbols = actions.space(config), config.num_symbols
        self._whole = isinstance(space, Choices)
        alone = symbols == 1 and self._whole
        self.shape = batch if alone else (*batch, space.width(symbols))
        self._low, self._high = (end.numpy()[0] if alone else end.numpy() for end in space.bounds(symbols))

    def checked(self, action: Any) -> npt.NDArray[Any]:
        """The action as an array of the shape, int64 for choices, float64 for numbers.

        Raises:
            ValueError: for anything but integers where there are choices (bools and whole floats are not), for anything but
                numbers in a box, another shape, or an action out of bounds.
        """
        if (
            type(action) is int and self.shape == () and self._low <= action <= self._high
        ):  # the usual case, ten times faster
            return np.array(action)
        if isinstance(action, Tensor):
            action = action.detach().cpu().numpy()
        if isinstance(action, (np.ndarray, np.generic)):
            array, fits = np.asarray(action), action.dtype.kind in ("iu" if self._whole else "iuf")
        else:
            array = np.array(
                action, dtype=object
            )  # as they are: numpy would make numbers of bools, and round nothing up
            kinds = (int, np.integer) if self._whole else (int, float, np.integer, np.floating)
            fits = all(isinstance(cell, kinds) and not isinstance(cell, bool) for cell in array.flat)
        if not fits:
            raise ValueError(f"action must be made of {'integers' if self._whole else 'numbers'}, got {action!r}")
        if array.shape != self.shape:
            raise ValueError(f"action must have shape {self.shape}, got {array.shape}: {action!r}")
        with np.errstate(invalid="ignore"):  # not a number is neither
            right = (array >= self._low) & (array <= self._high)
        if not np.all(right):
            place = tuple(int(index) for index in np.argwhere(~right)[0])
            low, high = (np.broadcast_to(end, self.shape)[place] for end in (self._low, self._high))
            where = f" at {place}" if place else ""
            raise ValueError(f"action must be {low:g} to {high:g}, got {array[place]}{where}")
        return array.astype(np.int64 if self._whole else np.float64)


def flat_masks(market: Market) -> npt.NDArray[np.bool_]:
    """`Market.action_mask` as sb3-contrib takes it: [N, S * C], the choices of one symbol after those of the other."""
    return market.action_mask().flatten(1).cpu().numpy()


def info_masks(market: Market) -> Tensor:
    """`Market.action_mask` for the spaces' `sample`: int8 [N, C], with several symbols [N, S, C]. Of several it takes a tuple."""
    mask = market.action_mask()
    return (mask.squeeze(1) if market.config.num_symbols == 1 else mask).to(torch.int8)
