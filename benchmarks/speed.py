"""All twelve cases of speed, added to benchmarks/results/speed.csv and compared with the commit measured before.

python benchmarks/speed.py                    # under ten minutes
python benchmarks/speed.py --cases 4 12       # the options are those of `torchgym bench`
"""

from __future__ import annotations

import sys
from pathlib import Path

from torchgym.cli import main

TABLE = Path(__file__).parent / "results" / "speed.csv"

if __name__ == "__main__":
    sys.exit(main(["bench", "--csv", str(TABLE), *sys.argv[1:]]))
