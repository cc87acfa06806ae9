"""Compiled markets on a CPU: the same bits as plain ones through everything that happens to a batch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from kernels import answers, started
from markets import differences, only, opened, random_actions, seen, toy
from programs import COMMON

from torchgym import Market, MarketConfig, preset
from torchgym.config import paths, structure, with_numbers
from torchgym.config.numbers import find
from torchgym.engine import graph, opening, replay
from torchgym.engine import program as programs
from torchgym.engine.program import NotRecordable, Runs
from torchgym.engine.program import program as module
from torchgym.numerics.trees import clone, leaves
from torchgym.readout import rewards

CONFIG = toy()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two markets a chunk, so that few markets make several chunks, not all of one size."""
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
    assert twins.pair[0]._stepper.buffers is not None
    assert twins.pair[0]._stepper.buffers._threads == threads


@pytest.mark.parametrize(
    "options",
    [
        {"randomize": {"population.noise.rate": (0.02, 0.1)}},
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
    monkeypatch.setattr(opening, "TOGETHER", 1)
    market = opened(CONFIG, 5, seed=4, compile=True)
    calls = []
    plain = replay.Replay.step

    def counting(self: replay.Replay, *arguments: Any) -> Any:
        calls.append(self.num_envs)
        return plain(self, *arguments)

    monkeypatch.setattr(replay.Replay, "step", counting)
    market.live.clock.tick[3] += 9  # market 3 is the oldest after market 1
    market.reset(mask=torch.tensor([False, True, False, False, False]))
    assert calls == [2]
    market.reset(mask=torch.tensor([False, False, False, True, False]))
    assert len(calls) == 1
    market.reset(mask=torch.tensor([True, False, False, False, False]))
    assert len(calls) == 2


@pytest.mark.parametrize("markets", [1, 5])
def test_a_warm_up_is_few_calls(markets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is no program of silent ticks; Ctrl-C waits for 64 of them at most."""
    config, calls = CONFIG.replace(warmup_ticks=67), list[int]()
    compiled, plain = (opened(config, markets, seed=4, compile=on) for on in (True, False))
    decide = replay.Replay._decide

    def counting(self: replay.Replay, ticks: int) -> None:
        calls.append(ticks)
        decide(self, ticks)

    monkeypatch.setattr(replay.Replay, "_decide", counting)
    for mask in (None, torch.arange(markets) % 2 == 0):
        assert differences(seen(compiled.reset(mask=mask)), seen(plain.reset(mask=mask))) == []
        assert differences(compiled.state, plain.state) == []
        action = torch.full((markets,), 2)
        assert differences(seen(compiled.step(action)), seen(plain.step(action))) == []
    assert calls == [64, 3, 1] * 2


@pytest.mark.parametrize(("seeds", "warmed"), [(None, 5), (range(5), 2)])
def test_no_more_is_warmed_up_than_can_be_used(
    seeds: range | None, warmed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Episodes of given seeds are not known ahead."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    market, calls = opened(CONFIG, 5, seed=4, compile=True), set()
    plain = replay.Replay._decide

    def counting(self: replay.Replay, ticks: int) -> None:
        calls.add(self.num_envs)
        plain(self, ticks)

    monkeypatch.setattr(replay.Replay, "_decide", counting)
    market.reset(seeds, mask=torch.tensor([False, True, False, False, False]))
    assert calls == {warmed}


class Interrupted:
    """A method that is left by Ctrl-C once, after so many calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, after: int) -> None:
        plain, self.left = getattr(owner, name), after

        def method(*given: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return plain(*given, **named)

        monkeypatch.setattr(owner, name, method)


# Warmed up in four calls.
DRAWN = toy(warmup_ticks=200, randomize={"population.noise.rate": (0.02, 0.1)})
SOME = torch.tensor([True, True, False, True, True])


@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupted_reset_of_all_markets_moves_none(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    market, plain = (opened(DRAWN, 5, seed=4, compile=on) for on in (True, False))
    for action in random_actions(DRAWN, 3, 5):
        market.step(action)
        plain.step(action)
    Interrupted(monkeypatch, replay.Replay, "_decide", after)
    with pytest.raises(KeyboardInterrupt):
        market.reset()
    for _ in range(2):
        assert differences(market.state, plain.state) == [] == differences(market.params, plain.params)
        assert differences(seen(market.step()), seen(plain.step())) == []
    assert differences(seen(market.reset()), seen(plain.reset())) == []


@pytest.mark.parametrize(
    ("owner", "name", "after", "opens"),
    [
        (replay.Replay, "_decide", 2, False),  # in the warm-up of the first two
        (replay.Replay, "_decide", 6, False),  # and of the next two
        (opening.EpisodePool, "_taken", 3, False),
        (replay.Replay, "take_rows", 1, True),
        (replay.Replay, "leaves", 3, True),
    ],
)
def test_an_interrupted_reset_of_some_markets_opens_each_or_none(
    owner: type, name: str, after: int, opens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In two passes, as there is room for two; nothing moves before all are warmed up, and what has begun to move is finished."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    market, plain = (opened(DRAWN, 5, seed=4, compile=on) for on in (True, False))
    market.step()
    plain.step()
    seeds = range(30, 35)
    Interrupted(monkeypatch, owner, name, after)
    with pytest.raises(KeyboardInterrupt):
        market.reset(seeds, mask=SOME)
    if opens:
        plain.reset(seeds, mask=SOME)
    for _ in range(2):
        assert differences(market.state, plain.state) == [] == differences(market.params, plain.params)
        assert differences(seen(market.step()), seen(plain.step())) == []
        assert differences(seen(market.reset(mask=SOME)), seen(plain.reset(mask=SOME))) == []


def test_memory_that_was_not_shared_out_is_shared_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    market, plain = (Market(CONFIG, 3, seed=4, compile=on) for on in (True, False))
    Interrupted(monkeypatch, programs.Program, "scratch", 1)
    with pytest.raises(KeyboardInterrupt):
        market.reset()
    assert differences(seen(market.reset()), seen(plain.reset())) == []


def test_parameters_that_were_half_taken_over_are_taken_over_again(monkeypatch: pytest.MonkeyPatch) -> None:
    market, plain = (opened(DRAWN, 3, seed=4, compile=on) for on in (True, False))
    market.step()
    plain.step()
    buffers = market._stepper.buffers
    assert buffers is not None
    others = market._openings.params(market.live.clock.key + 1)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        Interrupted(patched, torch.Tensor, "copy_", 3)
        buffers.load(others, market.live)
    for leaf in vars(buffers._params).values():
        if isinstance(leaf, torch.Tensor):
            leaf.zero_()  # whatever was there
    assert differences(seen(market.step()), seen(plain.step())) == []


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


@pytest.mark.parametrize("markets", [1, 5])
def test_decisions_of_every_length_share_two_programs(markets: int) -> None:
    """The last decision of a warm-up of 67 ticks is shorter. A mask and an opening keep the state before a decision in use."""
    some = torch.arange(markets) % 2 == 0
    made = COMMON[0][0]  # of several markets; of one, those of a small market compile sooner
    begin = made if markets > 1 else only(CONFIG, "value", "maker").replace(features="canonical28")
    for length in (2, 3, 5):
        config = begin.replace(ticks_per_action=length, warmup_ticks=67, max_ticks=10 * length)
        compiled, plain = (Market(config, markets, seed=4, compile=on) for on in (True, False))
        assert differences(seen(compiled.reset()), seen(plain.reset())) == []
        before = dict(replay._known)
        for index, action in enumerate(random_actions(config, 6, markets)):
            mask = some if index % 3 == 1 else None
            assert differences(seen(compiled.step(action, mask=mask)), seen(plain.step(action, mask=mask))) == []
            if index == 3:
                assert differences(seen(compiled.reset(mask=some)), seen(plain.reset(mask=some))) == []
        assert differences(compiled.state, plain.state) == []
        assert length == 2 or replay._known == before


def test_a_program_serves_every_batch_of_its_configuration() -> None:
    opened(CONFIG, 2, compile=True)
    before = dict(replay._known)
    opened(CONFIG, 5, compile=True)
    opened(CONFIG, 4, compile=True).fork().step()
    assert replay._known == before


@pytest.mark.parametrize("opened_before", [False, True])
def test_prepared_markets_compile_nothing_later(opened_before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the warm-up is no whole number of decisions, and so compiles nothing."""
    small = only(CONFIG, "value", "maker").replace(features="canonical28")  # several ticks at once take long to compile
    config = small.replace(ticks_per_action=2, warmup_ticks=65, max_ticks=30)
    assert config.warmup_ticks % config.ticks_per_action
    market, plain = (Market(config, 1, seed=4, compile=on) for on in (True, False))
    if opened_before:
        market.reset(), market.step(torch.tensor([2]))
        plain.reset(), plain.step(torch.tensor([2]))
        market = market.fork()  # which has no programs of its own
    before = clone(market.state) if opened_before else None
    market.prepare()
    if before is not None:
        assert differences(before, market.state) == []

    def program(*arguments: Any, **options: Any) -> None:
        raise AssertionError("it was not prepared")

    monkeypatch.setattr(replay, "program", program)
    if not opened_before:
        market.reset(), plain.reset()
    assert differences(seen(market.step(torch.tensor([2]))), seen(plain.step(torch.tensor([2])))) == []
    assert differences(market.state, plain.state) == []
    plain.prepare()  # nothing to do
    assert not plain.compile


def test_what_cannot_be_replayed_is_compiled_as_usual(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise NotRecordable("made up")

    monkeypatch.setattr(replay, "program", refuse)
    monkeypatch.setattr(graph, "compile_graph", lambda function, device: function)
    market, plain = (Market(CONFIG, 2, seed=4, compile=on) for on in (True, False))
    market.reset()
    plain.reset()
    (line,) = capsys.readouterr().err.splitlines()
    assert "torch.compile, which is slower" in line and "made up" in line
    assert market.compile
    assert differences(seen(market.step()), seen(plain.step())) == []


@pytest.mark.parametrize("mode", [nullcontext, torch.inference_mode])
def test_what_an_uncompiled_market_tells_can_be_learnt_from(mode: Callable[[], AbstractContextManager[None]]) -> None:
    market = Market(CONFIG, 2, seed=4, compile=False)
    with mode():
        market.reset()
        told = market.step()
    numbers = {"observation": told.observation, "account": told.account, "reward": told.reward}
    everything = dict(leaves({"state": market.live, "told": numbers}))
    assert [name for name, tensor in everything.items() if tensor.is_inference()] == []
    weight = torch.ones(told.observation.shape[-1], dtype=torch.float64, requires_grad=True)
    (told.observation @ weight).sum().backward()
    assert torch.equal(weight.grad, told.observation.sum(0))


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
    ("markets", "slots", "threads", "sizes"),
    [
        *((1, 210, 1, [1]), (3, 210, 1, [3]), (64, 210, 1, [64]), (65, 210, 1, [32, 33]), (130, 210, 1, [43, 43, 44])),
        *((32, 210, 2, [32]), (33, 210, 2, [16, 17]), (64, 210, 2, [32, 32]), (128, 210, 2, [64, 64])),
        *((140, 210, 2, [35, 35, 35, 35]), (40, 5_000, 3, [2, 3, 3] * 5), (40, 100_000, 64, [1] * 40)),
        *((64, 300, 1, [32, 32]), (3, 5_000, 1, [3]), (4, 5_000, 1, [2, 2]), (3, 100_000, 1, [1, 1, 1])),
    ],
)
def test_chunks_fit_and_are_of_nearly_equal_size(
    markets: int, slots: int, threads: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "CHUNK", 64)
    found = replay.chunks(markets, slots, threads)
    assert [part.stop - part.start for part in found] == sizes
    assert [index for part in found for index in range(part.start, part.stop)] == list(range(markets))


@pytest.mark.slow
@pytest.mark.parametrize("markets", [1, 3])
def test_a_crowd(markets: int) -> None:
    """Of so many traders that running sums are formed block by block, and a search takes larger steps."""
    few = only(toy(priority="time"), "noise", "maker")
    noise = replace(few.population.noise, count=1_300)
    config = few.replace(population=replace(few.population, noise=noise))
    pair = [opened(config, markets, compile=on) for on in (True, False)]
    for action in random_actions(config, 30, markets):
        results = [market.step(action) for market in pair]
        assert differences(seen(results[0]), seen(results[1])) == []
    assert differences(pair[0].state, pair[1].state) == []
    assert pair[0].compile and pair[0].state.market_data.volumes.sum() > 0


@pytest.mark.parametrize("markets", [2, 3, 7, 64, 65, 100])
def test_one_program_serves_every_number_of_markets(markets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "CHUNK", 64)
    opened(CONFIG, 2, compile=True)
    monkeypatch.setattr(programs, "build", None)  # nothing is compiled from here on
    twins = Twins(markets)
    twins.do("reset")
    some = torch.arange(markets) % 3 == 0
    for action in random_actions(CONFIG, 4, markets):
        twins.do("step", action)
        twins.do("reset", mask=some)
    assert twins.pair[0].compile  # or it would have gone on uncompiled


def test_a_single_market_has_a_program_of_its_own() -> None:
    two = opened(CONFIG, 2, compile=True)
    twins = Twins(1)
    twins.do("reset")
    for action in random_actions(CONFIG, 6, 1):
        twins.do("step", action)
        twins.do("reset", mask=action[:, 0] == 1)
    alone, shared = twins.pair[0]._stepper.buffers, two._stepper.buffers
    assert alone is not None and shared is not None and alone.programs["told"] is not shared.programs["told"]


def test_changing_any_number_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number of the configuration, one after the other: the structure and so the program stay."""
    roomy = CONFIG.replace(longest_delay=2)
    for path in paths(roomy):
        setting, at = find(roomy, path)
        now = setting.value if at is None else setting.value[at]
        assert structure(_changed(roomy, path, now)) == structure(roomy), path
    opened(CONFIG, 2, compile=True)
    monkeypatch.setattr(programs, "build", None)
    for path, number in MOVED.items():
        pair = [opened(with_numbers(CONFIG, {path: number}), 2, seed=4, compile=on) for on in (True, False)]
        for action in random_actions(CONFIG, 3, 2):
            first, second = (market.step(action) for market in pair)
            assert differences(seen(first), seen(second)) == [], path
        assert pair[0].compile, path  # or it would have gone on uncompiled


MOVED = {
    "commission_bps": 9.0,
    "list_price": 5_000,
    "population.trend.lookback.1": 90.0,
    "population.maker.depth.0": 0.5,
    "fundamentals.leverage": 0.0,
    "activity.half_lives.2": 77.0,
}


def _changed(config: MarketConfig, path: str, now: float) -> MarketConfig:
    """The configuration with the number moved a little, whichever way is possible."""
    step = 1 if isinstance(now, int) else 1e-3 * max(abs(now), 1e-2)
    for number in (now + step, now - step):
        try:
            return with_numbers(config, {path: number})
        except ValueError:
            continue
    raise AssertionError(f"{path} = {now} cannot be moved")


def test_presets_that_differ_in_numbers_alone_share_a_structure() -> None:
    assert structure(preset("default")) == structure(preset("calm")) == structure(preset("volatile"))


def test_an_interrupted_step_has_not_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python hears of the interrupt when the kernels have run, before the state they made becomes the present."""
    market, plain = (opened(CONFIG, 5, seed=4, compile=on) for on in (True, False))
    market.step(), plain.step()
    run = Runs.__call__

    def interrupt(self: Runs) -> None:
        run(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Runs, "__call__", interrupt)
        with pytest.raises(KeyboardInterrupt):
            market.step(torch.full((5,), 2))
    assert market._stepper.buffers is not None and not market._stepper.buffers.fresh
    assert differences(seen(market.observe()), seen(plain.observe())) == []
    assert differences(seen(market.step()), seen(plain.step())) == []
    assert differences(market.state, plain.state) == []


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_share_a_batch_whatever_kind_torch_has(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    count = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        team, asked = module._team(), []
        assert team is not None or sys.platform != "linux"

        def counting(run: Any, work: Any, count: int, flags: int) -> None:
            asked.append(count)
            team(run, work, count, flags)

        monkeypatch.setattr(module, "_team", lambda: team and counting)
        shared = opened(CONFIG, 9, seed=4, compile=True)
        monkeypatch.setattr(module, "_team", lambda: None)  # as where torch's threads are of another kind
        twins = [shared, opened(CONFIG, 9, seed=4, compile=True)]
        assert set(asked) == ({threads} if team else set())
        for action in random_actions(CONFIG, 3, 9):
            assert differences(*(seen(twin.step(action)) for twin in twins)) == []
    finally:
        torch.set_num_threads(count)


_FORK = """
import os, select, threading, warnings
import torch
from torchgym import Market, MarketConfig, preset
from torchgym.config import paths, structure, with_numbers
from torchgym.config.numbers import find
from torchgym.files import hexdigest
from torchgym.engine import replay, stepper
from torchgym.engine.program import Runs
from torchgym.numerics.trees import leaves
from markets import random_actions, toy

warnings.simplefilter("ignore")  # newer Pythons warn of forks beside threads, which is what is tested
replay.CHUNK, replay.ALONE = 2, 1
torch.set_num_threads(2)
market = Market(toy(), 66, seed=4, compile=True)
market.reset()
actions = iter(random_actions(toy(), 20, 66))
market.step(next(actions))
assert market._stepper.buffers._threads == 2

def digest():
    return hexdigest(leaf.numpy().tobytes() for _, leaf in leaves(market.state))

def child(work):
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.write(writer, work().encode())
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writer)
    readable = select.select([reader], [], [], 60.0)[0]
    answer = os.read(reader, 1000).decode() if readable else "hangs"
    os.kill(process, 9)
    os.waitpid(process, 0)
    return answer
"""

_BETWEEN_STEPS = """
def both(work):
    in_child = child(work)
    print(in_child == work(), in_child)

def step(action):
    market.step(action)
    return digest()

first = next(actions)
in_grandchild = child(lambda: child(lambda: step(first)))
for action in (first, next(actions), next(actions)):
    both(lambda: step(action))
    if action is first:
        print(in_grandchild == digest(), in_grandchild)
both(lambda: (market.reset(mask=torch.arange(66) % 3 == 0), step(first))[1])
both(lambda: (market.reset(), step(first))[1])
"""

_BEFORE_THE_FIRST_MARKET = """
torch.randn(4_000_000, generator=torch.Generator().manual_seed(0)).add(1)  # on threads, which the child has not

def fresh():
    torch.set_num_threads(2)
    market = Market(toy(), 66, seed=4, compile=True)
    market.reset()
    market.step(torch.ones(66, dtype=torch.int64))
    assert market._stepper.buffers is not None
    return hexdigest(leaf.numpy().tobytes() for _, leaf in leaves(market.state))

del market
in_child = child(fresh)
print(in_child == fresh(), in_child)
"""

_INSIDE_A_STEP = """
parent, begun, go_on, run = os.getpid(), threading.Event(), threading.Event(), Runs.__call__

def pause(self):
    if os.getpid() == parent:
        begun.set()
        go_on.wait()
    run(self)

action = next(actions)
Runs.__call__ = pause
stepping = threading.Thread(target=market.step, args=(action,))
stepping.start()
begun.wait()
in_child = child(lambda: (market.step(action), digest())[1])
go_on.set()
stepping.join()
print(in_child == digest() or in_child.startswith("RuntimeError"), in_child)
"""


@pytest.mark.parametrize(("work", "lines"), [(_BETWEEN_STEPS, 6), (_BEFORE_THE_FIRST_MARKET, 1), (_INSIDE_A_STEP, 1)])
def test_a_forked_child_steps_on(work: str, lines: int) -> None:
    """With threads of its own, in the same bits as its parent."""
    opened(CONFIG, 2, compile=True)  # so that the program is on the disk
    ((status, text, errors),) = answers([started(_FORK + work, programs.cache_folder())])
    assert status == 0, errors
    assert [line.split()[0] for line in text.splitlines()] == ["True"] * lines, text


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No program is known, neither here nor on the disk, and none can be traced."""

    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError("made up")

    monkeypatch.setenv("TORCHGYM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(replay, "_known", {})
    monkeypatch.setattr(replay, "_failed", {})
    monkeypatch.setattr(replay, "trace_tick", fail)


def test_who_waits_for_programs_waits_for_the_last_one(unknown: None) -> None:
    """Another process makes both; who found the first and then missed the second would stay uncompiled."""
    market = opened(CONFIG.replace(ticks_per_action=2), 3, seed=4, compile=False)
    with pytest.raises(replay.NotMade) as missing:
        replay.Replay(market._static, market.params, market.state, compile=False)
    assert str(missing.value) == replay.program_name(market._static, replay.kinds(market.structure)[-1], alone=False)


def test_compiling_is_announced_before_the_tracing(
    unknown: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(CONFIG, 2, compile=True)
    first, second = capsys.readouterr().err.splitlines()
    cache = tmp_path / "cache"
    assert first == f"torchgym: compiling the step: up to two minutes, kept in {cache}"
    assert "OSError: made up" in second
    assert list(cache.iterdir()) == []


def test_tracing_for_the_name_is_silent_when_it_is_short(
    unknown: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(rewards.REWARDS, "added", rewards.REWARDS["pnl"])
    opened(CONFIG.replace(reward="added"), 2, compile=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert "OSError: made up" in line


def test_a_failure_is_kept_without_what_it_failed_on(unknown: None, capsys: pytest.CaptureFixture[str]) -> None:
    opened(CONFIG, 2, compile=True)
    opened(CONFIG, 2, compile=True)
    assert "failed before in this process: OSError: made up" in capsys.readouterr().err.splitlines()[-1]
    assert set(replay._failed.values()) == {(RuntimeError, "OSError: made up")}
