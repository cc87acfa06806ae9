"""Market makers: quote both sides every tick around a common reference price that learns from the auctions' surprises."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics import exact
from torchgym.sim.noise import StartDraws
from torchgym.sim.params import Params
from torchgym.sim.state import FOREVER, HIGHEST, Auction, Book, Execution
from torchgym.sim.traders.signals import Signals


@dataclass
class MakerMemory:
    """[N, S] float64 but where said."""

    reference: Tensor  # points: what makers take the price to be, and quote around
    expected: Tensor  # [N, S, K] points: exponential means of past surprises, one per half-life
    reported: Tensor  # points: surprise in learners' trades of the last tick, not yet learnt from
    depth: Tensor  # [N, S, M] float64: distance of a maker's quote, half-spreads
    size: Tensor  # [N, S, M] float64: shares of a full quote, whole


def start(structure: Structure, params: Params, draws: StartDraws, log_mid: Tensor) -> tuple[MakerMemory, Tensor]:
    """Traits from the seed, the reference at the opening price, a partly common inventory; log_mid [N, S] float64."""
    family = params.population.maker
    reference = _possible(params.list_price.to(torch.float64) * exact.exp(log_mid))

    def per_maker(number: Tensor) -> Tensor:
        return number.unsqueeze(-1)

    depth = family.grid * exact.exp(per_maker(family.depth_spread) * draws.normal.to(torch.float64))
    drawn = family.size[..., :1] + per_maker(family.size_span) * draws.u0.to(torch.float64)
    size = torch.floor(drawn * _power(depth, per_maker(family.size_power)) + 0.5)
    common = draws.normal_2[..., :1]  # one number of the symbol for all its makers
    typical, own = (
        per_maker(number.to(torch.float32)) for number in (family.start_inventory, family.start_inventory_own)
    )
    inventory = torch.floor(typical * (common + own * draws.normal_3) + 0.5)
    memory = MakerMemory(
        reference=reference,
        expected=torch.zeros((*reference.shape, family.decays.shape[-1]), dtype=torch.float64, device=reference.device),
        reported=torch.zeros_like(reference),
        depth=depth,
        size=torch.minimum(size, per_maker(family.max_size.to(torch.float64))),
    )
    return memory, inventory


def _possible(reference: Tensor) -> Tensor:
    """A reference with room for quotes on either side."""
    return torch.clamp(reference, 1.0, HIGHEST / 2)


def _power(depth: Tensor, power: Tensor) -> Tensor:
    """Depth ** power; the root by `exact.sqrt`, as it rounds."""
    return torch.where(power == 0.5, exact.sqrt(depth), exact.exp(power * exact.log(depth)))


def surprise(
    params: Params,
    memory: MakerMemory,
    *,
    signals: Signals,
    execution: Execution,
    auction: Auction,
    mid_x2: Tensor,
) -> tuple[Tensor, Tensor]:
    """How far from the mid the market traded, [N, S] float64 points.

    The first is this tick's: the auction's price, plus what was reported of learners' trades a tick ago. The second is the
    report for the next tick, of what learners took from the standing book: makers read a trade's side more than its size,

        report = side * trade_impact * volatility * reference * sqrt(shares / usual volume)

    The delay keeps a taker from moving, within the tick, the quotes it will trade against next.

    Source: the concave impact of single trades, Lillo, Farmer and Mantegna (2003), Master curve for price-impact function;
    its scale in units of volatility and volume, Tóth et al. (2011), Anomalous price impact.
    """
    in_auction = torch.where(auction.volume > 0, 2 * auction.price - mid_x2, 0).to(torch.float64) * 0.5
    relative = execution.filled.abs().to(torch.float64) * params.per_usual_volume.unsqueeze(-1)
    side = torch.sign(execution.filled).to(torch.float64)
    worth = params.population.maker.trade_impact * signals.maker_volatility * memory.reference
    first, *others = (side * worth.unsqueeze(-1) * exact.sqrt(relative)).unbind(-1)
    return in_auction + memory.reported, sum(others, start=first)


def learn(
    params: Params,
    memory: MakerMemory,
    *,
    signals: Signals,
    execution: Execution,
    auction: Auction,
    mid_x2: Tensor,
    public_move: Tensor,
) -> MakerMemory:
    """New reference price: follow the part of the surprise that recent ones did not announce, stay near the mid, take in news.

        es = cap tanh(e / cap)
        c <- c + gain (es - sum of w_k f_k) + pull (mid - c), less half of what c stands off the mid beyond a band

    with f_k exponential means of past es. Following only the unannounced part removes autocorrelation from returns,
    although order flow has memory; several half-lives let the impact of a persistent flow fade like a power of time.

    Source: the surprise in the flow moves the price, not the flow, Lillo and Farmer (2004); fading impact, Bouchaud, Gefen,
    Potters and Wyart (2004), Fluctuations and response in financial markets.
    """
    surprised, report = surprise(params, memory, signals=signals, execution=execution, auction=auction, mid_x2=mid_x2)
    family = params.population.maker
    cap = family.surprise_cap * signals.maker_volatility * memory.reference + family.surprise_cap_points
    signal = cap * exact.tanh(surprised / cap)
    means, weights = memory.expected.unbind(-1), family.expectation_weights.unbind(-1)
    first, *others = (weight * mean for weight, mean in zip(weights, means, strict=True))
    news = signal - sum(others, start=first)
    off = memory.reference - signals.reference_mid
    band = family.band * signals.maker_half_spread
    beyond = off - torch.minimum(torch.maximum(off, -band), band)
    reference = memory.reference + signals.maker_gain * news - family.pull * off - family.band_pull * beyond
    means = tuple(mean + decay * (signal - mean) for mean, decay in zip(means, family.decays.unbind(-1), strict=True))
    return replace(
        memory,
        reference=_possible(reference * exact.exp(public_move)),
        expected=torch.stack(means, dim=-1),
        reported=report,
    )


def quote(
    structure: Structure, params: Params, memory: MakerMemory, *, half_spread: Tensor, shares: Tensor, book: Book
) -> Book:
    """New quotes in place of all that stood: a `Book` of M bids and M asks.

    All bids lie below and all asks above the common reference, so makers never cross one another.

    Args:
        half_spread: [N, S] float64 points.
        shares: [N, S, M] int64, the makers' inventories.
        book: what stands, [N, S, K], for rows that look at it.
    """
    family = params.population.maker
    limit = family.limit_shares.unsqueeze(-1)
    load = torch.clamp(shares, -limit, limit).to(torch.float64) * family.per_limit.unsqueeze(-1)
    skew = family.skew.unsqueeze(-1) * load * half_spread.unsqueeze(-1)
    reach = memory.depth * half_spread.unsqueeze(-1)
    middle = memory.reference.unsqueeze(-1)
    bids = torch.minimum(torch.floor(middle - reach - skew), torch.ceil(middle) - 1.0)
    asks = torch.maximum(torch.ceil(middle + reach - skew), torch.floor(middle) + 1.0)
    bids, asks = torch.clamp(bids, 1.0, HIGHEST - 1.0), torch.clamp(asks, 2.0, float(HIGHEST))
    bid_size = torch.ceil(memory.size * (1.0 - torch.clamp(load, min=0.0)) - 1e-3)
    ask_size = torch.ceil(memory.size * (1.0 + torch.clamp(load, max=0.0)) - 1e-3)

    price = torch.cat([bids, asks], dim=-1).to(torch.int32)
    size = torch.cat([bid_size, -ask_size], dim=-1).to(torch.int32)
    return Book(price=price, size=size, expiry=torch.full_like(size, FOREVER))
