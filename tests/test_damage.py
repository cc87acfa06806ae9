"""Every file that torchgym writes and reads again: damaged it is refused, and a write that fails leaves the old one."""

from __future__ import annotations

import json
import random
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from markets import opened, random_actions, toy
from speed_rows import append, read
from speeds import row

from torchgym import Market
from torchgym.files import read_json, write_json
from torchgym.numerics.trees import leaves
from torchgym.recording import check_pages, describe, read_about, record
from torchgym.training import PPOSettings, read_checkpoint, start

CONFIG = toy(max_ticks=8)


def saved_market(path: Path) -> None:
    market = opened(CONFIG, 2, seed=1)
    market.step(random_actions(CONFIG, 1, 2)[0])
    market.save(path)


def loaded_market(path: Path) -> Any:
    return {name: leaf.tolist() for name, leaf in leaves(Market.load(path).state)}


def training(path: Path) -> None:
    settings = PPOSettings(total_frames=16, num_envs=2, rollout=4, hidden=(4,), minibatches=1, epochs=1)
    run = start(CONFIG, settings, compile=False, validations=0)
    run.advance()
    run.save(path.parent)


def plain(tree: Any) -> Any:
    """Tensors as lists, so that == compares everything."""
    if isinstance(tree, torch.Tensor):
        return tree.tolist()
    if isinstance(tree, dict):
        return {name: plain(child) for name, child in tree.items()}
    return [plain(child) for child in tree] if isinstance(tree, (list, tuple)) else tree


def recording(path: Path) -> None:
    record(path, CONFIG, episodes=2, features=False, market_fields=["mid"], overwrite=True)


def read_recording(path: Path) -> Any:
    check_pages(path)
    return describe(path), read_about(path), pq.read_table(path).to_pylist()


@dataclass(frozen=True)
class Kind:
    """A kind of file: how it is written, and everything that is read from it."""

    name: str
    write: Callable[[Path], None]
    read: Callable[[Path], Any]


KINDS = [
    Kind("market.pt", saved_market, loaded_market),
    Kind("checkpoint.pt", training, lambda path: plain(read_checkpoint(path))),
    Kind("run.json", lambda path: write_json(path, {"a": 1.5, "b": [1, "x"], "c": {"d": None}}), read_json),
    Kind("speed.csv", lambda path: append(path, [row(median=12345.6, target=""), row(median=3.0, target="")]), read),
    Kind("episodes.parquet", recording, read_recording),
]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Kind, Path, bytes, Any]:
    kind: Kind = request.param
    path = tmp_path_factory.mktemp("damage") / kind.name
    kind.write(path)
    return kind, path, path.read_bytes(), kind.read(path)


def test_one_bit_that_changed_is_noticed(file: tuple[Kind, Path, bytes, Any]) -> None:
    """Refused by a ValueError that names the file; or, where the bit says nothing, read as what was written."""
    kind, path, whole, content = file
    drawn = random.Random(3)
    refused = 0
    for _ in range(250):
        damaged = bytearray(whole)
        damaged[drawn.randrange(len(whole))] ^= 1 << drawn.randrange(8)
        path.write_bytes(damaged)
        try:
            assert kind.read(path) == content
        except ValueError as error:
            assert kind.name in str(error)
            refused += 1
    assert refused > 100
    path.write_bytes(whole)


def test_a_file_that_was_cut_or_is_another_is_refused(file: tuple[Kind, Path, bytes, Any]) -> None:
    kind, path, whole, content = file
    for wrong in (b"", b"hello", whole[: len(whole) // 2], whole[:-1], whole + b"x", bytes(len(whole)), b"[]", b"{}"):
        path.write_bytes(wrong)
        if whole.isascii() and wrong == whole[:-1]:  # a text without its last line break says the same
            assert kind.read(path) == content
            continue
        with pytest.raises(ValueError, match=kind.name.replace(".", r"\.")):
            kind.read(path)
    path.write_bytes(whole)


def test_digests_do_not_depend_on_how_json_is_laid_out(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"seed": 7, "rates": (0.1, 1e-30), "name": "Ångström"})
    content = read_json(path)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=None, ensure_ascii=False), encoding="utf-8")
    assert read_json(path) == content == {"seed": 7, "rates": [0.1, 1e-30], "name": "Ångström"}
    with pytest.raises(ValueError, match=r"run\.json lacks settings"):
        read_json(path, ("seed", "settings"))


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file may become longer than so many bytes, as on a disk that is full."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_full_disk_leaves_what_was_there_and_nothing_else(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    kind.write(path)
    before = path.read_bytes()
    for room in (0, len(before) // 2, len(before) - 1):
        with full_disk(room), pytest.raises((OSError, RuntimeError)):
            kind.write(path)
        assert [one.name for one in tmp_path.iterdir()] == [kind.name]
        assert path.read_bytes() == before


def test_a_recorder_without_a_context_leaves_nothing_on_a_full_disk(tmp_path: Path) -> None:
    from torchgym.recording import EpisodeRecorder

    recorder = EpisodeRecorder(tmp_path / "episodes.parquet", Market(toy(max_ticks=400), 8, seed=0), rows_per_group=64)
    recorder.reset(range(8))
    with full_disk(20_000), pytest.raises(OSError):
        for _ in range(300):
            recorder.step()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError, match="the recording is finished"):
        recorder.step()


def test_a_recorder_that_is_forgotten_leaves_nothing(tmp_path: Path) -> None:
    from torchgym.recording import EpisodeRecorder

    recorder = EpisodeRecorder(tmp_path / "episodes.parquet", Market(CONFIG, 1, seed=0))
    recorder.reset([1])
    assert len(list(tmp_path.iterdir())) == 1
    del recorder
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    market, real, link = opened(CONFIG, 1), tmp_path / "real.pt", tmp_path / "link.pt"
    market.save(real)
    link.symlink_to(real)
    market.step()
    market.save(link)
    assert link.is_symlink()
    assert Market.load(real).observe().info["tick"].tolist() == [1]
