"""`MarketEnv`: a batch of markets as one batch-locked TorchRL environment."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Binary, Bounded, Categorical, Composite, MultiCategorical, Unbounded
from torchrl.envs import EnvBase

from torchgym.config import MarketConfig, from_keywords
from torchgym.engine import (
    Compile,
    Market,
    StepResult,
    check_compile,
    check_device,
    consecutive_seeds,
    info_layout,
)
from torchgym.numerics.trees import leaves
from torchgym.readout import features
from torchgym.readout.entries import account_names
from torchgym.sim import actions
from torchgym.sim.actions import Box


class _KeepsCompile(type(EnvBase)):  # type: ignore[misc]
    """Gives `compile` to the market: the metaclass of EnvBase would keep it for TorchRL's own bookkeeping of a step."""

    def __call__(cls, *arguments: Any, compile: Compile = "auto", **options: Any) -> Any:
        chosen = check_compile(compile)
        env = super().__call__(*arguments, **options)
        env.market.compile = chosen
        return env

    @property
    def __signature__(cls) -> inspect.Signature:
        """What `help` and editors show: the arguments of `__init__`, and `compile`."""
        _, *others, overrides = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
        mode = inspect.Parameter("compile", inspect.Parameter.KEYWORD_ONLY, default="auto", annotation="Compile")
        return inspect.Signature([*others, mode, overrides])


class MarketEnv(EnvBase, metaclass=_KeepsCompile):
    """N markets, stepped together.

    | key | shape | dtype | |
    |---|---|---|---|
    | `"action"` | [N], or [N, S] with several symbols | int64 | a choice of the scheme; of a box numbers [N, W], `dtype` |
    | `"observation"` | [N, S·F] | `dtype` | what `torchgym.readout.features.observe` shows; bounded when `scaling="relative"` |
    | `"account"` | [N, A] | `dtype` | the learner's position, cash, equity, time left, and more: `account_names` |
    | `"reward"` | [N, 1] | `dtype` | over all ticks of the decision |
    | `"terminated"` | [N, 1] | bool | ruined, and nothing else |
    | `"truncated"` | [N, 1] | bool | out of time |
    | `"done"` | [N, 1] | bool | either |
    | `("info", key)` | [N, 1], or [N, S] per symbol | float64, int64 | one for each of `info_keys`, in full precision |
    | `("info", "privileged")` | [N, 1] | bool | always true; there only with `information="privileged"` |
    | `"action_mask"` | [N, C], or [N, S·C] | bool | false where a limit cuts the choice to nothing; only if asked for |

    The last entry marks data that were collected with the exact value in sight, wherever they are taken. Every tensor is fresh.

    The market lives in `env.market`, not in the TensorDict: to branch, `env.market.fork()`; to resume, `market_state()` has it in
    every bit. It is no part of `state_dict()`, which TorchRL copies from one environment into others as if it were weights.

    Resets follow TorchRL's `"_reset"` mask and steps its `"_step"` mask; markets outside the mask keep every bit. The observation
    of the last step of an episode stays in `("next", "observation")`.

    `set_seed(seed)` gives market i the seed `seed + i` at its next reset, whole or partial; what runs goes on. `reset(seed=seed)`
    opens the first episodes of these seeds at once. Each worker of a `ParallelEnv` makes its own markets: without seeds they
    differ, with `seed` each of them begins with the first episode of its seeds.

    `MarketEnv(..., compile="auto")` is that of `Market`: it means the market's step, not TorchRL's bookkeeping around it.

    Args:
        config: what kind of market; the default is a liquid stock.
        num_envs: N, how many markets.
        preset: a named configuration instead of `config`.
        task: a row of `torchgym.config.TASKS`, whose settings hold where no argument says otherwise. With a `config` it changes
            nothing.
        device: where everything lives.
        seed: market i gets seed + i; None draws a fresh one.
        dtype: of observations, account and rewards: float32 or float64.
        info_keys: entries of `StepResult.info` to give along, such as "equity"; see `info_layout`.
        action_mask: give the entry `"action_mask"`, which TorchRL's transform `ActionMask` reads; see `Market.action_mask`.
        **overrides: settings of `MarketConfig` to change in it, such as `max_ticks=1000`.

    Raises:
        ValueError: for an impossible argument; in `step`, for an action that is not in the specification, naming it. No market
            has moved then.
        TypeError: for a keyword that is neither an argument nor a setting, listing both; in `reset`, for an unknown one.

    >>> env = MarketEnv(preset="toy", num_envs=2, seed=0, max_ticks=100)
    >>> env.rollout(3, break_when_any_done=False)["next", "observation"].shape
    torch.Size([2, 3, 54])
    """

    batch_locked = True

    # No argument `compile` here: the metaclass takes it.
    def __init__(
        self,
        config: MarketConfig | None = None,
        num_envs: int = 1,
        *,
        preset: str | None = None,
        task: str | None = None,
        device: torch.device | str = "cpu",
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
        info_keys: Sequence[str] = (),
        action_mask: bool = False,
        **overrides: Any,
    ) -> None:
        config = from_keywords(type(self), config, preset=preset, task=task, overrides=overrides)
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
        market = Market(config, num_envs, seed=seed, device=device)
        num_envs = market.num_envs
        super().__init__(device=market.device, batch_size=[num_envs])
        self.market = market
        self.config = market.config
        self.num_envs = num_envs
        self.dtype = dtype
        self.info_keys = _known_keys(market.config, info_keys)
        self.action_mask = action_mask
        self.observation_spec = self._observation_spec()
        self.action_spec = self._action_spec()
        self.reward_spec = Unbounded((num_envs, 1), dtype=dtype, device=self.device)
        flags = {name: self._flag_spec() for name in ("done", "terminated", "truncated")}
        self.full_done_spec = Composite(flags, shape=self.batch_size, device=self.device)

    def compile(self, **options: Any) -> MarketEnv:
        """Run each step of the market as one compiled graph from now on; `compile=True` at construction does the same.

        What TorchRL means by `compile` elsewhere, its own bookkeeping of a step, is left as it is: the market is where the time
        goes, and its options are chosen for it. The first step then takes minutes. `eager()` undoes it.

        Raises:
            ValueError: for options of torch.compile.
        """
        if options:
            raise ValueError(f"the market is compiled with options of its own: give compile=True, not {options}")
        self.market.compile = True
        return self

    def eager(self) -> MarketEnv:
        """Run the market uncompiled from now on."""
        self.market.compile = False
        return self

    def to(self, device: torch.device | str) -> MarketEnv:
        """Move the markets and the specifications to a device; what runs goes on there."""
        if check_device(device) != self.market.device:
            self.market = self.market.fork(device)
            super().to(device)
        return self

    def market_state(self) -> dict[str, Tensor]:
        """Every tensor of the markets by name, copied; `set_market_state` goes on from it in the same bits.

        Raises:
            RuntimeError: before the first reset.
        """
        return {name: leaf.clone() for name, leaf in leaves(self.market.live)}

    def set_market_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where the markets of `market_state` stood. What they show is in the TensorDict of that moment.

        Raises:
            ValueError: when the state belongs to another configuration or number of markets, or no market can have it; nothing
                has changed then.
        """
        self.market.restore(state)

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = tensordict.get("action")
        if action.shape != self.action_spec.shape:
            raise ValueError(f"action must have shape {tuple(self.action_spec.shape)}, got {tuple(action.shape)}")
        mask = tensordict.get("_step", None)
        result = self.market.step(action, mask=None if mask is None else mask.reshape(self.num_envs))
        stepped = self._seen(result)
        stepped.set("reward", result.reward.to(self.dtype).unsqueeze(-1))
        return stepped

    def _reset(self, tensordict: TensorDictBase | None = None, *, seed: int | None = None) -> TensorDictBase:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        seeds = None if seed is None else consecutive_seeds(seed, self.num_envs)
        return self._seen(self.market.reset(seeds, mask=None if mask is None else mask.reshape(self.num_envs)))

    def _set_seed(self, seed: int | None) -> None:
        self.market.reseed(consecutive_seeds(seed, self.num_envs))

    def _seen(self, result: StepResult) -> TensorDict:
        """Everything but the reward."""
        terminated, truncated = result.terminated.unsqueeze(-1), result.truncated.unsqueeze(-1)
        entries: dict[str, Any] = {
            "observation": result.observation.to(self.dtype),
            "account": result.account.to(self.dtype),
            "done": terminated | truncated,
            "terminated": terminated,
            "truncated": truncated,
        }
        info = {key: result.info[key].reshape(self.num_envs, -1) for key in self.info_keys}
        if self.config.information == "privileged":
            info["privileged"] = torch.ones_like(terminated)
        if info:
            entries["info"] = info
        if self.action_mask:
            entries["action_mask"] = self.market.action_mask().flatten(1)
        return TensorDict(entries, batch_size=self.batch_size, device=self.device)

    def _observation_spec(self) -> Composite:
        def real(width: int, bound: float | None = None) -> Bounded | Unbounded:
            shape = (self.num_envs, width)
            if bound is None:
                return Unbounded(shape, dtype=self.dtype, device=self.device)
            return Bounded(-bound, bound, shape=shape, dtype=self.dtype, device=self.device)

        layout = info_layout(self.config)
        info = {
            key: Unbounded((self.num_envs, layout[key][1]), dtype=layout[key][0], device=self.device)
            for key in self.info_keys
        }
        if self.config.information == "privileged":
            info["privileged"] = self._flag_spec()
        specs = {
            "observation": real(
                features.size(self.config), features.LIMIT if self.config.scaling == "relative" else None
            ),
            "account": real(len(account_names(self.config))),
        }
        if info:
            specs["info"] = Composite(info, shape=self.batch_size, device=self.device)
        if self.action_mask:
            width = self.config.num_symbols * actions.choices(self.config).count
            specs["action_mask"] = Binary(width, (self.num_envs, width), dtype=torch.bool, device=self.device)
        return Composite(specs, shape=self.batch_size, device=self.device)

    def _action_spec(self) -> Categorical | MultiCategorical | Bounded:
        space, symbols = actions.space(self.config), self.config.num_symbols
        shape = (self.num_envs, space.width(symbols))
        if isinstance(space, Box):
            low, high = (end.to(self.device, self.dtype).expand(shape) for end in space.bounds(symbols))
            return Bounded(low, high, shape=shape, dtype=self.dtype, device=self.device)
        if symbols == 1:
            return Categorical(space.count, shape=self.batch_size, dtype=torch.int64, device=self.device)
        return MultiCategorical([space.count] * symbols, shape=shape, dtype=torch.int64, device=self.device)

    def _flag_spec(self) -> Categorical:
        return Categorical(2, shape=(self.num_envs, 1), dtype=torch.bool, device=self.device)


def _known_keys(config: MarketConfig, keys: Sequence[str]) -> tuple[str, ...]:
    known = info_layout(config)
    if isinstance(keys, str):
        raise ValueError(f"info_keys must be a sequence of names, got the string {keys!r}")
    unknown = [repr(key) for key in keys if key not in known]
    if unknown:
        raise ValueError(f"unknown info {', '.join(unknown)}: choose from {', '.join(known)}")
    return tuple(keys)
