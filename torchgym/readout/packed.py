"""A step's result in three tensors: what crosses from the engine to the faces with the fewest calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgym.config import MarketConfig, Structure
from torchgym.readout import features
from torchgym.readout.entries import ACCOUNT, Entry, Events, Moment, account_names, info_entries
from torchgym.sim import tick as ticking
from torchgym.sim.params import Params
from torchgym.sim.state import MarketState


@dataclass
class StepResult:
    """The market at the end of a step, as the learner sees it."""

    observation: Tensor  # [N, S * F] float64
    account: Tensor  # [N, S + 3] float64
    reward: Tensor  # [N] float64
    terminated: Tensor  # [N] bool: ruined at any tick of the episode
    truncated: Tensor  # [N] bool: out of time
    info: dict[str, Tensor]  # [N] or [N, S]; see `torchgym.readout.entries.INFO`


@dataclass
class Packed:
    """A `StepResult` in three tensors; which column is what: `Columns`."""

    observation: Tensor  # [N, S * F] float64
    floats: Tensor  # [N, W] float64: account, reward, and the info that is float64
    integers: Tensor  # [N, V] int64: terminated, truncated, and the info that is int64


def info_layout(config: MarketConfig) -> dict[str, tuple[torch.dtype, int]]:
    """Each entry of `StepResult.info` under this configuration: its dtype, and its width beside the batch.

    >>> info_layout(MarketConfig(num_symbols=2))["position"]
    (torch.int64, 2)
    """
    return {name: (row.dtype, row.width(config)) for name, row in info_entries(config).items()}


class Columns:
    """Where everything is in a `Packed`.

    `floats` and `integers` map names to a column, or to the slice of an entry with one number per symbol. Beside the names of the
    info they know "account" and "reward", "terminated" and "truncated".
    """

    def __init__(self, structure: MarketConfig | Structure) -> None:
        self.info = info_entries(structure)
        account = len(account_names(structure))
        widths = {name: row.width(structure) if row.per_symbol else 0 for name, row in self.info.items()}
        real = {name: width for name, width in widths.items() if self.info[name].dtype == torch.float64}
        whole = {name: width for name, width in widths.items() if name not in real}
        self.floats = dict(_places({"account": account, "reward": 0, **real}))
        self.integers = dict(_places({"terminated": 0, "truncated": 0, **whole}))
        self._told = tuple((name, name in self.floats, {**self.floats, **self.integers}[name]) for name in self.info)
        events = ["reward", *(name for name, row in self.info.items() if row.event)]
        self._events = [
            torch.tensor(_columns(table, [name for name in events if name in table]), dtype=torch.int64, device="cpu")
            for table in (self.floats, self.integers)
        ]

    def of(self, name: str) -> int:
        """The column of an entry that has just one, in whichever of the two tables."""
        at = self.floats.get(name, self.integers.get(name))
        assert isinstance(at, int), name
        return at

    def read(self, moment: Moment) -> Packed:
        """What is told of a moment, by the formulas of the rows; fresh tensors."""
        structure, params, state = moment.structure, moment.params, moment.state
        ends = (state.accounts.ruined, ticking.truncated(state))
        account = [row.formula(moment) for row in ACCOUNT.values()]
        values = {name: row.formula(moment) for name, row in self.info.items()}
        floats = [*account, moment.events.reward, *(values[name] for name in self.floats if name in values)]
        integers = [*ends, *(values[name] for name in self.integers if name in values)]
        return Packed(features.observe(structure, params, state), _side_by_side(floats), _side_by_side(integers))

    def pack(self, result: StepResult) -> Packed:
        """A result in three tensors."""
        parts = {**vars(result), **result.info}
        floats, integers = ([parts[name] for name in table] for table in (self.floats, self.integers))
        return Packed(result.observation, _side_by_side(floats), _side_by_side(integers))

    def unpack(self, packed: Packed) -> StepResult:
        """The result, as views where it can be."""
        floats, integers = packed.floats, packed.integers
        info = {
            name: floats[:, self.floats[name]] if name in self.floats else integers[:, self.integers[name]]
            for name in self.info
        }
        return StepResult(
            observation=packed.observation,
            account=floats[:, self.floats["account"]],
            reward=floats[:, self.floats["reward"]],
            terminated=integers[:, self.integers["terminated"]] != 0,
            truncated=integers[:, self.integers["truncated"]] != 0,
            info=info,
        )

    def info_of_one(self, floats: npt.NDArray[np.float64], integers: npt.NDArray[np.int64]) -> dict[str, Any]:
        """The info of a single market: its rows [W] and [V] as Python numbers, and arrays [S] where it is per symbol."""
        amounts, counts = floats.tolist(), integers.tolist()
        return {
            name: integers[at] if isinstance(at, slice) else amounts[at] if real else counts[at]
            for name, real, at in self._told
        }

    def without_events(self, packed: Packed) -> Packed:
        """The same moment as if nothing had just happened, in place: no reward, nothing filled or turned over."""
        for tensor, columns in zip((packed.floats, packed.integers), self._events, strict=True):
            tensor.index_fill_(1, columns.to(tensor.device), 0)
        return packed


def no_events(structure: Structure, state: MarketState) -> Events:
    """A step in which nothing happened."""
    nothing = torch.zeros_like(state.accounts.equity_x2, dtype=torch.float64)
    return Events(
        reward=nothing,
        terms={name: torch.zeros_like(nothing) for name in structure.rewards},
        filled=torch.zeros_like(state.accounts.filled),
        turnover=torch.zeros_like(state.accounts.turnover),
    )


def observe(columns: Columns, structure: Structure, params: Params, state: MarketState) -> StepResult:
    """What is told of a state without a step."""
    return columns.unpack(columns.read(Moment(structure, params, state, no_events(structure, state))))


def _side_by_side(parts: list[Tensor]) -> Tensor:
    """[N] and [N, S] tensors as columns; flags as 0 and 1."""
    whole = [part.to(torch.int64) if part.dtype == torch.bool else part for part in parts]
    return torch.cat([part.unsqueeze(-1) if part.dim() == 1 else part for part in whole], -1)


def _places(widths: dict[str, int]) -> Iterator[tuple[str, int | slice]]:
    """Column of each name, or slice where it has a width; side by side."""
    end = 0
    for name, width in widths.items():
        yield name, slice(end, end + width) if width else end
        end += width or 1


def _columns(table: dict[str, int | slice], names: list[str]) -> list[int]:
    places: list[int] = []
    for name in names:
        at = table[name]
        places += range(at.start, at.stop) if isinstance(at, slice) else [at]
    return places


__all__ = ["Columns", "Entry", "Packed", "StepResult", "info_layout", "observe"]
