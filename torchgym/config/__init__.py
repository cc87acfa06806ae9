"""What a market is made of: frozen, validated settings, the named presets and the tasks.

Numbers here are plain Python values. In a market they become tensors, which may differ from market to market
(`torchgym.sim.params.Params`); everything else is the structure that is compiled.

Units: prices in points, quantities in shares, time in ticks, log prices and their changes as fractions. One tick stands for
about a minute of trading: at the defaults a one-tick return has a standard deviation near 0.1 %.
"""

from __future__ import annotations

from torchgym.config.activity import Activity
from torchgym.config.fundamentals import Fundamentals, NewsKind
from torchgym.config.keywords import from_keywords
from torchgym.config.numbers import Setting, Structure, all_numbers, paths, structure, with_numbers
from torchgym.config.population import (
    FAMILIES,
    Family,
    Makers,
    MetaOrders,
    NewsReactors,
    NoiseTraders,
    PairsTraders,
    Population,
    ReversionTraders,
    SectorRotators,
    StopTraders,
    Takers,
    TrendFollowers,
    ValueTraders,
)
from torchgym.config.presets import PRESETS, preset, task
from torchgym.config.session import Session
from torchgym.config.settings import MarketConfig
from torchgym.config.tasks import TASKS, Task, task_presets

__all__ = [
    "FAMILIES",
    "PRESETS",
    "TASKS",
    "Activity",
    "Family",
    "Fundamentals",
    "Makers",
    "MarketConfig",
    "MetaOrders",
    "NewsKind",
    "NewsReactors",
    "NoiseTraders",
    "PairsTraders",
    "Population",
    "ReversionTraders",
    "SectorRotators",
    "Session",
    "Setting",
    "StopTraders",
    "Structure",
    "Takers",
    "Task",
    "TrendFollowers",
    "ValueTraders",
    "all_numbers",
    "from_keywords",
    "paths",
    "preset",
    "structure",
    "task",
    "task_presets",
    "with_numbers",
]
