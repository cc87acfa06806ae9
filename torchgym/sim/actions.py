"""Phase: the learner's action becomes an order. A scheme is one function and one row of `ACTIONS`.

Where there is no decision, in the warm-up and at the later ticks of a decision, the action is `REST`, whatever the scheme.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.config import MarketConfig, Structure
from torchgym.sim.params import Params
from torchgym.sim.state import MarketState
from torchgym.table import Table, check_made

REST = -1  # no order


@dataclass(frozen=True)
class ActionScheme:
    """One row of `ACTIONS`: how many choices per symbol, which of them never trades, and what a choice asks for.

    `wanted(params, action, held)`: action [N, S] int64 below `choices`, held [N, S] int64 shares -> [N, S] int64 shares to
    trade, positive buys, before the position limit. It is also asked about `REST`, and what it says then is not used.

    Raises:
        ValueError: at construction, for fewer than two choices, or a hold that is none of them.
    """

    choices: int
    hold: int | None  # None: every choice may trade
    wanted: Callable[[Params, Tensor, Tensor], Tensor]

    def __post_init__(self) -> None:
        if self.choices < 2:
            raise ValueError(f"an action scheme has at least two choices, got {self.choices}")
        if self.hold is not None and not 0 <= self.hold < self.choices:
            raise ValueError(f"hold must be a choice from 0 to {self.choices - 1}, or None, got {self.hold}")


def _discrete(params: Params, action: Tensor, held: Tensor) -> Tensor:
    """0 sells one standard order, 1 holds, 2 buys one."""
    return (action - 1) * params.order_size


def _sized(params: Params, action: Tensor, held: Tensor) -> Tensor:
    """0 to 6: sell three, one, a tenth of a standard order (at least a share), hold, buy the same sizes."""
    size = params.order_size
    tenth = torch.div(size, 10, rounding_mode="floor").clamp(min=1)
    distance = (action - 3).abs()
    shares = torch.where(distance == 1, tenth, torch.where(distance == 2, size, 3 * size))
    return torch.sign(action - 3) * shares


def _target(params: Params, action: Tensor, held: Tensor) -> Tensor:
    """0 to 4: move towards -1, -1/2, 0, 1/2, 1 position limits by at most one standard order."""
    target = torch.div((action - 2) * params.position_limit, 2, rounding_mode="trunc")
    return torch.clamp(target - held, -params.order_size, params.order_size)


def _percent(params: Params, action: Tensor, held: Tensor) -> Tensor:
    """0 to 200: trade action - 100 hundredths of a standard order, cut towards zero; order_size = 100 makes them shares."""
    return torch.div((action - 100) * params.order_size, 100, rounding_mode="trunc")


ACTIONS: Table[ActionScheme] = Table(
    "action scheme",
    {
        "discrete": ActionScheme(choices=3, hold=1, wanted=_discrete),
        "sized": ActionScheme(choices=7, hold=3, wanted=_sized),
        "target": ActionScheme(choices=5, hold=None, wanted=_target),
        "percent": ActionScheme(choices=201, hold=100, wanted=_percent),
    },
)


def scheme(config: MarketConfig | Structure) -> ActionScheme:
    """The configured scheme.

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    return ACTIONS.find(config.action)


def order(structure: Structure, params: Params, state: MarketState, action: Tensor) -> tuple[Tensor, Tensor]:
    """The learner's market-like order: shares [N, S] int64 (positive buys) and limit [N, S] int64 points.

    The order is cut so that the position stays within the limit; the limit price is the collar around the mid shown in the
    observation, rounded towards the mid.
    """
    held = state.accounts.learner_shares
    wanted = scheme(structure).wanted(params, action, held)
    check_made(f"ACTIONS[{structure.action!r}]", wanted, held.shape, torch.int64)
    bound = params.position_limit
    shares = torch.clamp(held + torch.where(action == REST, 0, wanted), -bound, bound) - held
    mid_x2 = state.market_data.mids_x2[..., -1].to(torch.float64)
    up = torch.floor(mid_x2 * params.collar_up)
    down = torch.ceil(mid_x2 * params.collar_down)
    return shares, torch.where(shares > 0, up, down).to(torch.int64)
