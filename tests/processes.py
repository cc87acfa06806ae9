"""Random processes whose statistics are known, to test what measures them. Rows are independent; arrays [n, ticks] float64."""

import numpy as np

FORGOTTEN = 1000  # ticks simulated and dropped, until a recursion has lost its start


def gaussian(rng: np.random.Generator, n: int, ticks: int) -> np.ndarray:
    return rng.standard_normal((n, ticks))


def garch(
    rng: np.random.Generator, n: int, ticks: int, alpha: float = 0.1, beta: float = 0.88, freedom: float = 6.0
) -> np.ndarray:
    """Returns of variance 1 that can't be predicted, GARCH(1,1) with Student-t shocks.

    Bollerslev 1987. Their squares have the autocorrelation ρ(1) (alpha + beta)^(k − 1), where the fourth moment exists.
    """
    shocks = student(rng, n, FORGOTTEN + ticks, freedom) / np.sqrt(freedom / (freedom - 2.0))
    returns = np.empty_like(shocks)
    variance = np.ones(n)
    for t in range(shocks.shape[1]):
        returns[:, t] = np.sqrt(variance) * shocks[:, t]
        variance = 1.0 - alpha - beta + alpha * returns[:, t] ** 2 + beta * variance
    return returns[:, FORGOTTEN:]


def autoregression(rng: np.random.Generator, n: int, ticks: int, phi: float) -> np.ndarray:
    """AR(1) of variance 1 from its stationary start; autocorrelation phi^k."""
    shocks = np.sqrt(1.0 - phi**2) * rng.standard_normal((n, ticks))
    values = np.empty_like(shocks)
    value = rng.standard_normal(n)
    for t in range(ticks):
        value = phi * value + shocks[:, t]
        values[:, t] = value
    return values


def long_memory_autocorrelation(d: float, max_lag: int) -> np.ndarray:
    """Of ARFIMA(0, d, 0), lags 0 … max_lag: the product of (j − 1 + d) / (j − d), ~ lag^(2d − 1). Hosking 1981."""
    lag = np.arange(1, max_lag + 1)
    return np.concatenate([[1.0], np.cumprod((lag - 1 + d) / (lag - d))])


def long_memory(rng: np.random.Generator, n: int, ticks: int, d: float) -> np.ndarray:
    """ARFIMA(0, d, 0) of variance 1, exact by circulant embedding. Davies and Harte 1987."""
    correlation = long_memory_autocorrelation(d, ticks)
    spectrum = np.fft.fft(np.concatenate([correlation, correlation[-2:0:-1]])).real
    assert spectrum.min() >= 0.0
    size = len(spectrum)
    white = rng.standard_normal((n, size)) + 1j * rng.standard_normal((n, size))
    return np.fft.fft(np.sqrt(spectrum / size) * white).real[:, :ticks]


def hawkes_counts(
    rng: np.random.Generator, n: int, ticks: int, base: float, branching: float, decay: float
) -> np.ndarray:
    """Counts per tick of events that excite further ones: a Poisson autoregression with a geometric kernel.

    Each event has `branching` children on average. The mean is base / (1 − branching); the Fano factor of long windows is
    1 / (1 − branching)². Hawkes 1971; Kirchner 2016 (the process in discrete time).
    """
    counts = np.empty((n, FORGOTTEN + ticks))
    memory = np.full(n, base / (1.0 - branching))
    for t in range(counts.shape[1]):
        counts[:, t] = rng.poisson(base + branching * memory)
        memory = decay * memory + (1.0 - decay) * counts[:, t]
    return counts[:, FORGOTTEN:]


def student(rng: np.random.Generator, n: int, ticks: int, freedom: float) -> np.ndarray:
    """Student-t numbers; both tails have the exponent `freedom`."""
    return rng.standard_t(freedom, (n, ticks))


def pareto(rng: np.random.Generator, n: int, ticks: int, exponent: float) -> np.ndarray:
    """P(X > x) = x^−exponent for x ≥ 1."""
    return 1.0 + rng.pareto(exponent, (n, ticks))


def losses_stir(rng: np.random.Generator, n: int, ticks: int, phi: float = 0.9, reach: float = 0.1) -> np.ndarray:
    """Returns exp(h_t) ε_t with h_{t+1} = phi · h_t − reach · ε_t: losses raise volatility, gains lower it."""
    shocks = rng.standard_normal((n, FORGOTTEN + ticks))
    returns = np.empty_like(shocks)
    log_volatility = np.zeros(n)
    for t in range(shocks.shape[1]):
        returns[:, t] = np.exp(log_volatility) * shocks[:, t]
        log_volatility = phi * log_volatility - reach * shocks[:, t]
    return returns[:, FORGOTTEN:]


def losses_stir_correlation(max_lag: int, phi: float = 0.9, reach: float = 0.1) -> np.ndarray:
    """corr(r_t, r²_{t+k}) of that process at lags 1 … max_lag, from the moments of normal and log-normal numbers."""
    lag = np.arange(1, max_lag + 1)
    variance = reach**2 / (1.0 - phi**2)
    first = -2.0 * reach * phi ** (lag - 1)
    since = variance * (1.0 - phi ** (2 * (lag - 1)))
    covariance = np.exp((1.0 + 2.0 * phi**lag) ** 2 * variance / 2.0) * first * np.exp(first**2 / 2.0 + 2.0 * since)
    return covariance / np.sqrt(np.exp(2.0 * variance) * (3.0 * np.exp(8.0 * variance) - np.exp(4.0 * variance)))


def planted_impact(
    rng: np.random.Generator,
    sizes: np.ndarray,
    exponent: float,
    noise: float,
    *,
    n: int = 16,
    ticks: int = 200,
    start: int = 50,
    duration: int = 50,
    amplitude: float = 0.01,
    kept: float = 2.0 / 3.0,
    volatility: float = 1e-3,
) -> tuple[np.ndarray, np.ndarray]:
    """Log prices of paired random walks without and with a sliced buy order of each size, both [n, sizes, ticks].

    Both walk alike, but for the order's impact and independent measurement noise of standard deviation `noise` per tick. The
    order trades at an even pace over ticks start … start + duration − 1; its impact grows as amplitude · (traded)^exponent, so
    the peak at the last of them is amplitude · sizes^exponent, and then falls in a straight line to `kept` of the peak within
    another `duration`, where it stays.
    """
    tick = np.arange(ticks)
    traded = np.clip((tick - start + 1) / duration, 0.0, 1.0)
    since = np.clip((tick - start - duration + 1) / duration, 0.0, 1.0)
    impact = amplitude * (np.asarray(sizes)[:, None] * traded) ** exponent * (1.0 - (1.0 - kept) * since)
    without = np.cumsum(volatility * rng.standard_normal((n, 1, ticks)), axis=-1) + np.zeros((1, len(sizes), 1))
    return without, without + impact + noise * rng.standard_normal(without.shape)
