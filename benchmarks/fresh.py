"""Cases that need processes of their own: how long a first step takes, and how much memory is held."""

from __future__ import annotations

import gc
import inspect
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import child
import torch
from lab import VECTOR, Lab, Result, drawn_actions
from machine import ROOT, threads

from torchgym.config import MarketConfig

_WARM_STARTS = 3
_STEPS_TOLD = 500  # from one call to the next
_MIB = 2.0**20


def start(lab: Lab) -> list[Result]:
    """From the making of a `TradingEnv` to the end of its first step, in fresh processes: caches empty, then full."""
    arguments = _arguments(lab)
    warm = []
    with tempfile.TemporaryDirectory(prefix="torchgym-speed-") as folder:
        lab.tell("a first step with empty caches", 0, 1)
        cold, messages = ask("first_step", arguments, Path(folder))
        lab.tell("a first step with empty caches", 1, 1)
        for done in range(_WARM_STARTS):
            lab.tell("first steps with full caches", done, _WARM_STARTS)
            warm.append(ask("first_step", arguments, Path(folder))[0])
        lab.tell("first steps with full caches", _WARM_STARTS, _WARM_STARTS)
    note = f"says: {messages.splitlines()[0].replace(folder, '…')}" if messages else "says nothing meanwhile"
    common: dict[str, Any] = {"unit": "s", "config": lab.config, "markets": 1, "compiled": lab.settings.compile}
    return [
        Result(measure="cold", values=[cold["first step"]], note=note, **common),
        Result(measure="warm", values=[run["first step"] for run in warm], **common),
        Result(measure="import, not counted", values=[run["import"] for run in warm], **common),
    ]


def memory(lab: Lab) -> list[Result]:
    """Bytes of state per market and of the whole process with the largest batch, and growth over many steps of a small one."""
    rows = max(lab.settings.batches)
    stage = f"{rows:,} markets in a process of their own"
    lab.tell(stage, 0, 1)
    held, _ = ask("memory", {**_arguments(lab), "markets": rows})
    lab.tell(stage, 1, 1)
    common: dict[str, Any] = {"config": lab.config, "markets": rows, "compiled": lab.settings.compile}
    note = f"{held['before'] / _MIB:,.0f} MiB before the first market, {held['peak'] / _MIB:,.0f} MiB at most"
    results = [
        Result(measure="state", unit="bytes/market", values=[held["state"]], **common),
        Result(measure="resident", unit="MiB", values=[held["resident"] / _MIB], note=note, **common),
    ]
    if held["device"]:
        results.append(Result(measure="on the device, at most", unit="MiB", values=[held["device"] / _MIB], **common))
    return [*results, _growth(lab)]


def _growth(lab: Lab) -> Result:
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
    return Result(
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


def ask(task: str, arguments: Mapping[str, Any], caches: Path | None = None) -> tuple[dict[str, float], str]:
    """Run a function of benchmarks/child.py in an interpreter of its own.

    Args:
        task: name of the function.
        arguments: what it is called with, as JSON can say it.
        caches: folder for everything that is kept between processes, such as compiled code; None is where it usually goes.

    Returns:
        Its answer, and what the process wrote to stderr.

    Raises:
        ChildProcessError: when the process fails, with the last line it wrote.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if caches is not None:
        names = {"TORCHGYM_CACHE_DIR": "torchgym", "TORCHINDUCTOR_CACHE_DIR": "inductor", "XDG_CACHE_HOME": "xdg"}
        environment |= {name: str(caches / folder) for name, folder in names.items()}
        environment.pop("TRITON_CACHE_DIR", None)
    command = [sys.executable, "-c", inspect.getsource(child), task, json.dumps(dict(arguments))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    messages = done.stderr.strip()
    if done.returncode != 0:
        last = messages.splitlines()[-1] if messages else f"exit code {done.returncode}"
        raise ChildProcessError(f"measuring {task} in a process of its own failed: {last}")
    return json.loads(done.stdout.splitlines()[-1]), messages
