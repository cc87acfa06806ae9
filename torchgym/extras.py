"""Packages that only parts of torchgym need: what is missing is named, with the command that installs it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def needs(what: str, package: str) -> Iterator[None]:
    """Around imports: a package that is not there is a ModuleNotFoundError in one line.

    Args:
        what: is in need of them.
        package: to install, such as "torchgym[plots]".

    >>> with needs("a picture", "torchgym[plots]"):
    ...     import crayons
    Traceback (most recent call last):
    ModuleNotFoundError: a picture needs crayons: pip install "torchgym[plots]"
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        name = (missing.name or package).partition(".")[0]
        raise ModuleNotFoundError(f'{what} needs {name}: pip install "{package}"', name=name) from missing


def loaded(module: str, name: str) -> Any:
    """What a module calls by this name; the module is imported now.

    An AttributeError inside the module is an ImportError: else it would read as if the module had no such name.
    """
    try:
        found = importlib.import_module(module)
    except AttributeError as error:
        raise ImportError(f"{module} cannot be imported: {error}", name=module) from error
    return getattr(found, name)
