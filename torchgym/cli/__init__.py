"""The `torchgym` command: trains, evaluates and shows agents; records, measures and audits markets."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from torchgym.cli.output import INTERRUPTED, NO_READER, check_numbers
from torchgym.extras import loaded, needs
from torchgym.table import guess
from torchgym.version import __version__

__all__ = ["main"]

# Name of each subcommand, the module that holds it, and the class of its options there.
_COMMANDS = {
    "train": ("train", "Train"),
    "evaluate": ("agents", "Evaluate"),
    "report": ("agents", "Report"),
    "record": ("markets", "Record"),
    "realism": ("markets", "Realism"),
    "audit": ("markets", "Cheats"),
    "ladder": ("agents", "Ladder"),
    "presets": ("markets", "Presets"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: arguments without the program's name; None takes them from the command line.

    Returns:
        0; 2 after an error that the arguments caused, reported in one line; 130 where Ctrl-C ended it; 141 where nobody reads the
        output. `audit` and `ladder` return 1 where a requirement is not met, so that scripts can notice it.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["--version"]:
        print(f"torchgym {__version__}")
        return 0
    try:
        status = _run(words)
        sys.stdout.flush()  # what is left: whether somebody reads it shows here, not when Python ends
    except BrokenPipeError:  # as in `torchgym --help | head -1`
        # Python would complain, too, when it ends and writes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    return status


def _run(arguments: list[str]) -> int:
    """Parse the arguments and run the command; an error that they caused is reported in one line."""
    try:
        with needs("the torchgym command", "torchgym[cli]"):
            import rich  # noqa: F401
            import tyro  # noqa: F401
        options = _parse(arguments)
        check_numbers(options)
        status: int = options.execute()
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
        # Of the latter, torch's allocators raise some that only words tell from others.
        phrases = ("out of memory", "can't allocate memory", "not enough memory")
        if not isinstance(error, MemoryError) and not any(phrase in str(error) for phrase in phrases):
            raise
        reason = next(iter(str(error).splitlines()), "")
        return _failed(f"not enough memory: choose fewer markets, episodes or ticks. {reason}")
    except KeyboardInterrupt:
        print("torchgym: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def _parse(arguments: list[str]) -> Any:
    """The options of the subcommand that the arguments ask for; SystemExit after help or an explanation."""
    import tyro

    def kind(name: str) -> Any:
        module, kind = _COMMANDS[name]
        return loaded(f"torchgym.cli.{module}", kind)

    if arguments and not arguments[0].startswith("-") and arguments[0] not in _COMMANDS:
        word, listed = arguments[0], ", ".join(_COMMANDS)
        raise ValueError(f"unknown command {word!r}: choose from {listed}{guess([word], _COMMANDS)}")
    if arguments and arguments[0] in _COMMANDS:
        return tyro.cli(kind(arguments[0]), prog=f"torchgym {arguments[0]}", args=arguments[1:])
    tyro.extras.subcommand_cli_from_dict(  # says which there are
        {name: kind(name) for name in _COMMANDS},
        prog="torchgym",
        description="Agent-based stock markets: train and evaluate agents, record and measure the markets. With --version"
        " alone: which release this is.",
        args=arguments,
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )
    raise SystemExit(2)


def _failed(reason: object) -> int:
    print(f"torchgym: error: {' '.join(str(reason).split())}", file=sys.stderr)
    return 2
