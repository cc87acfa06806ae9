"""Which vector instructions a program is made of."""

from __future__ import annotations

import functools
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Isa:
    """A level of the x86-64 architecture, the same on every Linux machine; without `march` the processor of this machine.

    Args:
        name: part of a program's name.
        march: the C++ compiler's name of the level.
        flags: what /proc/cpuinfo lists on a processor that has it.
    """

    name: str
    march: str | None = None
    flags: tuple[str, ...] = ()

    @property
    def runs_here(self) -> bool:
        """Whether this processor has all of its instructions."""
        return self.march is None or _cpuinfo().issuperset(self.flags)

    def vectors(self) -> Any:
        """The same for torch's compiler, which else tries out what this processor has: five compilations, 6 s of CPU."""
        from torch._inductor import cpu_vec_isa

        if self.march is None:
            return cpu_vec_isa.pick_vec_isa()
        base: Any = {"avx2": cpu_vec_isa.VecAVX2, "avx512": cpu_vec_isa.VecAVX512}[self.name]
        taken = {"__bool__": lambda own: True, "__hash__": base.__hash__}
        return type(base.__name__, (base,), taken)()


_V3 = ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
AVX2 = Isa("avx2", "x86-64-v3", _V3)
AVX512 = Isa("avx512", "x86-64-v4", _V4)


def here() -> Isa:
    """The widest that this processor has and torch uses; ATEN_CPU_CAPABILITY bounds it from above."""
    capability = torch.backends.cpu.get_cpu_capability()
    for isa, wanted in ((AVX512, ("AVX512",)), (AVX2, ("AVX512", "AVX2"))):
        if capability in wanted and sys.platform == "linux" and isa.runs_here:
            return isa
    return Isa(" ".join([platform.machine(), *platform.libc_ver(), capability, *sorted(_cpuinfo())]))


@functools.cache
def _cpuinfo() -> frozenset[str]:
    """What the processor can do, as Linux lists it; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return frozenset(next((line.split(":")[1] for line in lines if line.startswith(("flags", "Features"))), "").split())
