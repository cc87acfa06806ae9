"""`torchgym bench`: how fast markets are on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchgym.cli.output import (
    MARKS,
    NUMBERS_PER_MARKET,
    check_device,
    check_memory,
    check_threads,
    command_line,
    figure,
    make_console,
    write_figure,
)
from torchgym.cli.progress import progress_bars, stage
from torchgym.config import preset

if TYPE_CHECKING:
    from rich.table import Table

    from torchgym.bench import Row, Settings

_STORED = Path("benchmarks/results/speed.csv")  # in a checkout of the source
_ELSEWHERE = ("output", "csv", "against")  # options that change no figure


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure speed, print it beside the targets and an earlier commit's; adds rows to speed.csv and writes bench.png."""

    cases: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
    """Numbers of the cases to measure, 1 to 12; see torchgym.bench.CASES."""
    preset: str = "default"
    """Name of the market; `torchgym presets` lists them."""
    seconds: float = 0.7
    """Seconds of a timed window; a figure is the median of five windows."""
    device: str = "cpu"
    """Device to run on, such as cpu or cuda."""
    threads: int | None = None
    """Threads of the cases that use several; the default is one per processor."""
    compile: bool = True
    """Compile the market's step: slow to start, fast to run."""
    thorough: bool = False
    """Watch the memory over 100,000 steps instead of 2,000."""
    markets: int = 1_024
    """Markets of the large batch."""
    batches: tuple[int, ...] = (64, 256, 1_024, 4_096, 16_384)
    """Markets of each batch, in the case where the batch grows."""
    traders: tuple[int, ...] = (128, 1_024, 8_192)
    """Traders per market, in the case where they grow."""
    crowd: int = 100_000
    """Traders of the one market in the case of a crowd."""
    output: Path = Path("runs/bench")
    """Folder to write to."""
    csv: Path | None = None
    """Table to add rows to; the default is speed.csv in that folder."""
    against: Path | None = None
    """Table to compare with; the default is benchmarks/results/speed.csv if it exists, else the table that rows are added to."""


def run(options: Bench) -> int:
    """Measure, write and print; 0."""
    preset(options.preset)
    with progress_bars(per_second=1.0) as progress:  # drawing takes time from what is measured
        with stage(progress, "loading"):
            from torchgym.bench import append, bench, read
            from torchgym.visual.plots import bench_panel

            settings = _settings(options)
            check_device(options.device)
        check_threads(settings.threads)
        most = max(settings.markets, *settings.batches)
        check_memory(f"{most:,} markets", most * NUMBERS_PER_MARKET)
        options.output.mkdir(parents=True, exist_ok=True)
        table, picture = options.csv or options.output / "speed.csv", options.output / "bench.png"
        kept = read(table) if table.exists() else []
        stored = read(options.against or _STORED) if options.against or _STORED.exists() else kept
        rows: list[Row] = []
        for row in bench(settings, command=command_line("bench", options, leave_out=_ELSEWHERE), progress=progress):
            rows.append(row)
            append(table, [row])
        if not rows:
            raise ValueError(
                f"none of the cases {', '.join(map(str, options.cases))} can be measured on {options.device}"
            )
        with stage(progress, "writing"):
            threads = max(row.threads for row in rows)
            title = f"{rows[0].device}, {threads} threads, torch {rows[0].torch}, {rows[0].commit}"
            write_figure(picture, bench_panel(rows, title))
    _print(rows, stored)
    make_console().print(f"written: {table}, {picture}", soft_wrap=True)
    return 0


def _settings(options: Bench) -> Settings:
    from torchgym.bench import THOROUGH_SOAK_STEPS, Settings

    names = ("cases", "preset", "seconds", "device", "compile", "markets", "batches", "traders", "crowd")
    given = {name: getattr(options, name) for name in names}
    if options.threads is not None:
        given["threads"] = options.threads
    if options.thorough:
        given["soak_steps"] = THOROUGH_SOAK_STEPS
    return Settings(**given)


def _print(rows: Sequence[Row], stored: Sequence[Row]) -> None:
    from torchgym.bench import previous

    console = make_console()
    before = previous(stored, rows[0].device, rows[0].commit)
    console.print(_table(rows, before))
    for row in rows:
        if row.note:
            console.print(f"case {row.case}, {row.measure}: {row.note}", soft_wrap=True)
    judged = [row for row in rows if row.met is not None]
    if judged:
        console.print(f"{sum(bool(row.met) for row in judged)} of {len(judged)} targets are met")
    if before:
        console.print(f"times as good as {before[-1].commit} of {before[-1].date}, measured on the same device")
    noisy = sum(bool(row.noise) for row in rows)
    if noisy:
        console.print(f"[bold red]{noisy} of {len(rows)} figures are noisy: measure again while nothing else runs[/]")


def _table(rows: Sequence[Row], before: Sequence[Row]) -> Table:
    from rich.table import Table

    from torchgym.bench import CASES, speedup

    first = rows[0]
    table = Table(title=f"{first.device}, torch {first.torch}, {first.commit}, {first.preset}", title_justify="left")
    for heading in ("case", "measure"):
        table.add_column(heading)
    for heading in ("markets", "traders", "threads", "median", "low … high"):
        table.add_column(heading, justify="right")
    table.add_column("unit")
    table.add_column("target")
    table.add_column("met")
    if before:
        table.add_column(f"vs {before[-1].commit}", justify="right")
    table.add_column("noise", style="red")
    for index, row in enumerate(rows):
        new = index == 0 or rows[index - 1].case != row.case
        if new and index:
            table.add_section()
        gain = speedup(row, before)
        table.add_row(
            f"{row.case} {CASES[row.case].name}" if new else "",
            row.measure + (" (eager)" if row.mode == "eager" else ""),
            f"{row.markets:,}",
            f"{row.traders:,}",
            str(row.threads),
            figure(row.median),
            "" if row.low == row.high else f"{figure(row.low)} … {figure(row.high)}",
            row.unit,
            row.target,
            MARKS[row.met] if row.target else "",
            *([] if not before else [f"{gain:.2f} x" if gain else ""]),
            row.noise,
        )
    return table
