"""The `torchgym` command: files written, exit codes, errors in one line."""

from __future__ import annotations

import csv
import importlib
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from extras import brought, imported
from matplotlib.figure import Figure
from shell import MAY_FAIL, TOY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from torchgym import PRESETS, MarketConfig, task
from torchgym.cli import _COMMANDS, main
from torchgym.cli.agents import Evaluate, Ladder
from torchgym.cli.markets import Cheats, Realism
from torchgym.cli.output import command_line, interruptible
from torchgym.config import task_presets
from torchgym.engine import Market, stepper
from torchgym.lab import audit, performance, realism
from torchgym.recording import read_config
from torchgym.training import PPOSettings, Trainer, load_agent
from torchgym.training.ladder import TASKS, Plan
from torchgym.version import __version__

pytestmark = pytest.mark.kept

SMALL = ["--preset", "toy", "--markets", "2", "--ticks", "400", "--burn-in", "1", "--resamples", "1"]
QUICK = ["--no-impact", "--no-nulls"]


def test_realism_writes_a_scorecard_and_a_panel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["realism", *SMALL, *QUICK, "--seed", "3", "--output", str(tmp_path)]) == 0
    card = json.loads((tmp_path / "toy" / "scorecard.json").read_text())
    assert (card["name"], card["seed"], card["markets"], card["ticks"]) == ("toy", 3, 2, 400)
    assert [fact["number"] for fact in card["facts"]] == list(range(1, 23))
    assert [null["name"] for null in card["nulls"]] == ["geometric_brownian", "shuffled"]
    assert (tmp_path / "toy" / "panel.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "volatility clustering" in shown
    assert "not applicable" in shown
    assert "null model shuffled" in shown
    assert "S: " in shown


def test_audit_writes_a_table_and_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--preset", "toy", "--episodes", "2", "--ticks", "60", "--output", str(tmp_path)]
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
        (["realism", "--preset", "toy", "--ticks", "401"], "ticks must be a multiple of 4, got 401"),
        (["realism", "--device", "abacus"], "device 'abacus' cannot be used"),
        (["audit", "--preset", "nope"], "unknown preset 'nope'"),
        (["audit", "--preset", "toy", "--episodes", "1"], "episodes must be an integer >= 2"),
        (["audit", "--preset", "toy", "--policies", "trained_agent"], "unknown policy 'trained_agent'"),
    ],
)
def test_an_error_is_one_line_and_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--output", str(tmp_path)]) == 2
    told = capsys.readouterr().err.strip()
    assert told.splitlines()[-1].startswith("torchgym: error: ")
    assert message in told
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_wrong_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path / "run"), "--preset", "volatil"]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("torchgym: error: unknown preset 'volatil'") and told.endswith("did you mean volatile?")
    assert main(["trane"]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("torchgym: error: unknown command 'trane': choose from train, ")
    assert told.endswith("; did you mean train?") and "\n" not in told
    assert not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["realism", *SMALL, *QUICK, "--output", str(tmp_path / "file")]) == 2
    assert "torchgym: error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["realism", "--help"], 0),
        (["ladder", "--help"], 0),
        (["bogus"], 2),
        (["realism", "--markets", "x"], 2),
        (["ladder", "--seeds", "four"], 2),
    ],
)
def test_help_and_bad_arguments(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == code
    capsys.readouterr()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks processes")
def test_what_is_missing_is_named_at_once_and_nothing_else_is_missed_later(tmp_path: Path) -> None:
    """Every command without any optional package, then with those that it has asked for, one after the other."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "lacking.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert set(said) == set(_COMMANDS)
    for command, attempts in said.items():
        *refused, content = attempts
        assert content["code"] == 0 or (command in MAY_FAIL and content["code"] == 1), content
        for attempt in refused:
            *progress, error = attempt["stderr"]
            assert error.startswith("torchgym: error: ") and "pip install" in error
            assert {line.split(":")[1].split()[0] for line in progress} <= {"loading"}
    needed = {
        command: [name for attempt in attempts for name in attempt["named"]] for command, attempts in said.items()
    }
    assert needed["presets"] == needed["evaluate"] == ["rich", "tyro"]
    assert needed["report"] == ["rich", "tyro", "plotly"]
    assert needed["record"] == ["rich", "tyro", "pyarrow"]
    assert set().union(*needed.values()) <= imported(brought("torchgym[all]"))


def test_figures_without_matplotlib_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchgym.visual.plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    with pytest.raises(ImportError, match=r'pip install "torchgym\[plots\]"'):
        importlib.import_module("torchgym.visual.plots")


def test_the_defaults_are_the_librarys() -> None:
    options = Realism()
    assert (options.markets, options.ticks, options.burn_in) == (realism.MARKETS, realism.TICKS, realism.BURN_IN)
    assert (options.seed, options.resamples) == (realism.SEED, realism.RESAMPLES)
    assert Cheats().seed == audit.SEED
    plan = Plan()
    for name in ("preset", "tasks", "seeds", "seed", "episodes", "frames", "device", "compile"):
        assert getattr(Ladder(), name) == getattr(plan, name)
    assert (Evaluate().seed, Evaluate().ticks_per_year) == (performance.TEST_SEED, performance.TICKS_PER_YEAR)


LEARN = ["--preset", "toy", "--max-ticks", "20", "--validations", "1"]
PPO = ["--ppo.total-frames", "96", "--ppo.num-envs", "4", "--ppo.rollout", "4", "--ppo.hidden", "4"]


def learned(folder: Path) -> list[float]:
    return [value for part in load_agent(folder).state_dict().values() for value in part.flatten().tolist()]


def test_train_evaluate_report_from_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", str(run), *LEARN, *PPO, "--episodes", "3", "--seed", "2000"]) == 0
    shown = capsys.readouterr().out
    assert "96 decisions in 4 markets of 20 ticks" in shown and "were asked for" not in shown
    heading, *lines = shown.splitlines()[1:8]
    assert heading.split() == [
        "decisions",
        "return",
        "held-out",
        "loss",
        "entropy",
        "KL",
        "clipped",
        "explained",
        "per",
        "s",
    ]
    assert [line.split()[0] for line in lines] == ["16", "32", "48", "64", "80", "96"]
    assert {len(line) for line in (heading, *lines)} == {78}
    assert json.loads((run / "run.json").read_text())["settings"]["hidden"] == [4]
    assert "value_follower" in shown
    assert f"torchgym report {run}" in shown
    files = {
        "checkpoint.pt",
        "evaluation.csv",
        "evaluation.json",
        "learning_curve.csv",
        "learning_curve.png",
        "log",
        "run.json",
    }
    assert {path.name for path in run.iterdir()} == files
    told = json.loads((run / "run.json").read_text())
    assert told["command"] == f"torchgym train {run} " + " ".join(
        [*LEARN[:2], *LEARN[2:4], *PPO, "--validations", "1"]
    ) + (" --episodes 3 --seed 2000")
    with (run / "learning_curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frames"]) for row in rows] == [16, 32, 48, 64, 80, 96]
    assert [bool(row["validation_profit"]) for row in rows] == [False] * 5 + [True]
    told = {
        "loss",
        "entropy",
        "kl_approx",
        "clip_fraction",
        "explained_variance",
        "decisions_per_second",
        "training_return",
    }
    assert all(math.isfinite(float(row[name])) for row in rows for name in told)
    written = EventAccumulator(str(run / "log")).Reload()
    for name in told:
        logged = [(event.step, event.value) for event in written.Scalars(name)]
        assert logged == [(int(row["frames"]), np.float32(row[name])) for row in rows], name
    first = json.loads((run / "evaluation.json").read_text())
    assert first["command"] == f"torchgym evaluate {run} --episodes 3"
    assert main(["evaluate", str(run), "--episodes", "3"]) == 0
    assert json.loads((run / "evaluation.json").read_text()) == first
    assert main(["report", str(run)]) == 0
    assert "<html" in (run / "report.html").read_text()[:200]
    capsys.readouterr()


def test_evaluate_chooses_policies_and_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path), *LEARN, *PPO, "--episodes", "0"]) == 0
    assert not (tmp_path / "evaluation.json").exists()
    chosen = ["--policies", "hold", "random", "--episodes", "2", "--seed", "30000000"]
    assert main(["evaluate", str(tmp_path), *chosen]) == 0
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert (list(found["policies"]), found["seed"]) == (["agent", "hold", "random"], 30_000_000)
    assert main(["evaluate", str(tmp_path), *chosen, "--overwrite"]) == main(["evaluate", str(tmp_path), *chosen]) == 0
    for arguments, message in (
        (["--episodes", "3"], "--seed 30000000`: --overwrite replaces it"),
        (["--policies", "moon", "--overwrite"], "unknown policy 'moon': choose from hold, random"),
        (["--seed", "5"], "seed must be at least 10000000, got 5: agents train on those below"),
        (["--ticks-per-year", "252", *chosen], "--overwrite replaces it"),
    ):
        assert main(["evaluate", str(tmp_path), *arguments]) == 2
        assert message in capsys.readouterr().err
    audited = ["--preset", "toy", "--episodes", "2", "--ticks", "60", "--compile", "no", "--output", str(tmp_path)]
    assert main(["audit", *audited, "--policies", "hold", "--agent", str(tmp_path)]) in (0, 1)
    rows = json.loads((tmp_path / "toy" / "audit.json").read_text())["rows"]
    assert [row["policy"] for row in rows] == ["hold", "trained_agent"]
    assert main(["audit", *audited, "--policies", "moon"]) == 2
    assert "unknown policy 'moon': choose from hold, round_trip" in capsys.readouterr().err


def test_ctrl_c_saves_and_resume_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = [*LEARN, *PPO, "--episodes", "0"]
    assert main(["train", str(whole), *arguments]) == 0
    plain = Trainer.step

    def pressed(trainer: Trainer) -> float:
        if trainer.update == 1:
            signal.raise_signal(signal.SIGINT)
        return plain(trainer)

    monkeypatch.setattr(Trainer, "step", pressed)
    handler = signal.getsignal(signal.SIGINT)
    assert main(["train", str(parts), *arguments]) == 130
    assert signal.getsignal(signal.SIGINT) is handler
    told = capsys.readouterr()
    assert "finishing this update, then saving" in told.err
    assert f"saved at 32 decisions; go on with: torchgym train {parts} --episodes 0 --resume\n" in told.out
    monkeypatch.setattr(Trainer, "step", plain)
    assert main(["train", str(parts), "--resume", "--episodes", "0"]) == 0
    assert learned(parts) == learned(whole)


def test_a_second_ctrl_c_ends_at_once() -> None:
    with interruptible() as pressed:
        assert not pressed()
        signal.raise_signal(signal.SIGINT)
        assert pressed()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_run_is_not_overwritten_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path), *LEARN, *PPO, "--episodes", "0"]) == 0
    before = learned(tmp_path)
    assert main(["train", str(tmp_path), *LEARN, *PPO]) == 2
    assert "holds a run: --resume goes on with it, --overwrite begins anew" in capsys.readouterr().err
    assert main(["train", str(tmp_path), "--resume", "--seed", "5", "--ppo.gamma", "0.5"]) == 2
    assert "--ppo.gamma, --seed: the run to go on with has decided that" in capsys.readouterr().err
    for wrong, message in (
        (["--episodes", "1"], "episodes must be 0 or at least 2, got 1"),
        (["--threads", "0"], "threads must be from 1 to 1,024, got 0"),
        (["--validations", "-1"], "validations must be an integer >= 0, got -1"),
        (["--logger", "mlflow"], '--logger mlflow needs mlflow: pip install "mlflow"'),
    ):
        assert main(["train", str(tmp_path), "--overwrite", "--preset", "toy", *wrong]) == 2
        assert message in capsys.readouterr().err
    assert main(["train", str(tmp_path / "none"), "--resume"]) == 2
    assert "does not exist: `torchgym train` makes one" in capsys.readouterr().err
    assert learned(tmp_path) == before
    assert main(["evaluate", str(tmp_path), "--episodes", "2", "--policies", "hold"]) == 0
    assert main(["train", str(tmp_path), *LEARN, *PPO, "--episodes", "0", "--overwrite", "--seed", "7"]) == 0
    assert not (tmp_path / "evaluation.json").exists()  # it told of the old agent
    assert learned(tmp_path) != before


def test_decisions_that_fill_no_update_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    less = ["--ppo.total-frames", "47", "--episodes", "0", "--validations", "0", "--logger", "none"]
    assert main(["train", str(tmp_path), *LEARN, *PPO, *less]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("32 decisions in 4 markets")
    assert second == "47 were asked for: every update takes 4 markets × 4 decisions = 16"
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(("choice", "expected"), [(None, "auto"), ("auto", "auto"), ("yes", True), ("no", False)])
@pytest.mark.parametrize("command", [command for command in TOY if command not in ("presets", "report")])
def test_compile_reaches_the_market(
    command: str, choice: str | None, expected: object, learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(market: Market, *_: Any, **__: Any) -> None:
        assert market.compile == expected
        raise Started

    monkeypatch.setenv("TORCHGYM_COMPILE", "auto")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Market, "reset", start)
    if expected is True:
        monkeypatch.setattr(Market, "prepare", start)
    words = [str(learnt)] if command == "evaluate" else []
    with pytest.raises(Started):
        main([command, *words, *TOY[command], *(["--compile", choice] if choice else [])])


def test_ladder_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"num_envs": 4, "rollout": 4, "total_frames": 32, "hidden": (4,)}
    monkeypatch.setitem(TASKS, "exact", replace(TASKS["exact"], market={"max_ticks": 20}, settings=small))
    options = ["--preset", "toy", "--tasks", "exact", "--seeds", "2", "--episodes", "2"]
    code = main(["ladder", *options, "--output", str(tmp_path), "--results", str(tmp_path / "results")])
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"curves.csv", "ladder.csv", "ladder.png"}
    with (tmp_path / "results" / "ladder.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["task"], row["trainings"], row["frames"]) == ("exact", "2", "32")
    assert code == (0 if row["passed"] == "True" else 1)
    assert (tmp_path / "toy" / "exact" / "training_2" / "result.json").is_file()
    assert "80% of the" in capsys.readouterr().out


def test_presets_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*PRESETS, *task_presets()))
    assert main(["presets", "market_making"]) == 0
    shown = capsys.readouterr().out
    assert "price of risk" in shown
    assert re.search(r"action +│ +discrete +│ +quotes", shown)
    assert main(["presets", "calm"]) == 0
    shown = capsys.readouterr().out
    assert "fundamentals.volatility " in shown
    assert "0.00045" in shown
    assert "max_ticks" not in shown  # the same as the default's


def test_the_version_is_told_without_any_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"torchgym {__version__}\n"


def test_without_a_compiler_markets_run_uncompiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: Any) -> None:
        raise OSError("no such compiler")

    monkeypatch.setattr(stepper, "Replay", missing)
    few = [*PPO, "--episodes", "0", "--validations", "0", "--overwrite"]
    told = "uncompiled from now on, with the same numbers: OSError: no such compiler"
    for choice, lines in (("no", 0), ("yes", 1)):
        assert main(["train", str(tmp_path), *LEARN, *few, "--compile", choice]) == 0
        assert capsys.readouterr().err.count(told) == lines


def test_a_task_is_trained_and_recorded_as_it_is_but_for_what_is_said(tmp_path: Path) -> None:
    few = [*PPO, "--episodes", "0", "--validations", "0", "--compile", "no"]
    assert main(["train", str(tmp_path / "mm"), "--preset", "market_making", "--max-ticks", "20", *few]) == 0
    about = json.loads((tmp_path / "mm" / "run.json").read_text())
    assert MarketConfig.from_dict(about["config"]) == task("MarketMaking", max_ticks=20)
    path = tmp_path / "mm.parquet"
    one = ["--policy", "symmetric_quotes", "--episodes", "1", "--ticks", "20", "--no-features", "--output", str(path)]
    assert main(["record", "--preset", "market_making", *one, "--compile", "no"]) == 0
    assert read_config(path) == task("MarketMaking", max_ticks=20)


def test_the_command_that_does_the_same() -> None:
    from torchgym.cli.train import Train

    options = Train(folder=Path("runs/x"), symbols=2, compile="no", ppo=PPOSettings(hidden=(8, 8), gamma=0.9))
    assert command_line("train", options, first=["runs/x"], leave_out=("folder",)) == (
        "torchgym train runs/x --symbols 2 --ppo.gamma 0.9 --ppo.hidden 8 8 --compile no"
    )


@pytest.mark.parametrize("command", list(_COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"torchgym {command}" in capsys.readouterr().out


# --- numbers


class Started(Exception):
    """Work has begun."""


def numeric(kind: type[Any], prefix: str = "") -> Iterator[tuple[str, type]]:
    """Options of a command that take numbers, and of which type."""
    hints = get_type_hints(kind)
    for entry in fields(kind):
        hint, name = hints[entry.name], prefix + entry.name.replace("_", "-")
        if is_dataclass(hint):
            yield from numeric(hint, f"{name}.")  # type: ignore[arg-type]
        for number in (int, float):
            if number in (hint, *get_args(hint)):
                yield name, number


OPTIONS = [
    (command, *option)
    for command, (module, kind) in _COMMANDS.items()
    for option in numeric(getattr(importlib.import_module(f"torchgym.cli.{module}"), kind))
]
HUGE, BEYOND = str(2**62), str(10**30)
VALUES = {int: ("0", "-1", HUGE, BEYOND), float: ("0", "-1", "1e300", "nan", "inf")}
ZERO = {"seed", "validations", "resamples", "episode", "ppo.gamma", "ppo.gae-lambda", "ppo.entropy"}
# A seed, or what takes for ever but can be done; a crowd that is too large becomes the largest possible.
LONG = {"seed", "validations", "resamples", "crowd", "markets", "ppo.total-frames", "frames"}


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("learnt")
    assert main(["train", str(folder), *LEARN, *PPO, "--episodes", "2"]) == 0
    return folder


@pytest.mark.parametrize("command", sorted({command for command, *_ in OPTIONS}))
def test_numbers_without_sense_are_refused_before_any_work(
    command: str, learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(*_: Any, **__: Any) -> None:
        raise Started

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Market, "reset", start)
    monkeypatch.setattr(Market, "prepare", start)
    plain = {
        "train": ["--preset", "toy", "--overwrite"],
        "evaluate": [str(learnt)],
        "report": [str(learnt)],
        "record": ["--preset", "toy", "--overwrite"],
    }.get(command, ["--preset", "toy"])
    for _, name, kind in (option for option in OPTIONS if option[0] == command):
        for value in VALUES[kind]:
            words = [command, *plain, f"--{name}", value]
            before = sorted(tmp_path.rglob("*"))
            try:
                code = main(words)
            except Started:
                assert value == "0" or value == HUGE, words
                assert value != "0" or name in ZERO or (command, name) == ("train", "episodes"), words
                assert value != HUGE or name in LONG, words
            else:
                said = capsys.readouterr().err
                assert code == 2, words
                by_tyro = "For full helptext" in said  # of the settings of training
                assert by_tyro or said.splitlines()[-1].startswith("torchgym: error: "), words
                assert value != "0" or name not in ZERO or (command, name) == ("evaluate", "seed"), words
                assert sorted(tmp_path.rglob("*")) == before, words
            capsys.readouterr()


def test_the_numbers_of_every_command_are_walked() -> None:
    assert {command for command, *_ in OPTIONS} == set(_COMMANDS) - {"presets"}
    assert {("train", "ppo.hidden", int), ("train", "ppo.learning-rate", float), ("ladder", "frames", int)} <= set(
        OPTIONS
    )


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes\nframe #0")]
)
def test_memory_that_cannot_be_had_is_one_line(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Market, "reset", start)
    assert main(["realism", *SMALL, *QUICK, "--output", str(tmp_path)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("torchgym: error: not enough memory: choose fewer markets, episodes or ticks.")
    monkeypatch.setattr(Market, "reset", lambda *_: (_ for _ in ()).throw(RuntimeError("a fault of torchgym")))
    with pytest.raises(RuntimeError, match="a fault"):
        main(["realism", *SMALL, *QUICK, "--output", str(tmp_path)])


def test_a_training_that_diverges_is_one_line_and_keeps_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = Trainer.step

    def diverging(trainer: Trainer) -> float:
        reward = plain(trainer)
        if trainer.update == 2:
            next(trainer.agent.parameters()).data[:] = float("nan")
        return reward

    monkeypatch.setattr(Trainer, "step", diverging)
    assert main(["train", str(tmp_path), *LEARN, *PPO]) == 2
    error = (
        "torchgym: error: the networks are no longer finite after 32 decisions: train with a lower --ppo.learning-rate"
    )
    assert capsys.readouterr().err.splitlines()[-1].startswith(error)
    assert all(math.isfinite(value) for value in learned(tmp_path))


def test_nobody_need_read_to_the_end() -> None:
    """As in `torchgym train --help | head -1`."""
    command = (
        "import os, sys; os.close(0); from torchgym.cli import main; code = main(['train', '--help']); sys.exit(code)"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", command], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


# --- files


# What each command that draws writes its picture to, below the folder it is given.
PICTURES = {
    "train": ("learning_curve.png", ["--episodes", "0"]),
    "realism": ("toy/panel.png", []),
    "audit": ("toy/audit.png", []),
    "ladder": ("toy/ladder.png", ["--seeds", "1"]),
}


@pytest.mark.parametrize("command", list(PICTURES))
def test_ctrl_c_while_a_picture_is_drawn_leaves_the_old_one(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"num_envs": 4, "rollout": 4, "hidden": (4,)}
    monkeypatch.setitem(TASKS, "inventory", replace(TASKS["inventory"], market={"max_ticks": 20}, settings=small))
    drawn: list[Path] = []

    def pressed(figure: Figure, path: Path, **_: Any) -> None:
        drawn.append(Path(path))
        Path(path).write_bytes(b"half a picture")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", pressed)
    name, more = PICTURES[command]
    picture = tmp_path / name
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(b"old")
    place = [str(tmp_path)] if command == "train" else ["--output", str(tmp_path)]
    assert main([command, *place, *TOY[command], *more]) == 130
    assert "torchgym: interrupted" in capsys.readouterr().err
    assert len(drawn) == 1 and not drawn[0].exists()
    assert (
        not picture.exists() if command == "train" else picture.read_bytes() == b"old"
    )  # a new run has nothing of the old one
    assert [path for path in tmp_path.rglob("*") if path.suffix == ".part"] == []


def test_pictures_are_written_in_one_place_and_drawn_by_known_commands() -> None:
    package = Path(sys.modules["torchgym"].__file__ or "").parent
    saving = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if "savefig" in path.read_text()}
    assert saving == {"cli/output.py"}
    commands = [path.read_text() for path in (package / "cli").glob("*.py")]
    assert sum(source.count("write_figure(") - source.count("def write_figure(") for source in commands) == len(
        PICTURES
    )
