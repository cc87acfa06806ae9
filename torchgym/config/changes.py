"""Copies of nested settings with some changed, each named by the path that leads to it, as "population.noise.count"."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torchgym.config.population import Population
from torchgym.table import guess


class _Within(dict[str, Any]):
    """Changes of a part by name; a value that is a dict itself is another class."""


def changed(settings: Any, changes: Mapping[str, Any]) -> Any:
    """The settings with these changes; those of one part all at once, since settings are checked against one another.

    Args:
        settings: a dataclass of settings.
        changes: by path; of a tuple, each element has one as well.

    Raises:
        ValueError: for a path that leads nowhere, or one that leads into what another one sets; for a value that is refused.
    """
    tree = _Within()
    for path, value in changes.items():
        *above, last = path.split(".")
        part: Any = tree
        for at, name in enumerate(above):
            whole = ".".join(above[: at + 1])
            if whole in changes:
                raise ValueError(f"{whole} and {path}, a part of it, are both given: give one of them")
            part = part.setdefault(name, _Within())
        part[last] = value
    return _changed(settings, tree, "")


def _changed(part: Any, change: Any, path: str) -> Any:
    if not isinstance(change, _Within):
        return change
    known = _settings(part)
    unknown = [name for name in change if name not in known and not isinstance(part, (str, Mapping))]
    if unknown:
        listed = f"choose from {', '.join(known)}" if known else f"{path} has none"
        raise ValueError(
            f"unknown setting {', '.join(_joined(path, name) for name in unknown)}: {listed}{guess(unknown, known)}"
        )
    new = {name: _changed(known.get(name), inner, _joined(path, name)) for name, inner in change.items()}
    if isinstance(part, Population):
        others = {name: new.pop(name) for name in change if name in part.others}
        new |= {"others": {**part.others, **others}} if others else {}
    if dataclasses.is_dataclass(part):
        return dataclasses.replace(part, **new)  # type: ignore[type-var]
    return tuple({**known, **new}.values()) if isinstance(part, tuple) else {**known, **new}


def _settings(part: Any) -> dict[str, Any]:
    """What a part has, by name: the fields of settings, the families of a population, the elements of a tuple, weights."""
    if isinstance(part, Population):
        return {**part.families, "others": part.others}
    if dataclasses.is_dataclass(part):
        return {entry.name: getattr(part, entry.name) for entry in dataclasses.fields(part)}
    if isinstance(part, tuple):
        return {str(at): entry for at, entry in enumerate(part)}
    return dict(part) if isinstance(part, Mapping) else {}


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
