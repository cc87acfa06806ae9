"""Phase: learners' actions become orders. A scheme is a space of actions, one function, and one row of `ACTIONS`.

Where there is no decision, in the warm-up and at the later ticks of a decision, the action is the space's `rest`, whatever the
scheme.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.config import MarketConfig, Structure
from torchgym.sim.params import Params
from torchgym.sim.state import MarketState
from torchgym.table import Table, check_made

REST = -1  # stands for a choice where no decision is taken
_FLOAT32_ROUNDING = 1e-7  # the most that float32 loses of a number up to 1, 2**-24, and a little more


@dataclass(frozen=True)
class Choices:
    """A space: one of `count` choices per symbol, int64 from 0.

    Raises:
        ValueError: at construction, for fewer than two choices, or a hold that is none of them.
    """

    count: int
    hold: int | None  # the choice that never trades; None: every choice may
    rest = REST
    dtype = torch.int64

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"an action scheme has at least two choices, got {self.count}")
        if self.hold is not None and not 0 <= self.hold < self.count:
            raise ValueError(f"hold must be a choice from 0 to {self.count - 1}, or None, got {self.hold}")

    @property
    def bounds(self) -> tuple[int, int]:
        """The first and the last choice."""
        return 0, self.count - 1

    def resting(self, action: Tensor) -> Tensor:
        """Where no decision was taken, bool."""
        return action == REST


@dataclass(frozen=True)
class Box:
    """A space: a number between two bounds per symbol, float64.

    Raises:
        ValueError: at construction, for bounds that are not finite or out of order.
    """

    low: float
    high: float
    rest = math.nan
    dtype = torch.float64

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"a box has finite bounds, low < high, got {self.low} and {self.high}")

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest number."""
        return self.low, self.high

    def resting(self, action: Tensor) -> Tensor:
        """Where no decision was taken, bool."""
        return torch.isnan(action)


@dataclass(frozen=True)
class ActionScheme:
    """One row of `ACTIONS`: the space of actions, and what an action asks for.

    `wanted(params, action, held)`: action [N, S, L] of the space, held [N, S, L] int64 shares -> [N, S, L] int64 shares to trade,
    positive buys, before the position limit. It is also asked where no decision was taken, and what it says then is not used.
    `toward(params, target)`: of a box, the action whose position is nearest to `target` [N, S, L] int64 shares. Scripted policies
    need it; of choices they try all.
    """

    space: Choices | Box
    wanted: Callable[[Params, Tensor, Tensor], Tensor]
    toward: Callable[[Params, Tensor], Tensor] | None = None


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


def _position(params: Params, action: Tensor, held: Tensor) -> Tensor:
    """-1 to 1: the position to have, as a part of the limit, rounded towards the one held, so that a repeated action rests.

    What float32 rounds away counts as nothing: 29 / 50 of a limit of 50 is 29 shares in either precision.
    """
    exact = action * params.position_limit
    nearest = torch.round(exact)
    target = torch.where((exact - nearest).abs() <= _FLOAT32_ROUNDING * params.position_limit, nearest, exact)
    whole = torch.where(target > held, torch.floor(target), torch.ceil(target))
    return torch.where(torch.isnan(action), 0.0, whole).to(torch.int64) - held


def _toward_position(params: Params, target: Tensor) -> Tensor:
    return target.to(torch.float64) / params.position_limit


ACTIONS: Table[ActionScheme] = Table(
    "action scheme",
    {
        "discrete": ActionScheme(Choices(3, hold=1), _discrete),
        "sized": ActionScheme(Choices(7, hold=3), _sized),
        "target": ActionScheme(Choices(5, hold=None), _target),
        "percent": ActionScheme(Choices(201, hold=100), _percent),
        "position": ActionScheme(Box(-1.0, 1.0), _position, _toward_position),
    },
)


def scheme(config: MarketConfig | Structure) -> ActionScheme:
    """The configured scheme.

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    return ACTIONS.find(config.action)


def choices(config: MarketConfig | Structure) -> Choices:
    """The space of a scheme of choices, which alone has masks.

    Raises:
        ValueError: for a scheme of numbers in a box.
    """
    space = scheme(config).space
    if isinstance(space, Box):
        known = ", ".join(name for name, row in ACTIONS.items() if isinstance(row.space, Choices))
        raise ValueError(f"action={config.action!r} takes numbers, which have no masks: choose one of {known}")
    return space


def rest(config: MarketConfig | Structure, num_envs: int, device: torch.device) -> Tensor:
    """The action of learners who have no decision to take, [N, L * S]."""
    space = scheme(config).space
    shape = (num_envs, config.num_learners * config.num_symbols)
    return torch.full(shape, space.rest, dtype=space.dtype, device=device)


def hold(config: MarketConfig | Structure, num_envs: int, device: torch.device) -> Tensor:
    """The choice that never trades, or `rest` where the scheme has none, [N, L * S]."""
    space, action = scheme(config).space, rest(config, num_envs, device)
    return action.fill_(space.hold) if isinstance(space, Choices) and space.hold is not None else action


def _within_limit(params: Params, held: Tensor, wanted: Tensor) -> Tensor:
    """The shares to trade of those wanted, so that positions stay within the limit."""
    bound = params.position_limit
    return torch.clamp(held + wanted, -bound, bound) - held


def allowed(structure: Structure, params: Params, state: MarketState) -> Tensor:
    """Which choices do what they say: bool [N, S, L, C], False where the position limit cuts an order to zero shares.

    A choice that orders nothing stays True, and so does one of which the limit leaves a part.

    Raises:
        ValueError: for a scheme whose space is a box.
    """
    own, held, space = scheme(structure), state.ledger.shares, choices(structure)

    def makes_sense(choice: Tensor) -> Tensor:
        wanted = own.wanted(params, choice.expand(held.shape), held)
        return (wanted == 0) | (_within_limit(params, held, wanted) != 0)

    each = torch.arange(space.count, dtype=space.dtype, device=held.device)
    return torch.vmap(makes_sense, out_dims=-1)(each)


def orders(structure: Structure, params: Params, state: MarketState, action: Tensor) -> tuple[Tensor, Tensor]:
    """The learners' market-like orders: shares [N, S, L] int64 (positive buys) and limit [N, S, L] int64 points.

    Orders are cut so that positions stay within the limit; the limit price is the collar around the mid shown in the observation,
    rounded towards the mid.

    Args:
        action: [N, L * S] of the scheme's space: for each learner one entry per symbol.
    """
    own = scheme(structure)
    held = state.ledger.shares
    chosen = action.unflatten(1, (structure.num_learners, structure.num_symbols)).transpose(1, 2)
    wanted = own.wanted(params, chosen, held)
    check_made(f"ACTIONS[{structure.action!r}]", wanted, held.shape, torch.int64)
    shares = _within_limit(params, held, torch.where(own.space.resting(chosen), 0, wanted))
    mid = state.market_data.mids_x2[..., -1].to(torch.float64)
    up = torch.floor(mid * params.collar_up).unsqueeze(-1)
    down = torch.ceil(mid * params.collar_down).unsqueeze(-1)
    return shares, torch.where(shares > 0, up, down).to(torch.int64)
