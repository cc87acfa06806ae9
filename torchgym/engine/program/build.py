"""From a function to a program: trace, compile, record one call, and see that the recording does the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from torchgym.engine.program.errors import NotRecordable
from torchgym.engine.program.program import BATCH, ENTRIES, Call, Linear, Place, Program, Span, at_rows, extent

EXAMPLES = (3, 5)  # rows of the runs that a program of any number of rows is recorded from
# What several reductions over orders read is materialised instead of computed again in each of them.
FUSION: dict[str, Any] = {
    "realize_opcount_threshold": 8,
    "realize_reads_threshold": 2,
    "max_pointwise_cat_inputs": 1,
}
# One thread in a kernel, since threads share a batch by its chunks; nothing around the kernels that would be thrown away.
OPTIONS: dict[str, Any] = {
    **FUSION,
    "cpp.threads": 1,
    "cpp_wrapper": False,
    "size_asserts": False,
    "alignment_asserts": False,
}


@dataclass(frozen=True)
class Traced:
    """A function as a graph of operations on tensors of fixed shapes, or of any number of rows."""

    graph: torch.fx.GraphModule
    example: list[Tensor]
    batched: tuple[bool, ...] | None = None  # which inputs have that number for their first length

    @property
    def code(self) -> str:
        """Every operation with its constants, and the inputs: what has the same code does the same."""
        parts = [module.code for module in self.graph.modules() if isinstance(module, torch.fx.GraphModule)]
        shapes = map(_shape, self.example, self.batched or (False,) * len(self.example))
        inputs = [f"{tensor.dtype} {shape}" for tensor, shape in zip(self.example, shapes, strict=True)]
        return "\n".join([*inputs, *map(str, parts)])


def trace(
    function: Callable[..., Sequence[Tensor]], example: Sequence[Tensor], batched: Sequence[bool] | None = None
) -> Traced:
    """Follow one call of a function; takes some seconds.

    Args:
        function: of as many contiguous CPU tensors as the example has, to tensors; pure, and without branches on their values.
        example: inputs to trace, record and check it with; `EXAMPLES[-1]` rows of those that are batched.
        batched: which inputs, and all outputs with them, have any number of rows, the same in all; None for fixed shapes.

    Raises:
        NotRecordable: when the function reads tensors beside its arguments.
    """

    class Module(torch.nn.Module):
        def forward(self, *tensors: Tensor) -> list[Tensor]:
            return list(function(*tensors))

    shapes = None
    if batched is not None:
        rows = torch.export.Dim("rows", min=2)
        shapes = (tuple({0: rows} if own else None for own in batched),)
    with torch.no_grad():
        exported = torch.export.export(Module(), tuple(example), dynamic_shapes=shapes, strict=False)
    if exported.constants or exported.state_dict:
        names = ", ".join([*exported.constants, *exported.state_dict])
        raise NotRecordable(f"it has tensors for constants ({names}): use Python numbers, or torch.full with a device")
    graph = exported.module(check_guards=False) if batched is None else exported.graph_module
    assert isinstance(graph, torch.fx.GraphModule)
    return Traced(graph, list(example), None if batched is None else tuple(batched))


def build(traced: Traced) -> Program:
    """Compile a traced function into a program; takes from seconds to a minute.

    Raises:
        NotRecordable: see there.
    """
    with torch.no_grad():
        compiled = _compile(traced)
        recordings = []
        for rows in EXAMPLES if traced.batched else (None,):
            inputs = [
                (tensor[:rows] if own else tensor).clone()
                for tensor, own in zip(traced.example, traced.batched or [False] * len(traced.example), strict=True)
            ]
            recordings.append((*_record(compiled, inputs), inputs, rows))
        program = _generalised(*((recording, rows) for recording, _, _, rows in recordings))
        for _, expected, inputs, rows in recordings:
            _check(program, inputs, expected, rows)
    return program


def _compile(traced: Traced) -> Any:
    """The compiler's own result: an object whose `current_callable` takes a list of inputs."""
    from torch._functorch import config as functorch
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx, compile_fx_inner

    compiled: list[Any] = []
    example: list[Any] = traced.example
    if traced.batched:
        example = [node.meta["val"] for node in traced.graph.graph.nodes if node.op == "placeholder"]

    def keep(*arguments: Any, **options: Any) -> Any:
        compiled.append(compile_fx_inner(*arguments, **options))
        return compiled[-1]

    # A cached result would not pass by `keep`.
    with config.patch(OPTIONS), functorch.patch(enable_autograd_cache=False), _entries_added():
        compile_fx(traced.graph, example, inner_compile=keep)
    if len(compiled) != 1:
        raise NotRecordable(f"the compiler made {len(compiled)} graphs, not one")
    return compiled[0]


@contextmanager
def _entries_added() -> Iterator[None]:
    """While it lasts, a kernel is compiled together with its `ENTRIES`."""
    from torch._inductor.async_compile import AsyncCompile

    compiler: Any = AsyncCompile
    original = compiler.cpp_pybinding

    def compiling(self: AsyncCompile, types: list[str], source: str) -> Any:
        arguments = (f"({kind})(intptr_t)arguments[{at}]" for at, kind in enumerate(types))
        return original(self, types, source + ENTRIES.format(arguments=", ".join(arguments)))

    compiler.cpp_pybinding = compiling
    try:
        yield
    finally:
        compiler.cpp_pybinding = original


class _NoOperations(TorchDispatchMode):
    """Refuses whatever is not a launch of a generated kernel."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotRecordable(f"the compiler left {operation} to the library")


@dataclass(frozen=True)
class _Recording:
    """One call of the compiled function: shapes of inputs, bytes of memories, where outputs are, and what was launched."""

    inputs: tuple[tuple[tuple[int, ...], torch.dtype], ...]
    sizes: tuple[int, ...]
    outputs: tuple[Place, ...]
    calls: tuple[tuple[int, tuple[Any, ...]], ...]  # for each argument memory, offset and length, or a number
    kernels: tuple[Path, ...]


def _record(compiled: Any, inputs: Sequence[Tensor]) -> tuple[_Recording, list[Tensor]]:
    """One call, in which every kernel runs and its arguments are noted; also what came out."""
    if getattr(compiled, "constants", None):
        raise NotRecordable(f"the compiled function has constants: {', '.join(compiled.constants)}")
    launched: list[tuple[Any, tuple[Any, ...]]] = []
    with _kernels_replaced(compiled.current_callable, launched), _NoOperations():
        outputs = compiled.current_callable(list(inputs))
    if not all(isinstance(item, (Tensor, int)) for _, arguments in launched for item in arguments):
        raise NotRecordable("a kernel takes something other than tensors and whole numbers")

    memory = {tensor.untyped_storage().data_ptr(): index for index, tensor in enumerate(inputs)}
    sizes: list[int] = []

    def locate(tensor: Tensor) -> tuple[int, int]:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in memory:
            memory[storage.data_ptr()] = len(memory)
            sizes.append(storage.nbytes())
        return memory[storage.data_ptr()], tensor.data_ptr() - storage.data_ptr()

    def noted(argument: Tensor | int) -> Any:
        if isinstance(argument, int):
            return argument
        return (*locate(argument), extent(tuple(argument.shape), argument.stride(), argument.dtype))

    kernels = list(dict.fromkeys(kernel for kernel, _ in launched))
    calls = tuple((kernels.index(kernel), tuple(map(noted, arguments))) for kernel, arguments in launched)
    places = tuple(Place(*locate(out), tuple(out.shape), out.stride(), out.dtype) for out in outputs)
    recording = _Recording(
        inputs=tuple((tuple(tensor.shape), tensor.dtype) for tensor in inputs),
        sizes=tuple(sizes),
        outputs=places,
        calls=calls,
        kernels=tuple(Path(kernel.__self__.__file__) for kernel in kernels),
    )
    return recording, outputs


def _generalised(*recordings: tuple[_Recording, int | None]) -> Program:
    """The program of one recording, or of two with different numbers of rows, between which everything is linear."""
    (first, rows), (last, more) = recordings[0], recordings[-1]
    runs = [[(kernel, len(arguments)) for kernel, arguments in one.calls] for one in (first, last)]
    if first.kernels != last.kernels or len(first.sizes) != len(last.sizes) or runs[0] != runs[1]:
        raise NotRecordable("another number of rows runs other kernels")

    def linear(one: int, other: int) -> Linear:
        if rows is None or more is None or one == other:
            return Linear(0, one)
        per_row, rest = divmod(other - one, more - rows)
        if rest:
            raise NotRecordable("a size does not go with the number of rows")
        return Linear(per_row, one - per_row * rows)

    def shape(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
        if one[1:] != other[1:]:
            raise NotRecordable("a length other than the first goes with the number of rows")
        return one if one == other else (BATCH, *one[1:])

    def place(one: Place, other: Place) -> Place:
        pairs = zip(one.shape, one.stride, other.stride, strict=True)  # any stride stands in a dimension of one
        stride = tuple(0 if length == 1 else step for length, step, _ in pairs)
        moved = [a != b for length, a, b in zip(one.shape, one.stride, other.stride, strict=True) if length != 1]
        if (one.memory, one.offset, one.dtype) != (other.memory, other.offset, other.dtype) or any(moved):
            raise NotRecordable("an output moves with the number of rows")
        return Place(one.memory, one.offset, shape(one.shape, other.shape), stride, one.dtype)

    def argument(one: Any, other: Any) -> Span | Linear:
        if isinstance(one, int):
            return linear(one, other)
        if one[:2] != other[:2]:
            raise NotRecordable("a kernel's argument moves with the number of rows")
        return Span(one[0], one[1], linear(one[2], other[2]))

    return Program(
        inputs=tuple(
            (shape(one, other), dtype) for (one, dtype), (other, _) in zip(first.inputs, last.inputs, strict=True)
        ),
        sizes=tuple(map(linear, first.sizes, last.sizes)),
        outputs=tuple(map(place, first.outputs, last.outputs)),
        calls=tuple(
            Call(kernel, tuple(map(argument, one, other)))
            for (kernel, one), (_, other) in zip(first.calls, last.calls, strict=True)
        ),
        kernels=first.kernels,
    )


@contextmanager
def _kernels_replaced(run: Any, launched: list[tuple[Any, tuple[Any, ...]]]) -> Iterator[None]:
    """While it lasts, the kernels that `run` launches write themselves down."""
    scope = getattr(run, "__func__", run).__globals__
    kernels = {name: value for name, value in scope.items() if name.startswith("cpp_fused")}
    if not kernels or not all(hasattr(getattr(kernel, "__self__", None), "__file__") for kernel in kernels.values()):
        raise NotRecordable("the compiled function has no kernels where they are looked for")

    def noting(kernel: Any) -> Callable[..., None]:
        def launch(*arguments: Any) -> None:
            launched.append((kernel, arguments))
            kernel(*arguments)

        return launch

    scope.update({name: noting(kernel) for name, kernel in kernels.items()})
    try:
        yield
    finally:
        scope.update(kernels)


def _check(program: Program, inputs: Sequence[Tensor], expected: Sequence[Tensor], rows: int | None) -> None:
    """The program repeats the call that was recorded, in every bit."""
    shapes = [at_rows(place.shape, rows or 1) for place in program.outputs]
    outputs = [
        torch.zeros(shape, dtype=place.dtype, device="cpu")
        for shape, place in zip(shapes, program.outputs, strict=True)
    ]
    program.bind(inputs, outputs, program.scratch(rows or 1))()
    for index, (output, wanted) in enumerate(zip(outputs, expected, strict=True)):
        if output.numpy().tobytes() != wanted.contiguous().numpy().tobytes():
            raise NotRecordable(f"output {index} of the recording differs from that of the compiled function")


def _shape(tensor: Tensor, batched: bool) -> tuple[int, ...]:
    return (BATCH, *tensor.shape[1:]) if batched else tuple(tensor.shape)
