"""`import torchgym` is light, registers the gymnasium ids, and a missing extra says how to get it.

Each test looks at an interpreter of its own, since this one has imported everything already.
"""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from torchgym.extras import loaded


def run(code: str) -> str:
    """What a fresh interpreter prints, warnings being errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_loads_neither_torch_nor_a_face() -> None:
    code = """
        import sys
        import torchgym
        torchgym.preset("toy", max_ticks=5)
        heavy = ("torch", "tensordict", "torchrl", "stable_baselines3", "matplotlib", "pandas", "torchgym.engine")
        print([name for name in heavy if name in sys.modules])
    """
    assert run(code) == "[]"


def test_the_gymnasium_faces_load_no_other() -> None:
    code = """
        import sys
        import torchgym
        torchgym.TradingEnv, torchgym.TradingVectorEnv, torchgym.Market
        import torchgym.quant_gym
        print([name for name in ("tensordict", "torchrl", "stable_baselines3") if name in sys.modules])
    """
    assert run(code) == "[]"


def test_make_imports_the_package_by_its_prefix() -> None:
    code = """
        import gymnasium
        env = gymnasium.make("torchgym:torchgym/Trading-v0", preset="toy", max_ticks=40, num_symbols=2)
        config = env.unwrapped.config
        print(env.spec.id, config.max_ticks, config.num_symbols, env.action_space)
    """
    assert run(code) == "torchgym/Trading-v0 40 2 MultiDiscrete([3 3])"


def test_every_public_name_loads() -> None:
    pytest.importorskip("stable_baselines3")
    code = """
        import warnings
        import torchgym
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of the libraries loaded
            missing = [name for name in torchgym.__all__ if getattr(torchgym, name, None) is None]
        print(missing, dir(torchgym) == sorted(torchgym.__all__))
        try:
            torchgym.Markets
        except AttributeError as error:
            print(error)
    """
    assert run(code).splitlines() == ["[] True", "module 'torchgym' has no attribute 'Markets'"]


def test_a_missing_extra_is_named_with_its_command() -> None:
    code = """
        import sys
        sys.modules["stable_baselines3"] = None  # as if it were not installed
        import torchgym
        print(torchgym.TradingEnv.__name__)  # does not need it
        try:
            torchgym.SB3VecEnv
        except ImportError as error:
            print(error)
    """
    lines = run(code).splitlines()
    assert lines[0] == "TradingEnv"
    assert 'pip install "torchgym[sb3]"' in lines[1]


def test_what_fails_inside_a_module_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken_part.py").write_text("import math\nmath.no_such_thing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="broken_part cannot be imported: module 'math' has no attribute"):
        loaded("broken_part", "start")
