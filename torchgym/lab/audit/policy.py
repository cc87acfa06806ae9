"""A scripted trader: what it does, what must come of it; and the parts that such traders are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.lab.audit.scene import Scene, kept, lean, reach
from torchgym.lab.audit.verdicts import Requirement, loses_with

CLEAR_GAP = 0.006  # log gap between value and price from which the value rules go to the limit
FULL_GAP = 0.012  # gap at which those that lean hold the whole limit

Memory = dict[str, Tensor]  # empty at the start of an episode; a policy keeps what it likes, [n] each
Act = Callable[[Scene, Memory], Tensor]  # the shares it wants to trade, [n] int64, positive buys
Script = Callable[[Scene], int]  # the position it wants at `scene.now`, shares
Signal = Callable[[Scene, Memory], Tensor]  # [n] float64, positive where the price should rise


@dataclass(frozen=True)
class Policy:
    """One scripted trader. A large one may send ten times the standard order and hold ten such orders."""

    description: str
    requirement: Requirement
    act: Act
    large: bool = False


def scripted(script: Script, side: int = 1) -> Act:
    """Follows a plan that only looks at the clock; `side` -1 does the same the other way round."""

    def act(scene: Scene, memory: Memory) -> Tensor:
        return reach(scene, side * script(scene))

    return act


def twins(name: str, description: str, script: Script, *, large: bool = False) -> dict[str, Policy]:
    """The plan begun by buying, and its mirror: two rows, judged together."""
    up, down = f"{name}_long", f"{name}_short"
    return {
        up: Policy(description, loses_with(down), scripted(script, 1), large),
        down: Policy(f"the mirror of {up}", loses_with(up), scripted(script, -1), large),
    }


def alternating(period: int, script: Callable[[Scene, int], int]) -> Act:
    """The plan `script(scene, tick of the cycle)` over and over, begun by buying and by selling in turn."""

    def act(scene: Scene, memory: Memory) -> Tensor:
        cycle, now = divmod(scene.now, period)
        return reach(scene, script(scene, now) * (1 - 2 * (cycle % 2)))

    return act


def shown(name: str, scale: float = 1.0) -> Signal:
    """A column of the scene, times `scale`."""
    return lambda scene, memory: scale * scene[name]


def standardised(lookback: int, sign: float = 1.0) -> Signal:
    """The log return over the lookback, in usual moves: volatility of the last 32 ticks × √lookback."""

    def signal(scene: Scene, memory: Memory) -> Tensor:
        usual = scene["f_realized_vol_32"].clamp(min=1e-5) * math.sqrt(lookback)
        return sign * scene[f"f_log_return_{lookback}"] / usual

    return signal


def averaged(half_life: float, signal: Signal) -> Signal:
    """Exponential mean of a signal over the episode, from its first value on."""
    keep = 2.0 ** (-1.0 / half_life)

    def mean(scene: Scene, memory: Memory) -> Tensor:
        newest = signal(scene, memory)
        memory["mean"] = keep * memory.get("mean", newest) + (1.0 - keep) * newest
        return memory["mean"]

    return mean


def proportional(signal: Signal, full: float) -> Act:
    """Holds the share `signal / full` of the limit, cut at ±1."""
    return lambda scene, memory: lean(scene, signal(scene, memory) / full)


def entered(signal: Signal, enter: float, leave: float = -math.inf) -> Act:
    """Goes to the limit on the side of a signal beyond ±`enter`, and back once it is below `leave` on the side that is held."""

    def act(scene: Scene, memory: Memory) -> Tensor:
        strength, now = signal(scene, memory), kept(scene)
        side = torch.sign(now)
        stay = torch.where((side != 0.0) & (strength * side < leave), 0.0, now)
        return lean(scene, torch.where(strength.abs() > enter, torch.sign(strength), stay))

    return act


def held_after(ticks: int, signal: Signal, enter: float) -> Act:
    """Goes to the limit on the side of a signal beyond ±`enter`, and back so many ticks after the last one."""

    def act(scene: Scene, memory: Memory) -> Tensor:
        strength = signal(scene, memory)
        fresh, nothing = strength.abs() > enter, torch.zeros_like(strength)
        memory["until"] = torch.where(fresh, float(scene.now + ticks), memory.get("until", nothing))
        memory["side"] = torch.where(fresh, torch.sign(strength), memory.get("side", nothing))
        return lean(scene, torch.where(memory["until"] > scene.now, memory["side"], 0.0))

    return act
