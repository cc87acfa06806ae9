"""How real a market is: stylised facts of recorded paths, measured in batches.

`scorecard` runs a market and judges every row of `FACTS`; `measure` judges paths of any origin, such as real prices
(`Paths.from_prices`); `null_models` are what must fail. The statistics beneath are in `torchgym.lab.realism.statistics`.
"""

from __future__ import annotations

from torchgym.lab.realism.economy import Economy, wealth
from torchgym.lab.realism.facts import FACTS, TIERS, Criterion, Fact, MeasureVerdict, Verdict, judge, measure
from torchgym.lab.realism.impact import Impact, impact_config, measure_impact
from torchgym.lab.realism.paths import BURN_IN, Paths
from torchgym.lab.realism.scorecard import MARKETS, RESAMPLES, SEED, TICKS, Null, Scorecard, null_models, scorecard

__all__ = [
    "BURN_IN",
    "FACTS",
    "MARKETS",
    "RESAMPLES",
    "SEED",
    "TICKS",
    "TIERS",
    "Criterion",
    "Economy",
    "Fact",
    "Impact",
    "MeasureVerdict",
    "Null",
    "Paths",
    "Scorecard",
    "Verdict",
    "impact_config",
    "judge",
    "measure",
    "measure_impact",
    "null_models",
    "scorecard",
    "wealth",
]
