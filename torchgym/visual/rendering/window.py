"""A picture in a window that follows the market."""

from __future__ import annotations

from torchgym.config import MarketConfig
from torchgym.sim.state import MarketState
from torchgym.visual.rendering.history import History
from torchgym.visual.rendering.picture import DPI, SIZE, Picture

try:
    import matplotlib.pyplot as plt
    from matplotlib.backend_bases import FigureManagerBase
except ImportError as missing:
    raise ImportError('a window needs matplotlib: pip install "torchgym[plots]"') from missing

_REMEDY = (
    "choose an interactive backend of matplotlib on a machine with a display (MPLBACKEND=TkAgg or QtAgg), "
    'or render_mode="rgb_array" or "ansi", which need none'
)


class Window:
    """A window of matplotlib's interactive backends; shown at the first drawing. Closed by hand it stays closed.

    Raises:
        RuntimeError: when no window can be opened, naming the remedy.
    """

    def __init__(self, config: MarketConfig) -> None:
        try:
            self._figure = plt.figure(figsize=(SIZE[0] / DPI, SIZE[1] / DPI), dpi=DPI)
        except Exception as error:  # each toolkit has errors of its own
            raise RuntimeError(f'render_mode="human" cannot open a window ({error}): {_REMEDY}') from error
        manager = self._figure.canvas.manager
        if manager is None or type(manager) is FigureManagerBase:  # as backends have it that only write files
            plt.close(self._figure)
            raise RuntimeError(
                f'render_mode="human" cannot open a window with the backend {plt.get_backend()!r}: {_REMEDY}'
            )
        self._manager = manager
        manager.set_window_title("torchgym")
        self._picture = Picture(config, self._figure)
        self._shown = False

    def show(self, history: History, state: MarketState) -> None:
        """Draw the market as it stands and let the window answer its user."""
        if self._shown and not plt.fignum_exists(self._manager.num):
            return
        self._picture.update(history, state)
        if not self._shown:
            self._manager.show()
            self._shown = True
        self._figure.canvas.draw()
        self._figure.canvas.flush_events()

    def close(self) -> None:
        """Close the window; may be called again."""
        plt.close(self._figure)
