"""`torchgym ladder`: agents on tasks of growing difficulty, each compared with a scripted policy."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgym.cli.output import (
    INTERRUPTED,
    MARKS,
    NUMBERS_PER_MARKET,
    check_device,
    check_memory,
    command_line,
    interruptible,
    make_console,
    make_folder,
    set_threads,
    write_csv,
    write_figure,
)
from torchgym.cli.progress import progress_bars, stage
from torchgym.version import __version__

if TYPE_CHECKING:
    from rich.table import Table

    from torchgym.training.ladder import TaskSummary


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Train agents on tasks of growing difficulty and compare each with a scripted policy that knows as much.

    Writes ladder.csv, curves.csv and ladder.png. Ctrl-C saves the progress; the same command continues from there.
    """

    preset: str = "default"
    """Name of the market; `torchgym presets` lists them."""
    tasks: tuple[str, ...] = ("inventory", "exact_free", "exact", "estimate", "public")
    """Names of the tasks; see torchgym.training.ladder.TASKS."""
    seeds: int = 5
    """Trainings per task."""
    seed: int = 0
    """Seed of the first training; each following training adds 1,000."""
    episodes: int = 1_024
    """Held-out episodes on which agents and references are tested."""
    frames: int | None = None
    """Decisions per training; the default is each task's own number."""
    output: Path = Path("runs/ladder")
    """Folder for checkpoints and results; the preset's name is added."""
    results: Path | None = None
    """Folder for tables and picture; the default is the one above."""
    device: str = "cpu"
    """Device to run on, such as cpu or cuda."""
    compile: bool = True
    """Compile the market's step: slow to start, fast to run, the same numbers."""
    threads: int = 1
    """Threads of torch; networks this small gain nothing from more than one."""


def run(options: Ladder) -> int:
    """Train, write and print; 0, 1 where a task asks for more than the agents reach, 130 where Ctrl-C ended it."""
    console = make_console()
    with progress_bars() as progress:
        with stage(progress, "loading"):
            from torchgym.training.ladder import Plan, curve_rows, run_ladder, summarise
            from torchgym.visual.plots import ladder_panel

            check_device(options.device)
            set_threads(options.threads)
        names = ("preset", "tasks", "seeds", "seed", "episodes", "frames", "device", "compile")
        plan = Plan(**{name: getattr(options, name) for name in names})
        check_memory(f"{options.episodes:,} episodes", options.episodes * NUMBERS_PER_MARKET)
        folder = make_folder(options.output, options.preset)
        results = options.results or folder
        results.mkdir(parents=True, exist_ok=True)
        with interruptible() as pressed:
            made = run_ladder(plan, folder, progress=progress, stop=pressed)
        if made is None:
            console.print("saved; the same command goes on from there")
            return INTERRUPTED
        summaries = []
        for done, result in enumerate(made):
            progress("intervals", done, len(made))
            summaries.append(summarise(result))
        progress("intervals", len(made), len(made))
        with stage(progress, "writing"):
            curves = curve_rows(made)
            about = {
                "torchgym": __version__,
                "command": command_line("ladder", options, leave_out=("output", "results")),
            }
            rows = [{"preset": options.preset, **_row(summary), **about} for summary in summaries]
            write_csv(results / "ladder.csv", rows)
            write_csv(results / "curves.csv", curves)
            write_figure(results / "ladder.png", ladder_panel(summaries, curves))
    console.print(_table(summaries, options.preset))
    console.print(f"written: ladder.csv, curves.csv, ladder.png in {results}", soft_wrap=True)
    return 0 if all(summary.passed for summary in summaries) else 1


def _row(summary: TaskSummary) -> dict[str, Any]:
    return {**asdict(summary), "agent_by_training": " ".join(map(str, summary.agent_by_training))}


def _table(summaries: list[TaskSummary], preset: str) -> Table:
    from rich.table import Column, Table

    first = summaries[0]
    headings = "agent (95 %)", "worst … best training", "reference (95 %)", "share (95 %)", "frames", "minutes"
    table = Table(
        "task",
        *(Column(heading, justify="right") for heading in headings),
        *("must reach", "pass"),
        title=f"{preset}: {first.trainings} trainings per task, {first.episodes:,} held-out episodes; score per episode",
        title_justify="left",
    )
    for row in summaries:
        table.add_row(
            f"{row.task}: {row.description}",
            f"{row.agent_mean:+.1f} ({row.agent_low:+.1f} … {row.agent_high:+.1f})",
            f"{min(row.agent_by_training):+.1f} … {max(row.agent_by_training):+.1f}",
            f"{row.reference}: {row.reference_mean:+.1f} ({row.reference_low:+.1f} … {row.reference_high:+.1f})",
            "–" if math.isnan(row.share) else f"{row.share:.0%} ({row.share_low:.0%} … {row.share_high:.0%})",
            f"{row.frames:,}",
            f"{row.minutes:.1f}",
            row.needs,
            MARKS[row.passed],
        )
    return table
