"""A figure of the page: drawn once by Plotly for a light page, with what a dark one changes, and a legend in HTML."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import plotly.io

from torchgym.visual.palette import DARK, LIGHT, Look
from torchgym.visual.report.words import escape

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
TIME = {"l": 62, "r": 18, "t": 8, "b": 38}  # margins that figures over the same time share, so that they line up

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Picture:
    """One figure with what is said about it."""

    name: str  # of its place on the page
    title: str
    label: str  # what it shows, for who cannot see it
    caption: str  # beneath it
    draw: Callable[[Look], go.Figure]
    height: int  # pixels
    narrow_height: int  # on a phone
    over_time: bool = False  # zooms together with the others that are


def layout(look: Look, **more: Any) -> go.Layout:
    """What all figures have in common."""
    shared = {
        "template": "none",
        "autosize": True,
        "paper_bgcolor": look.background,
        "plot_bgcolor": look.background,
        "font": {"family": FONT, "size": 12, "color": look.text},
        "margin": TIME,
        "showlegend": False,
        "hoverlabel": {
            "bgcolor": look.surface,
            "bordercolor": look.grid,
            "font": {"family": FONT, "color": look.text},
        },
    }
    return go.Layout({**shared, **more})


def axis(look: Look, title: str = "", **more: Any) -> dict[str, Any]:
    """A quiet axis."""
    muted = {"color": look.muted, "size": 12}
    return {
        "title": {"text": title, "font": muted, "standoff": 8},
        "tickfont": {"color": look.muted, "size": 11},
        "gridcolor": look.grid,
        "linecolor": look.grid,
        "zeroline": False,
        "ticks": "",
        "fixedrange": True,
        **more,
    }


def heading(look: Look, text: str, y: float) -> dict[str, Any]:
    """What a panel shows, above its top left corner; y is its top, as a share of the figure."""
    place = {"x": 0.0, "xref": "paper", "xanchor": "left", "y": y, "yref": "paper", "yanchor": "bottom"}
    return {**place, "text": text, "showarrow": False, "font": {"color": look.muted, "size": 12}}


def fade(colour: str, share: float) -> str:
    """A colour `#RRGGBB` that lets what is beneath it through.

    >>> fade("#0072B2", 0.5)
    'rgba(0,114,178,0.5)'
    """
    return f"rgba({','.join(map(str, _parts(colour)))},{share:g})"


def mix(ground: str, colour: str, share: float) -> str:
    """`share` of a colour on a ground.

    >>> mix("#000000", "#FF8000", 0.5)
    '#804000'
    """
    parts = (round(a + share * (b - a)) for a, b in zip(_parts(ground), _parts(colour), strict=True))
    return "#" + "".join(f"{part:02X}" for part in parts)


def _parts(colour: str) -> list[int]:
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]


def html(picture: Picture) -> str:
    """The figure as it stands on the page: heading, legend, an empty place with its description, its data, caption."""
    light, dark = (picture.draw(look) for look in (LIGHT, DARK))
    told, other = (json.loads(plotly.io.to_json(figure, validate=False)) for figure in (light, dark))
    spec = {
        "data": told["data"],
        "layout": told["layout"],
        "dark": list(differences(told, other)),
        "height": picture.height,
        "narrowHeight": picture.narrow_height,
        "overTime": picture.over_time,
    }
    name = escape(picture.name)
    return f"""
<figure id="{name}" aria-labelledby="{name}-title">
<h3 id="{name}-title">{escape(picture.title)}</h3>
{_legend(light.data, dark.data, name)}
<div class="plot" id="{name}-plot" role="img" aria-label="{escape(picture.label)}"
 style="--height:{picture.height}px;--narrow:{picture.narrow_height}px"></div>
<script type="application/json" data-plot="{name}-plot">{script_json(spec)}</script>
<figcaption>{escape(picture.caption)}</figcaption>
</figure>"""


def script_json(value: Any) -> str:
    r"""JSON that cannot end the script element it stands in.

    >>> script_json({"a": "</script>"})
    '{"a":"\\u003c/script\\u003e"}'
    """
    told = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return told.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def differences(light: Any, dark: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Where the dark figure differs from the light one, and what stands there.

    >>> list(differences({"a": [1, 2], "b": 3}, {"a": [1, 5], "b": 3}))
    [(('a', 1), 5)]
    """
    if isinstance(light, dict):
        for key in light:
            yield from differences(light[key], dark[key], (*path, key))
    elif isinstance(light, list):
        for index, (one, other) in enumerate(zip(light, dark, strict=True)):
            yield from differences(one, other, (*path, index))
    elif light != dark:
        yield path, dark


def _legend(light: Sequence[Any], dark: Sequence[Any], name: str) -> str:
    """A button for each named group of traces that shows and hides it."""
    groups: dict[str, list[int]] = {}
    for index, trace in enumerate(light):
        if trace.name and trace.showlegend is not False:
            groups.setdefault(trace.legendgroup or trace.name, []).append(index)
    if len(groups) < 2:
        return ""
    for index, trace in enumerate(light):
        if trace.showlegend is False and trace.legendgroup in groups:
            groups[trace.legendgroup].append(index)
    ranked = sorted(groups.values(), key=lambda places: light[places[0]].legendrank or len(light))
    keys = [_key(light[places[0]], dark[places[0]], places, name) for places in ranked]
    return f'<ul class="keys">{"".join(keys)}</ul>'


def _key(light: Any, dark: Any, places: Sequence[int], name: str) -> str:
    shown = "false" if light.visible == "legendonly" else "true"
    traces = ",".join(map(str, places))
    return (
        f'<li><button type="button" aria-pressed="{shown}" aria-controls="{name}-plot" data-traces="{traces}"'
        f' style="--light:{_colour(light)};--dark:{_colour(dark)}">'
        f'<svg viewBox="0 0 24 12" width="24" height="12" aria-hidden="true">{_sign(light)}</svg>'
        f"{escape(light.name)}</button></li>"
    )


def _colour(trace: Any) -> str:
    """What the key of a trace is painted with."""
    if trace.type == "heatmap":
        return str(trace.colorscale[-1][1])
    if trace.type == "scatter" and trace.fill:
        return str(trace.fillcolor)
    return str(trace.line.color if trace.type == "scatter" and "lines" in trace.mode else trace.marker.color)


def _sign(trace: Any) -> str:
    """The key's little drawing in a box of 24 by 12."""
    if trace.type != "scatter" or trace.fill:
        return '<rect x="4" y="1" width="16" height="10" rx="1.5"/>'
    if "lines" in trace.mode:
        dash = {"5px,2px": ' stroke-dasharray="5 2"', "dot": ' stroke-dasharray="2 3"'}.get(trace.line.dash, "")
        return f'<path class="line" d="M1 6H23"{dash}/>'
    corners = {"triangle-up": "M12 1L18 11H6Z", "triangle-down": "M12 11L18 1H6Z"}
    if trace.marker.symbol in corners:
        return f'<path d="{corners[trace.marker.symbol]}"/>'
    return '<circle cx="12" cy="6" r="4.5"/>'
