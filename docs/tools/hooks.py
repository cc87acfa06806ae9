"""What the site needs beside the pages: links to files of the repository lead to the API, or are plain text.

On a code host `[tick.py](../torchgym/sim/tick.py)` leads to the file; the site has pages. Where the API documents the module it
links there.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

DOCS = Path(__file__).resolve().parents[1]
OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)\s]+)\)")
DOCUMENTED = {
    module
    for page in (DOCS / "api").glob("*.md")
    for module in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
}


def on_page_markdown(markdown: str, page: Any, **others: Any) -> str:
    """Called by mkdocs for each page before it is rendered."""
    folder = PurePosixPath("docs", page.file.src_uri).parent

    def lead(found: re.Match[str]) -> str:
        text, target = found.groups()
        place = _from_root(folder, target)
        if place.parts[0] == "docs":
            return found[0]
        module = ".".join(place.with_suffix("").parts).removesuffix(".__init__")
        return f"[{text}][{module}]" if module in DOCUMENTED else text

    return OUTSIDE.sub(lead, markdown)


def _from_root(folder: PurePosixPath, target: str) -> PurePosixPath:
    """Where a relative link leads, from the root of the repository."""
    parts = list(folder.parts)
    for step in target.split("#")[0].split("/"):
        if step == "..":
            parts.pop()
        elif step:
            parts.append(step)
    return PurePosixPath(*parts)
