"""The `torchgym` command: `realism` measures a market, `audit` tries to cheat it, `bench` times it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from torchgym.cli import audit, bench, realism
from torchgym.cli.audit import Cheats
from torchgym.cli.bench import Bench
from torchgym.cli.realism import Realism

__all__ = ["Bench", "Cheats", "Realism", "main"]

# Name, options and function of each subcommand.
_COMMANDS: dict[str, tuple[type[Any], Callable[[Any], int]]] = {
    "realism": (Realism, realism.run),
    "audit": (Cheats, audit.run),
    "bench": (Bench, bench.run),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; None takes them from the command line.

    Returns:
        0, or 2 after an error that the arguments caused, told in one line. `audit` returns 1 where a policy breaks its rule, so
        that a script notices.
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
    try:
        chosen = tyro.extras.subcommand_cli_from_dict(
            {command: options for command, (options, _) in _COMMANDS.items()},
            prog="torchgym",
            description="Agent-based stock markets: how real they are, whether they can be cheated, and how fast.",
            args=None if argv is None else list(argv),
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )
    except SystemExit as stop:  # help, or arguments that tyro has already explained
        return stop.code if isinstance(stop.code, int) else 2
    (run,) = [run for options, run in _COMMANDS.values() if isinstance(chosen, options)]
    try:
        return run(chosen)
    except (ValueError, OSError) as error:
        print(f"torchgym: error: {error}", file=sys.stderr)
        return 2
