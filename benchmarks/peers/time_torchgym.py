"""torchgym itself: one market through TradingEnv, 1,024 through Market.step, and 1,024 of random traders."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from dataclasses import replace

import torch
from timing import measure, parser, report

import torchgym as tg
from torchgym.config import structure

BATCH = 1_024
CONTAINS = (
    "the learner's order and those of the background traders who act in the tick ({traders} in the market), who react to price,"
    " book and news, meet in a book and an auction; exact accounts, 54 features and the reward returned"
)

RANDOM = (
    "each of {count} noise traders sends an order at random in every tick, and all meet in an auction of one price, with one"
    " maker and the learner; exact accounts, which cannot be left out, 20 features and the reward returned"
)
COUNT = 256


def random_traders() -> tg.MarketConfig:
    """Traders who look at nothing, in an auction: what KineticSim (arXiv 2606.21784) is timed with, in torchgym's terms."""
    config = tg.preset("zero_intelligence", execution="auction", features="ladder20")
    own = config.population
    population = replace(own, noise=replace(own.noise, count=COUNT), maker=replace(own.maker, count=1))
    return config.replace(population=population)


def single(config: tg.MarketConfig, compile: bool) -> Callable[[], None]:
    env = tg.TradingEnv(config, compile=compile)
    actions = itertools.cycle(torch.randint(0, 3, (1_000,), generator=torch.Generator().manual_seed(0)).tolist())
    env.reset(seed=0)

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(next(actions))
        if terminated or truncated:
            env.reset()

    return step


def batch(config: tg.MarketConfig, compile: bool) -> Callable[[], object]:
    """Markets go on past the end of their episodes, as `Market.step` lets them."""
    market = tg.Market(config, BATCH, seed=0, compile=compile)
    actions = itertools.cycle(torch.randint(0, 3, (64, BATCH), generator=torch.Generator().manual_seed(0)))
    market.reset()
    return lambda: market.step(next(actions))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--preset", default="default")
    arguments.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    config = tg.preset(options.preset)
    traders, mode = structure(config).owners, "compiled" if options.compile else "eager"
    told = {
        "peer": "torchgym",
        "version": tg.__version__,
        "traders": traders,
        "contains": CONTAINS.format(traders=traders),
        "torch": torch.__version__,
    }
    report(measure(single(config, options.compile), options), options, case=f"TradingEnv, {mode}", **told)
    report(
        measure(batch(config, options.compile), options), options, case=f"Market.step, {mode}", markets=BATCH, **told
    )
    config = random_traders()
    told |= {"traders": structure(config).owners, "contains": RANDOM.format(count=COUNT)}
    case = f"Market.step, {COUNT} random traders, {mode}"
    report(measure(batch(config, options.compile), options), options, case=case, markets=BATCH, **told)


if __name__ == "__main__":
    main()
