"""What the extras of pyproject.toml bring: as they stand there, whatever was installed."""

from __future__ import annotations

import functools
import importlib.metadata
import re
import tomllib
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pages import ROOT


@functools.cache
def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def extras() -> set[str]:
    return set(_project()["optional-dependencies"])


def brought(*words: str) -> set[str]:
    """The packages that `pip install WORDS` brings, with what they need themselves as far as it is installed here."""
    found: set[str] = set()
    waiting = [Requirement(re.sub(r"^\.(?=\[|$)", "torchgym", word)) for word in words]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if f"{name}{sorted(requirement.extras)}" in seen:
            continue
        seen.add(f"{name}{sorted(requirement.extras)}")
        found.add(name)
        waiting += [
            needed
            for needed in map(Requirement, _needed(name, requirement.extras))
            if not needed.marker or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras))
        ]
    return found - {"torchgym"}


def _needed(name: str, extras: set[str]) -> list[str]:
    if name == "torchgym":
        own = _project()["optional-dependencies"]
        return [*_project()["dependencies"], *(line for extra in extras for line in own[extra])]
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def optional(*, deep: bool = False) -> dict[str, set[str]]:
    """The packages that extras name and torchgym alone does not bring, by a name they are imported by, and their other names.

    `deep` adds what those packages need themselves.
    """
    lines = [line for extra in extras() for line in _project()["optional-dependencies"][extra]]
    named = brought(*lines) if deep else {canonicalize_name(Requirement(line).name) for line in lines} - {"torchgym"}
    modules = {package: imported({package}) for package in named - brought("torchgym")}
    return {
        min(names, key=lambda name: name not in package.replace("-", "_")): names
        for package, names in modules.items()
        if names
    }


def imported(packages: set[str]) -> set[str]:
    """The names that these packages are imported by."""
    return {name for name, makers in _makers().items() if packages & makers}


@functools.cache
def _makers() -> dict[str, set[str]]:
    """Who makes each name that can be imported here: looked up once, since it reads the file lists of all that is installed."""
    makers_of = importlib.metadata.packages_distributions().items()
    return {name: set(map(canonicalize_name, makers)) for name, makers in makers_of}
