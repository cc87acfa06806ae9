"""The scorecard of a market: run it, judge every fact, and show null models that must fail."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from torchgym.config import MarketConfig
from torchgym.config.validation import check_count
from torchgym.engine import Compile, Market
from torchgym.files import finite
from torchgym.lab.realism import surrogates
from torchgym.lab.realism.curves import curves
from torchgym.lab.realism.economy import QUARTERS, Economy, wealth
from torchgym.lab.realism.facts import TIERS, Verdict, intervals, judge_all, measure
from torchgym.lab.realism.impact import Impact, impact_config, measure_impact
from torchgym.lab.realism.paths import BURN_IN, Paths, check_days
from torchgym.progress import Count, Progress, silent

MARKETS, TICKS, RESAMPLES = 64, 16_384, 50
# Markets take consecutive seeds from here: far above the small seeds that training and calibration start from, so that a
# scorecard never shows markets that a parameter or an agent was fitted to.
SEED = 9_000_000_000
_ENTRIES = ("mid", "bid", "ask", "volume", "buys", "sells", "fills", "value", "news", "maker_shares", "maker_cash")


@dataclass(frozen=True)
class Null:
    """A model without the facts, measured the same way."""

    name: str
    meaning: str
    must_fail: tuple[int, ...]  # numbers of facts; empty: any fact of tier M
    verdicts: tuple[Verdict, ...]

    @property
    def failed(self) -> tuple[int, ...]:
        """Numbers of the facts it fails."""
        return tuple(verdict.fact.number for verdict in self.verdicts if verdict.passed is False)

    @property
    def as_expected(self) -> bool:
        """Whether it fails where it must."""
        if self.must_fail:
            return set(self.must_fail) <= set(self.failed)
        return any(verdict.passed is False and verdict.fact.tier == "M" for verdict in self.verdicts)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            **{name: getattr(self, name) for name in ("name", "meaning", "as_expected")},
            "must_fail": list(self.must_fail) or "any M fact",
            "failed": list(self.failed),
            "verdicts": [verdict.to_dict() for verdict in self.verdicts],
        }


@dataclass(frozen=True)
class Scorecard:
    """All facts of one market, with what is needed to measure them again."""

    name: str
    config: MarketConfig
    seed: int
    markets: int
    ticks: int
    burn_in: int
    resamples: int
    verdicts: tuple[Verdict, ...]
    nulls: tuple[Null, ...] = ()
    curves: dict[str, Any] = field(default_factory=dict)

    def counts(self) -> dict[str, dict[str, int]]:
        """How many facts of each tier passed, failed, or are not applicable."""
        names = {True: "passed", False: "failed", None: "not applicable"}
        counts = Counter((verdict.fact.tier, names[verdict.passed]) for verdict in self.verdicts)
        return {tier: {name: counts[tier, name] for name in names.values()} for tier in TIERS}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; the same settings and seed give the same values."""
        return {
            **{name: getattr(self, name) for name in ("name", "markets", "ticks", "burn_in", "seed", "resamples")},
            "torchgym": sys.modules["torchgym"].__version__,
            "torch": torch.__version__,
            "tick": "about a minute",
            "symbols": self.config.num_symbols,
            "counts": self.counts(),
            "facts": [verdict.to_dict() for verdict in self.verdicts],
            "nulls": [null.to_dict() for null in self.nulls],
            "config": self.config.to_dict(),
            "curves": finite(self.curves),
        }


def scorecard(
    config: MarketConfig,
    *,
    name: str = "market",
    markets: int = MARKETS,
    ticks: int = TICKS,
    burn_in: int = BURN_IN,
    seed: int = SEED,
    impact: bool = True,
    repeats: int = 4,
    resamples: int = RESAMPLES,
    zero_intelligence: MarketConfig | None = None,
    compile: Compile = "auto",
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> Scorecard:
    """Run markets and judge every fact.

    The protocol: `burn_in` ticks are discarded, `ticks` measured, one tick standing for about a minute; one value per market
    and symbol; a measure passes when the median and at least 80 % of the values lie in the band (`Criterion` tells exceptions).
    The economy is judged on the same run, by quarters: ticks=100_000 shows the long run.
    Where the market has days, whole ones are measured, without the pattern of the day and the nights; the pattern is fact 22.

    Args:
        markets: N; market i has the seed `seed` + i.
        ticks: measured, a multiple of 4.
        impact: also run the paired orders of facts 12 and 13, in the same markets after the burn-in.
        repeats: moments from which these orders are sent.
        resamples: of the block bootstrap; 0 leaves the intervals out.
        zero_intelligence: a market of noise traders alone, run as a null model beside geometric Brownian motion and shuffled
            returns.
        progress: called with the stage, how much of it is done and how much there is; a stage begins with 0 done.

    Raises:
        ValueError: for a number out of range, or too few ticks for whole days.
    """
    for option, number, least in (
        ("markets", markets, 1),
        ("ticks", ticks, 400),
        ("burn_in", burn_in, 1),
        ("resamples", resamples, 0),
        ("repeats", repeats, 1),
    ):
        check_count(option, number, least)
    if ticks % QUARTERS:
        raise ValueError(f"ticks must be a multiple of {QUARTERS}, got {ticks}")
    check_days(config, ticks, burn_in, fewest=400)
    market = Market(impact_config(config), markets, seed=seed, device=device, compile=compile)
    paths, response, verdicts = _run(market, ticks, burn_in, repeats if impact else 0, resamples, seed, progress)
    models = null_models(paths, seed=seed, progress=partial(progress, "null models"))
    if zero_intelligence is not None:
        market = Market(impact_config(zero_intelligence), markets, seed=seed, device=device, compile=compile)

        def progress_of_null(stage: str, done: int, total: int) -> None:
            progress(f"zero intelligence: {stage}", done, total)

        _, _, empty = _run(market, ticks, burn_in, 0, 0, seed, progress_of_null)
        models = (*models, Null("zero_intelligence", "noise traders and makers alone", (), empty))
    progress("curves", 0, 1)
    drawn = curves(paths, response)
    progress("curves", 1, 1)
    return Scorecard(name, config, seed, markets, ticks, burn_in, resamples, verdicts, nulls=models, curves=drawn)


def null_models(paths: Paths, *, seed: int = 0, progress: Count = silent) -> tuple[Null, ...]:
    """Geometric Brownian motion with each row's volatility, and each row's returns in random order beside its volume.

    Args:
        paths: of the market that they are compared with.
        progress: called with the models judged and the models in all, before the first one too.

    Sources: the tests of tails and memory that they must fail, Cont (2001).
    """
    progress(0, 2)
    scale = paths.returns.std(-1)
    prices = surrogates.geometric_brownian(scale, paths=paths.rows, ticks=paths.ticks + 1, seed=seed)
    shuffled = Paths(returns=surrogates.shuffled(paths.returns, seed=seed), symbols=paths.symbols, volume=paths.volume)
    brownian = replace(Paths.from_prices(prices), symbols=paths.symbols)
    fails = (5, 6, 7) if paths.volume is None else (5, 6, 7, 8)
    first = Null("geometric_brownian", "independent normal returns", (2, 5, 6), measure(brownian))
    progress(1, 2)
    second = Null("shuffled", "the same returns in random order", fails, measure(shuffled))
    progress(2, 2)
    return first, second


def _run(
    market: Market, ticks: int, burn_in: int, repeats: int, resamples: int, seed: int, progress: Progress
) -> tuple[Paths, Impact | None, tuple[Verdict, ...]]:
    """Open the markets, record and judge them; a fork taken after the burn-in answers for impact."""
    progress("opening", 0, 1)
    market.reset()
    progress("opening", 1, 1)

    def record(stage: str, count: int, before: int, total: int) -> Any:
        progress(stage, before, total)
        return market.run(count, record=_ENTRIES, progress=lambda done, _: progress(stage, before + done, total))

    pieces = [record("burn-in", burn_in, 0, burn_in)]
    forked = market.fork() if repeats else None
    owned = [wealth(market)]
    length = ticks // QUARTERS
    for quarter in range(QUARTERS):
        pieces.append(record("paths", length, quarter * length, ticks))
        owned.append(wealth(market))
    recording = torch.cat([pieces[0][:, -1:], *pieces[1:]], dim=1)  # one tick before the first return
    paths = Paths.from_recording(recording, burn_in=1, point_size=market.config.point_size)
    families = market.config.population.families.items()
    traders = {name: family.count * market.config.num_symbols for name, family in families}
    economy = Economy.of(owned, traders, paths)
    day = market.common_day()
    if day is not None:
        paths = paths.without_hours(day, burn_in)  # the first return is that of tick burn_in + 1
    response = None
    if forked is not None:
        response = measure_impact(forked, repeats=repeats, progress=partial(progress, "impact"))
    if resamples:
        progress("resamples", 0, resamples)
    ranges = intervals(paths, resamples, seed, partial(progress, "resamples"))
    progress("facts", 0, 1)
    verdicts = judge_all(paths, response, economy, ranges)
    progress("facts", 1, 1)
    return paths, response, verdicts
