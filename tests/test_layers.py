"""Who may import whom, and the one door for randomness, read from the source of every file in torchgym/.

Each file belongs to a part: the first names below torchgym/, as `sim.traders` of `sim/traders/trend.py`. A part imports
parts of lower layers only, so the import graph has no cycle and market rules never learn about the faces built on top of
them. Imports count wherever they stand, in functions and under TYPE_CHECKING too.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "torchgym"
SOURCES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}

LAYERS = (
    ("extras", "files", "progress", "table", "version", "visual.palette"),
    ("config",),
    ("numerics",),
    ("sim.state",),
    ("sim.noise", "sim.derived", "engine.program"),
    ("sim.params",),
    ("sim.session",),
    (
        "sim.fundamental",
        "sim.traders",
        "sim.actions",
        "sim.matching",
        "sim.accounts",
        "sim.market_data",
    ),
    ("sim.resting", "sim.delay"),
    ("sim.invariants", "sim.tick", "readout", "readout.features", "readout.rewards"),
    ("engine",),
    ("lab.policy",),
    (
        "envs",
        "quant_gym",
        "recording",
        "visual.rendering",
        "lab.policies",
        "lab.quoting",
        "lab.execution",
        "lab.fills",
        "lab.performance",
        "lab.realism",
        "lab.audit",
    ),
    ("training", "training.ladder"),
    ("visual.plots", "visual.report", "cli", "__main__"),
)
LAYER_OF = {part: layer for layer, parts in enumerate(LAYERS) for part in parts}
# the imports inside a layer
EXTRA = {
    *(("quant_gym", "envs"), ("envs", "visual.rendering"), ("lab.performance", "lab.policies")),
    ("lab.performance", "lab.fills"),
    *(
        ("recording", "lab.policies"),
        ("lab.audit", "lab.policies"),
        ("lab.audit", "lab.quoting"),
        ("lab.policies", "lab.quoting"),
        ("lab.execution", "lab.policies"),
        ("training.ladder", "training"),
        ("cli", "visual.plots"),
        ("cli", "visual.report"),
    ),
    *(
        ("readout", "sim.tick"),
        ("readout.rewards", "sim.tick"),
        ("readout", "readout.features"),
        ("readout", "readout.rewards"),
        ("__main__", "cli"),
    ),
}
# they read the state; the phases that make it are none of their business
HIGHEST = {"readout.features": 5, "readout.rewards": 5}
SHARED_TRADER_FILES = {
    "signals",
    "intent",
}  # what all families see and say; a family imports nothing else of its package

SAMPLING_MODULES = (
    "gymnasium.utils.seeding",
    "numpy.random",
    "random",
    "secrets",
    "torch.distributions",
    "torch.nn.init",
    "torch.random",
    "uuid",
)
SAMPLING_FUNCTIONS = {"os.getrandom", "os.urandom", "torch.normal", "torch.seed"}
# Flagged on any object that is not a module of ours, since a tensor or a generator cannot be told by its name.
SAMPLING_NAMES = {
    *("Generator", "RandomState", "SeedSequence", "SystemRandom", "default_generator", "default_rng", "fork_rng"),
    *("manual_seed", "manual_seed_all", "bernoulli", "binomial", "multinomial", "poisson", "rrelu"),
    *("rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm"),
    *("bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "normal_", "random_", "uniform_"),
    *("rand_action", "rand_step", "rsample", "sample"),
}


def part_of(file: str) -> str:
    return _part(file.removesuffix(".py").removesuffix("/__init__").split("/"))


def _part(names: list[str]) -> str:
    """The longest run of the names that has a layer, or the first one; a package of parts alone has none of its own."""
    known = [".".join(names[:count]) for count in (2, 1) if ".".join(names[:count]) in LAYER_OF]
    return known[0] if known else names[0]


def absolute(module: str, level: int, file: str) -> str:
    """Full dotted name of `module` as `file` names it; `level` counts the leading dots."""
    package = ["torchgym", *file.split("/")[:-1]]
    base = package[: len(package) - level + 1] if level else []
    return ".".join([*base, *([module] if module else [])])


def loaded_at_run_time(call: ast.Call, file: str) -> str | None:
    """Module that `import_module("...")` or `__import__("...")` names in a literal; None for any other call."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    literals = [arg.value if isinstance(arg, ast.Constant) else None for arg in call.args]
    if name not in {"import_module", "__import__"} or not literals or not isinstance(literals[0], str):
        return None
    module = literals[0].lstrip(".")
    level = len(literals[0]) - len(module)
    anchor = literals[1] if level == 1 and len(literals) > 1 else None
    return f"{anchor}.{module}" if isinstance(anchor, str) else absolute(module, level, file)


def imports(tree: ast.AST, file: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything imported, `from a import b` giving `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node.module or "", node.level, file)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and (target := loaded_at_run_time(node, file)):
            yield node.lineno, target


def refusal(file: str, target: str) -> str | None:
    """Why `file` may not import `target`, a dotted name; None where it may."""
    names = target.split(".")
    if names[0] != "torchgym":
        return None
    importer, imported = part_of(file), _part(names[1:]) if len(names) > 1 else ""
    if imported not in LAYER_OF:
        return "the public face of the package, or a part without a layer"
    if imported == importer:
        inside = names[3] if len(names) > 3 else ""
        if importer != "sim.traders" or file == "sim/traders/__init__.py" or inside in SHARED_TRADER_FILES:
            return None
        return "another trader family"
    if (importer, imported) in EXTRA or LAYER_OF[imported] <= HIGHEST.get(importer, LAYER_OF[importer] - 1):
        return None
    return f"{imported} of layer {LAYER_OF[imported]} from {importer} of layer {LAYER_OF[importer]}"


def _only_says_what_it_is(source: str) -> bool:
    """Whether a file is a docstring and nothing else, as that of a room without a face."""
    return [type(node) for node in ast.parse(source).body] == [ast.Expr]


def layer_faults(file: str, source: str) -> list[str]:
    """Imports of `file` that the table forbids; torchgym/__init__.py is free."""
    if file == "__init__.py":
        return []
    if part_of(file) not in LAYER_OF:
        return [] if _only_says_what_it_is(source) else [f"{file}: give {part_of(file)} a layer in LAYERS"]
    found = ((line, target, refusal(file, target)) for line, target in imports(ast.parse(source), file))
    return [f"{file}:{line}: imports {target}: {reason}" for line, target, reason in found if reason]


def bound_names(tree: ast.AST, file: str) -> dict[str, str]:
    """Local name -> full dotted name, for every name that an import binds."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node.module or "", node.level, file)
            names |= {a.asname or a.name: f"{base}.{a.name}" for a in node.names}
    return names


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """`np.random.normal` -> `numpy.random.normal`; an object that no import bound is written `?`."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, names)}.{node.attr}"
    return names.get(node.id, "?") if isinstance(node, ast.Name) else "?"


def samples(name: str) -> bool:
    """Whether the full dotted name is a source of random numbers outside our own modules."""
    if name.split(".")[0] == "torchgym":
        return False
    in_module = any(f"{name}.".startswith(f"{module}.") for module in SAMPLING_MODULES)
    return in_module or name in SAMPLING_FUNCTIONS or name.split(".")[-1] in SAMPLING_NAMES


def sampling_faults(file: str, source: str) -> list[str]:
    """Random numbers that `file` draws; numerics/random.py may, and envs/ may draw an episode seed as gymnasium asks.

    Agents explore and shuffle with torch's own generator; no market learns of it.
    """
    if file == "numerics/random.py" or part_of(file) in {"training", "training.ladder"}:
        return []
    tree = ast.parse(source)
    names = bound_names(tree, file)
    seed_draws = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "integers" and part_of(file) == "envs"
    }
    handed_out = {  # by the property of that name, as gymnasium's vector environments have it
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and (function.name, part_of(file)) == ("np_random", "envs")
        for node in ast.walk(function)
    }
    faults = [(line, target) for line, target in imports(tree, file) if samples(target)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            stolen = node.attr in {"np_random", "_np_random"} and id(node) not in seed_draws | handed_out
            if stolen or samples(dotted(node, names)):
                faults.append((node.lineno, ast.unparse(node)))
    return [
        f"{file}:{line}: {what} samples; random numbers come from numerics/random.py" for line, what in sorted(faults)
    ]


def test_the_package_has_files() -> None:
    assert "__init__.py" in SOURCES
    assert "numerics/random.py" in SOURCES


@pytest.mark.parametrize("file", SOURCES)
def test_imports_follow_the_layers(file: str) -> None:
    assert layer_faults(file, SOURCES[file].read_text()) == []


def test_contributing_tells_the_layers() -> None:
    rows = re.findall(r"^\| (\d+) \| (`.*?`) \|", (PACKAGE.parent / "CONTRIBUTING.md").read_text("utf-8"), flags=re.M)
    told = {int(layer): sorted(re.findall("`(.*?)`", parts)) for layer, parts in rows}
    assert told == {layer: sorted(parts) for layer, parts in enumerate(LAYERS)}


@pytest.mark.parametrize("file", SOURCES)
def test_only_noise_samples(file: str) -> None:
    assert sampling_faults(file, SOURCES[file].read_text()) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("config.py", "from torchgym.sim.state import MarketState"),
        ("sim/state.py", "from torchgym import exact"),
        ("numerics/exact.py", "from torchgym import noise"),
        ("sim/matching.py", "from torchgym.sim.accounts import settle"),
        ("sim/matching.py", "from .accounts import settle"),
        ("sim/matching.py", "from . import accounts"),
        ("sim/tick.py", "from torchgym.readout.features import observe"),
        ("readout/features.py", "from torchgym.sim.matching import clear"),
        ("readout/rewards.py", "import torchgym.sim.accounts as accounts"),
        ("engine/market.py", "from torchgym.envs.torchrl import MarketEnv"),
        ("engine/market.py", "def run():\n    from torchgym.recording import record"),
        ("engine/market.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torchgym.cli"),
        ("engine/market.py", "import importlib\nimportlib.import_module('torchgym.visual.plots')"),
        ("engine/market.py", "import importlib\nimportlib.import_module('.plots', 'torchgym')"),
        ("quant_gym.py", "from torchgym import TradingEnv"),
        ("quant_gym.py", "import torchgym as tg"),
        ("recording.py", "from torchgym.envs.gymnasium import TradingEnv"),
        ("lab/audit/playing.py", "from torchgym.lab.realism import measure"),
        ("lab/audit/playing.py", "from torchgym.training import Trainer"),
        ("training/run.py", "from torchgym.visual.plots import learning_curve"),
        ("visual/plots.py", "from torchgym.cli import main"),
        ("sim/traders/trend.py", "from torchgym.sim.traders.makers import quote"),
        ("sim/traders/trend.py", "from .makers import quote"),
        ("sim/traders/trend.py", "from torchgym.sim.traders import TRADERS"),
        ("sim/traders/trend.py", "from ..matching import clear"),
        ("helpers.py", "import torch"),
    ],
)
def test_a_forbidden_import_is_found(file: str, source: str) -> None:
    assert len(layer_faults(file, source)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("sim/noise.py", "from torchgym.numerics import exact"),
        ("sim/matching.py", "import torch\nfrom torchgym.config import MarketConfig\nfrom .state import Orders"),
        ("sim/tick.py", "from torchgym.sim import accounts, fundamental, matching, noise, traders"),
        ("sim/traders/__init__.py", "from torchgym.sim.traders import makers\nfrom . import trend"),
        (
            "sim/traders/trend.py",
            "from torchgym.sim.traders.signals import Signals\nfrom .signals import act\nfrom ...numerics import exact",
        ),
        ("envs/__init__.py", "import importlib\nimportlib.import_module('.torchrl', __name__)"),
        ("envs/sb3.py", "from torchgym.envs.vector import TradingVectorEnv\nfrom ..engine import Market"),
        ("__init__.py", "from torchgym.cli import main"),
        (
            "training/ladder/run.py",
            "from torchgym.envs.torchrl import MarketEnv\nfrom torchgym.quant_gym import PyVecTradingEnv",
        ),
        (
            "cli/markets.py",
            "from torchgym.visual.plots import realism_panel\nfrom torchgym.lab.realism import scorecard",
        ),
        ("cli/agents.py", "from torchgym.training import Trainer\nfrom torchgym.cli.output import number"),
        ("__main__.py", "from torchgym.cli import main"),
    ],
)
def test_an_allowed_import_passes(file: str, source: str) -> None:
    assert layer_faults(file, source) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("sim/tick.py", "import torch\nx = torch.rand(3)"),
        ("sim/tick.py", "from torch import randn as draw"),
        ("sim/tick.py", "import torch as t\nx = t.randint(3, (2,))"),
        ("sim/tick.py", "import torch\nx = torch.normal(0.0, 1.0, (2,))"),
        ("sim/tick.py", "def f(x):\n    return x.bernoulli()"),
        ("sim/tick.py", "def f(x):\n    x.normal_()"),
        ("sim/tick.py", "def f(x):\n    x.uniform_(0, 1)"),
        ("sim/tick.py", "def f(x):\n    x.random_()"),
        ("sim/tick.py", "def f(p):\n    return p.multinomial(1)"),
        ("engine/market.py", "import torch\ndef f(g: torch.Generator): ..."),
        ("engine/market.py", "import torch\ntorch.cuda.manual_seed(0)"),
        ("engine/market.py", "import numpy as np\nx = np.random.normal()"),
        ("engine/market.py", "from numpy.random import PCG64"),
        ("engine/market.py", "import random"),
        ("engine/market.py", "import secrets"),
        ("engine/market.py", "import os\nkey = os.urandom(8)"),
        ("engine/market.py", "def f(env):\n    return env.np_random.integers(9)"),
        ("envs/gymnasium.py", "def f(self):\n    return self.np_random.normal()"),
        ("envs/gymnasium.py", "def f(self):\n    return self.action_space.sample()"),
    ],
)
def test_a_sample_outside_noise_is_found(file: str, source: str) -> None:
    assert sampling_faults(file, source)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("numerics/random.py", "import os\nimport torch\nx = torch.rand(3), os.urandom(8)"),
        ("envs/gymnasium.py", "def f(self):\n    return int(self.np_random.integers(2**31))"),
        ("envs/vector.py", "def np_random(self):\n    return tuple(env.np_random for env in self.envs)"),
        ("sim/tick.py", "from torchgym import exact, noise\nz = exact.normal(random.uniform(1)), noise.bernoulli(2)"),
        ("sim/tick.py", "import torch\ndef f(normal, random):\n    return torch.where(normal, random.seed, 0)"),
    ],
)
def test_no_false_alarm(file: str, source: str) -> None:
    assert sampling_faults(file, source) == []
