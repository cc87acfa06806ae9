"""Figures of the traced episode: the price and what the policy did, the book, the account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
import torch

from torchgym.config import MarketConfig
from torchgym.lab.performance.metrics import drawdown
from torchgym.lab.performance.trace import Trace
from torchgym.visual.palette import Look
from torchgym.visual.rendering.words import value_label
from torchgym.visual.report.figure import TIME, Picture, axis, heading, layout
from torchgym.visual.report.marks import headlines, line, news_axis, room, side, time_axis, trades
from torchgym.visual.report.words import SPACE, money, percent, spoken

_FULL = 0.98  # of the standing levels have less than the strongest colour
_SEEN = {
    "public": "It never sees the value, only a noisy public estimate of it.",
    "privileged": "It is shown the value itself.",
    "none": "It is shown nothing of the value.",
}


def pictures(evaluation: Mapping[str, Any], trace: Trace, policy: str) -> list[Picture]:
    """The figures of one episode of a policy, top to bottom."""
    return [_price(evaluation, trace, policy), _book(trace), _account(trace, policy)]


def _price(evaluation: Mapping[str, Any], trace: Trace, policy: str) -> Picture:
    config = MarketConfig.from_dict(evaluation["config"])
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
    caption = f"Triangles: what it traded, at the mean price it got{exception}. "
    if config.execution == "book":
        caption += (
            "An order meets the book of the tick before, so a triangle may lie outside the quotes of its own tick. "
        )
    caption += "Beneath: headlines, by the effect that they publicly imply. " if events else "No headline came. "
    caption += _SEEN[config.information]

    def draw(look: Look) -> go.Figure:
        lines = [
            line(trace.bid, "bid to ask", 0.0, look.price, legendgroup="quotes", showlegend=False, label="bid"),
            line(
                trace.ask,
                "bid to ask",
                0.0,
                look.price,
                legendgroup="quotes",
                legendrank=6,
                fill="tonexty",
                label="ask",
            ),
            line(
                trace.estimate,
                "public estimate of value",
                1.0,
                look.muted,
                dash="dot",
                visible="legendonly",
                legendrank=7,
            ),
            line(trace.value, value_label(config), 1.5, look.value, dash="5px,2px", legendrank=4, label="value"),
            line(trace.mid, "mid price", 1.6, look.price, legendrank=1, label="mid"),
        ]
        triangles = [
            trades(trace, traded > 0, "buys", "triangle-up", look.buy, look.background),
            trades(trace, traded < 0, "sells", "triangle-down", look.sell, look.background),
        ]
        figure = go.Figure([*lines, *triangles, *([headlines(trace, look)] if events else [])])
        figure.layout = layout(
            look,
            hovermode="x unified",
            xaxis=time_axis(look, count, "y2" if events else "y"),
            yaxis=axis(look, domain=[0.27 if events else 0.0, 1.0], tickformat=".2f"),
        )
        if events:
            figure.update_layout(yaxis2=news_axis(look, news), annotations=[heading(look, "news", 0.17)])
        return figure

    return Picture("price", "Price and trades", label, caption, draw, 460, 430, over_time=True)


def _book(trace: Trace) -> Picture:
    sizes = trace.depth.abs()[trace.depth != 0].to(torch.float64)
    full = max(1, round(torch.quantile(sizes, _FULL).item())) if len(sizes) else 1
    height = (trace.depth_price[1] - trace.depth_price[0]).item() if len(trace.depth_price) > 1 else 0.0
    caption = (
        f"Shares that rest at each price, in steps of {height:.3g}, at {len(trace.depth_time)} moments of the episode."
        f" The fullest colour stands for {full:,} shares or more."
    )
    label = (
        "The standing order book over time: bids below and asks above the mid price, "
        f"between {trace.depth_price[0].item():.2f} and {trace.depth_price[-1].item():.2f}."
    )

    def draw(look: Look) -> go.Figure:
        figure = go.Figure(
            [
                side(trace, trace.depth, "bids", look.bid, look.background, full),
                side(trace, -trace.depth, "asks", look.ask, look.background, full),
                line(trace.mid, "mid price", 1.4, look.text, label="mid"),
            ]
        )
        figure.layout = layout(
            look,
            hovermode="closest",
            xaxis=time_axis(look, len(trace.tick) - 1),
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
    below = -100.0 * fallen
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
        names = ["position"] if symbols == 1 else [f"symbol {index}" for index in range(symbols)]
        lines = [
            line(
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
            line(trace.equity, "equity", 1.5, look.equity, yaxis="y2", showlegend=False, digits=",.2f"),
            line(
                below,
                "drawdown",
                1.2,
                look.drawdown,
                yaxis="y3",
                showlegend=False,
                area=True,
                digits=".2f",
                unit=f"{SPACE}%",
            ),
        ]
        figure = go.Figure(lines)
        figure.layout = layout(
            look,
            hovermode="x unified",
            xaxis=time_axis(look, len(trace.tick) - 1, "y3"),
            margin={**TIME, "t": 24},
            yaxis=axis(look, domain=[0.72, 1.0], nticks=5, tickformat=",d", range=room(held, 1.0)),
            yaxis2=axis(look, domain=[0.34, 0.62], nticks=5, tickformat=",.2~f"),
            yaxis3=axis(
                look, domain=[0.0, 0.24], nticks=4, tickformat=".3~r", ticksuffix=f"{SPACE}%", range=room(below, 0.01)
            ),
            annotations=[heading(look, name, top) for name, top in zip(rows, (1.0, 0.62, 0.24), strict=True)],
        )
        return figure

    return Picture("account", "Position, equity, drawdown", label, caption, draw, 480, 460, over_time=True)
