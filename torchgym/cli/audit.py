"""`torchgym audit`: whether a market can be cheated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchgym.cli.output import MARKS, check_device, check_memory, compilable, make_console, make_folder, write_figure
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
        found = audit(
            config,
            episodes=options.episodes,
            ticks=options.ticks,
            seed=options.seed,
            device=options.device,
            compile=compilable(options.compile),
            progress=progress,
        )
        title = f"{options.preset}: {found.episodes} episodes of {found.ticks:,} ticks, seeds from {found.seed}"
        with stage(progress, "writing"):
            write_json(folder / "audit.json", found.to_dict())
            write_figure(folder / "audit.png", audit_bars(found.rows, title))
    console = make_console()
    console.print(_audit_table(found, title))
    held = sum(row.passed for row in found.rows)
    console.print(f"{held} of {len(found.rows)} policies do what they must")
    console.print(f"written: {folder / 'audit.json'}, {folder / 'audit.png'}", soft_wrap=True)
    return 0 if found.passed else 1


def _audit_table(found: Audit, title: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("policy")
    table.add_column("profit per episode", justify="right")
    table.add_column("bp of turnover", justify="right")
    table.add_column("t", justify="right")
    table.add_column("must")
    table.add_column("found")
    table.add_column("pass")
    for row in found.rows:
        profit = f"{row.profit_mean:.2f} ± {row.profit_standard_error:.2f}"
        table.add_row(
            row.policy,
            profit,
            f"{row.profit_bp:.2f}",
            f"{row.t_statistic:.1f}",
            row.requirement,
            row.reason,
            MARKS[row.passed],
        )
    return table
