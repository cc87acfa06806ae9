"""What torch's compiler makes of the ticks of a market for an NVIDIA GPU, found out on a machine that has none.

    python tests/gpu_kernels.py FOLDER CASE MARKETS [--machine-code]

writes for each kind of tick the generated module, FOLDER/KIND.py, and what is in it, FOLDER/KIND.json: see `Made`. A process of
its own, since it answers for a device that is not there. Needs triton. Nothing here runs a kernel.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import os
import re
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn
from unittest import mock

import torch
from markets import SHORT
from torch._dynamo import device_interface
from torch._guards import TracingContext, tracing
from torch._inductor import config as inductor
from torch._inductor.codecache import PyCodeCache
from torch._inductor.compile_fx import compile_fx_inner
from torch._inductor.exc import InductorError
from torch._inductor.fx_passes.joint_graph import joint_graph_passes
from torch._inductor.graph import GraphLowering
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensorMode

from torchgym.engine.graph import options
from torchgym.engine.opening import example
from torchgym.engine.program import Traced
from torchgym.engine.replay import kinds, trace_tick

if TYPE_CHECKING:
    from collections.abc import Iterator

GPU = torch.device("cuda", 0)
CAPABILITY = 90  # of the H100 and the H200
# As torch would tell it of an H100.
PROPERTIES = SimpleNamespace(
    name="NVIDIA H100",
    major=9,
    minor=0,
    multi_processor_count=132,
    total_memory=80 << 30,
    warp_size=32,
    max_threads_per_block=1024,
    max_threads_per_multi_processor=2048,
    regs_per_multiprocessor=65_536,
    shared_memory_per_block=48 << 10,
    shared_memory_per_block_optin=227 << 10,
    shared_memory_per_multiprocessor=228 << 10,
    L2_cache_size=50 << 20,
    gcnArchName="",
)


@dataclasses.dataclass
class Kernel:
    """What ptxas makes of a kernel.

    Args:
        registers: of a thread.
        spilled: bytes of a thread that do not fit into them.
        inexact: instructions that round in another way than the CPU does, or flush small numbers to zero.
    """

    registers: int
    spilled: int
    inexact: list[str]


@dataclasses.dataclass
class Made:
    """A compiled tick.

    Args:
        launches: of kernels.
        library: calls of anything else.
        moved: bytes that the kernels read and write, each tensor of a launch once.
        held: bytes of the tensors between the kernels, if none were reused.
        kernels: by name; where they were asked for.
    """

    launches: int
    library: list[str]
    moved: int
    held: int
    kernels: dict[str, Kernel]


_KERNEL = r"(\w+) = async_compile\.triton\('\w+', '''(.*?)''', device_str='cuda'\)"
_INEXACT = r"\b(?:fma\.\w+\.f\d+|\w+\.(?:\w+\.)?ftz[\w.]*|\w+\.(?:approx|full)[\w.]*)"


class _Worker(device_interface.CudaInterface.Worker):
    set_device = staticmethod(lambda device: None)
    current_device = staticmethod(lambda: 0)
    get_device_properties = staticmethod(lambda device=None: PROPERTIES)


class _Interface(device_interface.CudaInterface):
    Worker = _Worker
    is_available = staticmethod(lambda: True)
    get_compute_capability = staticmethod(lambda device=None: CAPABILITY)
    current_device = staticmethod(lambda: 0)
    device_count = staticmethod(lambda: 1)
    get_device_properties = staticmethod(lambda device=None: PROPERTIES)
    synchronize = staticmethod(lambda device=None: None)
    get_raw_stream = staticmethod(lambda index: 0)
    is_triton_capable = staticmethod(lambda device=None: True)
    raise_if_triton_unavailable = staticmethod(lambda device=None: None)


class _Driver:
    def get_current_target(self) -> Any:
        return _target()

    def get_current_device(self) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return GPU


class _Written(Exception):
    """The compiler has written the module, and goes no further."""


@contextmanager
def pretended() -> Iterator[None]:
    """There is a GPU, as far as the compiler asks."""
    import triton
    from torch._inductor.runtime import triton_helpers

    device_interface.init_device_reg()
    for name in ("cuda", "cuda:0"):
        device_interface.register_interface_for_device(name, _Interface)
    triton.runtime.driver.set_active(_Driver())
    answers = {
        "torch.cuda.is_available": True,
        "torch.cuda.get_device_properties": PROPERTIES,
        "torch.cuda.get_device_capability": (CAPABILITY // 10, CAPABILITY % 10),
        "torch.cuda.current_device": 0,
        "torch.cuda._exchange_device": 0,
        "torch.cuda._maybe_exchange_device": 0,
        "torch.cuda.get_rng_state": torch.zeros(1),
        "torch.cuda.set_rng_state": None,
    }
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(triton_helpers, "set_driver_to_gpu", lambda: None))
        for name, answer in answers.items():
            stack.enter_context(mock.patch(name, lambda *_, answer=answer, **__: answer))
        yield


def source(traced: Traced) -> tuple[str, int]:
    """The module that torch's compiler writes for a traced tick on a GPU, and the bytes that its kernels move."""
    graph = torch.fx.GraphModule(traced.graph, copy.deepcopy(traced.graph.graph))
    joint_graph_passes(graph)  # on the CPU, where constants can be folded
    for node in graph.graph.nodes:
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": GPU}
    graph.recompile()
    outputs = next(node for node in graph.graph.nodes if node.op == "output")
    outputs.meta["user_visible_output_idxs"] = list(range(len(outputs.args[0])))
    made: list[tuple[str, int]] = []

    class Remembering(torch.fx.Interpreter):
        def run_node(self, node: torch.fx.Node) -> Any:
            node.meta["val"] = value = super().run_node(node)
            return value

    def write(lowering: GraphLowering) -> NoReturn:
        code, _ = lowering.codegen()
        made.append((getattr(code, "value", code), lowering.count_bytes()[0]))
        raise _Written

    mode = FakeTensorMode()
    with mode, torch.no_grad():
        inputs = [torch.empty(tensor.shape, dtype=tensor.dtype, device=GPU) for tensor in traced.example]
        Remembering(graph).run(*inputs)
    with (
        pretended(),
        torch.no_grad(),
        inductor.patch({**options(GPU), "fx_graph_cache": False}),
        mock.patch.object(GraphLowering, "compile_to_module", write),
        V.set_fake_mode(mode),
        tracing(TracingContext(mode)),
    ):
        try:
            compile_fx_inner(graph, inputs, is_inference=True)
        except InductorError:
            if not made:
                raise
    return made[0]


def machine_code(code: str) -> dict[str, Kernel]:
    """Every kernel of a module, compiled by Triton and ptxas: of the forms that would be tried, the first that spills least.

    On a device the fastest is taken, of those that spill at most 16 bytes where there are such.

    Raises:
        RuntimeError: when ptxas refuses a kernel.
    """
    import triton
    from triton.compiler import ASTSource

    ptxas = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    found = {}
    with pretended(), tempfile.TemporaryDirectory() as folder:
        for name, text in re.findall(_KERNEL, code, re.DOTALL):
            tuner = getattr(PyCodeCache.load(text), name)
            for form in tuner.configs:
                about = tuner._create_compile_meta(form)
                program = ASTSource(tuner.fn, about["signature"], about["constants"], about["configs"][0])
                how = tuner._create_compile_options(form, about)
                ptx = triton.compile(program, target=_target(), options=how).asm["ptx"]
                path = Path(folder) / "kernel.ptx"
                path.write_text(ptx)
                command = [ptxas, "-v", "--fmad=false", f"--gpu-name=sm_{CAPABILITY}a", path, "-o", os.devnull]
                told = subprocess.run(command, capture_output=True, text=True, check=False).stderr
                registers, spilled = (
                    re.search(what, told) for what in (r"Used (\d+) registers", r"(\d+) bytes spill stores")
                )
                if registers is None or spilled is None:
                    raise RuntimeError(f"ptxas refused {name}: {told[:500]}")
                kernel = Kernel(int(registers[1]), int(spilled[1]), sorted(set(re.findall(_INEXACT, ptx))))
                if name not in found or kernel.spilled < found[name].spilled:
                    found[name] = kernel
                if not kernel.spilled:
                    break
    return found


def made(code: str, moved: int, kernels: dict[str, Kernel]) -> Made:
    """What is in a module."""
    call = code.partition("async_compile.wait(")[2]
    sizes = [
        torch.empty(0, dtype=getattr(torch, dtype)).element_size() * _product(shape)
        for shape, dtype in re.findall(r"= empty_strided_cuda\(\(([\d, ]*)\), \([\d, ]*\), torch\.(\w+)\)", call)
    ]
    return Made(
        launches=len(re.findall(r"\.run\(", call)),
        library=re.findall(r"extern_kernels\.\w+|torch\.ops\.[\w.]+", call),
        moved=moved,
        held=sum(sizes),
        kernels=kernels,
    )


def _product(shape: str) -> int:
    total = 1
    for length in re.findall(r"\d+", shape):
        total *= int(length)
    return total


def _target() -> Any:
    from triton.backends.compiler import GPUTarget

    return GPUTarget("cuda", CAPABILITY, 32)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("case", choices=SHORT)
    parser.add_argument("markets", type=int)
    parser.add_argument("--machine-code", action="store_true")
    given = parser.parse_args()
    static, params, state = example(SHORT[given.case], given.markets)
    for kind in kinds(static.structure):
        code, moved = source(trace_tick(static, params, state, kind, dynamic=False))
        (given.folder / f"{kind}.py").write_text(code)
        told = made(code, moved, machine_code(code) if given.machine_code else {})
        (given.folder / f"{kind}.json").write_text(json.dumps(dataclasses.asdict(told)))


if __name__ == "__main__":
    main()
