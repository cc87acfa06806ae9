"""A step's result in three tensors: what crosses from the engine to the faces with the fewest calls."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgym.config import MarketConfig, Structure
from torchgym.readout import features
from torchgym.readout.entries import Entry, Events, Moment, account_entries, account_names, changed, info_entries
from torchgym.sim import delay
from torchgym.sim import tick as ticking
from torchgym.sim.params import Params
from torchgym.sim.state import MarketState


@dataclass
class StepResult:
    """The market at the end of a step, as the learner sees it. With several learners what is theirs is [N, L, ...]."""

    observation: Tensor  # [N, S * F] float64: the same for all learners
    account: (
        Tensor  # [N, A] float64, A = S + 3, with days or resting orders more: `torchgym.readout.entries.account_names`
    )
    reward: Tensor  # [N] float64
    terminated: Tensor  # [N] bool: ruined at any tick of the episode
    truncated: Tensor  # [N] bool: out of time; the same for all learners
    info: dict[str, Tensor]  # [N] or [N, S]; see `torchgym.readout.entries.INFO`


@dataclass
class Packed:
    """A `StepResult` in three tensors; which column is what: `Columns`."""

    observation: Tensor  # [N, S * F] float64
    floats: Tensor  # [N, W] float64: account, reward, and the info that is float64
    integers: Tensor  # [N, V] int64: terminated, truncated, and the info that is int64


def info_layout(config: MarketConfig) -> dict[str, tuple[torch.dtype, int]]:
    """Each entry of `StepResult.info` under this configuration: its dtype, and how many numbers it has per market.

    >>> info_layout(MarketConfig(num_symbols=2))["position"]
    (torch.int64, 2)
    """
    return {name: (row.dtype, math.prod(row.shape(config))) for name, row in info_entries(config).items()}


class Columns:
    """Where everything is in a `Packed`.

    `floats` and `integers` map names to a column, or to the slice of an entry with one number per symbol or learner. Beside the
    names of the info they know "account" and "reward", "terminated" and "truncated". The rows are those of the tables when it was
    made; `own_rows` says whether some were not torchgym's then.
    """

    def __init__(self, structure: MarketConfig | Structure) -> None:
        self.info = info_entries(structure)
        self.account = account_entries(structure)
        self.own_rows = changed(structure)
        learners = (structure.num_learners,) if structure.num_learners > 1 else ()
        self._shapes: dict[str, tuple[int, ...]] = {
            **{name: row.shape(structure) for name, row in self.info.items()},
            "account": (*learners, len(account_names(structure))),
            **{"reward": learners, "terminated": learners, "truncated": ()},
        }
        real = [name for name, row in self.info.items() if row.dtype == torch.float64]
        whole = [name for name in self.info if name not in real]
        self.floats = dict(_places(self._shapes, ["account", "reward", *real]))
        self.integers = dict(_places(self._shapes, ["terminated", "truncated", *whole]))
        self._single = [[name for name in table if not self._shapes[name]] for table in (self.floats, self.integers)]
        self._wide = [[name for name in table if self._shapes[name]] for table in (self.floats, self.integers)]
        self._widths = [
            [len(single), *(math.prod(self._shapes[name]) for name in wide)]
            for single, wide in zip(self._single, self._wide, strict=True)
        ]
        self._info_places = tuple(
            (name, name in self.floats, {**self.floats, **self.integers}[name]) for name in self.info
        )
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
        state = moment.state
        observation, account = self._seen(moment)
        ruined, late = state.ledger.ruined, ticking.truncated(state)
        told = {"account": account, "reward": [moment.events.reward], "terminated": [ruined], "truncated": [late]}
        told |= {name: [row.read(moment)] for name, row in self.info.items()}
        floats, integers = ([part for name in table for part in told[name]] for table in (self.floats, self.integers))
        return Packed(observation, _side_by_side(floats), _side_by_side(integers))

    def show(self, moment: Moment) -> Tensor:
        """Observation and account of a moment side by side, float64, as `MarketState.shown` keeps them."""
        observed = features.observe(moment.structure, moment.params, moment.state)
        return _side_by_side([observed, *self._account_of(moment)])

    def _seen(self, moment: Moment) -> tuple[Tensor, list[Tensor]]:
        """Observation and account that reach the learners now: of this moment, or of an earlier one where the feed is delayed."""
        structure, params, state = moment.structure, moment.params, moment.state
        if state.shown is None:
            return features.observe(structure, params, state), self._account_of(moment)
        seen, width = delay.ago(state.shown, params.feed_delay), features.size(structure)
        return seen[:, :width], [seen[:, width:]]

    def _account_of(self, moment: Moment) -> list[Tensor]:
        """What learners observe of themselves: all of the first, then all of the next."""
        rows = [(row, row.read(moment)) for row in self.account.values()]
        learners = moment.structure.num_learners
        if learners == 1:
            return [value for _, value in rows]
        each = [
            value if row.per_learner else value.unsqueeze(1).expand(-1, learners, *value.shape[1:])
            for row, value in rows
        ]
        return [torch.cat([value if value.dim() == 3 else value.unsqueeze(-1) for value in each], -1)]

    def pack(self, result: StepResult) -> Packed:
        """A result in three tensors."""
        parts = {**vars(result), **result.info}
        floats, integers = ([parts[name] for name in table] for table in (self.floats, self.integers))
        return Packed(result.observation, _side_by_side(floats), _side_by_side(integers))

    def unpack(self, packed: Packed) -> StepResult:
        """The result, as views where it can be."""
        entries: dict[str, Tensor] = {}
        for at, tensor in enumerate((packed.floats, packed.integers)):
            # In two calls: a call for each costs more.
            columns, *blocks = tensor.split_with_sizes(self._widths[at], 1)
            entries.update(zip(self._single[at], columns.unbind(1), strict=True))
            for name, block in zip(self._wide[at], blocks, strict=True):
                shape = self._shapes[name]
                entries[name] = block.unflatten(1, shape) if len(shape) > 1 else block
        return StepResult(
            observation=packed.observation,
            account=entries["account"],
            reward=entries["reward"],
            terminated=entries["terminated"] != 0,
            truncated=entries["truncated"] != 0,
            info={name: entries[name] for name in self.info},
        )

    def info_of_one(self, floats: npt.NDArray[np.float64], integers: npt.NDArray[np.int64]) -> dict[str, Any]:
        """The info of a single market: its rows [W] and [V] as Python numbers, and arrays [S] where it is per symbol."""
        amounts, counts = floats.tolist(), integers.tolist()
        return {
            name: (floats if real else integers)[at] if isinstance(at, slice) else (amounts if real else counts)[at]
            for name, real, at in self._info_places
        }

    def without_events(self, packed: Packed) -> Packed:
        """The same moment as if nothing had just happened, in place: no reward, nothing filled or turned over."""
        for tensor, columns in zip((packed.floats, packed.integers), self._events, strict=True):
            tensor.index_fill_(1, columns.to(tensor.device), 0)
        return packed


def no_events(structure: Structure, state: MarketState) -> Events:
    """A step in which nothing happened."""
    nothing = torch.zeros_like(state.ledger.equity_x2, dtype=torch.float64)
    return Events(
        reward=nothing,
        terms={name: torch.zeros_like(nothing) for name in structure.rewards},
        filled=torch.zeros_like(state.ledger.filled),
        turnover=torch.zeros_like(state.ledger.turnover),
        rested=torch.zeros_like(state.ledger.filled) if structure.quotes else None,
        cancelled=torch.zeros_like(state.ledger.filled) if structure.quotes else None,
    )


def observe(columns: Columns, structure: Structure, params: Params, state: MarketState) -> StepResult:
    """What is told of a state without a step."""
    return columns.unpack(columns.read(Moment(structure, params, state, no_events(structure, state))))


def _side_by_side(parts: list[Tensor]) -> Tensor:
    """Tensors that begin with [N] as columns; flags as 0 and 1."""
    whole = [part.to(torch.int64) if part.dtype == torch.bool else part for part in parts]
    return torch.cat([part.unsqueeze(-1) if part.dim() == 1 else part.flatten(1) for part in whole], -1)


def _places(shapes: dict[str, tuple[int, ...]], names: list[str]) -> Iterator[tuple[str, int | slice]]:
    """Column of each name, and then the slices of those that have a shape; side by side."""
    end = 0
    for name in sorted(names, key=lambda name: bool(shapes[name])):
        width = math.prod(shapes[name])
        yield name, slice(end, end + width) if shapes[name] else end
        end += width


def _columns(table: dict[str, int | slice], names: list[str]) -> list[int]:
    places: list[int] = []
    for name in names:
        at = table[name]
        places += range(at.start, at.stop) if isinstance(at, slice) else [at]
    return places


__all__ = ["Columns", "Entry", "Packed", "StepResult", "info_layout", "observe"]
