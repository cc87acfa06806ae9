"""One market and its learner, shown: as text, as a frame, or live in a window."""

from __future__ import annotations

from torchgym.visual.rendering.history import KEEP, History, HistoryRow
from torchgym.visual.rendering.screen import METADATA, MODES, Frame, Screen
from torchgym.visual.rendering.text import text

__all__ = ["KEEP", "METADATA", "MODES", "Frame", "History", "HistoryRow", "Screen", "text"]
