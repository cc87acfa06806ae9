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
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.config import RANDOMIZABLE
from torchgym.numerics import exact
from torchgym.numerics.exact import Constants
from torchgym.sim.state import Layout

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
    lane = torch.arange(math.prod(shape), dtype=torch.int32, device=device).reshape(shape)
    return _triple32(lane + (stream << 20))


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
    state = (tick * golden).add_(_join(*key.unbind(-1)))
    w0, w1 = _mix64(state.view(-1, *(1 for _ in counter.shape)))
    x = counter + w0
    x = x.bitwise_xor_((x >> low_shift).bitwise_and_(low_mask)).mul_(first)
    x = x.bitwise_xor_(w1)
    x = x.bitwise_xor_((x >> shift).bitwise_and_(mask)).mul_(second)
    return x.bitwise_xor_((x >> shift).bitwise_and_(mask))


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
    return (bits >> drop).to(torch.float32).add_(offset).mul_(step)


def fresh_seed() -> int:
    """A seed from the operating system's entropy, 0 ≤ seed < 2^63: the one door for what cannot be repeated."""
    return secrets.randbits(SEED_BITS)


def fresh_seeds(n: int) -> Tensor:
    """As many independent seeds, [n] int64."""
    return torch.tensor([fresh_seed() for _ in range(n)], dtype=torch.int64, device="cpu")


def _join(low: Tensor, high: Tensor) -> Tensor:
    """Two int32 words as one int64, one-to-one; the low word's sign flips the high word, which costs nothing to allow."""
    _, _, half, _ = _MIX64()
    return (high.to(torch.int64) << half).bitwise_xor_(low)


def _mix64(state: Tensor) -> tuple[Tensor, Tensor]:
    """Doug Lea's permutation of 64 bits, as its low and high int32 halves.

    The last of its three xorshifts by 32 leaves the high half alone and folds it into the low one, so it is done on the halves.
    """
    _, multiplier, half, mask = _MIX64()
    for _ in range(2):
        state = ((state >> half).bitwise_and_(mask)).bitwise_xor_(state).mul_(multiplier)
    high = (state >> half).to(torch.int32)
    return state.to(torch.int32).bitwise_xor_(high), high


def _triple32(x: Tensor) -> Tensor:
    """Wellons' three-round permutation of 32 bits."""
    for shift, multiplier in ((17, 0xED5AD4BB), (11, 0xAC4C1B51), (15, 0x31848BAB)):
        x = (x ^ (x >> shift & (1 << 32 - shift) - 1)) * _signed(multiplier, 32)
    return x ^ (x >> 14 & (1 << 18) - 1)


@dataclass
class Draws:
    """One tick's numbers for one family, [N, S, n] float32: three uniforms and a standard normal per trader."""

    u0: Tensor
    u1: Tensor
    u2: Tensor
    normal: Tensor


@dataclass
class StartDraws:
    """What a family draws when a market opens, [N, S, n] float32: five uniforms and four standard normals per trader."""

    u0: Tensor
    u1: Tensor
    u2: Tensor
    u3: Tensor
    u4: Tensor
    normal: Tensor
    normal_2: Tensor
    normal_3: Tensor
    normal_4: Tensor


@dataclass
class Noise:
    """All random numbers of one tick. The same count every tick, so paired runs share their noise by construction."""

    traders: Tensor  # [N, 4, S, singles] float32: three uniforms and a normal of each trader
    value: (
        Tensor  # [N, S, 7] float64 normals: public move, private move, three volatility shocks, news, public estimate
    )
    factors: Tensor  # [N, 1 + sectors] float64 normals: market, sectors
    coin: Tensor  # [N, S] int64, 0 or 1
    news: Tensor  # [N, S, 3] float64 uniforms: kind, sentiment, magnitude
    factor_news: Tensor  # [N, 1 + sectors, 3] float64 uniforms

    def trader(self, place: slice) -> Draws:
        """The numbers of one family."""
        block = self.traders[..., place]
        return Draws(u0=block[:, 0], u1=block[:, 1], u2=block[:, 2], normal=block[:, 3])


@dataclass
class StartNoise:
    """All random numbers with which a market opens."""

    traders: Tensor  # [N, 9, S, A] float32: five uniforms and four normals of each owner
    value: Tensor  # [N, S, 6] float64 normals: value, three volatilities, public estimate, opening price

    def trader(self, place: slice) -> StartDraws:
        """The numbers of one family."""
        return StartDraws(*(self.traders[:, kind, :, place] for kind in range(9)))


# A family keeps its stream whatever else lives in the market, so that changing one population leaves the others' noise alone.
# Families that users add get theirs by their name; see `family_streams`.
_FAMILY_STREAMS = {
    name: 1 + index
    for index, name in enumerate(
        ("value", "trend", "reversion", "noise", "executor", "news", "stop", "pairs", "rotator", "maker")
    )
}
_VALUE, _FACTORS, _COIN, _NEWS, _FACTOR_NEWS, _START_VALUE = range(64, 70)
_PARAMS = 70
_START = 128  # added to a family's stream for the opening draws
_ADDED, _ADDED_START, _ADDED_ROOM = 256, 1280, 744  # where the streams of added families begin, and how many there are
_TICK_NORMALS, _TICK_UNIFORMS = 1, 3
_START_NORMALS, _START_UNIFORMS = 4, 5


@dataclass(frozen=True)
class Lanes:
    """Addresses of every number a tick and an opening draw: the normals first, then the uniforms. int32 [L]."""

    tick: Tensor
    start: Tensor


def family_streams(names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Streams of each family: of a tick's draws, and of those with which a market opens.

    What torchgym does not know falls on streams 256-999 and 1280-2023 by a checksum of its name, so that its luck depends on
    nothing else.

    Raises:
        ValueError: when two names fall on the same streams; another name mends it.
    """
    found: dict[str, tuple[int, int]] = {}
    for name in names:
        place = zlib.crc32(name.encode()) % _ADDED_ROOM
        known = _FAMILY_STREAMS.get(name)
        own = (_ADDED + place, _ADDED_START + place) if known is None else (known, known + _START)
        twin = next((other for other, taken in found.items() if taken == own), None)
        if twin is not None:
            raise ValueError(f"the families {twin!r} and {name!r} would draw the same numbers: rename one of them")
        found[name] = own
    return found


def lanes(places: Layout, device: torch.device) -> Lanes:
    """Lay out the addresses for one configuration."""

    def block(stream: int, *shape: int) -> Tensor:
        return counters(stream, math.prod(shape), device).reshape(shape)

    streams = family_streams([*places.families, "maker"])

    def families(kinds: range, *, opening: bool) -> Tensor:
        """[kinds, S, traders]: each family's stream, kind by kind, in the order of the layout; makers draw at openings only."""
        counts = {name: place.stop - place.start for name, place in places.families.items()}
        if opening:
            counts["maker"] = places.makers
        blocks = [
            block(streams[name][1 if opening else 0], kinds.stop, places.symbols, count)[kinds.start :]
            for name, count in counts.items()
        ]
        return torch.cat(blocks, dim=-1).flatten()

    symbols, factors = places.symbols, 1 + places.sectors
    tick = [
        families(range(_TICK_NORMALS), opening=False),
        block(_VALUE, symbols * 7),
        block(_FACTORS, factors),
        families(range(_TICK_NORMALS, _TICK_NORMALS + _TICK_UNIFORMS), opening=False),
        block(_COIN, symbols),
        block(_NEWS, symbols * 3),
        block(_FACTOR_NEWS, factors * 3),
    ]
    start = [
        families(range(_START_NORMALS), opening=True),
        block(_START_VALUE, symbols * 6),
        families(range(_START_NORMALS, _START_NORMALS + _START_UNIFORMS), opening=True),
    ]
    return Lanes(tick=torch.cat(tick), start=torch.cat(start))


def draw(places: Layout, addresses: Lanes, key: Tensor, tick: Tensor) -> Noise:
    """The noise of one tick: key [N, 2] int32, tick [N] int64. A pure function of both."""
    symbols, factors, singles = places.symbols, 1 + places.sectors, places.singles
    uniforms = uniform(bits(key, tick, addresses.tick))
    count = symbols * singles + symbols * 7 + factors
    normals = exact.normal(uniforms[:, :count])
    cut = torch.split(normals, [symbols * singles, symbols * 7, factors], dim=1)
    rest = torch.split(uniforms[:, count:], [3 * symbols * singles, symbols, symbols * 3, factors * 3], dim=1)
    markets = key.shape[0]
    return Noise(
        traders=torch.cat(
            [rest[0].reshape(markets, 3, symbols, singles), cut[0].reshape(markets, 1, symbols, singles)], dim=1
        ),
        value=cut[1].reshape(markets, symbols, 7).to(torch.float64),
        factors=cut[2].to(torch.float64),
        coin=(rest[1] < 0.5).to(torch.int64),
        news=rest[2].reshape(markets, symbols, 3).to(torch.float64),
        factor_news=rest[3].reshape(markets, factors, 3).to(torch.float64),
    )


def draw_start(places: Layout, addresses: Lanes, key: Tensor) -> StartNoise:
    """The noise with which a market opens: key [N, 2] int32."""
    symbols, owners, markets = places.symbols, places.owners, key.shape[0]
    uniforms = uniform(bits(key, torch.zeros(markets, dtype=torch.int64, device=key.device), addresses.start))
    count = 4 * symbols * owners + symbols * 6
    normals = exact.normal(uniforms[:, :count])
    return StartNoise(
        traders=torch.cat(
            [
                uniforms[:, count:].reshape(markets, 5, symbols, owners),
                normals[:, : 4 * symbols * owners].reshape(markets, 4, symbols, owners),
            ],
            dim=1,
        ),
        value=normals[:, 4 * symbols * owners :].reshape(markets, symbols, 6).to(torch.float64),
    )


def draw_params(key: Tensor) -> dict[str, Tensor]:
    """The uniform number behind each parameter that a market may draw, whether it is drawn or not.

    Args:
        key: [N, 2] int32, of the episode.

    Returns:
        [N] float32 for each row of `torchgym.config.RANDOMIZABLE`.
    """
    opening = torch.zeros(key.shape[0], dtype=torch.int64, device=key.device)
    uniforms = uniform(bits(key, opening, counters(_PARAMS, len(RANDOMIZABLE), key.device)))
    return dict(zip(RANDOMIZABLE, uniforms.unbind(-1), strict=True))
