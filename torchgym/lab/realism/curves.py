"""What the pictures show: curves over lags, horizons, events and one path, as plain lists that JSON can hold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchgym.lab.realism import measures, statistics
from torchgym.lab.realism.impact import Impact
from torchgym.lab.realism.paths import MEMORY, Paths

QUINTILES = 5
_EDGE, _BINS = 10.0, 80  # of the histogram, in standard deviations
_POINTS = 500  # of the example path


def curves(paths: Paths, impact: Impact | None = None) -> dict[str, Any]:
    """Everything that the panel draws, by picture; pictures without data are left out. Medians are over rows."""
    drawn: dict[str, Any] = {
        "distribution": _distribution(paths),
        "memory": _memory(paths),
        "kurtosis": _kurtosis(paths),
    }
    if impact is not None:
        drawn["impact"] = _impact(impact)
    if paths.buys is not None and paths.sells is not None:
        correlation = statistics.autocorrelation(measures.order_sign(paths), MEMORY)
        drawn["sign_memory"] = {"lag": list(range(1, MEMORY + 1)), "acf": _median(correlation[:, 1:])}
    if paths.spread is not None and paths.volume is not None:
        drawn["by_volatility"] = _by_volatility(paths, paths.spread, paths.volume)
    if paths.mid is not None and paths.value is not None:
        every = max(1, paths.ticks // _POINTS)
        at = slice(0, every * _POINTS, every)
        drawn["path"] = {"every": every, "mid": _plain(paths.mid[0, at]), "value": _plain(paths.value[0, at])}
    study = None if paths.news is None else measures.news_study(paths)
    if study is not None:
        drawn["news"] = {
            "tick": list(range(-measures.NEWS_BEFORE, measures.NEWS_AFTER + 1)),
            "move": _plain(study[0].mean(0)),
            "low": _plain(study[0].amin(0)),
            "high": _plain(study[0].amax(0)),
        }
    return drawn


def _distribution(paths: Paths) -> dict[str, Any]:
    """Density of standardised returns, all rows pooled; what lies beyond ten deviations is in no bin."""
    pooled = statistics.standardise(paths.returns).flatten().nan_to_num()
    counts = torch.histc(pooled, _BINS, -_EDGE, _EDGE)
    width = 2.0 * _EDGE / _BINS
    centre = [-_EDGE + width * (index + 0.5) for index in range(_BINS)]
    return {"centre": centre, "density": _plain(counts / (len(pooled) * width))}


def _memory(paths: Paths) -> dict[str, Any]:
    lags = paths.size_memory.shape[1] - 1
    of_returns = statistics.autocorrelation(paths.returns, lags)
    of_size = paths.size_memory
    return {
        "lag": list(range(1, lags + 1)),
        "returns": _median(of_returns[:, 1:]),
        "absolute": _median(of_size[:, 1:]),
        "absolute_low": _plain(of_size[:, 1:].nanquantile(0.05, dim=0)),
        "absolute_high": _plain(of_size[:, 1:].nanquantile(0.95, dim=0)),
        "noise": 2.0 / paths.ticks**0.5,
    }


def _kurtosis(paths: Paths) -> dict[str, Any]:
    kurtosis = measures.kurtosis_by_horizon(paths)
    low, high = (_plain(kurtosis.nanquantile(level, dim=0)) for level in (0.05, 0.95))
    return {"horizon": list(measures.HORIZONS), "median": _median(kurtosis), "low": low, "high": high}


def _impact(impact: Impact) -> dict[str, Any]:
    return {
        "sizes": list(impact.sizes),
        "duration": impact.duration,
        "participation": _plain(impact.participation),
        "peak": _plain(impact.peak.mean(0)),
        "peak_low": _plain(impact.peak.amin(0)),
        "peak_high": _plain(impact.peak.amax(0)),
        "path": [_plain(path) for path in impact.path],
        "rate": impact.rate,
        "durations": list(impact.durations),
        "peak_by_duration": _plain(impact.peak_by_duration.mean(0)),
        "size_exponent": _plain(impact.size_exponent),
        "duration_exponent": _plain(impact.duration_exponent),
    }


def _by_volatility(paths: Paths, spread: Tensor, volume: Tensor) -> dict[str, Any]:
    """Mean spread and volume of the ticks in each quintile of the last 50 ticks' volatility, each row by its own."""
    recent = measures.recent_volatility(paths)
    skipped = paths.ticks - recent.shape[1]
    place = recent.argsort(-1)
    parts = place.tensor_split(QUINTILES, dim=-1)

    def means(series: Tensor) -> list[float]:
        return [series[:, skipped:].gather(1, part).mean().item() for part in parts]

    return {"quintile": list(range(1, QUINTILES + 1)), "spread": means(spread), "volume": means(volume)}


def _median(values: Tensor) -> list[float]:
    return _plain(values.nanquantile(0.5, dim=0))


def _plain(values: Tensor) -> list[float]:
    """Six digits, which is more than any picture shows."""
    return [float(f"{number:.6g}") for number in values.tolist()]
