"""Every colour can be told from its ground, in the light and in the dark."""

import dataclasses

import pytest

from torchgym.visual.palette import DARK, LIGHT, Look

TEXT = ("text", "muted")
GROUNDS = ("background", "surface")
NO_MEANING = ("grid",)
LINES = [entry.name for entry in dataclasses.fields(Look) if entry.name not in (*TEXT, *GROUNDS, *NO_MEANING, "series")]


def luminance(colour: str) -> float:
    """WCAG 2.1, relative luminance of `#RRGGBB`."""
    channels = [int(colour[at : at + 2], 16) / 255.0 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """WCAG 2.1, 1 to 21."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_the_measure_of_contrast() -> None:
    assert contrast("#FFFFFF", "#000000") == pytest.approx(21.0)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.005)  # the well-known grey that just fails


@pytest.mark.parametrize("look", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("ground", GROUNDS)
def test_colours_stand_out(look: Look, ground: str) -> None:
    under = getattr(look, ground)
    for name in TEXT:
        assert contrast(getattr(look, name), under) >= 4.5, name
    for name in LINES:
        assert contrast(getattr(look, name), under) >= 3.0, name
    for colour in look.series:
        assert contrast(colour, under) >= 3.0, colour


@pytest.mark.parametrize("look", [LIGHT, DARK], ids=["light", "dark"])
def test_what_stands_beside_each_other_differs(look: Look) -> None:
    assert len({look.price, look.value, look.buy, look.sell, look.news}) == 5
    assert look.bid != look.ask
    assert len(set(look.series)) == len(look.series) >= 6


def test_figures_take_their_colours_from_it() -> None:
    plots = pytest.importorskip("torchgym.visual.plots")
    assert [LIGHT.price, LIGHT.value, LIGHT.buy, LIGHT.news] == [plots.BLUE, plots.ORANGE, plots.GREEN, plots.GREY]
