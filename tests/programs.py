"""Makes the programs that many tests step by, once, before they run: `python tests/programs.py`.

Tests marked `kept` step by a program of the cache folder, and uncompiled where there is none. So they pass without these, but
take longer. What is listed here would take more time in the tests than it takes to compile.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from torchgym import Market, MarketConfig, preset

COMMON: tuple[tuple[MarketConfig, int], ...] = (
    (preset("toy", ticks_per_action=2, scaling="relative"), 2),
    (preset("toy"), 2),
    (preset("toy"), 1),
)


def make(at: int) -> None:
    """What one of these steps by, unless it is kept already."""
    config, num_envs = COMMON[at]
    Market(config, num_envs, compile=True).prepare()


def main() -> int:
    """All of them, as many at once as there are processors."""
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        list(pool.map(make, range(len(COMMON))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
