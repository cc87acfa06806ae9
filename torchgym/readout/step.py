"""One decision of the learners: its ticks, and what is told of them. The function that is compiled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics.trees import map_tensors
from torchgym.readout import rewards
from torchgym.readout.entries import Events, Moment
from torchgym.readout.packed import Columns, Packed, no_events
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


def tick(
    static: Static,
    params: Params,
    state: MarketState,
    action: Tensor,
    sums: Events,
    watch: ticking.Watch | None = None,
) -> tuple[MarketState, Events]:
    """One tick of a decision, and what happened in the decision up to its end: a pure function.

    Args:
        action: [N, L * W], see `torchgym.sim.actions.orders`.
        sums: what happened in the decision before; `nothing` at its first tick.
    """
    structure = static.structure
    draws = noise.draw(structure, static.plan, state.clock.key, state.clock.tick + 1)
    after = ticking.tick(structure, params, state, action=action, draws=draws, watch=watch)
    reward, terms, memory = rewards.total(rewards.Played(structure, params, state, after), state.reward)
    events = Events(reward, terms, **_traded(structure, after.ledger))
    after = replace(after, reward=memory)
    if after.shown is not None:
        after = replace(after, shown=push(after.shown, static.columns.show(Moment(structure, params, after, events))))
    return after, map_tensors(torch.add, sums, events)


def nothing(structure: Structure, state: MarketState) -> Events:
    """The sums before the first tick. Reals are minus zero, since x + 0 is another number than x where x is minus zero."""
    return map_tensors(lambda leaf: -leaf if leaf.is_floating_point() else leaf, no_events(structure, state))


def step(
    static: Static,
    params: Params,
    state: MarketState,
    action: Tensor,
    watch: ticking.Watch | None = None,
    ticks: int | None = None,
) -> tuple[MarketState, Packed]:
    """The ticks of one decision, and what learners get to see of them: a pure function.

    The orders go in at the first tick; learners rest at the others.

    Args:
        action: [N, L * W], see `torchgym.sim.actions.orders`.
        ticks: how many; None is `ticks_per_action`.
    """
    structure = static.structure
    sums = nothing(structure, state)
    for _ in range(structure.ticks_per_action if ticks is None else ticks):
        state, sums = tick(static, params, state, action, sums, watch)
        action = torch.full_like(action, actions.space(structure).rest)
    return state, static.columns.read(Moment(structure, params, state, sums))


def opened(static: Static, params: Params, state: MarketState) -> MarketState:
    """A market as it opens, seen from now on with a delay if there can be one."""
    if state.delays is None:
        return state
    structure = static.structure
    first = static.columns.show(Moment(structure, params, state, no_events(structure, state)))
    return replace(state, shown=first.unsqueeze(-1).repeat(1, 1, structure.longest_delay + 1))


def _traded(structure: Structure, ledger: Ledger) -> dict[str, Tensor]:
    """What learners traded in the tick."""
    told = {"filled": ledger.filled, "turnover": ledger.turnover}
    if ledger.rested is None or ledger.cancelled is None:
        return told
    shape = (structure.num_learners, 2 * structure.quotes)
    return {**told, "rested": ledger.rested.filled.abs().unflatten(-1, shape).sum(-1), "cancelled": ledger.cancelled}
