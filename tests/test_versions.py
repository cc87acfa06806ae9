"""What `make test-versions` decides before anything is installed."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import versions

PROJECT: dict[str, Any] = {
    "name": "market",
    "requires-python": ">=3.11,<3.12",
    "dependencies": ["torch>=2.13,<2.14", "numpy<3,>=1.26"],
    "optional-dependencies": {
        "plots": ["matplotlib >= 3.8"],
        "all": ["market[plots]", 'tomli>=2 ; python_version < "3.11"'],
        "dev": ["market[all,plots]", "numpy[extra]", "pytest>=8.2"],
    },
}


def with_dev(*requirements: str) -> dict[str, Any]:
    return {**PROJECT, "optional-dependencies": {"dev": list(requirements)}}


def report(*packages: str) -> dict[str, Any]:
    """What `pip install --report` writes, as far as it matters."""
    named = [package.split("==") for package in packages]
    return {"install": [{"metadata": {"name": name, "version": version}} for name, version in named]}


def answer(monkeypatch: pytest.MonkeyPatch, **programs: subprocess.CompletedProcess[str]) -> None:
    """Programs of these names exist, and every call of one gets its answer."""
    monkeypatch.setattr("shutil.which", lambda name, path=None: name if name in programs else None)
    monkeypatch.setattr("subprocess.run", lambda command, **_: programs[Path(command[0]).name])


def told(stdout: str = "", stderr: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, stdout, stderr)


def test_extras_of_the_project_itself_are_followed_once() -> None:
    assert versions.needed(PROJECT) == [
        *PROJECT["dependencies"],
        "matplotlib >= 3.8",
        'tomli>=2 ; python_version < "3.11"',
        "numpy[extra]",
        "pytest>=8.2",
    ]


def test_lower_bounds_become_pins() -> None:
    pins = ["matplotlib==3.8", "numpy==1.26", "pytest==8.2", 'tomli==2 ; python_version < "3.11"', "torch==2.13"]
    assert versions.lower_bounds(PROJECT) == pins


@pytest.mark.parametrize("requirement", ["scipy", "scipy<2", "numpy>=2"])
def test_a_package_without_one_lower_bound_is_refused(requirement: str) -> None:
    with pytest.raises(ValueError, match="should have one lower bound"):
        versions.lower_bounds(with_dev(requirement))


def test_every_package_of_torchgym_has_one_lower_bound_that_the_pins_keep_to() -> None:
    project = tomllib.loads((versions.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {pin.partition("==")[0].lower().replace("_", "-") for pin in versions.lower_bounds(project)}
    lines = (versions.ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert names <= {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    assert versions.oldest_python(project["requires-python"]) in versions.PYTHONS


def test_a_cuda_build_is_told_from_one_for_cpus() -> None:
    assert versions.chosen(report("torch==2.13.0+cpu", "sympy==1.14.0")) == versions.Torch("2.13.0+cpu", ())
    cuda = report("nvidia-nccl-cu13==2.29.7", "torch==2.13.0", "nvidia-cublas==13.1.1.3")
    assert versions.chosen(cuda) == versions.Torch("2.13.0", ("nvidia-cublas", "nvidia-nccl-cu13"))
    with pytest.raises(versions.Failed, match="no torch"):
        versions.chosen(report("sympy==1.14.0"))


def test_no_wheel_is_a_reason_to_skip_and_a_broken_pip_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, python=told(stderr="ERROR: No matching distribution found for torch<2.14,>=2.13\n", code=1))
    with pytest.raises(versions.Skipped, match="no wheel of torch"):
        versions.ask(Path("python"), [], "torch>=2.13,<2.14")
    answer(monkeypatch, python=told(stderr="ERROR: the disk is full\nnotice: a newer pip\n", code=1))
    with pytest.raises(versions.Failed, match="the disk is full"):
        versions.ask(Path("python"), [], "torch>=2.13,<2.14")


def test_a_stand_in_that_does_not_run_is_no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, **{"python3.12": told(stderr="pyenv: python3.12: command not found", code=127)})
    assert versions.find("3.12") is None
    answer(monkeypatch, **{"python3.12": told("3.12 /somewhere/python3.12\n")})
    assert versions.find("3.12") == Path("/somewhere/python3.12")
    assert versions.find("3.13") is None


def test_results_are_told_in_a_line_each_and_in_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes: dict[str, Exception | None] = {
        "3.10": versions.Skipped("no CPU wheel"),
        "3.11": None,
        "oldest": versions.Failed("pytest ended with 1"),
    }

    def run(name: str, project: Any, args: Any) -> None:
        assert args.pytest_args == ["-k", "faces"] and args.pip_args == ["--find-links", "a b"]
        if (outcome := outcomes[name]) is not None:
            raise outcome

    monkeypatch.setattr(versions, "run", run)
    for only, code in [(["3.11"], 0), (["3.10", "3.11"], 0), (["3.10"], 1), (["3.11", "oldest"], 1)]:
        assert versions.main(["--only", *only, "--pip-args=--find-links 'a b'", "--", "-k", "faces"]) == code
        lines = capsys.readouterr().out.split("\n")[1:-1]
        assert [line.split()[0] for line in lines if line != "nothing was run"] == only
        assert ("nothing was run" in lines) == (only == ["3.10"])
