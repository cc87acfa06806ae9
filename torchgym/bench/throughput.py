"""Cases of steps per second: one market, a few, a large batch, and what is around it.

All of them step warmed-up markets with random actions that were drawn beforehand, and do not count the time to compile. A step is
a whole one: all traders, all features, the reward.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch

from torchgym.bench.found import Found, cost, rate, rate_and_share
from torchgym.bench.lab import VECTOR, Lab, drawn_actions
from torchgym.bench.timing import noise
from torchgym.config import MarketConfig
from torchgym.engine import Market
from torchgym.envs.gymnasium import TradingEnv
from torchgym.sim.state import clone

_COLLECTED = 32  # steps that a collector hands over at once
_SETTLING = 3  # steps of staggered episodes before the clock runs


def one_compiled(lab: Lab) -> list[Found]:
    """`TradingEnv.step`, numpy in and out; an episode that ends is reset within the time."""
    return _one(lab, lab.settings.compile)


def one_eager(lab: Lab) -> list[Found]:
    """The same without a compiler, as it runs right after the import."""
    return _one(lab, False)


def _one(lab: Lab, compiled: bool) -> list[Found]:
    with lab.opening(1):
        env = TradingEnv(lab.config, seed=0, device=lab.device, compile=compiled)
        env.reset()
    turn = itertools.cycle(drawn_actions(lab.config, 1).flatten().numpy())

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(next(turn))
        if terminated or truncated:
            env.reset()

    (timing,) = lab.time(step)
    return [rate("steps", "steps/s", timing, env.market, 1)]


def few(lab: Lab) -> list[Found]:
    """`PyVecTradingEnv.step_all` of 8 markets, numpy in and out; they are the default market whatever the preset."""
    env, config = lab.vector(), MarketConfig()
    turn = itertools.cycle(drawn_actions(config, VECTOR).numpy())
    (timing,) = lab.time(lambda: env.step_all(next(turn)))
    return [
        Found(
            measure="steps",
            unit="market-steps/s",
            values=[VECTOR * value for value in timing.rates],
            config=config,
            markets=VECTOR,
            compiled=lab.settings.compile,
            noise=noise(timing),
        )
    ]


def many(lab: Lab) -> list[Found]:
    """`Market.step` of a large batch."""
    market = lab.market(lab.config, lab.settings.markets)
    (timing,) = lab.time(lab.stepping(market))
    return [rate("steps", "market-steps/s", timing, market, market.num_envs)]


def collector(lab: Lab) -> list[Found]:
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
    return rate_and_share(collected, plain, market, frames)


def staggered(lab: Lab) -> list[Found]:
    """Short episodes, some of which end in every tick and are opened anew at once, in turn with `Market.step` alone."""
    config = lab.config.replace(max_ticks=lab.settings.episode)
    market, plain = lab.market(config, lab.settings.markets), lab.market(lab.config, lab.settings.markets)
    step = lab.stepping(market)

    def play() -> None:
        result = step()
        ended = result.terminated | result.truncated
        if bool(ended.any()):
            market.reset(mask=ended)

    stagger(market, lambda done, total: lab.tell("staggering", done, total))
    for _ in range(_SETTLING):
        play()
    played, stepped = lab.time(play, lab.stepping(plain))
    return rate_and_share(played, stepped, market, market.num_envs)


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


def copying(lab: Lab) -> list[Found]:
    """A step of the batch in turn with one copy of its whole state, which a step cannot be faster than by much."""
    market = lab.market(lab.config, lab.settings.markets)
    stepped, copied = lab.time(lab.stepping(market), lambda: clone(market.state))
    ratio = Found(
        measure="step over copy",
        unit="copies",
        values=[mine / floor for mine, floor in zip(stepped.costs, copied.costs, strict=True)],
        config=market.config,
        markets=market.num_envs,
        compiled=market.compile,
        noise=noise(stepped, copied),
    )
    return [ratio, cost(copied, market, "copy of the state")]
