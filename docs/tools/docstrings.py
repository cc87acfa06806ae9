"""What the API pages take from the source beside docstrings: a griffe extension.

Examples in docstrings are shown as code: every `>>>` session gets a fence of its own. And a field or constant without a docstring
gets the comment on its line, or the one above it: that is where shapes, dtypes and units of tensors stand.
"""

from __future__ import annotations

import io
import re
import tokenize
from functools import cache
from pathlib import Path
from typing import Any

import griffe

SESSION = re.compile(r"^(>>> .*\n?(?:(?!\s*$).+\n?)*)", flags=re.MULTILINE)


class Docstrings(griffe.Extension):
    """Changes docstrings before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **others: Any) -> None:
        """Called for every module, class, function and attribute that was found."""
        if obj.docstring is None and isinstance(obj, griffe.Attribute):
            comment = comment_of(obj)
            if comment:
                obj.docstring = griffe.Docstring(comment, lineno=obj.lineno, parent=obj)
        elif obj.docstring is not None and ">>> " in obj.docstring.value:
            text = SESSION.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", obj.docstring.value)
            obj.docstring.value = text


def comment_of(attribute: griffe.Attribute) -> str:
    """The comment behind an assignment, else the lines of comment right above it; empty without one."""
    if not isinstance(attribute.filepath, Path) or attribute.lineno is None:
        return ""
    behind, alone = comments(attribute.filepath)
    last = attribute.endlineno or attribute.lineno
    if last in behind:
        return sentence(behind[last])
    above: list[str] = []
    line = attribute.lineno - 1
    while line in alone:
        above.insert(0, alone[line])
        line -= 1
    return sentence(" ".join(above))


def sentence(comment: str) -> str:
    """With a capital, but for names and numbers, and square brackets that Markdown leaves alone."""
    text = comment.replace("[", "\\[").replace("*", "\\*").strip()
    first = text.split(" ")[0]
    return text[:1].upper() + text[1:] if first.isalpha() else text


@cache
def comments(path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Comments of a file by line: those behind code, and those that have a line to themselves."""
    behind: dict[int, str] = {}
    alone: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            text = re.sub(r"^#\s*(type: ignore\S*|noqa\S*)", "", token.string).strip().removeprefix("#").strip()
            if text:
                (alone if token.line.strip().startswith("#") else behind)[token.start[0]] = text
    return behind, alone
