"""The one mutable object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torchgym.config import MarketConfig, structure
from torchgym.config.validation import check_count
from torchgym.engine.arguments import Seeds, check_action, check_device, check_mask, check_seeds, consecutive_seeds
from torchgym.engine.copies import Copied
from torchgym.engine.opening import Openings
from torchgym.engine.running import record_path
from torchgym.engine.sharing import one_at_a_time
from torchgym.engine.stepper import Automatic, Compile, Compiled, Stepper, Uncompiled, chosen_compile
from torchgym.numerics.trees import choose_rows, clone
from torchgym.readout import features, rewards
from torchgym.readout.packed import Packed, StepResult, observe
from torchgym.readout.paths import chosen as chosen_paths
from torchgym.readout.paths import read
from torchgym.readout.step import Static
from torchgym.sim import actions, invariants, session, traders
from torchgym.sim.accounts import holdings
from torchgym.sim.params import Params, make_params
from torchgym.sim.state import MarketState

if TYPE_CHECKING:
    from tensordict import TensorDict


class Market(Copied):
    """A batch of complete markets.

    Calls from several threads follow one after another. Copies (`copy.copy`, `copy.deepcopy`, pickle, `fork`) are independent
    and go on in the same bits; a process that was forked goes on with copies of its own as well.

    Args:
        config: what kind of market; the default is a liquid stock.
        num_envs: N, how many markets.
        seed: market i gets seed + i, unless `reset` is given seeds; None draws a fresh one.
        device: where everything lives.
        params: numbers in place of those of the configuration, by path: one for all markets or [N]; or `Market.params` of others.
        compile: True compiles at the first step, which takes up to a minute the first time; "auto" steps uncompiled at once, has
            another process compile, and changes over between two steps; False never compiles. The numbers are the same in every
            bit. Where compiling fails, one line on stderr says why, and steps run uncompiled.
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

    def __init__(
        self,
        config: MarketConfig | None = None,
        num_envs: int = 1,
        *,
        seed: int | None = None,
        device: torch.device | str = "cpu",
        params: Mapping[str, Any] | Params | None = None,
        compile: Compile = "auto",
        debug: bool = False,
    ) -> None:
        super().__init__()
        self.config = MarketConfig() if config is None else config
        if not isinstance(self.config, MarketConfig):
            raise ValueError(f"config must be a MarketConfig, got {type(config).__name__}")
        self.scheme = actions.scheme(self.config)
        self.feature_names = features.names(self.config)
        rewards.weights(self.config)
        self.structure = plan = structure(self.config)
        traders.TRADERS.check(plan.families)
        self.num_envs = num_envs = check_count("num_envs", num_envs, low=1)
        self.device = check_device(device)
        self.debug = debug
        self._static = Static.of(plan, self.device)
        self.columns = self._static.columns
        self._base = make_params(self.config, num_envs, self.device, params)
        self._params = self._base
        self._state: MarketState | None = None
        self._copy: MarketState | None = None  # of the state, if it was asked for since it changed
        self._rest = actions.rest(plan, num_envs, self.device)
        self._first_seeds = consecutive_seeds(seed, num_envs).to(self.device)
        self._stepper: Stepper = self._uncompiled()
        self._openings = Openings(self._static, self.config, self._base, lambda: self._uncompiled().step)
        self._unopened = "the market has not been opened yet: call reset() first"
        self._resetting = False
        self.compile = compile

    @property
    def state(self) -> MarketState:
        """Every tensor of the batch, as of the end of the last tick. To be read, not written.

        Compiled markets change in place, so of these it is a copy, made when it is first asked for after a step.

        Raises:
            RuntimeError: before the first reset.
        """
        now = self.live
        if self._stepper.buffers is None:
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
    def params(self) -> Params:
        """The numbers of each market's running episode, as `params.population.maker.skew`; see `torchgym.sim.params`.

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
    def compile(self) -> Compile:
        """Whether steps are compiled, now (True), meanwhile ("auto") or not at all. May be switched at any time.

        Raises:
            ValueError: when switched on together with `debug`, or given what is none of the three.
        """
        if isinstance(self._stepper, Automatic):
            return "auto"
        return isinstance(self._stepper, Compiled) and not self._stepper.gave_up

    @compile.setter
    @one_at_a_time
    def compile(self, on: Compile) -> None:
        on = False if self.debug and on == "auto" else chosen_compile(on)
        if on is True and self.debug:
            raise ValueError("compile=True and debug=True contradict each other: the checks look at every phase")
        if on != self.compile:
            self._stepper = self._make_stepper(compile=on)

    @one_at_a_time
    def prepare(self) -> None:
        """Compile now what the first step would compile, so that it takes no longer than others; nothing moves.

        Without `compile` there is nothing to do.
        """
        if self._stepper.buffers is None:
            with torch.no_grad():
                state = self._openings.blank() if self._state is None else self._state
                self._stepper.prepare(self._params, state)

    @one_at_a_time
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

    @one_at_a_time
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
        with torch.no_grad(), self._opening(whole=whole):
            if whole:
                opened = self._openings.open_all(self._stepper.step, seed, episode, whole=self._stepper.any_ticks)
                self._state, self._params = opened
            elif bool(chosen.any()):
                self._state, self._params = self._openings.open_some(
                    chosen,
                    self._stepper.buffers,
                    (self.live, self._params),
                    (seed, episode),
                    ahead=given is None,
                )
        return self.observe()

    @one_at_a_time
    def step(self, action: Tensor | None = None, mask: Tensor | None = None) -> StepResult:
        """One decision: the order goes in at the first of `ticks_per_action` ticks.

        Args:
            action: [N, W] of the action scheme: int64 choices ("discrete": 0 sells, 1 holds, 2 buys) or, of a box, floating
                numbers. W is the number of symbols, unless the box has several numbers per symbol, or one for cash; [N] is
                the same in every symbol. With several learners [N, L, W] or [N, L]. None holds.
            mask: [N] bool, which markets move; None is all. The others keep every bit and are shown as `observe` shows them.

        Returns:
            The market after the last of these ticks; the reward covers all of them. `info` holds the rows of
            `torchgym.readout.entries.INFO`, and `reward_<term>` [N] for each reward term, before its weight. With several
            learners what is theirs is [N, L, ...]; `truncated` stays [N].

        Raises:
            ValueError: for an action or mask of the wrong shape, dtype or value, naming it; no market has moved then.
            RuntimeError: before the first reset.
        """
        state = self.live
        chosen = self._rest if action is None else check_action(self.config, action, self.num_envs, self.device)
        moving = None if mask is None else check_mask(mask, self.num_envs, self.device)
        self._copy = None
        with torch.no_grad():
            after, packed = self._stepper.step(self._params, state, chosen)
            result = self.columns.unpack(packed)
            if moving is not None:
                result = choose_rows(moving, result, self._standing(state))
                after = choose_rows(moving, after, state)
            self._state = after
            return result

    @one_at_a_time
    def advance(self, action: Tensor) -> Packed:
        """One decision without checks and names, for faces that have checked: what `step` tells, in three fresh tensors.

        Args:
            action: [N, L * W], of the action scheme and its dtype.

        Raises:
            RuntimeError: before the first reset.
        """
        state = self.live
        self._copy = None
        with torch.no_grad():
            self._state, packed = self._stepper.step(self._params, state, action)
        return packed

    @one_at_a_time
    def observe(self) -> StepResult:
        """The current observation, without moving: rewards, what was filled and turned over are zero.

        Raises:
            RuntimeError: before the first reset.
        """
        state, buffers = self.live, self._stepper.buffers
        with torch.no_grad():
            if buffers is not None and state is buffers.state and buffers.fresh:
                return self.columns.unpack(self.columns.without_events(buffers.packed()))
            return self._standing(state)

    @one_at_a_time
    def action_mask(self) -> Tensor:
        """Which choices do what they say now: bool [N, S, C], with several learners [N, L, S, C].

        False where the position limit cuts the order of a choice to zero shares; a choice that orders nothing stays True. A pure
        function of positions and limits, computed when it is asked for: no step is slower for it.

        Raises:
            ValueError: for an action scheme of numbers, which has no masks.
            RuntimeError: before the first reset.
        """
        mask = actions.allowed(self.structure, self._params, self.live).transpose(1, 2)
        return mask.squeeze(1) if self.structure.num_learners == 1 else mask

    @one_at_a_time
    def read(self, *names: str) -> dict[str, Tensor]:
        """Entries of the present, rows of `torchgym.readout.entries.PATHS`: [N, S] or, where they are not per symbol, [N].

        Raises:
            ValueError: for an unknown entry, listing the known ones.
            RuntimeError: before the first reset.
        """
        entries = read(self.structure, self._params, self.live, chosen_paths(self.config, names))
        # Some are views of what the next step overwrites.
        return {name: entry.clone() for name, entry in entries.items()}

    @one_at_a_time
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
            policy: the action for what was seen last, as `step` takes it; None holds.
            record: which entries; None is all of them.
            progress: True writes about ten lines to stderr; a function is called about a hundred times, and at the end, with
                the ticks done and the ticks in all.

        Returns:
            TensorDict [N, T], each entry [N, T, S] or, where it is not per symbol, [N, T]: the rows of
            `torchgym.readout.entries.PATHS`, and where learners have places those of `PLACE_PATHS` for each, as "bid_1_price",
            with their units and meanings.

        Raises:
            ValueError: for a bad number of ticks, a policy that is no function, or an unknown entry, listing the known ones;
                nothing has moved then.
            RuntimeError: before the first reset.
        """
        from tensordict import TensorDict

        paths, length = record_path(self, num_ticks, policy, record, progress)
        return TensorDict(paths, batch_size=[self.num_envs, length], device=self.device)

    @one_at_a_time
    def holdings(self) -> dict[str, dict[str, Tensor]]:
        """Who owns what: for each class of owner cash [N] int64 points x shares, and shares [N, S] int64.

        Classes are the trader families, "learner", "fees" and "borrow" (the last two own no shares). Background inventories are
        measured from endowments and learners' starting shares come from outside: over all classes shares add up to
        `starting_shares` of each learner in each symbol, and cash to the learners' starting cash.
        """
        return holdings(self.structure, self.live)

    def common_day(self) -> int | None:
        """Ticks of a trading day, the same in all markets; None without days, a ValueError where they differ."""
        return None if self.config.common_day() is None else session.common_ticks(self._base)

    def _standing(self, state: MarketState) -> StepResult:
        return observe(self.columns, self.structure, self._params, state)

    def _uncompiled(self) -> Uncompiled:
        return Uncompiled(self._static, invariants.watch if self.debug else None)

    def _make_stepper(self, *, compile: Compile) -> Stepper:
        if compile == "auto" and not self.debug:
            return Automatic(self.config, self._static, self.device)
        return Compiled(self._static, self.device) if compile is True else self._uncompiled()

    def _in_child(self, *, interrupted: bool) -> None:
        if self.compile == "auto" and self._stepper.buffers is None:  # what the other process makes is the parent's
            self._stepper = self._make_stepper(compile="auto")
        if not interrupted:
            return
        self._openings.forget()
        if self._resetting:
            self._state = None
            self._stepper = self._make_stepper(compile=self.compile)
            self._unopened = "another thread was resetting the market when the process was forked: call reset() first"
