"""The distribution of returns: moments, tail exponents, and the scale they are measured in."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from torchgym.lab.realism.series import at_least, centred, series

_EWMA_START = 100
_FEWEST_IN_TAIL = 10


def standardise(returns: Tensor) -> Tensor:
    """Each market's returns with mean 0 and (population) variance 1.

    Args:
        returns: [N, T], T ≥ 2.

    Returns:
        [N, T] float64; a market whose returns are all alike gives NaN.
    """
    deviation = centred(series(returns, 2, "standardise"))
    return deviation / deviation.square().mean(-1, keepdim=True).sqrt()


def aggregate(returns: Tensor, horizon: int) -> Tensor:
    """Returns over `horizon` ticks, overlapping: entry t is the sum of the ticks t … t + horizon − 1.

    Args:
        returns: [N, T] log returns.
        horizon: ticks, 1 to T.

    Returns:
        [N, T − horizon + 1] float64, exact to the rounding of one running sum over T.
    """
    returns = series(returns, at_least("horizon", horizon, 1), f"a horizon of {horizon} ticks")
    total = functional.pad(returns.cumsum(-1), (1, 0))
    return total[:, horizon:] - total[:, :-horizon]


def skewness(x: Tensor) -> Tensor:
    """Third standardised moment of each row, the population's (biased) form.

    Args:
        x: [N, T], T ≥ 2.

    Returns:
        [N] float64; NaN for a constant row.
    """
    deviation = centred(series(x, 2, "skewness"))
    square = deviation.square()
    return (square * deviation).mean(-1) / square.mean(-1).pow(1.5)


def excess_kurtosis(x: Tensor) -> Tensor:
    """Fourth standardised moment of each row less the Gaussian's 3, the population's (biased) form.

    Args:
        x: [N, T], T ≥ 2.

    Returns:
        [N] float64; NaN for a constant row.
    """
    square = centred(series(x, 2, "excess kurtosis")).square()
    return square.square().mean(-1) / square.mean(-1).square() - 3.0


def hill_index(x: Tensor, fraction: float = 0.01, tail: Literal["upper", "lower"] = "upper") -> Tensor:
    """Exponent α of a tail P(X > x) ~ x^−α: the inverse mean of log(X₍ᵢ₎ / X₍ₖ₊₁₎) over the k largest values.

    Scaling x leaves it alone, shifting x does not.

    Args:
        x: [N, T].
        fraction: of the T values that count as the tail, in (0, 1); k = ⌊fraction · T⌋, but at least 10.
        tail: "lower" measures the tail of −x.

    Returns:
        [N] float64; NaN where the (k + 1)-th largest value is not positive or the tail has no spread.

    Raises:
        ValueError: fraction or tail unknown, or T < 11.

    Source: Hill 1975, A simple general approach to inference about the tail of a distribution.
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}")
    if tail not in ("upper", "lower"):
        raise ValueError(f'tail must be "upper" or "lower", got {tail!r}')
    x = series(x, _FEWEST_IN_TAIL + 1, "the Hill index")
    count = min(max(int(fraction * x.shape[1]), _FEWEST_IN_TAIL), x.shape[1] - 1)
    largest = (x if tail == "upper" else -x).topk(count + 1, dim=-1).values
    positive = largest.where(largest[:, -1:] > 0.0, torch.nan)
    spread = (positive[:, :-1] / positive[:, -1:]).log().mean(-1)
    return 1.0 / spread.where(spread > 0.0, torch.nan)


def ewma_volatility(returns: Tensor, decay: float = 0.94) -> Tensor:
    """Forecast of each tick's volatility from the ticks before it: v_t = decay · v_{t−1} + (1 − decay) · r²_{t−1}.

    v_0 is the mean square of the first 100 returns, so these alone have seen their own future. The recursion is summed by
    doubling: after k rounds every entry holds the last 2^k terms.

    Args:
        returns: [N, T], T ≥ 100.
        decay: weight of yesterday's forecast, between 0 and 1.

    Returns:
        [N, T] float64, √v_t, in the unit of the returns.

    Raises:
        ValueError: decay out of range, or T < 100.

    Source: J.P. Morgan/Reuters 1996, RiskMetrics technical document, section 5.2.
    """
    if not 0.0 < decay < 1.0:
        raise ValueError(f"decay must lie between 0 and 1, got {decay}")
    square = series(returns, _EWMA_START, "the EWMA volatility").square()
    start = square[:, :_EWMA_START].mean(-1, keepdim=True)
    variance = torch.cat([start, (1.0 - decay) * square[:, :-1]], dim=-1)
    reach, weight = 1, decay
    while reach < variance.shape[1] and weight > 0.0:
        variance = variance + weight * functional.pad(variance[:, :-reach], (reach, 0))
        reach, weight = 2 * reach, weight * weight
    return variance.sqrt()
