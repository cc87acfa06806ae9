"""The benchmark for a GPU, as far as it goes without one: its cases on the CPU, its rows, the capture of a pretended graph."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gpu
import pytest
import torch
from gpu import COLUMNS, MARKETS, STAGES, bits, plan, speed
from markets import toy

from torchgym import Market

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def few_traders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu.MARKETS, "default", toy(max_ticks=1_000))  # type: ignore[arg-type]


def test_bits_are_compared() -> None:
    (row,) = bits(CPU, "default", 3, False)
    assert row == {
        "case": "default",
        "markets": 3,
        "mode": "eager",
        "measure": "tensors that differ",
        "value": 0,
        "note": "",
    }


def test_other_bits_are_noticed() -> None:
    here, there = (Market(toy(reward=reward, ticks_per_action=2, max_ticks=12), 3) for reward in ("pnl", "log_return"))
    found = set(gpu._differing(here, there))
    assert "floats" in found and "observation" not in found and not any("book" in name for name in found)


def test_speed_is_measured() -> None:
    rows = list(speed(CPU, "default", 2, False, seconds=1e-3))
    assert [row["measure"] for row in rows] == ["steps", "steps by Market.step, which checks actions"]
    for row in rows:
        assert isinstance(row["value"], float) and row["low"] <= row["value"] <= row["high"]  # type: ignore[operator]
        assert (row["unit"], row["mode"], row["markets"]) == ("market-steps/s", "eager", 2)


@pytest.mark.parametrize("kind", ["collected", "trained"])
def test_a_ppo_is_measured(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu.MARKETS, "Trading", toy(scaling="relative"))  # type: ignore[arg-type]
    rows = list(gpu.KINDS[kind](CPU, "Trading", 2, False, rollout=4))
    assert all(row["unit"] == "decisions/s" and row["value"] > 0 for row in rows)  # type: ignore[operator]
    assert len(rows) == (2 if kind == "collected" else 1)


def test_every_stage_has_cases_that_exist() -> None:
    for device in ("cpu", "cuda"):
        for stage in STAGES:
            cases = plan(stage, device)
            assert cases and all(kind in gpu.KINDS and case in MARKETS for kind, case, _ in cases)
    assert [size for _, case, size in plan("speed", "cuda") if case == "default"][:4] == [16_384, 65_536, 1_024, 1]
    assert sum(STAGES.values()) <= 1_200 and max(STAGES.values()) < 600


def test_an_older_torch_is_asked_for_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu.graph.EXACT, "newer_option", True)
    monkeypatch.setattr(gpu.graph, "compile_graph", gpu.graph.compile_graph)
    monkeypatch.setattr(torch, "compile", lambda graph, fullgraph, dynamic, options: (graph, options))
    assert gpu.suit_torch() == ["newer_option", "isolate_recompiles"]
    assert gpu.graph.compile_graph(abs, torch.device("cuda")) == (abs, {**gpu.graph.EXACT, **gpu.graph.TUNED})
    assert "newer_option" not in gpu.graph.EXACT and len(gpu.graph.EXACT) == 3


SLOW = """
import json, sys, time
markets = int(sys.argv[4])
print("ROW " + json.dumps({"device": "a GPU", "case": "default", "markets": markets}), flush=True)
time.sleep(0 if markets == 2 else 60)
"""


def test_rows_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, of which the second one is too slow."""
    monkeypatch.setattr(gpu, "plan", lambda *_: [("bits", "default", 2), ("bits", "default", 3)])
    monkeypatch.setattr(gpu, "__file__", str(tmp_path / "child.py"))
    (tmp_path / "child.py").write_text(SLOW)
    table = tmp_path / "gpu.csv"
    assert gpu.main(["bits", "--device", "cpu", "--csv", str(table), "--seconds", "4"]) == 0
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["device"], row["stage"], row["case"], row["markets"]) for row in rows] == [
        ("a GPU", "bits", "default", "2"),
        ("a GPU", "bits", "default", "3"),
    ]
    assert set(COLUMNS) < set(rows[0])


def test_a_case_that_fails_is_a_row(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Iterator[gpu.Row]:
        yield {"measure": "steps", "mode": "compiled"}
        raise MemoryError("out of it")

    monkeypatch.setitem(gpu.KINDS, "speed", broken)  # type: ignore[arg-type]
    assert gpu.main(["--child", "speed", "default", "2", "--device", "cpu"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "torch lacks" not in first
    assert '"steps"' in first and '"failed"' in second and "MemoryError: out of it" in second


def test_the_command(tmp_path: Path) -> None:
    """Without time nothing is measured, which it says."""
    run = subprocess.run(
        ["benchmarks/gpu.sh", "speed", "--device", "cpu", "--seconds", "0.001", "--csv", str(tmp_path / "gpu.csv")],
        cwd=ROOT,
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0 and "speed: no time left for speed of default, 2 markets" in run.stderr, run.stderr
    assert not (tmp_path / "gpu.csv").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["bits"]) == 2
    assert "sees no CUDA device: --device cpu tries it out" in capsys.readouterr().err
