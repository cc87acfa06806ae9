"""How long the signs of order flow are remembered, by the exponent of the parent orders' law.

    python benchmarks/sign_memory.py      # ten minutes on one CPU core

With parents of so many pieces that P(more than n) ~ n^-a, theory has a sign autocorrelation ~ lag^-(a - 1). Measured are the
signs of two flows, of all orders that came to trade and of the meta-order traders' trades alone; by two clocks, of ticks and of
events: the ticks in which the flow has a sign. The makers' weights are those of the default market, fitted for its own exponent.

Source: Lillo, Mike and Farmer (2005), Theory for long memory in supply and demand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rows import add, command, tell
from torch import Tensor

import torchgym as tg
from torchgym.config import with_numbers
from torchgym.engine import Market, consecutive_seeds
from torchgym.lab.realism import BURN_IN, statistics

RESULTS = Path(__file__).parent / "results" / "sign_memory.csv"
PATH = "population.meta_order.exponent"
LAST = 500  # lags
SPANS = (16, 64, 390)  # ticks of the variance ratios


@dataclass
class Options:
    """Which exponents, and how much of each."""

    exponents: tuple[float, ...] = (1.3, 1.5, 1.7)
    markets: int = 64
    ticks: int = 16_384
    seed: int = 930_000
    results: Path = RESULTS


def main(options: Options) -> None:
    for exponent in options.exponents:
        config = with_numbers(tg.preset("default", max_ticks=100_000), {PATH: exponent})
        flows, returns = recorded(config, options)
        ratios = {f"variance_ratio_{span}": statistics.variance_ratio(returns, span).median().item() for span in SPANS}
        for flow, signs in flows.items():
            for clock in ("ticks", "events"):
                row = {"exponent": exponent, "flow": flow, "clock": clock}
                row |= memory(signs if clock == "ticks" else events(signs)) | ratios
                row |= {"markets": options.markets, "ticks": options.ticks, "seed": options.seed, "command": command()}
                tell(str(row))
                add(options.results, list(row), row)


def recorded(config: tg.MarketConfig, options: Options) -> tuple[dict[str, Tensor], Tensor]:
    """Signs of either flow, [N, T], and returns of the mid."""
    market = Market(config, options.markets, compile=True)
    market.reset(consecutive_seeds(options.seed, options.markets))
    market.run(BURN_IN)
    place = market.structure.families["meta_order"]

    def held() -> Tensor:
        return market.live.accounts.shares[:, 0, place].sum(-1)

    everybody, parents, mids, before = [], [], [], held()
    for _ in range(options.ticks):
        path, now = market.run(1, record=("buys", "sells", "mid")), held()
        everybody.append((path["buys"] - path["sells"])[:, 0, 0])
        parents.append(now - before)
        mids.append(path["mid"][:, 0, 0])
        before = now
    flows = {"all": everybody, "meta_orders": parents}
    signs = {name: torch.sign(torch.stack(flow, 1).double()) for name, flow in flows.items()}
    return signs, torch.stack(mids, 1).double().log().diff(dim=1)


def events(signs: Tensor) -> Tensor:
    """Those that are not zero, [N, E]: as many of each market as of the one that has fewest."""
    each = [row[row != 0] for row in signs]
    fewest = min(map(len, each))
    return torch.stack([row[:fewest] for row in each])


def memory(signs: Tensor) -> dict[str, float]:
    """Medians over markets."""
    correlation = statistics.autocorrelation(signs, LAST)
    near_100 = correlation[:, 91:111].mean(-1)
    noise = 2.0 / math.sqrt(signs.shape[1])
    return {
        "first": correlation[:, 1].median().item(),
        "at_100": near_100.median().item(),
        "at_100_above_noise": (near_100 > noise).double().mean().item(),
        "at_500": correlation[:, 401:501].mean(-1).median().item(),
        "fit_to_100": statistics.decay_fit(correlation, 1, 100).exponent.median().item(),
        "fit_to_500": statistics.decay_fit(correlation, 1, LAST).exponent.median().item(),
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
