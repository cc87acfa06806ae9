"""What several test files need: small markets, actions from a seed, comparison of every bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from torchgym import TASKS, Market, MarketConfig, preset, task
from torchgym.engine import StepResult, graph, stepper
from torchgym.engine.opening import begin
from torchgym.numerics.trees import leaves, map_tensors
from torchgym.sim import actions
from torchgym.sim.actions import Choices
from torchgym.sim.state import Book

_WORDS = {torch.float32: torch.int32, torch.float64: torch.int64}


def toy(**changes: Any) -> MarketConfig:
    """A market of few traders."""
    return preset("toy", **changes)


def only(config: MarketConfig, *families: str) -> MarketConfig:
    """The same market without its other families: it compiles faster than one of everybody."""
    crowd = config.population
    absent: dict[str, Any] = {
        name: replace(own, count=0) for name, own in crowd.families.items() if name not in families
    }
    return config.replace(population=replace(crowd, **absent))


def acting(name: str, **changes: Any) -> MarketConfig:
    """A market of few traders with an action scheme, and with a place a side where that lets orders rest."""
    return toy(**{"action": name, "quotes": 1 if actions.ACTIONS[name].rests else 0, **changes})


# Every option away from its default at once.
EVERYTHING = toy(
    num_symbols=3,
    num_sectors=2,
    ticks_per_action=2,
    execution="auction",
    priority="time",
    mark="liquidation",
    action="sized",
    scaling="relative",
    information="privileged",
    reward={"pnl": 1.0, "risk_adjusted": 0.5, "differential_sharpe": 0.1, "log_return": 2.0, "inventory": 0.5},
    starting_shares=20,
)


# Two learners who quote, in a crowd small enough to be compiled soon; test files share its programs.
TWO_QUOTING = only(
    toy(num_learners=2, quotes=2, action="depths", priority="time", mark="liquidation", ticks_per_action=2),
    *("value", "noise", "maker"),
).replace(features="canonical28")


# A decision of each has both kinds of tick, an episode two decisions.
SHORT: dict[str, MarketConfig] = {
    name: config.replace(ticks_per_action=2, max_ticks=4)
    for name, config in {
        "default": MarketConfig(),
        "symbols": MarketConfig(num_symbols=2, num_sectors=2),
        **{name: task(name) for name in TASKS},
    }.items()
}


def opened(config: MarketConfig, num_envs: int, *, seed: int = 0, **options: Any) -> Market:
    """A market after its first reset."""
    market = Market(config, num_envs, seed=seed, **options)
    market.reset()
    return market


def cold(config: MarketConfig, num_envs: int, *, seed: int = 0, **options: Any) -> Market:
    """A market at its first opening quotes, without the 64 ticks of warm-up: enough for what must hold at any time."""
    market = Market(config, num_envs, seed=seed, **options)
    market._state = begin(market._static, market._base, market._first_seeds, torch.zeros_like(market._first_seeds))
    return market


def random_actions(config: MarketConfig, num_ticks: int, num_envs: int, *, seed: int = 0) -> Tensor:
    """[T, N, S], with several learners [T, N, L, S], every action of the scheme alike."""
    generator = torch.Generator().manual_seed(seed)
    learners = (config.num_learners,) if config.num_learners > 1 else ()
    space = actions.space(config)
    shape = (num_ticks, num_envs, *learners, space.width(config.num_symbols))
    if isinstance(space, Choices):
        return torch.randint(0, space.count, shape, generator=generator)
    low, high = space.bounds(config.num_symbols)
    return low + torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low)


def narrow(book: Book) -> Book:
    """A book written down by hand, in the dtype of a market's."""
    return map_tensors(lambda leaf: leaf.to(torch.int32), book)


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Equal in dtype, shape and every bit; so -0 differs from 0, and NaN equals itself."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    word = _WORDS.get(first.dtype, first.dtype)
    return torch.equal(first.contiguous().view(word), second.contiguous().view(word))


def differences(first: Any, second: Any) -> list[str]:
    """Names of the tensors of two trees that differ in any bit."""
    named = dict(leaves(second))
    return [name for name, leaf in leaves(first) if not same_bits(leaf, named.pop(name))] + list(named)


def seen(result: StepResult) -> dict[str, Any]:
    """All tensors of a result, as a tree."""
    parts = {name: value for name, value in vars(result).items() if name != "info"}
    return {**parts, "info": dict(result.info)}


def counted_graphs(monkeypatch: pytest.MonkeyPatch) -> CompileCounter:
    """From now on compiled markets run as a graph of torch's compiler with the eager backend, which counts the graphs."""
    counter = CompileCounter()

    def trace(step: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
        return torch.compile(step, fullgraph=True, dynamic=False, backend=counter)

    torch.compiler.reset()
    monkeypatch.setattr(graph, "compile_graph", trace)
    monkeypatch.setattr(stepper.Compiled, "replays", ())
    return counter
