"""gymnasium's single environment: one market, numpy in and out."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded

from torchgym.config import MarketConfig
from torchgym.engine import Compile, Market, Packed, check_seed
from torchgym.envs.arguments import asked, check_options, episode_seed, with_length
from torchgym.envs.spaces import (
    ActionArrays,
    Observation,
    action_space,
    flat_masks,
    info_masks,
    labels,
    observation_names,
    observation_space,
)
from torchgym.sim.actions import choices
from torchgym.visual.rendering import METADATA, Frame, Screen


class TradingEnv(gymnasium.Env[Any, Any]):
    """One market and one learner, as gymnasium has it. Each task is registered as an id, such as `torchgym/Trading-v0`.

    Observation: [F] of `dtype`, those of `torchgym.readout.features.names`, symbol by symbol; with `include_account` the
    numbers of `torchgym.readout.entries.account_entries` follow. `feature_names` names them all.

    Action: with one symbol an integer ("discrete" actions: 0 sells, 1 holds, 2 buys), with several an array [S] of them.

    Info: the step's `tick` (int), `equity`, `realized_pnl`, `cash`, `fees`, `borrow`, `turnover` and each `reward_<term>` (float,
    currency; see `Market.step`), `position` and `filled` ([S] int64 shares). With `information="privileged"` also `privileged`,
    always True, so that data collected with the exact value in sight are marked. `metadata["information"]` says how the value
    features are made. With `action_mask` also `action_mask`, int8 [C], with several symbols [S, C]: 0 where the position limit
    would cut the choice to nothing.

    Episodes: `reset(seed=n)` opens the market of seed n, the same bits as any other face with that seed. A reset without a seed
    draws one from `np_random`, so it is decided by the last seed given and the number of resets since; the very first takes
    `seed` of the constructor.

    Args:
        config: what kind of market; the default is a liquid stock.
        preset: a named configuration instead of `config`.
        task: a row of `torchgym.config.TASKS`: its settings, account and dtype hold where no argument says otherwise. With a
            `config` it changes nothing.
        seed: of the first episode, unless the first reset is given one.
        render_mode: "ansi": `render()` gives a text of 16 lines, the book and the account; "rgb_array": a picture [720, 960, 3]
            uint8 of price, book, position and profit over the last 500 decisions; "human": the picture in a window, drawn at
            every reset and step (needs a display). None draws nothing and costs nothing. Pictures need the extra `plots`, from
            the first one drawn on. They show the latent value, whether or not the learner sees it.
        render_symbol: which symbol is shown.
        include_account: append the learner's account to the observation; None is as the task has it, else False.
        dtype: of observations, float32 or float64; None is as the task has it, else float64.
        action_mask: give `action_mask` along in infos; see `action_masks`. Costs 0.1 ms a step.
        device: where the market lives.
        compile: "auto" runs uncompiled until another process has compiled the step, True compiles at the first step, False never;
            the numbers are the same.
        debug: check the market's books after every phase (slow).
        **overrides: settings of `MarketConfig` to change in it, such as `max_ticks=1000`.

    Raises:
        TypeError: for a keyword that is neither an argument nor a setting, listing both.
        ValueError: for impossible or contradictory arguments, naming the remedy.

    >>> env = TradingEnv(preset="toy", max_ticks=50)
    >>> observation, info = env.reset(seed=1)
    >>> observation, reward, terminated, truncated, info = env.step(2)
    >>> observation.shape, info["tick"], info["position"].tolist()
    ((54,), 1, [10])
    """

    metadata: dict[str, Any] = METADATA

    def __init__(
        self,
        config: MarketConfig | None = None,
        *,
        preset: str | None = None,
        task: str | None = None,
        seed: int | None = None,
        render_mode: str | None = None,
        render_symbol: int = 0,
        include_account: bool | None = None,
        dtype: npt.DTypeLike | None = None,
        action_mask: bool = False,
        device: torch.device | str = "cpu",
        compile: Compile = "auto",
        debug: bool = False,
        **overrides: Any,
    ) -> None:
        self._form = asked(
            TradingEnv,
            config,
            preset=preset,
            task=task,
            include_account=include_account,
            dtype=dtype,
            overrides=overrides,
        )
        self._spec: EnvSpec | None = None
        self.config, self.include_account, self.dtype = self._form.config, self._form.include_account, self._form.dtype
        self.metadata = {**self.metadata, "information": self.config.information}
        self.render_mode = render_mode
        self._screen = Screen(self.config, render_mode, render_symbol)
        self.action_mask = action_mask
        if action_mask:
            choices(self.config)
        self.market = Market(self.config, 1, device=device, compile=compile, debug=debug)
        self.feature_names = observation_names(self._form)
        self.observation_space = observation_space(self._form)
        self.action_space = action_space(self.config)
        self._actions_of = ActionArrays(self.config)
        self._first_seed = None if seed is None else check_seed(seed)
        self._ended: bool | None = None  # None until the first reset

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Open the next episode.

        Args:
            seed: decides the episode; None goes on from the seed before.
            options: none are known.

        Returns:
            The first observation and its info.

        Raises:
            ValueError: when the seed is not an integer from 0 to 2**63 - 1; for options.
            ImportError: when a window is wanted and matplotlib is missing, naming the command that installs it.
            RuntimeError: when a window is wanted and none can be opened, naming the remedy. After any error nothing has changed.
        """
        check_options(options)
        given = self._first_seed if seed is None else check_seed(seed)
        self._screen.open()
        self._first_seed = None
        result = self.market.reset(seeds=[episode_seed(self, given)])
        self._ended = False
        self._screen.follow(self.market.live)
        observation, _, _, _, info = self._unpacked(self.market.columns.pack(result))
        return observation, info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Trade, and let `ticks_per_action` ticks pass.

        Returns:
            Observation, reward, terminated (ruined), truncated (out of time), info; all of them the caller's own.

        Raises:
            ValueError: for an action outside the action space, naming it; the market has not moved then.
            gymnasium.error.ResetNeeded: before the first reset, and after the end of an episode.
        """
        if self._ended is not False:
            raise ResetNeeded(
                "the episode has ended: call reset() before the next step()"
                if self._ended
                else "no episode has begun: call reset() before step()"
            )
        chosen = self._actions_of.checked(action)
        self._screen.open()
        packed = self._unpacked(self.market.advance(torch.from_numpy(chosen.reshape(1, -1)).to(self.market.device)))
        self._ended = packed[2] or packed[3]
        self._screen.follow(self.market.live)
        return packed

    def render(self) -> Frame | str | None:
        """Show the market as it stands.

        Returns:
            By `render_mode`: a frame [720, 960, 3] uint8, a text, or None for a window, which is up to date already, and without
            a mode, which gymnasium warns of.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
            ImportError: when a frame is wanted and matplotlib is missing, naming the command that installs it.
        """
        return rendered(self._screen, self.market)

    def close(self) -> None:
        """Close the window, if there is one; may be called again."""
        self._screen.close()

    @property
    def spec(self) -> EnvSpec | None:
        """What gymnasium made this from; None for an environment that was not made by its id.

        `max_episode_steps` are the steps of an episode, whatever the settings: the environment itself truncates there.
        """
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = with_length(spec, self._form)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Which choices make sense now, as sb3-contrib's MaskablePPO asks: [C], with several symbols [S * C].

        False where the position limit would cut a choice to nothing. See `torchgym.engine.Market.action_mask`.

        Raises:
            ValueError: for actions that are numbers in a box.
            RuntimeError: before the first reset.
        """
        return flat_masks(self.market)[0]

    def _unpacked(self, packed: Packed) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """What gymnasium's step returns."""
        columns = self.market.columns
        observation, floats, integers = (
            part.cpu().numpy()[0] for part in (packed.observation, packed.floats, packed.integers)
        )
        if self.include_account:
            observation = np.concatenate([observation, floats[columns.floats["account"]]])
        observation = observation.astype(self.dtype, copy=False)
        info = {**columns.info_of_one(floats, integers), **labels(self.config)}
        if self.action_mask:
            info["action_mask"] = info_masks(self.market)[0].cpu().numpy()
        terminated, truncated = (bool(integers[columns.of(name)]) for name in ("terminated", "truncated"))
        return observation, float(floats[columns.of("reward")]), terminated, truncated, info


def rendered(screen: Screen, market: Market) -> Frame | str | None:
    """What gymnasium's `render` says of a market, the first of a batch.

    Raises:
        gymnasium.error.ResetNeeded: before the first reset.
        ImportError: when a frame is wanted and matplotlib is missing, naming the command that installs it.
    """
    if screen.mode is None:
        gymnasium.logger.warn('render() draws nothing without a render_mode: give render_mode="rgb_array", for example')
        return None
    if not market.opened:
        raise ResetNeeded("no episode has begun: call reset() before render()")
    return screen.render(market.live)
