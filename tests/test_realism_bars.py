"""Bars of real prices: read from files, cleared of the day's pattern, and judged as the single path that they are."""

from __future__ import annotations

import dataclasses
import gzip
import importlib.util
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pyarrow
import pytest
import torch
from markets import toy
from pyarrow import parquet
from torch import Tensor

from torchgym.cli import main
from torchgym.lab.realism import (
    FACTS,
    Bars,
    Criterion,
    Paths,
    Verdict,
    bar_path,
    compare,
    measure_markets,
    measure_single,
    outcomes,
    read_bars,
)
from torchgym.lab.realism.bars import name_of, pattern
from torchgym.lab.realism.single import _centred_at, _errors, judge_spread, single_facts

pytestmark = pytest.mark.kept

HOUR, DAY = 3_600, 86_400
MONDAY = 1_609_718_400  # 2021-01-04 00:00
HEAD = "Date,Open,Close,Volume\n"
ROWS = ["2024-01-01,9,10,100", "2024-01-02,9,11.5,0", "2024-01-04,9,11,300"]


def written(folder: Path, rows: list[str], head: str = HEAD, name: str = "bars.csv") -> Path:
    path = folder / name
    path.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def single(returns: Any, volume: Any = None) -> Paths:
    rows = torch.as_tensor(returns, dtype=torch.float64).reshape(1, -1)
    return Paths(returns=rows, volume=None if volume is None else torch.as_tensor(volume).double().reshape(1, -1))


def hourly(bars: int) -> Tensor:
    """Times of hourly bars on Monday to Friday."""
    days = torch.arange(bars // 24 + 1)
    return (MONDAY + (days // 5 * 7 + days % 5)[:, None] * DAY + torch.arange(24) * HOUR).flatten()[:bars]


def by_number(verdicts: tuple[Verdict, ...]) -> dict[int, bool | None]:
    return {verdict.fact.number: verdict.passed for verdict in verdicts}


def medians(verdicts: tuple[Verdict, ...]) -> dict[str, float]:
    return {f"{each.fact.key}.{entry.criterion.measure}": entry.median for each in verdicts for entry in each.measures}


# --- files


def test_a_csv_file_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    bars = read_bars(written(tmp_path, ROWS))
    assert bars.name == "bars.csv"
    assert bars.time.tolist() == [1_704_067_200, 1_704_067_200 + DAY, 1_704_067_200 + 3 * DAY]
    assert bars.close.tolist() == [10.0, 11.5, 11.0]
    assert bars.volume is not None and bars.volume.tolist() == [100.0, 0.0, 300.0]
    assert read_bars(written(tmp_path, ROWS), close=" OPEN").close.tolist() == [9.0] * 3


@pytest.mark.parametrize(
    ("head", "rows", "time_format"),
    [
        ("time,close,volume\n", ["2024-01-01T00:00:00Z,10,1", "2024-01-02T01:00+01:00,11.5,2"], ""),
        (",Close,Volume\n", ["2024-01-01 00:00:00,10,1", "2024-01-02,11.5,2"], ""),
        ("\ufeffTimestamp;Volume;CLOSE\n", ["2024-01-01;1;10", "", "2024-01-02;2;11.5"], ""),
        ("close\tvolume\tDateTime\n", ["10\t1\t1/1/2024", "11.5\t2\t1/2/2024"], "%m/%d/%Y"),
        ("time,close,volume\n", ["1704067200000,10,1", "1704153600000,11.5,2"], "ms"),
    ],
)
def test_files_of_many_forms_say_the_same(tmp_path: Path, head: str, rows: list[str], time_format: str) -> None:
    bars = read_bars(written(tmp_path, rows, head), time_format=time_format)
    assert bars.time.tolist() == [1_704_067_200, 1_704_153_600]
    assert bars.close.tolist() == [10.0, 11.5]
    assert bars.volume is not None and bars.volume.tolist() == [1.0, 2.0]


def test_compressed_and_parquet_files_say_the_same(tmp_path: Path) -> None:
    plain = read_bars(written(tmp_path, ROWS))
    packed = tmp_path / "bars.csv.gz"
    packed.write_bytes(gzip.compress((HEAD + "\n".join(ROWS)).encode()))
    assert plain.volume is not None
    times = np.array(plain.time.tolist(), dtype="datetime64[s]")
    columns = {"Close": plain.close.numpy(), "Volume": plain.volume.long().numpy()}
    kinds = {
        "s": times,
        "ns": times.astype("datetime64[ns]"),
        "day": times.astype("datetime64[D]"),
        "text": times.astype(str),
    }
    files = [packed]
    for name, time in kinds.items():
        files.append(tmp_path / f"{name}.parquet")
        parquet.write_table(pyarrow.table({"Date": time, **columns}), files[-1])
    zoned = pyarrow.array(times).cast(pyarrow.timestamp("s", "America/New_York"))
    files.append(tmp_path / "zoned.pq")
    parquet.write_table(pyarrow.table({"__index_level_0__": zoned, **columns}), files[-1])
    for file in files:
        bars = read_bars(file)
        assert torch.equal(bars.time, plain.time), file
        assert torch.equal(bars.close, plain.close)
        assert bars.volume is not None and torch.equal(bars.volume, plain.volume)


def test_a_volume_that_never_changes_is_none(tmp_path: Path) -> None:
    assert read_bars(written(tmp_path, ["2024-01-01,9,10,0", "2024-01-02,9,11,0"])).volume is None
    assert read_bars(written(tmp_path, ["2024-01-01,10", "2024-01-02,11"], "date,close\n")).volume is None


@pytest.mark.parametrize(
    ("head", "rows", "message"),
    [
        (
            HEAD.replace("Close", "Last"),
            ROWS,
            r"has no column 'close', only 'Date', 'Open', 'Last', 'Volume': .*--close",
        ),
        (HEAD.replace("Date", "Day"), ROWS, r"has no column of times, only 'Day', .*: name it time"),
        ("", [""], "has no column of times, only none"),
        (
            HEAD,
            [ROWS[0], "2024-01-02,9,,5"],
            r"row 2, column 'Close': '' is not a positive, finite number: fill in or drop",
        ),
        (HEAD, [ROWS[0], "2024-01-02,9,nan,5"], r"row 2, column 'Close': 'nan' is not a positive"),
        (HEAD, [ROWS[0], "2024-01-02,9,inf,5"], r"row 2, column 'Close': 'inf' is not a positive"),
        (HEAD, ["2024-01-02,9,0,5"], r"row 1, column 'Close': '0' is not a positive"),
        (HEAD, ["2024-01-02,9,-3,5"], r"row 1, column 'Close': '-3' is not a positive"),
        (HEAD, ["2024-01-02,9,1,-5"], r"row 1, column 'Volume': '-5' is not a finite number of at least 0"),
        (
            HEAD,
            [*ROWS, ROWS[2]],
            r"row 4, column 'Date': 2024-01-04 is not after .*: sort the rows by time and keep one",
        ),
        (HEAD, ROWS[::-1], r"row 2, column 'Date': 2024-01-02 is not after the time of the row before: sort"),
        (HEAD, ["1/2/2024,9,10,1"], r"row 1, column 'Date': '1/2/2024' is not a time such as .*--time-format"),
        (
            HEAD,
            ["0001-01-01T00:00:00+14:00,9,1,1"],
            r"row 1, column 'Date': '0001-01-01T00:00:00\+14:00' is not a time",
        ),
        (HEAD, [ROWS[0], "2024-01-02,9"], "row 2 has 2 values for 4 columns: mend or drop the row"),
        (HEAD, [ROWS[0], "2" * 200_000 + ",9,10,1"], r"row 2 cannot be split into fields .*: mend it"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, head: str, rows: list[str], message: str) -> None:
    path = written(tmp_path, rows, head)
    with pytest.raises(ValueError, match=message) as refused:
        read_bars(path)
    assert str(path) in str(refused.value)


def test_other_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"of an unknown kind: give a \.csv, \.csv\.gz or \.parquet file"):
        read_bars(tmp_path / "bars.xlsx")
    with pytest.raises(FileNotFoundError):
        read_bars(tmp_path / "bars.csv")
    for name in ("bars.parquet", "bars.csv.gz"):
        (tmp_path / name).write_bytes(b"\xff" * 50)
        with pytest.raises(ValueError, match=name):
            read_bars(tmp_path / name)
    with pytest.raises(ValueError, match=r"'2024-01-01' is not a time of the form '%d\.%m\.%Y'"):
        read_bars(written(tmp_path, ROWS), time_format="%d.%m.%Y")
    with pytest.raises(ValueError, match=r"bars\.csv has 2 returns without a gap, too few .*: give 500 or more"):
        bar_path(read_bars(written(tmp_path, ROWS)))
    packed = bytearray(gzip.compress("\n".join(ROWS * 500).encode()))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "bars.csv.gz").write_bytes(packed)
    with pytest.raises(ValueError, match=r"bars\.csv\.gz is damaged or no gzip file .*: fetch or write it again"):
        read_bars(tmp_path / "bars.csv.gz")
    missing = tmp_path / "missing.parquet"
    parquet.write_table(pyarrow.table({"time": [1, None], "close": [1.0, 2.0]}), missing)
    with pytest.raises(ValueError, match="row 2, column 'time': None is not a time"):
        read_bars(missing, time_format="s")


@pytest.mark.parametrize("time", ["nan", "inf", "-inf", "1e300", "1577836860000"])
def test_numbers_that_are_no_time_are_refused_where_they_stand(tmp_path: Path, time: str) -> None:
    """The last is in milliseconds, which `s` takes for a year far ahead."""
    for rows, number in (([f"{time},1"], 1), (["0,1", f"{time},1"], 2)):
        with pytest.raises(ValueError, match=rf"row {number}, column 'time': '{time}' is not a time .*--time-format"):
            read_bars(written(tmp_path, rows, "time,close\n"), time_format="s")


def test_results_of_different_files_have_different_names() -> None:
    names = ("p.2019.csv", "p.2020.csv", "p.csv.gz", "P.PARQUET", "q.pq")
    assert [name_of(Path(name)) for name in names] == ["p.2019", "p.2020", "p", "P", "q"]


# --- from bars to a path


def test_daily_returns_over_weekends_are_kept_and_hourly_ones_are_not() -> None:
    days = torch.arange(700)
    daily = MONDAY + (days // 5 * 7 + days % 5) * DAY
    close = torch.arange(1.0, 701.0, dtype=torch.float64)
    path = bar_path(Bars("x", daily, close))
    assert (path.gaps, path.pattern, path.spacing) == (0, False, DAY)
    assert torch.equal(path.paths.returns[0], close.log().diff())
    assert path.about[0] == "700 bars from 2021-01-04 to 2023-09-08, one every 1 day"
    path = bar_path(Bars("x", hourly(700), close))
    assert (path.gaps, path.pattern, path.spacing) == (5, True, HOUR)  # 29 days and a bit: five weekends
    assert path.paths.ticks == 699 - 5
    assert path.first == "2021-01-04 00:00"
    assert any("5 returns over nights" in each for each in path.about)


def test_the_pattern_of_the_day_and_the_week_is_found() -> None:
    rng = np.random.default_rng(0)
    time = hourly(24 * 400)
    of_hour = 1.0 + 0.8 * torch.cos(2.0 * math.pi * torch.arange(24, dtype=torch.float64) / 24)
    of_day = torch.tensor([1.0, 0.7, 1.3, 1.0, 2.0], dtype=torch.float64)
    imposed = of_hour.repeat(400) * of_day.repeat(80).repeat_interleave(24)
    size = imposed * torch.from_numpy(processes.gaussian(rng, 1, len(time))[0]).abs()
    found = pattern(size, time)
    # 400 returns an hour and 1,920 a weekday: errors of 3.8 % and 1.7 %
    assert ((found / imposed) / (found / imposed).mean() - 1.0).abs().max() < 0.15
    assert found.mean().item() == pytest.approx(1.0, abs=0.05)


def test_minutes_share_a_scale_until_they_have_fifty_returns() -> None:
    minutes = (torch.arange(10)[:, None] * DAY + torch.arange(390) * 60).flatten()
    found = pattern(torch.rand(len(minutes), dtype=torch.float64), minutes)
    assert len(found[:390].unique()) == 390 // 5  # ten days: five minutes


def test_an_imposed_pattern_leaves_no_trace_in_the_facts() -> None:
    time = hourly(5_001)
    returns = 1e-3 * torch.from_numpy(processes.garch(np.random.default_rng(1), 1, 5_000)[0])
    scale = 1.0 + 0.9 * torch.cos(2.0 * math.pi * (time[1:] % DAY) / DAY)

    def path_of(moves: Tensor) -> Paths:
        return bar_path(Bars("x", time, torch.cat([torch.zeros(1), moves]).double().cumsum(0).exp())).paths

    plain = medians(measure_single(path_of(returns), resamples=20))
    patterned = medians(measure_single(path_of(scale * returns), resamples=20))
    untreated = medians(measure_single(single((scale * returns)[time.diff() == HOUR]), resamples=20))
    for name in ("volatility_clustering.first_lag", "intermittency.fano_factor", "heavy_tails.excess_kurtosis"):
        assert patterned[name] == pytest.approx(plain[name], rel=0.05)
        assert abs(untreated[name] / plain[name] - 1.0) > 0.15


def test_the_trend_of_volume_is_taken_out() -> None:
    rng = np.random.default_rng(2)
    size = torch.from_numpy(processes.gaussian(rng, 1, 4_000)[0]).abs()
    growth = torch.linspace(0.0, 4.0, 4_000, dtype=torch.float64).exp()
    noise = torch.from_numpy(rng.lognormal(0.0, 1.0, 4_000))
    close = torch.cat([torch.zeros(1), 1e-3 * size]).double().cumsum(0).exp()
    time = MONDAY + torch.arange(4_001) * DAY

    def correlation(volume: Tensor) -> float:
        bars = Bars("x", time, close, torch.cat([torch.ones(1), volume]).double())
        return medians(measure_single(bar_path(bars).paths, resamples=10))["volume_volatility.rank_correlation"]

    stationary = correlation(size * noise)
    assert correlation(growth * size * noise) == pytest.approx(stationary, abs=0.005)
    assert stationary > 0.4


# --- what a single path can tell


def test_long_paths_have_the_facts_of_the_scorecard() -> None:
    facts = {fact.number: fact for fact in single_facts(16_384)}
    assert list(facts) == list(range(1, 12))
    for fact in FACTS[:11]:
        wanted = [entry for entry in fact.criteria if entry.share is not None and entry.measure != "largest_step"]
        if fact.number in (9, 10, 11):
            wanted = [dataclasses.replace(entry, share=0.95) for entry in wanted]
        for entry, usual in zip(facts[fact.number].criteria, wanted, strict=True):
            assert dataclasses.replace(entry, high=usual.high) == usual
            assert entry.high == pytest.approx(usual.high)
    paths = Paths(returns=torch.from_numpy(processes.garch(np.random.default_rng(3), 2, 16_384)))
    for number, fact in facts.items():
        if not fact.needs:
            usual = FACTS[number - 1].measure(paths)
            for name, values in fact.measure(paths).items():
                if name != "largest_step":
                    assert torch.equal(values, usual[name])


@pytest.mark.parametrize("ticks", [500, 999, 2_147, 5_000, 100_000])
def test_every_length_has_lags_and_horizons_that_it_allows(ticks: int) -> None:
    paths = Paths(returns=torch.from_numpy(processes.gaussian(np.random.default_rng(4), 1, ticks)))
    texts = " ".join(fact.criterion for fact in single_facts(ticks))
    for horizon in (5, 15, 60, 390):
        assert (f"kurtosis at {horizon} ticks" in texts) == (
            horizon == max(h for h in (5, 15, 60, 390) if ticks // h >= 40)
        )
    assert len(measure_single(paths, resamples=3)) == 10
    with pytest.raises(ValueError, match="at least 500 returns"):
        measure_single(Paths(returns=paths.returns[:, :499]))


@pytest.mark.parametrize(
    ("value", "values", "absent", "passed"),
    [
        (0.5, [0.2, 0.4, 0.5, 0.6, 0.8], None, True),
        (0.9, [0.7, 0.8, 0.9, 1.2, 1.3], None, None),  # the value is inside, too few of the others are
        (1.2, [0.7, 0.9, 1.2, 1.3, 1.4], None, None),  # outside, but perhaps by chance
        (1.3, [1.1, 1.2, 1.3, 1.4, 1.5], None, False),
        (-1.3, [-1.5, -1.4, -1.3, -1.2, -1.1], None, False),
        (0.9, [0.4, 0.8, 0.9, 1.2, 1.3], 0.5, True),  # not to be told from what is absent
        (0.9, [0.8, 0.85, 0.9, 1.2, 1.3], 0.5, None),
        (1.1, [0.4, 0.8, 1.1, 1.2, 1.3], 0.5, None),
        (math.nan, [math.nan] * 5, None, None),
    ],
)
def test_a_measure_passes_fails_or_cannot_be_told(
    value: float, values: list[float], absent: float | None, passed: bool | None
) -> None:
    judged = judge_spread(Criterion("x", "", 0.0, 1.0), value, torch.tensor(values, dtype=torch.float64), absent)
    assert judged.passed is passed
    assert judged.median is value


@pytest.mark.parametrize(
    ("value", "values", "moved"),
    [
        (3.0, [1.0, 2.0, 4.0], [1.5, 3.0, 6.0]),  # positive: by a factor
        (3.0, [-1.0, 2.0, 4.0], [0.0, 3.0, 5.0]),
        (-1.0, [1.0, 2.0, 4.0], [-2.0, -1.0, 1.0]),
    ],
)
def test_resamples_vary_around_the_paths_own_value(value: float, values: list[float], moved: list[float]) -> None:
    one, others = torch.tensor([value], dtype=torch.float64), torch.tensor(values, dtype=torch.float64)
    assert _centred_at(one, others).tolist() == pytest.approx(moved)


def test_errors_of_linear_memory_are_those_of_many_paths() -> None:
    paths = torch.from_numpy(processes.garch(np.random.default_rng(5), 400, 4_000, freedom=8.0))
    measured = single_facts(4_000)[0].measure(Paths(returns=paths))
    errors = _errors(Paths(returns=paths))
    assert set(errors) == {"first_lag", "lags_within_band", "variance_ratio_2", "variance_ratio_4", "variance_ratio_8"}
    for name in ("first_lag", "variance_ratio_2", "variance_ratio_4", "variance_ratio_8"):
        assert errors[name].mean().item() == pytest.approx(measured[name].std().item(), rel=0.12)
    independent = _errors(Paths(returns=torch.from_numpy(processes.gaussian(np.random.default_rng(6), 50, 4_000))))
    for span in (2, 4, 8):
        known = math.sqrt(2 * (2 * span - 1) * (span - 1) / (3 * span * 4_000))
        assert independent[f"variance_ratio_{span}"].mean().item() == pytest.approx(known, rel=0.05)


def test_paths_of_garch_mostly_pass_and_noise_never_does() -> None:
    rng = np.random.default_rng(7)
    garch = processes.garch(rng, 20, 2_500, freedom=8.0)
    counted: Counter[tuple[int, bool | None]] = Counter()
    for row in garch:
        counted.update(by_number(measure_single(single(row), resamples=100)).items())
    for number in (1, 3, 4, 5, 7):  # what the process has; its tails, with an exponent near 5, are at the band's end
        assert counted[number, True] >= 12, counted
        assert counted[number, False] <= 1, counted
    assert counted[2, False] <= 2
    assert counted[6, True] <= 2  # it forgets exponentially
    counted.clear()
    for row in processes.gaussian(rng, 20, 2_500):
        counted.update(by_number(measure_single(single(row), resamples=100)).items())
    for number in (2, 4, 5, 6, 7):
        assert counted[number, True] == 0, counted
    assert counted[2, False] == counted[5, False] == 20
    assert counted[1, False] == 0
    for number in (9, 10, 11):  # neither sign is there: 5 % by chance
        assert counted[number, True] <= 4, counted


def test_memory_that_is_there_fails_and_a_little_cannot_be_told() -> None:
    rng = np.random.default_rng(8)
    marks = [
        by_number(measure_single(single(processes.autoregression(rng, 1, 2_500, phi)), resamples=10))[1]
        for phi in (0.2, 0.07)
    ]
    assert marks == [False, None]


def test_many_markets_are_judged_by_the_same_rule() -> None:
    verdicts = measure_markets(Paths(returns=torch.from_numpy(processes.gaussian(np.random.default_rng(9), 40, 2_500))))
    marks = by_number(verdicts)
    assert marks[1] is True
    assert (marks[2], marks[5], marks[7]) == (False, False, False)
    assert (marks[9], marks[10], marks[11]) == (None, None, None)


# --- beside a market


def bars_of(returns: Any, volume: Any = None) -> Bars:
    close = torch.cat([torch.zeros(1), torch.as_tensor(returns)]).double().cumsum(0).exp()
    return Bars("bars.csv", MONDAY + torch.arange(len(close)) * DAY, close, volume)


def test_a_market_runs_for_as_many_bars() -> None:
    data = bar_path(bars_of(0.01 * processes.garch(np.random.default_rng(10), 1, 500)[0]))
    config = toy(ticks_per_action=8)  # which divides neither the bars nor the burn-in
    one = compare(data, config, markets=3, burn_in=5, seed=1, resamples=5, compile=False)
    assert by_number(one.verdicts).keys() == by_number(one.of_markets).keys() == set(range(1, 12)) - {8}
    assert {entry.count for each in one.of_markets for entry in each.measures} == {3}
    counted = outcomes(one.verdicts)
    assert sum(sum(tier.values()) for tier in counted.values()) == 10
    told = json.loads(json.dumps(one.to_dict()))
    assert (told["data"], told["returns"], told["markets"], len(told["facts"])) == ("bars.csv", 500, 3, 10)
    for name in ("markets", "ticks_per_bar", "burn_in", "resamples"):
        with pytest.raises(ValueError, match=f"{name} must be an integer >= 1, got 0"):
            compare(data, toy(), **{name: 0})


def test_bars_of_several_ticks_are_those_of_the_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchgym import Market
    from torchgym.lab.realism import single as module

    monkeypatch.setattr(module, "_TICKS_AT_ONCE", 32)
    ticks = Market(toy(), 2, seed=4, compile=False)
    ticks.reset()
    recording = ticks.run(10 + 60, record=("mid", "volume"))
    market = Market(toy(), 2, seed=4, compile=False)
    market.reset()
    bars = module._market_bars(market, 20, 3, 10, lambda *_: None)
    log_mid = recording["mid"][:, :, 0].log()
    assert torch.equal(bars.returns, log_mid[:, 9::3].diff(dim=-1))
    assert bars.volume is not None
    assert torch.equal(bars.volume, recording["volume"][:, 10:, 0].double().unflatten(1, (20, 3)).sum(-1))


QUICK = ["--preset", "toy", "--markets", "2", "--burn-in", "1", "--compile", "no"]


def test_the_command_prints_data_beside_the_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(11)
    prices = np.exp(np.cumsum(0.01 * processes.garch(rng, 1, 510)[0]))
    days = np.datetime64("2020-01-01") + np.arange(510)
    rows = [
        f"{day},{price:.6f},{size}" for day, price, size in zip(days, prices, rng.integers(1, 99, 510), strict=True)
    ]
    path = written(tmp_path, rows, "date,price,volume\n", "mine.csv")
    arguments = ["realism", "--data", str(path), *QUICK, "--output", str(tmp_path)]
    assert main([*arguments, "--close", "price"]) == 0
    told = json.loads((tmp_path / "toy-mine" / "comparison.json").read_text())
    assert [fact["number"] for fact in told["facts"]] == list(range(1, 12))
    shown = capsys.readouterr().out
    assert "mine.csv: 510 bars from 2020-01-01 to 2021-05-24, one every 1 day" in shown
    assert "toy: 2 markets of 509 bars of a tick" in shown
    assert "too short to tell" in shown
    assert main(arguments) == 2
    assert "--close" in capsys.readouterr().err
    assert main([*arguments, "--close", "price", "--ticks", "800", "--no-nulls"]) == 2
    assert "--ticks, --no-nulls: --data decides that" in capsys.readouterr().err
    assert main([*arguments, "--close", "price", "--ticks-per-bar", str(2**50)]) == 2
    assert "GB of memory" in capsys.readouterr().err
    assert main(["realism", *QUICK, "--ticks-per-bar", "60", "--output", str(tmp_path)]) == 2
    assert "--ticks-per-bar: these go with --data" in capsys.readouterr().err


# --- real prices


@pytest.mark.parametrize("index", ["sp500", "nasdaq"])
def test_indices_fail_no_fact_and_pass_most(index: str) -> None:
    """Twenty years of days, from the files of the package arch."""
    found = importlib.util.find_spec("arch")
    assert found is not None and found.submodule_search_locations is not None, "pip install arch"
    folder = Path(found.submodule_search_locations[0])
    bars = bar_path(read_bars(folder / "data" / index / f"{index}.csv.gz", time_format="%m/%d/%Y"))
    assert bars.paths.ticks == 5_030
    marks = by_number(measure_single(bars.paths, resamples=200))
    assert False not in marks.values()
    assert sum(mark is True for mark in marks.values()) >= 7
    assert marks[2] and marks[5] and marks[7] and marks[8] and marks[9]
