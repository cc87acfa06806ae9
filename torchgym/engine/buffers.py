"""Stepping a batch on memory of its own: two sets of buffers, written in turn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from torchgym.numerics.trees import clone, leaves, unflatten
from torchgym.readout.packed import Packed
from torchgym.readout.step import Static
from torchgym.sim import actions
from torchgym.sim.params import Params
from torchgym.sim.state import MarketState

B = TypeVar("B", bound="Buffers")


class Buffers(ABC):
    """Steps a batch as `torchgym.readout.step.step` does, bit for bit, but on memory of its own.

    Two sets of buffers are written in turn, so the state that a call returns lives until the call after the next.

    Args:
        static: what the markets have in common.
        params: of N markets.
        state: to begin with, of N markets; copied.
    """

    any_ticks = False

    def __init__(self, static: Static, params: Params, state: MarketState) -> None:
        self.num_envs = state.clock.tick.shape[0]
        self._static = static
        with torch.inference_mode(False), torch.no_grad():
            self._params = clone(params)
            self._action = actions.rest(static.structure, self.num_envs, state.clock.tick.device)
            first = clone(state)
            unchanged, self._packed = self._make(first)
            flat = [leaf for _, leaf in leaves(first)]
            second = [leaf if same else torch.empty_like(leaf) for leaf, same in zip(flat, unchanged, strict=True)]
            self._buffers = (flat, second)
            self._states = tuple(unflatten(state, one) for one in self._buffers)
        self.packed_now = Packed(*self._packed)
        self._leaves = [[*one, *self._packed] for one in self._buffers]
        self._ticks = static.structure.ticks_per_action
        self._given_params: Params | None = params
        self._at = 0  # which set of buffers holds the present
        self._fresh = False  # whether what was told last belongs to the present

    @abstractmethod
    def _make(self, first: MarketState) -> tuple[list[bool], list[Tensor]]:
        """Make what steps the batch: which leaves of the state no step changes, and memory for what is told."""

    @abstractmethod
    def _decide(self, ticks: int) -> None:
        """One decision of so many ticks, from the present into the other set of buffers and what is told."""

    @abstractmethod
    def like(self: B, params: Params, state: MarketState) -> B:
        """Other markets, stepped in the same way on other memory."""

    @property
    def buffers(self: B) -> B:
        """Itself; see `torchgym.engine.stepper.Stepper`."""
        return self

    @abstractmethod
    def prepare(self, params: Params, state: MarketState) -> None:
        """See `torchgym.engine.stepper.Stepper`."""

    def step(
        self, params: Params, state: MarketState, action: Tensor, ticks: int | None = None
    ) -> tuple[MarketState, Packed]:
        """One decision of every market: the new state, in the buffers, and what is told, in fresh tensors."""
        if state is not self._states[self._at] or params is not self._given_params:
            self.load(params, state)
        self._action.copy_(action)
        self._fresh = False  # until all of it is told
        self._decide(self._ticks if ticks is None else ticks)
        self._at = 1 - self._at
        self._fresh = True
        return self._states[self._at], self.packed()

    @property
    def at_once(self) -> int:
        """Markets that are best stepped together."""
        return self.num_envs

    @property
    def state(self) -> MarketState:
        """The present."""
        return self._states[self._at]

    @property
    def fresh(self) -> bool:
        """Whether `packed` belongs to the present."""
        return self._fresh

    def packed(self) -> Packed:
        """What the last decision told, and the openings since; fresh tensors."""
        return clone(self.packed_now)

    def load(self, params: Params, state: MarketState) -> None:
        """Take over what somebody else made: the state after a reset, a restored one, other parameters."""
        if state is not self._states[self._at]:
            for (_, new), buffer in zip(leaves(state), self._buffers[self._at], strict=True):
                if new.data_ptr() != buffer.data_ptr():
                    buffer.copy_(new)
                    self._fresh = False
        if params is not self._given_params:
            self._given_params = None  # until all of them are taken over
            for (_, new), (_, buffer) in zip(leaves(params), leaves(self._params), strict=True):
                buffer.copy_(new)
            self._given_params = params

    def leaves(self) -> list[Tensor]:
        """The present, and what was told last, always in the same order; the same list while the present is at the same place."""
        return self._leaves[self._at]

    def take_rows(self, to: Sequence[int], others: Sequence[Tensor], at: Sequence[int]) -> None:
        """Markets `at` of the `leaves` of others like these become markets `to`."""
        device = self._action.device
        here, there = (torch.tensor(markets, dtype=torch.int64, device=device) for markets in (to, at))
        for mine, theirs in zip(self.leaves(), others, strict=True):
            mine.index_copy_(0, here, theirs.index_select(0, there))
