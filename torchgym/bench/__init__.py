"""How fast is it, on this machine? Twelve cases with targets, measured by one command.

`bench` measures the cases of `CASES` and yields a `Row` per figure; `append` collects rows in a CSV file, and `previous` and
`speedup` compare with what the file holds of an earlier commit.
"""

from __future__ import annotations

from torchgym.bench.cases import CASES, Case, Target
from torchgym.bench.rows import COLUMNS, Row, append, more_is_better, previous, read, speedup
from torchgym.bench.run import bench
from torchgym.bench.settings import SOAK_STEPS, THOROUGH_SOAK_STEPS, Settings

__all__ = [
    "CASES",
    "COLUMNS",
    "SOAK_STEPS",
    "THOROUGH_SOAK_STEPS",
    "Case",
    "Row",
    "Settings",
    "Target",
    "append",
    "bench",
    "more_is_better",
    "previous",
    "read",
    "speedup",
]
