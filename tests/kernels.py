"""What the tests of programs need: a small function with its program, and the cache folder as another process sees it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from torchgym.engine import program as programs
from torchgym.engine.program import Program
from torchgym.engine.program.program import Call, Linear, Place, Span
from torchgym.files import hexdigest


def arithmetic(first: Tensor, second: Tensor, count: Tensor) -> list[Tensor]:
    """Reductions, a passed-through input, several dtypes; exact for whole numbers."""
    total = first.sum(-1, keepdim=True)
    scaled = torch.where(first > 0.0, first * 2.0 + total, second)
    whole = torch.cat([scaled, total], dim=-1)
    return [whole, second, count + 1, (scaled > 1.0).to(torch.int64).sum(-1)]


def example(rows: int = 4) -> list[Tensor]:
    """Inputs of `arithmetic`: two of [rows, 37] float32, one of [rows] int64."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(-9, 9, (2, rows, 37), generator=generator).to(torch.float32).unbind()
    return [first.clone(), second.clone(), torch.arange(rows)]


def built() -> Program:
    """The program of `arithmetic`; takes some seconds."""
    return programs.build(programs.trace(arithmetic, example()))


def built_of_any_rows() -> Program:
    """The same for any number of rows."""
    return programs.build(programs.trace(arithmetic, example(programs.EXAMPLES[-1]), batched=[True] * 3))


def of_two_kernels() -> Program:
    """The same with a second kernel, and its result: the first input times minus three."""
    one = built_of_any_rows()
    rows = example(programs.EXAMPLES[-1])[:1]
    other = programs.build(programs.trace(lambda first: [first * -3.0], rows, batched=[True]))
    (kernel,), (shape, dtype), size = other.kernels, one.inputs[0], other.sizes[0]
    memory = len(one.inputs) + len(one.sizes)
    return dataclasses.replace(
        one,
        sizes=(*one.sizes, size),
        outputs=(*one.outputs, Place(memory, 0, shape, (shape[1], 1), dtype)),
        calls=(*one.calls, Call(1, (Span(0, 0, size), Span(memory, 0, size), Linear(1, 0)))),
        kernels=(*one.kernels, kernel),
    )


def blank(program: Program) -> list[Tensor]:
    """Memory for its results."""
    return [torch.zeros(place.shape, dtype=place.dtype) for place in program.outputs]


def computed(program: Program) -> str:
    """Digest of every bit that the program of two kernels, or of one, makes of the example.

    Raises:
        ValueError: when its inputs or results have other shapes or dtypes, or are not as many.
    """
    first, second, count = example()
    results = [torch.zeros(4, 38), second.clone(), count.clone(), count.clone(), first.clone()]
    outputs = results[: 3 + len(program.kernels)]
    program.bind(example(), outputs, program.scratch(4))()
    return hexdigest(output.numpy().tobytes() for output in outputs)


def agree(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether all are equal in every number."""
    return all(torch.equal(first, second) for first, second in zip(found, expected, strict=True))


class Missing(Exception):
    """The cache folder has no such program, or none that may be used."""


def load(name: str) -> Program:
    """A program from the cache folder.

    Raises:
        Missing: when it would be made now; says where it would be kept, or why not.
    """

    def make(kept: str) -> Program:
        raise Missing(kept)

    return programs.obtain(name, make)


def started(code: str, cache: Path, **variables: str) -> subprocess.Popen[str]:
    """A process of its own that runs this code, beside the tests' own modules."""
    folder = Path(__file__).resolve().parent
    paths = os.pathsep.join([str(folder.parent), str(folder)])
    environment = {**os.environ, "PYTHONPATH": paths, "TORCHGYM_CACHE_DIR": str(cache), **variables}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answers(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit status, stdout and stderr of each process, when all have ended; a process that hangs is killed."""
    try:
        texts = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(processes, texts, strict=True)]
