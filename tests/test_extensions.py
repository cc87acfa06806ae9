"""Rows that users add: trader families, features, rewards and action schemes from outside work everywhere, compiled too."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from markets import differences, only, opened, random_actions, same_bits, seen, toy
from torch import Tensor

from torchgym import Market, MarketConfig
from torchgym.config import FAMILIES, Family, Population, Session, Structure, ValueTraders, preset, structure
from torchgym.engine import program as programs
from torchgym.engine import replay, stepper
from torchgym.numerics import random
from torchgym.readout import entries, features
from torchgym.readout.entries import INFO, Entry
from torchgym.readout.features import FEATURE_SETS, FEATURES, FeatureContext, feature
from torchgym.readout.rewards import REWARDS, Played, Reward
from torchgym.recording.columns import columns
from torchgym.sim import noise
from torchgym.sim.actions import ACTIONS, ActionScheme, Choices, Known
from torchgym.sim.invariants import total_cash, total_shares
from torchgym.sim.noise import Draws, StartDraws
from torchgym.sim.params import Params
from torchgym.sim.state import FOREVER, HIGHEST, Book, RewardMemory
from torchgym.sim.traders import TRADERS, OrderIntent, Signals, TraderFamily
from torchgym.table import Table

PRICE = 1.0  # of turnover


@dataclasses.dataclass(frozen=True, kw_only=True)
class Herd(Family):
    count: int = 5
    max_size: int = 20
    rate: float = 0.2


@dataclasses.dataclass
class HerdMemory:
    mood: Tensor  # [N, S, n] float32


def start(structure: Structure, params: Params, draws: StartDraws, log_mid: Tensor) -> tuple[HerdMemory, Tensor]:
    return HerdMemory(mood=torch.zeros_like(draws.u0)), torch.floor(20.0 * draws.normal)


def decide(
    structure: Structure, params: Params, memory: HerdMemory, *, signals: Signals, shares: Tensor, draws: Draws
) -> tuple[OrderIntent, HerdMemory]:
    settings = params.population.herd
    mood = memory.mood + 0.1 * (signals.last_return - memory.mood)
    intent = OrderIntent(acts=draws.u0 < settings.rate, side=torch.sign(mood), size=5.0, most=settings.max_size)
    return intent, HerdMemory(mood=mood)


def turnover(tick: Played, memory: RewardMemory) -> tuple[Tensor, RewardMemory]:
    return -tick.ledger.turnover.to(torch.float64) * (tick.params.point_size * PRICE), memory


def lean(context: FeatureContext) -> Tensor:
    bids, asks = context.counts[2:4]
    return (bids - asks) * 0.5


def twice(known: Known, action: Tensor) -> Tensor:
    return (action - 1) * (2 * known.params.order_size)


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
    ACTIONS["twice"] = ActionScheme(Choices(3, hold=1), twice)
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


def test_a_row_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match=r"reward 'mine' must be of the class Reward, got function: <function"):
        REWARDS["mine"] = lambda tick, memory: (tick, memory)  # type: ignore[assignment]
    for names in ("f_mid_price", ["f_mid_price"]):
        with pytest.raises(TypeError, match=r"features 'broken' must be of the class tuple"):
            FEATURE_SETS["broken"] = names  # type: ignore[assignment]
    two = Table[Any]("row", {"one": 1, "word": "x"})
    assert copy.deepcopy(two) == pickle.loads(pickle.dumps(two)) == two
    assert "mine" not in REWARDS


def test_only_what_was_added_or_replaced_counts_as_added() -> None:
    assert REWARDS.added(["pnl", "turnover"]) == (REWARDS["turnover"],)
    REWARDS["pnl"] = dataclasses.replace(REWARDS["pnl"], unit="points")
    assert REWARDS.added(["pnl"]) == (REWARDS["pnl"],)
    assert features.added(crowded(features="leaning")) == (FEATURES["f_lean"],)
    assert features.added(crowded()) == ()


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


@pytest.mark.parametrize("names", [(), ("f_mid_price", "f_lean", "f_mid_price")])
def test_a_set_that_is_none_is_refused(names: Any) -> None:
    FEATURE_SETS["broken"] = names
    with pytest.raises(ValueError, match=r"FEATURE_SETS\['broken'\] must be a tuple of different names, one at least"):
        Market(toy(features="broken"))


def test_two_rows_of_one_feature_are_refused() -> None:
    FEATURES["f_twin"] = dataclasses.replace(FEATURES["f_lean"], name="f_twin", over=(1, 2))
    FEATURES["f_twin_2"] = dataclasses.replace(FEATURES["f_lean"], name="f_twin_2")
    with pytest.raises(ValueError, match=r"FEATURES\['f_twin_2'\] and FEATURES\['f_twin'\] both have 'f_twin_2'"):
        Market(toy(features="leaning"))
    del FEATURES["f_twin_2"]
    FEATURES["f_other"] = FEATURES["f_lean"]
    with pytest.raises(ValueError, match=r"FEATURES\['f_other'\] calls itself 'f_lean'"):
        Market(toy(features="leaning"))


def test_a_row_that_is_given_anew_is_seen_anew() -> None:
    """Also where the row's own features change places."""

    def levels(context: FeatureContext) -> Tensor:
        return torch.cat([context.mid, 2.0 * context.mid], -1)

    def backwards(context: FeatureContext) -> Tensor:
        return torch.cat([3.0 * context.mid, 2.0 * context.mid, context.mid], -1)

    row = dataclasses.replace(FEATURES["f_lean"], name="f_level", raw=levels, over=(1, 2))
    FEATURES["f_level"] = row
    FEATURE_SETS["levels"] = ("f_level_1", "f_level_2", "f_mid_price")
    first = opened(toy(features="levels"), 1).observe().observation[0]
    assert torch.equal(first, first[2] * torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64))
    FEATURES["f_level"] = dataclasses.replace(row, raw=backwards, over=(3, 2, 1))
    second = opened(toy(features="levels"), 1).observe().observation[0]
    assert torch.equal(second, second[2] * torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64))


def test_a_set_of_unknown_features_is_refused_by_name() -> None:
    FEATURE_SETS["broken"] = ("f_mid_price", "f_nothing")
    with pytest.raises(ValueError, match=r"unknown feature 'f_nothing' in FEATURE_SETS\['broken'\]: choose .*, f_lean"):
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
        ({"ghost": Herd()}, r"unknown family 'ghost': import the module that sets torchgym.config.FAMILIES\['ghost'\]"),
        ({"herd": 5}, "the family 'herd' must have settings of test_extensions.Herd, got 5"),
        (["herd"], "must map names to settings"),
    ],
)
def test_impossible_populations(others: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Population(others=others)


def test_settings_that_are_no_family_are_refused() -> None:
    FAMILIES["herd"] = dict  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"FAMILIES\['herd'\] must be a subclass of Family, got <class 'dict'>"):
        Population(others={"herd": Herd()})
    with pytest.raises(ValueError, match=r"Population\.others must map names to settings"):
        MarketConfig.from_dict({"population": {"others": [1]}})


def test_settings_of_an_added_family_are_its_own_business() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Shy(Family):
        count: int = 1
        max_size: int = 5
        depth: float = -3.0
        mood: str | None = None

    FAMILIES["shy"] = Shy
    config = toy(population=Population(others={"shy": Shy(mood="blue")}))
    assert MarketConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match=r"Shy\.count must be an integer >= 0, got -1"):
        Shy(count=-1)


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
    assert list(structure(market.config).orders)[-1] == "herd"
    for action in random_actions(market.config, 40, 3):
        market.step(action)
    assert not torch.equal(owned, market.holdings()["herd"]["shares"])
    assert total_shares(market.state.accounts, market.state.ledger).tolist() == [[0, 0]] * 3
    assert total_cash(market.state.accounts, market.state.ledger).tolist() == [market.config.starting_cash] * 3


def test_the_family_leaves_everybody_elses_luck_alone() -> None:
    key = random.make_key(torch.tensor([3]), torch.tensor([0]))
    plain, more = structure(toy()), structure(crowded())
    first, second = (
        noise.draw(places, noise.make_plan(places, torch.device("cpu")), key, torch.tensor([7]))
        for places in (plain, more)
    )
    for few, many in ((first.uniforms, second.uniforms), (first.normals, second.normals)):
        assert torch.equal(few, many[..., : plain.singles])
        own = many[..., plain.singles :].flatten()
        assert len(set(own.tolist()) - set(few.flatten().tolist())) == own.numel()
    assert torch.equal(first.value, second.value) and torch.equal(first.news, second.news)


def test_two_families_on_one_stream_are_refused() -> None:
    taken: dict[tuple[int, int], str] = {}
    for number in range(2000):
        name = f"family{number}"
        (streams,) = noise.family_streams([name]).values()
        assert 256 <= streams[0] < 1000 and streams[1] == streams[0] + 1024 < random.MAX_STREAMS
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
    market_data = market.state.market_data
    expected = (market_data.bid_depth - market_data.ask_depth).to(torch.float64).flatten() * 0.005
    assert torch.allclose(result.observation[:, 0], expected.clamp(-features.LIMIT, features.LIMIT), rtol=1e-15)


def test_recordings_describe_added_rows() -> None:
    told = {column.name: column for column in columns(crowded(**{**EVERYTHING, "scaling": "raw"}))}
    assert (told["f_lean"].unit, told["f_lean"].description) == ("shares", "half of bids less asks")
    assert told["reward_turnover"].unit == "currency"


# --- what a row makes -----------------------------------------------------------------------------------------------------


def halves(known: Known, action: Tensor) -> Tensor:
    return (action - 1) * 0.5


def wide(context: FeatureContext) -> Tensor:
    return torch.cat([context.mid, context.mid], -1)


def flat(context: FeatureContext) -> Tensor:
    return context.mid.squeeze(-1)


def column(tick: Played, memory: RewardMemory) -> tuple[Tensor, RewardMemory]:
    return turnover(tick, memory)[0].unsqueeze(-1), memory


def single(tick: Played, memory: RewardMemory) -> tuple[Tensor, RewardMemory]:
    return turnover(tick, memory)[0].float(), memory


@pytest.mark.parametrize(
    ("table", "name", "row", "message"),
    [
        (
            ACTIONS,
            "twice",
            ActionScheme(Choices(3, hold=1), halves),
            r"ACTIONS\['twice'\] must make torch.int64 of shape \(2, 1, 1\), it",
        ),
        (
            REWARDS,
            "turnover",
            Reward(column, "", ""),
            r"REWARDS\['turnover'\] must make .*\(2, 1\), it made .*\(2, 1, 1\)",
        ),
        (
            REWARDS,
            "turnover",
            Reward(single, "", ""),
            r"REWARDS\['turnover'\] must make torch.float64 .* torch.float32",
        ),
        (
            REWARDS,
            "turnover",
            Reward(lambda tick, memory: (0.0, memory), "", ""),  # type: ignore[arg-type, return-value]
            r"REWARDS\['turnover'\] must make torch.float64 of shape \(2, 1\), it made 0\.0",
        ),
        *(
            (
                REWARDS,
                "turnover",
                Reward(made, "", ""),
                r"REWARDS\['turnover'\] must make two things, its value and the",
            )
            for made in (lambda *_: 0.0, lambda *given: turnover(*given)[0], lambda *_: (0.0, None))
        ),
        (
            FEATURES,
            "f_lean",
            feature("f_lean", "", "", "", wide),
            r"FEATURES\['f_lean'\] must make .*\(2, 1, 1\), it made",
        ),
        (
            FEATURES,
            "f_lean",
            feature("f_lean", "", "", "", flat),
            r"FEATURES\['f_lean'\] must make .* it made .*\(2, 1\)",
        ),
    ],
)
def test_a_row_that_makes_something_else_is_named(table: Table[Any], name: str, row: Any, message: str) -> None:
    table[name] = row
    with pytest.raises(ValueError, match=message):
        opened(crowded(**EVERYTHING), 2).step()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"side": torch.ones(2, 1, 1)},
            r"side of the intent of TRADERS\['herd'\] must make .*\(2, 1, 5\), it made .*\(2, 1, 1\)",
        ),
        ({"acts": torch.ones(2, 1, 5)}, r"acts of the intent of TRADERS\['herd'\] must make torch.bool"),
    ],
)
def test_an_intent_that_is_none_is_refused(change: dict[str, Any], message: str) -> None:
    def other(*given: Any, **named: Any) -> tuple[OrderIntent, HerdMemory]:
        intent, memory = decide(*given, **named)
        return dataclasses.replace(intent, **change), memory

    TRADERS["herd"] = TraderFamily(start, other)
    with pytest.raises(ValueError, match=message):
        opened(crowded(), 2)


def test_no_order_of_an_added_family_exceeds_its_bound() -> None:
    def greedy(*given: Any, **named: Any) -> tuple[OrderIntent, HerdMemory]:
        intent, memory = decide(*given, **named)
        return dataclasses.replace(intent, size=1e6, most=torch.full_like(intent.side, 1e6)), memory

    TRADERS["herd"] = TraderFamily(start, greedy)
    market = opened(crowded(), 2)
    place = structure(market.config).families["herd"]
    sizes = [market.step() and market.live.book.size[..., place].abs().max().item() for _ in range(5)]
    assert max(sizes) <= 20
    moved = market.live.accounts.shares[..., place]
    assert bool(((market.step() and market.live.accounts.shares[..., place]) - moved).abs().max() <= 20)


def test_a_row_of_ones_own_may_differentiate_and_keep_what_it_learns_from() -> None:
    kept: list[Tensor] = []

    def slope(tick: Played, memory: RewardMemory) -> tuple[Tensor, RewardMemory]:
        kept.append(tick.after.market_data.log_mid)
        with torch.enable_grad():
            at = kept[-1].detach().clone().requires_grad_()
            (found,) = torch.autograd.grad((at * at).sum(), at)
        return found[:, :1].expand_as(tick.ledger.equity_x2), memory

    REWARDS["slope"] = Reward(slope, "", "twice the log price")
    result = opened(toy(reward={"slope": 1.0}), 2).step()
    assert torch.equal(result.reward, 2.0 * kept[-1][:, 0])
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    (kept[-1] * weight).sum().backward()
    assert weight.grad is not None


def test_no_order_of_an_added_family_lives_for_ever() -> None:
    """It would end at once otherwise: ticks are counted in 32 bits."""

    def lasting(structure: Structure, params: Params, memory: Any, *, shares: Tensor, draws: Draws, **seen: Any) -> Any:
        quiet = OrderIntent(draws.u0 < 2.0, torch.ones_like(shares), size=5.0, most=5.0, life=1e12, distance=400.0)
        return quiet, memory

    TRADERS["herd"] = dataclasses.replace(TRADERS["herd"], decide=lasting)
    market = opened(crowded(), 2)
    market.step()
    book = market.live.book.slots(market.structure.families["herd"])
    assert bool((book.size == 5).all()) and bool((book.expiry >= 2**30).all())


def patient(structure: Structure, params: Params, memory: Any, *, shares: Tensor, **seen: Any) -> Book:
    """Makers who quote a million shares seven points from the reference, and a point further each."""
    away = 7 + torch.arange(structure.makers, dtype=torch.int32)
    middle = torch.round(memory.reference).to(torch.int32).unsqueeze(-1)
    size = torch.full_like(shares, 10**6, dtype=torch.int32)
    price = torch.cat([middle - away, middle + away], -1)
    return Book(price, torch.cat([size, -size], -1), torch.full_like(price, FOREVER))


def test_makers_of_ones_own() -> None:
    """They quote what they are bound to at most; nobody's order is left for them to trade with, and learners' orders stay."""
    TRADERS["maker"] = dataclasses.replace(TRADERS["maker"], quote=patient)
    market = opened(toy(quotes=1, action="depths"), 2)
    depths = torch.tensor([[5.0, 6.0]] * 2, dtype=torch.float64)
    market.step(depths)
    cash = total_cash(market.live.accounts, market.live.ledger)
    for _ in range(20):
        kept = market.live.book.slots(slice(market.structure.background, None))
        market.step(torch.full_like(depths, -1.0))
        state, plan = market.live, market.structure
        quotes = state.book.slots(slice(plan.singles, plan.background))
        middle = torch.round(state.traders["maker"].reference).to(torch.int64)
        assert torch.equal(quotes.price[..., 0], middle - 7) and torch.equal(quotes.price[..., -1], middle + 12)
        assert quotes.size.abs().amax() == market.config.population.maker.max_size
        others = state.book.slots(slice(plan.singles))
        assert bool((torch.where(others.size > 0, others.price, 0).amax(-1) < middle + 7).all())
        assert bool((torch.where(others.size < 0, others.price, 2**30).amin(-1) > middle - 7).all())
        own = state.book.slots(slice(plan.background, None))
        assert state.ledger.rested is not None
        assert torch.equal(own.price, kept.price) and torch.equal(own.size, kept.size - state.ledger.rested.filled)
        assert torch.equal(total_cash(state.accounts, state.ledger), cash)


def test_no_quote_of_ones_own_stands_higher_than_prices_go() -> None:
    def high(*given: Any, **named: Any) -> Book:
        quotes = patient(*given, **named)
        return dataclasses.replace(quotes, price=torch.where(quotes.size < 0, 2**31 - 1, quotes.price))

    TRADERS["maker"] = dataclasses.replace(TRADERS["maker"], quote=high)
    market = opened(toy(), 2)
    market.step()
    asks = market.live.book.slots(slice(market.structure.singles, None)).price[..., market.structure.makers :]
    assert bool((asks == HIGHEST).all())


def test_empty_quotes_of_ones_own_are_in_nobodys_way() -> None:
    """Makers who only bid leave the others' bids alone, wherever their asks of no shares, or of the wrong sign, stand."""
    kept = []
    for size, away in ((0, 0), (1, 0), (0, 10**4)):

        def bidding(*given: Any, size: int = size, away: int = away, **named: Any) -> Book:
            quotes = patient(*given, **named)
            asks = quotes.size < 0
            price = torch.where(asks, 1 + away, quotes.price)
            return dataclasses.replace(quotes, price=price, size=torch.where(asks, size, quotes.size))

        TRADERS["maker"] = dataclasses.replace(TRADERS["maker"], quote=bidding)
        market = opened(toy(), 2)
        singles = market.live.book.slots(slice(market.structure.singles))
        kept.append(torch.where(singles.size > 0, singles.price, 0))
        assert bool((market.live.book.size[..., market.structure.singles + market.structure.makers :] == 0).all())
    assert bool(kept[0].any()) and torch.equal(kept[0], kept[1]) and torch.equal(kept[0], kept[2])


@pytest.mark.parametrize("name", ["price", "size", "expiry"])
def test_quotes_that_are_none_are_refused(name: str) -> None:
    def short(*given: Any, **named: Any) -> Book:
        quotes = patient(*given, **named)
        return dataclasses.replace(quotes, **{name: getattr(quotes, name)[..., 1:]})

    TRADERS["maker"] = dataclasses.replace(TRADERS["maker"], quote=short)
    with pytest.raises(ValueError, match=rf"{name} of the quotes of TRADERS\['maker'\] must make .*\(2, 1, 12\)"):
        opened(toy(), 2)


# --- compiled -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["INFO", "ACCOUNT", "RESTING_INFO", "PLACE", "LADDER", "DAY"])
@pytest.mark.parametrize("change", ["add", "replace", "take out", "move"])
def test_a_market_keeps_the_rows_that_it_began_with(table: str, change: str) -> None:
    """And its program is known by its operations, which are not torchgym's, also when the tables are again as they were."""
    days = {"session": Session(kind="day")} if table == "DAY" else {}
    config = toy(quotes=1, action="depths", features="full74", **days)
    rows = getattr(entries, table)
    if change == "move" and len(rows) == 1:
        pytest.skip("one row has no order")
    whole, name = dict(rows), next(iter(rows))
    try:
        row = rows.pop(name) if change in ("take out", "move") else rows[name]
        if change != "take out":
            formula = row.formula
            rows[f"{name}_again" if change == "add" else name] = dataclasses.replace(row, formula=lambda m: formula(m))
        if change == "move":
            rows[name] = row
        changed = Market(config, 2, seed=0, compile=False)
    finally:
        rows.clear()
        rows.update(whole)
    plain = Market(config, 2, seed=0, compile=False)
    assert replay.has_changed_rows(changed._static) and not replay.has_changed_rows(plain._static)
    if table not in ("INFO", "ACCOUNT"):
        return
    one, other = changed.reset(), plain.reset()
    more = {"add": 1, "take out": -1}.get(change, 0)
    assert len(one.info) == len(other.info) + (more if table == "INFO" else 0)
    assert one.account.shape[1] == other.account.shape[1] + (more if table == "ACCOUNT" else 0)
    kept = set(one.info) & set(other.info)
    assert differences({name: one.info[name] for name in kept}, {name: other.info[name] for name in kept}) == []
    assert same_bits(one.reward, other.reward) and same_bits(one.observation, other.observation)


def test_a_market_with_changed_rows_is_stepped_by_no_kept_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with the one of the market without them at hand."""
    monkeypatch.setenv("TORCHGYM_COMPILE", "cached")
    monkeypatch.setattr(stepper.Automatic, "_stay", lambda own, why: setattr(own, "_settled", True))

    def looked(*given: Any, **named: Any) -> Any:
        raise AssertionError("it looked for a program")

    monkeypatch.setattr(stepper, "Replay", looked)
    monkeypatch.setitem(INFO, "clock", Entry(lambda m: m.state.clock.tick, "ticks", "ticks so far", torch.int64))
    assert opened(toy(), 2).step().info["clock"].tolist() == [1, 1]


def test_settings_are_of_the_class_of_their_family() -> None:
    """A subclass would bring numbers of its own, which the programs of the family do not know."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class More(ValueTraders):
        greed: float = 1.0

    with pytest.raises(ValueError, match=r"the family 'value' must have settings of torchgym\.config\.ValueTraders"):
        Population(value=More())


def few(**changes: Any) -> MarketConfig:
    """A market of noise traders, makers and the herd."""
    FEATURE_SETS["f_lean alone"] = ("f_lean",)
    return only(crowded(features="f_lean alone"), "noise", "maker", "herd").replace(**changes)


def run(config: MarketConfig, *, compile: bool) -> dict[str, Any]:
    market = opened(config, 1, compile=compile)
    return {str(at): seen(market.step(action)) for at, action in enumerate(random_actions(config, 12, 1))}


def test_compiled_steps_use_the_rows_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program on disk serves rows whose operations are the same, whatever their source, and no others."""
    config = few(action="twice", reward={"pnl": 1.0, "turnover": 0.5})
    plain = run(config, compile=False)
    assert any(bool(step["info"]["reward_turnover"].any()) for step in plain.values())
    assert differences(run(config, compile=True), plain) == []

    class BuiltAgain(BaseException):
        """Not an Exception: a market goes on uncompiled after those."""

    def build(traced: programs.Traced) -> programs.Program:
        raise BuiltAgain

    monkeypatch.setattr(programs, "build", build)
    REWARDS["turnover"] = Reward(lambda *given: turnover(*given), "currency", "the same")
    assert differences(run(config, compile=True), plain) == []
    monkeypatch.setattr(replay, "_known", {})  # as in another process
    assert differences(run(config, compile=True), plain) == []

    def refused() -> None:
        with pytest.raises(BuiltAgain):
            run(config, compile=True)

    monkeypatch.setattr("test_extensions.PRICE", 2.0)  # which the row's function looks up
    refused()
    monkeypatch.setattr("test_extensions.PRICE", 1.0)
    ACTIONS["twice"] = dataclasses.replace(ACTIONS["twice"], wanted=lambda *given: twice(*given) * 2)
    refused()
    ACTIONS["twice"] = dataclasses.replace(ACTIONS["twice"], wanted=twice)
    assert differences(run(config, compile=True), plain) == []
    FEATURE_SETS["f_lean alone"] = ("f_spread_bps",)  # of torchgym's own: the shape is the same
    refused()
