"""Runs the quick tests on each Python that a wheel of torch can be had for, and on the oldest versions that are admitted.

    python tests/versions.py                              # Python 3.10 to 3.13, then the oldest versions of all packages
    python tests/versions.py --only 3.12 oldest           # some of them
    python tests/versions.py -- -n 2 tests/test_faces.py  # what follows -- is for pytest

Each run has a virtual environment of its own in .venv-versions/, made where it is missing: with the versions of constraints.txt,
or, named "oldest", with the lower bounds of pyproject.toml on the oldest Python that it admits. A Python outside
`requires-python` is tried as well, since only what has run is promised there.

pip is asked first which torch it would take. Where that is a CUDA build, gigabytes with all that it brings, or where there is
none, the Python is skipped; --cuda takes CUDA builds, too. One line tells the result of each run. The exit code is 1 if a run
failed or none took place.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv-versions"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
OLDEST = "oldest"
EXTRA = "dev"  # what the tests need
# Old releases use newer packages in ways that those have deprecated since.
FORGIVEN = ("-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning")


class Skipped(Exception):
    """A run cannot take place here; says why."""


class Failed(Exception):
    """A run could not be prepared, or its tests did not pass; says why."""


@dataclass(frozen=True)
class Torch:
    """The build of torch that pip would install, with the packages of NVIDIA that it brings."""

    version: str
    nvidia: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for, and tell the results."""
    args = parsed(arguments)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    results: dict[str, str] = {}
    passed = failed = 0
    for number, name in enumerate(args.only, start=1):
        start = time.monotonic()
        tell(f"{name}: run {number} of {len(args.only)}")
        try:
            run(name, project, args)
            passed += 1
            results[name] = f"passed in {(time.monotonic() - start) / 60:.1f} min"
        except Skipped as reason:
            results[name] = f"skipped: {reason}"
        except Failed as reason:
            failed += 1
            results[name] = f"failed: {reason}"
        tell(f"{name}: {results[name]}")
    print()
    for name, result in results.items():
        print(f"{name:<6} {result}")
    if not passed and not failed:
        print("nothing was run")
    return int(failed > 0 or passed == 0)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line: `only`, `cuda`, `pip_args` and `pytest_args`."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="What follows -- is for pytest: -- -n 2 tests/test_faces.py"
    )
    every = (*PYTHONS, OLDEST)
    parser.add_argument("--only", nargs="+", choices=every, default=every, help="runs to make (default: all)")
    parser.add_argument("--cuda", action="store_true", help="take CUDA builds of torch, gigabytes each, as well")
    parser.add_argument("--pip-args", type=shlex.split, default=[], help='options of pip install: "--find-links DIR"')
    parser.add_argument("pytest_args", nargs="*", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def run(name: str, project: Mapping[str, Any], args: argparse.Namespace) -> None:
    """One run, from the search for its interpreter to the end of its tests.

    Raises:
        Skipped: when there is no interpreter, or no torch to be had for it.
        Failed: when a command fails.
    """
    if name == OLDEST:
        version, constraints = oldest_python(project["requires-python"]), FOLDER / "oldest.txt"
        FOLDER.mkdir(exist_ok=True)
        constraints.write_text("".join(f"{line}\n" for line in lower_bounds(project)), encoding="utf-8")
    else:
        version, constraints = name, ROOT / "constraints.txt"
    interpreter = find(version)
    if interpreter is None:
        raise Skipped(f"no Python {version} on the PATH or with pyenv")
    options = ["--disable-pip-version-check", *args.pip_args, "--constraint", str(constraints)]
    torch = ask(interpreter, options, next(line for line in project["dependencies"] if parts(line)[0] == "torch"))
    if torch.nvidia and not args.cuda:
        raise Skipped(f"no CPU wheel of torch: pip would take a CUDA build of {torch.version}, see --cuda")
    python = install(name, interpreter, options, [f"torch=={torch.version}", *needed(project)])
    tell(f"{name}: testing with torch {torch.version} on {interpreter}")
    command = [str(python), "-m", "pytest", "-m", "not slow", *(FORGIVEN if name == OLDEST else ()), *args.pytest_args]
    # As in the Makefile: threads gain nothing in the small tensors of the tests, and workers would fight over the cores.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    code = subprocess.run(command, cwd=ROOT, env=environment).returncode
    if code:
        raise Failed("pytest found no test" if code == 5 else f"pytest ended with {code}")


def parts(requirement: str) -> tuple[str, list[str], str, str]:
    """Name, extras, specifiers and marker of a requirement.

    >>> parts('gymnasium[array-api]>=1.1,<2 ; python_version >= "3.11"')
    ('gymnasium', ['array-api'], '>=1.1,<2', 'python_version >= "3.11"')
    """
    plain, _, marker = requirement.partition(";")
    match = re.fullmatch(r"([\w.-]+)\s*(?:\[(.*?)\])?(.*)", plain.strip())
    if match is None:
        raise ValueError(f"no requirement: {requirement!r}")
    name, extras, specifiers = match.groups(default="")
    return name, [extra.strip() for extra in extras.split(",") if extra], specifiers.strip(), marker.strip()


def requirements(project: Mapping[str, Any], extra: str = "") -> Iterator[str]:
    """What an extra of the project needs of others, or without one the project itself; extras that it names are followed."""
    for requirement in project["optional-dependencies"][extra] if extra else project["dependencies"]:
        name, extras, _, _ = parts(requirement)
        if name == project["name"]:
            for named in extras:
                yield from requirements(project, named)
        else:
            yield requirement


def needed(project: Mapping[str, Any]) -> list[str]:
    """All that the tests need."""
    return list(dict.fromkeys((*requirements(project), *requirements(project, EXTRA))))


def lower_bounds(project: Mapping[str, Any]) -> list[str]:
    """Constraints that pin everything that the tests need to the oldest version admitted.

    Raises:
        ValueError: when a package has no lower bound, or two different ones.
    """
    bounds: dict[str, set[str]] = {}
    for requirement in needed(project):
        name, _, specifiers, marker = parts(requirement)
        pins = {
            f"{name}=={bound}" + (f" ; {marker}" if marker else "")
            for bound in re.findall(r">=\s*([\w.]+)", specifiers)
        }
        bounds.setdefault(name, set()).update(pins)
    for name, pins in bounds.items():
        if len(pins) != 1:
            raise ValueError(f"{name} should have one lower bound, not {len(pins)}: {sorted(pins)}")
    return sorted((pin for pins in bounds.values() for pin in pins), key=str.lower)


def oldest_python(requires: str) -> str:
    """The oldest Python that `requires-python` admits.

    >>> oldest_python(">=3.11,<3.12")
    '3.11'
    """
    bound = re.search(r">=\s*(3\.\d+)", requires)
    if bound is None:
        raise ValueError(f"requires-python has no lower bound: {requires!r}")
    return bound[1]


def find(version: str) -> Path | None:
    """The interpreter of a version such as "3.12", from the PATH or from pyenv."""
    candidates = [shutil.which(f"python{version}")]
    if pyenv := shutil.which("pyenv"):
        # On the PATH pyenv has a stand-in for every version it knows, which works only for those that are switched on.
        result = subprocess.run([pyenv, "prefix", version], capture_output=True, text=True)
        candidates.append(
            shutil.which("python", path=str(Path(result.stdout.strip(), "bin"))) if result.stdout else None
        )
    for candidate in filter(None, candidates):
        ask_version = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
        result = subprocess.run([candidate, "-c", ask_version], capture_output=True, text=True)
        its_version, _, path = result.stdout.strip().partition(" ")
        if result.returncode == 0 and its_version == version:
            return Path(path)
    return None


def ask(interpreter: Path, options: Sequence[str], requirement: str) -> Torch:
    """The torch that pip would take; nothing is installed.

    Raises:
        Skipped: when there is none.
        Failed: when pip can't tell.
    """
    dry = ["--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    result = subprocess.run(
        [str(interpreter), "-m", "pip", "install", *options, *dry, requirement], capture_output=True, text=True
    )
    if result.returncode:
        if "No matching distribution found for torch" in result.stderr:
            raise Skipped(f"no wheel of {requirement}")
        raise Failed(f"pip could not tell which torch it would take: {last_error(result.stderr)}")
    return chosen(json.loads(result.stdout))


def chosen(report: Mapping[str, Any]) -> Torch:
    """The torch of an installation report of pip.

    Raises:
        Failed: when the report names none.
    """
    versions = {item["metadata"]["name"].lower(): item["metadata"]["version"] for item in report["install"]}
    if "torch" not in versions:
        raise Failed("pip's report names no torch")
    return Torch(versions["torch"], tuple(sorted(name for name in versions if name.startswith("nvidia-"))))


def install(name: str, interpreter: Path, options: Sequence[str], wanted: Sequence[str]) -> Path:
    """The interpreter of a run's environment, which has what is wanted, and torchgym from this folder.

    Raises:
        Failed: when a command fails.
    """
    folder = FOLDER / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        tell(f"{name}: making {folder.relative_to(ROOT)} with {interpreter}")
        quietly(str(interpreter), "-m", "venv", "--clear", str(folder))
    tell(f"{name}: installing what the tests need, some minutes the first time")
    pip = (str(python), "-m", "pip", "install", "--quiet", *options)
    quietly(*pip, *wanted)
    # By itself, since pip would refuse a Python that pyproject.toml does not admit yet.
    quietly(*pip, "--no-deps", "--ignore-requires-python", "--editable", str(ROOT))
    return python


def quietly(*words: str) -> None:
    """Run a command whose output matters only if it fails."""
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        print(result.stdout + result.stderr, file=sys.stderr)
        raise Failed(f"{shlex.join(words[1:4])}: {last_error(result.stderr)}")


def last_error(text: str) -> str:
    """The last line of a command's messages that tells an error, or else the last line."""
    written = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    return next((line for line in reversed(written) if line.startswith("ERROR")), written[-1])


def tell(line: str) -> None:
    """What is being done, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
