"""One decision of the learner: its ticks, what it brought, and how that is told."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.readout import features, rewards
from torchgym.sim import actions, noise
from torchgym.sim import tick as ticking
from torchgym.sim.noise import Lanes
from torchgym.sim.state import Layout, MarketParams, MarketState


@dataclass
class StepResult:
    """The market at the end of a step, as the learner sees it. Fresh tensors."""

    observation: Tensor  # [N, S * F] float64
    account: Tensor  # [N, S + 3] float64
    reward: Tensor  # [N] float64
    terminated: Tensor  # [N] bool: ruined at any tick of the episode
    truncated: Tensor  # [N] bool: out of time
    info: dict[str, Tensor]  # [N] or [N, S]; see `Market.step`


@dataclass
class Outcome:
    """What one decision brought, over all its ticks."""

    observation: Tensor  # [N, S * F] float64
    account: Tensor  # [N, S + 3] float64
    reward: Tensor  # [N] float64
    terms: dict[str, Tensor]  # [N] float64 each, before their weights
    filled: Tensor  # [N, S] int64 shares
    turnover: Tensor  # [N] int64 points x shares


def decision(
    config: MarketConfig,
    params: MarketParams,
    state: MarketState,
    action: Tensor,
    *,
    places: Layout,
    lanes: Lanes,
    watch: ticking.Watch | None = None,
) -> tuple[MarketState, Outcome]:
    """The ticks of one decision and what the learner gets to see of them: a pure function, and the one that is compiled.

    The order goes in at the first tick; the learner rests at the others.
    """

    def one(state: MarketState, chosen: Tensor) -> tuple[MarketState, Tensor, dict[str, Tensor]]:
        draws = noise.draw(places, lanes, state.clock.key, state.clock.tick + 1)
        before = state.accounts.half_equity
        state = ticking.tick(config, params, state, places=places, action=chosen, draws=draws, watch=watch)
        gained, gained_terms, memory = rewards.total(config, state.reward, before, state.accounts)
        return replace(state, reward=memory), gained, gained_terms

    state, reward, terms = one(state, action)
    filled, turnover = state.accounts.filled, state.accounts.turnover
    for _ in range(config.ticks_per_action - 1):
        state, gained, gained_terms = one(state, torch.full_like(action, actions.REST))
        reward = reward + gained
        terms = {name: term + gained_terms[name] for name, term in terms.items()}
        filled, turnover = filled + state.accounts.filled, turnover + state.accounts.turnover
    observation, account = features.observe(config, state), features.account(config, state)
    return state, Outcome(observation, account, reward, terms, filled, turnover)


def standing(config: MarketConfig, state: MarketState) -> Outcome:
    """The outcome of no decision at all."""
    nothing = torch.zeros_like(state.accounts.half_equity, dtype=torch.float64)
    return Outcome(
        observation=features.observe(config, state),
        account=features.account(config, state),
        reward=nothing,
        terms={name: torch.zeros_like(nothing) for name in rewards.weights(config)},
        filled=torch.zeros_like(state.accounts.filled),
        turnover=torch.zeros_like(state.accounts.turnover),
    )


def result(config: MarketConfig, state: MarketState, outcome: Outcome) -> StepResult:
    """The outcome as the learner gets it, money in currency."""
    point, accounts = config.point_size, state.accounts

    def currency(money: Tensor) -> Tensor:
        return money.to(torch.float64) * point

    info = {
        "tick": state.clock.tick.clone(),
        "equity": currency(accounts.half_equity) * 0.5,
        "realized_pnl": currency(accounts.realized),
        "cash": currency(accounts.learner_cash),
        "fees": currency(accounts.fees),
        "borrow": currency(accounts.borrow),
        "turnover": currency(outcome.turnover),
        "position": accounts.learner_shares.clone(),
        "filled": outcome.filled.clone(),
        **{f"reward_{name}": term.clone() for name, term in outcome.terms.items()},
    }
    return StepResult(
        observation=outcome.observation,
        account=outcome.account,
        reward=outcome.reward,
        terminated=accounts.ruined.clone(),
        truncated=ticking.truncated(state),
        info=info,
    )


def step(
    config: MarketConfig,
    params: MarketParams,
    state: MarketState,
    action: Tensor,
    *,
    places: Layout,
    lanes: Lanes,
    watch: ticking.Watch | None = None,
) -> tuple[MarketState, StepResult]:
    """One decision, told in full."""
    after, outcome = decision(config, params, state, action, places=places, lanes=lanes, watch=watch)
    return after, result(config, after, outcome)
