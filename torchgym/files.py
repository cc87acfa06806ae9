"""Files that are written whole or not at all, and that are read only as what was written.

A file that torchgym reads again carries a SHA-256 digest of its content: a binary file in a last line of its own, a JSON object
in an entry. One changed bit anywhere is refused when the file is read. The digest is against accidents; it is no signature.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

_SEAL_LENGTH = len("\ntorchgym sha256 \n") + 64
_DIGEST_ENTRY = "sha256"
_PIECE = 1 << 20  # bytes read at a time


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; at the end the file there takes its place.

    When writing fails or is interrupted, what stood at `path` still does, and nothing is left beside it. The content is on the
    disk before it takes the place, so a machine that loses power has the old file or the new one.
    """
    part = part_of(path)
    try:
        yield part
        put_in_place(part, path)
    finally:
        part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """A name beside the file to write to; where `path` is a link, beside what it points to.

    A FileNotFoundError where there is no such folder.
    """
    real = Path(os.path.realpath(path))
    if not real.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"no folder to write {real.name} to", str(real.parent))
    return real.with_name(f".{real.name}.{os.getpid()}.{threading.get_ident()}.part")


def put_in_place(part: Path, path: Path) -> None:
    """The whole file, which is on the disk from now on, takes the place of what was at `path`; a link stays a link."""
    with part.open("r+b") as file:
        os.fsync(file.fileno())
    os.replace(part, os.path.realpath(path))


@contextmanager
def replacing_sealed(path: Path) -> Iterator[Path]:
    """As `replacing`, for a binary file that `open_sealed` reads: its digest is added at the end."""
    with replacing(path) as part:
        yield part
        with part.open("r+b") as file:
            file.write(_seal(file, os.fstat(file.fileno()).st_size))


@contextmanager
def open_sealed(path: Path) -> Iterator[BinaryIO]:
    """A file that `replacing_sealed` wrote, at its beginning; its content has been compared with its digest.

    Raises:
        ValueError: when the content is not what was written, or has no digest.
        OSError: when it cannot be read.
    """
    with path.open("rb") as file:
        seal = _seal(file, os.fstat(file.fileno()).st_size - _SEAL_LENGTH)
        if file.read() != seal:
            raise ValueError(
                f"{path} is damaged, or was not written by this version of torchgym: its digest does not fit"
            )
        file.seek(0)
        yield file


def _seal(file: BinaryIO, length: int) -> bytes:
    """The line after the first `length` bytes of the file, with their digest; the file then stands behind them."""
    file.seek(0)
    pieces = iter(lambda: file.read(min(_PIECE, max(length - file.tell(), 0))), b"")
    return f"\ntorchgym sha256 {hexdigest(pieces)}\n".encode()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object that JSON can say, with its digest; not-a-number is refused."""
    document = {**content, _DIGEST_ENTRY: _digest_of_json(content)}
    with replacing(path) as part:
        part.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def finite(tree: Any) -> Any:
    """The tree of dictionaries and lists with None for every number that is not finite, which JSON has no name for."""
    if isinstance(tree, dict):
        return {name: finite(child) for name, child in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(child) for child in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def read_json(path: Path, entries: Iterable[str] = ()) -> dict[str, Any]:
    """The object that `write_json` wrote.

    Args:
        path: of the file.
        entries: that it must have.

    Raises:
        ValueError: when the file is no such object, its content is not what was written, or it lacks entries.
        OSError: when it cannot be read.
    """
    try:
        document = json.loads(path.read_bytes())
        intact = isinstance(document, dict) and document.pop(_DIGEST_ENTRY, None) == _digest_of_json(document)
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested without end
        raise ValueError(f"{path} is damaged, or no JSON file: {error}") from error
    if not intact:
        raise ValueError(
            f"{path} is damaged or was edited: its digest (entry {_DIGEST_ENTRY!r}) does not fit its content"
        )
    missing = [name for name in entries if name not in document]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return document


def _digest_of_json(content: Mapping[str, Any]) -> str:
    # The order of entries counts, white space does not. Through JSON, so that tuples and lists are the same.
    return hexdigest([json.dumps(content, separators=(",", ":"), allow_nan=False).encode()])


def hexdigest(parts: Iterable[bytes]) -> str:
    """SHA-256 of these bytes in a row, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
