"""What all figures of the page share: Plotly's template in the light colours, and a figure with its texts.

Figures are drawn once, in the light palette; page.js replaces each of its colours by the dark one where the reader prefers that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import plotly.graph_objects as go
import plotly.io
from markupsafe import Markup
from plotly.subplots import make_subplots

from torchgym.visual.palette import DARK, LIGHT, Palette

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
        *(len(rows), 1), shared_xaxes=True, row_heights=heights, subplot_titles=titles, vertical_spacing=0.1
    )
    figure.update_annotations(x=0.0, xanchor="left", font=_MUTED)
    figure.update_xaxes(range=[0, last], fixedrange=False, showgrid=False, tickformat=",d")
    figure.update_xaxes(title_text="tick", row=len(rows))
    return figure.update_layout(template="torchgym", uirevision="kept")


def faded(colour: str, opacity: float) -> str:
    """A colour `#RRGGBB` through which the ground shows.

    >>> faded("#0072B2", 0.5)
    'rgba(0,114,178,0.5)'
    """
    return f"{_rgba(colour)},{opacity:g})"


def dark_colours() -> dict[str, str]:
    """Every light colour, as it begins in a figure -> the dark one."""
    pairs = dict(zip(_colours(LIGHT), _colours(DARK), strict=True))
    return pairs | {_rgba(light): _rgba(dark) for light, dark in pairs.items()}


def _colours(palette: Palette) -> list[str]:
    named = [getattr(palette, entry.name) for entry in fields(palette) if entry.name != "series"]
    return [*named, *palette.series]


def _rgba(colour: str) -> str:
    return f"rgba({','.join(str(part) for part in bytes.fromhex(colour[1:]))}"
