"""Named markets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torchgym.config.fundamentals import Fundamentals
from torchgym.config.population import (
    Executors,
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
from torchgym.config.settings import MarketConfig


def _calm() -> MarketConfig:
    default = Fundamentals()
    return MarketConfig(
        opening_volatility=6e-4,
        fundamentals=Fundamentals(
            volatility=5e-4,
            volatility_scales=(0.15, 0.25, 0.30),
            earnings=dataclasses.replace(default.earnings, probability=0.0006),
            guidance=dataclasses.replace(default.guidance, probability=0.0004),
            sector=dataclasses.replace(default.sector, probability=0.0005),
            macro=dataclasses.replace(default.macro, probability=0.0002),
        ),
        population=Population(
            maker=Makers(base_width=2.5, surprise_gain=0.95), executor=Executors(parent=(120.0, 8_000.0))
        ),
    )


def _volatile() -> MarketConfig:
    default = Fundamentals()
    doubled = {
        kind: dataclasses.replace(getattr(default, kind), probability=2.0 * getattr(default, kind).probability)
        for kind in ("earnings", "guidance", "sector", "macro")
    }
    return MarketConfig(
        usual_return=1.3e-3, opening_volatility=1.6e-3, fundamentals=Fundamentals(volatility=1.4e-3, **doubled)
    )


def _illiquid() -> MarketConfig:
    return MarketConfig(
        population=Population(
            value=ValueTraders(max_size=15),
            noise=NoiseTraders(rate=0.05),
            executor=Executors(parent=(100.0, 6_000.0), child=(5.0, 20.0)),
            maker=Makers(count=8, depth=(1.0, 6.0), size=(4.0, 11.0), base_width=4.5, surprise_gain=0.75),
        )
    )


def _toy() -> MarketConfig:
    return MarketConfig(
        max_ticks=200,
        usual_volume=45.0,
        population=Population(
            value=ValueTraders(count=10, rate=(0.1, 0.5)),
            trend=TrendFollowers(count=4),
            reversion=ReversionTraders(count=4),
            noise=NoiseTraders(count=10, rate=0.25),
            executor=Executors(count=3),
            news=NewsReactors(count=2),
            stop=StopTraders(count=4, rate=0.04),
            pairs=PairsTraders(count=2),
            rotator=SectorRotators(count=1),
            maker=Makers(count=6),
        ),
    )


PRESETS: dict[str, Callable[[], MarketConfig]] = {
    "default": MarketConfig,  # a liquid stock
    "calm": _calm,  # small moves, narrow spreads, little news
    "volatile": _volatile,  # larger moves, twice the news
    "illiquid": _illiquid,  # fewer makers, wide spreads, thin depth
    "toy": _toy,  # few traders, short episodes: for tests and first steps
}


def preset(name: str, **changes: Any) -> MarketConfig:
    """The named configuration, with `changes` applied.

    Raises:
        ValueError: for an unknown name, listing the known ones.

    >>> preset("calm", max_ticks=500).max_ticks
    500
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]().replace(**changes)
