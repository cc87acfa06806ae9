"""What the Makefile does in a clone where nothing is set up."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from pages import ROOT

# Stands for Python, pip and the tools: notes when a set-up command begins and ends, and takes its time in between.
STUB = f"""#!{sys.executable}
import os, shutil, sys, time
words = sys.argv[1:]
if words[:1] == ["-c"]:
    os.execv({sys.executable!r}, [{sys.executable!r}, *words])
what = "venv" if "venv" in words else words[-1] if "pip" in words else ""
def note(line):
    with open("notes", "a") as file:
        file.write(line + "\\n")
if what:
    note("begin " + what)
    time.sleep(0.3)
    if what == "venv":
        os.makedirs(".venv/bin")
        for name in ("python", "ruff", "mypy"):
            shutil.copy(sys.argv[0], ".venv/bin/" + name)
    note("end " + what)
"""


def test_two_targets_at_once_set_up_in_turn(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    calls = [
        subprocess.Popen(
            ["make", target, f"PYTHON={stub}"],
            cwd=tmp_path,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for target in ("train", "lint", "lint")
    ]
    said = [call.communicate(timeout=60)[0] for call in calls]
    assert [call.returncode for call in calls] == [0, 0, 0], said
    notes = (tmp_path / "notes").read_text().splitlines()
    begun = [line.removeprefix("begin ") for line in notes[::2]]
    assert notes == [f"{word} {what}" for what in begun for word in ("begin", "end")]  # one after the other
    assert begun[:2] == ["venv", "torch"] and sorted(set(begun[2:])) in ([".[all]", ".[dev]"], [".[dev]"])
    assert len(begun) == len(set(begun))  # and each once
    assert any("waiting until it is done" in text for text in said)
