"""Which random numbers a market draws, and from which address: its opening, its ticks, its parameters.

Every kind of draw has a stream and every number in it a lane (`torchgym.numerics.random`), so a trader's numbers depend on
nothing beside the market's seed, episode and tick, the trader's family and its place in it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.config import Structure
from torchgym.numerics import exact
from torchgym.numerics.random import MAX_LANES, bits, counters, lane_counters, uniform


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

    uniforms: Tensor  # [N, 3, S, singles] float32: of each trader
    normals: Tensor  # [N, S, singles] float32: of each trader
    value: (
        Tensor  # [N, S, 7] float64 normals: public move, private move, three volatility shocks, news, public estimate
    )
    factors: Tensor  # [N, 1 + sectors] float64 normals: market, sectors
    coin: Tensor  # [N, S] int64, 0 or 1
    news: Tensor  # [N, S, 3] float64 uniforms: kind, sentiment, magnitude
    factor_news: Tensor  # [N, 1 + sectors, 3] float64 uniforms

    def of_families(self, counts: list[int]) -> list[Draws]:
        """The numbers of each family, in the order of the layout; `counts` says how many traders each has."""
        each = (own.unbind(1) for own in self.uniforms.split(counts, dim=-1))
        return [Draws(u0, u1, u2, n) for (u0, u1, u2), n in zip(each, self.normals.split(counts, dim=-1), strict=True)]


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
        ("value", "trend", "reversion", "noise", "meta_order", "news", "stop", "pairs", "rotator", "maker", "taker")
    )
}
_VALUE, _FACTORS, _COIN, _NEWS, _FACTOR_NEWS, _START_VALUE = range(64, 70)
_PARAMS = 70
_START = 128  # added to a family's stream for the opening draws
_ADDED, _ADDED_START, _ADDED_ROOM = 256, 1280, 744  # where the streams of added families begin, and how many there are
_TICK_NORMALS, _TICK_UNIFORMS = 1, 3
_START_NORMALS, _START_UNIFORMS = 4, 5


@dataclass(frozen=True)
class NoisePlan:
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
    taken_streams: dict[str, tuple[int, int]] = {}
    for name in names:
        place = zlib.crc32(name.encode()) % _ADDED_ROOM
        known = _FAMILY_STREAMS.get(name)
        own = (_ADDED + place, _ADDED_START + place) if known is None else (known, known + _START)
        twin = next((other for other, taken in taken_streams.items() if taken == own), None)
        if twin is not None:
            raise ValueError(f"the families {twin!r} and {name!r} would draw the same numbers: rename one of them")
        taken_streams[name] = own
    return taken_streams


def make_plan(structure: Structure, device: torch.device) -> NoisePlan:
    """Lay out the addresses for one configuration."""

    def block(stream: int, *shape: int) -> Tensor:
        return counters(stream, math.prod(shape), device).reshape(shape)

    streams = family_streams(structure.families)

    def families(kinds: range, *, opening: bool) -> Tensor:
        """[kinds, S, traders]: each family's stream, kind by kind, in the order of the layout; makers draw at openings only."""
        places = structure.families if opening else structure.orders
        counts = {name: place.stop - place.start for name, place in places.items() if place.stop > place.start}
        blocks = [
            block(streams[name][1 if opening else 0], kinds.stop, structure.num_symbols, count)[kinds.start :]
            for name, count in counts.items()
        ]
        return torch.cat(blocks, dim=-1).flatten()

    symbols, factors = structure.num_symbols, 1 + structure.num_sectors
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
    return NoisePlan(tick=torch.cat(tick), start=torch.cat(start))


def draw(structure: Structure, plan: NoisePlan, key: Tensor, tick: Tensor) -> Noise:
    """The noise of one tick: key [N, 2] int32, tick [N] int64. A pure function of both."""
    symbols, factors, singles = structure.num_symbols, 1 + structure.num_sectors, structure.singles
    uniforms = uniform(bits(key, tick, plan.tick))
    count = symbols * singles + symbols * 7 + factors
    normals = exact.normal(uniforms[:, :count])
    cut = torch.split(normals, [symbols * singles, symbols * 7, factors], dim=1)
    rest = torch.split(uniforms[:, count:], [3 * symbols * singles, symbols, symbols * 3, factors * 3], dim=1)
    markets = key.shape[0]
    return Noise(
        uniforms=rest[0].reshape(markets, 3, symbols, singles),
        normals=cut[0].reshape(markets, symbols, singles),
        value=cut[1].reshape(markets, symbols, 7).to(torch.float64),
        factors=cut[2].to(torch.float64),
        coin=(rest[1] < 0.5).to(torch.int64),
        news=rest[2].reshape(markets, symbols, 3).to(torch.float64),
        factor_news=rest[3].reshape(markets, factors, 3).to(torch.float64),
    )


def draw_start(structure: Structure, plan: NoisePlan, key: Tensor) -> StartNoise:
    """The noise with which a market opens: key [N, 2] int32."""
    symbols, owners, markets = structure.num_symbols, structure.owners, key.shape[0]
    uniforms = uniform(bits(key, torch.zeros(markets, dtype=torch.int64, device=key.device), plan.start))
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


# Lanes of the numbers that could be drawn before every number could.
_FIRST_LANES = {
    path: lane
    for lane, path in enumerate(
        (
            *("fundamentals.volatility", "fundamentals.public_share", "fundamentals.news_rate"),
            *("population.maker.base_width", "population.maker.volatility_width", "population.maker.surprise_gain"),
            *("population.value.rate_factor", "population.trend.rate_factor", "population.reversion.rate_factor"),
            *("population.noise.rate", "population.meta_order.rate", "population.news.rate", "population.stop.rate"),
        )
    )
}


def param_lanes(paths: Iterable[str]) -> list[int]:
    """The lane of each number of the configuration, by its path: the same whatever else is drawn.

    Raises:
        ValueError: when two paths fall on the same lane.
    """
    taken_lanes: dict[int, str] = {}
    for path in paths:
        lane = _FIRST_LANES.get(path, 64 + zlib.crc32(path.encode()) % (MAX_LANES - 64))
        if taken_lanes.setdefault(lane, path) != path:
            raise ValueError(f"{taken_lanes[lane]!r} and {path!r} would be drawn alike: randomize only one of them")
    return list(taken_lanes)


def draw_params(key: Tensor, paths: Sequence[str]) -> dict[str, Tensor]:
    """The uniform number behind each parameter.

    Args:
        key: [N, 2] int32, of the episode.
        paths: of numbers of the configuration.

    Returns:
        [N] float32 by path.
    """
    opening = torch.zeros(key.shape[0], dtype=torch.int64, device=key.device)
    lanes = torch.tensor(param_lanes(paths), dtype=torch.int32, device=key.device)
    return dict(zip(paths, uniform(bits(key, opening, lane_counters(_PARAMS, lanes))).unbind(-1), strict=True))
