"""What long work tells of itself: the type of a progress callback, and the one that ignores what it is told."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # stage, done, in all; a stage begins with 0 done and has one step at least
Count = Callable[[int, int], None]  # done, in all


def silent(*progress: object) -> None:
    """No-op progress callback."""
