"""How well a policy trades: episodes played, their metrics and costs, and comparisons on the same seeds.

    from torchgym.performance import evaluate
    from torchgym.policies import baselines

    found = evaluate(config, {"mine": my_maker, **baselines(config)}, agent="mine")
    found.interval("mine", "sharpe"), found.comparisons

`torchgym.policies` has the baselines and says what a policy is.
"""

from torchgym.performance.comparison import Comparison, holm, mean_interval, paired
from torchgym.performance.episodes import Episodes, play
from torchgym.performance.evaluation import (
    TEST_SEED,
    TICKS_PER_YEAR,
    TRAINING_SEEDS,
    VALIDATION_SEED,
    Evaluation,
    Interval,
    evaluate,
)
from torchgym.performance.metrics import METRICS, Curves, Metric, measure

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
