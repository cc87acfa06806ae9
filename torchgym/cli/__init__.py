"""The `torchgym` command: agents learn, are measured and shown; markets are recorded, measured, cheated and timed."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from torchgym.cli.output import INTERRUPTED

__all__ = ["main"]

# Name of each subcommand, the module that holds it, and the class of its options there.
_COMMANDS = {
    "train": ("train", "Train"),
    "evaluate": ("evaluate", "Evaluate"),
    "report": ("report", "Report"),
    "record": ("record", "Record"),
    "realism": ("realism", "Realism"),
    "audit": ("audit", "Cheats"),
    "bench": ("bench", "Bench"),
    "ladder": ("ladder", "Ladder"),
    "presets": ("presets", "Presets"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; None takes them from the command line.

    Returns:
        0, or 2 after an error that the arguments caused, told in one line, or 130 where Ctrl-C ended it. `audit` and `ladder`
        return 1 where something falls short of what it must, so that a script notices.
    """
    # Before torch is loaded: its idle threads would else spin for milliseconds on the processors that the markets' threads need.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import matplotlib  # noqa: F401 (asked for now, not after minutes of work)
        import rich  # noqa: F401
        import tyro
    except ImportError as error:
        print(f'torchgym: error: {error.name} is missing: pip install "torchgym[cli]"', file=sys.stderr)
        return 2
    words = list(sys.argv[1:] if argv is None else argv)
    known = {name: importlib.import_module(f"torchgym.cli.{module}") for name, (module, _) in _COMMANDS.items()}
    options = {name: getattr(known[name], kind) for name, (_, kind) in _COMMANDS.items()}
    try:
        chosen = tyro.extras.subcommand_cli_from_dict(
            options,
            prog="torchgym",
            description="Agent-based stock markets: train agents in them, look at what they do, measure the markets.",
            args=words,
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )
    except SystemExit as stop:  # help, or arguments that tyro has already explained
        return stop.code if isinstance(stop.code, int) else 2
    (name,) = [name for name, kind in options.items() if isinstance(chosen, kind)]
    try:
        status: int = known[name].run(chosen)
    except (ValueError, OSError) as error:
        print(f"torchgym: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("torchgym: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status
