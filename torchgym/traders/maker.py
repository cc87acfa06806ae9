"""Market makers: quote both sides every tick around a common reference price that learns from the auctions' surprises."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchgym import exact
from torchgym.config import MarketConfig
from torchgym.noise import StartDraws
from torchgym.state import Auction, Book, Execution, Layout, MarketParams
from torchgym.traders.view import View

_FOREVER = 2**40  # quotes are replaced every tick and never expire by themselves
_NO_BID, _NO_ASK = -(2**40), 2**40
_FAST_DECAY = 0.5  # half-life of one tick
_SLOW_DECAY = 1.0 - 2.0 ** (-1.0 / 40.0)
_PULL_TO_MID = 0.04
_WINDUP_BAND = 3.0  # half-spreads that the quotes' centre may stand off the mid
_SKEW = 2.0  # half-spreads of quote shift at full own inventory


@dataclass
class MakerMemory:
    """[N, S] float64 but where said."""

    reference: Tensor  # points: what makers take the price to be
    fast_surprise: Tensor  # points, exponential means of past surprises
    slow_surprise: Tensor
    reported: Tensor  # points: surprise in the learner's trades of the last tick, not yet learnt from
    centre: Tensor  # points: reference shifted for the common inventory
    depth: Tensor  # [N, S, M] float64: distance of a maker's quote, half-spreads
    size: Tensor  # [N, S, M] float64: shares of a full quote, whole
    wanted: Tensor  # [N, S, 2 M] int64 points: quotes before they were kept from crossing


def start(config: MarketConfig, draws: StartDraws, reference: Tensor) -> tuple[MakerMemory, Tensor]:
    """Traits from the seed, the reference at the opening price ([N, S] float64 points), a partly common inventory."""
    family = config.population.maker
    low, high = family.depth
    steps = max(family.count - 1, 1)
    grid = [low * (high / low) ** (index / steps) for index in range(family.count)]
    spaced = torch.tensor(grid, dtype=torch.float64, device=reference.device)
    depth = spaced * exact.exp(0.15 * draws.normal.to(torch.float64))
    small, large = family.size
    size = torch.floor((small + (large - small) * draws.u0.to(torch.float64)) * exact.sqrt(depth) + 0.5)
    common = draws.normal_2[..., :1]  # one number of the symbol for all its makers
    inventory = torch.floor(family.start_inventory * (common + 0.5 * draws.normal_3) + 0.5)
    zero = torch.zeros_like(reference)
    memory = MakerMemory(
        reference=reference,
        fast_surprise=zero,
        slow_surprise=zero.clone(),
        reported=zero.clone(),
        centre=reference.clone(),
        depth=depth,
        size=torch.clamp(size, max=float(family.max_size)),
        wanted=torch.zeros((*reference.shape, 2 * family.count), dtype=torch.int64, device=reference.device),
    )
    return memory, inventory


def renew(places: Layout, memory: MakerMemory, book: Book, standing: Book) -> Book:
    """Cancel and replace the quotes before the auction, at the prices that were wanted, crossing stale orders if need be.

    Their sizes are those of the `standing` book again, also where the learner has taken some of it.
    """
    singles = places.singles
    return replace(
        book,
        price=torch.cat([book.price[..., :singles], memory.wanted], dim=-1),
        size=torch.cat([book.size[..., :singles], standing.size[..., singles:]], dim=-1),
    )


def surprise(
    config: MarketConfig, memory: MakerMemory, *, execution: Execution, auction: Auction, half_mid: Tensor
) -> tuple[Tensor, Tensor]:
    """How far from the mid the market traded, [N, S] float64 points.

    The first is this tick's: the auction's price, plus what was reported of the learner's trades a tick ago. The second is the
    report for the next tick: the volume-weighted distance at which the learner took standing quotes, each of its shares
    counting `taker_weight` times. The delay keeps a taker from moving, within the tick, the quotes it will trade against next.
    """
    weight = config.population.maker.taker_weight
    in_auction = torch.where(auction.volume > 0, 2 * auction.price - half_mid, 0).to(torch.float64) * 0.5
    taken = execution.filled.abs()
    against_book = (2 * execution.paid.abs() - taken * half_mid).to(torch.float64) * (0.5 * weight)
    volume = torch.clamp(auction.volume.to(torch.float64) + weight * taken.to(torch.float64), min=1.0)
    return in_auction + memory.reported, against_book / volume


def learn(
    config: MarketConfig,
    params: MarketParams,
    memory: MakerMemory,
    *,
    view: View,
    surprised: Tensor,
    report: Tensor,
    public_move: Tensor,
) -> MakerMemory:
    """New reference price: follow the part of the surprise that recent ones did not announce, stay near the mid, take in news.

    es = cap tanh(e / cap); c <- c + gain (es - fast share f1 - slow share f2) + pull (mid - centre), less half of what the
    centre stands off the mid beyond a band. Following only the unannounced part removes autocorrelation from returns.
    """
    family = config.population.maker
    cap = 5.0 * view.maker_volatility * memory.reference + 1.0
    signal = cap * exact.tanh(surprised / cap)
    news = signal - family.fast_weight * memory.fast_surprise - family.slow_weight * memory.slow_surprise
    off = memory.centre - view.reference_mid
    band = _WINDUP_BAND * view.maker_half_spread
    beyond = off - torch.minimum(torch.maximum(off, -band), band)
    reference = memory.reference + params.surprise_gain * news - _PULL_TO_MID * off - 0.5 * beyond
    return replace(
        memory,
        reference=reference * exact.exp(public_move),
        fast_surprise=memory.fast_surprise + _FAST_DECAY * (signal - memory.fast_surprise),
        slow_surprise=memory.slow_surprise + _SLOW_DECAY * (signal - memory.slow_surprise),
        reported=report,
    )


def quote(
    config: MarketConfig, places: Layout, memory: MakerMemory, *, half_spread: Tensor, shares: Tensor, book: Book
) -> tuple[MakerMemory, Book]:
    """Cancel and replace all quotes, post-only: no bid reaches another trader's ask, nor the reverse.

    Args:
        half_spread: [N, S] float64 points.
        shares: [N, S, M] int64, the makers' inventories.

    All bids lie below and all asks above the common centre, so makers never cross one another.
    """
    family = config.population.maker
    limit = int(family.limit)
    capped = torch.clamp(shares, -limit, limit)
    load = capped.to(torch.float64) * (1.0 / limit)
    common = capped.sum(-1).to(torch.float64) * (1.0 / (limit * family.count))
    shift = family.inventory_shift * common * (1.0 + family.inventory_shift * common * common)
    centre = memory.reference - shift * half_spread
    skew = _SKEW * (load - 0.5 * common.unsqueeze(-1)) * half_spread.unsqueeze(-1)
    reach = memory.depth * half_spread.unsqueeze(-1)
    middle = centre.unsqueeze(-1)
    bids = torch.minimum(torch.floor(middle - reach - skew), torch.ceil(middle) - 1.0).to(torch.int64)
    asks = torch.maximum(torch.ceil(middle + reach - skew), torch.floor(middle) + 1.0).to(torch.int64)
    bids, asks = torch.clamp(bids, min=1), torch.clamp(asks, min=2)

    others = slice(0, places.singles)
    price, size = book.price[..., others], book.size[..., others]
    best_bid = torch.where(size > 0, price, _NO_BID).amax(-1, keepdim=True)
    best_ask = torch.where(size < 0, price, _NO_ASK).amin(-1, keepdim=True)
    posted = torch.cat([torch.minimum(bids, best_ask - 1), torch.maximum(asks, best_bid + 1)], dim=-1)
    bid_size = torch.ceil(memory.size * (1.0 - torch.clamp(load, min=0.0)) - 1e-3)
    ask_size = torch.ceil(memory.size * (1.0 + torch.clamp(load, max=0.0)) - 1e-3)
    sizes = torch.cat([bid_size, -ask_size], dim=-1).to(torch.int64)
    sizes = torch.where(posted >= 1, sizes, 0)
    quoted = Book(
        price=torch.cat([price, posted], dim=-1),
        size=torch.cat([size, sizes], dim=-1),
        expiry=torch.cat([book.expiry[..., others], torch.full_like(posted, _FOREVER)], dim=-1),
    )
    return replace(memory, centre=centre, wanted=torch.cat([bids, asks], dim=-1)), quoted
