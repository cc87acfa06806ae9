"""The columns of a recording: names, types, units, meanings, as they follow from a configuration and as a file has them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from torchgym.config import MarketConfig
from torchgym.files import hexdigest
from torchgym.readout import features, rewards
from torchgym.readout.entries import (
    INFO,
    PATHS,
    PLACE_PATHS,
    Entry,
    account_entries,
    info_entries,
    path_entries,
    place_entries,
)
from torchgym.readout.features import LIMIT
from torchgym.readout.paths import chosen as chosen_paths
from torchgym.readout.rewards import REWARDS
from torchgym.sim import actions
from torchgym.sim.actions import Choices

PREFIX = "torchgym."  # of the names of a file's own metadata
DIGEST = b"torchgym.digest"

# What sort of thing a column is. All but "decision" describe the moment before the decision of their row.
KINDS: dict[str, str] = {
    "key": "which moment of which symbol in which episode",
    "end": "whether the episode is over at this moment",
    "decision": "what the learner decided then, and what it brought; null in the last row of an episode",
    "account": "the learner's account",
    "feature": "what the learner saw of the market",
    "account_feature": "what the learner saw of its account",
    "market": "what everybody in the market can know",
    "hidden": "what nobody in the market knows: no input for a model that is to trade",
}


@dataclass(frozen=True)
class Column:
    """One column of a recording."""

    name: str
    dtype: str  # "int64", "float64", "bool" or "timestamp[us]"
    unit: str
    kind: str  # a row of `KINDS`
    description: str

    @property
    def nullable(self) -> bool:
        """Whether the last row of an episode has no value."""
        return self.kind == "decision"

    @property
    def field(self) -> pa.Field:
        """The same for Arrow, unit, kind and description as metadata of the field."""
        metadata = {"unit": self.unit, "kind": self.kind, "description": self.description}
        return pa.field(self.name, pa.type_for_alias(self.dtype), self.nullable, metadata)


def columns(
    config: MarketConfig, *, features: bool = True, market_fields: Sequence[str] | None = None
) -> tuple[Column, ...]:
    """The columns of a recording, in order.

    Args:
        features: whether with what the learner saw: the configured features, and its account as observed.
        market_fields: which rows of `torchgym.readout.entries.path_entries`, None for all; an unknown one is a ValueError.
            Position, equity and the learner's resting orders are always there.

    >>> [column.name for column in columns(MarketConfig(), features=False, market_fields=["mid"])][:8]
    ['episode', 'seed', 'tick', 'step', 'time', 'symbol', 'terminated', 'truncated']
    """
    rows = path_entries(config)
    fields = [name for name in dict.fromkeys(chosen_paths(config, market_fields)) if not rows[name].per_learner]
    return (
        Column("episode", "int64", "number", "key", "which episode of the recording, from 0"),
        Column("seed", "int64", "number", "key", "what decides the episode, together with the configuration"),
        Column("tick", "int64", "ticks", "key", "ticks played since the episode began, 0 before the first decision"),
        Column("step", "int64", "decisions", "key", "decisions made since the episode began"),
        Column(
            "time", "timestamp[us]", "date and time", "key", "trading time of the tick, by the recording's calendar"
        ),
        Column("symbol", "int64", "number", "key", "which symbol of the market, from 0"),
        Column("terminated", "bool", "true/false", "end", "ruined; the episode's last row"),
        Column("truncated", "bool", "true/false", "end", "out of time; the episode's last row"),
        *_decision(config),
        *(
            _of_entry(name, INFO[name], "account")
            for name in _symbols_first(INFO, event=False)
            if name != "tick" and (INFO[name].per_learner or name not in PATHS)
        ),
        *(_of_entry(name, row, "account") for name, row in place_entries(config, PLACE_PATHS).items()),
        *(_seen(config) if features else ()),
        *(_of_entry(name, rows[name], "hidden" if rows[name].hidden else "market") for name in fields),
    )


def schema(chosen: Sequence[Column], about: Mapping[str, str]) -> pa.Schema:
    """The Arrow schema of these columns; `about` are metadata of the whole file. A digest of all of it is one of them."""
    bare = pa.schema([column.field for column in chosen], {f"{PREFIX}{name}": text for name, text in about.items()})
    return bare.with_metadata({**(bare.metadata or {}), DIGEST: digest(bare)})


def digest(schema: pa.Schema) -> bytes:
    """SHA-256 of the columns and the metadata of a recording, the digest that stands there left out."""
    parts: list[bytes] = []
    for field in schema:
        parts += [field.name.encode(), str(field.type).encode(), str(field.nullable).encode()]
        parts += [(field.metadata or {}).get(name, b"") for name in (b"unit", b"kind", b"description")]
    own = {name: text for name, text in (schema.metadata or {}).items() if name.startswith(PREFIX.encode())}
    for name, text in sorted(own.items()):
        parts += [name, text] if name != DIGEST else []
    return hexdigest(part + b"\0" for part in parts).encode()


def _of_entry(name: str, row: Entry, kind: str) -> Column:
    return Column(name, str(row.dtype).removeprefix("torch."), row.unit, kind, row.meaning)


def _symbols_first(rows: Mapping[str, Entry], *, event: bool) -> list[str]:
    """Names of the rows that are events, or of those that are not, with those per symbol in front."""
    return sorted((name for name in rows if rows[name].event == event), key=lambda name: not rows[name].per_symbol)


def _decision(config: MarketConfig) -> Iterator[Column]:
    """The choice, and what `Market.step` returns for it, over all its ticks."""
    space = actions.space(config)
    if isinstance(space, Choices):
        none = f"; {space.rest} where none was chosen" if space.hold is None else ""
        choices = f"0 to {space.count - 1} of the {config.action!r} actions{none}"
        yield Column("action", "int64", "choice", "decision", choices)
    else:
        low, high = space.bounds(1)
        given = actions.by_name(config, torch.stack(space.bounds(config.num_symbols)))
        for at, name in enumerate(given):
            bounds = f"{low[at]:g} to {high[at]:g} of the {config.action!r} actions; not a number where none was chosen"
            yield Column(name, "float64", "number", "decision", bounds)
    terms = rewards.weights(config)
    units = {REWARDS[term].unit for term in terms}
    unit = units.pop() if len(units) == 1 else "mixed"
    yield Column("reward", "float64", unit, "decision", "what the learner was rewarded with, all symbols together")
    rows = info_entries(config)
    of_terms = [f"reward_{term}" for term in terms]
    others = {name: row for name, row in rows.items() if name not in of_terms}
    for name in (*of_terms, *_symbols_first(others, event=True)):
        yield _of_entry(name, rows[name], "decision")


def _seen(config: MarketConfig) -> Iterator[Column]:
    relative = config.scaling == "relative"
    for name, row, at in features.rows(config):
        meaning = row.meanings[at]
        if relative:
            meaning = f"{meaning}; recorded free of scale, as {row.scaled}, clipped to ±{LIMIT:g}"
        yield Column(name, "float64", "ratio" if relative else row.unit, "feature", meaning)
    for name, entry in account_entries(config).items():
        yield _of_entry(f"account_{name}", entry, "account_feature")


def describe(path: str | os.PathLike[str]) -> tuple[Column, ...]:
    """The columns of a recording: name, type, unit, kind, description.

    Here and in the other functions, a ValueError when the file is no recording, an OSError when it cannot be read.
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
    """What the file says of the whole recording.

    That is "version" (of torchgym), "config" (as JSON), "row", "origin" and "ticks_per_day" (of the calendar), and what its
    maker added: "seed" and "episodes" of `record`.
    """
    prefix = PREFIX.encode()
    return {
        name.removeprefix(prefix).decode(): value.decode()
        for name, value in _schema(path).metadata.items()
        if name.startswith(prefix) and name != DIGEST
    }


def check_pages(path: str | os.PathLike[str]) -> None:
    """Read a whole recording and compare each page with its checksum; a ValueError when it is damaged, or no recording.

    Other readers do so when they are asked to: pyarrow with `page_checksum_verification=True`.
    """
    _schema(path)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)  # `iter_batches` would end in silence where a column is short
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)} is damaged: {error}") from error


def _schema(path: str | os.PathLike[str]) -> pa.Schema:
    name = os.fspath(path)
    with open(path, "rb"):  # errors of the system as they are
        pass
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{name} is not a Parquet file, or a damaged one") from error
    metadata = schema.metadata or {}
    if DIGEST not in metadata:
        raise ValueError(f"{name} was not written by torchgym.recording, or is damaged")
    if metadata[DIGEST] != digest(schema):
        raise ValueError(f"{name} is damaged: the digest of its columns and metadata does not fit")
    return schema
