"""The tables of the pages that follow from tables of the code: between `<!-- table: NAME -->` and `<!-- end table -->`.

    python docs/tools/tables.py             # write them
    python docs/tools/tables.py --check     # say which page is behind, and fail

A page is whole without building the site: whoever reads the file sees the table.
"""

from __future__ import annotations

import csv
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torchgym.config import FAMILIES, PRESETS, TASKS, MarketConfig, Population
from torchgym.lab.performance import METRICS
from torchgym.lab.policies import BASELINES
from torchgym.readout.entries import ACCOUNT, PLACE, RESTING_INFO, info_entries
from torchgym.readout.features import FEATURE_SETS, FEATURES
from torchgym.readout.rewards import REWARDS
from torchgym.sim.actions import ACTIONS, Box, Choices

DOCS = Path(__file__).resolve().parents[1]
RESULTS = DOCS.parent / "benchmarks" / "results"
MARKED = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end table -->)", flags=re.DOTALL)

Rows = Iterator[Sequence[str]]


def features() -> Rows:
    yield ("#", "name", "what it is", "unit", "without a value", "range", "relative form")
    place = {name: str(at) for at, name in enumerate(FEATURE_SETS["full54"])}
    for row in FEATURES.values():
        first, last = place.get(row.names[0], "full74" if row.levels else "full55"), place.get(row.names[-1])
        numbers = first if len(row.names) == 1 else f"{first}–{last}"
        meaning = row.meaning + (f" over k = {', '.join(map(str, row.over))} ticks" if row.over else "")
        if row.levels:
            numbers, meaning = first, f"{meaning}, less k - 1 points, for k = 1 to {row.levels}"
        name = f"`{row.name}_k`" if len(row.names) > 1 else f"`{row.name}`"
        neutral = "the mid" if row.neutral is None else f"{row.neutral:g}"
        yield (numbers, name, meaning, row.unit, neutral, interval(row.low, row.high), f"`{row.scaled}`")


def feature_sets() -> Rows:
    yield ("name", "features", "which")
    which = {
        "full54": "the default: all but `f_net_order_flow`",
        "full55": "all but the ladder",
        "minimal42": "the first 42 of `full54`: prices, technical indicators, news",
        "canonical28": "longer returns, technical indicators, volatility, distance to value",
        "ladder20": "the ladder: shares at the ten best prices of either side",
        "full74": "`full54` and the ladder",
    }
    for name, shown in FEATURE_SETS.items():
        yield (f"`{name}`", str(len(shown)), which[name])


def account() -> Rows:
    yield ("name", "what it is", "unit")
    for name, row in ACCOUNT.items():
        yield (f"`{name}`", row.meaning, row.unit)


def places() -> Rows:
    yield ("name", "what it is", "unit")
    for name, row in PLACE.items():
        yield (f"`bid_1_{name}`", row.meaning, row.unit)


def info() -> Rows:
    yield ("name", "what it is", "unit", "type")
    for name, row in info_entries(MarketConfig(quotes=1)).items():
        cells = (f"`{name}`", row.meaning + "; with `quotes` only" * (name in RESTING_INFO), row.unit)
        if name.startswith("reward_"):
            cells = ("`reward_<term>`", "each term of the reward, before its weight", "the term's")
        yield (*cells, f"{'[N, S]' if row.per_symbol else '[N]'} {str(row.dtype).removeprefix('torch.')}")


def rewards() -> Rows:
    yield ("name", "what it is", "unit", "in full")
    for name, row in REWARDS.items():
        yield (f"`{name}`", row.meaning, row.unit, told(row.term))


def actions() -> Rows:
    yield ("name", "space", "what holds", "what an action does")
    for name, scheme in ACTIONS.items():
        space = scheme.space if isinstance(scheme.space, (Choices, Box)) else scheme.space(1)
        if isinstance(space, Choices):
            kind, hold = f"{space.count} choices", "none" if space.hold is None else str(space.hold)
        else:
            kind = _box(space) + " and place" * (space is not scheme.space)
            hold = "what asks for the present position" if scheme.rests is None else "none"
        meaning = (
            told(scheme.wanted) if scheme.rests is None else " ".join((inspect.getdoc(scheme.rests) or "").split())
        )
        yield (f"`{name}`", kind, hold, meaning)


def _box(space: Box) -> str:
    low, high = (ends.tolist()[space.cash :] for ends in space.bounds(1))
    bounds = [f"from {first:g} to {last:g}" for first, last in zip(low, high, strict=True)]
    each = " and ".join(dict.fromkeys(bounds))
    numbers = "a number" if space.each == 1 else f"{space.each} numbers"
    return f"{'for cash a number from 0 to 1, and ' * space.cash}{numbers} {each} per symbol"


def baselines() -> Rows:
    yield ("name", "what it does")
    for name, row in BASELINES.items():
        yield (f"`{name}`", row.description)


def metrics() -> Rows:
    yield ("name", "what it is", "unit", "better")
    for name, metric in METRICS.items():
        yield (f"`{name}`", metric.meaning, metric.unit, metric.better)


def presets() -> Rows:
    yield ("name", "what it is and what for")
    for name, make in PRESETS.items():
        yield (f"`{name}`", told(make))


def tasks() -> Rows:
    yield ("id", "task", "settings", "account in sight", "dtype")
    for name, row in TASKS.items():
        listed = ", ".join(f"`{setting}={value!r}`" for setting, value in row.settings.items())
        yield (f"`torchgym/{name}-v0`", row.meaning, listed, "yes" if row.include_account else "no", row.dtype)


def families() -> Rows:
    yield ("name", "traders a symbol", "who they are")
    counts = {name: family.count for name, family in Population().families.items()}
    for name, kind in FAMILIES.items():
        yield (f"[`{name}`](market.md#{anchor(name)})", str(counts[name]), told(kind))


def real_prices() -> Rows:
    with (RESULTS / "real_prices.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    meanings: dict[tuple[str, str], list[str]] = {}
    for row in found:
        key = row["fact"], row["key"]
        mine = cells.setdefault(key, {})
        meanings.setdefault(key, []).append(row["measure"])
        if row["ticks_per_bar"] == "1":
            mine[row["series"]] = _judged(row["value"], row["verdict"])
        bars = "ticks" if row["ticks_per_bar"] == "1" else f"bars of {row['ticks_per_bar']} ticks"
        market = f"`default`, {bars}"
        mine[market] = _judged(row["preset_value"], row["preset_verdict"])
    columns = list(dict.fromkeys(column for mine in cells.values() for column in mine))
    columns.sort(key=lambda column: (column.startswith("`"), column.startswith("`default`, bars")))
    yield ("fact", "measure", *columns)
    for key, mine in cells.items():
        yield (key[0], _common(meanings[key]), *(mine.get(column, "–") for column in columns))


def _judged(value: str, verdict: str) -> str:
    figure = f"{float(value):.2g}" if value else "–"
    return {"passes": figure, "fails": f"**{figure}**", "cannot be told": f"{figure} ?"}[verdict]


def _common(texts: Sequence[str]) -> str:
    """One text of several that differ in numbers alone: all of these, one after the other."""
    parts = zip(*(re.split(r"(\d+)", text) for text in texts), strict=True)
    return "".join("/".join(sorted(set(part), key=lambda x: (len(x), x))) for part in parts)


TABLES: dict[str, Callable[[], Rows]] = {
    "features": features,
    "feature_sets": feature_sets,
    "account": account,
    "places": places,
    "info": info,
    "rewards": rewards,
    "actions": actions,
    "baselines": baselines,
    "metrics": metrics,
    "presets": presets,
    "tasks": tasks,
    "families": families,
    "real_prices": real_prices,
}


def told(thing: object) -> str:
    """The first paragraph of a docstring, in one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def anchor(family: str) -> str:
    """Of the family's section in market.md."""
    text = (DOCS / "market.md").read_text(encoding="utf-8")
    heading = re.search(rf"^### (.*: `population\.{family}`)$", text, flags=re.MULTILINE)
    assert heading is not None, f"market.md has no section on {family}"
    return re.sub(r"[^\w\- ]", "", heading[1].lower().replace("`", "")).replace(" ", "-")


def interval(low: float, high: float) -> str:
    """Of a feature's values."""
    if low == -math.inf and high == math.inf:
        return "any"
    if high == math.inf:
        return f"≥ {low:g}"
    return f"{low:g} to {high:g}"


def table(rows: Rows) -> str:
    """The rows as Markdown."""
    head, *rest = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    lines = [f"| {' | '.join(row)} |\n" for row in (head, *rest)]
    return "".join([lines[0], "|---" * len(head) + "|\n", *lines[1:]])


def written(text: str) -> str:
    """A page with its tables as they are now."""
    return MARKED.sub(lambda found: found[1] + "\n" + table(TABLES[found[2]]()) + "\n" + found[4], text)


def main(check: bool) -> int:
    behind = []
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        new = written(text)
        if new != text:
            behind.append(page.name)
            if not check:
                page.write_text(new, encoding="utf-8")
    if check and behind:
        print(f"tables are behind the code in {', '.join(behind)}: python docs/tools/tables.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
