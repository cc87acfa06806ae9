"""The program itself: kernels, their calls, and how they are bound to memory."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# What a kernel's library has beside it. `call` takes the kernel's arguments in one array: passing hundreds of them one by one
# costs Python more than a small kernel runs. `copy` fills a contiguous tensor from one that may have any strides: target, source,
# number of dimensions, bytes of an element, lengths, and steps in bytes. `run` makes all calls of a share, which are the chunks
# of one thread, then those of the next share that no other thread has begun. `move` copies rows between pairs of tensors.
ENTRIES = """
struct Launch {{ void (*call)(void**); void** arguments; }};
struct Share {{ Launch* launches; int64_t count; }};
struct Work {{ Share* shares; int64_t count; int64_t next; }};
struct Pair {{ char* target; const char* source; int64_t bytes; }};
extern "C" void call(void** arguments) {{ kernel({arguments}); }}
static char* gather(char* to, const char* from, const int64_t* lengths, const int64_t* steps, int64_t count, int64_t bytes) {{
    if (!count) {{ __builtin_memcpy(to, from, bytes); return to + bytes; }}
    for (int64_t at = 0; at < lengths[0]; ++at)
        to = gather(to, from + at * steps[0], lengths + 1, steps + 1, count - 1, bytes);
    return to;
}}
extern "C" void copy(void** arguments) {{
    const int64_t* numbers = (const int64_t*)arguments + 2;
    gather((char*)arguments[0], (const char*)arguments[1], numbers + 2, numbers + 2 + numbers[0], numbers[0], numbers[1]);
}}
extern "C" void run(Work* work) {{
    for (int64_t at; (at = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED)) < work->count;) {{
        const Share share = work->shares[at];
        for (int64_t one = 0; one < share.count; ++one) share.launches[one].call(share.launches[one].arguments);
    }}
}}
extern "C" void move(const Pair* pairs, int64_t count, const int64_t* to, const int64_t* from, int64_t rows) {{
    for (const Pair* pair = pairs; pair < pairs + count; ++pair)
        for (int64_t row = 0; row < rows; ++row)
            __builtin_memcpy(pair->target + to[row] * pair->bytes, pair->source + from[row] * pair->bytes, pair->bytes);
}}
"""

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
        kernels: shared libraries with a kernel and its `ENTRIES`, by `Call.kernel`.

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
    def libraries(self) -> tuple[ctypes.CDLL, ...]:
        """The kernels, loaded.

        Raises:
            OSError: when one cannot be loaded.
            AttributeError: when one lacks an entry.
        """
        libraries = tuple(ctypes.CDLL(str(path)) for path in self.kernels)
        for library in libraries:
            library.call.restype = library.copy.restype = library.run.restype = library.move.restype = None
        return libraries

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
        elsewhere = []
        for tensor, place in zip(outputs, self.outputs, strict=True):
            if self._fills(place) and place.memory not in own:
                own.add(place.memory)
                memory[place.memory] = _bytes(tensor)
            else:
                elsewhere.append((tensor, place))
        sources = [(tensor, _look(memory[place.memory], place, rows)) for tensor, place in elsewhere]
        copies = [_copy(tensor, source) for tensor, source in sources if tensor.data_ptr() != source.data_ptr()]
        addresses = [piece.data_ptr() for piece in memory]

        def value(argument: Span | Linear) -> int:
            return argument.at(rows) if isinstance(argument, Linear) else addresses[argument.memory] + argument.offset

        launches = [(call.kernel, [value(argument) for argument in call.arguments]) for call in self.calls]
        return Bound(self, launches, copies, memory)

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


@dataclass(frozen=True)
class Bound:
    """A program on fixed memory.

    Args:
        program: what runs.
        launches: for each call the kernel and its arguments.
        copies: arguments of `copy`, for each result that the kernels leave elsewhere.
        memory: what the arguments point to, which must live as long as they.
    """

    program: Program
    launches: Sequence[tuple[int, Sequence[int]]]
    copies: Sequence[Sequence[int]]
    memory: Sequence[Tensor]

    def __call__(self) -> None:
        """Run it."""
        Runs([[self]])()


class _Launch(ctypes.Structure):
    _fields_ = [("call", ctypes.c_void_p), ("arguments", ctypes.c_void_p)]


class _Share(ctypes.Structure):
    _fields_ = [("launches", ctypes.c_void_p), ("count", ctypes.c_int64)]


class _Work(ctypes.Structure):
    _fields_ = [("shares", ctypes.c_void_p), ("count", ctypes.c_int64), ("next", ctypes.c_int64)]


class Runs:
    """Runs of programs in shares, which threads take from one another; all runs of a share are made by one thread, in order.

    The threads are torch's own, so that they wait for no others: those are kept ready for some milliseconds after each of torch's
    operations, and would keep a processor from any further thread. Other Python threads go on meanwhile. Where torch has another
    kind of threads than OpenMP's of Linux, and in a forked child, which they do not follow, one thread makes all runs.
    """

    def __init__(self, shares: Sequence[Sequence[Bound]]) -> None:
        self._kept: list[Any] = [shares]  # what the addresses point to
        bounds = {id(bound): bound for share in shares for bound in share}  # one may come again and again
        known = {name: list(self._launches(bound)) for name, bound in bounds.items()}
        made = [self._array(_Launch, [launch for bound in share for launch in known[id(bound)]]) for share in shares]
        self._work = _Work(*self._array(_Share, made), 0)
        run, work = shares[0][0].program.libraries[0].run, ctypes.byref(self._work)
        team = _team() if len(shares) > 1 and not _forked else None
        self._run = functools.partial(team, run, work, len(shares), 0) if team else functools.partial(run, work)

    def _launches(self, bound: Bound) -> Iterator[tuple[int | None, int]]:
        libraries = bound.program.libraries
        calls = [(libraries[kernel].call, arguments) for kernel, arguments in bound.launches]
        calls += [(libraries[0].copy, arguments) for arguments in bound.copies]
        for function, arguments in calls:
            yield ctypes.cast(function, ctypes.c_void_p).value, self._array(ctypes.c_void_p, arguments)[0]

    def _array(self, kind: Any, values: Sequence[Any]) -> tuple[int, int]:
        """Address and length of an array that lives as long as this object."""
        array = (kind * len(values))(*values)
        self._kept.append(array)
        return ctypes.addressof(array), len(values)

    def __call__(self) -> None:
        """Make all runs."""
        self._work.next = 0
        self._run()


_forked = False  # whether this process is a child of one that may have had threads


def _after_fork() -> None:
    """In a forked child: the team's threads stayed with the parent, and waiting for them never ends."""
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def _team() -> Any | None:
    """`GOMP_parallel` of the library that torch's threads belong to; None where torch was built with another kind of threads."""
    try:
        function = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).GOMP_parallel
    except (OSError, AttributeError):
        return None
    function.restype = None
    return function


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


def _copy(target: Tensor, source: Tensor) -> list[int]:
    """Arguments of `copy`, between tensors of the same shape."""
    if source.is_contiguous():
        return [target.data_ptr(), source.data_ptr(), 0, source.nbytes]
    width = source.itemsize
    steps = (step * width for step in source.stride())
    return [target.data_ptr(), source.data_ptr(), source.dim(), width, *source.shape, *steps]


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
