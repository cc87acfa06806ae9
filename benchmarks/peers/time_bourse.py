"""bourse: its Rust order book under random orders of 100 traders, written as arrays or by Python objects."""

from __future__ import annotations

import importlib.metadata

import numpy as np
from bourse.core import StepEnv, StepEnvNumpy
from bourse.step_sim.agents import NumpyRandomAgents, RandomAgent
from timing import measure, parser, report

TRADERS = 100
TICKS, VOLUMES = (10, 100), (10, 50)
STEP_NANOSECONDS = 100_000
BOOK = "are shuffled and matched in a Rust order book, whose ten best levels are recorded; no learner, no observation, no reward"
ARRAYS = (
    "100 orders of random side, price and size, drawn as numpy arrays without a look at the market and never cancelled,"
    f" {BOOK}"
)
OBJECTS = (
    f"100 Python objects each place an order of random side, price and size or cancel their last one, and these {BOOK}"
)


class Arrays:
    """Every trader sends an order in every step; all orders ever sent are kept, so a new market is begun now and then."""

    def start(self) -> None:
        self.rng = np.random.default_rng(0)
        self.env = StepEnvNumpy(0, 0, 1, STEP_NANOSECONDS)
        self.traders = NumpyRandomAgents(TRADERS, TICKS, VOLUMES, 1)

    def step(self) -> None:
        self.env.submit_instructions(self.traders.update(self.rng, self.env.level_2_data()))
        self.env.step()


class Objects:
    """Every trader acts in every step: places an order, or cancels the one that rests."""

    def start(self) -> None:
        self.rng = np.random.default_rng(0)
        self.env = StepEnv(0, 0, 1, STEP_NANOSECONDS)
        self.traders = [RandomAgent(index, 1.0, TICKS, VOLUMES, 1) for index in range(TRADERS)]

    def step(self) -> None:
        for trader in self.traders:
            trader.update(self.rng, self.env)
        self.env.step()


def main() -> None:
    options = parser(__doc__).parse_args()
    told = {"peer": "bourse", "version": importlib.metadata.version("bourse"), "traders": TRADERS}
    arrays = Arrays()
    windows = measure(arrays.step, options, before_each=arrays.start)
    report(windows, options, case="arrays", contains=ARRAYS, **told)
    report(windows, options, case="arrays", contains=ARRAYS, per_step=TRADERS, unit="orders/s", **told)
    del arrays
    objects = Objects()
    report(
        measure(objects.step, options, before_each=objects.start),
        options,
        case="Python objects",
        contains=OBJECTS,
        **told,
    )


if __name__ == "__main__":
    main()
