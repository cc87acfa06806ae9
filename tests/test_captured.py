"""Captured decisions, without a GPU: what a CUDA graph does, its operations again on the same memory, is done on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from markets import differences, seen, toy
from sentinel import SyncSentinel
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torchgym import Market, MarketConfig
from torchgym.engine import captured, graph, stepper
from torchgym.engine.captured import Captured
from torchgym.engine.replay import trace_tick
from torchgym.sim import actions


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
    """How many decisions were captured, and how often one was replayed."""

    captures = replays = 0

    def capture(self, work: Callable[[], None], device: torch.device) -> Callable[[], object]:
        self.captures += 1
        work()  # as before a real capture
        with Recording() as recording:
            work()

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
    monkeypatch.setattr(captured, "capture", counting.capture)
    monkeypatch.setattr(graph, "trace_tick", traced)
    monkeypatch.setattr(graph, "compile_graph", lambda function, device: function)
    monkeypatch.setitem(stepper.Compiled.fastest, "cpu", Captured)
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


def drawn(config: MarketConfig, num_envs: int, decisions: int) -> Tensor:
    space, generator = actions.space(config), torch.Generator().manual_seed(0)
    shape = (decisions, num_envs, space.width(config.num_symbols))
    if isinstance(space, actions.Choices):
        return torch.randint(0, space.count, shape, generator=generator)
    low, high = space.bounds(config.num_symbols)
    return low + torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low)


@pytest.mark.parametrize("name", ["two ticks", "quotes, drawn numbers and delays"])
def test_captured_decisions_have_the_bits_of_uncompiled_ones(name: str, counting: Counting) -> None:
    """Over openings of all markets and of some, steps of some, and another number of ticks in the warm-up."""
    config = CONFIGS[name]
    made, plain = pair(config)
    some = torch.tensor([True, False, True, False])
    for at, action in enumerate(drawn(config, 4, 12)):
        mask = some if at % 5 == 4 else None
        assert differences(seen(made.step(action, mask)), seen(plain.step(action, mask))) == []
        assert differences(made.state, plain.state) == []
        if at % 4 == 3:
            assert differences(seen(made.reset(mask=some)), seen(plain.reset(mask=some))) == []
            assert differences(made.state, plain.state) == [] == differences(made.params, plain.params)
            some = ~some
    assert differences(seen(made.reset()), seen(plain.reset())) == []
    assert differences(seen(made.observe()), seen(plain.observe())) == []
    warmups = {
        min(config.ticks_per_action, config.warmup_ticks - at)
        for at in range(0, config.warmup_ticks, config.ticks_per_action)
    }
    lengths = len(warmups | {config.ticks_per_action})
    assert (
        counting.captures <= 2 * 2 * lengths < counting.replays
    )  # two sets of buffers; the batch, and what is opened ahead


def test_a_captured_decision_waits_for_nothing(counting: Counting) -> None:
    made, _ = pair(CONFIGS["toy"])
    with SyncSentinel():
        for action in drawn(made.config, 4, 3):
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
    made, plain = pair(CONFIGS["toy"])
    twin = made.fork()
    for action in drawn(plain.config, 4, 3):
        twin.step(action)
    assert differences(made.state, plain.state) == []
    buy, sell = (torch.full((4, 1), choice) for choice in (2, 0))
    assert differences(seen(made.step(buy)), seen(plain.step(buy))) == []
    assert made.step(sell).info["position"].tolist() != twin.observe().info["position"].tolist()


def test_other_parameters_are_taken_over(counting: Counting) -> None:
    made, plain = pair(toy(max_ticks=9, randomize={"order_size": (5, 20)}))
    for _ in range(2):
        buy = torch.full((4, 1), 2)
        assert differences(seen(made.step(buy)), seen(plain.step(buy))) == []
        assert differences(seen(made.reset()), seen(plain.reset())) == []


def test_a_failed_capture_leaves_a_compiled_graph(
    counting: Counting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(captured, "capture", fail)
    made, plain = pair(CONFIGS["toy"])
    (line,) = capsys.readouterr().err.splitlines()
    assert "steps go through torch.compile, which is slower, with the same numbers" in line and "capturing" in line
    assert made.compile and made._stepper.replay is None
    assert differences(seen(made.step()), seen(plain.step())) == []


def test_a_capture_that_fails_later_loses_nothing(
    counting: Counting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The state is what it was before the step."""
    made, plain = pair(CONFIGS["toy"])
    first, second = drawn(plain.config, 4, 2)
    assert differences(seen(made.step(first)), seen(plain.step(first))) == []

    def fail(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(captured, "capture", fail)
    assert isinstance(made._stepper.replay, Captured)
    made._stepper.replay._work.clear()
    assert differences(seen(made.step(second)), seen(plain.step(second))) == []
    assert differences(made.state, plain.state) == []
    assert "out of memory" in capsys.readouterr().err
