"""Named markets. Each is a function, and its docstring says what the market is for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torchgym.config.fundamentals import NEWS, Fundamentals
from torchgym.config.population import (
    Makers,
    MetaOrders,
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


def _with_news(fundamentals: Fundamentals, *, times: float) -> Fundamentals:
    """The same with every kind of news so many times as frequent."""
    kinds = {name: getattr(fundamentals, name) for name in NEWS}
    changes: dict[str, Any] = {
        name: dataclasses.replace(kind, probability=times * kind.probability) for name, kind in kinds.items()
    }
    return dataclasses.replace(fundamentals, **changes)


def _default() -> MarketConfig:
    """A liquid stock, the one that is calibrated: what everything else is compared with."""
    return MarketConfig()


def _calm() -> MarketConfig:
    """A quiet large stock: small moves, narrow spreads, half the news. Where costs weigh most against any edge."""
    return MarketConfig(
        usual_return=5e-4,
        opening_volatility=6e-4,
        fundamentals=_with_news(Fundamentals(volatility=5e-4, volatility_scales=(0.38, 0.28, 0.24)), times=0.5),
        population=Population(maker=Makers(base_width=2.5), meta_order=MetaOrders(parent=(120.0, 8_000.0))),
    )


def _volatile() -> MarketConfig:
    """An excited stock: moves nearly twice as large, twice the news. For agents that must control their risk."""
    return MarketConfig(
        usual_return=1.2e-3,
        opening_volatility=1.6e-3,
        fundamentals=_with_news(Fundamentals(volatility=1.4e-3), times=2.0),
    )


def _crash() -> MarketConfig:
    """Rare cascades: many stop traders, mostly long and easily stopped, volatility that rises with falls, makers soon full."""
    return MarketConfig(
        fundamentals=Fundamentals(leverage=-0.8),
        population=Population(
            stop=StopTraders(count=40, rate=0.008, long_share=0.95, size=60.0, stop_loss=(0.008, 0.02)),
            maker=Makers(limit=350.0),
        ),
    )


def _illiquid() -> MarketConfig:
    """A small stock: fewer makers further apart, thin depth, spreads twice as wide. For execution and impact."""
    return MarketConfig(
        usual_volume=70.0,
        population=Population(
            value=ValueTraders(max_size=15),
            noise=NoiseTraders(rate=0.05),
            meta_order=MetaOrders(parent=(100.0, 6_000.0), child=(5.0, 20.0)),
            maker=Makers(count=8, depth=(1.0, 6.0), size=(5.0, 12.0), base_width=5.0, surprise_gain=0.55),
        ),
    )


def _zero_intelligence() -> MarketConfig:
    """The null market: everybody sends an order at random in every tick, knowing and believing nothing; no news, no clusters.

    Noise traders alone, four in five of their orders marketable; they act at four times the lowest activity there is, hence
    always. Makers follow the order flow without memory and learn nothing of value, which moves by itself at a constant
    volatility. What a measure of market realism finds here, the matching rules bring about.

    Source: Gode and Sunder (1993), Allocative efficiency of markets with zero-intelligence traders; Farmer, Patelli and Zovko
    (2005), The predictive power of zero intelligence in financial markets.
    """
    return MarketConfig(
        usual_volume=75.0,
        usual_return=5.5e-4,
        opening_volatility=7e-4,
        fundamentals=_with_news(
            Fundamentals(volatility_scales=(0.0, 0.0, 0.0), leverage=0.0, public_share=0.0, headline_pass_through=0.0),
            times=0.0,
        ),
        population=Population(
            value=ValueTraders(count=0),
            trend=TrendFollowers(count=0),
            reversion=ReversionTraders(count=0),
            noise=NoiseTraders(count=24, rate=4.0, size=3.5),
            meta_order=MetaOrders(count=0),
            news=NewsReactors(count=0),
            stop=StopTraders(count=0),
            pairs=PairsTraders(count=0),
            rotator=SectorRotators(count=0),
            maker=Makers(
                base_width=5.0,
                volatility_width=0.0,
                surprise_gain=0.6,
                gain_elasticity=0.0,
                expectation_weights=(0.0, 0.0, 0.0),
            ),
        ),
    )


def _toy() -> MarketConfig:
    """Few traders, short episodes: for tests and first steps."""
    return MarketConfig(
        max_ticks=200,
        usual_volume=45.0,
        population=Population(
            value=ValueTraders(count=10, rate=(0.1, 0.5)),
            trend=TrendFollowers(count=4),
            reversion=ReversionTraders(count=4),
            noise=NoiseTraders(count=10, rate=0.25),
            meta_order=MetaOrders(count=3),
            news=NewsReactors(count=2),
            stop=StopTraders(count=4, rate=0.04),
            pairs=PairsTraders(count=2),
            rotator=SectorRotators(count=1),
            maker=Makers(count=6),
        ),
    )


PRESETS: dict[str, Callable[[], MarketConfig]] = {
    "default": _default,
    "calm": _calm,
    "volatile": _volatile,
    "illiquid": _illiquid,
    "crash": _crash,
    "zero_intelligence": _zero_intelligence,
    "toy": _toy,
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
