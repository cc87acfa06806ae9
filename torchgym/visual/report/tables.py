"""The texts and tables of the page: summary, cards, differences, metrics, parts of the profit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from torchgym.visual.report.formats import (
    SPACE,
    UNDEFINED,
    capitalised,
    described,
    interval,
    measured,
    money,
    number,
    p_value,
    spoken,
)
from torchgym.visual.report.policy_figures import COSTS, PARTS, is_significant, ordered, parts_of

_CARDS = ("sharpe", "max_drawdown", "turnover")


class Cell(NamedTuple):
    """Text of a table with a smaller line beneath and a tooltip."""

    text: str
    small: str = ""
    tooltip: str = ""


class Card(NamedTuple):
    """A number in large type."""

    name: str
    value: str
    unit: str
    beneath: str
    tooltip: str


class Table(NamedTuple):
    """A row of cells per policy."""

    label: str
    columns: list[Cell]
    rows: list[tuple[str, list[Cell]]]  # a policy and its cells


def mean_profit(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Mean profit of a policy, with its 95 % interval where the evaluation has one."""
    return row["metrics"].get("profit") or {"mean": fmean(row["profit"])}


def summary(evaluation: Mapping[str, Any], policy: str) -> str:
    """The result in a sentence or two."""
    profit = mean_profit(evaluation["policies"][policy])
    ends = interval("profit", profit)
    sentence = capitalised(f"{spoken(policy)} makes {money(profit['mean'])} per episode")
    sentence += (f" (95{SPACE}% interval {ends})" if ends else "") + " after all costs."
    rows = [row for row in evaluation["comparisons"] if row["against"] == policy]
    if not rows:
        return sentence
    clear = [row for row in rows if is_significant(row)]
    if not clear:
        return f"{sentence} It does not differ significantly from any of the other policies."
    ahead, behind = (_listed([row for row in clear if (row["lead"] > 0.0) == sign]) for sign in (True, False))
    clauses = [f"ahead of {ahead}"] * bool(ahead) + [f"behind {behind}"] * bool(behind)
    sentence += f" It is significantly {' and '.join(clauses)}."
    rest = len(rows) - len(clear)
    return sentence + (
        f" {rest} of {len(rows)} differences {'is' if rest == 1 else 'are'} not significant." * bool(rest)
    )


def _listed(rows: Sequence[Mapping[str, Any]]) -> str:
    *names, last = [spoken(row["policy"]) for row in rows] or [""]
    return f"{', '.join(names)} and {last}" if names else last


def cards(evaluation: Mapping[str, Any], policy: str) -> list[Card]:
    """Profit, usual metrics and costs of a policy, and its lead over each other one."""
    row = evaluation["policies"][policy]
    profit = mean_profit(row)
    cells = [Card("Profit per episode", money(profit["mean"]), "", interval("profit", profit), described("profit")[2])]
    for metric in _CARDS:
        if metric in row["metrics"]:
            heading, unit, meaning = described(metric)
            value = row["metrics"][metric] or {"mean": None}
            text = measured(metric, value["mean"])
            cells.append(Card(heading, text, unit * (text != UNDEFINED), interval(metric, value), meaning))
    costs = {name: -row["attribution"][name] for name in COSTS if name in row["attribution"]}
    each = ", ".join(f"{name} {number(cost)}" for name, cost in costs.items() if cost != 0.0)
    cells.append(Card("Costs per episode", number(sum(costs.values())), "", each, "Included in the profit."))
    tooltip = "Mean difference on the same episodes; p is adjusted for the number of comparisons."
    for lead in evaluation["comparisons"]:
        if lead["against"] == policy:
            beneath = f"{interval('profit', lead)}\nadjusted p {p_value(lead['p_adjusted'])}"
            cells.append(Card(f"Lead over {spoken(lead['policy'])}", money(lead["lead"]), "", beneath, tooltip))
    return cells


def metrics_table(evaluation: Mapping[str, Any]) -> Table:
    """Every metric of every policy: the mean and its interval."""
    cells = {
        name: {"profit": mean_profit(evaluation["policies"][name]), **evaluation["policies"][name]["metrics"]}
        for name in ordered(evaluation)
    }
    metrics = dict.fromkeys(metric for row in cells.values() for metric in row)
    rows = [(name, [_mean_cell(metric, row.get(metric)) for metric in metrics]) for name, row in cells.items()]
    return Table("Metrics of every policy", [Cell(*described(metric)) for metric in metrics], rows)


def _mean_cell(metric: str, value: Mapping[str, Any] | None) -> Cell:
    if value is None or value["mean"] is None:
        return Cell(UNDEFINED, tooltip="undefined")
    return Cell(measured(metric, value["mean"]), interval(metric, value))


def leads_table(evaluation: Mapping[str, Any]) -> Table:
    """Every comparison with its p-values."""
    columns = [
        Cell("Lead", "currency", "Mean difference of profit on the same episodes."),
        Cell(f"95{SPACE}% interval", "currency", "Of this comparison alone."),
        Cell("p", "", "Two-sided, of no difference."),
        Cell("p adjusted", "", "By Holm, over all comparisons together."),
        Cell("Episodes"),
    ]
    rows = []
    for row in evaluation["comparisons"]:
        p_values = p_value(row["p_value"]), p_value(row["p_adjusted"])
        texts = money(row["lead"]), interval("profit", row) or UNDEFINED, *p_values, f"{row['episodes']:,}"
        rows.append((row["policy"], [Cell(text) for text in texts]))
    return Table("Leads", columns, rows)


def attribution_table(evaluation: Mapping[str, Any]) -> Table:
    """The parts of every policy's profit."""
    parts, rows = parts_of(evaluation), []
    for name in ordered(evaluation):
        row = evaluation["policies"][name]
        values = [*(row["attribution"].get(part) for part in parts), mean_profit(row)["mean"]]
        rows.append((name, [Cell(money(value)) for value in values]))
    columns = [Cell(capitalised(PARTS.get(part, spoken(part)))) for part in (*parts, "profit")]
    return Table("Mean currency per episode", columns, rows)
