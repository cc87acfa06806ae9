"""The table of features: what each is, in its unit and free of scale, and the named sets of them.

A row covers one feature, or a block of features of one formula. Adding one takes a formula over the `Screen` and a row; names,
bounds, sets and observations follow.

Sources: Wilder 1978, New Concepts in Technical Trading Systems (strength index, true range); Appel 2005, Technical Analysis
(convergence-divergence); Bollinger 2002, Bollinger on Bollinger Bands (bands, %b).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym import exact
from torchgym.features.screen import LOOKBACKS, Screen, ratio

LIMIT = 10.0  # relative features are clipped here, either side
_STILL = 1e-12  # of the mid: an average range below this is what rounding leaves of a market that stands still
_INF = math.inf

Formula = Callable[[Screen], Tensor]


@dataclass(frozen=True)
class Feature:
    """One row of the table: a feature, or a block of features of one formula."""

    names: tuple[str, ...]
    group: str
    unit: str
    neutral: float | None  # where the formula has no value; None: the mid
    low: float
    high: float
    raw: Formula  # [N, S, len(names)] float64
    relative: Formula  # same, scale-free; clipped to ±LIMIT afterwards
    scaled: str  # what the relative form is; a move is the mid × max(volatility of 32 ticks, 1 bp)


def _mean(length: int) -> Formula:
    """Simple mean of the last `length` mids."""
    half = 0.5 / length
    return lambda s: s.half_mids[..., -length:].sum(-1, keepdim=True) * (half * s.config.point_size)


def _percent_b(s: Screen) -> Tensor:
    upper, _, lower = s.bands
    return ratio(s.mid - lower, upper - lower, 0.5)


def _spread(s: Screen) -> Tensor:
    bid, ask = s.counts[:2]
    return (ask - bid) * 2e4 / s.half_mid


def _imbalance(s: Screen) -> Tensor:
    bids, asks = s.counts[2:4]
    return (bids - asks) / (bids + asks).clamp(min=1.0)


def _net_order_flow(s: Screen) -> Tensor:
    buys, sells = s.tape.buys.sum(-1, keepdim=True), s.tape.sells.sum(-1, keepdim=True)
    return (buys - sells).to(torch.float64) / (buys + sells).clamp(min=1)


def _trend_strength(s: Screen) -> Tensor:
    span = s.averages[5]
    return torch.where(span > s.mid * _STILL, s.line.abs() / span, 0.0)


def _volume_surge(s: Screen) -> Tensor:
    volumes = s.tape.volumes.to(torch.float64)
    return ratio(volumes[..., -1:] * 8.0, volumes[..., :-1].sum(-1, keepdim=True), 1.0)


def _sentiment_price_gap(s: Screen) -> Tensor:
    return exact.halving_sum(s.decayed) * s.fair_dev


def _vol_ratio(s: Screen) -> Tensor:
    return ratio(s.deviations[1], s.deviations[2], 1.0)


def _row(
    name: str,
    group: str,
    unit: str,
    neutral: float,
    low: float,
    high: float,
    raw: Formula,
    *,
    centre: float = 0.0,
    size: float = 1.0,
) -> Feature:
    """One feature; relative: its distance from the usual value `centre` over the usual `size`."""
    scale = 1.0 / size

    def relative(s: Screen) -> Tensor:
        distance = raw(s) if centre == 0.0 else raw(s) - centre
        return distance if size == 1.0 else distance * scale

    return Feature((name,), group, unit, neutral, low, high, raw, relative, f"(x - {centre:g}) / {size:g}")


def _level(name: str, low: float, raw: Formula) -> Feature:
    """A price derived from the mids; relative: its distance from the mid in moves."""

    def relative(s: Screen) -> Tensor:
        return (raw(s) - s.mid) / s.move

    return Feature((name,), "technical", "currency", None, low, _INF, raw, relative, "(x - mid) / move")


def _amount(name: str, low: float, raw: Formula) -> Feature:
    """A difference of prices; relative: in moves."""

    def relative(s: Screen) -> Tensor:
        return raw(s) / s.move

    return Feature((name,), "technical", "currency", 0.0, low, _INF, raw, relative, "x / move")


def _block(name: str, unit: str, low: float, raw: Formula, size: float) -> Feature:
    """Returns over each lookback of k ticks; relative: over the usual log return in the feature's unit."""
    names = tuple(f"{name}_{k}" for k in LOOKBACKS)
    scale = 1.0 / size

    def relative(s: Screen) -> Tensor:
        return raw(s) * scale / s.moves

    return Feature(names, "price", unit, 0.0, low, _INF, raw, relative, f"x / ({size:g} volatility √k)")


FEATURES: tuple[Feature, ...] = (
    Feature(
        names=("f_mid_price",),
        group="price",
        unit="currency",
        neutral=None,
        low=0.0,
        high=_INF,
        raw=lambda s: s.mid,
        relative=lambda s: s.tape.log_mid.unsqueeze(-1) * 20.0,
        scaled="20 log(x / list price)",
    ),
    _block("f_price_change", "percent", -100.0, lambda s: s.changes, 100.0),
    _block("f_log_return", "fraction", -_INF, lambda s: s.logs[0], 1.0),
    _level("f_sma_8", 0.0, _mean(8)),
    _level("f_sma_16", 0.0, _mean(16)),
    _level("f_ema_8", 0.0, lambda s: s.averages[0]),
    _level("f_ema_16", 0.0, lambda s: s.averages[1]),
    _row("f_rsi_8", "technical", "0-100", 50.0, 0.0, 100.0, lambda s: s.rsi, centre=50.0, size=50.0),
    _amount("f_macd_line", -_INF, lambda s: s.line),
    _amount("f_macd_signal", -_INF, lambda s: s.averages[2]),
    _amount("f_macd_histogram", -_INF, lambda s: s.line - s.averages[2]),
    _level("f_bb_upper", 0.0, lambda s: s.bands[0]),
    _level("f_bb_middle", 0.0, lambda s: s.bands[1]),
    _level("f_bb_lower", -_INF, lambda s: s.bands[2]),
    _row("f_bb_percent_b", "technical", "ratio", 0.5, -1.0, 2.0, _percent_b, centre=0.5, size=0.5),
    _amount("f_atr_8", 0.0, lambda s: s.averages[5]),
    _row("f_has_active_news", "news", "0/1", 0.0, 0.0, 1.0, lambda s: s.newest[0]),
    _row("f_news_sentiment", "news", "-1..1", 0.0, -1.0, 1.0, lambda s: s.newest[1]),
    _row("f_news_magnitude", "news", "0..1", 0.0, 0.0, 1.0, lambda s: s.newest[2]),
    _row("f_news_ticks_remaining", "news", "ticks", 0.0, 0.0, _INF, lambda s: s.newest[3], size=50.0),
    _row("f_spread_bps", "microstructure", "bp", 0.0, 0.0, _INF, _spread, centre=5.0, size=5.0),
    _row("f_book_imbalance", "microstructure", "-1..1", 0.0, -1.0, 1.0, _imbalance),
    _row("f_net_order_flow", "microstructure", "-1..1", 0.0, -1.0, 1.0, _net_order_flow),
    _row(
        "f_realized_vol_8",
        "volatility",
        "fraction per tick",
        0.0,
        0.0,
        _INF,
        lambda s: s.deviations[1],
        centre=1e-3,
        size=1e-3,
    ),
    _row(
        "f_realized_vol_32",
        "volatility",
        "fraction per tick",
        0.0,
        0.0,
        _INF,
        lambda s: s.deviations[2],
        centre=1e-3,
        size=1e-3,
    ),
    _row("f_vol_ratio", "volatility", "ratio", 1.0, 0.0, _INF, _vol_ratio, centre=1.0),
    _row("f_fair_value_dev", "fundamental", "fraction", 0.0, -1.0, _INF, lambda s: s.fair_dev, size=0.01),
    _row("f_price_to_fair", "fundamental", "ratio", 1.0, 0.0, _INF, lambda s: s.mid / s.fair, centre=1.0, size=0.01),
    _row("f_trend_strength", "momentum", "ratio", 0.0, 0.0, _INF, _trend_strength),
    _row("f_rsi_divergence", "momentum", "points", 0.0, -50.0, 50.0, lambda s: s.rsi - 50.0, size=50.0),
    _row("f_volume_surge", "volume", "ratio", 1.0, 0.0, _INF, _volume_surge, centre=1.0),
    _row("f_trade_intensity", "volume", "ratio", 0.0, 0.0, _INF, lambda s: s.counts[4] * 0.125, centre=1.0),
    _row("f_sentiment_price_gap", "fundamental", "fraction", 0.0, -_INF, _INF, _sentiment_price_gap, size=0.01),
)

_ALL = tuple(name for feature in FEATURES for name in feature.names)
_FULL = tuple(name for name in _ALL if name != "f_net_order_flow")
_CANONICAL = (
    "f_mid_price",
    *(f"f_price_change_{k}" for k in (1, 32, 48, 64)),
    *(f"f_log_return_{k}" for k in (32, 48, 64)),
    *_FULL[25:38],
    *_FULL[44:51],
)

FEATURE_SETS: dict[str, tuple[str, ...]] = {
    "full54": _FULL,
    "full55": _ALL,
    "minimal42": _FULL[:42],
    "canonical28": _CANONICAL,
}
