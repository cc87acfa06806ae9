"""Recorded kernels do what the compiled function does, on whatever memory they are bound to."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sympy
import torch
from kernels import agree, arithmetic, blank, built, built_of_any_rows
from kernels import example as made_example
from torch import Tensor

from torchgym.engine import program as programs
from torchgym.engine.program import Moves, NotRecordable, Program
from torchgym.engine.program.build import _generalised, _Recording
from torchgym.engine.program.program import BATCH, Call, Linear, Place, Span

FLOATS, BYTES = torch.float32, torch.uint8
_CONSTANT = torch.arange(100.0) ** 2
build: Any = importlib.import_module(_generalised.__module__)  # the package has a function of this name


@pytest.fixture(scope="module")
def example() -> list[Tensor]:
    return made_example()


@pytest.fixture(scope="module")
def program() -> Program:
    return built()


def test_it_repeats_the_function_on_other_numbers(program: Program, example: list[Tensor]) -> None:
    inputs = [tensor.clone() for tensor in example]
    outputs = blank(program)
    run = program.bind(inputs, outputs, program.scratch())
    for shift in range(3):
        inputs[0].add_(shift)
        inputs[2].mul_(5)
        run()
        assert agree(outputs, arithmetic(*inputs))


def test_rows_of_a_larger_batch(program: Program) -> None:
    """Bound to rows 4 to 8 of twelve, it reads and writes nothing else."""
    whole = [torch.arange(444.0).reshape(12, 37), torch.ones(12, 37), torch.arange(12)]
    results = [torch.full((12, *place.shape[1:]), -7, dtype=place.dtype) for place in program.outputs]
    rows = slice(4, 8)
    program.bind([t[rows] for t in whole], [t[rows] for t in results], program.scratch())()
    assert agree([t[rows] for t in results], arithmetic(*(t[rows] for t in whole)))
    for result in results:
        assert bool((result[:4] == -7).all()) and bool((result[8:] == -7).all())


@pytest.mark.parametrize(
    "kind", [torch.float32, torch.float64, torch.int32, torch.int64, torch.bool, torch.uint8], ids=str
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (0,)], ids=str)
def test_rows_move(kind: torch.dtype, shape: tuple[int, ...], program: Program) -> None:
    """As an index would have it, into one tensor and another; the other rows stay."""
    source = (torch.arange(6 * math.prod(shape)).reshape(6, *shape) % 3).to(kind)
    target, other = torch.ones(9, *shape, dtype=kind), torch.zeros(9)
    expected, to, at = target.clone(), [8, 0, 3], [1, 1, 5]
    expected[to] = source[at]
    Moves(program, [target, other], [source, torch.arange(6.0)])(to, at)
    assert torch.equal(target, expected)
    assert other.tolist() == [1, 0, 0, 5, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(("to", "at"), [([9], [0]), ([-1], [0]), ([0], [6]), ([0], [-1])])
def test_rows_that_are_not_there_do_not_move(to: list[int], at: list[int], program: Program) -> None:
    target = torch.zeros(9, 2)
    with pytest.raises(IndexError, match="rows must be from 0 to"):
        Moves(program, [target], [torch.ones(6, 2)])(to, at)
    assert not target.any()


def test_as_many_rows_come_as_go(program: Program) -> None:
    with pytest.raises(ValueError, match="1 rows cannot become 2"):
        Moves(program, [torch.zeros(9, 2)], [torch.ones(6, 2)])([0, 1], [0])


@pytest.mark.parametrize("source", [torch.ones(6, 3), torch.ones(6, 2, dtype=torch.float64), torch.ones(2, 6).T])
def test_rows_of_another_kind_do_not_move(source: Tensor, program: Program) -> None:
    with pytest.raises(ValueError, match="go into"):
        Moves(program, [torch.zeros(9, 2)], [source])


def test_an_input_can_pass_through_without_a_copy(program: Program, example: list[Tensor]) -> None:
    assert [program.passed_through(index) for index in range(4)] == [None, 1, None, None]
    outputs = blank(program)
    outputs[1] = example[1]
    before = example[1].clone()
    program.bind(example, outputs, program.scratch())()
    assert torch.equal(example[1], before)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensors: tensors[0].to(torch.float64),
        lambda tensors: tensors[0][:3],
        lambda tensors: torch.cat([tensors[0], tensors[0]], -1)[:, ::2],
    ],
)
def test_memory_that_does_not_fit(
    program: Program, example: list[Tensor], spoil: Callable[[list[Tensor]], Tensor]
) -> None:
    with pytest.raises(ValueError, match=r"tensor 0 must be contiguous, torch\.float32, of shape"):
        program.bind([spoil(example), *example[1:]], blank(program), program.scratch())


def test_what_is_done_in_place_is_done_on_the_way(example: list[Tensor]) -> None:
    """To memory of its own and to views of it; a graph of which is traced a second time."""

    def function(first: Tensor) -> list[Tensor]:
        total = first * 2.0
        total[:, 1:].add_(1.0)
        return [total.mul_(first), total[:, :1] - 3.0]

    made = programs.build(programs.trace(function, example[:1]))
    outputs = blank(made)
    made.bind(example[:1], outputs, made.scratch())()
    assert agree(outputs, function(example[0]))


def test_threads_share_the_loops_of_a_crowd_in_the_same_bits() -> None:
    """Reals and sums of whole numbers, by any number of threads."""

    def function(sizes: Tensor, prices: Tensor) -> list[Tensor]:
        value = torch.sin(prices) * sizes + prices.sqrt()
        return [value, sizes.sum(-1), value.amax(-1), (prices > 0.5).to(torch.int64).sum(-1), sizes.roll(1, -1) + value]

    generator = torch.Generator().manual_seed(0)
    given = [
        torch.randint(0, 100, (1, build.CROWD), generator=generator).float(),
        torch.rand(1, build.CROWD, generator=generator),
    ]
    program = programs.build(programs.trace(function, given))
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(blank(program))
            program.bind(given, results[-1], program.scratch())()
    finally:
        torch.set_num_threads(before)
    assert all(agree(result, results[0]) for result in results[1:])
    assert agree(results[0][1:4:2], function(*given)[1:4:2])
    few = [tensor[:, : build.CROWD - 1] for tensor in given]
    assert [programs.trace(function, example).crowded for example in (given, few)] == [True, False]
    (source,) = [path.parent / "kernel.cpp" for path in program.kernels]
    assert "#pragma omp for" in source.read_text()


def test_strides_are_those_that_torch_would_find() -> None:
    """For indices by hand, and for those with a quotient or a remainder, which torch is asked for."""
    from torch._inductor.sizevars import stride_at_vec_range
    from torch.utils._sympy.functions import FloorDiv, ModularIndexing

    x, y, n = sympy.symbols("x y n", integer=True, nonnegative=True)
    strides = build._strides(stride_at_vec_range)
    indices = [x, 3 * x + y, x * n + 2 * y, n * (x + y) + 1, y, sympy.Integer(7), x * x, FloorDiv(x, 16) + y]
    indices += [ModularIndexing(x, 1, 32) + x, FloorDiv(x + y, 3), 5 * FloorDiv(y, 2) + 2 * x]
    for index in indices:
        for variable in (x, y):
            for lanes in (None, 16):
                expected = stride_at_vec_range(index, variable, lanes)
                assert sympy.expand(strides(index, variable, lanes) - expected) == 0, (index, variable, lanes)
    asked: list[Any] = []
    seldom = build._strides(lambda *given: asked.append(given))
    for _ in range(2):
        for index in indices:
            seldom(index, x, 16)
    assert [index for index, *_ in asked] == indices[7:]


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: [torch.cumsum(x, -1) + 1.0], "left aten.cumsum"),
        (lambda x: [torch.sort(x, -1)[0]], "no kernels"),
        (lambda x: [x.unsqueeze(-1) + _CONSTANT], "constants"),
    ],
)
def test_what_cannot_be_recorded_is_refused(function: Callable[..., list[Tensor]], why: str) -> None:
    with pytest.raises(NotRecordable, match=why):
        programs.build(programs.trace(function, [torch.randn(4, 3)]))


def test_instructions_that_the_processor_lacks_are_compiled_and_not_run(
    example: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it has them, and so the program can be tried afterwards."""
    if not programs.AVX2.runs_here:
        pytest.skip("needs AVX2")
    traced = programs.trace(arithmetic, example)
    with monkeypatch.context() as patch:
        patch.setattr("ctypes.CDLL", None)  # nothing is loaded
        foreign = programs.build(traced, dataclasses.replace(programs.AVX2, flags=("no such thing",)))
    ordinary = programs.build(traced, programs.AVX2)
    assert dataclasses.replace(foreign, kernels=ordinary.kernels) == ordinary
    outputs = blank(foreign)
    foreign.bind(example, outputs, foreign.scratch())()
    assert agree(outputs, arithmetic(*example))


# --- any number of rows


@pytest.fixture(scope="module")
def of_any_rows() -> Program:
    return built_of_any_rows()


def test_a_program_of_any_number_of_rows(of_any_rows: Program) -> None:
    assert [place.shape[0] for place in of_any_rows.outputs] == [BATCH] * 4
    scratch = of_any_rows.scratch(100)
    for rows in (1, 2, 3, 7, 64, 65, 100):
        inputs = [torch.arange(37.0 * rows).reshape(rows, 37) - 99.0, torch.ones(rows, 37), torch.arange(rows)]
        expected = arithmetic(*inputs)
        outputs = [torch.full_like(tensor, -7) for tensor in expected]
        of_any_rows.bind(inputs, outputs, scratch)()
        assert agree(outputs, expected)


def test_rows_must_be_as_many_everywhere(of_any_rows: Program) -> None:
    inputs = [torch.ones(4, 37), torch.ones(5, 37), torch.arange(4)]
    outputs = [tensor.clone() for tensor in arithmetic(inputs[0], inputs[0], inputs[2])]
    with pytest.raises(ValueError, match=r"tensor 1 must be contiguous, torch\.float32, of shape \(4, 37\)"):
        of_any_rows.bind(inputs, outputs, of_any_rows.scratch(5))
    inputs[1] = inputs[0]
    if of_any_rows.sizes:
        with pytest.raises(ValueError, match="scratch memory is too small for 4 rows"):
            of_any_rows.bind(inputs, outputs, of_any_rows.scratch(1))


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: [x[:, :1] - x[:, 0]], "an output moves with the number of rows"),  # a square
        (lambda x: [(x * 2.0).T + 1.0], "a length other than the first goes with the number of rows"),
        (lambda x: [x.reshape(-1) * 2.0], "output 0 of the recording differs"),  # three times as long
    ],
)
def test_what_does_not_go_row_by_row_is_refused(function: Callable[..., list[Tensor]], why: str) -> None:
    with pytest.raises(NotRecordable, match=why):
        programs.build(programs.trace(function, [torch.randn(programs.EXAMPLES[-1], 3)], batched=[True]))


def recording(rows: int, **changes: Any) -> _Recording:
    """One kernel from an input of [rows, 2] to an output as long."""
    return _Recording(
        **{
            "inputs": (((rows, 2), FLOATS),),
            "sizes": (8 * rows,),
            "outputs": (Place(1, 0, (rows, 2), (2, 1), FLOATS),),
            "calls": ((0, ((0, 0, 8 * rows), (1, 0, 8 * rows), rows)),),
            "kernels": (Path("kernel.so"),),
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"kernels": (Path("another.so"),)}, "another number of rows runs other kernels"),
        ({"sizes": (40, 8)}, "another number of rows runs other kernels"),
        ({"calls": ()}, "another number of rows runs other kernels"),
        ({"calls": ((1, ((0, 0, 40), (1, 0, 40), 5)),)}, "another number of rows runs other kernels"),
        ({"sizes": (41,)}, "a size does not go with the number of rows"),
        ({"inputs": (((5, 3), FLOATS),)}, "a length other than the first goes with the number of rows"),
        ({"outputs": (Place(1, 0, (5, 4), (4, 1), FLOATS),)}, "an output moves"),
        ({"outputs": (Place(1, 8, (5, 2), (2, 1), FLOATS),)}, "an output moves with the number of rows"),
        ({"outputs": (Place(1, 0, (5, 2), (1, 5), FLOATS),)}, "an output moves with the number of rows"),
        ({"calls": ((0, ((0, 8, 40), (1, 0, 40), 5)),)}, "a kernel's argument moves with the number of rows"),
    ],
)
def test_two_recordings_must_differ_by_their_rows_alone(other: dict[str, Any], why: str) -> None:
    program = _generalised((recording(3), 3), (recording(5), 5))
    assert program.sizes == (Linear(8, 0),)
    assert program.calls == (Call(0, (Span(0, 0, Linear(8, 0)), Span(1, 0, Linear(8, 0)), Linear(1, 0))),)
    with pytest.raises(NotRecordable, match=why):
        _generalised((recording(3), 3), (recording(5, **other), 5))


# --- bounds


def fixed(number: int) -> Linear:
    return Linear(0, number)


def touches(memory: int, offset: int, length: int) -> Span:
    return Span(memory, offset, fixed(length))


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"inputs": (((-2, 37), FLOATS),)}, "shape"),
        ({"sizes": (fixed(16), fixed(-608))}, "sizes"),
        ({"sizes": (fixed(1 << 39),) * 3}, "sizes in all"),
        ({"outputs": (Place(1, -4, (2,), (1,), FLOATS),)}, "not in memory 1"),
        ({"outputs": (Place(1, 2, (2,), (1,), FLOATS),)}, "no torch.float32"),
        ({"outputs": (Place(1, 0, (2, 2), (1,), FLOATS),)}, "no torch.float32"),
        ({"outputs": (Place(1, 0, (2,), (-1,), FLOATS),)}, "stride"),
        ({"outputs": (Place(1, 8, (2, 2), (2, 1), FLOATS),)}, "16 bytes from byte 8 on"),
        ({"outputs": (Place(3, 0, (), (), FLOATS),)}, "not in memory 3"),
        ({"calls": (Call(1, ()),)}, "kernel 1 of 1"),
        ({"calls": (Call(-1, ()),)}, "kernel -1 of 1"),
        ({"calls": (Call(0, (touches(-1, 0, 1),)),)}, "not in memory -1"),
        ({"calls": (Call(0, (touches(0, 0, 32), touches(1, 0, 17))),)}, "17 bytes from byte 0 on are not in memory 1"),
        ({"calls": (Call(0, (touches(1, 12, 8),)),)}, "8 bytes from byte 12 on"),
        ({"calls": (Call(0, (touches(1, 17, -1),)),)}, "-1 bytes"),
        ({"calls": (Call(0, (fixed(3),)),)}, "not that of the rows"),
        ({"calls": (Call(0, (Linear(2, 0),)),)}, "not that of the rows"),
        # What a run of one row may do, and a larger one may not.
        ({"sizes": (Linear(-1, 25), Linear(8, 0))}, "sizes"),
        ({"calls": (Call(0, (Span(1, 0, Linear(1, 0)),)),)}, "bytes from byte 0 on are not in memory 1"),
        ({"calls": (Call(0, (Span(2, 0, Linear(9, -1)),)),)}, "bytes from byte 0 on are not in memory 2"),
        ({"calls": (Call(0, (Span(2, 0, Linear(-1, 9)),)),)}, "are not in memory 2"),
        ({"outputs": (Place(1, 0, (BATCH, 2), (2, 1), FLOATS),)}, "are not in memory 1"),
    ],
)
def test_a_number_out_of_bounds_makes_no_program(parts: dict[str, Any], why: str, program: Program) -> None:
    sane: dict[str, Any] = {
        "inputs": (((8,), FLOATS),),
        "sizes": (fixed(16), Linear(8, 0)),
        "outputs": (Place(1, 8, (2,), (1,), FLOATS), Place(1, 16, (0, 9), (9, 1), BYTES)),
        "calls": (
            Call(0, (touches(0, 0, 32), touches(1, 16, 0), touches(1, 8, 8), Span(2, 0, Linear(8, 0)), Linear(1, 0))),
        ),
        "kernels": program.kernels,
    }
    Program(**sane)
    Program(**{**sane, "sizes": (fixed(16), Linear(8 << 20, 0))})  # large for one row, and no matter
    with pytest.raises(ValueError, match=why):
        Program(**{**sane, **parts})


def test_a_compiler_that_moved_a_name_is_an_ordinary_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("torch._inductor.compile_fx.compile_fx_inner")
    with pytest.raises(ImportError, match="compile_fx_inner"):
        built()


def test_an_option_that_is_refused_is_an_ordinary_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(programs.build.__globals__["OPTIONS"], "cpp.no_such_option", 1)
    with pytest.raises(AttributeError) as refused:
        built()
    assert "no_such_option does not exist" in programs.reason(refused.value)
