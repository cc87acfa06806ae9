"""Recorded kernels do what the compiled function does, on whatever memory they are bound to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from kernels import arithmetic, blank, built
from kernels import example as made_example
from torch import Tensor

from torchgym.engine import program as programs
from torchgym.engine.program import NotRecordable, Program
from torchgym.engine.program.build import _kernels_replaced
from torchgym.engine.program.program import Call, Place

_CONSTANT = torch.arange(100.0) ** 2


@pytest.fixture(scope="module")
def example() -> list[Tensor]:
    return made_example()


@pytest.fixture(scope="module")
def program() -> Program:
    return built()


def agree(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(torch.equal(first, second) for first, second in zip(found, expected, strict=True))


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


FLOATS, BYTES = torch.float32, torch.uint8


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"inputs": (((-1, 37), FLOATS),)}, "shape"),
        ({"sizes": (16, -608)}, "sizes"),
        ({"sizes": (1 << 39, 1 << 39, 1 << 39)}, "sizes in all"),
        ({"outputs": (Place(1, -4, (2,), (1,), FLOATS),)}, "not in memory 1"),
        ({"outputs": (Place(1, 2, (2,), (1,), FLOATS),)}, "no torch.float32"),
        ({"outputs": (Place(1, 0, (2, 2), (1,), FLOATS),)}, "no torch.float32"),
        ({"outputs": (Place(1, 0, (2,), (-1,), FLOATS),)}, "stride"),
        ({"outputs": (Place(1, 8, (2, 2), (2, 1), FLOATS),)}, "16 bytes from byte 8 on"),
        ({"outputs": (Place(2, 0, (), (), FLOATS),)}, "not in memory 2"),
        ({"calls": (Call(1, ()),)}, "kernel 1 of 1"),
        ({"calls": (Call(-1, ()),)}, "kernel -1 of 1"),
        ({"calls": (Call(0, ((-1, 0, 1),)),)}, "not in memory -1"),
        ({"calls": (Call(0, ((0, 0, 32), (1, 0, 17))),)}, "17 bytes from byte 0 on are not in memory 1"),
        ({"calls": (Call(0, ((1, 12, 8),)),)}, "8 bytes from byte 12 on"),
        ({"calls": (Call(0, ((1, 17, -1),)),)}, "-1 bytes"),
    ],
)
def test_a_number_out_of_bounds_makes_no_program(parts: dict[str, Any], why: str, program: Program) -> None:
    sane: dict[str, Any] = {
        "inputs": (((8,), FLOATS),),
        "sizes": (16,),
        "outputs": (Place(1, 8, (2,), (1,), FLOATS), Place(1, 16, (0, 9), (9, 1), BYTES)),
        "calls": (Call(0, ((0, 0, 32), (1, 16, 0), (1, 8, 8))),),
        "kernels": program.kernels,
    }
    Program(**sane)
    with pytest.raises(ValueError, match=why):
        Program(**{**sane, **parts})


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError, NotRecordable])
def test_a_recording_that_fails_puts_the_kernels_back(failure: type[BaseException]) -> None:
    kernel = SimpleNamespace(__self__=SimpleNamespace(__file__="library.so"))
    scope = {"cpp_fused_add": kernel}
    with pytest.raises(failure), _kernels_replaced(SimpleNamespace(__globals__=scope), []):
        assert scope["cpp_fused_add"] is not kernel
        raise failure
    assert scope == {"cpp_fused_add": kernel}


def test_a_compiler_that_moved_a_name_is_an_ordinary_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("torch._inductor.compile_fx.compile_fx_inner")
    with pytest.raises(ImportError, match="compile_fx_inner"):
        built()


def test_an_option_that_is_refused_is_an_ordinary_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(programs.build.__globals__["OPTIONS"], "cpp.no_such_option", 1)
    with pytest.raises(AttributeError) as refused:
        built()
    assert "no_such_option does not exist" in programs.reason(refused.value)
