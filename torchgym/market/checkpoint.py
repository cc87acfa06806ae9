"""Markets on disk: settings and every tensor, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

CHECKPOINT_VERSION = 2


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    """Settings and tensors of a file that `Market.save` wrote, on the CPU.

    Raises:
        ValueError: when it is not such a file, damaged, or of another version.
    """
    name = os.fspath(path)
    with open(path, "rb") as file:
        try:
            saved = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # what a damaged file raises depends on where it is damaged
            raise ValueError(f"{name} cannot be read: it is damaged, or not a torchgym checkpoint") from error
    if not isinstance(saved, Mapping) or "torchgym_checkpoint" not in saved:
        raise ValueError(f"{name} is not a torchgym checkpoint")
    version = saved["torchgym_checkpoint"]
    if version != CHECKPOINT_VERSION:
        raise ValueError(
            f"{name} is a checkpoint of version {version}, this torchgym reads version {CHECKPOINT_VERSION}:"
            " load it with the torchgym that wrote it"
        )
    settings, tensors = saved.get("config", {}), saved.get("state", {})
    if "clock.seed" not in tensors or not all(isinstance(leaf, Tensor) for leaf in tensors.values()):
        raise ValueError(f"{name} is a damaged checkpoint: its settings or tensors are missing")
    return settings, tensors
