"""What makers earn per share: learners who quote by a script, and the market's own makers, in the same episodes.

    python benchmarks/makers.py      # ten minutes on one CPU core

In the default market with its default fees, and in one whose makers quote twice as many shares. One learner quotes ten shares a
side among the background's twelve makers. All are measured alike, from cash and shares: the profit marked at the mid, per share
traded, and what is kept of the spread, each trade valued at the mid 30 ticks later (Huang and Stoll 1996). The second has less
noise, since later moves of the price are left out.

A maker's trades of a tick are the change of its inventory, so a tick in which it both bought and sold counts the difference; an
auction has one price and never does both. Makers pay no fees. Their quotes stand at fixed multiples of the half-spread, the
first four nearest to the mid. `better` is how much better than the own limit the learner's orders traded, points a share: an
auction has one price for all. Errors are standard errors over episodes, of a ratio of means; differences are taken episode by
episode.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from rows import add, command, mean, tell
from torch import Tensor

import torchgym as tg
from torchgym.engine import Market, consecutive_seeds
from torchgym.lab.performance import TEST_SEED
from torchgym.lab.policy import MakePolicy
from torchgym.lab.quoting import avellaneda_stoikov, gueant_lehalle, symmetric
from torchgym.sim import resting

RESULTS = Path(__file__).parent / "results" / "makers.csv"
HORIZON = 30  # ticks
POLICIES: Mapping[str, MakePolicy] = {
    "symmetric, typical half-spread": symmetric(),
    "Avellaneda-Stoikov, gamma 2e-5": avellaneda_stoikov(2e-5),
    "Gueant-Lehalle, gamma 0.001": gueant_lehalle(0.001),
    **{f"symmetric, {depth} points": symmetric(float(depth)) for depth in (10, 15, 20, 30)},
}


@dataclass
class Args:
    episodes: int = 1_024
    """of a policy; whole batches"""
    markets: int = 512
    """of a batch"""
    sizes: tuple[float, ...] = (1.0, 2.0)
    """times the shares that the market's makers quote by default"""
    compile: bool = True
    results: Path = RESULTS


@dataclass
class Tally:
    """What traders [N, K] did in an episode, float64: points and shares."""

    start: Tensor  # wealth
    profit: Tensor
    kept: Tensor
    kept_shares: Tensor
    shares: Tensor
    waiting: deque[tuple[Tensor, Tensor]] = field(default_factory=deque)  # (money, shares) of the last ticks

    @classmethod
    def of(cls, wealth: Tensor) -> Tally:
        """Of traders who own this much."""
        profit, kept, kept_shares, shares = torch.zeros(4, *wealth.shape, dtype=wealth.dtype, device=wealth.device)
        return cls(wealth, profit, kept, kept_shares, shares)

    def trade(self, money: Tensor, shares: Tensor, mid: Tensor) -> None:
        """What came in in a tick, at whose end the mid [N, 1] stands."""
        self.shares += shares.abs()
        self.waiting.append((money, shares))
        if len(self.waiting) > HORIZON:
            money, shares = self.waiting.popleft()
            self.kept += money + shares * mid
            self.kept_shares += shares.abs()


def main(args: Args) -> None:
    """All policies, a row for each kind of trader."""
    torch.set_num_threads(1)
    config = tg.preset("default", quotes=1, action="depths", priority="time", order_size=10, max_ticks=1_000)
    args.results.unlink(missing_ok=True)
    for times in args.sizes:
        size = [times * bound for bound in config.population.maker.size]
        params = {f"population.maker.size.{at}": bound for at, bound in enumerate(size)}
        market = Market(config, args.markets, params=params, compile=args.compile)
        for name, make_policy in POLICIES.items():
            parts = []
            for first in range(0, args.episodes, args.markets):
                parts.append(play(market, make_policy, consecutive_seeds(TEST_SEED + first, args.markets)))
                tell(f"{name}: {first + args.markets} of {args.episodes} episodes")
            found = {
                who: [torch.cat(column) for column in zip(*(part[who] for part in parts), strict=True)]
                for who in parts[0]
            }
            for row in rows(found):
                told = {"threads": 1, "maker_sizes": times, "policy": name, **row}
                print(told)
                told |= {"episodes": args.episodes, "command": command()}
                add(args.results, list(told), told)


def play(market: Market, make_policy: MakePolicy, seeds: Tensor) -> dict[str, list[Tensor]]:
    """One episode of every market: for each kind of trader profit, shares, spread kept and its shares, and distance, [N] each.

    Of the learner also what was better than its limits.
    """
    makers, count, first = market.structure.families["maker"], market.structure.makers, market.structure.singles
    result = market.reset(seeds=seeds)
    policy = make_policy(market.config, seeds)

    def owned() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Cash and shares of the makers [N, M], of the learner [N, 1], and the mid [N, 1]."""
        state = market.live
        each = (state.accounts.cash[:, 0, makers], state.accounts.shares[:, 0, makers])
        own = (state.ledger.cash + state.ledger.fees, state.ledger.shares[:, 0])
        mid = state.market_data.mids_x2[:, 0, -1:].to(torch.float64) * 0.5
        return (*(part.to(torch.float64) for part in (*each, *own)), mid)  # type: ignore[return-value]

    before = owned()
    theirs, learner = (Tally.of(before[at] + before[at + 1] * before[4]) for at in (0, 2))
    distance = torch.zeros_like(theirs.profit)
    quoted, better = torch.zeros_like(learner.profit), torch.zeros_like(learner.profit)
    for _ in range(market.config.max_ticks):
        action = policy(result)
        quoted += action.mean(-1, keepdim=True)
        price = market.live.book.price[:, 0, first : first + 2 * count].to(torch.float64)
        distance += 0.5 * (price[:, count:] - price[:, :count])
        result = market.step(action)
        rested, limits = market.live.ledger.rested, resting.places(market.structure, market.live.book.price)
        assert rested is not None
        better += (rested.filled * limits.flatten(2) - rested.paid).sum(-1).to(torch.float64)
        now = owned()
        for at, tally in ((0, theirs), (2, learner)):
            tally.trade(now[at] - before[at], now[at + 1] - before[at + 1], now[4])
        before = now
    for at, tally in ((0, theirs), (2, learner)):
        tally.profit = before[at] + before[at + 1] * before[4] - tally.start
    fees = market.live.ledger.fees.to(torch.float64)
    ticks = market.config.max_ticks
    told = {
        "learner before fees": [*_columns(learner, quoted / ticks, slice(None)), better[:, 0]],
        "makers": _columns(theirs, distance / ticks, slice(None)),
    }
    for name, some in (("nearest", slice(0, 4)), ("middle", slice(4, 8)), ("farthest", slice(8, 12))):
        told[f"makers, {name} four"] = _columns(theirs, distance / ticks, some)
    profit, shares, kept, kept_shares, *others = told["learner before fees"]
    paid = fees[:, 0]
    kept_after = kept - paid * kept_shares / shares.clamp(min=1.0)
    told["learner after fees"] = [profit - paid, shares, kept_after, kept_shares, *others]
    return told


def _columns(tally: Tally, distance: Tensor, some: slice) -> list[Tensor]:
    sums = [each[:, some].sum(-1) for each in (tally.profit, tally.shares, tally.kept, tally.kept_shares)]
    return [*sums, distance[:, some].mean(-1)]


def per_share(money: Tensor, shares: Tensor) -> tuple[float, Tensor]:
    """Of two means over episodes, and what each episode adds to its error."""
    found = float(money.sum() / shares.sum())
    return found, (money - found * shares) / shares.mean()


def rows(found: Mapping[str, list[Tensor]]) -> list[dict[str, Any]]:
    """A row for each kind of trader; `less_` is its gain less that of all makers."""
    made = []
    for who, (profit, shares, kept, kept_shares, distance, *better) in found.items():
        row: dict[str, Any] = {"trader": who, "points_from_mid": float(distance.mean()), "shares": float(shares.mean())}
        for name, own, at in (("pnl", (profit, shares), 0), ("kept_30", (kept, kept_shares), 2)):
            value, parts = per_share(*own)
            all_makers, others = per_share(found["makers"][at], found["makers"][at + 1])
            row |= {f"{name}_per_share": value, f"{name}_error": mean(parts)[1]}
            row |= {f"{name}_less_makers": value - all_makers, f"{name}_less_error": mean(parts - others)[1]}
        row["better_per_share"] = per_share(better[0], shares)[0] if better else ""
        made.append(row)
    return made


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
