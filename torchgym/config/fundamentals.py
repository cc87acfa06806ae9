"""What moves the latent value: volatility, common factors, news."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torchgym.config.validation import check_count, check_number, require


@dataclass(frozen=True, kw_only=True)
class NewsKind:
    """One kind of public event: chance per tick, size (log), duration in ticks, share that hits value at once."""

    probability: float
    scale: float
    duration: int
    immediate: float

    def __post_init__(self) -> None:
        check_number("NewsKind.probability", self.probability, 0.0, 1.0)
        check_number("NewsKind.scale", self.scale, 0.0)
        check_count("NewsKind.duration", self.duration, low=1)
        check_number("NewsKind.immediate", self.immediate, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Fundamentals:
    """Latent value: a random walk with three-scale stochastic volatility, leverage, weak reversion and news."""

    volatility: float = 8e-4  # per tick
    volatility_half_lives: tuple[float, float, float] = (10.0, 100.0, 600.0)  # ticks
    volatility_scales: tuple[float, float, float] = (0.25, 0.42, 0.52)  # log-volatility standard deviations
    leverage: float = -0.3  # correlation of value moves with volatility moves
    public_share: float = 0.6  # of the variance of value moves that makers see at once
    reversion_half_life: float = 20_000.0  # ticks
    spread_of_start: float = 0.05  # standard deviation of log(value / list price) at the start
    market_loading: float = 0.6  # of a symbol's public move on the market factor (several symbols)
    sector_loading: float = 0.4
    headline_pass_through: float = 0.5  # share of a headline's immediate effect that makers quote at once
    earnings: NewsKind = NewsKind(probability=0.0012, scale=0.020, duration=60, immediate=0.5)
    guidance: NewsKind = NewsKind(probability=0.0008, scale=0.016, duration=90, immediate=0.4)
    sector: NewsKind = NewsKind(probability=0.0010, scale=0.010, duration=40, immediate=0.5)
    macro: NewsKind = NewsKind(probability=0.0005, scale=0.012, duration=80, immediate=0.5)

    def __post_init__(self) -> None:
        check_number("Fundamentals.volatility", self.volatility, 0.0, 0.1)
        check_number("Fundamentals.leverage", self.leverage, -1.0, 1.0)
        check_number("Fundamentals.public_share", self.public_share, 0.0, 1.0)
        check_number("Fundamentals.reversion_half_life", self.reversion_half_life, 1.0)
        check_number("Fundamentals.spread_of_start", self.spread_of_start, 0.0, 1.0)
        check_number("Fundamentals.market_loading", self.market_loading, -1.0, 1.0)
        check_number("Fundamentals.sector_loading", self.sector_loading, -1.0, 1.0)
        check_number("Fundamentals.headline_pass_through", self.headline_pass_through, 0.0, 1.0)
        for name, low, high in (("volatility_half_lives", 1e-3, math.inf), ("volatility_scales", 0.0, 2.0)):
            values = getattr(self, name)
            three = isinstance(values, tuple) and len(values) == 3
            require(three, f"Fundamentals.{name} must be a tuple of three numbers, got {values!r}")
            for value in values:
                check_number(f"Fundamentals.{name}", value, low, high)
        for name in ("earnings", "guidance", "sector", "macro"):
            kind = getattr(self, name)
            require(isinstance(kind, NewsKind), f"Fundamentals.{name} must be a NewsKind, got {kind!r}")
        shared = self.market_loading**2 + self.sector_loading**2
        require(
            shared <= 1.0,
            f"market_loading² + sector_loading² must be <= 1, got {shared:.3g}: lower one of the loadings",
        )
        total = self.earnings.probability + self.guidance.probability
        require(total <= 1.0, f"earnings and guidance probabilities must add up to <= 1, got {total}")

    @property
    def log_volatility_variance(self) -> float:
        """Stationary variance of the log-volatility, all three scales together."""
        return sum(scale * scale for scale in self.volatility_scales)
