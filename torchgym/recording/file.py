"""Rows on their way to disk: a Parquet file that appears when it is complete, and a place to sort rows in on the way there."""

from __future__ import annotations

import contextlib
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from torchgym.files import part_of, put_in_place

ROWS_PER_GROUP = 32_768  # some 25 MB of columns before compression
ORDER = ("episode", "tick", "symbol")  # of the rows


class ParquetFile:
    """A Parquet file in row groups of a fixed number of rows.

    It is written beside its place under another name and moved there by `close`, so that under its own name it is either complete
    or not there. Until `open` there is nothing on disk; what is unfinished goes with this object or the process. Each page has a
    checksum, which readers compare when they are asked to.

    Args:
        path: where it will be.
        schema: of its rows; metadata included.
        rows_per_group: rows of a group, all of which are in memory at a time.
        overwrite: whether a file that is there may be replaced.

    Raises:
        FileExistsError: when a file is there already and may not be replaced.
        OSError: when the place is a folder, or in none.
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
        """Begin the file on disk, where that has not been done.

        Raises:
            OSError: when nothing can be written there.
        """
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

    Args:
        folder: where; the file has no name there and is gone with the process, however that ends.
        schema: of the rows.
        episodes: how many.
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
