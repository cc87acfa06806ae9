"""Files are written whole or not at all."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from torchgym.files import replacing

PACKAGE = Path(__file__).resolve().parents[1] / "torchgym"


def test_a_file_takes_its_place_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match=r"no folder to write table.csv to: '.*missing'"),
        replacing(tmp_path / "missing" / "table.csv"),
    ):
        pass


@pytest.mark.parametrize("failure", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(failure), replacing(path) as part:
        part.write_text("half")
        raise failure
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# What writes a file under its own name, and may stand only where the name is one that `replacing` gave.
WRITERS = {"savefig", "to_csv", "write_bytes", "write_text"}
WRITING_MODES = set("wax+")
ELSEWHERE = {
    "files.py": "is the door itself",
    "engine/program/store.py": "writes into a folder that is renamed when it is whole",
    "recording/file.py": "writes beside the place, over many calls, and renames at the end",
}


def writes(call: ast.Call) -> bool:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name == "open":
        texts = [
            word.value for word in ast.walk(call) if isinstance(word, ast.Constant) and isinstance(word.value, str)
        ]
        return any(len(text) <= 3 and set(text) & WRITING_MODES and set(text) <= set("rwaxbt+") for text in texts)
    return name in WRITERS or ast.unparse(function) in ("torch.save", "numpy.save", "np.save", "json.dump")


def unguarded(node: ast.AST, guarded: bool = False) -> Iterator[int]:
    """Lines that write, outside a `with replacing(...)` or `with replacing_sealed(...)`."""
    if isinstance(node, ast.With):
        guarded = guarded or any(ast.unparse(item.context_expr).startswith("replacing") for item in node.items)
    if isinstance(node, ast.Call) and writes(node) and not guarded:
        yield node.lineno
    for child in ast.iter_child_nodes(node):
        yield from unguarded(child, guarded)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_every_file_is_written_beside_its_place(path: Path) -> None:
    if path.relative_to(PACKAGE).as_posix() not in ELSEWHERE:
        assert list(unguarded(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_an_unguarded_write_is_noticed() -> None:
    source = (
        "path.write_text('x')\nwith replacing(path) as part:\n    part.write_text('x')\nopen(path, 'w')\npath.open()\n"
    )
    assert list(unguarded(ast.parse(source))) == [1, 4]
