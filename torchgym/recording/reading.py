"""What a recording says of itself."""

from __future__ import annotations

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq

from torchgym.config import MarketConfig
from torchgym.recording.columns import DIGEST, PREFIX, Column, digest


def describe(path: str | os.PathLike[str]) -> tuple[Column, ...]:
    """The columns of a recording: name, type, unit, kind, description.

    Raises:
        ValueError: when the file is no recording; so do the other functions here.
        OSError: when it cannot be read.
    """
    described = []
    for field in _schema(path):
        metadata = {name.decode(): value.decode() for name, value in (field.metadata or {}).items()}
        dtype = str(field.type).replace("double", "float64")
        described.append(Column(field.name, dtype, metadata["unit"], metadata["kind"], metadata["description"]))
    return tuple(described)


def read_config(path: str | os.PathLike[str]) -> MarketConfig:
    """The configuration of the markets that were recorded."""
    return MarketConfig.from_dict(json.loads(read_about(path)["config"]))


def read_about(path: str | os.PathLike[str]) -> dict[str, str]:
    """What the file says of the whole recording: "version" (of torchgym), "config" (as JSON), "row", and what its maker added.

    `record` adds "seed" and "episodes".
    """
    prefix = PREFIX.encode()
    return {
        name.removeprefix(prefix).decode(): value.decode()
        for name, value in _schema(path).metadata.items()
        if name.startswith(prefix) and name != DIGEST
    }


def check_pages(path: str | os.PathLike[str]) -> None:
    """Read a whole recording and compare each page with its checksum.

    Other readers do so when they are asked to: pyarrow with `page_checksum_verification=True`.

    Raises:
        ValueError: when the file is damaged, or no recording.
        OSError: when it cannot be read.
    """
    _schema(path)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for _ in file.iter_batches():
                pass
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{os.fspath(path)} is damaged: {error}") from error


def _schema(path: str | os.PathLike[str]) -> pa.Schema:
    name = os.fspath(path)
    with open(path, "rb"):  # errors of the system as they are
        pass
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{name} is not a Parquet file, or a damaged one") from error
    metadata = schema.metadata or {}
    if DIGEST not in metadata:
        raise ValueError(f"{name} was not written by torchgym.recording, or is damaged")
    if metadata[DIGEST] != digest(schema):
        raise ValueError(f"{name} is damaged: the digest of its columns and metadata does not fit")
    return schema
