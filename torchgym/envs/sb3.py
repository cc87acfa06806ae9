"""`SB3VecEnv`: a batch of markets as one stable-baselines3 vectorised environment."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from torchgym.config import MarketConfig
from torchgym.engine import Compile, Market, StepResult, check_seed
from torchgym.envs.arguments import asked, check_options
from torchgym.envs.spaces import (
    ActionArrays,
    action_space,
    flat_masks,
    labels,
    observation_array,
    observation_names,
    observation_space,
)
from torchgym.extras import needs
from torchgym.visual.rendering import METADATA, Frame, Screen

with needs("SB3VecEnv", "torchgym[sb3]"):
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import VecEnv

Array = npt.NDArray[Any]
Indices = int | Iterable[int] | None


class SB3VecEnv(VecEnv):
    """N markets with a learner each, stepped as one batch, for `PPO(policy, env)` and its kin.

    Observations [N, F] of `dtype`, rewards [N] float32, dones [N] bool; all of them the caller's own. A market whose episode
    ends opens its next one in the same step: `infos[i]["terminal_observation"]` is the last observation, `["episode"]` the
    episode's return, its length in steps and the seconds since the environment was made, just as `VecMonitor` gives them. At
    every step `"TimeLimit.truncated"` tells running out of time from ruin. The rest of an info is that of `TradingEnv`.

    The markets share everything but their state: `get_attr` and `env_method` ask this object, once, and repeat the answer; of
    `action_masks`, which sb3-contrib's MaskablePPO asks for, each market gets its own.

    stable-baselines3 computes the value of each last observation one by one, and all markets run out of time in the same step:
    above some hundred markets that step takes long.

    Args:
        config: what kind of market; the default is a liquid stock.
        num_envs: N.
        preset: a named configuration instead of `config`.
        task: a row of `torchgym.config.TASKS`: its settings and account hold where no argument says otherwise. With a `config`
            it changes nothing.
        seed: market i gets seed + i; None draws a fresh one. `env.seed(s)` gives s + i at the next `reset()`.
        render_mode: as in `TradingEnv`; only the first market is drawn. `VecVideoRecorder` needs "rgb_array".
        render_symbol: which of its symbols is shown.
        include_account: append the learner's account to the observation; None is as the task has it, else False.
        dtype: float32 or float64.
        device: where the markets live; stable-baselines3 itself takes numpy.
        compile: "auto" runs uncompiled until another process has compiled the step, True compiles at the first step, False never;
            the numbers are the same.
        **overrides: settings of `MarketConfig` to change in it, such as `max_ticks=1000`.

    Raises:
        TypeError: for a keyword that is neither an argument nor a setting, listing both.
        ValueError: for impossible or contradictory arguments, naming the remedy.

    >>> env = SB3VecEnv(preset="toy", num_envs=3, seed=0)
    >>> env.reset().shape
    (3, 54)
    >>> observations, rewards, dones, infos = env.step(np.array([0, 1, 2]))
    >>> [info["position"].tolist() for info in infos]
    [[-10], [0], [10]]
    """

    def __init__(
        self,
        config: MarketConfig | None = None,
        num_envs: int = 1,
        *,
        preset: str | None = None,
        task: str | None = None,
        seed: int | None = None,
        render_mode: str | None = None,
        render_symbol: int = 0,
        include_account: bool | None = None,
        dtype: npt.DTypeLike = np.float32,
        device: torch.device | str = "cpu",
        compile: Compile = "auto",
        **overrides: Any,
    ) -> None:
        self._form = asked(
            SB3VecEnv,
            config,
            preset=preset,
            task=task,
            include_account=include_account,
            dtype=dtype,
            overrides=overrides,
        )
        self.config, self.include_account = self._form.config, self._form.include_account
        self.dtype = self._form.dtype
        self.market = Market(self.config, num_envs, seed=seed, device=device, compile=compile)
        self.feature_names = observation_names(self._form)
        self.render_mode = render_mode  # VecEnv asks for it while it is made
        self._screen = Screen(self.config, render_mode, render_symbol)
        num_envs = self.market.num_envs
        super().__init__(num_envs, observation_space(self._form), action_space(self.config))
        self.metadata = METADATA  # VecEnv has made one without frames per second
        self._actions_of = ActionArrays(self.config, num_envs)
        self._actions: torch.Tensor | None = None
        self._returns = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, dtype=np.int64)
        self._made = time.time()

    def reset(self) -> Array:
        """Open an episode in every market: the first of its new seed after `seed()`, else the next one.

        Raises:
            ValueError: for a bad seed, or for options: there are none.
        """
        self._screen.open()
        seeds, options = self._seeds, self._options
        self._reset_options()
        for given in options:
            check_options(given)
        self._reset_seeds()
        result = self.market.reset([seed for seed in seeds if seed is not None] or None)
        self._actions = None
        self._returns[:] = 0.0
        self._lengths[:] = 0
        self.reset_infos = self._infos(result)
        self._screen.follow(self.market.live)
        return self._observations(result)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Give market i the seed `seed + i` at the next `reset()`; None draws a seed.

        Raises:
            ValueError: when the seed is not an integer from 0 to 2**63 - 1; nothing has changed then.
        """
        return super().seed(None if seed is None else check_seed(seed))

    def step_async(self, actions: Array) -> None:
        """Take the actions of the next `step_wait`: [N] integers, with several symbols [N, S].

        Raises:
            ValueError: for actions outside the action space, naming one.
        """
        self._actions = torch.from_numpy(self._actions_of.checked(actions))

    def step_wait(self) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        """Trade, let `ticks_per_action` ticks pass, and open the next episode where one has ended.

        Raises:
            RuntimeError: before the first reset, or without actions.
        """
        if self._actions is None:
            raise RuntimeError("there are no actions to wait for: call reset() and then step_async()")
        self._screen.open()
        actions, self._actions = self._actions, None
        result = self.market.step(actions)
        rewards = result.reward.cpu().numpy()
        terminated = result.terminated.cpu().numpy()
        ended = terminated | result.truncated.cpu().numpy()
        observations, infos = self._observations(result), self._infos(result)
        self._returns += rewards
        self._lengths += 1
        for info, over, ruined in zip(infos, ended.tolist(), terminated.tolist(), strict=True):
            info["TimeLimit.truncated"] = over and not ruined
        if ended.any():
            observations = self._next_episodes(ended, observations, infos)
        self._screen.follow(self.market.live)
        return observations, rewards.astype(np.float32), ended, infos

    def render(self, mode: str | None = None) -> Frame | str | None:  # type: ignore[override]
        """Show the first market as it stands.

        Args:
            mode: None or `render_mode`; "human" shows the frame of "rgb_array" in a window of OpenCV. stable-baselines3 warns of
                any other, and of none at all.

        Returns:
            A frame [720, 960, 3] uint8, a text, or None for a window, which is up to date already.

        Raises:
            RuntimeError: before the first reset.
            ImportError: when a frame is wanted and matplotlib is missing, naming the command that installs it.
        """
        if self.render_mode is None or mode not in (None, self.render_mode):
            return super().render(mode)
        return self._screen.render(self.market.live)

    def get_images(self) -> Sequence[Frame | None]:
        """The frame of the first market, alone; empty unless `render_mode` is "rgb_array"."""
        return [self._screen.frame(self.market.live)] if self.render_mode == "rgb_array" else []

    def close(self) -> None:
        """Close the window, if there is one; may be called again."""
        self._screen.close()

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """The attribute of this object, once per market asked for."""
        return [getattr(self, attr_name)] * len(self._rows(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of this object.

        Raises:
            ValueError: for some of the markets only: they share their attributes.
        """
        if len(set(self._rows(indices))) != self.num_envs:
            raise ValueError(f"{attr_name!r} is one for all markets: set it without indices")
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """What the method of this object returns, called once, and given once per market asked for.

        Of `action_masks` each market gets its own row.
        """
        answer = getattr(self, method_name)(*method_args, **method_kwargs)
        return [answer[row] if method_name == "action_masks" else answer for row in self._rows(indices)]

    def action_masks(self) -> Array:
        """Which choices make sense now, bool [N, C], with several symbols [N, S * C]; see `TradingEnv.action_masks`."""
        return flat_masks(self.market)

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Indices = None) -> list[bool]:
        """Whether infos tell episodes as a `Monitor` does: True for that class; there are no other wrappers inside."""
        return [wrapper_class is Monitor] * len(self._rows(indices))

    def _next_episodes(self, ended: Array, observations: Array, infos: list[dict[str, Any]]) -> Array:
        """Open them, and tell the infos how the last ones ended; the observations to go on from."""
        opened = self.market.reset(mask=torch.from_numpy(ended))
        reset_infos = self._infos(opened)
        elapsed = round(time.time() - self._made, 6)
        for row in np.flatnonzero(ended).tolist():
            infos[row]["terminal_observation"] = observations[row]
            infos[row]["episode"] = {"r": float(self._returns[row]), "l": int(self._lengths[row]), "t": elapsed}
            self.reset_infos[row] = reset_infos[row]
        self._returns[ended] = 0.0
        self._lengths[ended] = 0
        return np.where(ended[:, None], self._observations(opened), observations)

    def _observations(self, result: StepResult) -> Array:
        return observation_array(result, self._form)

    def _infos(self, result: StepResult) -> list[dict[str, Any]]:
        columns = [value.tolist() if value.dim() == 1 else list(value.cpu().numpy()) for value in result.info.values()]
        marks = labels(self.config)
        return [{**dict(zip(result.info, row, strict=True)), **marks} for row in zip(*columns, strict=True)]

    def _rows(self, indices: Indices) -> list[int]:
        return [int(row) for row in self._get_indices(indices)]
