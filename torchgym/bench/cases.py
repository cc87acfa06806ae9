"""The table of cases: what is measured, by whom, and the bounds it is held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torchgym.bench import growth, processes, throughput
from torchgym.bench.found import Found
from torchgym.bench.lab import Lab


@dataclass(frozen=True)
class Target:
    """A bound on a median.

    >>> str(Target(15_000, at_least=True)), Target(4, at_least=False).met(3.9)
    ('≥ 15,000', True)
    """

    value: float
    at_least: bool

    def met(self, median: float) -> bool:
        """Whether the median is on the right side of the bound, or on it."""
        return median >= self.value if self.at_least else median <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:,g}"


@dataclass(frozen=True)
class Case:
    """What is measured, by which function, and by name the targets of some of its measures; the others are only told."""

    name: str
    measure: Callable[[Lab], list[Found]]
    targets: Mapping[str, Target] = field(default_factory=dict)
    alone: bool = False  # with one thread; otherwise with all that may be used
    cpu_only: bool = False  # what is measured has no device


def at_least(value: float) -> Target:
    """A bound from below, for what should be large."""
    return Target(value, at_least=True)


def at_most(value: float) -> Target:
    """A bound from above, for what should be small."""
    return Target(value, at_least=False)


# The targets are those of the default sizes, on two processors of a small machine.
CASES: dict[int, Case] = {
    1: Case("TradingEnv", throughput.one_compiled, {"steps": at_least(15_000)}, alone=True),
    2: Case("TradingEnv, eager", throughput.one_eager, {"steps": at_least(800)}, alone=True),
    3: Case("PyVecTradingEnv", throughput.few, {"steps": at_least(80_000)}, alone=True, cpu_only=True),
    4: Case("Market", throughput.many, {"steps": at_least(300_000)}),
    5: Case("TorchRL's Collector", throughput.collector, {"share": at_least(0.70)}),
    6: Case("markets grow", growth.batches, {"largest over smallest": at_most(1.25)}),
    7: Case("traders grow", growth.crowds, {"growth over growth of traders": at_most(1.0)}),
    8: Case("a crowd in one market", growth.crowd, {"ticks": at_least(500)}),
    9: Case("staggered episodes", throughput.staggered, {"share": at_least(0.75)}),
    10: Case("first step", processes.start, {"cold": at_most(60.0), "warm": at_most(5.0)}),
    11: Case("memory", processes.memory, {"growth": at_most(1.0)}),
    12: Case("the floor", throughput.copying, {"step over copy": at_most(4.0)}),
}
