"""`Table`: the rows of one kind of extension, by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import torch

Row = TypeVar("Row")


class Table(dict[str, Row], Generic[Row]):
    """A dictionary of rows that can say which of them are not its own.

    Users add rows as to any dictionary: `TABLE[name] = row`. They live in the process that added them, so a worker process
    adds them too, by importing the module that does.

    Args:
        kind: what a row is, for messages.
        rows: those it begins with.

    >>> colours = Table("colour", {"red": 1})
    >>> colours["blue"] = 2
    >>> colours.added(["blue", "red"])
    (2,)
    >>> colours.find("green")
    Traceback (most recent call last):
        ...
    ValueError: unknown colour 'green': choose from red, blue
    """

    def __init__(self, kind: str, rows: Mapping[str, Row]) -> None:
        super().__init__(rows)
        self.kind = kind
        self._own = dict(rows)
        self._kinds = tuple(dict.fromkeys(type(row) for row in rows.values()))

    def __setitem__(self, name: str, row: Row) -> None:
        """Add a row, or replace one.

        Raises:
            TypeError: where it is not of the kind of the others.
        """
        kinds: tuple[type, ...] = getattr(self, "_kinds", ())  # a copy gets its rows before all else
        if kinds and not isinstance(row, kinds):
            known = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(
                f"{self.kind} {name!r} must be of the class {known}, got {type(row).__name__}: {row!r:.100}"
            )
        super().__setitem__(name, row)

    def find(self, name: str) -> Row:
        """The row of that name.

        Raises:
            ValueError: when there is none, listing those that are there.
        """
        self.check([name])
        return self[name]

    def check(self, names: Iterable[str]) -> None:
        """Nothing, where all of these are there.

        Raises:
            ValueError: where one is not, naming all that are missing and listing those that are there.
        """
        unknown = [name for name in names if not isinstance(name, str) or name not in self]
        if unknown:
            told = f"unknown {self.kind} {', '.join(map(repr, unknown))}: choose from {', '.join(self)}"
            raise ValueError(told + guess(unknown, self))

    def added(self, names: Iterable[str]) -> tuple[Row, ...]:
        """Those of the named rows that were added or replaced since the table was made."""
        return tuple(self[name] for name in names if self[name] is not self._own.get(name))

    @property
    def changed(self) -> bool:
        """Whether rows were added, replaced, taken out or moved since the table was made."""
        return list(self) != list(self._own) or bool(self.added(self))


def guess(names: Iterable[object], known: Iterable[str]) -> str:
    """What was probably meant, as the end of a message; nothing where no known name is close.

    >>> guess(["max_tick"], ["max_ticks", "seed"]), guess(["moon"], ["max_ticks"])
    ('; did you mean max_ticks?', '')
    """
    there = list(known)
    close = [difflib.get_close_matches(str(name), there, n=1, cutoff=0.75) for name in names]
    meant = ", ".join(found[0] for found in close if found)
    return f"; did you mean {meant}?" if meant else ""


def check_made(row: str, made: object, shape: Sequence[int], dtype: torch.dtype) -> None:
    """Nothing, where a row's function made what it should; costs nothing in a compiled tick.

    Args:
        row: what to call it.
        made: its result.
        shape: that it should have.
        dtype: that it should have.

    Raises:
        ValueError: naming the row, what it made and what it should have made.
    """
    of, kind = getattr(made, "shape", None), getattr(made, "dtype", None)
    if of is not None and tuple(of) == tuple(shape) and kind == dtype:
        return
    what = repr(made) if of is None else f"{kind} of {tuple(of)}"
    raise ValueError(f"{row} must make {dtype} of shape {tuple(shape)}, it made {what}")
