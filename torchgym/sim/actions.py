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
from torchgym.sim.state import HIGHEST, MarketState
from torchgym.table import Table, check_made

REST = -1  # stands for a choice where no decision is taken
DEEPEST = 32.0  # points: at this distance from the mid and beyond "depths" lets nothing rest
WIDEST = 4.0  # typical half-spreads: the same for either side of "quotes"
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

    def width(self, symbols: int) -> int:
        """How many choices one learner makes, W."""
        return symbols

    def bounds(self, symbols: int) -> tuple[Tensor, Tensor]:
        """The first and the last choice, [W] int64 each."""
        first = torch.zeros(symbols, dtype=self.dtype, device="cpu")
        return first, first + (self.count - 1)

    def resting(self, action: Tensor) -> Tensor:
        """Where no decision was taken, bool."""
        return action == REST


@dataclass(frozen=True)
class Box:
    """A space: numbers between two bounds, float64: as many per symbol as bounds are given, and one for cash in front if wanted.

    A bound that is one number is that of one number per symbol.

    Raises:
        ValueError: at construction, for bounds that are not finite or out of order.
    """

    low: tuple[float, ...] | float
    high: tuple[float, ...] | float
    cash: bool = False  # whether a number from 0 to 1 stands before those of the symbols
    rest = math.nan
    dtype = torch.float64

    def __post_init__(self) -> None:
        low, high = (end if isinstance(end, tuple) else (end,) for end in (self.low, self.high))
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        if not low or len(low) != len(high):
            raise ValueError(f"a box has as many lower bounds as upper ones, got {low} and {high}")
        for one, other in zip(low, high, strict=True):
            if not -math.inf < one < other < math.inf:
                raise ValueError(f"a box has finite bounds, low < high, got {one} and {other}")

    @property
    def each(self) -> int:
        """How many numbers there are per symbol."""
        return len(self.low)  # type: ignore[arg-type]

    def width(self, symbols: int) -> int:
        """How many numbers one learner gives, W: that for cash, if there is one, and `each` of every symbol."""
        return self.cash + symbols * self.each

    def bounds(self, symbols: int) -> tuple[Tensor, Tensor]:
        """The least and the largest numbers, [W] float64 each."""
        low, high = (
            torch.tensor([first] * self.cash + list(end) * symbols, dtype=self.dtype, device="cpu")  # type: ignore[arg-type]
            for first, end in ((0.0, self.low), (1.0, self.high))
        )
        return low, high

    def resting(self, action: Tensor) -> Tensor:
        """Where no decision was taken, bool."""
        return torch.isnan(action)


@dataclass(frozen=True)
class Known:
    """What a scheme may look at: the terms, what the learner owns, and what everybody sees at the end of a tick.

    That is the last tick; with delays it is the one that was seen when the action was decided (`torchgym.sim.delay`).
    """

    params: Params
    held: Tensor  # [N, S, L] int64 shares
    equity_x2: Tensor  # [N, L] int64, twice the marked equity in points x shares
    mid_x2: Tensor  # [N, S] int64 half points
    volume: Tensor  # [N, S] float64: shares traded per tick, the mean over the last nine
    bid: Tensor  # [N, S] int64 points: best bid
    ask: Tensor  # [N, S] int64 points: best ask
    quotes: int = 0  # Q, places a side

    @staticmethod
    def of(structure: Structure, params: Params, state: MarketState) -> Known:
        """At the end of a tick."""
        data, own = state.market_data, state.ledger
        volume = recent_volume(data.volumes)
        mid_x2 = data.mids_x2[..., -1]
        return Known(params, own.shares, own.equity_x2, mid_x2, volume, data.bid, data.ask, structure.quotes)


def recent_volume(volumes: Tensor) -> Tensor:
    """Shares per tick, [N, S] float64, from those of the last ticks [N, S, T]."""
    return per_tick(volumes.sum(-1), volumes.shape[-1])


def per_tick(shares: Tensor, ticks: int) -> Tensor:
    """The mean of shares [N, S] int64 over so many ticks, float64."""
    return shares.to(torch.float64) * (1.0 / ticks)


@dataclass
class Resting:
    """What shall rest after an action, [N, S, L, 2, Q]: bids first; a size of 0 is nothing."""

    price: Tensor  # int64 points
    size: Tensor  # int64 shares, none negative
    keep: Tensor  # bool: what rests in this place stays as it is, price, size and age


@dataclass(frozen=True)
class ActionScheme:
    """One row of `ACTIONS`: the space of actions, and what an action asks for.

    `wanted(known, action)`: action [N, W, L] of the space -> [N, S, L] int64 shares to trade, positive buys, before the position
    limit. It is also asked where no decision was taken, and what it says then is not used.
    `toward(known, target)`: of a box, the action [N, W, L] whose position is nearest to `target` [N, S, L] int64 shares. Scripted
    policies need it; of choices they try all.
    `rests(known, action)`: what shall rest, for a market with places for resting orders (`MarketConfig.quotes`); such a scheme
    may have no `wanted`. A space that goes with the number of places is a function of it.
    """

    space: Choices | Box | Callable[[int], Choices | Box]
    wanted: Callable[[Known, Tensor], Tensor] | None
    toward: Callable[[Known, Tensor], Tensor] | None = None
    rests: Callable[[Known, Tensor], Resting] | None = None


def _discrete(known: Known, action: Tensor) -> Tensor:
    """0 sells one standard order, 1 holds, 2 buys one."""
    return (action - 1) * known.params.order_size


def _sized(known: Known, action: Tensor) -> Tensor:
    """0 to 6: sell three, one, a tenth of a standard order (at least a share), hold, buy the same sizes."""
    size = known.params.order_size
    tenth = torch.div(size, 10, rounding_mode="floor").clamp(min=1)
    distance = (action - 3).abs()
    shares = torch.where(distance == 1, tenth, torch.where(distance == 2, size, 3 * size))
    return torch.sign(action - 3) * shares


def _target(known: Known, action: Tensor) -> Tensor:
    """0 to 4: move towards -1, -1/2, 0, 1/2, 1 position limits by at most one standard order."""
    params = known.params
    target = torch.div((action - 2) * params.position_limit, 2, rounding_mode="trunc")
    return torch.clamp(target - known.held, -params.order_size, params.order_size)


def _percent(known: Known, action: Tensor) -> Tensor:
    """0 to 200: trade action - 100 hundredths of a standard order, cut towards zero; order_size = 100 makes them shares."""
    return torch.div((action - 100) * known.params.order_size, 100, rounding_mode="trunc")


def _position(known: Known, action: Tensor) -> Tensor:
    """-1 to 1: the position to have, as a part of the limit, rounded towards the one held, so that a repeated action rests.

    What float32 rounds away counts as nothing: 29 / 50 of a limit of 50 is 29 shares in either precision.
    """
    limit = known.params.position_limit
    return _trade_to(known.held, action * limit, limit)


def _toward_position(known: Known, target: Tensor) -> Tensor:
    return target.to(torch.float64) / known.params.position_limit


def _weights(known: Known, action: Tensor) -> Tensor:
    """Parts of the equity to have in cash, first, and in each symbol (below 0: short), brought to cash + sum of sizes = 1.

    All zero is all cash. Shares are counted at the mid and rounded towards those held, so that a weight repeated at the same
    prices rests. Where a symbol's position limit is reached, what is left stays in cash.

    Source: the weights of portfolio environments, Jiang, Xu and Liang (2017), A deep reinforcement learning framework for the
    financial portfolio management problem; with short positions counted by their size.
    """
    total = action[:, :1] + _sum(action[:, 1:].abs(), 1)
    parts = action[:, 1:] / torch.where(total > 0.0, total, 1.0)
    exact = parts * known.equity_x2.unsqueeze(1).to(torch.float64) / known.mid_x2.unsqueeze(-1).to(torch.float64)
    return _trade_to(known.held, exact, 2.0 * exact.abs())  # a weight and the sum are rounded


def _toward_weights(known: Known, target: Tensor) -> Tensor:
    worth = target.to(torch.float64) * known.mid_x2.unsqueeze(-1)
    parts = worth / known.equity_x2.unsqueeze(1).clamp(min=1)
    return torch.cat([(1.0 - _sum(parts.abs(), 1)).clamp(min=0.0), parts], 1)


def _participation(known: Known, action: Tensor) -> Tensor:
    """Shares to buy, or to sell below 0, as a part of the shares per tick that were traded lately; cut towards zero.

    What float32 rounds away counts as nothing.
    """
    volume = known.volume.unsqueeze(-1)
    return _whole(torch.trunc(_mended(action * volume, volume)), action)


def _toward_participation(known: Known, target: Tensor) -> Tensor:
    return (target - known.held).to(torch.float64) / known.volume.unsqueeze(-1).clamp(min=1.0)


def _quotes(known: Known, action: Tensor) -> Resting:
    """Half-spread and skew of one bid and one ask around the mid, in typical half-spreads; each of one standard order.

    The bid stands half-spread - skew typical half-spreads below the mid, rounded down; the ask half-spread + skew above it, up.
    A side whose distance is four or more does not rest: 4 and 0 quote nothing, 2.5 and 1.5 a bid alone.
    """
    half, skew = action.unflatten(1, (-1, 2)).unbind(2)
    unit = known.params.typical_half_spread.unsqueeze(-1)
    middle = known.mid_x2.unsqueeze(-1).to(torch.float64) * 0.5
    bid, ask = torch.floor(middle + (skew - half) * unit), torch.ceil(middle + (skew + half) * unit)
    nearest = torch.stack([bid, ask], -1).unsqueeze(-1)
    far = torch.stack([half - skew, half + skew], -1).unsqueeze(-1) >= WIDEST
    price = nearest.expand(*nearest.shape[:-1], known.quotes)
    first = torch.arange(known.quotes, device=price.device) == 0
    return _resting(known, price, keep=torch.zeros_like(first), none=~first | far)


def _depths(known: Known, action: Tensor) -> Resting:
    """Distance of each place from the mid in points, bids first; each of one standard order.

    Below 0 the place stays as it is, price, size and age; at the upper bound nothing rests there. Bids are rounded down, asks up.
    """
    depth = action.unflatten(1, (-1, 2, known.quotes)).movedim(-1, 2)
    middle = known.mid_x2[..., None, None].to(torch.float64) * 0.5
    bids, asks = depth.unbind(-2)
    price = torch.stack([torch.floor(middle - bids), torch.ceil(middle + asks)], -2)
    return _resting(known, price, keep=depth < 0.0, none=depth >= DEEPEST)


def _limit(known: Known, action: Tensor) -> Resting:
    """Work off what is held: 0 keeps the order that rests, 1 cancels it, 2 sends a standard order to the market instead.

    3 lets one rest at the best price of its side, 4, 5 and 6 let it rest 1, 2 and 5 points behind.
    """
    behind = torch.where(action <= 3, 0, torch.where(action == 6, 5, action - 3))
    bid, ask = known.bid.unsqueeze(-1) - behind, known.ask.unsqueeze(-1) + behind
    price = torch.stack([bid, ask], -1).unsqueeze(-1)
    price = price.expand(*price.shape[:-1], known.quotes)
    first = (torch.arange(known.quotes, device=price.device) == 0).expand_as(price)
    closing = torch.stack([known.held < 0, known.held > 0], -1).unsqueeze(-1)
    keep = (action == 0)[..., None, None].expand_as(price)
    waits = (action >= 3)[..., None, None] & closing & first
    most = known.held.abs()[..., None, None]
    asked = _resting(known, price, keep=keep, none=~waits)
    return Resting(asked.price, torch.minimum(asked.size, most), keep)


def _limit_at_market(known: Known, action: Tensor) -> Tensor:
    """See `_limit`."""
    now = torch.clamp(-known.held, -known.params.order_size, known.params.order_size)
    return torch.where(action == 2, now, 0)


def _resting(known: Known, price: Tensor, *, keep: Tensor, none: Tensor) -> Resting:
    """Standard orders at these prices, but where there are to be none."""
    points = price if price.dtype == torch.int64 else torch.where(torch.isnan(price), 1.0, price).to(torch.int64)
    size = torch.where(none, 0, known.params.order_size[..., None, None]).expand_as(points)
    return Resting(points, size, keep.expand_as(points))


def _trade_to(held: Tensor, exact: Tensor, scale: Tensor) -> Tensor:
    """Shares to trade to hold `exact`, rounded towards those held; what float32 loses of the scale counts as nothing."""
    target = _mended(exact, scale)
    return _whole(torch.where(target > held, torch.floor(target), torch.ceil(target)), exact) - held


def _mended(exact: Tensor, scale: Tensor) -> Tensor:
    """A whole number where it is missed by no more than float32 loses of the scale."""
    nearest = torch.round(exact)
    return torch.where((exact - nearest).abs() <= _FLOAT32_ROUNDING * scale, nearest, exact)


def _whole(shares: Tensor, asked: Tensor) -> Tensor:
    """As int64; 0 where nothing was asked."""
    return torch.where(torch.isnan(asked), 0.0, shares).to(torch.int64)


def _sum(values: Tensor, axis: int) -> Tensor:
    """One after another, so that the rounding is the same for every batch and processor; the axis stays."""
    first, *others = values.split(1, axis)
    return sum(others, start=first)


ACTIONS: Table[ActionScheme] = Table(
    "action scheme",
    {
        "discrete": ActionScheme(Choices(3, hold=1), _discrete),
        "sized": ActionScheme(Choices(7, hold=3), _sized),
        "target": ActionScheme(Choices(5, hold=None), _target),
        "percent": ActionScheme(Choices(201, hold=100), _percent),
        "position": ActionScheme(Box(-1.0, 1.0), _position, _toward_position),
        "weights": ActionScheme(Box(0.0, 1.0, cash=True), _weights, _toward_weights),
        "signed_weights": ActionScheme(Box(-1.0, 1.0, cash=True), _weights, _toward_weights),
        "participation": ActionScheme(Box(-1.0, 1.0), _participation, _toward_participation),
        "limit": ActionScheme(Choices(7, hold=None), _limit_at_market, rests=_limit),
        "quotes": ActionScheme(Box((0.0, -WIDEST), (WIDEST, WIDEST)), None, rests=_quotes),
        "depths": ActionScheme(
            lambda quotes: Box((-1.0,) * (2 * quotes), (DEEPEST,) * (2 * quotes)), None, rests=_depths
        ),
    },
)


def scheme(config: MarketConfig | Structure) -> ActionScheme:
    """The configured scheme.

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    return ACTIONS.find(config.action)


def space(config: MarketConfig | Structure) -> Choices | Box:
    """The space of the configured scheme.

    Raises:
        ValueError: for an unknown scheme, or one that lets orders rest where there are no places for them.
    """
    found = scheme(config)
    if found.rests is not None and config.quotes == 0:
        raise ValueError(
            f"action={config.action!r} lets orders rest, and quotes = 0 leaves no place for them: give quotes=1"
        )
    return found.space if isinstance(found.space, (Choices, Box)) else found.space(config.quotes)


def choices(config: MarketConfig | Structure) -> Choices:
    """The space of a scheme of choices, which alone has masks.

    Raises:
        ValueError: for a scheme of numbers in a box.
    """
    found = space(config)
    if isinstance(found, Box):
        known = ", ".join(name for name, row in ACTIONS.items() if isinstance(row.space, Choices))
        raise ValueError(f"action={config.action!r} takes numbers, which have no masks: choose one of {known}")
    return found


def within(space: Choices | Box, symbols: int, action: Tensor) -> Tensor:
    """Which entries of actions [..., W] lie within the bounds of the space, bool; what is no number does not."""
    if isinstance(space, Choices):
        return (action >= 0) & (action < space.count)
    low, high = (end.to(action.device) for end in space.bounds(symbols))
    return (action >= low) & (action <= high)


def by_name(config: MarketConfig | Structure, action: Tensor) -> dict[str, Tensor]:
    """The numbers of single learners [N, W] as columns: "action" [N, S]; of several per symbol "action_1" and so on.

    A number for cash is "action_cash" [N].
    """
    own = space(config)
    if isinstance(own, Choices):
        return {"action": action}
    front = {"action_cash": action[:, 0]} if own.cash else {}
    each = action[:, own.cash :].unflatten(1, (config.num_symbols, own.each))
    names = ["action"] if own.each == 1 else [f"action_{at + 1}" for at in range(own.each)]
    return {**front, **dict(zip(names, each.unbind(-1), strict=True))}


def rest(config: MarketConfig | Structure, num_envs: int, device: torch.device) -> Tensor:
    """The action of learners who have no decision to take, [N, L * W]."""
    own = space(config)
    shape = (num_envs, config.num_learners * own.width(config.num_symbols))
    return torch.full(shape, own.rest, dtype=own.dtype, device=device)


def hold(config: MarketConfig | Structure, num_envs: int, device: torch.device) -> Tensor:
    """The choice that never trades, or `rest` where the scheme has none, [N, L * S]."""
    own, action = space(config), rest(config, num_envs, device)
    return action.fill_(own.hold) if isinstance(own, Choices) and own.hold is not None else action


def _within_limit(params: Params, held: Tensor, wanted: Tensor, resting: tuple[Tensor, Tensor] | None) -> Tensor:
    """The shares to trade of those wanted, so that positions stay within the limit, what rests in bids and asks included."""
    bound = params.position_limit
    if resting is None:
        return torch.clamp(held + wanted, -bound, bound) - held
    bids, asks = resting
    return torch.clamp(held + wanted, asks - bound, bound - bids) - held


def allowed(structure: Structure, params: Params, state: MarketState) -> Tensor:
    """Which choices do what they say: bool [N, S, L, C], False where the position limit cuts an order to zero shares.

    A choice that orders nothing stays True, and so does one of which the limit leaves a part, and one that lets orders rest.

    Raises:
        ValueError: for a scheme whose space is a box.
    """
    own, held, choice_space = scheme(structure), state.ledger.shares, choices(structure)
    known = Known.of(structure, params, state)

    def makes_sense(choice: Tensor) -> Tensor:
        wanted = _wanted(own, known, choice.expand(held.shape))
        return (wanted == 0) | (_within_limit(params, held, wanted, None) != 0)

    each = torch.arange(choice_space.count, dtype=choice_space.dtype, device=held.device)
    return torch.vmap(makes_sense, out_dims=-1)(each)


def orders(
    structure: Structure,
    known: Known,
    action: Tensor,
    resting: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The learners' market-like orders: shares [N, S, L] int64 (positive buys) and limit [N, S, L] int64 points.

    Orders are cut so that positions stay within the limit; the limit price is the collar around the mid shown in the observation,
    rounded towards the mid.

    Args:
        action: [N, L * W] of the scheme's space: for each learner its W entries.
        resting: shares that rest in bids and in asks, [N, S, L] int64 each, which count as if they were filled.
    """
    own, held, params = scheme(structure), known.held, known.params
    chosen, rests = _each(structure, action)
    wanted = _wanted(own, known, chosen)
    check_made(f"ACTIONS[{structure.action!r}]", wanted, held.shape, torch.int64)
    shares = _within_limit(params, held, torch.where(rests, 0, wanted), resting)
    mid = known.mid_x2.to(torch.float64)
    up = torch.floor(mid * params.collar_up).unsqueeze(-1)
    down = torch.ceil(mid * params.collar_down).unsqueeze(-1)
    return shares, torch.where(shares > 0, up, down).to(torch.int64)


def wish(structure: Structure, known: Known, action: Tensor) -> Resting:
    """What learners want to rest from now on; all of it stays where no decision was taken. `action` as in `orders`."""
    own, shape = scheme(structure), (*known.held.shape, 2, structure.quotes)
    if own.rests is None:  # the places stay empty
        nothing = known.held.new_zeros(shape)
        return Resting(nothing + 1, nothing, nothing == 0)
    chosen, rests = _each(structure, action)
    asked = own.rests(known, chosen)
    for name in ("price", "size"):
        check_made(
            f"{name} of the resting orders of ACTIONS[{structure.action!r}]", getattr(asked, name), shape, torch.int64
        )
    price, size = torch.clamp(asked.price, 1, HIGHEST), torch.clamp(asked.size, min=0)
    return Resting(price, size, asked.keep | rests[..., None, None])


def _wanted(own: ActionScheme, known: Known, chosen: Tensor) -> Tensor:
    return torch.zeros_like(known.held) if own.wanted is None else own.wanted(known, chosen)


def _each(structure: Structure, action: Tensor) -> tuple[Tensor, Tensor]:
    """The action of each learner [N, W, L], and where none was taken: [N, S or 1, L] bool."""
    own = space(structure)
    chosen = action.unflatten(1, (structure.num_learners, own.width(structure.num_symbols))).transpose(1, 2)
    rests = own.resting(chosen)
    return chosen, rests if rests.shape[1] == structure.num_symbols else rests[:, :1]
