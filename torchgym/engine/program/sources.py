"""Which of torchgym's code decides a program, and the name that follows from it."""

from __future__ import annotations

import functools
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from torchgym.engine.program.build import OPTIONS
from torchgym.engine.program.isa import Isa, here
from torchgym.files import hexdigest
from torchgym.version import __version__

FORMAT = 5  # of programs on disk
PACKAGE = Path(__file__).resolve().parents[2]
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]*(\([^)]*\)|.*)|import[ \t]+(.*))", re.MULTILINE
)
_LOADED = time.time()  # when this process had loaded the code


def fingerprint(module: str, *about: object, isa: Isa | None = None) -> str:
    """Name of a program: a hash of what it is about, the code that makes it, torch's release, the compiler's options, the ISA.

    The kernels use neither Python nor torch when they run, so the version of Python and the build of a release do not count.

    Args:
        module: the part of torchgym that makes it, as `torchgym.engine.replay`; it counts with all that it imports of torchgym.
        about: whatever else decides the program, by its `repr`.
        isa: what it is made of; None is what this processor has.

    Returns:
        32 hexadecimal digits.

    Raises:
        OSError: when the code cannot be read.
    """
    release = torch.__version__.partition("+")[0]
    fixed = (FORMAT, __version__, release, sorted(OPTIONS.items()), sys.platform, isa or here())
    parts = (*fixed, _code(module, PACKAGE), *about)
    return hexdigest(repr(part).encode() + b"\0" for part in parts)[:32]


def sources(module: str, package: Path = PACKAGE) -> dict[str, Path]:
    """Files of a module and of all that it imports of its package, in functions too, by name of the module.

    Args:
        module: full name.
        package: folder of the package.
    """
    modules, reached, waiting = _modules(package), dict[str, Path](), [module]
    while waiting:
        name = waiting.pop()
        if name in modules and name not in reached:
            reached[name] = modules[name]
            waiting += _imports(name, modules)
    return reached


@functools.cache
def _code(module: str, package: Path) -> str:
    """Hash of the code that a module runs. Code that was edited after it had been loaded has a hash of this process alone."""
    files = sorted(sources(module, package).items())
    digest = hexdigest(part for name, path in files for part in (name.encode(), b"\0", path.read_bytes()))
    edited = any(path.stat().st_mtime > _LOADED for _, path in files)
    return f"{digest} {os.getpid()} {_LOADED}" if edited else digest


def _modules(package: Path) -> dict[str, Path]:
    """Every module of a package, by its full name."""
    files = (path.relative_to(package.parent).with_suffix("").parts for path in package.rglob("*.py"))
    return {
        ".".join(parts).removesuffix(".__init__"): package.parent.joinpath(*parts).with_suffix(".py") for parts in files
    }


def _imports(name: str, modules: Mapping[str, Path]) -> Iterator[str]:
    """What a module imports, modules of others among it; `from a import b` is `a.b` where that is a module, else `a`.

    By its lines: parsing some fifty files would take longer than all else that comes before the first step.
    """
    path = modules[name]
    here = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for dots, module, imported, whole in _IMPORT.findall(path.read_text(encoding="utf-8")):
        if whole:
            yield from re.findall(r"[\w.]+", whole)
            continue
        above = here[: len(here) + 1 - len(dots)] if dots else []
        origin = ".".join([*above, *filter(None, [module])])
        for part in re.findall(r"\w+", re.sub(r"#.*|\bas\s+\w+", "", imported)):
            yield f"{origin}.{part}" if f"{origin}.{part}" in modules else origin
