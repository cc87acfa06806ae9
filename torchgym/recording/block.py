"""Rows as they come from a batch of markets, and as they go to disk, episode by episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import Tensor

from torchgym.recording.file import Sorter


class Chunk:
    """The newest rows of all markets: tensors [N, D, ...] where the market lives, taken once and written over and over.

    Args:
        length: D, rows per market.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.rows = 0
        self._tensors: dict[str, Tensor] = {}

    def begin(self) -> None:
        """Forget all rows."""
        self.rows = 0

    def put(self, values: Mapping[str, Tensor]) -> None:
        """Write [N, ...] tensors down in the row that is not finished."""
        for name, value in values.items():
            if name not in self._tensors:
                self._tensors[name] = value.new_empty((value.shape[0], self.length, *value.shape[1:]))
            self._tensors[name][:, self.rows] = value

    def next_row(self) -> bool:
        """Finish the row; whether it was the last that there is room for."""
        self.rows += 1
        return self.rows == self.length

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that was written, [N, rows, ...] each; what was never written is left out."""
        return {name: tensor[:, : self.rows].cpu().numpy() for name, tensor in self._tensors.items()}


class Block:
    """Episodes that are played together, those of the first E markets of a batch.

    Args:
        sorter: where their rows go.
        schema: of the rows.
        features: names of the features of one symbol, none where they are not recorded.
        numbers: [E] int64, which episodes of the recording these are.
        seeds: [N] int64.
    """

    def __init__(
        self,
        sorter: Sorter,
        schema: pa.Schema,
        features: Sequence[str],
        numbers: npt.NDArray[np.int64],
        seeds: npt.NDArray[np.int64],
    ) -> None:
        self.sorter = sorter
        self.over = np.zeros(len(numbers), dtype=bool)
        self.ruined = 0
        self._schema = schema
        self._features = features
        self._numbers = numbers
        self._seeds = seeds

    def write(self, table: Mapping[str, npt.NDArray[Any]], *, decided: bool) -> None:
        """Pass on the rows of the episodes that are not over, each as far as it goes.

        Args:
            table: [N, rows, S] or [N, rows] by name, and the "observation" [N, rows, S * F] where features are recorded.
            decided: whether the last row has a decision; where it has none, the episodes are over.
        """
        ended = table["terminated"] | table["truncated"]
        rows = ended.shape[1]
        for index in np.flatnonzero(~self.over).tolist():
            count = int(ended[index].argmax()) + 1 if ended[index].any() else rows
            acted = ~ended[index, :count]
            acted[rows - 1 :] &= decided  # reaches nothing where the episode ended before
            mine = {name: values[index, :count] for name, values in table.items()}
            self.sorter.write(index, self._rows(index, mine, acted))
            self.over[index] = not acted[-1]
            self.ruined += bool(mine["terminated"][-1])

    def _rows(self, index: int, mine: Mapping[str, npt.NDArray[Any]], acted: npt.NDArray[np.bool_]) -> pa.RecordBatch:
        """One episode's rows as the file has them: the symbols of a moment one after the other."""
        symbols = mine["position"].shape[1]
        count = len(acted) * symbols
        flat = {
            name: values.reshape(-1) if values.ndim == 2 else values.repeat(symbols) for name, values in mine.items()
        }
        if self._features:
            by_feature = mine["observation"].reshape(count, -1).T.copy()
            flat |= dict(zip(self._features, by_feature, strict=True))
        flat["episode"] = np.full(count, self._numbers[index])
        flat["seed"] = np.full(count, self._seeds[index])
        flat["symbol"] = np.tile(np.arange(symbols), len(acted))
        missing = ~acted.repeat(symbols)

        def column(field: pa.Field) -> pa.Array:
            if field.nullable and field.name not in flat:  # nobody has decided anything yet
                return pa.nulls(count, field.type)
            return pa.array(flat[field.name], field.type, mask=missing if field.nullable else None)

        return pa.RecordBatch.from_arrays([column(field) for field in self._schema], schema=self._schema)
