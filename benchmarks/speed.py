"""How fast markets are on this machine: thirteen cases with targets, noise warnings and ratios to the commit measured before.

    python benchmarks/speed.py                    # under ten minutes
    python benchmarks/speed.py --cases 4 12

Rows are added to a CSV file, a picture is drawn of the cases in which markets and traders grow.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from cases import CASES, bench
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table
from settings import Settings
from speed_rows import Row, append, previous, read, speedup

from torchgym.cli.output import (
    MARKS,
    NUMBERS_PER_MARKET,
    check_memory,
    figure,
    make_console,
    option_words,
    write_figure,
)
from torchgym.cli.progress import progress_bars, stage
from torchgym.engine import check_device
from torchgym.visual.plots import BLUE, GREY

TABLE = Path(__file__).resolve().parent / "results" / "speed.csv"
_ELSEWHERE = ("output", "csv", "against")  # options that change no figure


@dataclass(frozen=True, kw_only=True)
class Args(Settings):
    output: Path = Path("runs/bench")
    """Folder of the picture, bench.png."""
    csv: Path = TABLE
    """Table to add rows to."""
    against: Path | None = None
    """Table to compare with; the default is the one that rows are added to."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure, write and print; 0, or 2 after an error that the options caused, told in one line."""
    try:
        _run(tyro.cli(Args, description=__doc__, args=words))
    except (ValueError, OSError) as error:
        print(f"speed.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _run(options: Args) -> None:
    options.check()
    check_device(options.device)
    with progress_bars(per_second=1.0) as progress:  # drawing takes time from what is measured
        most = max(options.markets, *options.batches)
        check_memory(f"{most:,} markets", most * NUMBERS_PER_MARKET)
        kept = read(options.csv) if options.csv.exists() else []
        stored = read(options.against) if options.against else kept
        options.output.mkdir(parents=True, exist_ok=True)
        command = shlex.join(["python", "benchmarks/speed.py", *option_words(options, leave_out=_ELSEWHERE)])
        rows: list[Row] = []
        for row in bench(options, command=command, progress=progress):
            rows.append(row)
            append(options.csv, [row])
        if not rows:
            raise ValueError(
                f"none of the cases {', '.join(map(str, options.cases))} can be measured on {options.device}"
            )
        with stage(progress, "writing"):
            threads = max(row.threads for row in rows)
            title = f"{rows[0].device}, {threads} threads, torch {rows[0].torch}, {rows[0].commit}"
            write_figure(options.output / "bench.png", bench_panel(rows, title))
    _print(rows, stored)
    make_console().print(f"written: {options.csv}, {options.output / 'bench.png'}", soft_wrap=True)


def _print(rows: Sequence[Row], stored: Sequence[Row]) -> None:
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


def bench_panel(rows: Sequence[Row], title: str = "") -> Figure:
    """How fast markets are, against how many there are; what a tick costs, against how many traders are in each.

    Args:
        rows: of `bench`; of these, the costs of a step in the cases where markets and where traders grow. What was
            not measured stays empty and says so.
        title: above both pictures.
    """
    figure = Figure(figsize=(10.0, 4.4), layout="constrained")
    speeds, costs = figure.subplots(1, 2)
    for axes, case, size, draw in ((speeds, 6, "markets", _speed), (costs, 7, "traders", _cost)):
        axes.spines[["top", "right"]].set_visible(False)
        seen = sorted(
            (row for row in rows if row.case == case and row.measure == "step"), key=lambda row: int(getattr(row, size))
        )
        if seen:
            draw(axes, [getattr(row, size) for row in seen], seen)
        else:
            axes.text(0.5, 0.5, "not measured", ha="center", color=GREY, transform=axes.transAxes)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def _speed(axes: Axes, markets: Sequence[int], rows: Sequence[Row]) -> None:
    """Market-steps a second, from microseconds per market and tick."""
    rates = [1e6 / row.median for row in rows]
    ends = [[1e6 / row.median - 1e6 / row.high for row in rows], [1e6 / row.low - 1e6 / row.median for row in rows]]
    axes.errorbar(markets, rates, yerr=ends, fmt="o-", color=BLUE, markersize=4, capsize=2)
    axes.set(xscale="log", yscale="log", xlabel="markets in the batch", ylabel="market-steps per second")
    axes.set_title(f"{rows[0].traders:,} traders per market, {rows[0].mode}", fontsize=11, loc="left")
    _mark_sizes(axes, markets)


def _cost(axes: Axes, traders: Sequence[int], rows: Sequence[Row]) -> None:
    """Microseconds per market and tick, beside growth in proportion to the traders."""
    costs = [row.median for row in rows]
    ends = [[row.median - row.low for row in rows], [row.high - row.median for row in rows]]
    proportional = [costs[0] * count / traders[0] for count in traders]
    axes.errorbar(traders, costs, yerr=ends, fmt="o-", color=BLUE, markersize=4, capsize=2, label="measured")
    axes.plot(traders, proportional, "--", color=GREY, label="in proportion to the traders")
    axes.set(xscale="log", yscale="log", xlabel="traders per market", ylabel="µs per market and tick")
    axes.set_title(f"{', '.join(f'{row.markets:,}' for row in rows)} markets", fontsize=11, loc="left")
    axes.legend(fontsize=8, frameon=False)
    _mark_sizes(axes, traders)


def _mark_sizes(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.grid(axis="y", alpha=0.3)


if __name__ == "__main__":
    sys.exit(main())
