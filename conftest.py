"""Whether markets that leave `compile` open step by a program in tests. Such a market never waits for one, nor has one made."""

import os
import sys
from collections.abc import Generator

import pytest

os.environ["TORCHGYM_COMPILE"] = "0"  # while tests are collected


@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Uncompiled, except where the test is about what is built on the market, and a program is kept.

    Records of operations are shared between tests, but for those that may put something else in the place of an operation.
    """
    os.environ["TORCHGYM_COMPILE"] = "0" if item.get_closest_marker("kept") is None else "cached"
    patched = "monkeypatch" in getattr(item, "fixturenames", ())
    try:
        if patched:
            _forget_records()
        return (yield)
    finally:
        if patched:
            _forget_records()


def _forget_records() -> None:
    stepper = sys.modules.get("torchgym.engine.stepper")
    if stepper is not None:
        stepper.RECORDS.clear()
