"""`torchgym presets`: the named markets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torchgym.cli.output import make_console
from torchgym.config import PRESETS, MarketConfig, preset


@dataclass(frozen=True, kw_only=True)
class Presets:
    """List the named markets, or show in what one of them differs from the default."""

    preset: str | None = None
    """Market to show; without it, all are listed."""


def run(options: Presets) -> int:
    """Print; 0."""
    from rich.table import Table

    if options.preset is None:
        table = Table("name", "what it is and what for", title="torchgym.preset(name)", title_justify="left")
        for name, make in PRESETS.items():
            table.add_row(name, _meaning(make))
    else:
        own, usual = _flat(preset(options.preset).to_dict()), _flat(MarketConfig().to_dict())
        title = f"{options.preset}: {_meaning(PRESETS[options.preset])}"
        table = Table("setting", "default", options.preset, title=title, title_justify="left")
        for name, value in own.items():
            if value != usual.get(name):
                table.add_row(name, str(usual.get(name)), str(value))
    make_console().print(table)
    return 0


def _meaning(make: Callable[[], MarketConfig]) -> str:
    return " ".join((make.__doc__ or "").split())


def _flat(entries: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Every setting by its dotted name."""
    settings: dict[str, object] = {}
    for name, value in entries.items():
        settings |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return settings
