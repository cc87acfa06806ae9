"""What a recording says of itself."""

from __future__ import annotations

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq

from torchgym.config import MarketConfig
from torchgym.recording.columns import Column


def describe(path: str | os.PathLike[str]) -> tuple[Column, ...]:
    """The columns of a recording: name, type, unit, kind, description.

    Raises:
        ValueError: when the file is no recording; so do the other functions here.
        OSError: when it cannot be read.
    """
    found = []
    for field in _schema(path):
        told = {name.decode(): value.decode() for name, value in (field.metadata or {}).items()}
        dtype = str(field.type).replace("double", "float64")
        found.append(Column(field.name, dtype, told["unit"], told["kind"], told["description"]))
    return tuple(found)


def read_config(path: str | os.PathLike[str]) -> MarketConfig:
    """The configuration of the markets that were recorded."""
    return MarketConfig.from_dict(json.loads(read_about(path)["config"]))


def read_about(path: str | os.PathLike[str]) -> dict[str, str]:
    """What the file says of the whole recording: "version" (of torchgym), "config" (as JSON), "row", and what its maker added.

    `record` adds "seed" and "episodes".
    """
    metadata = _schema(path).metadata
    prefix = b"torchgym."
    return {
        name.removeprefix(prefix).decode(): value.decode()
        for name, value in metadata.items()
        if name.startswith(prefix)
    }


def _schema(path: str | os.PathLike[str]) -> pa.Schema:
    try:
        schema = pq.read_schema(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{os.fspath(path)} is not a Parquet file, or a damaged one") from error
    if b"torchgym.config" not in (schema.metadata or {}):
        raise ValueError(f"{os.fspath(path)} was not written by torchgym.recording")
    return schema
