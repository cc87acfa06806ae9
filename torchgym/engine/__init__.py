"""`Market`: a batch of markets that can be reset, stepped, observed, saved and forked."""

from __future__ import annotations

from torchgym.engine.arguments import (
    Seeds,
    check_action,
    check_device,
    check_mask,
    check_seed,
    check_seeds,
    consecutive_seeds,
)
from torchgym.engine.checkpoint import CHECKPOINT_VERSION, read_content, write_content
from torchgym.engine.market import Market
from torchgym.engine.stepper import Compile, check_compile
from torchgym.readout.depth import depth, levels
from torchgym.readout.packed import Columns, Packed, StepResult, info_layout

__all__ = [
    "CHECKPOINT_VERSION",
    "Columns",
    "Compile",
    "Market",
    "Packed",
    "Seeds",
    "StepResult",
    "check_action",
    "check_compile",
    "check_device",
    "check_mask",
    "check_seed",
    "check_seeds",
    "consecutive_seeds",
    "depth",
    "info_layout",
    "levels",
    "read_content",
    "write_content",
]
