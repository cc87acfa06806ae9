"""What commands and imports do where optional packages are missing; started by tests/test_cli.py and tests/test_extras.py.

With a folder to write to: all optional packages are taken away from every command at first. A command that names one gets it
back and begins anew, until it is content. Prints, as JSON, for each command its attempts: exit code, lines of stderr, and the
packages that the last line names.

Without: reads, as JSON, pairs of missing packages and pieces of code. Prints, as JSON, for each pair the error of each piece, or
null.
"""

from __future__ import annotations

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
from extras import optional
from shell import TOY

from torchgym.cli import _COMMANDS, main
from torchgym.training.ladder import TASKS

LESS = {"train": ["--episodes", "0"], "evaluate": ["--policies", "hold"]}


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


def forget(packages: set[str]) -> None:
    """As if nothing had imported them."""
    for name in list(sys.modules):
        if name.split(".")[0] in packages:
            del sys.modules[name]


def take_away(missing: set[str]) -> None:
    forget(missing)
    sys.meta_path[:] = [Without(missing)]  # type: ignore[list-item]


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
        take_away(missing)
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


def errors(missing: set[str], pieces: list[str]) -> list[str | None]:
    """What each piece of code raises in a process that lacks these packages and has not yet imported torchgym."""
    reader, writer = os.pipe()
    process = os.fork()
    if process:
        os.close(writer)
        with os.fdopen(reader) as file:
            found: list[str | None] = json.load(file)
        os.waitpid(process, 0)
        return found
    raised: list[str | None] = []
    forget({"torchgym"})
    take_away(missing)
    for piece in pieces:
        try:
            exec(piece, {})
            raised.append(None)
        except Exception as error:
            raised.append(f"{type(error).__name__}: {error}")
    with os.fdopen(writer, "w") as file:
        json.dump(raised, file)
    os._exit(0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) == 1:
        cases = json.load(sys.stdin)
        print(json.dumps([errors(set(missing), pieces) for missing, pieces in cases]))
        sys.exit()
    small = {"num_envs": 4, "rollout": 4, "hidden": (4,)}
    TASKS["inventory"] = replace(TASKS["inventory"], market={"max_ticks": 20}, settings=small)
    folder = Path(sys.argv[1])
    os.chdir(folder)
    print(json.dumps({command: attempts(command, optional(), folder / "stderr.txt") for command in _COMMANDS}))
