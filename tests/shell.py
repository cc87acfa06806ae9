"""Runs shell blocks of the pages: torchgym's commands at toy size, and of others what can be known without a network."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import tyro
from extras import extras
from packaging.requirements import Requirement
from pages import ROOT

from torchgym.cli import main

PLAY = ["--episodes", "2"]
FEW = ["--preset", "toy"]
LEARN = ["--max-ticks", "20", "--validations", "1", "--ppo.total-frames", "32", "--ppo.num-envs", "4"]
TOY: dict[str, list[str]] = {
    "train": [
        *FEW,
        *LEARN,
        "--ppo.rollout",
        "4",
        "--ppo.copies",
        "2",
        "--ppo.hidden",
        "4",
        "--episodes",
        "2",
        "--overwrite",
    ],
    "evaluate": [*PLAY, "--overwrite"],
    "report": [],
    "record": [*PLAY, "--ticks", "20"],
    "realism": [
        *FEW,
        "--markets",
        "2",
        "--ticks",
        "400",
        "--burn-in",
        "1",
        "--resamples",
        "1",
        "--no-impact",
        "--no-nulls",
    ],
    "audit": [*FEW, "--episodes", "2", "--ticks", "60"],
    "ladder": [*FEW, "--tasks", "inventory", "--seeds", "2", "--episodes", "2", "--frames", "32"],
    "presets": [],
}
MAY_FAIL = {"audit", "ladder"}  # they tell with 1 that something falls short, as it may at toy size


def run(text: str) -> None:
    """Every command of a block, in its order, in the present folder.

    Raises:
        AssertionError: for a command that fails, or one that is not known here.
    """
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] in COMMANDS, f"nobody runs {words[0]!r} of: {line}"
            COMMANDS[words[0]](words[1:])


def toy(words: list[str]) -> list[str]:
    """The arguments of a torchgym command with options behind them that make it small; the last of an option counts."""
    if "--resume" in words:
        return [*words, *PLAY]
    if "--run" in words:  # the run has decided how long an episode is
        return [*words, *PLAY]
    if "--data" in words:  # the file has decided how many ticks there are
        write_bars(Path(words[words.index("--data") + 1]))
        return [*words, *FEW, "--markets", "2", "--burn-in", "1"]
    return [*words, *TOY[words[0]]]


def write_bars(path: Path) -> None:
    """A file of prices as a reader would have it: a random walk of 501 days."""
    prices = np.exp(np.cumsum(0.01 * np.random.default_rng(0).standard_normal(501)))
    days = np.datetime64("2022-01-01") + np.arange(501)
    rows = [f"{day},{price:.6f}\n" for day, price in zip(days, prices, strict=True)]
    path.write_text("time,close\n" + "".join(rows), encoding="utf-8")


def torchgym(words: list[str]) -> None:
    code = main(toy(words))
    assert code == 0 or (words[0] in MAY_FAIL and code == 1), f"torchgym {shlex.join(words)} gave {code}"


def torchrun(words: list[str]) -> None:
    at = words.index("torchgym")
    assert words[at - 1] == "-m"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", *words[: at + 1], *toy(words[at + 1 :])]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr


def pip(words: list[str]) -> None:
    """Nothing is installed: the extras that are asked for must be torchgym's."""
    assert words[0] == "install"
    asked_for = [
        word.replace(".[", "torchgym[") for word in words[1:] if word not in ("--constraint", "constraints.txt")
    ]
    for asked in map(Requirement, asked_for):
        assert asked.name != "torchgym" or asked.extras <= extras(), f"{asked} asks for an extra that is not there"


def make(words: list[str]) -> None:
    """Nothing is made: the target must be there."""
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def python(words: list[str]) -> None:
    """Code runs; of a file the options are read (tests/test_examples.py runs them all)."""
    if words[0] == "-c":
        exec(compile(words[1], "python -c", "exec"), {"__name__": "__main__"})
        return
    tyro.cli(load(words[0]).Args, args=words[1:])


def load(file: str) -> ModuleType:
    path = ROOT / file
    spec = importlib.util.spec_from_file_location(f"shown_{path.stem}", path)
    assert spec is not None and spec.loader is not None, f"there is no {file}"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "torchgym": torchgym,
    "torchrun": torchrun,
    "pip": pip,
    "make": make,
    "python": python,
}
