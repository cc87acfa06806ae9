"""`torchgym evaluate`: an agent against scripted policies on the same held-out episodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from torchgym.cli.output import (
    check_device,
    command_line,
    compilable,
    figure,
    make_console,
    progress_bars,
    write_csv,
    write_json,
)

if TYPE_CHECKING:
    from rich.table import Table

    from torchgym.config import MarketConfig
    from torchgym.performance import Evaluation
    from torchgym.policies import PolicyMaker

EVALUATION = "evaluation.json"
_TABLE = "evaluation.csv"
# Columns of the table beside profit and lead: rows of torchgym.performance.METRICS.
_COLUMNS = ("sharpe", "sortino", "max_drawdown", "hit_rate", "exposure")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Play held-out episodes with a trained agent and scripted policies and compare them; writes evaluation.json and .csv."""

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs/train")
    """Of a training run."""
    policies: tuple[str, ...] = ()
    """To compare with, rows of torchgym.policies.BASELINES; none named are all that make sense."""
    episodes: int = 256
    """How many; all policies play the same."""
    seed: int = 20_000_000
    """Of the first episode; the others follow. Training uses those below ten million."""
    ticks_per_year: float = 98_280
    """What annualised figures are scaled with: 252 days of 390 minutes."""
    device: str = "cpu"
    """Where to run, such as cuda."""
    compile: bool = True
    """Compile the market's step: slow to start, fast to run, the same numbers."""


def run(options: Evaluate) -> int:
    """Play, write and print; 0."""
    check_device(options.device)
    judge(
        options.folder,
        policies=options.policies,
        episodes=options.episodes,
        seed=options.seed,
        ticks_per_year=options.ticks_per_year,
        device=options.device,
        compile=compilable(options.compile),
    )
    make_console().print(f"written: {options.folder / EVALUATION}, {options.folder / _TABLE}", soft_wrap=True)
    return 0


def judge(
    folder: Path,
    *,
    policies: tuple[str, ...] = (),
    episodes: int = Evaluate.episodes,
    seed: int = Evaluate.seed,
    ticks_per_year: float = Evaluate.ticks_per_year,
    device: str = "cpu",
    compile: bool = True,
) -> None:
    """Evaluate the agent of a run, write and print."""
    from torchgym.performance import TRAINING_SEEDS, evaluate
    from torchgym.policies import BASELINES
    from torchgym.training import CHECKPOINT, load_agent, read_checkpoint

    if not seed >= TRAINING_SEEDS:
        raise ValueError(f"seed must be at least {TRAINING_SEEDS}, got {seed}: agents train on those below")
    agent = load_agent(folder, device=device)
    saved = read_checkpoint(folder / CHECKPOINT)["torchgym"]
    makers = {"agent": agent.maker, **_chosen(agent.config, policies)}
    told = {name: row.description for name, row in BASELINES.items()}
    told["agent"] = f"PPO, layers of {' and '.join(map(str, agent.settings.hidden))}, trained with torchgym {saved}"
    with progress_bars() as progress:
        found = evaluate(
            agent.config,
            makers,
            agent="agent",
            descriptions=told,
            episodes=episodes,
            seed=seed,
            ticks_per_year=ticks_per_year,
            device=device,
            compile=compile,
            progress=progress,
        )
    asked = Evaluate(folder=folder, policies=policies, episodes=episodes, seed=seed, ticks_per_year=ticks_per_year)
    command = command_line("evaluate", asked, first=[str(folder)], leave_out=("folder",))
    write_json(folder / EVALUATION, found.to_dict(command))
    write_csv(folder / _TABLE, found.rows())
    make_console().print(_table(found))


def _chosen(config: MarketConfig, names: tuple[str, ...]) -> dict[str, PolicyMaker]:
    from torchgym.policies import baselines

    known = baselines(config)
    unknown = [repr(name) for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown policy {', '.join(unknown)}: choose from {', '.join(known)}")
    return {name: known[name] for name in names} if names else known


def _table(found: Evaluation) -> Table:
    from rich.table import Table

    from torchgym.performance import METRICS

    some = next(iter(found.episodes.values()))
    count, decisions = some.traded.shape
    table = Table(
        title=f"{count} episodes of {decisions:,} decisions, seeds from {found.seed}; means (95 % intervals), currency",
        title_justify="left",
    )
    table.add_column("policy")
    table.add_column("profit", justify="right")
    for name in _COLUMNS:
        table.add_column(METRICS[name].heading, justify="right")
    for heading in ("fees", "spread", "impact", "lead of the agent", "p (Holm)"):
        table.add_column(heading, justify="right")
    leads = {comparison.policy: comparison for comparison in found.comparisons}
    for policy, episodes in found.episodes.items():
        means = {name: found.interval(policy, name) for name in _COLUMNS}
        paid = episodes.attribution()
        lead = leads.get(policy)
        table.add_row(
            policy,
            _interval(*_ends(found, policy)),
            *["–" if mean is None else figure(mean.mean) for mean in means.values()],
            *[figure(0.0 - paid[name].mean().item()) for name in ("fees", "spread", "impact")],
            "" if lead is None else _interval(lead.lead, lead.low, lead.high),
            "" if lead is None else f"{lead.p_adjusted:.2g}",
        )
    return table


def _ends(found: Evaluation, policy: str) -> tuple[float, float, float]:
    profit = found.interval(policy, "profit")
    assert profit is not None  # every episode has a profit, and there are two at least
    return profit.mean, profit.low, profit.high


def _interval(mean: float, low: float, high: float) -> str:
    return f"{mean:+.1f} ({low:+.1f} … {high:+.1f})"
