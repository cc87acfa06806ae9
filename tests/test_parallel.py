"""Two processes train one agent: each plays its share of the markets, and both hold the same bits throughout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import SETTINGS, begun, weights

from torchgym.training import Ranks, joined, resume
from torchgym.training.learner import seed_of
from torchgym.training.parallel import ALONE, launcher

TWO_GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no two CUDA devices: nccl is not tried")


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=TWO_GPUS)])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left, by gloo on CPUs and by nccl on GPUs."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("ranks.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(script), str(folder), request.param],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def test_parameters_are_the_same_in_every_bit(told: list[dict[str, Any]]) -> None:
    assert told[0]["weights"] == told[1]["weights"]
    assert told[0]["weights"] != weights(begun(ALONE))  # they have learned something


def test_markets_are_split_and_choices_differ(told: list[dict[str, Any]]) -> None:
    assert [entry["seeds"] for entry in told] == [[5, 6], [7, 8]]
    alone = begun(ALONE)
    alone.advance(1)
    assert alone.trainer.env.market.live.clock.seed.tolist() == [5, 6, 7, 8]  # the markets that one process plays
    assert len(told[0]["actions"]) == 6 * 4
    assert told[0]["actions"] != told[1]["actions"]


def test_frames_count_all_processes(told: list[dict[str, Any]]) -> None:
    assert [entry["frames"] for entry in told] == [SETTINGS.total_frames] * 2
    assert [row["frames"] for row in told[0]["curve"]] == [24, 48, 72, 96]
    first, second = ([row["training_return"] for row in entry["curve"]] for entry in told)
    assert first == second
    assert "validation_profit" in told[0]["curve"][-1] and "validation_profit" not in told[1]["curve"][-1]


def test_stopped_and_resumed_they_end_in_the_same_bits(told: list[dict[str, Any]]) -> None:
    assert [entry["stopped_at"] for entry in told] == [1, 1]
    assert told[0]["resumed"] == told[1]["resumed"] == told[0]["weights"]


def test_one_process_goes_on_with_what_two_saved(folder: Path) -> None:
    run = resume(folder, compile=False)
    assert run.trainer.update == 2
    assert run.trainer.env.market.live.clock.seed.tolist() == [5, 6, 7, 8]
    carried = run.trainer.state_dict()["carried"]["observation"]
    shown = run.trainer.env.market.observe().observation.float()
    assert torch.equal(carried, shown)
    assert run.advance()


def test_what_they_tell_each_other(told: list[dict[str, Any]]) -> None:
    for rank, entry in enumerate(told):
        assert (entry["rank"], entry["count"], entry["device"]) == (
            rank,
            2,
            "cpu" if entry["device"] == "cpu" else f"cuda:{rank}",
        )
        assert entry["average"] == [[0.5, 0.5], [[3.5]]]
        assert entry["mean"] == 0.5
        assert entry["any"] == [False, True]
        assert entry["copied"] == [7.0]
        assert entry["given"] == {"first": 0}
        assert entry["launcher"] == ["torchrun", "--nproc-per-node", "2", "-m"]
        assert "no longer hold the same networks" in entry["differ"]
    assert told[0]["gathered"] == [0, 0, 1, 10]


def test_markets_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(
        ValueError, match="num_envs = 4 markets cannot be shared evenly by 3 processes: choose a multiple"
    ):
        Ranks(rank=0, count=3).share(SETTINGS.num_envs)
    shares = [Ranks(rank=rank, count=4).share(12) for rank in range(4)]
    assert [market for share in shares for market in share] == list(range(12))


def test_alone_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # of somebody else's making
    with joined("cuda:3") as (ranks, device):
        assert (ranks, device) == (ALONE, "cuda:3")
    assert launcher(ALONE) == ()
    tensor = torch.tensor([1.0])
    ALONE.average([tensor])
    ALONE.check_alike([tensor])
    assert tensor.tolist() == [1.0] and not ALONE.any(False) and ALONE.mean(2.0) == 2.0


def test_every_process_draws_for_itself() -> None:
    seeds = {seed_of(0, number, rank) for number in range(50) for rank in range(50)}
    assert len(seeds) == 2_500
    assert all(0 <= seed < 2**63 for seed in seeds)
