"""What traders take for busy and for volatile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torchgym.config.validation import HalfLife, Range, Settings, Within, check_fields

Weight = Annotated[float, Within(0.0, 10.0)]
Weights = Annotated[float, Within(0.0, 1.0, even=True)]
Level = Annotated[float, Within(0.01, 100.0)]  # 1 is normal
Cap = Annotated[float, Within(0.0, 1e6)]


@dataclass(frozen=True, kw_only=True)
class Activity(Settings):
    """How the traders measure activity and volatility, from the public record.

        activity = base + volume_weight (v1 + v2 + v3) + return_weight (r1 + r2) + slow_return_weight r3

    with v and r exponential means of relative volume and of relative absolute returns, times what the hidden volatility adds.
    """

    base: Weight = 0.20
    volume_weight: Weight = 0.15
    return_weight: Weight = 0.10
    slow_return_weight: Weight = 0.15
    half_lives: tuple[HalfLife, HalfLife, HalfLife] = (3.0, 30.0, 200.0)  # ticks
    volume_cap: Cap = 6.0  # usual volumes that one tick counts for at most
    return_cap: Cap = 8.0  # usual returns, likewise
    bounds: Range[Level] = (0.25, 5.0)
    maker_bounds: Range[Level] = (0.4, 4.0)  # in which activity changes the makers' width and gain
    volatility_half_lives: tuple[HalfLife, HalfLife, HalfLife] = (15.0, 150.0, 800.0)  # ticks, of squared returns
    volatility_weights: tuple[Weights, Weights] = (0.5, 0.5)  # of the first two in the traders' estimate
    maker_volatility_weights: tuple[Weights, Weights, Weights] = (0.5, 0.4, 0.1)
    move_cap: Annotated[float, Within(1e-6, 1.0)] = 0.02  # a one-tick return counts no more than this in them
    marketable: Annotated[float, Within(0.0, 0.5)] = 0.01  # a market order's limit, as a fraction of the mid

    def __post_init__(self) -> None:
        check_fields(self, Activity, "Activity.")
