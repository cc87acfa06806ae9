"""`torchgym audit`: whether a market can be cheated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchgym.cli.output import MARKS, check_device, compilable, make_console, make_folder, progress_bars, write_json
from torchgym.config import preset

if TYPE_CHECKING:
    from rich.table import Table

    from torchgym.audit import Audit


@dataclass(frozen=True, kw_only=True)
class Cheats:
    """Play scripted policies against a market and print what they earn; writes audit.json and audit.png."""

    preset: str = "default"
    """Which market; see torchgym.PRESETS."""
    episodes: int = 512
    """Episodes per policy."""
    ticks: int = 1_000
    """Length of an episode."""
    seed: int = 5_000_000_000_000
    """Of the first episode; the others follow."""
    device: str = "cpu"
    """Where to run, such as cuda."""
    output: Path = Path("runs/audit")
    """Folder to write to; the preset's name is added."""
    compile: bool = True
    """Compile the market's step: slow to start, fast to run."""


def run(options: Cheats) -> int:
    """Play, write and print; 1 where a policy breaks its rule, else 0."""
    from torchgym.audit import audit
    from torchgym.plots import audit_bars

    config = preset(options.preset)
    check_device(options.device)
    folder = make_folder(options.output, options.preset)
    with progress_bars() as progress:
        found = audit(
            config,
            episodes=options.episodes,
            ticks=options.ticks,
            seed=options.seed,
            device=options.device,
            compile=compilable(options.compile),
            progress=progress,
        )
    write_json(folder / "audit.json", found.to_dict())
    title = f"{options.preset}: {found.episodes} episodes of {found.ticks:,} ticks, seeds from {found.seed}"
    audit_bars(found.rows, title).savefig(folder / "audit.png", dpi=110)
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
