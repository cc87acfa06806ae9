"""Copies of nested settings with some changed, each named by the path that leads to it, as "population.noise.count"."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torchgym.config.population import Population
from torchgym.table import guess

_MOST = 3  # paths that a message proposes
_OPEN = ("reward", "population.others")  # mappings, to which a path may add


def entries(part: Any) -> dict[str, Any]:
    """What settings have, by name: the families of a population, otherwise the fields."""
    if isinstance(part, Population):
        return part.families
    return {entry.name: getattr(part, entry.name) for entry in dataclasses.fields(part)}


def changed(part: Any, changes: Mapping[str, Any], path: str = "") -> Any:
    """The settings with these changes: whole parts first, then what lies within them.

    All of one part are made at once, since settings are checked against one another.

    Args:
        part: a dataclass of settings, or what stands within one.
        changes: by path; of a tuple, each element has one as well, and of a reward, each term.
        path: of the part itself.

    Raises:
        ValueError: for a path that leads nowhere; for a value that is refused.
    """
    if not changes:
        return part
    whole: dict[str, Any] = {}
    within: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        first, dot, rest = name.partition(".")
        if dot:
            within.setdefault(first, {})[rest] = value
        else:
            whole[first] = value
    if isinstance(part, Population) and "others" not in part.families and "others" in {**whole, **within}:
        others = changed(whole.pop("others", part.others), within.pop("others", {}), _joined(path, "others"))
        part = dataclasses.replace(part, others=others)
    known = _known(part, path)
    unknown = [] if path in _OPEN else [name for name in (*whole, *within) if name not in known]
    if unknown:
        listed = f"choose from {', '.join(known)}" if known else f"{path} has none"
        names = ", ".join(_joined(path, name) for name in unknown)
        raise ValueError(f"unknown setting {names}: {listed}{meant(unknown, known, part, path)}")
    new = {
        name: changed(whole.get(name, known.get(name)), within.get(name, {}), _joined(path, name))
        for name in {**whole, **within}
    }
    if isinstance(part, Population):
        own = {name: new.pop(name) for name in [*new] if name in part.others}
        new["others"] = {**part.others, **own}
    if dataclasses.is_dataclass(part):
        return dataclasses.replace(part, **new)  # type: ignore[type-var]
    return tuple({**known, **new}.values()) if isinstance(part, tuple) else {**known, **new}


def meant(unknown: Iterable[str], known: Iterable[str], part: Any, path: str = "") -> str:
    """The end of a message about names that a part of the settings does not have.

    It is a close name among the known ones, or the paths that end in the name, or else how such a path looks.
    """
    close = guess(unknown, known)
    within = [at for at in _below(part, path) if at.rpartition(".")[2] in unknown]
    if close or not within:
        return close or ("" if path else "; what lies within one of them has a path, such as population.noise.count")
    return f"; did you mean {' or '.join(within[:_MOST])}?"


def _below(part: Any, path: str) -> Iterator[str]:
    """The path of everything within a part, however deep."""
    for name, entry in _known(part, path).items():
        yield _joined(path, name)
        yield from _below(entry, _joined(path, name))


def _known(part: Any, path: str) -> dict[str, Any]:
    """What can be changed within a part: its entries, the elements of a tuple, what an open mapping holds."""
    if dataclasses.is_dataclass(part):
        return entries(part)
    if isinstance(part, tuple):
        return {str(at): entry for at, entry in enumerate(part)}
    if path == "reward" and isinstance(part, str):
        return {part: 1.0}
    return dict(part) if path in _OPEN and isinstance(part, Mapping) else {}


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
