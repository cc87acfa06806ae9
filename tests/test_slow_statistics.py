"""What only many ticks show: exact books for tens of thousands of ticks, markets that stay healthy, and what trading costs.

Each study runs small in every test run, and at its full size with the slow tests. Figures are printed (`pytest -s`).
"""

from __future__ import annotations

import collections
import math

import pytest
import torch
from markets import opened, random_actions, toy
from torch import Tensor

from torchgym import Market, MarketConfig
from torchgym.config import structure
from torchgym.numerics.trees import leaves
from torchgym.sim.invariants import total_cash, total_shares

FULL = pytest.mark.slow
SELL, BUY = 0, 2


# --- money and shares


@pytest.mark.parametrize(
    ("config", "markets", "ticks", "compiled"),
    [
        pytest.param(toy(num_symbols=2), 8, 250, False, id="small"),
        pytest.param(MarketConfig(num_symbols=2, max_ticks=20_000), 64, 20_000, True, marks=FULL, id="full"),
    ],
)
def test_nothing_is_lost_in_the_long_run(config: MarketConfig, markets: int, ticks: int, compiled: bool) -> None:
    """A learner who acts at random; at every tick all cash and all shares are there, to the last unit."""
    config = config.replace(borrow_ppb=100_000)
    market = opened(config, markets, seed=1, compile=compiled)
    cash = torch.full((markets,), config.starting_cash)
    initial = market.observe().info["equity"]
    rewards = torch.zeros(markets, dtype=torch.float64)
    chunk = 500
    for start in range(0, ticks, chunk):
        for action in random_actions(config, min(chunk, ticks - start), markets, seed=start):
            result = market.step(action)
            rewards += result.reward
            owned, own = market.state.accounts, market.state.ledger
            assert torch.equal(total_cash(owned, own), cash)
            assert not total_shares(owned, own).any()
    assert torch.allclose(rewards, result.info["equity"] - initial, rtol=0.0, atol=1e-6)
    assert own.fees.min() > 0
    assert own.borrow.min() > 0
    print(
        f"\nconservation: {markets} markets x {config.num_symbols} symbols x {ticks} ticks; fees {own.fees.sum()}, "
        f"borrow {own.borrow.sum()}, largest gap of rewards {(rewards - (result.info['equity'] - initial)).abs().max():.1e}"
    )


# --- health


def family_volumes(market: Market, before: Tensor) -> Tensor:
    """Shares that each family's inventories changed by in the last tick, over all markets."""
    changed = (market.state.accounts.shares - before).abs().sum((0, 1))
    places = structure(market.config)
    return torch.stack([changed[place].sum() for place in places.families.values()])


@pytest.mark.parametrize(
    ("config", "markets", "ticks", "compiled"),
    [
        pytest.param(toy(), 8, 300, False, id="small"),
        pytest.param(toy(num_symbols=4), 8, 300, False, id="small of four"),
        pytest.param(MarketConfig(max_ticks=50_000), 64, 50_000, True, marks=FULL, id="full"),
    ],
)
def test_markets_stay_healthy(config: MarketConfig, markets: int, ticks: int, compiled: bool) -> None:
    market = opened(config, markets, seed=1, compile=compiled)
    names = list(structure(config).families)
    start = market.state.market_data.mids_x2[..., -1]
    lowest, highest = start.clone(), start.clone()
    quiet = torch.zeros_like(start)
    narrowest = torch.full_like(start, 2**40)
    spreads = torch.zeros_like(start)
    traded = torch.zeros(len(names), dtype=torch.int64)
    for at in range(ticks):
        before = market.state.accounts.shares
        result = market.step()
        market_data = market.state.market_data
        mid = market_data.mids_x2[..., -1]
        lowest, highest = torch.minimum(lowest, mid), torch.maximum(highest, mid)
        quiet += market_data.volumes[..., -1] == 0
        narrowest = torch.minimum(narrowest, market_data.ask - market_data.bid)
        spreads += market_data.ask - market_data.bid
        if at >= 3 * ticks // 4:
            traded += family_volumes(market, before)
        if at % 100 == 99 or at == ticks - 1:
            assert result.observation.isfinite().all()
            assert all(leaf.isfinite().all() for _, leaf in leaves(market.state))
    shares = dict(zip(names, (traded / (markets * math.ceil(ticks / 4))).tolist(), strict=True))
    print(
        f"\nhealth: {markets} markets x {ticks} ticks; price {(lowest / start).min():.3f} to {(highest / start).max():.3f} "
        f"of its start, ticks without trade {(quiet / ticks).mean():.3f} (worst market {(quiet / ticks).max():.3f}), "
        f"mean spread {(spreads / ticks).mean():.2f} points; shares a tick: "
        + ", ".join(f"{name} {value:.2f}" for name, value in shares.items())
    )
    assert (20 * lowest >= start).all()
    assert (highest <= 20 * start).all()
    assert (quiet / ticks).mean() < 0.25
    assert narrowest.min() >= 1
    assert min(shares.values()) > 0.0, shares


# --- costs


def round_trips(config: MarketConfig, markets: int, moments: int, gap: int) -> dict[str, Tensor]:
    """There and back within two ticks, bought first and sold first, at the same moments and with the same noise.

    At every moment two forks leave the base market: one buys and then sells one order, the other sells and then buys. The base
    goes on without them. What the price did in it by itself, which costs the one fork what it brings the other, is taken out
    of both losses.

    Returns:
        [trials] float64, points: the loss of either order, the spread times the shares (of the spreads shown before either, the
        mean), the commission; how far the first order moved the mid its own way, times the shares; and by how much the first
        buy's price exceeds the ask shown. Only moments at which all four orders were filled whole.
    """
    base = opened(config, markets, seed=1)
    shares = float(config.order_size)
    columns: dict[str, list[Tensor]] = collections.defaultdict(list)
    for _ in range(moments):
        forks = {BUY: base.fork(), SELL: base.fork()}
        ask, bid = base.state.market_data.ask[:, 0].double(), base.state.market_data.bid[:, 0].double()
        before = base.state.market_data.mids_x2[:, 0, -1].double() * 0.5
        losses, fees, after, whole = {}, {}, {}, torch.ones(markets, dtype=torch.bool)
        for first, fork in forks.items():
            entry = fork.step(torch.full((markets,), first))
            whole &= entry.info["filled"][:, 0].abs() == config.order_size
            if first == BUY:
                excess = fork.state.ledger.turnover[:, 0].double() / shares - ask
            after[first] = fork.state.market_data.mids_x2[:, 0, -1].double() * 0.5
            fork.step(torch.full((markets,), BUY + SELL - first))
            own = fork.state.ledger
            fees[first] = own.fees.double()
            whole &= own.shares[:, 0, 0] == 0
            losses[first] = (config.starting_cash - own.cash[:, 0]).double()
        base.step()
        book = base.state.market_data
        drift = (book.mids_x2[:, 0, -1].double() * 0.5 - before) * shares
        trial = {
            "buy_first": losses[BUY] + drift,
            "sell_first": losses[SELL] - drift,
            "spread": 0.5 * (ask - bid + book.ask[:, 0] - book.bid[:, 0]) * shares,
            "commission": 0.5 * (fees[BUY] + fees[SELL]),
            "moved": 0.5 * (after[BUY] - after[SELL]) * shares,
            "excess": excess,
        }
        assert whole.double().mean() > 0.95
        for name, sample in trial.items():
            columns[name].append(sample[whole])
        for _ in range(gap - 1):
            base.step()
    return {name: torch.cat(parts) for name, parts in columns.items()}


def mean_and_error(sample: Tensor) -> tuple[float, float]:
    return sample.mean().item(), (sample.std() / math.sqrt(sample.numel())).item()


@pytest.mark.parametrize("size", [1, 10, 30])
@pytest.mark.parametrize(
    ("markets", "moments", "errors"),
    [pytest.param(256, 3, 4.0, id="small"), pytest.param(512, 16, 2.0, marks=FULL, id="full")],
)
def test_a_round_trip_costs_the_spread_and_the_commission(markets: int, moments: int, errors: float, size: int) -> None:
    """On average an order gets back from the spread at most what it moved the price itself; and either way first costs as much.

    `errors` is the tolerance in standard errors.
    """
    config = MarketConfig(order_size=size, borrow_ppb=0)
    found = round_trips(config, markets, moments, gap=6)
    owed = found["spread"] + found["commission"]
    loss = 0.5 * (found["buy_first"] + found["sell_first"])
    beyond, error = mean_and_error(loss - owed)
    moved, moved_error = mean_and_error(found["moved"])
    asymmetry, asymmetry_error = mean_and_error(found["buy_first"] - found["sell_first"])
    per_share = {name: sample.mean().item() / size for name, sample in found.items()}
    print(
        f"\nround trip of {size}: {loss.numel()} trials; points per share: loss {loss.mean().item() / size:.3f} "
        f"(buy first {per_share['buy_first']:.3f}, sell first {per_share['sell_first']:.3f}), spread {per_share['spread']:.3f}, "
        f"commission {per_share['commission']:.3f}, beyond both {beyond / size:.3f} +- {error / size:.3f}, "
        f"price moved {moved / size:.3f} +- {moved_error / size:.3f}, "
        f"buy first less sell first {asymmetry / size:.3f} +- {asymmetry_error / size:.3f}"
    )
    if size == 1:
        assert found["excess"].eq(0.0).all()  # pays exactly the ask that was shown
    else:
        assert found["excess"].ge(-1e-9).all()
        assert found["excess"].gt(0.0).any()
    assert beyond + moved > -errors * math.hypot(error, moved_error)
    assert beyond > -0.02 * owed.mean()
    assert abs(asymmetry) < errors * asymmetry_error
