"""`torchgym ladder`: whether an agent learns what there is to learn, rung by rung."""

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
    compilable,
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

    from torchgym.training.ladder import Step


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Train agents on tasks of growing difficulty and compare each with a scripted policy that knows as much.

    Writes ladder.csv, curves.csv and ladder.png. Ctrl-C saves where it stands; the same command goes on from there.
    """

    preset: str = "default"
    """Name of the market; `torchgym presets` lists them."""
    rungs: tuple[str, ...] = ("inventory", "exact_free", "exact", "estimate", "public")
    """Names of the tasks; see torchgym.training.ladder.RUNGS."""
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
    """Climb, write and print; 0, 1 where a rung asks for more than the agents reach, 130 where Ctrl-C ended it."""
    console = make_console()
    with progress_bars() as progress:
        with stage(progress, "loading"):
            from torchgym.training.ladder import Plan, climb, curve_rows, summarise
            from torchgym.visual.plots import ladder_panel

            check_device(options.device)
            set_threads(options.threads)
        names = ("preset", "rungs", "seeds", "seed", "episodes", "frames", "device")
        plan = Plan(**{name: getattr(options, name) for name in names}, compile=compilable(options.compile))
        check_memory(f"{options.episodes:,} episodes", options.episodes * NUMBERS_PER_MARKET)
        folder = make_folder(options.output, options.preset)
        results = options.results or folder
        results.mkdir(parents=True, exist_ok=True)
        with interruptible() as pressed:
            climbed = climb(plan, folder, progress=progress, stop=pressed)
        if climbed is None:
            console.print("saved; the same command goes on from there")
            return INTERRUPTED
        steps = []
        for done, rung in enumerate(climbed):
            progress("intervals", done, len(climbed))
            steps.append(summarise(rung))
        progress("intervals", len(climbed), len(climbed))
        with stage(progress, "writing"):
            curves = curve_rows(climbed)
            about = {
                "torchgym": __version__,
                "command": command_line("ladder", options, leave_out=("output", "results")),
            }
            write_csv(results / "ladder.csv", [{"preset": options.preset, **_row(step), **about} for step in steps])
            write_csv(results / "curves.csv", curves)
            write_figure(results / "ladder.png", ladder_panel(steps, curves))
    console.print(_table(steps, options.preset))
    console.print(f"written: ladder.csv, curves.csv, ladder.png in {results}", soft_wrap=True)
    return 0 if all(step.passed for step in steps) else 1


def _row(step: Step) -> dict[str, Any]:
    return {**asdict(step), "agent_by_training": " ".join(str(mean) for mean in step.agent_by_training)}


def _table(steps: list[Step], preset: str) -> Table:
    from rich.table import Table

    first = steps[0]
    table = Table(
        title=f"{preset}: {first.trainings} trainings per rung, {first.episodes:,} held-out episodes; score per episode",
        title_justify="left",
    )
    table.add_column("rung")
    for heading in ("agent (95 %)", "worst … best training", "reference (95 %)", "share (95 %)"):
        table.add_column(heading, justify="right")
    table.add_column("frames", justify="right")
    table.add_column("minutes", justify="right")
    table.add_column("must reach")
    table.add_column("pass")
    for step in steps:
        table.add_row(
            f"{step.rung}: {step.description}",
            f"{step.agent_mean:+.1f} ({step.agent_low:+.1f} … {step.agent_high:+.1f})",
            f"{min(step.agent_by_training):+.1f} … {max(step.agent_by_training):+.1f}",
            f"{step.reference}: {step.reference_mean:+.1f} ({step.reference_low:+.1f} … {step.reference_high:+.1f})",
            "–" if math.isnan(step.share) else f"{step.share:.0%} ({step.share_low:.0%} … {step.share_high:.0%})",
            f"{step.frames:,}",
            f"{step.minutes:.1f}",
            step.needs,
            MARKS[step.passed],
        )
    return table
