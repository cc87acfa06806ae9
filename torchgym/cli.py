"""The `torchgym` command: `torchgym realism` measures a market, `torchgym audit` tries to cheat it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchgym.config import preset

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from torchgym.audit import Audit
    from torchgym.realism import Criterion, Null, Scorecard, Verdict

Progress = Callable[[str, int, int], None]

_WIDTH = 170  # columns
_MARKS = {True: "[green]pass[/]", False: "[bold red]FAIL[/]", None: "-"}


@dataclass(frozen=True, kw_only=True)
class Realism:
    """Run a market and print which stylised facts it shows; writes scorecard.json and panel.png."""

    preset: str = "default"
    """Which market; see torchgym.PRESETS."""
    markets: int = 64
    """How many markets to measure."""
    ticks: int = 16_384
    """Ticks to measure in each, a multiple of 4; 1,000 more come before."""
    burn_in: int = 1_000
    """Ticks that come before and are not measured."""
    seed: int = 9_000_000_000
    """Of the first market; the others follow."""
    symbols: int = 1
    """Symbols per market."""
    impact: bool = True
    """Also send the paired orders of the impact facts."""
    nulls: bool = True
    """Also run the market of noise traders alone, as a null model."""
    resamples: int = 50
    """Of the block bootstrap; 0 leaves the intervals out."""
    output: Path = Path("runs/realism")
    """Folder to write to; the preset's name is added."""
    compile: bool = True
    """Compile the market's step: slow to start, fast to run."""
    device: str = "cpu"
    """Where to run, such as cuda."""


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
    output: Path = Path("runs/audit")
    """Folder to write to; the preset's name is added."""
    compile: bool = True
    """Compile the market's step: slow to start, fast to run."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; None takes them from the command line.

    Returns:
        0, or 2 after an error that the arguments caused, told in one line. `audit` returns 1 where a policy breaks its rule, so
        that a script notices.
    """
    try:
        import matplotlib  # noqa: F401 (asked for now, not after minutes of work)
        import rich  # noqa: F401
        import tyro
    except ImportError as error:
        print(f'torchgym: error: {error.name} is missing: pip install "torchgym[cli]"', file=sys.stderr)
        return 2
    try:
        chosen: Realism | Cheats = tyro.extras.subcommand_cli_from_dict(
            {"realism": Realism, "audit": Cheats},
            prog="torchgym",
            description="Agent-based stock markets: how real they are, and whether they can be cheated.",
            args=None if argv is None else list(argv),
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )
    except SystemExit as stop:  # help, or arguments that tyro has already explained
        return stop.code if isinstance(stop.code, int) else 2
    try:
        return _realism(chosen) if isinstance(chosen, Realism) else _audit(chosen)
    except (ValueError, OSError) as error:
        print(f"torchgym: error: {error}", file=sys.stderr)
        return 2


# --- torchgym realism


def _realism(options: Realism) -> int:
    from torchgym.plots import realism_panel
    from torchgym.realism import scorecard

    config = preset(options.preset, num_symbols=options.symbols)
    _check_device(options.device)
    folder = _folder(options.output, options.preset)
    empty = None
    if options.nulls and options.preset != "zero_intelligence":
        empty = preset("zero_intelligence", num_symbols=options.symbols)
    with _progress() as progress:
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
    card_as_dict = card.to_dict()
    _write_json(folder / "scorecard.json", card_as_dict)
    console = _console()
    title = f"{card.name}: {card.markets} markets x {card.ticks:,} ticks, seeds from {card.seed}"
    realism_panel(card_as_dict["curves"], title).savefig(folder / "panel.png", dpi=110)
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
    table.add_row(f"[bold]{fact.number} {fact.name}[/]", fact.tier, "", "", "", "", "", _MARKS[verdict.passed])
    for found in verdict.measures:
        band = _between((found.low, found.high) if found.count > 1 else None)
        interval = _between(found.interval)
        inside = "" if found.passed is None or found.count == 1 else f"{100.0 * found.inside:.0f} %"
        entry = found.criterion
        told = (_number(found.median), interval, band, _criterion(entry), inside, _MARKS[found.passed])
        table.add_row(f"  {entry.meaning}", "", *told)


def _between(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{_number(ends[0])} … {_number(ends[1])}"


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


# --- torchgym audit


def _audit(options: Cheats) -> int:
    from torchgym.audit import audit
    from torchgym.plots import audit_bars

    config = preset(options.preset)
    folder = _folder(options.output, options.preset)
    with _progress() as progress:
        found = audit(
            config,
            episodes=options.episodes,
            ticks=options.ticks,
            seed=options.seed,
            compile=options.compile,
            progress=progress,
        )
    _write_json(folder / "audit.json", found.to_dict())
    title = f"{options.preset}: {found.episodes} episodes of {found.ticks:,} ticks, seeds from {found.seed}"
    audit_bars(found.rows, title).savefig(folder / "audit.png", dpi=110)
    console = _console()
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
            _MARKS[row.passed],
        )
    return table


# --- what both need


def _check_device(name: str) -> None:
    """Nothing, where the device is there.

    Raises:
        ValueError: where it is not.
    """
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # the latter from a build without CUDA
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error


def _folder(output: Path, name: str) -> Path:
    """The folder to write to, made before minutes of work are spent.

    Raises:
        OSError: when it cannot be made.
    """
    folder = output / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _console() -> Console:
    """Standard output, as wide as the tables need where it is not a terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDTH)


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar per stage, on stderr, gone at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)

        yield tell


def _number(value: float) -> str:
    """Three significant digits.

    >>> _number(0.12345), _number(1234.5), _number(float("nan"))
    ('0.123', '1234', 'undefined')
    """
    if not math.isfinite(value):
        return "undefined"
    return f"{value:.0f}" if abs(value) >= 1000.0 else f"{value:.3g}"
