"""Recorded paths: the memory that rows of `torchgym.readout.entries.path_entries` are written to, decision after decision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torchgym.config import MarketConfig, Structure
from torchgym.readout.entries import Moment, path_entries
from torchgym.readout.packed import no_events
from torchgym.sim.params import Params
from torchgym.sim.state import MarketState


def chosen(structure: MarketConfig | Structure, record: Sequence[str] | None) -> tuple[str, ...]:
    """Names of what to record, all of `path_entries` for None.

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    if isinstance(record, str):
        raise ValueError(f"record must be a sequence of names, got {record!r}: write [{record!r}]")
    known = path_entries(structure)
    names = tuple(known) if record is None else tuple(record)
    known.check(names)
    return names


def read(structure: Structure, params: Params, state: MarketState, names: Sequence[str]) -> dict[str, Tensor]:
    """Rows of `path_entries` as a state has them, [N, S] or [N]; of several learners [N, L, S] or [N, L]."""
    moment, rows = Moment(structure, params, state, no_events(structure, state)), path_entries(structure)
    return {name: rows[name].read(moment) for name in names}


class Recorder:
    """Memory for a whole path, taken once: a long one would otherwise be a heap of small tensors, and then two copies of it.

    Args:
        num_envs: N.
        names: what to record, rows of `path_entries`.
        length: T, how many rows.

    Raises:
        ValueError: for a path that is longer than memory can hold.
    """

    def __init__(
        self, structure: Structure, num_envs: int, device: torch.device, names: Sequence[str], length: int
    ) -> None:
        self.structure = structure
        self.paths: dict[str, Tensor] = {}  # [N, T, ...] each
        rows = path_entries(structure)
        try:
            for name in names:
                row = rows[name]
                shape = (num_envs, length, *row.shape(structure))
                self.paths[name] = torch.empty(shape, dtype=row.dtype, device=device)
        except (RuntimeError, MemoryError, OverflowError, TypeError) as error:  # torch has all of these for it
            raise ValueError(
                f"a path of {length} rows does not fit into memory: {str(error).splitlines()[0]}"
            ) from error

    def write(self, at: int, params: Params, state: MarketState) -> None:
        """Put the state down as row `at`."""
        for name, entry in read(self.structure, params, state, list(self.paths)).items():
            self.paths[name][:, at] = entry
