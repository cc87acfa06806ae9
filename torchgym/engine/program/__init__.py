"""Compiled functions without the cost of calling them: kernels are recorded once and replayed on the caller's memory.

`torch.compile` fuses a tick of one market into a few microseconds of machine code, and then spends ten times as long around it:
it checks guards, allocates some two hundred intermediate tensors, and wraps a hundred results. A `Program` keeps what it
generated, the kernels and the order of their calls, and drops the rest. Once bound to memory it runs by calling the kernels on
fixed addresses, as a CUDA graph does on a GPU; outside Python's lock, so that threads can share a batch; and it lies on disk,
so that the next process neither traces nor compiles.

The kernels are those of torch's compiler, from torch operations alone. A program is made for a CPU, and for fixed shapes or any
number of rows; for anything else there is `NotRecordable`, and `torch.compile`.
"""

from __future__ import annotations

from torchgym.engine.program.build import EXAMPLES, FUSION, Traced, build, trace
from torchgym.engine.program.errors import NotRecordable, reason
from torchgym.engine.program.isa import AVX2, AVX512, Isa
from torchgym.engine.program.moves import Moves
from torchgym.engine.program.program import Bound, Program, Runs
from torchgym.engine.program.progress import reporting, say
from torchgym.engine.program.sources import fingerprint
from torchgym.engine.program.store import cache_folder, clear_lock, find, obtain, private_folder, turn, write

__all__ = [
    "AVX2",
    "AVX512",
    "EXAMPLES",
    "FUSION",
    "Bound",
    "Isa",
    "Moves",
    "NotRecordable",
    "Program",
    "Runs",
    "Traced",
    "build",
    "cache_folder",
    "clear_lock",
    "find",
    "fingerprint",
    "obtain",
    "private_folder",
    "reason",
    "reporting",
    "say",
    "trace",
    "turn",
    "write",
]
