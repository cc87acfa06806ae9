"""One tick of a batch of markets, phase by phase; how a market opens; when an episode ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics import exact, random
from torchgym.numerics.trees import map_tensors
from torchgym.sim import accounts, actions, fundamental, matching, noise, traders
from torchgym.sim import market_data as tape
from torchgym.sim.noise import Noise, NoisePlan
from torchgym.sim.params import Params
from torchgym.sim.state import (
    Accounts,
    Book,
    Clock,
    MarketState,
    Orders,
    RewardMemory,
    total_log_volatility,
)
from torchgym.sim.traders import maker

Watch = Callable[[str, dict[str, object]], None]


def tick(
    structure: Structure,
    params: Params,
    state: MarketState,
    *,
    action: Tensor,
    draws: Noise,
    watch: Watch | None = None,
) -> MarketState:
    """Advance every market by one tick.

    Everybody decides on the end of the last tick. The learner's order executes first, against the book it saw; then the
    background traders' orders replace their old ones, the makers move their quotes, and all of them meet in the auction.
    Afterwards value and news move, the makers learn and quote anew, and the tape records what everybody can see.

    Args:
        action: [N, S] int64, a choice of the configured action scheme.
        draws: this tick's random numbers.
        watch: called after each phase with its name and products, for checks; None costs nothing.

    Returns:
        The new state; the given one is untouched.
    """
    now = state.clock.tick + 1
    half_mid = state.tape.half_mids[..., -1]
    reference = state.traders["maker"].reference
    view = traders.see(params, state, reference)

    shares, limit = actions.order(structure, params, state, action)
    book, execution = matching.EXECUTIONS[structure.execution](structure, state.book, shares, limit, half_mid)
    _tell(watch, "execute", state=state, book=book, execution=execution)

    orders, memories = traders.decide(structure, params, state, view=view, noise=draws)
    book = _submit(book, orders, now)
    book = maker.renew(structure, book, state.book)
    book, auction = matching.clear(structure, book, execution.remainder, limit, half_mid, draws.coin)
    _tell(watch, "clear", state=state, book=book, auction=auction)

    balances = accounts.settle(
        structure, params, state.accounts, execution=execution, auction=auction, standing_price=state.book.price
    )
    _tell(watch, "settle", state=state, accounts=balances)

    log_close = tape.log_price(params, 2 * auction.price)
    memories = traders.settle(
        memories, structure=structure, before=state.accounts, execution=execution, auction=auction, log_close=log_close
    )
    value = fundamental.advance(structure, params, state.value, draws)
    _tell(watch, "advance", state=state, value=value)

    makers = memories["maker"]
    surprised, report = maker.surprise(
        params, makers, view=view, execution=execution, auction=auction, half_mid=half_mid
    )
    makers = maker.learn(params, makers, view=view, surprised=surprised, report=report, public_move=value.public_move)
    book = maker.quote(
        structure,
        params,
        makers,
        half_spread=view.maker_half_spread,
        shares=balances.shares[..., structure.maker_owners],
        book=matching.expire(book, now),
    )
    memories["maker"] = makers
    _tell(watch, "quote", state=state, book=book)

    seen = tape.measure(
        params,
        state.tape,
        book=book,
        execution=execution,
        auction=auction,
        fresh=orders.size,
        reference=makers.reference,
    )
    _tell(watch, "measure", state=state, tape=seen)
    half_mid = seen.half_mids[..., -1]
    liquidation = _liquidation(structure, balances, book, half_mid)
    balances = accounts.mark(params, balances, half_mid, liquidation, now=now)
    _tell(watch, "mark", state=state, accounts=balances)
    return MarketState(
        clock=replace(state.clock, tick=now),
        value=value,
        book=book,
        tape=seen,
        accounts=balances,
        traders=memories,
        reward=state.reward,
    )


def _tell(watch: Watch | None, phase: str, **products: object) -> None:
    if watch is not None:
        watch(phase, products)


def _submit(book: Book, orders: Orders, now: Tensor) -> Book:
    """Put this tick's orders into the book, where they end `life` ticks from now ([N] int64)."""
    expiry = now[:, None, None] + orders.life.to(torch.int64)
    return matching.replace_orders(book, orders.price.to(torch.int64), orders.size.to(torch.int64), expiry)


def _liquidation(structure: Structure, balances: Accounts, book: Book, half_mid: Tensor) -> Tensor | None:
    """What the learner's shares are marked at, [N, S] int64 half units; None where they are marked at the mid."""
    if structure.mark == "mid":
        return None
    return matching.liquidation_value(structure, book, balances.learner_shares, half_mid)


def start(structure: Structure, params: Params, *, plan: NoisePlan, seed: Tensor, episode: Tensor) -> MarketState:
    """A market as it opens, before its warm-up: traits, inventories, opening quotes; seed and episode [N] int64.

    The learner's shares are marked at these quotes.
    """
    key = random.make_key(seed, episode)
    draws = noise.draw_start(structure, plan, key)
    value = fundamental.start(params, draws)
    memories, shares, _ = traders.start(structure, params, value, draws)
    hidden = total_log_volatility(value)
    variance = params.opening_volatility * params.opening_volatility * exact.exp(hidden)
    reference = memories["maker"].reference

    empty = torch.zeros((*shares.shape[:2], structure.slots), dtype=torch.int64, device=shares.device)
    book = Book(price=empty + 1, size=empty, expiry=empty.clone())
    balances = accounts.start(params, shares)
    half_equity = balances.half_equity
    nothing = torch.zeros_like(half_equity, dtype=torch.float64)
    state = MarketState(
        clock=Clock(
            seed=seed,
            episode=episode,
            tick=torch.zeros_like(seed) - structure.warmup_ticks,
            last=params.max_ticks[:, 0].clone(),
            key=key,
        ),
        value=value,
        book=book,
        tape=tape.start(params, book, reference, variance),
        accounts=balances,
        traders=memories,
        reward=RewardMemory(
            half_peak=half_equity.clone(), drawdown=nothing, mean_return=nothing.clone(), mean_square=nothing.clone()
        ),
    )
    width = traders.see(params, state, reference).maker_half_spread
    book = maker.quote(
        structure,
        params,
        memories["maker"],
        half_spread=width,
        shares=shares[..., structure.maker_owners],
        book=book,
    )
    seen = tape.start(params, book, reference, variance)
    half_mid = seen.half_mids[..., -1]
    balances = accounts.appraise(balances, half_mid, _liquidation(structure, balances, book, half_mid))
    memory = replace(state.reward, half_peak=balances.half_equity.clone())
    state = replace(state, book=book, tape=seen, accounts=balances, reward=memory)
    # The layout in memory that every later tick has too; with another one the tick would be compiled twice. A copy, because
    # contiguous() lets any stride stand in a dimension of one, as those of a single market are.
    return map_tensors(lambda leaf: leaf.clone(memory_format=torch.contiguous_format), state)


def truncated(state: MarketState) -> Tensor:
    """Time is up, [N] bool."""
    return state.clock.tick >= state.clock.last
