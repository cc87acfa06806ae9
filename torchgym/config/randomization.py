"""What `MarketConfig.randomize` may draw anew for every market and episode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torchgym.config.fundamentals import Fundamentals
from torchgym.config.population import Executors, Makers, NewsReactors, NoiseTraders, StopTraders
from torchgym.config.validation import bounds_of, check_name, check_range, kinds, require, shown


@dataclass(frozen=True, kw_only=True)
class Randomizable:
    """A number of `torchgym.sim.state.MarketParams` that can be drawn, and where it makes sense.

    `by_ratio`: the number is a scale, of which half and double are equally far away, and it is drawn log-uniformly wherever the
    lower bound is above zero. The others are shares and gains, drawn uniformly.
    """

    high: float  # the lower limit is always 0
    by_ratio: bool = True


def _instead(kind: type, setting: str, *, by_ratio: bool = True) -> Randomizable:
    """Stands in for a setting, within the same limits."""
    bounds = bounds_of(kinds(kind)[setting])
    assert bounds is not None
    return Randomizable(high=bounds.high, by_ratio=by_ratio)


# The row's number is the lane of its random number, so new rows go to the end and no existing world changes.
RANDOMIZABLE: dict[str, Randomizable] = {
    "value_volatility": _instead(Fundamentals, "volatility"),
    "public_share": _instead(Fundamentals, "public_share", by_ratio=False),
    "news_rate": Randomizable(high=1e6),  # multiplies the probability of every kind of news
    "base_width": _instead(Makers, "base_width"),
    "volatility_width": _instead(Makers, "volatility_width"),
    "surprise_gain": _instead(Makers, "surprise_gain", by_ratio=False),
    "value_rate": Randomizable(high=100.0),  # multiplies every value trader's own rate, as the two below
    "trend_rate": Randomizable(high=100.0),
    "reversion_rate": Randomizable(high=100.0),
    "noise_rate": _instead(NoiseTraders, "rate"),
    "executor_rate": _instead(Executors, "rate"),
    "news_reactor_rate": _instead(NewsReactors, "rate"),
    "stop_rate": _instead(StopTraders, "rate"),
}


def check_randomize(given: object) -> dict[str, tuple[float, float]]:
    """The same ranges as a dict of tuples.

    Raises:
        ValueError: for what is no mapping, an unknown name, or bounds that are no pair, out of order or out of range.
    """
    require(
        isinstance(given, Mapping), f"randomize must be a mapping from names to (low, high) pairs, got {shown(given)}"
    )
    assert isinstance(given, Mapping)
    unknown = [shown(name) for name in given if name not in RANDOMIZABLE]
    require(not unknown, f"unknown name {', '.join(unknown)} in randomize: choose from {', '.join(RANDOMIZABLE)}")
    return {
        check_name("each name in randomize", name): check_range(
            f"randomize[{name!r}]", bounds, 0.0, RANDOMIZABLE[name].high
        )
        for name, bounds in given.items()
    }
