"""A small gym-like interface: environments that return plain numpy, with `reset` giving the observation alone.

Both classes keep the signatures, argument names, defaults, return types and error texts of the Rust extension `quant_gym_rs`
(design note V6.4 of the public repository paulxiep/quant-trading-gym), so a script written for it runs after changing the import
line. `torchgym.TradingEnv` is the environment that follows gymnasium to the letter; `as_gymnasium` turns one into the other.

An episode that has ended does not stop anything: the market trades on, step by step, until the caller resets it. `truncated`
stays True from `max_ticks` on; `terminated` tells whether the learner has been ruined in this episode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces

from torchgym.config import MarketConfig
from torchgym.engine import Compile, Market, check_seeds
from torchgym.readout import features

if TYPE_CHECKING:
    from torchgym.envs.gymnasium import TradingEnv

Array = npt.NDArray[np.float64]

_BAD_ACTION = "action must be 0 (sell), 1 (hold), or 2 (buy)"


class PyTradingEnv:
    """One market.

    Args:
        max_ticks: `truncated` is True from this tick on.
        seed: of the first episode, when `reset` is not given one; None draws a fresh one.
        num_symbols: S; one action is traded in all of them.
        compile: "auto" runs uncompiled until another process has compiled the step, True compiles at the first step, False never;
            the numbers are the same.

    Raises:
        ValueError: for an impossible argument, naming it.

    >>> env = PyTradingEnv(max_ticks=50, seed=42)
    >>> env.reset().shape
    (54,)
    >>> observation, reward, terminated, truncated, info = env.step(2)
    >>> list(info)
    ['tick', 'equity', 'realized_pnl']
    """

    def __init__(
        self, max_ticks: int = 10000, seed: int | None = None, num_symbols: int = 1, *, compile: Compile = "auto"
    ) -> None:
        self._config = MarketConfig(max_ticks=max_ticks, num_symbols=num_symbols)
        self._seed = seed
        self._market = Market(self._config, 1, seed=seed, compile=compile)

    def reset(self, seed: int | None = None) -> Array:
        """Open an episode and return its first observation, float64 [F].

        Args:
            seed: decides the episode. None takes, at the first reset, the constructor's seed, and afterwards goes on to the next
                episode of the seed before; which that is depends on nothing else.

        Raises:
            ValueError: when the seed is not an integer from 0 to 2**63 - 1.
        """
        return self._market.reset(None if seed is None else [seed]).observation[0].numpy()

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Trade one standard order in every symbol, or hold, and let one tick pass.

        Args:
            action: 0 sells, 1 holds, 2 buys.

        Returns:
            Observation float64 [F]; reward (the change of equity, currency); terminated (ruined); truncated (out of time); info
            with `tick` (int), `equity` and `realized_pnl` (float, currency).

        Raises:
            ValueError: for anything else than these three integers; the market has not moved then.
            RuntimeError: before the first reset.
        """
        chosen = _plain(action)
        if not _known(chosen):
            raise ValueError(_BAD_ACTION)
        orders = torch.full((1, self._config.num_symbols), chosen, device=self._market.device)
        packed, columns = self._market.advance(orders), self._market.columns
        floats, integers = packed.floats[0].tolist(), packed.integers[0].tolist()
        info = {
            "tick": integers[columns.of("tick")],
            "equity": floats[columns.of("equity")],
            "realized_pnl": floats[columns.of("realized_pnl")],
        }
        terminated, truncated = (integers[columns.of(name)] != 0 for name in ("terminated", "truncated"))
        return packed.observation[0].numpy(), floats[columns.of("reward")], terminated, truncated, info

    @property
    def observation_space(self) -> spaces.Box:
        """Box float64 [F], without bounds."""
        return spaces.Box(low=-np.inf, high=np.inf, shape=(features.size(self._config),), dtype=np.float64)

    @property
    def action_space(self) -> spaces.Discrete:
        """Discrete(3)."""
        return spaces.Discrete(3)

    def feature_names(self) -> list[str]:
        """Names of the numbers of an observation, in order."""
        return features.names(self._config)

    def as_gymnasium(self) -> TradingEnv:
        """A new gymnasium environment of the same settings: equal seeds give equal numbers there."""
        from torchgym.envs.gymnasium import TradingEnv

        return TradingEnv(self._config, seed=self._seed, compile=self._market.compile)


class PyVecTradingEnv:
    """A batch of markets of one symbol, stepped together. Nothing is reset unless `reset_all` is called.

    Args:
        num_envs: N.
        max_ticks: `truncated` is True from this tick on.
        base_seed: market i's first episode has base_seed + i, when `reset_all` is not given seeds; None draws a fresh one.
        compile: "auto" runs uncompiled until another process has compiled the step, True compiles at the first step, False never;
            the numbers are the same.

    Raises:
        ValueError: for an impossible argument, naming it.

    >>> env = PyVecTradingEnv(num_envs=2, max_ticks=50, base_seed=42)
    >>> env.reset_all().shape
    (2, 54)
    >>> observations, rewards, terminateds, truncateds, infos = env.step_all([2, 1])
    >>> truncateds, list(infos[0])
    ([False, False], ['tick', 'equity'])
    """

    def __init__(
        self, num_envs: int, max_ticks: int = 10000, base_seed: int | None = None, *, compile: Compile = "auto"
    ) -> None:
        self._market = Market(MarketConfig(max_ticks=max_ticks), num_envs, seed=base_seed, compile=compile)

    def reset_all(self, seeds: list[int] | None = None) -> Array:
        """Open an episode in every market and return the first observations, float64 [N, F].

        Args:
            seeds: one per market. None takes, at the first reset, those of the constructor, and afterwards goes on to the next
                episode of the seeds before.

        Raises:
            ValueError: for another number of seeds, or one that is not an integer from 0 to 2**63 - 1.
        """
        given = None if seeds is None else check_seeds(seeds, self.num_envs)
        return self._market.reset(given).observation.numpy()

    def step_all(self, actions: Any) -> tuple[Array, Array, list[bool], list[bool], list[dict[str, Any]]]:
        """Step every market by one tick.

        Args:
            actions: N integers in a list, array or tensor: 0 sells, 1 holds, 2 buys.

        Returns:
            Observations float64 [N, F]; rewards float64 [N]; which have been ruined; which are out of time; and a dict per market
            with `tick` (int) and `equity` (float, currency).

        Raises:
            ValueError: for another number of actions, or one that is none of these; no market has moved then.
            RuntimeError: before the first reset.
        """
        listed = _plain(actions)
        if not isinstance(listed, (list, tuple)):
            raise ValueError(f"actions must be {self.num_envs} integers in a row, got {actions!r}")
        if len(listed) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} actions, got {len(listed)}")
        chosen = [_plain(action) for action in listed]
        if not all(map(_known, chosen)):
            index = next(index for index, action in enumerate(chosen) if not _known(action))
            raise ValueError(f"{_BAD_ACTION}: action {index} is {chosen[index]!r}")
        orders = torch.tensor(chosen, device=self._market.device).unsqueeze(-1)
        packed, columns = self._market.advance(orders), self._market.columns
        floats, integers = packed.floats.numpy(), packed.integers.numpy()
        ticks, equities = integers[:, columns.of("tick")], floats[:, columns.of("equity")]
        infos = [
            {"tick": tick, "equity": equity} for tick, equity in zip(ticks.tolist(), equities.tolist(), strict=True)
        ]
        terminated, truncated = ((integers[:, columns.of(name)] != 0).tolist() for name in ("terminated", "truncated"))
        return packed.observation.numpy(), floats[:, columns.of("reward")].copy(), terminated, truncated, infos

    @property
    def num_envs(self) -> int:
        """How many markets."""
        return self._market.num_envs


def _plain(value: Any) -> Any:
    """A Python number or list for numpy's and torch's."""
    return value if type(value) is int else value.tolist() if hasattr(value, "tolist") else value


def _known(action: Any) -> bool:
    return isinstance(action, int) and not isinstance(action, bool) and 0 <= action <= 2
