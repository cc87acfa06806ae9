"""Quiet axes, and what is put on them once and moved afterwards."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from torchgym.visual.palette import Look

try:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Polygon
    from matplotlib.text import Text
    from matplotlib.ticker import MaxNLocator
except ImportError as missing:
    raise ImportError('a picture needs matplotlib: pip install "torchgym[plots]"') from missing


def plain(axes: Axes, look: Look) -> None:
    """Hairlines for a grid, muted numbers, no box."""
    axes.set_facecolor(look.background)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(look.grid)
    axes.tick_params(labelcolor=look.muted, labelsize=8, left=False, right=False, bottom=False)
    axes.grid(color=look.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def headed(axes: Axes, place: float, words: str, colour: str) -> Text:
    """Words above the axes, `place` of its width from the left."""
    return axes.text(place, 1.02, words, color=colour, fontsize=9, va="bottom", transform=axes.transAxes)


def lines(axes: Axes, colour: str, **how: Any) -> LineCollection:
    """Straight pieces, none yet, that leave the axes' limits alone."""
    made = LineCollection([], colors=colour, **how)
    axes.add_collection(made, autolim=False)
    return made


def area(axes: Axes, colour: str, alpha: float) -> Polygon:
    """A shaded area, empty as yet."""
    made = Polygon(np.zeros((1, 2)), color=colour, linewidth=0.0, alpha=alpha)
    axes.add_patch(made)
    return made


def fit(axes: Axes, low: float, high: float, *, least: float, margin: float) -> None:
    """Limits that show from low to high and a margin; at least so much."""
    centre, half = 0.5 * (low + high), (0.5 + margin) * max(high - low, least)
    axes.set_ylim(centre - half, centre + half)


def round_up(number: float) -> float:
    """The next of 1, 2, 5, 10, 20, 50 ... so that an axis seldom changes.

    >>> round_up(37.0)
    50.0
    """
    unit = 10.0 ** math.floor(math.log10(number))
    return next(step * unit for step in (1.0, 2.0, 5.0, 10.0) if step * unit >= number)
