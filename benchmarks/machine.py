"""On what a figure was measured: processor or accelerator, versions, and which state of the source."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from torchgym.config import MarketConfig
from torchgym.engine import Market
from torchgym.numerics.trees import leaves

ROOT = Path(__file__).resolve().parents[1]


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run with so many of torch's threads inside an operation. Compiled code keeps the number it was compiled under."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_name(device: torch.device) -> str:
    """The maker's name of the accelerator, or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()


def commit(package: Path = ROOT / "torchgym") -> str:
    """The commit that the package was checked out at, with "-dirty" after it when its files differ from that.

    Outside a checkout of its own, such as among installed packages, the version.
    """
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        try:
            return importlib.metadata.version("torchgym")
        except importlib.metadata.PackageNotFoundError:
            return "unknown"
    changed = _git(package, "status", "--porcelain", "--", ".")
    return f"{_git(package, 'rev-parse', '--short=7', 'HEAD')}{'-dirty' if changed else ''}"


def dtypes(config: MarketConfig, device: torch.device) -> str:
    """Which types the numbers of the state have, by their share of its bytes where that is 1 % or more, and the observation's.

    >>> from torchgym.config import preset
    >>> dtypes(preset("toy"), torch.device("cpu")).endswith("observation float64")
    True
    """
    market = Market(config, seed=0, device=device, compile=False)
    observation = market.reset().observation
    held: Counter[torch.dtype] = Counter()
    for _, leaf in leaves(market.state):
        held[leaf.dtype] += leaf.numel() * leaf.element_size()
    total = held.total()
    shares = [
        f"{_short(dtype)} {100 * size / total:.0f} %" for dtype, size in held.most_common() if size >= 0.01 * total
    ]
    return f"state {', '.join(shares)}; observation {_short(observation.dtype)}"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None where there is no git, no repository, or git refuses."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
