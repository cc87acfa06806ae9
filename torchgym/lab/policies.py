"""Scripted policies to measure an agent against: rules from the textbooks, on what the learner sees and nothing else.

A policy is a function of the last `StepResult`, as `Market.run` takes it. What it remembers it reads from its own position, so it
may be asked about any batch at any time. A maker builds one for a configuration and the seeds of the episodes it will play.

Sources: Moskowitz, Ooi and Pedersen 2012, Time series momentum; Lehmann 1990, Fads, martingales, and market efficiency
(reversal); Bertsimas and Lo 1998, Optimal control of execution costs (equal slices).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.engine import StepResult
from torchgym.readout import features
from torchgym.sim import actions, noise

Policy = Callable[[StepResult], Tensor]  # the action for what was seen last, [N, S] int64
PolicyMaker = Callable[[MarketConfig, Tensor], Policy]  # of a configuration and the episodes' seeds [N] int64

CLEAR_GAP = 0.006  # distance of price and estimate, as a fraction, from which the value follower acts
LOOKBACK = 24  # ticks that momentum and mean reversion look back
CLEAR_MOVE = 1.0  # return over the lookback, in usual ones, from which they act
_LUCK = 1_001  # a stream of random numbers that no market draws from: see `torchgym.sim.noise.family_streams`


@dataclass(frozen=True)
class Baseline:
    """One row of `BASELINES`."""

    description: str
    make: PolicyMaker
    inventory: bool = False  # whether it only means something to a learner that starts with shares


def baselines(config: MarketConfig) -> dict[str, PolicyMaker]:
    """The rows of `BASELINES` that make sense for a configuration: liquidators need something to sell."""
    return {name: row.make for name, row in BASELINES.items() if config.starting_shares or not row.inventory}


def toward(config: MarketConfig, seen: StepResult, target: Tensor) -> Tensor:
    """The choices that bring positions nearest to `target` [N, S] shares, [N, S] int64.

    Of two alike it is the one that trades less, and where nothing would be traded the scheme's hold, if it has one. It works with
    every action scheme: it asks the scheme what each choice would do.
    """
    scheme, held = actions.scheme(config), seen.info["position"]
    choices = torch.arange(scheme.choices, device=held.device).expand(*held.shape, -1)
    now = held.unsqueeze(-1).expand(choices.shape)
    bound = config.position_limit
    reached = torch.clamp(now + scheme.wanted(config, choices, now), -bound, bound)
    distance, traded = (reached - target.unsqueeze(-1)).abs(), (reached - now).abs()
    # Whole shares of distance come first, then those traded, at most 2 × bound of them, then whether it is the hold.
    hold = actions.REST if scheme.hold is None else scheme.hold
    return torch.argmin((distance * (4 * bound + 1) + traded) * 2 + (choices != hold), dim=-1)


def value_follower(config: MarketConfig, seeds: Tensor, *, clear_gap: float = CLEAR_GAP) -> Policy:
    """Goes to the limit on the side of the shown value once it is `clear_gap` from the price; stays until that says otherwise."""

    def act(seen: StepResult) -> Tensor:
        return _side(config, seen, -value_gap(config, seen), clear_gap)

    return act


def value_gap(config: MarketConfig, seen: StepResult) -> Tensor:
    """Fraction by which the mid exceeds the value that the learner is shown, [N, S]."""
    gap = _column(config, seen, "f_fair_value_dev")
    return gap * 0.01 if config.scaling == "relative" else gap


def _hold(config: MarketConfig, seeds: Tensor) -> Policy:
    return lambda seen: toward(config, seen, seen.info["position"])


def _random(config: MarketConfig, seeds: Tensor) -> Policy:
    """Every choice alike, from a stream of its own: the same episode gets the same luck in any batch."""
    count = actions.scheme(config).choices
    key = noise.make_key(seeds, torch.zeros_like(seeds))
    counter = noise.counters(_LUCK, config.num_symbols, seeds.device)

    def act(seen: StepResult) -> Tensor:
        luck = noise.uniform(noise.bits(key, seen.info["tick"], counter))
        return torch.floor(luck * count).to(torch.int64).clamp(max=count - 1)

    return act


def _buy_and_hold(config: MarketConfig, seeds: Tensor) -> Policy:
    return lambda seen: toward(config, seen, torch.full_like(seen.info["position"], config.position_limit))


def _trend(sign: float) -> PolicyMaker:
    def make(config: MarketConfig, seeds: Tensor) -> Policy:
        return lambda seen: _side(config, seen, sign * _usual_moves(config, seen), CLEAR_MOVE)

    return make


def _twap_liquidator(config: MarketConfig, seeds: Tensor) -> Policy:
    """What is left to hold shrinks in proportion to the time that is left."""

    def act(seen: StepResult) -> Tensor:
        left = (seen.account[:, -1:] * config.starting_shares).round().to(torch.int64)
        return toward(config, seen, left.expand(seen.info["position"].shape))

    return act


def _liquidate_at_once(config: MarketConfig, seeds: Tensor) -> Policy:
    return lambda seen: toward(config, seen, torch.zeros_like(seen.info["position"]))


def _side(config: MarketConfig, seen: StepResult, signal: Tensor, clear: float) -> Tensor:
    """To the limit on the side of a signal [N, S] beyond ±`clear`; what is held stays otherwise."""
    side = torch.sign(signal).to(torch.int64) * config.position_limit
    return toward(config, seen, torch.where(signal.abs() > clear, side, seen.info["position"]))


def _usual_moves(config: MarketConfig, seen: StepResult) -> Tensor:
    """Log return over the lookback, in units of volatility × √lookback, [N, S]."""
    move = _column(config, seen, f"f_log_return_{LOOKBACK}")
    if config.scaling == "relative":
        return move
    return move / (_column(config, seen, "f_realized_vol_32").clamp(min=1e-4) * math.sqrt(LOOKBACK))


def _column(config: MarketConfig, seen: StepResult, name: str) -> Tensor:
    """A feature of every symbol, [N, S] float64.

    Raises:
        ValueError: when the configured set of features does not hold it.
    """
    names = features.FEATURE_SETS[config.features]
    if name not in names:
        raise ValueError(f"this policy looks at {name}, which features={config.features!r} does not show: use 'full54'")
    return seen.observation.reshape(len(seen.observation), config.num_symbols, -1)[..., names.index(name)]


BASELINES: dict[str, Baseline] = {
    "hold": Baseline("never trades", _hold),
    "random": Baseline("takes every choice alike, by chance", _random),
    "buy_and_hold": Baseline("buys to the position limit, holds it", _buy_and_hold),
    "momentum": Baseline("goes with returns over 24 ticks beyond a usual move", _trend(1.0)),
    "mean_reversion": Baseline("goes against returns over 24 ticks beyond a usual move", _trend(-1.0)),
    "value_follower": Baseline("goes to the limit where the shown value is 0.6 % from the price", value_follower),
    "twap_liquidator": Baseline("sells what it started with in equal slices over the episode", _twap_liquidator, True),
    "liquidate_at_once": Baseline(
        "sells what it started with as fast as orders allow", _liquidate_at_once, inventory=True
    ),
}
