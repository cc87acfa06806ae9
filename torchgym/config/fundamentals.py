"""What moves the latent value: volatility, common factors, news."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from torchgym.config.validation import Chance, HalfLife, Range, Settings, Share, Within, check_fields, require

NEWS = ("earnings", "guidance", "sector", "macro")  # the fields of `Fundamentals` that are kinds of news

Deviation = Annotated[float, Within(0.0, 2.0)]
Correlation = Annotated[float, Within(-1.0, 1.0, even=True)]


@dataclass(frozen=True, kw_only=True)
class NewsKind(Settings):
    """One kind of public event: chance per tick, size (log), duration in ticks, share that hits value at once."""

    probability: Chance
    scale: Share
    duration: Annotated[int, Within(1, 1_000_000)]
    immediate: Share

    def __post_init__(self) -> None:
        check_fields(self, NewsKind, "NewsKind.")


@dataclass(frozen=True, kw_only=True)
class Fundamentals(Settings):
    """Latent value: a random walk with three-scale stochastic volatility, leverage, weak reversion and news; or one of steps."""

    # "volatility": all that follows. "steps": so many points up or down, nothing else moves it but what learners trade.
    process: Literal["volatility", "steps"] = "volatility"
    step: Annotated[float, Within(0.0, 1e3)] = 1.0  # points
    step_chance: Annotated[float, Within(0.0, 0.5)] = 0.2  # per tick, of a step up, and of one down
    step_impact: Annotated[float, Within(0.0, 1.0)] = 0.0  # points per share that learners buy or, downwards, sell
    volatility: Annotated[float, Within(0.0, 0.1)] = 8.0e-4  # per tick
    volatility_half_lives: tuple[HalfLife, HalfLife, HalfLife] = (3.0, 20.0, 200.0)  # ticks
    volatility_scales: tuple[Deviation, Deviation, Deviation] = (0.62, 0.25, 0.20)  # log-volatility standard deviations
    leverage: Correlation = -0.6  # correlation of value moves with volatility moves
    public_share: Share = 0.65  # of the variance of value moves that makers see at once
    reversion_half_life: Annotated[float, Within(1.0, 1e18)] = 20_000.0  # ticks
    spread_of_start: Annotated[float, Within(0.0, 1.0)] = (
        0.05  # standard deviation of log(value / list price) at the start
    )
    market_loading: Correlation = 0.75  # of a symbol's public move on the market factor (several symbols)
    sector_loading: Correlation = 0.45
    headline_pass_through: Share = 0.5  # share of a headline's immediate effect that makers quote at once
    news_rate: Annotated[float, Within(0.0, 1e6)] = 1.0  # multiplies the probability of every kind of news
    magnitude: Range[Share] = (0.2, 1.0)  # of an event, uniform
    misreading: Deviation = 0.3  # of the true effect's logarithm around the headline's, standard deviation
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
        own = self.earnings.probability + self.guidance.probability
        require(own <= 1.0, f"the probability of earnings and that of guidance must add up to <= 1, got {own}")
        likeliest = self.news_rate * max(own, self.sector.probability, self.macro.probability)
        require(
            likeliest <= 1.0,
            f"news_rate = {self.news_rate!r} times a probability of news exceeds 1, got {likeliest:.3g}: lower one of them",
        )

    def value_deviation(self, ticks: int, list_price: int, mean_square: float = 1.0) -> float:
        """Standard deviation of the log value so many ticks after the opening, over markets.

        With the variance v of a tick's moves and news, and reversion at the rate kappa,

        variance = k spread_of_start^2 + v (1 - k) / (1 - (1 - kappa)^2),        k = (1 - kappa)^(2 ticks)

        Args:
            mean_square: of a tick's moves without news, where 1 is that of `volatility`.
        """
        if self.process == "steps":
            steps = 2.0 * self.step_chance * ticks * (self.step / list_price) ** 2
            return math.sqrt(self.spread_of_start**2 + steps)
        kinds_of_news: list[NewsKind] = [getattr(self, name) for name in NEWS]
        events = self.news_rate * sum(kind.probability * kind.scale**2 for kind in kinds_of_news)
        least, most = self.magnitude
        magnitude_square = (least * least + least * most + most * most) / 3.0
        headline_square = (
            (1.0 / 3.0) * magnitude_square * math.exp(self.misreading**2)
        )  # sentiment is uniform in -1 to 1
        variance = self.volatility**2 * mean_square + events * headline_square
        decay = 2.0 * math.log1p(-math.log(2.0) / self.reversion_half_life)
        moved = variance * math.expm1(ticks * decay) / math.expm1(decay)
        return math.sqrt(math.exp(ticks * decay) * self.spread_of_start**2 + moved)
