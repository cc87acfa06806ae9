"""What the cases of one run share: markets that are compiled already, actions drawn beforehand, the stopwatch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from torchgym.bench import machine
from torchgym.bench.settings import Settings
from torchgym.bench.timing import Timing, Work, time_work
from torchgym.config import MarketConfig, preset
from torchgym.engine import Market, StepResult, consecutive_seeds
from torchgym.quant_gym import PyVecTradingEnv
from torchgym.sim import actions, noise

Tell = Callable[[str, int, int], None]

VECTOR = 8  # markets of the small batch

_DRAWN = 64  # actions per market, gone round and round
_STREAM = 2_000  # of noise; the market's own are far below
_WARM_STEPS = 3


class Lab:
    """The place where cases are measured.

    Args:
        settings: of the run.
        tell: called with what is being done, how much of it is done and how much there is.

    Raises:
        ValueError: for an unknown preset.
    """

    def __init__(self, settings: Settings, tell: Tell | None = None) -> None:
        self.settings = settings
        self.config = preset(settings.preset)
        self.device = torch.device(settings.device)
        self.tell = tell or _silent
        self._markets: dict[tuple[MarketConfig, int, int], Market] = {}
        self._vector: PyVecTradingEnv | None = None

    def market(self, config: MarketConfig, count: int) -> Market:
        """A batch that is open, warmed up and, where that is asked for, compiled; the same one for the same arguments."""
        key = (config, count, torch.get_num_threads())  # compiled code keeps the number of threads
        if key not in self._markets:
            with self.opening(count):
                market = Market(config, count, seed=0, device=self.device, compile=self.settings.compile)
                market.reset()
                for action in drawn_actions(config, count).to(self.device)[:_WARM_STEPS]:
                    market.step(action)
            self._markets[key] = market
        return self._markets[key]

    @contextmanager
    def opening(self, count: int) -> Iterator[None]:
        """Tells that so many markets are opened, and compiled if need be, in the block."""
        what = f"opening {count:,} market{'s' if count > 1 else ''}"
        self.tell(what, 0, 1)
        yield
        self.tell(what, 1, 1)

    def vector(self) -> PyVecTradingEnv:
        """The drop-in vector environment; its market is always the default one."""
        if self._vector is None:
            with self.opening(VECTOR):
                self._vector = PyVecTradingEnv(VECTOR, base_seed=0, compile=self.settings.compile)
                self._vector.reset_all()
        return self._vector

    def stepping(self, market: Market) -> Callable[[], StepResult]:
        """One step of the batch with random actions."""
        turn = itertools.cycle(drawn_actions(market.config, market.num_envs).to(self.device))
        return lambda: market.step(next(turn))

    def time(self, *work: Work) -> list[Timing]:
        """Time pieces of work in turn."""
        return time_work(
            work,
            seconds=self.settings.seconds,
            repeats=self.settings.repeats,
            wait=lambda: machine.wait(self.device),
            tell=lambda done, total: self.tell("windows", done, total),
        )

    def dtypes(self) -> str:
        """The types of the state's numbers; they depend on neither batch nor preset."""
        market = Market(self.config, seed=0, device=self.device)
        market.reset()
        return machine.dtypes(market)


def drawn_actions(config: MarketConfig, count: int) -> Tensor:
    """Random actions, [64, count] int64, the same in every run."""
    key = noise.make_key(consecutive_seeds(0, count), torch.zeros(count, dtype=torch.int64, device="cpu"))
    words = noise.bits(key, torch.zeros(count, dtype=torch.int64, device="cpu"), noise.counters(_STREAM, _DRAWN))
    return (noise.uniform(words) * actions.scheme(config).choices).to(torch.int64).T.contiguous()


def _silent(what: str, done: int, total: int) -> None:
    """No-op progress callback."""
