"""What the statistics share: the check of their input, and sums over time.

A series is a tensor [N, T], time last, any real dtype and device. All arithmetic is float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

# A series whose values differ by less than this share of the largest one has no variance, only the rounding of one.
_CONSTANT = 1e-13


def series(x: Tensor, needed: int, purpose: str) -> Tensor:
    """The series as float64, if it is one and long enough.

    Args:
        x: [N, T].
        needed: the shortest T that will do.
        purpose: what needs it, for the message.

    Raises:
        ValueError: not two axes, or T below `needed`.
    """
    if x.dim() != 2:
        raise ValueError(f"{purpose} takes a tensor [markets, ticks], got the shape {tuple(x.shape)}")
    if x.shape[1] < needed:
        raise ValueError(f"{purpose} needs at least T = {needed} ticks, got T = {x.shape[1]}")
    return x.to(torch.float64)


def pair(x: Tensor, y: Tensor, needed: int, purpose: str) -> tuple[Tensor, Tensor]:
    """Two series of one shape, as `series` gives them.

    Raises:
        ValueError: as in `series`, or the shapes differ.
    """
    if x.shape != y.shape:
        raise ValueError(f"{purpose} takes two tensors of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    return series(x, needed, purpose), series(y, needed, purpose)


def at_least(name: str, value: int, lowest: int) -> int:
    """The value itself.

    Raises:
        ValueError: it is below `lowest`.
    """
    if value < lowest:
        raise ValueError(f"{name} must be at least {lowest}, got {value}")
    return value


def centred(x: Tensor) -> Tensor:
    """Deviations from the mean over time, [N, T]; NaN all along a row that is constant or holds a NaN."""
    low, high = x.aminmax(dim=-1, keepdim=True)
    constant = high - low <= _CONSTANT * torch.maximum(high.abs(), low.abs())
    return (x - x.mean(-1, keepdim=True)).masked_fill(constant, torch.nan)


def lagged_products(x: Tensor, y: Tensor, max_lag: int) -> Tensor:
    """Σ_t x_t y_{t+k} for k = 0 … max_lag, [N, max_lag + 1]; what lies beyond the end counts as zero.

    By the Fourier transform (Wiener–Khinchin), padded with zeros so that the end doesn't wrap round to the start.
    """
    size = 1 << (x.shape[-1] + max_lag - 1).bit_length()
    transformed = torch.fft.rfft(x, size)
    other = transformed if y is x else torch.fft.rfft(y, size)
    return torch.fft.irfft(transformed.conj() * other, size)[:, : max_lag + 1]
