"""Ticks compiled by `torch.compile`: for GPUs, and on a CPU for what no program can be made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchgym.engine.buffers import Buffers
from torchgym.engine.program import FUSION
from torchgym.engine.replay import Kind, trace_tick
from torchgym.numerics.trees import leaves, unflatten
from torchgym.readout.packed import Packed
from torchgym.readout.step import Static, nothing
from torchgym.sim import actions
from torchgym.sim.params import Params
from torchgym.sim.state import MarketState

# What code for a GPU needs for the bits of a CPU: no a * b + c in one rounding, divisions that round, denormal numbers.
EXACT: dict[str, Any] = {
    "emulate_precision_casts": True,
    "eager_numerics.division_rounding": True,
    "eager_numerics.disable_ftz": True,
}
# A kernel's block and warps are tried out on the device: torch's first guess has a warp hold whole books, and spills. So
# does a kernel of more operations than these.
TUNED: dict[str, Any] = {"max_autotune_pointwise": True, "max_fusion_size": 32}


class Graph:
    """Ticks traced once and compiled by `torch.compile`; see `torchgym.engine.stepper.Stepper`."""

    buffers: Buffers | None = None
    any_ticks = False

    def __init__(self, static: Static) -> None:
        self._static = static
        self._graphs: dict[Kind, Callable[..., Any]] = {}

    def prepare(self, params: Params, state: MarketState) -> None:
        """Compile by a step whose result is dropped."""
        clock = state.clock.tick
        self.step(params, state, actions.rest(self._static.structure, clock.shape[0], clock.device))

    def step(
        self, params: Params, state: MarketState, action: Tensor, ticks: int | None = None
    ) -> tuple[MarketState, Packed]:
        """One decision; a pure function."""
        structure, plan = self._static.structure, self._static.plan.tick
        flat_params = [leaf for _, leaf in leaves(params)]
        sums = [leaf for _, leaf in leaves(nothing(structure, state))]
        for left in reversed(range(structure.ticks_per_action if ticks is None else ticks)):
            graph = self._graph("silent" if left else "told", params, state)
            made = iter(graph(*(leaf for _, leaf in leaves(state)), *flat_params, plan, action, *sums))
            state = unflatten(state, made)
            sums = list(made)
            action = torch.full_like(action, actions.space(structure).rest)
        return state, Packed(*sums)

    def _graph(self, kind: Kind, params: Params, state: MarketState) -> Callable[..., Any]:
        if kind not in self._graphs:
            traced = trace_tick(self._static, params, state, kind, dynamic=False)
            self._graphs[kind] = compile_graph(traced.graph, state.clock.tick.device)
        return self._graphs[kind]


def compile_graph(graph: Callable[..., Any], device: torch.device, /) -> Callable[..., Any]:
    """One graph without breaks, for tensors of a device."""
    isolated: dict[str, Any] = {"isolate_recompiles": True}  # the type stubs do not know it yet
    return torch.compile(graph, fullgraph=True, dynamic=False, options=options(device), **isolated)


def options(device: torch.device) -> dict[str, Any]:
    """What torch's compiler is asked for, where code is for this device."""
    return FUSION if device.type == "cpu" else {**EXACT, **TUNED}
