"""`compile=True` where compiling fails, in whatever way: one line says so, and steps go on with the same bits."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from markets import differences, opened, random_actions, seen, toy

from torchgym import Market
from torchgym.engine import graph, replay
from torchgym.engine.program import NotRecordable

CONFIG = toy()
FAILURES = [
    AttributeError("module 'torch._inductor.compile_fx' has no attribute 'compile_fx_inner'"),
    ImportError("cannot import name 'compile_fx_inner'"),
    KeyError("cpp.threads"),
    MemoryError(),
    OSError(28, "No space left on device"),
    RuntimeError("C++ compile error\n\nCommand:\ng++ ... pages of it"),
    TypeError("export() got an unexpected keyword argument 'strict'"),
    ValueError("too many values to unpack"),
    AssertionError(),
]


def play(market: Market) -> list[dict[str, Any]]:
    """Whole and partial resets, steps with and without a mask."""
    results = [market.reset()]
    for at, action in enumerate(random_actions(CONFIG, 6, 3)):
        results.append(market.step(action, mask=torch.tensor([True, False, True]) if at == 2 else None))
        if at == 3:
            results.append(market.reset(mask=torch.tensor([False, True, True])))
    return [seen(result) for result in results]


@functools.cache
def uncompiled() -> list[dict[str, Any]]:
    return play(Market(CONFIG, 3, seed=4))


def assert_same_play(market: Market) -> None:
    for one, other in zip(play(market), uncompiled(), strict=True):
        assert differences(one, other) == []


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("prepared", [False, True])
def test_steps_go_on_uncompiled(
    failure: Exception, prepared: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise failure

    monkeypatch.setattr(replay, "program", fail)
    market = Market(CONFIG, 3, seed=4, compile=True)
    if prepared:
        market.prepare()
    assert_same_play(market)
    assert not market.compile
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"torchgym: uncompiled from now on, with the same numbers: {type(failure).__name__}")


def test_torch_compile_may_fail_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise NotRecordable("made up") if len(arguments) == 4 else RuntimeError("out of registers")

    monkeypatch.setattr(replay, "program", fail)
    monkeypatch.setattr(graph, "compile_graph", lambda function, device: fail)
    assert_same_play(Market(CONFIG, 3, seed=4, compile=True))
    first, second = capsys.readouterr().err.splitlines()
    assert "steps go through torch.compile, which is slower" in first and "made up" in first
    assert "uncompiled from now on" in second and "out of registers" in second


def test_an_interruption_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(replay, "program", interrupt)
    market = Market(CONFIG, 3, seed=4, compile=True)
    with pytest.raises(KeyboardInterrupt):
        market.reset()
    assert market.compile and not market.opened


def test_a_program_that_failed_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: the next market of the kind does not wait for the same failure."""
    tried: list[object] = []

    def fail(name: str, make: object) -> None:
        tried.append(make)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(replay.programs, "obtain", fail)
    monkeypatch.setattr(replay, "_failed", {})
    monkeypatch.setattr(replay, "_known", {})
    for _ in range(3):
        assert_same_play(Market(CONFIG, 3, seed=4, compile=True))
    assert len(tried) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all("No space left on device" in line for line in lines)


_STEP = """
import torchgym as tg
market = tg.Market(tg.preset("toy"), 1, seed=4, compile=True)
market.reset()
print(market.step().observation.sum().item().hex(), market.compile)
"""


@pytest.mark.parametrize(
    "lacking",
    [
        {"PATH": "/nowhere", "CXX": "no-such-compiler"},
        {"CXX": "/bin/false"},
    ],
)
def test_a_machine_without_a_compiler(lacking: dict[str, str], tmp_path: Path) -> None:
    """In a fresh process and a fresh cache: one line, and the numbers of a plain step."""
    environment = {
        **os.environ,
        "TORCHGYM_CACHE_DIR": str(tmp_path / "programs"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"),
        "OMP_NUM_THREADS": "1",
        **lacking,
    }
    done = subprocess.run([sys.executable, "-c", _STEP], env=environment, capture_output=True, text=True, check=True)
    market = opened(CONFIG, 1, seed=4)
    assert done.stdout.split() == [market.step().observation.sum().item().hex(), "False"]
    assert [line for line in done.stderr.splitlines() if "uncompiled from now on" in line]
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "programs").glob("*")) == []
