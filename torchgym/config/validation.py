"""Checks that every setting passes: each names the value and what would be right."""

from __future__ import annotations

import math


def require(condition: bool, message: str) -> None:
    """A ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def check_integer(name: str, value: object) -> None:
    """An integer of either sign."""
    require(isinstance(value, int) and not isinstance(value, bool), f"{name} must be an integer, got {value!r}")


def check_count(name: str, value: object, low: int = 0) -> None:
    """An integer from `low` up."""
    require(
        isinstance(value, int) and not isinstance(value, bool) and value >= low,
        f"{name} must be an integer >= {low}, got {value!r}",
    )


def check_number(name: str, value: object, low: float, high: float = math.inf) -> None:
    """A finite number between the bounds."""
    require(
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high,
        f"{name} must be a finite number in [{low}, {high}], got {value!r}",
    )


def check_range(name: str, value: tuple[float, float], low: float) -> None:
    """A (low, high) pair, in order."""
    require(isinstance(value, tuple) and len(value) == 2, f"{name} must be a (low, high) pair, got {value!r}")
    check_number(f"{name}[0]", value[0], low)
    check_number(f"{name}[1]", value[1], value[0])


def check_numbers(name: str, value: object, count: int, low: float, high: float = math.inf) -> None:
    """A tuple of so many finite numbers between the bounds."""
    right = isinstance(value, tuple) and len(value) == count
    require(right, f"{name} must be a tuple of {count} numbers, got {value!r}")
    assert isinstance(value, tuple)
    for number in value:
        check_number(name, number, low, high)
