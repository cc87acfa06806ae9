"""`torchgym realism`: which stylised facts a market shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchgym.cli.output import (
    MARKS,
    check_device,
    check_memory,
    compilable,
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

    from torchgym.lab.realism import Criterion, Null, Scorecard, Verdict


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
            compile=compilable(options.compile),
            device=options.device,
            progress=progress,
        )
        title = f"{card.name}: {card.markets} markets x {card.ticks:,} ticks, seeds from {card.seed}"
        with stage(progress, "writing"):
            card_as_dict = card.to_dict()
            write_json(folder / "scorecard.json", card_as_dict)
            write_figure(folder / "panel.png", realism_panel(card_as_dict["curves"], title))
    console = make_console()
    console.print(_scorecard_table(card, title))
    console.print(_counts_line(card))
    for null in card.nulls:
        console.print(_null_line(null))
    console.print(f"written: {folder / 'scorecard.json'}, {folder / 'panel.png'}", soft_wrap=True)
    return 0


def _scorecard_table(card: Scorecard, title: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for heading, side in (
        ("fact and its measures", "left"),
        ("tier", "left"),
        ("median", "right"),
        ("90 % interval", "right"),
        ("5-95 % of markets", "right"),
        ("must be", "left"),
        ("inside", "right"),
        ("pass", "left"),
    ):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    for verdict in card.verdicts:
        _add_fact(table, verdict)
        table.add_section()
    return table


def _add_fact(table: Table, verdict: Verdict) -> None:
    fact = verdict.fact
    if verdict.passed is None:
        table.add_row(f"{fact.number} {fact.name}: not applicable", fact.tier, "", "", "", "", "", "-")
        return
    table.add_row(f"[bold]{fact.number} {fact.name}[/]", fact.tier, "", "", "", "", "", MARKS[verdict.passed])
    for found in verdict.measures:
        band = _between((found.low, found.high) if found.count > 1 else None)
        interval = _between(found.interval)
        inside = "" if found.passed is None or found.count == 1 else f"{100.0 * found.inside:.0f} %"
        entry = found.criterion
        told = (number(found.median), interval, band, _criterion(entry), inside, MARKS[found.passed])
        table.add_row(f"  {entry.meaning}", "", *told)


def _between(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{number(ends[0])} … {number(ends[1])}"


def _criterion(entry: Criterion) -> str:
    return entry.text if entry.share is not None else f"{entry.unit} (told)".strip()


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
