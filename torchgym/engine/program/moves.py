"""Rows of many tensors moved by one call of compiled code."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from torch import Tensor

from torchgym.engine.program.program import Program


class _Pair(ctypes.Structure):
    _fields_ = [("target", ctypes.c_void_p), ("source", ctypes.c_void_p), ("bytes", ctypes.c_int64)]


class Moves:
    """Copies rows between pairs of tensors, all pairs in one call.

    Args:
        program: any whose libraries are loaded.
        targets: contiguous, of T rows each.
        sources: the same shapes and dtypes, but for the number of rows, R.
    """

    def __init__(self, program: Program, targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
        self.sources = sources
        self._targets = targets  # which the addresses point into
        pairs = list(zip(targets, sources, strict=True))
        for target, source in pairs:
            alike = target.shape[1:] == source.shape[1:] and target.dtype == source.dtype
            if not (alike and target.is_contiguous() and source.is_contiguous()):
                raise ValueError(
                    f"no rows of {source.dtype} {tuple(source.shape)} go into {target.dtype} {tuple(target.shape)}"
                )
        rows = (_Pair(target.data_ptr(), source.data_ptr(), target[:1].nbytes) for target, source in pairs)
        self._pairs = (_Pair * len(pairs))(*rows)
        self._rooms = len(targets[0]), len(sources[0])
        self._move = program.libraries[0].move

    def __call__(self, to: Sequence[int], at: Sequence[int]) -> None:
        """Rows `at` of the sources become rows `to` of the targets.

        Raises:
            IndexError: for a row that is not there.
            ValueError: when they are not as many.
        """
        if len(to) != len(at):
            raise ValueError(f"{len(at)} rows cannot become {len(to)}")
        for places, room in zip((to, at), self._rooms, strict=True):
            if not all(0 <= place < room for place in places):
                raise IndexError(f"rows must be from 0 to {room - 1}, got {list(places)}")
        count, array = len(self._pairs), ctypes.c_int64 * len(to)
        self._move(self._pairs, ctypes.c_int64(count), array(*to), array(*at), ctypes.c_int64(len(to)))
