"""The random numbers: repeatable from their address alone, and independent in every direction the market reads them.

The inputs are fixed, so every statistic below is too. Its bound is where a fair source would fall outside about once in ten
thousand tries or less: a p-value above 1e-4, or standard errors wide enough for the number of cells looked at.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from torchgym.numerics import exact, random

P_VALUE = 1e-4
COUNT = 1 << 16


def keys(seed: Tensor | int, episode: Tensor | int = 0) -> Tensor:
    return random.make_key(*torch.broadcast_tensors(torch.as_tensor(seed).reshape(-1), torch.as_tensor(episode)))


def lane(index: int, stream: int = 0) -> Tensor:
    return random.counters(stream, index + 1)[index:]


def over_lanes() -> Tensor:
    return random.bits(keys(3), torch.tensor([5]), random.counters(1, COUNT))[0]


def over_ticks() -> Tensor:
    return random.bits(keys(3).expand(COUNT, 2), torch.arange(COUNT), lane(0))[:, 0]


def over_seeds() -> Tensor:
    return random.bits(keys(torch.arange(COUNT)), torch.zeros(COUNT, dtype=torch.int64), lane(0))[:, 0]


def over_episodes() -> Tensor:
    return random.bits(keys(3, torch.arange(COUNT)), torch.zeros(COUNT, dtype=torch.int64), lane(0))[:, 0]


def over_streams() -> Tensor:
    counter = torch.cat([random.counters(stream, 32) for stream in range(random.MAX_STREAMS)])
    return random.bits(keys(3), torch.tensor([5]), counter)[0]


def over_a_run() -> Tensor:
    """As a market consumes them: all lanes of one tick, then of the next."""
    return random.bits(keys(3).expand(COUNT // 256, 2), torch.arange(COUNT // 256), random.counters(0, 256)).reshape(-1)


@pytest.fixture(
    scope="module",
    params=[over_lanes, over_ticks, over_seeds, over_episodes, over_streams, over_a_run],
    ids=lambda direction: direction.__name__,
)
def line(request: pytest.FixtureRequest) -> np.ndarray:
    """65,536 words along one direction, unsigned."""
    direction: Callable[[], Tensor] = request.param
    return direction().numpy().view(np.uint32)


def chi_square(counts: np.ndarray) -> float:
    return float(stats.chisquare(counts.ravel()).pvalue)


# --- one line of numbers ---


def test_every_byte_is_uniform(line: np.ndarray) -> None:
    for shift in (0, 8, 16, 24):
        assert chi_square(np.bincount(line >> shift & 255, minlength=256)) > P_VALUE


def test_every_bit_is_fair(line: np.ndarray) -> None:
    ones = (line[:, None] >> np.arange(32, dtype=np.uint32) & 1).sum(axis=0)
    assert np.abs((ones - COUNT / 2) / np.sqrt(COUNT / 4)).max() < 5


def test_uniform_and_normal_have_their_distribution(line: np.ndarray) -> None:
    u = random.uniform(torch.from_numpy(line.view(np.int32)))
    assert stats.kstest(u.double().numpy(), "uniform").pvalue > P_VALUE
    assert stats.kstest(exact.normal(u).double().numpy(), "norm").pvalue > P_VALUE


def test_no_serial_correlation(line: np.ndarray) -> None:
    centred = line / 2.0**32 - 0.5
    for power in (1, 2):
        x = centred**power - (centred**power).mean()
        for lag in (*range(1, 33), 64, 256, 1024):
            correlation = (x[lag:] * x[:-lag]).mean() / x.var() * np.sqrt(COUNT - lag)
            assert abs(correlation) < 5, (power, lag)


@pytest.mark.parametrize("shift", [26, 9, 0])
def test_neighbours_fill_the_square(line: np.ndarray, shift: int) -> None:
    digit = (line >> np.uint32(shift) & 63).astype(np.int64)
    for gap in (1, 2):
        pairs = np.bincount(digit[:-gap:2] * 64 + digit[gap::2][: len(digit[:-gap:2])], minlength=4096)
        assert chi_square(pairs) > P_VALUE, gap


def test_runs_up_and_down(line: np.ndarray) -> None:
    """Turning points of an exchangeable series: mean 2/3 (n − 2), variance (16 n − 29)/90 (Kendall and Stuart)."""
    rises = np.diff(line.astype(np.int64)) > 0
    turns = (rises[1:] != rises[:-1]).sum()
    assert abs(turns - 2 / 3 * (COUNT - 2)) / np.sqrt((16 * COUNT - 29) / 90) < 4.5


# --- many lines against each other ---


def grid(direction: str) -> Tensor:
    """Words [4096, 256]: samples by members of a family that must be independent of each other."""
    ticks, members = torch.arange(4096), torch.arange(256)
    if direction == "lanes":
        return random.bits(keys(11).expand(4096, 2), ticks, random.counters(2, 256))
    if direction == "streams":
        counter = torch.cat([lane(7, stream) for stream in range(256)])
        return random.bits(keys(11).expand(4096, 2), ticks, counter)
    if direction == "seeds":
        return random.bits(keys(members), torch.full((256,), 9), random.counters(2, 4096)).T
    if direction == "episodes":
        return random.bits(keys(11, members), torch.full((256,), 9), random.counters(2, 4096)).T
    return random.bits(keys(11).expand(256, 2), members, random.counters(2, 4096)).T


@pytest.mark.parametrize("direction", ["lanes", "streams", "seeds", "episodes", "ticks"])
@pytest.mark.parametrize("bit", [None, 31, 20, 9, 0])
def test_family_members_are_uncorrelated(direction: str, bit: int | None) -> None:
    """All 32,640 correlations of 256 members: the largest, and the sum of squares; whole words and single bits."""
    words = grid(direction).numpy().view(np.uint32)
    x = words / 2.0**32 if bit is None else (words >> np.uint32(bit) & 1).astype(np.float64)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    z = (x.T @ x / np.sqrt(len(x)))[np.triu_indices(x.shape[1], k=1)]
    assert np.abs(z).max() < 6
    assert P_VALUE < stats.chi2.sf((z**2).sum(), z.size) < 1 - P_VALUE


INPUT_BITS = {"seed": 63, "episode": 31, "tick": 31, "stream": 11, "lane": 20}
SIDE = 64  # addresses by counters


def flips(part: str, bit: int) -> np.ndarray:
    """Which output bits change, ±1, at 4,096 scattered places when one bit of one part of the address does: [4096, 32]."""
    rng = np.random.default_rng(17)
    seed, lanes = rng.integers(0, 2**63, SIDE), rng.integers(0, random.MAX_LANES, SIDE)
    episode, tick = rng.integers(0, 50, SIDE), rng.integers(0, 10_000, SIDE)
    address: dict[str, Any] = {"seed": seed, "episode": episode, "tick": tick, "stream": 3, "lane": lanes}
    words = []
    for mask in (0, 1 << bit):
        at = {name: torch.as_tensor(value ^ (mask if name == part else 0)) for name, value in address.items()}
        counter = random.counters(int(at["stream"]), random.MAX_LANES)[at["lane"]]
        words.append(random.bits(keys(at["seed"], at["episode"]), at["tick"], counter).numpy().view(np.uint32))
    changed = (words[0] ^ words[1]).reshape(-1, 1) >> np.arange(32, dtype=np.uint32) & 1
    return 2.0 * changed - 1


@pytest.mark.parametrize("part", INPUT_BITS)
def test_avalanche(part: str) -> None:
    """One input bit flips each output bit in half of the cases, and any two output bits independently of each other."""
    singles, doubles = [], []
    for bit in range(INPUT_BITS[part]):
        x = flips(part, bit)
        singles.append(x.sum(axis=0) / np.sqrt(len(x)))
        doubles.append((x.T @ x / np.sqrt(len(x)))[np.triu_indices(32, k=1)])
    for z, bound in ((np.concatenate(singles), 5), (np.concatenate(doubles), 6)):
        assert np.abs(z).max() < bound
        assert P_VALUE < stats.chi2.sf((z**2).sum(), z.size) < 1 - P_VALUE


def test_no_two_market_ticks_share_their_numbers() -> None:
    """Of 2^18 (seed, tick) pairs no two agree in two lanes; in one lane they meet as often as chance has it."""
    seed, tick = torch.meshgrid(torch.arange(512), torch.arange(512), indexing="ij")
    words = random.bits(keys(seed.reshape(-1)), tick.reshape(-1), random.counters(0, 32)).long()
    n = len(words)
    assert len((words[:, 0] << 32 | words[:, 1] & 0xFFFFFFFF).unique()) == n
    meetings = sum(n - len(column.unique()) for column in words.T)
    expected = 32 * n * (n - 1) / 2 / 2**32
    assert abs(meetings - expected) / np.sqrt(expected) < 4


def test_lanes_of_different_market_ticks_do_not_overlap() -> None:
    """A tick's lanes are not another tick's lanes moved along: words shared between two ticks, wherever they stand."""
    words = random.bits(keys(torch.arange(64)), torch.arange(64), random.counters(0, 4096)).reshape(-1)
    n = len(words)
    expected = n * n / 2 / 2**32
    assert abs((n - len(words.unique())) - expected) / np.sqrt(expected) < 4


# --- repeatable from the address alone ---


def plain_bits(seed: int, episode: int, tick: int, stream: int, lane: int) -> int:
    """The definition in plain integers."""
    golden = 0x9E3779B97F4A7C15

    def lea(z: int) -> int:
        for _ in range(2):
            z = (z ^ z >> 32) * 0xDABA0B6EB09322E3 % 2**64
        return z ^ z >> 32

    def join(z: int) -> int:
        return z ^ (0xFFFFFFFF << 32 if z >> 31 & 1 else 0)

    x = stream << 20 | lane
    for shift, multiplier in ((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB)):
        x = (x ^ x >> shift) * multiplier % 2**32
    x ^= x >> 14
    words = lea((join(lea((join(lea((seed + golden) % 2**64)) + episode * golden) % 2**64)) + tick * golden) % 2**64)
    x = (x + words % 2**32) % 2**32
    x = (x ^ x >> 16) * 0x21F0AAAD % 2**32 ^ words >> 32
    x = (x ^ x >> 15) * 0x735A2D97 % 2**32
    return x ^ x >> 15


@settings(deadline=None)
@given(
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**40),
    st.integers(-64, 2**40),
    st.integers(0, random.MAX_STREAMS - 1),
    st.integers(0, 4000),
)
def test_equals_plain_integers(seed: int, episode: int, tick: int, stream: int, index: int) -> None:
    word = random.bits(keys(seed, episode), torch.tensor([tick]), lane(index, stream))
    assert int(word) % 2**32 == plain_bits(seed, episode, tick, stream, index)


# (seed, episode, tick, stream, lane) and its word: published episodes rest on them, so they never change.
FROZEN: dict[tuple[int, ...], int] = {
    (0, 0, 0, 0, 0): 0xABD9543E,
    (1, 0, 0, 0, 0): 0x33614E3F,
    (0, 1, 0, 0, 0): 0xDDD1CEBA,
    (0, 0, 1, 0, 0): 0x8F049E43,
    (0, 0, 0, 1, 0): 0x04BA7064,
    (0, 0, 0, 0, 1): 0xE7B67203,
    (9223372036854775807, 1000, 10000, 2047, 1048575): 0x0FBE872F,
    (20240229, 3, -64, 5, 185): 0x14C5E27A,
}


@pytest.mark.parametrize("address", FROZEN)
def test_words_are_frozen(address: tuple[int, ...]) -> None:
    seed, episode, tick, stream, index = address
    word = random.bits(keys(seed, episode), torch.tensor([tick]), lane(index, stream))
    assert int(word) % 2**32 == FROZEN[address]


def test_a_row_depends_on_its_own_address_alone() -> None:
    seed, tick, counter = torch.arange(100, 133), torch.arange(33) * 7, random.counters(4, (3, 50))
    key = keys(seed)
    words = random.bits(key, tick, counter)
    assert words.shape == (33, 3, 50)
    for row in (0, 13, 32):
        assert torch.equal(random.bits(keys(seed[row]), tick[row : row + 1], counter)[0], words[row])
    assert torch.equal(random.bits(key[::2], tick[::2], counter[1, ::3]), words[::2, 1, ::3])
    assert torch.equal(random.bits(key.T.contiguous().T, tick, counter), words)
    assert torch.equal(random.bits(key, tick, counter), words)


def test_compiled_equals_eager_in_every_bit() -> None:
    def draw(seed: Tensor, episode: Tensor, tick: Tensor, counter: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        key = random.make_key(seed, episode)
        words = random.bits(key, tick, counter)
        return key, words, random.uniform(words)

    seed = torch.cat([torch.arange(31), torch.tensor([2**63 - 1])])
    for n in (1, 32):
        arguments = seed[-n:], torch.arange(n) * 3, torch.arange(n) - 16, random.counters(0, 211)
        compiled = torch.compile(draw, fullgraph=True, dynamic=False)(*arguments)
        assert all(torch.equal(a, b) for a, b in zip(compiled, draw(*arguments), strict=True))


def test_runs_on_the_device_of_its_arguments() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        seed = torch.zeros(3, dtype=torch.int64, device="cuda")
        words = random.bits(random.make_key(seed, seed), seed, random.counters(0, 5, "cuda"))
        assert random.uniform(words).device.type == "cuda"


# --- the parts ---


def test_keys_are_distinct() -> None:
    for key in (keys(torch.arange(1 << 17)), keys(5, torch.arange(1 << 17)), keys(1 << torch.arange(63))):
        assert key.dtype == torch.int32
        assert len(key.unique(dim=0)) == len(key)


def test_counters_are_distinct() -> None:
    counter = torch.cat([random.counters(stream, 1 << 10) for stream in range(random.MAX_STREAMS)])
    assert counter.dtype == torch.int32
    assert len(counter.unique()) == len(counter)
    assert len(random.counters(7, random.MAX_LANES).unique()) == random.MAX_LANES


def test_a_shape_of_lanes_counts_row_by_row() -> None:
    assert torch.equal(random.counters(3, (4, 5)).reshape(-1), random.counters(3, 20))
    assert torch.equal(random.counters(3, 20)[:7], random.counters(3, 7))


@pytest.mark.parametrize(("stream", "lanes"), [(-1, 4), (2048, 4), (0, 0), (0, 2**20 + 1), (0, (2, 0)), (0, (-1, -1))])
def test_counters_refuse_what_would_collide(stream: int, lanes: int | tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="stream"):
        random.counters(stream, lanes)


def test_uniform_is_exact_open_and_symmetric() -> None:
    words = torch.tensor([-(2**31), -1, 0, 2**31 - 1], dtype=torch.int32)
    u = random.uniform(words)
    assert u.dtype == torch.float32
    assert u.tolist() == [2.0**-24, 0.5 - 2.0**-24, 0.5 + 2.0**-24, 1 - 2.0**-24]
    words = over_lanes()
    assert torch.equal(random.uniform(~words), 1 - random.uniform(words))
    assert torch.equal(random.uniform(words).double() * 2**23 - 0.5, ((words >> 9) + 2**22).double())


def test_fresh_seeds_are_new_and_in_range() -> None:
    seeds = random.fresh_seeds(1000)
    assert seeds.dtype == torch.int64
    assert len(seeds.unique()) == 1000
    assert int(seeds.min()) >= 0
    assert int(seeds.max()) > 2**61
    assert random.fresh_seed() != random.fresh_seed()
