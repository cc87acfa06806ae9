"""Programs on disk: one folder each, named by everything that decides their contents, in the package and in the user's cache.

What a wheel brought lies in a folder of the package, which is searched first and never written. The rest is about the cache.
A folder holds `program.json`, with a digest of itself, and the libraries of the kernels, each named by the digest of its content.
Nothing in it is ever changed: a folder is written under another name, and renamed when it is whole; a damaged one is renamed
away first. A process that has loaded a library thus keeps what it has loaded, even when the folder is deleted.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from torchgym.engine.program.document import from_document, to_document
from torchgym.engine.program.errors import reason
from torchgym.engine.program.program import Program
from torchgym.engine.program.progress import reporting, say
from torchgym.engine.program.sources import FORMAT, PACKAGE
from torchgym.files import hexdigest, read_json, write_json

PACKAGED = PACKAGE / "programs"  # what a wheel brought
_DESCRIPTION = "program.json"
_BYTES = 512 << 20  # of all programs, unless TORCHGYM_CACHE_BYTES says otherwise
_LARGEST = 256 << 20  # bytes of a file that is read
_PATIENCE = 600.0  # seconds that one process waits for another that compiles the same
_STALE = 86_400.0  # seconds after which a temporary name belongs to a process that has died
_PROGRAM, _TEMPORARY = re.compile(r"[0-9a-f]{32}"), re.compile(r"\.[0-9a-f]{32}\.(lock|turn|\w{8})")


class NotKept(Exception):
    """Programs are neither loaded from the cache folder nor kept there; says why."""


class _Damaged(Exception):
    """What lies in the cache folder is not what was written; says why."""


def cache_folder() -> Path:
    """Where programs lie: `TORCHGYM_CACHE_DIR`, else `torchgym` in the user's cache folder of this system.

    Raises:
        RuntimeError: when the user has no home folder.
    """
    if chosen := os.environ.get("TORCHGYM_CACHE_DIR"):
        return Path(chosen).absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "torchgym"


def obtain(name: str, make: Callable[[str], Program]) -> Program:
    """The program of this name: from the package or the cache folder, else made now and kept in the latter.

    Processes that want the same program at the same time make it once. A damaged one is made again and replaced, so that later
    processes load it. Where nothing can be kept, or what is there cannot be trusted, the program is made and used all the same.

    Args:
        name: its fingerprint.
        make: makes it; is given half a sentence that says where it will be kept, or why not.

    Raises:
        Exception: whatever `make` raises; nothing is left behind then.
    """
    if program := _packaged(name):
        return program
    try:
        limit, folder = _limit(), private_folder()
        with suppress(_Damaged):
            if program := _read(folder, name):
                return program
        with _alone(_lock(folder, name)):
            try:
                program = _read(folder, name)  # another process may have made it meanwhile
            except _Damaged as damage:
                program = None
                say(f"the compiled step in {folder / name} is damaged and will be replaced: {damage}")
            if program is None:
                writable = os.access(folder, os.W_OK)
                made = make(f"kept in {folder}" if writable else f"not kept: {folder} cannot be written")
                program = _keep(made, folder, name, limit)
            return program
    except NotKept as why:
        return make(f"not kept: {why}")


def find(name: str) -> Program | None:
    """The program of this name from the package or the cache folder; None where there is none that can be trusted."""
    try:
        return _packaged(name) or _read(private_folder(), name)
    except (NotKept, _Damaged):
        return None


def _packaged(name: str) -> Program | None:
    """The program of this name that a wheel brought; one that cannot be trusted or loaded is none, and one line says why."""
    place = PACKAGED / name
    try:
        if not place.exists():
            return None
        _check_private(PACKAGED, PACKAGED.stat())
        return _read(PACKAGED, name, used=False)
    except (OSError, NotKept, _Damaged) as why:
        _say_once(f"the compiled step that came with torchgym is not used: {why}")
        return None


_say_once = functools.cache(say)


def turn(name: str) -> Turn:
    """The right to start a process that makes this program; such a process may still wait for one that makes it by itself.

    Raises:
        NotKept: where there is no cache folder that processes could share.
    """
    return Turn(private_folder() / f".{name}.turn")


def clear_lock(name: str) -> None:
    """Delete what a process left behind that was killed while it made this program; nothing where another one makes it."""
    with suppress(NotKept):
        lock = Turn(_lock(private_folder(), name))
        if lock.take():
            lock.give_back()


def _lock(folder: Path, name: str) -> Path:
    """The file of the process that makes this program now."""
    return folder / f".{name}.lock"


def _limit() -> int:
    """Bytes that all programs together may take."""
    chosen = os.environ.get("TORCHGYM_CACHE_BYTES", str(_BYTES))
    if not chosen.isdecimal() or int(chosen) == 0:
        raise NotKept(f"TORCHGYM_CACHE_BYTES is {chosen!r}, and must be a positive whole number")
    return int(chosen)


def private_folder() -> Path:
    """The cache folder, made where it is missing.

    Raises:
        NotKept: where there can be none, or what is there cannot be trusted.
    """
    try:
        folder = cache_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(folder, folder.stat())
    except (OSError, RuntimeError) as error:
        raise NotKept(reason(error)) from error
    return folder


def _check_private(path: Path, status: os.stat_result) -> None:
    """Whether nobody but the user, and root, can have put there what this process would run. Not asked on Windows."""
    if not hasattr(os, "geteuid"):
        return
    owners, others = {0, os.geteuid()}, stat.S_IWGRP | stat.S_IWOTH
    if path.is_relative_to(PACKAGED):  # whoever can write the code that runs here needs no program for it
        code = PACKAGE.stat()
        owners, others = owners | {code.st_uid}, others & ~code.st_mode
    if status.st_uid not in owners:
        raise NotKept(f"{path} belongs to another user; TORCHGYM_CACHE_DIR names another folder")
    if status.st_mode & others:
        raise NotKept(
            f"{path} can be written by other users; chmod -R go-w {path} forbids it, if you trust what is there"
        )


def _read(folder: Path, name: str, *, used: bool = True) -> Program | None:
    """The program of this name, its bytes compared with digests and its numbers with bounds; None where there is none.

    Args:
        used: note that it was used now.
    """
    place = folder / name
    try:
        status = place.lstat()
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISDIR(status.st_mode):
            raise _Damaged("it is no folder")
        _check_private(place, status)
        document = read_json(_checked_file(place / _DESCRIPTION))
        if (document["format"], document["name"]) != (FORMAT, name):
            raise _Damaged("it is another program")
        program = from_document(document, lambda digest: _checked_kernel(place, digest))
        _ = program.libraries
    except (OSError, ValueError, TypeError, LookupError, AttributeError, MemoryError) as error:
        raise _Damaged(reason(error)) from error
    if used:
        with suppress(OSError):
            os.utime(place / _DESCRIPTION)  # when it was used last
    return program


def _checked_file(path: Path) -> Path:
    """A path, when an ordinary file of the user's and of a sane size lies there."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
        raise _Damaged(f"{path.name} is no file, or is too large")
    _check_private(path, status)
    return path


def _checked_kernel(place: Path, digest: object) -> Path:
    """The library whose content has this digest."""
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise _Damaged(f"{digest!r} is no digest")
    path = _checked_file(place / f"{digest}.so")
    if hexdigest([path.read_bytes()]) != digest:
        raise _Damaged(f"{path.name} does not fit its digest")
    return path


class Turn:
    """The right to make one program, which one process has at a time and loses when it ends, however that happens.

    Args:
        path: of a file that stands for it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path, thread_local=False)  # taken and given back by whichever thread steps

    def take(self, timeout: float = 0.0) -> bool:
        """Whether it is this process's turn; where files cannot be locked it always is.

        Args:
            timeout: seconds to wait for it.
        """
        try:
            self._lock.acquire(timeout=timeout, poll_interval=0.2)
        except Timeout:
            return False
        except (OSError, NotImplementedError):
            pass
        return True

    def give_back(self) -> None:
        """Let others have it; nothing where it was not taken."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._path.unlink()  # a process that waits for this file, and one that makes a new one, find the program
            self._lock.release()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While it lasts no other process is here with this path, unless it has waited for too long or files cannot be locked."""
    turn = Turn(path)
    if not turn.take():
        what = "waiting for another process that compiles the same step"
        with reporting(what, f"still {what}"):
            turn.take(_PATIENCE)
    try:
        yield
    finally:
        turn.give_back()


def _keep(program: Program, folder: Path, name: str, limit: int) -> Program:
    """Write a program, whole or not at all; as it lies there then, or the given one where it cannot be kept."""
    try:
        write(program, folder, name)
        _evict(folder, limit)
        return _read(folder, name) or program
    except (OSError, _Damaged, NotKept):  # the disk is full, or another process was first
        return program


def write(program: Program, folder: Path, name: str) -> None:
    """Write a program to a folder of its own in this folder, whole or not at all.

    Raises:
        OSError: when that fails.
    """
    with _temporary(folder, name) as temporary:
        new = temporary / "new"
        new.mkdir(mode=0o700)
        digests = [_copy_kernel(kernel, new) for kernel in program.kernels]
        write_json(new / _DESCRIPTION, {"format": FORMAT, "name": name, **to_document(program, digests)})
        (new / _DESCRIPTION).chmod(0o600)
        with suppress(FileNotFoundError):
            (folder / name).rename(temporary / "old")
        new.rename(folder / name)


def _copy_kernel(kernel: Path, to: Path) -> str:
    """Copy a library to a folder, under the digest of its content."""
    content = kernel.read_bytes()
    digest = hexdigest([content])
    copy = to / f"{digest}.so"
    copy.write_bytes(content)
    copy.chmod(0o600)
    return digest


@contextmanager
def _temporary(folder: Path, name: str) -> Iterator[Path]:
    """An empty folder beside a program, deleted at the end with all that is in it."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _evict(folder: Path, limit: int) -> None:
    """Delete what was used longest ago until the rest takes at most so many bytes, and what dead processes have left.

    Only folders that hold nothing but a program, and names that only this module gives, are ever deleted.
    """
    paths, total = list(folder.iterdir()), 0
    for _, size, path in sorted(filter(None, map(_used, paths)), reverse=True):
        total += size
        if total > limit:
            with suppress(OSError), _temporary(folder, path.name) as temporary:
                path.rename(temporary / "old")  # at once, so that no process finds half of it
    for path in paths:
        with suppress(OSError):
            if _TEMPORARY.fullmatch(path.name) and path.lstat().st_mtime < time.time() - _STALE:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


def _used(path: Path) -> tuple[float, int, Path] | None:
    """When a program was used last, its bytes and its path; None for all that is no folder of a description and libraries."""
    if not _PROGRAM.fullmatch(path.name) or path.is_symlink():
        return None
    try:
        files = {file.name: file.lstat() for file in path.iterdir()}
    except OSError:
        return None
    ours = all(
        stat.S_ISREG(status.st_mode) and (name == _DESCRIPTION or name.endswith(".so"))
        for name, status in files.items()
    )
    if not ours or _DESCRIPTION not in files:
        return None
    return files[_DESCRIPTION].st_mtime, sum(status.st_size for status in files.values()), path
