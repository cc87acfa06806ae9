"""Markets on disk: settings and every tensor, bit for bit; and what can be no market."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchgym.config import MarketConfig, Structure
from torchgym.files import open_sealed, replacing_sealed
from torchgym.numerics.trees import leaves, unflatten
from torchgym.sim import invariants
from torchgym.sim.params import Params, make_params
from torchgym.sim.state import MarketState

CHECKPOINT_VERSION = 6


def write_checkpoint(path: Path, config: MarketConfig, params: Params, state: MarketState) -> None:
    """Write settings and tensors to a file.

    Raises:
        OSError: when it cannot be written; what was there before is as it was.
    """
    tensors = {
        tree: {name: leaf.cpu() for name, leaf in leaves(part)} for tree, part in (("params", params), ("state", state))
    }
    write_content(path, {"torchgym_checkpoint": CHECKPOINT_VERSION, "config": config.to_dict(), **tensors})


def read_checkpoint(path: Path) -> tuple[MarketConfig, Params, dict[str, Tensor]]:
    """Configuration, parameters before anything is drawn, and the state's tensors, of a file of `write_checkpoint`, on the CPU.

    Raises:
        ValueError: when it is not such a file, damaged, or of another version.
        OSError: when it cannot be read.
    """
    saved = read_content(path)
    if "torchgym_checkpoint" not in saved:
        raise ValueError(f"{path} is not a saved market")
    version = saved["torchgym_checkpoint"]
    if version != CHECKPOINT_VERSION:
        raise ValueError(
            f"{path} is a saved market of version {version}, this torchgym reads version {CHECKPOINT_VERSION}:"
            " load it with the torchgym that wrote it"
        )
    parts = [saved.get(name) for name in ("config", "params", "state")]
    if not all(isinstance(part, dict) for part in parts):
        raise ValueError(f"{path} lacks its settings or its tensors")
    settings, numbers, tensors = (dict(part or {}) for part in parts)
    if not all(isinstance(leaf, Tensor) for part in (numbers, tensors) for leaf in part.values()):
        raise ValueError(f"{path} has something else than tensors for a state")
    config = MarketConfig.from_dict(settings)
    seeds = tensors.get("clock.seed", torch.zeros(0, device="cpu"))
    if seeds.dim() != 1 or len(seeds) == 0:
        raise ValueError(f"{path} holds no market: it has no seeds")
    plain = make_params(config, len(seeds), torch.device("cpu"))
    expected = {name: (leaf.shape, leaf.dtype) for name, leaf in leaves(plain)}
    if expected != {name: (leaf.shape, leaf.dtype) for name, leaf in numbers.items()}:
        raise ValueError(f"{path} has parameters that do not fit its settings")
    return config, unflatten(plain, [numbers[name] for name in expected]), dict(tensors)


def write_content(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values to a file, with a digest, whole or not at all.

    Raises:
        OSError: when it cannot be written; what was there before is as it was.
    """
    with replacing_sealed(path) as part, part.open("wb") as file:
        torch.save(dict(content), file)


def read_content(path: Path) -> dict[str, Any]:
    """What `write_content` wrote, on the CPU.

    Raises:
        ValueError: when the file is damaged or something else.
        OSError: when it cannot be read.
    """
    with open_sealed(path) as file:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # the digest fits, so another program wrote it; torch raises many kinds
            raise ValueError(f"{path} cannot be read: {type(error).__name__}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not named entries")
    return content


def check_state(structure: Structure, params: Params, state: MarketState) -> None:
    """Nothing, where each market of the batch could stand as it does at the end of a tick.

    Raises:
        ValueError: naming the rule and the first markets that break it.
    """
    if broken := invariants.first_broken(invariants.standing(structure, params, state)):
        rule, markets = broken
        raise ValueError(f"no market can have such a state: in market {markets} it is not so that {rule}")
