"""`Characters`: lines of text that change in every frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from torchgym.extras import needs

with needs("a picture", "torchgym[plots]"):
    from matplotlib.artist import Artist, allow_rasterization
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties
    from matplotlib.transforms import Bbox

Pixels = npt.NDArray[np.uint8]

_TALLEST = "│"


class Characters(Artist):
    """Lines of text put together from pixels of their characters, each of which is drawn once and kept.

    matplotlib's own `Text` shapes and draws every character of a new text again, which takes half a millisecond a line, ten times
    as long as this. There is no kerning.

    Args:
        x: left end of the lines or, when `right`, their right end, as a share of the figure's width.
        y: top, as a share of the figure's height.
        colour: of the characters.
        pitch: from a line to the next one, points.
        right: whether lines are aligned at their right ends.
        **font: size, family and weight, as `matplotlib.font_manager.FontProperties` has them.
    """

    def __init__(
        self, x: float, y: float, *, colour: str, pitch: float = 0.0, right: bool = False, **font: Any
    ) -> None:
        super().__init__()
        self._place, self._pitch, self._right = (x, y), pitch, right
        self._font, self._colour = FontProperties(**font), colour
        self._lines = [""]
        self._kept: dict[tuple[str, float], Pixels] = {}  # by character and dots per inch

    def set_text(self, text: str) -> None:
        """Show this from the next drawing on."""
        self._lines = text.split("\n")
        self.stale = True

    def get_text(self) -> str:
        """What is shown."""
        return "\n".join(self._lines)

    @allow_rasterization
    def draw(self, renderer: Any) -> None:
        """Put the lines on the renderer."""
        block, extent, gc = self._block(), self.get_window_extent(), renderer.new_gc()
        if block.size and self.get_visible():
            renderer.draw_image(gc, round(extent.x0), round(extent.y0), np.ascontiguousarray(block[::-1]))
        gc.restore()
        self.stale = False

    def get_window_extent(self, renderer: Any = None) -> Bbox:
        """Where the lines are, pixels."""
        figure: Any = self.get_figure(root=True)
        height, width, _ = self._block().shape
        x, y = figure.transFigure.transform(self._place)
        return Bbox.from_bounds(x - width * self._right, y - height, width, height)

    def _block(self) -> Pixels:
        """All lines, [height, width, 4]."""
        figure: Any = self.get_figure(root=True)
        dpi: float = figure.dpi
        lines = [[self._pixels(character, dpi) for character in line] for line in self._lines]
        widths = [sum(pixels.shape[1] for pixels in line) for line in lines]
        pitch, height = round(self._pitch * dpi / 72.0), self._pixels(" ", dpi).shape[0]
        block = np.zeros((pitch * (len(lines) - 1) + height, max(widths), 4), dtype=np.uint8)
        for row, (line, width) in enumerate(zip(lines, widths, strict=True)):
            at = (max(widths) - width) * self._right
            for pixels in line:
                block[pitch * row : pitch * row + height, at : at + pixels.shape[1]] = pixels
                at += pixels.shape[1]
        return block

    def _pixels(self, character: str, dpi: float) -> Pixels:
        """Of one character, [height, width, 4]."""
        if (character, dpi) not in self._kept:
            ruler = RendererAgg(1, 1, dpi)

            def measure(text: str) -> tuple[float, float, float]:
                return ruler.get_text_width_height_descent(text, self._font, False)

            _, height, descent = measure(_TALLEST)
            width = measure(f"0{character}0")[0] - measure("00")[0]  # of a space, too
            cell = RendererAgg(round(width), round(height), dpi)
            gc = cell.new_gc()
            gc.set_foreground(self._colour)
            cell.draw_text(gc, 0, round(height - descent), character, self._font, 0)
            self._kept[character, dpi] = np.array(cell.buffer_rgba())
        return self._kept[character, dpi]
