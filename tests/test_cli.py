"""The `torchgym` command: files written, exit codes, errors in one line."""

from __future__ import annotations

import builtins
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from torchgym import audit, bench, cli, realism
from torchgym.cli import main

SMALL = ["--preset", "toy", "--markets", "2", "--ticks", "400", "--burn-in", "1", "--resamples", "1"]
QUICK = ["--no-impact", "--no-compile", "--no-nulls"]


def test_realism_writes_a_scorecard_and_a_panel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["realism", *SMALL, *QUICK, "--seed", "3", "--output", str(tmp_path)]) == 0
    card = json.loads((tmp_path / "toy" / "scorecard.json").read_text())
    assert (card["name"], card["seed"], card["markets"], card["ticks"]) == ("toy", 3, 2, 400)
    assert [fact["number"] for fact in card["facts"]] == list(range(1, 22))
    assert [null["name"] for null in card["nulls"]] == ["geometric_brownian", "shuffled"]
    assert (tmp_path / "toy" / "panel.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "volatility clustering" in shown
    assert "not applicable" in shown
    assert "null model shuffled" in shown
    assert "S: " in shown


def test_audit_writes_a_table_and_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--preset", "toy", "--episodes", "2", "--ticks", "60", "--no-compile", "--output", str(tmp_path)]
    code = main(["audit", *arguments])
    found = json.loads((tmp_path / "toy" / "audit.json").read_text())
    assert code == (0 if found["passed"] else 1)
    assert found["episodes"] == 2
    assert (tmp_path / "toy" / "audit.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert f"of {len(found['rows'])} policies do what they must" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["realism", "--preset", "nope"], "unknown preset 'nope': choose one of default"),
        (["realism", "--symbols", "0"], "num_symbols must be an integer >= 1, got 0"),
        (["realism", "--preset", "toy", "--ticks", "401"], "ticks >= 400 and a multiple of 4"),
        (["realism", "--device", "abacus"], "device 'abacus' cannot be used"),
        (["audit", "--preset", "nope"], "unknown preset 'nope'"),
        (["audit", "--preset", "toy", "--episodes", "1"], "episodes must be an integer >= 2"),
    ],
)
def test_an_error_is_one_line_and_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--output", str(tmp_path)]) == 2
    told = capsys.readouterr().err.strip()
    assert told.splitlines()[-1].startswith("torchgym: error: ")
    assert message in told


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["realism", *SMALL, *QUICK, "--output", str(tmp_path / "file")]) == 2
    assert "torchgym: error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["realism", "--help"], 0),
        (["bench", "--help"], 0),
        (["bogus"], 2),
        (["realism", "--markets", "x"], 2),
        (["bench", "--cases", "four"], 2),
    ],
)
def test_help_and_bad_arguments(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == code
    capsys.readouterr()


@pytest.mark.parametrize("missing", ["tyro", "rich", "matplotlib"])
def test_a_missing_package_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, missing, raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["realism"]) == 2
    assert capsys.readouterr().err.strip() == f'torchgym: error: {missing} is missing: pip install "torchgym[cli]"'


def test_figures_without_matplotlib_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchgym.plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    with pytest.raises(ImportError, match=r'pip install "torchgym\[plots\]"'):
        importlib.import_module("torchgym.plots")


def test_the_defaults_are_the_librarys() -> None:
    options = cli.Realism()
    assert (options.markets, options.ticks, options.burn_in) == (realism.MARKETS, realism.TICKS, realism.BURN_IN)
    assert (options.seed, options.resamples) == (realism.SEED, realism.RESAMPLES)
    assert cli.Cheats().seed == audit.SEED
    timed, standard = cli.Bench(), bench.Settings()
    for name in ("cases", "preset", "seconds", "device", "compile", "markets", "batches", "traders", "crowd"):
        assert getattr(timed, name) == getattr(standard, name)
