"""What moves the latent value: volatility, common factors, news."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from torchgym.config.validation import HalfLife, Share, Within, check_fields, require

NEWS = ("earnings", "guidance", "sector", "macro")  # the fields of `Fundamentals` that are kinds of news

# Mean square of an event's sentiment, of its magnitude, and of how its true effect differs from its headline.
_HEADLINE_SQUARE = (1 / 3) * (0.992 / 2.4) * math.exp(0.09)

Deviation = Annotated[float, Within(0.0, 2.0)]
Correlation = Annotated[float, Within(-1.0, 1.0)]


@dataclass(frozen=True, kw_only=True)
class NewsKind:
    """One kind of public event: chance per tick, size (log), duration in ticks, share that hits value at once."""

    probability: Share
    scale: Share
    duration: Annotated[int, Within(1, 1_000_000)]
    immediate: Share

    def __post_init__(self) -> None:
        check_fields(self, NewsKind, "NewsKind.")


@dataclass(frozen=True, kw_only=True)
class Fundamentals:
    """Latent value: a random walk with three-scale stochastic volatility, leverage, weak reversion and news."""

    volatility: Annotated[float, Within(0.0, 0.1)] = 8.7e-4  # per tick
    volatility_half_lives: tuple[HalfLife, HalfLife, HalfLife] = (3.0, 20.0, 200.0)  # ticks
    volatility_scales: tuple[Deviation, Deviation, Deviation] = (0.42, 0.32, 0.28)  # log-volatility standard deviations
    leverage: Correlation = -0.5  # correlation of value moves with volatility moves
    public_share: Share = 0.6  # of the variance of value moves that makers see at once
    reversion_half_life: Annotated[float, Within(1.0, 1e18)] = 20_000.0  # ticks
    spread_of_start: Annotated[float, Within(0.0, 1.0)] = (
        0.05  # standard deviation of log(value / list price) at the start
    )
    market_loading: Correlation = 0.75  # of a symbol's public move on the market factor (several symbols)
    sector_loading: Correlation = 0.45
    headline_pass_through: Share = 0.5  # share of a headline's immediate effect that makers quote at once
    earnings: NewsKind = NewsKind(probability=0.0012, scale=0.020, duration=60, immediate=0.5)
    guidance: NewsKind = NewsKind(probability=0.0008, scale=0.016, duration=90, immediate=0.4)
    sector: NewsKind = NewsKind(probability=0.0010, scale=0.010, duration=40, immediate=0.5)
    macro: NewsKind = NewsKind(probability=0.0005, scale=0.012, duration=80, immediate=0.5)

    def __post_init__(self) -> None:
        check_fields(self, Fundamentals, "Fundamentals.")
        shared = self.market_loading**2 + self.sector_loading**2
        require(
            shared <= 1.0,
            f"market_loading² + sector_loading² must be <= 1, got {shared:.3g}: lower one of the loadings",
        )
        total = self.earnings.probability + self.guidance.probability
        require(total <= 1.0, f"the probability of earnings and that of guidance must add up to <= 1, got {total}")

    def value_deviation(self, ticks: int, *, volatility: float, news_rate: float) -> float:
        """Standard deviation of the log value so many ticks after the opening, over markets.

        With the variance v of a tick's moves and news, and reversion at the rate kappa,

            variance = k spread_of_start^2 + v (1 - k) / (1 - (1 - kappa)^2),        k = (1 - kappa)^(2 ticks)

        Args:
            volatility: per tick, in place of the setting's.
            news_rate: multiplies the probability of every kind of news.
        """
        kinds_of_news: list[NewsKind] = [getattr(self, name) for name in NEWS]
        events = sum(kind.probability * kind.scale**2 for kind in kinds_of_news)
        variance = volatility**2 + news_rate * events * _HEADLINE_SQUARE
        decay = 2.0 * math.log1p(-math.log(2.0) / self.reversion_half_life)
        moved = variance * math.expm1(ticks * decay) / math.expm1(decay)
        return math.sqrt(math.exp(ticks * decay) * self.spread_of_start**2 + moved)

    @property
    def volatility_decays(self) -> tuple[float, ...]:
        """What is left of each log-volatility after a tick."""
        return tuple(2.0 ** (-1.0 / half_life) for half_life in self.volatility_half_lives)

    @property
    def log_volatility_covariance(self) -> tuple[tuple[float, ...], ...]:
        """Stationary covariances of the three log-volatilities: leverage gives their shocks the value's move in common."""
        keep, scales = self.volatility_decays, self.volatility_scales

        def entry(j: int, k: int) -> float:
            shared = 1.0 if j == k else self.leverage**2
            shocks = math.sqrt((1.0 - keep[j] ** 2) * (1.0 - keep[k] ** 2))
            return shared * scales[j] * scales[k] * shocks / (1.0 - keep[j] * keep[k])

        return tuple(tuple(entry(j, k) for k in range(3)) for j in range(3))

    @property
    def log_volatility_variance(self) -> float:
        """Stationary variance of the log-volatility, all three scales together."""
        return sum(sum(row) for row in self.log_volatility_covariance)
