"""Raises where the host would wait for a device, a tensor would cross between devices, or a GPU would round in another way."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
# Their results, or the shapes of their results, must be read back before the program can go on.
_WAITS = {
    _ATEN._local_scalar_dense.default,
    _ATEN.is_nonzero.default,
    _ATEN.equal.default,
    _ATEN.nonzero.default,
    _ATEN.masked_select.default,
    _ATEN._unique2.default,
    _ATEN.unique_dim.default,
    _ATEN.unique_consecutive.default,
    _ATEN.bincount.default,
    _ATEN.repeat_interleave.Tensor,
}
_DIVIDES = {_ATEN.div.Tensor, _ATEN.div_.Tensor, _ATEN.div.Scalar, _ATEN.div_.Scalar}
_PUTS = {_ATEN.index_put.default, _ATEN.index_put_.default, _ATEN._index_put_impl_.default}
_COPIES = {_ATEN._to_copy.default, _ATEN.copy_.default}


class HostSync(RuntimeError):
    """What a tick must not do."""


class SyncSentinel(TorchDispatchMode):
    """Watches every operation, on real CPU tensors as on fake ones.

    `.tolist()` and `.numpy()` pass unseen: they dispatch nothing.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _WAITS:
            raise HostSync(f"the host waits for {func}")
        if func is _ATEN.index.Tensor or func in _PUTS:
            _check_index(func, args)
        tensors = [leaf for leaf in pytree.arg_tree_leaves(*args, **kwargs) if isinstance(leaf, torch.Tensor)]
        out = func(*args, **kwargs)
        if func in _COPIES:
            source = tensors[-1] if func is _ATEN.copy_.default else tensors[0]
            if source.device.type != out.device.type:
                raise HostSync(f"a copy from {source.device} to {out.device}")
        return out


class ReciprocalUsed(RuntimeError):
    """What a tick must not do, either."""


class DivisionSentinel(TorchDispatchMode):
    """Refuses to divide real numbers by a constant whose reciprocal is rounded: on a GPU they are multiplied by that."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _DIVIDES and not isinstance(args[1], torch.Tensor) and abs(math.frexp(args[1])[0]) != 0.5:
            raise ReciprocalUsed(f"division by {args[1]}")
        return func(*args, **(kwargs or {}))


def _check_index(func: Any, args: Any) -> None:
    values = args[2] if len(args) > 2 else None
    fills = func in _PUTS and isinstance(values, torch.Tensor) and values.numel() == 1
    for index in args[1]:
        if isinstance(index, torch.Tensor):
            if index.dtype in (torch.bool, torch.uint8) and not fills:
                raise HostSync(f"a boolean index in {func}")
            if index.device != args[0].device:
                raise HostSync(f"an index on {index.device} in {func}")
