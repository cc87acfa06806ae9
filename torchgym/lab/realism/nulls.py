"""Null models: paths without what the stylised facts describe, which must fail them."""

from __future__ import annotations

import torch
from torch import Tensor

from torchgym.lab.realism.statistics import series
from torchgym.numerics import exact, random

_RETURN_STREAM, _ORDER_STREAM = 258, 259


def geometric_brownian(volatility: Tensor | float, *, paths: int, ticks: int, seed: int) -> Tensor:
    """Log prices whose returns are independent normals: [N, T] float64, 0 at the first tick, without drift; on the CPU.

    Args:
        volatility: standard deviation of one tick's log return; [N] or one number for all.
        paths: N.
        ticks: T, 2 to 2^20 + 1.
        seed: row i is the path of seed + i, whatever N, and begins alike whatever T.

    Raises:
        ValueError: a volatility that is negative, not finite or of another shape, or too few paths or ticks.

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
