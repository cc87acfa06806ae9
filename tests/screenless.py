"""A backend of matplotlib that opens windows nobody needs a display for: `matplotlib.use("module://screenless")`."""

from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg


class FigureManager(FigureManagerBase):
    """Counts what a window would do."""

    def __init__(self, canvas: "FigureCanvas", num: int | str) -> None:
        super().__init__(canvas, num)
        self.shown = 0
        self.title = ""

    def show(self) -> None:
        self.shown += 1

    def set_window_title(self, title: str) -> None:
        self.title = title


class FigureCanvas(FigureCanvasAgg):
    """Counts its drawings."""

    manager_class = FigureManager
    draws = 0
    flushed = 0

    def draw(self) -> None:
        self.draws += 1
        super().draw()

    def flush_events(self) -> None:
        self.flushed += 1
