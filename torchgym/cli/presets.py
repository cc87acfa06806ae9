"""`torchgym presets`: the named markets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torchgym.cli.output import make_console
from torchgym.config import PRESETS, MarketConfig, preset


@dataclass(frozen=True, kw_only=True)
class Presets:
    """List the named markets, or tell in what one of them differs from the default."""

    preset: str | None = None
    """Market to show; without it, all are listed."""


def run(options: Presets) -> int:
    """Print; 0."""
    from rich.table import Table

    console = make_console()
    if options.preset is None:
        table = Table(title="torchgym.preset(name)", title_justify="left")
        table.add_column("name")
        table.add_column("what it is and what for")
        for name, make in PRESETS.items():
            table.add_row(name, _meaning(make))
        console.print(table)
        return 0
    own, usual = _flat(preset(options.preset)), _flat(MarketConfig())
    table = Table(title=f"{options.preset}: {_meaning(PRESETS[options.preset])}", title_justify="left")
    for heading in ("setting", "default", options.preset):
        table.add_column(heading)
    for name, value in own.items():
        if value != usual.get(name):
            table.add_row(name, str(usual.get(name)), str(value))
    console.print(table)
    return 0


def _meaning(make: Callable[[], MarketConfig]) -> str:
    return " ".join((make.__doc__ or "").split())


def _flat(config: MarketConfig) -> dict[str, object]:
    """Every setting by its dotted name."""

    def walk(entries: dict[str, object], prefix: str) -> dict[str, object]:
        found: dict[str, object] = {}
        for name, value in entries.items():
            found |= walk(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        return found

    return walk(config.to_dict(), "")
