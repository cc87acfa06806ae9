"""Copies of a market: in memory, in another process, and on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from torchgym.config import MarketConfig, Structure
from torchgym.engine.arguments import check_device
from torchgym.engine.checkpoint import check_state, read_checkpoint, write_checkpoint
from torchgym.engine.opening import Openings
from torchgym.engine.sharing import Shared, one_at_a_time
from torchgym.engine.stepper import Compile, Compiled, Stepper
from torchgym.numerics.trees import clone, leaves, map_tensors, unflatten
from torchgym.readout.step import Static
from torchgym.sim.params import Params
from torchgym.sim.state import MarketState

M = TypeVar("M", bound="Copied")


class Copied(Shared):
    """The part of a market that copies it, saves it, and goes on from what was saved; see `torchgym.engine.Market`."""

    config: MarketConfig
    structure: Structure
    num_envs: int
    device: torch.device
    debug: bool
    compile: Any
    _static: Static
    _base: Params
    _params: Params
    _state: MarketState | None
    _copy: MarketState | None
    _first_seeds: Tensor
    _rest: Tensor
    _stepper: Stepper
    _openings: Openings
    _resetting: bool

    def __init__(self, config: MarketConfig | None = None, num_envs: int = 1, **options: Any) -> None:
        super().__init__()

    def reseed(self, seeds: Any) -> None:
        """See `torchgym.engine.Market`."""
        raise NotImplementedError

    def _make_stepper(self, *, compile: Compile) -> Stepper:
        raise NotImplementedError

    @property
    def live(self) -> MarketState:
        """See `torchgym.engine.Market`."""
        raise NotImplementedError

    @contextmanager
    def _opening(self, *, whole: bool) -> Iterator[None]:
        """While a reset goes on. Whatever ends it early leaves each market in its old episode, or in its new one.

        Args:
            whole: it opens all markets, on the memory that holds the present where steps run on memory of their own.
        """
        kept = None
        if whole and self._state is not None and self._stepper.buffers is not None:
            kept = clone(self._state)
        self._resetting = True
        try:
            yield
        except BaseException:
            self._state = self._state if kept is None else kept
            if self._state is not None and self.config.randomize:
                self._params = self._openings.params(self._state.clock.key)
            raise
        finally:
            self._resetting = False

    @one_at_a_time
    def fork(self: M, device: torch.device | str | None = None) -> M:
        """An independent copy at the same moment: both go on alike until they are treated differently.

        Args:
            device: where the copy lives; None is the same device.
        """
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        twin.device = self.device if device is None else check_device(device)

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(twin.device, copy=True)

        twin._state = None if self._state is None else map_tensors(moved, self._state)
        twin._first_seeds, twin._rest = moved(self._first_seeds), moved(self._rest)
        twin._static = replace(self._static, plan=map_tensors(moved, self._static.plan))
        twin._copy = None
        if isinstance(self._stepper, Compiled) and self.compile:
            twin._stepper = self._stepper.copied(twin._static, twin.device)
        else:
            twin._stepper = twin._make_stepper(compile=self.compile)
        twin._base, twin._params = map_tensors(moved, self._base), map_tensors(moved, self._params)
        twin._openings = Openings(twin._static, twin.config, twin._base, lambda: twin._make_stepper(compile=False).step)
        twin._join()
        return twin

    def __copy__(self: M) -> M:
        return self.fork()

    def __deepcopy__(self: M, memo: dict[int, Any]) -> M:
        return self.fork()

    @one_at_a_time
    def __reduce__(self) -> tuple[Any, ...]:
        options = {"device": str(self.device), "params": self._base, "compile": self.compile, "debug": self.debug}
        state = None if self._state is None else {name: leaf.clone() for name, leaf in leaves(self._state)}
        return _unpickled, (type(self), self.config, self.num_envs, options, self._first_seeds.tolist(), state)

    @one_at_a_time
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole state to a file, bit for bit. The file is written whole or not at all, and carries a digest.

        Raises:
            OSError: when it cannot be written; what was there before is as it was.
            RuntimeError: before the first reset.
        """
        write_checkpoint(Path(path), self.config, self._base, self.live)

    @classmethod
    def load(
        cls: type[M],
        path: str | os.PathLike[str],
        *,
        device: torch.device | str = "cpu",
        compile: Compile = "auto",
        debug: bool = False,
    ) -> M:
        """A market that goes on where the saved one stood.

        Raises:
            ValueError: when the file is no checkpoint, damaged or of another version, or its tensors do not fit its
                configuration.
            OSError: when it cannot be read.
        """
        config, params, tensors = read_checkpoint(Path(path))
        num_envs = len(params.int64)
        market = cls(config, num_envs, seed=0, device=device, params=params, compile=compile, debug=debug)
        market.restore(tensors)
        return market

    @one_at_a_time
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where the market of these tensors stood.

        Args:
            tensors: what `torchgym.numerics.trees.leaves` gives of its state, by name; copied.

        Raises:
            ValueError: when they belong to another configuration or another number of markets, or have values that no market
                can have; nothing has changed then.
        """
        blank = self._openings.blank()
        expected = {name: (leaf.shape, leaf.dtype) for name, leaf in leaves(blank)}
        if expected != {name: (leaf.shape, leaf.dtype) for name, leaf in tensors.items()}:
            raise ValueError("the saved tensors do not fit this market: another configuration, batch size or version")
        state = unflatten(blank, (tensors[name].to(self.device, copy=True) for name in expected))
        check_state(self.structure, self._openings.params(state.clock.key), state)
        self._go_on_with(state)

    def _go_on_with(self, state: MarketState) -> None:
        """Make this the present."""
        self._copy = None
        self._state = state
        self._params = self._openings.params(state.clock.key)


def _unpickled(
    kind: type[M],
    config: MarketConfig,
    num_envs: int,
    options: dict[str, Any],
    seeds: list[int],
    state: dict[str, Tensor] | None,
) -> M:
    market = kind(config, num_envs, seed=0, **options)
    market.reseed(seeds)
    if state is not None:
        market._go_on_with(unflatten(market._openings.blank(), state.values()))
    return market
