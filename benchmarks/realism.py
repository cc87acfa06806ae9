"""Scorecards of all presets and the audit of the default one, gathered in benchmarks/results/{realism,audit}.csv.

    python benchmarks/realism.py                  # about 45 minutes on one CPU core
    python benchmarks/realism.py --collect-only   # gather what `torchgym realism` and `torchgym audit` left in runs/

Presets that were not measured keep their rows. Each row names the fact or policy, its figures, and the settings of the run. The
commands themselves write more: JSON with curves and settings, and pictures.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from torchgym import PRESETS, preset
from torchgym.cli import main
from torchgym.cli.output import write_csv
from torchgym.files import read_json

RESULTS = Path(__file__).parent / "results"


@dataclass
class Args:
    runs: Path = Path("runs")
    """where the commands write, and where to gather from"""
    collect_only: bool = False
    """run nothing"""
    markets: int = 64
    ticks: int = 16_384
    episodes: int = 512


def facts(path: Path) -> list[dict[str, Any]]:
    card = read_json(path)
    return [
        {
            "command": f"torchgym realism --preset {card['name']} --markets {card['markets']} --ticks {card['ticks']}"
            f" --symbols {card['symbols']} --seed {card['seed']}",
            "preset": card["name"],
            "markets": card["markets"],
            "symbols": card["symbols"],
            "ticks": card["ticks"],
            "seed": card["seed"],
            "fact": fact["number"],
            "name": fact["name"],
            "tier": fact["tier"],
            "measure": measure["meaning"],
            "median": measure["median"],
            "low_5": measure["quantiles_5_95"][0],
            "high_95": measure["quantiles_5_95"][1],
            "band_low": measure["band"][0],
            "band_high": measure["band"][1],
            "unit": measure["unit"],
            "inside": measure["inside"],
            "passed": measure["passed"],
        }
        for fact in card["facts"]
        for measure in fact["measures"]
    ]


def policies(path: Path) -> list[dict[str, Any]]:
    audit = read_json(path)
    settings = {
        "preset": path.parent.name,
        "episodes": audit["episodes"],
        "ticks": audit["ticks"],
        "seed": audit["seed"],
    }
    command = "torchgym audit " + " ".join(f"--{name} {value}" for name, value in settings.items())
    kept = ("policy", "requirement", "profit_mean", "profit_standard_error", "t_statistic", "before_commission")
    return [
        {"command": command} | settings | {name: row[name] for name in (*kept, "turnover", "passed", "reason")}
        for row in audit["rows"]
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """These rows, behind those of the presets that have none among them."""
    made = {row["preset"] for row in rows}
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["preset"] not in made] + rows
    write_csv(path, [{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows])
    print(f"{path}: {len(rows)} rows")


def run(args: Args) -> None:
    for name in PRESETS:
        if preset(name).reference == "value":  # a market with a closed form is no model of a stock
            continue
        size = ["--markets", str(args.markets), "--ticks", str(args.ticks)]
        main(["realism", "--preset", name, *size, "--output", str(args.runs / "realism")])
    main(["audit", "--episodes", str(args.episodes), "--output", str(args.runs / "audit")])


if __name__ == "__main__":
    arguments = tyro.cli(Args, description=__doc__)
    if not arguments.collect_only:
        run(arguments)
    cards = sorted((arguments.runs / "realism").glob("*/scorecard.json"))
    write(RESULTS / "realism.csv", [row for card in cards for row in facts(card)])
    audits = sorted((arguments.runs / "audit").glob("*/audit.json"))
    write(RESULTS / "audit.csv", [row for found in audits for row in policies(found)])
