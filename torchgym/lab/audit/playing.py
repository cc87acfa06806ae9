"""Playing every policy in the same episodes, and the table of what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.config.validation import check_count, check_one_learner
from torchgym.engine import Compile, Market, StepResult, consecutive_seeds
from torchgym.lab.audit import scheme
from torchgym.lab.audit.agents import ACCOUNT, AgentAttempt, play_agent, terms_of
from torchgym.lab.audit.attempts import TAKING, Attempt, AuditSnapshot
from torchgym.lab.audit.quoting import QUOTING, QuotingAttempt, at_market
from torchgym.lab.audit.scheme import any_order
from torchgym.lab.audit.verdicts import GAIN, Sample, mean_and_error, t_statistic
from torchgym.lab.policies import Memory
from torchgym.numerics import random
from torchgym.progress import Progress, silent
from torchgym.sim import matching, resting
from torchgym.sim.market_data import best_quotes
from torchgym.table import Table

Rule = Attempt | QuotingAttempt
AnyAttempt = Rule | AgentAttempt
POLICIES: Table[Rule] = Table("policy", {**TAKING, **QUOTING})

SEED = 5_000_000_000_000  # first episode; far from the small seeds that one trains with
UNWIND = 30  # last ticks of an episode, in which every policy sells what it holds
_HOLD = 100  # of the action scheme "percent"
_STREAM = 1_000  # random numbers that no market draws


@dataclass(frozen=True)
class AuditRow:
    """What one policy made of its episodes; money in currency per episode."""

    policy: str
    description: str
    requirement: str
    profit_mean: float  # after all costs, everything sold
    profit_standard_error: float
    profit_bp: float  # of the amount traded
    t_statistic: float
    before_commission: float  # profit without commission
    paper: float  # profit by the mid before unwinding began
    turnover: float  # amount traded, both sides positive
    passed: bool
    reason: str


@dataclass(frozen=True)
class Audit:
    """The verdicts of one audit."""

    rows: list[AuditRow]
    config: MarketConfig
    episodes: int
    ticks: int
    seed: int

    @property
    def passed(self) -> bool:
        """Whether every policy met its requirement."""
        return all(row.passed for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, ready for JSON."""
        content = {**vars(self), "config": self.config.to_dict(), "rows": [asdict(row) for row in self.rows]}
        return {**content, "passed": self.passed, "gain_t": GAIN}


def audit(
    config: MarketConfig | None = None,
    *,
    episodes: int = 512,
    ticks: int = 1_000,
    seed: int = SEED,
    policies: Sequence[str] | Mapping[str, AnyAttempt] | None = None,
    batch: int = 32,
    device: torch.device | str = "cpu",
    compile: Compile = "auto",
    progress: Progress = silent,
) -> Audit:
    """Let scripted traders try to get money for nothing: a row per policy, in order.

    Policies play side by side: each has its own markets in one batch, and all of them the same episodes. The terms of trade are
    the configuration's; standard orders and positions too. Large policies send ten times the standard order and hold ten of
    those. In the last 30 ticks of an episode every policy sells, order by order, and what the book did not take by then counts
    at what it would fetch (less commission). The same arguments give the same numbers, whatever `batch` and `compile`.

    Args:
        config: the market; the audit sets what the learner sees, how it acts, how often, how equity is marked, and that it begins
            without shares.
        episodes: how many, for every policy; below some hundreds the levels of significance are only nominal.
        ticks: length of an episode after the warm-up.
        seed: of the first episode; the others follow.
        policies: names of `POLICIES`, or attempts of your own by name; None plays all. Others that a verdict compares with play
            too, without a row. An `AgentAttempt` plays by itself, on the same episodes.
        batch: episodes played at once; a batch has as many markets for each policy.
        progress: called with the stage ("opening", "ticks", or "agent"), how much of it is done and how much there is, from 0 on.

    Raises:
        ValueError: for an unknown policy, listing the known ones; fewer than two episodes; an episode too short to unwind; an
            agent that was trained on another kind of market.
    """
    config = MarketConfig() if config is None else config
    table: Table[AnyAttempt] = Table("policy", {**POLICIES, **(policies if isinstance(policies, Mapping) else {})})
    chosen = list(dict.fromkeys(POLICIES if policies is None else policies))
    table.check(chosen)
    check_one_learner("audit", config)
    for name, value, low in (("episodes", episodes, 2), ("ticks", ticks, 2 * UNWIND), ("batch", batch, 1)):
        check_count(name, value, low)
    needed = [other for name in chosen for other in table[name].requirement.needs]
    playing = {name: table[name] for name in dict.fromkeys([*chosen, *needed])}
    kinds: list[dict[str, Rule]] = [
        {name: each for name, each in playing.items() if isinstance(each, kind)} for kind in (Attempt, QuotingAttempt)
    ]
    agents = {name: each for name, each in playing.items() if isinstance(each, AgentAttempt)}
    terms = {name: terms_of(config, agent, ticks) for name, agent in agents.items()}
    groups = [group for group in kinds if group]
    size = min(batch, episodes)
    blocks = consecutive_seeds(seed, size * -(-episodes // size)).split(size)
    samples: dict[str, Sample] = {}
    for done_groups, group in enumerate(groups):
        progress("opening", done_groups, len(groups))
        parts = []
        with any_order():
            market = _market(config, list(group.values()), size, ticks, device=device, compile=compile)
            for block, seeds in enumerate(blocks):

                def count(done: int, block: int = block, before: int = done_groups) -> None:
                    if block == done == 0:
                        progress("opening", before + 1, len(groups))
                    played = (before * len(blocks) + block) * ticks + done
                    progress("ticks", played, len(groups) * len(blocks) * ticks)

                parts.append(_play(market, config, list(group.values()), seeds, ticks, count))
        joined = {key: torch.cat([part[key] for part in parts], -1)[:, :episodes] for key in parts[0]}
        for at, (name, attempt) in enumerate(group.items()):
            own = {key: values[at] for key, values in joined.items()}
            samples[name] = Sample(limit=_largest(config, attempt)[1], maker_bps=_maker_bps(config, attempt), **own)
    for at, (name, agent) in enumerate(agents.items()):

        def count_of_agents(done: int, before: int = at) -> None:
            progress("agent", before * len(blocks) * ticks + done, len(agents) * len(blocks) * ticks)

        count_of_agents(0)
        samples[name] = play_agent(
            terms[name], agent, blocks, episodes, left=_left, device=device, compile=compile, count=count_of_agents
        )
    return Audit([_row(name, table[name], samples) for name in chosen], config, episodes, ticks, seed)


def _unit(config: MarketConfig) -> int:
    """Shares per step of the action: the largest divisor of the standard order up to a tenth of it."""
    order = config.order_size
    return next(unit for unit in range(max(1, order // 10), 0, -1) if order % unit == 0)


def _maker_bps(config: MarketConfig, attempt: Rule) -> float:
    """The fee of resting orders."""
    asked = attempt.maker_bps if isinstance(attempt, QuotingAttempt) else None
    return config.maker_bps if asked is None else asked(config)


def _largest(config: MarketConfig, attempt: Rule) -> tuple[int, int]:
    """Largest order and position in shares: the learner's, or ten times its order and ten such orders."""
    large = 100 * _unit(config)
    return (large, 10 * large) if attempt.large else (min(config.order_size, large), config.position_limit)


def _terms(config: MarketConfig, ticks: int) -> MarketConfig:
    """The same market, in which every policy can act as it wants and see what it needs."""
    large = 100 * _unit(config)
    return config.fixed(
        max_ticks=ticks,
        ticks_per_action=1,
        order_size=large,
        position_limit=max(10 * large, config.position_limit),
        action="percent",
        features="full55",
        scaling="raw",
        information="public",
        quotes=0,
        **ACCOUNT,
    )


def _own_terms(market: Market, config: MarketConfig, attempt: Rule) -> MarketConfig:
    """The market that an attempt plays in, as it sees it."""
    order, limit = _largest(config, attempt)
    return market.config.replace(order_size=order, position_limit=limit, maker_bps=_maker_bps(config, attempt))


def _market(
    config: MarketConfig,
    attempts: Sequence[Rule],
    size: int,
    ticks: int,
    *,
    device: torch.device | str,
    compile: Compile,
) -> Market:
    """A batch of `size` markets for each of these attempts, which are of one kind.

    Those that quote have an order, a limit and a fee of their own, so that what rests counts for the limit in the market's way.
    """
    terms, params = _terms(config, ticks), None
    if isinstance(attempts[0], QuotingAttempt):
        terms = terms.replace(action=scheme.NAME, quotes=scheme.PLACES, priority="time")
        own = [(*_largest(config, attempt), _maker_bps(config, attempt)) for attempt in attempts for _ in range(size)]
        params = dict(
            zip(("order_size", "position_limit", "maker_bps"), map(list, zip(*own, strict=True)), strict=True)
        )
    return Market(terms, num_envs=size * len(attempts), seed=0, device=device, params=params, compile=compile)


def _play(
    market: Market,
    config: MarketConfig,
    attempts: Sequence[Rule],
    seeds: Tensor,
    ticks: int,
    count: Callable[[int], None],
) -> dict[str, Tensor]:
    """One batch of episodes for every policy: the tensors of a `Sample` by name, [policies, episodes] float64 currency.

    Each policy trades within its order and limit; in the last `UNWIND` ticks all of them get out.
    """
    point, unit = market.config.point_size, _unit(config)
    terms = [_own_terms(market, config, attempt) for attempt in attempts]
    result = market.reset(seeds=seeds.repeat(len(attempts)))
    count(0)
    memories: list[Memory] = [{} for _ in attempts]
    start, last = result.info["equity"], ticks - UNWIND
    turnover, quoted, paper, rested = torch.zeros_like(start), torch.zeros_like(start), start, torch.zeros_like(start)
    owed = torch.zeros_like(market.live.ledger.equity_x2[:, 0])
    for now in range(ticks):
        shown, held = columns(market, result), market.live.ledger.shares[:, 0, 0].clone()
        shares, orders = [], []
        for at, (attempt, memory) in enumerate(zip(attempts, memories, strict=True)):
            rows = slice(at * len(seeds), (at + 1) * len(seeds))
            own, (order, limit) = held[rows], _largest(config, attempt)
            snapshot = AuditSnapshot(shown, rows, own, now, last, order, limit)
            if isinstance(attempt, QuotingAttempt):
                snapshot = replace(snapshot, terms=terms[at])
                wanted = attempt.rule(snapshot, memory) if now < last else at_market(snapshot, -own)
                traded, sizes = torch.clamp(wanted.shares, -order, order), torch.clamp(wanted.size, max=order)
                orders.append(replace(wanted, shares=traded, size=sizes))
            else:
                traded = torch.clamp(attempt.rule(snapshot, memory) if now < last else -own, -order, order)
                shares.append(torch.clamp(own + traded, -limit, limit) - own)
        action = scheme.action(orders, market.config.num_symbols) if orders else _percent(market, shares, unit)
        spread = market.live.market_data.ask - market.live.market_data.bid
        result = market.step(action)
        turnover += result.info["turnover"]
        quoted += (result.info["filled"].abs() * spread).sum(-1).to(torch.float64) * (0.5 * point)
        owed += (torch.clamp(-result.info["position"], min=0) * market.live.market_data.mids_x2[..., -1]).sum(-1)
        if market.live.ledger.rested is not None:
            rested += market.live.ledger.rested.paid.abs().sum((1, 2)).to(torch.float64) * point
        if now + 1 == last:
            paper = result.info["equity"]
        if (now + 1) % 50 == 0 or now + 1 == ticks:
            count(now + 1)
    rate, half_ppb = market.config.commission_bps * 1e-4, 2_000_000_000
    due = torch.div(owed * market.config.borrow_ppb, half_ppb, rounding_mode="floor")
    maker_rate = market.params.maker_rate.flatten(1)[:, 0].to(torch.float64) * 1e-6
    totals = {
        "profit": result.info["cash"] + _left(market, rate) - start,
        "paper": paper - start,
        "fees": result.info["fees"],
        "fees_due": (turnover - rested) * rate + rested * maker_rate,
        "borrow": result.info["borrow"],
        "borrow_due": due.to(torch.float64) * point,
        "turnover": turnover,
        "rested": rested,
        "quoted": quoted,
    }
    return {name: total.reshape(len(attempts), -1).cpu() for name, total in totals.items()}


def _percent(market: Market, shares: Sequence[Tensor], unit: int) -> Tensor:
    """The action of orders at market alone, [N, S] int64, from the shares of every policy in the first symbol."""
    each = torch.cat(list(shares))
    action = torch.full((len(each), market.config.num_symbols), _HOLD, dtype=torch.int64, device=each.device)
    action[:, 0] += torch.div(each, unit, rounding_mode="trunc")
    return action


def columns(market: Market, result: StepResult) -> dict[str, Tensor]:
    """The columns of an `AuditSnapshot`, [N] float64 each, of the first symbol.

    The market shows raw features of the set "full55" and public information; the result is its last one.
    """
    state = market.live
    market_data, value = state.market_data, state.value
    count = len(market.feature_names) // market.config.num_symbols
    names = [name.split("@")[0] for name in market.feature_names[:count]]
    level, log_mid = value.level[:, 0], market_data.log_mid[:, 0]
    counter = random.counters(_STREAM, 1, market.device)
    own = {
        "spread": market_data.ask[:, 0] - market_data.bid[:, 0],
        "headline": value.headline[:, 0],
        "print_gap": 2.0 * market_data.close[:, 0] / market_data.mids_x2[:, 0, -1] - 1.0,
        "estimate_gap": level + value.estimate_error[:, 0] - log_mid,
        "exact_gap": level - log_mid,
        "maker_shares": market.read("maker_shares")["maker_shares"][:, 0],
        "uniform": random.uniform(random.bits(state.clock.key, state.clock.tick, counter))[:, 0],
    }
    own.update(_quoting_columns(market) if market.config.quotes else {})
    shown = dict(zip(names, result.observation[:, :count].T.contiguous(), strict=True))
    return shown | {name: column.to(torch.float64, copy=True) for name, column in own.items()}


def _quoting_columns(market: Market) -> dict[str, Tensor]:
    """What those see who have places in the book: see `AuditSnapshot`."""
    state, structure = market.live, market.structure
    (others,) = resting.without_own(structure, state.book)
    bid, ask = best_quotes(others, state.traders["maker"].reference)
    rested = state.ledger.rested
    assert rested is not None
    filled = rested.filled.unflatten(-1, (1, 2, structure.quotes))
    queue = {**vars(resting.queue(structure, state)), "filled": filled}
    places = {
        f"{side}_{place + 1}_{name}": values[:, 0, 0, at, place]
        for name, values in queue.items()
        for at, side in enumerate(("bid", "ask"))
        for place in range(structure.quotes)
    }
    mid = state.market_data.mids_x2[:, 0, -1].to(torch.float64) * 0.5
    return {"mid": mid, "touch_bid": bid[:, 0], "touch_ask": ask[:, 0], **places}


def _left(market: Market, rate: float) -> Tensor:
    """What the shares still held would fetch from the book, less commission, [N] float64 currency."""
    state = market.state
    mid_x2 = state.market_data.mids_x2[..., -1]
    half = matching.liquidation_value(market.structure, state.book, state.ledger.shares[..., 0], mid_x2)
    worth = half.to(torch.float64) * (0.5 * market.config.point_size)
    return (worth - rate * worth.abs()).sum(-1)


def _row(name: str, attempt: AnyAttempt, samples: Mapping[str, Sample]) -> AuditRow:
    own = samples[name]
    passed, reason = attempt.requirement.judge(own, samples)
    mean, error = mean_and_error(own.profit)
    turnover = own.turnover.mean().item()
    return AuditRow(
        policy=name,
        description=attempt.description,
        requirement=attempt.requirement.text,
        profit_mean=mean,
        profit_standard_error=error,
        profit_bp=1e4 * mean / turnover if turnover > 0.0 else 0.0,
        t_statistic=t_statistic(own.profit),
        before_commission=(own.profit + own.fees).mean().item(),
        paper=own.paper.mean().item(),
        turnover=turnover,
        passed=passed,
        reason=reason,
    )
