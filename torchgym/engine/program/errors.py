"""What goes wrong between a function and its program, in one line."""

from __future__ import annotations

import re

_LONGEST = 200  # characters


class NotRecordable(RuntimeError):
    """A function does what no recording can repeat: it depends on values, say, or does more than launch kernels when compiled."""


def reason(error: BaseException) -> str:
    r"""Class and first meaningful line of an error, at most 200 characters.

    Torch wraps the errors of its compiler, and adds commands, logs and advice that fill pages.

    >>> reason(ValueError("the row is wrong\nmore about it"))
    'ValueError: the row is wrong'
    """
    while isinstance(wrapped := getattr(error, "inner_exception", None), BaseException):
        error = wrapped
    name, lines = type(error).__name__, [line.strip() for line in str(error).splitlines() if line.strip()]
    if name == "InvalidCxxCompiler":
        looked_for = ", ".join(re.findall(r"'([^']*)'", str(error)))
        return _cut(f"no C++ compiler ({looked_for}) was found")
    if "Output:" in lines:  # what the C++ compiler wrote, after the command that called it
        output = lines[lines.index("Output:") + 1 :]
        complaint = next((line for line in output if "error" in line), None)
        lines = [": ".join(filter(None, [lines[0], complaint]))]
    return _cut(": ".join([name, *lines[:1]]))


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
