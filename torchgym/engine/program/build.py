"""From a function to a program: trace, compile, record one call, and see that the recording does the same."""

from __future__ import annotations

import copy
import ctypes
import functools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from torchgym.engine.program import cpp
from torchgym.engine.program.errors import NotRecordable
from torchgym.engine.program.isa import Isa, here
from torchgym.engine.program.program import BATCH, ENTRIES, Call, Linear, Place, Program, Span, at_rows, extent
from torchgym.files import hexdigest, replacing

EXAMPLES = (3, 5)  # rows of the runs that a program of any number of rows is recorded from
# What several reductions over orders read is materialised instead of computed again in each of them.
FUSION: dict[str, Any] = {
    "realize_opcount_threshold": 8,
    "realize_reads_threshold": 2,
    "max_pointwise_cat_inputs": 1,
}
# One thread in a kernel, since threads share a batch by its chunks; nothing that would be thrown away: assertions around the
# kernels, line numbers in them, headers made ready for other kernels, a graph kept for the next process.
OPTIONS: dict[str, Any] = {
    **FUSION,
    "cpp.threads": 1,
    "cpp_wrapper": False,
    "size_asserts": False,
    "alignment_asserts": False,
    "aot_inductor.enable_line_tables": False,
    "cpp_cache_precompile_headers": False,
    "fx_graph_cache": False,
}
# Of a single market with so many orders, threads share the loops of a kernel. Which loops are worth it is decided as for two of
# them: in those of fewer than 2,048 rounds they would wait for one another for longer than they work.
CROWD = 1 << 15
SHARED: dict[str, Any] = {"cpp.threads": 2, "cpp.dynamic_threads": True, "cpp.min_chunk_size": 1_024}


@dataclass(frozen=True)
class Traced:
    """A function as a graph of operations on tensors of fixed shapes, or of any number of rows."""

    graph: torch.fx.GraphModule
    example: list[Tensor]
    batched: tuple[bool, ...] | None = None  # which inputs have that number for their first length

    @property
    def crowded(self) -> bool:
        """Whether threads share its loops, as there are no markets to share."""
        return self.batched is None and any(tensor.numel() >= CROWD for tensor in self.example)

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
    from torch._dispatch.python import enable_python_dispatcher
    from torch._inductor.decomposition import select_decomp_table
    from torch._subclasses import FakeTensorMode
    from torch._subclasses.functional_tensor import dispatch_functionalize
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

    shapes = ShapeEnv()  # gives lengths that are equal in the example one symbol
    mode = FakeTensorMode(shape_env=shapes, allow_non_fake_inputs=True)
    mode.cache_enabled = False  # hardly two operations are alike, and to remember one takes as long as to do it

    def stand_in(tensor: Tensor, own: bool) -> Tensor:
        lengths = [DimDynamic.DUCK if own and at == 0 else DimDynamic.STATIC for at in range(tensor.ndim)]
        context: Any = StatelessSymbolicContext(dynamic_sizes=lengths)
        return mode.from_tensor(tensor, symbolic_context=context)

    inputs = list(map(stand_in, example, batched or [False] * len(example)))

    def follow(wrap: Callable[[Any], Any]) -> torch.fx.GraphModule:
        symbols = enable_python_dispatcher() if batched else nullcontext()
        with torch.no_grad(), mode, mock.patch("torch.compiler._is_compiling_flag", True), symbols:
            whole = wrap(lambda *tensors: list(function(*tensors)))
            return make_fx(whole, decomposition_table=select_decomp_table(), tracing_mode="real")(*inputs)

    graph = follow(lambda whole: whole)
    if any(
        isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable for node in graph.graph.nodes
    ):
        graph = follow(dispatch_functionalize)  # takes half as long again, and does away with what is done in place
    constants = [node.target for node in graph.graph.nodes if node.op == "get_attr"]
    if constants:
        names = ", ".join(map(str, constants))
        raise NotRecordable(f"it has tensors for constants ({names}): use Python numbers, or torch.full with a device")
    if shapes.guards:
        raise NotRecordable(f"it asks for the number of rows: {shapes.guards[0].expr}")
    return Traced(graph, list(example), None if batched is None else tuple(batched))


def build(traced: Traced, isa: Isa | None = None) -> Program:
    """Compile a traced function into a program; takes from seconds to half a minute.

    Args:
        isa: what it is made of; None is what this processor has. A program that cannot run here is recorded without running it,
            so its results are not compared with those of the compiled function.

    Raises:
        NotRecordable: see there.
    """
    isa = isa or here()
    with torch.no_grad():
        compiled = _compile(traced, isa)
        recordings = []
        for rows in EXAMPLES if traced.batched else (None,):
            inputs = [
                (tensor[:rows] if own else tensor).clone()
                for tensor, own in zip(traced.example, traced.batched or [False] * len(traced.example), strict=True)
            ]
            recordings.append((*_record(compiled, inputs, run=isa.runs_here), inputs, rows))
        program = _generalised(*((recording, rows) for recording, _, _, rows in recordings))
        if isa.runs_here:
            for _, expected, inputs, rows in recordings:
                _check(program, inputs, expected, rows)
    return program


class _Kernel:
    """A kernel in place of torch's own: a library without a way in from Python, since nothing but ctypes calls it.

    Args:
        types: of its arguments, in C++.
        source: C++, as torch's compiler wrote it.
    """

    def __init__(self, types: Sequence[str], source: str) -> None:
        arguments = (f"({kind})(intptr_t)arguments[{at}]" for at, kind in enumerate(types))
        self._source = source + ENTRIES.format(arguments=", ".join(arguments))
        self.path = Path()
        self.launched: list[tuple[_Kernel, tuple[Any, ...]]] = []
        self.run = True

    def compile(self, vectors: Any) -> None:
        """Make the library.

        Args:
            vectors: torch's name for what it is made of.
        """
        from torch._inductor.cpp_builder import CppBuilder, CppTorchOptions
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        source = cpp.in_parts(cpp.with_plain_loads(self._source, vectors.bit_width() // 32))
        options = CppTorchOptions(vec_isa=vectors, extra_flags=["-w"])  # megabytes of warnings, which nobody would read
        trial = CppBuilder("kernel", "kernel.cpp", options)
        command, library = trial.get_command_line(), Path(trial.get_target_file_path()).name
        place = Path(cache_dir()) / "torchgym" / hexdigest([source.encode(), command.encode()])
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():  # another program may have the same kernel
            folder = tempfile.mkdtemp(dir=place.parent)
            file = Path(folder) / "kernel.cpp"
            with replacing(file) as part:
                part.write_text(source)
            builder = CppBuilder("kernel", str(file), options, folder)
            builder.build()
            with suppress(OSError):  # another process was first
                Path(folder).rename(place)
            shutil.rmtree(folder, ignore_errors=True)
        self.path = place / library

    def __call__(self, *arguments: Any) -> None:
        """Launch it, if that is wanted, and note it."""
        if not all(isinstance(item, (Tensor, int)) for item in arguments):
            raise NotRecordable("a kernel takes something other than tensors and whole numbers")
        self.launched.append((self, arguments))
        if self.run:
            kernel = ctypes.CDLL(str(self.path)).kernel
            kernel.restype = None
            kernel(*(ctypes.c_int64(a) if isinstance(a, int) else ctypes.c_void_p(a.data_ptr()) for a in arguments))


def _compile(traced: Traced, isa: Isa) -> Any:
    """The compiler's own result: an object whose `current_callable` takes a list of inputs, and calls `_Kernel`s."""
    from torch._guards import TracingContext, detect_fake_mode, tracing
    from torch._inductor import config, cpu_vec_isa, sizevars
    from torch._inductor.async_compile import AsyncCompile
    from torch._inductor.codegen import cpp as codegen
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.fx_passes.joint_graph import joint_graph_passes
    from torch._inductor.virtualized import V

    get_cpp_compiler()  # before all else, so that it does not take long to find that there is none
    graph = torch.fx.GraphModule(traced.graph, copy.deepcopy(traced.graph.graph))  # the passes change it
    inputs = [node.meta["val"] for node in graph.graph.nodes if node.op == "placeholder"]
    vectors = isa.vectors()
    # The width of vectors is asked for, since otherwise an environment variable would decide.
    chosen = {"cpp.simdlen": vectors.bit_width(), "cpp.march": isa.march} if isa.march else {}
    chosen |= SHARED if traced.crowded else {}
    mode = detect_fake_mode(inputs)
    with (
        config.patch({**OPTIONS, **chosen}),
        mock.patch.object(AsyncCompile, "cpp_pybinding", lambda own, *kernel: _Kernel(*kernel)),
        mock.patch.object(cpu_vec_isa, "valid_vec_isa_list", lambda: [vectors] if vectors else []),
        mock.patch.object(codegen, "stride_at_vec_range", _strides(sizevars.stride_at_vec_range)),
        mock.patch.object(
            codegen.CppKernel, "decide_parallel_depth", _if_worth_it(codegen.CppKernel.decide_parallel_depth)
        ),
        V.set_fake_mode(mode),
        tracing(TracingContext(mode)),
    ):
        joint_graph_passes(graph)
        outputs = next(node for node in graph.graph.nodes if node.op == "output")
        outputs.meta["user_visible_output_idxs"] = list(range(len(outputs.args[0])))
        compiled = compile_fx_inner(graph, inputs, is_inference=True)
        for kernel in _kernels(compiled):
            kernel.compile(vectors)
    return compiled


def _strides(slowly: Callable[..., Any]) -> Callable[..., Any]:
    """Torch's function for how far an index moves with a variable, remembered, and by hand where the index is a polynomial.

    Torch has sympy simplify each index anew, of which it remembers 128: a fifth of the time that a program takes.
    """
    import sympy

    @functools.cache
    def stride(index: Any, variable: Any, lanes: int | None = None) -> Any:
        if index.has(sympy.Function) or not index.is_polynomial(variable):
            return slowly(index, variable, lanes)
        return sympy.expand(index.subs(variable, variable + 1) - index)

    return stride


def _if_worth_it(decide: Callable[..., Any]) -> Callable[..., Any]:
    """Torch's choice of the loops that threads share, as where their number is known; else it would be all loops."""
    from torch._inductor import config

    def decided(kernel: Any, most: Any, threads: int) -> Any:
        with config.patch("cpp.dynamic_threads", False):
            return decide(kernel, most, threads)

    return decided


def _kernels(compiled: Any) -> list[_Kernel]:
    """What the compiled function launches. A module that was loaded before brings its kernels with it."""
    call = compiled.current_callable
    return [value for value in getattr(call, "__func__", call).__globals__.values() if isinstance(value, _Kernel)]


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


def _record(compiled: Any, inputs: Sequence[Tensor], *, run: bool) -> tuple[_Recording, list[Tensor]]:
    """One call, in which the arguments of every kernel are noted; also what came out, where the kernels run."""
    if getattr(compiled, "constants", None):
        raise NotRecordable(f"the compiled function has constants: {', '.join(compiled.constants)}")
    if not _kernels(compiled):
        raise NotRecordable("the compiled function has no kernels where they are looked for")
    launched: list[tuple[_Kernel, tuple[Any, ...]]] = []
    for kernel in _kernels(compiled):
        kernel.launched, kernel.run = launched, run
    with _NoOperations():
        outputs = compiled.current_callable(list(inputs))
    for kernel in _kernels(compiled):
        kernel.launched = []  # torch keeps the module that keeps them

    memory = {tensor.untyped_storage().data_ptr(): index for index, tensor in enumerate(inputs)}
    sizes: list[int] = []

    def locate(tensor: Tensor) -> tuple[int, int]:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in memory:
            memory[storage.data_ptr()] = len(inputs) + len(sizes)  # empty inputs all have the same address
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
        kernels=tuple(kernel.path for kernel in kernels),
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
