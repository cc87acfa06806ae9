"""What a place in the queue is worth: two learners let the same order rest at the same price, one a few ticks before the other.

    python benchmarks/queue_value.py      # three minutes on two CPU cores

In the default market with `priority="time"`. The first learner joins the best bid with ten shares; the second joins the same
price three ticks later, so that all who came between stand before it. Both then wait, and their fills are compared with the mid
30 ticks after each: that is adverse selection where it is negative. Only markets count in which both orders stood at the same
price. Learners swap roles in every other market, since one of them is always first in turn. Fees are left out: they are the same
for both, and known.
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
from torchgym.lab.performance import TEST_SEED
from torchgym.sim import resting
from torchgym.sim.actions import DEEPEST

RESULTS = Path(__file__).parent / "results" / "queue_value.csv"
KEEP, NONE = -1.0, DEEPEST
LATER = 3  # ticks


@dataclass
class Options:
    """How many markets, how long, and where the mid is looked at."""

    markets: int = 32_768
    ticks: int = 60
    horizon: int = 30
    batch: int = 1_024


def main(options: Options) -> None:
    parts = []
    for first in range(0, options.markets, options.batch):
        seeds = consecutive_seeds(TEST_SEED + first, options.batch)
        parts.append(play(options, seeds))
        tell(f"{first + options.batch} of {options.markets} markets")
    alike, early, late = (torch.cat(column) for column in zip(*parts, strict=True))
    rows = [
        {"place": name, **figures(values[alike])}
        for name, values in (("front", early), ("three ticks behind", late), ("difference", early - late))
    ]
    for row in rows:
        print(row)
        told = {**row, "markets": int(alike.sum()), "horizon": options.horizon, "command": command()}
        add(RESULTS, list(told), told)


def play(options: Options, seeds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where both orders stood alike [N] bool; of the early and of the late order value in points x shares, and shares [N, 2]."""
    config = tg.preset("default", quotes=1, action="depths", priority="time", num_learners=2, max_ticks=1_000)
    count = len(seeds)
    market = Market(config, count, compile=True)
    market.reset(seeds=seeds)
    swapped = (torch.arange(count) % 2).bool()  # the second learner is early there
    early = torch.stack([~swapped, swapped], -1)

    def act(who: Tensor, depth: Tensor) -> None:
        action = torch.full((count, 2, 2), KEEP, dtype=torch.float64)
        action[..., 1] = NONE
        action[..., 0] = torch.where(who, depth.unsqueeze(-1).clamp(0.0, DEEPEST - 1), KEEP)
        before.append(market.live.market_data.mids_x2[:, 0, -1].clone())
        market.step(action)
        rested = market.live.ledger.rested
        assert rested is not None
        filled.append(rested.filled[:, 0].unflatten(-1, (2, 2))[..., 0].clone())
        paid.append(rested.paid[:, 0].unflatten(-1, (2, 2))[..., 0].clone())

    before: list[Tensor] = []
    filled: list[Tensor] = []
    paid: list[Tensor] = []
    nobody = torch.zeros_like(early)
    act(early, (0.5 * market.live.market_data.mids_x2[:, 0, -1] - market.live.market_data.bid[:, 0]).to(torch.float64))
    book = market.live.book
    price = torch.where(early, resting.places(market.structure, book.price)[:, 0, :, 0, 0], 0).sum(-1)
    for _ in range(LATER - 1):
        act(nobody, torch.zeros(count, dtype=torch.float64))
    # The same price again, as far as it still lies at the mid or below.
    away = 0.5 * market.live.market_data.mids_x2[:, 0, -1] - price
    act(~early, away)
    prices, sizes = (
        resting.places(market.structure, part)[:, 0, :, 0, 0]
        for part in (market.live.book.price, market.live.book.size)
    )
    alike = (prices == price.unsqueeze(-1)).all(-1) & (sizes == config.order_size).all(-1)
    for _ in range(options.ticks + options.horizon):
        act(nobody, torch.zeros(count, dtype=torch.float64))
    mids = torch.stack([*before, market.live.market_data.mids_x2[:, 0, -1]])
    shares, money = (torch.stack(values)[LATER + 1 : LATER + 1 + options.ticks] for values in (filled, paid))
    after = torch.arange(LATER + 1, LATER + 1 + options.ticks) + 1 + options.horizon
    value = 0.5 * (shares * mids[after.clamp(max=len(mids) - 1)].unsqueeze(-1)).to(torch.float64) - money.to(
        torch.float64
    )
    told = torch.stack([value.sum(0), shares.sum(0).to(torch.float64)], -1)
    return alike, told[early], told[~early]


def figures(told: Tensor) -> dict[str, float]:
    """Means over markets [N, 2] of value and shares, with their standard errors."""
    value, shares = told.unbind(-1)
    error = float(value.std() / len(value) ** 0.5)
    return {
        "value_points_times_shares": round(float(value.mean()), 2),
        "standard_error": round(error, 2),
        "t": round(float(value.mean()) / error, 1),
        "shares_filled": round(float(shares.mean()), 3),
        "their_error": round(float(shares.std() / len(shares) ** 0.5), 3),
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
