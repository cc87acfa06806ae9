"""Recorded kernels do what the compiled function does, on whatever memory they are bound to, and lie on disk without harm."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from torchgym import program as programs
from torchgym.program import NotRecordable, Program

_CONSTANT = torch.arange(100.0) ** 2


def arithmetic(first: Tensor, second: Tensor, count: Tensor) -> list[Tensor]:
    """Reductions, a passed-through input, several dtypes; exact for whole numbers."""
    total = first.sum(-1, keepdim=True)
    scaled = torch.where(first > 0.0, first * 2.0 + total, second)
    whole = torch.cat([scaled, total], dim=-1)
    return [whole, second, count + 1, (scaled > 1.0).to(torch.int64).sum(-1)]


@pytest.fixture(scope="module")
def example() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randint(-9, 9, (2, 4, 37), generator=generator).to(torch.float32).unbind()
    return [first.clone(), second.clone(), torch.arange(4)]


@pytest.fixture(scope="module")
def program(example: list[Tensor]) -> Program:
    return programs.build(programs.trace(arithmetic, example))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCHGYM_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def blank(program: Program) -> list[Tensor]:
    return [torch.zeros(place.shape, dtype=place.dtype) for place in program.outputs]


def agree(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(torch.equal(first, second) for first, second in zip(found, expected, strict=True))


def test_it_repeats_the_function_on_other_numbers(program: Program, example: list[Tensor]) -> None:
    inputs = [tensor.clone() for tensor in example]
    outputs = blank(program)
    run = program.bind(inputs, outputs, program.scratch())
    for shift in range(3):
        inputs[0].add_(shift)
        inputs[2].mul_(5)
        run()
        assert agree(outputs, arithmetic(*inputs))


def test_rows_of_a_larger_batch(program: Program) -> None:
    """Bound to rows 4 to 8 of twelve, it reads and writes nothing else."""
    whole = [torch.arange(444.0).reshape(12, 37), torch.ones(12, 37), torch.arange(12)]
    results = [torch.full((12, *place.shape[1:]), -7, dtype=place.dtype) for place in program.outputs]
    rows = slice(4, 8)
    program.bind([t[rows] for t in whole], [t[rows] for t in results], program.scratch())()
    assert agree([t[rows] for t in results], arithmetic(*(t[rows] for t in whole)))
    for result in results:
        assert bool((result[:4] == -7).all()) and bool((result[8:] == -7).all())


def test_an_input_can_pass_through_without_a_copy(program: Program, example: list[Tensor]) -> None:
    assert [program.passed_through(index) for index in range(4)] == [None, 1, None, None]
    outputs = blank(program)
    outputs[1] = example[1]
    before = example[1].clone()
    program.bind(example, outputs, program.scratch())()
    assert torch.equal(example[1], before)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensors: tensors[0].to(torch.float64),
        lambda tensors: tensors[0][:3],
        lambda tensors: torch.cat([tensors[0], tensors[0]], -1)[:, ::2],
    ],
)
def test_memory_that_does_not_fit(
    program: Program, example: list[Tensor], spoil: Callable[[list[Tensor]], Tensor]
) -> None:
    with pytest.raises(ValueError, match=r"tensor 0 must be contiguous, torch\.float32, of shape"):
        program.bind([spoil(example), *example[1:]], blank(program), program.scratch())


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: [torch.cumsum(x, -1) + 1.0], "left aten.cumsum"),
        (lambda x: [torch.sort(x, -1)[0]], "no kernels"),
        (lambda x: [x.unsqueeze(-1) + _CONSTANT], "constants"),
    ],
)
def test_what_cannot_be_recorded_is_refused(function: Callable[..., list[Tensor]], why: str) -> None:
    with pytest.raises(NotRecordable, match=why):
        programs.build(programs.trace(function, [torch.randn(4, 3)]))


def test_it_lies_on_disk(program: Program, example: list[Tensor], cache: Path) -> None:
    name = programs.fingerprint("arithmetic", 4)
    assert programs.load(name) is None
    kept = programs.save(program, name)
    assert all(kernel.is_relative_to(cache) for kernel in kept.kernels)
    loaded = programs.load(name)
    assert loaded is not None and loaded == kept
    outputs = blank(loaded)
    loaded.bind(example, outputs, loaded.scratch())()
    assert agree(outputs, arithmetic(*example))
    assert programs.save(program, name) == kept  # a second one changes nothing
    assert [path.name for path in cache.iterdir()] == [name]


def test_a_damaged_program_is_none(program: Program, cache: Path) -> None:
    name = programs.fingerprint("damaged")
    programs.save(program, name)
    told = json.loads((cache / name / "program.json").read_text())
    for broken in ("{", "[]", json.dumps({**told, "kernels": 9}), json.dumps({**told, "inputs": [[[4], "no_dtype"]]})):
        (cache / name / "program.json").write_text(broken)
        assert programs.load(name) is None


def test_a_cache_that_cannot_be_written_costs_nothing_else(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TORCHGYM_CACHE_DIR", str(tmp_path / "file"))
    assert programs.save(program, "anything") is program


def test_the_fingerprint_tells_programs_apart() -> None:
    assert programs.fingerprint("a", 1) == programs.fingerprint("a", 1)
    assert len({programs.fingerprint(*about) for about in (("a", 1), ("a", 2), ("b", 1), ())}) == 4


def test_the_fingerprint_follows_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.py").write_text("x = 1\n")
    monkeypatch.setattr("torchgym.program.store._PACKAGE", tmp_path)
    before = programs.fingerprint("a")
    (tmp_path / "one.py").write_text("x = 2\n")
    assert programs.fingerprint("a") != before


@pytest.mark.parametrize(
    ("system", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/c"}, "/c/torchgym"),
        ("linux", {}, "/home/me/.cache/torchgym"),
        ("darwin", {}, "/home/me/Library/Caches/torchgym"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/torchgym"),
        ("linux", {"TORCHGYM_CACHE_DIR": "/mine"}, "/mine"),
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
    assert programs.cache_folder() == Path(expected)
