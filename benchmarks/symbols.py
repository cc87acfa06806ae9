"""How symbols of one market move together, over 1 to 390 ticks, and what those who trade several at once do.

    python benchmarks/symbols.py      # a quarter of an hour on one CPU core

`correlation` is the mean over pairs of symbols, `eigenvalue` the largest one's share of the variance: medians over markets, with
the 5 and 95 % quantiles of the first. `pairs` and `rotator` are the shares that these families trade, of all that is traded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rows import add, command, tell
from torch import Tensor

import torchgym as tg
from torchgym.engine import Market, consecutive_seeds
from torchgym.lab.realism import BURN_IN, Paths, measures

RESULTS = Path(__file__).parent / "results" / "symbols.csv"
SPANS = (1, 5, 15, 30, 60, 390)  # ticks
FAMILIES = ("pairs", "rotator")


@dataclass
class Options:
    """How many symbols, in how many markets each, and how long."""

    symbols: tuple[int, ...] = (2, 8, 30)
    markets: tuple[int, ...] = (64, 32, 16)
    ticks: int = 16_384
    watched: int = 2_000  # ticks of which the families' trades are counted
    seed: int = 930_000
    results: Path = RESULTS


def main(options: Options) -> None:
    for symbols, markets in zip(options.symbols, options.markets, strict=True):
        market = Market(tg.preset("default", num_symbols=symbols, max_ticks=100_000), markets, compile=True)
        market.reset(consecutive_seeds(options.seed, markets))
        market.run(BURN_IN)
        shares = traded(market, options.watched)
        paths = Paths.from_recording(
            market.run(options.ticks + 1, record=("mid", "bid", "ask", "volume", "buys", "sells", "value", "news")),
            burn_in=1,
        )
        for span in SPANS:
            correlation = measures.correlations(paths, span)
            mean = measures.mean_correlation(correlation)
            row = {
                "symbols": symbols,
                "span": span,
                "correlation": mean.median().item(),
                "low_5": mean.quantile(0.05).item(),
                "high_95": mean.quantile(0.95).item(),
                "eigenvalue": (torch.linalg.eigvalsh(correlation)[:, -1] / symbols).median().item(),
                **shares,
                **{"markets": markets, "ticks": options.ticks, "seed": options.seed, "command": command()},
            }
            tell(str(row))
            add(options.results, list(row), row)


def traded(market: Market, ticks: int) -> dict[str, float]:
    """What the families trade in so many ticks, of all shares that change hands."""
    places = market.structure.families

    def held() -> dict[str, Tensor]:
        return {name: market.live.accounts.shares[..., places[name]].clone() for name in FAMILIES if name in places}

    counts, volume, before = dict.fromkeys(FAMILIES, 0), 0, held()
    for _ in range(ticks):
        volume += int(market.run(1, record=("volume",))["volume"].sum())
        now = held()
        for name, shares in now.items():
            counts[name] += int((shares - before[name]).abs().sum())
        before = now
    return {name: count / volume for name, count in counts.items()}


if __name__ == "__main__":
    main(tyro.cli(Options))
