"""A trained agent as one more that tries: what it was trained on pays nobody who knows nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.engine import Compile, Market
from torchgym.lab.audit.verdicts import NO_GAIN, Requirement, Sample, informed
from torchgym.lab.policy import MakePolicy, apart

# How everybody's account is kept: nobody begins with shares, and profit is that of the account alone.
ACCOUNT = {"mark": "mid", "reward": "pnl", "starting_shares": 0}
# What an agent brings along: how it acts, how often, and what it sees. Orders, limits and fees are the audited market's.
_ITS_OWN = ("action", "quotes", "priority", "ticks_per_action", "features", "scaling", "information")


@dataclass(frozen=True)
class AgentAttempt:
    """An agent, and what must come of it. It decides as it was trained to until the end, and does not unwind before."""

    description: str
    requirement: Requirement
    make_policy: MakePolicy
    trained_on: MarketConfig

    @classmethod
    def of(cls, make_policy: MakePolicy, trained_on: MarketConfig) -> AgentAttempt:
        """Without information about value it must not gain; with it, no more than the exact value does."""
        blind = trained_on.information == "none"
        told = "value" if trained_on.information == "privileged" else "the public estimate"
        return cls(
            f"a trained agent that sees {'nothing' if blind else told} of value",
            NO_GAIN if blind else informed("exact_value"),
            make_policy,
            trained_on,
        )


def terms_of(config: MarketConfig, attempt: AgentAttempt, ticks: int) -> MarketConfig:
    """The audited market as the agent sees it and acts in it.

    Raises:
        ValueError: where its decisions do not divide the episode, or the market shows other numbers than it was trained on.
    """
    trained_on = attempt.trained_on
    every = trained_on.ticks_per_action
    if ticks % every:
        raise ValueError(f"the agent decides every {every} ticks: give ticks that are a multiple of it, got {ticks}")
    own = {name: getattr(trained_on, name) for name in _ITS_OWN}
    terms = config.fixed(max_ticks=ticks, **ACCOUNT, **own)
    if found := apart(terms, trained_on):
        raise ValueError(
            f"the agent was trained on another kind of market, which differs in {', '.join(found)}: audit it in its own"
        )
    return terms


def play_agent(
    terms: MarketConfig,
    attempt: AgentAttempt,
    blocks: Sequence[Tensor],
    episodes: int,
    *,
    left: Callable[[Market, float], Tensor],
    device: torch.device | str,
    compile: Compile,
    count: Callable[[int], None],
) -> Sample:
    """So many episodes, in batches of these seeds.

    Args:
        terms: of `terms_of`.
        left: what shares still held would fetch, less commission.
        count: called with the ticks played.
    """
    ticks, every = terms.max_ticks, terms.ticks_per_action
    market = Market(terms, len(blocks[0]), seed=0, device=device, compile=compile)
    parts: list[dict[str, Tensor]] = []
    for block, seeds in enumerate(blocks):
        result = market.reset(seeds=seeds)
        policy = attempt.make_policy(terms, seeds)
        start = result.info["equity"]
        turnover = torch.zeros_like(start)
        for now in range(0, ticks, every):
            result = market.step(policy(result))
            turnover = turnover + result.info["turnover"]
            count(block * ticks + now + every)
        nothing = torch.zeros_like(start)
        parts.append(
            {
                "profit": result.info["cash"] + left(market, terms.commission_bps * 1e-4) - start,
                "paper": result.info["equity"] - start,
                **{name: result.info[name] for name in ("fees", "borrow")},
                **{"fees_due": result.info["fees"], "borrow_due": result.info["borrow"]},
                "turnover": turnover,
                **{"quoted": nothing, "rested": nothing},
            }
        )
    joined = {name: torch.cat([part[name] for part in parts])[:episodes].cpu() for name in parts[0]}
    return Sample(maker_bps=terms.maker_bps, limit=terms.position_limit, **joined)
