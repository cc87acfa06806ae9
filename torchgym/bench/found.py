"""What a case finds out."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from torchgym.bench.timing import Timing, noise
from torchgym.config import MarketConfig
from torchgym.engine import Market

COST = "µs/market-tick"


@dataclass(frozen=True, kw_only=True)
class Found:
    """One measure of a case: a value per timed window, or a single one."""

    measure: str
    unit: str
    values: list[float]
    config: MarketConfig
    markets: int
    compiled: bool
    noise: str = ""
    note: str = ""
    threads: int | None = None  # where they differ from the case's
    proves: bool = True  # False where meeting the target would not show that it is met at the size asked for

    @property
    def median(self) -> float:
        """Of the values."""
        return statistics.median(self.values)


def rate(measure: str, unit: str, timing: Timing, market: Market, frames: int) -> Found:
    """How much of something a second: every piece of work does so many `frames` of it."""
    return Found(
        measure=measure,
        unit=unit,
        values=[frames * value for value in timing.rates],
        config=market.config,
        markets=market.num_envs,
        compiled=market.compile,
        noise=noise(timing),
    )


def rate_and_share(timing: Timing, plain: Timing, market: Market, frames: int) -> list[Found]:
    """Market-steps a second, and their share of what the batch alone does, window by window."""
    shares = [mine / alone for mine, alone in zip(timing.rates, plain.rates, strict=True)]
    share = Found(
        measure="share",
        unit="of Market.step",
        values=shares,
        config=market.config,
        markets=market.num_envs,
        compiled=market.compile,
        noise=noise(timing, plain),
    )
    return [rate("steps", "market-steps/s", timing, market, frames), share]


def cost(timing: Timing, market: Market, measure: str = "step") -> Found:
    """Microseconds per market of a piece of work that does all of them."""
    return Found(
        measure=measure,
        unit=COST,
        values=[1e6 * value / market.num_envs for value in timing.costs],
        config=market.config,
        markets=market.num_envs,
        compiled=market.compile,
        noise=noise(timing),
    )
