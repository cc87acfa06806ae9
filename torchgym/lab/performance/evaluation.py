"""`evaluate`: policies side by side on the same held-out episodes, measured and compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.config.validation import check_count
from torchgym.engine import Market, consecutive_seeds
from torchgym.lab.performance.comparison import Comparison, mean_interval, paired
from torchgym.lab.performance.episodes import Episodes, play
from torchgym.lab.performance.measures import check_periods
from torchgym.lab.performance.metrics import METRICS, Curves, measure
from torchgym.lab.policies import PolicyMaker
from torchgym.version import __version__

TRAINING_SEEDS = 10_000_000  # agents learn on seeds below this; the two ranges above are held out
VALIDATION_SEED = 10_000_000
TEST_SEED = 20_000_000
TICKS_PER_YEAR = 252 * 390  # a tick stands for a minute of a trading day

Progress = Callable[[str, int, int], None]  # stage, done, in all


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
            self._intervals[policy, metric] = self._resampled(policy, metric)
        return self._intervals[policy, metric]

    def resample(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Compute all intervals now; `interval` computes one when it is first asked for.

        Args:
            progress: called with the intervals done and the intervals in all, before the first one too.
        """
        names = [(policy, metric) for policy, metrics in self.metrics.items() for metric in ("profit", *metrics)]
        for done, (policy, metric) in enumerate(names):
            if progress is not None:
                progress(done, len(names))
            self.interval(policy, metric)
        if progress is not None:
            progress(len(names), len(names))

    def _resampled(self, policy: str, metric: str) -> Interval | None:
        values = self.episodes[policy].profit if metric == "profit" else self.metrics[policy][metric]
        defined = values[torch.isfinite(values)]
        if len(defined) < 2:
            return None
        mean, low, high = mean_interval(defined)
        least = METRICS[metric].least if metric in METRICS else None
        return Interval(mean, low if least is None else max(low, least), high)

    def to_dict(self, command: str = "") -> dict[str, Any]:
        """Plain values for JSON; what is undefined or infinite is None.

        Args:
            command: that makes the same evaluation again.
        """
        first = next(iter(self.episodes.values()))
        return {
            "torchgym": __version__,
            "command": command,
            "config": self.config.to_dict(),
            "seed": self.seed,
            "episodes": len(first.profit),
            "decisions": first.traded.shape[1],
            "ticks_per_year": self.ticks_per_year,
            "periods_per_year": self.periods_per_year,
            "agent": self.agent,
            "policies": {name: self._told(name) for name in self.episodes},
            "comparisons": [_finite(asdict(comparison)) for comparison in self.comparisons],
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row per policy, for a table: profit and metrics with their intervals, parts of the profit, the agent's lead."""
        leads = {comparison.policy: comparison for comparison in self.comparisons}
        return [self._row(policy, leads.get(policy)) for policy in self.episodes]

    def _row(self, policy: str, lead: Comparison | None) -> dict[str, Any]:
        row: dict[str, Any] = {"policy": policy}
        for name in ("profit", *self.metrics[policy]):
            found = self.interval(policy, name)
            ends = (None, None, None) if found is None else (found.mean, found.low, found.high)
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
        row |= {f"from_{name}": part.mean().item() for name, part in self.episodes[policy].attribution().items()}
        if lead is not None:
            row |= {"lead": lead.lead, "lead_low": lead.low, "lead_high": lead.high}
            row |= {"p_value": lead.p_value, "p_adjusted": lead.p_adjusted}
        return {name: _number(value) for name, value in row.items()}

    def _told(self, policy: str) -> dict[str, Any]:
        episodes, metrics = self.episodes[policy], self.metrics[policy]
        intervals = {name: self.interval(policy, name) for name in ["profit", *metrics]}
        return {
            "description": self.descriptions.get(policy, ""),
            "metrics": {name: None if found is None else _finite(asdict(found)) for name, found in intervals.items()},
            "profit": episodes.profit.tolist(),
            "max_drawdown": [_number(value) for value in metrics["max_drawdown"].tolist()],
            "attribution": {name: part.mean().item() for name, part in episodes.attribution().items()},
        }


def evaluate(
    config: MarketConfig,
    makers: Mapping[str, PolicyMaker],
    *,
    agent: str | None = None,
    descriptions: Mapping[str, str] | None = None,
    episodes: int = 256,
    seed: int = TEST_SEED,
    ticks_per_year: float = TICKS_PER_YEAR,
    device: torch.device | str = "cpu",
    compile: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Let every policy play the same episodes, and measure what came of it.

    Args:
        config: the market.
        makers: of the policies, by name; see `torchgym.lab.policies`.
        agent: the policy to compare with each other one; None compares none.
        descriptions: of the policies, for reports.
        episodes: E ≥ 2; all of them are played at once.
        seed: of the first, far from those that anything was trained on.
        ticks_per_year: what annualised metrics are scaled with: a tick stands for a minute unless you say otherwise.
        device: where the markets live.
        compile: run compiled markets; the numbers are the same.
        progress: called with the stage ("preparing", a policy that plays, "comparisons"), how much of it is done and how much
            there is; before it begins, and after every decision.

    Raises:
        ValueError: without a policy, for an unknown `agent`, fewer than two episodes, or a bad seed.
    """
    if not makers or (agent is not None and agent not in makers):
        raise ValueError(f"unknown policy {agent!r}: choose from {', '.join(makers) or 'none: no policy was given'}")
    check_count("episodes", episodes, 2)
    rate = ticks_per_year / config.ticks_per_action
    check_periods(rate)
    tell = progress or _silent
    market = Market(config, episodes, seed=seed, device=device, compile=compile)
    if compile:
        tell("preparing", 0, 1)
        market.prepare()
        tell("preparing", 1, 1)
    seeds, decisions = consecutive_seeds(seed, episodes), config.max_ticks // config.ticks_per_action
    played: dict[str, Episodes] = {}
    metrics: dict[str, dict[str, Tensor]] = {}
    for name, maker in makers.items():

        def tell_decisions(done: int, total: int, name: str = name) -> None:
            tell(name, done, total)

        tell_decisions(0, decisions)
        played[name] = run = play(market, maker, seeds, tell_decisions)
        metrics[name] = measure(Curves(run.equity, run.traded, run.worth, rate))
    comparisons = []
    if agent is not None:
        profits = {name: run.profit for name, run in played.items()}
        comparisons = paired(profits, agent, progress=lambda done, total: tell("comparisons", done, total))
    return Evaluation(
        config=config,
        seed=seed,
        ticks_per_year=ticks_per_year,
        agent=agent,
        descriptions=dict(descriptions or {}),
        episodes=played,
        metrics=metrics,
        comparisons=comparisons,
    )


def _silent(stage: str, done: int, total: int) -> None:
    """No-op progress callback."""


def _finite(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _number(value) for name, value in entries.items()}


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
