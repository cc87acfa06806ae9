"""What a program says while it is made, and of an error: single lines."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

import pytest
from kernels import answers, started
from torch._inductor.exc import CppCompileError, InductorError, InvalidCxxCompiler

from torchgym.engine import program as programs
from torchgym.engine.program import NotRecordable, progress

_PAGES = "C++ compile error\n\nCommand:\n" + "g++ " * 500 + "\n\nOutput:\n{}\nmore of it"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("the row is wrong\nmore about it"), "ValueError: the row is wrong"),
        (MemoryError(), "MemoryError"),
        (AssertionError("\n\n  late\n"), "AssertionError: late"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (NotRecordable("it has tensors for constants"), "NotRecordable: it has tensors for constants"),
        (InductorError(InvalidCxxCompiler(), None), "no C++ compiler (g++) was found"),
        (InductorError(OSError(28, "full"), None), "OSError: [Errno 28] full"),
        (InductorError(InductorError(KeyError("name"), None), None), "KeyError: 'name'"),
        (
            InductorError(
                CppCompileError(["g++"] * 500, "In file a.cpp:\na.cpp:3: error: no type named x\nmore"), None
            ),
            "CppCompileError: C++ compile error: a.cpp:3: error: no type named x",
        ),
        (CppCompileError(["g++"], "killed"), "CppCompileError: C++ compile error"),
    ],
)
def test_an_error_in_one_line(error: Exception, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert programs.reason(error) == line


@pytest.mark.parametrize("text", ["x" * 500, "x" * 500 + "\ny", _PAGES.format("error: " + "x" * 500)])
def test_a_line_has_an_end(text: str) -> None:
    line = programs.reason(RuntimeError(text))
    assert len(line) == 200 and line.startswith("RuntimeError: ") and line.endswith("…")


_BUILD = """
from kernels import built
from torchgym.engine import program as programs
try:
    built()
except Exception as error:
    print(programs.reason(error))
"""


@pytest.mark.parametrize(
    ("compiler", "line"),
    [
        ("/no/such/compiler", "no C++ compiler (/no/such/compiler) was found\n"),
        ("{}", "CppCompileError: C++ compile error: internal compiler error: out of ideas\n"),
    ],
)
def test_a_compiler_that_fails_in_one_line(compiler: str, line: str, tmp_path: Path) -> None:
    script = tmp_path / "compiler"
    script.write_text(
        "#!/bin/sh\ncase $1 in --version | -dumpversion) echo 13.0;; "
        "*) echo internal compiler error: out of ideas >&2; exit 1;; esac\n"
    )
    script.chmod(0o700)
    inductor = str(tmp_path / "inductor")
    process = started(_BUILD, tmp_path, CXX=compiler.format(script), TORCHINDUCTOR_CACHE_DIR=inductor)
    ((status, text, errors),) = answers([process])
    assert (status, text) == (0, line), errors


def test_long_work_goes_on_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line at once, more while it lasts, none afterwards."""
    lines: list[str] = []
    enough = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        if len(lines) == 4:
            enough.set()

    monkeypatch.setattr(progress, "_EVERY", 0.01)
    monkeypatch.setattr(progress, "say", say)
    with programs.reporting("working", "still working"):
        assert lines[0] == "working"
        assert enough.wait(60.0)
    count = len(lines)
    assert lines[1].startswith("still working: ") and lines[1].endswith(" s so far")
    assert "torchgym-progress" not in [thread.name for thread in threading.enumerate()]
    assert len(lines) == count


def test_work_may_begin_in_silence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with programs.reporting("working", "still working", after=1_000.0):
        pass
    assert capsys.readouterr().err == ""
    lines: list[str] = []
    said = threading.Event()
    monkeypatch.setattr(progress, "say", lambda line: (lines.append(line), said.set()))
    with programs.reporting("working", "still working", after=0.01):
        assert said.wait(60.0)
    assert lines == ["working"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_work_that_fails_ends_the_lines(failure: type[BaseException]) -> None:
    with pytest.raises(failure), programs.reporting("working", "still working"):
        raise failure
    assert "torchgym-progress" not in [thread.name for thread in threading.enumerate()]


def test_a_line_of_torchgym(capsys: pytest.CaptureFixture[str]) -> None:
    programs.say("hello")
    assert capsys.readouterr().err == "torchgym: hello\n"


def test_nobody_needs_to_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as broken:
        for stream in (None, closed, broken):
            monkeypatch.setattr(sys, "stderr", stream)
            programs.say("hello")
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            broken.close()
