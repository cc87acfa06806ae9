"""Figures that compare policies: where profits came from, how they spread over episodes, who leads, and how the agent learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from torchgym.visual.palette import Look
from torchgym.visual.report.figure import Picture, axis, fade, layout
from torchgym.visual.report.words import SPACE, chance, interval, label, money, number, spoken

# What the parts of a profit are called, in the order they are drawn.
PARTS = {
    "value": "value moved",
    "convergence": "price moved relative to value",
    "spread": "spread",
    "impact": "impact",
    "fees": "fees",
    "borrow": "borrow",
    "marking": "marking",
}
COSTS = ("spread", "impact", "fees", "borrow")
_CLEAR = 0.05  # adjusted p below which one policy is told apart from another
_MARGIN = {"l": 20, "r": 16, "t": 8, "b": 42}  # the names of policies make their own room
_ROW = 44  # pixels per policy
_DENSE = 600  # episodes beyond which only outliers are drawn one by one


def ordered(evaluation: Mapping[str, Any]) -> list[str]:
    """Names of the policies, the agent first."""
    names = list(evaluation["policies"])
    return sorted(names, key=lambda name: name != evaluation.get("agent"))


def parts_of(evaluation: Mapping[str, Any]) -> list[str]:
    """Parts that any policy's profit has, known ones first."""
    found = {part for row in evaluation["policies"].values() for part in row["attribution"]}
    return [*(part for part in PARTS if part in found), *sorted(found - set(PARTS))]


def _said(part: str) -> str:
    return PARTS.get(part, spoken(part))


def attribution(evaluation: Mapping[str, Any]) -> Picture:
    """Mean profit of each policy, taken apart."""
    names, parts = ordered(evaluation), parts_of(evaluation)
    rows = [evaluation["policies"][name] for name in names]
    means = [_mean(row["profit"]) for row in rows]
    told = [f"{spoken(name)} {money(mean)}" for name, mean in zip(names, means, strict=True)]

    def draw(look: Look) -> go.Figure:
        bars = [
            go.Bar(
                x=[row["attribution"].get(part, 0.0) for row in rows],
                y=list(range(len(names))),
                orientation="h",
                name=_said(part),
                marker={"color": look.series[index % len(look.series)], "line": {"color": look.background, "width": 1}},
                hovertemplate=f"{label(_said(part))} %{{x:+,.2f}}<extra></extra>",
            )
            for index, part in enumerate(parts)
        ]
        total = go.Scatter(
            x=means,
            y=list(range(len(names))),
            name="profit",
            mode="markers",
            marker={"symbol": "circle", "size": 10, "color": look.text, "line": {"color": look.background, "width": 2}},
            hovertemplate="profit %{x:+,.2f}<extra></extra>",
        )
        figure = go.Figure([*bars, total])
        figure.layout = _across(look, names, "currency per episode", barmode="relative", bargap=0.42)
        return figure

    return Picture(
        "attribution",
        "Where the profit came from",
        f"Mean profit per episode, taken apart into gains and costs: {'; '.join(told)}.",
        "Gained by holding: as the hidden value moved, and as the price moved nearer to that value or away from it. Paid:"
        " half the spread, the impact of walking the book, commission and borrow. The dot is the sum.",
        draw,
        *_heights(names, 70),
    )


def distribution(evaluation: Mapping[str, Any]) -> Picture:
    """Profit of every episode, policy by policy."""
    names = ordered(evaluation)
    profits = [evaluation["policies"][name]["profit"] for name in names]
    seed, count = evaluation["seed"], evaluation["episodes"]
    told = [
        f"{spoken(name)} from {money(min(row))} to {money(max(row))}" for name, row in zip(names, profits, strict=True)
    ]

    def draw(look: Look) -> go.Figure:
        boxes = []
        for place, (name, profit) in enumerate(zip(names, profits, strict=True)):
            colour = look.price if name == evaluation.get("agent") else look.muted
            boxes.append(
                go.Box(
                    x=profit,
                    y0=place,
                    orientation="h",
                    boxpoints="all" if count <= _DENSE else "outliers",
                    jitter=0.55,
                    pointpos=0.0,
                    boxmean=True,
                    width=0.6,
                    fillcolor=fade(colour, 0.10),
                    line={"color": colour, "width": 1.4},
                    marker={"color": fade(colour, 0.45), "size": 4, "line": {"width": 0}},
                    text=[f"episode {index}, seed {seed + index}" for index in range(len(profit))],
                    hoveron="boxes+points",
                    hovertemplate="%{text}: %{x:+,.2f}<extra></extra>",
                    showlegend=False,
                )
            )
        figure = go.Figure(boxes)
        figure.layout = _across(look, names, "profit of an episode, currency")
        return figure

    return Picture(
        "distribution",
        "Profit of every episode",
        f"Distribution of profit over {count:,} episodes: {'; '.join(told)}.",
        "Each dot is an episode. The box holds the middle half, its line is the median, the dashed line the mean. All policies"
        " played the same episodes.",
        draw,
        *_heights(names, 60),
    )


def is_clear(row: Mapping[str, Any]) -> bool:
    """Whether a comparison tells its two policies apart."""
    return row["p_adjusted"] is not None and row["p_adjusted"] < _CLEAR


def leads(evaluation: Mapping[str, Any]) -> Picture | None:
    """By how much one policy is ahead of each other one; None without comparisons."""
    rows = evaluation["comparisons"]
    if not rows:
        return None
    names = [row["policy"] for row in rows]
    told = [f"{money(row['lead'])} over {spoken(row['policy'])}" for row in rows]

    def draw(look: Look) -> go.Figure:
        colours = [_verdict(row, look) for row in rows]
        insides = [colour if is_clear(row) else look.background for row, colour in zip(rows, colours, strict=True)]
        marks = go.Scatter(
            x=[row["lead"] for row in rows],
            y=list(range(len(names))),
            mode="markers",
            marker={"size": 11, "color": insides, "opacity": 1.0, "line": {"color": colours, "width": 2.5}},
            hovertemplate="%{text}<extra></extra>",
            text=[f"{money(row['lead'])}, adjusted p {chance(row['p_adjusted'])}" for row in rows],
        )
        spans = [
            go.Scatter(
                x=[row["low"], row["high"]],
                y=[place, place],
                mode="lines",
                line={"color": colour, "width": 2.5},
                hoverinfo="skip",
            )
            for place, (row, colour) in enumerate(zip(rows, colours, strict=True))
            if interval("profit", row)
        ]
        figure = go.Figure([*spans, marks])
        figure.layout = _across(look, names, "lead per episode, currency")
        figure.update_xaxes(range=_reach(rows))
        return figure

    ahead = spoken(rows[0]["against"])
    return Picture(
        "leads",
        f"Lead of {ahead}",
        f"Mean lead of {ahead} on the same episodes: {'; '.join(told)}.",
        f"Mean difference of profit on the same episodes, with its 95{SPACE}% interval. A filled dot: clearly ahead (blue) or"
        f" behind (orange), at an adjusted p below {_CLEAR}; an open grey one: not told apart.",
        draw,
        *_heights(names, 60),
    )


def learning(curve: Sequence[Mapping[str, Any]]) -> Picture:
    """Reward while the agent learnt; rows as of `torchgym.training.Run.curve`."""
    last = curve[-1]

    def draw(look: Look) -> go.Figure:
        lines = []
        for column, name, colour in (
            ("training_return", "while exploring", look.muted),
            ("validation_return", "validation episodes", look.price),
        ):
            seen = [(row["frames"], row[column]) for row in curve if row.get(column) is not None]
            if seen:
                lines.append(
                    go.Scatter(
                        x=[frames for frames, _ in seen],
                        y=[value for _, value in seen],
                        name=name,
                        mode="lines+markers",
                        line={"color": colour, "width": 1.8},
                        marker={"color": colour, "size": 5},
                        hovertemplate=f"{name} %{{y:+,.2f}}<extra></extra>",
                    )
                )
        figure = go.Figure(lines)
        figure.layout = layout(
            look,
            hovermode="x unified",
            xaxis=axis(look, "decisions seen in training", showgrid=False, tickformat="~s", nticks=8),
            yaxis=axis(look, "reward per episode", zeroline=True, zerolinecolor=look.muted),
        )
        return figure

    return Picture(
        "learning",
        "Learning curve",
        f"Reward per episode during training, over {number(last['frames'])} decisions;"
        f" {money(last.get('training_return'))} at its end.",
        "Mean sum of rewards per episode while the agent learnt: with exploration, estimated from the decisions of each update;"
        " and in validation, where it takes the likeliest choice, on episodes that it never trains on.",
        draw,
        360,
        320,
    )


def _across(look: Look, names: Sequence[str], title: str, **more: Any) -> go.Layout:
    """Policies one below the other, currency from left to right."""
    return layout(
        look,
        margin=_MARGIN,
        hovermode="closest",
        xaxis=axis(look, title, zeroline=True, zerolinecolor=look.muted, zerolinewidth=1, tickformat=",~r", nticks=6),
        yaxis=axis(
            look,
            tickvals=list(range(len(names))),
            ticktext=[f"{label(name)}  " for name in names],
            range=[len(names) - 0.5, -0.5],
            automargin=True,
            showgrid=False,
            tickfont={"color": look.text, "size": 12},
        ),
        **more,
    )


def _heights(names: Sequence[str], room: int) -> tuple[int, int]:
    """On a page and on a phone."""
    return max(200, room + _ROW * len(names)), max(200, room + (_ROW - 4) * len(names))


def _verdict(row: Mapping[str, Any], look: Look) -> str:
    return look.muted if not is_clear(row) else look.equity if row["lead"] > 0.0 else look.drawdown


def _reach(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Ends of an axis that shows every interval and zero."""
    ends = [row[name] for row in rows for name in ("lead", "low", "high") if row[name] is not None]
    low, high = min(0.0, *ends), max(0.0, *ends)
    air = 0.05 * (high - low) or 1.0
    return [low - air, high + air]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
