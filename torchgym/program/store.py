"""Programs on disk: in the user's cache folder, one folder each, named by everything that decides their contents."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from torchgym.program.build import OPTIONS
from torchgym.program.program import Call, Place, Program

_FORMAT = 1
_PACKAGE = Path(__file__).resolve().parents[1]


def cache_folder() -> Path:
    """Where programs lie: `TORCHGYM_CACHE_DIR`, else `torchgym` in the user's cache folder of this system."""
    if chosen := os.environ.get("TORCHGYM_CACHE_DIR"):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "torchgym"


def fingerprint(*about: object) -> str:
    """Name of a program: a hash of what it is about, of torchgym's source, of torch, the compiler's options and the processor.

    Args:
        about: whatever else decides the program, told by `repr`.
    """
    told = hashlib.sha256()
    for part in (_FORMAT, torch.__version__, sorted(OPTIONS.items()), sys.version_info[:2], _processor(), *about):
        told.update(repr(part).encode() + b"\0")
    for path in sorted(_PACKAGE.rglob("*.py")):
        told.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return told.hexdigest()[:32]


def _processor() -> str:
    """What the machine code is made for: a kernel may not run on a processor that lacks an instruction."""
    about = [platform.machine(), torch.backends.cpu.get_cpu_capability()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        about += [line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features"))][:1]
    return " ".join(about)


def save(program: Program, name: str) -> Program:
    """Keep a program, whole or not at all; the one that lies there, or the given one where nothing can be kept.

    Args:
        name: its fingerprint.
    """
    folder = cache_folder() / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            for index, kernel in enumerate(program.kernels):
                shutil.copyfile(kernel, temporary / f"{index}.so")
            (temporary / "program.json").write_text(json.dumps(_to_json(program)))
            temporary.rename(folder)
        except OSError:  # somebody else was first, or the disk is full
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError:  # no such folder can be made: the next process compiles again, nothing else is lost
        pass
    return load(name) or program


def load(name: str) -> Program | None:
    """The program of this fingerprint, or None when there is none or it cannot be read."""
    folder = cache_folder() / name
    try:
        told = json.loads((folder / "program.json").read_text())
        program = _from_json(told, [folder / f"{index}.so" for index in range(told["kernels"])])
        _ = program.functions
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return program


def _to_json(program: Program) -> dict[str, object]:
    return {
        "inputs": [[shape, _name(dtype)] for shape, dtype in program.inputs],
        "sizes": program.sizes,
        "outputs": [
            [place.memory, place.offset, place.shape, place.stride, _name(place.dtype)] for place in program.outputs
        ],
        "calls": [[call.kernel, call.arguments] for call in program.calls],
        "kernels": len(program.kernels),
    }


def _from_json(told: dict[str, Any], kernels: Sequence[Path]) -> Program:
    return Program(
        inputs=tuple((tuple(shape), _dtype(dtype)) for shape, dtype in told["inputs"]),
        sizes=tuple(told["sizes"]),
        outputs=tuple(
            Place(memory, offset, tuple(shape), tuple(stride), _dtype(dtype))
            for memory, offset, shape, stride, dtype in told["outputs"]
        ),
        calls=tuple(Call(kernel, tuple(map(tuple, arguments))) for kernel, arguments in told["calls"]),
        kernels=tuple(kernels),
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name} is no dtype")
    return found
