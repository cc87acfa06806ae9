"""Rows that users add: trader families, features, rewards and action schemes from outside work everywhere, compiled too."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from markets import differences, opened, random_actions, seen, toy
from torch import Tensor

from torchgym import Market, MarketConfig, features, noise
from torchgym import program as programs
from torchgym.actions import ACTIONS, ActionScheme
from torchgym.checks import total_cash, total_shares
from torchgym.config import FAMILIES, Family, Population, preset
from torchgym.features import FEATURE_SETS, FEATURES, Screen, feature
from torchgym.market import replay
from torchgym.noise import Draws, StartDraws
from torchgym.recording.columns import columns
from torchgym.rewards import REWARDS, Reward
from torchgym.state import Accounts, MarketParams, RewardMemory, layout
from torchgym.table import Table
from torchgym.traders import TRADERS, TraderFamily, View, Wish


@dataclasses.dataclass(frozen=True, kw_only=True)
class Herd(Family):
    count: int = 5
    max_size: int = 20
    rate: float = 0.2


@dataclasses.dataclass
class HerdMemory:
    mood: Tensor  # [N, S, n] float32


def start(config: MarketConfig, draws: StartDraws, log_mid: Tensor) -> tuple[HerdMemory, Tensor]:
    return HerdMemory(mood=torch.zeros_like(draws.u0)), torch.floor(20.0 * draws.normal)


def decide(
    config: MarketConfig, params: MarketParams, memory: HerdMemory, *, view: View, shares: Tensor, draws: Draws
) -> tuple[Wish, HerdMemory]:
    settings = config.population.others["herd"]
    assert isinstance(settings, Herd)
    mood = memory.mood + 0.1 * (view.last_return - memory.mood)
    wish = Wish(acts=draws.u0 < settings.rate, side=torch.sign(mood), size=5.0, most=settings.max_size)
    return wish, HerdMemory(mood=mood)


def turnover(
    config: MarketConfig, memory: RewardMemory, half_equity_before: Tensor, accounts: Accounts
) -> tuple[Tensor, RewardMemory]:
    return -accounts.turnover.to(torch.float64) * config.point_size, memory


def lean(screen: Screen) -> Tensor:
    bids, asks = screen.counts[2:4]
    return (bids - asks) * 0.5


def twice(config: MarketConfig, action: Tensor, held: Tensor) -> Tensor:
    return (action - 1) * (2 * config.order_size)


TABLES: tuple[Table[Any], ...] = (FAMILIES, TRADERS, REWARDS, FEATURES, FEATURE_SETS, ACTIONS)


@pytest.fixture(autouse=True)
def extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The rows of this file in the tables, and afterwards the tables as they were; programs in a folder of the test's own."""
    before = [dict(table) for table in TABLES]
    FAMILIES["herd"] = Herd
    TRADERS["herd"] = TraderFamily(start, decide)
    REWARDS["turnover"] = Reward(turnover, "currency", "minus the amount traded")
    FEATURES["f_lean"] = feature("f_lean", "microstructure", "shares", "half of bids less asks", lean, size=100.0)
    FEATURE_SETS["leaning"] = ("f_lean", *FEATURE_SETS["full54"][40:], "f_mid_price")
    ACTIONS["twice"] = ActionScheme(choices=3, hold=1, wanted=twice)
    monkeypatch.setenv("TORCHGYM_CACHE_DIR", str(tmp_path / "cache"))
    yield
    for table, rows in zip(TABLES, before, strict=True):
        table.clear()
        table.update(rows)


def crowded(**changes: Any) -> MarketConfig:
    """A toy market with the family from outside."""
    population = dataclasses.replace(toy().population, others={"herd": Herd()})
    return toy(population=population, **changes)


EVERYTHING: dict[str, Any] = {
    "features": "leaning",
    "reward": {"pnl": 1.0, "turnover": 0.5},
    "action": "twice",
    "scaling": "relative",
}


# --- the tables -----------------------------------------------------------------------------------------------------------


def test_only_what_was_added_or_replaced_is_foreign() -> None:
    assert REWARDS.foreign(["pnl", "turnover"]) == (REWARDS["turnover"],)
    REWARDS["pnl"] = dataclasses.replace(REWARDS["pnl"], unit="points")
    assert REWARDS.foreign(["pnl"]) == (REWARDS["pnl"],)
    assert features.foreign(crowded(features="leaning")) == (FEATURES["f_lean"],)
    assert features.foreign(crowded()) == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": "luck"}, "unknown reward 'luck': choose from pnl, .*, turnover"),
        ({"features": "luck"}, "unknown features 'luck': choose from full54, .*, leaning"),
        ({"action": "luck"}, "unknown action scheme 'luck': choose from discrete, .*, twice"),
    ],
)
def test_messages_list_the_added_rows(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Market(toy(**changes))


def test_a_set_of_unknown_features_is_refused_by_name() -> None:
    FEATURE_SETS["broken"] = ("f_mid_price", "f_nothing")
    with pytest.raises(ValueError, match=r"unknown feature 'f_nothing': choose from f_mid_price, .*, f_lean"):
        Market(toy(features="broken"))


def test_a_set_that_is_given_anew_is_seen_anew() -> None:
    assert Market(toy(features="leaning")).feature_names[0] == "f_lean"
    FEATURE_SETS["leaning"] = ("f_mid_price", "f_lean")
    market = opened(toy(features="leaning"), 2)
    assert market.feature_names == ["f_mid_price", "f_lean"]
    assert market.observe().observation.shape == (2, 2)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"value": Herd()}, "may not name 'value': that family is Population.value"),
        ({"ghost": Herd()}, r"names 'ghost', of which nothing is known: set torchgym.config.FAMILIES\['ghost'\]"),
        ({"herd": 5}, "the family 'herd' must have settings of Herd, got 5"),
        (["herd"], "must map names to settings"),
    ],
)
def test_impossible_populations(others: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Population(others=others)


def test_a_family_without_a_row_of_traders_is_refused() -> None:
    del TRADERS["herd"]
    with pytest.raises(ValueError, match="unknown trader family 'herd': choose from value"):
        Market(crowded())


def test_the_bound_on_exact_sums_counts_added_families() -> None:
    with pytest.raises(ValueError, match=r"could add up to .* shares, not below 2\*\*24"):
        toy(population=Population(others={"herd": Herd(max_size=2**22)}))


# --- a family -------------------------------------------------------------------------------------------------------------


def test_an_added_family_trades_and_the_books_balance() -> None:
    market = opened(crowded(num_symbols=2), 3, debug=True)
    owned = market.holdings()["herd"]["shares"]
    assert list(layout(market.config).families)[-1] == "herd"
    for action in random_actions(market.config, 40, 3):
        market.step(action)
    assert not torch.equal(owned, market.holdings()["herd"]["shares"])
    assert total_shares(market.state.accounts).tolist() == [[0, 0]] * 3
    assert total_cash(market.state.accounts).tolist() == [market.config.starting_cash] * 3


def test_the_family_leaves_everybody_elses_luck_alone() -> None:
    key = noise.make_key(torch.tensor([3]), torch.tensor([0]))
    plain, more = layout(toy()), layout(crowded())
    first, second = (
        noise.draw(places, noise.lanes(places, torch.device("cpu")), key, torch.tensor([7])) for places in (plain, more)
    )
    assert torch.equal(first.traders, second.traders[..., : plain.singles])
    assert torch.equal(first.value, second.value) and torch.equal(first.news, second.news)
    own = second.traders[..., plain.singles :].flatten()
    assert len(set(own.tolist()) - set(first.traders.flatten().tolist())) == own.numel()


def test_two_families_on_one_stream_are_refused() -> None:
    taken: dict[tuple[int, int], str] = {}
    for number in range(2000):
        name = f"family{number}"
        (streams,) = noise.family_streams([name]).values()
        assert 256 <= streams[0] < 1000 and streams[1] == streams[0] + 1024 < noise.MAX_STREAMS
        if streams in taken:
            with pytest.raises(ValueError, match=f"'{taken[streams]}' and '{name}' would draw the same numbers"):
                noise.family_streams([taken[streams], "value", name])
            return
        taken[streams] = name
    raise AssertionError("no two of 2,000 names fell on one of 744 streams")


@pytest.mark.parametrize("through_json", [False, True])
def test_settings_of_an_added_family_come_back(through_json: bool) -> None:
    config = crowded(max_ticks=50)
    told = config.to_dict()
    assert MarketConfig.from_dict(json.loads(json.dumps(told)) if through_json else told) == config
    assert preset("volatile").population.others == {}


def test_a_saved_market_with_an_added_family_goes_on(tmp_path: Path) -> None:
    market = opened(crowded(), 2)
    market.save(tmp_path / "market.pt")
    again = Market.load(tmp_path / "market.pt")
    assert differences(seen(market.step()), seen(again.step())) == []
    del FAMILIES["herd"]
    with pytest.raises(ValueError, match="unknown family 'herd'"):
        Market.load(tmp_path / "market.pt")


# --- what a learner gets --------------------------------------------------------------------------------------------------


def test_the_learner_gets_what_the_rows_say() -> None:
    market = opened(crowded(**EVERYTHING), 2)
    result = market.step(torch.tensor([2, 1]))
    size = market.config.order_size
    assert result.info["position"].flatten().tolist() == [2 * size, 0]
    assert torch.equal(result.info["reward_turnover"], -result.info["turnover"])
    assert torch.equal(result.reward, result.info["reward_pnl"] + 0.5 * result.info["reward_turnover"])
    tape = market.state.tape
    expected = (tape.bid_depth - tape.ask_depth).to(torch.float64).flatten() * 0.005
    assert torch.allclose(result.observation[:, 0], expected.clamp(-features.LIMIT, features.LIMIT), rtol=1e-15)


def test_recordings_describe_added_rows() -> None:
    told = {column.name: column for column in columns(crowded(**{**EVERYTHING, "scaling": "raw"}))}
    assert (told["f_lean"].unit, told["f_lean"].description) == ("shares", "half of bids less asks")
    assert told["reward_turnover"].unit == "currency"


# --- compiled -------------------------------------------------------------------------------------------------------------


def few(**changes: Any) -> MarketConfig:
    """A market of noise traders, makers and the herd, which compiles faster than one of everybody."""
    crowd = crowded().population
    names = [name for name in crowd.families if name not in ("noise", "maker", "herd")]
    absent: dict[str, Any] = {name: dataclasses.replace(crowd.families[name], count=0) for name in names}
    FEATURE_SETS["f_lean alone"] = ("f_lean",)
    return crowded(features="f_lean alone").replace(population=dataclasses.replace(crowd, **absent), **changes)


def run(config: MarketConfig, *, compile: bool) -> dict[str, Any]:
    market = opened(config, 2, compile=compile)
    return {str(at): seen(market.step(action)) for at, action in enumerate(random_actions(config, 12, 2))}


def test_compiled_steps_use_the_rows_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program on disk serves rows whose operations are the same, whatever their source, and no others."""
    config = few(action="twice", reward={"pnl": 1.0, "turnover": 0.5})
    plain = run(config, compile=False)
    assert any(bool(step["info"]["reward_turnover"].any()) for step in plain.values())
    assert differences(run(config, compile=True), plain) == []

    class BuiltAgain(Exception):
        pass

    def build(traced: programs.Traced) -> programs.Program:
        raise BuiltAgain

    monkeypatch.setattr(programs, "build", build)
    REWARDS["turnover"] = Reward(lambda *given: turnover(*given), "currency", "the same")
    assert differences(run(config, compile=True), plain) == []
    monkeypatch.setattr(replay, "_known", {})  # as in another process
    assert differences(run(config, compile=True), plain) == []
    REWARDS["turnover"] = Reward(lambda *given: (turnover(*given)[0] * 2.0, given[1]), "currency", "twice as much")
    with pytest.raises(BuiltAgain):
        run(config, compile=True)
    REWARDS["turnover"] = Reward(lambda *given: turnover(*given), "currency", "the same")
    ACTIONS["twice"] = dataclasses.replace(ACTIONS["twice"], wanted=lambda *given: twice(*given) * 2)
    with pytest.raises(BuiltAgain):
        run(config, compile=True)
