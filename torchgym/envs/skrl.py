"""`SkrlEnv`: a batch of markets as skrl has environments, torch tensors in and out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.engine import Compile, Market, StepResult
from torchgym.envs.arguments import asked
from torchgym.envs.spaces import ActionSpace, action_space, labels, observation_names, observation_space
from torchgym.extras import needs

with needs("SkrlEnv", "torchgym[skrl]"):
    from skrl.envs.wrappers.torch import Wrapper


class SkrlEnv(Wrapper):
    """N markets with a learner each, for skrl's agents and trainers on torch; nothing passes through numpy.

    Observations [N, F] and rewards [N, 1] are float32, terminated and truncated [N, 1] bool, all of them fresh tensors on the
    market's device. A market whose episode ends opens its next one in the same step, and the observation returned is the new
    episode's. The last one of the old is in the info then, as skrl itself has no place for it: a learner that bootstraps where
    time runs out needs it (`examples/skrl_ppo.py` shows how).

    Info: what `Market.step` tells, tensors [N] or [N, S], and with `information="privileged"` also `privileged` [N] bool, always
    True. When an episode has ended also `final_observation` [N, F], for the
    other markets the one returned, and `episode`, which skrl's trainers log: the means over the episodes that ended of `return`
    (sum of rewards) and `profit` (currency).

    Args:
        config: what kind of market; the default is a liquid stock.
        num_envs: N.
        preset: a named configuration instead of `config`.
        task: a row of `torchgym.config.TASKS`: its settings and account hold where no argument says otherwise. With a `config`
            it changes nothing.
        seed: market i gets seed + i; None draws a fresh one.
        include_account: append the learner's account to the observation; None is as the task has it, else False.
        device: where the markets live.
        compile: "auto" runs uncompiled until another process has compiled the step, True compiles at the first step, False never;
            the numbers are the same.
        **overrides: settings of `MarketConfig` to change in it, such as `max_ticks=1000`.

    Raises:
        TypeError: for a keyword that is neither an argument nor a setting, listing both.
        ValueError: for impossible or contradictory arguments, naming the remedy; in `step`, for an action that does not exist.

    >>> env = SkrlEnv(preset="toy", num_envs=3, seed=0)
    >>> env.reset()[0].shape
    torch.Size([3, 54])
    >>> observations, rewards, terminated, truncated, info = env.step(torch.tensor([[0], [1], [2]]))
    >>> info["position"].flatten().tolist()
    [-10, 0, 10]
    """

    def __init__(
        self,
        config: MarketConfig | None = None,
        num_envs: int = 1,
        *,
        preset: str | None = None,
        task: str | None = None,
        seed: int | None = None,
        include_account: bool | None = None,
        device: torch.device | str = "cpu",
        compile: Compile = "auto",
        **overrides: Any,
    ) -> None:
        form = asked(
            SkrlEnv,
            config,
            preset=preset,
            task=task,
            include_account=include_account,
            dtype=np.float32,
            overrides=overrides,
        )
        self.config, self.include_account = form.config, form.include_account
        self.market = Market(self.config, num_envs, seed=seed, device=device, compile=compile)
        super().__init__(self.market)
        self.feature_names = observation_names(form)
        self._observation_space = observation_space(form)
        self._action_space = action_space(self.config)
        self._returns = torch.zeros(self.market.num_envs, dtype=torch.float64, device=self.market.device)
        self._first_equity = torch.zeros_like(self._returns)

    @property
    def device(self) -> torch.device:
        """Where the markets live."""
        return self.market.device

    @property
    def observation_space(self) -> spaces.Box:
        """Of one market: Box float32 [F]."""
        return self._observation_space

    @property
    def action_space(self) -> ActionSpace:
        """Of one market; see `torchgym.envs.spaces.action_space`."""
        return self._action_space

    def reset(self) -> tuple[Tensor, dict[str, Any]]:
        """Open the first episodes; later calls return the present, since ended episodes have been followed by new ones.

        Returns:
            Observations [N, F], and the info.
        """
        if self.market.opened:
            result = self.market.observe()
        else:
            result = self.market.reset()
            self._first_equity = result.info["equity"].clone()
        return self._observations(result), self._info(result)

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Trade, let `ticks_per_action` ticks pass, and open the next episode where one has ended.

        Args:
            actions: [N, S], of the action space.

        Returns:
            Observations [N, F], rewards [N, 1], terminated [N, 1] (ruined), truncated [N, 1] (out of time), info.
        """
        result = self.market.step(actions)
        observations = self._observations(result)
        info = self._info(result)
        self._returns += result.reward
        ended = result.terminated | result.truncated
        if bool(ended.any()):
            info["final_observation"] = observations
            info["episode"] = {
                "return": self._returns[ended].mean(),
                "profit": (result.info["equity"] - self._first_equity)[ended].mean(),
            }
            opened = self.market.reset(mask=ended)
            observations = self._observations(opened)
            self._first_equity = torch.where(ended, opened.info["equity"], self._first_equity)
            self._returns = torch.where(ended, 0.0, self._returns)
        columns = (result.reward.to(torch.float32), result.terminated, result.truncated)
        rewards, terminated, truncated = (column.unsqueeze(-1) for column in columns)
        return observations, rewards, terminated, truncated, info

    def state(self) -> Tensor | None:
        """There is no state beside the observation: None."""
        return None

    def render(self, *args: Any, **kwargs: Any) -> None:
        """Draws nothing; `TradingEnv`, `TradingVectorEnv` and `SB3VecEnv` do."""

    def close(self) -> None:
        """Nothing is held open."""

    def __getattr__(self, key: str) -> Any:
        """What this object lacks is asked of the market, but for private names and Python's protocols, copying among them."""
        if key.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {key!r}")
        return super().__getattr__(key)

    def _info(self, result: StepResult) -> dict[str, Any]:
        marks = {name: torch.ones_like(result.terminated) for name in labels(self.config)}
        return {**result.info, **marks}

    def _observations(self, result: StepResult) -> Tensor:
        parts = [result.observation, result.account] if self.include_account else [result.observation]
        return torch.cat([part.to(torch.float32) for part in parts], -1)
