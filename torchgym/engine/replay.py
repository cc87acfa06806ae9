"""Compiled decisions on a CPU: a program over two sets of buffers in turn, chunk by chunk, on as many threads as torch has."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgym.engine import program as programs
from torchgym.engine.program import Bound, Isa, NotRecordable, Program, Runs, Traced
from torchgym.numerics.trees import clone, leaves, rows, unflatten
from torchgym.readout import features
from torchgym.readout.packed import Packed
from torchgym.readout.rewards import REWARDS
from torchgym.readout.step import Static, step
from torchgym.sim import actions, traders
from torchgym.sim.noise import NoisePlan
from torchgym.sim.params import Params
from torchgym.sim.state import MarketState

# What a program steps at once is small enough that all between its loops stays in the caches near a core.
CHUNK = 64  # markets
CHUNK_SLOTS = 16_384  # and slots of their books
ALONE = 32  # markets that one thread steps sooner than two can agree to
SOON = 4.0  # seconds that tracing usually takes at most

_known: dict[str, Program] = {}  # of this process, by fingerprint
_failed: dict[str, tuple[type[RuntimeError], str]] = {}  # why there is none; what failed once is not tried again


class NotMade(Exception):
    """There is no program of this name, neither in this process nor on disk."""


class Replay:
    """Steps a batch as `torchgym.readout.step.step` does, bit for bit, but on memory of its own.

    Two sets of buffers are written in turn, so the state that a call returns lives until the call after the next.

    Args:
        static: what the markets have in common.
        params: of N markets.
        state: to begin with, of N markets; copied.
        compile: make the program where there is none.

    Raises:
        NotRecordable: when the compiler makes something that cannot be replayed.
        NotMade: when there is no program and none is to be made.
    """

    def __init__(self, static: Static, params: Params, state: MarketState, *, compile: bool = True) -> None:
        self.num_envs = state.clock.tick.shape[0]
        structure = static.structure
        self._chunks = chunks(self.num_envs, structure.num_symbols * structure.slots, torch.get_num_threads())
        self._plan = static.plan.tick
        with torch.inference_mode(False), torch.no_grad():
            self._params = clone(params)
            first = clone(state)
            self._program = program(static, self._params, first, compile=compile)
            flat = [leaf for _, leaf in leaves(first)]
            second = [
                leaf if self._program.passed_through(index) == index else torch.empty_like(leaf)
                for index, leaf in enumerate(flat)
            ]
            self._buffers = (flat, second)
            packed = [
                torch.empty((self.num_envs, *place.shape[1:]), dtype=place.dtype, device="cpu")
                for place in self._program.outputs[len(flat) :]
            ]
            self.packed_now = Packed(*packed)
            self._action = actions.rest(structure, self.num_envs, torch.device("cpu"))
            self._states = tuple(unflatten(state, one) for one in self._buffers)
            self._arrays = [[leaf.numpy() for leaf in (*one, *packed)] for one in self._buffers]
            self._packed_arrays = [leaf.numpy() for leaf in packed]
        self._packed = packed
        self._given_params = params
        self._at = 0  # which set of buffers holds the present
        self._fresh = False  # whether what was told last belongs to the present
        self._threads = 0
        self._work: tuple[Runs, ...] = ()

    @property
    def replay(self) -> Replay:
        """Itself; see `torchgym.engine.stepper.Stepper`."""
        return self

    def prepare(self, params: Params, state: MarketState) -> None:
        """Nothing to do: it is compiled."""

    def step(self, params: Params, state: MarketState, action: Tensor) -> tuple[MarketState, Packed]:
        """One decision of every market: the new state, in the buffers, and what is told, in fresh tensors."""
        if state is not self._states[self._at] or params is not self._given_params:
            self.load(params, state)
        self._action.copy_(action)
        if self._threads != min(torch.get_num_threads(), len(self._chunks)):
            self._share_out()
        self._fresh = False  # until all of it is told
        self._work[self._at]()
        self._at = 1 - self._at
        self._fresh = True
        return self._states[self._at], self.packed()

    @property
    def at_once(self) -> int:
        """Markets that all threads together step at once."""
        largest = max(part.stop - part.start for part in self._chunks)
        return largest * min(torch.get_num_threads(), len(self._chunks))

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
        # Copied by numpy, whose calls cost less.
        observation, floats, integers = (torch.from_numpy(array.copy()) for array in self._packed_arrays)
        return Packed(observation, floats, integers)

    def load(self, params: Params, state: MarketState) -> None:
        """Take over what somebody else made: the state after a reset, a restored one, other parameters."""
        if state is not self._states[self._at]:
            for (_, new), buffer in zip(leaves(state), self._buffers[self._at], strict=True):
                if new.data_ptr() != buffer.data_ptr():
                    buffer.copy_(new)
                    self._fresh = False
        if params is not self._given_params:
            for (_, new), (_, buffer) in zip(leaves(params), leaves(self._params), strict=True):
                buffer.copy_(new)
            self._given_params = params

    def take_rows(self, to: npt.NDArray[np.int64], other: Replay, at: npt.NDArray[np.int64]) -> None:
        """Markets `at` of the other one, and what was told of them, become markets `to` of this one.

        In numpy, on the same memory: for a few rows of a hundred tensors its calls cost a fifth of torch's.
        """
        for mine, others in zip(self._arrays[self._at], other._arrays[other._at], strict=True):
            mine[to] = others[at]

    def _share_out(self) -> None:
        """Bind the program to every chunk, and give each thread a run of chunks and scratch memory of its own."""
        self._threads = count = min(torch.get_num_threads(), len(self._chunks))
        largest = max(part.stop - part.start for part in self._chunks)
        scratch = [self._program.scratch(largest) for _ in range(count)]
        shares = [
            self._chunks[len(self._chunks) * t // count : len(self._chunks) * (t + 1) // count] for t in range(count)
        ]
        self._work = tuple(
            Runs(
                [
                    [self._bind(source, chunk, own) for chunk in share]
                    for share, own in zip(shares, scratch, strict=True)
                ]
            )
            for source in (0, 1)
        )

    def _bind(self, source: int, chunk: slice, scratch: Sequence[Tensor]) -> Bound:
        """From one set of buffers to the other, in the rows of one chunk."""
        params = (leaf for _, leaf in leaves(self._params))
        inputs = [*(leaf[chunk] for leaf in (*self._buffers[source], *params)), self._plan, self._action[chunk]]
        outputs = [leaf[chunk] for leaf in (*self._buffers[1 - source], *self._packed)]
        return self._program.bind(inputs, outputs, scratch)


def chunks(num_envs: int, slots: int, threads: int) -> list[slice]:
    """Rows of each call: as few as fit the limits of a chunk, of nearly equal size, as many calls for each thread.

    Args:
        slots: of all books of one market.
    """
    largest = min(CHUNK, max(1, CHUNK_SLOTS // slots))
    count, sharing = -(-num_envs // largest), 1 if num_envs <= ALONE else threads
    count = min(-(-count // sharing) * sharing, num_envs)
    return [slice(num_envs * at // count, num_envs * (at + 1) // count) for at in range(count)]


def program(static: Static, params: Params, state: MarketState, *, compile: bool = True) -> Program:
    """The program of a step: from this process, from disk, or compiled now.

    One program serves any number of markets. A single market has another, which is a fifth faster than that one would be.

    What torchgym itself does is known by its source. Rows that a user added to a table are functions from anywhere, which may
    call others, so a step with one is always traced, and its program known by the operations that came out.
    """
    alone = state.clock.tick.shape[0] == 1
    traced = None
    if has_added_rows(static):
        with programs.reporting("tracing the step, to know its program", "still tracing the step", after=SOON):
            traced = trace_step(static, params, state, dynamic=not alone)
    what = () if traced is None else (traced.code,)
    name = program_name(static, *what, alone=alone)

    def make(kept: str) -> Program:
        begin = time.monotonic()
        with programs.reporting(f"compiling the step: up to three minutes, {kept}", "still compiling the step"):
            made = programs.build(traced or trace_step(static, params, state, dynamic=not alone))
        programs.say(f"compiled in {time.monotonic() - begin:.0f} s")
        return made

    if not compile and name not in _known and name not in _failed:
        if (kept := programs.find(name)) is None:
            raise NotMade(name)
        _known[name] = kept
    if name in _failed:
        kind, why = _failed[name]
        raise kind(f"it failed before in this process: {why}")
    if name not in _known:
        try:
            _known[name] = programs.obtain(name, make)
        except Exception as error:
            # Not the error itself: the frames of its traceback hold the markets.
            kind = NotRecordable if isinstance(error, NotRecordable) else RuntimeError
            _failed[name] = kind, programs.reason(error)
            raise
    return _known[name]


def program_name(static: Static, *what: object, alone: bool, isa: Isa | None = None) -> str:
    """The name of the program of a step.

    Args:
        what: it does, where code of torchgym's does not say that.
        alone: of a single market.
        isa: what the program is made of; None is what this processor has.
    """
    shown = features.names(static.structure)  # a set of one name may show other features tomorrow
    return programs.fingerprint(__name__, static.structure, shown, alone, *what, isa=isa)


def has_added_rows(static: Static) -> bool:
    """Whether this world uses rows that torchgym did not bring."""
    structure = static.structure
    return bool(
        traders.TRADERS.added(structure.families)
        or actions.ACTIONS.added([structure.action])
        or REWARDS.added(structure.rewards)
        or features.added(structure)
    )


def trace_step(static: Static, params: Params, state: MarketState, *, dynamic: bool) -> Traced:
    """A step as a function of all tensors that it reads, to all that it makes.

    Args:
        dynamic: for any number of markets, else for as many as these.
    """
    if dynamic:
        few = torch.arange(programs.EXAMPLES[-1], device="cpu") % state.clock.tick.shape[0]
        params, state = rows(params, few), rows(state, few)
    flat_state, flat_params = ([leaf for _, leaf in leaves(tree)] for tree in (state, params))

    def function(*tensors: Tensor) -> list[Tensor]:
        given = iter(tensors)
        old = unflatten(state, [next(given) for _ in flat_state])
        same = unflatten(params, [next(given) for _ in flat_params])
        own = Static(static.structure, NoisePlan(tick=next(given), start=static.plan.start), static.columns)
        new, packed = step(own, same, old, next(given))
        return [*(leaf for _, leaf in leaves(new)), packed.observation, packed.floats, packed.integers]

    rest = actions.rest(static.structure, state.clock.tick.shape[0], state.clock.tick.device)
    example = [*flat_state, *flat_params, static.plan.tick, rest]
    shared = len(example) - 2
    return programs.trace(function, example, batched=[at != shared for at in range(len(example))] if dynamic else None)
