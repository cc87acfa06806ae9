"""The audit: scripted traders do what they say, verdicts fall as they should, and a free lunch is found out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from markets import toy
from torch import Tensor

from torchgym import Market, MarketConfig
from torchgym.config import structure
from torchgym.engine import consecutive_seeds
from torchgym.lab.audit import (
    GAIN,
    POLICIES,
    SEED,
    Attempt,
    Audit,
    AuditSnapshot,
    Requirement,
    Sample,
    audit,
    playing,
    verdicts,
)
from torchgym.lab.audit.attempts import WAITS
from torchgym.lab.audit.playing import columns
from torchgym.lab.audit.verdicts import NO_GAIN
from torchgym.lab.policies import averaged, shown
from torchgym.sim import matching
from torchgym.sim.state import Book, Execution

ORDER, LIMIT, LAST = 10, 50, 970


# --- the table


TWINS = (
    *("pump_and_hold", "pump_and_dump", "large_pump_and_hold", "large_pump_and_dump"),
    *("marking_the_close", "stop_hunt", "opening", "clock"),
)


def test_the_table_holds_every_attempt() -> None:
    expected = {
        *("hold", "round_trip_buy_first", "round_trip_sell_first", "always_buy", "always_sell", "flip_flop", "random"),
        *(f"{name}_{side}" for name in TWINS for side in ("long", "short")),
        *(f"{rule}_{lookback}" for rule in ("momentum", "reversion") for lookback in (6, 24, 64)),
        *("rsi", "imbalance", "imbalance_mean", "value_estimate", "exact_value", "value_estimate_leaning"),
        *(f"own_impact_{wait}" for wait in WAITS),
        *("slow_in_fast_out", "fast_in_slow_out", "quote_stuffing", "wash_trading", "tiny_orders", "borrowed_shares"),
        *("imbalance_fade", "imbalance_cheap", "maker_inventory", "flow", "print_reversal", "jump_chase", "jump_fade"),
        *("news_chase", "news_sweep", "estimate_change", "estimate_mean"),
    }
    assert set(POLICIES) == expected
    assert WAITS == (1, 2, 5, 10, 20, 60)


def test_every_comparison_is_in_the_table() -> None:
    for name, policy in POLICIES.items():
        assert policy.description
        assert policy.requirement.text
        assert set(policy.requirement.needs) <= set(POLICIES) - {name}


def test_mirrors_compare_with_each_other() -> None:
    pairs = [(f"{name}_long", f"{name}_short") for name in TWINS]
    for one, other in [*pairs, ("always_buy", "always_sell"), ("round_trip_buy_first", "round_trip_sell_first")]:
        assert POLICIES[one].requirement.needs == (other,)
        assert POLICIES[other].requirement.needs == (one,)


def test_any_false_alarm_is_unlikely() -> None:
    one_sided = 0.5 * torch.erfc(torch.tensor(GAIN, dtype=torch.float64) / 2.0**0.5).item()
    assert one_sided * len(POLICIES) < 0.05


# --- what each policy does


NEUTRAL = {"f_realized_vol_32": 0.001, "f_rsi_8": 50.0, "spread": 4.0, "uniform": 0.5}


class Columns(dict[str, Tensor]):
    """Columns of a snapshot of one episode, neutral unless given."""

    def __missing__(self, name: str) -> Tensor:
        return torch.tensor([NEUTRAL.get(name, 0.0)], dtype=torch.float64)


def snapshot(now: int, held: int = 0, *, large: bool = False, **shown: float) -> AuditSnapshot:
    columns = Columns({name: torch.tensor([value], dtype=torch.float64) for name, value in shown.items()})
    scale = 10 if large else 1
    return AuditSnapshot(
        columns=columns,
        rows=slice(0, 1),
        held=torch.tensor([held]),
        now=now,
        last=LAST,
        order=ORDER * scale,
        limit=1_000 if large else LIMIT,
    )


def positions(name: str, ticks: int) -> list[int]:
    """Positions after each of the first decisions of a policy, when every order fills."""
    policy, held, memory, path = POLICIES[name], 0, {}, []
    for now in range(ticks):
        before = snapshot(now, held, large=policy.large)
        shares = int(policy.rule(before, memory)[0])
        shares = max(-before.order, min(before.order, shares))
        held = max(-before.limit, min(before.limit, held + shares))
        path.append(held)
    return path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("hold", [0] * 30),
        ("round_trip_buy_first", [10, *[0] * 19, 10, 0, 0]),
        ("round_trip_sell_first", [-10, *[0] * 19, -10, 0, 0]),
        ("always_buy", [10, 20, 30, 40, 50, 50, 50]),
        ("always_sell", [-10, -20, -30, -40, -50, -50]),
        ("borrowed_shares", [-10, -20, -30, -40, -50, -50]),
        ("flip_flop", [5, -5, 5, -5]),
        ("pump_and_dump_long", [10, 20, 30, 40, 50, 40, 30, 20, 10, 0, *[0] * 90, 10]),
        ("pump_and_dump_short", [-10, -20, -30, -40, -50, -40, -30, -20, -10, 0, 0]),
        ("pump_and_hold_long", [10, 20, 30, 40, *[50] * 101, 40, 30, 20, 10, 0, 0]),
        ("large_pump_and_dump_long", [*range(100, 1_001, 100), *range(900, -1, -100), 0]),
        ("own_impact_2", [100, 200, 300, 300, 200, 100, *[0] * 21, -100, -200, -300, -300, -200]),
        ("own_impact_1", [100, 200, 300, 200, 100, 0]),
        ("slow_in_fast_out", [*range(10, 501, 10), 400, 300, 200, 100, *[0] * 51, -10, -20]),
        ("fast_in_slow_out", [100, 200, 300, 400, *[500] * 7, 490, 480]),
        ("stop_hunt_long", [*range(-100, -1_001, -100), *range(-900, 501, 100), *[500] * 25, 400, 300]),
        ("quote_stuffing", [*[1, 0] * 10, 10, 20, 30, 40, *[50] * 6, 40, 30, 20, 10, 0, *[0] * 15, -1, 0, -1]),
        ("wash_trading", [*[100, 0] * 5, 100, 200, 300, 400, *[500] * 16, 400, 300, 200, 100, *[0] * 26, -100]),
        ("tiny_orders", [1, 0, 1, 0]),
        ("opening_long", [10, 20, 30, 40, *[50] * 96, 40, 30, 20, 10, 0, 0]),
        ("clock_long", [*[10] * 10, *[0] * 10, 10]),
    ],
)
def test_scripts(name: str, path: list[int]) -> None:
    assert positions(name, len(path)) == path


def test_marking_the_close_pushes_last() -> None:
    path = positions("marking_the_close_long", LAST)
    assert path[LAST - 61] == 0
    assert path[LAST - 56 : LAST - 5] == [500] * 51
    assert path[LAST - 5 :] == [600, 700, 800, 900, 1_000]


def first(name: str, held: int = 0, **shown: float) -> int:
    return int(POLICIES[name].rule(snapshot(0, held, large=POLICIES[name].large, **shown), {})[0])


@pytest.mark.parametrize(
    ("name", "held", "shown", "shares"),
    [
        ("random", 0, {"uniform": 0.2}, -10),
        ("random", 0, {"uniform": 0.5}, 0),
        ("random", 0, {"uniform": 0.9}, 10),
        # A usual move over 24 ticks is 0.001 × √24 = 0.0049.
        ("momentum_24", 0, {"f_log_return_24": 0.005}, 10),
        ("momentum_24", 0, {"f_log_return_24": 0.0048}, 0),
        ("momentum_24", 20, {"f_log_return_24": 0.0048}, 0),
        ("momentum_24", 20, {"f_log_return_24": -0.005}, -10),
        ("momentum_6", 0, {"f_log_return_6": -0.003}, -10),
        ("momentum_64", 50, {"f_log_return_64": 0.1}, 0),
        ("reversion_24", 0, {"f_log_return_24": 0.005}, -10),
        ("reversion_6", 0, {"f_log_return_6": -0.003}, 10),
        ("reversion_64", 0, {"f_log_return_64": 0.009}, -10),
        ("rsi", 0, {"f_rsi_8": 29.0}, 10),
        ("rsi", 0, {"f_rsi_8": 71.0}, -10),
        ("rsi", 0, {"f_rsi_8": 31.0}, 0),
        ("rsi", 50, {"f_rsi_8": 49.0}, 0),
        ("rsi", 50, {"f_rsi_8": 51.0}, -10),
        ("rsi", -50, {"f_rsi_8": 49.0}, 10),
        ("imbalance", 0, {"f_book_imbalance": 0.6}, 10),
        ("imbalance", 0, {"f_book_imbalance": 0.4}, 0),
        ("imbalance", 30, {"f_book_imbalance": 0.1}, 0),
        ("imbalance", 30, {"f_book_imbalance": -0.1}, -10),
        ("imbalance_mean", 0, {"f_book_imbalance": -0.4}, -10),
        ("imbalance_fade", 0, {"f_book_imbalance": 0.6}, -10),
        ("imbalance_cheap", 0, {"f_book_imbalance": 0.6, "spread": 1.0}, 10),
        ("imbalance_cheap", 0, {"f_book_imbalance": 0.6, "spread": 2.0}, 0),
        ("imbalance_cheap", 30, {"f_book_imbalance": 0.2, "spread": 2.0}, 0),
        ("imbalance_cheap", 30, {"f_book_imbalance": -0.2, "spread": 2.0}, -10),
        ("flow", 0, {"f_net_order_flow": 0.2}, 10),
        ("print_reversal", 0, {"print_gap": 0.002}, -10),
        ("print_reversal", 0, {"print_gap": -0.002}, 10),
        ("value_estimate_leaning", 0, {"estimate_gap": 0.012}, 10),
        ("value_estimate_leaning", 40, {"estimate_gap": 0.006}, -10),  # half the limit is 25: one whole order away
        ("value_estimate_leaning", 30, {"estimate_gap": 0.006}, 0),
        ("value_estimate_leaning", 50, {"exact_gap": 0.012}, -10),
        ("value_estimate", 0, {"estimate_gap": 0.007}, 10),
        ("value_estimate", 30, {"estimate_gap": -0.005}, 0),  # stays until the other side is clear
        ("value_estimate", 30, {"estimate_gap": -0.007}, -10),
        ("exact_value", 0, {"exact_gap": -0.007}, -10),
        ("exact_value", 0, {"estimate_gap": -0.012}, 0),
        ("maker_inventory", 0, {"maker_shares": 1_500.0}, 10),
        ("jump_chase", 0, {"f_log_return_1": 0.0031}, 10),
        ("jump_chase", 0, {"f_log_return_1": 0.0029}, 0),
        ("jump_fade", 0, {"f_log_return_1": 0.0031}, -10),
        ("news_chase", 0, {"headline": 0.003}, 10),
        ("news_chase", 0, {"headline": -0.003}, -10),
        ("news_chase", 0, {"headline": 0.001}, 0),
        ("news_sweep", 0, {"headline": 0.003}, 100),
        ("estimate_mean", 0, {"estimate_gap": 0.012}, 10),
        ("estimate_change", 0, {"estimate_gap": 0.012}, 0),  # nothing has changed yet
    ],
)
def test_rules(name: str, held: int, shown: dict[str, float], shares: int) -> None:
    assert first(name, held, **shown) == shares


def test_news_is_held_for_thirty_ticks() -> None:
    policy, memory, held, path = POLICIES["news_chase"], {}, 0, []
    for now in range(40):
        held += int(policy.rule(snapshot(now, held, headline=0.01 if now == 0 else 0.0), memory)[0])
        path.append(held)
    assert path == [10, 20, 30, 40, *[50] * 26, 40, 30, 20, 10, 0, *[0] * 5]


def test_means_start_at_the_first_value() -> None:
    memory: dict[str, Tensor] = {}
    signal = averaged(1.0, shown("spread"))
    assert [float(signal(snapshot(0, spread=value), memory)[0]) for value in (4.0, 8.0, 0.0)] == [4.0, 6.0, 3.0]


def test_a_change_of_the_estimate_is_followed() -> None:
    rule, memory = POLICIES["estimate_change"].rule, {}
    rule(snapshot(0, estimate_gap=0.0), memory)
    assert rule(snapshot(1, estimate_gap=0.01), memory).item() == 10


def test_columns_of_the_snapshot() -> None:
    config = toy(features="full55", num_symbols=2)
    market = Market(config, 3)
    result = market.reset(seeds=[5, 6, 7])
    for _ in range(5):
        result = market.step()
    found, state = columns(market, result), market.state
    assert all(column.shape == (3,) and column.dtype == torch.float64 for column in found.values())
    for name in ("f_rsi_8", "f_net_order_flow", "f_log_return_24", "f_realized_vol_32"):
        assert torch.equal(found[name], result.observation[:, market.feature_names.index(f"{name}@0")])
    mid = state.market_data.mids_x2[:, 0, -1].double() * 0.5
    value = config.list_price * torch.exp(state.value.level[:, 0])
    estimate = value * torch.exp(state.value.estimate_error[:, 0])
    torch.testing.assert_close(found["exact_gap"], torch.log(value / mid))
    torch.testing.assert_close(found["estimate_gap"], torch.log(estimate / mid))
    torch.testing.assert_close(found["print_gap"], state.market_data.close[:, 0] / mid - 1.0)
    assert torch.equal(found["spread"], (state.market_data.ask - state.market_data.bid)[:, 0].double())
    assert torch.equal(found["headline"], state.value.headline[:, 0])
    makers = state.accounts.shares[:, 0, structure(config).families["maker"]].sum(-1)
    assert torch.equal(found["maker_shares"], makers.double())
    assert found["uniform"].unique().numel() == 3
    assert ((found["uniform"] > 0.0) & (found["uniform"] < 1.0)).all()


# --- verdicts


def sample(*profit: float, limit: int = LIMIT, **more: float) -> Sample:
    """Profits of some episodes; the other entries are the same in each."""
    own = torch.tensor(profit, dtype=torch.float64)
    entries = ("paper", "fees", "fees_due", "borrow", "borrow_due", "turnover", "quoted")
    return Sample(profit=own, limit=limit, **{name: torch.full_like(own, more.get(name, 0.0)) for name in entries})


# Means in standard errors: 3.46, 3.00, -3.46, -1.04 and 0.
GAIN_OF_3, NEARLY, LOSS_OF_3, UNCLEAR, EVEN = (1, 2, 3), (0.9, 2.15, 3.4), (-1, -2, -3), (1, -3, -1), (-1, 0, 1)


def passes(requirement: Requirement, own: Sample, **others: Sample) -> bool:
    passed, reason = requirement.judge(own, others)
    assert reason
    return passed


def test_t_statistics() -> None:
    steady = torch.ones(3, dtype=torch.float64)
    assert verdicts.t_statistic(sample(*GAIN_OF_3).profit) == pytest.approx(2.0 * 3.0**0.5)
    assert verdicts.t_statistic(sample(*NEARLY).profit) < GAIN
    assert verdicts.t_statistic(0.0 * steady) == 0.0
    assert 1e6 < verdicts.t_statistic(steady) < float("inf")


@pytest.mark.parametrize(
    ("requirement", "good", "bad"),
    [
        (verdicts.NOTHING, [(0, 0, 0)], [(0, 0, 0.01), (0, -0.01, 0)]),
        (verdicts.NO_GAIN, [NEARLY, EVEN, LOSS_OF_3], [GAIN_OF_3]),
        (verdicts.LOSES, [LOSS_OF_3], [UNCLEAR, EVEN, GAIN_OF_3]),
    ],
)
def test_verdicts_alone(requirement: Requirement, good: list[Any], bad: list[Any]) -> None:
    assert all(passes(requirement, sample(*profit)) for profit in good)
    assert not any(passes(requirement, sample(*profit)) for profit in bad)


def test_a_loss_with_the_mirror() -> None:
    """The drift of the market wins for one what it loses for the other."""
    must = verdicts.loses_with("mirror")
    assert passes(must, sample(99, -101, 9), mirror=sample(-101, 98.5, -12))
    assert not passes(must, sample(99, -101, 9), mirror=sample(-97, 102, -8))  # together they gain
    assert not passes(must, sample(*GAIN_OF_3), mirror=sample(-11, -12, -14))  # gains alone


def test_a_round_trip_pays_the_quoted_spread() -> None:
    must, costs = verdicts.round_trip("mirror"), {"quoted": 6.0, "fees": 4.0}
    mirror = sample(-12, -8, -10.1)
    assert passes(must, sample(-9, -10, -11, **costs), mirror=mirror)
    assert passes(must, sample(-18, -19, -20, **costs), mirror=sample(-19.5, -18, -20))
    assert not passes(must, sample(-6, -6.1, -6.2, **costs), mirror=sample(-7, -5, -6.3))  # too cheap
    assert not passes(must, sample(-21, -22, -23, **costs), mirror=sample(-23, -20, -23))  # too dear
    assert not passes(must, sample(-9, -10, -11, **costs), mirror=sample(-14, -15, -16.1))  # depends on the order
    assert not passes(must, sample(0, 0, 0), mirror=sample(0, 0, 0))  # never traded


def test_knowledge_may_earn_up_to_a_ceiling() -> None:
    half = verdicts.informed("exact", 0.5)
    exact = sample(10, 12, 14)
    assert passes(half, sample(5, 6.1, 7), exact=exact)
    assert passes(half, sample(*LOSS_OF_3), exact=exact)
    assert not passes(half, sample(9, 10, 12), exact=exact)
    assert passes(half, sample(90, 100, 120, limit=1_000), exact=exact)  # twenty times the limit
    assert not passes(half, sample(9, 10, 12), exact=sample(10, 12, 14, limit=100))


def test_the_estimate_earns_less_than_the_value() -> None:
    small, clear = verdicts.earns("exact"), verdicts.earns_clearly("estimate")
    exact, estimate = sample(10, 11, 12), sample(3, 4, 5)
    assert passes(small, estimate, exact=exact)
    assert not passes(small, sample(*EVEN), exact=exact)
    assert not passes(small, sample(13, 14.5, 15), exact=exact)
    assert passes(clear, exact, estimate=estimate)
    assert not passes(clear, sample(*GAIN_OF_3), estimate=sample(0, 1, 2.1))  # significant, not clear
    assert not passes(clear, exact, estimate=sample(20, 21.5, 22))


def test_commission_and_borrow_are_due_in_full() -> None:
    assert passes(verdicts.COMMISSION, sample(*LOSS_OF_3, fees=1.0, fees_due=0.9))
    assert not passes(verdicts.COMMISSION, sample(*LOSS_OF_3, fees=0.89, fees_due=0.9))
    assert not passes(verdicts.COMMISSION, sample(*EVEN, fees=1.0, fees_due=0.9))
    assert passes(verdicts.BORROW, sample(*EVEN, borrow=0.5, borrow_due=0.5))
    assert not passes(verdicts.BORROW, sample(*EVEN, borrow=0.49, borrow_due=0.5))
    assert not passes(verdicts.BORROW, sample(*GAIN_OF_3, borrow=0.5, borrow_due=0.5))


# --- the audit


def small(config: MarketConfig | None = None, **options: Any) -> Audit:
    given = {"episodes": 3, "ticks": 60, "compile": False, **options}
    return audit(toy() if config is None else config, **given)


def test_a_whole_audit() -> None:
    calls: list[tuple[str, int, int]] = []
    found = small(episodes=3, ticks=100, batch=2, progress=lambda *call: calls.append(call))
    assert [row.policy for row in found.rows] == list(POLICIES)
    assert found.passed == all(row.passed for row in found.rows)
    rows = {row.policy: row for row in found.rows}
    assert rows["hold"].passed
    assert rows["hold"].turnover == rows["hold"].profit_mean == rows["hold"].t_statistic == 0.0
    for name in ("flip_flop", "random", "tiny_orders", "wash_trading", "large_pump_and_dump_long"):
        assert rows[name].profit_mean < 0.0
        assert rows[name].turnover > 0.0
        assert rows[name].before_commission > rows[name].profit_mean
        assert rows[name].profit_bp == pytest.approx(1e4 * rows[name].profit_mean / rows[name].turnover)
    for row in found.rows:
        assert (row.description, row.requirement) == (
            POLICIES[row.policy].description,
            POLICIES[row.policy].requirement.text,
        )
    ticks = [("ticks", done, 200) for done in (0, 50, 100, 100, 150, 200)]
    assert calls == [("opening", 0, 1), ("opening", 1, 1), *ticks]
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["rows"][1]["policy"] == "round_trip_buy_first"
    assert (plain["passed"], plain["episodes"], plain["ticks"], plain["seed"]) == (found.passed, 3, 100, SEED)
    assert MarketConfig.from_dict(plain["config"]) == toy()


def test_the_same_numbers_in_any_batch_and_company() -> None:
    names = ["random", "exact_value", "estimate_mean"]
    together = small(policies=[*names, "imbalance_mean", "news_sweep"], batch=3).rows
    assert small(policies=names, batch=3).rows == together[:3]
    assert small(policies=names[::-1], batch=2).rows[::-1] == together[:3]
    assert small(policies=names, seed=1).rows != together[:3]


def test_comparisons_play_without_a_row() -> None:
    assert [row.policy for row in small(policies=["value_estimate"]).rows] == ["value_estimate"]


@pytest.mark.parametrize("size", [7, 10, 30])
def test_profit_is_that_of_the_learner(size: int) -> None:
    """Always buying, by hand: with the learner's own actions, and sold order by order at the end."""
    config, episodes, ticks = toy(order_size=size), 2, 60
    (row,) = small(config, policies=["always_buy"], episodes=episodes, ticks=ticks).rows
    market = Market(config, episodes)
    start = market.reset(seeds=consecutive_seeds(SEED, episodes)).info["equity"]
    turnover = torch.zeros_like(start)
    for now in range(ticks):
        buying = now < ticks - playing.UNWIND
        held = market.state.ledger.shares[:, 0, 0]
        action = torch.where(held > 0, 0, 1) if not buying else torch.full_like(held, 2)
        result = market.step(action)
        turnover += result.info["turnover"]
        if now + 1 == ticks - playing.UNWIND:
            paper = result.info["equity"] - start
    assert not result.info["position"].any()
    profit = result.info["equity"] - start
    assert row.profit_mean == pytest.approx(profit.mean().item(), abs=1e-9)
    assert row.profit_standard_error == pytest.approx(profit.std().item() / episodes**0.5, abs=1e-9)
    assert row.paper == pytest.approx(paper.mean().item(), abs=1e-9)
    assert row.turnover == pytest.approx(turnover.mean().item())
    assert row.before_commission == pytest.approx((profit + result.info["fees"]).mean().item(), abs=1e-9)


def test_what_cannot_be_sold_in_time_counts_at_what_it_would_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    config = toy(commission_bps=50.0)
    monkeypatch.setattr(playing, "UNWIND", 0)
    (row,) = small(config, policies=["always_buy"]).rows
    market = Market(config, 3)
    start = market.reset(seeds=consecutive_seeds(SEED, 3)).info["equity"]
    for _ in range(60):
        result = market.step(torch.full((3,), 2))
    state = market.state
    held, mid_x2 = state.ledger.shares[..., 0], state.market_data.mids_x2[..., -1]
    worth = matching.liquidation_value(config, state.book, held, mid_x2)[:, 0].double() * 0.5 * config.point_size
    expected = result.info["cash"] + worth * (1.0 - 0.005) - start
    assert (held == 50).all()
    assert row.profit_mean == pytest.approx(expected.mean().item())
    assert row.profit_mean < row.paper


def test_borrowed_shares_pay_the_charge_to_the_last_unit() -> None:
    (row,) = small(toy(borrow_ppb=1_000_000), policies=["borrowed_shares"], ticks=100).rows
    assert row.passed
    assert "paid less by at most 0.0000" in row.reason
    assert " 0.00 due" not in row.reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policies": ["hold", "hodl"]}, r"unknown policy 'hodl': choose from hold, round_trip_buy_first"),
        ({"episodes": 1}, "episodes must be an integer >= 2, got 1"),
        ({"ticks": 59}, "ticks must be an integer >= 60, got 59"),
        ({"batch": 0}, "batch must be an integer >= 1, got 0"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


# --- the audit can fail


def test_a_trader_with_tomorrows_paper_is_found_out() -> None:
    """Prices of a market without learner, read ahead of time; the same rule with yesterday's paper has nothing."""
    episodes, ticks, ahead = 32, 120, 15
    market = Market(toy(), episodes)
    market.reset(seeds=consecutive_seeds(SEED, episodes))
    mids = [market.state.market_data.log_mid[:, 0]]
    for _ in range(ticks):
        market.step()
        mids.append(market.state.market_data.log_mid[:, 0])

    def reads(shift: int) -> Callable[[AuditSnapshot, dict[str, Tensor]], Tensor]:
        def rule(snapshot: AuditSnapshot, memory: dict[str, Tensor]) -> Tensor:
            start = max(0, snapshot.now - shift)
            move = mids[min(ticks, start + ahead)] - mids[start]
            side = torch.sign(move) * (move.abs() > 0.003)
            return (side * snapshot.limit).to(torch.int64) - snapshot.held

        return rule

    policies = {
        "tomorrow": Attempt("reads prices of the next ticks", NO_GAIN, reads(0)),
        "yesterday": Attempt("reads prices of the last ticks", NO_GAIN, reads(ahead)),
    }
    found = small(policies=policies, episodes=episodes, ticks=ticks, batch=episodes)
    assert [row.passed for row in found.rows] == [False, True]
    assert found.rows[0].t_statistic > GAIN
    assert not found.passed


def test_trading_at_the_mid_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A market that forgets the spread and charges no commission."""
    honest = matching.execute

    def generous(
        config: MarketConfig, book: Book, shares: Tensor, limit: Tensor, mid_x2: Tensor, age: Tensor | None
    ) -> tuple[Book, Execution]:
        book, execution = honest(config, book, shares, limit, mid_x2, age)
        return book, dataclasses.replace(execution, paid=execution.filled * mid_x2 >> 1)

    names = ["round_trip_buy_first", "round_trip_sell_first", "tiny_orders"]
    config = toy(commission_bps=0.0)
    before = small(config, policies=names, episodes=24, ticks=200).rows
    monkeypatch.setitem(matching.EXECUTIONS, "book", generous)
    after = small(config, policies=names, episodes=24, ticks=200).rows
    assert [row.passed for row in before] == [True, True, True]
    assert [row.passed for row in after] == [False, False, False]


@pytest.mark.slow
def test_full_audit() -> None:
    """The default market. Verdicts carry their tolerance: gains and differences count from 3.3 standard errors up, the exact
    value's gain from 5; losses must be beyond 2. About a quarter of an hour on one core."""
    found = audit(MarketConfig(), episodes=512)
    for row in found.rows:
        print(
            f"{row.policy:28s} {row.profit_mean:10.2f} ± {row.profit_standard_error:7.2f}  t {row.t_statistic:+6.1f}"
            f"  {row.profit_bp:+7.2f} bp of {row.turnover:.0f}  {'ok' if row.passed else 'FAILED: ' + row.reason}"
        )
    assert [f"{row.policy}: {row.reason}" for row in found.rows if not row.passed] == []
