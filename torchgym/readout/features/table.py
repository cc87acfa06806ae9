"""The table of features: what each is, in its unit and free of scale, and the named sets of them.

A row covers one feature, or a block of features of one formula. Adding one takes a formula over the `FeatureContext`, a row of
`FEATURES` and a set that shows it, here or in a program of one's own; names, bounds and observations follow.

Sources: Wilder 1978, New Concepts in Technical Trading Systems (strength index, true range); Appel 2005, Technical Analysis
(convergence-divergence); Bollinger 2002, Bollinger on Bollinger Bands (bands, %b).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchgym.numerics import exact
from torchgym.readout.features.context import FeatureContext, ratio
from torchgym.readout.features.feature import Feature, Formula, amount, block, feature, ladder, level
from torchgym.table import Table

_STILL = 1e-12  # of the mid: an average range below this is what rounding leaves of a market that stands still
_INF = math.inf


def _mean(length: int) -> Formula:
    """Simple mean of the last `length` mids."""
    half = 0.5 / length
    return lambda s: s.mids_x2[..., -length:].sum(-1, keepdim=True) * (half * s.point)


def _percent_b(s: FeatureContext) -> Tensor:
    upper, _, lower = s.bands
    return ratio(s.mid - lower, upper - lower, 0.5)


def _spread(s: FeatureContext) -> Tensor:
    bid, ask = s.counts[:2]
    return (ask - bid) * 2e4 / s.mid_x2


def _imbalance(s: FeatureContext) -> Tensor:
    bids, asks = s.counts[2:4]
    return (bids - asks) / (bids + asks).clamp(min=1.0)


def _net_order_flow(s: FeatureContext) -> Tensor:
    buys, sells = s.market_data.buys.sum(-1, keepdim=True), s.market_data.sells.sum(-1, keepdim=True)
    return (buys - sells).to(torch.float64) / (buys + sells).clamp(min=1)


def _trend_strength(s: FeatureContext) -> Tensor:
    span = s.averages[5]
    return torch.where(span > s.mid * _STILL, s.line.abs() / span, 0.0)


def _volume_surge(s: FeatureContext) -> Tensor:
    volumes = s.market_data.volumes.to(torch.float64)
    return ratio(volumes[..., -1:] * 8.0, volumes[..., :-1].sum(-1, keepdim=True), 1.0)


def _sentiment_price_gap(s: FeatureContext) -> Tensor:
    return exact.halving_sum(s.decayed) * s.fair_dev


def _vol_ratio(s: FeatureContext) -> Tensor:
    return ratio(s.deviations[1], s.deviations[2], 1.0)


_ROWS: tuple[Feature, ...] = (
    Feature(
        name="f_mid_price",
        group="price",
        unit="currency",
        meaning="halfway between the best bid and ask: the mid",
        neutral=None,
        low=0.0,
        high=_INF,
        raw=lambda s: s.mid,
        relative=lambda s: s.market_data.log_mid.unsqueeze(-1) * 20.0,
        scaled="20 log(x / list price)",
    ),
    block("f_price_change", "percent", -100.0, lambda s: s.changes, 100.0, "change of the mid"),
    block("f_log_return", "fraction", -_INF, lambda s: s.logs[0], 1.0, "log return of the mid"),
    level("f_sma_8", 0.0, _mean(8), "mean of the last 8 mids"),
    level("f_sma_16", 0.0, _mean(16), "mean of the last 16 mids"),
    level("f_ema_8", 0.0, lambda s: s.averages[0], "exponential mean of the mid, the newest weighing 2/9"),
    level("f_ema_16", 0.0, lambda s: s.averages[1], "exponential mean of the mid, the newest weighing 2/17"),
    feature(
        "f_rsi_8",
        "technical",
        "0-100",
        "Wilder's relative strength index of the mid over 8 ticks",
        lambda s: s.rsi,
        neutral=50.0,
        low=0.0,
        high=100.0,
        centre=50.0,
        size=50.0,
    ),
    amount("f_macd_line", -_INF, lambda s: s.line, "f_ema_8 less f_ema_16"),
    amount("f_macd_signal", -_INF, lambda s: s.averages[2], "exponential mean of f_macd_line, the newest weighing 2/5"),
    amount("f_macd_histogram", -_INF, lambda s: s.line - s.averages[2], "f_macd_line less f_macd_signal"),
    level(
        "f_bb_upper",
        0.0,
        lambda s: s.bands[0],
        "upper Bollinger band: two standard deviations above the mean of the last 12 mids",
    ),
    level("f_bb_middle", 0.0, lambda s: s.bands[1], "mean of the last 12 mids"),
    level(
        "f_bb_lower",
        -_INF,
        lambda s: s.bands[2],
        "lower Bollinger band: two standard deviations below the mean of the last 12 mids",
    ),
    feature(
        "f_bb_percent_b",
        "technical",
        "ratio",
        "where the mid lies between the lower band (0) and the upper (1)",
        _percent_b,
        neutral=0.5,
        low=-1.0,
        high=2.0,
        centre=0.5,
        size=0.5,
    ),
    amount(
        "f_atr_8",
        0.0,
        lambda s: s.averages[5],
        "Wilder's average over 8 ticks of the range that mid and traded price went through",
    ),
    feature(
        "f_has_active_news",
        "news",
        "0/1",
        "whether an event that touches the symbol is under way",
        lambda s: s.newest[0],
        low=0.0,
        high=1.0,
    ),
    feature(
        "f_news_sentiment",
        "news",
        "-1..1",
        "sentiment of the newest event under way, times the share of its duration that is left",
        lambda s: s.newest[1],
        low=-1.0,
        high=1.0,
    ),
    feature(
        "f_news_magnitude",
        "news",
        "0..1",
        "magnitude of the newest event under way",
        lambda s: s.newest[2],
        low=0.0,
        high=1.0,
    ),
    feature(
        "f_news_ticks_remaining",
        "news",
        "ticks",
        "how long the newest event still lasts",
        lambda s: s.newest[3],
        low=0.0,
        size=50.0,
    ),
    feature(
        "f_spread_bps",
        "microstructure",
        "bp",
        "best ask less best bid, over the mid",
        _spread,
        low=0.0,
        centre=5.0,
        size=5.0,
    ),
    feature(
        "f_book_imbalance",
        "microstructure",
        "-1..1",
        "shares bid less shares offered near the best quotes, over their sum",
        _imbalance,
        low=-1.0,
        high=1.0,
    ),
    feature(
        "f_net_order_flow",
        "microstructure",
        "-1..1",
        "shares bought less shares sold by orders that came to trade at once over 8 ticks, over their sum",
        _net_order_flow,
        low=-1.0,
        high=1.0,
    ),
    feature(
        "f_realized_vol_8",
        "volatility",
        "fraction per tick",
        "standard deviation of the last 8 one-tick log returns",
        lambda s: s.deviations[1],
        low=0.0,
        centre=1e-3,
        size=1e-3,
    ),
    feature(
        "f_realized_vol_32",
        "volatility",
        "fraction per tick",
        "standard deviation of the last 32 one-tick log returns",
        lambda s: s.deviations[2],
        low=0.0,
        centre=1e-3,
        size=1e-3,
    ),
    feature(
        "f_vol_ratio",
        "volatility",
        "ratio",
        "f_realized_vol_8 over f_realized_vol_32",
        _vol_ratio,
        neutral=1.0,
        low=0.0,
        centre=1.0,
    ),
    feature(
        "f_fair_value_dev",
        "fundamental",
        "fraction",
        "how far the mid is above the value that the learner is shown",
        lambda s: s.fair_dev,
        low=-1.0,
        size=0.01,
    ),
    feature(
        "f_price_to_fair",
        "fundamental",
        "ratio",
        "the mid over the value that the learner is shown",
        lambda s: s.mid / s.fair,
        neutral=1.0,
        low=0.0,
        centre=1.0,
        size=0.01,
    ),
    feature("f_trend_strength", "momentum", "ratio", "size of f_macd_line, over f_atr_8", _trend_strength, low=0.0),
    feature(
        "f_rsi_divergence",
        "momentum",
        "points",
        "f_rsi_8 less 50",
        lambda s: s.rsi - 50.0,
        low=-50.0,
        high=50.0,
        size=50.0,
    ),
    feature(
        "f_volume_surge",
        "volume",
        "ratio",
        "volume of the tick over the mean of the 8 before it",
        _volume_surge,
        neutral=1.0,
        low=0.0,
        centre=1.0,
    ),
    feature(
        "f_trade_intensity",
        "volume",
        "ratio",
        "orders filled in the tick, over 8",
        lambda s: s.counts[4] * 0.125,
        low=0.0,
        centre=1.0,
    ),
    feature(
        "f_sentiment_price_gap",
        "fundamental",
        "fraction",
        "what is left of the sentiment of all events under way, times f_fair_value_dev",
        _sentiment_price_gap,
        size=0.01,
    ),
    ladder("f_bid_level", lambda s: s.levels[..., 0, :], "shares at the best bid"),
    ladder("f_ask_level", lambda s: s.levels[..., 1, :], "shares at the best ask"),
)

FEATURES: Table[Feature] = Table("feature", {row.name: row for row in _ROWS})

_LADDER = tuple(name for row in _ROWS if row.levels for name in row.names)
_ALL = tuple(name for row in _ROWS if not row.levels for name in row.names)
_FULL = tuple(name for name in _ALL if name != "f_net_order_flow")
_CANONICAL = (
    "f_mid_price",
    *(f"f_price_change_{k}" for k in (1, 32, 48, 64)),
    *(f"f_log_return_{k}" for k in (32, 48, 64)),
    *_FULL[25:38],
    *_FULL[44:51],
)

FEATURE_SETS: Table[tuple[str, ...]] = Table(
    "features",
    {
        "full54": _FULL,
        "full55": _ALL,
        "minimal42": _FULL[:42],
        "canonical28": _CANONICAL,
        "ladder20": _LADDER,
        "full74": (*_FULL, *_LADDER),
    },
)
