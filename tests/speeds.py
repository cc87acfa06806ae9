"""A row of a table of speeds, for the tests that need one."""

from __future__ import annotations

import dataclasses
from typing import Any

from speed_rows import Row


def row(**changes: Any) -> Row:
    """A made-up one."""
    plain = Row(
        date="2026-01-31",
        commit="aaaaaaa",
        device="Abacus",
        torch="2.13.0",
        threads=2,
        preset="default",
        markets=1_024,
        traders=198,
        dtype="int64",
        mode="compiled",
        case=4,
        measure="steps",
        unit="market-steps/s",
        median=300.0,
        low=290.5,
        high=310.25,
        target="≥ 300",
        met=True,
        noise="",
        note='a comma, and a "quote"',
        command="python benchmarks/speed.py",
    )
    return dataclasses.replace(plain, **changes)
