"""The `torchgym` command: trains, evaluates and shows agents; records, measures and audits markets."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from torchgym.cli.output import INTERRUPTED, NO_READER, check_numbers

__all__ = ["main"]

# Name of each subcommand, the module that holds it, and the class of its options there.
_COMMANDS = {
    "train": ("train", "Train"),
    "evaluate": ("evaluate", "Evaluate"),
    "report": ("report", "Report"),
    "record": ("record", "Record"),
    "realism": ("realism", "Realism"),
    "audit": ("audit", "Cheats"),
    "ladder": ("ladder", "Ladder"),
    "presets": ("presets", "Presets"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; None takes them from the command line.

    Returns:
        0, or 2 after an error that the arguments caused, told in one line, 130 where Ctrl-C ended it, or 141 where nobody reads
        the output. `audit` and `ladder` return 1 where a requirement is not met, so that scripts can notice it.
    """
    # Before torch is loaded: its idle threads would else spin for milliseconds on the processors that the markets' threads need.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import rich  # noqa: F401
        import tyro  # noqa: F401
    except ImportError as error:
        return _failed(f'{error.name} is missing: pip install "torchgym[cli]"')
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # what is left: whether somebody reads it shows here, not when Python ends
    except BrokenPipeError:  # as in `torchgym --help | head -1`
        # Python would complain, too, when it ends and writes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    return status


def _run(arguments: list[str]) -> int:
    """Parse the words and run the command; what they caused to go wrong is told in one line."""
    try:
        module, options = _parse(arguments)
        check_numbers(options)
        status: int = module.run(options)
    except SystemExit as stop:  # help, or arguments that tyro has already explained
        return stop.code if isinstance(stop.code, int) else 2
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        return _failed(error)
    except ImportError as error:
        if "pip install" not in str(error):
            raise
        return _failed(error)
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        reason = next(iter(str(error).splitlines()), "")
        return _failed(f"not enough memory: choose fewer markets, episodes or ticks. {reason}")
    except KeyboardInterrupt:
        print("torchgym: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def _parse(arguments: list[str]) -> tuple[ModuleType, Any]:
    """The module of the subcommand that the words ask for, and its options.

    Raises:
        SystemExit: after help, or after an explanation of what is wrong with the words.
    """
    import tyro

    def loaded(name: str) -> ModuleType:
        return importlib.import_module(f"torchgym.cli.{_COMMANDS[name][0]}")

    name = arguments[0] if arguments else ""
    if name in _COMMANDS:
        module, kind = loaded(name), _COMMANDS[name][1]
        return module, tyro.cli(getattr(module, kind), prog=f"torchgym {name}", args=arguments[1:])
    tyro.extras.subcommand_cli_from_dict(  # says which there are
        {known: getattr(loaded(known), kind) for known, (_, kind) in _COMMANDS.items()},
        prog="torchgym",
        description="Agent-based stock markets: train and evaluate agents, record and measure the markets.",
        args=arguments,
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )
    raise SystemExit(2)


def _lacks_memory(error: BaseException) -> bool:
    """Whether memory could not be had: torch says so by words only, those of its two allocators."""
    return isinstance(error, MemoryError) or any(
        phrase in str(error) for phrase in ("out of memory", "can't allocate memory", "not enough memory")
    )


def _failed(reason: object) -> int:
    print(f"torchgym: error: {' '.join(str(reason).split())}", file=sys.stderr)
    return 2
