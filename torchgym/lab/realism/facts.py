"""The stylised facts: what is measured, from which source, and which values pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from torchgym.lab.realism import measures
from torchgym.lab.realism.economy import sound_economy

_FLOW = ("buys", "sells")
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

        >>> Criterion("x", "", 0.1, 0.5).text, Criterion("x", "", low=1.0, unit="points").text
        ('0.1 to 0.5', '>= 1 points')
        """
        unit = f" {self.unit}" if self.unit not in ("", "%") else self.unit
        if self.share is None:
            return "not judged"
        if math.isinf(self.low):
            return f"<= {self.high:.3g}{unit}"
        if math.isinf(self.high):
            return f">= {self.low:.3g}{unit}"
        return f"{self.low:.3g} to {self.high:.3g}{unit}"


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


def _variance_ratio(span: int) -> Criterion:
    return Criterion(f"variance_ratio_{span}", f"variance ratio over {span} ticks", 0.85, 1.15)


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
        *(_variance_ratio(span) for span in (2, 4, 8, 16)),
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
    _fact(20, "cross_section", "cross-section of symbols", "S", "Plerou et al. 2002", measures.cross_section)(
        Criterion("mean_correlation", "mean correlation of two symbols' returns", 0.1, 0.5),
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
)
