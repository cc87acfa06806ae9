"""gymnasium's vector environment over one batched market."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.engine import Compile, Market, StepResult, check_seed
from torchgym.envs.arguments import (
    asked,
    check_max_episode_steps,
    check_options,
    episode_seed,
    with_length,
)
from torchgym.envs.gymnasium import rendered
from torchgym.envs.spaces import (
    ActionArrays,
    Observation,
    action_space,
    flat_masks,
    info_masks,
    labels,
    observation_array,
    observation_names,
    observation_space,
)
from torchgym.numerics.trees import choose_rows
from torchgym.sim.actions import choices
from torchgym.visual.rendering import METADATA, Frame, Screen

Mask = npt.NDArray[np.bool_]
Step = tuple[Observation, npt.NDArray[np.float64], Mask, Mask, dict[str, Any]]


class TradingVectorEnv(VectorEnv[Any, Any, Any]):
    """N markets with a learner each, stepped as one batch; what `gymnasium.make_vec` makes of `torchgym/Trading-v0`.

    Every number, flag, info and mask equals that of gymnasium's SyncVectorEnv over N `TradingEnv`s with the same seeds, in each
    autoreset mode, at the cost of one batch. Observations are [N, F] of `dtype`, rewards float64 [N], infos arrays [N] or [N, S]
    with a mask `_<key>`; what they hold is told at `TradingEnv`.

    Two things are stricter than in SyncVectorEnv: an action is checked in every row, ended ones too, and nothing has moved when
    one is refused; `options` is left as it was given. `call`, `get_attr` and `set_attr` answer for all environments at once:
    they share their attributes, and of `action_masks` each has its own.

    Args:
        config: what kind of market; the default is a liquid stock.
        num_envs: N.
        autoreset_mode: what happens to the environments whose episode has ended, an AutoresetMode or its value. "NextStep": their
            next step ignores the action and opens an episode; "SameStep": the step that ends one opens the next, the last
            observation and info being `final_obs` and `final_info`; "Disabled": the caller resets them, by
            `options={"reset_mask": ...}`.
        preset: a named configuration instead of `config`.
        task: a row of `torchgym.config.TASKS`: its settings, account and dtype hold where no argument says otherwise. With a
            `config` it changes nothing.
        seed: environment i's first episode has seed + i, unless the first reset is given seeds.
        render_mode: as in `TradingEnv`; only the first market is drawn.
        render_symbol: which of its symbols is shown.
        include_account: append the learner's account to the observation; None is as the task has it, else False.
        dtype: of observations, float32 or float64; None is as the task has it, else float64.
        action_mask: give `action_mask` along in infos; see `action_masks`. Costs 0.1 ms a step.
        max_episode_steps: gymnasium gives it along where a specification has it; the steps that episodes have, or None.
        device: where the markets live.
        compile: "auto" runs uncompiled until another process has compiled the step, True compiles at the first step, False never;
            the numbers are the same.
        debug: check the markets' books after every phase (slow).
        **overrides: settings of `MarketConfig` to change in it.

    Raises:
        TypeError: for a keyword that is neither an argument nor a setting, listing both.
        ValueError: for impossible or contradictory arguments, naming the remedy.

    >>> env = TradingVectorEnv(preset="toy", num_envs=3, autoreset_mode="SameStep")
    >>> observations, infos = env.reset(seed=1)
    >>> observations.shape, infos["equity"].tolist()
    ((3, 54), [100000.0, 100000.0, 100000.0])
    """

    def __init__(
        self,
        config: MarketConfig | None = None,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        preset: str | None = None,
        task: str | None = None,
        seed: int | None = None,
        render_mode: str | None = None,
        render_symbol: int = 0,
        include_account: bool | None = None,
        dtype: npt.DTypeLike | None = None,
        action_mask: bool = False,
        max_episode_steps: int | None = None,
        device: torch.device | str = "cpu",
        compile: Compile = "auto",
        debug: bool = False,
        **overrides: Any,
    ) -> None:
        self.closed = True  # or gymnasium 1.1 would close what these arguments may never make
        self._form = asked(
            TradingVectorEnv,
            config,
            preset=preset,
            task=task,
            include_account=include_account,
            dtype=dtype,
            overrides=overrides,
        )
        check_max_episode_steps(max_episode_steps, self._form)
        self._spec: EnvSpec | None = None
        self.config, self.include_account, self.dtype = self._form.config, self._form.include_account, self._form.dtype
        self.autoreset_mode = check_autoreset_mode(autoreset_mode)
        marks = {"autoreset_mode": self.autoreset_mode, "information": self.config.information}
        self.metadata = {**METADATA, **marks}
        self.render_mode = render_mode
        self._screen = Screen(self.config, render_mode, render_symbol)
        self.action_mask = action_mask
        if action_mask:
            choices(self.config)
        self.market = Market(self.config, num_envs, device=device, compile=compile, debug=debug)
        self.feature_names = observation_names(self._form)

        self.num_envs = num_envs = self.market.num_envs
        self.single_observation_space = observation_space(self._form)
        self.single_action_space = action_space(self.config)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._actions_of = ActionArrays(self.config, num_envs)

        self._advance: Callable[[Tensor], Step] = {
            AutoresetMode.NEXT_STEP: self._next_step,
            AutoresetMode.SAME_STEP: self._same_step,
            AutoresetMode.DISABLED: self._plain_step,
        }[self.autoreset_mode]
        self._generators = [gymnasium.Env() for _ in range(num_envs)]  # only for their np_random
        self._no_seeds: list[int | None] = [None] * num_envs
        self._first_seeds = self._no_seeds if seed is None else self._seeds(seed)
        self._all = np.ones(num_envs, dtype=np.bool_)
        self._ended: Mask | None = None  # None until the first reset
        self.closed = False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Open the next episode of all environments, or of some.

        Args:
            seed: environment i gets seed + i, or the i-th of a list; None goes on from its seed before.
            options: `reset_mask`, [N] bool numpy array with at least one True, chooses the environments; the others stay as they
                are.

        Returns:
            The current observation of every environment; the info of those that were reset.

        Raises:
            TypeError: when the mask is no numpy array of bools.
            ValueError: for a mask of another shape, one without any True, bad seeds, or unknown options.
            gymnasium.error.ResetNeeded: when the first reset leaves some out.
        """
        chosen = self._reset_mask(options)
        seeds = self._no_seeds if seed is None else self._seeds(seed)
        if self._ended is None and not chosen.all():
            raise ResetNeeded("no episode has begun: the first reset() must be without a reset_mask")
        seeds = [first if given is None else given for given, first in zip(seeds, self._first_seeds, strict=True)]
        self._screen.open()
        self._first_seeds = self._no_seeds
        result = self._open(chosen, seeds)
        self._ended = ~chosen if self._ended is None else self._ended & ~chosen
        self._screen.follow(self.market.live)
        return observation_array(result, self._form), self._infos(result, chosen)

    def step(self, actions: Any) -> Step:
        """Trade in every market, and let `ticks_per_action` ticks pass.

        Args:
            actions: [N] integers, with several symbols [N, S]; numbers [N, W] where the action scheme has a box.

        Returns:
            Observations, rewards, terminations (ruined), truncations (out of time), infos; all of them the caller's own.

        Raises:
            ValueError: for an action outside the action space, naming it.
            gymnasium.error.ResetNeeded: before the first reset and, when autoreset is disabled, while an ended episode is not
                reset. After any error no market has moved.
        """
        if self._ended is None:
            raise ResetNeeded("no episode has begun: call reset() before step()")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._ended.any():
            raise ResetNeeded(
                f"the episodes of environments {np.flatnonzero(self._ended).tolist()} have ended: reset them with"
                " options={'reset_mask': ...} before the next step()"
            )
        chosen = torch.from_numpy(self._actions_of.checked(actions))
        self._screen.open()
        packed = self._advance(chosen)
        self._screen.follow(self.market.live)
        return packed

    def render(self) -> tuple[Frame | str, ...] | None:
        """Show the first market as it stands.

        Returns:
            One entry per environment, as gymnasium's recorders want it: the frame or text of the first market, and black frames
            or empty texts for the others. None for a window, and without a mode, which gymnasium warns of.

        Raises:
            gymnasium.error.ResetNeeded: before the first reset.
            ImportError: when a frame is wanted and matplotlib is missing, naming the command that installs it.
        """
        first = rendered(self._screen, self.market)
        if first is None:
            return None
        other = "" if isinstance(first, str) else np.zeros_like(first)
        return first, *[other] * (self.num_envs - 1)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the window, if there is one; `close` calls this."""
        self._screen.close()

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[Any, ...]:  # type: ignore[override]
        """Each environment's generator, which its seed at `reset` decides, and which draws the seeds of its later episodes."""
        return tuple(env.np_random for env in self._generators)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """What each environment's generator was seeded with."""
        return tuple(env.np_random_seed for env in self._generators)

    @property
    def spec(self) -> EnvSpec | None:
        """As of `TradingEnv`: `max_episode_steps` are the steps of an episode, whatever the settings."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = with_length(spec, self._form)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Which choices make sense now, [N, C], with several symbols [N, S * C]; see `TradingEnv.action_masks`."""
        return flat_masks(self.market)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The attribute of every environment or, when it can be called, what that returns.

        What environments share is asked of this object, once, and given once per environment.

        Raises:
            AttributeError: for an unknown name.
            ValueError: for `reset` and `step`, which only the batch as a whole can do.
        """
        if name in ("reset", "step"):
            raise ValueError(f"{name}() of a single environment cannot be called: call {name}() of the batch")
        if name in ("np_random", "np_random_seed"):
            return tuple(getattr(self, name))
        if name == "render":
            return self.render() or (None,) * self.num_envs
        if name == "action_masks":
            return tuple(self.action_masks(*args, **kwargs))
        if name in ("observation_space", "action_space"):
            name = f"single_{name}"
        value = getattr(self, name)
        return (value(*args, **kwargs) if callable(value) else value,) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """The attribute of every environment; see `call`."""
        return self.call(name)

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of all environments, which is one of this object.

        Args:
            name: of the attribute.
            values: a list or tuple of one value per environment, all the same; or anything else, for all of them.

        Raises:
            ValueError: for another number of values, or values that differ; for attributes that are fixed.
        """
        if name in ("np_random", "np_random_seed", "observation_space", "action_space"):
            raise ValueError(
                f"{name!r} cannot be set: seeds are given to reset(), and the configuration decides the spaces"
            )
        listed = values if isinstance(values, (list, tuple)) else [values] * self.num_envs
        if len(listed) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} values of {name!r}, one per environment, got {len(listed)}")
        if not all(value is listed[0] or np.array_equal(value, listed[0]) for value in listed):
            raise ValueError(f"{name!r} is one for all environments: give equal values, got {values!r}")
        setattr(self, name, listed[0])

    def _plain_step(self, actions: Tensor) -> Step:
        return self._out(self._step(actions))

    def _next_step(self, actions: Tensor) -> Step:
        """Ended rows open an episode instead of stepping."""
        ended = self._ended
        assert ended is not None
        if not ended.any():
            return self._plain_step(actions)
        if ended.all():
            return self._out(self._open(ended, self._no_seeds))
        stepped = self._step(actions)  # the ended rows too, which are opened anew right after
        return self._out(choose_rows(self._rows(ended), self._open(ended, self._no_seeds), stepped))

    def _same_step(self, actions: Tensor) -> Step:
        """Rows that end open an episode at once; their last observation and info go along."""
        last = self._step(actions)
        ended = (last.terminated | last.truncated).cpu().numpy()
        if not ended.any():
            return self._out(last)
        opened = choose_rows(self._rows(ended), self._open(ended, self._no_seeds), last)
        shown = replace(opened, reward=last.reward, terminated=last.terminated, truncated=last.truncated)
        observations, rewards, terminations, truncations, infos = self._out(shown)
        last_observations = observation_array(last, self._form)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(ended):
            final_obs[row] = last_observations[row].copy()  # who keeps a row does not keep the batch
        infos |= {"final_obs": final_obs, "final_info": self._infos(last, ended)}
        infos |= {"_final_obs": ended.copy(), "_final_info": ended.copy()}
        return observations, rewards, terminations, truncations, infos

    def _rows(self, mask: Mask) -> Tensor:
        return torch.from_numpy(mask).to(self.market.device)

    def _open(self, chosen: Mask, seeds: list[int | None]) -> StepResult:
        """Open the next episode of the chosen rows; what is seen of all rows afterwards."""
        drawn = np.zeros(self.num_envs, dtype=np.int64)
        for row in np.flatnonzero(chosen):
            drawn[row] = episode_seed(self._generators[row], seeds[row])
        return self._told(self.market.reset(torch.from_numpy(drawn), torch.from_numpy(chosen)))

    def _step(self, actions: Tensor) -> StepResult:
        return self._told(self.market.step(actions))

    def _told(self, result: StepResult) -> StepResult:
        """What the market just showed, with the masks where they are wanted."""
        return (
            replace(result, info=result.info | {"action_mask": info_masks(self.market)}) if self.action_mask else result
        )

    def _out(self, result: StepResult) -> Step:
        terminations, truncations = result.terminated.cpu().numpy(), result.truncated.cpu().numpy()
        self._ended = terminations | truncations
        observations, infos = observation_array(result, self._form), self._infos(result, self._all)
        return observations, result.reward.cpu().numpy(), terminations, truncations, infos

    def _infos(self, result: StepResult, chosen: Mask) -> dict[str, Any]:
        """The info in gymnasium's vector form: an array per key, zero outside the mask of the same name."""
        arrays: dict[str, Any] = {name: value.cpu().numpy() for name, value in result.info.items()}
        if not chosen.all():
            arrays = {name: np.where(_broad(chosen, array.ndim), array, 0) for name, array in arrays.items()}
        arrays |= {name: chosen.copy() for name in labels(self.config)}
        masks = {f"_{name}": chosen.copy() for name in arrays}
        return {**arrays, **masks}

    def _reset_mask(self, options: dict[str, Any] | None) -> Mask:
        """[N] bool, all True when none is given."""
        check_options(options, known=("reset_mask",))
        if options is None or "reset_mask" not in options:
            return self._all
        mask = options["reset_mask"]  # left in place: gymnasium's wrappers read it after us
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            got = f"dtype {mask.dtype}" if isinstance(mask, np.ndarray) else type(mask).__name__
            raise TypeError(f"options['reset_mask'] must be a numpy array of bools, got {got}")
        if mask.shape != (self.num_envs,):
            raise ValueError(f"options['reset_mask'] must have shape ({self.num_envs},), got {mask.shape}")
        if not mask.any():
            raise ValueError("options['reset_mask'] must have at least one True: it chooses no environment")
        return mask

    def _seeds(self, seed: Any) -> list[int | None]:
        """One per environment.

        Raises:
            ValueError: for another number of them, or one that is not an integer from 0 to 2**63 - 1.
        """
        given = seed.tolist() if isinstance(seed, (np.ndarray, Tensor)) else seed
        if isinstance(given, Sequence) and not isinstance(given, (str, bytes, bytearray)):
            if len(given) != self.num_envs:
                raise ValueError(f"expected {self.num_envs} seeds, one per environment, got {len(given)}")
            return [
                None if one is None else check_seed(one, f"seed of environment {at}") for at, one in enumerate(given)
            ]
        first = check_seed(given)
        if first + self.num_envs > 2**63:
            raise ValueError(
                f"seed = {first} leads {self.num_envs} environments to seeds beyond 2**63 - 1: give a smaller one"
            )
        return list(range(first, first + self.num_envs))


def check_autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    """Raises ValueError for an unknown mode, listing the known ones."""
    try:
        return AutoresetMode(mode)
    except ValueError:
        known = ", ".join(repr(known.value) for known in AutoresetMode)
        raise ValueError(f"unknown autoreset_mode {mode!r}: choose one of {known}") from None


def _broad(mask: Mask, ndim: int) -> Mask:
    return mask.reshape(-1, *(1,) * (ndim - 1))
