"""Programs made ahead of time, for a wheel to carry: `python -m torchgym.engine.ahead FOLDER`; see `make wheel`.

They are made here without a look at the programs of this machine, and also for processors that this machine's is not.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torchgym.config import TASKS, MarketConfig, preset, task
from torchgym.engine import program as programs
from torchgym.engine.opening import example
from torchgym.engine.replay import kinds, program_name, trace_tick

# The structures that a wheel carries, by a name for the command line: as presets are, and as each task has them. Whatever has
# the structure of one is served by it.
_FORMS: Mapping[str, Callable[..., MarketConfig]] = {
    "": preset,
    **{f"-{name}": functools.partial(task, name) for name in TASKS},
}
COMMON: Mapping[str, MarketConfig] = {
    f"{name}-{symbols}{suffix}": form(name, num_symbols=symbols)
    for name in ("default", "toy")
    for symbols in (1, 2)
    for suffix, form in _FORMS.items()
}
ISAS = {isa.name: isa for isa in (programs.AVX2, programs.AVX512)}


def make(
    config: MarketConfig, folder: Path, isas: Sequence[programs.Isa], markets: Sequence[int] = (1, 2)
) -> list[str]:
    """Write the programs of one structure.

    Args:
        folder: where each gets a folder of its own.
        isas: what they are made of. One that this processor lacks is compiled, and not run.
        markets: 1 is for a single market, 2 for any number.

    Returns:
        Their names.

    Raises:
        NotRecordable: when the compiler makes something that cannot be replayed.
        OSError: when a program cannot be written.
    """
    names = []
    for num_envs in markets:
        static, params, state = example(config, num_envs)
        for kind in kinds(static.structure):
            traced = trace_tick(static, params, state, kind, dynamic=num_envs > 1)
            for isa in isas:
                names.append(program_name(static, kind, alone=num_envs == 1, isa=isa))
                programs.write(programs.build(traced, isa), folder, names[-1])
    return names


def _main() -> int:
    parser = argparse.ArgumentParser(description="Make the programs of common structures, for a wheel to carry.")
    parser.add_argument("folder", type=Path, help="folder to write them to")
    parser.add_argument("--only", nargs="*", choices=COMMON, default=list(COMMON), help="these structures")
    parser.add_argument("--isa", nargs="*", choices=ISAS, default=list(ISAS), help="these instruction sets")
    parser.add_argument(
        "--markets", nargs="*", type=int, choices=(1, 2), default=[1, 2], help="a single one, any number"
    )
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for name in chosen.only:
        begin = time.monotonic()
        made = make(COMMON[name], chosen.folder, [ISAS[isa] for isa in chosen.isa], chosen.markets)
        sys.stdout.write(f"{name}: {len(made)} programs in {time.monotonic() - begin:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
