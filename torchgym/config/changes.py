"""Copies of nested settings with some changed, each named by the path that leads to it, as "population.noise.count"."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torchgym.config.population import Population
from torchgym.table import guess


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
    whole: dict[str, Any] = {}
    within: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        first, dot, rest = name.partition(".")
        if dot:
            within.setdefault(first, {})[rest] = value
        else:
            whole[first] = value
    if isinstance(part, Population) and "others" not in part.families and "others" in {**whole, **within}:
        own = {"others": whole.pop("others", part.others)}
        part = dataclasses.replace(part, others=_put(own, {}, within.pop("others", {}), path, "others"))
    known = _settings(part, path)
    free = path == "reward" or (
        isinstance(part, Mapping) and path != "randomize"
    )  # what is added has a name of its own
    unknown = [name for name in (*whole, *within) if name not in known and not free]
    if unknown:
        listed = f"choose from {', '.join(known)}" if known else f"{path} has none"
        names = ", ".join(_joined(path, name) for name in unknown)
        raise ValueError(f"unknown setting {names}: {listed}{guess(unknown, known)}")
    new = {name: _put(known, whole, within.get(name, {}), path, name) for name in {**whole, **within}}
    if isinstance(part, Population):
        others = {name: new.pop(name) for name in [*new] if name in part.others}
        new["others"] = {**part.others, **others}
    if dataclasses.is_dataclass(part):
        return dataclasses.replace(part, **new)  # type: ignore[type-var]
    return tuple({**known, **new}.values()) if isinstance(part, tuple) else {**known, **new}


def _put(known: Mapping[str, Any], whole: Mapping[str, Any], within: Mapping[str, Any], path: str, name: str) -> Any:
    """A setting as it is given whole, or as it was, with what is changed within it."""
    value = whole.get(name, known.get(name))
    return changed(value, within, _joined(path, name)) if within else value


def _settings(part: Any, path: str) -> dict[str, Any]:
    """What a part has, by name: the fields of settings, the families of a population, elements of a tuple, terms of a reward."""
    if isinstance(part, Population):
        return dict(part.families)
    if dataclasses.is_dataclass(part):
        return {entry.name: getattr(part, entry.name) for entry in dataclasses.fields(part)}
    if isinstance(part, tuple):
        return {str(at): entry for at, entry in enumerate(part)}
    if path == "reward" and isinstance(part, str):
        return {part: 1.0}
    return dict(part) if isinstance(part, Mapping) and path != "randomize" else {}


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
