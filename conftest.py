"""Whether markets that leave `compile` open step by a program in tests. Such a market never waits for one, nor has one made."""

import os

import pytest

os.environ["TORCHGYM_COMPILE"] = "0"  # while tests are collected


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Uncompiled, except where the test is about what is built on the market, and a program is kept."""
    os.environ["TORCHGYM_COMPILE"] = "0" if item.get_closest_marker("kept") is None else "cached"
