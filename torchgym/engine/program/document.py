"""A program as what JSON can say, and back. Nothing that comes back is trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from torchgym.engine.program.program import Call, Linear, Place, Program, Span

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.bool, *_INTEGERS, *_FLOATS)}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def to_document(program: Program, kernels: Sequence[str]) -> dict[str, Any]:
    """The program; each of its kernels by a name, and with the number of arguments it takes."""
    taken = {call.kernel: len(call.arguments) for call in program.calls}
    return {
        "inputs": [[shape, _NAMES[dtype]] for shape, dtype in program.inputs],
        "sizes": [[size.per_row, size.fixed] for size in program.sizes],
        "outputs": [
            [place.memory, place.offset, place.shape, place.stride, _NAMES[place.dtype]] for place in program.outputs
        ],
        "calls": [[call.kernel, [_argument(argument) for argument in call.arguments]] for call in program.calls],
        "kernels": [[name, taken[index]] for index, name in enumerate(kernels)],
    }


def from_document(document: Mapping[str, Any], find: Callable[[Any], Path]) -> Program:
    """The program that `to_document` described.

    Args:
        document: an object from JSON, of any content.
        find: the file of a kernel, by its name.

    Raises:
        ValueError: for anything that is no program; a KeyError or TypeError, too.
    """
    kernels = [(find(name), _integer(count)) for name, count in document["kernels"]]
    program = Program(
        inputs=tuple((_integers(shape), _DTYPES[dtype]) for shape, dtype in document["inputs"]),
        sizes=tuple(Linear(*map(_integer, size)) for size in document["sizes"]),
        outputs=tuple(
            Place(_integer(memory), _integer(offset), _integers(shape), _integers(stride), _DTYPES[dtype])
            for memory, offset, shape, stride, dtype in document["outputs"]
        ),
        calls=tuple(
            Call(_integer(kernel), tuple(map(_read_argument, arguments))) for kernel, arguments in document["calls"]
        ),
        kernels=tuple(path for path, _ in kernels),
    )
    for call in program.calls:
        if len(call.arguments) != kernels[call.kernel][1]:
            raise ValueError(
                f"kernel {call.kernel} takes {kernels[call.kernel][1]} arguments, not {len(call.arguments)}"
            )
    return program


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is no whole number")
    return value


def _integers(values: Any) -> tuple[int, ...]:
    return tuple(_integer(value) for value in values)


def _argument(argument: Span | Linear) -> list[int]:
    if isinstance(argument, Linear):
        return [argument.per_row, argument.fixed]
    return [argument.memory, argument.offset, argument.length.per_row, argument.length.fixed]


def _read_argument(values: Any) -> Span | Linear:
    numbers = _integers(values)
    if len(numbers) == 2:
        return Linear(*numbers)
    memory, offset, per_row, fixed = numbers
    return Span(memory, offset, Linear(per_row, fixed))
