"""`evaluate`: policies side by side on the same held-out episodes; played, measured and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal, overload

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.config.validation import check_count, check_kind, check_one_learner
from torchgym.engine import Compile, Market, Seeds, StepResult, check_seeds, consecutive_seeds
from torchgym.files import finite
from torchgym.lab.performance.comparison import Comparison, Interval, mean_interval, paired
from torchgym.lab.performance.metrics import METRICS, Curves, check_periods, measure
from torchgym.lab.policy import MakePolicy, check_maker, made
from torchgym.progress import Count, Progress, silent
from torchgym.version import __version__

TRAINING_SEEDS = 10_000_000  # agents learn on seeds below this; the two ranges above are held out
VALIDATION_SEED = 10_000_000
TEST_SEED = 20_000_000
TICKS_PER_YEAR = 252 * 390  # a tick stands for a minute of a trading day


_SUMS = ("profit", "reward")  # of an episode: what is no metric of its equity curve


@dataclass(frozen=True)
class Episodes:
    """E episodes of one policy, T decisions each; float64, currency, on the CPU.

    T are those of the longest that can be drawn. After its end, by ruin or since `randomize` drew fewer ticks, an episode stands
    still: its curves stay where they were, nothing more is earned or paid.
    """

    equity: Tensor  # [E, T + 1], from before the first decision on
    worth: Tensor  # [E, T + 1], of the position, marked, signed, summed over symbols
    traded: Tensor  # [E, T], amount traded, both sides positive
    value: Tensor  # [E, T], earned as value moved
    convergence: Tensor  # [E, T], earned as the price moved against value
    spread: Tensor  # [E, T], paid: half the quoted spread of every share
    impact: Tensor  # [E, T], paid beyond that, for shares deeper in the book
    fees: Tensor  # [E, T], paid: commission
    borrow: Tensor  # [E, T], paid for short positions
    marking: Tensor  # [E, T], what marking at liquidation value takes off; 0 when equity is marked at the mid
    reward: Tensor  # [E], sum of the rewards
    decisions: Tensor  # [E] int64, that it has; ruin may end it sooner

    @property
    def profit(self) -> Tensor:
        """Final less initial equity, [E]."""
        return self.equity[:, -1] - self.equity[:, 0]

    def attribution(self) -> dict[str, Tensor]:
        """Where the profit came from, [E] each, costs negative; they add up to it.

        A position q held from a decision to the next earns q × the move of the mid: q × the move of value, and the rest as the
        price comes nearer to value or leaves it. Trading costs what was paid beyond the mid that was shown before (the
        implementation shortfall of Perold 1988): half the spread, and the impact of walking the book; commission and borrow come
        on top.
        """
        gains = {"value": self.value, "convergence": self.convergence}
        costs = {"spread": self.spread, "impact": self.impact, "fees": self.fees, "borrow": self.borrow}
        parts = gains | {name: -paid for name, paid in costs.items()}
        if bool(self.marking.any()):
            parts["marking"] = -self.marking
        return {name: part.sum(-1) for name, part in parts.items()}


@dataclass(frozen=True)
class Evaluation:
    """What each policy made of the same episodes."""

    config: MarketConfig
    seed: int  # of the first episode; the others follow
    ticks_per_year: float
    agent: str | None  # the policy that is compared with all others
    descriptions: dict[str, str]
    episodes: dict[str, Episodes] = field(repr=False)
    # Policy, then metric: [E], not finite where an episode has none.
    metrics: dict[str, dict[str, Tensor]] = field(repr=False)
    comparisons: list[Comparison]  # of the agent's profit with each other policy's
    _intervals: dict[tuple[str, str], Interval | None] = field(default_factory=dict, repr=False, compare=False)

    @property
    def periods_per_year(self) -> float:
        """Decisions per year: what annualised metrics are scaled with."""
        return self.ticks_per_year / self.config.ticks_per_action

    @overload
    def interval(self, policy: str, metric: Literal["profit", "reward"]) -> Interval: ...

    @overload
    def interval(self, policy: str, metric: str) -> Interval | None: ...

    def interval(self, policy: str, metric: str) -> Interval | None:
        """Of a metric, of "profit" or of "reward", its sum, over the episodes that have one; None where fewer than two do.

        The bootstrap knows nothing of a metric's range: a lower end below the metric's `least` is raised to it. That costs no
        coverage, since no mean lies below.

        Raises:
            ValueError: for an unknown policy or metric, listing the known ones.
        """
        if policy not in self.metrics:
            raise ValueError(f"unknown policy {policy!r}: choose one of {', '.join(self.metrics)}")
        if metric not in (*_SUMS, *self.metrics[policy]):
            raise ValueError(f"unknown metric {metric!r}: choose one of {', '.join([*_SUMS, *self.metrics[policy]])}")
        if (policy, metric) not in self._intervals:
            values = getattr(self.episodes[policy], metric) if metric in _SUMS else self.metrics[policy][metric]
            defined, interval = values[torch.isfinite(values)], None
            if len(defined) >= 2:
                interval = mean_interval(defined)
                least = METRICS[metric].least if metric in METRICS else None
                interval = interval._replace(low=interval.low if least is None else max(interval.low, least))
            self._intervals[policy, metric] = interval
        return self._intervals[policy, metric]

    def resample(self, progress: Count = silent) -> None:
        """Compute all intervals now; `interval` computes one when it is first asked for.

        Args:
            progress: called with the intervals done and the intervals in all, before the first one too.
        """
        names = [(policy, metric) for policy, metrics in self.metrics.items() for metric in (*_SUMS, *metrics)]
        for done, (policy, metric) in enumerate(names):
            progress(done, len(names))
            self.interval(policy, metric)
        progress(len(names), len(names))

    def to_dict(self, command: str = "") -> dict[str, Any]:
        """Plain values for JSON, with the command that makes them again; what is undefined or infinite is None."""
        first = next(iter(self.episodes.values()))
        content: dict[str, Any] = {
            "torchgym": __version__,
            "command": command,
            "config": self.config.to_dict(),
            "seed": self.seed,
            "episodes": len(first.profit),
            "decisions": first.traded.shape[1],
            "ticks_per_year": self.ticks_per_year,
            "periods_per_year": self.periods_per_year,
            "agent": self.agent,
            "policies": {name: self._entries(name) for name in self.episodes},
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
        }
        return finite(content)

    def rows(self) -> list[dict[str, Any]]:
        """One row per policy: profit, reward and metrics with their intervals, parts of the profit, the agent's lead."""
        leads = {comparison.baseline: comparison for comparison in self.comparisons}
        return [finite(self._row(policy, leads.get(policy))) for policy in self.episodes]

    def _row(self, policy: str, lead: Comparison | None) -> dict[str, Any]:
        row: dict[str, Any] = {"policy": policy}
        for name in (*_SUMS, *self.metrics[policy]):
            interval = self.interval(policy, name) or (None, None, None)
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), interval, strict=True))
        row |= {f"from_{name}": mean for name, mean in _means(self.episodes[policy].attribution()).items()}
        if lead is not None:
            row |= {"lead": lead.lead, "lead_low": lead.low, "lead_high": lead.high}
            row |= {"p_value": lead.p_value, "p_adjusted": lead.p_adjusted}
        return row

    def _entries(self, policy: str) -> dict[str, Any]:
        episodes, metrics = self.episodes[policy], self.metrics[policy]
        intervals = {name: self.interval(policy, name) for name in (*_SUMS, *metrics)}
        return {
            "description": self.descriptions.get(policy, ""),
            "metrics": {name: interval and interval._asdict() for name, interval in intervals.items()},
            "profit": episodes.profit.tolist(),
            "trades": (episodes.traded > 0.0).sum(-1).tolist(),  # decisions of each episode in which it traded
            "attribution": _means(episodes.attribution()),
        }


def evaluate(
    config: MarketConfig,
    policies: Mapping[str, MakePolicy],
    *,
    agent: str | None = None,
    descriptions: Mapping[str, str] | None = None,
    episodes: int = 256,
    seed: int = TEST_SEED,
    ticks_per_year: float = TICKS_PER_YEAR,
    device: torch.device | str = "cpu",
    compile: Compile = "auto",
    progress: Progress = silent,
) -> Evaluation:
    """Let every policy play the same episodes, and measure what came of it.

    Args:
        policies: what makes them, by name; see `torchgym.lab.policies`.
        agent: the policy to compare with each other one; None compares none.
        descriptions: of the policies, for reports.
        episodes: E ≥ 2; all of them are played at once.
        seed: of the first, far from those that anything was trained on.
        ticks_per_year: what annualised metrics are scaled with: a tick stands for a minute unless you say otherwise.
        progress: called with the stage ("preparing", "decisions of" a policy, "comparisons"), how much of it is done and how much
            there is; before it begins, and after every decision.

    Raises:
        ValueError: without a policy, for what makes none, for an unknown `agent`, fewer than two episodes, or a bad seed.
    """
    check_kind("config", config, MarketConfig)
    if not isinstance(policies, Mapping):
        raise ValueError(
            f"policies must map names to what makes them, got {policies!r}: give torchgym.lab.policies.baselines(config)"
        )
    if not policies or (agent is not None and agent not in policies):
        known = ", ".join(policies) or "none: no policy was given"
        raise ValueError(f"unknown policy {agent!r}: choose from {known}")
    for name, make_policy in policies.items():
        check_maker(f"policies[{name!r}]", make_policy)
    check_count("episodes", episodes, 2)
    check_one_learner("evaluate", config)
    rate = ticks_per_year / config.ticks_per_action
    check_periods(rate)
    market = Market(config, episodes, seed=seed, device=device, compile=compile)
    if market.compile is True:
        progress("preparing", 0, 1)
        market.prepare()
        progress("preparing", 1, 1)
    seeds, decisions = consecutive_seeds(seed, episodes), config.longest_episode
    played: dict[str, Episodes] = {}
    for name, make_policy in policies.items():
        stage = f"decisions of {name}"
        progress(stage, 0, decisions)
        played[name] = play(market, make_policy, seeds, partial(progress, stage))
    metrics = {name: _measured(own, rate) for name, own in played.items()}
    comparisons = []
    if agent is not None:
        profits = {name: own.profit for name, own in played.items()}
        comparisons = paired(profits, agent, progress=partial(progress, "comparisons"))
    return Evaluation(
        config, seed, ticks_per_year, agent, dict(descriptions or {}), played, metrics=metrics, comparisons=comparisons
    )


def _measured(played: Episodes, rate: float) -> dict[str, Tensor]:
    """Each metric over the decisions that an episode has, [E]."""
    found: dict[str, Tensor] = {}
    for count in played.decisions.unique().tolist():
        rows = played.decisions == count
        curves = played.equity[rows, : count + 1], played.traded[rows, :count], played.worth[rows, : count + 1]
        for name, values in measure(Curves(*curves, rate)).items():
            found.setdefault(name, torch.empty_like(played.reward))[rows] = values
    return found


def _means(parts: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: part.mean().item() for name, part in parts.items()}


def play(market: Market, make_policy: MakePolicy, seeds: Seeds, progress: Count = silent) -> Episodes:
    """One episode of each seed, to its end. What the market does now is given up.

    Args:
        make_policy: of what plays. Scripted policies know what `randomize` draws of their terms, not what `params=` gives.
        seeds: market i plays the episode of seed i. The episodes' bits do not depend on the batch.
        progress: called after every decision.

    Raises:
        ValueError: for bad seeds, or what makes no policy.
    """
    config = market.config
    check_one_learner("play", config)
    seeds = check_seeds(seeds, market.num_envs)
    policy = made("make_policy", make_policy, config, seeds.to(market.device))
    result = market.reset(seeds=seeds)
    own = market.live.clock.last // config.ticks_per_action
    decisions = max(config.longest_episode, int(own.max()))
    before = _account(market, result)
    alive = ~(result.terminated | result.truncated)
    columns: dict[str, list[Tensor]] = {"equity": [before["equity"]], "worth": [before["worth"]]}
    reward = torch.zeros_like(result.reward)
    for index in range(decisions):
        result = market.step(policy(result))
        after = _account(market, result)
        for name, column in _explain(config, result, before, after).items():
            standing = columns[name][-1] if name in ("equity", "worth") else torch.zeros_like(column)
            columns.setdefault(name, []).append(torch.where(alive, column, standing))
        reward += torch.where(alive, result.reward, 0.0)
        alive = alive & ~(result.terminated | result.truncated)
        before = after
        progress(index + 1, decisions)
    curves = {name: torch.stack(parts, dim=1).cpu() for name, parts in columns.items()}
    return Episodes(**curves, reward=reward.cpu(), decisions=own.cpu())


def _account(market: Market, result: StepResult) -> dict[str, Tensor]:
    """What a decision is judged by: prices and positions [N, S], money [N]."""
    prices = market.read("mid", "bid", "ask", "value")
    position = result.info["position"].to(torch.float64)
    money = {name: result.info[name] for name in ("cash", "fees", "borrow", "equity")}
    return {**prices, **money, "position": position, "worth": (position * prices["mid"]).sum(-1)}


def _explain(
    config: MarketConfig, result: StepResult, before: dict[str, Tensor], after: dict[str, Tensor]
) -> dict[str, Tensor]:
    """What came of one decision, [N] each: the fields of `Episodes`."""
    change = {name: after[name] - before[name] for name in ("cash", "fees", "borrow", "mid", "value")}
    filled, position = result.info["filled"].to(torch.float64), after["position"]
    paid = -change["cash"] - change["fees"] - change["borrow"]
    spread = (filled.abs() * (before["ask"] - before["bid"])).sum(-1) * 0.5
    marking = torch.zeros_like(spread)
    if config.mark == "liquidation":
        earlier, later = (now["worth"] + now["cash"] - now["equity"] for now in (before, after))
        marking = later - earlier
    return {
        "equity": after["equity"],
        "worth": after["worth"],
        "traded": result.info["turnover"],
        "value": (position * change["value"]).sum(-1),
        "convergence": (position * (change["mid"] - change["value"])).sum(-1),
        "spread": spread,
        "impact": paid - (filled * before["mid"]).sum(-1) - spread,
        "fees": change["fees"],
        "borrow": change["borrow"],
        "marking": marking,
    }
