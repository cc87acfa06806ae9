"""Markets among threads and forked processes: calls follow one after another, and a child goes on with copies of its own."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")
Self = TypeVar("Self", bound="Shared")

_ALIVE: weakref.WeakSet[Shared] = weakref.WeakSet()  # of this process


class Shared:
    """Something that threads take turns with."""

    def __init__(self) -> None:
        self._join()

    def _join(self) -> None:
        """Take part, with a lock of its own."""
        self._lock = threading.RLock()
        _ALIVE.add(self)

    def _in_child(self, *, interrupted: bool) -> None:
        """After a fork of the process; `interrupted` where another thread was in a method then, which it will never end."""
        raise NotImplementedError


def one_at_a_time(method: Callable[Concatenate[Self, P], R]) -> Callable[Concatenate[Self, P], R]:
    """A method that waits while another thread is in one of them."""

    @functools.wraps(method)
    def waiting(self: Self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            return method(self, *args, **kwargs)

    return waiting


def _after_fork() -> None:
    """In a forked child. Torch's own threads, too, stayed with the parent, and an operation that waits for them never ends."""
    shared: list[Any] = list(_ALIVE)
    if shared:
        torch.set_num_threads(1)
    for one in shared:
        interrupted = not one._lock.acquire(blocking=False)
        one._lock = threading.RLock()
        one._in_child(interrupted=interrupted)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
