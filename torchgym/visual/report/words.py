"""Numbers and names as a page says them."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

from torchgym.lab.performance.metrics import METRICS

UNDEFINED = "–"
SPACE = "\u00a0"  # between a number and its unit: no line ends there

_WRITTEN_OUT = 1e-4  # what is smaller is told with its power of ten


def escape(text: object) -> str:
    """Text that HTML shows as it is, between tags and inside quoted attributes.

    >>> escape('<b> & "c"')
    '&lt;b&gt; &amp; &quot;c&quot;'
    """
    return html.escape(str(text))


def label(name: str, longest: int = 20) -> str:
    """A name beside a figure, which is shown as it is although figures read some of HTML; a long one is cut.

    >>> label("buy_and_hold"), label("<b>"), label("a very long name of a policy")
    ('buy and hold', '&lt;b&gt;', 'a very long name of…')
    """
    told = spoken(name)
    return html.escape(told if len(told) <= longest else told[: longest - 1] + "…", quote=False)


def number(value: float | None) -> str:
    """Three significant digits, thousands apart; what is very small by its power of ten.

    >>> number(-0.012345), number(1234.5), number(33.0), number(0.0), number(None), number(1e-9)
    ('−0.0123', '1,234', '33.0', '0', '–', '1.00e−9')
    """
    if value is None or not math.isfinite(value):
        return UNDEFINED
    size = abs(value)
    if size == 0.0:
        return "0"
    if size < _WRITTEN_OUT:
        digits, power = f"{value:.2e}".split("e")
        return minus(f"{digits}e{int(power)}")
    return minus(f"{value:,.{max(0, 2 - math.floor(math.log10(size)))}f}")


def money(value: float | None) -> str:
    """Currency won or lost: signed, two decimals below ten, one below a thousand.

    >>> money(33.04), money(-1234.5), money(-1.5), money(0.0)
    ('+33.0', '−1,234', '−1.50', '0')
    """
    if value is None or not math.isfinite(value):
        return UNDEFINED
    size = abs(value)
    told = f"{value:+,.{2 if size < 9.995 else 1 if size < 999.95 else 0}f}"
    return minus(told) if any(digit in told for digit in "123456789") else "0"


def percent(value: float | None) -> str:
    r"""A fraction per hundred.

    >>> percent(0.01234), percent(-0.5)
    ('1.23\xa0%', '−50.0\xa0%')
    """
    return UNDEFINED if value is None or not math.isfinite(value) else f"{number(100.0 * value)}{SPACE}%"


def chance(value: float | None) -> str:
    """A p-value.

    >>> chance(0.0312), chance(0.00002), chance(1.0)
    ('0.031', '< 0.001', '1')
    """
    if value is None:
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def minus(told: str) -> str:
    """With a true minus sign."""
    return told.replace("-", "−")


def spoken(name: str) -> str:
    """The name of a policy or a part of its profit, in words.

    >>> spoken("buy_and_hold")
    'buy and hold'
    """
    return name.replace("_", " ")


def heading(metric: str) -> str:
    """What a column of this metric is called; its own name where the table of metrics has none."""
    if metric == "profit":
        return "Profit"
    return METRICS[metric].heading if metric in METRICS else spoken(metric)


def meaning(metric: str) -> str:
    """One sentence on it, or nothing."""
    if metric == "profit":
        return "Final less initial equity of an episode, after all costs."
    return METRICS[metric].meaning if metric in METRICS else ""


def unit(metric: str) -> str:
    """Of a metric, fractions as per cent.

    >>> unit("max_drawdown"), unit("annual_return"), unit("profit"), unit("profit_factor")
    ('%', '% per year', 'currency', '')
    """
    if metric == "profit":
        return "currency"
    return METRICS[metric].unit.replace("fraction", "%") if metric in METRICS else ""


def measured(metric: str, value: float | None) -> str:
    """A metric's value in its unit, without naming the unit."""
    if metric == "profit":
        return money(value)
    if value is not None and unit(metric).startswith("%"):
        return number(100.0 * value)
    return number(value)


def interval(metric: str, found: Mapping[str, Any] | None) -> str:
    """`low to high`, or nothing where the interval has no end.

    >>> interval("profit", {"low": -1.0, "high": 2.5})
    '−1.00 to +2.50'
    """
    low, high = (found or {}).get("low"), (found or {}).get("high")
    return "" if low is None or high is None else f"{measured(metric, low)} to {measured(metric, high)}"
