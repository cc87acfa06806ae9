"""`Market`: a batch of markets that can be reset, stepped, observed, saved and forked. The one mutable object."""

from __future__ import annotations

import copy
import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from torchgym import actions, checks, features, noise, rewards
from torchgym import tick as ticking
from torchgym.config import MarketConfig
from torchgym.noise import Lanes
from torchgym.state import Layout, MarketParams, MarketState, layout, leaves, make_params, map_tensors, put_rows
from torchgym.state import rows as take_rows

if TYPE_CHECKING:
    from tensordict import TensorDict

CHECKPOINT_VERSION = 1
T = TypeVar("T")
Seeds = Sequence[int] | Tensor
# Materialise what several reductions over orders read, instead of recomputing it in each of them.
_COMPILE_OPTIONS: dict[str, Any] = {
    "realize_opcount_threshold": 8,
    "realize_reads_threshold": 2,
    "max_pointwise_cat_inputs": 1,
}


@dataclass
class StepResult:
    """The market at the end of a step, as the learner sees it. Fresh tensors."""

    observation: Tensor  # [N, S * F] float64
    account: Tensor  # [N, S + 3] float64
    reward: Tensor  # [N] float64
    terminated: Tensor  # [N] bool: ruined
    truncated: Tensor  # [N] bool: out of time
    info: dict[str, Tensor]  # [N] or [N, S]; see `Market.step`


@dataclass
class Outcome:
    """What one decision brought, over all its ticks."""

    observation: Tensor  # [N, S * F] float64
    account: Tensor  # [N, S + 3] float64
    reward: Tensor  # [N] float64
    terms: dict[str, Tensor]  # [N] float64 each, before their weights
    terminated: Tensor  # [N] bool
    filled: Tensor  # [N, S] int64 shares
    turnover: Tensor  # [N] int64 points x shares


def decision(
    config: MarketConfig,
    params: MarketParams,
    state: MarketState,
    action: Tensor,
    *,
    places: Layout,
    lanes: Lanes,
    watch: ticking.Watch | None = None,
) -> tuple[MarketState, Outcome]:
    """The ticks of one decision and what the learner gets to see of them: a pure function, and the one that is compiled.

    The order goes in at the first tick; the action scheme's hold follows. A market ruined at any of the ticks is terminated.
    """

    def one(state: MarketState, chosen: Tensor) -> tuple[MarketState, Tensor, dict[str, Tensor]]:
        draws = noise.draw(places, lanes, state.clock.key, state.clock.tick + 1)
        before = state.accounts.half_equity
        state = ticking.tick(config, params, state, places=places, action=chosen, draws=draws, watch=watch)
        gained, gained_terms, memory = rewards.total(config, state.reward, before, state.accounts)
        return replace(state, reward=memory), gained, gained_terms

    state, reward, terms = one(state, action)
    terminated = ticking.terminated(config, state)
    filled, turnover = state.accounts.filled, state.accounts.turnover
    for _ in range(config.ticks_per_action - 1):
        state, gained, gained_terms = one(state, torch.full_like(action, actions.scheme(config).hold))
        reward = reward + gained
        terms = {name: term + gained_terms[name] for name, term in terms.items()}
        terminated = terminated | ticking.terminated(config, state)
        filled, turnover = filled + state.accounts.filled, turnover + state.accounts.turnover
    observation, account = features.observe(config, state), features.account(config, state)
    return state, Outcome(observation, account, reward, terms, terminated, filled, turnover)


class Market:
    """A batch of complete markets.

    Args:
        config: what kind of market; the default is a liquid stock.
        num_envs: N, how many markets.
        seed: market i gets seed + i, unless `reset` is given seeds; None draws a fresh one.
        device: where everything lives.
        compile: run a step as one compiled graph. The numbers are the same in every bit.
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
        compile: bool = False,
        debug: bool = False,
    ) -> None:
        self.config = MarketConfig() if config is None else config
        if not isinstance(self.config, MarketConfig):
            raise ValueError(f"config must be a MarketConfig, got {type(config).__name__}")
        if not isinstance(num_envs, int) or isinstance(num_envs, bool) or num_envs < 1:
            raise ValueError(f"num_envs must be an integer >= 1, got {num_envs!r}")
        self.scheme = actions.scheme(self.config)
        self.feature_names = features.names(self.config)
        rewards.weights(self.config)
        self.num_envs = num_envs
        self.device = torch.device(device)
        self.debug = debug

        self._state: MarketState | None = None
        self._places = layout(self.config)
        self._lanes = noise.lanes(self._places, self.device)
        self._params = make_params(self.config, num_envs, self.device)
        shape = (num_envs, self.config.num_symbols)
        self._hold = torch.full(shape, self.scheme.hold, dtype=torch.int64, device=self.device)
        self._first_seeds = consecutive_seeds(seed, num_envs).to(self.device)
        step = functools.partial(decision, watch=checks.watch) if debug else decision
        self._eager: Callable[..., tuple[MarketState, Outcome]] = step
        self._step = step
        self.compile = compile

    @property
    def state(self) -> MarketState:
        """Every tensor of the batch, as of the end of the last tick. To be read, not written.

        Raises:
            RuntimeError: before the first reset.
        """
        if self._state is None:
            raise RuntimeError("the market has not been opened yet: call reset() first")
        return self._state

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
        return self._step is not self._eager

    @compile.setter
    def compile(self, on: bool) -> None:
        if on and self.debug:
            raise ValueError("compile=True and debug=True contradict each other: the checks look at every phase")
        if on != self.compile:
            self._step = _compiled(self._eager) if on else self._eager

    def reseed(self, seeds: Seeds) -> None:
        """Give every market a new seed: its next reset without a seed opens the first episode of it. Running episodes go on.

        Raises:
            ValueError: for bad seeds; nothing has changed then.
        """
        given = check_seeds(seeds, self.num_envs).to(self.device)
        if self._state is None:
            self._first_seeds = given
        else:
            clock = replace(self._state.clock, seed=given, episode=torch.full_like(given, -1))
            self._state = replace(self._state, clock=clock)

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
        with torch.no_grad():
            if whole:
                self._state = self._open(seed, episode, self._params, self._step)
            elif bool(chosen.any()):
                index = chosen.nonzero().flatten()
                params = take_rows(self._params, index)
                opened = self._open(seed[index], episode[index], params, self._eager)
                self._state = put_rows(self.state, index, opened)
        return self.observe()

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
        state = self.state
        chosen = self._hold if action is None else self._check_action(action)
        moving = None if mask is None else check_mask(mask, self.num_envs, self.device)
        with torch.no_grad():
            after, outcome = self._step(
                self.config, self._params, state, chosen, places=self._places, lanes=self._lanes
            )
            if moving is not None:
                after, outcome = _where(moving, after, state), _where(moving, outcome, self._standing(state))
            self._state = after
            return self._result(after, outcome)

    def observe(self) -> StepResult:
        """The current observation, without moving: rewards, what was filled and turned over are zero.

        Raises:
            RuntimeError: before the first reset.
        """
        state = self.state
        with torch.no_grad():
            return self._result(state, self._standing(state))

    def run(
        self, num_ticks: int, policy: Callable[[StepResult], Tensor] | None = None, *, progress: bool = False
    ) -> TensorDict:
        """Record paths of the market.

        Args:
            num_ticks: T, how many ticks; a multiple of `ticks_per_action`, one row per decision.
            policy: the action for what was seen last, [N] or [N, S] int64; None holds.
            progress: print a line now and then.

        Returns:
            TensorDict [N, T], each entry [N, T, S]: mid, close, value, estimate (currency, float64); bid, ask (currency); volume,
            bid_depth, ask_depth, buys, sells, position (shares, int64); news (headline's log effect, float64); and equity [N, T].
        """
        from tensordict import TensorDict

        per_step = self.config.ticks_per_action
        if not isinstance(num_ticks, int) or num_ticks < 1 or num_ticks % per_step:
            raise ValueError(
                f"num_ticks must be a positive multiple of ticks_per_action = {per_step}, got {num_ticks!r}"
            )
        seen = self.observe() if policy is not None else None
        recorded: list[dict[str, Tensor]] = []
        for index in range(num_ticks // per_step):
            seen = self.step(policy(seen) if policy is not None and seen is not None else None)
            recorded.append(self._snapshot())
            if progress and (index + 1) % max(1, num_ticks // per_step // 10) == 0:
                sys.stderr.write(f"tick {(index + 1) * per_step} of {num_ticks}\n")
        stacked = {name: torch.stack([row[name] for row in recorded], dim=1) for name in recorded[0]}
        return TensorDict(stacked, batch_size=[self.num_envs, len(recorded)], device=self.device)

    def holdings(self) -> dict[str, dict[str, Tensor]]:
        """Who owns what: for each class of owner cash [N] int64 points x shares, and shares [N, S] int64.

        Classes are the trader families, "maker", "learner", "fees" and "borrow" (the last two own no shares). Inventories are
        measured from endowments: over all classes shares add up to zero, and cash to the learner's starting cash.
        """
        accounts = self.state.accounts
        places = {**self._places.families, "maker": self._places.maker_owners}
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

    def fork(self, device: torch.device | str | None = None) -> Market:
        """An independent copy at the same moment: both go on alike until they are treated differently.

        Args:
            device: where the copy lives; None is the same device.
        """
        twin = copy.copy(self)
        twin.device = self.device if device is None else torch.device(device)

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(twin.device, copy=True)

        twin._state = None if self._state is None else map_tensors(moved, self._state)
        twin._first_seeds, twin._hold = moved(self._first_seeds), moved(self._hold)
        twin._lanes, twin._params = map_tensors(moved, self._lanes), map_tensors(moved, self._params)
        return twin

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole state to a file, bit for bit."""
        tensors = {name: leaf.cpu() for name, leaf in leaves(self.state)}
        torch.save({"torchgym_checkpoint": CHECKPOINT_VERSION, "config": self.config.to_dict(), "state": tensors}, path)

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
        """
        settings, tensors = _read_checkpoint(path)
        config = MarketConfig.from_dict(settings)
        market = cls(config, tensors["clock.seed"].shape[0], seed=0, device=device, compile=compile, debug=debug)
        market.restore(tensors)
        return market

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on where the market of these tensors stood.

        Args:
            tensors: what `torchgym.state.leaves` gives of its state, by name; copied.

        Raises:
            ValueError: when they belong to another configuration or another number of markets; nothing has changed then.
        """
        blank = self._blank(self._first_seeds)
        expected = {name: (leaf.shape, leaf.dtype) for name, leaf in leaves(blank)}
        if expected != {name: (leaf.shape, leaf.dtype) for name, leaf in tensors.items()}:
            raise ValueError("the saved tensors do not fit this market: another configuration, batch size or version")
        named = iter(tensors[name] for name in expected)
        self._state = map_tensors(lambda _: next(named).to(self.device, copy=True), blank)

    def _blank(self, seed: Tensor) -> MarketState:
        """A market that has not been warmed up: the right shapes."""
        episode = torch.zeros_like(seed)
        with torch.no_grad():
            return ticking.start(
                self.config, self._params, places=self._places, lanes=self._lanes, seed=seed, episode=episode
            )

    def _open(
        self, seed: Tensor, episode: Tensor, params: MarketParams, step: Callable[..., tuple[MarketState, Outcome]]
    ) -> MarketState:
        """Start and warm up: ticks in which the learner holds, with the whole step or, where it does not divide, tick by tick."""
        config, places, lanes = self.config, self._places, self._lanes
        opened = ticking.start(config, params, places=places, lanes=lanes, seed=seed, episode=episode)
        if config.warmup_ticks % config.ticks_per_action:
            config, step = config.replace(ticks_per_action=1), self._eager
        hold = self._hold[: seed.shape[0]]
        state = opened
        for _ in range(config.warmup_ticks // config.ticks_per_action):
            state, _ = step(config, params, state, hold, places=places, lanes=lanes)
        return replace(state, reward=opened.reward)

    def _standing(self, state: MarketState) -> Outcome:
        """The outcome of no decision at all."""
        nothing = torch.zeros_like(state.accounts.half_equity, dtype=torch.float64)
        return Outcome(
            observation=features.observe(self.config, state),
            account=features.account(self.config, state),
            reward=nothing,
            terms={name: torch.zeros_like(nothing) for name in rewards.weights(self.config)},
            terminated=ticking.terminated(self.config, state),
            filled=torch.zeros_like(state.accounts.filled),
            turnover=torch.zeros_like(state.accounts.turnover),
        )

    def _check_action(self, action: Tensor) -> Tensor:
        shapes = ((self.num_envs,), (self.num_envs, self.config.num_symbols))
        if not isinstance(action, Tensor):
            raise ValueError(f"action must be a torch.Tensor, got {type(action).__name__}")
        if tuple(action.shape) not in shapes:
            raise ValueError(f"action must have shape {shapes[0]} or {shapes[1]}, got {tuple(action.shape)}")
        if action.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
            raise ValueError(f"action must be of an integer dtype, got {action.dtype}")
        action = action.to(device=self.device, dtype=torch.int64)
        wrong = (action < 0) | (action >= self.scheme.choices)
        if bool(wrong.any()):
            market = int(wrong.reshape(self.num_envs, -1).any(-1).nonzero()[0])
            raise ValueError(
                f"action of market {market} is {action[market].tolist()}, must be 0 to {self.scheme.choices - 1}"
                f" ({self.config.action!r} actions)"
            )
        return action.unsqueeze(-1).expand(shapes[1]).contiguous() if action.dim() == 1 else action.contiguous()

    def _result(self, state: MarketState, outcome: Outcome) -> StepResult:
        point, accounts = self.config.point_size, state.accounts

        def currency(money: Tensor) -> Tensor:
            return money.to(torch.float64) * point

        info = {
            "tick": state.clock.tick.clone(),
            "equity": currency(accounts.half_equity) * 0.5,
            "realized_pnl": currency(accounts.realized),
            "cash": currency(accounts.learner_cash),
            "fees": currency(accounts.fees),
            "borrow": currency(accounts.borrow),
            "turnover": currency(outcome.turnover),
            "position": accounts.learner_shares.clone(),
            "filled": outcome.filled.clone(),
            **{f"reward_{name}": term.clone() for name, term in outcome.terms.items()},
        }
        return StepResult(
            observation=outcome.observation,
            account=outcome.account,
            reward=outcome.reward,
            terminated=outcome.terminated,
            truncated=ticking.truncated(self.config, state),
            info=info,
        )

    def _snapshot(self) -> dict[str, Tensor]:
        state, point = self.state, self.config.point_size
        tape, listed = state.tape, self.config.list_price * self.config.point_size
        return {
            "mid": tape.half_mids[..., -1].to(torch.float64) * (0.5 * point),
            "close": tape.close.to(torch.float64) * point,
            "bid": tape.bid.to(torch.float64) * point,
            "ask": tape.ask.to(torch.float64) * point,
            "volume": tape.volumes[..., -1].clone(),
            "bid_depth": tape.bid_depth.clone(),
            "ask_depth": tape.ask_depth.clone(),
            "buys": tape.buys[..., -1].clone(),
            "sells": tape.sells[..., -1].clone(),
            "value": listed * torch.exp(state.value.level),
            "estimate": listed * torch.exp(state.value.level + state.value.estimate_error),
            "news": state.value.headline.clone(),
            "position": state.accounts.learner_shares.clone(),
            "equity": state.accounts.half_equity.to(torch.float64) * (0.5 * point),
        }


def _read_checkpoint(path: str | os.PathLike[str]) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    """Settings and tensors of a file that `Market.save` wrote, on the CPU.

    Raises:
        ValueError: when it is not such a file, damaged, or of another version.
    """
    name = os.fspath(path)
    with open(path, "rb") as file:
        try:
            saved = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # what a damaged file raises depends on where it is damaged
            raise ValueError(f"{name} cannot be read: it is damaged, or not a torchgym checkpoint") from error
    if not isinstance(saved, Mapping) or "torchgym_checkpoint" not in saved:
        raise ValueError(f"{name} is not a torchgym checkpoint")
    version = saved["torchgym_checkpoint"]
    if version != CHECKPOINT_VERSION:
        raise ValueError(
            f"{name} is a checkpoint of version {version}, this torchgym reads version {CHECKPOINT_VERSION}:"
            " load it with the torchgym that wrote it"
        )
    settings, tensors = saved.get("config", {}), saved.get("state", {})
    if "clock.seed" not in tensors or not all(isinstance(leaf, Tensor) for leaf in tensors.values()):
        raise ValueError(f"{name} is a damaged checkpoint: its settings or tensors are missing")
    return settings, tensors


def _where(mask: Tensor, tree: T, other: T) -> T:
    """The markets of the mask [N] bool from the first tree, the rest from the other."""

    def choose(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(mask.reshape(-1, *[1] * (new.dim() - 1)), new, old)

    return map_tensors(choose, tree, other)


def _compiled(step: Callable[..., Any]) -> Callable[..., Any]:
    """One graph without breaks; each market counts its own recompilations."""
    isolated: dict[str, Any] = {"isolate_recompiles": True}  # the type stubs do not know it yet
    return torch.compile(step, fullgraph=True, dynamic=False, options=_COMPILE_OPTIONS, **isolated)


def consecutive_seeds(seed: int | None, count: int) -> Tensor:
    """seed, seed + 1, … [count] int64, counting around at 2**63; a fresh start when None."""
    first = noise.fresh_seed() if seed is None else int(check_seeds([seed], 1)[0])
    return torch.tensor([(first + index) % 2**63 for index in range(count)], dtype=torch.int64)


def check_seeds(seeds: Seeds, count: int) -> Tensor:
    """[count] int64.

    Raises:
        ValueError: for another number of seeds, or one that is not an integer from 0 to 2**63 - 1.
    """
    listed = seeds.tolist() if isinstance(seeds, Tensor) else seeds
    if isinstance(listed, (str, bytes)) or not isinstance(listed, Sequence):
        listed = list(listed) if hasattr(listed, "__iter__") else [listed]
    if len(listed) != count:
        raise ValueError(f"expected {count} seeds, one per market, got {len(listed)}")
    for index, seed in enumerate(listed):
        whole = hasattr(seed, "__index__") and not isinstance(seed, bool)
        if not whole or not 0 <= int(seed) < 2**63:
            raise ValueError(f"seed {index} must be an integer from 0 to 2**63 - 1, got {seed!r}")
    return torch.tensor([int(seed) for seed in listed], dtype=torch.int64)


def check_mask(mask: Tensor | None, count: int, device: torch.device) -> Tensor:
    """[count] bool, all of them for None.

    Raises:
        ValueError: for another shape or dtype.
    """
    if mask is None:
        return torch.ones(count, dtype=torch.bool, device=device)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) != (count,):
        got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"mask must be a bool tensor of shape ({count},), got {got}")
    return mask.to(device)
