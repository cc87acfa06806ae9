"""Uncompiled decisions of a few markets: the operations of a tick are recorded once, and run again on the same memory.

As the code is written, a small operation costs more in Python, views and new memory than in arithmetic. Run from a record it has
none of these: a step of one market takes half the time. No compiler takes part.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode, _push_mode

from torchgym.engine.program import NotRecordable
from torchgym.numerics.trees import clone, leaves, unflatten
from torchgym.readout import features
from torchgym.readout.entries import Moment
from torchgym.readout.packed import Packed
from torchgym.readout.step import Static, nothing, tick
from torchgym.sim import actions
from torchgym.sim.params import Params
from torchgym.sim.state import MarketState

# What the result of one of these depends on is more than the shapes of what it is given, or not even that.
_UNSTEADY = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.nondeterministic_seeded}
_READING = ("resolve_conj", "resolve_neg")  # what a tensor goes through on its way to numpy and to lists
_FILLS = ("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty")
_COPIES = ("to", "_to_copy", "clone", "contiguous")
_NAMES = {
    "__and__": "bitwise_and",
    "__or__": "bitwise_or",
    "__xor__": "bitwise_xor",
    "__lshift__": "bitwise_left_shift",
    "__rshift__": "bitwise_right_shift",
}  # of operators, as functions that can write to given memory


class Recorded:
    """Steps a batch on a CPU as `torchgym.readout.step.step` does, bit for bit.

    Args:
        static: what the markets have in common.
        params: of N markets.
        state: of N markets; any.

    Raises:
        NotRecordable: when an operation depends on values, as in Python's `if`.
    """

    def __init__(self, static: Static, params: Params, state: MarketState) -> None:
        self._running = threading.Lock()
        self.num_envs = state.clock.tick.shape[0]
        structure = static.structure
        with torch.inference_mode():
            self._params, before = clone(params), clone(state)
            self._rest = actions.rest(structure, self.num_envs, state.clock.tick.device)
            self._action = self._rest.clone()
            sums = clone(nothing(structure, state))
            with _Recording() as recording:
                after, added = tick(static, self._params, before, self._action, sums)
                ticks = len(recording.calls)
                told = static.columns.read(Moment(structure, self._params, after, added))
            self._given_params: Params | None = None  # whose numbers are in memory
            self._before, self._after, self._sums, self._added = map(_flat, (before, after, sums, added))
            self._nothing = [leaf.clone() for leaf in self._sums]
            self._told = told
            self._unchanged = [_same(old, new) for old, new in zip(self._before, self._after, strict=True)]
            given = [*self._before, *_flat(self._params), self._action, *self._sums]
            moved = [leaf for leaf, same in zip(self._after, self._unchanged, strict=True) if not same]
            if _places(given) & _places([*moved, *self._added]):
                raise NotRecordable("a tick passes on a part of the state to another place")
            work = _needed(recording.calls, given, [*moved, *self._added, *_flat(told)])
            calls = [recording.calls[at] for at in work]
            again = [(at < ticks, _again(call)) for at, call in zip(work, calls, strict=True)]
            made = [one for call in calls for one in call.made]
            self.size = _size([*given, *self._after, *self._added, *self._nothing, *made])  # bytes
            self._tick = [call for of_tick, call in again if of_tick]
            self._tell = [call for of_tick, call in again if not of_tick]

    def step(self, params: Params, state: MarketState, action: Tensor, ticks: int) -> tuple[MarketState, Packed] | None:
        """One decision of so many ticks: the new state, and what is told, in fresh tensors; see `Stepper`.

        None while another thread is in it.
        """
        if not self._running.acquire(blocking=False):
            return None
        try:
            return self._step(params, state, action, ticks)
        finally:
            self._running.release()

    def _step(self, params: Params, state: MarketState, action: Tensor, ticks: int) -> tuple[MarketState, Packed]:
        given = _flat(state)
        with torch.inference_mode():
            if params is not self._given_params:
                self._given_params = None
                torch._foreach_copy_(_flat(self._params), _flat(params))
                self._given_params = params
            torch._foreach_copy_([*self._before, *self._sums, self._action], [*given, *self._nothing, action])
            for done in range(ticks):
                if done:
                    torch._foreach_copy_([*self._before, *self._sums], [*self._after, *self._added])
                    self._action.copy_(self._rest)
                for call in self._tick:
                    call()
            for call in self._tell:
                call()
        with torch.inference_mode(False), torch.no_grad():
            made = zip(given, self._after, self._unchanged, strict=True)
            after = [ordinary(old) if same else new.clone() for old, new, same in made]
            return unflatten(state, after), clone(self._told)


class Records:
    """Records by what a tick does and for how many markets, which all such markets of the process share.

    One is made as soon as these have made so many ticks together that it saves the time it takes. Those used last are kept for
    markets to come, as many as fit in the memory allowed.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self._kept: dict[tuple[str, int], Recorded] = {}  # those used last at the end
        self._ticks: Counter[tuple[str, int]] = Counter()

    def find(
        self, kind: str, static: Static, params: Params, state: MarketState, *, ticks: int, pays: int
    ) -> Recorded | None:
        """The record for so many markets of this kind; None as long as it would not pay.

        Args:
            kind: what a tick does; see `kind_of`.
            ticks: that these markets are about to make.
            pays: ticks that a record must save.

        Raises:
            NotRecordable: see there.
        """
        key = (kind, state.clock.tick.shape[0])
        found = self._kept.pop(key, None)
        if found is None:
            self._ticks[key] += ticks
            if self._ticks[key] <= pays:
                return None
            found = Recorded(static, params, state)
        if found.size <= self._most:
            self._kept[key] = found
            for oldest in list(self._kept):
                if sum(record.size for record in list(self._kept.values())) > self._most:
                    self._kept.pop(oldest, None)
        return found


def kind_of(static: Static) -> str:
    """What a tick of torchgym's own rows does; the same for two markets whose ticks do the same."""
    same = replace(static.structure, ticks_per_action=1, warmup_ticks=0)  # a tick knows neither
    return repr((same, features.names(same)))  # a set of one name may show other features tomorrow


def ordinary(tensor: Tensor) -> Tensor:
    """The same as an ordinary tensor, which outside of inference mode may change in place and be part of what is learnt from."""
    return tensor.clone() if tensor.is_inference() else tensor


class _Call(NamedTuple):
    operation: Any  # torch._ops.OpOverload
    name: str  # of it, as torch's schemas have it
    args: tuple[Any, ...]
    options: dict[str, Any]
    made: Sequence[Tensor]
    in_place: bool  # it writes to what it is given
    reads: set[int]  # places of the tensors whose values matter to it
    writes: set[int]  # places of what it made


class _Recording(TorchDispatchMode):
    """Keeps each operation with all that it was given and made, so that no memory is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        result = func(*args, **options)
        made, name = _listed(result), func._schema.name.removeprefix("aten::")
        steady = name not in _READING and (name != "where" or len(args) == 3)
        if not steady or not _UNSTEADY.isdisjoint(func.tags) or not all(isinstance(one, Tensor) for one in made):
            raise NotRecordable(f"{func} depends on values")
        given = [] if name in _FILLS else [one for value in (*args, *options.values()) for one in _listed(value)]
        reads = _places(one for one in given if isinstance(one, Tensor))
        self.calls.append(_Call(func, name, args, options, made, func._schema.is_mutable, reads, _places(made)))
        return result

    # Torch's own also set variables of the process, which threads would leave wrong for one another.
    def __enter__(self) -> _Recording:
        _push_mode(self)
        return self

    def __exit__(self, *_: object) -> None:
        _pop_mode()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it, torch would import its compiler, which takes a second


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else (value,)


def _flat(tree: object) -> list[Tensor]:
    return [leaf for _, leaf in leaves(tree)]


def _places(tensors: Iterable[Tensor]) -> set[int]:
    """Where their memory begins, which all views of it share; without those that hold nothing, which are all the same."""
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.numel()}


def _size(tensors: Iterable[Tensor]) -> int:
    """Bytes of all that these are views of."""
    return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}.values())


def _same(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()


def _needed(calls: Sequence[_Call], given: Iterable[Tensor], wanted: Iterable[Tensor]) -> list[int]:
    """Which calls must run again: those that make what is wanted out of what is given, views aside."""
    written: set[int] = set().union(*(call.writes for call in calls if call.in_place))
    changing, work = _places(given), []
    for at, call in enumerate(calls):
        fresh = not call.writes <= call.reads  # else it is a view
        if call.in_place or (fresh and (call.reads & changing or call.writes & written)):
            work.append(at)
            changing |= call.writes
    needed, kept = _places(wanted), []
    for at in reversed(work):
        if calls[at].writes & needed:
            needed |= calls[at].reads
            kept.append(at)
    return kept[::-1]


def _again(call: _Call) -> Callable[[], object]:
    """The same operation, into the memory of its result. Done once here, to see in which way torch can do it."""
    name, args, options = call.name, call.args, call.options
    made = call.made[0]
    ways: list[Callable[[], object]] = [partial(_copied, call)]
    if call.in_place:
        ways = [partial(call.operation, *args, **options)]
        if name.endswith("_"):
            ways.insert(0, partial(getattr(Tensor, name, call.operation), *args, **options))
    elif name in _COPIES:
        ways.insert(0, partial(made.copy_, args[0]))
    else:
        if name == "where":  # takes no numbers where it writes to given memory
            args = (args[0], *(_tensor(number, made.dtype) for number in args[1:]))
        if name == "rsub" and len(args) == 2 and not options:
            name, args = "sub", (_tensor(args[1], made.dtype), args[0])
        function = getattr(torch, _NAMES.get(name, name), None)
        if function is not None:
            out = made if len(call.made) == 1 else tuple(call.made)
            ways.insert(0, partial(function, *args, **options, out=out))
    for way in ways[:-1]:
        try:
            way()
            return way
        except (TypeError, RuntimeError):  # nothing that can be called so
            continue
    ways[-1]()
    return ways[-1]


def _tensor(number: Any, dtype: torch.dtype) -> Tensor:
    return number if isinstance(number, Tensor) else torch.tensor(number, dtype=dtype, device="cpu")


def _copied(call: _Call) -> None:
    """Any operation: its result is copied."""
    for place, new in zip(call.made, _listed(call.operation(*call.args, **call.options)), strict=True):
        place.copy_(new)
