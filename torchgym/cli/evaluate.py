"""`torchgym evaluate`: an agent against scripted policies on the same held-out episodes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from torchgym.cli.output import (
    NUMBERS_PER_MARKET,
    check_device,
    check_memory,
    command_line,
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
    from torchgym.lab.policies import MakePolicy

EVALUATION = "evaluation.json"
_TABLE = "evaluation.csv"
_NUMBERS_PER_DECISION = 10  # that are kept of every episode
# Columns of the table beside profit and lead: rows of torchgym.lab.performance.METRICS.
_COLUMNS = ("sharpe", "sortino", "max_drawdown", "hit_rate", "exposure")
_COSTS = ("fees", "spread", "impact")


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
    judge(**vars(options))
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
        chosen = {"agent": agent.make_policy, **_chosen(agent.config, policies)}
        decisions = agent.config.max_ticks // agent.config.ticks_per_action
        needed = episodes * (NUMBERS_PER_MARKET + decisions * len(chosen) * _NUMBERS_PER_DECISION)
        check_memory(f"{episodes:,} episodes of {decisions:,} decisions", needed)
        descriptions = {name: row.description for name, row in BASELINES.items()}
        layers = " and ".join(map(str, agent.settings.hidden))
        descriptions["agent"] = f"PPO, layers of {layers}, trained with torchgym {saved}"
        made = evaluate(
            agent.config,
            chosen,
            agent="agent",
            descriptions=descriptions,
            episodes=episodes,
            seed=seed,
            ticks_per_year=ticks_per_year,
            device=device,
            compile=compile,
            progress=progress,
        )
        made.resample(partial(progress, "intervals"))
    asked = Evaluate(folder=folder, policies=policies, episodes=episodes, seed=seed, ticks_per_year=ticks_per_year)
    command = command_line("evaluate", asked, first=[str(folder)], leave_out=("folder",))
    write_json(folder / EVALUATION, made.to_dict(command))
    write_csv(folder / _TABLE, made.rows())
    make_console().print(_table(made))


def _chosen(config: MarketConfig, names: tuple[str, ...]) -> dict[str, MakePolicy]:
    from torchgym.lab.policies import baselines

    known = baselines(config)
    unknown = [repr(name) for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown policy {', '.join(unknown)}: choose from {', '.join(known)}")
    return {name: known[name] for name in names} if names else known


def _table(made: Evaluation) -> Table:
    from rich.table import Column, Table

    from torchgym.lab.performance import METRICS

    count, decisions = next(iter(made.episodes.values())).traded.shape
    metrics = (METRICS[name].heading for name in _COLUMNS)
    headings = ("profit", *metrics, *_COSTS, "lead of the agent", "p (Holm)")
    table = Table(
        "policy",
        *(Column(heading, justify="right") for heading in headings),
        title=f"{count} episodes of {decisions:,} decisions, seeds from {made.seed}; means (95 % intervals), currency",
        title_justify="left",
    )
    leads = {comparison.policy: comparison for comparison in made.comparisons}
    for policy, episodes in made.episodes.items():
        profit = made.interval(policy, "profit")
        assert profit is not None  # every episode has a profit, and there are two at least
        means = (made.interval(policy, name) for name in _COLUMNS)
        paid, lead = episodes.attribution(), leads.get(policy)
        table.add_row(
            policy,
            _interval(profit.mean, profit.low, profit.high),
            *("–" if mean is None else figure(mean.mean) for mean in means),
            *(figure(0.0 - paid[name].mean().item()) for name in _COSTS),
            "" if lead is None else _interval(lead.lead, lead.low, lead.high),
            "" if lead is None else f"{lead.p_adjusted:.2g}",
        )
    return table


def _interval(mean: float, low: float, high: float) -> str:
    return f"{mean:+.1f} ({low:+.1f} … {high:+.1f})"
