"""Figures of the traced episode: the price and what the policy did, the book, the account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from torchgym.look import Look
from torchgym.performance.metrics import drawdown
from torchgym.performance.trace import Trace
from torchgym.report.figure import TIME, Picture, axis, fade, heading, layout, mix
from torchgym.report.words import minus, money, number, percent, spoken

_FULL = 0.98  # of the standing levels have less than the strongest colour
_SEEN = {
    "public": "It never sees the value, only a noisy public estimate of it.",
    "privileged": "It is shown the value itself.",
    "none": "It is shown nothing of the value.",
}
_NEWS_SIZES = (6.0, 16.0)  # pixels
_TRADE_SIZE = 12.0  # pixels, down to a third of it where there are many
_FEW_TRADES = 60


def pictures(evaluation: Mapping[str, Any], trace: Trace, policy: str) -> list[Picture]:
    """The figures of one episode of a policy, top to bottom."""
    return [_price(evaluation, trace, policy), _book(trace), _account(trace, policy)]


def _price(evaluation: Mapping[str, Any], trace: Trace, policy: str) -> Picture:
    information = evaluation["config"].get("information")
    traded, news = trace.filled[:, 0], trace.news[:, 0]
    mid, count = trace.mid[:, 0], len(trace.tick) - 1
    bought, sold = int((traded > 0).sum()), int((traded < 0).sum())
    events = int((news != 0.0).sum())
    of_many = "" if trace.mid.shape[1] == 1 else " of the first symbol"
    label = (
        f"Price{of_many} over {count:,} ticks: from {mid[0].item():.2f} to {mid[-1].item():.2f}, between"
        f" {mid.min().item():.2f} and {mid.max().item():.2f}."
        f" {spoken(policy)} buys in {bought:,} ticks and sells in {sold:,}. {events} headlines."
    )
    exception = "" if trace.mid.shape[1] == 1 else ", or at the mid where symbols traded at once"
    caption = f"Triangles: what it traded, at the mean price it got{exception}. " + (
        "Beneath: headlines, by the effect that they publicly imply. " if events else "No headline came. "
    )
    caption += _SEEN.get(information, "")
    shown = "shown to" if information == "privileged" else "hidden from"
    name = f"value ({shown} the agent)"

    def draw(look: Look) -> go.Figure:
        lines = [
            _line(trace.bid, "bid to ask", 0.0, look.price, legendgroup="quotes", showlegend=False, label="bid"),
            _line(
                trace.ask,
                "bid to ask",
                0.0,
                look.price,
                legendgroup="quotes",
                legendrank=6,
                fill="tonexty",
                label="ask",
            ),
            _line(
                trace.estimate,
                "public estimate of value",
                1.0,
                look.muted,
                dash="dot",
                visible="legendonly",
                legendrank=7,
            ),
            _line(trace.value, name, 1.5, look.value, dash="5px,2px", legendrank=4, label="value"),
            _line(trace.mid, "mid price", 1.6, look.price, legendrank=1, label="mid"),
        ]
        trades = [
            _trades(trace, traded > 0, "buys", "triangle-up", look.buy, look.background),
            _trades(trace, traded < 0, "sells", "triangle-down", look.sell, look.background),
        ]
        figure = go.Figure([*lines, *trades, *([_headlines(trace, look)] if events else [])])
        figure.layout = layout(
            look,
            hovermode="x unified",
            xaxis=_time(look, count, "y2" if events else "y"),
            yaxis=axis(look, domain=[0.27 if events else 0.0, 1.0], tickformat=".2f"),
        )
        if events:
            figure.update_layout(yaxis2=_news_axis(look, news), annotations=[heading(look, "news", 0.17)])
        return figure

    return Picture("price", "Price and trades", label, caption, draw, 460, 430, over_time=True)


def _book(trace: Trace) -> Picture:
    sizes = trace.depth.abs()[trace.depth != 0].to(torch.float64)
    full = max(1.0, torch.quantile(sizes, _FULL).item()) if len(sizes) else 1.0
    height = (trace.depth_price[1] - trace.depth_price[0]).item() if len(trace.depth_price) > 1 else 0.0
    caption = (
        f"Shares that rest at each price, in steps of {height:.3g}, at {len(trace.depth_time)} moments of the episode."
        f" The fullest colour stands for {number(full)} shares or more."
    )
    label = (
        "The standing order book over time: bids below and asks above the mid price, "
        f"between {trace.depth_price[0].item():.2f} and {trace.depth_price[-1].item():.2f}."
    )

    def draw(look: Look) -> go.Figure:
        figure = go.Figure(
            [
                _side(trace, trace.depth, "bids", look.bid, look.background, full),
                _side(trace, -trace.depth, "asks", look.ask, look.background, full),
                _line(trace.mid, "mid price", 1.4, look.text, label="mid"),
            ]
        )
        figure.layout = layout(
            look,
            hovermode="closest",
            xaxis=_time(look, len(trace.tick) - 1),
            yaxis=axis(
                look,
                showgrid=False,
                tickformat=".2f",
                range=[trace.depth_price[0].item() - height / 2, trace.depth_price[-1].item() + height / 2],
            ),
        )
        return figure

    return Picture("book", "Depth of the book", label, caption, draw, 380, 340, over_time=True)


def _account(trace: Trace, policy: str) -> Picture:
    fallen = drawdown(trace.equity.unsqueeze(0))[0]
    profit = (trace.equity[-1] - trace.equity[0]).item()
    symbols = trace.position.shape[1]
    held = trace.position
    label = (
        f"Account of {spoken(policy)}: its position lies between {held.min().item():,} and {held.max().item():,} shares;"
        f" equity changes by {money(profit)}; the deepest drawdown is {percent(fallen.max().item())}."
    )
    caption = "Drawdown is how far equity lies below its highest value so far."
    rows = ("position, shares", "equity, currency", "drawdown")

    def draw(look: Look) -> go.Figure:
        colours = [look.price] if symbols == 1 else list(look.series)
        names = ["position"] if symbols == 1 else [f"symbol {index + 1}" for index in range(symbols)]
        lines = [
            _line(
                held[:, [index]],
                names[index],
                1.5,
                colours[index % len(colours)],
                shape="hv",
                showlegend=symbols > 1,
                area=symbols == 1,
            )
            for index in range(symbols)
        ]
        lines += [
            _line(trace.equity, "equity", 1.5, look.equity, yaxis="y2", showlegend=False, digits=",.2f"),
            _line(-fallen, "drawdown", 1.2, look.drawdown, yaxis="y3", showlegend=False, area=True, digits=".2%"),
        ]
        figure = go.Figure(lines)
        figure.layout = layout(
            look,
            hovermode="x unified",
            xaxis=_time(look, len(trace.tick) - 1, "y3"),
            margin={**TIME, "t": 24},
            yaxis=axis(look, domain=[0.72, 1.0], nticks=5, tickformat=",d", range=_room(held, 1.0)),
            yaxis2=axis(look, domain=[0.34, 0.62], nticks=5, tickformat=",.2~f"),
            yaxis3=axis(look, domain=[0.0, 0.24], nticks=4, tickformat=".3~%", range=_room(-fallen, 1e-4)),
            annotations=[heading(look, name, top) for name, top in zip(rows, (1.0, 0.62, 0.24), strict=True)],
        )
        return figure

    return Picture("account", "Position, equity, drawdown", label, caption, draw, 480, 460, over_time=True)


def _room(values: Tensor, least: float) -> list[float]:
    """Ends of an axis that holds the values and zero, with some air where they are not zero."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    air = 0.08 * max(high - low, least)
    return [low - (air if low < 0.0 else 0.0), high + (air if high > 0.0 or low == 0.0 else 0.0)]


def _time(look: Look, last: int, anchor: str = "y") -> dict[str, Any]:
    """The axis of ticks that the figures of an episode share."""
    return axis(
        look, "tick", range=[0, last], fixedrange=False, anchor=anchor, showgrid=False, tickformat=",d", nticks=8
    )


def _line(
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
        hovertemplate=f"{label or name} %{{y:{digits}}}<extra></extra>",
        **more,
    )


def _trades(trace: Trace, chosen: Tensor, name: str, symbol: str, colour: str, edge: str) -> go.Scatter:
    """A triangle for each tick in which it traded."""
    price = trace.fill_price[:, 0]
    price = torch.where(price.isnan(), trace.mid[:, 0], price)[chosen]
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
            minus(f"{doing} {count:,} at {paid:,{digits}}, then holds {after:,}")
            for count, paid, after in zip(shares.tolist(), price.tolist(), held.tolist(), strict=True)
        ],
        hovertemplate="%{text}<extra></extra>",
    )


def _headlines(trace: Trace, look: Look) -> go.Scatter:
    """A pin for each headline, up or down by its effect, the larger the more it says."""
    came = trace.news[:, 0] != 0.0
    effect = trace.news[came, 0]
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
        hovertemplate="headline %{y:+.2%}<extra></extra>",
    )


def _news_axis(look: Look, news: Tensor) -> dict[str, Any]:
    largest = news.abs().max().item()
    told = f"{100.0 * largest:.2g}%"
    return axis(
        look,
        domain=[0.0, 0.17],
        range=[-1.6 * largest, 1.6 * largest],
        tickvals=[-largest, 0.0, largest],
        ticktext=[f"−{told}", "0", f"+{told}"],
    )


def _side(trace: Trace, signed: Tensor, name: str, colour: str, ground: str, full: float) -> go.Heatmap:
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
