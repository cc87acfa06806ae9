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
    of_size = paths.size_memory[:, 1:]
    lags = of_size.shape[1]
    kurtosis = measures.kurtosis_by_horizon(paths)
    drawn: dict[str, Any] = {
        "distribution": _distribution(paths),
        "memory": {
            "lag": range(1, lags + 1),
            "returns": _quantile(statistics.autocorrelation(paths.returns, lags)[:, 1:], 0.5),
            "absolute": _quantile(of_size, 0.5),
            "absolute_low": _quantile(of_size, 0.05),
            "absolute_high": _quantile(of_size, 0.95),
            "noise": 2.0 / paths.ticks**0.5,
        },
        "kurtosis": {
            "horizon": measures.HORIZONS,
            **{name: _quantile(kurtosis, level) for name, level in (("median", 0.5), ("low", 0.05), ("high", 0.95))},
        },
    }
    if impact is not None:
        names = (
            "sizes",
            "duration",
            "participation",
            "path",
            "rate",
            "durations",
            "size_exponent",
            "duration_exponent",
        )
        drawn["impact"] = {
            **{name: getattr(impact, name) for name in names},
            "peak": impact.peak.mean(0),
            "peak_low": impact.peak.amin(0),
            "peak_high": impact.peak.amax(0),
            "peak_by_duration": impact.peak_by_duration.mean(0),
        }
    if paths.buys is not None and paths.sells is not None:
        correlation = statistics.autocorrelation(measures.order_sign(paths), MEMORY)
        drawn["sign_memory"] = {"lag": range(1, MEMORY + 1), "acf": _quantile(correlation[:, 1:], 0.5)}
    if paths.spread is not None and paths.volume is not None:
        drawn["by_volatility"] = _by_volatility(paths, paths.spread, paths.volume)
    if paths.mid is not None and paths.value is not None:
        every = max(1, paths.ticks // _POINTS)
        at = slice(0, every * _POINTS, every)
        drawn["path"] = {"every": every, "mid": paths.mid[0, at], "value": paths.value[0, at]}
    if paths.hours is not None:
        day = paths.hours.volume.shape[-1]
        typical = {name: _quantile(getattr(paths.hours, name), 0.5) for name in ("volume", "size")}
        drawn["hours"] = {
            "tick": range(day),
            **{name: median / median[paths.hours.midday].mean() for name, median in typical.items()},
        }
    study = None if paths.news is None else measures.news_study(paths)
    if study is not None:
        move = study[0]
        ticks = range(-measures.NEWS_BEFORE, measures.NEWS_AFTER + 1)
        drawn["news"] = {"tick": ticks, "move": move.mean(0), "low": move.amin(0), "high": move.amax(0)}
    return {picture: {name: _plain(values) for name, values in parts.items()} for picture, parts in drawn.items()}


def _distribution(paths: Paths) -> dict[str, Any]:
    """Density of standardised returns, all rows pooled; what lies beyond ten deviations is in no bin."""
    pooled = statistics.standardise(paths.returns).flatten().nan_to_num()
    counts = torch.histc(pooled, _BINS, -_EDGE, _EDGE)
    width = 2.0 * _EDGE / _BINS
    centre = [-_EDGE + width * (index + 0.5) for index in range(_BINS)]
    return {"centre": centre, "density": counts / (len(pooled) * width)}


def _by_volatility(paths: Paths, spread: Tensor, volume: Tensor) -> dict[str, Any]:
    """Mean spread and volume of the ticks in each quintile of the last 50 ticks' volatility, each row by its own."""
    recent = measures.recent_volatility(paths)
    skipped = paths.ticks - recent.shape[1]
    place = recent.argsort(-1)
    parts = place.tensor_split(QUINTILES, dim=-1)

    def means(series: Tensor) -> list[float]:
        return [series[:, skipped:].gather(1, part).mean().item() for part in parts]

    return {"quintile": list(range(1, QUINTILES + 1)), "spread": means(spread), "volume": means(volume)}


def _quantile(values: Tensor, level: float) -> Tensor:
    return values.nanquantile(level, dim=0)


def _plain(values: Any) -> Any:
    """Lists of numbers; those of tensors with six digits, which is more than any picture shows."""
    if isinstance(values, Tensor):
        return [_plain(row) for row in values] if values.dim() > 1 else [float(f"{x:.6g}") for x in values.tolist()]
    return list(values) if isinstance(values, range | tuple) else values
