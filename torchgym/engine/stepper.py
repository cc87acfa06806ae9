"""Ways to step a batch, all with the same bits: uncompiled, by `torch.compile`, by a program, or by a captured graph."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from torchgym.config import MarketConfig
from torchgym.config.validation import shown
from torchgym.engine import background
from torchgym.engine.buffers import Buffers
from torchgym.engine.captured import Captured
from torchgym.engine.graph import Graph
from torchgym.engine.program import NotRecordable, reason, say
from torchgym.engine.recorded import Recorded, Records, kind_of, ordinary
from torchgym.engine.replay import NotMade, Replay, has_changed_rows
from torchgym.numerics.trees import map_tensors
from torchgym.readout.features import FEATURE_SETS
from torchgym.readout.packed import Packed
from torchgym.readout.step import Static, step
from torchgym.sim import tick as ticking
from torchgym.sim.params import Params
from torchgym.sim.state import MarketState

Compile = bool | Literal["auto"]

FEW_SLOTS = 16_384  # of books, over all markets: with more, operations cost more than calling them
PAYS = (16, 64)  # ticks after which a record of one market, and of several, has saved the time that it took, about
RECORDS = Records(most=1 << 26)
SOON = 0.5  # seconds in steps after which compiling is worth its while


class Stepper(Protocol):
    """One way to step a batch."""

    @property
    def buffers(self) -> Buffers | None:
        """What runs on memory of its own, where something does: the state it returns changes in place."""

    @property
    def any_ticks(self) -> bool:
        """Whether a step may take the ticks of a whole warm-up without anything being compiled for it."""

    def prepare(self, params: Params, state: MarketState) -> None:
        """Compile what the first step would compile; nothing moves."""

    def step(
        self, params: Params, state: MarketState, action: Tensor, ticks: int | None = None
    ) -> tuple[MarketState, Packed]:
        """One decision of every market: the new state, and what is told of it, in fresh tensors.

        Args:
            ticks: how many; None is `ticks_per_action`. Of another number, in a warm-up, only the state counts.
        """


class Uncompiled:
    """A step as it is written. In inference mode, where an operation takes a fifth less time; what it returns is ordinary.

    Of a few markets on a CPU the operations are recorded, anew for another number of markets, and run again; see `Recorded`. The
    first ticks are not, unless markets like these have a record already: it would not have its time back.
    Neither is done with rows of a user's own, which may do anything, keep tensors to learn from, or differentiate.

    Args:
        static: what the markets have in common.
        watch: looks at each phase of each tick, so nothing is recorded.
    """

    buffers: Buffers | None = None
    any_ticks = True

    def __init__(self, static: Static, watch: ticking.Watch | None = None) -> None:
        self._static = static
        self._watch = watch
        self._own_rows = has_changed_rows(static)
        self._recordable = watch is None and not self._own_rows
        self._kind = kind_of(static) if self._recordable else ""
        self._recorded: Recorded | None = None  # that was used last

    def prepare(self, params: Params, state: MarketState) -> None:
        """Nothing to do."""

    def step(
        self, params: Params, state: MarketState, action: Tensor, ticks: int | None = None
    ) -> tuple[MarketState, Packed]:
        """See `Stepper`."""
        length = self._static.structure.ticks_per_action if ticks is None else ticks
        recorded = self._record(params, state, length)
        stepped = None if recorded is None else recorded.step(params, state, action, length)
        if stepped is not None:
            return stepped
        with torch.no_grad() if self._own_rows else torch.inference_mode():
            after, packed = step(self._static, params, state, action, self._watch, ticks)
        with torch.inference_mode(False), torch.no_grad():
            return map_tensors(ordinary, after), map_tensors(ordinary, packed)

    def _record(self, params: Params, state: MarketState, ticks: int) -> Recorded | None:
        """The record for so many markets; None where there is none yet, or somebody looks at each operation."""
        markets, structure = state.clock.tick.shape[0], self._static.structure
        few = markets * structure.num_symbols * structure.slots <= FEW_SLOTS and state.clock.tick.device.type == "cpu"
        if not (self._recordable and few) or _get_current_dispatch_mode() is not None:
            return None
        if self._recorded is None or self._recorded.num_envs != markets:
            pays = PAYS[markets > 1]
            try:
                self._recorded = RECORDS.find(self._kind, self._static, params, state, ticks=ticks, pays=pays)
            except NotRecordable:
                self._recordable = False
                return None
        return self._recorded


class Compiled:
    """A program on a CPU, a captured graph on CUDA, else `torch.compile`.

    Where one of these fails, one line says why, and steps go the next slower way.

    Args:
        static: what the markets have in common.
        device: where they live.
    """

    # Kinds of devices that have something faster than `torch.compile`.
    replays: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    def __init__(self, static: Static, device: torch.device) -> None:
        self._static = static
        self._device = device
        self._graph = Graph(static)
        self._now: Stepper | None = None if device.type in self.replays else self._graph

    @property
    def buffers(self) -> Buffers | None:
        """See `Stepper`."""
        return None if self._now is None else self._now.buffers

    @property
    def gave_up(self) -> bool:
        """Whether compiling failed, so that steps run uncompiled."""
        return isinstance(self._now, Uncompiled)

    @property
    def any_ticks(self) -> bool:
        """See `Stepper`; of what the first step will make it is not known."""
        return self._now is not None and self._now.any_ticks

    def prepare(self, params: Params, state: MarketState) -> None:
        """See `Stepper`."""
        try:
            self._stepper(params, state).prepare(params, state)
            return
        except Exception as error:
            self._fall_back(error)
        self.prepare(params, state)

    def step(
        self, params: Params, state: MarketState, action: Tensor, ticks: int | None = None
    ) -> tuple[MarketState, Packed]:
        """See `Stepper`."""
        stepper = self._stepper(params, state)
        if not isinstance(stepper, (Graph, Captured)):
            return stepper.step(params, state, action, ticks)
        try:
            return stepper.step(params, state, action, ticks)
        except Exception as error:  # a compiler may fail in any way; what is wrong with the step itself fails again
            self._fall_back(error)
        del stepper  # and its memory, as the error's is gone already
        return self.step(params, state, action, ticks)

    def copied(self, static: Static, device: torch.device) -> Compiled:
        """The same for a copy of the markets, on a device; what `torch.compile` made for the same one is shared."""
        twin = Compiled(static, device)
        if device == self._device:
            twin._graph = self._graph
            if isinstance(self._now, Graph):
                twin._now = self._graph
        return twin

    def _stepper(self, params: Params, state: MarketState) -> Stepper:
        if self._now is None:
            try:
                self._now = self._fastest(params, state)
            except Exception as error:
                self._fall_back(error)
        assert self._now is not None
        return self._now

    def _fastest(self, params: Params, state: MarketState) -> Stepper:
        if self._device.type == "cpu":
            return Replay(self._static, params, state)
        return Captured(self._static, params, state, self._graph)

    def _fall_back(self, error: Exception) -> None:
        """Go on in the next slower way, and say why. Without a compiler, say, `torch.compile` would fail, too."""
        recorded = self._now is None and isinstance(error, NotRecordable)
        if recorded or isinstance(self._now, Captured):
            say(f"steps go through torch.compile, which is slower, with the same numbers: {reason(error)}")
            self._now = self._graph
        else:
            say(f"uncompiled from now on, with the same numbers: {reason(error)}")
            self._now = Uncompiled(self._static)


class Automatic:
    """Uncompiled at once; by a program from the moment that there is one. Another process makes it, after half a second of steps.

    With TORCHGYM_COMPILE=cached none is made: steps run by the program that is kept already, or uncompiled.

    Args:
        config: of the markets.
        static: what they have in common.
        device: where they live; on others than CPUs steps stay uncompiled.
    """

    def __init__(self, config: MarketConfig, static: Static, device: torch.device) -> None:
        self._config, self._static = config, static
        self._now: Stepper = Uncompiled(static)
        self._name: str | None = None  # of the program, once it has been looked for
        self._making: background.Making | None = None
        self._spent = 0.0  # seconds, in steps
        self._makes = os.environ.get("TORCHGYM_COMPILE") != "cached"
        self._settled = device.type != "cpu" or "cpu" not in Compiled.replays

    @property
    def buffers(self) -> Buffers | None:
        """See `Stepper`."""
        return self._now.buffers

    @property
    def any_ticks(self) -> bool:
        """See `Stepper`; until it is settled, a program may take over between two steps."""
        return self._settled and self._now.any_ticks

    def prepare(self, params: Params, state: MarketState) -> None:
        """Nothing to do: no step waits."""

    def step(
        self, params: Params, state: MarketState, action: Tensor, ticks: int | None = None
    ) -> tuple[MarketState, Packed]:
        """See `Stepper`."""
        if self._settled:
            return self._now.step(params, state, action, ticks)
        try:
            self._look(params, state)
        except Exception as error:  # no process, no memory, a torch that moved its internals, ...
            self._settled = True
            say(f"steps stay uncompiled, with the same numbers: {reason(error)}")
        begin = time.perf_counter()
        with _one_thread_less() if self._making is not None and not self._settled else nullcontext():
            result = self._now.step(params, state, action, ticks)
        self._spent += time.perf_counter() - begin
        return result

    def _look(self, params: Params, state: MarketState) -> None:
        """Change over where there is a program; have one made where steps take long without."""
        if self._making is not None:
            self._settled = self._making.done
            if self._settled and self._making.error is None:
                self._now = Replay(self._static, params, state, compile=False)
        elif self._name is None:
            if has_changed_rows(self._static):
                self._stay("compile=True compiles rows of your own")
                return
            try:
                self._now = Replay(self._static, params, state, compile=False)
                self._settled = True
            except NotMade as missing:
                self._name = str(missing)
                self._settled = not self._makes
        elif self._spent > SOON and FEATURE_SETS.added([self._static.structure.features]):
            self._stay("compile=True compiles features that you chose")  # the other process knows no such set
        elif self._spent > SOON:
            self._making = background.start(self._config, min(2, state.clock.tick.shape[0]), self._name)

    def _stay(self, why: str) -> None:
        """Uncompiled for good; who has forbidden to compile is not told."""
        self._settled = True
        if self._makes:
            say(f"steps stay uncompiled, with the same numbers: {why}")


@contextmanager
def _one_thread_less() -> Iterator[None]:
    """While it lasts, torch leaves a processor to the process that compiles: a team of threads waits for its slowest one."""
    count = torch.get_num_threads()
    torch.set_num_threads(max(1, count - 1))
    try:
        yield
    finally:
        torch.set_num_threads(count)


def check_compile(value: object) -> Compile:
    """Whether and how to compile, as a plain value.

    Raises:
        ValueError: for anything but True, False and "auto".
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if not isinstance(value, str) or value != "auto":
        raise ValueError(f"compile must be True, False or 'auto', got {shown(value)}")
    return "auto"


def chosen_compile(value: object) -> Compile:
    """The same; where "auto" is given, the environment variable TORCHGYM_COMPILE decides: 0, 1, auto, or cached, see `Automatic`.

    Raises:
        ValueError: as `check_compile`, or for a variable that is none of "auto", "cached", "0" and "1".
    """
    checked = check_compile(value)
    if checked != "auto":
        return checked
    chosen = os.environ.get("TORCHGYM_COMPILE") or "auto"
    if chosen not in ("auto", "cached", "0", "1"):
        raise ValueError(f"TORCHGYM_COMPILE must be auto, cached, 0 or 1, got {chosen!r}")
    return chosen == "1" if chosen in ("0", "1") else "auto"
