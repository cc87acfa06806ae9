"""Colours of all pictures, frames and report pages: one palette, in a light and in a dark version.

The hues are those of Okabe and Ito (2008), which readers with any colour vision can tell apart: blue, vermillion, bluish green
and reddish purple. Some are darker or lighter than theirs, so that a line has a contrast of at least 3 to 1, and text of at least
4.5 to 1, against both grounds (WCAG 2.1, success criteria 1.4.11 and 1.4.3). Where a colour has a meaning, a line style, a shape
or a label repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """The colour of each thing, `#RRGGBB`."""

    background: str  # of the page and of whole figures
    surface: str  # of cards and tables on the page
    text: str
    muted: str  # secondary text: axes, captions
    grid: str  # hairlines without a meaning
    price: str  # and equity
    value: str  # and drawdown
    buy: str  # and bids
    sell: str  # and asks
    news: str
    series: tuple[str, ...]  # things compared in one picture, in this order


LIGHT = Palette(
    background="#FFFFFF",
    surface="#F5F7F9",
    text="#1B2127",
    muted="#5A636D",
    grid="#DDE2E7",
    price="#0072B2",
    value="#D55E00",
    buy="#009E73",
    sell="#B25C8C",
    news="#666666",
    series=("#0072B2", "#D55E00", "#009E73", "#B25C8C", "#666666", "#8A6D00", "#2F86BA"),
)

DARK = Palette(
    background="#10151B",
    surface="#182029",
    text="#E7EBEF",
    muted="#A0ABB6",
    grid="#2C3640",
    price="#56B4E9",
    value="#F0883E",
    buy="#2EC49A",
    sell="#DC8FBA",
    news="#B3B3B3",
    series=("#56B4E9", "#F0883E", "#2EC49A", "#DC8FBA", "#B3B3B3", "#E6C229", "#3F97CB"),
)
