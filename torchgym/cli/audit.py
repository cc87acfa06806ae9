"""`torchgym audit`: whether a market can be cheated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchgym.cli.output import MARKS, check_device, check_memory, make_console, make_folder, write_figure
from torchgym.cli.progress import progress_bars, stage
from torchgym.config import preset
from torchgym.files import write_json

if TYPE_CHECKING:
    from rich.table import Table

    from torchgym.lab.audit import Audit


_NUMBERS_PER_EPISODE = 400  # that are kept, of all policies together


@dataclass(frozen=True, kw_only=True)
class Cheats:
    """Play scripted policies against a market and print what they earn; writes audit.json and audit.png."""

    preset: str = "default"
    """Name of the market; `torchgym presets` lists them."""
    episodes: int = 512
    """Episodes per policy."""
    ticks: int = 1_000
    """Ticks of an episode."""
    seed: int = 5_000_000_000_000
    """Seed of the first episode; the other episodes take the seeds after it."""
    device: str = "cpu"
    """Device to run on, such as cpu or cuda."""
    output: Path = Path("runs/audit")
    """Folder to write to; the preset's name is added."""
    compile: bool = True
    """Compile the market's step: slow to start, fast to run."""


def run(options: Cheats) -> int:
    """Play, write and print; 1 where a policy breaks its rule, else 0."""
    config = preset(options.preset)
    with progress_bars() as progress:
        with stage(progress, "loading"):
            from torchgym.lab.audit import audit
            from torchgym.visual.plots import audit_bars

            check_device(options.device)
        check_memory(f"{options.episodes:,} episodes", options.episodes * _NUMBERS_PER_EPISODE)
        folder = make_folder(options.output, options.preset)
        made = audit(
            config,
            episodes=options.episodes,
            ticks=options.ticks,
            seed=options.seed,
            device=options.device,
            compile=options.compile,
            progress=progress,
        )
        title = f"{options.preset}: {made.episodes} episodes of {made.ticks:,} ticks, seeds from {made.seed}"
        with stage(progress, "writing"):
            write_json(folder / "audit.json", made.to_dict())
            write_figure(folder / "audit.png", audit_bars(made.rows, title))
    console = make_console()
    console.print(_table(made, title))
    console.print(f"{sum(row.passed for row in made.rows)} of {len(made.rows)} policies do what they must")
    console.print(f"written: {folder / 'audit.json'}, {folder / 'audit.png'}", soft_wrap=True)
    return 0 if made.passed else 1


def _table(made: Audit, title: str) -> Table:
    from rich.table import Column, Table

    table = Table(
        "policy",
        *(Column(heading, justify="right") for heading in ("profit per episode", "bp of turnover", "t")),
        *("must", "found", "pass"),
        title=title,
        title_justify="left",
    )
    for row in made.rows:
        profit = f"{row.profit_mean:.2f} ± {row.profit_standard_error:.2f}"
        numbers = profit, f"{row.profit_bp:.2f}", f"{row.t_statistic:.1f}"
        table.add_row(row.policy, *numbers, row.requirement, row.reason, MARKS[row.passed])
    return table
