"""The program itself: kernels, their calls, and how they are bound to memory."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector register
_MOST = 1 << 40  # bytes of all memories together, for each row of a run; and elements along a dimension

BATCH = -1  # the first length of a shape, where it is the number of rows n that a run has
_LARGEST = 1 << 20  # rows of a run


@dataclass(frozen=True)
class Linear:
    """A number that goes with the rows of a run: per_row n + fixed."""

    per_row: int
    fixed: int

    def at(self, rows: int) -> int:
        """The number for a run of so many rows."""
        return self.per_row * rows + self.fixed


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: in which memory, from which byte on, and how. Strides count elements."""

    memory: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Span:
    """What a pointer of a kernel may touch: the memory, the first byte in it, and the bytes from there on."""

    memory: int
    offset: int
    length: Linear


@dataclass(frozen=True)
class Call:
    """One launch: which kernel, and for each of its arguments a span of memory or a number."""

    kernel: int
    arguments: tuple[Span | Linear, ...]


@dataclass(frozen=True)
class Program:
    """What a compiled function does, as data. Memories are numbered: the inputs first, then everything it allocates.

    Args:
        inputs: shape and dtype of each input, a contiguous tensor.
        sizes: bytes of each memory that is no input.
        outputs: where each result ends up.
        calls: in order.
        kernels: shared libraries that export `kernel`, by `Call.kernel`.

    Raises:
        ValueError: for a number that leads out of a memory, or to no kernel.
    """

    inputs: tuple[tuple[tuple[int, ...], torch.dtype], ...]
    sizes: tuple[Linear, ...]
    outputs: tuple[Place, ...]
    calls: tuple[Call, ...]
    kernels: tuple[Path, ...]

    def __post_init__(self) -> None:
        for place in self.outputs:
            _check("stride", place.stride)
            if len(place.shape) != len(place.stride) or place.offset % place.dtype.itemsize:
                raise ValueError(f"an output has no {place.dtype} at {place}")
        for call in self.calls:
            if not 0 <= call.kernel < len(self.kernels):
                raise ValueError(f"kernel {call.kernel} of {len(self.kernels)} is called")
        for rows in (1, _LARGEST):  # linear, so what holds for both holds between them
            self._check_bounds(rows)

    def _check_bounds(self, rows: int) -> None:
        shapes = [(at_rows(shape, rows), dtype) for shape, dtype in self.inputs]
        for shape, _ in shapes:
            _check("shape", shape)
        sizes = [*(extent(shape, _contiguous(shape), dtype) for shape, dtype in shapes)]
        sizes += [size.at(rows) for size in self.sizes]
        _check("sizes", [size // rows for size in sizes])
        _check("sizes in all", (sum(sizes) // rows,))
        for place in self.outputs:
            shape = at_rows(place.shape, rows)
            _check("shape", shape)
            _check_span(sizes, place.memory, place.offset, extent(shape, place.stride, place.dtype))
        for call in self.calls:
            for argument in call.arguments:
                if isinstance(argument, Span):
                    _check_span(sizes, argument.memory, argument.offset, argument.length.at(rows))
                elif (argument.per_row, argument.fixed) != (1, 0):
                    raise ValueError(f"a kernel takes the number {argument}, which is not that of the rows")

    @functools.cached_property
    def functions(self) -> tuple[Callable[..., None], ...]:
        """The kernels, loaded."""
        functions = tuple(ctypes.CDLL(str(path)).kernel for path in self.kernels)
        for function in functions:
            function.restype = None
        return functions

    def passed_through(self, output: int) -> int | None:
        """The input that an output simply is, or None."""
        place = self.outputs[output]
        if place.memory >= len(self.inputs) or place.offset:
            return None
        return place.memory if (place.shape, place.dtype) == self.inputs[place.memory] else None

    def scratch(self, rows: int = 1) -> list[Tensor]:
        """Memory for what it computes on its way, in one piece; runs that share it must not run at the same time.

        Args:
            rows: of the largest run.
        """
        rounded = [-(-size.at(rows) // _ALIGNMENT) * _ALIGNMENT for size in self.sizes]
        whole = torch.empty(sum(rounded) + _ALIGNMENT, dtype=torch.uint8, device="cpu")
        ends = list(itertools.accumulate(rounded, initial=-whole.data_ptr() % _ALIGNMENT))
        return [whole[start:end] for start, end in itertools.pairwise(ends)]

    def bind(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], scratch: Sequence[Tensor]) -> Bound:
        """Fix the memory: every run reads the inputs and writes the outputs where they are now.

        Args:
            inputs: contiguous, of the shapes and dtypes of `inputs`, all of the same number of rows.
            outputs: likewise, as `outputs` has them. None may overlap an input, but an output that passes an input through may be
                that input itself.
            scratch: from `scratch`, for as many rows at least.

        Raises:
            ValueError: for a tensor that does not fit.
        """
        pairs = zip(inputs, self.inputs, strict=True)
        rows = next((tensor.shape[0] for tensor, (shape, _) in pairs if shape[:1] == (BATCH,)), 1)
        wanted = [*self.inputs, *((place.shape, place.dtype) for place in self.outputs)]
        for index, (tensor, (shape, dtype)) in enumerate(zip([*inputs, *outputs], wanted, strict=True)):
            if tuple(tensor.shape) != at_rows(shape, rows) or tensor.dtype != dtype or not tensor.is_contiguous():
                raise ValueError(
                    f"tensor {index} must be contiguous, {dtype}, of shape {at_rows(shape, rows)};"
                    f" got {tensor.dtype} {tuple(tensor.shape)}"
                )
        for size, piece in zip(self.sizes, scratch, strict=True):
            if piece.numel() < size.at(rows):
                raise ValueError(f"the scratch memory is too small for {rows} rows")
        memory = [_bytes(tensor) for tensor in inputs] + list(scratch)
        own: set[int] = set()
        copied = []
        for tensor, place in zip(outputs, self.outputs, strict=True):
            if self._fills(place) and place.memory not in own:
                own.add(place.memory)
                memory[place.memory] = _bytes(tensor)
            else:
                copied.append((tensor, place))
        copies = [(tensor, _look(memory[place.memory], place, rows)) for tensor, place in copied]
        copies = [(tensor, source) for tensor, source in copies if tensor.data_ptr() != source.data_ptr()]
        addresses = [piece.data_ptr() for piece in memory]

        def value(argument: Span | Linear) -> Any:
            if isinstance(argument, Linear):
                return ctypes.c_int64(argument.at(rows))
            return _pointer(addresses[argument.memory] + argument.offset)

        launches = [functools.partial(self.functions[call.kernel], *map(value, call.arguments)) for call in self.calls]
        return Bound(launches, copies, memory)

    def _fills(self, place: Place) -> bool:
        """Whether it is the whole of a memory that is no input, in order."""
        own = place.memory - len(self.inputs)
        if own < 0 or place.offset:
            return False
        in_order = all(
            length == 1 or stride == expected
            for length, stride, expected in zip(place.shape, place.stride, _contiguous(place.shape), strict=True)
        )
        batched = place.shape[:1] == (BATCH,)
        count = math.prod(place.shape[1:] if batched else place.shape) * place.dtype.itemsize
        return in_order and self.sizes[own] == (Linear(count, 0) if batched else Linear(0, count))


class Bound:
    """A program on fixed memory. Calling it runs it; other Python threads go on meanwhile."""

    def __init__(
        self,
        launches: Sequence[Callable[[], None]],
        copies: Sequence[tuple[Tensor, Tensor]],
        memory: Sequence[Tensor],
    ) -> None:
        self._launches = tuple(launches)
        self._copies = tuple(copies)
        self._memory = tuple(memory)  # what the addresses point to must live as long as they

    def __call__(self) -> None:
        """Run it."""
        for launch in self._launches:
            launch()
        for target, source in self._copies:
            target.copy_(source)


def at_rows(shape: Sequence[int], rows: int) -> tuple[int, ...]:
    """A shape for a run of so many rows."""
    return tuple(rows if at == 0 and length == BATCH else length for at, length in enumerate(shape))


def extent(shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> int:
    """Bytes from the first element of a tensor to behind its last one; strides count elements."""
    if 0 in shape:
        return 0
    last = sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
    return (last + 1) * dtype.itemsize


def _contiguous(shape: Sequence[int]) -> list[int]:
    """Strides of a contiguous tensor, in elements."""
    return [math.prod(shape[at + 1 :]) for at in range(len(shape))]


def _check(what: str, numbers: Sequence[int]) -> None:
    if not all(0 <= number <= _MOST for number in numbers):
        raise ValueError(f"{what} must be numbers from 0 to {_MOST}, got {numbers}")


def _check_span(sizes: Sequence[int], memory: int, offset: int, length: int) -> None:
    """Whether these bytes lie inside a memory."""
    if not 0 <= memory < len(sizes) or min(offset, length) < 0 or offset + length > sizes[memory]:
        raise ValueError(f"{length} bytes from byte {offset} on are not in memory {memory}")


def _pointer(address: int) -> Any:
    """An argument that ctypes passes on as it is: half the cost of a `c_void_p`, and a call takes hundreds."""
    return ctypes.byref(ctypes.c_char.from_address(address))


def _bytes(tensor: Tensor) -> Tensor:
    """A contiguous tensor's memory, uint8 [bytes]."""
    return tensor.reshape(-1).view(torch.uint8)


def _look(memory: Tensor, place: Place, rows: int) -> Tensor:
    """The tensor at a place in the memory."""
    width = place.dtype.itemsize
    whole = memory[: memory.numel() // width * width].view(place.dtype)
    return torch.as_strided(
        whole, at_rows(place.shape, rows), place.stride, whole.storage_offset() + place.offset // width
    )
