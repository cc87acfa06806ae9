"""Programs on disk: whatever happens to the cache folder, a process computes the same numbers, or makes the program itself."""

from __future__ import annotations

import copy
import errno
import os
import random
import resource
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from kernels import Missing, answers, computed, load, of_two_kernels, started

from torchgym.engine import program as programs
from torchgym.engine.program import Program, store
from torchgym.files import read_json, write_json

NAME, OTHER = "0123456789abcdef" * 2, "f" * 32


@pytest.fixture(scope="module")
def program() -> Program:
    return of_two_kernels()


@pytest.fixture(scope="module")
def healthy(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the program under both names. To be copied, not changed."""
    folder = tmp_path_factory.mktemp("healthy") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHGYM_CACHE_DIR", str(folder))
        for name in (NAME, OTHER):
            programs.obtain(name, lambda kept: program)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that is not there yet."""
    monkeypatch.setenv("TORCHGYM_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def filled(cache: Path, healthy: Path) -> Path:
    """A cache folder of its own with both programs."""
    shutil.copytree(healthy, cache)
    return cache


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: files with their content."""
    paths = sorted(folder.rglob("*"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in paths}


def kernels(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.so"))


def test_it_lies_on_disk(program: Program, cache: Path) -> None:
    with pytest.raises(Missing, match=f"kept in {cache}"):
        load(NAME)
    kept = programs.obtain(NAME, lambda kept: program)
    assert all(kernel.parent == cache / NAME for kernel in kept.kernels)
    before = contents(cache)
    loaded = load(NAME)
    assert loaded == kept and computed(loaded) == computed(program)
    assert contents(cache) == before
    assert [path.name for path in cache.iterdir()] == [NAME]


def test_the_program_of_another_name_is_refused(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(filled / NAME)
    (filled / OTHER).rename(filled / NAME)
    with pytest.raises(Missing):
        load(NAME)
    assert "is damaged and will be replaced: it is another program" in capsys.readouterr().err


def test_only_the_user_can_read_or_write_it(program: Program, cache: Path) -> None:
    mask = os.umask(0)
    try:
        programs.obtain(NAME, lambda kept: program)
    finally:
        os.umask(mask)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (cache, *cache.rglob("*"))}
    assert modes == {path: 0o700 if path.is_dir() else 0o600 for path in modes}


Damage = Callable[[Path], object]  # to the folder of a program


def flip(name: str, bit: int, here: Path) -> None:
    content = bytearray((here / name).read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    (here / name).write_bytes(content)


def cut(name: str, length: int, here: Path) -> None:
    """Or lengthen, by zeros that take no space."""
    os.truncate(here / name, length)


def overwrite(name: str, content: bytes, here: Path) -> None:
    (here / name).write_bytes(content)


def exchange(one: str, other: str, here: Path) -> None:
    (here / one).rename(here / "between")
    (here / other).rename(here / one)
    (here / "between").rename(here / other)


def supplant(make: Callable[[Path], object], name: str, here: Path) -> None:
    """Something else in place of a file, or of the folder where the name is a point."""
    path = here if name == "." else here / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make(path)


def nothing(path: Path) -> None:
    """Nothing is there."""


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def damages(place: Path, seed: int) -> Iterator[Damage]:
    """What may happen to the folder of a program on a disk."""
    draw = random.Random(seed)
    files = {path.name: path.read_bytes() for path in sorted(place.iterdir())}
    for name, content in files.items():
        size = len(content)
        yield from (partial(flip, name, draw.randrange(8 * size)) for _ in range(25))
        lengths = (0, 1, size - 1, size + 4096, 1 << 40, *(draw.randrange(size) for _ in range(8)))
        yield from (partial(cut, name, length) for length in lengths)
        yield from (partial(overwrite, name, other) for other in (draw.randbytes(size), bytes(size)))
        yield from (partial(supplant, make, name) for make in (nothing, Path.mkdir, os.mkfifo, link_to_itself))
        for other in files:
            if other != name:
                yield partial(exchange, name, other)
                yield partial(overwrite, name, files[other])
    texts = (b"{", b"[]", b"null", b"0", b"{}", b"[" * 100_000, b'{"sha256": 1e999}', b"\xed\xa0\x80", b"9" * 9_999)
    stranger = place.parent / OTHER
    for text in (*texts, (stranger / "program.json").read_bytes()):
        yield partial(overwrite, "program.json", text)
    link, copy_stranger = partial(os.symlink, place), partial(shutil.copytree, stranger)
    for make in (Path.touch, Path.mkdir, os.mkfifo, link_to_itself, link, copy_stranger):
        yield partial(supplant, make, ".")


def ways(tree: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """How to come to each value of a document from JSON, lists and objects among them."""
    if way:
        yield way
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from ways(value, (*way, key))


WILD: tuple[Any, ...] = (-1, 1 << 40, 1 << 70, 0.5, True, None, "x", "../../x", [], [-1], {})


def forge(document: dict[str, Any], way: tuple[Any, ...], values: list[Any], here: Path) -> None:
    """Replace a value of the description, or leave it out; the digest of the description fits."""
    changed = copy.deepcopy(document)
    parent = changed
    for key in way[:-1]:
        parent = parent[key]
    if values:
        parent[way[-1]] = values[0]
    else:
        parent.pop(way[-1])
    write_json(here / "program.json", changed)


def forgeries(place: Path) -> Iterator[Damage]:
    """Every value of the description in turn is what it cannot be. (A program that launches nothing is one.)"""
    document = read_json(place / "program.json")
    for at, way in enumerate(ways(document)):
        if way != ("calls",):
            yield from (partial(forge, document, way, [WILD[(at + shift) % len(WILD)]]) for shift in (0, 5, 7))
        if way[0] != "calls" or len(way) > 2:
            yield partial(forge, document, way, [])


_LOAD_ALL = """
import os, sys
from pathlib import Path
from kernels import Missing, computed, load
for folder in sorted(Path(sys.stdin.readline().strip()).iterdir(), key=lambda path: int(path.name)):
    os.environ["TORCHGYM_CACHE_DIR"] = str(folder)
    try:
        result = computed(load(%r))
    except Missing:
        result = "refused"
    except ValueError as error:  # from binding it: it has other inputs
        result = "refused"
    print(folder.name, result, flush=True)
"""


def outcomes(tmp_path: Path, healthy: Path, damaging: Iterator[Damage]) -> list[str]:
    """What a process makes of each damaged folder: "refused", or the digest of what it computes."""
    count = 0
    for count, damage in enumerate(damaging, 1):
        shutil.copytree(healthy / NAME, tmp_path / "all" / str(count) / NAME)
        damage(tmp_path / "all" / str(count) / NAME)
    for folder in (tmp_path / "all").iterdir():
        folder.chmod(0o700)
    process = started(_LOAD_ALL % NAME, tmp_path)
    assert process.stdin is not None
    process.stdin.write(f"{tmp_path / 'all'}\n")
    process.stdin.flush()
    ((status, text, errors),) = answers([process])
    results = [line.split()[1] for line in text.splitlines()]
    assert (status, len(results)) == (0, count), f"died of {len(results) + 1}: {errors[-2000:]}"
    return results


def test_no_damage_gives_other_numbers_or_ends_the_process(tmp_path: Path, healthy: Path, program: Program) -> None:
    results = outcomes(tmp_path, healthy, damages(healthy / NAME, 0))
    assert set(results) == {"refused", computed(program)}
    assert len(results) > 150 and results.count("refused") > 0.9 * len(results)  # white space does not matter, say


def test_no_number_of_a_description_is_believed(tmp_path: Path, healthy: Path, program: Program) -> None:
    results = outcomes(tmp_path, healthy, forgeries(healthy / NAME))
    assert set(results) <= {"refused", computed(program)}
    assert len(results) > 300 and results.count("refused") > 0.95 * len(results)


_OBTAIN = """
import sys, time
from kernels import built, computed
from torchgym.engine import program as programs
def make(kept):
    print("made")
    time.sleep(1.0)
    return built()
print(computed(programs.obtain(%r, make)))
"""


def test_a_damaged_program_is_repaired_once(cache: Path) -> None:
    """By the next process; those after it load what it left."""

    def process() -> tuple[list[str], str]:
        ((status, text, errors),) = answers([started(_OBTAIN % NAME, cache)])
        assert status == 0, errors
        return text.splitlines(), errors

    (made, numbers), errors = process()
    assert made == "made" and "damaged" not in errors
    whole = set(contents(cache))
    assert process() == ([numbers], "")
    (kernel,) = kernels(cache / NAME)
    os.truncate(kernel, 100)
    result, errors = process()
    assert result == ["made", numbers]
    assert errors == (
        f"torchgym: the compiled step in {cache / NAME} is damaged and will be replaced: "
        f"{kernel.name} does not fit its digest\n"
    )
    assert process() == ([numbers], "")
    assert set(contents(cache)) == whole


@pytest.mark.parametrize(
    "damage",
    [
        partial(supplant, nothing, "program.json"),
        partial(supplant, Path.mkdir, "program.json"),
        partial(supplant, Path.touch, "."),
        partial(supplant, link_to_itself, "."),
    ],
)
def test_whatever_lies_there_is_replaced(damage: Damage, filled: Path, program: Program) -> None:
    before = contents(filled)
    damage(filled / NAME)
    kept = programs.obtain(NAME, lambda kept: program)
    assert load(NAME) == kept and kept.kernels[0].parent == filled / NAME
    assert contents(filled) == before


def test_what_was_loaded_outlives_its_folder(filled: Path, program: Program) -> None:
    loaded = load(NAME)
    shutil.rmtree(filled)
    assert computed(loaded) == computed(program)


def test_processes_that_start_together_compile_once(cache: Path) -> None:
    results = answers([started(_OBTAIN % NAME, cache) for _ in range(3)])
    assert [status for status, _, _ in results] == [0, 0, 0], results
    assert sorted(text.splitlines()[:-1] for _, text, _ in results) == [[], [], ["made"]]
    assert len({text.splitlines()[-1] for _, text, _ in results}) == 1
    assert [path.name for path in cache.iterdir()] == [NAME]


def test_a_process_that_waits_says_so(filled: Path) -> None:
    with FileLock(filled / f".{NAME}.lock"):
        place = filled / NAME
        place.rename(filled / "away")
        process = started(_OBTAIN % NAME, filled)
        assert process.stderr is not None
        line = process.stderr.readline()
        (filled / "away").rename(place)
    assert line == "torchgym: waiting for another process that compiles the same step\n"
    ((status, text, _),) = answers([process])
    assert status == 0 and "made" not in text


def test_a_process_that_died_holds_up_nobody(cache: Path, program: Program) -> None:
    code = f"""
import os, signal
from torchgym.engine import program as programs
programs.obtain({NAME!r}, lambda kept: os.kill(os.getpid(), signal.SIGKILL))
"""
    ((status, _, _),) = answers([started(code, cache)])
    assert status == -9
    assert list(cache.iterdir()) == [cache / f".{NAME}.lock"]
    assert programs.obtain(NAME, lambda kept: program).kernels[0].parent == cache / NAME
    assert [path.name for path in cache.iterdir()] == [NAME]


def test_the_lock_of_a_process_that_was_killed_can_be_cleared(cache: Path) -> None:
    """One that is held stays where it is."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = cache / f".{NAME}.lock"
    with FileLock(lock):
        programs.clear_lock(NAME)
        assert lock.exists()
    lock.touch()
    programs.clear_lock(NAME)
    assert list(cache.iterdir()) == []


def test_nobody_waits_for_ever(cache: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_PATIENCE", 0.2)
    cache.mkdir(mode=0o700)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with FileLock(cache / f".{NAME}.lock"):
            held.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    try:
        assert programs.obtain(NAME, lambda kept: program).kernels[0].parent == cache / NAME
    finally:
        done.set()
        holder.join()


@pytest.mark.parametrize("failure", [OSError(errno.EROFS, "read-only"), NotImplementedError("no locks here")])
def test_where_files_cannot_be_locked_every_process_compiles(
    failure: Exception, cache: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FileLock, **options: Any) -> None:
        raise failure

    monkeypatch.setattr(FileLock, "acquire", refuse)
    assert programs.obtain(NAME, lambda kept: program).kernels[0].parent == cache / NAME


@pytest.mark.parametrize("failure", [ValueError("no"), MemoryError(), OSError(28, "full"), KeyboardInterrupt()])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_compilation_that_fails_leaves_nothing(
    failure: BaseException, damaged: bool, filled: Path, program: Program
) -> None:
    if damaged:
        os.truncate(filled / NAME / "program.json", 9)
    else:
        shutil.rmtree(filled / NAME)
    before = contents(filled)

    def make(kept: str) -> Program:
        raise failure

    with pytest.raises(type(failure)) as raised:
        programs.obtain(NAME, make)
    assert raised.value is failure
    assert contents(filled) == before
    assert programs.obtain(NAME, lambda kept: program).kernels[0].parent == filled / NAME


@pytest.mark.parametrize("room", [0, 1_000, 10_000])
def test_a_full_disk_costs_nothing_else(room: int, filled: Path, program: Program, capsys: Any) -> None:
    """A damaged program cannot be replaced, and stays until it can."""
    os.truncate(filled / NAME / "program.json", 9)
    before = contents(filled)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        made = programs.obtain(NAME, lambda kept: program)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert made is program
    assert contents(filled) == before


def refused(cache: Path, program: Program) -> str:
    """Why nothing is kept; the program is made all the same, and the folder does not change."""
    why: list[str] = []
    before = contents(cache)

    def make(kept: str) -> Program:
        why.append(kept)
        return program

    assert programs.obtain(NAME, make) is program
    assert contents(cache) == before
    (line,) = why
    assert line.startswith("not kept: ") and "\n" not in line
    return line


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o720, 0o702, 0o1777])
def test_a_folder_that_others_may_write_is_not_trusted(mode: int, filled: Path, program: Program) -> None:
    filled.chmod(mode)
    assert f"{filled} can be written by other users; chmod -R go-w {filled}" in refused(filled, program)


@pytest.mark.parametrize("what", ["", "program.json", "*.so"])
@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_nor_is_a_program_or_file_that_others_may_write(what: str, mode: int, filled: Path, program: Program) -> None:
    path = next((filled / NAME).glob(what)) if what else filled / NAME
    path.chmod(mode)
    assert f"{path} can be written by other users" in refused(filled, program)
    assert computed(load(OTHER)) == computed(program)


@pytest.mark.parametrize("what", [".", NAME, f"{NAME}/program.json", f"{NAME}/*.so"])
def test_nor_is_what_belongs_to_somebody_else(
    what: str, filled: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = [filled] if what == "." else sorted(filled.glob(what))[:1]
    if os.geteuid() == 0:
        os.chown(path, 12_345, -1)
    else:
        another = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: another)
    assert "belongs to another user" in refused(filled, program)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o700])
def test_what_others_may_read_is_trusted(mode: int, filled: Path, program: Program) -> None:
    filled.parent.chmod(0o1777)  # as /tmp
    filled.chmod(mode)
    assert computed(load(NAME)) == computed(program)


def test_windows_knows_no_owner(filled: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.chmod(0o777)
    monkeypatch.delattr(os, "geteuid")
    assert computed(load(NAME)) == computed(program)


def test_without_a_home_folder(tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("TORCHGYM_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert refused(tmp_path, program) == "not kept: RuntimeError: Could not determine home directory."


def test_a_file_in_the_way(cache: Path, program: Program) -> None:
    cache.write_text("in the way")
    assert "FileExistsError" in refused(cache.parent, program)


def test_a_folder_that_cannot_be_written(filled: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies there is loaded; what does not is made. Root may write everywhere, hence not by its mode alone."""
    shutil.rmtree(filled / NAME)
    filled.chmod(0o555)
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    def read_only(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(FileLock, "acquire", read_only)
    monkeypatch.setattr(store.tempfile, "mkdtemp", read_only)
    assert refused(filled, program) == f"not kept: {filled} cannot be written"
    assert computed(load(OTHER)) == computed(program)


@pytest.mark.parametrize("chosen", ["0", "-1", "1e9", "many", "", " 5"])
def test_a_limit_that_is_none(chosen: str, filled: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHGYM_CACHE_BYTES", chosen)
    assert repr(chosen) in refused(filled, program)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def used(place: Path, hours_ago: float) -> Path:
    """A program's folder, used so long ago."""
    moment = time.time() - 3600.0 * hours_ago
    os.utime(place / "program.json", (moment, moment))
    return place


def test_what_was_used_longest_ago_goes_first(filled: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{index:032x}" for index in range(5)]
    for index, name in enumerate(names):
        used(shutil.copytree(filled / OTHER, filled / name), 10 - index)
    used(filled / OTHER, 8.5)
    shutil.rmtree(filled / NAME)
    assert computed(load(OTHER)) == computed(program)  # which is a use
    monkeypatch.setenv("TORCHGYM_CACHE_BYTES", str(4 * size(filled / OTHER) + 100))
    old = shutil.copytree(filled / OTHER, filled.parent / "old")
    programs.obtain(NAME, lambda kept: program)
    assert {path.name for path in filled.iterdir()} == {NAME, OTHER, *names[3:]}
    assert size(filled) <= 4 * size(old) + 100


def test_nothing_but_programs_is_ever_deleted(filled: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    place = shutil.copytree(filled / OTHER, filled.parent / "place")
    strangers = {
        "notes": lambda path: shutil.copytree(place, path),  # another name
        "a" * 32: lambda path: (shutil.copytree(place, path) / "thesis.txt").write_text("mine"),
        "b" * 32: lambda path: (shutil.copytree(place, path) / "folder").mkdir(),
        "c" * 32: lambda path: path.write_text("a file"),
        "d" * 32: lambda path: path.symlink_to(place),
        "e" * 32: lambda path: path.mkdir(),
        "9" * 31: lambda path: shutil.copytree(place, path),
        ".hidden": lambda path: path.mkdir(),
        f".{NAME}.note": lambda path: path.write_text("mine"),
        "tmpabcdefgh": lambda path: path.mkdir(),
    }
    for name, make in strangers.items():
        make(filled / name)
        os.utime(filled / name, (0.0, 0.0), follow_symlinks=False)
    shutil.rmtree(filled / NAME)
    monkeypatch.setenv("TORCHGYM_CACHE_BYTES", "1")
    assert programs.obtain(NAME, lambda kept: program) is program
    assert {path.name for path in filled.iterdir()} == set(strangers)
    assert contents(place) == contents(filled / "notes")


def test_what_dead_processes_left_goes_after_a_day(filled: Path, program: Program) -> None:
    left = {f".{NAME}.abcd_123": True, f".{OTHER}.lock": True, f".{OTHER}.zzzzzzzz": False, f".{'a' * 32}.lock": False}
    for name, stale in left.items():
        path = filled / name
        path.touch() if name.endswith("lock") else shutil.copytree(filled / OTHER, path / "new")
        age = 90_000 if stale else 80_000
        os.utime(path, (time.time() - age, time.time() - age))
    shutil.rmtree(filled / NAME)
    programs.obtain(NAME, lambda kept: program)
    assert {path.name for path in filled.iterdir()} == {NAME, OTHER, *(name for name in left if not left[name])}


@pytest.mark.parametrize(
    ("system", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/c"}, "/c/torchgym"),
        ("linux", {}, "/home/me/.cache/torchgym"),
        ("darwin", {}, "/home/me/Library/Caches/torchgym"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/torchgym"),
        ("linux", {"TORCHGYM_CACHE_DIR": "/mine"}, "/mine"),
        ("linux", {"TORCHGYM_CACHE_DIR": "mine"}, "/here/mine"),
    ],
)
def test_the_cache_lies_where_the_system_has_it(
    system: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCHGYM_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    monkeypatch.setattr(os, "getcwd", lambda: "/here")
    assert programs.cache_folder() == Path(expected)


@pytest.fixture
def packaged(tmp_path: Path, healthy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The programs of a wheel, both of them; the cache is not there yet."""
    monkeypatch.setattr(store, "PACKAGED", tmp_path / "package" / "programs")
    store._say_once.cache_clear()
    return shutil.copytree(healthy, store.PACKAGED)


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def test_what_a_wheel_brought_is_used_and_left_alone(
    packaged: Path, cache: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHGYM_CACHE_BYTES", "1")
    before, place = times(packaged), packaged / NAME
    for found in (programs.find(NAME), load(NAME)):
        assert found is not None and {path.parent for path in found.kernels} == {place}
        assert computed(found) == computed(program)
    assert not cache.exists()
    with pytest.raises(Missing):
        load("e" * 32)
    programs.obtain("d" * 32, lambda kept: program)  # one more evicts from the cache alone
    assert times(packaged) == before


@pytest.mark.parametrize("damage", [partial(cut, "program.json", 9), partial(supplant, nothing, "program.json")])
def test_a_damaged_one_is_made_again_in_the_cache(
    damage: Damage, packaged: Path, cache: Path, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(packaged / NAME)
    before = times(packaged)
    for _ in range(2):
        kept = programs.obtain(NAME, lambda kept: program)
        assert {path.parent for path in kept.kernels} == {cache / NAME}
    assert times(packaged) == before
    assert capsys.readouterr().err.count("the compiled step that came with torchgym is not used: ") == 1


@pytest.mark.parametrize("what", [".", NAME, f"{NAME}/program.json", f"{NAME}/*.so"])
def test_a_package_that_others_may_write_is_not_trusted(
    what: str, packaged: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = packaged if what == "." else sorted(packaged.glob(what))[0]
    path.chmod(path.stat().st_mode | 0o020)
    assert programs.find(NAME) is None
    assert f"is not used: {path} can be written by other users" in capsys.readouterr().err


def test_a_package_is_trusted_as_far_as_its_code(packaged: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is installed where a group shares all files."""
    for path in (packaged.parent, packaged, *packaged.rglob("*")):
        path.chmod(path.stat().st_mode | 0o020)
    monkeypatch.setattr(store, "PACKAGE", packaged.parent)
    assert programs.find(NAME) is not None
    packaged.parent.chmod(0o755)
    assert programs.find(NAME) is None


def test_what_this_machine_cannot_load_is_not_there(
    packaged: Path, cache: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library may ask for a newer one of the system."""

    def refuse(path: str) -> Any:
        raise OSError("version `GLIBC_9.99' not found")

    with monkeypatch.context() as patch:
        patch.setattr("ctypes.CDLL", refuse)
        assert programs.find(NAME) is None
    assert programs.find(NAME) is not None
