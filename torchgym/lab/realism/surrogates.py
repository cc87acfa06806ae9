"""Random paths to compare with: a circular block bootstrap over markets and over time, and null models without the facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from torchgym.lab.realism.statistics import series
from torchgym.numerics import exact, random
from torchgym.progress import Count, silent

_PATH_STREAM, _START_STREAM, _RETURN_STREAM, _ORDER_STREAM = 256, 257, 258, 259


def block_indices(
    num_paths: int, length: int, block: int, num_resamples: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The places that each resample reads: whole paths with replacement, then blocks inside each.

    A block is `block` ticks in a row, 1 to T, from a uniform start, running on from the end to the start of the path; a path is
    as many blocks as fill it, the last one cut. With one path only the blocks vary; with block = length each path is rotated, and
    only the paths vary. Resample i depends on the seed, 0 ≤ seed < 2^63, and i alone, so more resamples begin with the same.

    Yields path [N, 1] and tick [N, T], int64: `x[path, tick]` is the resample of x [N, T]. A ValueError for a count below 1, or a
    block longer than T.

    Source: Politis and Romano 1992, A circular block-resampling procedure for stationary data; Davison and Hinkley 1997,
    Bootstrap methods and their application, section 3.8 (two stages).
    """
    if min(num_paths, length, num_resamples) < 1:
        raise ValueError(
            f"a bootstrap needs at least one path, tick and resample, got {num_paths}, {length} and {num_resamples}"
        )
    if not 1 <= block <= length:
        raise ValueError(f"a block must be 1 to T = {length} ticks long, got {block}")
    path_counter = random.counters(_PATH_STREAM, 1)
    start_counter = random.counters(_START_STREAM, -(-length // block))
    place, inside = torch.arange(num_paths, device="cpu"), torch.arange(block, device="cpu")
    for resample in range(num_resamples):
        numbers = (torch.tensor([number], device="cpu") for number in (seed, resample))
        key = random.make_key(*numbers).expand(num_paths, 2)
        path = _below(num_paths, random.bits(key, place, path_counter))
        start = _below(length, random.bits(key, place, start_counter))
        tick = (start[..., None] + inside).flatten(1)[:, :length] % length
        yield path, tick


def interval(
    statistic: Callable[[dict[str, Tensor]], Mapping[str, Tensor]],
    arrays: Mapping[str, Tensor],
    *,
    block: int,
    resamples: int,
    coverage: float = 0.9,
    seed: int = 0,
    progress: Count = silent,
) -> dict[str, tuple[float, float]]:
    """Percentile interval for the median over markets of every entry of a statistic.

    All arrays are read at the same places, so what happened together stays together. Two limits to know: a dependence at lag k
    is shortened by the joints to 1 − k/block of itself, so the block should be many times the longest lag that matters; and
    both stages carry the noise within a path, so for markets that differ little the interval is up to √2 too wide. block = T
    has neither flaw, but needs a good number of markets.

    Args:
        statistic: of the arrays (resampled, shapes kept): a value per market, [N] each.
        arrays: [N, T] tensors, one shape, any dtype.
        block: ticks, 1 to T.
        resamples: how often the statistic is computed.
        coverage: share of resampled medians inside, between 0 and 1.
        seed: 0 ≤ seed < 2^63; the same seed gives the same interval.
        progress: called with (resamples done, resamples) after each.

    Returns:
        name -> (low, high), quantiles of the resampled medians. A median is the mean of the two middle values where N is even;
        markets where an entry is NaN are left out of it; NaN where all are.

    Raises:
        ValueError: no arrays, shapes that differ or are not [N, T], block, resamples or coverage out of range.
    """
    if not 0.0 < coverage < 1.0:
        raise ValueError(f"coverage must lie between 0 and 1, got {coverage}")
    shapes = {tuple(x.shape) for x in arrays.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"arrays must share one shape [markets, ticks], got {sorted(shapes)}")
    ((paths, ticks),) = shapes
    medians: dict[str, list[Tensor]] = {}
    for done, (path, tick) in enumerate(block_indices(paths, ticks, block, resamples, seed), start=1):
        resampled = {name: x[path.to(x.device), tick.to(x.device)] for name, x in arrays.items()}
        for name, values in statistic(resampled).items():
            medians.setdefault(name, []).append(values.nanquantile(0.5))
        progress(done, resamples)
    tails = torch.tensor([(1.0 - coverage) / 2.0, (1.0 + coverage) / 2.0], dtype=torch.float64, device="cpu")
    stacked = {name: torch.stack(values).cpu().to(torch.float64) for name, values in medians.items()}
    return {name: tuple(values.nanquantile(tails).tolist()) for name, values in stacked.items()}


def _below(count: int, bits: Tensor) -> Tensor:
    """Uniform integers in [0, count), int64; in float64, where no product rounds up to `count`."""
    return (random.uniform(bits).to(torch.float64) * count).to(torch.int64)


def geometric_brownian(volatility: Tensor | float, *, paths: int, ticks: int, seed: int) -> Tensor:
    """Log prices whose returns are independent normals: [N, T] float64, 0 at the first tick, without drift; on the CPU.

    Args:
        volatility: standard deviation of one tick's log return, finite and not negative; [N] or one number for all.
        paths: N, at least 1.
        ticks: T, 2 to 2^20 + 1.
        seed: row i is the path of seed + i, whatever N, and begins alike whatever T.

    Source: Samuelson 1965, Rational theory of warrant pricing.
    """
    scale = torch.as_tensor(volatility, dtype=torch.float64, device="cpu")
    if scale.shape not in ((), (paths,)):
        raise ValueError(f"volatility must be a number or [{paths}], got the shape {tuple(scale.shape)}")
    if not bool((scale.isfinite() & (scale >= 0.0)).all()):
        raise ValueError("volatility must be finite and not negative")
    if paths < 1 or ticks < 2:
        raise ValueError(f"a path needs two ticks and there must be one path, got {ticks} ticks and {paths} paths")
    uniforms = random.uniform(_row_bits(_RETURN_STREAM, paths, ticks - 1, seed)).to(torch.float64)
    log_price = torch.zeros(paths, ticks, dtype=torch.float64, device="cpu")
    log_price[:, 1:] = (exact.normal(uniforms) * scale.reshape(-1, 1)).cumsum(-1)
    return log_price


def shuffled(returns: Tensor, *, seed: int) -> Tensor:
    """Each path's own returns [N, T] in random order: its distribution to the last value, and no memory.

    T is at most 2^20; row i is ordered by seed + i, whatever N.
    """
    returns = series(returns, 1, "shuffling")
    rows, columns = returns.shape
    order = _row_bits(_ORDER_STREAM, rows, columns, seed).argsort(dim=-1, stable=True)
    return returns.gather(1, order.to(returns.device))


def _row_bits(stream: int, rows: int, columns: int, seed: int) -> Tensor:
    """Random words [rows, columns] int32, each row from a seed of its own."""
    zero = torch.zeros(rows, dtype=torch.int64, device="cpu")
    key = random.make_key(seed + torch.arange(rows, device="cpu"), zero)
    return random.bits(key, zero, random.counters(stream, columns))
