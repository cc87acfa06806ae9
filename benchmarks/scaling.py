"""Markets with more or fewer traders of the same kinds."""

from __future__ import annotations

import dataclasses
from typing import Any

from torchgym.config import MarketConfig, structure


def scaled(config: MarketConfig, traders: int) -> MarketConfig:
    """The same market with another number of background traders per symbol, in the same proportions.

    The volume that traders take for usual grows alike, so that the market stays in its regime. Families that are absent, such
    as pairs traders of a single symbol, keep their count. Shares of a trader go to the largest remainders.

    Args:
        config: what to scale.
        traders: how many afterwards, exactly, makers included.

    Raises:
        ValueError: when the market's bounds refuse so many, or so few.

    >>> structure(scaled(MarketConfig(), 1_024)).owners
    1024
    """
    places = structure(config)
    counts = {name: place.stop - place.start for name, place in places.families.items()}
    counts["maker"] = places.makers
    ratio = traders / places.owners
    whole = {name: int(count * ratio) for name, count in counts.items()}
    remainder = sorted(counts, key=lambda name: whole[name] - counts[name] * ratio)
    for name in remainder[: traders - sum(whole.values())]:
        whole[name] += 1
    settings = config.population.families
    families: dict[str, Any] = {name: dataclasses.replace(settings[name], count=count) for name, count in whole.items()}
    others = {name: families.pop(name, family) for name, family in config.population.others.items()}
    population = dataclasses.replace(config.population, **families, others=others)
    return config.replace(population=population, usual_volume=config.usual_volume * ratio)


def largest(config: MarketConfig, traders: int) -> tuple[MarketConfig, str]:
    """The market scaled to so many traders or, where its bounds refuse them, to the most they accept.

    Returns:
        The configuration, and why it has fewer traders than asked for; empty where it has not.

    Raises:
        ValueError: when they are too few.
    """
    try:
        return scaled(config, traders), ""
    except ValueError as error:
        low, high = structure(config).owners, traders  # low is accepted, high is not
        if high <= low:
            raise
        refusal = f"{traders:,} traders are refused: {error}"
    while high - low > 1:
        middle = (low + high) // 2
        try:
            scaled(config, middle)
            low = middle
        except ValueError:
            high = middle
    return scaled(config, low), refusal
