"""What torch's compiler makes of a tick for a GPU, looked at and run without one; `make test-gpu` brings what that needs."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from markets import SHORT

HERE = Path(__file__).resolve().parent
MARKETS = 1_024
LAUNCHES = 90  # of a tick
MOVED = 256 << 10  # bytes of a market-tick

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no triton: make test-gpu installs it"),
]


def python(*words: str) -> str:
    """What a process of its own prints."""
    paths = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-W", "ignore", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3_000:]
    return run.stdout


def compiled(case: str, markets: int, folder: Path, *options: str) -> dict[str, dict[str, Any]]:
    """Each kind of tick of a case."""
    python(str(HERE / "gpu_kernels.py"), str(folder), case, str(markets), *options)
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Two to four minutes: 136 kernels."""
    return compiled("default", MARKETS, tmp_path_factory.mktemp("made"), "--machine-code")


def test_a_tick_is_few_exact_kernels(made: dict[str, dict[str, Any]]) -> None:
    assert list(made) == ["silent", "told"]
    for tick in made.values():
        assert tick["library"] == []
        assert 0 < len(tick["kernels"]) <= tick["launches"] <= LAUNCHES
        assert 0 < tick["held"] < tick["moved"] <= MOVED * MARKETS
        assert {name: kernel["inexact"] for name, kernel in tick["kernels"].items() if kernel["inexact"]} == {}


@pytest.mark.parametrize("kind", ["silent", "told"])
def test_kernels_fit_their_registers(made: dict[str, dict[str, Any]], kind: str) -> None:
    spilled = {name: kernel["spilled"] for name, kernel in made[kind]["kernels"].items()}
    assert {name: count for name, count in spilled.items() if count} == {}


INEXACT = """
import gpu_kernels, torch
from torchgym.engine import program
traced = program.trace(lambda a, b: [a * b + 1.0, a / b], [torch.ones(64, 8), torch.ones(64, 8)])
for options in ({}, gpu_kernels.options(gpu_kernels.GPU)):
    gpu_kernels.options = lambda device: options
    for kernel in gpu_kernels.machine_code(gpu_kernels.source(traced)[0]).values():
        print(*kernel.inexact)
"""


def test_inexact_instructions_are_seen() -> None:
    usual, exact = python("-c", INEXACT).splitlines()
    assert usual.split() == ["div.full.f32", "fma.rn.f32"]
    assert exact == ""


@pytest.mark.parametrize("case", SHORT)
def test_interpreted_kernels_have_the_bits_of_the_uncompiled_tick(case: str, tmp_path: Path) -> None:
    """Two to four minutes of one processor each."""
    assert sorted(compiled(case, 2, tmp_path)) == ["silent", "told"]
    played = json.loads(python(str(HERE / "gpu_interpreter.py"), str(tmp_path), case))
    assert played == {"ticks": 6, "differences": []}
