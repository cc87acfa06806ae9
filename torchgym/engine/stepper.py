"""Ways to step a batch, all with the same bits: uncompiled, by `torch.compile`, or by a program that is replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from torchgym.engine.program import FUSION, NotRecordable, reason, say
from torchgym.engine.replay import Replay, trace_step
from torchgym.numerics.trees import leaves, unflatten
from torchgym.readout.packed import Packed
from torchgym.readout.step import Static, step
from torchgym.sim import actions
from torchgym.sim import tick as ticking
from torchgym.sim.params import Params
from torchgym.sim.state import MarketState


class Stepper(Protocol):
    """One way to step a batch."""

    @property
    def replay(self) -> Replay | None:
        """The program that runs on buffers of its own, where there is one: the state it returns changes in place."""

    def prepare(self, params: Params, state: MarketState) -> None:
        """Compile what the first step would compile; nothing moves."""

    def step(self, params: Params, state: MarketState, action: Tensor) -> tuple[MarketState, Packed]:
        """One decision of every market: the new state, and what is told of it, in fresh tensors."""


class Uncompiled:
    """A step as it is written."""

    replay: Replay | None = None

    def __init__(self, static: Static, watch: ticking.Watch | None = None) -> None:
        self._static = static
        self._watch = watch

    def prepare(self, params: Params, state: MarketState) -> None:
        """Nothing to do."""

    def step(self, params: Params, state: MarketState, action: Tensor) -> tuple[MarketState, Packed]:
        """See `Stepper`."""
        return step(self._static, params, state, action, self._watch)


class Graph:
    """A step traced once and compiled by `torch.compile`, for what no program can be made of."""

    replay: Replay | None = None

    def __init__(self, static: Static) -> None:
        self._static = static
        self._graph: Callable[..., Any] | None = None

    def prepare(self, params: Params, state: MarketState) -> None:
        """Compile by a step whose result is dropped."""
        clock = state.clock.tick
        self.step(params, state, actions.rest(self._static.structure, clock.shape[0], clock.device))

    def step(self, params: Params, state: MarketState, action: Tensor) -> tuple[MarketState, Packed]:
        """See `Stepper`."""
        if self._graph is None:
            traced = trace_step(self._static, params, state, dynamic=False)
            self._graph = compile_graph(traced.graph)
        flat = [leaf for tree in (state, params) for _, leaf in leaves(tree)]
        made = iter(self._graph(*flat, self._static.plan.tick, action))
        return unflatten(state, made), Packed(*made)


class Compiled:
    """A program on a CPU, else `torch.compile`; where compiling fails, one line says why, and steps run uncompiled.

    Args:
        static: what the markets have in common.
        device: where they live.
    """

    replays = True  # on a CPU; without, steps go through `torch.compile`

    def __init__(self, static: Static, device: torch.device) -> None:
        self._static = static
        self._device = device
        self._now: Stepper | None = None if device.type == "cpu" and self.replays else Graph(static)

    @property
    def replay(self) -> Replay | None:
        """See `Stepper`."""
        return None if self._now is None else self._now.replay

    @property
    def gave_up(self) -> bool:
        """Whether compiling failed, so that steps run uncompiled."""
        return isinstance(self._now, Uncompiled)

    def prepare(self, params: Params, state: MarketState) -> None:
        """See `Stepper`."""
        try:
            self._stepper(params, state).prepare(params, state)
        except Exception as error:
            self._give_up(error)

    def step(self, params: Params, state: MarketState, action: Tensor) -> tuple[MarketState, Packed]:
        """See `Stepper`."""
        stepper = self._stepper(params, state)
        if not isinstance(stepper, Graph):
            return stepper.step(params, state, action)
        try:
            return stepper.step(params, state, action)
        except Exception as error:  # a compiler may fail in any way; what is wrong with the step itself fails again
            return self._give_up(error).step(params, state, action)

    def copied(self, static: Static, device: torch.device) -> Compiled:
        """The same for a copy of the markets, on a device; a compiled graph of the same one is shared."""
        twin = Compiled(static, device)
        if isinstance(self._now, Graph) and device == self._device:
            twin._now = self._now
        return twin

    def _stepper(self, params: Params, state: MarketState) -> Stepper:
        if self._now is None:
            try:
                self._now = Replay(self._static, params, state)
            except NotRecordable as error:
                say(f"steps go through torch.compile, which is slower, with the same numbers: {reason(error)}")
                self._now = Graph(self._static)
            except Exception as error:  # no compiler, no memory, a torch that moved its internals, ...
                self._give_up(error)
        assert self._now is not None
        return self._now

    def _give_up(self, error: Exception) -> Stepper:
        say(f"uncompiled from now on, with the same numbers: {reason(error)}")
        self._now = Uncompiled(self._static)
        return self._now


def compile_graph(graph: Callable[..., Any]) -> Callable[..., Any]:
    """One graph without breaks."""
    isolated: dict[str, Any] = {"isolate_recompiles": True}  # the type stubs do not know it yet
    return torch.compile(graph, fullgraph=True, dynamic=False, options=FUSION, **isolated)
