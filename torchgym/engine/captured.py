"""Compiled decisions on a GPU: each is one CUDA graph, captured once and replayed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from torchgym.engine.buffers import Buffers
from torchgym.engine.graph import Graph
from torchgym.numerics.trees import leaves
from torchgym.readout.step import Static
from torchgym.sim.params import Params
from torchgym.sim.state import MarketState


class Captured(Buffers):
    """Decisions that are launched as a whole: the kernels of `Graph`, and the copies of what they make into the buffers.

    A step copies the action in, replays the graph, and copies what is told out; it never waits for the device.

    Args:
        static: what the markets have in common.
        params: of N markets.
        state: to begin with, of N markets; copied.
        graph: compiled already, for markets of the same kind.
    """

    def __init__(self, static: Static, params: Params, state: MarketState, graph: Graph | None = None) -> None:
        self._graph = Graph(static) if graph is None else graph
        self._work: dict[
            tuple[int, int], Callable[[], object]
        ] = {}  # by the ticks, and where the present is before them
        super().__init__(static, params, state)

    def another(self, params: Params, state: MarketState) -> Captured:
        """See `Buffers`."""
        return Captured(self._static, params, state, self._graph)

    def _make(self, first: MarketState) -> tuple[list[bool], list[Tensor]]:
        ticks = (1,) if self._static.structure.ticks_per_action == 1 else (1, 2)  # both kinds of tick
        steps = [self._graph.step(self._params, first, self._action, count) for count in ticks]
        places = [leaf.data_ptr() for _, leaf in leaves(first)]
        after = [[leaf.data_ptr() for _, leaf in leaves(state)] for state, _ in steps]
        unchanged = [set(found) == {place} for place, found in zip(places, zip(*after, strict=True), strict=True)]
        return unchanged, [torch.empty_like(leaf) for _, leaf in leaves(steps[0][1])]

    def _decide(self, ticks: int) -> None:
        work = self._work.get((ticks, self._at))
        if work is None:
            work = self._work[ticks, self._at] = capture(partial(self._run, ticks, self._at), self._action.device)
        work()

    def _run(self, ticks: int, at: int) -> None:
        after, told = self._graph.step(self._params, self._states[at], self._action, ticks)
        made = [leaf for tree in (after, told) for _, leaf in leaves(tree)]
        places = [*self._buffers[1 - at], *self._packed]
        moved = [(place, new) for place, new in zip(places, made, strict=True) if place.data_ptr() != new.data_ptr()]
        torch._foreach_copy_([place for place, _ in moved], [new for _, new in moved])


def capture(work: Callable[[], None], device: torch.device) -> Callable[[], object]:
    """A function that does the same work again, on the same memory, in one launch.

    Args:
        work: reads and writes tensors of a CUDA device alone, and does not wait for it. It is done here already.
    """
    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # what is compiled or tuned at a first call is not captured
            work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
    return graph.replay
