"""Named markets, and tasks in them. Each market is a function, and its docstring says what it is for."""

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
    Takers,
    TrendFollowers,
    ValueTraders,
)
from torchgym.config.session import Session
from torchgym.config.settings import MarketConfig
from torchgym.config.tasks import TASKS, task_presets
from torchgym.table import guess


def _with_news(fundamentals: Fundamentals, *, times: float) -> Fundamentals:
    """The same with every kind of news so many times as frequent."""
    kinds = {name: getattr(fundamentals, name) for name in NEWS}
    changes: dict[str, Any] = {
        name: dataclasses.replace(kind, probability=times * kind.probability) for name, kind in kinds.items()
    }
    return dataclasses.replace(fundamentals, **changes)


def _default() -> MarketConfig:
    """A liquid stock: what everything else is compared with."""
    return MarketConfig()


def _calm() -> MarketConfig:
    """A quiet large stock: small moves, narrow spreads, less news. Where costs weigh most against any edge."""
    return MarketConfig(
        usual_return=5e-4,
        opening_volatility=6e-4,
        fundamentals=_with_news(Fundamentals(volatility=4.5e-4, volatility_scales=(0.75, 0.20, 0.20)), times=0.75),
        population=Population(
            meta_order=MetaOrders(child=35.0),
            maker=Makers(base_width=2.5, expectation_weights=(0.415, 0.100, 0.351, 0.060, -0.003, 0.054)),
        ),
    )


def _volatile() -> MarketConfig:
    """An excited stock: larger moves, twice the news. For agents that must control their risk."""
    return MarketConfig(
        usual_return=1.2e-3,
        opening_volatility=1.6e-3,
        fundamentals=_with_news(Fundamentals(volatility=1.1e-3), times=2.0),
        population=Population(maker=Makers(expectation_weights=(0.414, 0.032, 0.367, 0.155, -0.018, -0.007))),
    )


def _crash() -> MarketConfig:
    """Rare cascades: many stop traders, mostly long, and volatility that rises with falls."""
    return MarketConfig(
        fundamentals=Fundamentals(leverage=-0.8, volatility_scales=(0.75, 0.25, 0.20)),
        population=Population(
            stop=StopTraders(
                count=40, rate=0.008, long_share=0.95, max_size=60, size=15.0, start_size=15.0, stop_loss=(0.01, 0.04)
            ),
            maker=Makers(expectation_weights=(0.440, 0.057, 0.346, 0.127, -0.022, -0.023)),
        ),
    )


def _illiquid() -> MarketConfig:
    """A small stock: fewer makers further apart, thin depth, spreads a tenth wider, fees of 3 bp. For execution and impact."""
    return MarketConfig(
        usual_volume=70.0,
        commission_bps=3.0,
        maker_bps=3.0,  # at 2 quoting by rote earns in so thin a book
        fundamentals=Fundamentals(volatility_scales=(0.62, 0.25, 0.28)),
        population=Population(
            value=ValueTraders(aggressive=0.25, rate_factor=1.2),
            noise=NoiseTraders(rate=0.05),
            meta_order=MetaOrders(child=25.0),
            maker=Makers(
                count=8,
                depth=(1.0, 6.0),
                size=(7.5, 18.0),
                base_width=4.4,
                limit=1500.0,
                surprise_gain=0.85,
                expectation_weights=(0.425, 0.082, 0.345, 0.032, 0.040, 0.070),
            ),
        ),
    )


def _day() -> MarketConfig:
    """The default market in days of 390 ticks, with auctions at the opening and the close, and nights."""
    return MarketConfig(session=Session(kind="day"))


def _zero_intelligence() -> MarketConfig:
    """The null market: orders at random in every tick, no news, no clusters. Its prices trend: following 64 ticks earns 67.

    Noise traders alone, four in five of their orders marketable; they act at four times the lowest activity there is, hence
    always. Makers follow the order flow without memory and learn nothing of value, which moves by itself at a constant
    volatility. What a measure of market realism finds here, the matching rules bring about.

    The makers follow the flow only in part, and nobody trades against what is left. Who goes with returns over 64 ticks beyond
    twice their usual size earns 67 (62 to 73) currency in an episode of 1,000 ticks, after costs, with ten shares an order and at
    most 50 held: the reference of `torchgym ladder --tasks trend`. An agent that earns here may have found no more than that.

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
                expectation_weights=(0.0,) * 6,
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
            meta_order=MetaOrders(count=3, child=20.0),
            news=NewsReactors(count=2),
            stop=StopTraders(count=4, rate=0.04),
            pairs=PairsTraders(count=2),
            rotator=SectorRotators(count=1),
            maker=Makers(count=6),
        ),
    )


def _nobody(**families: Any) -> Population:
    """None but the given families."""
    none: dict[str, Any] = {name: dataclasses.replace(own, count=0) for name, own in Population().families.items()}
    return Population(**none | families)


def _steps(*, spread_of_start: float = 0.0, **settings: float) -> Fundamentals:
    """A value that begins at the list price, or near it, and takes steps, without news."""
    steps = Fundamentals(process="steps", spread_of_start=spread_of_start, **settings)  # type: ignore[arg-type]
    return _with_news(steps, times=0.0)


def _as_null() -> MarketConfig:
    """The market-making problem with a closed form: the mid is a random walk, takers come by chance, the learner alone quotes.

    The mid moves a point up or down with chance 0.2 each; a taker of one share comes with chance 0.28 and reaches d points with
    chance exp(-0.15 d); 1,000 ticks. In units of ten points and an episode that is sigma = 2, A = 140, k = 1.5, T = 1.

    Source: Avellaneda and Stoikov (2008), High-frequency trading in a limit order book, Quantitative Finance 8, section 3.3.
    """
    return MarketConfig(
        **_NULL,
        max_ticks=1_000,
        order_size=1,
        position_limit=200,
        quotes=1,
        action="depths",
        fundamentals=_steps(step=1.0, step_chance=0.2),
        population=_nobody(taker=Takers(count=1, rate=0.28, decay=0.15)),
    )


def _ac_null() -> MarketConfig:
    """The execution problem with a closed form: a ladder that is full again in every tick, a random walk, permanent impact.

    Half-spread 3 points, 20 shares a point on either side, steps of 5 points up or down, 0.002 points a share for good. The
    learner begins with 1,000 shares and has 50 ticks. Temporary impact is half a point per 20 shares: eta = 0.025. The value
    opens about a point from the list price, anywhere between two points: rounding the mid adds nothing to the mean cost.

    Source: Almgren and Chriss (2001), Optimal execution of portfolio transactions, Journal of Risk 3.
    """
    ladder = Makers(
        count=128,  # of ten shares at every half point, which are whole ones further out
        grid="even",
        depth=(3.0, 66.5),
        depth_spread=0.0,
        size=(10.0, 10.0),
        size_power=0.0,
        limit=float(2**22),
        skew=0.0,
        base_width=1.0,
        volatility_width=0.0,
        width_elasticity=0.0,
        news_width=0.0,
        start_inventory=0.0,
    )
    return MarketConfig(
        **_NULL,
        max_ticks=50,
        order_size=1_000,
        position_limit=1_000,
        starting_shares=1_000,
        action="position",
        fundamentals=_steps(step=5.0, step_chance=0.5, step_impact=0.002, spread_of_start=1e-4),
        population=_nobody(taker=Takers(count=1, rate=0.0), maker=ladder),
    )


_NULL: dict[str, Any] = {  # what markets with a closed form have in common: no fees, no charges, the value for a mid
    "reference": "value",
    "opening_gap": 0.0,
    "commission_bps": 0.0,
    "maker_bps": 0.0,
    "borrow_ppb": 0,
}

PRESETS: dict[str, Callable[[], MarketConfig]] = {
    "default": _default,
    "calm": _calm,
    "volatile": _volatile,
    "illiquid": _illiquid,
    "crash": _crash,
    "day": _day,
    "zero_intelligence": _zero_intelligence,
    "toy": _toy,
    "as_null": _as_null,
    "ac_null": _ac_null,
}


def preset(name: str, **changes: Any) -> MarketConfig:
    """The named configuration, with changes as in `MarketConfig.replace`: a row of `PRESETS`, or a task in the default market.

    Raises:
        ValueError: for an unknown name, listing the known ones.

    >>> preset("calm", max_ticks=500).max_ticks, preset("market_making") == task("MarketMaking")
    (500, True)
    """
    return _market(name).replace(**changes)


def task(name: str, preset: str = "default", **changes: Any) -> MarketConfig:
    """The configuration of a task in the market of a preset, with `changes` applied.

    The task's settings come before the preset's, but no episode gets longer than the preset has it: in "toy" they stay short.

    Raises:
        ValueError: for an unknown task or preset, listing the known ones.

    >>> task("Trading").max_ticks, task("Trading", "toy").max_ticks, task("Trading", "toy", max_ticks=50).scaling
    (1000, 200, 'relative')
    """
    market, plain = _market(preset), MarketConfig()
    settings = TASKS.find(name).settings
    if market.max_ticks != plain.max_ticks:
        settings = {**settings, "max_ticks": min(market.max_ticks, settings.get("max_ticks", market.max_ticks))}
    return market.replace(**{**settings, **changes})


def _market(name: str) -> MarketConfig:
    tasks = task_presets()
    if name in PRESETS:
        return PRESETS[name]()
    if name in tasks:
        return task(tasks[name])
    listed = f"choose one of {', '.join(PRESETS)}, or a task: {', '.join(tasks)}{guess([name], [*PRESETS, *tasks])}"
    raise ValueError(f"unknown preset {name!r}: {listed}")
