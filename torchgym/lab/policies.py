"""Scripted policies: rules from the textbooks, and the parts that rules are made of.

A `Policy` is a function of the last `StepResult`, as `Market.run` takes it. A `MakePolicy` makes one for a configuration and the
seeds of the episodes that it is going to play. A `Rule` decides on a `Snapshot` of the market, so that one rule serves a learner
(`decided_by` makes a policy of it, for any action scheme) and the audit, whose snapshots hold more. `BASELINES` are the policies
to measure an agent against: they use what the learner sees, its own terms, and of `info` what is public.

Sources: Moskowitz, Ooi and Pedersen 2012, Time series momentum; Lehmann 1990, Fads, martingales, and market efficiency
(reversal); Bertsimas and Lo 1998, Optimal control of execution costs (equal slices); Cover 1991, Universal portfolios (constant
weights).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.engine import StepResult
from torchgym.lab import quoting
from torchgym.lab.policy import MakePolicy, OwnNumbers, Policy
from torchgym.numerics import random
from torchgym.readout import features
from torchgym.readout.entries import account_names
from torchgym.sim import actions
from torchgym.sim.params import Params, plain_params

CLEAR_GAP = 0.006  # gap between value and price, as a fraction, from which the value rules go to the limit
LOOKBACK = 24  # ticks that momentum and mean reversion look back
CLEAR_MOVE = 1.0  # return over the lookback, in usual moves, from which they act
FULL_GAP, FULL_MOVE = 0.01, 2.0  # the same from which a tilt holds all it may
_RANDOM_STREAM = 1_001  # random numbers that no market draws: see `torchgym.sim.noise.family_streams`

Memory = dict[str, Tensor]  # empty at the start of an episode; a rule keeps what it likes, one value per row


class Snapshot(Protocol):
    """The market before one decision, as a rule sees it; a tensor has one value per row, [n] or [N, S]."""

    @property
    def held(self) -> Tensor:
        """The position, int64 shares."""

    @property
    def limit(self) -> int | Tensor:
        """The largest position on either side, shares; a tensor is int64 and broadcasts over the rows."""

    def __getitem__(self, name: str) -> Tensor:
        """A feature by its name, float64; "estimate_gap" is how far the estimate of value is above the mid, a fraction."""

    def usual_moves(self, lookback: int) -> Tensor:
        """The log return over the lookback in usual moves: volatility of the last 32 ticks × √lookback, float64."""

    def to_position(self, target: int | Tensor) -> Tensor:
        """The decision, int64, that brings the position nearest to `target` shares."""

    def to_fraction(self, fraction: Tensor) -> Tensor:
        """The decision, int64, that brings the position nearest to a fraction of the limit, -1 to 1."""


Rule = Callable[[Snapshot, Memory], Tensor]  # the decision, int64, in the snapshot's terms
Signal = Callable[[Snapshot, Memory], Tensor]  # float64, positive where the price should rise


# --- signals


def shown(name: str, scale: float = 1.0) -> Signal:
    """An entry of the snapshot, times `scale`."""
    return lambda snapshot, memory: scale * snapshot[name]


def standardised(lookback: int, sign: float = 1.0) -> Signal:
    """The log return over the lookback in usual moves, times `sign`."""
    return lambda snapshot, memory: sign * snapshot.usual_moves(lookback)


def averaged(half_life: float, signal: Signal) -> Signal:
    """Exponential mean of a signal over the episode, from its first value on."""
    keep = 2.0 ** (-1.0 / half_life)

    def mean(snapshot: Snapshot, memory: Memory) -> Tensor:
        newest = signal(snapshot, memory)
        memory["mean"] = keep * memory.get("mean", newest) + (1.0 - keep) * newest
        return memory["mean"]

    return mean


# --- rules


def hold(snapshot: Snapshot, memory: Memory) -> Tensor:
    """Never trades."""
    return snapshot.to_position(snapshot.held)


def to_limit(side: int) -> Rule:
    """Goes to the limit on one side, 1 or -1, and stays there."""
    return lambda snapshot, memory: snapshot.to_position(side * snapshot.limit)


def proportional(signal: Signal, full: float) -> Rule:
    """Holds the fraction `signal / full` of the limit, cut at ±1."""
    return lambda snapshot, memory: snapshot.to_fraction(signal(snapshot, memory) / full)


def entered(signal: Signal, enter: float, leave: float = -math.inf) -> Rule:
    """Goes to the limit on the side of a signal beyond ±`enter`, and back once it is below `leave` on the side that is held."""

    def rule(snapshot: Snapshot, memory: Memory) -> Tensor:
        strength, now = signal(snapshot, memory), snapshot.held / snapshot.limit
        side = torch.sign(now)
        stay = torch.where((side != 0.0) & (strength * side < leave), 0.0, now)
        return snapshot.to_fraction(torch.where(strength.abs() > enter, torch.sign(strength), stay))

    return rule


def trend(lookback: int, sign: float = 1.0) -> Rule:
    """Goes with returns over the lookback beyond a usual move, or against them where `sign` is -1."""
    return entered(standardised(lookback, sign), CLEAR_MOVE)


def to_value(gap: float = CLEAR_GAP) -> Rule:
    """Goes to the limit on the side of the estimate of value once it is `gap` from the price; stays until that says otherwise."""
    return entered(shown("estimate_gap"), gap)


# --- policies of a learner


@dataclass(frozen=True)
class Seen:
    """The `Snapshot` of a learner: its last result, decisions being choices of its action scheme [N, S]."""

    config: MarketConfig
    result: StepResult
    params: Params  # the learner's terms in each market

    @property
    def held(self) -> Tensor:
        """The position, [N, S] int64 shares."""
        return self.result.info["position"]

    @property
    def limit(self) -> Tensor:
        """The largest position on either side, shares, int64 that broadcasts over [N, S]."""
        limit: Tensor = self.params.position_limit.squeeze(-1)
        return limit

    def __getitem__(self, name: str) -> Tensor:
        """A feature of every symbol, or "estimate_gap", [N, S] float64; a ValueError when it is not among the features."""
        if name == "estimate_gap":
            return -value_gap(self.config, self.result)
        names = features.FEATURE_SETS[self.config.features]
        if name not in names:
            raise ValueError(
                f"this policy looks at {name}, which features={self.config.features!r} does not show: use 'full54'"
            )
        observation = self.result.observation
        return observation.reshape(len(observation), self.config.num_symbols, -1)[..., names.index(name)]

    def usual_moves(self, lookback: int) -> Tensor:
        """The log return over the lookback in usual moves, [N, S] float64: the feature itself where it is relative."""
        move = self[f"f_log_return_{lookback}"]
        if self.config.scaling == "relative":
            return move
        return move / (self["f_realized_vol_32"].clamp(min=1e-4) * math.sqrt(lookback))

    def to_position(self, target: int | Tensor) -> Tensor:
        """See `toward`."""
        return toward(self.config, self.result, target, self.params)

    def to_fraction(self, fraction: Tensor) -> Tensor:
        """See `toward`."""
        return self.to_position((fraction.clamp(-1.0, 1.0) * self.limit).round().to(torch.int64))


def decided_by(rule: Callable[[Seen, Memory], Tensor]) -> MakePolicy:
    """Policies that decide by a rule, each with a memory of its own."""

    def make_policy(config: MarketConfig, seeds: Tensor) -> Policy:
        memory: Memory = {}
        own = OwnNumbers(config, seeds)
        return lambda result: rule(Seen(config, result, own.on(result.reward.device)), memory)

    return make_policy


def tilted(signal: Signal, full: float) -> MakePolicy:
    """Policies that share out the equity, for action schemes of weights.

    Each symbol has an equal part. It gets half of it where the signal is 0, all of it from `full` up and nothing from -`full`
    down; the rest is cash.
    """

    def weights(seen: Seen, memory: Memory) -> Tensor:
        parts = (0.5 + 0.5 * signal(seen, memory) / full).clamp(0.0, 1.0) / seen.config.num_symbols
        return torch.cat([(1.0 - parts.sum(-1, keepdim=True)).clamp(min=0.0), parts], -1)

    return decided_by(weights)


def toward(config: MarketConfig, result: StepResult, target: int | Tensor, params: Params | None = None) -> Tensor:
    """The actions that bring positions nearest to `target` shares, a number or [N, S]; [N, S], int64 or, of a box, float64.

    Of two alike it is the one that trades less, and where nothing would be traded the scheme's hold, if it has one. It works with
    every action scheme: it asks the scheme what each choice would do, and of a box which number to take.

    Args:
        params: the learner's terms in each market, where `randomize` draws some of them, such as the limit: see
            `torchgym.lab.policy.OwnNumbers`. None is those of the configuration.

    Raises:
        ValueError: for a box that cannot say.
    """
    scheme, space, held = actions.scheme(config), actions.space(config), result.info["position"]
    params = plain_params(config, result.reward.device) if params is None else params
    known = known_of(config, result, params)
    if not isinstance(space, actions.Choices):
        if scheme.toward is None:
            raise ValueError(f"ACTIONS[{config.action!r}] has no toward(known, target), which scripted policies need")
        wanted = torch.as_tensor(target, device=held.device).expand(held.shape).unsqueeze(-1)
        action = scheme.toward(known, wanted).squeeze(-1).to(torch.float64)
        low, high = (end.to(held.device) for end in space.bounds(config.num_symbols))
        return torch.minimum(torch.maximum(action, low), high)
    choices = torch.arange(space.count, device=held.device).expand(*held.shape, -1)
    now = held.unsqueeze(-1).expand(choices.shape)
    bound = params.position_limit
    assert scheme.wanted is not None
    reached = torch.clamp(now + scheme.wanted(replace(known, held=now), choices), -bound, bound)
    aim = target.unsqueeze(-1) if isinstance(target, Tensor) else target
    distance, traded = (reached - aim).abs(), (reached - now).abs()
    # Whole shares of distance come first, then those traded, at most 2 × bound of them, then whether it is the hold.
    hold = actions.REST if space.hold is None else space.hold
    return torch.argmin((distance * (4 * bound + 1) + traded) * 2 + (choices != hold), dim=-1)


def known_of(config: MarketConfig, result: StepResult, params: Params) -> actions.Known:
    """What the schemes may look at, from what the learner was told."""
    info, point = result.info, params.point_size

    def whole(amounts: Tensor, unit: float) -> Tensor:
        points = unit * (point if amounts.dim() > 1 else point.squeeze(-1))
        return torch.round(amounts / points).to(torch.int64)

    return actions.Known(
        params,
        held=info["position"].unsqueeze(-1),
        equity_x2=whole(info["equity"], 0.5).unsqueeze(-1),
        mid_x2=whole(info["mid"], 0.5),
        volume=info["recent_volume"],
        bid=whole(info["bid"], 1.0),
        ask=whole(info["ask"], 1.0),
        quotes=config.quotes,
    )


def value_gap(config: MarketConfig, result: StepResult) -> Tensor:
    """Fraction by which the mid exceeds the value that the learner is shown, [N, S]."""
    gap = Seen(config, result, plain_params(config, result.reward.device))["f_fair_value_dev"]
    return gap * 0.01 if config.scaling == "relative" else gap


def value_follower(config: MarketConfig, seeds: Tensor, *, clear_gap: float = CLEAR_GAP) -> Policy:
    """The policy of the rule `to_value`."""
    return decided_by(to_value(clear_gap))(config, seeds)


def _random(config: MarketConfig, seeds: Tensor) -> Policy:
    """All actions are equally likely; the random numbers depend on the episode's seed and the tick, not on the batch."""
    space, symbols = actions.space(config), config.num_symbols
    low, high = (end.to(seeds.device) for end in space.bounds(symbols))
    key = random.make_key(seeds, torch.zeros_like(seeds))
    counter = random.counters(_RANDOM_STREAM, space.width(symbols), seeds.device)

    def act(result: StepResult) -> Tensor:
        uniform = random.uniform(random.bits(key, result.info["tick"], counter))
        if isinstance(space, actions.Box):
            return low + uniform.to(torch.float64) * (high - low)
        return torch.floor(uniform * space.count).to(torch.int64).clamp(max=space.count - 1)

    return act


def _slices(seen: Seen, memory: Memory) -> Tensor:
    """What is held after a decision is in proportion to the time that is left then."""
    names = account_names(seen.config)
    time_left = seen.result.account[:, names.index("time_left")].unsqueeze(-1)
    after = (time_left - seen.config.ticks_per_action / seen.params.max_ticks.to(torch.float64)).clamp(min=0.0)
    left = (after * seen.params.starting_shares.squeeze(-1)).round().to(torch.int64)
    return seen.to_position(left.expand(seen.held.shape))


@dataclass(frozen=True)
class Baseline:
    """One row of `BASELINES`."""

    description: str
    make: MakePolicy
    inventory: bool = False  # whether it only means something to a learner that starts with shares
    quotes: bool | None = False  # whether it lets orders rest; None: it plays any action scheme
    weights: bool = False  # whether it shares out the equity


def baselines(config: MarketConfig) -> dict[str, MakePolicy]:
    """The rows of `BASELINES` that make sense for a configuration.

    Liquidators need something to sell. Those that go to a position need an action scheme that does, those that quote another one,
    and those that share out the equity one of weights. All count on orders that arrive at once: with `latency` those that go to a
    position by orders of one size overshoot.
    """
    scheme, space = actions.scheme(config), actions.space(config)
    rests = scheme.rests is not None and scheme.wanted is None
    weights = isinstance(space, actions.Box) and space.cash
    sells = config.starting_shares or "starting_shares" in config.randomize
    return {
        name: row.make
        for name, row in BASELINES.items()
        if (sells or not row.inventory) and row.quotes in (None, rests) and weights >= row.weights
    }


def _hold(config: MarketConfig, seeds: Tensor) -> Policy:
    scheme = actions.scheme(config)
    return quoting.nothing(config, seeds) if scheme.wanted is None else decided_by(hold)(config, seeds)


BASELINES: dict[str, Baseline] = {
    "hold": Baseline("never trades", _hold, quotes=None),
    "random": Baseline("takes every action alike, by chance", _random, quotes=None),
    "buy_and_hold": Baseline("buys to the position limit, holds it", decided_by(to_limit(1))),
    "momentum": Baseline("goes with returns over 24 ticks beyond a usual move", decided_by(trend(LOOKBACK))),
    "mean_reversion": Baseline(
        "goes against returns over 24 ticks beyond a usual move", decided_by(trend(LOOKBACK, -1.0))
    ),
    "value_follower": Baseline("goes to the limit where the shown value is 0.6 % from the price", value_follower),
    "constant_weights": Baseline(
        "holds equal parts of its equity in all symbols and no cash, brought back to that at every decision",
        tilted(lambda seen, memory: torch.ones_like(seen.held, dtype=torch.float64), 1.0),
        weights=True,
    ),
    "value_tilt": Baseline(
        "holds up to an equal part of each symbol, the more the further the price is below the shown value, none 1 % above it",
        tilted(shown("estimate_gap"), FULL_GAP),
        weights=True,
    ),
    "momentum_tilt": Baseline(
        "holds up to an equal part of each symbol, the more it rose over 24 ticks, none after a fall by two usual moves",
        tilted(standardised(LOOKBACK), FULL_MOVE),
        weights=True,
    ),
    "twap_liquidator": Baseline(
        "sells what it started with in equal slices over the episode", decided_by(_slices), inventory=True
    ),
    "liquidate_at_once": Baseline(
        "sells what it started with as fast as orders allow",
        decided_by(lambda seen, memory: seen.to_position(0)),
        inventory=True,
    ),
    "symmetric_quotes": Baseline(
        "quotes both sides a typical half-spread from the mid, whatever it holds", quoting.symmetric(), quotes=True
    ),
    "avellaneda_stoikov": Baseline(
        "quotes around a price that falls with what it holds and the time left, risk aversion 0.00001",
        quoting.avellaneda_stoikov(1e-5),
        quotes=True,
    ),
    "gueant_lehalle": Baseline(
        "quotes around a price that falls with what it holds, risk aversion 0.001",
        quoting.gueant_lehalle(1e-3),
        quotes=True,
    ),
}
