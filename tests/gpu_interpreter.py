"""The kernels that torch's compiler wrote for a GPU, run on a machine that has none, by Triton's interpreter.

    python tests/gpu_interpreter.py FOLDER CASE

plays two markets of a case with the modules in the folder, as `torchgym.engine.graph.Graph` plays them on a GPU, and the same
two uncompiled. Prints the number of ticks, and the names of what differed in any bit. A process of its own, since Triton must be
told to interpret before it is imported. It shows that the kernels are right in the arithmetic of IEEE 754; whether a GPU's
arithmetic is that one, only a GPU can show.
"""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"

import ast
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import triton.language as tl
from markets import SHORT, differences, opened, random_actions, seen
from torch import Tensor
from torch._inductor.runtime import triton_helpers

from torchgym.engine.graph import Graph
from torchgym.engine.replay import kinds

MARKETS = 2
DECISIONS = 3
BLOCK = 128  # elements of a program of a kernel without sums; others take a row


class _Library:
    """What kernels call of CUDA's library, in Triton's own words."""

    floor = staticmethod(lambda x: tl.floor(x))
    ceil = staticmethod(lambda x: tl.ceil(x))
    isnan = staticmethod(lambda x: x != x)
    trunc = staticmethod(lambda x: tl.where(x < 0, tl.ceil(x), tl.floor(x)))

    @staticmethod
    def nearbyint(x: Any) -> Any:
        """Of two whole numbers that are as near the even one; what is larger than the significand can halve is whole already."""
        whole = 2.0 ** (52 if x.dtype == tl.float64 else 23)
        near = tl.where(tl.abs(x) < whole, (x + 1.5 * whole) - 1.5 * whole, x)
        return tl.where(near == 0.0, x * 0.0, near)  # which keeps the sign of a zero


class _Kernel:
    """A kernel of the module, without what would tune it and load it onto a device."""

    def __init__(self, name: str, code: str) -> None:
        bare = re.sub(r"@triton_heuristics\.\w+\(.*?\n\)\n@triton\.jit", "@triton.jit", code, flags=re.S)
        scope: dict[str, Any] = {}
        exec(compile(bare, name, "exec"), scope)
        self._function = scope[name]
        self._function.fn.__globals__["libdevice"] = _Library
        rows = re.search("_(per|red)_", name)
        self._blocks = {"XBLOCK": 1 if rows else BLOCK, "R0_BLOCK": 256}
        # Several kernels in one launch, with a length each.
        joined = re.search(r"'grid_type': '(\w+)', 'combo_grid_meta': (\{.*?\}), 'kernel_name'", code)
        self._joined = joined and (joined[1], ast.literal_eval(joined[2]))

    def run(self, *given: Any, stream: object) -> None:
        names = self._function.arg_names
        values = self._blocks | dict(zip((name for name in names if name not in self._blocks), given, strict=True))
        self._function[(self._programs(values),)](*(values[name] for name in names))

    def _programs(self, values: Mapping[str, Any]) -> int:
        if self._joined is None:
            return -(-int(values["xnumel"]) // values["XBLOCK"])
        kind, about = self._joined
        block = (about["default_config"] or values)["XBLOCK"]
        each = [
            -(-about[f"xnumel_{at}"] // (1 if about[f"no_x_dim_{at}"] else block)) for at in range(about["num_kernels"])
        ]
        return {"SequentialComboKernelGrid": sum(each), "RoundRobinComboKernelGrid": len(each) * max(each)}[kind]


class _Compiler:
    """In place of torch's own, which would compile for the device."""

    def triton(self, name: str, code: str, device_str: str) -> _Kernel:
        return _Kernel(name, code)

    def wait(self, scope: object) -> None:
        pass


def load(code: str) -> Callable[..., list[Tensor]]:
    """The function that a module is of, on the CPU."""
    for pattern, plain in (
        (r"from torch\._C import _cuda_getCurrentRawStream as get_raw_stream", "get_raw_stream = lambda index: 0"),
        (r"AsyncCompile\(\)", "_Compiler()"),
        (r"with torch\.cuda\._DeviceGuard\(0\):", "if True:"),
        (r"torch\.cuda\.set_device\(0\)", "pass"),
        (r"empty_strided_cuda = .*", "empty_strided_cuda = lambda *of: torch.empty_strided(*of[:2], dtype=of[2])"),
        (r"empty_strided_(xpu|mtia|cpu_pinned|p2p) = .*", ""),
    ):
        code = re.sub(pattern, plain, code)
    scope: dict[str, Any] = {"_Compiler": _Compiler, "__name__": "generated"}
    exec(compile(code, "generated", "exec"), scope)
    call = scope["call"] if "call" in scope else scope["runner"].call
    return lambda *inputs: list(call(list(inputs)))


def main(folder: Path, case: str) -> dict[str, Any]:
    """Decisions, with a reset of one market after the first and then of those whose episodes end."""
    config = SHORT[case]
    kernels, plain = (opened(config, MARKETS, seed=4, compile=False) for _ in range(2))
    graph = Graph(kernels._static)
    graph._graphs = {kind: load((folder / f"{kind}.py").read_text()) for kind in kinds(kernels.structure)}
    kernels._stepper = graph
    mask, found = torch.tensor([False, True]), []
    for at, action in enumerate(random_actions(config, DECISIONS, MARKETS)):
        first, second = kernels.step(action), plain.step(action)
        found += differences(seen(first), seen(second)) + differences(kernels.state, plain.state)
        mask = second.terminated | second.truncated if at else mask
        kernels.reset(mask=mask)
        plain.reset(mask=mask)
    assert bool(mask.any())
    return {"ticks": DECISIONS * config.ticks_per_action, "differences": found}


if __name__ == "__main__":
    triton_helpers.set_driver_to_gpu = lambda: None
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
