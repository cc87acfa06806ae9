"""`Ranks`: the processes that train one agent together, each on its share of the markets.

Every process holds the same networks. They play different markets, average their gradients in every step of the optimiser, and so
stay the same in every bit. `torchrun` starts them and numbers them; a single process skips all of this.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Which process this is, and of how many; `local` counts within its machine.

    All methods but `share` are collective: every process must call them, in the same order.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and messages."""
        return self.rank == 0

    def share(self, num_envs: int, copies: int = 1) -> range:
        """The markets of this process, of so many in all; a ValueError when they cannot be shared evenly, copies together.

        >>> Ranks(rank=1, count=4).share(128)
        range(32, 64)
        """
        if num_envs % (self.count * copies):
            groups = "" if copies == 1 else f", {copies} copies of an episode together"
            raise ValueError(
                f"num_envs = {num_envs} markets cannot be shared evenly by {self.count} processes{groups}: choose a multiple of"
                f" {self.count * copies}"
            )
        size = num_envs // self.count
        return range(self.rank * size, (self.rank + 1) * size)

    def average(self, tensors: Iterable[Tensor]) -> None:
        """The mean over all processes, in place, with the same bits in each: one message for all tensors together."""
        if self.count == 1:
            return
        parts = list(tensors)
        joined = torch.cat([part.flatten() for part in parts])
        dist.all_reduce(joined)
        joined /= self.count
        for part, mean in zip(parts, joined.split([part.numel() for part in parts]), strict=True):
            part.copy_(mean.view_as(part))

    def mean(self, value: float) -> float:
        """The mean of a number over all processes."""
        return self._reduced(value, dist.ReduceOp.SUM) / self.count

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        return self._reduced(flag, dist.ReduceOp.MAX) > 0.0

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Every process gets the numbers of the first one, in place."""
        for tensor in tensors if self.count > 1 else ():
            dist.broadcast(tensor, 0)

    def given_by_first(self, content: T | None) -> T:
        """The content that the first process holds, in every process."""
        box: list[Any] = [content]
        if self.count > 1:
            dist.broadcast_object_list(box, 0)
        received: T = box[0]
        return received

    def gather(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """The rows of all processes below each other, in the order of their markets; only the first process gets them whole."""
        if self.count == 1:
            return rows
        here = {name: tensor.cpu() for name, tensor in rows.items()}
        parts: list[Any] | None = [None] * self.count if self.first else None
        dist.gather_object(here, parts)
        return {name: torch.cat([part[name] for part in parts]) for name in here} if parts else here

    def check_alike(self, tensors: Iterable[Tensor]) -> None:
        """A RuntimeError, unless all processes hold the same bits."""
        if self.count == 1:
            return
        bits = torch.cat([tensor.detach().flatten().view(torch.int32) for tensor in tensors])
        lowest, highest = bits.clone(), bits.clone()
        dist.all_reduce(lowest, op=dist.ReduceOp.MIN)
        dist.all_reduce(highest, op=dist.ReduceOp.MAX)
        if not torch.equal(lowest, highest):
            raise RuntimeError(
                "the processes no longer hold the same networks: train on devices of one kind, with one version of torch"
            )

    @contextmanager
    def one_ahead(self) -> Iterator[None]:
        """The first process of each machine runs the block alone; then the others run it and find its results on disk."""
        if self.local > 0:
            self.any(False)  # returns when all have asked
        yield
        if self.local == 0:
            self.any(False)

    def _reduced(self, value: float, how: dist.ReduceOp.RedOpType) -> float:
        shared = torch.tensor([value], dtype=torch.float64, device="cpu")
        if self.count > 1:
            dist.all_reduce(shared, how)
        return shared.item()


ALONE = Ranks()


@contextmanager
def join_ranks(device: str = "cpu") -> Iterator[tuple[Ranks, str]]:
    """Join the processes that `torchrun` started; this one stays alone where it started none.

    CPU tensors travel by gloo, CUDA tensors by nccl. Yields the ranks, and the device of this process: "cuda" becomes its own. A
    ValueError refuses a device that all processes would share, fewer GPUs than processes on a machine, and a launcher that does
    not say which process of its machine this is.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield ALONE, device
        return
    if "LOCAL_RANK" not in os.environ:
        raise ValueError("RANK and WORLD_SIZE are set, LOCAL_RANK is not: start the processes with torchrun")
    ranks = Ranks(int(os.environ["RANK"]), count, int(os.environ["LOCAL_RANK"]))
    if device.startswith("cuda"):
        if device != "cuda":
            raise ValueError(
                f"device {device!r} would be shared by all processes: ask for cuda, and each takes its own"
            )
        if ranks.local >= (gpus := torch.cuda.device_count()):
            raise ValueError(
                f"process {ranks.local} of this machine has no GPU, there are {gpus}: start as many processes as GPUs"
            )
        device = f"cuda:{ranks.local}"
        torch.cuda.set_device(ranks.local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    try:
        yield ranks, device
    finally:
        dist.destroy_process_group()


def launcher(ranks: Ranks) -> Sequence[str]:
    """The words before `torchgym` that start as many processes again, where they meet left open; none for one alone."""
    if ranks.count == 1:
        return ()
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    machines = ranks.count // here
    return (
        "torchrun",
        *(("--nnodes", str(machines)) if machines > 1 else ()),
        *("--nproc-per-node", str(here)),
        *(("--rdzv-backend", "c10d", "--rdzv-endpoint", "HOST:PORT") if machines > 1 else ()),
        "-m",
    )
