"""What the cases of one run share: markets that are compiled already, actions drawn beforehand, the stopwatch, their results."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from settings import Settings
from timing import Timing, Work, noise, time_work
from torch import Tensor

from torchgym.config import MarketConfig, preset
from torchgym.engine import Market, StepResult, consecutive_seeds
from torchgym.numerics import random
from torchgym.progress import silent
from torchgym.quant_gym import PyVecTradingEnv
from torchgym.sim import actions

Tell = Callable[[str, int, int], None]

VECTOR = 8  # markets of the small batch

_DRAWN = 64  # actions per market, gone round and round
_STREAM = 2_000  # of noise; the market's own are far below
_WARM_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measure of a case: a value per timed window, or a single one."""

    measure: str
    unit: str
    values: list[float]
    config: MarketConfig
    markets: int
    compiled: bool
    noise: str = ""
    note: str = ""
    threads: int | None = None  # where they differ from the case's
    proves: bool = True  # False where meeting the target would not show that it is met at the size asked for

    @property
    def median(self) -> float:
        """Of the values."""
        return statistics.median(self.values)


def result(measure: str, unit: str, values: list[float], market: Market, *timings: Timing) -> Result:
    """A result of a market, as noisy as the timings that it comes from."""
    return Result(
        measure=measure,
        unit=unit,
        values=values,
        config=market.config,
        markets=market.num_envs,
        compiled=market.compile is True,
        noise=noise(*timings),
    )


def cost(timing: Timing, market: Market, measure: str = "step") -> Result:
    """Microseconds per market of a piece of work that does all of them."""
    return result(measure, "µs/market-tick", [1e6 * s / market.num_envs for s in timing.costs], market, timing)


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
        self.tell = tell or silent
        self._markets: dict[tuple[MarketConfig, int, int], Market] = {}
        self._vector: PyVecTradingEnv | None = None

    def market(self, config: MarketConfig, count: int) -> Market:
        """A batch that is open, warmed up and, where that is asked for, compiled; the same one for the same arguments."""
        key = (config, count, torch.get_num_threads())  # a batch is cut up for the number of threads
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
        stage = f"opening {count:,} market{'s' if count > 1 else ''}"
        self.tell(stage, 0, 1)
        yield
        self.tell(stage, 1, 1)

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
            tell=lambda done, total: self.tell("windows", done, total),
        )


def drawn_actions(config: MarketConfig, count: int) -> Tensor:
    """Random actions, [64, count] int64, the same in every run."""
    key = random.make_key(consecutive_seeds(0, count), torch.zeros(count, dtype=torch.int64, device="cpu"))
    words = random.bits(key, torch.zeros(count, dtype=torch.int64, device="cpu"), random.counters(_STREAM, _DRAWN))
    space = actions.scheme(config).space
    assert isinstance(space, actions.Choices)
    return (random.uniform(words) * space.count).to(torch.int64).T.contiguous()
