"""`torchgym realism`: which stylised facts a market shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchgym.cli.output import (
    MARKS,
    check_device,
    check_memory,
    make_console,
    make_folder,
    number,
    write_figure,
)
from torchgym.cli.progress import progress_bars, stage
from torchgym.config import preset
from torchgym.files import write_json

if TYPE_CHECKING:
    from rich.table import Table

    from torchgym.lab.realism import MeasureVerdict, Null, Scorecard


_NUMBERS_PER_TICK = 10  # that are kept of every market and symbol


@dataclass(frozen=True, kw_only=True)
class Realism:
    """Run a market and print which stylised facts it shows; writes scorecard.json and panel.png."""

    preset: str = "default"
    """Name of the market; `torchgym presets` lists them."""
    markets: int = 64
    """Number of markets."""
    ticks: int = 16_384
    """Measured ticks of each market, a multiple of 4."""
    burn_in: int = 1_000
    """Ticks before those, which are not measured."""
    seed: int = 9_000_000_000
    """Seed of the first market; the other markets take the seeds after it."""
    symbols: int = 1
    """Symbols per market."""
    impact: bool = True
    """Also measure price impact, for facts 12 and 13."""
    nulls: bool = True
    """Also run a market of noise traders alone, as a null model."""
    resamples: int = 50
    """Resamples of the block bootstrap; 0 leaves the intervals out."""
    output: Path = Path("runs/realism")
    """Folder to write to; the preset's name is added."""
    compile: bool = True
    """Compile the market's step: slow to start, fast to run."""
    device: str = "cpu"
    """Device to run on, such as cpu or cuda."""


def run(options: Realism) -> int:
    """Measure, write and print; 0."""
    config = preset(options.preset, num_symbols=options.symbols)
    empty = None
    if options.nulls and options.preset != "zero_intelligence":
        empty = preset("zero_intelligence", num_symbols=options.symbols)
    with progress_bars() as progress:
        with stage(progress, "loading"):
            from torchgym.lab.realism import scorecard
            from torchgym.visual.plots import realism_panel

            check_device(options.device)
        check_memory(
            f"{options.markets:,} markets of {options.ticks + options.burn_in:,} ticks",
            options.markets * options.symbols * (options.ticks + options.burn_in) * _NUMBERS_PER_TICK,
        )
        folder = make_folder(options.output, options.preset)
        card = scorecard(
            config,
            name=options.preset,
            markets=options.markets,
            ticks=options.ticks,
            burn_in=options.burn_in,
            seed=options.seed,
            impact=options.impact,
            resamples=options.resamples,
            zero_intelligence=empty,
            compile=options.compile,
            device=options.device,
            progress=progress,
        )
        title = f"{card.name}: {card.markets} markets x {card.ticks:,} ticks, seeds from {card.seed}"
        with stage(progress, "writing"):
            card_as_dict = card.to_dict()
            write_json(folder / "scorecard.json", card_as_dict)
            write_figure(folder / "panel.png", realism_panel(card_as_dict["curves"], title))
    console = make_console()
    console.print(_table(card, title))
    console.print(_counts_line(card))
    for null in card.nulls:
        console.print(_null_line(null))
    console.print(f"written: {folder / 'scorecard.json'}, {folder / 'panel.png'}", soft_wrap=True)
    return 0


def _table(card: Scorecard, title: str) -> Table:
    from rich.table import Column, Table

    table = Table(
        *("fact and its measures", "tier"),
        *(Column(heading, justify="right") for heading in ("median", "90 % interval", "5-95 % of markets")),
        "must be",
        Column("inside", justify="right"),
        "pass",
        title=title,
        title_justify="left",
    )
    for verdict in card.verdicts:
        fact, mark = verdict.fact, MARKS[verdict.passed]
        name = f"{fact.number} {fact.name}"
        name = f"{name}: not applicable" if verdict.passed is None else f"[bold]{name}[/]"
        table.add_row(name, fact.tier, "", "", "", "", "", mark)
        for measured in () if verdict.passed is None else verdict.measures:
            table.add_row(*_row(measured))
        table.add_section()
    return table


def _row(measured: MeasureVerdict) -> tuple[str, ...]:
    entry, several = measured.criterion, measured.count > 1
    return (
        f"  {entry.meaning}",
        "",
        number(measured.median),
        _between(measured.interval),
        _between((measured.low, measured.high) if several else None),
        f"{entry.unit} (not judged)".strip() if entry.share is None else entry.text,
        f"{100.0 * measured.inside:.0f} %" if several and measured.passed is not None else "",
        MARKS[measured.passed],
    )


def _between(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{number(ends[0])} … {number(ends[1])}"


def _counts_line(card: Scorecard) -> str:
    parts = []
    for tier, counts in card.counts().items():
        judged = counts["passed"] + counts["failed"]
        left = f" ({counts['not applicable']} not applicable)" if counts["not applicable"] else ""
        parts.append(f"{tier}: {counts['passed']} of {judged} facts hold{left}")
    return "; ".join(parts)


def _null_line(null: Null) -> str:
    must = "facts " + ", ".join(map(str, null.must_fail)) if null.must_fail else "an M fact"
    fails = ", ".join(map(str, null.failed)) or "none"
    mark = "as it does" if null.as_expected else "[bold red]and does NOT[/]"
    return f"null model {null.name} ({null.meaning}) fails facts {fails}; it must fail {must}, {mark}"
