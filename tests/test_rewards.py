"""Reward terms: hand-worked cases, telescoping sums, a scalar recursion, weights, and the same bits everywhere."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator

import pytest
import torch

from torchgym.config import MarketConfig, Structure, preset, structure
from torchgym.engine import Market, StepResult
from torchgym.lab.fills import profit, watch
from torchgym.numerics.trees import leaves, rows
from torchgym.readout import rewards
from torchgym.sim import tick as ticking
from torchgym.sim.params import Params, plain_params
from torchgym.sim.state import Ledger, RewardMemory

ALL = {  # terms that read the ledgers alone
    "pnl": 1.0,
    "log_return": 2.0,
    "risk_adjusted": -0.5,
    "differential_sharpe": 0.25,
    "inventory": 3.0,
    "final_inventory": 1.5,
}
CONFIG = MarketConfig(point_size=0.02, starting_cash=1_000_000)


def make_ledger(equity_x2: torch.Tensor, turnover: torch.Tensor | None = None) -> Ledger:
    """Of one learner, from [N]: only what rewards read is there; shares of two symbols that follow from the turnover."""
    fields = {entry.name: None for entry in dataclasses.fields(Ledger)}
    turnover = torch.zeros_like(equity_x2) if turnover is None else turnover
    shares = torch.stack([turnover % 51, -(turnover % 37)], -1)
    filled = torch.stack([turnover % 13, -(turnover % 7)], -1)
    own = {"equity_x2": equity_x2, "turnover": turnover, "shares": shares, "filled": filled}
    return Ledger(**(fields | {name: value.unsqueeze(-1) for name, value in own.items()}))  # type: ignore[arg-type]


def path(markets: int, ticks: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random half equities [T + 1, N], quiet at first, and turnovers [T, N]."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(-3_000, 3_001, (ticks, markets), generator=generator)
    steps[: ticks // 4] = 0
    equity = torch.cat([torch.full((1, markets), 2_000_000), 2_000_000 + steps.cumsum(0)])
    return equity, torch.randint(0, 100_000, (ticks, markets), generator=generator)


@dataclasses.dataclass
class Accounted:
    """A market of which only the learners' accounts are known."""

    ledger: Ledger


def played(plan: Structure, params: Params, before: Ledger, after: Ledger) -> rewards.Played:
    """A tick of which only the ledgers are known."""
    first, last = Accounted(before), Accounted(after)
    return rewards.Played(plan, params, first, last)  # type: ignore[arg-type]


def started(equity_x2: torch.Tensor) -> RewardMemory:
    """The memory of an episode that begins with this equity, [N]."""
    return RewardMemory.start(structure(CONFIG), make_ledger(equity_x2), equity_x2)


def total(
    config: MarketConfig, memory: RewardMemory, before: torch.Tensor, ledger: Ledger
) -> tuple[torch.Tensor, dict[str, torch.Tensor], RewardMemory]:
    """Of one learner: `before` and what is returned are [N]."""
    params = plain_params(config, torch.device("cpu"))
    reward, terms, memory = rewards.total(played(structure(config), params, make_ledger(before), ledger), memory)
    return reward.squeeze(-1), {name: term.squeeze(-1) for name, term in terms.items()}, memory


def run(
    config: MarketConfig, equity: torch.Tensor, turnover: torch.Tensor | None = None
) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor], RewardMemory]]:
    """Rewards along a path of half equities [T + 1, N]."""
    memory = started(equity[0])
    for t in range(len(equity) - 1):
        ledger = make_ledger(equity[t + 1], None if turnover is None else turnover[t])
        reward, terms, memory = total(config, memory, equity[t], ledger)
        yield reward, terms, memory


def along(config: MarketConfig, *equity_x2: int, turnover: list[int] | None = None) -> list[float]:
    """Rewards of one market."""
    traded = None if turnover is None else torch.tensor(turnover).unsqueeze(-1)
    return [reward.item() for reward, _, _ in run(config, torch.tensor(equity_x2).unsqueeze(-1), traded)]


def named(reward: str) -> MarketConfig:
    return CONFIG.replace(reward=reward)


def bits(values: torch.Tensor) -> torch.Tensor:
    return values.contiguous().view(torch.int64)


# --- the table ------------------------------------------------------------------------------------------------------------


def test_weights_of_a_name_and_of_a_mapping() -> None:
    assert rewards.weights(named("log_return")) == {"log_return": 1.0}
    mixed = rewards.weights(CONFIG.replace(reward={"differential_sharpe": 3, "pnl": -1}))
    assert list(mixed.items()) == [("pnl", -1.0), ("differential_sharpe", 3.0)]


def test_unknown_terms_list_the_known_ones() -> None:
    known = ", ".join(rewards.REWARDS)
    assert known.startswith("pnl, log_return")
    for reward in ("profit", {"pnl": 1.0, "profit": 1.0}):
        config = CONFIG.replace(reward=reward)
        with pytest.raises(ValueError, match=f"unknown reward 'profit': choose from {known}"):
            rewards.weights(config)
        equity = torch.tensor([2_000_000])
        with pytest.raises(ValueError, match="'profit'"):
            total(config, started(equity), equity, make_ledger(equity))


@pytest.mark.parametrize("name", ALL)
def test_standing_still_earns_nothing(name: str) -> None:
    assert along(named(name), *[2_000_000] * 5) == [0.0] * 4


def test_reward_is_the_weighted_sum_of_the_named_terms() -> None:
    equity, turnover = path(8, 40)
    mixed = list(run(CONFIG.replace(reward=ALL), equity, turnover))
    for name in ALL:
        for (_, terms, _), (alone, only, _) in zip(mixed, run(named(name), equity, turnover), strict=True):
            assert torch.equal(terms[name], alone)
            assert list(only) == [name]
    for reward, terms, _ in mixed:
        assert list(terms) == list(ALL)
        assert reward.shape == (8,) and reward.dtype == torch.float64
        torch.testing.assert_close(reward, sum(ALL[name] * terms[name] for name in ALL), rtol=1e-14, atol=1e-12)


def test_order_of_the_mapping_does_not_matter() -> None:
    equity, turnover = path(8, 40)
    backwards = dict(reversed(ALL.items()))
    for one, other in zip(
        run(CONFIG.replace(reward=ALL), equity, turnover),
        run(CONFIG.replace(reward=backwards), equity, turnover),
        strict=True,
    ):
        assert torch.equal(bits(one[0]), bits(other[0]))


# --- pnl and log_return -------------------------------------------------------------------------------------------------


def test_pnl_is_in_currency() -> None:
    assert along(named("pnl"), 2_000_000, 2_000_300, 1_999_999) == pytest.approx([3.0, -3.01])


def test_pnl_adds_up_to_the_change_of_equity() -> None:
    equity, _ = path(16, 500)
    total = sum(reward for reward, _, _ in run(named("pnl"), equity))
    torch.testing.assert_close(total, (equity[-1] - equity[0]).double() * 0.01, rtol=1e-12, atol=1e-9)


def test_log_returns_add_up() -> None:
    equity, _ = path(16, 500)
    total = sum(reward for reward, _, _ in run(named("log_return"), equity))
    torch.testing.assert_close(total, torch.log(equity[-1].double() / equity[0]), rtol=1e-9, atol=1e-13)


def test_log_return_of_ruin_is_finite_and_adds_up() -> None:
    floor = 2  # a millionth of the starting cash, in half units
    seen = along(named("log_return"), 2_000_000, 0, -500, 1, 2_000_000)
    assert seen == pytest.approx([math.log(floor / 2_000_000), 0.0, 0.0, math.log(2_000_000 / floor)])


# --- risk_adjusted ------------------------------------------------------------------------------------------------------


def test_new_drawdown_and_turnover_cost() -> None:
    halves = (2_000_000, 2_010_000, 2_006_000, 2_009_000, 2_000_000, 2_020_000)
    drawdowns = (0, 4_000, 1_000, 10_000, 0)  # below the peak of 2 010 000
    turnover = [0, 50_000, 0, 1_000, 0]
    profit = [(after - before) * 0.01 for before, after in itertools.pairwise(halves)]
    deeper = [max(after - before, 0) * 0.01 for before, after in zip((0, *drawdowns), drawdowns, strict=False)]
    expected = [p - 0.5 * d - 1e-4 * t * 0.02 for p, d, t in zip(profit, deeper, turnover, strict=True)]
    assert along(named("risk_adjusted"), *halves, turnover=turnover) == pytest.approx(expected, rel=1e-12)


def test_memory_holds_the_peak_and_the_fraction_below_it() -> None:
    equity = torch.tensor([[2_000_000], [2_400_000], [1_800_000], [2_100_000]])
    memories = [memory for _, _, memory in run(named("risk_adjusted"), equity)]
    assert [memory.peak_x2.item() for memory in memories] == [2_400_000] * 3
    assert [memory.drawdown.item() for memory in memories] == [0.0, 0.25, 0.125]


def test_drawdown_of_debts_is_finite() -> None:
    """Equity that is never positive: a short start with a maintenance level below zero."""
    for halves in ((0, 0, -4), (-5, -7, -5)):
        equity = torch.tensor(halves).unsqueeze(-1)
        assert all(memory.drawdown.isfinite().all() for _, _, memory in run(named("risk_adjusted"), equity))


# --- differential_sharpe ------------------------------------------------------------------------------------------------


def scalar_sharpe(equity_x2: list[int]) -> list[float]:
    """The recursion of the paper, one number at a time, without the guards."""
    a = b = 0.0
    out = []
    for before, after in itertools.pairwise(equity_x2):
        change = after / before - 1
        variance = b - a * a
        out.append((b * (change - a) - 0.5 * a * (change * change - b)) / variance**1.5 if variance > 0 else 0.0)
        a += 0.01 * (change - a)
        b += 0.01 * (change * change - b)
    return out


def test_differential_sharpe_equals_the_scalar_recursion() -> None:
    equity, _ = path(4, 300, seed=3)
    seen = torch.stack([reward for reward, _, _ in run(named("differential_sharpe"), equity)])
    limit = rewards.SHARPE_LIMIT
    for market in range(4):
        expected = [min(max(d, -limit), limit) for d in scalar_sharpe(equity[:, market].tolist())]
        assert seen[:, market].tolist() == pytest.approx(expected, rel=1e-8, abs=1e-10)
    assert (seen.abs()[-200:] < limit / 2).all()  # the limit is far away in steady trade
    assert (seen[75] == 0.0).all()  # the first return of all meets no variance yet
    assert (seen[76:80] != 0.0).all()


def test_differential_sharpe_stays_bounded() -> None:
    tiny_then_large = along(named("differential_sharpe"), 2_000_000, 2_000_001, 2_500_000, 1_000_000)
    assert tiny_then_large[0] == 0.0
    assert abs(tiny_then_large[1]) == rewards.SHARPE_LIMIT
    assert all(abs(d) <= rewards.SHARPE_LIMIT for d in tiny_then_large)
    ruined = along(named("differential_sharpe"), 2_000_000, 0, -5, 3_000_000, 0)
    assert all(math.isfinite(d) and abs(d) <= 10.0 for d in ruined)


def test_differential_sharpe_ignores_variance_that_is_only_rounding() -> None:
    equity = torch.tensor([2_000_000])
    unit = torch.ones(1, dtype=torch.float64)
    for mean, square in ((1e-4, 1e-8 * (1 + 1e-12)), (1e-130, 1e-250), (0.0, 5e-324), (1e-4, 1e-8 * (1 - 1e-15))):
        memory = RewardMemory(equity, unit * 0.0, unit * mean, unit * square)
        reward, _, _ = total(named("differential_sharpe"), memory, equity, make_ledger(equity + 1_000))
        assert reward.item() == 0.0


# --- inventory ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "limit", "penalty"),
    [
        ([[0, 0]], 50, 0.0),
        ([[50, 0]], 50, -1.0),  # at the limit
        ([[50, -50]], 50, -2.0),  # either side, every symbol
        ([[25]], 50, -0.25),
        ([[-6, 8, 0]], 10, -1.0),
        ([[-7]], 30, -49 * (1 / 900)),
        ([[2**22, -(2**22)]], 2**22, -2.0),
    ],
)
def test_inventory_costs_its_square(held: list[list[int]], limit: int, penalty: float) -> None:
    config = CONFIG.replace(reward="inventory", position_limit=limit, order_size=1)
    equity = torch.tensor([2_000_000])
    after = dataclasses.replace(make_ledger(equity + 999), shares=torch.tensor(held).unsqueeze(-1))
    reward, _, _ = total(config, started(equity), equity, after)
    assert reward.tolist() == [penalty]
    assert not torch.signbit(reward).any() or penalty < 0.0


def test_final_inventory_adds_up_to_the_last_square() -> None:
    config = CONFIG.replace(reward="final_inventory", position_limit=10, order_size=1)
    equity, held, rewarded = torch.tensor([2_000_000]), [4, -2], 0.0
    for filled in ([3, 0], [-7, 5], [0, -13], [6, 6]):
        held = [one + other for one, other in zip(held, filled, strict=True)]
        after = dataclasses.replace(
            make_ledger(equity),
            shares=torch.tensor([held]).unsqueeze(-1),
            filled=torch.tensor([filled]).unsqueeze(-1),
        )
        reward, _, _ = total(config, started(equity), equity, after)
        rewarded += reward.item()
    assert held == [6, -4] and rewarded == pytest.approx((4**2 + 2**2 - 6**2 - 4**2) / 100, abs=1e-12)


# --- terms that read the market ------------------------------------------------------------------------------------------


TRADES = dict.fromkeys(("pnl", "shortfall", "slippage", "spread_capture", "adverse_selection"), 1.0)
TICKS = 100


def trading(**changes: object) -> MarketConfig:
    """A market with orders at market and resting ones, and every charge."""
    settings = {"reward": TRADES, "quotes": 1, "action": "limit", "starting_shares": 40, "max_ticks": TICKS, **changes}
    return preset("toy", **settings)


def at_random(result: StepResult) -> torch.Tensor:
    tick = result.info["tick"]
    return ((tick * 7 + torch.arange(len(tick)) * 3) % 7).unsqueeze(-1)


def summed(market: Market) -> dict[str, torch.Tensor]:
    """Each term over an episode that plays at random, [N]."""
    result, sums = market.observe(), {name: torch.zeros(market.num_envs, dtype=torch.float64) for name in TRADES}
    while not result.truncated.all():
        result = market.step(at_random(result))
        for name in TRADES:
            sums[name] += result.info[f"reward_{name}"]
    return sums


def test_spread_and_selection_add_up_to_the_parts_of_the_profit() -> None:
    config = trading()
    market = Market(config, num_envs=16, seed=3, compile=False)
    market.reset()
    twin = market.fork()
    parts, sums = profit(watch(market, at_random, TICKS), horizon=30), summed(twin)
    half_point = 0.5 * config.point_size
    for name, part in (("spread_capture", parts.spread), ("adverse_selection", parts.selection), ("pnl", parts.total)):
        assert (part != 0).any()
        torch.testing.assert_close(sums[name], part.double() * half_point, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("learners", [1, 2])
def test_shortfall_is_what_selling_brought_less_the_paper_value(learners: int) -> None:
    """Worked out from the cash at both ends, the arrival price and the book that stands at the end."""
    config = trading(num_learners=learners, num_symbols=2, priority="time", order_size=1, position_limit=50)
    market = Market(config, num_envs=8, seed=5, compile=False)
    market.reset()
    first, moved = market.state, torch.zeros(8, learners, dtype=torch.float64)
    arrival = first.market_data.mids_x2[..., -1].unsqueeze(-1)
    result, told = market.observe(), torch.zeros(first.ledger.cash.shape, dtype=torch.float64)
    slipped = told.clone()
    while not result.truncated.all():
        action = ((result.info["tick"].unsqueeze(-1) * 5 + torch.arange(2 * learners)) % 7).squeeze(-1)
        mids = market.state.market_data.mids_x2[..., -1]
        result = market.step(action.reshape(8, learners, 2) if learners > 1 else action)
        state = market.state
        moved += (state.ledger.shares * (state.market_data.mids_x2[..., -1] - mids).unsqueeze(-1)).sum(1)
        slipped += result.info["reward_slippage"].reshape(told.shape)
        told += result.info["reward_shortfall"].reshape(told.shape)
    last = market.state
    assert (last.ledger.shares != 0).any()
    left = ticking.liquidation(market.structure, last.ledger.shares, last.book, last.market_data.mids_x2[..., -1])
    paper = 2 * first.ledger.cash + (first.ledger.shares * arrival).sum(1)
    made = 2 * last.ledger.cash + left.sum(1) - left.abs().sum(1).double() * config.commission_bps * 1e-4
    torch.testing.assert_close(told, (made - paper) * 0.5 * config.point_size, rtol=1e-12, atol=1e-8)
    # Slippage is the same without what the mid's moves earned on what was held.
    torch.testing.assert_close(slipped, (made - paper - moved) * 0.5 * config.point_size, rtol=1e-12, atol=1e-8)


@pytest.mark.parametrize("term", ["shortfall", "slippage"])
def test_what_is_left_counts_once_however_long_the_episode_is(term: str) -> None:
    """Drawn lengths are whole decisions, and a market that is stepped on after its end earns nothing more."""
    config = preset("toy", max_ticks=20, reward=term, starting_shares=50)
    drawn = config.replace(ticks_per_action=5, randomize={"max_ticks": (5, 20)})
    deciding = Market(drawn, num_envs=16, seed=1, compile=False)
    deciding.reset()
    lengths = deciding.state.clock.last
    assert lengths.unique().tolist() == [5, 10, 15, 20]
    ticking = Market(config, num_envs=16, seed=1, compile=False, params={"max_ticks": lengths})
    ticking.reset()
    sums = torch.stack([deciding.step().reward for _ in range(4)])
    ticks = torch.stack([ticking.step().reward for _ in range(20)])
    assert torch.equal(sums.sum(0), ticks.sum(0))
    assert ((ticks != 0.0).sum(0) == 1).all()


def test_shares_sold_at_once_cost_their_distance_from_the_arrival_price() -> None:
    config = preset("toy", reward="shortfall", action="position", order_size=50, position_limit=50, starting_shares=50)
    market = Market(config, num_envs=4, seed=1, compile=False)
    mid = market.reset().info["mid"][:, 0]
    flat = torch.zeros(4, 1, dtype=torch.float64)
    sold = market.step(flat)
    while bool((sold.info["position"] != 0).any()):
        more = market.step(flat)
        sold = dataclasses.replace(more, reward=sold.reward + more.reward)
    earned = sold.info["cash"] - config.starting_cash * config.point_size
    torch.testing.assert_close(sold.reward, earned - 50 * mid, rtol=1e-12, atol=1e-9)
    assert (sold.reward < 0).all()
    for _ in range(20):  # nothing is held, so no price move counts
        assert (market.step(flat).reward == 0).all()


def test_terms_that_read_the_market_have_the_same_bits_alone() -> None:
    def play(market: Market, columns: slice) -> torch.Tensor:
        result, seen = market.observe(), []
        for _ in range(40):
            result = market.step(at_random_of(result, columns))
            seen.append(torch.stack([result.info[f"reward_{name}"] for name in TRADES]))
        return torch.stack(seen)

    def at_random_of(result: StepResult, columns: slice) -> torch.Tensor:
        return ((result.info["tick"] * 7 + torch.arange(8)[columns] * 3) % 7).unsqueeze(-1)

    batch, alone = (Market(trading(), num_envs=count, seed=2, compile=False) for count in (8, 1))
    batch.reset()
    alone.reset(seeds=torch.tensor([7]))
    together = play(batch, slice(0, 8))
    assert torch.equal(bits(together[..., 5:6]), bits(play(alone, slice(5, 6))))


# --- memory and bits ----------------------------------------------------------------------------------------------------


def test_terms_touch_only_the_memory_that_they_need() -> None:
    equity = torch.tensor([2_000_000, 3_000_000])
    memory = started(equity)
    assert memory.peak_x2.flatten().tolist() == equity.tolist() and memory.peak_x2 is not equity
    changed = {"pnl": set(), "log_return": set(), "risk_adjusted": {"peak_x2", "drawdown"}}
    changed |= {"differential_sharpe": {"mean_return", "mean_square"}, "inventory": set(), "final_inventory": set()}
    assert set(changed) == set(ALL)
    before = {name: tensor.clone() for name, tensor in leaves(memory)}
    for name, fields in changed.items():
        _, _, after = total(named(name), memory, equity, make_ledger(equity + 7))
        assert {field for field, tensor in leaves(after) if tensor is not getattr(memory, field)} == fields
    assert all(torch.equal(before[name], tensor) for name, tensor in leaves(memory))


def test_a_market_alone_is_the_same_bits_as_its_row_of_a_batch() -> None:
    config = CONFIG.replace(reward=ALL)
    equity, turnover = path(64, 60)
    batch = list(run(config, equity, turnover))
    for row in (0, 17, 63):
        for (reward, _, memory), (alone, _, own) in zip(
            batch, run(config, equity[:, [row]], turnover[:, [row]]), strict=True
        ):
            assert torch.equal(bits(alone), bits(reward[[row]]))
            for (_, one), (_, other) in zip(leaves(own), leaves(rows(memory, torch.tensor([row]))), strict=True):
                assert torch.equal(bits(one), bits(other))


def test_compiled_is_the_same_bits_as_eager() -> None:
    config = CONFIG.replace(reward=ALL)
    plan, params = structure(config), plain_params(config, torch.device("cpu"))
    equity, turnover = path(65, 60)

    def step(memory: RewardMemory, before: Ledger, ledger: Ledger) -> tuple:
        reward, terms, memory = rewards.total(played(plan, params, before, ledger), memory)
        return reward.squeeze(-1), {name: term.squeeze(-1) for name, term in terms.items()}, memory

    torch.compiler.reset()
    compiled = torch.compile(step, fullgraph=True, dynamic=False)
    memory = started(equity[0])
    for t, (reward, terms, expected) in enumerate(run(config, equity, turnover)):
        fused, fused_terms, memory = compiled(memory, make_ledger(equity[t]), make_ledger(equity[t + 1], turnover[t]))
        assert torch.equal(bits(fused), bits(reward))
        assert all(torch.equal(bits(fused_terms[name]), bits(terms[name])) for name in ALL)
        for (_, one), (_, other) in zip(leaves(memory), leaves(expected), strict=True):
            assert torch.equal(bits(one), bits(other))
