"""Every preset tells what it has always told, bit for bit: digests of 200 random decisions, stored in bits.json.

A digest changes only with the market itself. `python tests/bits.py` writes the file anew.
"""

from __future__ import annotations

import json

import pytest
from bits import CASES, FILE, PRESETS, SCHEMES, SYMBOLS, digest

STORED = json.loads(FILE.read_text(encoding="utf-8"))
# One scheme for each preset and number of symbols, all of them in turn.
QUICK = {
    f"{name}-{symbols}-{list(SCHEMES)[(at + 2 * (symbols > 1)) % len(SCHEMES)]}"
    for at, name in enumerate(PRESETS)
    for symbols in SYMBOLS
}


def test_every_case_has_a_digest() -> None:
    assert list(STORED) == list(CASES)
    assert len(set(STORED.values())) == len(CASES)


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_uncompiled(case: str) -> None:
    assert digest(case) == STORED[case]


@pytest.mark.parametrize(
    ("case", "markets"),
    [
        *(("toy-1-discrete", 2), ("toy-1-discrete", 7)),
        *(pytest.param(f"{name}-1-discrete", 3, marks=pytest.mark.slow) for name in PRESETS if name != "toy"),
        *(pytest.param(f"{name}-3-target", 2, marks=pytest.mark.slow) for name in ("default", "toy")),
    ],
)
def test_compiled(case: str, markets: int) -> None:
    assert digest(case, compile=True, num_envs=markets) == STORED[case]


def test_numbers_given_are_those_of_the_configuration() -> None:
    """The default market with all numbers of the calm one."""
    from bits import case_config

    from torchgym.config import all_numbers

    calm = {}
    for path, setting in all_numbers(case_config("calm-1-discrete")).items():
        values = setting.value if isinstance(setting.value, tuple) else None
        calm |= {f"{path}.{at}": value for at, value in enumerate(values)} if values else {path: setting.value}
    assert digest("default-1-discrete", params=calm) == STORED["calm-1-discrete"]
