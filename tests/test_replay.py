"""Compiled markets on a CPU: the same bits as plain ones through everything that happens to a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from markets import differences, opened, random_actions, seen, toy

from torchgym import Market
from torchgym.market import replay
from torchgym.program import NotRecordable
from torchgym.state import clone

CONFIG = toy()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two markets a chunk, so that few markets make several chunks with a padded last one."""
    monkeypatch.setattr(replay, "CHUNK", 2)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


class Twins:
    """A compiled and a plain market to which the same happens; they must not differ in any bit."""

    def __init__(self, markets: int, **options: Any) -> None:
        self.pair = [Market(toy(**options), markets, seed=4, compile=on) for on in (True, False)]

    def do(self, method: str, *arguments: Any, **options: Any) -> Any:
        told = [getattr(market, method)(*arguments, **options) for market in self.pair]
        if told[0] is not None:
            assert differences(seen(told[0]), seen(told[1])) == []
        assert differences(self.pair[0].state, self.pair[1].state) == []
        return told[1]


def test_everything_that_happens_to_a_batch(threads: int) -> None:
    """Steps, masked steps, resets of all and of some with and without seeds, reseeding, forks, restored states."""
    twins = Twins(5)
    twins.do("reset")
    random = torch.Generator().manual_seed(1)
    for at, action in enumerate(random_actions(CONFIG, 60, 5)):
        some = torch.rand(5, generator=random) < 0.4
        twins.do("step", action, mask=some if at % 7 == 3 else None)
        if at % 4 == 1 and some.any():
            twins.do("reset", mask=some, seeds=range(at, at + 5) if at % 8 == 1 else None)
            twins.do("observe")
        if at == 20:
            twins.do("reseed", range(50, 55))
        if at == 30:
            twins.pair = [market.fork() for market in twins.pair]
        if at == 40:
            twins.do("reset")
    assert twins.pair[0]._replay is not None
    assert twins.pair[0]._replay._threads == threads


@pytest.mark.parametrize(
    "options",
    [
        {"randomize": {"noise_rate": (0.02, 0.1)}},
        pytest.param({"ticks_per_action": 3, "max_ticks": 201}, marks=pytest.mark.slow),  # does not divide the warm-up
    ],
)
def test_other_openings(options: dict[str, Any]) -> None:
    twins = Twins(2, **options)
    twins.do("reset")
    for action in random_actions(CONFIG, 6, 2):
        twins.do("step", action)
        twins.do("reset", mask=torch.tensor([False, True]))
        assert differences(twins.pair[0].params, twins.pair[1].params) == []


def test_openings_are_made_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk of two is warmed up for one market: the other place serves the next to end, whose opening then costs no tick."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    market = opened(CONFIG, 5, seed=4, compile=True)
    calls = []
    plain = replay.Replay.__call__

    def counting(self: replay.Replay, *arguments: Any) -> Any:
        calls.append(self.num_envs)
        return plain(self, *arguments)

    monkeypatch.setattr(replay.Replay, "__call__", counting)
    market.live.clock.tick[3] += 9  # market 3 is the oldest after market 1
    market.reset(mask=torch.tensor([False, True, False, False, False]))
    assert calls == [2] * CONFIG.warmup_ticks
    market.reset(mask=torch.tensor([False, False, False, True, False]))
    assert len(calls) == CONFIG.warmup_ticks
    market.reset(mask=torch.tensor([True, False, False, False, False]))
    assert len(calls) == 2 * CONFIG.warmup_ticks


def test_results_and_states_are_the_callers_own() -> None:
    market = opened(CONFIG, 3, seed=4, compile=True)
    told, state, live = market.step(), market.state, market.live
    kept, copy = clone(seen(told)), clone(state)
    assert market.state is state and differences(live, copy) == []
    for _ in range(2):
        market.step()
        assert differences(seen(told), kept) == []
        assert differences(state, copy) == []
    assert differences(live, copy) != [] and differences(live, market.state) == []
    before = market.state
    market.reset(mask=torch.tensor([False, True, False]))
    assert differences(before, market.state) != []


def test_every_length_of_episode_shares_the_program() -> None:
    opened(CONFIG, 2, compile=True)
    before = dict(replay._known)
    short, plain = (opened(CONFIG.replace(max_ticks=3), 2, seed=4, compile=on) for on in (True, False))
    for _ in range(3):
        told, expected = short.step(), plain.step()
        assert differences(seen(told), seen(expected)) == []
    assert told.truncated.all()
    assert replay._known == before


def test_a_program_serves_every_batch_of_its_configuration() -> None:
    opened(CONFIG, 2, compile=True)
    before = dict(replay._known)
    opened(CONFIG, 5, compile=True)
    opened(CONFIG, 4, compile=True).fork().step()
    assert replay._known == before


@pytest.mark.parametrize("opened_before", [False, True])
def test_prepared_markets_compile_nothing_later(opened_before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the warm-up is no whole number of decisions, and so compiles nothing."""
    families = CONFIG.population.families.items()  # few and small: several ticks at once take long to compile
    few = {name: dataclasses.replace(entry, count=0) for name, entry in families if name not in ("value", "maker")}
    population = dataclasses.replace(CONFIG.population, **few)
    small = {"population": population, "features": "canonical28"}
    config = CONFIG.replace(ticks_per_action=2, warmup_ticks=65, max_ticks=30, **small)
    assert config.warmup_ticks % config.ticks_per_action
    market, plain = (Market(config, 2, seed=4, compile=on) for on in (True, False))
    if opened_before:
        market.reset(), market.step(torch.tensor([2, 0]))
        plain.reset(), plain.step(torch.tensor([2, 0]))
        market = market.fork()  # which has no programs of its own
    before = clone(market.state) if opened_before else None
    market.prepare()
    if before is not None:
        assert differences(before, market.state) == []

    def program(*arguments: Any) -> None:
        raise AssertionError("it was not prepared")

    monkeypatch.setattr(replay, "program", program)
    if not opened_before:
        market.reset(), plain.reset()
    assert differences(seen(market.step(torch.tensor([0, 2]))), seen(plain.step(torch.tensor([0, 2])))) == []
    assert differences(market.state, plain.state) == []
    plain.prepare()  # nothing to do
    assert not plain.compile


def test_what_cannot_be_replayed_is_compiled_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise NotRecordable("made up")

    monkeypatch.setattr(replay, "program", refuse)
    monkeypatch.setattr("torchgym.market.engine._graph", lambda step: step)
    market, plain = (Market(CONFIG, 2, seed=4, compile=on) for on in (True, False))
    with pytest.warns(RuntimeWarning, match=r"torch\.compile, which is slower: made up"):
        market.reset()
    plain.reset()
    assert market.compile
    assert differences(seen(market.step()), seen(plain.step())) == []


def test_inference_mode_and_back() -> None:
    market, plain = (Market(CONFIG, 2, seed=4, compile=on) for on in (True, False))
    with torch.inference_mode():
        market.reset()
        market.step()
    plain.reset()
    plain.step()
    assert differences(seen(market.step()), seen(plain.step())) == []
    assert differences(seen(market.reset()), seen(plain.reset())) == []


@pytest.mark.parametrize(
    ("markets", "slots", "size"),
    [
        *((1, 210, 1), (2, 210, 2), (3, 210, 4), (8, 210, 8), (9, 210, 16), (64, 210, 64), (65, 210, 64)),
        *((5_000, 210, 64), (5_000, 300, 32), (5_000, 1_100, 8), (3, 5_000, 2), (7, 100_000, 1)),
    ],
)
def test_few_sizes_serve_all_batches(markets: int, slots: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "CHUNK", 64)
    assert replay.chunk_size(markets, slots, 1) == size


@pytest.mark.parametrize(("markets", "size"), [(32, 32), (33, 32), (64, 32), (65, 64), (128, 64), (1_024, 64)])
def test_two_threads_share_what_is_worth_sharing(markets: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "CHUNK", 64)
    assert replay.chunk_size(markets, 210, 2) == size
