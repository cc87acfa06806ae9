"""Figures of the traced episode: the price and the policy's trades, the book, the account."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from math import isnan
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.lab.performance.metrics import drawdown
from torchgym.lab.performance.trace import Trace
from torchgym.lab.policy import own_config
from torchgym.visual.palette import LIGHT
from torchgym.visual.report.figures import PageFigure, faded, line, outline, time_figure
from torchgym.visual.report.formats import SPACE, minus, money, number, spoken
from torchgym.visual.report.task_figures import quote_figures, task_figures

_NEWS_SIZES = (6.0, 16.0)  # pixels
_TRADE_SIZE = 12.0  # pixels, down to a third of it where there are many
_FEW_TRADES = 60
_FULL = 0.98  # of all levels of the book have less than the strongest colour
_SHADES = (0.0, 0.04, 0.16, 0.36, 0.64, 1.0)  # of the strongest colour's shares; opacity rises like their square root
_INFORMATION = {
    "public": "The policy never sees the value, only a noisy public estimate of it.",
    "privileged": "The policy sees the value itself.",
    "none": "The policy sees nothing of the value.",
}


def episode_figures(evaluation: Mapping[str, Any], trace: Trace, policy: str) -> list[PageFigure]:
    """The figures of one episode of a policy, top to bottom: those of every market, and what its task and scheme bring about."""
    config = own_config(MarketConfig.from_dict(evaluation["config"]), trace.seed)
    first = _price(config, trace, policy), *quote_figures(config, trace, policy)
    return [*first, _book(trace), _account(trace, policy), *task_figures(config, trace, policy)]


def _price(config: MarketConfig, trace: Trace, policy: str) -> PageFigure:
    mid, traded, news = trace.mid[:, 0], trace.filled[:, 0], trace.news[:, 0]
    ticks, headlines, several = len(trace.tick) - 1, int((news != 0.0).sum()), trace.mid.shape[1] > 1
    figure = time_figure(ticks, [("", 0.8), ("news, %", 0.2)] if headlines else [("", 1.0)])
    quotes: dict[str, Any] = {"legendgroup": "quotes", "fillcolor": faded(LIGHT.price, 0.32), "legendrank": 6}
    for each in (
        line(trace.bid, "bid", 0.0, LIGHT.price, showlegend=False, **quotes),
        line(trace.ask, "ask", 0.0, LIGHT.price, **quotes, fill="tonexty").update(name="bid to ask"),
        line(trace.estimate, "public estimate", 1.0, LIGHT.muted, "dot", visible="legendonly", legendrank=7),
        line(trace.value, "value", 1.5, LIGHT.value, "5px,2px", legendrank=4),
        line(trace.mid, "mid price", 1.6, LIGHT.price, legendrank=1),
        _trades(trace, traded > 0, "buys", "triangle-up", LIGHT.buy),
        _trades(trace, traded < 0, "sells", "triangle-down", LIGHT.sell),
    ):
        figure.add_trace(each, row=1, col=1)
    figure.update_yaxes(tickformat=".2f")
    if headlines:
        figure.add_trace(_headlines(trace), row=2, col=1)
        most = 100.0 * news.abs().max().item()
        scale = {"range": [-1.6 * most, 1.6 * most], "tickvals": [-most, 0.0, most], "tickformat": "+.2~r"}
        figure.update_yaxes(row=2, **scale)
    return PageFigure(
        "price",
        "Price and trades",
        f"Price{' of the first symbol' if several else ''} over {ticks:,} ticks: from {mid[0].item():.2f} to"
        f" {mid[-1].item():.2f}, between {mid.min().item():.2f} and {mid.max().item():.2f}. {spoken(policy)} buys in"
        f" {int((traded > 0).sum()):,} ticks and sells in {int((traded < 0).sum()):,}. {headlines} headlines.",
        f"Triangles: trades of the policy, at its mean price{', or at the mid where symbols traded at once' if several else ''}. "
        + ("An order meets the book of the tick before, so a triangle may lie outside the quotes of its own tick. ")
        * (config.execution == "book")
        + ("Beneath: headlines, by the effect that they publicly imply. " if headlines else "No headline came. ")
        + _INFORMATION[config.information],
        figure.update_layout(hovermode="x unified"),
        height=460,
        over_time=True,
    )


def _book(trace: Trace) -> PageFigure:
    sizes = trace.depth.abs()[trace.depth != 0].to(torch.float64)
    full = max(1, round(torch.quantile(sizes, _FULL).item())) if len(sizes) else 1
    low, high = trace.depth_price[0].item(), trace.depth_price[-1].item()
    step = (trace.depth_price[1] - trace.depth_price[0]).item() if len(trace.depth_price) > 1 else 0.0
    figure = time_figure(len(trace.tick) - 1, [("", 1.0)])
    figure.add_trace(_side(trace, trace.depth, "bids", LIGHT.buy, full))
    figure.add_trace(_side(trace, -trace.depth, "asks", LIGHT.sell, full))
    figure.add_trace(line(trace.mid, "mid price", 1.4, LIGHT.text))
    figure.update_yaxes(showgrid=False, tickformat=".2f", range=[low - step / 2, high + step / 2])
    return PageFigure(
        "book",
        "Depth of the book",
        "The standing order book over time: bids below and asks above the mid price, "
        f"between {low:.2f} and {high:.2f}.",
        f"Shares that rest at each price, in steps of {step:.3g}, at {len(trace.depth_time)} moments of the episode: bids"
        f" in green, asks in purple. The fullest colour stands for {full:,} shares or more.",
        figure,
        height=380,
        over_time=True,
    )


def _account(trace: Trace, policy: str) -> PageFigure:
    held, symbols, fallen = trace.position, trace.position.shape[1], drawdown(trace.equity.unsqueeze(0))[0]
    rows = ("position, shares", 0.36), ("equity, currency", 0.36), ("drawdown", 0.28)
    figure = time_figure(len(trace.tick) - 1, rows)

    def area(colour: str) -> dict[str, Any]:
        return {"fill": "tozeroy", "fillcolor": faded(colour, 0.18), "showlegend": False}

    if symbols == 1:
        lines = [line(held, "position", 1.5, LIGHT.price, **area(LIGHT.price))]
    else:
        colours = itertools.cycle(LIGHT.series)
        lines = [line(held[:, [at]], f"symbol {at}", 1.5, next(colours)) for at in range(symbols)]
    for each in lines:
        figure.add_trace(each.update(line_shape="hv"), row=1, col=1)
    equity = line(trace.equity, "equity", 1.5, LIGHT.price, digits=",.2f", showlegend=False)
    below = line(-100.0 * fallen, "drawdown", 1.2, LIGHT.value, digits=".2f", **area(LIGHT.value))
    figure.add_trace(equity, row=2, col=1)
    figure.add_trace(below, row=3, col=1)
    figure.update_yaxes(row=1, nticks=5, tickformat=",d")
    figure.update_yaxes(row=2, nticks=5, tickformat=",.2~f")
    figure.update_yaxes(row=3, nticks=4, tickformat=".3~r", ticksuffix=f"{SPACE}%")
    legend = {"xref": "paper", "yref": "paper", "y": 1.06, "yanchor": "bottom"}
    return PageFigure(
        "account",
        "Position, equity, drawdown",
        f"Account of {spoken(policy)}: its position lies between {held.min().item():,} and {held.max().item():,} shares;"
        f" equity changes by {money((trace.equity[-1] - trace.equity[0]).item())};"
        f" the deepest drawdown is {number(100.0 * fallen.max().item())}{SPACE}%.",
        "Drawdown is how far equity lies below its highest value so far.",
        figure.update_layout(hovermode="x unified", margin_t=24, legend=legend),
        height=480,
        over_time=True,
    )


def _trades(trace: Trace, chosen: Tensor, name: str, symbol: str, colour: str) -> go.Scatter:
    """A triangle for each tick with a trade, at the mid where the price is not known."""
    paid = trace.fill_price[chosen, 0]
    shares, held = trace.filled[chosen, 0].abs(), trace.position[chosen, 0]
    crowd = max(1, int((trace.filled[:, 0] != 0).sum()))
    size = _TRADE_SIZE * min(1.0, max(1.0 / 3.0, (_FEW_TRADES / crowd) ** 0.5))
    digits = ".3f" if float(trace.mid.min()) >= 1.0 else ".4g"
    return go.Scatter(
        x=trace.tick[chosen].numpy(),
        y=torch.where(paid.isnan(), trace.mid[chosen, 0], paid).numpy(),
        name=name,
        mode="markers",
        legendrank=2,
        marker={"symbol": symbol, "size": size, "color": colour, "line": outline(size / 10.0)},
        text=[
            minus(f"{name[:-1]} {count:,}{'' if isnan(at) else f' at {at:,{digits}}'}, then holds {after:,}")
            for count, at, after in zip(shares.tolist(), paid.tolist(), held.tolist(), strict=True)
        ],
        hovertemplate="%{text}<extra></extra>",
    )


def _headlines(trace: Trace) -> go.Scatter:
    """A pin for each headline, up or down by its effect in per cent; a larger effect has a larger head."""
    came = trace.news[:, 0] != 0.0
    effect = 100.0 * trace.news[came, 0]
    smallest, largest = _NEWS_SIZES
    size = smallest + (largest - smallest) * (effect.abs() / effect.abs().max()).sqrt()
    return go.Scatter(
        x=trace.tick[came].numpy(),
        y=effect.numpy(),
        name="news",
        legendrank=5,
        mode="markers",
        marker={"size": size.numpy(), "color": LIGHT.news, "line": outline(1)},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": (-effect).clamp(min=0.0).numpy(),
            "arrayminus": effect.clamp(min=0.0).numpy(),
            "color": LIGHT.news,
            "thickness": 1.5,
            "width": 0,
        },
        hovertemplate=f"headline %{{y:+.2f}}{SPACE}%<extra></extra>",
    )


def _side(trace: Trace, signed: Tensor, name: str, colour: str, full: int) -> go.Heatmap:
    """One side of the book."""
    return go.Heatmap(
        x=trace.depth_time.numpy(),
        y=trace.depth_price.numpy(),
        z=torch.where(signed > 0, signed.to(torch.float32), torch.nan).T.numpy(),
        zmin=0.0,
        zmax=full,
        name=name,
        colorscale=[[share, faded(colour, 0.12 + 0.88 * share**0.5)] for share in _SHADES],
        showscale=False,
        hoverongaps=False,
        hovertemplate=f"tick %{{x:,d}}, price %{{y:.2f}}<br>{name} %{{z:,d}} shares<extra></extra>",
    )
