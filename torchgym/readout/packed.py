"""A step's result in three tensors: what crosses from the engine to the faces with the fewest calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.readout import rewards
from torchgym.readout.step import StepResult


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
    money = ("equity", "realized_pnl", "cash", "fees", "borrow", "turnover")
    terms = (f"reward_{term}" for term in rewards.weights(config))
    return {
        "tick": (torch.int64, 1),
        **dict.fromkeys(money, (torch.float64, 1)),
        **dict.fromkeys(("position", "filled"), (torch.int64, config.num_symbols)),
        **dict.fromkeys(terms, (torch.float64, 1)),
    }


class Columns:
    """Where everything is in a `Packed`.

    `floats` and `integers` map names to a column, or to the slice of an entry with one number per symbol. Beside the names of the
    info they know "account" and "reward", "terminated" and "truncated".
    """

    def __init__(self, config: MarketConfig) -> None:
        self.floats: dict[str, int | slice] = {}
        self.integers: dict[str, int | slice] = {}
        first = {"account": (torch.float64, config.num_symbols + 3), "reward": (torch.float64, 1)}
        flags = dict.fromkeys(("terminated", "truncated"), (torch.int64, 1))
        self.info = info_layout(config)
        ends = {torch.float64: 0, torch.int64: 0}
        for name, (dtype, width) in {**first, **flags, **self.info}.items():
            begin = ends[dtype]
            ends[dtype] += width
            per_symbol = name in ("account", "position", "filled")
            table = self.floats if dtype == torch.float64 else self.integers
            table[name] = slice(begin, begin + width) if per_symbol else begin
        self._told = tuple((name, name in self.floats, {**self.floats, **self.integers}[name]) for name in self.info)
        happened = [name for name in self.floats if name in ("reward", "turnover") or name.startswith("reward_")]
        self._happened = torch.tensor([self.floats[name] for name in happened], device="cpu")

    def of(self, name: str) -> int:
        """The column of an entry that has just one, in whichever of the two tables."""
        at = self.floats.get(name, self.integers.get(name))
        assert isinstance(at, int), name
        return at

    def pack(self, told: StepResult) -> Packed:
        """The result in three tensors."""
        parts = {**vars(told), **told.info}
        floats = [
            parts[name] if isinstance(at, slice) else parts[name].unsqueeze(-1) for name, at in self.floats.items()
        ]
        integers = [
            parts[name] if isinstance(at, slice) else parts[name].unsqueeze(-1) for name, at in self.integers.items()
        ]
        whole = [number.to(torch.int64) if number.dtype == torch.bool else number for number in integers]
        return Packed(told.observation, torch.cat(floats, -1), torch.cat(whole, -1))

    def unpack(self, packed: Packed) -> StepResult:
        """What `pack` was given, as views where it can be."""
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

    def hush(self, packed: Packed) -> Packed:
        """The same moment as if nothing had just happened, in place: no reward, nothing filled or turned over."""
        packed.floats.index_fill_(1, self._happened.to(packed.floats.device), 0.0)
        packed.integers[:, self.integers["filled"]] = 0
        return packed
