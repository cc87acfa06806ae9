"""Trees of tensors: nested dataclasses and dicts whose leaves are tensors that begin with the batch.

A field of another kind is passed on as it is: names, sizes, and other things that are the same for the whole batch. A field that
is None has no leaves.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")


def leaves(tree: object) -> Iterator[tuple[str, Tensor]]:
    """All tensors of nested dataclasses and dicts with their dotted names, always in the same order.

    >>> [name for name, _ in leaves({"a": {"b": torch.zeros(1)}, "c": torch.zeros(1)})]
    ['a.b', 'c']
    """
    for key, child in _children(tree):
        if isinstance(child, Tensor):
            yield key, child
        else:
            yield from ((f"{key}.{name}", leaf) for name, leaf in leaves(child))


def map_tensors(function: Callable[..., Tensor], tree: T, *others: T) -> T:
    """The same tree with `function` applied to each tensor (and the ones at its place in the others)."""
    if isinstance(tree, Tensor):
        return cast(T, function(tree, *others))
    mapped = {
        key: map_tensors(function, child, *(_child(other, key) for other in others)) for key, child in _children(tree)
    }
    return cast(T, mapped if isinstance(tree, dict) else dataclasses.replace(cast(Any, tree), **mapped))


def unflatten(tree: T, flat: Iterable[Tensor]) -> T:
    """The tree with these tensors at its places, in the order of `leaves`."""
    given = iter(flat)
    return map_tensors(lambda _: next(given), tree)


def _children(tree: object) -> list[tuple[str, Any]]:
    if isinstance(tree, dict):
        return list(tree.items())
    kind: Any = type(tree)
    children = ((name, getattr(tree, name)) for name in _names(kind))
    return [(name, child) for name, child in children if child is not None]


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    """The fields of a dataclass that may hold tensors."""
    return tuple(entry.name for entry in dataclasses.fields(kind) if not entry.metadata.get("static"))


def _child(tree: object, key: str) -> Any:
    return tree[key] if isinstance(tree, dict) else getattr(tree, key)


def rows(tree: T, index: Tensor) -> T:
    """The markets at `index` [n] int64, copied."""
    return map_tensors(lambda tensor: tensor.index_select(0, index), tree)


def put_rows(tree: T, index: Tensor, part: T) -> T:
    """A copy of the tree with `part` at the markets `index`; the other rows keep every bit."""
    return map_tensors(lambda tensor, new: tensor.index_copy(0, index, new), tree, part)


def clone(tree: T) -> T:
    """A copy that shares no memory."""
    return map_tensors(lambda tensor: tensor.clone(), tree)


def choose_rows(mask: Tensor, tree: T, other: T) -> T:
    """The markets of the mask [N] bool from the first tree, the rest from the other."""

    def choose(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(mask.reshape(-1, *[1] * (new.dim() - 1)), new, old)

    return map_tensors(choose, tree, other)
