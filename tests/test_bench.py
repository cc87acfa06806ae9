"""The benchmark: every case runs and tells sane rows, noise is noticed, rows are kept and compared. Nothing has to be fast."""

from __future__ import annotations

import dataclasses
import doctest
import gc
import itertools
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cases
import fresh
import machine
import pytest
import scaling
import speed
import speed_rows
import timing as clock
import torch
from cases import CASES, Case, at_least, at_most, bench, stagger
from fresh import ask
from lab import Lab, drawn_actions
from machine import commit, threads
from scaling import largest, scaled
from settings import ALL_CASES, Settings
from speed import bench_panel, main
from speed_rows import COLUMNS, append, previous, read, speedup
from speeds import row
from timing import Timing, noise, time_work

from torchgym.config import MarketConfig, preset, structure
from torchgym.engine import Market

pytestmark = pytest.mark.kept

TINY = Settings(
    preset="toy",
    seconds=1e-3,
    repeats=2,
    threads=1,
    compile=False,
    markets=2,
    batches=(1, 2),
    traders=(20, 40),
    crowd=50,
    episode=4,
    soak_steps=2,
)


def tiny(*cases: int, **changes: Any) -> Settings:
    return dataclasses.replace(TINY, cases=cases, **changes)


# --- cases


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "_PRODUCT", 40)
    monkeypatch.setattr(cases, "_COLLECTED", 2)
    monkeypatch.setattr(fresh, "_WARM_STARTS", 1)


def test_the_table_has_every_case_that_can_be_asked_for() -> None:
    assert tuple(CASES) == ALL_CASES


@pytest.mark.parametrize("number", ALL_CASES)
def test_a_case_tells_sane_rows_and_what_it_is_doing(number: int, small: None) -> None:
    calls: list[tuple[str, int, int]] = []
    rows = list(bench(tiny(number), command="as told", progress=lambda *call: calls.append(call)))
    assert calls[0][1:] == (0, 1)  # nothing comes before the first word
    for stage in {stage for stage, _, _ in calls}:
        own = [(done, total) for name, done, total in calls if name == stage]
        assert own[0][0] == 0 and own[-1][0] == own[-1][1]
        assert stage.startswith(f"case {number}, {CASES[number].name}: ")
    assert {entry.measure for entry in rows} >= set(CASES[number].targets)
    for entry in rows:
        assert math.isfinite(entry.median)
        assert entry.low <= entry.median <= entry.high
        assert entry.median > 0.0 or entry.measure == "growth"
        assert (entry.case, entry.mode, entry.command) == (number, "eager", "as told")
        assert entry.device and entry.commit and entry.dtype.startswith("state int64")
        assert entry.met is None  # such sizes prove nothing
        assert entry.target == str(CASES[number].targets.get(entry.measure, ""))
        default = entry.preset == "default"
        assert default == (entry.markets == 8 and entry.traders == 198)  # the drop-in classes know no other


def test_growing_cases_tell_every_size(small: None) -> None:
    rows = list(bench(tiny(6, 7)))
    sizes = [(entry.case, entry.markets, entry.traders) for entry in rows if entry.measure == "step"]
    assert sizes == [(6, 1, 43), (6, 2, 43), (7, 2, 20), (7, 1, 40)]


def test_growth_is_that_of_the_worst_leg(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traders double twice; the cost per market grows 1.5-fold, then threefold: half as much again as the traders."""
    monkeypatch.setattr(cases, "_PRODUCT", 80)
    costs = iter([(20, 2.0), (40, 3.0), (80, 9.0)])

    def made_up(_: Lab, *work: object) -> list[Timing]:
        return [Timing((seconds * (80 // size),), 1.0) for size, seconds in (next(costs) for _ in work)]

    monkeypatch.setattr(Lab, "time", made_up)
    rows = list(bench(tiny(7, traders=(20, 40, 80))))
    assert [entry.median for entry in rows] == pytest.approx([2e6, 3e6, 9e6, 1.5])


def test_targets_are_judged_at_standard_sizes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().standard
    assert Settings(cases=(4,), seconds=0.1, threads=7).standard
    for change in ({"markets": 2}, {"preset": "toy"}, {"compile": False}, {"device": "cuda"}, {"crowd": 5}):
        assert not dataclasses.replace(Settings(), **change).standard
    monkeypatch.setattr(Settings, "standard", True)
    assert [entry.met for entry in bench(tiny(4))] == [False]


@pytest.mark.parametrize(("bound", "judgement"), [(1e-3, None), (1e12, False)])
def test_a_smaller_crowd_can_miss_a_target_but_not_meet_it(
    bound: float, judgement: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "standard", True)
    monkeypatch.setattr(cases, "largest", lambda config, _: (config, "too many"))
    monkeypatch.setitem(CASES, 8, Case("crowd", cases.crowd, {"ticks": at_least(bound)}))
    (entry,) = bench(tiny(8))
    assert (entry.met, entry.note) == (judgement, "too many")


def test_progress_is_told_by_case() -> None:
    told: list[tuple[str, int, int]] = []
    list(bench(tiny(4, 12), progress=lambda *what: told.append(what)))
    assert told == [
        ("case 4, Market: opening 2 markets", 0, 1),
        ("case 4, Market: opening 2 markets", 1, 1),
        *[("case 4, Market: windows", done, 2) for done in (0, 1, 2)],
        *[("case 12, the floor: windows", done, 4) for done in (0, 1, 2, 3, 4)],
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cases": (4, 14)}, r"cases\[1\] must be an integer <= 13, got 14"),
        ({"cases": ()}, "cases must have at least one entry, got none"),
        ({"seconds": 0.0}, r"seconds must be a finite number in \[1e-06, 86400.0\], got 0.0"),
        ({"repeats": 0}, "repeats must be an integer >= 1, got 0"),
        ({"markets": 0}, "markets must be an integer >= 1"),
        ({"batches": ()}, "batches must have at least one entry, got none"),
        ({"traders": (8, 0)}, r"traders\[1\] must be an integer >= 1, got 0"),
        ({"preset": "moon"}, "unknown preset 'moon'"),
        ({"traders": (128, 1)}, r"maker\.count"),
        ({"crowd": 1}, r"maker\.count"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**settings).check()


def test_a_bound_is_met_from_its_side() -> None:
    assert at_least(2.0).met(2.0) and not at_least(2.0).met(1.99)
    assert at_most(2.0).met(2.0) and not at_most(2.0).met(2.01)
    assert (str(at_least(300_000)), str(at_most(1.25))) == ("≥ 300,000", "≤ 1.25")


# --- what cases are made of


def test_staggered_markets_stand_at_every_tick_of_their_episode() -> None:
    market = Market(preset("toy", max_ticks=4), 8, seed=0)
    stagger(market)
    seen = market.observe()
    assert seen.info["tick"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert not bool(seen.truncated.any())


def test_actions_are_the_same_in_every_run_and_use_every_choice() -> None:
    drawn = drawn_actions(MarketConfig(action="sized"), 50)
    assert drawn.shape == (64, 50)
    assert drawn.dtype == torch.int64
    assert drawn.unique().tolist() == list(range(7))
    assert torch.equal(drawn, drawn_actions(MarketConfig(action="sized"), 50))
    assert torch.equal(drawn[:, :3], drawn_actions(MarketConfig(action="sized"), 3))
    assert not torch.equal(drawn[:, 0], drawn[:, 1])


def test_markets_are_shared_by_size_and_threads() -> None:
    lab = Lab(TINY)
    with threads(1):
        one = lab.market(lab.config, 2)
        assert lab.market(lab.config, 2) is one
        assert lab.market(lab.config, 1) is not one
    with threads(2):
        assert lab.market(lab.config, 2) is not one


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("traders", [20, 198, 199, 1_024, 8_192])
def test_scaled_markets_have_that_many_traders_in_the_same_shares(traders: int) -> None:
    plain = MarketConfig()
    grown = scaled(plain, traders)
    places, before = structure(grown), structure(plain)
    assert places.owners == traders
    for name, place in before.families.items():
        now = places.families[name].stop - places.families[name].start
        assert abs(now - (place.stop - place.start) * traders / 198) < 1.0
    assert grown.usual_volume == pytest.approx(plain.usual_volume * traders / 198)
    assert scaled(plain, 198) == plain


def test_a_crowd_that_is_refused_becomes_the_largest_accepted() -> None:
    config, refusal = largest(MarketConfig(), 10_000_000)
    accepted = structure(config).owners
    assert refusal.startswith("10,000,000 traders are refused: the orders of one symbol could add up to")
    with pytest.raises(ValueError, match="could add up"):
        scaled(MarketConfig(), accepted + 1)
    assert largest(MarketConfig(), 300) == (scaled(MarketConfig(), 300), "")
    with pytest.raises(ValueError, match=r"maker\.count"):
        largest(MarketConfig(), 1)


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(ChildProcessError, match=r"measuring memory .* failed: TypeError: memory\(\) got"):
        ask("memory", {"nonsense": 1})


# --- timing


class Clock:
    """Time that passes by as much as the work says, and not otherwise."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return 0.5 * self.now

    def work(self, name: str, seconds: float, log: list[str]) -> Callable[[], None]:
        def piece() -> None:
            log.append(name)
            self.now += seconds

        return piece


def test_work_is_timed_in_turn_in_windows_of_equal_count(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, log = Clock(), list[str]()
    monkeypatch.setattr(clock, "time", fake)
    told: list[tuple[int, int]] = []
    begins: list[int] = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))
        begins.append(len(log))

    slow, quick = time_work(
        [fake.work("s", 3.0, log), fake.work("q", 0.25, log)],
        seconds=1.0,
        repeats=2,
        clock=fake.perf_counter,
        tell=tell,
    )
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    warm = 2  # calls before each window that do not count
    windows = ["".join(log[first + warm : last]) for first, last in itertools.pairwise(begins[1:])]
    assert windows == ["qqqq", "s", "qqqq"]  # a piece that is longer than a window fills one
    assert slow == Timing((3.0, 3.0), 0.5)
    assert quick == Timing((0.25, 0.25), 0.5)
    assert quick.rates == [4.0, 4.0]


def test_memory_is_collected_while_work_is_timed() -> None:
    seen: list[bool] = []
    time_work([lambda: seen.append(gc.isenabled())], seconds=1e-6, repeats=1)
    assert all(seen)


def timing(*counts: int, busy: float = 1.0) -> Timing:
    return Timing(tuple(1.0 / count for count in counts), busy)


@pytest.mark.parametrize(
    ("timings", "found"),
    [
        ([timing(100, 100, 100)], ""),
        ([timing(95, 100, 105)], ""),
        ([timing(94, 100, 105)], "spread 11 %"),
        ([timing(100, 100, busy=0.9)], ""),
        ([timing(100, 100, busy=0.89)], "CPU time 89 % of wall time"),
        ([timing(100, 100, busy=1.9)], ""),
        ([timing(80, 100, 120, busy=0.2)], "spread 40 %, CPU time 20 % of wall time"),
        ([timing(100), timing(80, 100, 120), timing(100, busy=0.5)], "spread 40 %, CPU time 50 % of wall time"),
    ],
)
def test_noise_is_noticed(timings: list[Timing], found: str) -> None:
    assert noise(*timings) == found


# --- rows


def test_the_columns_stay_what_they_are() -> None:
    assert ",".join(COLUMNS) == (
        "date,commit,device,torch,threads,preset,markets,traders,dtype,mode,case,measure,unit,median,low,high,target,met,"
        "noise,note,command,digest"
    )


def test_rows_come_back_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "speed.csv"
    first, second, third = row(), row(met=False, target="≤ 4", median=1.5e-7), row(met=None, target="", case=12)
    append(path, [first])
    append(path, [second, third])
    assert read(path) == [first, second, third]
    assert path.read_text(encoding="utf-8").splitlines()[0] == ",".join(COLUMNS)
    assert path.read_text(encoding="utf-8").count("\n") == 4


def test_a_row_goes_below_a_last_line_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "speed.csv"
    append(path, [row()])
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    append(path, [row(case=12)])
    assert read(path) == [row(), row(case=12)]


def test_a_file_with_other_columns_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("commit,speed\naaaaaaa,3\n")
    with pytest.raises(ValueError, match=r"other\.csv has other columns"):
        append(path, [row()])
    with pytest.raises(ValueError, match=r"other\.csv has other columns"):
        read(path)
    assert path.read_text() == "commit,speed\naaaaaaa,3\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1024", "many"),
        ("yes", "perhaps"),
        (",python benchmarks/speed.py", ""),
        ("python benchmarks", "python,benchmarks"),
    ],
)
def test_a_cell_that_cannot_be_read_is_named(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "speed.csv"
    append(path, [row(), row()])
    text = path.read_text(encoding="utf-8")
    path.write_text(new.join(text.rsplit(old, 1)), encoding="utf-8")
    with pytest.raises(ValueError, match=r"speed\.csv, row 3 (cannot be read|is not as it was written)"):
        read(path)


def test_the_commit_before_is_the_last_other_one_on_the_same_device() -> None:
    stored = [
        row(commit="ccccccc"),
        row(commit="bbbbbbb", case=4),
        row(commit="bbbbbbb", case=12),
        row(commit="ddddddd", device="Slide rule"),
        row(commit="aaaaaaa"),
    ]
    assert previous(stored, "Abacus", "aaaaaaa") == stored[1:3]
    assert previous(stored, "Abacus", "eeeeeee") == stored[4:]
    assert previous(stored, "Slide rule", "aaaaaaa") == stored[3:4]
    assert previous(stored, "Sundial", "aaaaaaa") == []
    assert previous(stored, "Slide rule", "ddddddd") == []


@pytest.mark.parametrize(
    ("now", "before", "gain"),
    [
        ({"median": 300.0}, [{"median": 200.0}], 1.5),
        ({"median": 300.0, "unit": "µs/market-tick"}, [{"median": 200.0, "unit": "µs/market-tick"}], 2 / 3),
        ({"median": 0.9, "unit": "of Market.step"}, [{"median": 0.6, "unit": "of Market.step"}], 1.5),
        ({"median": 300.0}, [{"median": 100.0}, {"median": 200.0}], 1.5),
        ({"median": 300.0}, [{"median": 200.0, "mode": "eager"}], None),
        ({"median": 300.0}, [{"median": 200.0, "traders": 197}], None),
        ({"median": 300.0}, [{"median": 200.0, "threads": 1}], None),
        ({"median": 300.0}, [], None),
        ({"median": 0.0, "unit": "MiB"}, [{"median": 1.0, "unit": "MiB"}], None),
    ],
)
def test_what_is_better_than_before_is_above_one(
    now: dict[str, Any], before: list[dict[str, Any]], gain: float | None
) -> None:
    found = speedup(row(**now), [row(commit="bbbbbbb", **old) for old in before])
    assert found == (None if gain is None else pytest.approx(gain))


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_package_and_tells_changes(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *who, *arguments], capture_output=True, text=True, check=True
        ).stdout

    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("a = 1\n")
    (tmp_path / "results.csv").write_text("1\n")
    git("init", "--quiet")
    assert "." in commit(package) or commit(package) == "unknown"  # not committed: like an installed one
    git("add", "package", "results.csv")
    git("commit", "--quiet", "--message", "first")
    assert commit(package) == git("rev-parse", "HEAD")[:7]
    (tmp_path / "results.csv").write_text("2\n")
    assert commit(package) == git("rev-parse", "HEAD")[:7]
    (package / "__init__.py").write_text("a = 2\n")
    assert commit(package) == git("rev-parse", "HEAD")[:7] + "-dirty"


# --- the command and its picture


ARGUMENTS = ["--preset", "toy", "--markets", "2", "--batches", "1", "2", "--no-compile", "--seconds", "0.001"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_writes_a_table_and_a_picture(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, "--cases", "4", "6", "--output", "out", "--csv", "out/speed.csv"]) == 0
    rows = read(elsewhere / "out" / "speed.csv")
    assert [entry.measure for entry in rows] == ["steps", "step", "step", "largest over smallest"]
    command = (
        "python benchmarks/speed.py --cases 4 6 --preset toy --seconds 0.001 --no-compile --markets 2 --batches 1 2"
    )
    assert {entry.command for entry in rows} == {command}
    assert (elsewhere / "out" / "bench.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "4 Market" in shown and "≥ 300,000" in shown and "largest over smallest" in shown
    assert " vs " not in shown


def test_the_command_compares_with_the_commit_before(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    once = [*ARGUMENTS, "--cases", "4", "--csv", "here.csv"]
    assert main(once) == 0
    (first,) = read(elsewhere / "here.csv")
    for place in (Path("here.csv"), Path("named.csv")):
        append(elsewhere / place, [dataclasses.replace(first, commit=f"of {place.stem}", median=first.median / 1e6)])
    capsys.readouterr()
    for options, expected in (([], "of here"), (["--against", "named.csv"], "of named")):
        assert main([*once, *options]) == 0
        shown = capsys.readouterr().out
        assert f"vs {expected}" in shown
        assert f"times as good as {expected} of {first.date}" in shown
    assert len(read(elsewhere / "here.csv")) == 4


def test_rows_go_to_the_committed_table_unless_another_is_named() -> None:
    assert speed.Args().csv == Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "speed.csv"
    assert read(speed.Args().csv)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "4", "14"], "cases[1] must be an integer <= 13, got 14"),
        (["--seconds", "0"], "seconds must be a finite number in [1e-06, 86400.0], got 0.0"),
        (["--preset", "nope"], "unknown preset 'nope': choose one of default"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
        (["--threads", "0"], "threads must be an integer >= 1, got 0"),
        (["--markets", "1000000000"], "1,000,000,000 markets would take"),
        (["--against", "missing.csv"], "missing.csv"),
        (["--csv", "other.csv"], "other.csv has other columns"),
        (["--output", "other.csv"], "other.csv"),
    ],
)
def test_an_error_is_one_line_and_comes_first(
    arguments: list[str], message: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (elsewhere / "other.csv").write_text("a,b\n")
    assert main(["--csv", "new.csv", *arguments]) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert error.startswith("speed.py: error: ") and message in error


def test_noise_is_shouted_and_notes_are_told(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(noise="spread 40 %"), row(case=8, met=False, note="refused")]
    monkeypatch.setattr(speed, "bench", lambda *_, **__: iter(rows))
    assert main(["--csv", "new.csv"]) == 0
    shown = capsys.readouterr().out
    assert "spread 40 %" in shown
    assert "1 of 2 figures are noisy" in shown
    assert "case 8, steps: refused" in shown
    assert "1 of 2 targets are met" in shown


@pytest.mark.parametrize("module", [cases, clock, machine, scaling, speed_rows])
def test_examples_in_docstrings_hold(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert tried and not failed


def test_the_picture_draws_speed_and_cost() -> None:
    grown = [
        row(case=6, measure="step", unit="µs/market-tick", markets=n, median=c, low=c, high=c)
        for n, c in ((4_096, 4.0), (64, 5.0))
    ]
    crowded = [
        row(case=7, measure="step", unit="µs/market-tick", traders=n, median=c, low=c, high=c)
        for n, c in ((128, 2.0), (1_024, 12.0))
    ]
    speeds, costs = bench_panel([*grown, *crowded, row()], "title").axes
    line, *_ = speeds.lines
    assert list(line.get_xdata()) == [64, 4_096]
    assert list(line.get_ydata()) == [200_000.0, 250_000.0]
    lines = {line.get_label(): list(line.get_ydata()) for line in costs.lines}
    assert lines["in proportion to the traders"] == [2.0, 16.0]
    assert [2.0, 12.0] in lines.values()
    assert speeds.get_xscale() == speeds.get_yscale() == costs.get_xscale() == costs.get_yscale() == "log"


def test_the_picture_says_what_was_not_measured() -> None:
    for axes in bench_panel([row()]).axes:
        assert [text.get_text() for text in axes.texts] == ["not measured"]


RANDOM = """
from time_torchgym import random_traders
from torchgym.config import structure
from torchgym.engine import Market
market = Market(random_traders(), 2, seed=0, compile=False, debug=True)
market.reset()
market.step()
print(structure(market.config).owners, bool((market.read("volume")["volume"] > 256).all()))
"""


def test_the_market_of_random_traders_is_one() -> None:
    """That which is compared with other simulators: all trade in every tick."""
    folder = Path(fresh.__file__).parent / "peers"  # where a module has the name of one that is loaded here
    run = subprocess.run([sys.executable, "-c", RANDOM], cwd=folder, capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["257", "True"], run.stderr
