"""Recordings: every bit as `Market.step` shows it, in the documented rows, types and order, whatever the batch; in one piece."""

from __future__ import annotations

import datetime
import importlib
import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import empyrical
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from markets import EVERYTHING, cold, toy
from torch import Tensor

from torchgym import Market, MarketConfig
from torchgym.cli.markets import Record
from torchgym.config import Session
from torchgym.engine import StepResult
from torchgym.lab.performance import TICKS_PER_YEAR
from torchgym.lab.policies import BASELINES
from torchgym.readout import features
from torchgym.readout.entries import INFO, PATHS, Entry, Moment
from torchgym.readout.features import FEATURE_SETS, FEATURES
from torchgym.readout.rewards import REWARDS
from torchgym.recording import (
    KINDS,
    Calendar,
    Column,
    EpisodeRecorder,
    columns,
    describe,
    read_about,
    read_config,
    record,
    recorder,
)
from torchgym.recording.file import ParquetFile, Sorter
from torchgym.sim.actions import scheme
from torchgym.sim.params import plain_params
from torchgym.training import PPOSettings, load_agent, start
from torchgym.version import __version__

pytestmark = pytest.mark.kept

SHORT = toy(max_ticks=20)
CROWDED = EVERYTHING.replace(max_ticks=12)  # three symbols, two ticks per decision, four reward terms
FRAIL = toy(max_ticks=30, order_size=70, starting_cash=2_010_000, maintenance=1_998_000)  # may be ruined when it trades
ACCOUNT = ("equity", "cash", "realized_pnl", "fees", "borrow")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let even short episodes go to disk in several parts."""
    monkeypatch.setattr(recorder, "_LEAST_ROWS", 4)


def act(config: MarketConfig) -> Callable[[StepResult], Tensor]:
    """Choices that look random and depend on what each market showed alone."""
    count = scheme(config).space.count

    def policy(seen: StepResult) -> Tensor:
        digits = (
            seen.observation.reshape(len(seen.observation), config.num_symbols, -1)[..., :5].sum(-1) * 997.0
        ).abs()
        return (digits.to(torch.int64) + seen.info["tick"].unsqueeze(-1)) % count

    return policy


def time_of(tick: int) -> datetime.datetime:
    """Day by day and minute by minute, as of the default calendar."""
    now = datetime.datetime(2000, 1, 3, 9, 30)
    for _ in range(tick):
        if now.hour == 16:
            now += datetime.timedelta(days=3 if now.weekday() == 4 else 1, hours=-6, minutes=-30)
        now += datetime.timedelta(minutes=1)
    return now


def replay(config: MarketConfig, seed: int, episode: int) -> dict[str, np.ndarray]:
    """The columns of one episode, from a market of its own that is stepped tick by tick into plain lists."""
    market, policy = Market(config, 1, seed=seed), act(config)
    names = [name.split("@")[0] for name in features.names(config)][: features.size(config) // config.num_symbols]
    found: dict[str, list[Any]] = {}

    def put(name: str, values: Any) -> None:
        found.setdefault(name, []).extend(values)

    seen = market.reset()
    over, found_steps = False, -1
    while not over:
        found_steps += 1
        symbols = range(config.num_symbols)
        over = bool(seen.terminated | seen.truncated)
        put("episode", [episode for _ in symbols])
        put("seed", [seed for _ in symbols])
        put("step", [found_steps for _ in symbols])
        put("time", [time_of(seen.info["tick"].item()) for _ in symbols])
        put("symbol", symbols)
        for name, value in (
            ("tick", seen.info["tick"]),
            ("terminated", seen.terminated),
            ("truncated", seen.truncated),
        ):
            put(name, [value.item() for _ in symbols])
        for name in ACCOUNT:
            put(name, [seen.info[name].item() for _ in symbols])
        put("position", seen.info["position"][0].tolist())
        for symbol in symbols:
            for at, name in enumerate(names):
                put(name, [seen.observation[0, symbol * len(names) + at].item()])
        put("account_position", seen.account[0, : config.num_symbols].tolist())
        for at, name in enumerate(("account_cash", "account_equity", "account_time_left")):
            put(name, [seen.account[0, config.num_symbols + at].item() for _ in symbols])
        for name in PATHS:
            if name not in ("equity", "position"):
                put(name, market.read(name)[name][0].tolist())
        terms = [name for name in seen.info if name.startswith("reward_")]
        action = policy(seen)
        if over:
            for name in ("action", "filled", "reward", "turnover", *terms):
                put(name, [None for _ in symbols])
            break
        seen = market.step(action)
        put("action", action[0].tolist())
        put("filled", seen.info["filled"][0].tolist())
        for name, value in {"reward": seen.reward, "turnover": seen.info["turnover"]}.items():
            put(name, [value.item() for _ in symbols])
        for name in terms:
            put(name, [seen.info[name].item() for _ in symbols])
    return {name: np.array(values, dtype=object) for name, values in found.items()}


def bits(values: np.ndarray) -> list[Any]:
    """Plain values that compare by bits: real numbers as their integer word, missing ones as None."""
    return [np.float64(value).view(np.int64).item() if isinstance(value, float) else value for value in values.tolist()]


def same(path: Path, expected: dict[str, np.ndarray]) -> None:
    table = pq.read_table(path)
    assert set(table.column_names) == set(expected)
    for name, values in expected.items():
        assert bits(np.array(table[name].to_pylist(), dtype=object)) == bits(values), name


@pytest.mark.parametrize("config", [SHORT, CROWDED, FRAIL], ids=["short", "everything", "frail"])
def test_every_value_is_that_of_an_independent_replay(config: MarketConfig, tmp_path: Path) -> None:
    path = tmp_path / "episodes.parquet"
    made = record(path, config, episodes=3, seed=5, num_envs=2, policy=act(config), rows_per_group=30)
    replays = [replay(config, 5 + episode, episode) for episode in range(3)]
    whole = {name: np.concatenate([one[name] for one in replays]) for name in replays[0]}
    same(path, whole)
    assert (made.rows, made.columns, made.size) == (len(whole["tick"]), len(whole), path.stat().st_size)
    assert made.ruined == sum(bool(one["terminated"][-1]) for one in replays)
    assert (made.ruined > 0) == (config is FRAIL)


def test_stages_are_told_from_their_beginning(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    record(tmp_path / "x.parquet", toy(max_ticks=3), episodes=3, num_envs=2, progress=lambda *call: told.append(call))
    ticks = [("ticks", done, 6) for done in (0, 1, 2, 3, 3, 4, 5, 6)]
    assert told == [*ticks, ("sorting", 0, 1), ("sorting", 1, 1)]


def test_a_ruined_episode_ends_there(tmp_path: Path) -> None:
    path = tmp_path / "ruin.parquet"
    made = record(path, FRAIL, episodes=4, policy=act(FRAIL))
    table = pl.read_parquet(path)
    assert made.ruined > 0
    for (episode,), rows in table.group_by("episode"):
        assert rows["terminated"].sum() + rows["truncated"].sum() >= 1, episode
        assert (rows["terminated"] | rows["truncated"]).to_list() == [False] * (len(rows) - 1) + [True]
        assert len(rows) == rows["tick"].max() + 1
    assert table.filter("terminated")["tick"].min() < FRAIL.max_ticks
    assert (table.filter("terminated")["equity"] <= FRAIL.maintenance * FRAIL.point_size).all()


def test_the_file_is_the_same_in_every_byte_for_any_batch(tmp_path: Path) -> None:
    seen = []
    for num_envs in (1, 2, 64):
        path = tmp_path / f"{num_envs}.parquet"
        record(path, FRAIL, episodes=3, num_envs=num_envs, policy=act(FRAIL), rows_per_group=50)
        seen.append(path.read_bytes())
    assert seen[1:] == seen[:1] * 2
    metadata = pq.read_metadata(tmp_path / "1.parquet")
    groups = [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]
    assert groups == [50] * (metadata.num_rows // 50) + [metadata.num_rows % 50]


def test_rows_are_moments_with_their_decisions(tmp_path: Path) -> None:
    path = tmp_path / "episodes.parquet"
    record(path, CROWDED, episodes=2, policy=act(CROWDED))
    table = pl.read_parquet(path)
    keys = table.select("episode", "tick", "symbol").rows()
    moments = range(0, CROWDED.max_ticks + 1, CROWDED.ticks_per_action)
    assert keys == [(episode, tick, symbol) for episode in range(2) for tick in moments for symbol in range(3)]
    assert table["seed"].to_list() == table["episode"].to_list()
    last = table["truncated"]
    assert last.to_list() == [tick == CROWDED.max_ticks for _, tick, _ in keys]
    for column in columns(CROWDED):
        missing = table[column.name].is_null()
        assert (missing == (last & column.nullable)).all(), column.name
    own = table.filter(pl.col("symbol") == 0)
    brought = own.group_by("episode", maintain_order=True).agg(
        earned=pl.col("reward_pnl").sum(), gained=pl.col("equity").last() - pl.col("equity").first()
    )
    assert brought["gained"].abs().min() > 0.0
    np.testing.assert_allclose(brought["earned"], brought["gained"], rtol=0.0, atol=1e-9)
    held = table.filter(pl.col("symbol") == 2, pl.col("episode") == 1)
    assert held["position"].diff().drop_nulls().to_list() == held["filled"].drop_nulls().to_list()


def test_pandas_polars_and_pyarrow_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "episodes.parquet"
    record(path, toy(max_ticks=8), episodes=2, policy=act(SHORT))
    arrow, polars = pq.read_table(path), pl.read_parquet(path)
    plain, exact = pd.read_parquet(path), pd.read_parquet(path, dtype_backend="pyarrow")
    listed = describe(path)
    assert [column.name for column in listed] == arrow.column_names == polars.columns == list(plain) == list(exact)
    polar = {"int64": pl.Int64, "float64": pl.Float64, "bool": pl.Boolean, "timestamp[us]": pl.Datetime("us")}
    arrows = {"int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_(), "timestamp[us]": pa.timestamp("us")}
    dtypes = {"timestamp[us]": "datetime64[us]"}
    for column in listed:
        name = column.name
        expected = bits(np.array(arrow[name].to_pylist(), dtype=object))
        assert bits(np.array(polars[name].to_list(), dtype=object)) == expected, name
        stored = np.array([None if value is pd.NA else value for value in exact[name].tolist()], dtype=object)
        assert bits(stored) == expected, name
        seen = np.array([None if pd.isna(value) else value for value in plain[name].tolist()], dtype=object)
        assert all(one == other for one, other in zip(seen, arrow[name].to_pylist(), strict=True)), name
        assert arrow.schema.field(name).type == arrows[column.dtype]
        assert polars.schema[name] == polar[column.dtype]
        assert exact[name].dtype == pd.ArrowDtype(arrows[column.dtype])
        # Without Arrow's types pandas has no integers with gaps.
        assert plain[name].dtype == ("float64" if column.nullable else dtypes.get(column.dtype, column.dtype))


def test_the_schema_tells_units_and_meanings(tmp_path: Path) -> None:
    path = tmp_path / "episodes.parquet"
    record(path, CROWDED, episodes=2, seed=4, about={"policy": "hold", "version": "mine"})
    assert describe(path) == columns(CROWDED)
    for field in pq.read_schema(path):
        assert set(field.metadata) == {b"unit", b"kind", b"description"}
        assert all(field.metadata.values()), field.name
        assert field.metadata[b"kind"].decode() in KINDS
    assert read_config(path) == CROWDED
    about = read_about(path)
    assert set(about) == {"version", "config", "row", "origin", "ticks_per_day", "seed", "episodes", "policy"}
    assert (about["version"], about["seed"], about["episodes"], about["policy"]) == (__version__, "4", "2", "hold")
    assert json.loads(about["config"])["max_ticks"] == 12
    group = pq.read_metadata(path).row_group(0)
    assert [group.column(place.column_index).path_in_schema for place in group.sorting_columns] == [
        "episode",
        "tick",
        "symbol",
    ]
    for at in range(group.num_columns):
        assert group.column(at).compression == "ZSTD"
        if group.column(at).physical_type == "DOUBLE":
            assert "RLE_DICTIONARY" not in group.column(at).encodings


def test_units_follow_the_configuration() -> None:
    def units(**changes: Any) -> dict[str, tuple[str, str]]:
        return {column.name: (column.unit, column.description) for column in columns(toy(**changes))}

    assert units()["reward"][0] == "currency"
    assert units(reward={"pnl": 1.0, "risk_adjusted": 1.0})["reward"][0] == "currency"
    assert units(reward={"pnl": 1.0, "log_return": 1.0})["reward"][0] == "mixed"
    assert units(reward="log_return")["reward_log_return"][0] == "fraction"
    assert units()["f_macd_line"] == ("currency", "f_ema_8 less f_ema_16")
    unit, told = units(scaling="relative")["f_macd_line"]
    assert unit == "ratio"
    assert "x / move" in told and "±10" in told
    assert "0 to 6" in units(action="sized")["action"][1]


def test_every_row_of_the_readout_is_a_column_with_a_unit_and_a_meaning() -> None:
    sets = (columns(toy(features=shown)) for shown in ("full55", "ladder20"))
    described = {column.name for told in sets for column in told if column.kind == "feature"}
    assert described == {name for feature in FEATURES.values() for name in feature.names}
    assert all(row.unit and row.meaning for row in (*FEATURES.values(), *REWARDS.values()))
    for config in (toy(), EVERYTHING):
        market = cold(config, 2)
        told = columns(config)
        dtypes = {column.name: f"torch.{column.dtype}" for column in told}
        assert all(column.unit and column.description for column in told)
        assert {*PATHS, *market.observe().info} <= set(dtypes)
        for name, values in {**market.read(*PATHS), **market.observe().info}.items():
            assert str(values.dtype) == dtypes[name], name


def test_one_more_row_of_the_readout_is_one_more_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spread(moment: Moment) -> Tensor:
        return moment.state.market_data.ask - moment.state.market_data.bid

    config = toy(max_ticks=4, num_symbols=2)
    monkeypatch.setitem(PATHS, "spread", Entry(spread, "points", "ask less bid", torch.int64, per_symbol=True))
    monkeypatch.setitem(PATHS, "secret", Entry(spread, "points", "the same", torch.int64, per_symbol=True, hidden=True))
    monkeypatch.setitem(INFO, "clock", Entry(lambda m: m.state.clock.tick, "ticks", "ticks so far", torch.int64))
    record(tmp_path / "more.parquet", config, episodes=2)
    told = {column.name: column for column in describe(tmp_path / "more.parquet")}
    assert told["spread"] == Column("spread", "int64", "points", "market", "ask less bid")
    assert (told["secret"].kind, told["clock"].kind) == ("hidden", "account")
    table = pl.read_parquet(tmp_path / "more.parquet")
    between = (table["ask"] - table["bid"]) / config.point_size
    assert table["spread"].to_list() == table["secret"].to_list() == between.round().cast(pl.Int64).to_list()
    assert table["spread"].min() > 0
    assert table["clock"].to_list() == table["tick"].to_list()


def test_a_choice_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "few.parquet"
    EpisodeRecorder(path, Market(toy()), features=False, market_fields=["volume", "mid", "equity"]).close()
    names = [column.name for column in describe(path)]
    assert names == [
        *("episode", "seed", "tick", "step", "time", "symbol", "terminated", "truncated"),
        *("action", "reward", "reward_pnl", "filled", "turnover"),
        *("position", "equity", "cash", "realized_pnl", "fees", "borrow", "volume", "mid"),
    ]
    EpisodeRecorder(tmp_path / "none.parquet", Market(toy(features="minimal42")), market_fields=[]).close()
    seen = [column.name for column in describe(tmp_path / "none.parquet") if column.kind == "feature"]
    assert seen == list(FEATURE_SETS["minimal42"])


@pytest.mark.parametrize(
    "config", [EVERYTHING, toy(randomize={"fundamentals.volatility": (5e-4, 1.5e-3)}), MarketConfig()]
)
def test_the_configuration_comes_back(config: MarketConfig, tmp_path: Path) -> None:
    EpisodeRecorder(tmp_path / "empty.parquet", Market(config, 1, seed=0)).close()
    assert read_config(tmp_path / "empty.parquet") == config
    assert pq.read_metadata(tmp_path / "empty.parquet").num_rows == 0


def test_a_maker_gets_the_seeds_of_each_block(tmp_path: Path) -> None:
    given = []

    def make_policy(config: MarketConfig, seeds: Tensor) -> Callable[[StepResult], Tensor]:
        given.append(seeds.tolist())
        return BASELINES["random"].make(config, seeds)

    config = toy(max_ticks=6)
    record(tmp_path / "two.parquet", config, episodes=5, seed=2**63 - 3, num_envs=2, make_policy=make_policy)
    assert given == [[2**63 - 3, 2**63 - 2], [2**63 - 1, 0], [1, 2]]
    record(tmp_path / "all.parquet", config, episodes=5, seed=2**63 - 3, make_policy=BASELINES["random"].make)
    assert (tmp_path / "two.parquet").read_bytes() == (tmp_path / "all.parquet").read_bytes()
    table = pl.read_parquet(tmp_path / "all.parquet")
    assert table["seed"].unique(maintain_order=True).to_list() == [2**63 - 3, 2**63 - 2, 2**63 - 1, 0, 1]
    assert table["action"].drop_nulls().n_unique() == 3


KEYED = pa.schema([("episode", pa.int64()), ("tick", pa.int64()), ("symbol", pa.int64()), ("x", pa.float64())])


def test_how_rows_come_does_not_change_the_file(tmp_path: Path) -> None:
    count = np.arange(250_000)
    rows = pa.RecordBatch.from_arrays([pa.array(count)] * 3 + [pa.array(np.sqrt(count))], schema=KEYED)

    def written(size: int, rows_per_group: int) -> bytes:
        file = ParquetFile(tmp_path / "rows.parquet", KEYED, rows_per_group=rows_per_group, overwrite=True)
        for at in range(0, len(count), size):
            file.write(rows.slice(at, size))
        file.close()
        return file.path.read_bytes()

    # The larger group has several pages per column.
    for rows_per_group, groups in ((32_768, [*[32_768] * 7, 20_624]), (200_000, [200_000, 50_000])):
        sizes = (333, 40_000, len(count))
        assert len({written(size, rows_per_group) for size in sizes}) == 1, rows_per_group
        metadata = pq.read_metadata(tmp_path / "rows.parquet")
        assert [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)] == groups


def test_memory_does_not_grow_with_what_is_recorded(tmp_path: Path) -> None:
    def peak(parts: int) -> int:
        """Most bytes that Arrow and Python held while two episodes of so many parts went through."""
        highest = 0

        def look() -> None:
            nonlocal highest
            highest = max(highest, pa.total_allocated_bytes() + tracemalloc.get_traced_memory()[0] - before)

        before = pa.total_allocated_bytes() + tracemalloc.get_traced_memory()[0]
        file = ParquetFile(tmp_path / f"{parts}.parquet", KEYED, rows_per_group=1500, overwrite=False)
        sorter = Sorter(tmp_path, KEYED, 2)
        for part in range(2 * parts):
            arrays = [*([pa.array([1] * 1000)] * 3), pa.array([0.5] * 1000)]
            sorter.write(part % 2, pa.RecordBatch.from_arrays(arrays, schema=KEYED))
            look()
        for rows in sorter.sorted():
            file.write(rows)
            look()
        sorter.close()
        file.close()
        assert file.rows == pq.read_metadata(file.path).num_rows == 2000 * parts
        return highest

    tracemalloc.start()
    try:
        short = peak(4)
        assert short > 50_000  # bytes: at least the rows of a group
        assert peak(200) < 2 * short
    finally:
        tracemalloc.stop()


def test_the_rows_kept_in_memory_do_not_grow_with_the_episode(tmp_path: Path) -> None:
    for ticks in (10_000, 1_000_000):
        recorded = EpisodeRecorder(tmp_path / "x.parquet", Market(toy(max_ticks=ticks), 4, seed=0), rows_per_group=1000)
        assert recorded._chunk.length == 250
        recorded.discard()
    recorded = EpisodeRecorder(tmp_path / "x.parquet", Market(toy(max_ticks=9), 4, seed=0))
    assert recorded._chunk.length == 10
    recorded.discard()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_recording_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    def fails(seen: StepResult) -> Tensor:
        if int(seen.info["tick"][0]) == 6:
            raise error("stop")
        return torch.ones_like(seen.info["position"])

    path = tmp_path / "episodes.parquet"
    with pytest.raises(error, match="stop"):
        record(path, SHORT, episodes=2, policy=fails, rows_per_group=16)
    assert list(tmp_path.iterdir()) == []
    path.write_text("precious")
    with pytest.raises(error, match="stop"):
        record(path, SHORT, episodes=2, policy=fails, rows_per_group=16, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "precious"


def test_a_file_that_is_there_is_only_replaced_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "episodes.parquet"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"episodes\.parquet is there already.* overwrite=True \(--overwrite\)"):
        record(path, toy(max_ticks=2), episodes=1)
    assert path.read_text() == "precious"
    record(path, toy(max_ticks=2), episodes=1, overwrite=True)
    assert pq.read_metadata(path).num_rows == 3
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": 0}, "episodes must be an integer >= 1, got 0"),
        ({"episodes": 2, "num_envs": 0}, "num_envs must be an integer >= 1, got 0"),
        ({"episodes": 2, "num_envs": True}, "num_envs must be an integer >= 1, got True"),
        (
            {"episodes": 2, "make_policy": "momentum"},
            r"make_policy must be a function, got 'momentum': .*BASELINES\[name\]",
        ),
        ({"episodes": 2, "policy": "momentum"}, r"policy must be a function, got 'momentum': .*BASELINES\[name\]"),
        (
            {"episodes": 2, "make_policy": act(SHORT)},
            r"make_policy must make a policy from .* where it is a policy itself, give lambda config, seeds: policy",
        ),
        ({"episodes": 2, "device": "cuda:99"}, "device 'cuda:99' cannot be used"),
        ({"episodes": 2, "seed": -1}, "^seed must be an integer from 0"),
        ({"episodes": 2, "rows_per_group": 0}, "rows_per_group must be an integer >= 1, got 0"),
        ({"episodes": 2, "rows_per_group": True}, "rows_per_group must be an integer >= 1, got True"),
        ({"episodes": 2, "market_fields": ["midd"]}, "unknown entry of a path 'midd': choose from mid"),
        (
            {"episodes": 2, "policy": act(SHORT), "make_policy": BASELINES["hold"].make},
            "policy and make_policy contradict",
        ),
        ({"episodes": 2, "policy": lambda seen: torch.tensor([1, 9])}, "action of market 1 is 9, must be 0 to 2"),
    ],
)
def test_bad_arguments_write_nothing(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        record(tmp_path / "episodes.parquet", SHORT, **options)
    assert list(tmp_path.iterdir()) == []


def test_bad_places(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"the folder .*missing is not there"):
        record(tmp_path / "missing" / "episodes.parquet", SHORT, episodes=1)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        record(tmp_path, SHORT, episodes=1, overwrite=True)


def test_files_that_are_no_recordings(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"x": [1]}), path)
    (tmp_path / "text").write_text("hello")
    for read in (describe, read_config, read_about):
        with pytest.raises(ValueError, match=r"other\.parquet was not written by torchgym"):
            read(path)
        with pytest.raises(ValueError, match="text is not a Parquet file"):
            read(tmp_path / "text")
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "missing")


def test_a_recorder_for_ones_own_loop(tmp_path: Path) -> None:
    market, policy = Market(SHORT, 3, seed=0), act(SHORT)
    with EpisodeRecorder(tmp_path / "mine.parquet", market, rows_per_group=24) as recorded:
        with pytest.raises(RuntimeError, match=r"call reset\(seeds\) first"):
            recorded.step()
        seen = recorded.reset([4, 5, 6], episodes=2)
        for _ in range(11):
            seen = recorded.step(policy(seen))
        assert seen.info["tick"].tolist() == [11] * 3
        with pytest.raises(ValueError, match="expected 3 seeds"):
            recorded.reset([7])
        with pytest.raises(ValueError, match="must be 0 to 2"):
            recorded.step(torch.tensor([0, 0, 3]))
        with pytest.raises(ValueError, match="from 1 to the 3 markets, got 4"):
            recorded.reset([7, 8, 9], episodes=4)
        with pytest.raises(ValueError, match="from 1 to the 3 markets, got True"):
            recorded.reset([7, 8, 9], episodes=True)
        recorded.step()
        recorded.reset([9, 9, 9])
        assert not (tmp_path / "mine.parquet").exists()
    assert recorded.episodes == 5
    table = pl.read_parquet(tmp_path / "mine.parquet")
    assert table["episode"].value_counts(sort=True)["count"].to_list() == [13, 13, 1, 1, 1]
    assert table.select("episode", "seed").unique(maintain_order=True).rows() == [
        (0, 4),
        (1, 5),
        (2, 9),
        (3, 9),
        (4, 9),
    ]
    cut = table.filter(pl.col("episode") == 1)
    assert cut["truncated"].sum() + cut["terminated"].sum() == 0
    assert cut["action"].is_null().to_list() == [False] * 12 + [True]
    assert cut["action"][11] == 1
    whole = replay(SHORT, 5, 0)
    for name in ("f_log_return_1", "equity", "reward", "bid_depth"):
        assert cut[name].to_list()[:11] == whole[name].tolist()[:11], name
    assert recorded.rows == len(table)


def test_episodes_in_which_nothing_was_decided(tmp_path: Path) -> None:
    path = tmp_path / "opened.parquet"
    with EpisodeRecorder(path, Market(CROWDED, 2, seed=0)) as recorded:
        seen = recorded.reset([3, 4])
    table = pl.read_parquet(path)
    assert table.select("episode", "tick", "symbol").rows() == [
        (episode, 0, at) for episode in range(2) for at in range(3)
    ]
    assert table["equity"].to_list() == seen.info["equity"].repeat_interleave(3).tolist()
    for column in columns(CROWDED):
        assert table[column.name].null_count() == (6 if column.nullable else 0), column.name


def test_a_market_with_days_has_a_calendar_of_its_own(tmp_path: Path) -> None:
    """Its closing auctions are at 16:00."""
    path = tmp_path / "days.parquet"
    record(path, toy(max_ticks=20, session=Session(kind="day", ticks=10)), episodes=1)
    table = pq.read_table(path, columns=["tick", "time", "day_left"]).to_pydict()
    assert [str(time)[11:16] for time in table["time"] if time.hour == 16] == ["16:00", "16:00"]
    closes = [tick for tick, left in zip(table["tick"], table["day_left"], strict=True) if left == 0.0]
    assert closes == [0, 10, 20]
    assert Calendar.of(MarketConfig(), "2024-01-02") == Calendar("2024-01-02")


@pytest.mark.parametrize(
    ("calendar", "expected"),
    [
        (Calendar("2024-03-02", 1), {0: "2024-03-04 09:30", 1: "2024-03-04 16:00", 5: "2024-03-08 16:00", 6: "2024-03-11 16:00"}),
        (Calendar(datetime.date(2024, 3, 1), 13), {1: "2024-03-01 10:00", 13: "2024-03-01 16:00", 14: "2024-03-04 10:00"}),
        (Calendar(), {5 * 390: "2000-01-07 16:00", 5 * 390 + 1: "2000-01-10 09:31"}),
    ],
)  # fmt: skip
def test_a_calendar_by_hand(calendar: Calendar, expected: dict[int, str]) -> None:
    found = calendar.times(list(expected))
    assert found.tolist() == [datetime.datetime.fromisoformat(time) for time in expected.values()]
    assert (np.diff(calendar.times(range(5_000))) > np.timedelta64(0)).all()
    assert Calendar().ticks_per_day * 252 == TICKS_PER_YEAR  # what evaluations annualise with


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"origin": "soon"}, "origin must be a date such as 2000-01-03, got 'soon'"),
        ({"ticks_per_day": 0}, "ticks_per_day must be an integer >= 1, got 0"),
    ],
)
def test_calendars_that_make_no_sense(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Calendar(**values)


def test_a_recording_gives_dated_returns(tmp_path: Path) -> None:
    """As docs/training.md shows it: a series by day that compounds to what the episode earned."""
    path = tmp_path / "days.parquet"
    calendar = Calendar("2021-06-01", 5)
    record(path, toy(max_ticks=40), episodes=2, policy=act(SHORT), calendar=calendar)
    table = pd.read_parquet(path, columns=["episode", "symbol", "time", "equity"])
    equity = table.query("episode == 1 and symbol == 0").set_index("time").equity
    returns = equity.pct_change().add(1).resample("B").prod() - 1
    assert isinstance(returns.index, pd.DatetimeIndex) and returns.index.tz is None
    assert [str(day.date()) for day in returns.index[[0, 4, 7]]] == ["2021-06-01", "2021-06-07", "2021-06-10"]
    assert len(returns) == 8 and returns.abs().min() > 0.0
    assert empyrical.cum_returns_final(returns) == pytest.approx(equity.iloc[-1] / equity.iloc[0] - 1, rel=1e-12)
    assert empyrical.aggregate_returns(returns, "monthly").index.tolist() == [(2021, 6)]
    assert (read_about(path)["origin"], read_about(path)["ticks_per_day"]) == ("2021-06-01", "5")


@pytest.mark.parametrize("end", ["close", "discard"])
def test_a_finished_recorder_takes_no_more_episodes(end: str, tmp_path: Path) -> None:
    path = tmp_path / "episodes.parquet"
    recorded = EpisodeRecorder(path, Market(toy(max_ticks=4), 1, seed=0))
    recorded.reset([1])
    recorded.step()
    getattr(recorded, end)()
    left = [(file.name, file.read_bytes()) for file in tmp_path.iterdir()]
    assert len(left) == (end == "close")
    for refused in (recorded.step, lambda: recorded.reset([2])):
        with pytest.raises(RuntimeError, match="the recording is finished: make another EpisodeRecorder"):
            refused()
    recorded.close()
    recorded.discard()
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == left
    assert recorded.episodes == 1


def test_a_recorder_that_is_never_used_leaves_nothing(tmp_path: Path) -> None:
    recorded = EpisodeRecorder(tmp_path / "episodes.parquet", Market(toy(max_ticks=4), 1, seed=0))
    assert list(tmp_path.iterdir()) == []
    recorded.reset([1])
    assert len(list(tmp_path.iterdir())) == 1  # shows early that the place can be written to
    recorded.discard()
    assert list(tmp_path.iterdir()) == []


def test_recording_without_pyarrow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchgym.recording", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'pip install "torchgym\[data\]"'):
        importlib.import_module("torchgym.recording")


def test_the_command_records_and_says_how_to_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    path = tmp_path / "new" / "toy.parquet"
    options = {"preset": "toy", "episodes": 3, "ticks": 6, "ticks_per_action": 2, "symbols": 2, "seed": 8}
    assert Record(**options, policy="random", markets=2, features=False, output=path).execute() == 0
    shown = capsys.readouterr().out
    assert "3 episodes, 24 rows of 35 columns" in shown
    assert f'pandas.read_parquet("{path}", dtype_backend="pyarrow")' in shown
    assert f'polars.read_parquet("{path}")' in shown
    assert len(pd.read_parquet(path, dtype_backend="pyarrow")) == len(pl.read_parquet(path)) == 24
    about = read_about(path)
    assert (about["preset"], about["policy"], about["seed"], about["episodes"]) == ("toy", "random", "8", "3")
    with pytest.raises(FileExistsError):
        Record(**options, output=path).execute()
    assert Record(**options, output=path, overwrite=True).execute() == 0
    assert pl.read_parquet(path)["action"].unique().drop_nulls().to_list() == [1]
    assert len(describe(path)) == 35 + 54 + 4


def test_the_commands_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.chdir(tmp_path)
    assert Record(preset="toy", episodes=1, ticks=2).execute() == 0
    assert pq.read_metadata("runs/record/toy.parquet").num_rows == 3


def test_the_command_lists_policies_that_make_sense() -> None:
    with pytest.raises(ValueError, match="unknown policy 'twap_liquidator': choose one of hold, random"):
        Record(preset="toy", policy="twap_liquidator").execute()


def test_the_command_records_a_trained_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    config = toy(max_ticks=12, ticks_per_action=3, num_symbols=2, scaling="relative")
    settings = PPOSettings(total_frames=32, num_envs=4, rollout=4, hidden=(4,))
    trained = start(config, settings, compile=False)
    weight = trained.trainer.agent.get_parameter("_logits.body.2.weight")
    with torch.no_grad():
        weight.mul_(1_000.0)  # decided enough that rounding changes no choice
    trained.save(tmp_path / "first")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="--ticks-per-action, --policy: the run first has decided that; leave it out"):
        Record(run=Path("first"), policy="random", ticks_per_action=2).execute()
    with pytest.raises(ValueError, match="does not exist"):
        Record(run=Path("second")).execute()
    assert not (tmp_path / "runs").exists()
    assert Record(run=Path("first"), episodes=3, seed=20_000_000, markets=2).execute() == 0
    path = tmp_path / "runs/record/first.parquet"
    assert read_config(path) == config
    about = read_about(path)
    assert (about["run"], about["policy"], about["seed"]) == ("first", "agent", "20000000")
    record(tmp_path / "same.parquet", config, episodes=3, seed=20_000_000, policy=load_agent(tmp_path / "first").policy)
    table, same = pl.read_parquet(path), pl.read_parquet(tmp_path / "same.parquet")
    assert table.equals(same)
    assert table["action"].drop_nulls().n_unique() > 1


@pytest.mark.parametrize(
    "option", [{"preset": "toy"}, {"ticks": 5}, {"ticks_per_action": 2}, {"symbols": 2}, {"policy": "random"}]
)
def test_what_a_run_has_decided_cannot_be_asked_for(option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(ValueError, match=f"^--{name.replace('_', '-')}: the run first has decided that"):
        Record(run=Path("first"), **option).execute()


def test_resting_orders_are_recorded_as_the_learner_sees_them(tmp_path: Path) -> None:
    """In shares and currency what the account has in standard orders and half-spreads; events as they are told."""
    config = toy(max_ticks=40, num_symbols=2, quotes=1, action="quotes", priority="time", scaling="relative")
    make = BASELINES["symmetric_quotes"].make
    record(tmp_path / "quotes.parquet", config, episodes=1, seed=5, make_policy=make)
    told = {column.name: column for column in describe(tmp_path / "quotes.parquet")}
    assert told["ask_1_price"].unit == "currency" and told["ask_1_price"].kind == "account"
    table = pl.read_parquet(tmp_path / "quotes.parquet")
    unit = float(plain_params(config, torch.device("cpu")).typical_half_spread) * config.point_size
    for place in ("bid_1", "ask_1"):
        for name in ("size", "ahead", "older", "same", "behind", "filled"):
            seen = table[f"account_{place}_{name}"] * config.order_size
            np.testing.assert_array_equal(table[f"{place}_{name}"], seen.round())
        for name in ("price", "fill_price"):
            shares = table[f"{place}_{'size' if name == 'price' else 'filled'}"].to_numpy()
            far = (table[f"{place}_{name}"] - table["mid"]).to_numpy() / unit
            np.testing.assert_array_equal(np.isnan(far), shares == 0)
            np.testing.assert_allclose(np.nan_to_num(far), table[f"account_{place}_{name}"], atol=1e-6)
        assert table[f"{place}_filled"].abs().sum() > 0
    filled = table["bid_1_filled"] - table["ask_1_filled"]  # asks' fills are negative
    after = np.array(filled.to_list()).reshape(-1, 2)[1:]
    rested = np.array(table["rested"].drop_nulls().to_list()).reshape(-1, 2)
    np.testing.assert_array_equal(after, rested)
    assert table["self_cancelled"].sum() == 0
    assert not {"rested", "bid_1_price"} & {column.name for column in columns(toy())}


def test_paths_have_the_places_of_a_market_that_has_any() -> None:
    market = Market(toy(quotes=1, action="depths"), num_envs=2, seed=0, compile=False)
    market.reset()
    paths = market.run(3, lambda result: torch.full((2, 2), 3.0), record=["mid", "bid_1_price", "ask_1_size"])
    assert paths["bid_1_price"].shape == (2, 3, 1)
    now = market.read("bid_1_price", "bid_1_size", "ask_1_size")
    assert now["ask_1_size"].dtype == torch.int64 and bool((now["bid_1_size"] + now["ask_1_size"] > 0).all())
    assert torch.equal(paths["ask_1_size"][:, -1], now["ask_1_size"])
    assert torch.equal(now["bid_1_price"].isnan(), now["bid_1_size"] == 0)
    with pytest.raises(ValueError, match="unknown entry of a path 'bid_2_price'"):
        market.read("bid_2_price")
