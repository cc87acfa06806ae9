"""gymnasium's single environment: one market, numpy in and out."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.config import preset as named_preset
from torchgym.config.validation import check_one_learner
from torchgym.engine import Compile, Market, Packed, StepResult, check_seeds
from torchgym.readout import features
from torchgym.readout.entries import account_names
from torchgym.sim import actions
from torchgym.sim.actions import Box, Choices
from torchgym.visual.rendering import METADATA, Frame, Screen

Observation = npt.NDArray[np.float64]


class TradingEnv(gymnasium.Env[Any, Any]):
    """One market and one learner, as gymnasium has it; registered as `torchgym/Trading-v0`.

    Observation: float64 [F], those of `torchgym.readout.features.names`, symbol by symbol; with `include_account` the S + 3
    numbers of `torchgym.readout.entries.ACCOUNT` follow. `feature_names` names them all.

    Action: with one symbol an integer ("discrete" actions: 0 sells, 1 holds, 2 buys), with several an array [S] of them.

    Info: the step's `tick` (int), `equity`, `realized_pnl`, `cash`, `fees`, `borrow`, `turnover` and each `reward_<term>` (float,
    currency; see `Market.step`), `position` and `filled` ([S] int64 shares). With `information="privileged"` also `privileged`,
    always True, so that data collected with the exact value in sight are marked. `metadata["information"]` says how the value
    features are made.

    Episodes: `reset(seed=n)` opens the market of seed n, the same bits as any other face with that seed. A reset without a seed
    draws one from `np_random`, so it is decided by the last seed given and the number of resets since; the very first takes
    `seed` of the constructor.

    Args:
        config: what kind of market; the default is a liquid stock.
        preset: a named configuration instead of `config`.
        seed: of the first episode, unless the first reset is given one.
        render_mode: "ansi": `render()` gives a text of 16 lines, the book and the account; "rgb_array": a picture [720, 960, 3]
            uint8 of price, book, position and profit over the last 500 decisions; "human": the picture in a window, drawn at
            every reset and step (needs a display). None draws nothing and costs nothing. Pictures need the extra `plots`, from
            the first one drawn on. They show the latent value, whether or not the learner sees it.
        render_symbol: which symbol is shown.
        include_account: append the learner's account to the observation.
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
        seed: int | None = None,
        render_mode: str | None = None,
        render_symbol: int = 0,
        include_account: bool = False,
        device: torch.device | str = "cpu",
        compile: Compile = "auto",
        debug: bool = False,
        **overrides: Any,
    ) -> None:
        self.config = make_config(TradingEnv, config, preset, overrides)
        self.metadata = {**self.metadata, "information": self.config.information}
        self.render_mode = render_mode
        self._screen = Screen(self.config, render_mode, render_symbol)
        self.include_account = include_account
        self.market = Market(self.config, 1, device=device, compile=compile, debug=debug)
        self.feature_names = observation_names(self.config, include_account)
        self.observation_space = observation_space(self.config, include_account)
        self.action_space = action_space(self.config)
        self._action_shape = action_shape(self.config)
        self._first_seed = None if seed is None else check_seed(seed)
        self._ended: bool | None = None  # None until the first reset

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Open the next episode.

        Args:
            seed: decides the episode; None goes on from the seed before.
            options: none are known, all are ignored.

        Returns:
            The first observation and its info.

        Raises:
            ValueError: when the seed is not an integer from 0 to 2**63 - 1.
            ImportError: when a window is wanted and matplotlib is missing, naming the command that installs it.
            RuntimeError: when a window is wanted and none can be opened, naming the remedy. After any error nothing has changed.
        """
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
        chosen = check_action(action, self._action_shape, self.market.scheme.space)
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

    def _unpacked(self, packed: Packed) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """What gymnasium's step returns."""
        columns = self.market.columns
        observation, floats, integers = (
            part.cpu().numpy()[0] for part in (packed.observation, packed.floats, packed.integers)
        )
        if self.include_account:
            observation = np.concatenate([observation, floats[columns.floats["account"]]])
        info = {**columns.info_of_one(floats, integers), **labels(self.config)}
        terminated, truncated = (bool(integers[columns.of(name)]) for name in ("terminated", "truncated"))
        return observation, float(floats[columns.of("reward")]), terminated, truncated, info


def make_config(face: type, config: MarketConfig | None, preset: str | None, overrides: dict[str, Any]) -> MarketConfig:
    """The configuration that a face's arguments mean.

    Args:
        face: the class that is being made, for the error message.
        config: as given.
        preset: as given.
        overrides: all other keywords given; settings, if they are right.

    Raises:
        TypeError: for a keyword that is no setting, as Python itself words it: TorchRL's GymEnv and stable-baselines3 read that.
        ValueError: when `config` is no MarketConfig or comes with a preset; for impossible settings; for several learners.
    """
    settings = [field.name for field in dataclasses.fields(MarketConfig)]
    for name in overrides:
        if name not in settings:
            arguments = [known for known in inspect.signature(face).parameters if known != "overrides"]
            raise TypeError(
                f"{face.__name__}.__init__() got an unexpected keyword argument {name!r}: its arguments are"
                f" {', '.join(arguments)}; settings are {', '.join(settings)}"
            )
    if config is not None and preset is not None:
        raise ValueError(
            f"config and preset={preset!r} contradict each other: give one, and change its settings by name"
        )
    if config is not None and not isinstance(config, MarketConfig):
        raise ValueError(f"config must be a MarketConfig, got {config!r}: a named one is preset=...")
    base = MarketConfig() if config is None else config
    made = base.replace(**overrides) if preset is None else named_preset(preset, **overrides)
    check_one_learner(face.__name__, made)
    return made


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


def labels(config: MarketConfig) -> dict[str, bool]:
    """What marks every info: `privileged`, True, where the learner sees the exact value; else nothing."""
    return {"privileged": True} if config.information == "privileged" else {}


def observation_names(config: MarketConfig, include_account: bool) -> list[str]:
    """Names of the numbers of one observation, in order."""
    return features.names(config) + (account_names(config) if include_account else [])


def observation_space(config: MarketConfig, include_account: bool) -> spaces.Box:
    """Box float64 [F], with finite bounds where a feature has them."""
    low, high = features.bounds(config)
    if include_account:
        held = np.ones(config.num_symbols)
        low = np.concatenate([low, -held, [-np.inf, -np.inf, 0.0]])
        high = np.concatenate([high, held, [np.inf, np.inf, 1.0]])
    return spaces.Box(low, high, dtype=np.float64)


ActionSpace = spaces.Discrete | spaces.MultiDiscrete | spaces.Box


def action_space(config: MarketConfig) -> ActionSpace:
    """As the action scheme has it: choices are Discrete, with several symbols MultiDiscrete; numbers are a Box float32 [S]."""
    space, symbols = actions.scheme(config).space, config.num_symbols
    if isinstance(space, Box):
        return spaces.Box(space.low, space.high, (symbols,), np.float32)
    return spaces.Discrete(space.count) if symbols == 1 else spaces.MultiDiscrete([space.count] * symbols)


def action_shape(config: MarketConfig, *batch: int) -> tuple[int, ...]:
    """Of the actions of a batch: [*batch, S]; choices in a single symbol have no axis for it."""
    alone = config.num_symbols == 1 and isinstance(actions.scheme(config).space, Choices)
    return batch if alone else (*batch, config.num_symbols)


def observation_array(result: StepResult, include_account: bool) -> Observation:
    """[N, F] float64, the market's features and, if wanted, the learner's account."""
    observation = torch.cat([result.observation, result.account], -1) if include_account else result.observation
    return observation.cpu().numpy()


def check_seed(seed: Any) -> int:
    """The seed as a Python int; raises ValueError when it is not an integer from 0 to 2**63 - 1."""
    return int(check_seeds([seed], 1)[0])


def episode_seed(env: gymnasium.Env[Any, Any], seed: int | None) -> int:
    """The core seed of the next episode of `env`, whose generator is seeded or, without a seed, asked for the next number."""
    gymnasium.Env.reset(env, seed=seed)
    return int(env.np_random.integers(2**63)) if seed is None else seed


def check_action(action: Any, shape: tuple[int, ...], space: Choices | Box) -> npt.NDArray[Any]:
    """The action as an array of the shape, int64 for choices, float64 for numbers.

    Raises:
        ValueError: for anything but integers where there are choices (bools and whole floats are not), for anything but numbers
            in a box, another shape, or an action out of bounds.
    """
    low, high = space.bounds
    if type(action) is int and shape == () and low <= action <= high:  # the usual case, at a tenth of the time
        return np.array(action)
    if isinstance(action, Tensor):
        action = action.detach().cpu().numpy()
    if isinstance(action, (np.ndarray, np.generic)):
        array, fits = np.asarray(action), action.dtype.kind in ("iu" if isinstance(space, Choices) else "iuf")
    else:
        array = np.array(action, dtype=object)  # as they are: numpy would make numbers of bools, and round nothing up
        kinds = (int, np.integer) if isinstance(space, Choices) else (int, float, np.integer, np.floating)
        fits = all(isinstance(cell, kinds) and not isinstance(cell, bool) for cell in array.flat)
    if not fits:
        made_of = "integers" if isinstance(space, Choices) else "numbers"
        raise ValueError(f"action must be made of {made_of}, got {action!r}")
    if array.shape != shape:
        raise ValueError(f"action must have shape {shape}, got {array.shape}: {action!r}")
    right = (array >= low) & (array <= high)  # not a number is neither
    if not right.all():
        place = tuple(int(index) for index in np.argwhere(~right)[0])
        where = f" at {place}" if place else ""
        raise ValueError(f"action must be {low:g} to {high:g}, got {array[place]}{where}")
    return array.astype(np.int64 if isinstance(space, Choices) else np.float64)
