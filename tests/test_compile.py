"""The tick compiles to one graph, never waits for a device, and has the same bits eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from markets import EVERYTHING, cold, counted_graphs, differences, opened, random_actions, seen, toy
from sentinel import DivisionSentinel, HostSync, ReciprocalUsed, SyncSentinel
from torch import Tensor

from torchgym import Market, MarketConfig
from torchgym.engine import replay
from torchgym.engine.captured import Captured
from torchgym.engine.replay import kinds
from torchgym.numerics.trees import map_tensors, rows
from torchgym.readout.step import step

CONFIGS: dict[str, MarketConfig] = {
    "default": MarketConfig(),
    "toy": toy(),
    "two": toy(num_symbols=2, num_sectors=2, action="target", information="none", reward="log_return"),
    "everything": EVERYTHING,
    "late": toy(
        quotes=2,
        action="depths",
        priority="time",
        snipe="auction",
        latency=2,
        feed_delay=3,
        features="full74",
        reward={"pnl": 1.0, "shortfall": 0.5, "spread_capture": 0.25, "adverse_selection": 0.125},
        randomize={"latency": (0, 4)},
    ),
}


def decide(one: Market, action: Tensor) -> Any:
    """The function that is compiled, called as `Market.step` does."""
    with torch.no_grad():
        return step(one._static, one._params, one.state, action)


# --- no host synchronisation


@pytest.mark.parametrize("name", CONFIGS)
def test_a_decision_never_waits_and_divides_by_no_constant(name: str) -> None:
    with DivisionSentinel():
        one = cold(CONFIGS[name], 3)
    for action in random_actions(one.config, 2, 3):
        with SyncSentinel(), DivisionSentinel():
            state, _ = decide(one, action)
        one._state = state


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: int(x[0, 0]),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.masked_select(x > 0),
        lambda x: torch.equal(x, x),
        lambda x: x.unique(),
        lambda x: torch.where(x > 0),
        lambda x: x.clone().index_put_((x > 0,), torch.arange(3.0)),
    ],
)
def test_the_sentinel_sees_what_waits(wait: Callable[[Tensor], Any]) -> None:
    numbers = torch.tensor([[1.0, -1.0], [2.0, 3.0]])
    with SyncSentinel(), pytest.raises(HostSync):
        wait(numbers)


def test_the_sentinel_sees_what_a_gpu_would_multiply() -> None:
    numbers = torch.tensor([1.0, 3.0])
    with DivisionSentinel():
        assert (numbers / 4.0 / numbers).tolist() == [0.25, 0.25]
        with pytest.raises(ReciprocalUsed, match=r"24\.0"):
            _ = numbers / 24.0


# --- one graph


def walk(one: Market, actions: Tensor) -> list[Any]:
    """A story of all that a market can do."""
    told = [seen(one.reset())]
    half = len(actions) // 2
    told += [seen(one.step(action)) for action in actions[:half]]
    mask = torch.arange(one.num_envs) % 2 == 1
    told.append(seen(one.reset(mask=mask)))
    told += [seen(one.step(action, mask=~mask)) for action in actions[half:]]
    told.append(seen(one.reset(seeds=range(one.num_envs))))
    told.append(seen(one.step()))
    return told


@pytest.mark.parametrize(
    "name",
    ["toy", "everything", pytest.param("default", marks=pytest.mark.slow), pytest.param("two", marks=pytest.mark.slow)],
)
def test_one_graph_serves_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """fullgraph=True refuses graph breaks; a frame for each kind of tick: neither resets, masks nor a fork recompile."""
    counter = counted_graphs(monkeypatch)
    config = CONFIGS[name]
    actions = random_actions(config, 6, 3)
    compiled, eager = Market(config, 3, seed=4, compile=True), Market(config, 3, seed=4)
    for first, second in zip(walk(compiled, actions), walk(eager, actions), strict=True):
        assert differences(first, second) == []
    assert differences(compiled.state, eager.state) == []
    frames = len(kinds(compiled.structure))
    assert counter.frame_count == frames
    twin = compiled.fork()
    twin.step()
    assert counter.frame_count == frames
    assert counter.op_count > 500


# --- eager and compiled


def same_story(config: MarketConfig, markets: int, ticks: int, device: str = "cpu") -> None:
    """Compiled and eager tell the same story in every bit, and the second half of it compiles nothing."""
    compiled = Market(config, markets, seed=4, compile=True, device=device)
    eager = Market(config, markets, seed=4, device=device)
    assert differences(seen(compiled.reset()), seen(eager.reset())) == []
    mask = torch.arange(markets, device=device) % 2 == 1
    for at, action in enumerate(random_actions(config, ticks, markets)):
        known = len(replay._known)
        with torch._dynamo.config.patch(error_on_recompile=True):
            assert differences(seen(compiled.step(action)), seen(eager.step(action))) == []
        assert differences(compiled.state, eager.state) == []
        assert at == 0 or len(replay._known) == known
        if at == ticks // 2:
            compiled.reset(mask=mask)
            eager.reset(mask=mask)
    assert differences(compiled.state, eager.state) == []


def test_compiled_is_eager_in_every_bit() -> None:
    """Generated code, not just a traced graph: most of a minute of compiling on a cold cache."""
    torch.compiler.reset()
    same_story(toy(), 2, 20)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["default", "two", "everything", "late"])
def test_every_configuration_is_eager_in_every_bit(name: str) -> None:
    torch.compiler.reset()
    same_story(CONFIGS[name], 3, 60)


@pytest.mark.slow
@pytest.mark.parametrize("symbols", [1, 2])
def test_a_crowd_has_the_same_bits_by_any_number_of_threads(symbols: int) -> None:
    """So many orders that threads share the loops of the compiled step."""
    torch.compiler.reset()
    config = toy(num_symbols=symbols, **{"population.noise.count": 40_000, "population.noise.max_size": 20})
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = opened(config, 1, compile=False)
        markets = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            markets.append(opened(config, 1, compile=True))
            assert differences(markets[-1].state, expected.state) == []
        for action in random_actions(config, 6, 1):
            torch.set_num_threads(1)
            told = seen(expected.step(action))
            for threads, market in enumerate(markets, 1):
                torch.set_num_threads(threads)
                assert differences(seen(market.step(action)), told) == []
        assert all(differences(market.state, expected.state) == [] for market in markets)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["toy", "default"])
def test_rows_of_64_of_7_and_alone_agree_eager_and_compiled(name: str) -> None:
    """Markets 0, 3 and 63, with resets of market 3 and of market 63 on the way, each in a different batch and mode."""
    config = CONFIGS[name]
    actions = random_actions(config, 40, 64)
    chosen = (0, 3, 63)

    def stories(seeds: list[int], compiled: bool) -> list[Any]:
        torch.compiler.reset()
        one = Market(config, len(seeds), seed=0, compile=compiled)
        one.reset(seeds=seeds)
        row = torch.tensor([seeds.index(seed) for seed in chosen if seed in seeds])
        told = []
        for at, action in enumerate(actions[:, seeds]):
            told.append(rows({"seen": seen(one.step(action)), "state": one.state}, row))
            ended = torch.tensor([(seed == 3 and at == 11) or (seed == 63 and at == 24) for seed in seeds])
            if ended.any():
                one.reset(mask=ended)
        return told

    reference = stories(list(range(64)), compiled=False)
    for compiled in (False, True):
        for seeds in (list(range(64)), [5, 63, 0, 9, 3, 1, 30]):
            for expected, found in zip(reference, stories(seeds, compiled), strict=True):
                assert differences(expected, found) == []
        for place, seed in enumerate(chosen):
            for expected, found in zip(reference, stories([seed], compiled), strict=True):
                assert differences(rows(expected, torch.tensor([place])), found) == []


# --- a GPU, where there is one

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def moved(one: Market) -> Any:
    return map_tensors(lambda leaf: leaf.cpu(), one.state)


@needs_gpu
@pytest.mark.parametrize("name", CONFIGS)
def test_a_gpu_has_the_same_bits(name: str) -> None:
    config = CONFIGS[name]
    here, there = opened(config, 7, seed=4), opened(config, 7, seed=4, device="cuda")
    for action in random_actions(config, 20, 7):
        first, second = seen(here.step(action)), seen(there.step(action.cuda()))
        assert differences(first, map_tensors(lambda leaf: leaf.cpu(), second)) == []
    assert differences(here.state, moved(there)) == []


@needs_gpu
def test_a_gpu_is_never_waited_for() -> None:
    one = opened(toy(), 7, device="cuda")
    actions = random_actions(one.config, 4, 7).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for action in actions:
            one._state, _ = decide(one, action)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_gpu
@pytest.mark.slow
@pytest.mark.parametrize("name", ["default", "everything"])
def test_a_compiled_gpu_is_eager_in_every_bit(name: str) -> None:
    torch.compiler.reset()
    same_story(CONFIGS[name], 7, 40, device="cuda")
    torch.compiler.reset()
    compiled = opened(CONFIGS[name], 7, seed=4, device="cuda", compile=True)
    assert differences(opened(CONFIGS[name], 7, seed=4).state, moved(compiled)) == []
    assert isinstance(compiled._stepper.buffers, Captured)
