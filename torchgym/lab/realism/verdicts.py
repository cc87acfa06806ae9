"""From values to verdicts: medians, bands over markets, bootstrap intervals, passes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from torchgym.files import finite
from torchgym.lab.realism import bootstrap
from torchgym.lab.realism.economy import Economy
from torchgym.lab.realism.facts import FACTS, Criterion, Fact
from torchgym.lab.realism.impact import Impact
from torchgym.lab.realism.paths import Paths
from torchgym.progress import Count, silent

BLOCK = 1_024  # ticks of the block bootstrap


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
            "measure": entry.measure,
            "meaning": entry.meaning,
            "unit": entry.unit,
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
        paths: recorded (`Paths.from_recording`) or of prices alone (`Paths.from_prices`), 400 ticks at least.
        impact: of `measure_impact`, for facts 12 and 13.
        economy: for fact 21.
        resamples: of the block bootstrap, blocks of 1,024 ticks; 0 gives no intervals. Facts on several symbols at once, impact
            and economy get none.
        seed: of the bootstrap.
        progress: called with the resamples done and the resamples in all.

    Raises:
        ValueError: for fewer than 400 ticks, too few for returns over a day of 390.
    """
    if paths.ticks < 400:
        raise ValueError(f"the facts need paths of at least 400 ticks, got {paths.ticks}")
    intervals = _intervals(paths, resamples, seed, progress) if resamples else {}
    return tuple(_verdict(fact, _values(fact, paths, impact, economy), intervals) for fact in FACTS)


def _values(
    fact: Fact, paths: Paths, impact: Impact | None = None, economy: Economy | None = None
) -> dict[str, Tensor]:
    """The fact's measures; empty where it is not applicable."""
    evidence = {"paths": paths, "impact": impact, "economy": economy}[fact.evidence]
    if evidence is None or any(getattr(paths, name) is None for name in fact.needs):
        return {}
    return fact.measure(evidence)


def _verdict(fact: Fact, values: dict[str, Tensor], intervals: dict[str, tuple[float, float]]) -> Verdict:
    judged = tuple(
        judge(entry, values[entry.measure], intervals.get(f"{fact.key}.{entry.measure}"))
        for entry in fact.criteria
        if entry.measure in values
    )
    needed = [entry.passed for entry in judged if entry.passed is not None]
    return Verdict(fact, judged, all(needed) if needed else None)


def _intervals(paths: Paths, resamples: int, seed: int, progress: Count) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals by "fact.measure", of the facts whose rows stand alone."""
    facts = [fact for fact in FACTS if fact.evidence == "paths" and fact.key != "cross_section"]

    def statistic(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        resampled = replace(paths, symbols=1, mid=None, value=None, **arrays)
        return {f"{fact.key}.{name}": each for fact in facts for name, each in _values(fact, resampled).items()}

    block = min(BLOCK, paths.ticks)
    return bootstrap.interval(statistic, paths.arrays(), block=block, resamples=resamples, seed=seed, progress=progress)
