"""The facts of a single path, such as real prices: what its length allows to tell, beside markets of the same length."""

from __future__ import annotations

import itertools
import math
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.config.validation import check_count
from torchgym.engine import Compile, Market
from torchgym.lab.realism import measures, statistics, surrogates
from torchgym.lab.realism.bars import BarPath
from torchgym.lab.realism.facts import FACTS, TIERS, Criterion, Fact, MeasureVerdict, Verdict, judge
from torchgym.lab.realism.paths import BURN_IN, MEMORY, Paths, check_days
from torchgym.numerics import exact
from torchgym.progress import Count, Progress, silent

SINGLE_RESAMPLES = 1_000
OUTCOMES = {True: "passed", False: "failed", None: "too short to tell"}
_BLOCKS = 20  # of a path, in a resample
_AT_ONCE = 1 << 22  # returns of the resamples that are measured together
_TICKS_AT_ONCE = 4_096  # that are recorded before they become bars
_SEPARATE = 40  # returns over the longest horizon, at least
_WITHIN_BAND = 0.95  # share of lags within 1.96 errors, where there is no linear memory
# Fact 1 says that something is absent: what its measures are then.
_ABSENT = {"first_lag": 0.0, "lags_within_band": _WITHIN_BAND, **{f"variance_ratio_{q}": 1.0 for q in measures.SPANS}}


def single_facts(ticks: int) -> tuple[Fact, ...]:
    """The facts that returns and volume allow, over lags and horizons that a path of so many returns (500 or more) allows.

    At 16,384 returns they are those of `FACTS`, but for the order of kurtoses in fact 3, which takes many paths.
    """
    lags, spans = _linear(ticks)
    horizons = [span for span in measures.HORIZONS if span * _SEPARATE <= ticks]
    longest = horizons[-1]
    # A power law through the band's end at 390 ticks, 1/3.
    fallen = (1.0 / 3.0) ** (math.log(longest) / math.log(measures.HORIZONS[-1]))
    clustered = max(5, min(50, ticks // 500 * 5))
    last = max(25, min(MEMORY, ticks // 40))
    window, coarse = min(100, ticks // 40), max(5, min(20, ticks // 250))
    changed: dict[str, tuple[Any, dict[str, dict[str, Any]]]] = {
        "no_linear_memory": (
            partial(measures.linear_memory, lags=lags, spans=spans),
            {"lags_within_band": {"meaning": f"share of lags 2-{lags} within 1.96 robust errors"}},
        ),
        "aggregational_gaussianity": (
            partial(measures.aggregation, horizons=horizons),
            {"kurtosis_ratio": {"meaning": f"kurtosis at {longest} ticks over that at 1", "high": fallen}},
        ),
        "volatility_clustering": (
            partial(measures.clustering, lags=clustered),
            {"smallest_over_noise": {"meaning": f"smallest ACF up to lag {clustered}, in units of 2/sqrt(T)"}},
        ),
        "slow_decay": (
            partial(measures.slow_decay, last=last),
            {"exponent": {"meaning": f"exponent over lags 5-{last}"}},
        ),
        "intermittency": (
            partial(measures.intermittency, window=window),
            {"fano_factor": {"meaning": f"Fano factor of large moves in {window} ticks"}},
        ),
        # Where nothing is to be found these three lie at their band's end, and as often inside as outside.
        "leverage_effect": (measures.leverage, {"mean_correlation": {"share": 0.95}}),
        "gain_loss_asymmetry": (measures.asymmetry, {"skewness": {"share": 0.95}}),
        "timescale_asymmetry": (
            partial(measures.timescales, window=coarse),
            {"coarse_less_fine": {"share": 0.95}},
        ),
    }
    facts = []
    for fact in FACTS:
        if fact.evidence != "paths" or set(fact.needs) - {"volume"} or fact.key == "cross_section":
            continue
        measure, texts = changed.get(fact.key, (fact.measure, {}))
        criteria = tuple(
            replace(entry, **texts.get(entry.measure, {}))
            for entry in fact.criteria
            if entry.share is not None and entry.measure != "largest_step"
        )
        facts.append(replace(fact, measure=measure, criteria=criteria))
    return tuple(facts)


def _linear(ticks: int) -> tuple[int, list[int]]:
    """The lags and the spans of fact 1: those whose variance ratio has an error of 0.05 at most where returns are independent.

    Source: Lo and MacKinlay 1988, Stock market prices do not follow random walks, section 1.1 (the error).
    """
    return min(50, ticks // 20), [q for q in measures.SPANS if 2 * (2 * q - 1) * (q - 1) <= 0.05**2 * 3 * q * ticks]


def judge_spread(criterion: Criterion, value: float, values: Tensor, absent: float | None = None) -> MeasureVerdict:
    """One measure's value against its band, given values [K] that show how much it varies from path to path.

    It fails where the 5–95 % range lies outside the band. It passes where the value lies in the band and with it either the
    criterion's share of the values, or `absent`, what the measure is where nothing is to be found, lies in the range. Otherwise
    `passed` is None: the path is too short to tell.
    """
    found = judge(criterion, values)
    passed = None
    if found.high < criterion.low or found.low > criterion.high:
        passed = False
    elif criterion.low <= value <= criterion.high and criterion.share is not None:
        unpredictable = absent is not None and found.low <= absent <= found.high
        passed = True if unpredictable or found.inside >= criterion.share else None
    return replace(found, median=value, interval=(found.low, found.high), passed=passed)


def measure_single(
    paths: Paths, *, resamples: int = SINGLE_RESAMPLES, seed: int = 0, progress: Count = silent
) -> tuple[Verdict, ...]:
    """The facts of a single path; `passed` is None where it is too short to tell.

    How much a measure varies is told by a circular block bootstrap of blocks of T / 20 returns, moved so that its median is the
    path's own value (by a factor where all are positive): joints of blocks shorten memories, in all resamples alike. The
    measures of fact 1 have known errors: robust ones of the autocorrelation, those of Lo and MacKinlay for the variance
    ratios, and the binomial one for the share of lags.

    Args:
        paths: one row of at least 500 returns; a ValueError for others.
        resamples: of the bootstrap.
        seed: of it, 0 ≤ seed < 2^63.
        progress: called with the resamples done and the resamples in all.
    """
    facts = _applicable(paths, 1)
    own = {f"{fact.key}.{name}": each for fact in facts for name, each in fact.measure(paths).items()}
    resampled = _resampled(paths, facts[1:], resamples, seed, progress)
    spread = {name: _centred_at(own[name], values) for name, values in resampled.items()}
    even = (torch.arange(resamples, dtype=torch.float64, device="cpu") + 0.5) / resamples
    for name, error in _errors(paths).items():
        key = f"{facts[0].key}.{name}"
        spread[key] = own[key] + error * exact.normal(even).to(error.device)
    shares = f"{facts[0].key}.lags_within_band"
    spread[shares] = spread[shares].clamp(max=1.0)
    return _judged(facts, own, spread)


def measure_markets(paths: Paths) -> tuple[Verdict, ...]:
    """The same facts by the same rule for markets of the same length: their median, and how much they vary."""
    facts = _applicable(paths, None)
    values = {f"{fact.key}.{name}": each for fact in facts for name, each in fact.measure(paths).items()}
    return _judged(facts, {name: each.nanquantile(0.5) for name, each in values.items()}, values)


def outcomes(verdicts: tuple[Verdict, ...]) -> dict[str, dict[str, int]]:
    """How many facts of each tier passed, failed, or cannot be told."""
    counts = Counter((verdict.fact.tier, OUTCOMES[verdict.passed]) for verdict in verdicts)
    return {tier: {name: counts[tier, name] for name in OUTCOMES.values()} for tier in TIERS}


@dataclass(frozen=True)
class Comparison:
    """Facts of real bars beside those of markets that ran for as many bars."""

    data: BarPath
    preset: str
    markets: int
    ticks_per_bar: int
    seed: int
    verdicts: tuple[Verdict, ...]  # of the data
    of_markets: tuple[Verdict, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `passed` is null where a path is too short to tell."""
        return {
            "data": self.data.name,
            "about": list(self.data.about),
            "returns": self.data.paths.ticks,
            **{name: getattr(self, name) for name in ("preset", "markets", "ticks_per_bar", "seed")},
            "torchgym": sys.modules["torchgym"].__version__,
            "torch": torch.__version__,
            "counts": {"data": outcomes(self.verdicts), "preset": outcomes(self.of_markets)},
            "facts": [verdict.to_dict() for verdict in self.verdicts],
            "preset_facts": [verdict.to_dict() for verdict in self.of_markets],
        }


def compare(
    data: BarPath,
    config: MarketConfig,
    *,
    name: str = "market",
    markets: int = 64,
    ticks_per_bar: int = 1,
    burn_in: int = BURN_IN,
    seed: int = 0,
    resamples: int = SINGLE_RESAMPLES,
    compile: Compile = "auto",
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> Comparison:
    """Measure real bars, run markets for as many bars, and judge both by the same rule.

    Args:
        config: of one symbol. Where it has days, whole ones are measured, without the pattern of the day and the nights, if a
            bar is a tick; longer bars have both in them.
        markets: N; market i has the seed `seed` + i.
        ticks_per_bar: of the markets; a tick stands for about a minute, so 60 make an hour and 390 a trading day.
        burn_in: ticks before, at least 1.
        resamples: of the bars' bootstrap, whose seed is `seed`, too.
        progress: called with the stage, how much of it is done and how much there is.

    Raises:
        ValueError: for a number out of range.
    """
    numbers = {"markets": markets, "ticks_per_bar": ticks_per_bar, "burn_in": burn_in, "resamples": resamples}
    for option, number in numbers.items():
        check_count(option, number, 1)
    config = config.replace(ticks_per_action=1)  # so that any number of ticks is whole decisions
    if ticks_per_bar == 1:
        remedy = "give {} returns or more, a market without days, or bars of several ticks"
        check_days(config, data.paths.ticks, burn_in, fewest=500, remedy=remedy)
    market = Market(config, markets, seed=seed, device=device, compile=compile)
    verdicts = measure_single(data.paths, resamples=resamples, seed=seed, progress=partial(progress, "resamples"))
    progress("opening", 0, 1)
    market.reset()
    progress("opening", 1, 1)
    paths = _market_bars(market, data.paths.ticks, ticks_per_bar, burn_in, partial(progress, "paths"))
    day = market.common_day() if ticks_per_bar == 1 else None
    if day is not None:
        paths = paths.without_hours(day, burn_in)
    if data.paths.volume is None:
        paths = replace(paths, volume=None)
    return Comparison(data, name, markets, ticks_per_bar, seed, verdicts, measure_markets(paths))


def _market_bars(market: Market, bars: int, ticks_per_bar: int, burn_in: int, progress: Count) -> Paths:
    """So many bars of the first symbol after the burn-in, [N, bars]."""
    ticks = burn_in + bars * ticks_per_bar
    done = 0
    progress(0, ticks)

    def run(count: int) -> tuple[Tensor, Tensor]:
        nonlocal done
        recording = market.run(count, record=("mid", "volume"), progress=lambda more, _: progress(done + more, ticks))
        done += count
        return recording["mid"][..., 0].to(torch.float64), recording["volume"][..., 0].to(torch.float64)

    mids, volumes = [run(burn_in)[0][:, -1:]], []
    at_once = max(1, _TICKS_AT_ONCE // ticks_per_bar)
    for first in range(0, bars, at_once):
        mid, volume = run(min(at_once, bars - first) * ticks_per_bar)
        mids.append(mid[:, ticks_per_bar - 1 :: ticks_per_bar])
        volumes.append(volume.unflatten(-1, (-1, ticks_per_bar)).sum(-1))
    return Paths(returns=torch.cat(mids, dim=-1).log().diff(dim=-1), volume=torch.cat(volumes, dim=-1))


def _applicable(paths: Paths, rows: int | None) -> list[Fact]:
    if paths.ticks < 500 or (rows is not None and paths.rows != rows):
        raise ValueError(
            f"the facts of a single path need one row of at least 500 returns, got {tuple(paths.returns.shape)}"
        )
    return [fact for fact in single_facts(paths.ticks) if all(getattr(paths, name) is not None for name in fact.needs)]


def _resampled(paths: Paths, facts: list[Fact], resamples: int, seed: int, progress: Count) -> dict[str, Tensor]:
    """The measures of each resample, [K] by "fact.measure"."""
    block = paths.ticks // _BLOCKS
    places = surrogates.block_indices(1, paths.ticks, block, resamples, seed)
    arrays = paths.arrays()
    found: dict[str, list[Tensor]] = {}
    done = 0
    progress(0, resamples)
    while some := list(itertools.islice(places, max(1, _AT_ONCE // paths.ticks))):
        at = torch.cat([tick for _, tick in some]).to(paths.returns.device)
        taken = {name: series[0][at] for name, series in arrays.items()}
        resampled = replace(paths, symbols=1, mid=None, value=None, **taken)  # type: ignore[arg-type]
        for fact in facts:
            for name, values in fact.measure(resampled).items():
                found.setdefault(f"{fact.key}.{name}", []).append(values)
        done += len(some)
        progress(done, resamples)
    return {name: torch.cat(values) for name, values in found.items()}


def _centred_at(value: Tensor, values: Tensor) -> Tensor:
    """The values [K] moved so that their median is `value` [1]."""
    middle = values.nanquantile(0.5)
    positive = bool((value > 0.0).all()) and not bool((values <= 0.0).any())
    return values * (value / middle) if positive else values + (value - middle)


def _errors(paths: Paths) -> dict[str, Tensor]:
    """Standard errors of the measures of fact 1, [1] each.

    Source: Lo and MacKinlay 1988, Stock market prices do not follow random walks, section 1.2: under volatility that varies, a
    variance ratio has the variance of the sum of autocorrelations that it is.
    """
    lags, spans = _linear(paths.ticks)
    error = statistics.robust_lag_error(paths.returns, max(lags, *spans))
    share = math.sqrt(_WITHIN_BAND * (1.0 - _WITHIN_BAND) / (lags - 1))
    errors = {"first_lag": error[:, 1], "lags_within_band": torch.full_like(error[:, 1], share)}
    for span in spans:
        weight = 2.0 * (1.0 - torch.arange(1, span, dtype=error.dtype, device=error.device) / span)
        errors[f"variance_ratio_{span}"] = (weight * error[:, 1:span]).square().sum(-1).sqrt()
    return errors


def _judged(facts: list[Fact], own: Mapping[str, Tensor], spread: Mapping[str, Tensor]) -> tuple[Verdict, ...]:
    """A fact fails where one of its measures fails, and passes where all pass."""
    verdicts = []
    for fact in facts:
        absent = _ABSENT if fact.key == "no_linear_memory" else {}
        judged = tuple(
            judge_spread(entry, own[name].item(), spread[name], absent.get(entry.measure))
            for entry in fact.criteria
            if (name := f"{fact.key}.{entry.measure}") in own
        )
        marks = {entry.passed for entry in judged}
        passed = False if False in marks else None if None in marks else True
        verdicts.append(Verdict(fact, judged, passed))
    return tuple(verdicts)
