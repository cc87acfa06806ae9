"""The tick runs on a device that is not the CPU, without one: fake tensors raise where devices mix or a `device=` is missing.

`meta` serves as such a device in this process. A registered device of its own, nearer to a real one, needs a process of its own,
which is this file run as a program.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from markets import EVERYTHING
from sentinel import SyncSentinel
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils import backend_registration

from torchgym import MarketConfig
from torchgym.config import structure
from torchgym.numerics.trees import leaves, map_tensors
from torchgym.readout import features
from torchgym.readout.packed import Columns
from torchgym.readout.step import Static, step
from torchgym.sim import noise
from torchgym.sim import tick as ticking
from torchgym.sim.params import make_params

CPU = torch.device("cpu")
CONFIGS: dict[str, MarketConfig] = {
    "default": MarketConfig(),
    "everything": EVERYTHING.replace(num_symbols=4, information="public"),
}
MARKETS = 3


def live(config: MarketConfig, device: torch.device, *, born: torch.device) -> None:
    """Two decisions on the device; constants and the opening state are made where the market is born.

    Raises:
        Exception: the fake mode's own, where devices mix; AssertionError, where something came back from elsewhere.
    """
    plan = structure(config)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        draws, params = noise.make_plan(plan, born), make_params(config, MARKETS, born)
        seed = torch.zeros(MARKETS, dtype=torch.int64, device=born)
        state = ticking.start(plan, params, plan=draws, seed=seed, episode=seed.clone())
        assert {leaf.device.type for _, leaf in leaves(state)} == {born.type}

        def there(leaf: Tensor) -> Tensor:
            return torch.empty_like(leaf, device=device)

        if born != device:
            draws, params, state = (map_tensors(there, tree) for tree in (draws, params, state))
        action = torch.ones((MARKETS, config.num_symbols), dtype=torch.int64, device=device)
        static = Static(plan, draws, Columns(plan))
        with SyncSentinel():
            for _ in range(2):
                state, told = step(static, params, state, action)
        assert {leaf.device.type for _, leaf in leaves(state)} == {device.type}
        assert told.observation.shape == (MARKETS, features.size(config))
        assert {leaf.device.type for _, leaf in leaves(told)} == {device.type}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_whole_market_lives_on_one_device(name: str) -> None:
    meta = torch.device("meta")
    live(CONFIGS[name], meta, born=meta)


def test_mixed_devices_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: one constant left on the CPU stops it."""
    honest = noise.draw

    def careless(*arguments: Any) -> Any:
        draws = honest(*arguments)
        draws.coin = draws.coin + torch.zeros_like(draws.coin, device=CPU)
        return draws

    monkeypatch.setattr(noise, "draw", careless)
    meta = torch.device("meta")
    with pytest.raises(RuntimeError, match=r"device"):
        live(CONFIGS["default"], meta, born=meta)


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (lambda x: x.sum().item(), DataDependentOutputException),
        (lambda x: bool(x.any()), DataDependentOutputException),
        (lambda x: x[x > 0], DynamicOutputShapeException),
    ],
)
def test_reading_a_fake_tensor_is_noticed(read: Any, error: type[Exception]) -> None:
    with FakeTensorMode(), pytest.raises(error):
        read(torch.empty(3, device="meta"))


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch cannot register a device in Python",
)
def test_a_registered_device() -> None:
    root = Path(__file__).parent
    found = os.pathsep.join([str(root), str(root.parent), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-W", "ignore", __file__],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": found},
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "default\neverything\n"), run.stderr[-2_000:]


def main() -> None:
    """Register a device that computes nothing and never waits, and run a market on it."""

    class Module(backend_registration._DummyBackendModule):
        def synchronize(self, *arguments: Any) -> None:
            raise AssertionError("the host waited for the device")

    backend_registration._setup_privateuseone_for_python_backend("fakegpu", backend_module=Module())
    for name, config in CONFIGS.items():
        # Constants are copied there once; the decision itself must copy nothing.
        live(config, torch.device("fakegpu", 0), born=CPU)
        print(name)


if __name__ == "__main__":
    main()
