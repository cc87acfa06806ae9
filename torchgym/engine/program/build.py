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
from torchgym.engine.program.program import Call, Place, Program, extent

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
    """A function as a graph of operations on tensors of fixed shapes."""

    graph: torch.fx.GraphModule
    example: list[Tensor]

    @property
    def code(self) -> str:
        """Every operation with its constants, and the inputs: what has the same code does the same."""
        parts = [module.code for module in self.graph.modules() if isinstance(module, torch.fx.GraphModule)]
        inputs = [f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in self.example]
        return "\n".join([*inputs, *map(str, parts)])


def trace(function: Callable[..., Sequence[Tensor]], example: Sequence[Tensor]) -> Traced:
    """Follow one call of a function; takes some seconds.

    Args:
        function: of as many contiguous CPU tensors as the example has, to tensors; pure, and without branches on their values.
        example: inputs to trace, record and check it with.

    Raises:
        NotRecordable: when the function reads tensors beside its arguments.
    """

    class Module(torch.nn.Module):
        def forward(self, *tensors: Tensor) -> list[Tensor]:
            return list(function(*tensors))

    with torch.no_grad():
        exported = torch.export.export(Module(), tuple(example), strict=False)
    if exported.constants or exported.state_dict:
        names = ", ".join([*exported.constants, *exported.state_dict])
        raise NotRecordable(f"it has tensors for constants ({names}): use Python numbers, or torch.full with a device")
    graph = exported.module(check_guards=False)
    assert isinstance(graph, torch.fx.GraphModule)
    return Traced(graph, list(example))


def build(traced: Traced) -> Program:
    """Compile a traced function into a program; takes from seconds to a minute.

    Raises:
        NotRecordable: see there.
    """
    with torch.no_grad():
        compiled = _compile(traced)
        inputs = [tensor.clone() for tensor in traced.example]
        program, expected = _record(compiled, inputs)
        _check(program, inputs, expected)
    return program


def _compile(traced: Traced) -> Any:
    """The compiler's own result: an object whose `current_callable` takes a list of inputs."""
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx, compile_fx_inner

    compiled: list[Any] = []

    def keep(*arguments: Any, **options: Any) -> Any:
        compiled.append(compile_fx_inner(*arguments, **options))
        return compiled[-1]

    with config.patch(OPTIONS):
        compile_fx(traced.graph, traced.example, inner_compile=keep)
    if len(compiled) != 1:
        raise NotRecordable(f"the compiler made {len(compiled)} graphs, not one")
    return compiled[0]


class _NoOperations(TorchDispatchMode):
    """Refuses whatever is not a launch of a generated kernel."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotRecordable(f"the compiler left {operation} to the library")


def _record(compiled: Any, inputs: Sequence[Tensor]) -> tuple[Program, list[Tensor]]:
    """One call, in which every kernel runs and its arguments are noted; also what came out."""
    if getattr(compiled, "constants", None):
        raise NotRecordable(f"the compiled function has constants: {', '.join(compiled.constants)}")
    launched: list[tuple[Any, tuple[Any, ...]]] = []
    with _kernels_replaced(compiled.current_callable, launched), _NoOperations():
        outputs = compiled.current_callable(list(inputs))
    if not all(isinstance(item, Tensor) for _, arguments in launched for item in arguments):
        raise NotRecordable("a kernel takes something other than tensors")

    memory = {tensor.untyped_storage().data_ptr(): index for index, tensor in enumerate(inputs)}
    sizes: list[int] = []

    def locate(tensor: Tensor) -> tuple[int, int]:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in memory:
            memory[storage.data_ptr()] = len(memory)
            sizes.append(storage.nbytes())
        return memory[storage.data_ptr()], tensor.data_ptr() - storage.data_ptr()

    def span(tensor: Tensor) -> tuple[int, int, int]:
        return (*locate(tensor), extent(tuple(tensor.shape), tensor.stride(), tensor.dtype))

    kernels = list(dict.fromkeys(kernel for kernel, _ in launched))
    calls = tuple(Call(kernels.index(kernel), tuple(map(span, arguments))) for kernel, arguments in launched)
    places = tuple(Place(*locate(out), tuple(out.shape), out.stride(), out.dtype) for out in outputs)
    return Program(
        inputs=tuple((tuple(tensor.shape), tensor.dtype) for tensor in inputs),
        sizes=tuple(sizes),
        outputs=places,
        calls=calls,
        kernels=tuple(Path(kernel.__self__.__file__) for kernel in kernels),
    ), outputs


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


def _check(program: Program, inputs: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """The program repeats the call that was recorded, in every bit."""
    outputs = [torch.zeros(place.shape, dtype=place.dtype, device="cpu") for place in program.outputs]
    program.bind(inputs, outputs, program.scratch())()
    for index, (found, wanted) in enumerate(zip(outputs, expected, strict=True)):
        if found.numpy().tobytes() != wanted.contiguous().numpy().tobytes():
            raise NotRecordable(f"output {index} of the recording differs from that of the compiled function")
