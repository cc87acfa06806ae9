"""Compiled decisions on a GPU: each is one CUDA graph, captured once and replayed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

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

    A step copies the action in, replays the graph, and copies what is told out; it does not wait for the device.

    Args:
        static: what the markets have in common.
        params: of N markets.
        state: to begin with, of N markets; copied.
        compiled: ticks of such markets.
        capture: what captures decisions; markets that share it share the memory between their kernels, and take turns.
    """

    def __init__(
        self, static: Static, params: Params, state: MarketState, compiled: Graph, capture: Capture | None = None
    ) -> None:
        self._compiled = compiled
        self._capture = Capture(state.clock.tick.device) if capture is None else capture
        # By the ticks, and where the present is before them.
        self._work: dict[tuple[int, int], Callable[[], object]] = {}
        super().__init__(static, params, state)

    def like(self, params: Params, state: MarketState) -> Captured:
        """See `Buffers`."""
        return Captured(self._static, params, state, self._compiled, self._capture)

    def prepare(self, params: Params, state: MarketState) -> None:
        """Capture the decisions of the first steps; the markets stay where they are."""
        self._fresh = False
        self._capture_both(self._ticks)

    def _make(self, first: MarketState) -> tuple[list[bool], list[Tensor]]:
        ticks = (1,) if self._static.structure.ticks_per_action == 1 else (1, 2)  # both kinds of tick
        steps = [self._compiled.step(self._params, first, self._action, count) for count in ticks]
        places = [leaf.data_ptr() for _, leaf in leaves(first)]
        after = [[leaf.data_ptr() for _, leaf in leaves(state)] for state, _ in steps]
        unchanged = [set(found) == {place} for place, found in zip(places, zip(*after, strict=True), strict=True)]
        return unchanged, [torch.empty_like(leaf) for _, leaf in leaves(steps[0][1])]

    def _decide(self, ticks: int) -> None:
        if (ticks, self._at) not in self._work:
            self._capture_both(ticks)
        self._work[ticks, self._at]()

    def _capture_both(self, ticks: int) -> None:
        """From the present on, and back. Only the first may be run once before: the other way writes to the present."""
        with torch.inference_mode(False), torch.no_grad():  # as what was compiled before
            there = self._capture(partial(self._run, ticks, self._at), run=True)
            back = self._capture(partial(self._run, ticks, 1 - self._at), run=False)
        self._work |= {(ticks, self._at): there, (ticks, 1 - self._at): back}

    def _run(self, ticks: int, at: int) -> None:
        after, told = self._compiled.step(self._params, self._states[at], self._action, ticks)
        made = [leaf for tree in (after, told) for _, leaf in leaves(tree)]
        places = [*self._buffers[1 - at], *self._packed]
        moved = [(place, new) for place, new in zip(places, made, strict=True) if place.data_ptr() != new.data_ptr()]
        for dtype in {new.dtype for _, new in moved}:  # tensors of one dtype are copied by few kernels
            some = [(place, new) for place, new in moved if new.dtype == dtype]
            torch._foreach_copy_([place for place, _ in some], [new for _, new in some])


class Capture:
    """Captures work on a CUDA device as graphs. What they hold while they run is the same memory for all of them.

    Args:
        device: where all of their tensors are.
    """

    _one_at_a_time = threading.Lock()  # torch allows one capture in a process

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._shared: tuple[torch.cuda.Stream, Any] | None = None  # a pool of memory is shared on one stream alone

    def __call__(self, work: Callable[[], None], *, run: bool) -> Callable[[], object]:
        """A function that does the same work again, on the same memory, in one launch.

        Args:
            work: reads and writes tensors of the device, and does not wait for it.
            run: do it once before: what is compiled or tuned at a first call cannot be captured.
        """
        with self._one_at_a_time, torch.cuda.device(self._device):
            if self._shared is None:
                self._shared = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
            (stream, pool), before = self._shared, torch.cuda.current_stream()
            stream.wait_stream(before)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.stream(stream):  # leaves the stream even where the end of a capture fails
                if run:
                    work()
                with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                    work()
            before.wait_stream(stream)
        return graph.replay
