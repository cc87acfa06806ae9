"""Optional packages: what is missing is one line with the command that installs it, and install lines bring what is shown."""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from extras import brought, imported, optional
from pages import PAGES, ROOT, blocks, name_of

import torchgym

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks processes")

MISSING = re.compile(r'ModuleNotFoundError: [^\n]+ needs? (\w+): pip install "(torchgym\[\w+\])"')


def errors(cases: list[tuple[list[str], list[str]]]) -> list[list[str | None]]:
    """What pieces of code raise where packages are missing, each case in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "lacking.py")],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
    )
    assert done.returncode == 0, done.stderr
    found: list[list[str | None]] = json.loads(done.stdout)
    return found


def test_a_missing_package_is_one_line_wherever_it_is_asked_for() -> None:
    """Every module without each optional package. Those of the command are imported after `main` has asked for its packages."""
    walked = pkgutil.walk_packages(torchgym.__path__, "torchgym.", onerror=lambda name: None)
    modules = [module.name for module in walked if not module.name.startswith(("torchgym.cli.", "torchgym.__main__"))]
    packages = {name: names for name, names in optional().items() if names <= imported(brought("torchgym[all]"))}
    told = errors([(sorted(names), [f"import {module}" for module in modules]) for names in packages.values()])
    asked_for = set()
    for name, raised in zip(packages, told, strict=True):
        for module, error in zip(modules, raised, strict=True):
            if error is not None:
                match = MISSING.fullmatch(error)
                assert match, f"{module} without {name}: {error}"
                assert match[1] in packages[name] <= imported(brought(match[2])), f"{module} without {name}: {error}"
                asked_for.add(name)
    assert asked_for == {"matplotlib", "plotly", "pyarrow", "skrl", "stable_baselines3"}


def imports(code: str) -> str:
    """The imports of a piece of code, and what it takes from torchgym itself, which loads when it is first touched."""
    nodes = list(ast.walk(ast.parse(code)))
    lines = [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("tg", "torchgym"):
            lines.append(ast.unparse(node))
    return "\n".join(line for line in lines if "__future__" not in line)


def installs(text: str) -> list[str]:
    """What the install lines of a text name."""
    lines = re.findall(r"pip install ([^`\n#]+)", text)
    words = [word.strip("\"'") for line in lines for word in line.split() if not word.startswith("-")]
    return [word for word in words if word != "constraints.txt"]


def shown() -> Iterator[tuple[str, list[str], list[str]]]:
    """Where code is shown, what its install lines bring, and its imports."""
    start = installs((ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        code = [imports(block.text) for block in blocks(page) if block.language == "python"]
        for file in re.findall(r"^python (examples/\w+\.py)", text, flags=re.MULTILINE):
            code.append(imports((ROOT / file).read_text(encoding="utf-8")))
        yield name_of(page), installs(text) if name_of(page) == "README.md" else [*start, *installs(text)], code
        if name_of(page) == "README.md":
            (line,) = re.findall(
                r"\.stamp-train: .*\n\t\$\(PIP_INSTALL\) --editable '(.*)'", (ROOT / "Makefile").read_text()
            )
            yield "README.md, in the environment of make train", [line], code
    for example in sorted((ROOT / "examples").glob("*.py")):
        text = example.read_text(encoding="utf-8")
        yield example.name, installs(text) or start, [imports(text)]


def test_install_lines_bring_what_is_shown() -> None:
    everything = optional(deep=True)
    cases: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for place, words, code in shown():
        there = imported(brought("torchgym", *words))
        missing = sorted(name for names in everything.values() if not names & there for name in names)
        cases.setdefault(tuple(missing), []).extend(
            (f"{place} after pip install {' '.join(words)}", piece) for piece in code
        )
    assert all("pytest" in missing for missing in cases) and len(cases) > 3
    told = errors([(list(missing), [code for _, code in pieces]) for missing, pieces in cases.items()])
    for pieces, raised in zip(cases.values(), told, strict=True):
        for (place, code), error in zip(pieces, raised, strict=True):
            assert error is None, f"{place}: {error}\n{code}"
