"""The columns of a recording under a configuration: names, types, units, meanings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from torchgym.config import MarketConfig
from torchgym.files import hexdigest
from torchgym.readout import features, rewards
from torchgym.readout.features import LIMIT
from torchgym.readout.paths import entries
from torchgym.readout.rewards import REWARDS
from torchgym.recording import meanings
from torchgym.sim import actions

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

_ARROW = {"int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
_INTEGERS = {"volume", "fills", "bid_depth", "ask_depth", "buys", "sells", "maker_shares", "position"}


@dataclass(frozen=True)
class Column:
    """One column of a recording."""

    name: str
    dtype: str  # "int64", "float64" or "bool"
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
        told = {"unit": self.unit, "kind": self.kind, "description": self.description}
        return pa.field(self.name, _ARROW[self.dtype], self.nullable, told)


def columns(
    config: MarketConfig, *, features: bool = True, market_fields: Sequence[str] | None = None
) -> tuple[Column, ...]:
    """The columns of a recording, in order.

    Args:
        features: whether with what the learner saw: the configured features, and its account as observed.
        market_fields: which rows of `torchgym.readout.paths.ENTRIES`; None is all of them. Position and equity are always there.

    Raises:
        ValueError: for an unknown field, listing the known ones.

    >>> [column.name for column in columns(MarketConfig(), features=False, market_fields=["mid"])][:8]
    ['episode', 'seed', 'tick', 'symbol', 'terminated', 'truncated', 'action', 'reward']
    """
    fields = [name for name in dict.fromkeys(entries(market_fields)) if name in meanings.MARKET]
    return (
        Column("episode", "int64", "number", "key", "which episode of the recording, from 0"),
        Column("seed", "int64", "number", "key", "what decides the episode, together with the configuration"),
        Column("tick", "int64", "ticks", "key", "ticks played since the episode began, 0 before the first decision"),
        Column("symbol", "int64", "number", "key", "which symbol of the market, from 0"),
        Column("terminated", "bool", "true/false", "end", "ruined; the episode's last row"),
        Column("truncated", "bool", "true/false", "end", "out of time; the episode's last row"),
        *_decision(config),
        *(Column(name, _dtype(name), unit, "account", meaning) for name, (unit, meaning) in meanings.ACCOUNT.items()),
        *(_seen(config) if features else ()),
        *(Column(name, _dtype(name), *meanings.MARKET[name]) for name in fields),
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


def _dtype(name: str) -> str:
    return "int64" if name in _INTEGERS else "float64"


def _decision(config: MarketConfig) -> Iterator[Column]:
    """The choice, and what `Market.step` told after it, over all its ticks."""
    scheme = actions.scheme(config)
    none = f"; {actions.REST} where none was chosen" if scheme.hold is None else ""
    told = f"0 to {scheme.choices - 1} of the {config.action!r} actions{none}"
    yield Column("action", "int64", "choice", "decision", told)
    units = {REWARDS[term].unit for term in rewards.weights(config)}
    unit = units.pop() if len(units) == 1 else "mixed"
    yield Column("reward", "float64", unit, "decision", "what the learner was rewarded with, all symbols together")
    for term in rewards.weights(config):
        told = f"{REWARDS[term].meaning}, before its weight in the reward"
        yield Column(f"reward_{term}", "float64", REWARDS[term].unit, "decision", told)
    yield Column(
        "filled", "int64", "shares", "decision", "what the learner traded of the symbol, positive when it bought"
    )
    yield Column("turnover", "float64", "currency", "decision", "amount traded in all symbols, both sides positive")


def _seen(config: MarketConfig) -> Iterator[Column]:
    relative = config.scaling == "relative"
    for name, row, at in features.rows(config):
        told = row.meanings[at]
        if relative:
            told = f"{told}; recorded free of scale, as {row.scaled}, clipped to ±{LIMIT:g}"
        yield Column(name, "float64", "ratio" if relative else row.unit, "feature", told)
    for name, (unit, meaning) in meanings.OBSERVED_ACCOUNT.items():
        yield Column(name, "float64", unit, "account_feature", meaning)
