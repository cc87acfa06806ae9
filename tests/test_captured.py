"""Captured decisions without a GPU: a stand-in records the operations of a decision, and runs them again on the same memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from markets import differences, random_actions, seen, toy
from sentinel import SyncSentinel
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torchgym import Market, MarketConfig
from torchgym.engine import captured, graph, stepper
from torchgym.engine.captured import Captured
from torchgym.engine.replay import trace_tick


class Recording(TorchDispatchMode):
    """Operations with their arguments and results. Done again, each writes where it wrote before."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, tree_leaves(made)))
        return made

    def replay(self) -> None:
        for operation, args, options, results in self.calls:
            for before, now in zip(results, tree_leaves(operation(*args, **options)), strict=True):
                if isinstance(before, Tensor) and before.data_ptr() != now.data_ptr():
                    before.copy_(now)


class Counting:
    """How many decisions were captured, how often one was replayed, and how many graphs were compiled."""

    captures = replays = graphs = 0

    def capture(self, work: Any, *, run: bool) -> Callable[[], object]:
        self.captures += 1
        if run:
            work()
        owner = work.func.__self__
        written = [*owner._buffers[0], *owner._buffers[1], *owner._packed]
        before = [leaf.clone() for leaf in written]
        with Recording() as recording:
            work()
        for leaf, value in zip(written, before, strict=True):  # what is captured is not done
            leaf.copy_(value)

        def again() -> None:
            self.replays += 1
            recording.replay()

        return again


_TRACED: dict[tuple[object, ...], Any] = {}  # ticks of these tests, which are traced once


def traced(static: Any, params: Any, state: Any, kind: str, *, dynamic: bool) -> Any:
    name = (repr(static.structure), kind, state.clock.tick.shape, dynamic)
    if name not in _TRACED:
        _TRACED[name] = trace_tick(static, params, state, kind, dynamic=dynamic)
    return _TRACED[name]


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """From now on compiled markets are captured ones, of uncompiled ticks."""
    counting = Counting()

    def compile_graph(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
        counting.graphs += 1
        return function

    def fastest(own: Any, params: Any, state: Any) -> Captured:
        return Captured(own._static, params, state, own._graph)

    monkeypatch.setattr(captured, "Capture", lambda device: counting.capture)
    monkeypatch.setattr(graph, "trace_tick", traced)
    monkeypatch.setattr(graph, "compile_graph", compile_graph)
    monkeypatch.setattr(stepper.Compiled, "_fastest", fastest)
    return counting


CONFIGS = {
    "toy": toy(max_ticks=9),
    "two ticks": toy(max_ticks=12, ticks_per_action=2, warmup_ticks=65, num_symbols=2),
    "quotes, drawn numbers and delays": toy(
        max_ticks=9, quotes=2, action="depths", priority="time", longest_delay=2, randomize={"latency": (0, 2)}
    ),
}


def pair(config: MarketConfig, num_envs: int = 4) -> tuple[Market, Market]:
    made, plain = (Market(config, num_envs, seed=3, compile=on) for on in (True, False))
    assert differences(seen(made.reset()), seen(plain.reset())) == []
    return made, plain


@pytest.mark.parametrize("name", ["two ticks", "quotes, drawn numbers and delays"])
def test_captured_decisions_have_the_bits_of_uncompiled_ones(name: str, counting: Counting) -> None:
    """Over openings of all markets and of some, steps of some, and another number of ticks in the warm-up."""
    config = CONFIGS[name]
    made, plain = pair(config)
    some = torch.tensor([True, False, True, False])
    for at, action in enumerate(random_actions(config, 12, 4)):
        mask = some if at % 5 == 4 else None
        assert differences(seen(made.step(action, mask)), seen(plain.step(action, mask))) == []
        assert differences(made.state, plain.state) == []
        if at % 4 == 3:
            assert differences(seen(made.reset(mask=some)), seen(plain.reset(mask=some))) == []
            assert differences(made.state, plain.state) == [] == differences(made.params, plain.params)
            some = ~some
    assert differences(seen(made.reset()), seen(plain.reset())) == []
    assert differences(seen(made.observe()), seen(plain.observe())) == []
    ticks = config.ticks_per_action
    lengths = {ticks, *(min(ticks, config.warmup_ticks - at) for at in range(0, config.warmup_ticks, ticks))}
    # From one set of buffers and back; the batch, and what is opened ahead.
    assert counting.captures == 2 * (2 * len(lengths)) < counting.replays


def test_a_captured_decision_waits_for_nothing(counting: Counting) -> None:
    made, _ = pair(CONFIGS["toy"])
    with SyncSentinel():
        for action in random_actions(made.config, 3, 4):
            made.advance(action)


def test_a_state_lives_until_the_call_after_the_next(counting: Counting) -> None:
    made, plain = pair(CONFIGS["toy"])
    before, same = made.live, plain.live
    made.step()
    plain.step()
    assert differences(before, same) == []
    kept = made.state
    made.step()
    assert differences(kept, plain.state) == []


def test_copies_of_captured_markets_go_their_own_ways(counting: Counting) -> None:
    """And nothing is compiled for them."""
    made, plain = pair(CONFIGS["toy"])
    twin = made.fork()
    for action in random_actions(plain.config, 3, 4):
        twin.step(action)
    assert differences(made.state, plain.state) == []
    buy, sell = (torch.full((4, 1), choice) for choice in (2, 0))
    assert differences(seen(made.step(buy)), seen(plain.step(buy))) == []
    assert made.step(sell).info["position"].tolist() != twin.observe().info["position"].tolist()
    assert counting.graphs == 1


def test_prepared_markets_capture_nothing_more(counting: Counting) -> None:
    """And what they show is as it was."""
    made, plain = pair(CONFIGS["toy"])
    twin, action = made.fork(), random_actions(plain.config, 1, 4)[0]
    made.step(action)
    plain.step(action)
    twin.prepare()
    captures = counting.captures
    twin.step(action)
    for _ in range(2):
        assert differences(seen(twin.observe()), seen(plain.observe())) == []
        assert differences(seen(twin.step(action)), seen(plain.step(action))) == []
    assert counting.captures == captures
    told = seen(made.observe())
    made._stepper.prepare(made._params, made.live)
    assert differences(seen(made.observe()), told) == []


def test_other_parameters_are_taken_over(counting: Counting) -> None:
    made, plain = pair(toy(max_ticks=9, randomize={"order_size": (5, 20)}))
    for _ in range(2):
        buy = torch.full((4, 1), 2)
        assert differences(seen(made.step(buy)), seen(plain.step(buy))) == []
        assert differences(seen(made.reset()), seen(plain.reset())) == []


def test_a_failed_capture_leaves_a_compiled_graph(
    counting: Counting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one that it was to be made of."""

    def fail(*_: Any, **options: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(captured, "Capture", lambda device: fail)
    made, plain = pair(CONFIGS["toy"])
    (line,) = capsys.readouterr().err.splitlines()
    assert "steps go through torch.compile, which is slower, with the same numbers" in line and "capturing" in line
    assert made.compile and made._stepper.buffers is None
    assert differences(seen(made.step()), seen(plain.step())) == []
    assert counting.graphs == 1


def test_a_capture_that_fails_later_loses_nothing(
    counting: Counting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The state is what it was before the step."""
    made, plain = pair(CONFIGS["toy"])
    first, second = random_actions(plain.config, 2, 4)
    assert differences(seen(made.step(first)), seen(plain.step(first))) == []

    def fail(work: Callable[[], None], *, run: bool) -> None:
        assert run
        work()
        raise torch.cuda.OutOfMemoryError("out of memory")

    stepping = made._stepper.buffers
    assert isinstance(stepping, Captured)
    stepping._work.clear()
    monkeypatch.setattr(stepping, "_capture", fail)
    assert differences(seen(made.step(second)), seen(plain.step(second))) == []
    assert differences(made.state, plain.state) == []
    assert "out of memory" in capsys.readouterr().err


def test_without_a_compiler_steps_are_uncompiled(
    counting: Counting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'triton'")

    monkeypatch.setattr(graph, "compile_graph", missing)
    made, _ = pair(CONFIGS["toy"])
    (line,) = capsys.readouterr().err.splitlines()
    assert "uncompiled from now on" in line and "triton" in line and not made.compile


def test_the_order_of_a_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a stream of its own, which waits for the present one and is waited for; with torch's names replaced."""
    told: list[str] = []

    class Stream:
        def __init__(self, name: str = "own") -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            told.append(f"{self.name} waits for {other.name}")

    @contextmanager
    def entered(name: str) -> Iterator[None]:
        told.append(f"into {name}")
        yield
        told.append(f"out of {name}")

    names: dict[str, Any] = {
        "Stream": Stream,
        "current_stream": lambda: Stream("present"),
        "graph_pool_handle": lambda: (0, 1),
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: told.append("replay")),
        "device": lambda device: nullcontext(),
        "stream": lambda stream: entered(stream.name),
        "graph": lambda made, pool, stream, capture_error_mode: entered(f"graph in {pool} on {stream.name}"),
    }
    for name, stand_in in names.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    capture = captured.Capture(torch.device("cuda"))
    capture(lambda: told.append("work"), run=True)()
    recorded = ["into graph in (0, 1) on own", "work", "out of graph in (0, 1) on own"]
    before, after = ["own waits for present", "into own"], ["out of own", "present waits for own", "replay"]
    assert told == [*before, "work", *recorded, *after]
    told.clear()
    capture(lambda: told.append("work"), run=False)()
    assert told == [*before, *recorded, *after]
