"""What is drawn in the figures of an episode: lines, trades, headlines, the book, and the axes they stand on."""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from torchgym.lab.performance.trace import Trace
from torchgym.visual.palette import Look
from torchgym.visual.report.figure import axis, fade, mix
from torchgym.visual.report.words import SPACE, minus

_NEWS_SIZES = (6.0, 16.0)  # pixels
_TRADE_SIZE = 12.0  # pixels, down to a third of it where there are many
_FEW_TRADES = 60


def room(values: Tensor, least: float) -> list[float]:
    """Ends of an axis that holds the values and zero, with some air where they are not zero."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    air = 0.08 * max(high - low, least)
    return [low - (air if low < 0.0 else 0.0), high + (air if high > 0.0 or low == 0.0 else 0.0)]


def time_axis(look: Look, last: int, anchor: str = "y") -> dict[str, Any]:
    """The axis of ticks that the figures of an episode share."""
    return axis(
        look, "tick", range=[0, last], fixedrange=False, anchor=anchor, showgrid=False, tickformat=",d", nticks=8
    )


def line(
    values: Tensor,
    name: str,
    width: float,
    colour: str,
    *,
    dash: str = "solid",
    shape: str = "linear",
    fill: str | None = None,
    area: bool = False,
    label: str = "",
    digits: str = ",.6~g",
    unit: str = "",
    **more: Any,
) -> go.Scatter:
    """A line over all ticks, of the first symbol; `area` shades what lies between it and zero."""
    return go.Scatter(
        x0=0,
        dx=1,
        y=_array(values if values.dim() == 1 else values[:, 0]),
        name=name,
        mode="lines",
        line={"width": width, "color": colour, "dash": dash, "shape": shape},
        fill="tozeroy" if area else fill,
        fillcolor=fade(colour, 0.18) if area else fade(colour, 0.32) if fill else None,
        hovertemplate=f"{label or name} %{{y:{digits}}}{unit}<extra></extra>",
        **more,
    )


def trades(trace: Trace, chosen: Tensor, name: str, symbol: str, colour: str, edge: str) -> go.Scatter:
    """A triangle for each tick in which it traded; where the price is not known it lies at the mid and names none."""
    paid = trace.fill_price[chosen, 0]
    price = torch.where(paid.isnan(), trace.mid[chosen, 0], paid)
    shares, held = trace.filled[chosen, 0].abs(), trace.position[chosen, 0]
    crowd = max(1, int((trace.filled[:, 0] != 0).sum()))
    size = min(_TRADE_SIZE, max(_TRADE_SIZE / 3.0, _TRADE_SIZE * (_FEW_TRADES / crowd) ** 0.5))
    digits = ".3f" if float(trace.mid.min()) >= 1.0 else ".4g"
    doing = name.removesuffix("s")
    return go.Scatter(
        x=_array(trace.tick[chosen]),
        y=_array(price),
        name=name,
        mode="markers",
        legendrank=2,
        marker={"symbol": symbol, "size": size, "color": colour, "line": {"color": edge, "width": size / 10.0}},
        text=[
            minus(f"{doing} {count:,}{'' if isnan(at) else f' at {at:,{digits}}'}, then holds {after:,}")
            for count, at, after in zip(shares.tolist(), paid.tolist(), held.tolist(), strict=True)
        ],
        hovertemplate="%{text}<extra></extra>",
    )


def headlines(trace: Trace, look: Look) -> go.Scatter:
    """A pin for each headline, up or down by its effect, the larger the more it says."""
    came = trace.news[:, 0] != 0.0
    effect = 100.0 * trace.news[came, 0]
    smallest, largest = _NEWS_SIZES
    size = smallest + (largest - smallest) * (effect.abs() / effect.abs().max()).sqrt()
    return go.Scatter(
        x=_array(trace.tick[came]),
        y=_array(effect),
        yaxis="y2",
        name="news",
        legendrank=5,
        mode="markers",
        marker={
            "size": _array(size),
            "color": look.news,
            "opacity": 0.85,
            "line": {"color": look.background, "width": 1},
        },
        error_y={
            "type": "data",
            "symmetric": False,
            "array": _array((-effect).clamp(min=0.0)),
            "arrayminus": _array(effect.clamp(min=0.0)),
            "color": look.news,
            "thickness": 1.5,
            "width": 0,
        },
        hovertemplate=f"headline %{{y:+.2f}}{SPACE}%<extra></extra>",
    )


def news_axis(look: Look, news: Tensor) -> dict[str, Any]:
    """Of the effects [T + 1] in per cent."""
    largest = 100.0 * news.abs().max().item()
    told = f"{largest:.2g}{SPACE}%"
    return axis(
        look,
        domain=[0.0, 0.17],
        range=[-1.6 * largest, 1.6 * largest],
        tickvals=[-largest, 0.0, largest],
        ticktext=[f"−{told}", "0", f"+{told}"],
    )


def side(trace: Trace, signed: Tensor, name: str, colour: str, ground: str, full: int) -> go.Heatmap:
    """One side of the book, thin levels told apart by a scale that rises like a square root."""
    shares = torch.where(signed > 0, signed.to(torch.float32), torch.nan).T
    steps = (0.0, 0.04, 0.16, 0.36, 0.64, 1.0)
    return go.Heatmap(
        x=_array(trace.depth_time),
        y=_array(trace.depth_price),
        z=_array(shares),
        zmin=0.0,
        zmax=full,
        name=name,
        showlegend=True,
        colorscale=[[step, mix(ground, colour, 0.12 + 0.88 * step**0.5)] for step in steps],
        showscale=False,
        hoverongaps=False,
        hovertemplate=f"tick %{{x:,d}}, price %{{y:.2f}}<br>{name} %{{z:,d}} shares<extra></extra>",
    )


def _array(values: Tensor) -> np.ndarray[Any, Any]:
    """For Plotly, whole numbers in the 32 bits that a browser has."""
    found = values.numpy()
    return found.astype(np.int32) if found.dtype == np.int64 else found
