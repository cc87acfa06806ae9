"""Asking a fresh interpreter."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchgym.bench import child

_ROOT = Path(__file__).resolve().parents[2]


def ask(task: str, arguments: Mapping[str, Any], caches: Path | None = None) -> tuple[dict[str, float], str]:
    """Run a function of `torchgym.bench.child` in an interpreter of its own.

    Args:
        task: name of the function.
        arguments: what it is called with, as JSON can say it.
        caches: folder for everything that is kept between processes, such as compiled code; None is where it usually goes.

    Returns:
        Its answer, and what the process wrote to stderr.

    Raises:
        ChildProcessError: when the process fails, with the last line it wrote.
    """
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if caches is not None:
        names = {"TORCHGYM_CACHE_DIR": "torchgym", "TORCHINDUCTOR_CACHE_DIR": "inductor", "XDG_CACHE_HOME": "xdg"}
        environment |= {name: str(caches / folder) for name, folder in names.items()}
        environment.pop("TRITON_CACHE_DIR", None)
    command = [sys.executable, "-c", inspect.getsource(child), task, json.dumps(dict(arguments))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    told = done.stderr.strip()
    if done.returncode != 0:
        last = told.splitlines()[-1] if told else f"exit code {done.returncode}"
        raise ChildProcessError(f"measuring {task} in a process of its own failed: {last}")
    return json.loads(done.stdout.splitlines()[-1]), told
