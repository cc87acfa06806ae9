"""What holds for every face alike: its keywords, infos, seeds, copies, and what it needs to run. `faces.py` has the list."""

from __future__ import annotations

import copy
import functools
import pickle
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from extras import imported
from faces import ACTIONS, FACES, Face, digest, plain, run
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import torchgym as tg
from torchgym import quant_gym
from torchgym.engine import replay

pytestmark = pytest.mark.kept

EVERY = pytest.mark.parametrize("name", FACES)
BATCHES = [name for name in FACES if name not in ("TradingEnv", "PyTradingEnv")]
WITH_OVERRIDES = [name for name, face in FACES.items() if face.overrides]


def interpreter(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints that can import what the tests can."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stderr
    assert "uncompiled from now on" not in done.stderr
    return done.stdout.strip()


# Keywords


@EVERY
def test_an_unknown_keyword_is_the_type_error_of_python(name: str) -> None:
    words = rf"{name}\.__init__\(\) got an unexpected keyword argument 'frameskip'"
    with pytest.raises(TypeError, match=words) as refused:
        FACES[name].make(frameskip=4)
    if FACES[name].overrides:
        assert re.search(
            r"arguments are config, .*compile.*; settings are num_symbols, .*max_ticks", str(refused.value)
        )


@pytest.mark.parametrize("make", [gymnasium.make, gymnasium.make_vec], ids=lambda make: make.__name__)
def test_gymnasium_passes_the_type_error_on(make: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"__init__\(\) got an unexpected keyword argument 'max_tick': .*max_ticks"):
        make("torchgym/Trading-v0", preset="toy", max_tick=4)


@pytest.mark.parametrize("name", WITH_OVERRIDES)
def test_a_setting_that_is_impossible_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match="max_ticks must be"):
        FACES[name].make(max_ticks=0)
    with pytest.raises(ValueError, match="contradict"):
        FACES[name].make(config=tg.MarketConfig())


@pytest.mark.parametrize("mode", [True, False, "auto", "soon"])
@EVERY
def test_compile_means_the_same_everywhere(name: str, mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHGYM_COMPILE", raising=False)
    if mode == "soon":
        with pytest.raises(ValueError, match="compile must be True, False or 'auto', got 'soon'"):
            FACES[name].make(compile=mode)
        return
    env = FACES[name].make(compile=mode)
    market = vars(env).get("market", vars(env).get("_market"))
    assert market.compile is mode if isinstance(mode, bool) else market.compile == "auto"
    if name != "PyVecTradingEnv":
        assert (
            env.as_gymnasium().market if name == "PyTradingEnv" else pickle.loads(pickle.dumps(market))
        ).compile == mode


# Infos


def infos(said: Any) -> Iterator[dict[str, Any]]:
    """Every info in what `open` and `step` of a face returned."""
    if isinstance(said, dict):
        yield said
    elif isinstance(said, (tuple, list)):
        for part in said:
            yield from infos(part)
    elif hasattr(said, "batch_size"):
        yield said["info"].to_dict()


def is_numeric(key: str, value: Any) -> bool:
    """Whether a converter to another array library has something to convert."""
    if isinstance(value, dict):
        return all(is_numeric(*entry) for entry in value.items())
    if key == "final_obs":  # gymnasium has it so
        return value.dtype == object and all(row is None or is_numeric("row", row) for row in value)
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf" and torch.equal(torch.from_dlpack(value), torch.from_numpy(value))
    return type(value) in (bool, int, float, torch.Tensor)


CASES = [(name, {}) for name in FACES if name != "TradingVectorEnv"]
CASES += [("TradingVectorEnv", {"autoreset_mode": mode}) for mode in ("NextStep", "SameStep")]
CASES += [("TradingVectorEnv", {"autoreset_mode": "Disabled", "max_ticks": 20})]


@pytest.mark.parametrize("information", ["public", "privileged", "none"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_infos_are_numbers_and_arrays(name: str, options: dict[str, Any], information: str) -> None:
    face = FACES[name]
    env = face.make() if name.startswith("Py") else face.make(information=information, **options)
    said = [face.open(env), *(face.step(env, choice) for choice in ACTIONS)]
    collected = [*infos(said), *getattr(env, "reset_infos", [])]
    assert len(collected) >= len(ACTIONS)
    for info in collected:
        assert [key for key, value in info.items() if not is_numeric(key, value)] == []
        privileged = information == "privileged" and not name.startswith("Py")
        assert np.asarray(info.get("privileged", False)).all() == privileged
        assert ("privileged" in info) == privileged


@pytest.mark.parametrize("name", [name for name in FACES if not name.startswith("Py")])
def test_what_all_markets_share_is_said_once(name: str) -> None:
    envs = [FACES[name].make(information=information) for information in ("none", "privileged")]
    assert [env.config.information for env in envs] == ["none", "privileged"]
    if isinstance(envs[0], (gymnasium.Env, gymnasium.vector.VectorEnv)):
        assert [env.metadata["information"] for env in envs] == ["none", "privileged"]
        assert "information" not in type(envs[0]).metadata


# Seeds and counts

NO_SEEDS = [
    -1,
    2**63,
    1.0,
    np.float32(2.0),
    torch.tensor(1.7),
    True,
    np.bool_(True),
    torch.tensor(True),
    "7",
    b"7",
    {1},
    [1],
]
SEEDS = [np.int64(5), np.uint8(5), torch.tensor(5)]


@pytest.mark.parametrize("seed", NO_SEEDS, ids=repr)
@EVERY
def test_what_is_no_integer_is_no_seed(name: str, seed: Any) -> None:
    face = FACES[name]
    with pytest.raises(ValueError, match=r"seed.* got"):
        face.make(seed=seed)
    if face.seeded is None:
        return
    env = unopened(name)
    with pytest.raises(ValueError, match=r"seed.* got"):
        face.seeded(env, seed)


@functools.cache
def unopened(name: str) -> Any:
    return FACES[name].make()


@pytest.mark.parametrize("seed", SEEDS, ids=repr)
@EVERY
def test_integers_of_any_kind_are_seeds(name: str, seed: Any) -> None:
    face = FACES[name]
    first = digest([*plain(face.open(face.make(seed=seed)))])
    assert first == digest(reference(name)[0])
    if face.seeded is not None:
        assert digest([*plain(face.seeded(face.make(), seed))]) == first


@pytest.mark.parametrize("name", BATCHES)
def test_counts_of_numpy_are_counts(name: str) -> None:
    env = FACES[name].make(num_envs=np.int64(3))
    assert type(env.num_envs) is int
    assert env.num_envs == 3


# Copies


@functools.cache
def reference(name: str) -> list[list[tuple[str, np.ndarray]]]:
    """What an undisturbed environment says, call by call: the first reset and then each step."""
    face = FACES[name]
    env = face.make(seed=5)
    return [list(plain(face.open(env)))] + [list(plain(face.step(env, choice))) for choice in ACTIONS]


def go_on(face: Face, env: Any, begin: int, end: int) -> list[str]:
    """The digests of these calls."""
    calls = [lambda: face.open(env), *(functools.partial(face.step, env, choice) for choice in ACTIONS)]
    return [digest(list(plain(call()))) for call in calls[begin:end]]


WAYS: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda env: pickle.loads(pickle.dumps(env)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("moment", [0, 1, 2], ids=["new", "open", "in an episode"])
@EVERY
def test_a_copy_is_an_independent_twin(name: str, moment: int, way: str) -> None:
    face, end = FACES[name], 1 + len(ACTIONS)
    expected = [digest(said) for said in reference(name)]
    env = face.make(seed=5)
    assert go_on(face, env, 0, moment) == expected[:moment]
    twin = WAYS[way](env)
    assert type(twin) is type(env)
    assert go_on(face, twin, moment, end) == expected[moment:]
    assert go_on(face, env, moment, end) == expected[moment:]


@pytest.mark.parametrize("way", WAYS)
@EVERY
def test_a_compiled_copy_goes_on_in_the_same_bits(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one program for all: a toy market, two in a chunk."""
    monkeypatch.setattr(replay, "CHUNK", 2)
    monkeypatch.setattr(quant_gym, "MarketConfig", functools.partial(tg.preset, "toy"))
    face, end = FACES[name], 1 + len(ACTIONS)
    options = {"num_symbols": 1} if name == "TradingVectorEnv" else {}
    expected = go_on(face, face.make(seed=5, compile=False, **options), 0, end)
    env = face.make(seed=5, compile=True, **options)
    for moment, upto in ((0, 1), (1, 3), (3, 3)):
        twin = WAYS[way](env)
        assert go_on(face, twin, moment, end) == expected[moment:]
        assert go_on(face, env, moment, moment + 1) == expected[moment : moment + 1]
        for market in (vars(one).get("market", vars(one).get("_market")) for one in (env, twin)):
            assert market.compile
            assert market._stepper.buffers is not None
        go_on(face, env, moment + 1, upto)


# What is around it


@functools.cache
def ordinary() -> dict[str, str]:
    return {name: run(name, compile=False) for name in FACES}


@pytest.mark.parametrize(
    "setting", ["set_default_device('meta')", "set_default_dtype(torch.float64)", "set_default_dtype(torch.float16)"]
)
def test_defaults_of_torch_change_no_number(setting: str) -> None:
    """The device "meta", which holds no numbers, stands for one that this machine lacks."""
    code = f"""
        import sys
        import torch
        import torchrl.envs  # which itself cannot be imported with such defaults
        torch.{setting}
        import faces
        for name in faces.FACES:
            print(name, faces.run(name, compile=False))
        print("SkrlEnv, compiled", faces.run("SkrlEnv", compile=True))
    """
    said = dict(line.rsplit(maxsplit=1) for line in interpreter(code).splitlines())
    assert said.pop("SkrlEnv, compiled") == ordinary()["SkrlEnv"]
    assert said == ordinary()


def distributions(of: str, *, extras: bool) -> set[str]:
    """What a distribution requires: always, or with its extras alone."""
    requirements = [Requirement(line) for line in metadata.requires(of) or []]
    chosen = [entry for entry in requirements if ("extra ==" in str(entry.marker)) == extras]
    return {str(canonicalize_name(entry.name)) for entry in chosen}


def with_requirements(of: str) -> set[str]:
    """A distribution, and all that is installed with it."""
    reached, waiting = {"torchgym"}, [of]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        try:
            waiting += distributions(name, extras=False)
        except metadata.PackageNotFoundError:  # for another system or version of Python
            reached.remove(name)
    return reached


def modules_without(*needs: str) -> list[str]:
    """Top-level modules of every optional package, but for those of `needs` and what these require."""
    allowed = distributions("torchgym", extras=False).union(*map(with_requirements, ("torchgym", *needs)))
    optional = distributions("torchgym", extras=True) - allowed
    return sorted(imported(optional))


BLOCK = """
    import sys
    for name in sys.argv[2].split():
        sys.modules[name] = None  # as if it were not installed
"""


@EVERY
def test_a_face_needs_its_own_library_alone(name: str) -> None:
    needs = [FACES[name].needs] if FACES[name].needs else []
    blocked = modules_without(*needs)
    assert {"matplotlib", "pandas", "plotly", "pyarrow", "ray", "rich", "sklearn", "tyro"} <= set(blocked)
    code = BLOCK + "\n    import faces; print(sys.argv[1], faces.run(sys.argv[1]))"
    assert interpreter(code, name, " ".join(blocked)).split() == [name, ordinary()[name]]


@pytest.mark.parametrize("name", [name for name, face in FACES.items() if face.needs])
def test_a_library_that_is_missing_is_named_with_its_command(name: str) -> None:
    code = (
        BLOCK
        + """
    import torchgym
    try:
        getattr(torchgym, sys.argv[1])
    except ImportError as error:
        print(error)
    """
    )
    assert 'pip install "torchgym[' in interpreter(code, name, " ".join(modules_without()))


def test_the_first_lines_of_stable_baselines3_need_no_matplotlib() -> None:
    """It asks for pictures by itself, `render_mode="rgb_array"`, and never looks at one."""
    code = (
        BLOCK
        + """
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    import torchgym
    PPO("MlpPolicy", "torchgym/Trading-v0", n_steps=16, batch_size=16, device="cpu").learn(32)
    env = make_vec_env("torchgym/Trading-v0", n_envs=2, env_kwargs={"preset": "toy"})
    print(PPO("MlpPolicy", env, n_steps=16, batch_size=16, device="cpu").learn(32).num_timesteps)
    try:
        env.render()
    except ImportError as error:
        print(error)
    """
    )
    timesteps, complaint = interpreter(code, "", " ".join(modules_without("stable-baselines3"))).splitlines()
    assert timesteps == "32"
    assert 'pip install "torchgym[plots]"' in complaint
