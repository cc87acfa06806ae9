"""How well a policy trades: episodes played, their metrics and costs, and comparisons on the same seeds.

`torchgym.lab.policies` has the baselines and says what a policy is.

>>> from torchgym.config import preset
>>> from torchgym.lab.policies import baselines
>>> config = preset("toy", max_ticks=50)
>>> evaluation = evaluate(config, baselines(config), agent="buy_and_hold", episodes=4)
>>> sorted(evaluation.metrics["hold"])[:3], [comparison.baseline for comparison in evaluation.comparisons][:2]
(['annual_return', 'annual_volatility', 'calmar'], ['hold', 'random'])
"""

from torchgym.lab.performance.comparison import Comparison, Interval, holm, mean_interval, paired
from torchgym.lab.performance.evaluation import (
    TEST_SEED,
    TICKS_PER_YEAR,
    TRAINING_SEEDS,
    VALIDATION_SEED,
    Episodes,
    Evaluation,
    evaluate,
    play,
)
from torchgym.lab.performance.metrics import METRICS, Curves, Metric, measure

__all__ = [
    "METRICS",
    "TEST_SEED",
    "TICKS_PER_YEAR",
    "TRAINING_SEEDS",
    "VALIDATION_SEED",
    "Comparison",
    "Curves",
    "Episodes",
    "Evaluation",
    "Interval",
    "Metric",
    "evaluate",
    "holm",
    "mean_interval",
    "measure",
    "paired",
    "play",
]
