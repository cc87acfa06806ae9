"""Whatever takes long says what it does: bars on a terminal, plain lines without control codes everywhere else."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from shell import MAY_FAIL, TOY

from torchgym.cli import _COMMANDS
from torchgym.cli.progress import INTERVAL, Lines

# --- lines


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Log:
    """Lines with the moments they were written at."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.written: list[tuple[float, str]] = []
        self.lines = Lines(lambda text: self.written.append((self.clock.now, text)), self.clock)

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.written]

    def longest_silence(self) -> float:
        moments = [moment for moment, _ in self.written]
        return max((after - before for before, after in pairwise(moments)), default=0.0)


@pytest.mark.parametrize("pace", [0.001, 0.07, 0.9, 3.3, 9.99, 10.0, 31.0])
@pytest.mark.parametrize("total", [2, 90, 3000])
def test_lines_come_every_ten_seconds_whatever_the_pace(pace: float, total: int) -> None:
    log = Log()
    for done in range(total + 1):
        log.lines.tell("paths", done, total)
        log.clock.now += pace
    assert log.texts[0] == f"paths: 0 of {total:,}"
    assert log.texts[-1].startswith(f"paths: {total:,} of {total:,}") and "done in" in log.texts[-1]
    assert log.longest_silence() <= INTERVAL + pace
    assert len(log.texts) <= 3 + pace * total / INTERVAL


def test_lines_come_while_nothing_is_told() -> None:
    log = Log()
    log.lines.tell("opening", 0, 1)
    for _ in range(95):
        log.clock.now += 1.0
        log.lines.beat()
    log.lines.tell("opening", 1, 1)
    for _ in range(100):  # nothing runs any more
        log.clock.now += 1.0
        log.lines.beat()
    assert log.texts[:2] == ["opening ...", "opening: 0:10 so far"]
    assert log.texts[-2:] == ["opening: 1:30 so far", "opening: done in 1:35"]
    assert log.longest_silence() <= INTERVAL + 1.0
    assert len(log.texts) == 11


def test_a_line_has_the_rate_and_the_time_left() -> None:
    """The first part may compile, so it does not count in the rate."""
    log = Log()
    log.lines.tell("decisions", 0, 10_000)
    for seconds, done in ((90.0, 1_000), (10.0, 2_000), (10.0, 3_000)):
        log.clock.now += seconds
        log.lines.tell("decisions", done, 10_000)
    log.clock.now += 70.0
    log.lines.tell("decisions", 10_000, 10_000)
    assert log.texts == [
        "decisions: 0 of 10,000",
        "decisions: 1,000 of 10,000, 1:30 so far",
        "decisions: 2,000 of 10,000, 100/s, 1:20 left",
        "decisions: 3,000 of 10,000, 100/s, 1:10 left",
        "decisions: 10,000 of 10,000, 100/s, done in 3:00",
    ]


def test_stages_follow_each_other_and_may_come_again() -> None:
    log = Log()
    for stage, done, total in (
        *(("a", 0, 1), ("b", 0, 4), ("b", 4, 4), ("b", 4, 4), ("a", 1, 1), ("a", 1, 1)),
        *(("b", 0, 2), ("b", 2, 2), ("resumed", 7, 9), ("over", 3, 3)),
    ):
        log.lines.tell(stage, done, total)
    assert log.texts == [
        *("a ...", "b: 0 of 4", "b: 4 of 4, done in 0:00", "a: done in 0:00"),
        *("b: 0 of 2", "b: 2 of 2, done in 0:00", "resumed: 7 of 9", "over: 3 of 3, done in 0:00"),
    ]


# --- where they go

SHOW = """
import sys, threading, time
from torchgym.cli.progress import progress_bars
def compiling():
    for number in range(5):
        sys.stderr.write(f"torchgym: compiling the step, message {number}\\n")
        sys.stderr.flush()
        time.sleep(0.05)
with progress_bars() as progress:
    progress("[red]opening", 0, 1)
    other = threading.Thread(target=compiling)
    other.start()
    for done in range(1, 41):
        progress("decisions", done, 40)
        time.sleep(0.01)
    other.join()
    progress("[red]opening", 1, 1)
    print("to stdout")
print("the end", file=sys.stderr)
"""


def in_pipes(**environment: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return done.stdout, done.stderr


def on_a_terminal(**environment: str) -> str:
    """What a program writes to the terminal that its stderr is."""
    pty = pytest.importorskip("pty", reason="needs a system with terminals")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", SHOW],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30", **environment},
    ) as process:
        os.close(theirs)
        written = b""
        while select.select([ours], [], [], 60.0)[0]:
            try:
                piece = os.read(ours, 65_536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            written += piece
    os.close(ours)
    assert process.returncode == 0
    return written.decode()


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}, {"TERM": "dumb"}, {"CLICOLOR_FORCE": "1"}])
def test_a_pipe_gets_plain_lines(environment: dict[str, str]) -> None:
    out, err = in_pipes(**environment)
    lines = err.splitlines()
    assert all(line.isprintable() for line in lines)
    assert lines[0] == "torchgym: [red]opening ..."
    assert [line for line in lines if "message" in line] == [
        f"torchgym: compiling the step, message {number}" for number in range(5)
    ]
    assert lines[-2:] == ["torchgym: [red]opening: done in 0:00", "the end"]
    assert out == "to stdout\n"


def test_a_terminal_gets_bars_and_whole_lines_of_others() -> None:
    written = on_a_terminal()
    assert "\x1b[?25l" in written and "decisions" in written and "40 of 40" in written
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    for number in range(5):
        assert len(re.findall(rf"torchgym: compiling the step, message {number} *\r\n", text)) == 1
    assert "[red]opening" in text
    assert text.rstrip().endswith("the end")


def test_colours_can_be_refused() -> None:
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", on_a_terminal())
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", on_a_terminal(NO_COLOR="1"))


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines() -> None:
    written = on_a_terminal(TERM="dumb")
    assert "\x1b" not in written
    assert written.splitlines()[0] == "torchgym: [red]opening ..."


# --- every command

# The stages of each command at toy size, in order; one that ends in seconds whatever its options needs none.
STAGES: dict[str, tuple[str, ...]] = {
    "train": (
        *("loading", "opening markets, first update", "decisions", "loading"),
        *(f"decisions of {name}" for name in ("agent", "hold", "random", "buy_and_hold", "momentum", "mean_reversion")),
        "decisions of value_follower",
        *("comparisons", "intervals"),
    ),
    "evaluate": ("loading", "decisions of agent", "decisions of hold", "comparisons", "intervals"),
    "report": ("loading", "episode of agent", "page"),
    "record": ("loading", "ticks"),
    "realism": (
        *("loading", "opening", "burn-in", "paths", "resamples", "facts", "null models"),
        *(f"zero intelligence: {stage}" for stage in ("opening", "burn-in", "paths", "facts")),
        *("curves", "writing"),
    ),
    "audit": ("loading", "opening", "ticks", "writing"),
    "ladder": ("loading", "inventory, training 1 of 1", "intervals", "writing"),
    "presets": (),
}
MORE = {"realism": ["--nulls"], "evaluate": ["--policies", "hold"], "ladder": ["--seeds", "1"]}
# What makes a command smaller than its options can.
SMALLER = {
    "ladder": """
from dataclasses import replace
from torchgym.training.ladder import TASKS
small = {"num_envs": 4, "rollout": 4, "hidden": (4,)}
TASKS["inventory"] = replace(TASKS["inventory"], market={"max_ticks": 20}, settings=small)
"""
}
# Says when torch is loaded, and runs the command.
WATCHED = """
import sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.stderr.write("torchgym: torch is being loaded\\n")
            sys.meta_path.remove(self)
sys.meta_path.insert(0, Watch())
from torchgym.cli import main
sys.exit(main())
"""


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    lines: list[str]  # of stderr


def ran(folder: Path, command: str) -> Ran:
    """A command at toy size, in a process of its own, its output going into pipes."""
    done = subprocess.run(
        [sys.executable, "-c", SMALLER.get(command, "") + WATCHED, command, *TOY[command], *MORE.get(command, [])],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
    )
    return Ran(done.returncode, done.stdout, done.stderr.splitlines())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """A folder in which `torchgym train` has run, and what it said."""
    folder = tmp_path_factory.mktemp("commands")
    return folder, ran(folder, "train")


def test_every_command_has_its_stages() -> None:
    assert set(STAGES) == set(TOY) == set(_COMMANDS)


@pytest.mark.parametrize("command", list(_COMMANDS))
def test_every_command_says_what_it_does_in_plain_lines(command: str, trained: tuple[Path, Ran]) -> None:
    folder, training = trained
    said = training if command == "train" else ran(folder, command)
    assert said.code == 0 or (command in MAY_FAIL and said.code == 1), said.lines
    assert "\x1b" not in said.out
    assert all(line.isprintable() and line.startswith("torchgym: ") for line in said.lines), said.lines
    lines = [line.removeprefix("torchgym: ") for line in said.lines]
    at = 0
    for stage in STAGES[command]:
        begin = re.compile(re.escape(stage) + r"( \.\.\.|: [\d,]+ of [\d,]+)")
        begins = [n for n, line in enumerate(lines[at:], at) if begin.fullmatch(line)]
        assert begins, f"{stage} does not begin after line {at} of {lines}"
        ends = [n for n, line in enumerate(lines[at:], at) if line.startswith(f"{stage}: ") and "done in" in line]
        assert ends and ends[0] > begins[0], f"{stage} does not end in {lines}"
        at = begins[0] + 1
    if STAGES[command]:
        assert lines[0] == "loading ..."
        # Which may take long, so it comes after the first word.
        assert command in SMALLER or lines[1] == "torch is being loaded"
