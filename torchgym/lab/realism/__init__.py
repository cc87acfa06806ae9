"""How real a market is: stylised facts of recorded paths, measured in batches.

`scorecard` runs a market and judges every row of `FACTS`; `measure` judges many paths of any origin; `null_models` are what must
fail. `read_bars` and `bar_path` make a path of a file of real prices; `compare` judges it by what a single path of its length can
tell, beside markets of the same length. The statistics beneath are in `torchgym.lab.realism.statistics`.
"""

from __future__ import annotations

from torchgym.lab.realism.bars import BarPath, Bars, bar_path, read_bars
from torchgym.lab.realism.economy import Economy, wealth
from torchgym.lab.realism.facts import FACTS, TIERS, Criterion, Fact, MeasureVerdict, Verdict, judge, measure
from torchgym.lab.realism.impact import Impact, impact_config, measure_impact
from torchgym.lab.realism.paths import BURN_IN, Paths
from torchgym.lab.realism.scorecard import MARKETS, RESAMPLES, SEED, TICKS, Null, Scorecard, null_models, scorecard
from torchgym.lab.realism.single import Comparison, compare, measure_markets, measure_single, outcomes

__all__ = [
    "BURN_IN",
    "FACTS",
    "MARKETS",
    "RESAMPLES",
    "SEED",
    "TICKS",
    "TIERS",
    "BarPath",
    "Bars",
    "Comparison",
    "Criterion",
    "Economy",
    "Fact",
    "Impact",
    "MeasureVerdict",
    "Null",
    "Paths",
    "Scorecard",
    "Verdict",
    "bar_path",
    "compare",
    "impact_config",
    "judge",
    "measure",
    "measure_impact",
    "measure_markets",
    "measure_single",
    "null_models",
    "outcomes",
    "read_bars",
    "scorecard",
    "wealth",
]
