"""A program's name follows the code that makes it, and no other."""

from __future__ import annotations

import ast
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from torchgym.engine import program as programs
from torchgym.engine.program import isa, sources

PACKAGE = Path(programs.__file__).resolve().parents[2]
STEP, REPLAY = "torchgym.readout.step", "torchgym.engine.replay"
REACHED = sources.sources(REPLAY)


def parsed(package: Path, start: str) -> set[str]:
    """What a module imports of the package, by parsing: slow and obvious."""
    modules = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    reached: set[str] = set()

    def visit(name: str) -> None:
        if name not in modules or name in reached:
            return
        reached.add(name)
        package_parts = name.split(".")[: None if modules[name].name == "__init__.py" else -1]
        for node in ast.walk(ast.parse(modules[name].read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    visit(alias.name)
            elif isinstance(node, ast.ImportFrom):
                above = package_parts[: len(package_parts) + 1 - node.level] if node.level else []
                origin = ".".join([*above, *([node.module] if node.module else [])])
                for alias in node.names:
                    visit(f"{origin}.{alias.name}" if f"{origin}.{alias.name}" in modules else origin)

    visit(start)
    return reached


@pytest.mark.parametrize("module", [STEP, REPLAY, "torchgym.cli", "torchgym.envs.torchrl", "torchgym.training.ladder"])
def test_imports_are_those_of_the_parsed_source(module: str) -> None:
    assert set(sources.sources(module)) == parsed(PACKAGE, module)


def test_ways_to_import(tmp_path: Path) -> None:
    files = {
        "__init__": "from pack import never",
        "start": "from pack import (  # a, b\n    one as first,\n    two,\n)\nimport pack.three, os\nimport pack.four as four",
        "one": "def f():\n    from .sub import name, inner as other\n",
        "two": "from . import five",
        "sub/__init__": "",
        "sub/inner": "from ..six import x, y",
        **dict.fromkeys(("three", "four", "five", "six", "never", "sub/never"), ""),
    }
    package = tmp_path / "pack"
    for name, text in files.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    names = {name.removeprefix("pack.") for name in sources.sources("pack.start", package)}
    assert (
        names
        == {"start", "one", "two", "three", "four", "five", "six", "sub", "sub.inner"}
        == {name.removeprefix("pack.") for name in parsed(package, "pack.start")}
    )


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, whose code counts instead of the real one."""
    copy = tmp_path / "torchgym"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "PACKAGE", copy)
    monkeypatch.setattr(sources, "_LOADED", float("inf"))
    sources._code.cache_clear()
    return copy


def renames(path: Path) -> bool:
    """Whether an edit of a file renames the programs."""
    before = programs.fingerprint(REPLAY)
    path.write_bytes(path.read_bytes() + b"# edited\n")
    sources._code.cache_clear()
    return programs.fingerprint(REPLAY) != before


def test_each_file_counts_when_it_makes_a_step_and_else_not(package: Path) -> None:
    """Every file of the package."""
    relative = {path.relative_to(PACKAGE) for path in REACHED.values()}
    for path in sorted(package.rglob("*.py")):
        assert renames(path) == (path.relative_to(package) in relative), path


@pytest.mark.parametrize(
    "name", ["sim/tick.py", "sim/traders/value.py", "readout/step.py", "engine/program/build.py", "numerics/exact.py"]
)
def test_what_makes_a_step_counts(name: str) -> None:
    assert PACKAGE / name in REACHED.values()


@pytest.mark.parametrize(
    "name", ["__init__.py", "engine/__init__.py", "engine/market.py", "cli", "visual/report", "envs", "visual/plots.py"]
)
def test_what_makes_no_step_does_not(name: str) -> None:
    assert (PACKAGE / name).exists()
    assert not [path for path in REACHED.values() if path.is_relative_to(PACKAGE / name)]


def test_code_that_was_edited_after_it_was_loaded_names_no_program_of_others(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process would trace what it has loaded, and another one loads what lies there now."""
    here = programs.fingerprint(REPLAY)
    monkeypatch.setattr(sources, "_LOADED", (package / "sim" / "tick.py").stat().st_mtime - 1.0)
    sources._code.cache_clear()
    edited = programs.fingerprint(REPLAY)
    assert edited != here and edited == programs.fingerprint(REPLAY)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    sources._code.cache_clear()
    assert programs.fingerprint(REPLAY) not in (here, edited)


def test_programs_are_told_apart() -> None:
    assert programs.fingerprint(REPLAY, "a", 1) == programs.fingerprint(REPLAY, "a", 1)
    assert len({programs.fingerprint(REPLAY, *about) for about in (("a", 1), ("a", 2), ("b", 1), ())}) == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr("torch.__version__", "0.0"),
        lambda patch: patch.setattr(sources, "__version__", "0.0"),
        lambda patch: patch.setattr(sources, "FORMAT", 0),
        lambda patch: patch.setitem(sources.OPTIONS, "cpp.threads", 2),
        lambda patch: patch.setattr("sys.platform", "plan9"),
        lambda patch: patch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "ZVECTOR"),
    ],
)
def test_what_else_counts(change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    before = programs.fingerprint(REPLAY)
    change(monkeypatch)
    assert programs.fingerprint(REPLAY) != before


def test_builds_of_torch_and_versions_of_python_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels use neither."""
    before = programs.fingerprint(REPLAY)
    monkeypatch.setattr("torch.__version__", f"{torch.__version__.partition('+')[0]}+another")
    monkeypatch.setattr("sys.version_info", (3, 99, 0))
    assert programs.fingerprint(REPLAY) == before


@pytest.mark.parametrize(
    ("capability", "lacking", "expected"),
    [
        ("AVX512", "", "avx512"),
        ("AVX2", "", "avx2"),
        ("AVX512", "avx512cd", "avx2"),
        ("AVX512", "fma", ""),
        ("DEFAULT", "", ""),
    ],
)
def test_the_instructions_are_what_the_processor_has(
    capability: str, lacking: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isa, "_cpuinfo", lambda: frozenset({*programs.AVX512.flags, "aes"} - {lacking}))
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    monkeypatch.setattr("sys.platform", "linux")
    found = isa.here()
    assert found.name == expected or (not expected and found.march is None and "aes" in found.name.split())
    assert programs.fingerprint(REPLAY) == programs.fingerprint(REPLAY, isa=found)


def test_programs_of_other_instructions_have_other_names() -> None:
    assert len({programs.fingerprint(REPLAY, isa=one) for one in (programs.AVX2, programs.AVX512, isa.Isa("x"))}) == 3
