"""What policies make of episodes: playing them, and the curves and costs that come of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.engine import Market, StepResult
from torchgym.lab.policies import MakePolicy
from torchgym.progress import Count, silent


@dataclass(frozen=True)
class Episodes:
    """E episodes of one policy, T decisions each; float64, currency, on the CPU.

    After ruin an episode stands still: its curves stay where they were, nothing more is earned or paid.
    """

    equity: Tensor  # [E, T + 1], from before the first decision on
    worth: Tensor  # [E, T + 1], of the position, marked, signed, summed over symbols
    traded: Tensor  # [E, T], amount traded, both sides positive
    value: Tensor  # [E, T], earned as value moved
    convergence: Tensor  # [E, T], earned as the price moved against value
    spread: Tensor  # [E, T], paid: half the quoted spread of every share
    impact: Tensor  # [E, T], paid beyond that, for shares deeper in the book
    fees: Tensor  # [E, T], paid: commission
    borrow: Tensor  # [E, T], paid for short positions
    marking: Tensor  # [E, T], what marking at liquidation value takes off; 0 when equity is marked at the mid
    reward: Tensor  # [E], sum of the rewards

    @property
    def profit(self) -> Tensor:
        """Final less initial equity, [E]."""
        return self.equity[:, -1] - self.equity[:, 0]

    def attribution(self) -> dict[str, Tensor]:
        """Where the profit came from, [E] each, costs negative; they add up to it.

        A position q held from a decision to the next earns q × the move of the mid: q × the move of value, and the rest as the
        price comes nearer to value or leaves it. Trading costs what was paid beyond the mid that was shown before (the
        implementation shortfall of Perold 1988): half the spread, and the impact of walking the book; commission and borrow come
        on top.
        """
        gains = {"value": self.value, "convergence": self.convergence}
        costs = {"spread": self.spread, "impact": self.impact, "fees": self.fees, "borrow": self.borrow}
        parts = gains | {name: -paid for name, paid in costs.items()}
        if bool(self.marking.any()):
            parts["marking"] = -self.marking
        return {name: part.sum(-1) for name, part in parts.items()}


def play(market: Market, make_policy: MakePolicy, seeds: Tensor, progress: Count = silent) -> Episodes:
    """One episode of each seed, to its end.

    Args:
        market: N markets; what they do now is given up.
        make_policy: of what plays.
        seeds: [N] int64, market i plays the episode of seed i. The episodes' bits do not depend on the batch.
        progress: called after every decision.
    """
    config = market.config
    policy = make_policy(config, seeds.to(market.device))
    result = market.reset(seeds=seeds)
    decisions = config.max_ticks // config.ticks_per_action
    before = _account(market, result)
    alive = ~result.terminated
    columns: dict[str, list[Tensor]] = {"equity": [before["equity"]], "worth": [before["worth"]]}
    reward = torch.zeros_like(result.reward)
    for index in range(decisions):
        result = market.step(policy(result))
        after = _account(market, result)
        for name, column in _explain(config, result, before, after).items():
            standing = columns[name][-1] if name in ("equity", "worth") else torch.zeros_like(column)
            columns.setdefault(name, []).append(torch.where(alive, column, standing))
        reward += torch.where(alive, result.reward, 0.0)
        alive = alive & ~result.terminated
        before = after
        progress(index + 1, decisions)
    curves = {name: torch.stack(parts, dim=1).cpu() for name, parts in columns.items()}
    return Episodes(**curves, reward=reward.cpu())


def _account(market: Market, result: StepResult) -> dict[str, Tensor]:
    """What a decision is judged by: prices and positions [N, S], money [N]."""
    prices = market.read("mid", "bid", "ask", "value")
    position = result.info["position"].to(torch.float64)
    money = {name: result.info[name] for name in ("cash", "fees", "borrow", "equity")}
    return {**prices, **money, "position": position, "worth": (position * prices["mid"]).sum(-1)}


def _explain(
    config: MarketConfig, result: StepResult, before: dict[str, Tensor], after: dict[str, Tensor]
) -> dict[str, Tensor]:
    """What came of one decision, [N] each: the fields of `Episodes`."""
    change = {name: after[name] - before[name] for name in ("cash", "fees", "borrow", "mid", "value")}
    filled, position = result.info["filled"].to(torch.float64), after["position"]
    paid = -change["cash"] - change["fees"] - change["borrow"]
    spread = (filled.abs() * (before["ask"] - before["bid"])).sum(-1) * 0.5
    marking = torch.zeros_like(spread)
    if config.mark == "liquidation":
        earlier, later = (now["worth"] + now["cash"] - now["equity"] for now in (before, after))
        marking = later - earlier
    return {
        "equity": after["equity"],
        "worth": after["worth"],
        "traded": result.info["turnover"],
        "value": (position * change["value"]).sum(-1),
        "convergence": (position * (change["mid"] - change["value"])).sum(-1),
        "spread": spread,
        "impact": paid - (filled * before["mid"]).sum(-1) - spread,
        "fees": change["fees"],
        "borrow": change["borrow"],
        "marking": marking,
    }
