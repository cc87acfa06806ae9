"""Every colour can be told from its ground, in the light and in the dark."""

import dataclasses

import pytest

from torchgym.visual.palette import DARK, LIGHT, Palette

TEXT = ("text", "muted")
GROUNDS = ("background", "surface")
NO_MEANING = ("grid",)
LINES = [
    entry.name for entry in dataclasses.fields(Palette) if entry.name not in (*TEXT, *GROUNDS, *NO_MEANING, "series")
]


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


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("ground", GROUNDS)
def test_colours_stand_out(palette: Palette, ground: str) -> None:
    under = getattr(palette, ground)
    for name in TEXT:
        assert contrast(getattr(palette, name), under) >= 4.5, name
    for name in LINES:
        assert contrast(getattr(palette, name), under) >= 3.0, name
    for colour in palette.series:
        assert contrast(colour, under) >= 3.0, colour


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_what_stands_beside_each_other_differs(palette: Palette) -> None:
    assert len({palette.price, palette.value, palette.buy, palette.sell, palette.news}) == 5
    assert len(set(palette.series)) == len(palette.series) >= 6


def test_figures_take_their_colours_from_it() -> None:
    plots = pytest.importorskip("torchgym.visual.plots")
    assert [LIGHT.price, LIGHT.value, LIGHT.buy, LIGHT.news] == [plots.BLUE, plots.ORANGE, plots.GREEN, plots.GREY]
