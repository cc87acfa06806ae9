"""What an environment draws on: history kept decision by decision, and the one way of showing it that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from torchgym.config import MarketConfig
from torchgym.sim.state import MarketState
from torchgym.visual.rendering.history import History
from torchgym.visual.rendering.text import text

if TYPE_CHECKING:
    from torchgym.visual.rendering.picture import Picture, Window

MODES = ("human", "rgb_array", "ansi")
METADATA: dict[str, Any] = {"render_modes": list(MODES), "render_fps": 20}  # what gymnasium asks of an environment

Frame = npt.NDArray[np.uint8]


class Screen:
    """Shows one market, the first of a batch, in one of the modes of gymnasium; without a mode nothing is drawn or kept.

    "human" draws into a window whenever something happened; "rgb_array" gives a frame [720, 960, 3] uint8, "ansi" a text, when
    asked. matplotlib is loaded by the first two only, when they first draw. A copy has the same history, and makes a window or a
    picture of its own when it first draws.

    Args:
        config: of the market.
        mode: one of `MODES`, or None.
        symbol: which symbol is shown.

    Raises:
        ValueError: for an unknown mode or symbol, naming the known ones.
    """

    def __init__(self, config: MarketConfig, mode: str | None, symbol: int = 0) -> None:
        if mode is not None and mode not in MODES:
            raise ValueError(f"unknown render_mode {mode!r}: choose one of {', '.join(MODES)}, or None")
        if type(symbol) is not int or not 0 <= symbol < config.num_symbols:
            raise ValueError(f"render_symbol must be an integer from 0 to {config.num_symbols - 1}, got {symbol!r}")
        self.mode = mode
        self.history = History(config, symbol)
        self._picture: Picture | None = None  # of "rgb_array"
        self._window: Window | None = None  # of "human"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_picture": None, "_window": None}

    def open(self) -> None:
        """Open the window of "human" mode, unless it is open; nothing in the other modes. To be called before the market moves.

        Raises:
            ImportError: when matplotlib is missing, naming the command that installs it.
            RuntimeError: when no window can be opened, naming the remedy.
        """
        if self.mode == "human" and self._window is None:
            from torchgym.visual.rendering.picture import Window

            self._window = Window(self.history.config)

    def follow(self, state: MarketState) -> None:
        """Take in what has happened in the batch: in this market a new episode, a decision, or nothing, as its clock says."""
        if self.mode is None:
            return
        tick, rows = int(state.clock.tick[0]), self.history.rows
        if not rows or tick == 0 or tick < rows[-1].tick:
            self.history.begin(state)
        elif tick > rows[-1].tick:
            self.history.add(state)
        if self._window is not None:
            self._window.show(self.history, state)

    def render(self, state: MarketState) -> str | Frame | None:
        """The market as it stands, of which the last `follow` told.

        Returns:
            A text or a frame, the caller's own; None in "human" mode, where the window shows it already, and without a mode.

        Raises:
            ImportError: when a frame is wanted and matplotlib is missing, naming the command that installs it.
        """
        if self.mode == "ansi":
            return text(self.history, state)
        return self.frame(state) if self.mode == "rgb_array" else None

    def frame(self, state: MarketState) -> Frame:
        """The market as it stands as a picture; see `render`."""
        if self._picture is None:
            from torchgym.visual.rendering.picture import Picture

            self._picture = Picture(self.history.config)
        self._picture.update(self.history, state)
        return self._picture.frame()

    def close(self) -> None:
        """Close the window, if there is one; may be called again."""
        if self._window is not None:
            self._window.close()
        self._window = self._picture = None
