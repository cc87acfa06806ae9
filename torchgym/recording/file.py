"""Rows on their way to disk: from a batch of markets, sorted by episode, to a Parquet file that appears when it is complete."""

from __future__ import annotations

import contextlib
import os
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from torchgym.files import part_of, put_in_place
from torchgym.recording.calendar import Calendar

ROWS_PER_GROUP = 32_768  # some 25 MB of columns before compression
ORDER = ("episode", "tick", "symbol")  # of the rows


class ParquetFile:
    """A Parquet file in row groups of a fixed number of rows, which are in memory at a time.

    It is written beside its place under another name and moved there by `close`, so that under its own name it is either complete
    or not there. Until `open` there is nothing on disk; what is unfinished goes with this object or the process. Each page has a
    checksum, which readers compare when they are asked to. A file that is there and may not be replaced is a FileExistsError, a
    place that is a folder, or in none, an OSError.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, rows_per_group: int, overwrite: bool) -> None:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder: name a file to record to")
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} is there already: name another file, or pass overwrite=True (--overwrite)")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"the folder {path.parent} is not there: make it first")
        self.path = path
        self.rows = 0
        self.rows_per_group = rows_per_group
        self._held: list[pa.RecordBatch] = []
        self._rows_held = 0
        self._unfinished = part_of(path)
        self._schema = schema
        self._writer: pq.ParquetWriter | None = None

    def open(self) -> pq.ParquetWriter:
        """Begin the file on disk, where that has not been done; an OSError when nothing can be written there."""
        if self._writer is None:
            weakref.finalize(self, _remove, self._unfinished, os.getpid())
            # A dictionary of real numbers is as long as they are: without one files are a sixth smaller.
            repeating = [field.name for field in self._schema if not pa.types.is_floating(field.type)]
            self._writer = pq.ParquetWriter(
                self._unfinished,
                self._schema,
                compression="zstd",
                use_dictionary=repeating,
                write_page_checksum=True,
                sorting_columns=pq.SortingColumn.from_ordering(self._schema, [(name, "ascending") for name in ORDER]),
            )
        return self._writer

    def write(self, rows: pa.RecordBatch) -> None:
        """Add rows; they go to disk as soon as they fill a group."""
        while rows.num_rows:
            taken = rows.slice(0, self.rows_per_group - self._rows_held)
            self._held.append(taken)
            self._rows_held += taken.num_rows
            rows = rows.slice(taken.num_rows)
            if self._rows_held == self.rows_per_group:
                self._flush()

    def close(self) -> None:
        """Finish the file and move it to its place; where that fails, as on a full disk, it must be discarded."""
        self._flush()
        self.open().close()
        put_in_place(self._unfinished, self.path)

    def discard(self) -> None:
        """Give up: nothing is left, and a file that was to be replaced is as it was."""
        if self._writer is not None:
            with contextlib.suppress(OSError):  # of a full disk, once more
                self._writer.close()
            self._writer.is_open = False  # or it tries again when it is collected, and complains
        self._unfinished.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._rows_held:
            # In one piece: where the writer begins a new page depends on the pieces that it is given.
            group = pa.Table.from_batches(self._held).combine_chunks()
            self.open().write_table(group, row_group_size=self.rows_per_group)
            self.rows += self._rows_held
            self._held, self._rows_held = [], 0


def _remove(path: Path, process: int) -> None:
    """Remove what this process left; a forked one leaves it to its parent."""
    if os.getpid() == process:
        path.unlink(missing_ok=True)


def _close(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # of a full disk: what it still holds is not wanted any more
        file.close()


class Sorter:
    """Rows that come in turns from several episodes, kept on disk until they can be had episode by episode.

    Their file has no name in the folder and is gone with the process, however that ends.
    """

    def __init__(self, folder: Path, schema: pa.Schema, episodes: int) -> None:
        # A Python file: Arrow cannot write to one without a name.
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed with this object at the latest)
        self._closing = weakref.finalize(self, _close, self._file)
        self.schema = schema
        self._writer = pa.ipc.new_file(self._file, schema)
        self._places: list[list[int]] = [[] for _ in range(episodes)]
        self._count = 0

    def write(self, episode: int, rows: pa.RecordBatch) -> None:
        """Add the next rows of an episode."""
        self._writer.write_batch(rows)
        self._places[episode].append(self._count)
        self._count += 1

    def sorted(self) -> Iterator[pa.RecordBatch]:
        """All rows, the first episode's first; nothing can be added any more."""
        self._writer.close()
        self._file.seek(0)
        with pa.ipc.open_file(self._file) as reader:
            for places in self._places:
                for place in places:
                    yield reader.get_batch(place)

    def close(self) -> None:
        """Give the disk back."""
        self._closing()


class Chunk:
    """The newest rows of all markets, at most `length`: tensors [N, length, ...] where the market lives, taken once."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.rows = 0
        self._tensors: dict[str, Tensor] = {}

    def put(self, values: Mapping[str, Tensor]) -> None:
        """Write [N, ...] tensors down in the row that is not finished."""
        for name, value in values.items():
            if name not in self._tensors:
                self._tensors[name] = value.new_empty((value.shape[0], self.length, *value.shape[1:]))
            self._tensors[name][:, self.rows] = value

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that was written, [N, rows, ...] each; what was never written is left out."""
        return {name: tensor[:, : self.rows].cpu().numpy() for name, tensor in self._tensors.items()}


@dataclass
class Block:
    """Episodes that are played together, those of the first E markets of a batch."""

    sorter: Sorter  # where their rows go
    features: Sequence[str]  # names of the features of one symbol, none where they are not recorded
    calendar: Calendar
    ticks_per_action: int
    numbers: npt.NDArray[np.int64]  # [E], which episodes of the recording these are
    seeds: npt.NDArray[np.int64]  # [N]
    ruined: int = 0

    def __post_init__(self) -> None:
        self.over = np.zeros(len(self.numbers), dtype=bool)

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
        if self.features:
            by_feature = mine["observation"].reshape(count, -1).T.copy()
            flat |= dict(zip(self.features, by_feature, strict=True))
        flat["episode"] = np.full(count, self.numbers[index])
        flat["seed"] = np.full(count, self.seeds[index])
        flat["step"] = flat["tick"] // self.ticks_per_action
        flat["time"] = self.calendar.times(flat["tick"])
        flat["symbol"] = np.tile(np.arange(symbols), len(acted))
        missing = ~acted.repeat(symbols)

        def column(field: pa.Field) -> pa.Array:
            if field.nullable and field.name not in flat:  # nobody has decided anything yet
                return pa.nulls(count, field.type)
            return pa.array(flat[field.name], field.type, mask=missing if field.nullable else None)

        return pa.RecordBatch.from_arrays([column(field) for field in self.sorter.schema], schema=self.sorter.schema)
