"""Cases of growth: what a tick costs as the batch or the crowd in each market grows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from torchgym.bench.found import Found, cost, rate
from torchgym.bench.lab import Lab
from torchgym.bench.scaling import largest, scaled
from torchgym.bench.timing import Timing, noise

_PRODUCT = 131_072  # markets x traders, about, while traders per market grow


def batches(lab: Lab) -> list[Found]:
    """Cost of a tick per market as the batch grows, and the largest over the smallest."""
    markets = [lab.market(lab.config, count) for count in lab.settings.batches]
    timings = lab.time(*(lab.stepping(market) for market in markets))
    found = [cost(timing, market) for timing, market in zip(timings, markets, strict=True)]
    costs = [entry.median for entry in found]
    return [*found, _ratio("largest over smallest", max(costs) / min(costs), found[-1], timings)]


def crowds(lab: Lab) -> list[Found]:
    """Cost of a tick per market as its traders grow, and by how much more than they: the worst of the legs."""
    sizes = lab.settings.traders
    markets = [lab.market(scaled(lab.config, size), max(1, _PRODUCT // size)) for size in sizes]
    timings = lab.time(*(lab.stepping(market) for market in markets))
    found = [cost(timing, market) for timing, market in zip(timings, markets, strict=True)]
    legs = [
        (after.median / before.median) / (more / less)
        for (before, less), (after, more) in itertools.pairwise(zip(found, sizes, strict=True))
    ]
    return [*found, _ratio("growth over growth of traders", max(legs, default=1.0), found[-1], timings)]


def crowd(lab: Lab) -> list[Found]:
    """Ticks per second of one market with very many traders, or with the most that its bounds accept."""
    config, refusal = largest(lab.config, lab.settings.crowd)
    market = lab.market(config, 1)
    (timing,) = lab.time(lab.stepping(market))
    found = rate("ticks", "ticks/s", timing, market, 1)
    return [replace(found, note=refusal, proves=not refusal)]


def _ratio(measure: str, value: float, last: Found, timings: Sequence[Timing]) -> Found:
    """A ratio of medians, told of the last size."""
    return replace(last, measure=measure, unit="times", values=[value], noise=noise(*timings))
