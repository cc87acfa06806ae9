"""A path of a market: steps, and what is recorded of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from torchgym.config.validation import check_count, check_function
from torchgym.progress import Count
from torchgym.readout.packed import StepResult
from torchgym.readout.paths import Recorder, chosen

if TYPE_CHECKING:
    from torchgym.engine.market import Market


def record_path(
    market: Market,
    num_ticks: int,
    policy: Callable[[StepResult], Tensor] | None,
    record: Sequence[str] | None,
    progress: bool | Count,  # of ticks
) -> tuple[dict[str, Tensor], int]:
    """The recorded entries, [N, T, ...] each, and T; see `Market.run`."""
    config = market.config
    if policy is not None:
        check_function("policy", policy, "it takes what was seen last and returns the action")
    num_ticks = check_count("num_ticks", num_ticks, low=1)
    if num_ticks % config.ticks_per_action:
        raise ValueError(
            f"num_ticks must be a multiple of ticks_per_action = {config.ticks_per_action}, got {num_ticks}"
        )
    length = num_ticks // config.ticks_per_action
    _ = market.live
    recorder = Recorder(market.structure, market.num_envs, market.device, chosen(config, record), length)
    tell, times = (progress, 100) if callable(progress) else (_write_progress, 10 if progress else 1)
    result = market.observe() if policy is not None else None
    for index in range(length):
        result = market.step(policy(result) if policy is not None and result is not None else None)
        recorder.write(index, market.params, market.live)
        if progress and ((index + 1) % max(1, length // times) == 0 or index + 1 == length):
            tell((index + 1) * config.ticks_per_action, num_ticks)
    return recorder.paths, length


def _write_progress(done: int, total: int) -> None:
    sys.stderr.write(f"tick {done} of {total}\n")
