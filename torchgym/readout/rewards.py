"""What the learner is rewarded for: the table of reward terms, and their weighted total.

A term is a function of the market before and after a tick, and of what path-dependent terms remember. Adding one takes a function
and a row of `REWARDS`, here or in a program of one's own.

Every term is the same in every bit eager, compiled, alone or in a batch. (tests/test_rewards.py)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchgym.config import MarketConfig, Structure
from torchgym.numerics import exact
from torchgym.sim import tick as ticking
from torchgym.sim.params import Params
from torchgym.sim.state import Ledger, MarketState, RewardMemory, paid, push
from torchgym.table import Table, check_made

DRAWDOWN_PRICE = 0.5  # risk_adjusted: currency per currency of new drawdown
TURNOVER_PRICE = 1e-4  # risk_adjusted: currency per currency traded (1 bp), beside the commission
SHARPE_DECAY = 0.01  # differential_sharpe: weight of the newest return in the running moments
SHARPE_LIMIT = 10.0  # differential_sharpe is clipped here, either side
_SHARPE_ROUNDING = 1e-9  # of the mean square: a variance below this is what rounding leaves of none
_SHARPE_LEAST = 1e-24  # no real trade leaves a variance this small; below it the powers would underflow


@dataclass(frozen=True)
class Played:
    """A tick, as the terms read it: the market at its beginning and at its end."""

    structure: Structure
    params: Params
    before: MarketState
    after: MarketState

    @property
    def ledger(self) -> Ledger:
        """The learners' accounts at the end."""
        return self.after.ledger

    @property
    def equity_x2_before(self) -> Tensor:
        """Twice their marked equity at the beginning, [N, L] int64."""
        return self.before.ledger.equity_x2


# To the term [N, L] float64 and the memory after.
Term = Callable[[Played, RewardMemory], tuple[Tensor, RewardMemory]]


@dataclass(frozen=True)
class Reward:
    """One row of `REWARDS`."""

    term: Term
    unit: str
    meaning: str


def start(structure: Structure, state: MarketState) -> RewardMemory:
    """The memory at the start of an episode: the state is that at the end of the warm-up."""
    return RewardMemory.start(structure, state.ledger, state.market_data.mids_x2[..., -1])


def weights(config: MarketConfig) -> dict[str, float]:
    """Weight of each term of `config.reward`, in the order of `REWARDS`; a name alone has weight 1.

    Raises:
        ValueError: for an unknown term, listing the known ones.

    >>> weights(MarketConfig(reward={"log_return": 2, "pnl": 1}))
    {'pnl': 1.0, 'log_return': 2.0}
    """
    chosen = config.reward if isinstance(config.reward, Mapping) else {config.reward: 1.0}
    REWARDS.check(chosen)
    return {term: float(chosen[term]) for term in REWARDS if term in chosen}


def terms(structure: MarketConfig | Structure) -> tuple[str, ...]:
    """Names of the chosen terms, in the order of `REWARDS`.

    Raises:
        ValueError: for an unknown term, listing the known ones.
    """
    chosen = structure.rewards if isinstance(structure, Structure) else weights(structure)
    REWARDS.check(chosen)
    return tuple(term for term in REWARDS if term in chosen)


def total(tick: Played, memory: RewardMemory) -> tuple[Tensor, dict[str, Tensor], RewardMemory]:
    """The reward of one tick: the weighted sum of the chosen terms, in the order of `REWARDS`.

    Returns:
        The reward [N, L] float64; each chosen term [N, L] before its weight; the memory, in which the parts that no chosen term
        needs are passed through.

    Raises:
        ValueError: for an unknown term, listing the known ones.
    """
    reward: Tensor | None = None
    values: dict[str, Tensor] = {}
    for name in terms(tick.structure):
        made = REWARDS[name].term(tick, memory)
        if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], RewardMemory)):
            raise ValueError(f"REWARDS[{name!r}] must make two things, its value and the memory, it made {made!r}")
        value, memory = made
        check_made(f"REWARDS[{name!r}]", value, tick.equity_x2_before.shape, torch.float64)
        values[name] = value
        part = value * tick.params[f"reward.{name}"]
        reward = part if reward is None else reward + part
    assert reward is not None  # the configuration refuses an empty mapping
    return reward, values, memory


def _pnl(tick: Played, memory: RewardMemory) -> tuple[Tensor, RewardMemory]:
    """Change of marked equity, in currency; adds up to final minus initial equity over any run of ticks."""
    return _currency(tick.params, tick.ledger.equity_x2 - tick.equity_x2_before), memory


def _log_return(tick: Played, memory: RewardMemory) -> tuple[Tensor, RewardMemory]:
    """log(equity after / equity before); adds up to the log return of the whole run.

    Equity at or below a millionth of the starting cash, ruin included, counts as that millionth: the worst possible sum is
    −13.8 from the starting cash, and the terms add up none the less.
    """
    before, after = _solvent(tick.params, tick.equity_x2_before), _solvent(tick.params, tick.ledger.equity_x2)
    return exact.log(after / before), memory


def _risk_adjusted(tick: Played, memory: RewardMemory) -> tuple[Tensor, RewardMemory]:
    """Profit less `DRAWDOWN_PRICE` × increase of drawdown less `TURNOVER_PRICE` × amount traded, in currency.

    Drawdown is the distance of equity below its highest value so far; only its increases cost, recovery earns nothing beyond
    its profit.
    """
    equity = tick.ledger.equity_x2
    peak = torch.maximum(memory.peak_x2, equity)
    below = peak - equity
    deeper = (below - (memory.peak_x2 - tick.equity_x2_before)).clamp(min=0)
    halves = (equity - tick.equity_x2_before, deeper, 2 * tick.ledger.turnover)
    profit, drawdown, traded = (_currency(tick.params, amount) for amount in halves)
    remembered = replace(memory, peak_x2=peak, drawdown=below.to(torch.float64) / peak.clamp(min=1))
    return profit - drawdown * DRAWDOWN_PRICE - traded * TURNOVER_PRICE, remembered


def _differential_sharpe(tick: Played, memory: RewardMemory) -> tuple[Tensor, RewardMemory]:
    """What this tick's return R adds to the running Sharpe ratio, per unit of decay η = `SHARPE_DECAY`.

    With running moments A ← A + η (R − A) and B ← B + η (R² − B), both 0 at the start:
    D = (B (R − A) − ½ A (R² − B)) / (B − A²)^(3/2), A and B those of the tick before.

    R is the change of equity over equity before (both floored as in `log_return`). D is 0 where the variance B − A² is nothing
    but rounding, so at the first tick, and clipped to ±`SHARPE_LIMIT`: after a long rest the variance is tiny, and the first
    trade would outweigh the episode. In steady trade D is about R in standard deviations, far inside.

    Source: Moody and Saffell 1998, Reinforcement Learning for Trading, NIPS 11; derived again in their Learning to Trade via
    Direct Reinforcement, IEEE Transactions on Neural Networks 12 (2001), section II.D.
    """
    before, after = _solvent(tick.params, tick.equity_x2_before), _solvent(tick.params, tick.ledger.equity_x2)
    mean, square = memory.mean_return, memory.mean_square
    change = (after - before) / before
    from_mean, from_square = change - mean, change * change - square
    variance = square - mean * mean
    real = variance > square * _SHARPE_ROUNDING + _SHARPE_LEAST
    safe = torch.where(real, variance, 1.0)
    ratio = (square * from_mean - mean * from_square * 0.5) / (safe * exact.sqrt(safe))
    remembered = replace(
        memory, mean_return=mean + from_mean * SHARPE_DECAY, mean_square=square + from_square * SHARPE_DECAY
    )
    return torch.where(real, ratio.clamp(-SHARPE_LIMIT, SHARPE_LIMIT), 0.0), remembered


def _inventory(tick: Played, memory: RewardMemory) -> tuple[Tensor, RewardMemory]:
    """Minus the sum over symbols of (shares held / position limit)², at the end of the tick: 0 when flat.

    Without unit, −1 per symbol and tick at the limit. Beside `pnl` its weight is a price of risk, in currency per tick at the
    limit: the urgency of an execution, the risk aversion of a market maker.

    Source: the penalty ∫ φ q² dt on the inventory q in Cartea, Jaimungal and Penalva 2015, Algorithmic and High-Frequency
    Trading, chapters 6 and 10; in discrete time the variance term of Almgren and Chriss 2001, Optimal Execution of Portfolio
    Transactions, Journal of Risk 3.
    """
    held = tick.ledger.shares
    return (-held * held).sum(-2).to(torch.float64) * tick.params.per_position_limit_squared, memory


def _final_inventory(tick: Played, memory: RewardMemory) -> tuple[Tensor, RewardMemory]:
    """Minus the increase in the tick of the sum over symbols of (shares held / position limit)².

    Without unit; over an episode it adds up to the starting sum less the final one, so that what is left at the end costs its
    square and every trade towards it is told at once.

    Source: the terminal penalty α q² in Cartea, Jaimungal and Penalva 2015, chapters 6 and 10, as a sum of differences: shaping
    by a potential, Ng, Harada and Russell 1999, Policy invariance under reward transformations, ICML.
    """
    held, before = tick.ledger.shares, tick.ledger.shares - tick.ledger.filled
    return (before * before - held * held).sum(-2).to(torch.float64) * tick.params.per_position_limit_squared, memory


def _shortfall(tick: Played, memory: RewardMemory) -> tuple[Tensor, RewardMemory]:
    """What trading brought against the arrival price, in currency, all charges included: minus the implementation shortfall.

    The arrival price is the mid at the end of the warm-up. A trade counts when it happens, as arrival price less fill price for
    what is bought and the other way round for what is sold. What the price does to shares still held counts at the end: they are
    valued then at what walking the book would bring, less commission, instead of at the arrival price.

    Source: Perold 1988, The implementation shortfall: paper versus reality, Journal of Portfolio Management 14.
    """
    assert memory.arrival_x2 is not None
    return _brought(tick, against=memory.arrival_x2, left_at=memory.arrival_x2), memory


def _slippage(tick: Played, memory: RewardMemory) -> tuple[Tensor, RewardMemory]:
    """What trading brought against the mid just before it, in currency, all charges included.

    At the end what is left counts as sold by walking the book. It is the profit without what the mid moves on shares held, so
    with little noise. That leaves out what own trades do to the price of later ones, too: where they move it, `shortfall` tells
    the whole.
    """
    before, after = (state.market_data.mids_x2[..., -1] for state in (tick.before, tick.after))
    return _brought(tick, against=before, left_at=after), memory


def _brought(tick: Played, *, against: Tensor, left_at: Tensor) -> Tensor:
    """What trades and charges brought against a price, and at the end what walking the book would bring for the shares left.

    Args:
        against: [N, S] int64 half points, for the tick's trades.
        left_at: the same for the shares left.

    Returns:
        [N, L] float64, currency.
    """
    after, own, before = tick.after, tick.ledger, tick.before.ledger
    traded = 2 * (own.cash - before.cash) + (own.filled * against.unsqueeze(-1)).sum(-2)
    left = ticking.liquidation(tick.structure, own.shares, after.book, after.market_data.mids_x2[..., -1])
    lost = (left - own.shares * left_at.unsqueeze(-1)).sum(-2)
    commission = (left.abs() * tick.params.commission_rate).sum(-2).to(torch.float64) * 1e-6
    was_over, is_over = (ticking.truncated(state).unsqueeze(-1) | state.ledger.ruined for state in (tick.before, after))
    ends = is_over & ~was_over
    final = torch.where(ends, lost.to(torch.float64) - commission, 0.0)
    return _currency(tick.params, traded) + final * tick.params.half_point


def _spread_capture(tick: Played, memory: RewardMemory) -> tuple[Tensor, RewardMemory]:
    """What fills earned against the mid before their tick, in currency, charges aside: positive for a maker's quotes.

    Source: half of the effective spread, as in Huang and Stoll 1996, Dealer versus auction markets, Journal of Financial
    Economics 41.
    """
    own, before = tick.ledger, tick.before.ledger
    spent, _ = paid(before, own)
    worth = (own.filled * tick.before.market_data.mids_x2[..., -1].unsqueeze(-1)).sum(-2)
    return _currency(tick.params, worth - 2 * spent), memory


def _adverse_selection(tick: Played, memory: RewardMemory) -> tuple[Tensor, RewardMemory]:
    """What the mid's move did to the shares filled in this tick and the `SELECTION_TICKS` before it, in currency.

    Over an episode it adds up to what the mid moved for or against each fill, from before its tick to `SELECTION_TICKS` ticks
    after it or the end; mostly against. With `spread_capture` it makes the realised spread; `torchgym.lab.fills.profit` adds the
    other parts.

    Source: the price impact of Huang and Stoll 1996, Dealer versus auction markets, Journal of Financial Economics 41.
    """
    assert memory.recent is not None
    filled = tick.ledger.filled
    mids = (state.market_data.mids_x2[..., -1] for state in (tick.after, tick.before))
    moved = torch.sub(*mids).unsqueeze(-1)
    lately = memory.recent.sum(-1) + filled
    return _currency(tick.params, (lately * moved).sum(-2)), replace(memory, recent=push(memory.recent, filled))


def _currency(params: Params, amount_x2: Tensor) -> Tensor:
    """Currency, float64, from int64 half points × shares."""
    return amount_x2.to(torch.float64) * params.half_point


def _solvent(params: Params, equity_x2: Tensor) -> Tensor:
    """Equity, float64 half points × shares, counted as no less than the floor of returns (which is positive)."""
    return torch.maximum(equity_x2, params.equity_floor_x2).to(torch.float64)


REWARDS: Table[Reward] = Table(
    "reward",
    {
        "pnl": Reward(_pnl, "currency", "change of equity"),
        "log_return": Reward(_log_return, "fraction", "log return of equity"),
        "risk_adjusted": Reward(
            _risk_adjusted, "currency", "change of equity less prices for new drawdown and for turnover"
        ),
        "differential_sharpe": Reward(_differential_sharpe, "ratio", "what the return adds to a running Sharpe ratio"),
        "inventory": Reward(_inventory, "ratio", "minus the squares of the shares held over the position limit"),
        "final_inventory": Reward(_final_inventory, "ratio", "minus how much those squares grew"),
        "shortfall": Reward(_shortfall, "currency", "what trading brought against the price at the start"),
        "slippage": Reward(_slippage, "currency", "what trading brought against the mid just before it"),
        "spread_capture": Reward(_spread_capture, "currency", "what fills earned against the mid before their tick"),
        "adverse_selection": Reward(
            _adverse_selection, "currency", "what the mid moved for fills of the last 30 ticks"
        ),
    },
)
