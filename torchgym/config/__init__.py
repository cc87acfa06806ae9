"""What a market is made of: frozen, validated settings and the named presets.

Numbers here are plain Python values. Those that may differ from market to market become `[N]` tensors in
`torchgym.sim.state.MarketParams`; the others are constants of the compiled tick.

Units: prices in points, quantities in shares, time in ticks, log prices and their changes as fractions. One tick stands for
about a minute of trading: at the defaults a one-tick return has a standard deviation near 0.1 %.
"""

from __future__ import annotations

from torchgym.config.fundamentals import Fundamentals, NewsKind
from torchgym.config.population import (
    FAMILIES,
    Executors,
    Family,
    Makers,
    NewsReactors,
    NoiseTraders,
    PairsTraders,
    Population,
    ReversionTraders,
    SectorRotators,
    StopTraders,
    TrendFollowers,
    ValueTraders,
)
from torchgym.config.presets import PRESETS, preset
from torchgym.config.randomization import RANDOMIZABLE, Randomizable
from torchgym.config.settings import MarketConfig

__all__ = [
    "FAMILIES",
    "PRESETS",
    "RANDOMIZABLE",
    "Executors",
    "Family",
    "Fundamentals",
    "Makers",
    "MarketConfig",
    "NewsKind",
    "NewsReactors",
    "NoiseTraders",
    "PairsTraders",
    "Population",
    "Randomizable",
    "ReversionTraders",
    "SectorRotators",
    "StopTraders",
    "TrendFollowers",
    "ValueTraders",
    "preset",
]
