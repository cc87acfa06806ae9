"""What is on its way: actions to the market, and what happened to those who look at it.

An action of tick t that takes `latency` ticks arrives in tick t + latency. It was decided on what was seen then, which was
`feed_delay` ticks old: prices, volumes and equities that a scheme counts from are of that moment, holdings are those at arrival.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.sim import actions
from torchgym.sim.params import Params
from torchgym.sim.state import Delays, Ledger, MarketData, MarketState, push


def start(structure: Structure, data: MarketData, ledger: Ledger) -> Delays | None:
    """As an episode begins, nothing is on its way; None without delays."""
    depth = structure.longest_delay
    if depth == 0:
        return None
    nothing = actions.rest(structure, len(data.bid), data.bid.device)
    return Delays(
        asked=nothing.unsqueeze(-1).repeat(1, 1, depth + 1),
        public=_public(data, ledger).unsqueeze(-1).repeat(1, 1, 2 * depth + 1),
    )


def send(delays: Delays, action: Tensor) -> Delays:
    """An action, [N, L * W], goes off."""
    return replace(delays, asked=push(delays.asked, action))


def arrived(params: Params, delays: Delays) -> Tensor:
    """The action that arrives now, [N, L * W]."""
    return ago(delays.asked, params.latency)


def watched(delays: Delays, data: MarketData, ledger: Ledger) -> Delays:
    """The end of a tick goes off."""
    return replace(delays, public=push(delays.public, _public(data, ledger)))


def known(structure: Structure, params: Params, state: MarketState) -> actions.Known:
    """What a scheme may look at for an action that arrives in the next tick."""
    now = actions.Known.of(structure, params, state)
    if state.delays is None:
        return now
    symbols = structure.num_symbols
    seen = ago(state.delays.public, params.latency + params.feed_delay)
    mid_x2, bid, ask, volume, equity_x2 = seen.split([symbols] * 4 + [structure.num_learners], 1)
    volume = actions.per_tick(volume, state.market_data.volumes.shape[-1])
    return replace(now, equity_x2=equity_x2, mid_x2=mid_x2, volume=volume, bid=bid, ask=ask)


def ago(history: Tensor, ticks: Tensor) -> Tensor:
    """The entry [N, W] of [N, W, T] that is so many ticks older than the newest; ticks [N, 1] int64."""
    at = (history.shape[-1] - 1 - ticks).unsqueeze(-1)
    return history.gather(-1, at.expand(-1, history.shape[1], -1)).squeeze(-1)


def _public(data: MarketData, ledger: Ledger) -> Tensor:
    """Mids, best bids, best asks and the volume of the last ticks of each symbol, then the equity of each learner: int64."""
    return torch.cat([data.mids_x2[..., -1], data.bid, data.ask, data.volumes.sum(-1), ledger.equity_x2], 1)
