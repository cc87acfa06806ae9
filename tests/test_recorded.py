"""Uncompiled steps of a few markets run from a record of their operations: with the bits of the code as it is written."""

from __future__ import annotations

import dataclasses
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from markets import EVERYTHING, SHORT, TWO_QUOTING, acting, differences, opened, random_actions, seen, toy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, is_in_torch_dispatch_mode

import torchgym as tg
from torchgym import Market, MarketConfig
from torchgym.engine import recorded, stepper
from torchgym.engine.recorded import Recorded, Records
from torchgym.engine.stepper import Uncompiled
from torchgym.numerics.trees import leaves, rows
from torchgym.sim import noise
from torchgym.sim.actions import ACTIONS


@pytest.fixture(autouse=True)
def records(monkeypatch: pytest.MonkeyPatch) -> Records:
    """A record is made at the first tick; there is none yet."""
    made = Records(most=1 << 26)
    monkeypatch.setattr(stepper, "PAYS", (0, 0))
    monkeypatch.setattr(stepper, "RECORDS", made)
    return made


@pytest.fixture
def as_written(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls a function while no market is small enough to be recorded."""

    def call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(stepper, "FEW_SLOTS", 0)
            return function(*arguments, **options)

    return call


def record(market: Market) -> Recorded:
    own = market._stepper
    assert isinstance(own, Uncompiled)
    assert own._recorded is not None
    return own._recorded


CONFIGS = {
    **SHORT,
    **{f"preset {name}": tg.preset(name) for name in tg.PRESETS},
    **{f"action {name}": acting(name) for name in ACTIONS},
    "everything": EVERYTHING,
    "two who quote": TWO_QUOTING,
    "drawn numbers and delays": toy(
        longest_delay=2, quotes=2, action="depths", randomize={"latency": (0, 2), "population.maker.skew": (0.5, 2.0)}
    ),
    "days": tg.preset("day", ticks_per_action=3, max_ticks=12),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_bits_are_those_of_the_code(name: str, as_written: Callable[..., Any]) -> None:
    """Over openings of all markets and of some, steps of all and of some."""
    config = CONFIGS[name].replace(max_ticks=12)
    market, twin = (Market(config, 3, seed=5, compile=False) for _ in range(2))
    assert differences(seen(market.reset()), seen(as_written(twin.reset))) == []
    some = torch.tensor([True, False, True])
    for at, action in enumerate(random_actions(config, 5, 3)):
        mask = some if at == 2 else None
        assert differences(seen(market.step(action, mask)), seen(as_written(twin.step, action, mask))) == []
        assert differences(market.state, twin.state) == []
        if at == 3:
            assert differences(seen(market.reset(mask=some)), seen(as_written(twin.reset, mask=some))) == []
            assert differences(market.params, twin.params) == []
    assert record(market).num_envs == 3
    assert twin._stepper._recorded is None  # type: ignore[attr-defined]


def test_a_step_runs_no_more_than_its_operations() -> None:
    """Views, constants and what nobody reads are gone."""

    class Counting(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.count += 1
            return func(*args, **(kwargs or {}))

    market = opened(MarketConfig(), 1, compile=False)
    again = record(market)
    with Counting() as counting:  # somebody looks on: as it is written
        market.step()
    assert len(again._tick) + len(again._tell) < 0.8 * counting.count


def test_the_record_is_made_once() -> None:
    market = opened(toy(), 2, compile=False)
    first = record(market)
    for _ in range(3):
        market.step()
    market.reset()
    assert record(market) is first


@pytest.mark.parametrize("markets", [1, 2])
@pytest.mark.parametrize("ticks_per_action", [1, 2])
def test_a_record_is_made_when_it_pays(
    ticks_per_action: int, markets: int, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bits are the same across the change."""
    whole = opened(toy(ticks_per_action=ticks_per_action), markets, compile=False)
    records.clear()
    monkeypatch.setattr(stepper, "PAYS", (16, 20))
    market = whole.fork()
    for ticks in range(ticks_per_action, 24, ticks_per_action):
        assert differences(seen(market.step()), seen(whole.step())) == []
        assert (market._stepper._recorded is None) == (ticks <= 16 + 4 * (markets - 1))  # type: ignore[attr-defined]
    assert differences(market.state, whole.state) == []


def test_every_number_of_markets_is_counted_apart(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    market = opened(toy(), 3, compile=False)
    records.clear()
    monkeypatch.setattr(stepper, "PAYS", (16, 16))
    fresh = Uncompiled(market._static)
    for markets, ticks in ((3, 10), (2, 10), (3, 6), (3, 1)):
        assert fresh._recorded is None
        some = torch.arange(markets)
        params, state = rows(market._params, some), rows(market.live, some)
        for _ in range(ticks):
            fresh.step(params, state, torch.zeros(markets, 1, dtype=torch.int64))
    assert fresh._recorded is not None and fresh._recorded.num_envs == 3


def test_few_ticks_of_many_copies_pay_together(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where each looks some ticks ahead."""
    market = opened(toy(), 2, compile=False)
    records.clear()
    monkeypatch.setattr(stepper, "PAYS", (16, 16))
    copies = [market.fork() for _ in range(5)]
    for at, copy in enumerate(copies):
        for _ in range(4):
            copy.step()
        assert (copy._stepper._recorded is None) == (at < 4)  # type: ignore[attr-defined]
    assert all(differences(copy.state, copies[0].state) == [] for copy in copies)


def test_markets_that_open_alone_share_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Counted(Recorded):
        def __init__(self, *arguments: Any) -> None:
            made.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr(recorded, "Recorded", Counted)
    market = opened(toy(), 3, compile=False)
    for at in range(3):
        market.reset(mask=torch.arange(3) == at)
        market.step()
    assert [one.num_envs for one in made] == [3, 1]


def test_what_is_returned_is_the_callers_own() -> None:
    """It shares no memory with the record, and is no tensor of inference mode."""
    market = opened(toy(), 2, compile=False)
    again, result, state = record(market), market.step(), market.live
    own = [*again._before, *again._after, *again._sums, *again._added, again._action, again._rest, *again._nothing]
    own += [leaf for tree in (again._told, again._params) for _, leaf in leaves(tree)]
    kept, told = recorded._places(own), {"result": seen(result), "state": state}
    for name, leaf in leaves(told):
        assert not leaf.is_inference(), name
        assert not recorded._places([leaf]) & kept, name
    before = {name: leaf.clone() for name, leaf in leaves(told)}
    market.step(torch.tensor([2, 0]))
    assert differences(before, dict(leaves(told))) == []
    (torch.ones(2, 1, dtype=torch.float64, requires_grad=True) * result.observation[:, :1]).sum().backward()


def test_copies_share_records() -> None:
    """One of both markets, and one of a market that opens alone; each copy goes on with its own state and numbers."""
    market = opened(toy(), 2, compile=False)
    market.reset(mask=torch.tensor([True, False]))
    twin = market.fork()
    twins = [one.fork() for one in (market, twin)]
    for one in (market, twin, *twins):
        one.step(torch.tensor([2, 2]))
        one.reset(mask=torch.tensor([True, False]))
    assert all(differences(one.state, market.state) == [] for one in (twin, *twins))
    records = [record(one) for one in (market, twin, *twins)]
    alone = [one._openings._step.__self__._recorded for one in (market, twin, *twins)]  # type: ignore[union-attr]
    assert (len({*map(id, records)}), len({*map(id, alone)})) == (1, 1)
    assert records[0] is not alone[0]


def test_markets_that_do_the_same_share_a_record() -> None:
    """Numbers and the length of a decision are none of it; what a tick shows, does or is rewarded for is."""
    first = opened(toy(), 2, compile=False)
    own, same = first.state, [tg.preset("toy", order_size=20), toy(ticks_per_action=2), toy(warmup_ticks=80)]
    others = [toy(scaling="relative"), toy(reward="log_return"), toy(num_symbols=2), toy(action="position")]
    made = [record(opened(config, 2, compile=False)) for config in (*same, *others)]
    assert [one is record(first) for one in made] == [True] * len(same) + [False] * len(others)
    assert differences(own, first.state) == []


def test_numbers_change_hands_with_the_market() -> None:
    """Two markets of other numbers, step by step in turn."""
    calm, wild = (
        toy(**{"population.maker.skew": skew, "commission_bps": bps}) for skew, bps in ((0.5, 1.0), (2.0, 9.0))
    )
    markets = [opened(config, 2, compile=False) for config in (calm, wild, calm)]
    for _ in range(3):
        told = [seen(market.step(torch.tensor([2, 0]))) for market in markets]
        assert differences(told[0], told[2]) == []
        assert differences(told[0], told[1])
    assert record(markets[0]) is record(markets[1])


def test_copies_are_recorded_in_several_threads_at_once() -> None:
    """Torch's modes note in a variable of the process that one is active; threads would leave it so."""
    market = opened(toy(), 2, compile=False)
    for _ in range(4):
        twins = [market.fork() for _ in range(4)]
        threads = [threading.Thread(target=lambda own=twin: [own.step() for _ in range(3)]) for twin in twins]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(isinstance(record(twin), Recorded) for twin in twins)
        assert not is_in_torch_dispatch_mode()
    for _ in range(3):
        market.step()
    assert all(differences(twin.state, market.state) == [] for twin in twins)


@pytest.mark.parametrize("part", ["tick", "tell", "record"])
def test_ctrl_c_leaves_the_market_where_it_was(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    market, twin = (opened(toy(randomize={"population.maker.skew": (0.5, 1.0)}), 2, compile=False) for _ in range(2))
    again = record(market)
    with monkeypatch.context() as patch:
        if part == "record":
            patch.setattr(market._stepper, "_recorded", None)
            stepper.RECORDS.clear()
            patch.setattr(recorded, "_needed", pressed)
        else:
            calls = getattr(again, f"_{part}")
            patch.setattr(again, f"_{part}", [*calls[: len(calls) // 2], pressed, *calls[len(calls) // 2 :]])
        with pytest.raises(KeyboardInterrupt):
            market.step()
    assert differences(market.state, twin.state) == []
    assert differences(seen(market.step()), seen(twin.step())) == []


def test_ctrl_c_while_other_numbers_are_taken_over_leaves_the_old_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = toy(randomize={"population.maker.skew": (0.5, 1.0)})
    market, twin, other = (opened(drawn, 2, seed=seed, compile=False) for seed in (0, 0, 7))
    own, copy = market._params, torch._foreach_copy_

    def pressed(places: list[Tensor], given: list[Tensor]) -> None:
        copy(places[:1], given[:1])
        raise KeyboardInterrupt

    market._params = other._params
    assert differences(own, other._params)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "_foreach_copy_", pressed)
        with pytest.raises(KeyboardInterrupt):
            market.step()
    market._params = own
    assert differences(seen(market.step()), seen(twin.step())) == []


@pytest.mark.parametrize("error", [TypeError, RuntimeError])
def test_operations_that_cannot_write_to_given_memory_are_copied(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever torch says of it."""
    honest = torch.clamp

    def without(*given: Any, **options: Any) -> Tensor:
        if "out" in options:
            raise error("clamp() got an unexpected keyword argument 'out'")
        return honest(*given, **options)

    twin = opened(toy(), 2, compile=False)
    monkeypatch.setattr(torch, "clamp", without)
    stepper.RECORDS.clear()
    market = opened(toy(), 2, compile=False)
    assert differences(seen(market.step()), seen(twin.step())) == []
    assert any(call.func is recorded._copied for call in record(market)._tick)  # type: ignore[attr-defined]


def test_a_state_that_changes_places_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one step passes on as another part of the state would be overwritten before it is read."""
    honest = recorded.tick

    def swapping(static: Any, params: Any, state: Any, action: Any, sums: Any) -> Any:
        after, added = honest(static, params, state, action, sums)
        clock = dataclasses.replace(after.clock, episode=state.clock.seed)
        return dataclasses.replace(after, clock=clock), added

    market = opened(toy(), 2, compile=False)
    monkeypatch.setattr(recorded, "tick", swapping)
    with pytest.raises(recorded.NotRecordable, match="to another place"):
        Recorded(market._static, market._params, market.live)


def test_what_depends_on_values_runs_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = noise.draw
    asked = []

    def curious(*arguments: Any) -> Any:
        drawn = honest(*arguments)
        asked.append(bool((drawn.coin > 0).any()))
        return drawn

    twin = opened(toy(), 2, compile=False)
    monkeypatch.setattr(noise, "draw", curious)
    stepper.RECORDS.clear()
    market = opened(toy(), 2, compile=False)
    assert market._stepper._recorded is None  # type: ignore[attr-defined]
    for _ in range(3):
        market.step()
        twin.step()
    assert differences(market.state, twin.state) == []
    assert len(asked) == 64 + 3  # beside the attempt, which ended in bool()
    assert len(set(asked)) == 2


@pytest.mark.parametrize("options", [{"debug": True}, {"num_envs": 2_000}])
def test_checked_and_large_markets_have_no_record(options: dict[str, Any]) -> None:
    market = opened(toy(), **{"num_envs": 2, "compile": False, **options})
    market.step()
    assert market._stepper._recorded is None  # type: ignore[attr-defined]


def test_memory_is_given_back(records: Records) -> None:
    market = opened(toy(), 2, compile=False)
    gone = weakref.ref(record(market))
    market.compile = True
    records.clear()
    gc.collect()
    assert gone() is None


def test_no_more_memory_is_kept_than_is_allowed(records: Records) -> None:
    """Of the records that fit, those used last; one that is larger is its market's alone."""
    sizes = [record(opened(toy(), count, compile=False)).size for count in (1, 2, 3)]
    assert sizes == sorted(sizes) and sizes[0] > 10_000
    records._most = sizes[0] + sizes[2]
    market = opened(toy(), 1, compile=False)
    opened(toy(), 2, compile=False)  # the two of them fit, the third of before does not
    assert [count for _, count in records._kept] == [1, 2]
    opened(toy(), 3, compile=False)
    assert [count for _, count in records._kept] == [3]
    large = opened(toy(), 9, compile=False)
    gone = weakref.ref(record(large))
    assert gone().size > records._most  # type: ignore[union-attr]
    assert [count for _, count in records._kept] == [3]
    del large
    gc.collect()
    assert gone() is None
    market.step()
    assert record(market).size == sizes[0]


@pytest.mark.kept
def test_memory_of_openings_is_given_back_too(records: Records) -> None:
    """Once they share the program, which is here where one is kept."""
    market = opened(toy(), 2, compile=False)
    some = torch.tensor([True, False])
    market.reset(mask=some)
    gone = weakref.ref(market._openings._step.__self__._recorded)  # type: ignore[union-attr]
    records.clear()
    assert gone() is not None
    market.compile = True
    market.step()
    if market._stepper.buffers is not None:
        market.reset(mask=some)
        gc.collect()
        assert gone() is None


# What a record makes of operations.


def run_again(function: Callable[..., Tensor], *given: Tensor) -> tuple[Callable[..., Tensor], int]:
    """The function from its record, and how many calls that takes."""
    with torch.inference_mode():
        own = [tensor.clone() for tensor in given]
        with recorded._Recording() as recording:
            made = function(*own)
        work = [recorded._again(recording.calls[at]) for at in recorded._needed(recording.calls, own, [made])]

    def again(*others: Tensor) -> Tensor:
        with torch.inference_mode():
            for place, new in zip(own, others, strict=True):
                place.copy_(new)
            for call in work:
                call()
            return made.clone()

    return again, len(work)


def in_place_on_fresh(x: Tensor) -> Tensor:
    total = torch.zeros_like(x)
    total += x
    total[1:].mul_(2.0)
    return total


FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "views cost nothing": (lambda x: x.unsqueeze(0).flip(1)[0][1:].neg(), 2),
    "unused": (lambda x: (x * 3.0, x + 1.0)[1], 1),
    "constants": (lambda x: x + torch.arange(4.0).cumsum(0).mul(2.0), 1),
    "shapes only": (lambda x: x + torch.full_like(x, 2.0), 1),
    "in place, on fresh memory": (in_place_on_fresh, 3),
    "numbers in where": (lambda x: torch.where(x > 0, 0.1, torch.where(x < -1, x, 0)), 4),
    "a number minus": (lambda x: 0.1 - x, 1),
    "a number minus, float64": (lambda x: 0.1 - x.to(torch.float64), 2),
    "a number minus, int64": (lambda x: torch.where(x > 0, 0.1 - x.to(torch.int64), 0.3), 4),
    "several results": (lambda x: torch.sort(x, descending=True)[0] + torch.sort(x)[1], 3),
    "dtypes": (lambda x: x.to(torch.int64).to(torch.float64), 2),
    "nothing": (lambda x: x[:0].sum() + x, 1),
    "joined": (lambda x: torch.cat([x[:1], x]).reshape(5, 1).expand(5, 2).contiguous(), 2),
    "bits": (lambda x: x.view(torch.int32) ^ 5 & (x.view(torch.int32) >> 3), 3),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_run_again(name: str) -> None:
    function, calls = FUNCTIONS[name]
    again, count = run_again(function, torch.tensor([1.0, -2.0, 0.5, 3.0]))
    for x in (torch.tensor([0.0, 4.0, -3.0, 0.25]), torch.tensor([-1.0, 1.0, 2.0, -9.0])):
        assert differences({"x": again(x)}, {"x": function(x)}) == []
    assert count == calls


@pytest.mark.parametrize(
    "function",
    [
        *(lambda x: x + x.sum().item(), lambda x: x[x > 0], lambda x: x + torch.rand(4), lambda x: x.nonzero()),
        *(lambda x: x + x.tolist()[0], lambda x: x + float(x.numpy()[0]), lambda x: torch.where(x)[0]),
    ],
)
def test_what_cannot_be_run_again_is_refused(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(recorded.NotRecordable, match="depends on values"):
        run_again(function, torch.tensor([1.0, -2.0, 0.5, 3.0]))
