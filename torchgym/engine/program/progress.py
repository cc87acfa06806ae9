"""Lines on stderr about work that takes long."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_EVERY = 15.0  # seconds


def say(line: str) -> None:
    """Write a line to stderr, at once; where there is no stderr, or nobody reads it, nothing."""
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.write(f"torchgym: {line}\n")
            sys.stderr.flush()


@contextmanager
def reporting(line: str, still: str, *, after: float = 0.0) -> Iterator[None]:
    """Say what goes on while the work inside lasts.

    Args:
        line: said when it begins, or has lasted for some time.
        still: said every 15 seconds from then on, with the seconds so far.
        after: seconds without a word, which short work does not exceed; 0 says the line at once.
    """
    done, begin = threading.Event(), time.monotonic()

    def report() -> None:
        if after:
            if done.wait(after):
                return
            say(line)
        while not done.wait(_EVERY):
            say(f"{still}: {time.monotonic() - begin:.0f} s so far")

    if not after:
        say(line)
    reporter = threading.Thread(target=report, name="torchgym-progress", daemon=True)
    reporter.start()
    try:
        yield
    finally:
        done.set()
        reporter.join()
