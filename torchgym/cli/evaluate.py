"""`torchgym evaluate`: an agent against scripted policies on the same held-out episodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from torchgym.cli.output import (
    NUMBERS_PER_MARKET,
    check_device,
    check_memory,
    command_line,
    compilable,
    figure,
    make_console,
    write_csv,
)
from torchgym.cli.progress import progress_bars, stage
from torchgym.files import write_json

if TYPE_CHECKING:
    from rich.table import Table

    from torchgym.config import MarketConfig
    from torchgym.lab.performance import Evaluation
    from torchgym.lab.policies import PolicyMaker

EVALUATION = "evaluation.json"
_TABLE = "evaluation.csv"
_NUMBERS_PER_DECISION = 10  # that are kept of every episode
# Columns of the table beside profit and lead: rows of torchgym.lab.performance.METRICS.
_COLUMNS = ("sharpe", "sortino", "max_drawdown", "hit_rate", "exposure")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Play held-out episodes with a trained agent and scripted policies and compare them; writes evaluation.json and .csv."""

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs/train")
    """Folder of a training run."""
    policies: tuple[str, ...] = ()
    """Policies to compare with, names in torchgym.lab.policies.BASELINES; without names, all that fit the market."""
    episodes: int = 256
    """Number of episodes; all policies play the same ones."""
    seed: int = 20_000_000
    """Seed of the first episode; the other episodes take the seeds after it. Training uses seeds below ten million."""
    ticks_per_year: float = 98_280
    """Ticks of a year, for annualised figures: 252 days of 390 minutes."""
    device: str = "cpu"
    """Device to run on, such as cpu or cuda."""
    compile: bool = True
    """Compile the market's step: slow to start, fast to run, the same numbers."""


def run(options: Evaluate) -> int:
    """Play, write and print; 0."""
    judge(
        options.folder,
        policies=options.policies,
        episodes=options.episodes,
        seed=options.seed,
        ticks_per_year=options.ticks_per_year,
        device=options.device,
        compile=options.compile,
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
    with progress_bars() as progress:
        with stage(progress, "loading"):
            from torchgym.lab.performance import TRAINING_SEEDS, evaluate
            from torchgym.lab.policies import BASELINES
            from torchgym.training import CHECKPOINT, load_agent, read_checkpoint

            check_device(device)
        if not seed >= TRAINING_SEEDS:
            raise ValueError(f"seed must be at least {TRAINING_SEEDS}, got {seed}: agents train on those below")
        agent = load_agent(folder, device=device)
        saved = read_checkpoint(folder / CHECKPOINT)["torchgym"]
        makers = {"agent": agent.maker, **_chosen(agent.config, policies)}
        decisions = agent.config.max_ticks // agent.config.ticks_per_action
        needed = episodes * (NUMBERS_PER_MARKET + decisions * len(makers) * _NUMBERS_PER_DECISION)
        check_memory(f"{episodes:,} episodes of {decisions:,} decisions", needed)
        descriptions = {name: row.description for name, row in BASELINES.items()}
        layers = " and ".join(map(str, agent.settings.hidden))
        descriptions["agent"] = f"PPO, layers of {layers}, trained with torchgym {saved}"
        found = evaluate(
            agent.config,
            makers,
            agent="agent",
            descriptions=descriptions,
            episodes=episodes,
            seed=seed,
            ticks_per_year=ticks_per_year,
            device=device,
            compile=compilable(compile),
            progress=progress,
        )
        found.resample(lambda done, total: progress("intervals", done, total))
    asked = Evaluate(folder=folder, policies=policies, episodes=episodes, seed=seed, ticks_per_year=ticks_per_year)
    command = command_line("evaluate", asked, first=[str(folder)], leave_out=("folder",))
    write_json(folder / EVALUATION, found.to_dict(command))
    write_csv(folder / _TABLE, found.rows())
    make_console().print(_table(found))


def _chosen(config: MarketConfig, names: tuple[str, ...]) -> dict[str, PolicyMaker]:
    from torchgym.lab.policies import baselines

    known = baselines(config)
    unknown = [repr(name) for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown policy {', '.join(unknown)}: choose from {', '.join(known)}")
    return {name: known[name] for name in names} if names else known


def _table(found: Evaluation) -> Table:
    from rich.table import Table

    from torchgym.lab.performance import METRICS

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
