"""pams: one market of 100 traders, of whom one sends an order per step (the default), or all do."""

from __future__ import annotations

import argparse
import contextlib
import random
import time
from typing import Any, ClassVar

from pams.events import EventABC, EventHook
from pams.runners import SequentialRunner
from pams.version import __version__
from timing import Window, parser, report

TRADERS = 100
FILL = (
    200  # steps before anything is timed: as long as the longest-lived orders, so that the book is at its usual depth
)
CONTAINS = (
    "{who} 100 fundamental, chartist and noise traders {verb} a limit order for one share, which meets a continuous double"
    " auction and expires after 100 to 200 steps (about {resting} rest); pure Python, no learner, no observation, no reward"
)


class Done(Exception):
    """Enough has been timed."""


class Clock(EventABC):
    """Called at the end of every step: cuts the time after the first steps into windows, and ends the run after the last one."""

    seconds: ClassVar[float]
    repeats: ClassVar[int]
    windows: ClassVar[list[Window]]

    def hook_registration(self) -> list[EventHook]:
        return [EventHook(event=self, hook_type="market", is_before=False)]

    def hooked_after_step_for_market(self, simulator: Any, market: Any) -> None:
        if market.get_time() <= FILL:
            self.begin()
            return
        self.steps += 1
        wall = time.perf_counter() - self.wall
        if wall >= self.seconds:
            self.windows.append(Window(self.steps, wall, time.process_time() - self.cpu))
            if len(self.windows) == self.repeats:
                raise Done
            self.begin()

    def begin(self) -> None:
        self.steps, self.cpu, self.wall = 0, time.process_time(), time.perf_counter()


def settings(orders: int) -> dict[str, Any]:
    """The market and traders of the peer's first example, in a session that does not end by itself."""
    session = {
        "sessionName": 0,
        "iterationSteps": 10**9,
        "withOrderPlacement": True,
        "withOrderExecution": True,
        "withPrint": False,
        "maxNormalOrders": orders,
        "maxHighFrequencyOrders": 0,
        "events": ["Clock"],
    }
    return {
        "simulation": {"markets": ["Market"], "agents": ["Traders"], "sessions": [session]},
        "Clock": {"class": "Clock"},
        "Market": {"class": "Market", "tickSize": 0.00001, "marketPrice": 300.0},
        "Traders": {
            "class": "FCNAgent",
            "numAgents": TRADERS,
            "markets": ["Market"],
            "assetVolume": 50,
            "cashAmount": 10_000,
            "fundamentalWeight": {"expon": [1.0]},
            "chartWeight": {"expon": [0.0]},
            "noiseWeight": {"expon": [1.0]},
            "meanReversionTime": {"uniform": [50, 100]},
            "noiseScale": 0.001,
            "timeWindowSize": [100, 200],
            "orderMargin": [0.0, 0.1],
        },
    }


def timed(orders: int, options: argparse.Namespace) -> list[Window]:
    Clock.seconds, Clock.repeats, Clock.windows = options.seconds, options.repeats, []
    runner = SequentialRunner(settings(orders), prng=random.Random(0))
    runner.class_register(Clock)
    with contextlib.suppress(Done):
        runner.main()
    return Clock.windows


def main() -> None:
    options = parser(__doc__).parse_args()
    told = {"peer": "pams", "version": __version__, "traders": TRADERS}
    one = CONTAINS.format(who="one, drawn at random, of", verb="sends", resting="40")
    report(timed(1, options), options, case="one order per step, its default", contains=one, **told)
    every = CONTAINS.format(who="each of", verb="may send", resting="4,000")
    report(timed(TRADERS, options), options, case="maxNormalOrders=100", contains=every, **told)


if __name__ == "__main__":
    main()
