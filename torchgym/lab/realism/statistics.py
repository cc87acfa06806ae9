"""The statistics behind the stylised facts, each a batched function over time.

They take tensors [N, T], one row per market, of any real dtype on any device, and give float64 tensors [N] or [N, K]. Row i
depends on row i alone. Where a statistic is undefined (a constant row, a NaN in it) it is NaN; a series too short for it is a
ValueError that names T. (tests/test_realism_statistics.py holds them to that, and to scipy and statsmodels.)

    tails       the distribution of returns and their scale
    memory      what a series remembers of its own past
    relations   how two series go together
"""

from torchgym.lab.realism.memory import (
    DecayFit,
    autocorrelation,
    decay_fit,
    fano_factor,
    half_life,
    robust_lag_error,
    variance_ratio,
)
from torchgym.lab.realism.relations import (
    lagged_correlation,
    leverage,
    log_log_slope,
    pearson,
    r_squared,
    ranks,
    spearman,
    timescale_asymmetry,
)
from torchgym.lab.realism.tails import aggregate, ewma_volatility, excess_kurtosis, hill_index, skewness, standardise

__all__ = [
    "DecayFit",
    "aggregate",
    "autocorrelation",
    "decay_fit",
    "ewma_volatility",
    "excess_kurtosis",
    "fano_factor",
    "half_life",
    "hill_index",
    "lagged_correlation",
    "leverage",
    "log_log_slope",
    "pearson",
    "r_squared",
    "ranks",
    "robust_lag_error",
    "skewness",
    "spearman",
    "standardise",
    "timescale_asymmetry",
    "variance_ratio",
]
