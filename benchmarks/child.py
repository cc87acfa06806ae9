"""What can only be measured in a process of its own: the time to a first step, and memory.

The source of this file is handed to a fresh interpreter, so it imports nothing of the package before the clock runs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def first_step(config: dict[str, Any], threads: int, device: str, compile: bool) -> dict[str, float]:
    """Seconds to import the environment, and from there to the end of its first step."""
    start = time.perf_counter()
    import torch

    from torchgym.config import MarketConfig
    from torchgym.envs.gymnasium import TradingEnv

    imported = time.perf_counter()
    torch.set_num_threads(threads)
    env = TradingEnv(MarketConfig.from_dict(config), device=device, compile=compile)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    return {"import": imported - start, "first step": time.perf_counter() - imported}


def memory(config: dict[str, Any], threads: int, device: str, compile: bool, markets: int) -> dict[str, float]:
    """Bytes: of the state per market, resident before the market is made and after some steps, most ever, and on the device."""
    import torch

    from torchgym.config import MarketConfig
    from torchgym.engine import Market
    from torchgym.numerics.trees import leaves

    torch.set_num_threads(threads)
    before = resident()
    market = Market(MarketConfig.from_dict(config), markets, seed=0, device=device, compile=compile)
    market.reset()
    for _ in range(4):
        market.step()
    state = sum(leaf.numel() * leaf.element_size() for _, leaf in leaves(market.state))
    on_device = torch.cuda.max_memory_allocated() if market.device.type == "cuda" else 0
    return {
        "state": state / markets,
        "before": before,
        "resident": resident(),
        "peak": peak(),
        "device": on_device,
    }


def resident() -> int:
    """Bytes of memory this process holds now; where the system does not tell, the most it ever held."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    held = [line for line in lines if line.startswith("VmRSS:")]
    return 1024 * int(held[0].split()[1]) if held else peak()


def peak() -> int:
    """Most bytes of memory this process ever held; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # on Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


if __name__ == "__main__":
    task, arguments = sys.argv[1], json.loads(sys.argv[2])
    tasks: dict[str, Callable[..., dict[str, float]]] = {"first_step": first_step, "memory": memory}
    sys.stdout.write(json.dumps(tasks[task](**arguments)) + "\n")
