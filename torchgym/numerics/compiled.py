"""What a compiled graph does otherwise than an uncompiled step, in the same bits: sums and searches, and what it writes down.

A compiled step is fast where it consists of few loops, so a graph adds and compares in passes that the compiler fuses with what
comes before. Uncompiled, every operation costs about the same, so the fewer there are the better.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CROWD = 1024  # more numbers than that are too many for the nearest cache
_BLOCK = 128  # numbers of a crowd whose running sums are formed together


def stored(values: Tensor) -> Tensor:
    """The same tensor; a compiled graph writes it down here instead of computing it anew in each loop that reads it."""
    return values.as_strided(values.shape, values.stride()) if torch.compiler.is_compiling() else values


def sum_of_few(integers: Tensor) -> Tensor:
    """Sum of a few integers over the last axis, in their dtype: [..., n] to [..., 1].

    A compiled graph adds them one by one: it reduces only float32 fast.
    """
    if not torch.compiler.is_compiling():
        return integers.sum(-1, keepdim=True, dtype=integers.dtype)
    first, *others = integers.split(1, -1)
    return sum(others, start=first)


def running_sum(sizes: Tensor) -> Tensor:
    """Cumulative sums over the last axis in the same dtype, of integers, so that the order of the additions changes no bit.

    Uncompiled it is one call. A compiled graph would have to leave its loops for that call, and adds in doubling strides instead,
    a crowd block by block.
    """
    if not torch.compiler.is_compiling():
        return torch.cumsum(sizes, dim=-1, dtype=sizes.dtype)
    if sizes.shape[-1] > _CROWD:
        whole = sizes.shape[-1] // _BLOCK * _BLOCK
        within = running_sum(sizes[..., :whole].unflatten(-1, (-1, _BLOCK)))
        blocks = running_sum(within[..., -1])
        upto = within + (blocks - within[..., -1]).unsqueeze(-1)
        return torch.cat([upto.flatten(-2), running_sum(sizes[..., whole:]) + blocks[..., -1:]], dim=-1)
    stride = 1
    while stride < sizes.shape[-1]:
        sizes = torch.cat([sizes[..., :stride], sizes[..., stride:] + sizes[..., :-stride]], dim=-1)
        stride *= 2
    return sizes


def last_level(position: Tensor, weight: Tensor, bound: Tensor, *, low: Tensor, span: int) -> Tensor:
    """The last of the levels low, low + 1, ... with a weight of less than `bound` at the positions below it.

    At least `span` levels above the lowest are searched, and beyond them up to a power of 2. Where even the lowest has `bound` or
    more below it, it is the lowest. A compiled graph halves the levels by a pass over the orders; over a crowd, which waits for
    memory, it quarters them.

    Args:
        position: [N, S, K] float32, whole.
        weight: [N, S, K] float32, whole, none negative.
        bound: [N, S, 1] float32, whole, at least 1.
        low: [N, S, 1] float32, whole.
    """
    highest = low + float(2 ** span.bit_length() - 1)
    if not torch.compiler.is_compiling():
        rising, order = position.sort(-1)
        reached = weight.gather(-1, order).cumsum(-1) >= bound
        last = torch.where(reached, rising, highest).amin(-1, keepdim=True)
        return torch.minimum(torch.maximum(last, low), highest)
    bits = 2 if position.shape[-1] > _CROWD else 1
    for power in reversed(range(0, span.bit_length(), bits)):
        for level in [low + float(part * 2**power) for part in range(1, 2**bits)]:
            low = torch.where((weight * (position < level)).sum(-1, keepdim=True) < bound, level, low)
    return torch.minimum(low, highest)
