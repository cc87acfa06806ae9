"""torch.set_default_device and set_default_dtype change nothing: whatever is made names its device and dtype."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchrl.collectors  # these do not survive being imported under a default device without data
import torchrl.envs  # noqa: F401
from markets import EVERYTHING, toy

from torchgym import Market
from torchgym.lab.audit import audit
from torchgym.lab.performance import evaluate
from torchgym.lab.performance.trace import trace
from torchgym.lab.policies import BASELINES, baselines
from torchgym.lab.realism import scorecard
from torchgym.numerics.trees import leaves
from torchgym.recording import record
from torchgym.training import PPOSettings, load_agent, resume, start

PACKAGE = Path(__file__).resolve().parents[1] / "torchgym"
FACTORIES = {
    *("arange", "as_tensor", "empty", "eye", "full", "linspace", "logspace", "ones", "rand", "randint", "randn"),
    *("randperm", "tensor", "zeros"),
}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_every_tensor_is_made_on_a_device_that_is_named(path: Path) -> None:
    without = [
        f"line {call.lineno}: torch.{call.func.attr}"
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and (call.func.value.id, call.func.attr in FACTORIES) == ("torch", True)
        and not any(keyword.arg in ("device", None) for keyword in call.keywords)
    ]
    assert without == []


def market(folder: Path) -> Any:
    """Opened, stepped, reset in part, recorded, forked, saved and loaded, with every option away from its default."""
    config = EVERYTHING.replace(randomize={"population.noise.rate": (0.02, 0.1)})
    one = Market(config, 2, seed=1)
    one.reset()
    one.step(torch.tensor([0, 6], device="cpu"))
    one.reset(mask=torch.tensor([True, False], device="cpu"))
    paths = one.run(4)
    one.fork().step()
    one.save(folder / "market.pt")
    loaded = Market.load(folder / "market.pt")
    loaded.step()
    return [leaf.tolist() for _, leaf in (*leaves(loaded.state), *sorted(paths.items()))]


def training(folder: Path) -> Any:
    config = toy(max_ticks=8, scaling="relative")
    settings = PPOSettings(total_frames=32, num_envs=2, rollout=4, hidden=(4,))
    run = start(config, settings, compile=False, validations=1, validation_episodes=2)
    run.advance(2)
    run.save(folder)
    resumed = resume(folder, compile=False)
    resumed.advance()
    timed = ("seconds", "decisions_per_second")
    rows = [{name: value for name, value in row.items() if name not in timed} for row in resumed.curve]
    return rows, [part.tolist() for part in (*resumed.trainer.agent.parameters(), *load_agent(folder).parameters())]


def evaluation(folder: Path) -> Any:
    policies = baselines(toy())
    return evaluate(toy(max_ticks=20), policies, agent="hold", episodes=4).to_dict("nothing")


def recording(folder: Path) -> Any:
    record(folder / "episodes.parquet", toy(max_ticks=5), episodes=3)
    return (folder / "episodes.parquet").read_bytes()


def facts(folder: Path) -> Any:
    return scorecard(toy(), markets=4, ticks=400, burn_in=10, resamples=2, impact=False, compile=False).to_dict()


def cheats(folder: Path) -> Any:
    return audit(toy(), episodes=2, ticks=60, compile=False).to_dict()


def traced(folder: Path) -> Any:
    config = toy(max_ticks=20)
    make_policy = BASELINES["buy_and_hold"].make
    return {
        name: value.tolist() if isinstance(value, torch.Tensor) else value
        for name, value in vars(trace(config, make_policy(config, torch.tensor([1], device="cpu")), 1)).items()
    }


@pytest.mark.parametrize("work", [market, training, evaluation, recording, facts, cheats, traced])
def test_defaults_of_torch_change_nothing(work: Callable[[Path], Any], tmp_path: Path) -> None:
    """A default device that holds no data at all stands for a GPU."""
    folders = [tmp_path / name for name in ("plain", "other")]
    for folder in folders:
        folder.mkdir()
    plain = work(folders[0])
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(
        dtype if work is training else torch.float64
    )  # networks have the default dtype, as everywhere
    try:
        with torch.device("meta"):
            other = work(folders[1])
    finally:
        torch.set_default_dtype(dtype)
    assert repr(other) == repr(plain)  # not-a-number is itself there
