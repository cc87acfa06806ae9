"""Two processes train one agent: each plays its share of the markets, and both hold the same bits throughout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import SETTINGS, begun, weights

from torchgym.training import Ranks, join_ranks, resume
from torchgym.training.parallel import ALONE, launcher
from torchgym.training.ppo import seed_of

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
        assert (entry["rank"], entry["count"]) == (rank, 2)
        assert entry["device"] == ("cpu" if entry["wanted"] == "cpu" else f"cuda:{rank}")
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
    with pytest.raises(ValueError, match="by 2 processes, 4 copies of an episode together: choose a multiple of 8"):
        Ranks(rank=0, count=2).share(12, copies=4)
    assert Ranks(rank=1, count=2).share(16, copies=4) == range(8, 16)
    shares = [Ranks(rank=rank, count=4).share(12) for rank in range(4)]
    assert [market for share in shares for market in share] == list(range(12))


def test_alone_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # of somebody else's making
    with join_ranks("cuda:3") as (ranks, device):
        assert (ranks, device) == (ALONE, "cuda:3")
    assert launcher(ALONE) == ()
    tensor = torch.tensor([1.0])
    ALONE.average([tensor])
    ALONE.check_alike([tensor])
    assert tensor.tolist() == [1.0] and not ALONE.any(False) and ALONE.mean(2.0) == 2.0


@pytest.mark.parametrize(
    ("device", "local", "message"),
    [
        ("cuda:0", "0", "device 'cuda:0' would be shared by all processes: ask for cuda"),
        ("cuda", "9", "process 9 of this machine has no GPU, there are .*: start as many processes as GPUs"),
        ("cpu", None, "LOCAL_RANK is not: start the processes with torchrun"),
    ],
)
def test_what_cannot_be_joined_is_refused(
    device: str, local: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local is not None:
        monkeypatch.setenv("LOCAL_RANK", local)
    with pytest.raises(ValueError, match=message), join_ranks(device):
        pass


def test_several_machines_meet_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    command = " ".join(launcher(Ranks(rank=5, count=8, local=1)))
    assert command == "torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:PORT -m"


def test_a_state_of_other_markets_is_refused() -> None:
    run = begun(ALONE)
    run.advance(1)
    state = run.trainer.state_dict()
    doubled = {name: torch.cat([tensor, tensor]) for name, tensor in state["market"].items()}
    with pytest.raises(ValueError, match="the state is of 8 markets, the trainer has 4"):
        begun(ALONE).trainer.load_state_dict({**state, "market": doubled})


def test_ctrl_c_of_torchrun_saves_and_resume_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "torchgym"]
    train = ["train", str(tmp_path), "--preset", "toy", "--max-ticks", "20", "--validations", "0"]
    ppo = ["--ppo.total-frames", "100000", "--ppo.num-envs", "4", "--ppo.rollout", "4", "--ppo.hidden", "4"]
    with subprocess.Popen(
        [*command, *train, *ppo, "--episodes", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    ) as running:
        assert running.stdout is not None
        told = []
        for line in running.stdout:
            told.append(line)
            if "shared by 2 processes; 0 are done" in line:
                time.sleep(3.0)  # some updates
                running.send_signal(signal.SIGINT)
    assert running.returncode != 0
    (saved,) = [line for line in told if line.startswith("saved at ")]
    assert "go on with: torchrun --nproc-per-node 2 -m torchgym train" in saved
    assert sum("finishing this update" in line for line in told) == 1
    updates = resume(tmp_path, compile=False).trainer.update
    assert updates > 0 and f"saved at {updates * 16:,} decisions" in saved


def test_every_process_draws_for_itself() -> None:
    seeds = {seed_of(0, number, rank) for number in range(50) for rank in range(50)}
    assert len(seeds) == 2_500
    assert all(0 <= seed < 2**63 for seed in seeds)
