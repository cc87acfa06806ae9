"""Counter-based random numbers: a pure function of (seed, episode, tick, stream, lane), and the only place that samples.

There is no generator and no state. `make_key` turns a seed and an episode into 64 bits; `counters` gives every (stream, lane) a
word of its own, once; `bits` turns key, tick and counter into 32 random bits. So a market's numbers depend on nothing beside its
own address: not on the batch, not on what was drawn before.

    state    = key + tick · golden ratio                  64 bits per market and tick: a Weyl sequence,
    w0, w1   = mix_lea64(state)                           mixed one-to-one, so no two ticks of a market share both words
    x        = counter + w0                               32 bits per lane,
    x        = two rounds of xorshift and multiplication, with w1 entering between them

Sources: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3 (counters instead of state). Steele, Lea and Flood
2014, Fast splittable pseudorandom number generators (mixed multiples of the golden ratio). Steele and Vigna 2021, LXM: better
splittable pseudorandom number generators (Doug Lea's 64-bit mixing function, `mixLea64` in Java). Wellons,
github.com/skeeto/hash-prospector (the 32-bit rounds 16-21f0aaad-15-735a2d97-15, and `triple32`: found by search as the least
biased of two and three rounds).

Not for cryptography.
"""

from __future__ import annotations

import math
import secrets

import torch
from torch import Tensor

from torchgym.numerics.exact import Constants

MAX_STREAMS = 1 << 11
MAX_LANES = 1 << 20
SEED_BITS = 63


def _signed(word: int, width: int) -> int:
    """The word's bits read as a two's complement number of that width."""
    return word - (1 << width) if word >> (width - 1) else word


# golden ratio, multiplier, half a word, mask of its low half
_MIX64 = Constants(torch.int64, _signed(0x9E3779B97F4A7C15, 64), _signed(0xDABA0B6EB09322E3, 64), 32, (1 << 32) - 1)
# the shifts with their masks, and the two multipliers
_MIX32 = Constants(torch.int32, 16, (1 << 16) - 1, 15, (1 << 17) - 1, 0x21F0AAAD, 0x735A2D97)
_UNIFORM_SHIFT = Constants(torch.int32, 9)
_UNIFORM = Constants(torch.float32, 2.0**22 + 0.5, 2.0**-23)


def make_key(seed: Tensor, episode: Tensor) -> Tensor:
    """Address of one episode's random numbers: 64 well mixed bits.

    For a given episode the map from seed to key is one-to-one, and likewise from episode to key for a given seed.

    Args:
        seed: [N] int64, 0 ≤ seed < 2^63; every bit counts.
        episode: [N] int64, 0 for the first.

    Returns:
        [N, 2] int32: the low and the high half.
    """
    golden, _, _, _ = _MIX64()
    low, high = _mix64(seed + golden)  # the mixing leaves 0 where it is
    low, high = _mix64(_join(low, high) + episode * golden)
    return torch.stack([low, high], dim=-1)


def counters(stream: int, lanes: int | tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """One word for each lane of a stream, to be made once and kept.

    (stream, lane) is packed one-to-one into a word and scrambled by a permutation, so no two pairs ever share a counter and
    neighbouring lanes have nothing in common.

    Args:
        stream: which kind of draw, 0 ≤ stream < 2048.
        lanes: how many numbers the stream yields per market and tick, at most 2^20; a shape numbers its elements row by row.
        device: where the counters live.

    Returns:
        int32 of shape [lanes], or of the shape given.

    Raises:
        ValueError: stream or number of lanes out of range.
    """
    shape = (lanes,) if isinstance(lanes, int) else tuple(lanes)
    if not 0 <= stream < MAX_STREAMS:
        raise ValueError(f"stream must be at least 0 and below {MAX_STREAMS}, got {stream}")
    if min(shape, default=1) < 1 or math.prod(shape) > MAX_LANES:
        raise ValueError(f"a stream has 1 to {MAX_LANES} lanes, got {lanes}")
    return lane_counters(stream, torch.arange(math.prod(shape), dtype=torch.int32, device=device).reshape(shape))


def lane_counters(stream: int, lanes: Tensor) -> Tensor:
    """The words of some lanes of a stream: int32 of any shape, each from 0 to 2^20 - 1."""
    return _triple32(lanes + (stream << 20))


def bits(key: Tensor, tick: Tensor, counter: Tensor) -> Tensor:
    """32 random bits for every market and counter; the same arguments give the same bits, for ever.

    Args:
        key: [N, 2] int32, from `make_key`.
        tick: [N] int64, any value.
        counter: int32 of any shape, from `counters`, or several of them joined.

    Returns:
        int32 [N, *counter.shape].
    """
    low_shift, low_mask, shift, mask, first, second = _MIX32()
    golden, _, _, _ = _MIX64()
    state = tick * golden + _join(*key.unbind(-1))
    w0, w1 = _mix64(state.view(-1, *(1 for _ in counter.shape)))
    x = counter + w0
    x = (x ^ (x >> low_shift & low_mask)) * first
    x = x ^ w1
    x = (x ^ (x >> shift & mask)) * second
    return x ^ (x >> shift & mask)


def uniform(bits: Tensor) -> Tensor:
    """Uniform number in the open interval (0, 1): (k + ½) · 2^-23, k being the top 23 bits, exact in float32.

    The bits count as a signed number, so that u grows with them, and 1 − u is again such a number. Never 0, ½ or 1.

    Args:
        bits: int32 of any shape.

    Returns:
        float32 of the same shape.
    """
    (drop,) = _UNIFORM_SHIFT()
    offset, step = _UNIFORM()
    return ((bits >> drop).to(torch.float32) + offset) * step


def fresh_seed() -> int:
    """A seed from the operating system's entropy, 0 ≤ seed < 2^63: the one door for what cannot be repeated."""
    return secrets.randbits(SEED_BITS)


def fresh_seeds(n: int) -> Tensor:
    """As many independent seeds, [n] int64."""
    return torch.tensor([fresh_seed() for _ in range(n)], dtype=torch.int64, device="cpu")


def _join(low: Tensor, high: Tensor) -> Tensor:
    """Two int32 words as one int64, one-to-one; the low word's sign flips the high word, which costs nothing to allow."""
    _, _, half, _ = _MIX64()
    return high.to(torch.int64) << half ^ low


def _mix64(state: Tensor) -> tuple[Tensor, Tensor]:
    """Doug Lea's permutation of 64 bits, as its low and high int32 halves.

    The last of its three xorshifts by 32 leaves the high half alone and folds it into the low one, so it is done on the halves.
    """
    _, multiplier, half, mask = _MIX64()
    for _ in range(2):
        state = (state >> half & mask ^ state) * multiplier
    high = (state >> half).to(torch.int32)
    return state.to(torch.int32) ^ high, high


def _triple32(x: Tensor) -> Tensor:
    """Wellons' three-round permutation of 32 bits."""
    for shift, multiplier in ((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB)):
        x = (x ^ (x >> shift & (1 << 32 - shift) - 1)) * _signed(multiplier, 32)
    return x ^ (x >> 14 & (1 << 18) - 1)
