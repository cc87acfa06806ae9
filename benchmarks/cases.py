"""The thirteen cases: what is measured, how, and the bounds it is held to.

All cases of throughput step warmed-up markets with random actions that were drawn beforehand, and do not count the time to
compile. A step is a whole one: all traders, all features, the reward.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import fresh
import machine
import torch
from lab import VECTOR, Lab, Result, Tell, cost, drawn_actions, result
from scaling import largest, scaled
from settings import Settings
from speed_rows import Row
from timing import Timing, noise

from torchgym.config import MarketConfig, structure
from torchgym.engine import Market
from torchgym.envs.gymnasium import TradingEnv
from torchgym.numerics.trees import clone
from torchgym.visual.rendering import KEEP

_COLLECTED = 32  # steps that a collector hands over at once
_SETTLING = 3  # steps of staggered episodes before the clock runs
_PRODUCT = 131_072  # markets x traders, about, while traders per market grow


def one_compiled(lab: Lab) -> list[Result]:
    """`TradingEnv.step`, numpy in and out; an episode that ends is reset within the time."""
    return _one(lab, lab.settings.compile)


def one_eager(lab: Lab) -> list[Result]:
    """The same without a compiler, as it runs right after the import."""
    return _one(lab, False)


def _one(lab: Lab, compiled: bool) -> list[Result]:
    env, step = _playing(lab, compiled)
    (timing,) = lab.time(step)
    return [result("steps", "steps/s", timing.rates, env.market, timing)]


def _playing(lab: Lab, compiled: bool, **how: Any) -> tuple[TradingEnv, Callable[[], None]]:
    """One market, open, and what takes a step in it; an episode that ends is reset."""
    with lab.opening(1):
        env = TradingEnv(lab.config, seed=0, device=lab.device, compile=compiled, **how)
        env.reset()
    turn = itertools.cycle(drawn_actions(lab.config, 1).flatten().numpy())

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(next(turn))
        if terminated or truncated:
            env.reset()

    return env, step


def few(lab: Lab) -> list[Result]:
    """`PyVecTradingEnv.step_all` of 8 markets, numpy in and out; they are the default market whatever the preset."""
    env, config = lab.vector(), MarketConfig()
    turn = itertools.cycle(drawn_actions(config, VECTOR).numpy())
    (timing,) = lab.time(lambda: env.step_all(next(turn)))
    return [
        Result(
            measure="steps",
            unit="market-steps/s",
            values=[VECTOR * rate for rate in timing.rates],
            config=config,
            markets=VECTOR,
            compiled=lab.settings.compile,
            noise=noise(timing),
        )
    ]


def many(lab: Lab) -> list[Result]:
    """`Market.step` of a large batch."""
    market = lab.market(lab.config, lab.settings.markets)
    (timing,) = lab.time(lab.stepping(market))
    return [_market_steps(timing, market, market.num_envs)]


def collector(lab: Lab) -> list[Result]:
    """The batch through TorchRL's collector with its random policy, 32 steps at a time, in turn with `Market.step` alone."""
    from torchrl.collectors import Collector
    from torchrl.envs.utils import RandomPolicy

    from torchgym.envs.torchrl import MarketEnv

    market = lab.market(lab.config, lab.settings.markets)
    env = MarketEnv(lab.config, market.num_envs, device=lab.device)
    env.market = market  # opened and compiled already
    frames, step = _COLLECTED * market.num_envs, lab.stepping(market)
    gatherer = Collector(env, RandomPolicy(), frames_per_batch=frames, total_frames=-1)
    try:
        batches = iter(gatherer)
        collected, plain = lab.time(lambda: next(batches), lambda: [step() for _ in range(_COLLECTED)])
    finally:
        gatherer.shutdown()
    return _steps_and_share(collected, plain, market, frames)


def staggered(lab: Lab) -> list[Result]:
    """Short episodes, some of which end in every tick and are opened anew at once, in turn with `Market.step` alone."""
    config = lab.config.replace(max_ticks=lab.settings.episode)
    market, plain = lab.market(config, lab.settings.markets), lab.market(lab.config, lab.settings.markets)
    step = lab.stepping(market)

    def play(ticks: int) -> None:
        for _ in range(ticks):
            now = step()
            ended = now.terminated | now.truncated
            if bool(ended.any()):
                market.reset(mask=ended)

    stagger(market, lambda done, total: lab.tell("staggering", done, total))
    play(_SETTLING)
    length, alone = config.max_ticks, lab.stepping(plain)  # of whole episodes, as openings come together
    played, stepped = lab.time(lambda: play(length), lambda: [alone() for _ in range(length)])
    return _steps_and_share(played, stepped, market, length * market.num_envs)


def stagger(market: Market, tell: Callable[[int, int], None] | None = None) -> None:
    """Open all markets and let each get further into its episode than the one before, evenly from its first tick to its last.

    Args:
        market: whose markets are staggered.
        tell: called with the ticks done and the ticks in all, before the first one too.
    """
    rows, length = market.num_envs, market.config.max_ticks
    phase = torch.arange(rows, device=market.device) * length // rows
    market.reset()
    for tick in range(length):
        if tell:
            tell(tick, length - 1)
        if tick < length - 1:
            market.step(mask=phase > tick)


def copying(lab: Lab) -> list[Result]:
    """A step of the batch in turn with one copy of its whole state, which a step cannot be faster than by much."""
    market = lab.market(lab.config, lab.settings.markets)
    stepped, copied = lab.time(lab.stepping(market), lambda: clone(market.state))
    ratios = [step / copy for step, copy in zip(stepped.costs, copied.costs, strict=True)]
    ratio = result("step over copy", "copies", ratios, market, stepped, copied)
    return [ratio, cost(copied, market, "copy of the state")]


def pictures(lab: Lab) -> list[Result]:
    """Milliseconds for a step of one market and its frame, `render_mode="rgb_array"`; once the picture shows all it can hold."""
    env, step = _playing(lab, lab.settings.compile, render_mode="rgb_array")
    for _ in range(min(KEEP, lab.config.max_ticks // 2)):
        step()
    (timing,) = lab.time(lambda: (step(), env.render()))
    walls = [1e3 * cost for cost in timing.costs]
    return [
        result("step and frame", "ms", walls, env.market, timing),
        result("processor time of them", "ms", [timing.busy * wall for wall in walls], env.market, timing),
    ]


def growing_batches(lab: Lab) -> list[Result]:
    """Cost of a tick per market as the batch grows, and the largest over the smallest."""
    results, timings = _costs(lab, [lab.market(lab.config, count) for count in lab.settings.batches])
    costs = [entry.median for entry in results]
    return [*results, _ratio("largest over smallest", max(costs) / min(costs), results[-1], timings)]


def growing_crowds(lab: Lab) -> list[Result]:
    """Cost of a tick per market as its traders grow, and by how much more than they: the worst of the legs."""
    sizes = lab.settings.traders
    markets = [lab.market(scaled(lab.config, size), max(1, _PRODUCT // size)) for size in sizes]
    results, timings = _costs(lab, markets)
    legs = [
        (after.median / before.median) / (more / less)
        for (before, less), (after, more) in itertools.pairwise(zip(results, sizes, strict=True))
    ]
    return [*results, _ratio("growth over growth of traders", max(legs, default=1.0), results[-1], timings)]


def crowd(lab: Lab) -> list[Result]:
    """Ticks per second of one market with very many traders, or with the most that its bounds accept."""
    config, refusal = largest(lab.config, lab.settings.crowd)
    market = lab.market(config, 1)
    (timing,) = lab.time(lab.stepping(market))
    ticks = result("ticks", "ticks/s", timing.rates, market, timing)
    return [replace(ticks, note=refusal, proves=not refusal)]


def _market_steps(timing: Timing, market: Market, steps: int) -> Result:
    """Market-steps a second, where a piece of work does so many."""
    return result("steps", "market-steps/s", [steps * rate for rate in timing.rates], market, timing)


def _steps_and_share(timing: Timing, plain: Timing, market: Market, steps: int) -> list[Result]:
    """Market-steps a second, and their share of what the batch alone does, window by window."""
    shares = [rate / alone for rate, alone in zip(timing.rates, plain.rates, strict=True)]
    return [_market_steps(timing, market, steps), result("share", "of Market.step", shares, market, timing, plain)]


def _costs(lab: Lab, markets: Sequence[Market]) -> tuple[list[Result], list[Timing]]:
    timings = lab.time(*(lab.stepping(market) for market in markets))
    return [cost(timing, market) for timing, market in zip(timings, markets, strict=True)], timings


def _ratio(measure: str, value: float, last: Result, timings: Sequence[Timing]) -> Result:
    """A ratio of medians, told of the last size."""
    return replace(last, measure=measure, unit="times", values=[value], noise=noise(*timings))


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


def at_least(value: float) -> Target:
    """A bound from below, for what should be large."""
    return Target(value, at_least=True)


def at_most(value: float) -> Target:
    """A bound from above, for what should be small."""
    return Target(value, at_least=False)


@dataclass(frozen=True)
class Case:
    """What is measured, by which function, and by name the targets of some of its measures; the others are only told."""

    name: str
    measure: Callable[[Lab], list[Result]]
    targets: Mapping[str, Target] = field(default_factory=dict)
    alone: bool = False  # with one thread; otherwise with all that may be used
    cpu_only: bool = False  # what is measured has no device


# The targets are those of the default sizes, on two processors of a small machine.
CASES: dict[int, Case] = {
    1: Case("TradingEnv", one_compiled, {"steps": at_least(15_000)}, alone=True),
    2: Case("TradingEnv, eager", one_eager, {"steps": at_least(800)}, alone=True),
    3: Case("PyVecTradingEnv", few, {"steps": at_least(80_000)}, alone=True, cpu_only=True),
    4: Case("Market", many, {"steps": at_least(300_000)}),
    5: Case("TorchRL's Collector", collector, {"share": at_least(0.70)}),
    6: Case("markets grow", growing_batches, {"largest over smallest": at_most(1.25)}),
    7: Case("traders grow", growing_crowds, {"growth over growth of traders": at_most(1.0)}),
    8: Case("a crowd in one market", crowd, {"ticks": at_least(500)}),
    9: Case("staggered episodes", staggered, {"share": at_least(0.75)}),
    10: Case("first step", fresh.start, {"cold": at_most(60.0), "warm": at_most(5.0)}),
    11: Case("memory", fresh.memory, {"growth": at_most(1.0)}),
    12: Case("the floor", copying, {"step over copy": at_most(4.0)}),
    13: Case("pictures", pictures, {"step and frame": at_most(15.0)}, alone=True),
}


def bench(settings: Settings, *, command: str = "", progress: Tell | None = None) -> Iterator[Row]:
    """Measure speed, case by case; rows come as soon as their case is done.

    A figure is the median over timed windows of equal work. Whether a target is met is told only for standard settings.

    Args:
        settings: what to measure.
        command: to be noted in the rows, so that others can repeat it.
        progress: called with the case and what it is doing, how much of it is done and how much there is; before it begins, too.

    Raises:
        ValueError: for settings that cannot be measured.
        ChildProcessError: when a measurement in a process of its own fails.
    """
    settings.check()
    lab = Lab(settings)
    common: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": machine.commit(),
        "device": machine.device_name(lab.device),
        "torch": torch.__version__,
        "dtype": machine.dtypes(lab.config, lab.device),
        "command": command,
    }
    for number in settings.cases:
        case = CASES[number]
        if case.cpu_only and lab.device.type != "cpu":
            continue
        if progress:
            lab.tell = _telling(progress, f"case {number}, {case.name}: ")
        threads = 1 if case.alone else settings.threads
        with machine.threads(threads):
            results = case.measure(lab)
        for entry in results:
            yield _row(settings, number, entry, common | {"threads": entry.threads or threads})


def _telling(progress: Tell, prefix: str) -> Tell:
    return lambda stage, done, total: progress(prefix + stage, done, total)


def _row(settings: Settings, number: int, entry: Result, common: Mapping[str, Any]) -> Row:
    """A result beside its target; whether that is met is None where this measurement cannot tell."""
    target, met = CASES[number].targets.get(entry.measure), None
    if target and settings.standard:
        met = target.met(entry.median)
        met = None if met and not entry.proves else met
    return Row(
        **common,
        preset=settings.preset if entry.config != MarketConfig() else "default",
        markets=entry.markets,
        traders=structure(entry.config).owners,
        mode="compiled" if entry.compiled else "eager",
        case=number,
        measure=entry.measure,
        unit=entry.unit,
        median=entry.median,
        low=min(entry.values),
        high=max(entry.values),
        target=str(target or ""),
        met=met,
        noise=entry.noise,
        note=entry.note,
    )
