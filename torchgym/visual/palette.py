"""Colours of every picture, on paper, on a screen and in the HTML report: one palette, in a light and in a dark version.

The hues are those of Okabe and Ito (2008), told apart with any colour vision: blue, vermillion, bluish green and reddish purple.
Some are darkened or lightened until a line has a contrast of at least 3 to 1, and text of at least 4.5 to 1, against both grounds
(WCAG 2.1, success criteria 1.4.11 and 1.4.3). Where colour carries a meaning, a line style, a shape or a label says it again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """What has which colour, each `#RRGGBB`. Buying is green and selling purple, in trades and in the book alike."""

    background: str  # of the page and of whole figures
    surface: str  # of cards and tables on the page
    text: str
    muted: str  # secondary text: axes, captions
    grid: str  # hairlines that carry no meaning
    price: str
    value: str
    buy: str
    sell: str
    news: str
    equity: str
    drawdown: str
    bid: str
    ask: str
    series: tuple[str, ...]  # for things compared in one picture, in this order


LIGHT = Look(
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
    equity="#0072B2",
    drawdown="#D55E00",
    bid="#009E73",
    ask="#B25C8C",
    series=("#0072B2", "#D55E00", "#009E73", "#B25C8C", "#666666", "#8A6D00", "#2F86BA"),
)

DARK = Look(
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
    equity="#56B4E9",
    drawdown="#F0883E",
    bid="#2EC49A",
    ask="#DC8FBA",
    series=("#56B4E9", "#F0883E", "#2EC49A", "#DC8FBA", "#B3B3B3", "#E6C229", "#3F97CB"),
)
