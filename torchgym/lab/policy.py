"""What a policy is."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.engine import StepResult

Policy = Callable[[StepResult], Tensor]  # the action for what was seen last, [N, W], int64 or, of a box, float64
MakePolicy = Callable[[MarketConfig, Tensor], Policy]  # of a configuration and the episodes' seeds [N] int64
