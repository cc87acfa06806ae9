"""How two series go together: correlations of values and of ranks, at one time and at lags, and slopes."""

from __future__ import annotations

import torch
from torch import Tensor

from torchgym.lab.realism.series import at_least, centred, lagged_products, pair, series


def ranks(x: Tensor) -> Tensor:
    """Rank of each value in its row, from 1; equal values share the mean of their ranks.

    Args:
        x: [N, T], T ≥ 1.

    Returns:
        [N, T] float64; NaN all along a row that holds a NaN.
    """
    x = series(x, 1, "ranks").contiguous()
    order = x.sort(-1).values
    rank = (torch.searchsorted(order, x) + torch.searchsorted(order, x, right=True) + 1).to(torch.float64) / 2.0
    return rank.masked_fill(x.isnan().any(-1, keepdim=True), torch.nan)


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """Correlation of x and y in each row.

    Args:
        x: [N, T], T ≥ 2.
        y: [N, T].

    Returns:
        [N] float64 in [−1, 1]; NaN where either row is constant.

    Raises:
        ValueError: shapes differ, or T < 2.
    """
    x, y = map(centred, pair(x, y, 2, "a correlation"))
    products = (x * y).sum(-1)
    return (products / (x.square().sum(-1) * y.square().sum(-1)).sqrt()).clamp(-1.0, 1.0)


def spearman(x: Tensor, y: Tensor) -> Tensor:
    """Correlation of the ranks of x and y in each row: unmoved by any increasing change of either.

    Args:
        x: [N, T], T ≥ 2.
        y: [N, T].

    Returns:
        [N] float64 in [−1, 1]; NaN where either row is constant.

    Raises:
        ValueError: shapes differ, or T < 2.
    """
    x, y = pair(x, y, 2, "a rank correlation")
    return pearson(ranks(x), ranks(y))


def r_squared(y: Tensor, x: Tensor) -> Tensor:
    """Share of the variance of y that a linear regression on x (with a constant) explains.

    Args:
        y: [N, T], T ≥ 2.
        x: [N, T].

    Returns:
        [N] float64 in [0, 1]; NaN where either row is constant.
    """
    return pearson(y, x).square()


def lagged_correlation(x: Tensor, y: Tensor, max_lag: int) -> Tensor:
    """Correlation of x_t with y_{t + lag}: x leads. Means and variances are those of the whole rows, as in `autocorrelation`.

    Args:
        x: [N, T].
        y: [N, T].
        max_lag: below T.

    Returns:
        [N, max_lag + 1] float64, entry k at lag k; NaN where either row is constant.
    """
    x, y = pair(x, y, at_least("max_lag", max_lag, 0) + 1, f"a correlation up to lag {max_lag}")
    x, y = centred(x), centred(y)
    scale = (x.square().sum(-1, keepdim=True) * y.square().sum(-1, keepdim=True)).sqrt()
    return lagged_products(x, y, max_lag) / scale


def leverage(returns: Tensor, max_lag: int) -> Tensor:
    """Correlation of a return with the squared return `lag` ticks later; negative where losses raise volatility.

    Args:
        returns: [N, T], T > max_lag.
        max_lag: at least 1.

    Returns:
        [N, max_lag] float64, entry k at lag k + 1.

    Source: Bouchaud, Matacz and Potters 2001, Leverage effect in financial markets; here as a correlation, which their ratio of
    moments is not.
    """
    at_least("max_lag", max_lag, 1)
    return lagged_correlation(returns, returns.square(), max_lag)[:, 1:]


def timescale_asymmetry(returns: Tensor, window: int = 20) -> Tensor:
    """How much better coarse volatility predicts fine volatility than the other way round.

    Of each window, coarse is |Σ r| and fine is the mean of |r|: corr(coarse, next window's fine) − corr(fine, next window's
    coarse). Positive in markets, where traders of long horizons stir those of short ones.

    Args:
        returns: [N, T]; what doesn't fill the last window is left out.
        window: ticks, at least 2.

    Returns:
        [N] float64.

    Raises:
        ValueError: window below 2, or fewer than three windows.

    Source: Müller et al. 1997, Volatilities of different time resolutions: analyzing the dynamics of market components.
    """
    needed = 3 * at_least("window", window, 2)
    blocks = series(returns, needed, f"an asymmetry over windows of {window} ticks").unfold(-1, window, window)
    coarse, fine = blocks.sum(-1).abs(), blocks.abs().mean(-1)
    return pearson(coarse[:, :-1], fine[:, 1:]) - pearson(fine[:, :-1], coarse[:, 1:])


def log_log_slope(x: Tensor, y: Tensor) -> Tensor:
    """Exponent of a power law y ~ x^slope: the least-squares slope of log y on log x.

    Args:
        x: [K] positive, K ≥ 2.
        y: [..., K].

    Returns:
        [...] float64; NaN where any y is not positive, or the x are all alike.

    Raises:
        ValueError: x has another shape than [K] with K ≥ 2, holds a value that is not positive, or y doesn't end in K.
    """
    if x.dim() != 1 or len(x) < 2 or y.shape[-1:] != x.shape:
        raise ValueError(f"a slope takes x [K] with K ≥ 2 and y [..., K], got {tuple(x.shape)} and {tuple(y.shape)}")
    if not bool((x > 0.0).all()):
        raise ValueError(f"x must be positive, got {x.min().item():g}")
    deviation = centred(x.to(torch.float64).log()[None]).squeeze(0)
    level = y.where(y > 0.0, torch.nan).to(torch.float64).log()
    return (level * deviation).sum(-1) / deviation.square().sum()
