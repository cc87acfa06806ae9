"""Compiled decisions on a CPU: programs of a tick over two sets of buffers in turn, chunk by chunk, on torch's threads."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from torchgym.config import FAMILIES, Structure
from torchgym.engine import program as programs
from torchgym.engine.buffers import Buffers
from torchgym.engine.program import Bound, Isa, Moves, NotRecordable, Program, Runs, Traced
from torchgym.numerics.trees import leaves, rows, unflatten
from torchgym.readout import features
from torchgym.readout.entries import Moment
from torchgym.readout.packed import Packed
from torchgym.readout.rewards import REWARDS
from torchgym.readout.step import Static, nothing, tick
from torchgym.sim import actions, traders
from torchgym.sim.noise import NoisePlan
from torchgym.sim.params import Params
from torchgym.sim.state import MarketState

# What a program steps at once is small enough that all between its loops stays in the caches near a core.
CHUNK = 64  # markets
CHUNK_SLOTS = 16_384  # and slots of their books
ALONE = 32  # markets that one thread steps sooner than two can agree to
SOON = 4.0  # seconds that tracing usually takes at most

# What a program makes of a tick: "told" ends a decision with what learners get to see, "silent" is any tick before.
Kind = Literal["told", "silent"]

_known: dict[str, Program] = {}  # of this process, by fingerprint
_failed: dict[str, tuple[type[RuntimeError], str]] = {}  # why there is none; what failed once is not tried again


class NotMade(Exception):
    """There is no program of this name, neither in this process nor on disk."""


class Replay(Buffers):
    """A batch on a CPU, see `Buffers`. Ticks between the two sets of buffers are written to memory of each thread.

    Args:
        static: what the markets have in common.
        params: of N markets.
        state: to begin with, of N markets; copied.
        compile: make the program where there is none.

    Raises:
        NotRecordable: when the compiler makes something that cannot be replayed.
        NotMade: when there is no program and none is to be made.
    """

    programs: dict[Kind, Program]  # what it runs
    any_ticks = True

    def __init__(self, static: Static, params: Params, state: MarketState, *, compile: bool = True) -> None:
        structure = static.structure
        self._compile = compile
        self._chunks = chunks(
            state.clock.tick.shape[0], structure.num_symbols * structure.slots, torch.get_num_threads()
        )
        self._plan = static.plan.tick
        super().__init__(static, params, state)
        with torch.inference_mode(False), torch.no_grad():
            self._rest = self._action.clone()
            self._nothing = [leaf for _, leaf in leaves(nothing(structure, self.state))]
        self._moves: dict[int, Moves] = {}  # by where the present is
        self._packed_arrays = [leaf.numpy() for leaf in self._packed]
        self._threads = 0
        self._rooms: list[_Room] = []  # of each thread
        self._work: dict[tuple[int, int], Runs] = {}  # by the ticks, and where the present is before them

    def like(self, params: Params, state: MarketState) -> Replay:
        """See `Buffers`."""
        return Replay(self._static, params, state)

    def prepare(self, params: Params, state: MarketState) -> None:
        """Nothing to do: it is compiled."""

    def _make(self, first: MarketState) -> tuple[list[bool], list[Tensor]]:
        self.programs = make_programs(self._static, self._params, first, compile=self._compile)
        count = len(list(leaves(first)))
        unchanged = [all(one.passed_through(at) == at for one in self.programs.values()) for at in range(count)]
        told = [
            torch.empty((self.num_envs, *place.shape[1:]), dtype=place.dtype, device="cpu")
            for place in self.programs["told"].outputs[count:]
        ]
        return unchanged, told

    def _decide(self, ticks: int) -> None:
        if self._threads != min(torch.get_num_threads(), len(self._chunks)):
            self._share_out()
        work = self._work.get((ticks, self._at)) or self._bind_all(ticks)
        work()

    @property
    def at_once(self) -> int:
        """Markets that all threads together step at once."""
        largest = max(part.stop - part.start for part in self._chunks)
        return largest * min(torch.get_num_threads(), len(self._chunks))

    def packed(self) -> Packed:
        """See `Buffers`. Copied by numpy, whose calls cost less."""
        observation, floats, integers = (torch.from_numpy(array.copy()) for array in self._packed_arrays)
        return Packed(observation, floats, integers)

    def take_rows(self, to: Sequence[int], others: Sequence[Tensor], at: Sequence[int]) -> None:
        """See `Buffers`. By one call for all leaves, which are some seventy."""
        moves = self._moves.get(self._at)
        if moves is None or moves.sources is not others:
            moves = self._moves[self._at] = Moves(self.programs["told"], self.leaves(), others)
        moves(to, at)

    def _share_out(self) -> None:
        """Give each thread memory of its own; what was bound to other memory is forgotten."""
        threads = min(torch.get_num_threads(), len(self._chunks))
        largest = max(part.stop - part.start for part in self._chunks)

        def alike(leaf: Tensor) -> Tensor:
            return torch.empty((largest, *leaf.shape[1:]), dtype=leaf.dtype, device="cpu")

        self._rooms = [
            _Room(
                scratch={kind: one.scratch(largest) for kind, one in self.programs.items()},
                state=[alike(leaf) for leaf in self._buffers[0]],
                sums=[[alike(leaf) for leaf in self._nothing] for _ in range(2)],
            )
            for _ in range(threads)
        ]
        self._work = {}
        self._threads = threads  # last: no memory, or Ctrl-C, and the next call shares out again

    def _bind_all(self, ticks: int) -> Runs:
        """Bind the programs to every chunk from the present on, and give each thread a run of chunks."""
        count = self._threads
        shares = [
            self._chunks[len(self._chunks) * t // count : len(self._chunks) * (t + 1) // count] for t in range(count)
        ]
        made = Runs(
            [
                [bound for chunk in share for bound in self._bind(ticks, chunk, room)]
                for share, room in zip(shares, self._rooms, strict=True)
            ]
        )
        self._work[ticks, self._at] = made
        return made

    def _bind(self, ticks: int, chunk: slice, room: _Room) -> Iterator[Bound]:
        """The ticks of one decision in the rows of one chunk.

        Where decisions have one tick there is no program of silent ones. What learners are told of several ticks, which are those
        of a warm-up then, is told of each, and the last one stays.
        """
        old, new = (
            [leaf[chunk] for leaf in buffers] for buffers in (self._buffers[self._at], self._buffers[1 - self._at])
        )
        markets = chunk.stop - chunk.start
        between = [
            there if here.data_ptr() == there.data_ptr() else leaf[:markets]  # what no program changes is there once
            for here, there, leaf in zip(old, new, room.state, strict=True)
        ]
        params = [leaf[chunk] for _, leaf in leaves(self._params)]
        known: dict[tuple[bool, int, Kind], Bound] = {}
        for left in reversed(range(ticks)):
            first, turn = left == ticks - 1, left % 2
            kind: Kind = "silent" if left and "silent" in self.programs else "told"
            form = (first, turn, kind)
            if form not in known:
                source = old if first else new if turn else between
                sums = self._nothing if first or "silent" not in self.programs else room.sums[turn]
                inputs = [*source, *params, self._plan, (self._action if first else self._rest)[chunk]]
                inputs += [leaf[chunk] if sums is self._nothing else leaf[:markets] for leaf in sums]
                told = (
                    [leaf[chunk] for leaf in self._packed]
                    if kind == "told"
                    else [leaf[:markets] for leaf in room.sums[1 - turn]]
                )
                known[form] = self.programs[kind].bind(inputs, [*(between if turn else new), *told], room.scratch[kind])
            yield known[form]


@dataclass(frozen=True)
class _Room:
    """Memory of one thread, for the largest chunk.

    Args:
        scratch: of each program.
        state: between two ticks of a decision.
        sums: of the decision so far, twice.
    """

    scratch: dict[Kind, list[Tensor]]
    state: list[Tensor]
    sums: list[list[Tensor]]


def chunks(num_envs: int, slots: int, threads: int) -> list[slice]:
    """Rows of each call: as few as fit the limits of a chunk, of nearly equal size, as many calls for each thread.

    Args:
        slots: of all books of one market.
    """
    largest = min(CHUNK, max(1, CHUNK_SLOTS // slots))
    count, sharing = -(-num_envs // largest), 1 if num_envs <= ALONE else threads
    count = min(-(-count // sharing) * sharing, num_envs)
    return [slice(num_envs * at // count, num_envs * (at + 1) // count) for at in range(count)]


def kinds(structure: Structure) -> tuple[Kind, ...]:
    """The programs that a market's decisions consist of, in the order in which they are made."""
    return ("told",) if structure.ticks_per_action == 1 else ("told", "silent")


def make_programs(static: Static, params: Params, state: MarketState, *, compile: bool = True) -> dict[Kind, Program]:
    """All programs of a market.

    Raises:
        NotMade: when one is missing and none is to be made. It names the one that is made last: where that is there, all are.
    """
    order = kinds(static.structure)
    return {
        kind: program(static, params, state, kind, compile=compile) for kind in (order if compile else reversed(order))
    }


def program(static: Static, params: Params, state: MarketState, kind: Kind, *, compile: bool = True) -> Program:
    """A program of a tick: from this process, from disk, or compiled now.

    One program serves any number of markets, and decisions of any length. A single market has another, which is a fifth faster
    than that one would be.

    What torchgym itself does is known by its source. Rows that a user added to a table are functions from anywhere, which may
    call others, so a tick with one is always traced, and its program known by the operations that came out.
    """
    alone = state.clock.tick.shape[0] == 1
    traced = None
    if has_changed_rows(static):
        with programs.reporting("tracing the step, to know its program", "still tracing the step", after=SOON):
            traced = trace_tick(static, params, state, kind, dynamic=not alone)
    what = () if traced is None else (traced.code,)
    name = program_name(static, kind, *what, alone=alone)

    def make(kept: str) -> Program:
        begin = time.monotonic()
        step = "the step" if kind == "told" else "ticks within a step"
        with programs.reporting(f"compiling {step}: up to two minutes, {kept}", f"still compiling {step}"):
            made = programs.build(traced or trace_tick(static, params, state, kind, dynamic=not alone))
        programs.say(f"compiled in {time.monotonic() - begin:.0f} s")
        return made

    if not compile and name not in _known and name not in _failed:
        if (kept := programs.find(name)) is None:
            raise NotMade(name)
        _known[name] = kept
    if name in _failed:
        failure, why = _failed[name]
        raise failure(f"it failed before in this process: {why}")
    if name not in _known:
        try:
            _known[name] = programs.obtain(name, make)
        except Exception as error:
            # Not the error itself: the frames of its traceback hold the markets.
            failure = NotRecordable if isinstance(error, NotRecordable) else RuntimeError
            _failed[name] = failure, programs.reason(error)
            raise
    return _known[name]


def program_name(static: Static, kind: Kind, *what: object, alone: bool, isa: Isa | None = None) -> str:
    """The name of a program.

    Args:
        what: it does, where code of torchgym's does not say that.
        alone: of a single market.
        isa: what the program is made of; None is what this processor has.
    """
    same = replace(static.structure, ticks_per_action=1, warmup_ticks=0)  # a tick knows neither
    shown = features.names(same)  # a set of one name may show other features tomorrow
    return programs.fingerprint(__name__, same, kind, shown, alone, *what, isa=isa)


def has_changed_rows(static: Static) -> bool:
    """Whether this world uses rows that torchgym did not bring, or brings otherwise, or lacks some that it did."""
    structure = static.structure
    return bool(
        traders.TRADERS.added(structure.families)
        or actions.ACTIONS.added([structure.action])
        or REWARDS.added(structure.rewards)
        or features.added(structure)
        or FAMILIES.added(structure.families)
        or static.columns.own_rows
    )


def trace_tick(static: Static, params: Params, state: MarketState, kind: Kind, *, dynamic: bool) -> Traced:
    """A tick as a function of all tensors that it reads, to all that it makes.

    It takes state, parameters, the plan of the noise, the action, and the sums of the decision; it makes the new state, and then
    the three tensors of `Packed` or the new sums.

    Args:
        dynamic: for any number of markets, else for as many as these.
    """
    if dynamic:
        few = torch.arange(programs.EXAMPLES[-1], device="cpu") % state.clock.tick.shape[0]
        params, state = rows(params, few), rows(state, few)
    sums, structure = nothing(static.structure, state), static.structure
    flat_state, flat_params, flat_sums = ([leaf for _, leaf in leaves(tree)] for tree in (state, params, sums))

    def function(*tensors: Tensor) -> list[Tensor]:
        given = iter(tensors)
        old = unflatten(state, [next(given) for _ in flat_state])
        same = unflatten(params, [next(given) for _ in flat_params])
        own = Static(structure, NoisePlan(tick=next(given), start=static.plan.start), static.columns)
        action = next(given)
        new, done = tick(own, same, old, action, unflatten(sums, given))
        if kind == "told":
            packed = own.columns.read(Moment(structure, same, new, done))
            return [*(leaf for _, leaf in leaves(new)), packed.observation, packed.floats, packed.integers]
        return [*(leaf for _, leaf in leaves(new)), *(leaf for _, leaf in leaves(done))]

    action = actions.rest(structure, state.clock.tick.shape[0], state.clock.tick.device)
    example = [*flat_state, *flat_params, static.plan.tick, action, *flat_sums]
    plan = len(flat_state) + len(flat_params)
    return programs.trace(function, example, batched=[at != plan for at in range(len(example))] if dynamic else None)
