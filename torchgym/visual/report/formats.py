"""How the page writes numbers, names and metrics."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

from torchgym.lab.performance.metrics import METRICS

UNDEFINED = "–"
SPACE = "\u00a0"  # between a number and its unit, so that no line ends there

_SUMS = {
    "profit": ("Profit", "currency", "Final less initial equity of an episode, after all costs."),
    "reward": ("Reward", "", "Sum of an episode's rewards."),
}


def number(value: float | None) -> str:
    """Three significant digits with thousands separators; a very small number with its power of ten.

    >>> number(-0.012345), number(1234.5), number(33.0), number(0.0), number(None), number(1e-9)
    ('−0.0123', '1,234', '33.0', '0', '–', '1.00e−9')
    """
    if value is None or not math.isfinite(value):
        return UNDEFINED
    size = abs(value)
    if size == 0.0:
        return "0"
    if size < 1e-4:
        return minus(f"{value:.2e}".replace("e-0", "e-"))
    return minus(f"{value:,.{max(0, 2 - math.floor(math.log10(size)))}f}")


def money(value: float | None) -> str:
    """Currency won or lost: signed, two decimals below ten, one below a thousand.

    >>> money(33.04), money(-1234.5), money(-1.5), money(0.0)
    ('+33.0', '−1,234', '−1.50', '0')
    """
    if value is None or not math.isfinite(value):
        return UNDEFINED
    size = abs(value)
    text = f"{value:+,.{2 if size < 9.995 else 1 if size < 999.95 else 0}f}"
    return minus(text) if text.strip("+-0.") else "0"


def p_value(value: float | None) -> str:
    """Two significant digits.

    >>> p_value(0.0312), p_value(0.00002), p_value(1.0)
    ('0.031', '< 0.001', '1')
    """
    if value is None:
        return UNDEFINED
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def minus(text: str) -> str:
    """The text with a true minus sign."""
    return text.replace("-", "−")


def spoken(name: str) -> str:
    """The name of a policy, a metric or a part of the profit, in words.

    >>> spoken("buy_and_hold")
    'buy and hold'
    """
    return name.replace("_", " ")


def capitalised(text: str) -> str:
    """The text with its first letter in upper case and the others as they are."""
    return text[:1].upper() + text[1:]


def axis_label(name: str, longest: int = 20) -> str:
    """A name beside a figure. Plotly reads some HTML in it, so it is escaped; a long one is cut.

    >>> axis_label("buy_and_hold"), axis_label("<b>"), axis_label("a very long name of a policy")
    ('buy and hold', '&lt;b&gt;', 'a very long name of…')
    """
    text = spoken(name)
    return html.escape(text if len(text) <= longest else text[: longest - 1] + "…", quote=False)


def described(metric: str) -> tuple[str, str, str]:
    """Heading, unit (fractions in per cent) and meaning of a metric; of an unknown one its name alone.

    >>> described("annual_return")[:2], described("profit")[1], described("luck")
    (('Annual return', '% per year'), 'currency', ('Luck', '', ''))
    """
    if metric in _SUMS:
        return _SUMS[metric]
    if metric not in METRICS:
        return capitalised(spoken(metric)), "", ""
    row = METRICS[metric]
    return row.heading, row.unit.replace("fraction", "%"), row.meaning


def measured(metric: str, value: float | None) -> str:
    """A metric's value in its unit, without the unit."""
    if metric == "profit":
        return money(value)
    return number(100.0 * value if value is not None and described(metric)[1].startswith("%") else value)


def interval(metric: str, estimate: Mapping[str, Any]) -> str:
    """`low to high`, or nothing where the interval has no ends.

    >>> interval("profit", {"low": -1.0, "high": 2.5})
    '−1.00 to +2.50'
    """
    low, high = estimate.get("low"), estimate.get("high")
    return "" if low is None or high is None else f"{measured(metric, low)} to {measured(metric, high)}"
