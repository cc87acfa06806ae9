"""The one mutable object."""

from __future__ import annotations

import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.config.validation import check_count
from torchgym.engine.arguments import Seeds, check_action, check_mask, check_seeds, consecutive_seeds
from torchgym.engine.checkpoint import check_state, read_checkpoint, write_checkpoint
from torchgym.engine.openings import Openings, seed_and_episode
from torchgym.engine.program import FUSION, NotRecordable, reason, say
from torchgym.engine.replay import Replay, World
from torchgym.readout import features, rewards
from torchgym.readout.packed import Columns, Packed
from torchgym.readout.paths import Recorder, entries
from torchgym.readout.step import StepResult, result, standing
from torchgym.readout.step import step as plain_step
from torchgym.sim import actions, noise, traders
from torchgym.sim import invariants as checks
from torchgym.sim import tick as ticking
from torchgym.sim.state import (
    MarketParams,
    MarketState,
    choose_rows,
    clone,
    layout,
    leaves,
    make_params,
    map_tensors,
    put_rows,
    unflatten,
)
from torchgym.sim.state import rows as take_rows

if TYPE_CHECKING:
    from tensordict import TensorDict

Step = Callable[[MarketParams, MarketState, Tensor], tuple[MarketState, StepResult]]
P = ParamSpec("P")
R = TypeVar("R")

_MARKETS: weakref.WeakSet[Market] = weakref.WeakSet()  # of this process


def _one_at_a_time(method: Callable[Concatenate[Market, P], R]) -> Callable[Concatenate[Market, P], R]:
    """A method of `Market` that waits while another thread is in one of them."""

    @functools.wraps(method)
    def waiting(self: Market, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            return method(self, *args, **kwargs)

    return waiting


class Market:
    """A batch of complete markets.

    Calls from several threads follow one after another. Copies (`copy.copy`, `copy.deepcopy`, pickle, `fork`) are independent
    and go on in the same bits; a process that was forked goes on with copies of its own as well.

    Args:
        config: what kind of market; the default is a liquid stock.
        num_envs: N, how many markets.
        seed: market i gets seed + i, unless `reset` is given seeds; None draws a fresh one.
        device: where everything lives.
        compile: run compiled steps. The numbers are the same in every bit. Where compiling fails, one line on stderr says why,
            and steps run uncompiled.
        debug: check conservation, the book and finiteness after every phase (slow, and never compiled).

    Raises:
        ValueError: for an impossible argument, or an unknown name in the configuration.

    >>> market = Market(MarketConfig(max_ticks=100), num_envs=2, seed=0)
    >>> market.reset().observation.shape
    torch.Size([2, 54])
    >>> result = market.step(torch.tensor([2, 1]))
    >>> result.info["position"].flatten().tolist()
    [10, 0]
    """

    _replays = True  # on a CPU; a compiler that makes something else than kernels is used through torch.compile

    def __init__(
        self,
        config: MarketConfig | None = None,
        num_envs: int = 1,
        *,
        seed: int | None = None,
        device: torch.device | str = "cpu",
        compile: bool = False,
        debug: bool = False,
    ) -> None:
        self.config = MarketConfig() if config is None else config
        if not isinstance(self.config, MarketConfig):
            raise ValueError(f"config must be a MarketConfig, got {type(config).__name__}")
        self.scheme = actions.scheme(self.config)
        self.feature_names = features.names(self.config)
        rewards.weights(self.config)
        traders.TRADERS.check(layout(self.config).families)
        self.num_envs = num_envs = check_count("num_envs", num_envs, low=1)
        self.device = torch.device(device)
        self.debug = debug

        self._state: MarketState | None = None
        self._copy: MarketState | None = None  # of the state, if it was asked for since it changed
        self._world = World(self.config, layout(self.config), noise.lanes(layout(self.config), self.device))
        self.columns = Columns(self.config)
        self._base = make_params(self.config, num_envs, self.device)
        self._params = self._base
        shape = (num_envs, self.config.num_symbols)
        self._hold = torch.full(shape, actions.REST, dtype=torch.int64, device=self.device)
        self._first_seeds = consecutive_seeds(seed, num_envs).to(self.device)
        self._step: Step = self._plain
        self._graph: Callable[..., tuple[MarketState, StepResult]] | None = None
        self._replay: Replay | None = None
        self._openings: Openings | None = None
        self._shares_openings = self.config.warmup_ticks % self.config.ticks_per_action == 0
        self._unopened = "the market has not been opened yet: call reset() first"
        self._resetting = False
        self._lock = threading.RLock()
        self.compile = compile
        _MARKETS.add(self)

    @property
    def state(self) -> MarketState:
        """Every tensor of the batch, as of the end of the last tick. To be read, not written.

        Compiled markets change in place on a CPU, so there it is a copy, made when it is first asked for after a step.

        Raises:
            RuntimeError: before the first reset.
        """
        now = self.live
        if self._replay is None:
            return now
        if self._copy is None:
            self._copy = clone(now)
        return self._copy

    @property
    def live(self) -> MarketState:
        """The same without a copy, for loops that look at a few numbers of every tick; what they keep, they clone.

        Raises:
            RuntimeError: before the first reset.
        """
        if self._state is None:
            raise RuntimeError(self._unopened)
        return self._state

    @property
    def params(self) -> MarketParams:
        """The numbers of each market's running episode, [N, 1], [N, 1, 1] or [N, 1, 3]; see `torchgym.sim.state.MarketParams`.

        They differ between markets and change with every reset where `MarketConfig.randomize` names them, so that a learner, or
        whoever judges it, can be told which world it is in. To be read, not written.

        Raises:
            RuntimeError: before the first reset.
        """
        _ = self.live
        return self._params

    @property
    def opened(self) -> bool:
        """Whether there has been a reset."""
        return self._state is not None

    @property
    def compile(self) -> bool:
        """Whether a step runs as one compiled graph. May be switched at any time.

        Raises:
            ValueError: when switched on together with `debug`.
        """
        return self._step != self._plain

    @compile.setter
    @_one_at_a_time
    def compile(self, on: bool) -> None:
        if on and self.debug:
            raise ValueError("compile=True and debug=True contradict each other: the checks look at every phase")
        if on != self.compile:
            self._step = self._compiled() if on else self._plain
            self._replay = None

    @_one_at_a_time
    def prepare(self) -> None:
        """Compile now what the first step would compile, so that it takes no longer than others; nothing moves.

        Without `compile` there is nothing to do.
        """
        if not self.compile or self._replay is not None:
            return
        state = self._blank(self._first_seeds) if self._state is None else self._state
        if self.device.type == "cpu" and self._replays:
            self._make_replay(self._params, state)
        if self._replay is None:
            with torch.no_grad():
                self._step(self._params, state, self._hold)

    @_one_at_a_time
    def reseed(self, seeds: Seeds) -> None:
        """Give every market a new seed: its next reset without a seed opens the first episode of it. Running episodes go on.

        Raises:
            ValueError: for bad seeds; nothing has changed then.
        """
        given = check_seeds(seeds, self.num_envs).to(self.device)
        if self._state is None:
            self._first_seeds = given
        else:
            self._copy = None
            clock = replace(self._state.clock, seed=given, episode=torch.full_like(given, -1))
            self._state = replace(self._state, clock=clock)

    @_one_at_a_time
    def reset(self, seeds: Seeds | None = None, mask: Tensor | None = None) -> StepResult:
        """Open new episodes, warmed up, in all markets or in those of the mask. The other markets keep every bit.

        An episode is decided by the market's seed and by how many resets without a seed came since it was given: the same two
        give the same bits whatever the batch, the row or the past.

        Args:
            seeds: one non-negative int per market of the batch (those outside the mask are not used). None goes on to the next
                episode of each market's seed.
            mask: [N] bool, which markets; None is all.

        Returns:
            The current observation of every market, with a reward of zero.

        Raises:
            ValueError: for bad seeds or a bad mask; nothing has changed then.
            RuntimeError: when the first reset does not open every market.
        """
        given = None if seeds is None else check_seeds(seeds, self.num_envs).to(self.device)
        chosen = check_mask(mask, self.num_envs, self.device)
        whole = bool(chosen.all())
        if self._state is None and not whole:
            raise RuntimeError("the first reset must open every market: call reset() without a mask")
        if given is not None:
            seed, episode = given, torch.zeros_like(given)
        elif self._state is None:
            seed, episode = self._first_seeds, torch.zeros_like(self._first_seeds)
        else:
            seed, episode = self._state.clock.seed, self._state.clock.episode + 1
        self._copy = None
        self._resetting = True
        try:
            with torch.no_grad():
                if whole:
                    params = self._drawn(noise.make_key(seed, episode))
                    self._state, self._params = self._open(seed, episode, params), params
                elif bool(chosen.any()):
                    self._open_some(chosen, seed, episode, ahead=given is None)
        finally:
            self._resetting = False
        return self.observe()

    @_one_at_a_time
    def step(self, action: Tensor | None = None, mask: Tensor | None = None) -> StepResult:
        """One decision: the order goes in at the first of `ticks_per_action` ticks.

        Args:
            action: [N] (the same choice in every symbol) or [N, S] int64, choices of the action scheme ("discrete": 0 sells, 1
                holds, 2 buys); None holds.
            mask: [N] bool, which markets move; None is all. The others keep every bit and are shown as `observe` shows them.

        Returns:
            The market after the last of these ticks; the reward covers all of them. `info` holds tick [N] int64; equity,
            realized_pnl, cash, fees, borrow, turnover [N] float64, currency (turnover: traded in this step); position and filled
            [N, S] int64 shares (filled: in this step); and `reward_<term>` [N] for each reward term, before its weight.

        Raises:
            ValueError: for an action or mask of the wrong shape, dtype or value, naming it; no market has moved then.
            RuntimeError: before the first reset.
        """
        state = self.live
        chosen = self._hold if action is None else check_action(self.config, action, self.num_envs, self.device)
        moving = None if mask is None else check_mask(mask, self.num_envs, self.device)
        self._copy = None
        with torch.no_grad():
            after, told = self._step(self._params, state, chosen)
            if moving is not None:
                after, told = choose_rows(moving, after, state), choose_rows(moving, told, self._standing(state))
            self._state = after
            return told

    @_one_at_a_time
    def advance(self, action: Tensor) -> Packed:
        """One decision without checks and names, for faces that have checked: what `step` tells, in three fresh tensors.

        Args:
            action: [N, S] int64, choices that the action scheme has.

        Raises:
            RuntimeError: before the first reset.
        """
        state, replay = self.live, self._replay
        self._copy = None
        if replay is not None:
            self._state, packed = replay(self._params, state, action)
            return packed
        with torch.no_grad():
            self._state, told = self._step(self._params, state, action)
            return self.columns.pack(told)

    @_one_at_a_time
    def observe(self) -> StepResult:
        """The current observation, without moving: rewards, what was filled and turned over are zero.

        Raises:
            RuntimeError: before the first reset.
        """
        state, replay = self.live, self._replay
        with torch.no_grad():
            if replay is not None and state is replay.state and replay.fresh:
                return self.columns.unpack(self.columns.hush(replay.told()))
            return self._standing(state)

    @_one_at_a_time
    def run(
        self,
        num_ticks: int,
        policy: Callable[[StepResult], Tensor] | None = None,
        *,
        record: Sequence[str] | None = None,
        progress: bool | Callable[[int, int], None] = False,
    ) -> TensorDict:
        """Record paths of the market.

        Memory for the whole path is taken at once, 8 bytes per market, row, symbol and entry; `record` narrows it down.

        Args:
            num_ticks: how many ticks; a multiple of `ticks_per_action`. T rows, one per decision, as of its last tick.
            policy: the action for what was seen last, [N] or [N, S] int64; None holds.
            record: which entries; None is all of them.
            progress: True writes about ten lines to stderr; a function is called about a hundred times, and at the end, with
                the ticks done and the ticks in all.

        Returns:
            TensorDict [N, T], each entry [N, T, S]: mid, close, bid, ask, value, estimate, maker_cash (currency, float64);
            volume, buys, sells, bid_depth, ask_depth, maker_shares, position (shares, int64); fills (orders filled in the tick,
            int64); news (headline's log effect, float64); and equity [N, T] (currency, float64).

        Raises:
            ValueError: for a bad number of ticks or an unknown entry, listing the known ones; nothing has moved then.
            RuntimeError: before the first reset.
        """
        from tensordict import TensorDict

        per_step = self.config.ticks_per_action
        num_ticks = check_count("num_ticks", num_ticks, low=1)
        if num_ticks % per_step:
            raise ValueError(f"num_ticks must be a multiple of ticks_per_action = {per_step}, got {num_ticks}")
        length = num_ticks // per_step
        recorder = Recorder(self.config, self.live, entries(record), length)
        tell, times = (progress, 100) if callable(progress) else (_write_progress, 10 if progress else 1)
        seen = self.observe() if policy is not None else None
        for index in range(length):
            seen = self.step(policy(seen) if policy is not None and seen is not None else None)
            recorder.write(index, self.live)
            if progress and ((index + 1) % max(1, length // times) == 0 or index + 1 == length):
                tell((index + 1) * per_step, num_ticks)
        return TensorDict(recorder.paths, batch_size=[self.num_envs, length], device=self.device)

    @_one_at_a_time
    def holdings(self) -> dict[str, dict[str, Tensor]]:
        """Who owns what: for each class of owner cash [N] int64 points x shares, and shares [N, S] int64.

        Classes are the trader families, "maker", "learner", "fees" and "borrow" (the last two own no shares). Background
        inventories are measured from endowments and the learner's starting shares come from outside: over all classes shares add
        up to `starting_shares` in each symbol, and cash to the learner's starting cash.
        """
        accounts = self.live.accounts
        places = {**self._world.places.families, "maker": self._world.places.maker_owners}
        owned = {
            name: {"cash": accounts.cash[..., place].sum((1, 2)), "shares": accounts.shares[..., place].sum(-1)}
            for name, place in places.items()
        }
        none = torch.zeros_like(accounts.learner_shares)
        return {
            **owned,
            "learner": {"cash": accounts.learner_cash.clone(), "shares": accounts.learner_shares.clone()},
            "fees": {"cash": accounts.fees.clone(), "shares": none},
            "borrow": {"cash": accounts.borrow.clone(), "shares": none.clone()},
        }

    @_one_at_a_time
    def fork(self, device: torch.device | str | None = None) -> Market:
        """An independent copy at the same moment: both go on alike until they are treated differently.

        Args:
            device: where the copy lives; None is the same device.
        """
        twin = object.__new__(Market)
        vars(twin).update(vars(self))
        twin.device = self.device if device is None else torch.device(device)
        twin._lock = threading.RLock()

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(twin.device, copy=True)

        twin._state = None if self._state is None else map_tensors(moved, self._state)
        twin._first_seeds, twin._hold = moved(self._first_seeds), moved(self._hold)
        twin._world = replace(self._world, lanes=map_tensors(moved, self._world.lanes))
        twin._copy = twin._replay = twin._openings = None
        twin._step = twin._compiled() if self.compile else twin._plain
        twin._base, twin._params = map_tensors(moved, self._base), map_tensors(moved, self._params)
        _MARKETS.add(twin)
        return twin

    def __copy__(self) -> Market:
        return self.fork()

    def __deepcopy__(self, memo: dict[int, Any]) -> Market:
        return self.fork()

    @_one_at_a_time
    def __reduce__(self) -> tuple[Any, ...]:
        options = {"device": str(self.device), "compile": self.compile, "debug": self.debug}
        state = None if self._state is None else {name: leaf.clone() for name, leaf in leaves(self._state)}
        return _unpickled, (self.config, self.num_envs, options, self._first_seeds.tolist(), state)

    @_one_at_a_time
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole state to a file, bit for bit. The file is written whole or not at all, and carries a digest.

        Raises:
            OSError: when it cannot be written; what was there before is as it was.
            RuntimeError: before the first reset.
        """
        write_checkpoint(Path(path), self.config, self.live)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        device: torch.device | str = "cpu",
        compile: bool = False,
        debug: bool = False,
    ) -> Market:
        """A market that goes on where the saved one stood.

        Raises:
            ValueError: when the file is no checkpoint, damaged or of another version, or its tensors do not fit its
                configuration.
            OSError: when it cannot be read.
        """
        config, num_envs, tensors = read_checkpoint(Path(path))
        market = cls(config, num_envs, seed=0, device=device, compile=compile, debug=debug)
        market.restore(tensors)
        return market

    @_one_at_a_time
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where the market of these tensors stood.

        Args:
            tensors: what `torchgym.sim.state.leaves` gives of its state, by name; copied.

        Raises:
            ValueError: when they belong to another configuration or another number of markets, or have values that no market
                can have; nothing has changed then.
        """
        blank = self._blank(self._first_seeds)
        expected = {name: (leaf.shape, leaf.dtype) for name, leaf in leaves(blank)}
        if expected != {name: (leaf.shape, leaf.dtype) for name, leaf in tensors.items()}:
            raise ValueError("the saved tensors do not fit this market: another configuration, batch size or version")
        state = unflatten(blank, (tensors[name].to(self.device, copy=True) for name in expected))
        check_state(self.config, state)
        self._go_on_with(state)

    def _go_on_with(self, state: MarketState) -> None:
        """Make this the present."""
        self._copy = None
        self._state = state
        self._params = self._drawn(state.clock.key)

    def _drawn(self, key: Tensor) -> MarketParams:
        """The worlds of these episodes: key [N, 2] int32, which also a market that was given a new seed keeps while it runs."""
        with torch.no_grad():
            return ticking.draw_params(self.config, self._base, key)

    def _blank(self, seed: Tensor) -> MarketState:
        """A market that has not been warmed up: the right shapes."""
        return self._begin(seed, torch.zeros_like(seed), self._params)

    def _begin(self, seed: Tensor, episode: Tensor, params: MarketParams) -> MarketState:
        """Opening quotes, before the warm-up."""
        world = self._world
        with torch.no_grad():
            return ticking.start(
                self.config, params, places=world.places, lanes=world.lanes, seed=seed, episode=episode
            )

    def _open(self, seed: Tensor, episode: Tensor, params: MarketParams) -> MarketState:
        """Start and warm up: ticks in which the learner holds, whole decisions or, where they do not divide, tick by tick.

        Rewards begin afterwards: what starting shares gain or lose in the warm-up is no profit and no drawdown. A part of the
        batch is opened without compiling: it has a size of its own.
        """
        state = self._begin(seed, episode, params)
        hold, whole = self._hold[: seed.shape[0]], seed.shape[0] == self.num_envs
        step: Step = self._by_own_step if whole else self._plain
        length = self.config.ticks_per_action
        if self.config.warmup_ticks % length:
            step, length = functools.partial(self._plain, config=self.config.replace(ticks_per_action=1)), 1
        for _ in range(self.config.warmup_ticks // length):
            state, _ = step(params, state, hold)
        return replace(state, reward=rewards.start(self.config, state.accounts.half_equity))

    def _by_own_step(self, params: MarketParams, state: MarketState, action: Tensor) -> tuple[MarketState, StepResult]:
        """A step as this market makes them now; the first one may show that another kind is needed."""
        return self._step(params, state, action)

    def _open_some(self, chosen: Tensor, seed: Tensor, episode: Tensor, *, ahead: bool) -> None:
        """Open the markets of the mask; `ahead` tells that each will go on to the next episode of its seed."""
        config, replay, index = self.config, self._replay, chosen.nonzero().flatten()
        if replay is not None and self._shares_openings:
            try:
                self._share_openings(replay, chosen, index, seed, episode, ahead=ahead)
            except Exception as error:  # as in `_make_replay`; what is wrong with an opening itself fails again
                say(f"openings are uncompiled from now on, with the same numbers: {reason(error)}")
                self._shares_openings = False
            else:
                return
        params = take_rows(self._drawn(noise.make_key(seed, episode)), index)
        opened = self._open(seed[index], episode[index], params)
        self._state = put_rows(self.live, index, opened)
        if config.randomize:
            self._params = put_rows(self._params, index, params)

    def _share_openings(
        self, replay: Replay, chosen: Tensor, index: Tensor, seed: Tensor, episode: Tensor, *, ahead: bool
    ) -> None:
        """The same by a program that also warms up the episodes that will be asked for next."""
        replay.load(self._params, self.live)
        self._state = replay.state
        if self._openings is None:
            self._openings = Openings(self._world, self._base, replay.at_once)
        markets = index.tolist()
        soon = self._ending_soon(chosen, replay.at_once) if ahead else []
        wanted = seed_and_episode(seed, episode, markets)
        self._openings.open(replay, markets, wanted, seed_and_episode(seed, episode, soon))
        if self.config.randomize:
            drawn = self._drawn(self.live.clock.key)
            self._params = put_rows(self._params, index, take_rows(drawn, index))

    def _ending_soon(self, opening: Tensor, count: int) -> list[int]:
        """The markets nearest to their end, beside those that are opened now."""
        ticks = torch.where(opening, -1, self.live.clock.tick)
        found = torch.topk(ticks, min(count, self.num_envs)).indices
        return [market for market in found.tolist() if not bool(opening[market])]

    def _standing(self, state: MarketState) -> StepResult:
        return result(self.config, state, standing(self.config, state))

    def _plain(
        self, params: MarketParams, state: MarketState, action: Tensor, config: MarketConfig | None = None
    ) -> tuple[MarketState, StepResult]:
        """A step as it is written."""
        world = self._world
        return plain_step(
            self.config if config is None else config,
            params,
            state,
            action,
            places=world.places,
            lanes=world.lanes,
            watch=checks.watch if self.debug else None,
        )

    def _compiled(self) -> Step:
        """A step of compiled kernels: replayed on a CPU, else through `torch.compile`."""
        if self.device.type == "cpu" and self._replays:
            return self._replayed
        if self._graph is None:
            self._graph = _graph(plain_step)
        return self._through_graph

    def _through_graph(
        self, params: MarketParams, state: MarketState, action: Tensor
    ) -> tuple[MarketState, StepResult]:
        """A step as one graph of torch's compiler; where that fails, the steps from now on are plain ones."""
        assert self._graph is not None
        world = self._world
        try:
            return self._graph(self.config, params, state, action, places=world.places, lanes=world.lanes)
        except Exception as error:  # a compiler may fail in any way; what is wrong with the step itself fails again
            self._give_up_compiling(error)
        return self._plain(params, state, action)

    def _replayed(self, params: MarketParams, state: MarketState, action: Tensor) -> tuple[MarketState, StepResult]:
        """A step from kernels on the market's own memory."""
        if self._replay is None:
            self._make_replay(params, state)
        if self._replay is None:
            return self._step(params, state, action)
        after, packed = self._replay(params, state, action)
        return after, self.columns.unpack(packed)

    def _make_replay(self, params: MarketParams, state: MarketState) -> None:
        """Kernels on the market's own memory or, where that fails, the next slower kind of step from now on."""
        try:
            self._replay = Replay(self._world, params, state)
        except NotRecordable as error:
            say(f"steps go through torch.compile, which is slower, with the same numbers: {reason(error)}")
            self._replays = False
            self._step = self._compiled()
        except Exception as error:  # no compiler, no memory, a torch that moved its internals, ...
            self._give_up_compiling(error)

    def _give_up_compiling(self, error: Exception) -> None:
        say(f"uncompiled from now on, with the same numbers: {reason(error)}")
        self._step = self._plain

    def _in_child(self) -> None:
        """After a fork of the process: its other threads are gone, and what they were about to do is not done."""
        if not self._lock.acquire(blocking=False):
            self._openings = None  # perhaps half made
            if self._resetting:
                self._state = self._replay = None
                self._unopened = (
                    "another thread was resetting the market when the process was forked: call reset() first"
                )
        self._lock = threading.RLock()


def _unpickled(
    config: MarketConfig, num_envs: int, options: dict[str, Any], seeds: list[int], state: dict[str, Tensor] | None
) -> Market:
    market = Market(config, num_envs, seed=0, **options)
    market.reseed(seeds)
    if state is not None:
        market._go_on_with(unflatten(market._blank(market._first_seeds), state.values()))
    return market


def _forked() -> None:
    """In a forked child. Torch's own threads, too, stayed with the parent, and an operation that waits for them never ends."""
    markets = list(_MARKETS)
    if markets:
        torch.set_num_threads(1)
    for market in markets:
        market._in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _write_progress(done: int, total: int) -> None:
    sys.stderr.write(f"tick {done} of {total}\n")


def _graph(step: Callable[..., Any]) -> Callable[..., Any]:
    """One graph without breaks; each market, and its forks with it, counts its own recompilations."""
    isolated: dict[str, Any] = {"isolate_recompiles": True}  # the type stubs do not know it yet
    return torch.compile(step, fullgraph=True, dynamic=False, options=FUSION, **isolated)
