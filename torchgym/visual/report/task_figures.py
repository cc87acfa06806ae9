"""Figures of the traced episode that only some tasks and action schemes have: quotes and their fills, execution, weights."""

from __future__ import annotations

import itertools
from typing import Any

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.lab.execution import costs_of, schedule
from torchgym.lab.fills import markouts, profit
from torchgym.lab.performance.trace import Trace
from torchgym.sim import actions
from torchgym.sim.state import SELECTION_TICKS
from torchgym.visual.palette import LIGHT
from torchgym.visual.report.figures import PageFigure, faded, line, outline, time_figure
from torchgym.visual.report.formats import SPACE, capitalised, minus, money, number, spoken

_HORIZONS = (0, 1, 3, 10, 30, 100, 300)  # ticks
_RISK_AVERSION = 1e-7  # per point and share, of variance: of the schedule that is drawn
_ABOVE = {"xref": "paper", "yref": "paper", "y": 1.08, "yanchor": "bottom"}  # a legend above the title of the first row
_SIDES = (("bid", LIGHT.buy), ("ask", LIGHT.sell))


def quote_figures(config: MarketConfig, trace: Trace, policy: str) -> list[PageFigure]:
    """The learner's quotes and their fills, where its action scheme lets orders rest."""
    return [_quotes(trace, policy)] if trace.places and actions.scheme(config).rests is not None else []


def task_figures(config: MarketConfig, trace: Trace, policy: str) -> list[PageFigure]:
    """Where a maker's profit came from, how shares were worked off, how the equity was shared out: what there is of it."""
    space, found = actions.space(config), []
    if trace.places and actions.scheme(config).rests is not None and bool(trace.filled.any()):
        found.append(_profit(config, trace, policy))
    if config.starting_shares:
        found.append(_execution(config, trace, policy))
    if isinstance(space, actions.Box) and space.cash:
        found.append(_weights(trace, policy))
    return found


def _best(trace: Trace, side: int) -> tuple[Tensor, Tensor]:
    """Price of the first symbol's best own order of a side, not a number without one, and the shares in front of it, [T + 1]."""
    price, sign = trace.places["price"][:, 0, side], 1 - 2 * side
    best = torch.where(price.isnan(), -torch.inf, sign * price).argmax(-1, keepdim=True)
    front = (trace.places["ahead"] + trace.places["older"])[:, 0, side].to(torch.float64)
    return price.gather(-1, best)[:, 0], torch.where(price.isnan(), torch.nan, front).gather(-1, best)[:, 0]


def _quotes(trace: Trace, policy: str) -> PageFigure:
    rows = ("", 0.6), ("position, shares", 0.2), ("shares ahead in the queue", 0.2)
    figure = time_figure(len(trace.tick) - 1, rows)
    market: dict[str, Any] = {"legendgroup": "market", "fillcolor": faded(LIGHT.price, 0.18), "legendrank": 6}
    lines = [
        line(trace.bid, "best bid", 0.0, LIGHT.price, showlegend=False, **market),
        line(trace.ask, "best ask", 0.0, LIGHT.price, fill="tonexty", **market).update(name="bid to ask"),
        line(trace.mid, "mid price", 1.2, LIGHT.price, legendrank=1),
    ]
    for side, (name, colour) in enumerate(_SIDES):
        price, ahead = _best(trace, side)
        lines.append(line(price, f"own {name}", 1.3, colour, legendrank=2))
        front = line(ahead, f"ahead of the {name}", 1.2, colour, digits=",d", showlegend=False)
        figure.add_trace(front.update(line_shape="hv"), row=3, col=1)
    for each in lines:
        figure.add_trace(each.update(line_shape="hv"), row=1, col=1)
    counts = []
    for marks in _fills(trace):
        counts.append(f"{marks.name} {len(marks.x)} times")
        if len(marks.x):
            figure.add_trace(marks, row=1, col=1)
    area: dict[str, Any] = {"fill": "tozeroy", "fillcolor": faded(LIGHT.price, 0.18), "showlegend": False}
    figure.add_trace(line(trace.position, "position", 1.5, LIGHT.price, **area).update(line_shape="hv"), row=2, col=1)
    figure.update_yaxes(row=1, tickformat=".2f")
    figure.update_yaxes(row=2, nticks=4, tickformat=",d")
    figure.update_yaxes(row=3, nticks=4, tickformat=",d", rangemode="tozero")
    return PageFigure(
        "quotes",
        "Quotes and fills",
        f"The best bid and ask of {spoken(policy)} around the mid price over {len(trace.tick) - 1:,} ticks:"
        f" {', '.join(counts)}. Beneath: its position and the shares that stood before its best orders.",
        "Steps: the policy's best bid (green) and ask (purple), as they stand at the end of a tick; none where it was filled"
        " whole. Triangles: fills, up where it bought; full ones of orders that rested, open ones of orders at market. A resting"
        " order fills at the auction's price, which may be better than its own. Lowest: shares at better prices, and older at"
        " the same price. Zoom in to follow single fills.",
        figure.update_layout(hovermode="x unified"),
        height=620,
        over_time=True,
    )


def _fills(trace: Trace) -> list[go.Scatter]:
    """Marks of what was bought and sold by resting orders and at market, of the first symbol, four of them."""
    shares, price = trace.places["filled"][:, 0], trace.places["fill_price"][:, 0]
    money = torch.where(shares != 0, shares * price, 0.0).sum(-1)  # [T + 1, 2], of each side
    resting, all_money = shares.sum(-1), trace.filled[:, 0] * trace.fill_price[:, 0]
    taken = trace.filled[:, 0] - resting.sum(-1)
    at_market = torch.stack([taken.clamp(min=0), taken.clamp(max=0)], -1)
    rest = torch.stack([all_money - money.sum(-1)] * 2, -1)
    kinds = (("resting", resting, money, ""), ("at market", at_market, rest, "-open"))
    marks = []
    for (how, count, paid, style), (side, verb) in itertools.product(kinds, enumerate(("bought", "sold"))):
        where = count[:, side] != 0
        own, at = count[where, side], paid[where, side] / count[where, side]
        colour = _SIDES[side][1]
        marks.append(
            go.Scatter(
                x=trace.tick[where].numpy(),
                y=torch.where(at.isnan(), trace.mid[where, 0], at).numpy(),
                name=f"{verb} {how}",
                mode="markers",
                legendrank=3,
                marker={
                    "symbol": f"triangle-{'down' if side else 'up'}{style}",
                    "size": 7,
                    "color": colour,
                    "line": {"color": colour, "width": 1.5} if style else outline(0.5),
                },
                text=[f"{verb} {abs(n):,} {how} at {p:,.3f}" for n, p in zip(own.tolist(), at.tolist(), strict=True)],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    return marks


def _profit(config: MarketConfig, trace: Trace, policy: str) -> PageFigure:
    parts, shares = profit(trace.fills, SELECTION_TICKS), trace.filled.abs().sum().item()
    unit = 0.5 * config.point_size
    names = ("spread", "selection", "inventory", "fees")
    values = [getattr(parts, name).item() * unit for name in names]
    total = parts.total.item() * unit
    edge = 0.5 * parts.spread.item() / shares
    kept = [edge, *(edge + markouts(trace.fills, _HORIZONS)[:, 0]).tolist()]
    figure = make_subplots(
        2, 1, row_heights=[0.5, 0.5], vertical_spacing=0.2, subplot_titles=["profit, currency", "edge, points a share"]
    )
    figure.update_annotations(x=0.0, xanchor="left", font={"color": LIGHT.muted, "size": 12})
    figure.add_trace(
        go.Waterfall(
            x=[*(capitalised(name) for name in names), "Profit"],
            y=[*values, 0.0],
            measure=["relative"] * len(names) + ["total"],
            text=[money(value) for value in (*values, total)],
            textposition="outside",
            textfont={"color": LIGHT.text},
            increasing={"marker": {"color": LIGHT.price}},
            decreasing={"marker": {"color": LIGHT.value}},
            totals={"marker": {"color": LIGHT.text}},
            connector={"line": {"color": LIGHT.muted, "width": 1}},
            hovertemplate="%{x} %{text}<extra></extra>",
            cliponaxis=False,
        ),
        row=1,
        col=1,
    )
    labels = ["before", *(f"+{ticks}" for ticks in _HORIZONS)]
    figure.add_trace(
        go.Scatter(
            x=labels,
            y=kept,
            mode="lines+markers+text",
            text=[minus(f"{round(value, 1) + 0.0:+.1f}") for value in kept],
            textposition="top center",
            textfont={"color": LIGHT.text},
            line={"color": LIGHT.price, "width": 1.8},
            marker={"size": 7},
            hovertemplate="against the mid %{x}: %{y:+.3f} points a share<extra></extra>",
            cliponaxis=False,
        ),
        row=2,
        col=1,
    )
    figure.update_layout(template="torchgym", uirevision="kept", showlegend=False, margin_t=30, bargap=0.5)
    figure.update_xaxes(showgrid=False)
    figure.update_xaxes(
        type="category", title_text="against the mid before the tick of the fill, and so many ticks after it", row=2
    )
    figure.update_yaxes(zeroline=True, nticks=5, tickformat=",~r")
    levels = [0.0, *itertools.accumulate(values)]
    figure.update_yaxes(row=1, range=_room(levels))
    figure.update_yaxes(row=2, range=_room([0.0, *kept]))
    told = ", ".join(f"{name} {money(value)}" for name, value in zip(names, values, strict=True))
    edges = ", ".join(f"{label} {minus(f'{value:+.2f}')}" for label, value in zip(labels, kept, strict=True))
    return PageFigure(
        "fills",
        "What the fills earned",
        f"Parts of the profit of {spoken(policy)} in this episode: {told}; together {money(total)}. Points a share by which its"
        f" fills were better than the mid: {edges}.",
        f"This episode alone, {int((trace.filled != 0).sum()):,} fills of {shares:,} shares; the four parts add up to the profit"
        " exactly, positions counted at the mid. Spread: what fills earned against the mid before their tick. Selection: what the"
        f" mid then moved against them, up to {SELECTION_TICKS} ticks after. Inventory: all other moves of the mid on what was"
        " held. Beneath: how far fills were on the better side of the mid before their tick, and of later ones.",
        figure,
        height=520,
    )


def _room(values: list[float]) -> list[float]:
    """Ends of an axis that shows these and a line of text above and below."""
    low, high = min(values), max(values)
    room = 0.2 * (high - low or 1.0)
    return [low - room, high + room]


def _execution(config: MarketConfig, trace: Trace, policy: str) -> PageFigure:
    every, fills = config.ticks_per_action, trace.fills
    mid, held = fills.mid_x2[:, 0].to(torch.float64) * 0.5, trace.position
    arrival = (held[0] * mid[0]).sum()
    begins = torch.zeros(1, dtype=torch.float64, device="cpu")
    earned = torch.cat([begins, -(fills.paid + fills.charged)[:, 0].cumsum(0).to(torch.float64)])
    short = 1e4 * (arrival - earned - (held * mid).sum(-1)) / arrival.abs()
    fetched = trace.equity[-1] / config.point_size - config.starting_cash
    end = (1e4 * (arrival - fetched) / arrival.abs()).item()
    decisions = config.max_ticks // every
    figure = time_figure(len(trace.tick) - 1, [("shares left", 0.6), ("shortfall, bp of the arrival price", 0.4)])
    x = every * torch.arange(decisions + 1, device="cpu").numpy()
    slices, best = (
        schedule(costs_of(config), config.starting_shares, decisions, risk) for risk in (0.0, _RISK_AVERSION)
    )
    for left, name, colour, dash in (
        (slices, "equal slices", LIGHT.muted, "dot"),
        (best, "Almgren–Chriss", LIGHT.value, "5px,2px"),
    ):
        reference = line(left * held.shape[1], name, 1.4, colour, dash, ",.0f")
        figure.add_trace(reference.update(x=x, line_shape="vh"), row=1, col=1)
    left = line(held.sum(-1), spoken(policy), 1.8, LIGHT.price, digits=",d")
    figure.add_trace(left.update(line_shape="vh"), row=1, col=1)
    figure.add_trace(line(short, "shortfall", 1.5, LIGHT.price, digits="+.2f", showlegend=False), row=2, col=1)
    figure.update_yaxes(row=1, rangemode="tozero", nticks=5, tickformat=",d")
    figure.update_yaxes(row=2, nticks=5, zeroline=True, tickformat=".3~r")
    return PageFigure(
        "execution",
        "Working off the shares",
        f"{capitalised(spoken(policy))} begins with {int(held[0].sum()):,} shares and ends with {int(held[-1].sum()):,}, beside"
        f" two schedules. The shortfall at the end is {number(end)} basis points.",
        "Dotted: equal slices. Dashed: the schedule of Almgren and Chriss (2001) at a risk aversion of"
        f" {_RISK_AVERSION:.7f} per point and share. Shortfall: what the shares have brought less than at the mid of the"
        " beginning, those that are left counted at the mid, in basis points of their worth then; fees are in it. At the end,"
        f" with those that are left counted as the market marks them: {number(end)}{SPACE}bp.",
        figure.update_layout(hovermode="x unified", margin_t=24, legend=_ABOVE),
        height=440,
        over_time=True,
    )


def _weights(trace: Trace, policy: str) -> PageFigure:
    parts = (trace.position * trace.mid / trace.equity.unsqueeze(-1)).T
    cash, several = 1.0 - parts.sum(0), bool((parts < 0.0).any())
    figure = time_figure(len(trace.tick) - 1, [("", 1.0)])
    rows = [("cash", cash), *((f"symbol {at}", part) for at, part in enumerate(parts))]
    colours = [LIGHT.grid, *itertools.islice(itertools.cycle(LIGHT.series), len(parts))]
    for at, ((name, part), colour) in enumerate(zip(rows, colours, strict=True)):
        own = line(100.0 * part, name, 1.5 if several else 0.0, colour if at else LIGHT.muted, digits=".1f")
        if not several:
            shade = faded(colour, 0.75 if at <= len(LIGHT.series) else 0.35)
            own.update(stackgroup="all", fillcolor=shade)
        figure.add_trace(own.update(line_shape="hv"), row=1, col=1)
    figure.update_yaxes(tickformat=".3~r", ticksuffix=f"{SPACE}%", range=None if several else [0.0, 100.0])
    ends = ", ".join(f"{name} {number(100.0 * part[-1].item())}{SPACE}%" for name, part in rows)
    return PageFigure(
        "weights",
        "Weights over time",
        f"How {spoken(policy)} shares out its equity; at the end {ends}.",
        "What is held of each symbol at the mid, and cash, in per cent of the equity"
        + (", negative short." if several else "; from the bottom: cash, then the symbols in order."),
        figure.update_layout(hovermode="x unified", margin_t=16, legend={**_ABOVE, "y": 1.02, "traceorder": "normal"}),
        height=420,
        over_time=True,
    )
