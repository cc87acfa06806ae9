"""One decision of the learners: its ticks, and what is told of them. The function that is compiled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.readout import rewards
from torchgym.readout.entries import Events, Moment
from torchgym.readout.packed import Columns, Packed, no_events, show
from torchgym.sim import actions, noise
from torchgym.sim import tick as ticking
from torchgym.sim.noise import NoisePlan
from torchgym.sim.params import Params
from torchgym.sim.state import Ledger, MarketState, push


@dataclass(frozen=True)
class Static:
    """What is the same for every market of a batch."""

    structure: Structure
    plan: NoisePlan
    columns: Columns

    @staticmethod
    def of(structure: Structure, device: torch.device) -> Static:
        """For markets of a structure on a device."""
        return Static(structure, noise.make_plan(structure, device), Columns(structure))


def step(
    static: Static, params: Params, state: MarketState, action: Tensor, watch: ticking.Watch | None = None
) -> tuple[MarketState, Packed]:
    """The ticks of one decision, and what learners get to see of them: a pure function.

    The orders go in at the first tick; learners rest at the others. `action` is [N, L * W], see `torchgym.sim.actions.orders`.
    """
    structure = static.structure

    def one(state: MarketState, chosen: Tensor) -> tuple[MarketState, Events]:
        draws = noise.draw(structure, static.plan, state.clock.key, state.clock.tick + 1)
        after = ticking.tick(structure, params, state, action=chosen, draws=draws, watch=watch)
        reward, terms, memory = rewards.total(rewards.Played(structure, params, state, after), state.reward)
        events = Events(reward, terms, **_traded(structure, after.ledger))
        after = replace(after, reward=memory)
        if after.shown is not None:
            after = replace(after, shown=push(after.shown, show(Moment(structure, params, after, events))))
        return after, events

    state, events = one(state, action)
    rest = torch.full_like(action, actions.space(structure).rest)
    for _ in range(structure.ticks_per_action - 1):
        state, more = one(state, rest)
        events = Events(
            reward=events.reward + more.reward,
            terms={name: term + more.terms[name] for name, term in events.terms.items()},
            filled=events.filled + more.filled,
            turnover=events.turnover + more.turnover,
            rested=_sum(events.rested, more.rested),
            cancelled=_sum(events.cancelled, more.cancelled),
        )
    return state, static.columns.read(Moment(structure, params, state, events))


def opened(structure: Structure, params: Params, state: MarketState) -> MarketState:
    """A market as it opens, seen from now on with a delay if there can be one."""
    if state.delays is None:
        return state
    first = show(Moment(structure, params, state, no_events(structure, state)))
    return replace(state, shown=first.unsqueeze(-1).repeat(1, 1, structure.longest_delay + 1))


def _traded(structure: Structure, ledger: Ledger) -> dict[str, Tensor]:
    """What learners traded in the tick."""
    told = {"filled": ledger.filled, "turnover": ledger.turnover}
    if ledger.rested is None or ledger.cancelled is None:
        return told
    shape = (structure.num_learners, 2 * structure.quotes)
    return {**told, "rested": ledger.rested.filled.abs().unflatten(-1, shape).sum(-1), "cancelled": ledger.cancelled}


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return None if one is None or other is None else one + other
