"""What `MarketConfig.randomize` may draw anew for every market and episode."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torchgym.config.validation import check_number, require


@dataclass(frozen=True, kw_only=True)
class Randomizable:
    """A number of `torchgym.state.MarketParams` that can be drawn, and where it makes sense.

    `by_ratio`: the number is a scale, of which half and double are equally far away, and it is drawn log-uniformly wherever the
    lower bound is above zero. The others are shares and gains, drawn uniformly.
    """

    high: float = math.inf  # the same limits as for the plain setting; the lower one is always 0
    by_ratio: bool = True


# The row's number is the lane of its random number, so new rows go to the end and no existing world changes.
RANDOMIZABLE: dict[str, Randomizable] = {
    "value_volatility": Randomizable(high=0.1),  # instead of fundamentals.volatility
    "public_share": Randomizable(high=1.0, by_ratio=False),  # instead of fundamentals.public_share
    "news_rate": Randomizable(),  # multiplies the probability of every kind of news
    "base_width": Randomizable(),  # the makers', as the two below
    "volatility_width": Randomizable(),
    "surprise_gain": Randomizable(by_ratio=False),
    "value_rate": Randomizable(),  # multiplies every value trader's own rate, as the two below
    "trend_rate": Randomizable(),
    "reversion_rate": Randomizable(),
    "noise_rate": Randomizable(),  # instead of the family's rate, as the three below
    "executor_rate": Randomizable(),
    "news_reactor_rate": Randomizable(),
    "stop_rate": Randomizable(),
}


def check_randomize(given: object) -> dict[str, tuple[float, float]]:
    """The same ranges as a dict of tuples.

    Raises:
        ValueError: for what is no mapping, an unknown name, or bounds that are no pair, out of order or out of range.
    """
    require(isinstance(given, Mapping), f"randomize must be a mapping from names to (low, high) pairs, got {given!r}")
    assert isinstance(given, Mapping)
    unknown = [repr(name) for name in given if name not in RANDOMIZABLE]
    require(not unknown, f"unknown name {', '.join(unknown)} in randomize: choose from {', '.join(RANDOMIZABLE)}")
    ranges = {}
    for name, bounds in given.items():
        label = f"randomize[{name!r}]"
        pair = isinstance(bounds, (tuple, list)) and len(bounds) == 2
        require(pair, f"{label} must be a (low, high) pair, got {bounds!r}")
        for bound in bounds:
            check_number(f"each bound of {label}", bound, 0.0, RANDOMIZABLE[name].high)
        low, high = bounds
        require(low <= high, f"{label} must be in order, the lower bound first, got ({low!r}, {high!r})")
        ranges[name] = (low, high)
    return ranges
