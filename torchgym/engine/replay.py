"""Compiled decisions on a CPU: programs over two sets of buffers in turn, chunk by chunk, on as many threads as torch has."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.engine import program as programs
from torchgym.engine.program import Bound, NotRecordable, Program, Traced
from torchgym.readout import features, rewards
from torchgym.readout.packed import Columns, Packed
from torchgym.readout.step import step
from torchgym.sim import actions, traders
from torchgym.sim.noise import Lanes
from torchgym.sim.state import Layout, MarketParams, MarketState, RewardMemory, leaves, map_tensors, unflatten

# What a program steps at once is small enough that all between its loops stays in the caches near a core.
CHUNK = 64  # markets
CHUNK_SLOTS = 16_384  # and slots of their books
ALONE = 32  # markets that one thread steps sooner than two can agree to
SOON = 4.0  # seconds that tracing usually takes at most

_known: dict[str, Program] = {}  # of this process, by fingerprint
_failed: dict[str, tuple[type[RuntimeError], str]] = {}  # why there is none; what failed once is not tried again
_alive: weakref.WeakSet[Replay] = weakref.WeakSet()


@dataclass(frozen=True)
class World:
    """What is the same for every market of a batch."""

    config: MarketConfig
    places: Layout
    lanes: Lanes


class Replay:
    """Steps a batch as `torchgym.readout.step.step` does, bit for bit, but on memory of its own.

    Two sets of buffers are written in turn, so the state that a call returns lives until the call after the next. Markets are
    padded to whole chunks by copies of the first one, whose results nobody sees.

    Args:
        world: what the markets have in common.
        params: of N markets.
        state: to begin with, of N markets; copied.

    Raises:
        NotRecordable: when the compiler makes something that cannot be replayed.
    """

    def __init__(self, world: World, params: MarketParams, state: MarketState) -> None:
        self.num_envs = state.clock.tick.shape[0]
        self.chunk = chunk_size(self.num_envs, world.places.symbols * world.places.slots, torch.get_num_threads())
        self._chunks = -(-self.num_envs // self.chunk)
        self._padded = self._chunks * self.chunk
        self._lanes = world.lanes.tick
        with torch.inference_mode(False), torch.no_grad():
            self._params = map_tensors(self._pad, params)
            first = map_tensors(self._pad, state)
            self._program = program(
                world, map_tensors(self._one_chunk, self._params), map_tensors(self._one_chunk, first)
            )
            flat = [leaf for _, leaf in leaves(first)]
            second = [
                leaf if self._program.passed_through(index) == index else torch.empty_like(leaf)
                for index, leaf in enumerate(flat)
            ]
            self._buffers = (flat, second)
            self._told = [
                torch.empty((self._padded, *place.shape[1:]), dtype=place.dtype, device="cpu")
                for place in self._program.outputs[len(flat) :]
            ]
            self._action = torch.zeros((self._padded, world.places.symbols), dtype=torch.int64, device="cpu")
            self._states = tuple(unflatten(state, [leaf[: self.num_envs] for leaf in one]) for one in self._buffers)
            self._views = [leaf[: self.num_envs] for leaf in self._told]
            self._arrays = [[leaf.numpy() for leaf in (*one, *self._told)] for one in self._buffers]
            self._told_arrays = [leaf[: self.num_envs].numpy() for leaf in self._told]
            self._action_view = self._action[: self.num_envs]
        self._given_params = params
        self._at = 0  # which set of buffers holds the present
        self._fresh = False  # whether what was told last belongs to the present
        self._threads = 0
        self._work: tuple[list[list[Bound]], ...] = ()
        self._pool: ThreadPoolExecutor | None = None  # made by the first step that needs it, and for as many threads
        _alive.add(self)

    def __call__(self, params: MarketParams, state: MarketState, action: Tensor) -> tuple[MarketState, Packed]:
        """One decision of every market: the new state, in the buffers, and what is told, in fresh tensors."""
        if state is not self._states[self._at] or params is not self._given_params:
            self.load(params, state)
        self._action_view.copy_(action)
        if self._threads != min(torch.get_num_threads(), self._chunks):
            self._share_out()
        self._fresh = False  # until all of it is told
        here, *there = self._work[self._at]
        waiting = [self._submit(bounds) for bounds in there]
        try:
            for bound in here:
                bound()
        finally:
            wait(waiting)  # also when this one was interrupted: they write where the next step will
        for other in waiting:
            other.result()
        self._at = 1 - self._at
        self._fresh = True
        return self._states[self._at], self.told()

    @property
    def at_once(self) -> int:
        """Markets that all threads together step at once."""
        return self.chunk * min(torch.get_num_threads(), self._chunks)

    @property
    def state(self) -> MarketState:
        """The present."""
        return self._states[self._at]

    @property
    def fresh(self) -> bool:
        """Whether `told` belongs to the present."""
        return self._fresh

    def told(self) -> Packed:
        """What the last decision told, and the openings since; fresh tensors."""
        # Copied by numpy, in this thread: torch would wake threads of its own, which then compete with those of the chunks.
        observation, floats, integers = (torch.from_numpy(array.copy()) for array in self._told_arrays)
        return Packed(observation, floats, integers)

    def load(self, params: MarketParams, state: MarketState) -> None:
        """Take over what somebody else made: the state after a reset, a restored one, other parameters."""
        if state is not self._states[self._at]:
            for (_, new), buffer in zip(leaves(state), self._buffers[self._at], strict=True):
                if new.data_ptr() != buffer.data_ptr():
                    buffer[: self.num_envs] = new
                    self._fresh = False
        if params is not self._given_params:
            for (_, new), (_, buffer) in zip(leaves(params), leaves(self._params), strict=True):
                buffer[: self.num_envs] = new
            self._given_params = params

    def take_rows(self, to: npt.NDArray[np.int64], other: Replay, at: npt.NDArray[np.int64]) -> None:
        """Markets `at` of the other one, and what was told of them, become markets `to` of this one.

        In numpy, on the same memory: for a few rows of a hundred tensors its calls cost a fifth of torch's.
        """
        for mine, others in zip(self._arrays[self._at], other._arrays[other._at], strict=True):
            mine[to] = others[at]

    def forget_rewards(self, reward: RewardMemory, columns: Columns) -> None:
        """Begin with this memory, and tell the present as if nothing had just happened."""
        for (_, new), (_, buffer) in zip(leaves(reward), leaves(self.state.reward), strict=True):
            buffer.copy_(new)
        columns.hush(Packed(*self._views))

    def _pad(self, tensor: Tensor) -> Tensor:
        """A copy with rows up to whole chunks."""
        filler = tensor[:1].expand(self._padded - self.num_envs, *tensor.shape[1:])
        return torch.cat([tensor, filler]).contiguous()

    def _one_chunk(self, tensor: Tensor) -> Tensor:
        return tensor[: self.chunk]

    def _submit(self, bounds: Sequence[Bound]) -> Future[None]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads - 1, "torchgym")
        return self._pool.submit(_run, bounds)

    def _share_out(self) -> None:
        """Bind the program to every chunk, and give each thread a run of chunks and scratch memory of its own."""
        chunks = self._chunks
        self._threads = count = min(torch.get_num_threads(), chunks)
        scratch = [self._program.scratch() for _ in range(count)]
        shares = [range(chunks * t // count, chunks * (t + 1) // count) for t in range(count)]
        self._work = tuple(
            [[self._bind(source, chunk, scratch[t]) for chunk in share] for t, share in enumerate(shares)]
            for source in (0, 1)
        )
        self._pool = None

    def _bind(self, source: int, chunk: int, scratch: Sequence[Tensor]) -> Bound:
        """From one set of buffers to the other, in the rows of one chunk."""
        rows = slice(chunk * self.chunk, (chunk + 1) * self.chunk)
        params = (leaf for _, leaf in leaves(self._params))
        inputs = [*(leaf[rows] for leaf in (*self._buffers[source], *params)), self._lanes, self._action[rows]]
        outputs = [leaf[rows] for leaf in (*self._buffers[1 - source], *self._told)]
        return self._program.bind(inputs, outputs, scratch)


def chunk_size(num_envs: int, slots: int, threads: int) -> int:
    """Markets per call: the next power of two, so that few programs serve all batch sizes, up to the limits of a chunk.

    Args:
        slots: of all books of one market.
    """
    share = num_envs if num_envs <= ALONE else -(-num_envs // threads)
    fitting = max(1, CHUNK_SLOTS // slots)
    return min(CHUNK, 1 << (share - 1).bit_length(), 1 << (fitting.bit_length() - 1))


def program(world: World, params: MarketParams, state: MarketState) -> Program:
    """The program that steps as many markets as the state has: from this process, from disk, or compiled now.

    What torchgym itself does is known by its source. Rows that a user added to a table are functions from anywhere, which may
    call others, so a step with one is always traced, and its program known by the operations that came out.
    """
    count = state.clock.tick.shape[0]
    settings = {**world.config.to_dict(), "max_ticks": None}  # which is part of the state
    shown = features.names(world.config)  # a set of one name may show other features tomorrow
    traced = None
    if _has_added_rows(world):
        with programs.reporting("tracing the step, to know its program", "still tracing the step", after=SOON):
            traced = _trace(world, params, state)
    what = () if traced is None else (traced.code,)
    name = programs.fingerprint(__name__, sorted(settings.items()), shown, count, *what)

    def make(kept: str) -> Program:
        begin = time.monotonic()
        line = f"compiling the step for batches of {count}: up to three minutes, {kept}"
        with programs.reporting(line, "still compiling the step"):
            made = programs.build(traced or _trace(world, params, state))
        programs.say(f"compiled in {time.monotonic() - begin:.0f} s")
        return made

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


def _has_added_rows(world: World) -> bool:
    """Whether this world uses rows that torchgym did not bring."""
    config = world.config
    return bool(
        traders.TRADERS.added(world.places.families)
        or actions.ACTIONS.added([config.action])
        or rewards.REWARDS.added(rewards.weights(config))
        or features.added(config)
    )


def _trace(world: World, params: MarketParams, state: MarketState) -> Traced:
    """A step as a function of all tensors that it reads, to all that it makes."""
    columns = Columns(world.config)
    flat_state, flat_params = ([leaf for _, leaf in leaves(tree)] for tree in (state, params))

    def function(*tensors: Tensor) -> list[Tensor]:
        given = iter(tensors)
        old = unflatten(state, [next(given) for _ in flat_state])
        same = unflatten(params, [next(given) for _ in flat_params])
        lanes, action = Lanes(tick=next(given), start=world.lanes.start), next(given)
        new, told = step(world.config, same, old, action, places=world.places, lanes=lanes)
        return [leaf for _, leaf in (*leaves(new), *leaves(columns.pack(told)))]

    hold = torch.zeros((state.clock.tick.shape[0], world.places.symbols), dtype=torch.int64, device="cpu")
    return programs.trace(function, [*flat_state, *flat_params, world.lanes.tick, hold])


def _run(bounds: Sequence[Callable[[], None]]) -> None:
    for bound in bounds:
        bound()


def _after_fork() -> None:
    """In a forked child: the threads of the parent are not there, so the next step makes its own."""
    for replay in _alive:
        replay._pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
