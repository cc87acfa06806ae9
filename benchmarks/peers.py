"""What a user would pick instead, timed in the same run: simulators and environments from PyPI, and torchgym if asked for.

    python benchmarks/peers.py                                # about three minutes on one core, once all is installed
    python benchmarks/peers.py --peers torchrl bourse
    python benchmarks/peers.py --torchgym                     # and torchgym, which compiles for a minute or two

Each peer runs in a virtual environment of its own, with pinned versions, made where it is missing. Where pip would fetch torch
for CUDA, set `PIP_EXTRA_INDEX_URL` to PyTorch's index of CPU wheels (see the Makefile). What a step of a peer contains differs
widely, and each row says it. Rows are appended to the CSV file; a peer that fails is named with the reason, and the others go on.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import tyro
from rows import append, tell

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = Path(__file__).resolve().parent / "peers"


@dataclass(frozen=True)
class Peer:
    script: str
    requirements: tuple[str, ...]
    constraints: Path | None = ROOT / "constraints.txt"
    """of everything else that the requirements bring"""


Name = Literal["gym-trading-env", "torchrl", "pams", "bourse"]
PEERS: dict[str, Peer] = {
    "gym-trading-env": Peer(
        "time_gym_trading_env.py", ("gym-trading-env==0.3.5", "gymnasium==1.4.0", "pandas", "numpy")
    ),
    "torchrl": Peer("time_torchrl.py", ("torch==2.13.0", "torchrl==0.14.1", "tensordict==0.14.3", "numpy")),
    "pams": Peer("time_pams.py", ("pams==0.3.0", "numpy==1.26.4", "scipy==1.17.1"), constraints=None),
    "bourse": Peer("time_bourse.py", ("bourse==0.4.0", "numpy", "pandas")),
}

COLUMNS = (
    *(
        "date",
        "commit",
        "device",
        "python",
        "torch",
        "threads",
        "clock",
        "peer",
        "version",
        "case",
        "markets",
        "traders",
    ),
    *("unit", "median", "low", "high", "noise", "contains", "command"),
)


@dataclass
class Args:
    peers: tuple[Name, ...] = get_args(Name)
    """which; none is allowed, for torchgym alone"""
    torchgym: bool = False
    """torchgym too, with the interpreter that runs this"""
    compile: bool = True
    """torchgym's steps"""
    venvs: Path = ROOT / ".venv-peers"
    """folder of the virtual environments, and of the logs"""
    threads: int = 1
    seconds: float = 1.0
    """of a repeat, at least"""
    repeats: int = 5
    clock: Literal["wall", "cpu"] = "wall"
    """seconds of processor time ("cpu") are the ones to trust where others use the same cores"""
    timeout: float = 900.0
    """seconds that a peer's script may take"""
    output: Path | None = None


class Failed(Exception):
    """A peer could not be installed or run; says why."""


def main(args: Args) -> int:
    """Measure, write and print; the number of peers that failed."""
    if not args.peers and not args.torchgym:
        raise SystemExit("nothing to measure: name --peers, or ask for --torchgym")
    if args.output is not None:
        check_columns(args.output)
    options = ["--seconds", args.seconds, "--repeats", args.repeats, "--threads", args.threads, "--clock", args.clock]
    shared = [str(option) for option in options]
    rows: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    for name in dict.fromkeys((*args.peers, *(["torchgym"] * args.torchgym))):
        log = args.venvs.resolve() / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
        try:
            if name == "torchgym":
                compiled = "--compile" if args.compile else "--no-compile"
                command = [sys.executable, str(SCRIPTS / "time_torchgym.py"), *shared, compiled]
            else:
                python = install(name, PEERS[name], args.venvs.resolve() / name, log)
                command = [str(python), str(SCRIPTS / PEERS[name].script), *shared]
            figures = measure(name, command, args, log)
            rows += [row(figure, args) for figure in figures]
        except Failed as failure:
            failures[name] = str(failure)
            tell(f"{name}: failed, {failure}; all of it in {log}")
    if args.output is not None and rows:
        append(args.output, COLUMNS, rows)
        tell(f"{len(rows)} rows added to {args.output}")
    if rows:
        print(table(rows))
    for name, reason in failures.items():
        print(f"{name} left out: {reason}")
    return len(failures)


def install(name: str, peer: Peer, folder: Path, log: Path) -> Path:
    """The peer's interpreter, in a virtual environment that is made or brought up to date where it is not.

    Raises:
        Failed: when pip does not find or cannot install what is asked for.
    """
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "requirements.txt"  # written last: tells a whole environment from a half-made or an outdated one
    wanted = "\n".join(peer.requirements) + "\n" + (peer.constraints.read_text() if peer.constraints else "")
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    tell(f"{name}: installing {' '.join(peer.requirements)} into {folder}")
    if not python.exists():
        shutil.rmtree(folder, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(folder)], log)
    # Wheels alone: building from source takes compilers and many minutes.
    command = [str(python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *peer.requirements]
    constraints = ["--constraint", str(peer.constraints)] if peer.constraints else []
    run([*command, *constraints], log, timeout=1800.0)
    stamp.write_text(wanted)
    return python


def measure(name: str, command: Sequence[str], args: Args, log: Path) -> list[dict[str, Any]]:
    """The figures that a script prints, one line of JSON each.

    Raises:
        Failed: when it fails, or prints none.
    """
    tell(f"{name}: measuring")
    start = time.perf_counter()
    figures = [
        json.loads(line) for line in run(command, log, args.threads, args.timeout).splitlines() if line[:1] == "{"
    ]
    if not figures:
        raise Failed("no figure was printed")
    tell(f"{name}: {len(figures)} figures after {time.perf_counter() - start:.0f} s")
    return figures


def run(command: Sequence[str], log: Path, threads: int = 1, timeout: float = 600.0) -> str:
    """What the command prints; what it complains of goes to the log.

    Raises:
        Failed: when it cannot start, exits with an error or takes too long.
    """
    places = {"PYTHONPATH": str(ROOT)} if command[0] == sys.executable else {}
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        done = subprocess.run(
            command, env=kept | places | counts, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{shlex.join(command[1:3])} took longer than {timeout:,.0f} s") from None
    except OSError as error:
        raise Failed(f"{command[0]} did not start: {error}") from error
    with log.open("a") as file:
        file.write(f"$ {shlex.join(command)}\n{done.stdout}{done.stderr}\n")
    if done.returncode != 0:
        raise Failed(reason(done.stderr or done.stdout) or f"exit code {done.returncode}")
    return done.stdout


def reason(told: str) -> str:
    """The line that says why: pip's first error, else the last line."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return errors[0] if errors else lines[-1] if lines else ""


def row(figure: dict[str, Any], args: Args) -> dict[str, Any]:
    known = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "device": device_name(),
        "threads": args.threads,
        "clock": args.clock,
        "command": command_line(figure, args),
    }
    return {name: (known | figure)[name] for name in COLUMNS}


def command_line(figure: dict[str, Any], args: Args) -> str:
    """What measures the row again."""
    if figure["peer"] == "torchgym":
        which = "--peers --torchgym" + (" --no-compile" if "eager" in figure["case"] else "")
    else:
        which = f"--peers {figure['peer'] if figure['peer'] in PEERS else 'torchrl'}"
    return f"python benchmarks/peers.py {which} --threads {args.threads} --clock {args.clock}"


def commit() -> str:
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def device_name() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()


def table(rows: Sequence[dict[str, Any]]) -> str:
    heads = ("peer", "version", "case", "markets", "median", "low", "high", "unit", "noise")
    cells = [
        [f"{row[head]:,.0f}" if isinstance(row[head], float) else f"{row[head]}" for head in heads] for row in rows
    ]
    for entry, cell in zip(rows, cells, strict=True):  # a handful per second deserves a decimal
        if entry["median"] < 100:
            cell[4:7] = [f"{entry[head]:.1f}" for head in heads[4:7]]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]

    def line(texts: Sequence[str]) -> str:
        return "  ".join(
            text.rjust(width) if head in ("markets", "median", "low", "high") else text.ljust(width)
            for head, text, width in zip(heads, texts, widths, strict=True)
        ).rstrip()

    contents = [f"  {name}: {text}" for name, text in dict.fromkeys((row["peer"], row["contains"]) for row in rows)]
    return "\n".join([line(heads), *map(line, cells), "", "A step of one market:", *contents])


def check_columns(path: Path) -> None:
    """Refuse at once, before anything is measured, a file that the rows would not fit.

    Raises:
        SystemExit: naming the file.
    """
    if path.exists():
        with path.open(newline="") as file:
            if next(csv.reader(file), None) != list(COLUMNS):
                raise SystemExit(
                    f"{path} has other columns than {', '.join(COLUMNS)}: move it away or name another --output"
                )


if __name__ == "__main__":
    sys.exit(min(1, main(tyro.cli(Args, description=__doc__))))
