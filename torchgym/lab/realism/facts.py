"""The stylised facts: what is measured, from which source, which values pass; and the verdicts on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from torchgym.files import finite
from torchgym.lab.realism import measures, surrogates
from torchgym.lab.realism.economy import Economy, sound_economy
from torchgym.lab.realism.impact import Impact
from torchgym.lab.realism.paths import Paths
from torchgym.progress import Count, silent

_FLOW = ("buys", "sells")
BLOCK = 1_024  # ticks of the block bootstrap
TIERS = {"M": "must", "S": "should", "N": "nice to have"}


@dataclass(frozen=True)
class Criterion:
    """One measure of a fact: its band, and how many of its values must lie in it.

    The median must lie in the band, and so must at least `share` of the values. Values are one per row (a symbol of a market)
    unless the measure says otherwise: one per group of markets where a single one has too few events, or one for all. A share of
    0 leaves it to the median, a share of 1 allows no exception, None means that it is reported and not judged.
    """

    measure: str
    meaning: str
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""
    share: float | None = 0.8

    @property
    def text(self) -> str:
        """The band in words.

        >>> Criterion("x", "", 0.1, 0.5).text, Criterion("x", "", low=1.0, unit="points", share=0.0).text
        ('0.1 to 0.5', '>= 1 points in the median')
        """
        if self.share is None:
            return "not judged"
        unit = f" {self.unit}" if self.unit not in ("", "%") else self.unit
        end = unit if self.share > 0.0 else f"{unit} in the median"
        if math.isinf(self.low):
            return f"<= {self.high:.3g}{end}"
        if math.isinf(self.high):
            return f">= {self.low:.3g}{end}"
        return f"{self.low:.3g} to {self.high:.3g}{end}"


@dataclass(frozen=True)
class Fact:
    """A stylised fact. It holds when all its judged measures pass."""

    number: int
    key: str
    name: str
    tier: str  # a key of TIERS
    source: str
    measure: Callable[[Any], dict[str, Tensor]]
    criteria: tuple[Criterion, ...]
    needs: tuple[str, ...] = ()  # fields of Paths
    evidence: str = "paths"  # what the function reads: "paths", "impact" or "economy"

    @property
    def criterion(self) -> str:
        """All bands in one line."""
        return "; ".join(f"{entry.meaning} {entry.text}" for entry in self.criteria if entry.share is not None)


def _fact(
    number: int,
    key: str,
    name: str,
    tier: str,
    source: str,
    measure: Callable[[Any], dict[str, Tensor]],
    needs: tuple[str, ...] = (),
    evidence: str = "paths",
) -> Callable[..., Fact]:
    """Takes the criteria and makes the fact: a row of the table is one line, and one more for each criterion."""
    return lambda *criteria: Fact(number, key, name, tier, source, measure, criteria, needs, evidence)


FACTS: tuple[Fact, ...] = (
    _fact(1, "no_linear_memory", "no linear autocorrelation", "M", "Cont 2001", measures.linear_memory)(
        Criterion("first_lag", "ACF(1) of returns", -0.05, 0.05),
        Criterion("lags_within_band", "share of lags 2-50 within 1.96 robust errors", low=0.9),
        Criterion("lags_within_naive_band", "share of lags 2-50 within 1.96/sqrt(T)", share=None),
        *(
            Criterion(f"variance_ratio_{span}", f"variance ratio over {span} ticks", 0.85, 1.15)
            for span in (2, 4, 8, 16)
        ),
    ),
    _fact(2, "heavy_tails", "heavy tails", "M", "Cont 2001; Gopikrishnan et al. 1998", measures.heavy_tails)(
        Criterion("excess_kurtosis", "excess kurtosis", 3.0, 50.0),
        Criterion("upper_tail_index", "Hill index, gains", 2.0, 5.0),
        Criterion("lower_tail_index", "Hill index, losses", 2.0, 5.0),
    ),
    _fact(3, "aggregational_gaussianity", "aggregational Gaussianity", "M", "Cont 2001", measures.aggregation)(
        Criterion("kurtosis_ratio", "kurtosis at 390 ticks over that at 1", high=1.0 / 3.0),
        Criterion("largest_step", "largest step of the median curve over 1, 5, 15, 60, 390 ticks", high=0.0, share=0.0),
    ),
    _fact(4, "conditional_tails", "conditional heavy tails", "S", "Cont 2001", measures.conditional_tails)(
        Criterion("conditional_kurtosis", "excess kurtosis of returns over EWMA volatility", low=0.5),
        Criterion("share_of_unconditional", "the same over the unconditional", high=1.0),
    ),
    _fact(5, "volatility_clustering", "volatility clustering", "M", "Cont 2001", measures.clustering)(
        Criterion("first_lag", "ACF(1) of absolute returns", 0.1, 0.5),
        Criterion("smallest_over_noise", "smallest ACF up to lag 50, in units of 2/sqrt(T)", low=1.0),
    ),
    _fact(6, "slow_decay", "slow decay of volatility", "M", "Cont 2001", measures.slow_decay)(
        Criterion("exponent", "exponent over lags 5-200", 0.1, 0.6),
        Criterion("error_over_exponential", "error of the power law over the exponential's", high=1.0),
    ),
    _fact(7, "intermittency", "intermittency", "S", "Cont 2001", measures.intermittency)(
        Criterion("fano_factor", "Fano factor of large moves in 100 ticks", low=1.5),
    ),
    _fact(
        8, "volume_volatility", "volume and volatility", "M", "Karpoff 1987", measures.volume_volatility, ("volume",)
    )(Criterion("rank_correlation", "rank correlation of volume and absolute return", 0.2, 0.8)),
    _fact(9, "leverage_effect", "leverage effect", "N", "Bouchaud, Matacz, Potters 2001", measures.leverage)(
        Criterion("mean_correlation", "mean correlation of a return with later squares, lags 1-10", high=0.0),
    ),
    _fact(10, "gain_loss_asymmetry", "gain/loss asymmetry", "N", "Cont 2001", measures.asymmetry)(
        Criterion("skewness", "skewness", -1.0, 0.0),
    ),
    _fact(11, "timescale_asymmetry", "time-scale asymmetry", "N", "Müller et al. 1997", measures.timescales)(
        Criterion("coarse_less_fine", "coarse volatility foretells fine, less the reverse", low=0.0),
    ),
    _fact(
        *(12, "square_root_impact", "square-root impact", "M"),
        "Almgren et al. 2005; Tóth et al. 2011; Sato, Kanazawa 2024",
        measures.impact_exponents,
        evidence="impact",
    )(
        Criterion("size_exponent", "exponent over size, at one duration", 0.35, 0.75),
        Criterion("duration_exponent", "exponent over duration, at one rate", 0.35, 0.75),
        Criterion("lopsidedness", "(buy - sell) / (buy + sell)", share=None),
    ),
    _fact(
        13, "impact_relaxation", "impact relaxation", "S", "Farmer et al. 2013", measures.relaxation, evidence="impact"
    )(Criterion("share_left", "share of the peak left one duration after the end", 0.5, 0.8)),
    _fact(14, "order_sign_memory", "memory of order signs", "S", "Lillo, Farmer 2004", measures.sign_memory, _FLOW)(
        Criterion("smallest_correlation", "smallest ACF of the sign of flow up to lag 100", low=0.0),
        Criterion("exponent", "exponent over lags 1-100", 0.3, 0.8),
    ),
    _fact(
        *(15, "flow_moves_price", "flow moves the price", "S", "Cont, Kukanov, Stoikov 2014"),
        measures.flow_moves_price,
        (*_FLOW, "change"),
    )(Criterion("r_squared", "R² of the mid's change on aggressive flow, 10 ticks", 0.2, 0.85)),
    _fact(16, "spread", "spread", "S", "Wyart et al. 2008", measures.spread, needs=("spread",))(
        Criterion("narrowest", "narrowest spread", low=1.0, unit="points", share=1.0),
        Criterion("rank_correlation_with_volatility", "rank correlation with volatility", low=0.2),
        Criterion("after_news_over_before", "in the 5 ticks from news on, over the 30 before", low=1.0),
    ),
    _fact(17, "activity_clustering", "activity clustering", "S", "Hardiman et al. 2013", measures.activity, ("fills",))(
        Criterion("first_lag", "ACF(1) of the number of fills", low=0.1)
    ),
    _fact(18, "news_response", "news response", "S", "Lillo, Mantegna 2003", measures.news_response, ("news",))(
        Criterion("move_after", "move in the headline's direction after 60 ticks", low=0.0, unit="%"),
        Criterion("move_before", "significant move before, over the move after", high=0.1),
        Criterion("share_within_30_ticks", "share of the move within 30 ticks", low=0.7),
        Criterion("volume_over_usual", "volume of the first 5 ticks over usual", low=1.2),
        Criterion("volatility_early_over_late", "absolute return at ticks 1-5 over 31-60", low=1.0),
    ),
    _fact(19, "price_follows_value", "price follows value", "S", "Shiller 1981", measures.follows_value, ("gap",))(
        Criterion("mispricing", "standard deviation of log price less log value", 0.3, 5.0, "%"),
        Criterion("reversion", "T (1 - phi), a unit root rejected from 14.1 on", low=measures.UNIT_ROOT),
        Criterion("half_life", "half-life", unit="ticks", share=None),
    ),
    _fact(
        20, "cross_section", "cross-section of symbols", "S", "Epps 1979; Plerou et al. 2002", measures.cross_section
    )(
        Criterion("mean_correlation", "mean correlation of two symbols' returns over 30 ticks", 0.1, 0.5),
        Criterion("rise", "the same less that over one tick", low=0.0),
        Criterion("largest_eigenvalue", "largest eigenvalue's share of the variance", 15.0, 40.0, "%"),
    ),
    _fact(21, "sound_economy", "sound economy", "S", "the market's own books", sound_economy, evidence="economy")(
        Criterion("realised_spread", "makers' gain per share after 30 ticks", low=0.0, unit="points"),
        Criterion("maker_profit", "their whole profit, of what is traded", unit="bp", share=None),
        Criterion("informed_less_noise", "a value trader's profit less a noise trader's", low=0.0, unit="bp"),
        Criterion("largest_transfer", "largest gain or loss of a family, of what is traded", high=20.0, unit="bp"),
        Criterion("largest_change", "its largest change from the first quarter to the last", high=40.0, unit="bp"),
        Criterion("volatility_last_over_first", "volatility, last quarter over first", 0.67, 1.5, share=0.0),
        Criterion("volume_last_over_first", "volume, last quarter over first", 0.67, 1.5, share=0.0),
        Criterion("spread_last_over_first", "spread, last quarter over first", 0.67, 1.5, share=0.0),
    ),
    _fact(22, "hours", "hours of the day", "S", "Wood et al. 1985; French, Roll 1986", measures.hours, ("hours",))(
        Criterion("volume_of_ends", "volume after the opening and before the close, over midday's", low=1.5),
        Criterion("volatility_of_ends", "absolute return, likewise", low=1.5),
        Criterion("auction_volume", "volume of an opening or closing auction over a tick at midday", low=2.0),
        Criterion("night", "share of a day's variance that falls into the night", 5.0, 40.0, "%"),
    ),
)


@dataclass(frozen=True)
class MeasureVerdict:
    """One measure over all its values. NaN values are outside the band, and left out of median and quantiles."""

    criterion: Criterion
    median: float
    low: float  # 5 % quantile over the values
    high: float  # 95 % quantile
    inside: float  # share of the values in the band
    count: int  # of values
    interval: tuple[float, float] | None  # 90 % block-bootstrap interval of the median
    passed: bool | None  # None: reported, not judged

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what is not finite is None."""
        entry = self.criterion
        content: dict[str, Any] = {
            **{name: getattr(entry, name) for name in ("measure", "meaning", "unit")},
            "band": [entry.low, entry.high],
            "share_needed": entry.share,
            "median": self.median,
            "quantiles_5_95": [self.low, self.high],
            "inside": self.inside,
            "values": self.count,
            "interval_90": self.interval,
            "passed": self.passed,
        }
        return finite(content)


@dataclass(frozen=True)
class Verdict:
    """Whether a fact holds; `passed` is None where the data for it are missing."""

    fact: Fact
    measures: tuple[MeasureVerdict, ...]
    passed: bool | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        names = ("number", "key", "name", "tier", "source", "criterion")
        about = {name: getattr(self.fact, name) for name in names}
        return {**about, "passed": self.passed, "measures": [measure.to_dict() for measure in self.measures]}


def judge(criterion: Criterion, values: Tensor, interval: tuple[float, float] | None = None) -> MeasureVerdict:
    """One measure's values [K] against its band, both ends included.

    >>> import torch
    >>> judge(Criterion("x", "", 0.0, 1.0), torch.tensor([0.1, 0.2, 0.3, 0.4, 7.0])).passed
    True
    """
    values = values.detach().double().cpu()
    inside = ((values >= criterion.low) & (values <= criterion.high)).double().mean().item()
    low, median, high = (values.nanquantile(level).item() for level in (0.05, 0.5, 0.95))
    passed = None
    if criterion.share is not None:
        passed = criterion.low <= median <= criterion.high and inside >= criterion.share
    return MeasureVerdict(criterion, median, low, high, inside, values.numel(), interval, passed)


def measure(
    paths: Paths,
    *,
    impact: Impact | None = None,
    economy: Economy | None = None,
    resamples: int = 0,
    seed: int = 0,
    progress: Count = silent,
) -> tuple[Verdict, ...]:
    """Every fact, judged on paths of any origin; facts whose data are missing are not applicable.

    Args:
        paths: recorded (`Paths.from_recording`) or of prices alone (`Paths.from_prices`). A ValueError for fewer than 400 ticks,
            too few for returns over a day of 390.
        impact: of `measure_impact`, for facts 12 and 13.
        economy: for fact 21.
        resamples: of the block bootstrap, blocks of 1,024 ticks; 0 gives no intervals. Facts on several symbols at once, hours,
            impact and economy get none.
        progress: called with the resamples done and the resamples in all.
    """
    if paths.ticks < 400:
        raise ValueError(f"the facts need paths of at least 400 ticks, got {paths.ticks}")
    return judge_all(paths, impact, economy, intervals(paths, resamples, seed, progress))


def _values(
    fact: Fact, paths: Paths, impact: Impact | None = None, economy: Economy | None = None
) -> dict[str, Tensor]:
    """The fact's measures; empty where it is not applicable."""
    evidence = {"paths": paths, "impact": impact, "economy": economy}[fact.evidence]
    if evidence is None or any(getattr(paths, name) is None for name in fact.needs):
        return {}
    return fact.measure(evidence)


def judge_all(
    paths: Paths, impact: Impact | None, economy: Economy | None, intervals: Mapping[str, tuple[float, float]]
) -> tuple[Verdict, ...]:
    """Every fact; the intervals are those of `intervals`."""
    verdicts = []
    for fact in FACTS:
        values = _values(fact, paths, impact, economy)
        judged = tuple(
            judge(entry, values[entry.measure], intervals.get(f"{fact.key}.{entry.measure}"))
            for entry in fact.criteria
            if entry.measure in values
        )
        needed = [entry.passed for entry in judged if entry.passed is not None]
        verdicts.append(Verdict(fact, judged, all(needed) if needed else None))
    return tuple(verdicts)


def intervals(paths: Paths, resamples: int, seed: int, progress: Count) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals by "fact.measure", of the facts whose rows stand alone; none without resamples."""
    if not resamples:
        return {}
    facts = [fact for fact in FACTS if fact.evidence == "paths" and fact.key not in ("cross_section", "hours")]

    def statistic(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        resampled = replace(paths, symbols=1, mid=None, value=None, **arrays)  # type: ignore[arg-type]
        return {f"{fact.key}.{name}": each for fact in facts for name, each in _values(fact, resampled).items()}

    block = min(BLOCK, paths.ticks)
    return surrogates.interval(
        statistic, paths.arrays(), block=block, resamples=resamples, seed=seed, progress=progress
    )
