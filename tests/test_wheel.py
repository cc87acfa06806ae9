"""A wheel that carries programs: in an environment without a compiler the first step is compiled, on either instruction set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from torchgym.engine import ahead
from torchgym.engine import program as programs

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow

_STEPS = """
import hashlib, json, sys
import torch, torchgym
from torchgym import Market, preset
from torchgym.engine.program.store import PACKAGED
digest = hashlib.sha256()
market = Market(preset("toy"), seed=5)
market.reset()
for tick in range(50):
    result = market.step(torch.tensor([tick % 3]))
    digest.update(result.observation.numpy().tobytes() + result.reward.numpy().tobytes())
replay = market._stepper.buffers
used = replay is not None and all(path.is_relative_to(PACKAGED) for one in replay.programs.values() for path in one.kernels)
print(json.dumps([torchgym.__file__, used, digest.hexdigest()]))
"""


def run(*command: object, **variables: str) -> str:
    """What a command says; nothing of this environment is seen by it but what is given."""
    kept = {
        name: os.environ[name]
        for name in ("HOME", "LANG", "OMP_NUM_THREADS", "PYTHONPYCACHEPREFIX")
        if name in os.environ
    }
    done = subprocess.run(
        list(map(str, command)), env=kept | variables, cwd="/", capture_output=True, text=True, timeout=1_800
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def build(folder: Path, **variables: str) -> Path:
    """A wheel from this source."""
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT),
        PATH=os.environ["PATH"],
        **variables,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of a single toy market for both instruction sets, as `make wheel` makes them."""
    folder = tmp_path_factory.mktemp("made") / "programs"
    paths = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    inductor = str(folder.parent / "inductor")
    run(
        sys.executable,
        "-m",
        ahead.__name__,
        folder,
        "--only",
        "toy-1",
        "--markets",
        "1",
        **paths,
        TORCHINDUCTOR_CACHE_DIR=inductor,
    )
    return folder


def test_without_programs_a_wheel_is_for_every_platform(tmp_path: Path) -> None:
    wheel = build(tmp_path)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if "/programs/" in name]


@pytest.mark.skipif(sysconfig.get_platform() != "linux-x86_64", reason="programs are made ahead for Linux on x86-64")
def test_a_wheel_with_programs_needs_no_compiler(made: Path, tmp_path: Path) -> None:
    names = {folder.name for folder in made.iterdir()}
    assert len(names) == len(ahead.ISAS)
    wheel = build(tmp_path, TORCHGYM_PROGRAMS=str(made))
    assert wheel.name.endswith("-py3-none-linux_x86_64.whl")
    # torch and the rest come from this environment, torchgym from the wheel.
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(sys.executable, "-m", "pip", "--quiet", "--python", python, "install", "--no-deps", wheel)
    package = site / "torchgym" / "programs"
    before = {path: path.stat().st_mtime_ns for path in (package, *package.rglob("*"))}
    assert {path.name for path in package.iterdir()} == names

    def steps(**variables: str) -> tuple[bool, str]:
        cache = str(tmp_path / "cache")
        text = run(python, "-c", _STEPS, PATH=str(tmp_path / "nothing"), TORCHGYM_CACHE_DIR=cache, **variables)
        assert text.startswith("["), text  # not a word on stderr
        file, used, digest = json.loads(text)
        assert Path(file).is_relative_to(site)
        return used, digest

    used, expected = steps(TORCHGYM_COMPILE="0")
    assert not used
    tried = [isa for isa in ahead.ISAS.values() if isa.runs_here]
    for isa in tried:
        assert steps(ATEN_CPU_CAPABILITY=isa.name) == (True, expected), isa.name
    assert programs.AVX2 in tried
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing in it was used up, noted or written
    assert list((tmp_path / "cache").rglob("*")) == []

    package.chmod(0o777)
    text = run(python, "-c", _STEPS, PATH="", TORCHGYM_CACHE_DIR=str(tmp_path / "cache"), TORCHGYM_COMPILE="auto")
    assert f"is not used: {package} can be written by other users" in text
    assert expected in text
