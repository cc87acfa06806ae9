"""How often prices fall and rise fast, and what of it comes back: what the presets say of crashes.

    python benchmarks/cascades.py      # five minutes on one CPU core

A fall of 3 % is one of 3 % from the highest mid of the 30 ticks before. What follows within 120 ticks belongs to it. `recovered`
is the part of the way from that high to the lowest mid of the next 30 ticks that is made good 120 ticks later: the median of all
falls with so much path behind them. Rises are the same with the sign turned. `spread` is the mean quoted spread, currency.
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
from torchgym.lab.realism import BURN_IN

RESULTS = Path(__file__).parent / "results" / "cascades.csv"
WITHIN, AFTER = 30, 120  # ticks
DAY = 390  # ticks


@dataclass
class Options:
    """Which presets, how many markets, and how long."""

    presets: tuple[str, ...] = ("default", "calm", "volatile", "illiquid", "crash")
    markets: int = 64
    ticks: int = 16_384
    seed: int = 930_000
    results: Path = RESULTS


def main(options: Options) -> None:
    about = {"markets": options.markets, "ticks": options.ticks, "seed": options.seed, "command": command()}
    for name in options.presets:
        market = Market(tg.preset(name), options.markets, compile=True)
        market.reset(consecutive_seeds(options.seed, options.markets))
        market.run(BURN_IN)
        path = market.run(options.ticks, record=("mid", "bid", "ask"))
        spread = (path["ask"] - path["bid"]).mean().item()
        for size in (0.02, 0.03, 0.05):
            for side, sign in (("fall", 1.0), ("rise", -1.0)):
                row = {"preset": name, "spread": spread, "side": side, "size": size}
                row |= {**figures(sign * path["mid"][..., 0].log(), size), **about}
                tell(str(row))
                add(options.results, list(row), row)


def figures(log_mid: Tensor, size: float) -> dict[str, float]:
    """How many falls there are, days per fall, and the median part that is made good; log_mid [N, T]."""
    high = log_mid.unfold(-1, WITHIN + 1, 1).amax(-1)
    fell = high - log_mid[:, WITHIN:] >= size
    count, made_good = 0, []
    for prices, highs, falls in zip(log_mid, high, fell, strict=True):
        ready = 0
        for at in falls.nonzero()[:, 0].tolist():
            if at < ready:
                continue
            count, ready = count + 1, at + AFTER
            after = prices[at + WITHIN :]
            if len(after) > AFTER:
                low = after[: WITHIN + 1].min()
                made_good.append(((after[AFTER] - low) / (highs[at] - low)).item())
    recovered = torch.tensor(made_good or [float("nan")], dtype=torch.float64).median().item()
    return {
        "count": count,
        "days_per_one": log_mid.numel() / DAY / count if count else float("inf"),
        "recovered": recovered,
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
