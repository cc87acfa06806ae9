"""Figures that compare policies, and what all figures share: Plotly's template, and a figure with its texts.

Figures are drawn once, in the light palette; page.js replaces each of its colours by the dark one where the reader prefers that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from statistics import fmean
from typing import Any

import plotly.graph_objects as go
import plotly.io
from markupsafe import Markup
from plotly.subplots import make_subplots
from torch import Tensor

from torchgym.visual.palette import DARK, LIGHT
from torchgym.visual.report.formats import SPACE, axis_label, money, number, p_value, spoken

COSTS = ("spread", "impact", "fees", "borrow")
_PARTS = ("value", "convergence", *COSTS, "marking")  # of a profit, in the order in which they are drawn
_GAINS = {"value": "value moved", "convergence": "price moved relative to value"}  # parts whose names say little
_SIGNIFICANT = 0.05  # adjusted p below which a difference is significant
_ROW = 44  # pixels per policy
_MANY = 600  # episodes beyond which only outliers are drawn one by one
_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
_MUTED = {"color": LIGHT.muted, "size": 12}
_AXIS = {
    "title": {"font": _MUTED, "standoff": 8},
    "tickfont": {"color": LIGHT.muted, "size": 11},
    "gridcolor": LIGHT.grid,
    "linecolor": LIGHT.grid,
    "zeroline": False,
    "zerolinecolor": LIGHT.muted,
    "zerolinewidth": 1,
    "ticks": "",
    "fixedrange": True,
}
TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": LIGHT.background,
        "plot_bgcolor": LIGHT.background,
        "font": {"family": _FONT, "size": 12, "color": LIGHT.text},
        "margin": {"l": 56, "r": 14, "t": 8, "b": 38},
        "hoverlabel": {"bgcolor": LIGHT.surface, "bordercolor": LIGHT.grid, "font": {"color": LIGHT.text}},
        "legend": {
            **{"orientation": "h", "font_size": 13},
            **{"xref": "container", "x": 0.0, "yref": "container", "y": 1.0, "yanchor": "top"},
        },
        "xaxis": {**_AXIS, "nticks": 8},
        "yaxis": _AXIS,
        "colorway": LIGHT.series,
    }
)
plotly.io.templates["torchgym"] = TEMPLATE


@dataclass(frozen=True)
class PageFigure:
    """A figure with its texts."""

    name: str  # of its element on the page
    title: str
    label: str  # what it shows, for readers who cannot see it
    caption: str  # beneath it
    figure: go.Figure
    height: int  # pixels
    over_time: bool = False  # zooms together with the others that are

    @property
    def spec(self) -> Markup:
        """Data and layout as JSON, in which Plotly escapes what could end a script element."""
        return Markup(plotly.io.to_json(self.figure, validate=False))


def time_figure(last: int, rows: Sequence[tuple[str, float]]) -> go.Figure:
    """Empty rows (title, share of the height) over the ticks 0 to `last`."""
    titles, heights = zip(*rows, strict=True)
    figure = make_subplots(
        len(rows), 1, shared_xaxes=True, row_heights=heights, subplot_titles=titles, vertical_spacing=0.1
    )
    figure.update_annotations(x=0.0, xanchor="left", font=_MUTED)
    figure.update_xaxes(range=[0, last], fixedrange=False, showgrid=False, tickformat=",d")
    figure.update_xaxes(title_text="tick", row=len(rows))
    return figure.update_layout(template="torchgym", uirevision="kept")


def line(
    values: Tensor, name: str, width: float, colour: str, dash: str = "solid", digits: str = ",.6~g", **more: Any
) -> go.Scatter:
    """A line over all ticks, of the first symbol."""
    return go.Scatter(
        y=(values if values.dim() == 1 else values[:, 0]).numpy(),
        name=name,
        mode="lines",
        line={"width": width, "color": colour, "dash": dash},
        hovertemplate=f"{name} %{{y:{digits}}}<extra></extra>",
        **more,
    )


def faded(colour: str, opacity: float) -> str:
    """A colour `#RRGGBB` through which the ground shows.

    >>> faded("#0072B2", 0.5)
    'rgba(0,114,178,0.5)'
    """
    return f"{_rgba(colour)},{opacity:g})"


def outline(width: float) -> dict[str, Any]:
    """The edge of a marker or a bar, in the colour of the ground."""
    return {"color": LIGHT.background, "width": width}


def dark_colours() -> dict[str, str]:
    """Every light colour, as it begins in a figure -> the dark one."""
    (*light, light_series), (*dark, dark_series) = astuple(LIGHT), astuple(DARK)
    pairs = dict(zip((*light, *light_series), (*dark, *dark_series), strict=True))
    return pairs | {_rgba(light): _rgba(dark) for light, dark in pairs.items()}


def _rgba(colour: str) -> str:
    return f"rgba({','.join(str(part) for part in bytes.fromhex(colour[1:]))}"


def ordered(evaluation: Mapping[str, Any]) -> list[str]:
    """Names of the policies, the agent first."""
    return sorted(evaluation["policies"], key=lambda name: name != evaluation.get("agent"))


def part_name(part: str) -> str:
    """A part of the profit in words."""
    return _GAINS.get(part, spoken(part))


def parts_of(evaluation: Mapping[str, Any]) -> list[str]:
    """Parts of any policy's profit, known ones first."""
    present = {part for row in evaluation["policies"].values() for part in row["attribution"]}
    return [*(part for part in _PARTS if part in present), *sorted(present - set(_PARTS))]


def is_significant(row: Mapping[str, Any]) -> bool:
    """Whether the two policies of a comparison differ significantly."""
    return row["p_adjusted"] is not None and row["p_adjusted"] < _SIGNIFICANT


def lead_figure(evaluation: Mapping[str, Any]) -> PageFigure:
    """Mean difference of profit between one policy and each other one, of at least one comparison."""
    rows, ahead = evaluation["comparisons"], spoken(evaluation["comparisons"][0]["agent"])
    colours = [
        LIGHT.muted if not is_significant(row) else LIGHT.price if row["lead"] > 0.0 else LIGHT.value for row in rows
    ]
    inside = [colour if is_significant(row) else LIGHT.background for row, colour in zip(rows, colours, strict=True)]
    figure = _by_policy([row["baseline"] for row in rows], "lead per episode, currency")
    for place, (row, colour) in enumerate(zip(rows, colours, strict=True)):
        line = {"color": colour, "width": 2.5}
        figure.add_scatter(x=[row["low"], row["high"]], y=[place] * 2, mode="lines", line=line, hoverinfo="skip")
    figure.add_scatter(
        x=[row["lead"] for row in rows],
        y=list(range(len(rows))),
        mode="markers",
        marker={"size": 11, "color": inside, "opacity": 1.0, "line": {"color": colours, "width": 2.5}},
        text=[f"{money(row['lead'])}, adjusted p {p_value(row['p_adjusted'])}" for row in rows],
        hovertemplate="%{text}<extra></extra>",
    )
    ends = [row[end] for row in rows for end in ("low", "lead", "high") if row[end] is not None]
    leads = [f"{money(row['lead'])} over {spoken(row['baseline'])}" for row in rows]
    return PageFigure(
        "leads",
        f"Lead of {ahead}",
        f"Mean lead of {ahead} on the same episodes: {'; '.join(leads)}.",
        f"Mean difference of profit on the same episodes, with its 95{SPACE}% interval. A filled dot: significantly ahead (blue)"
        f" or behind (orange), at an adjusted p below {_SIGNIFICANT}; an open grey dot: the difference is not significant.",
        figure.update_layout(showlegend=False, xaxis_range=_room([0.0, *ends])),
        height=_height(rows, 60),
    )


def attribution_figure(evaluation: Mapping[str, Any]) -> PageFigure:
    """Mean profit of each policy by its parts."""
    names = ordered(evaluation)
    rows = [evaluation["policies"][name] for name in names]
    means, places = [fmean(row["profit"]) for row in rows], list(range(len(names)))
    figure = _by_policy(names, "currency per episode")
    for index, part in enumerate(parts_of(evaluation)):
        name = part_name(part)
        figure.add_bar(
            x=[row["attribution"].get(part, 0.0) for row in rows],
            y=places,
            orientation="h",
            name=name,
            marker={"color": LIGHT.series[index % len(LIGHT.series)], "line": outline(1)},
            hovertemplate=f"{axis_label(name)} %{{x:+,.2f}}<extra></extra>",
        )
    figure.add_scatter(
        x=means,
        y=places,
        name="profit",
        mode="markers",
        marker={"size": 10, "color": LIGHT.text, "line": outline(2)},
        hovertemplate="profit %{x:+,.2f}<extra></extra>",
    )
    profits = [f"{spoken(name)} {money(mean)}" for name, mean in zip(names, means, strict=True)]
    rested = ""
    if evaluation["config"].get("quotes"):
        rested = (
            " Read spread and impact together where orders rested: every share is charged half the spread first, and an order"
            " that waited for its price gets that back, and more, under impact."
        )
    return PageFigure(
        "attribution",
        "Where the profit came from",
        f"Mean profit per episode by gains and costs: {'; '.join(profits)}.",
        "Gains from holding: the hidden value moved, and the price moved nearer to that value or away from it. Costs: half the"
        f" spread, the impact of walking the book, commission and borrow. The dot is the sum.{rested}",
        figure.update_layout(barmode="relative", bargap=0.42),
        height=_height(names, 190),
    )


def distribution_figure(evaluation: Mapping[str, Any]) -> PageFigure:
    """Profit of every episode by policy."""
    names, seed, count = ordered(evaluation), evaluation["seed"], evaluation["episodes"]
    profits = {name: evaluation["policies"][name]["profit"] for name in names}
    figure = _by_policy(names, "profit of an episode, currency")
    for place, (name, profit) in enumerate(profits.items()):
        colour = LIGHT.price if name == evaluation.get("agent") else LIGHT.muted
        figure.add_box(
            x=profit,
            y0=place,
            orientation="h",
            boxpoints="all" if count <= _MANY else "outliers",
            jitter=0.55,
            pointpos=0.0,
            boxmean=True,
            width=0.6,
            fillcolor=faded(colour, 0.10),
            line={"color": colour, "width": 1.4},
            marker={"color": faded(colour, 0.45), "size": 4},
            text=[f"episode {index}, seed {seed + index}" for index in range(len(profit))],
            hovertemplate="%{text}: %{x:+,.2f}<extra></extra>",
        )
    ranges = [f"{spoken(name)} from {money(min(row))} to {money(max(row))}" for name, row in profits.items()]
    return PageFigure(
        "distribution",
        "Profit of every episode",
        f"Distribution of profit over {count:,} episodes: {'; '.join(ranges)}.",
        "Each dot is an episode. The box holds the middle half, its line is the median, the dashed line the mean. All policies"
        " played the same episodes.",
        figure.update_layout(showlegend=False),
        height=_height(names, 60),
    )


def learning_figure(curve: Sequence[Mapping[str, Any]]) -> PageFigure:
    """Reward during training; rows as of `torchgym.training.Run.curve`, at least one."""
    figure, last = go.Figure(), curve[-1]
    for column, name, colour, width, size in (
        ("training_return", "while exploring", LIGHT.muted, 0.8, 2),
        ("validation_return", "validation episodes", LIGHT.price, 2.0, 6),
    ):
        rows = [row for row in curve if row.get(column) is not None]
        figure.add_scatter(
            x=[row["frames"] for row in rows],
            y=[row[column] for row in rows],
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": width},
            marker={"size": size},
            hovertemplate=f"{name} %{{y:+,.2f}}<extra></extra>",
        )
    ends = [1.96 * row["validation_error"] for row in curve if row.get("validation_error") is not None]
    if ends:  # of a single episode there are none
        bars = {"array": ends, "thickness": 1.0, "width": 0}
        figure.update_traces(error_y=bars, selector={"name": "validation episodes"})
    figure.update_layout(template="torchgym", hovermode="x unified", uirevision="kept", margin_b=46)
    figure.update_xaxes(title_text="decisions seen in training", showgrid=False, tickformat="~s")
    figure.update_yaxes(title_text="reward per episode", zeroline=True)
    return PageFigure(
        "learning",
        "Learning curve",
        f"Reward per episode during training, over {number(last['frames'])} decisions;"
        f" {money(last.get('training_return'))} at its end.",
        "Mean sum of rewards per episode during training: with exploration, estimated from the decisions of each update; and in"
        " validation, where the agent takes its likeliest action, on episodes that it never trains on."
        + (" Upright lines are 95 % intervals." if ends else "")
        + " The profits above come from other episodes.",
        figure,
        height=360,
    )


def _by_policy(names: Sequence[str], title: str) -> go.Figure:
    """Empty rows of policies, the first on top, over an axis of currency."""
    figure = go.Figure().update_layout(template="torchgym", uirevision="kept", margin={"l": 20, "b": 42})
    figure.update_xaxes(title_text=title, zeroline=True, tickformat=",~r")
    return figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[f"{axis_label(name)}  " for name in names],
        tickfont={"color": LIGHT.text, "size": 12},
        range=[len(names) - 0.5, -0.5],
        automargin=True,
        showgrid=False,
    )


def _room(values: Sequence[float]) -> list[float]:
    """Ends of an axis that shows these, and a little more on both sides."""
    low, high = min(values), max(values)
    room = 0.04 * (high - low or 1.0)
    return [low - room, high + room]


def _height(rows: Sequence[Any], room: int) -> int:
    return max(200, room + _ROW * len(rows))
