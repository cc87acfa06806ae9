"""The trading day: its auctions, its night, the pattern of activity and volatility, and what a learner is told of it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from markets import differences, opened, random_actions, toy

from torchgym import Market, MarketConfig, TradingEnv, preset
from torchgym.config import Fundamentals, Session, structure
from torchgym.lab.realism import scorecard
from torchgym.readout.entries import account_names, info_entries, path_entries
from torchgym.recording import Calendar, EpisodeRecorder, read_about
from torchgym.sim import session
from torchgym.sim.actions import ACTIONS, ActionScheme, Choices, Known, Resting
from torchgym.sim.params import plain_params

CPU = torch.device("cpu")
DAY = 12  # ticks


def daily(*, ticks: int = DAY, night: float = 15.0, **changes: Any) -> MarketConfig:
    """A toy market of short days."""
    hours = Session(kind="day", ticks=ticks, night=night, half_life=3.0)
    return toy(**{"session": hours, "max_ticks": 120, **changes})


def hours_of(config: MarketConfig, ticks: range) -> session.Hour:
    found = session.hour(structure(config), plain_params(config, CPU), torch.tensor(list(ticks)))
    assert found is not None
    return found


# --- where a tick is in its day ------------------------------------------------------------------------------------------


def test_the_first_tick_is_an_opening_auction_and_the_warm_up_ends_with_a_close() -> None:
    found = hours_of(daily(), range(-DAY, 2 * DAY + 1))
    closing = [0, DAY, 2 * DAY]
    ticks = torch.arange(-DAY, 2 * DAY + 1)
    assert ticks[found.closes[:, 0]].tolist() == [-DAY, *closing]
    assert ticks[found.auction[:, 0]].tolist() == [-DAY, -DAY + 1, 0, 1, DAY, DAY + 1, 2 * DAY]


def test_activity_and_volatility_are_high_at_both_ends() -> None:
    config = daily()
    found, own = hours_of(config, range(1, DAY + 1)), config.session
    for since in range(DAY):
        opening, closing = 0.5 ** (since / 3.0), 0.5 ** ((DAY - 1 - since) / 3.0)
        activity = 1.0 + (own.open_activity - 1.0) * opening + (own.close_activity - 1.0) * closing
        volatility = 1.0 + (own.open_volatility - 1.0) * opening + (own.close_volatility - 1.0) * closing
        ends = since in (0, DAY - 1)
        assert found.activity[since].item() == pytest.approx(activity * (own.auction_activity if ends else 1.0))
        assert found.volatility[since].item() == pytest.approx(volatility)
        assert found.move[since].item() == pytest.approx(own.night if since == DAY - 1 else volatility)


@pytest.mark.parametrize(("ticks", "nights"), [(391, 2), (780, 2), (100, 1)])
def test_the_variance_of_so_many_ticks_and_their_nights(ticks: int, nights: int) -> None:
    own = daily(ticks=390).session
    volatility = hours_of(daily(ticks=390), range(1, 391)).volatility.square()
    usual = volatility.mean() if ticks > 390 else (own.open_volatility + own.close_volatility - 1.0) ** 2
    assert own.variance(ticks) == pytest.approx(ticks * float(usual) + nights * 15.0**2)
    assert Session(ticks=390).variance(ticks) == ticks


def test_without_days_the_numbers_of_the_session_change_no_bit() -> None:
    other = Session(ticks=7, open_activity=50.0, night=500.0)
    action = random_actions(toy(), 30, 2)
    plain, changed = (opened(toy(session=hours), 2) for hours in (Session(), other))
    for each in action:
        plain.step(each)
        changed.step(each)
    assert not differences(plain.state, changed.state)
    assert structure(toy(session=other)) == structure(toy())


# --- auctions --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learners", [1, 2])
def test_in_an_auction_all_trade_at_one_price(learners: int) -> None:
    """A market order of an auction pays the auction's price; of any other tick, what the standing book asks."""
    market = opened(daily(num_learners=learners, order_size=3, commission_bps=0.0), 16)
    buys = torch.full((16, learners, 1) if learners > 1 else (16, 1), 2)
    differs = 0
    for tick in range(1, DAY + 2):
        before = market.state.ledger.cash.clone(), market.state.ledger.shares.clone()
        ask = market.state.market_data.ask[:, 0].clone()
        market.step(buys if tick in (1, 5, DAY, DAY + 1) else None)
        paid = before[0] - market.state.ledger.cash
        bought = (market.state.ledger.shares - before[1])[:, 0]
        close = market.state.market_data.close[:, :1]
        if tick in (1, DAY, DAY + 1):
            assert torch.equal(paid, bought * close)
            assert bought.gt(0).any()
            differs += int((bought.gt(0) & (close != ask[:, None])).sum())
        elif tick == 5:
            assert (paid >= bought * ask[:, None]).all() and bought.eq(3).all()
    assert differs > 0


def bid_and_sell() -> ActionScheme:
    """0 lets a bid rest at the best price, 1 keeps it and sells at market."""

    def rests(known: Known, action: torch.Tensor) -> Resting:
        price = known.bid[..., None, None, None].expand(*action.shape, 2, known.quotes)
        bids = torch.tensor([[1], [0]]) * (action == 0)[..., None, None]
        return Resting(price, 30 * bids.expand_as(price), (action == 1)[..., None, None].expand_as(price))

    def wanted(known: Known, action: torch.Tensor) -> torch.Tensor:
        return torch.where(action == 1, -known.params.order_size, 0).expand_as(known.held)

    return ActionScheme(Choices(2, hold=None), wanted, rests=rests)


def test_an_order_for_an_auction_meets_no_own_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIONS, "bid_and_sell", bid_and_sell())
    config = daily(action="bid_and_sell", quotes=1, order_size=30, position_limit=300, starting_shares=30)
    market = opened(config, 16)
    cancelled = sold = 0
    for tick in range(1, DAY + 1):
        result = market.step(torch.full((16, 1), int(tick == DAY)))
        if tick == DAY:
            ledger = market.state.ledger
            assert ledger.rested is not None
            meets = result.info["self_cancelled"][:, 0] > 0
            cancelled, sold = int(meets.sum()), int((ledger.filled[:, 0, 0] < 0).sum())
            assert ledger.rested.filled[meets].eq(0).all()
    assert cancelled > 0 and sold > 0


def test_unfilled_orders_end_with_the_day() -> None:
    config = daily(action="depths", quotes=2, priority="time")
    market = opened(config, 4)
    far = torch.full((4, 4), 25.0, dtype=torch.float64)
    keep = torch.full((4, 4), -1.0, dtype=torch.float64)
    first = market.structure.singles
    for tick in range(1, 2 * DAY + 1):
        market.step(far if tick == 2 else keep)
        book = market.state.book
        own, others = book.size[..., market.structure.background :], book.size[..., :first]
        if tick % DAY == 0:
            assert own.eq(0).all() and others.eq(0).all()
            assert book.size[..., first : market.structure.background].ne(0).any()  # makers quote for the morning
        elif 2 <= tick < DAY:
            assert own.ne(0).any()
        elif tick > DAY:
            assert own.eq(0).all()  # KEEP keeps nothing


# --- the night -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("night", [0.0, 40.0])
def test_value_and_quotes_move_over_night(night: float) -> None:
    market = opened(daily(night=night, randomize={}), 64, seed=5)
    values, mids = [], []
    for _ in range(3 * DAY):
        market.step(None)
        values.append(market.state.value.level[:, 0].clone())
        mids.append(market.state.market_data.log_mid[:, 0].clone())
    value, mid = (torch.stack(path).diff(dim=0).reshape(-1, 64) for path in (values, mids))
    nights = torch.tensor([tick for tick in range(3 * DAY - 1) if (tick + 2) % DAY == 0])
    midday = torch.tensor([tick for tick in range(3 * DAY - 1) if (tick + 2) % DAY == DAY // 2])
    ratio = value[nights].std() / value[midday].std()
    volatility = hours_of(daily(), range(DAY // 2, DAY // 2 + 1)).volatility.item()
    if night:
        assert ratio.item() == pytest.approx(night / volatility, rel=0.5)
        together = torch.corrcoef(torch.stack([value[nights].flatten(), mid[nights].flatten()]))[0, 1]
        assert together > 0.6  # the public part, which makers quote at once
    else:
        assert ratio < 1.0


@pytest.mark.parametrize("night", [0.0, 1.0, 15.0])
def test_the_running_means_know_the_hours(night: float) -> None:
    """A usual night leaves no trace of alarm, however quiet usual is: right after it volatility is what it was at midday."""
    market = opened(daily(ticks=60, night=night, max_ticks=600), 64, seed=2)
    midday, morning = [], []
    for tick in range(1, 602):
        market.step(None)
        if tick % 60 in (30, 1):
            (midday if tick % 60 == 30 else morning).append(market.state.market_data.variance[:, 0, 0].mean())
    assert 0.4 < (torch.stack(morning[1:]).mean() / torch.stack(midday).mean()).item() < 2.0


# --- everything else keeps its promises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["sized", "depths"])
def test_books_balance_over_days(action: str) -> None:
    config = daily(action=action, quotes=2 if action == "depths" else 0, num_symbols=2, priority="time", num_learners=2)
    market = opened(config, 3, debug=True)
    for each in random_actions(config, 4 * DAY, 3):
        market.step(each)


def test_markets_with_days_of_their_own_are_what_they_are_alone() -> None:
    lengths = [7, DAY, 20]
    together = opened(daily(), 3, params={"session.ticks": lengths, "session.night": [1.0, 15.0, 3.0]})
    alone = [
        opened(daily(), 1, seed=seed, params={"session.ticks": length, "session.night": night})
        for seed, (length, night) in enumerate(zip(lengths, [1.0, 15.0, 3.0], strict=True))
    ]
    for each in random_actions(daily(), 30, 3):
        together.step(each)
        for row, market in enumerate(alone):
            market.step(each[row : row + 1])
    for row, market in enumerate(alone):
        assert torch.equal(together.state.market_data.mids_x2[row], market.state.market_data.mids_x2[0])
        assert torch.equal(together.state.accounts.cash[row], market.state.accounts.cash[0])


def test_the_learner_is_told_how_much_of_the_day_is_left() -> None:
    config = daily(ticks_per_action=4)
    assert account_names(config) == ["position", "cash", "equity", "time_left", "day_left"]
    assert "day_left" in info_entries(config) and "day_left" in path_entries(config)
    assert "day_left" not in info_entries(toy()) and "day_left" not in path_entries(toy())
    market = Market(config, 2)
    seen = [market.reset(), *(market.step(None) for _ in range(2 * DAY // 4))]
    left = [0, *(DAY - 1 - (tick - 1) % DAY for tick in range(4, 2 * DAY + 1, 4))]
    for result, expected in zip(seen, left, strict=True):
        assert result.account[:, 4].tolist() == [expected / DAY] * 2
        assert result.info["day_left"].tolist() == [expected / DAY] * 2


@pytest.mark.parametrize("quotes", [0, 1])
def test_the_bounds_of_what_is_told_of_the_day(quotes: int) -> None:
    env = TradingEnv(daily(quotes=quotes), include_account=True)
    at = env.feature_names.index("day_left")
    assert (env.observation_space.low[at], env.observation_space.high[at]) == (0.0, 1.0)
    assert (env.observation_space.low[at - 1], env.observation_space.high[at - 1]) == (0.0, 1.0)  # time_left
    assert np.isinf(env.observation_space.high[at + 1 :]).all()


def test_days_of_different_lengths_have_no_common_calendar() -> None:
    config = daily(randomize={"session.ticks": (20.0, 40.0)})
    for command in (lambda: Calendar.of(config), lambda: scorecard(config, markets=1, ticks=400)):
        with pytest.raises(ValueError, match=r"randomize draws session\.ticks"):
            command()
    assert Calendar.of(config, ticks_per_day=7).ticks_per_day == 7
    assert Calendar.of(toy(randomize={"session.ticks": (20.0, 40.0)})).ticks_per_day == 390


def test_a_scorecard_says_how_many_ticks_its_days_need() -> None:
    with pytest.raises(ValueError, match="of 400 ticks too few fall into whole days of 390: give ticks >= 952"):
        scorecard(preset("day"), markets=1, ticks=400, burn_in=220)


def test_the_preset_is_the_default_market_in_days() -> None:
    config = preset("day")
    assert config.session.kind == "day" and config.replace(session=Session()) == MarketConfig()
    assert MarketConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ticks": 3}, "Session.ticks"),
        ({"kind": "week"}, "Session.kind"),
        ({"night": math.nan}, "Session.night"),
        ({"open_volatility": 0.0}, "Session.open_volatility"),
    ],
)
def test_impossible_hours_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Session(**{"kind": "day", **changes})


@pytest.mark.parametrize("name", ["activity", "volatility"])
def test_hours_that_are_too_quiet_for_a_short_day_are_refused(name: str) -> None:
    """What opening and close take away adds up; what is left must stay above nothing at every tick."""
    quiet = {f"open_{name}": 0.3, f"close_{name}": 0.3}
    with pytest.raises(
        ValueError, match=rf"open_{name} = 0\.3 and close_{name} = 0\.3 leave -0\.04.* in a day of ticks = 30"
    ):
        Session(kind="day", ticks=30, **quiet)
    with pytest.raises(ValueError, match="leave"):
        daily(randomize={f"session.open_{name}": (0.01, 1.0), f"session.close_{name}": (0.01, 1.0)})
    with pytest.raises(ValueError, match="leave"):
        Market(daily(), 2, params={f"session.open_{name}": [0.5, 0.01], f"session.close_{name}": [0.5, 0.01]})
    own = Session(kind="day", ticks=30, half_life=10.0, **quiet)
    found = getattr(hours_of(daily(session=own), range(2, 30)), name)[:, 0]  # between the auctions
    ends = getattr(own, f"open_{name}"), getattr(own, f"close_{name}")
    assert 0.0 < own._least(*ends) <= found.min().item() < own._least(*ends) + 0.1


def test_a_recording_of_days_that_params_set_has_their_calendar(tmp_path: Path) -> None:
    market = Market(daily(), 2, params={"session.ticks": 20})
    with EpisodeRecorder(tmp_path / "episodes.parquet", market) as recorder:
        recorder.reset([1, 2])
    assert read_about(tmp_path / "episodes.parquet")["ticks_per_day"] == "20"
    with pytest.raises(ValueError, match=r"days of 5, 20 ticks: give all markets the same"):
        EpisodeRecorder(tmp_path / "other.parquet", Market(daily(), 2, params={"session.ticks": [5, 20]}))
    assert not (tmp_path / "other.parquet").exists()


def test_nights_that_carry_the_value_away_are_refused() -> None:
    hours = Session(kind="day", night=1_000.0)
    with pytest.raises(ValueError, match="the value may move by"):
        MarketConfig(session=hours)
    with pytest.raises(ValueError, match="the value may move by"):
        MarketConfig(
            session=dataclasses.replace(hours, ticks=1_000_000),
            fundamentals=Fundamentals(volatility=4e-3),
            max_ticks=100,
        )
    assert dataclasses.replace(hours, kind="none") == Session(night=1_000.0)
