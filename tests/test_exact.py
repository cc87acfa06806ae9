"""The elementary functions: as accurate as they say, and the same bits eager, compiled, batched and alone."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import ndtri
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from torchgym.numerics import exact

FUNCTIONS = {name: getattr(exact, name) for name in ("sqrt", "log", "exp", "tanh", "normal")}
DTYPES = (torch.float32, torch.float64)
NUMPY: dict[torch.dtype, Any] = {torch.float32: np.float32, torch.float64: np.float64}
EXP_RANGE = {torch.float32: (-87.33, 88.37), torch.float64: (-708.39, 709.4)}
MAX_ULPS = {"sqrt": (2, 3), "log": (3, 5), "exp": (3, 3), "tanh": (5, 5)}  # float32, float64
ALL_UNIFORMS = (torch.arange(2**23, dtype=torch.float64) + 0.5) * 2.0**-23


def arguments(name: str, dtype: torch.dtype, count: int) -> Tensor:
    """Numbers all over the domain of the function, and dense where it is hard."""
    rng = np.random.default_rng(7)
    info = np.finfo(NUMPY[dtype])
    if name in ("sqrt", "log"):
        spread = np.exp(rng.uniform(np.log(info.tiny), np.log(info.max), count))
        x = np.stack([spread, rng.uniform(0.5, 2, count), 1 + rng.uniform(-1e-3, 1e-3, count)])
    elif name == "exp":
        x = np.stack([rng.uniform(*EXP_RANGE[dtype], count), rng.normal(0, 1, count), rng.normal(0, 1e-3, count)])
    elif name == "tanh":
        x = np.stack([rng.uniform(-22, 22, count), rng.normal(0, 0.5, count), np.exp(rng.uniform(-40, 0, count))])
    else:
        x = ALL_UNIFORMS[rng.integers(0, 2**23, (3, count))].numpy()
    return torch.from_numpy(x.T.reshape(-1)[:count].astype(NUMPY[dtype]))


def ulps(value: Tensor, truth: np.ndarray) -> np.ndarray:
    """Distance from the truth in units in the last place of the value's dtype."""
    spacing = np.spacing(np.abs(truth).astype(NUMPY[value.dtype]))
    return np.abs(value.numpy().astype(truth.dtype) - truth) / spacing


def same_bits(a: Tensor, b: Tensor) -> bool:
    word = torch.int32 if a.dtype == torch.float32 else torch.int64
    return a.dtype == b.dtype and torch.equal(a.view(word), b.view(word))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MAX_ULPS)
def test_accuracy(name: str, dtype: torch.dtype) -> None:
    x = arguments(name, dtype, 300_000)
    truth = getattr(np, name)(x.numpy().astype(np.longdouble))
    assert ulps(FUNCTIONS[name](x), truth).max() < MAX_ULPS[name][DTYPES.index(dtype)]


def test_normal_over_every_uniform_draw() -> None:
    truth = ndtri(ALL_UNIFORMS.numpy())
    single, double = exact.normal(ALL_UNIFORMS.float()), exact.normal(ALL_UNIFORMS)
    assert ulps(single, truth).max() < 5
    assert np.abs(double.numpy() / truth - 1).max() < 1e-8
    for z in (single, double):
        assert torch.equal(z, -z.flip(0))
        assert bool((z.diff() > 0).all())
    assert abs(float(double.square().mean()) - 1) < 1e-6
    assert abs(float(double.pow(4).mean()) - 3) < 1e-4


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_at_special_points(dtype: torch.dtype) -> None:
    def at(*values: float) -> Tensor:
        return torch.tensor(values, dtype=dtype)

    assert torch.equal(exact.sqrt(at(0.0, 1.0, 4.0, 0.25)), at(0.0, 1.0, 2.0, 0.5))
    assert torch.equal(exact.log(at(1.0)), at(0.0))
    assert torch.equal(exact.exp(at(0.0)), at(1.0))
    assert torch.equal(exact.tanh(at(0.0, 30.0, -30.0, 1e30)), at(0.0, 1.0, -1.0, 1.0))
    assert torch.equal(exact.normal(at(0.5)), at(0.0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_saturates_to_normal_numbers(dtype: torch.dtype) -> None:
    lowest, highest = EXP_RANGE[dtype]
    ends = exact.exp(torch.tensor([-1e30, lowest, highest, 1e30], dtype=dtype))
    info = torch.finfo(dtype)
    assert ends[0] == ends[1] and info.tiny <= ends[1] < 1.01 * info.tiny
    assert ends[2] == ends[3] and info.max / 3 < ends[2] < info.max


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_is_odd_and_bounded(dtype: torch.dtype) -> None:
    x = arguments("tanh", dtype, 300_000)
    if dtype == torch.float32:  # every number where the result rounds to 1 or to the number before it
        first, last = torch.tensor([8.0, 9.5]).view(torch.int32).tolist()
        x = torch.cat([x, torch.arange(first, last, dtype=torch.int32).view(torch.float32)])
    y = exact.tanh(x)
    assert torch.equal(exact.tanh(-x), -y)
    assert bool((y.abs() <= 1).all())


def test_compiled_equals_eager_in_every_bit() -> None:
    whole = [name for name in FUNCTIONS if name != "log"]  # which `normal` contains
    cases: list[tuple[str, torch.dtype, tuple[int, ...]]] = [(name, t, (64, 211)) for name in whole for t in DTYPES]
    cases += [("normal", torch.float32, (1,)), ("tanh", torch.float32, (7,)), ("log", torch.float64, (7,))]
    x = [arguments(name, dtype, math.prod(shape)).reshape(shape) for name, dtype, shape in cases]

    def everything(x: list[Tensor]) -> list[Tensor]:
        return [FUNCTIONS[case[0]](argument) for case, argument in zip(cases, x, strict=True)]

    compiled = torch.compile(everything, fullgraph=True, dynamic=False)(x)
    for case, a, b in zip(cases, compiled, everything(x), strict=True):
        assert same_bits(a, b), case


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_element_depends_on_itself_alone(name: str, dtype: torch.dtype) -> None:
    function = FUNCTIONS[name]
    x = arguments(name, dtype, 64 * 37).reshape(64, 37)
    whole = function(x)
    for row in (0, 1, 40, 63):
        assert same_bits(function(x[row : row + 1]), whole[row : row + 1])
    assert same_bits(function(x[:, 5]).contiguous(), whole[:, 5].contiguous())
    assert same_bits(function(x.T).T.contiguous(), whole)
    assert same_bits(function(x[3, 3]), whole[3, 3])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_argument_is_left_alone(name: str, dtype: torch.dtype) -> None:
    x = arguments(name, dtype, 99)
    before = x.clone()
    FUNCTIONS[name](x)
    assert same_bits(x, before)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_runs_on_the_device_of_its_argument(name: str) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(3, 5, device="cuda")
        assert FUNCTIONS[name](x).device.type == "cuda"


# Bits of f(0.3), which no machine and no version may change.
FROZEN = {
    "sqrt": (0x3F0C378C, 0x3FE186F174F88473),
    "log": (0xBF9A1BC8, 0xBFF34378FCBDA720),
    "exp": (0x3FACC82D, 0x3FF599058C8C1A96),
    "tanh": (0x3E9526ED, 0x3FD2A4DDA7D914F9),
    "normal": (0xBF063F1C, 0xBFE0C7E39316705F),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bits_are_frozen(name: str) -> None:
    function = FUNCTIONS[name]
    single = function(torch.tensor([0.3])).view(torch.int32)
    double = function(torch.tensor([0.3], dtype=torch.float64)).view(torch.int64)
    assert (int(single) % 2**32, int(double) % 2**64) == FROZEN[name]
