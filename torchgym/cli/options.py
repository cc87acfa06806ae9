"""Options that several subcommands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from torchgym.engine import Compile

_MEANING = (
    "When to compile the market's step; the numbers are the same. auto: step at once, change over when another process has"
    " compiled it. yes: compile first, and wait. no: never, which is many times slower. On a GPU auto does not compile: say"
    " yes there."
)
CompileOption = Annotated[Literal["auto", "yes", "no"], tyro.conf.arg(help=_MEANING)]
COMPILE: dict[str, Compile] = {"auto": "auto", "yes": True, "no": False}  # as `torchgym.Market` takes it
