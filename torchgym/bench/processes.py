"""Cases that look at a process: how long it waits for its first step, and how much memory it holds."""

from __future__ import annotations

import gc
import itertools
import tempfile
from pathlib import Path
from typing import Any

import torch

from torchgym.bench import child
from torchgym.bench.found import Found
from torchgym.bench.fresh import ask
from torchgym.bench.lab import VECTOR, Lab, drawn_actions
from torchgym.bench.machine import threads
from torchgym.config import MarketConfig

_WARM_STARTS = 3
_STEPS_TOLD = 500  # from one call to the next
_MIB = 2.0**20


def start(lab: Lab) -> list[Found]:
    """From the making of a `TradingEnv` to the end of its first step, in fresh processes: caches empty, then full."""
    arguments = _arguments(lab)
    warm = []
    with tempfile.TemporaryDirectory(prefix="torchgym-bench-") as folder:
        lab.tell("a first step with empty caches", 0, 1)
        cold, messages = ask("first_step", arguments, Path(folder))
        lab.tell("a first step with empty caches", 1, 1)
        for done in range(_WARM_STARTS):
            lab.tell("first steps with full caches", done, _WARM_STARTS)
            warm.append(ask("first_step", arguments, Path(folder))[0])
        lab.tell("first steps with full caches", _WARM_STARTS, _WARM_STARTS)
    said = f"says: {messages.splitlines()[0]}" if messages else "says nothing meanwhile"
    common: dict[str, Any] = {"unit": "s", "config": lab.config, "markets": 1, "compiled": lab.settings.compile}
    return [
        Found(measure="cold", values=[cold["first step"]], note=said, **common),
        Found(measure="warm", values=[run["first step"] for run in warm], **common),
        Found(measure="import, not counted", values=[run["import"] for run in warm], **common),
    ]


def memory(lab: Lab) -> list[Found]:
    """Bytes of state per market and of the whole process with the largest batch, and growth over many steps of a small one."""
    rows = max(lab.settings.batches)
    what = f"{rows:,} markets in a process of their own"
    lab.tell(what, 0, 1)
    held, _ = ask("memory", {**_arguments(lab), "markets": rows})
    lab.tell(what, 1, 1)
    common: dict[str, Any] = {"config": lab.config, "markets": rows, "compiled": lab.settings.compile}
    note = f"{held['before'] / _MIB:,.0f} MiB before the first market, {held['peak'] / _MIB:,.0f} MiB at most"
    found = [
        Found(measure="state", unit="bytes/market", values=[held["state"]], **common),
        Found(measure="resident", unit="MiB", values=[held["resident"] / _MIB], note=note, **common),
    ]
    if held["device"]:
        found.append(Found(measure="on the device, at most", unit="MiB", values=[held["device"] / _MIB], **common))
    return [*found, _soaked(lab)]


def _soaked(lab: Lab) -> Found:
    """How much memory the process has gained after many steps, counted from after a tenth as many."""
    config, steps = MarketConfig(), lab.settings.soak_steps
    with threads(1):
        env = lab.vector()
        turn = itertools.cycle(drawn_actions(config, VECTOR).numpy())
        lab.tell("steps", 0, steps)
        for _ in range(steps // 10):
            env.step_all(next(turn))
        before = _resident()
        for done in range(1, steps + 1):
            env.step_all(next(turn))
            if done % _STEPS_TOLD == 0 or done == steps:
                lab.tell("steps", done, steps)
    return Found(
        measure="growth",
        unit="MiB",
        values=[(_resident() - before) / _MIB],
        config=config,
        markets=VECTOR,
        compiled=lab.settings.compile,
        note=f"over {steps:,} steps",
        threads=1,
    )


def _resident() -> int:
    """Bytes this process holds, without what only waits to be collected."""
    gc.collect()
    return child.resident()


def _arguments(lab: Lab) -> dict[str, Any]:
    return {
        "config": lab.config.to_dict(),
        "threads": torch.get_num_threads(),
        "device": str(lab.device),
        "compile": lab.settings.compile,
    }
