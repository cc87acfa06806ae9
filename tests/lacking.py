"""What every command does where optional packages are missing; started with a folder to write to, by tests/test_cli.py.

All optional packages are taken away at first. A command that names one gets it back and begins anew, until it is content.
Prints, as JSON, for each command its attempts: exit code, lines of stderr, and the packages that the last line names.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
import traceback
from dataclasses import replace
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import tensordict  # noqa: F401 (what is not optional is loaded once, for all attempts)
import torch
import torchrl.collectors  # noqa: F401
from packaging.requirements import Requirement
from shell import TOY

from torchgym.cli import _COMMANDS, main
from torchgym.training.ladder import TASKS

LESS = {"train": ["--episodes", "0"], "evaluate": ["--policies", "hold"]}


def optional() -> dict[str, set[str]]:
    """The packages of torchgym's extras that it does not always need, by a name they are imported by, and their other names."""
    requirements = [Requirement(text) for text in importlib.metadata.requires("torchgym") or []]
    always = {one.name.lower() for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})}
    extra = {one.name.lower() for one in requirements} - always
    provided = importlib.metadata.packages_distributions()
    names = {
        package: {name for name, makers in provided.items() if package in {maker.lower() for maker in makers}}
        for package in extra
    }
    return {
        min(imported, key=lambda name: name not in package): imported for package, imported in names.items() if imported
    }


class Without:
    """Finds every module but those of some packages."""

    find_distributions = staticmethod(PathFinder.find_distributions)  # whose versions others may ask for

    def __init__(self, missing: set[str]) -> None:
        self.missing = missing
        self.finders = list(sys.meta_path)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.split(".")[0] in self.missing:
            return None
        specs = (finder.find_spec(name, path, target) for finder in self.finders)
        return next((spec for spec in specs if spec is not None), None)


def attempt(command: str, missing: set[str], said: Path) -> int:
    """Exit code of a command in a process that lacks these packages; its stderr goes to a file. 99 for a traceback."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    code = 99
    try:
        with said.open("w") as file, open(os.devnull, "w") as nowhere:
            os.dup2(file.fileno(), 2)
            os.dup2(nowhere.fileno(), 1)
        for name in list(sys.modules):
            if name.split(".")[0] in missing:
                del sys.modules[name]
        sys.meta_path[:] = [Without(missing)]  # type: ignore[list-item]
        code = main([command, *TOY[command], *LESS.get(command, [])])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def attempts(command: str, packages: dict[str, set[str]], said: Path) -> list[dict[str, Any]]:
    missing, made = set(packages), []
    while True:
        code = attempt(command, set().union(*(packages[name] for name in missing)), said)
        lines = said.read_text().splitlines()
        named = missing & set(re.findall(r"\w+", lines[-1])) if lines else set()
        made.append({"code": code, "stderr": lines, "named": sorted(named)})
        if code != 2 or not named:
            return made
        missing -= named


if __name__ == "__main__":
    torch.set_num_threads(1)
    small = {"num_envs": 4, "rollout": 4, "hidden": (4,)}
    TASKS["inventory"] = replace(TASKS["inventory"], market={"max_ticks": 20}, settings=small)
    folder = Path(sys.argv[1])
    os.chdir(folder)
    print(json.dumps({command: attempts(command, optional(), folder / "stderr.txt") for command in _COMMANDS}))
