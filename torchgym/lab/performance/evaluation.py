"""`evaluate`: policies side by side on the same held-out episodes, measured and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.config.validation import check_count, check_one_learner
from torchgym.engine import Market, consecutive_seeds
from torchgym.files import finite
from torchgym.lab.performance.comparison import Comparison, mean_interval, paired
from torchgym.lab.performance.episodes import Episodes, play
from torchgym.lab.performance.metrics import METRICS, Curves, check_periods, measure
from torchgym.lab.policies import MakePolicy
from torchgym.progress import Count, Progress, silent
from torchgym.version import __version__

TRAINING_SEEDS = 10_000_000  # agents learn on seeds below this; the two ranges above are held out
VALIDATION_SEED = 10_000_000
TEST_SEED = 20_000_000
TICKS_PER_YEAR = 252 * 390  # a tick stands for a minute of a trading day


@dataclass(frozen=True)
class Interval:
    """A mean over episodes with its 95 % bootstrap interval; infinite ends where too few episodes are alike to tell."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """What each policy made of the same episodes."""

    config: MarketConfig
    seed: int  # of the first episode; the others follow
    ticks_per_year: float
    agent: str | None  # the policy that is compared with all others
    descriptions: dict[str, str]
    episodes: dict[str, Episodes]
    metrics: dict[str, dict[str, Tensor]]  # policy, then metric: [E], not finite where an episode has none
    comparisons: list[Comparison]  # of the agent's profit with each other policy's
    _intervals: dict[tuple[str, str], Interval | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def periods_per_year(self) -> float:
        """Decisions per year: what annualised metrics are scaled with."""
        return self.ticks_per_year / self.config.ticks_per_action

    def interval(self, policy: str, metric: str) -> Interval | None:
        """Of a metric, or of "profit", over the episodes that have one; None where fewer than two do.

        The bootstrap knows nothing of a metric's range: a lower end below the metric's `least` is raised to it. That costs no
        coverage, since no mean lies below.
        """
        if (policy, metric) not in self._intervals:
            values = self.episodes[policy].profit if metric == "profit" else self.metrics[policy][metric]
            least = METRICS[metric].least if metric in METRICS else None
            self._intervals[policy, metric] = _interval(values, least)
        return self._intervals[policy, metric]

    def resample(self, progress: Count = silent) -> None:
        """Compute all intervals now; `interval` computes one when it is first asked for.

        Args:
            progress: called with the intervals done and the intervals in all, before the first one too.
        """
        names = [(policy, metric) for policy, metrics in self.metrics.items() for metric in ("profit", *metrics)]
        for done, (policy, metric) in enumerate(names):
            progress(done, len(names))
            self.interval(policy, metric)
        progress(len(names), len(names))

    def to_dict(self, command: str = "") -> dict[str, Any]:
        """Plain values for JSON; what is undefined or infinite is None.

        Args:
            command: that makes the same evaluation again.
        """
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
        """One row per policy, for a table: profit and metrics with their intervals, parts of the profit, the agent's lead."""
        leads = {comparison.policy: comparison for comparison in self.comparisons}
        return [finite(self._row(policy, leads.get(policy))) for policy in self.episodes]

    def _row(self, policy: str, lead: Comparison | None) -> dict[str, Any]:
        row: dict[str, Any] = {"policy": policy}
        for name in ("profit", *self.metrics[policy]):
            interval = self.interval(policy, name)
            ends = (None, None, None) if interval is None else (interval.mean, interval.low, interval.high)
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
        row |= {f"from_{name}": mean for name, mean in _means(self.episodes[policy].attribution()).items()}
        if lead is not None:
            row |= {"lead": lead.lead, "lead_low": lead.low, "lead_high": lead.high}
            row |= {"p_value": lead.p_value, "p_adjusted": lead.p_adjusted}
        return row

    def _entries(self, policy: str) -> dict[str, Any]:
        episodes, metrics = self.episodes[policy], self.metrics[policy]
        intervals = {name: self.interval(policy, name) for name in ("profit", *metrics)}
        return {
            "description": self.descriptions.get(policy, ""),
            "metrics": {name: interval and asdict(interval) for name, interval in intervals.items()},
            "profit": episodes.profit.tolist(),
            "max_drawdown": metrics["max_drawdown"].tolist(),
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
    compile: bool = False,
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
        progress: called with the stage ("preparing", a policy that plays, "comparisons"), how much of it is done and how much
            there is; before it begins, and after every decision.

    Raises:
        ValueError: without a policy, for an unknown `agent`, fewer than two episodes, or a bad seed.
    """
    if not policies or (agent is not None and agent not in policies):
        known = ", ".join(policies) or "none: no policy was given"
        raise ValueError(f"unknown policy {agent!r}: choose from {known}")
    check_count("episodes", episodes, 2)
    check_one_learner("evaluate", config)
    rate = ticks_per_year / config.ticks_per_action
    check_periods(rate)
    market = Market(config, episodes, seed=seed, device=device, compile=compile)
    if compile:
        progress("preparing", 0, 1)
        market.prepare()
        progress("preparing", 1, 1)
    seeds, decisions = consecutive_seeds(seed, episodes), config.max_ticks // config.ticks_per_action
    played: dict[str, Episodes] = {}
    for name, make_policy in policies.items():
        progress(name, 0, decisions)
        played[name] = play(market, make_policy, seeds, partial(progress, name))
    metrics = {name: measure(Curves(own.equity, own.traded, own.worth, rate)) for name, own in played.items()}
    comparisons = []
    if agent is not None:
        profits = {name: own.profit for name, own in played.items()}
        comparisons = paired(profits, agent, progress=partial(progress, "comparisons"))
    return Evaluation(
        config, seed, ticks_per_year, agent, dict(descriptions or {}), played, metrics=metrics, comparisons=comparisons
    )


def _interval(values: Tensor, least: float | None) -> Interval | None:
    defined = values[torch.isfinite(values)]
    if len(defined) < 2:
        return None
    mean, low, high = mean_interval(defined)
    return Interval(mean, low if least is None else max(low, least), high)


def _means(parts: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: part.mean().item() for name, part in parts.items()}
