"""The scorecard of a market: run it, judge every fact, and show null models that must fail."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from torchgym.config import MarketConfig
from torchgym.engine import Market
from torchgym.lab.realism import nulls
from torchgym.lab.realism.curves import Curves, curves
from torchgym.lab.realism.economy import QUARTERS, Economy, wealth
from torchgym.lab.realism.facts import TIERS
from torchgym.lab.realism.impact import Impact, impact_config, measure_impact
from torchgym.lab.realism.paths import BURN_IN, Paths
from torchgym.lab.realism.verdicts import Verdict, finite, measure

MARKETS, TICKS, RESAMPLES = 64, 16_384, 50
# Markets take consecutive seeds from here: far above the small seeds that training and calibration start from, so that a
# scorecard never shows markets that a parameter or an agent was fitted to.
SEED = 9_000_000_000
_ENTRIES = ("mid", "bid", "ask", "volume", "buys", "sells", "fills", "value", "news", "maker_shares", "maker_cash")

Progress = Callable[[str, int, int], None]  # stage, done, in all


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
            "name": self.name,
            "meaning": self.meaning,
            "must_fail": list(self.must_fail) or "any M fact",
            "failed": list(self.failed),
            "as_expected": self.as_expected,
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
    curves: Curves = field(default_factory=dict)

    def counts(self) -> dict[str, dict[str, int]]:
        """How many facts of each tier passed, failed, or are not applicable."""
        names = {True: "passed", False: "failed", None: "not applicable"}
        found = Counter((verdict.fact.tier, names[verdict.passed]) for verdict in self.verdicts)
        return {tier: {name: found[tier, name] for name in names.values()} for tier in TIERS}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; the same settings and seed give the same values."""
        return {
            "name": self.name,
            "torchgym": sys.modules["torchgym"].__version__,
            "torch": torch.__version__,
            "tick": "about a minute",
            "markets": self.markets,
            "symbols": self.config.num_symbols,
            "ticks": self.ticks,
            "burn_in": self.burn_in,
            "seed": self.seed,
            "resamples": self.resamples,
            "counts": self.counts(),
            "facts": [verdict.to_dict() for verdict in self.verdicts],
            "nulls": [null.to_dict() for null in self.nulls],
            "config": self.config.to_dict(),
            "curves": _without_gaps(self.curves),
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
    compile: bool = True,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Scorecard:
    """Run markets and judge every fact.

    The protocol: `burn_in` ticks are discarded, `ticks` measured, one tick standing for about a minute; one value per market
    and symbol; a measure passes when the median and at least 80 % of the values lie in the band (`Criterion` tells exceptions).
    The economy is judged on the same run, by quarters: ticks=100_000 shows the long run.

    Args:
        config: the market.
        name: what to call it.
        markets: N; market i has the seed `seed` + i.
        ticks: measured, a multiple of 4.
        impact: also run the paired orders of facts 12 and 13, in the same markets after the burn-in.
        repeats: moments from which these orders are sent.
        resamples: of the block bootstrap; 0 leaves the intervals out.
        zero_intelligence: a market of noise traders alone, run as a null model beside geometric Brownian motion and shuffled
            returns.
        progress: called with the stage, how much of it is done and how much there is; a stage begins with 0 done.

    Raises:
        ValueError: for a number out of range.
    """
    if markets < 1 or ticks < 400 or ticks % QUARTERS or burn_in < 1 or resamples < 0 or repeats < 1:
        raise ValueError(
            "a scorecard needs markets >= 1, ticks >= 400 and a multiple of 4, burn_in >= 1, resamples >= 0 and repeats >= 1;"
            f" got {markets}, {ticks}, {burn_in}, {resamples} and {repeats}"
        )
    tell = progress or _silent
    market = Market(impact_config(config), markets, seed=seed, device=device, compile=compile)
    paths, books, response = _run(market, ticks, burn_in, repeats if impact else 0, tell)
    verdicts = _judge(paths, books, response, resamples, seed, tell)
    others = list(null_models(paths, seed=seed, progress=lambda done, total: tell("null models", done, total)))
    if zero_intelligence is not None:
        market = Market(impact_config(zero_intelligence), markets, seed=seed, device=device, compile=compile)

        def tell_of_null(stage: str, done: int, total: int) -> None:
            tell(f"zero intelligence: {stage}", done, total)

        empty, books, _ = _run(market, ticks, burn_in, 0, tell_of_null)
        judged = _judge(empty, books, None, 0, seed, tell_of_null)
        others.append(Null("zero_intelligence", "noise traders and makers alone", (), judged))
    tell("curves", 0, 1)
    drawn = curves(paths, response)
    tell("curves", 1, 1)
    return Scorecard(
        name=name,
        config=config,
        seed=seed,
        markets=markets,
        ticks=ticks,
        burn_in=burn_in,
        resamples=resamples,
        verdicts=verdicts,
        nulls=tuple(others),
        curves=drawn,
    )


def null_models(paths: Paths, *, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> tuple[Null, ...]:
    """Geometric Brownian motion with each row's volatility, and each row's returns in random order beside its volume.

    Args:
        paths: of the market that they are compared with.
        seed: of their random numbers.
        progress: called with the models judged and the models in all, before the first one too.

    Sources: the tests of tails and memory that they must fail, Cont (2001).
    """
    tell = progress or _no_count
    tell(0, 2)
    scale = paths.returns.std(-1)
    prices = nulls.geometric_brownian(scale, paths=paths.rows, ticks=paths.ticks + 1, seed=seed)
    shuffled = Paths(returns=nulls.shuffled(paths.returns, seed=seed), symbols=paths.symbols, volume=paths.volume)
    brownian = replace(Paths.from_prices(prices), symbols=paths.symbols)
    without_volume = tuple(number for number in (5, 6, 7, 8) if number != 8 or paths.volume is not None)
    first = Null("geometric_brownian", "independent normal returns", (2, 5, 6), measure(brownian))
    tell(1, 2)
    second = Null("shuffled", "the same returns in random order", without_volume, measure(shuffled))
    tell(2, 2)
    return first, second


def _judge(
    paths: Paths, books: Economy, response: Impact | None, resamples: int, seed: int, tell: Progress
) -> tuple[Verdict, ...]:
    """Every fact, after the resamples of its intervals."""

    def resampled(done: int, total: int) -> None:
        tell("resamples", done, total)
        if done == total:
            tell("facts", 0, 1)

    if resamples:
        tell("resamples", 0, resamples)
    else:
        tell("facts", 0, 1)
    verdicts = measure(paths, impact=response, economy=books, resamples=resamples, seed=seed, progress=resampled)
    tell("facts", 1, 1)
    return verdicts


def _run(
    market: Market, ticks: int, burn_in: int, repeats: int, tell: Progress
) -> tuple[Paths, Economy, Impact | None]:
    """Open the markets and record them; a fork taken after the burn-in answers for impact."""
    tell("opening", 0, 1)
    market.reset()
    tell("opening", 1, 1)

    def record(stage: str, count: int, before: int, total: int) -> Any:
        tell(stage, before, total)
        return market.run(count, record=_ENTRIES, progress=lambda done, _: tell(stage, before + done, total))

    pieces = [record("burn-in", burn_in, 0, burn_in)]
    forked = market.fork() if repeats else None
    snapshots = [wealth(market)]
    length = ticks // QUARTERS
    for quarter in range(QUARTERS):
        pieces.append(record("paths", length, quarter * length, ticks))
        snapshots.append(wealth(market))
    recording = torch.cat([pieces[0][:, -1:], *pieces[1:]], dim=1)  # one tick before the first return
    paths = Paths.from_recording(recording, burn_in=1, point_size=market.config.point_size)
    response = None
    if forked is not None:
        response = measure_impact(forked, repeats=repeats, progress=lambda done, total: tell("impact", done, total))
    return paths, Economy.of(snapshots, _traders(market.config), paths), response


def _traders(config: MarketConfig) -> dict[str, int]:
    """How many traders each family has in a market, all symbols together."""
    families = config.population.families
    return {name: family.count * config.num_symbols for name, family in families.items()}


def _without_gaps(tree: Any) -> Any:
    """The tree with None for what is not finite."""
    if isinstance(tree, dict):
        return {name: _without_gaps(child) for name, child in tree.items()}
    if isinstance(tree, list):
        return [_without_gaps(child) for child in tree]
    return finite(tree) if isinstance(tree, float) else tree


def _silent(stage: str, done: int, total: int) -> None:
    """No-op progress callback."""


def _no_count(done: int, total: int) -> None:
    """No-op progress callback."""
