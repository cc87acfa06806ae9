"""What a page says in figures of speech: headline cards, the leads, the metrics, the parts of the profit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torchgym.visual.report.policies import COSTS, PARTS, is_clear, ordered, parts_of
from torchgym.visual.report.words import (
    SPACE,
    UNDEFINED,
    chance,
    escape,
    heading,
    interval,
    meaning,
    measured,
    money,
    number,
    spoken,
    unit,
)

_CARDS = ("sharpe", "max_drawdown", "turnover")


def profit_of(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Mean profit of a policy with its 95 % interval, from its episodes where the evaluation has none."""
    found: Mapping[str, Any] | None = row["metrics"].get("profit")
    if found is not None:
        return found
    values = row["profit"]
    mean = sum(values) / len(values)
    if len(values) < 2:
        return {"mean": mean, "low": None, "high": None}
    reach = 1.96 * math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    return {"mean": mean, "low": mean - reach, "high": mean + reach}


def summary(evaluation: Mapping[str, Any], policy: str) -> str:
    """The result in a sentence or two."""
    profit = profit_of(evaluation["policies"][policy])
    between = interval("profit", profit)
    told = f"{spoken(policy)} makes {money(profit['mean'])} per episode"
    told = told[0].upper() + told[1:] + (f" (95{SPACE}% interval {between})" if between else "") + " after all costs."
    rows = [row for row in evaluation["comparisons"] if row["against"] == policy]
    if not rows:
        return told
    ahead, behind = (_named(rows, sign) for sign in (1.0, -1.0))
    clauses = [f"is clearly ahead of {ahead}" if ahead else "", f"clearly behind {behind}" if behind else ""]
    clauses = [clause for clause in clauses if clause]
    if not clauses:
        return f"{told} It is not told apart from any of the other policies."
    rest = len(rows) - sum(is_clear(row) for row in rows)
    told += f" It {' and '.join(clauses)}." if ahead else f" It is {clauses[0]}."
    return told + (
        f" {rest} of {len(rows)} others {'is' if rest == 1 else 'are'} not told apart from it." if rest else ""
    )


def _named(rows: Sequence[Mapping[str, Any]], sign: float) -> str:
    names = [spoken(row["policy"]) for row in rows if is_clear(row) and row["lead"] * sign > 0.0]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def cards(evaluation: Mapping[str, Any], policy: str) -> str:
    """Headline numbers of a policy: profit, the usual metrics, costs, and its lead over each other one."""
    row = evaluation["policies"][policy]
    profit, parts = profit_of(row), row["attribution"]
    made = [_card("Profit per episode", money(profit["mean"]), interval("profit", profit), meaning("profit"))]
    for name in _CARDS:
        found = row["metrics"].get(name)
        if name in row["metrics"]:
            told, of = measured(name, None if found is None else found["mean"]), unit(name)
            made.append(
                _card(heading(name), told, interval(name, found), meaning(name), "" if told == UNDEFINED else of)
            )
    costs = {name: -parts[name] for name in COSTS if name in parts}
    told = ", ".join(f"{name} {number(cost)}" for name, cost in costs.items() if cost != 0.0)
    made.append(
        _card("Costs per episode", number(sum(costs.values())), told, "Paid to trade; the profit is after them.")
    )
    for lead in evaluation["comparisons"]:
        if lead["against"] == policy:
            beneath = f"{interval('profit', lead)}\nadjusted p {chance(lead['p_adjusted'])}"
            title = "Mean difference on the same episodes; p is adjusted for the number of comparisons."
            made.append(_card(f"Lead over {spoken(lead['policy'])}", money(lead["lead"]), beneath, title))
    return f'<ul class="cards">{"".join(made)}</ul>'


def _card(name: str, value: str, beneath: str, title: str, of: str = "") -> str:
    return (
        f'<li title="{escape(title)}"><span class="name">{escape(name)}</span>'
        f"<strong>{escape(value)}{f' <small>{escape(of)}</small>' if of else ''}</strong>"
        f'<span class="beneath">{escape(beneath)}</span></li>'
    )


def metrics(evaluation: Mapping[str, Any]) -> str:
    """Every metric of every policy: mean and, beneath, its interval."""
    names = ordered(evaluation)
    columns = ["profit"]
    for row in evaluation["policies"].values():
        columns += [metric for metric in row["metrics"] if metric not in columns]
    head = [_heading(heading(metric), unit(metric), meaning(metric)) for metric in columns]
    rows = []
    for name in names:
        row = evaluation["policies"][name]
        found = {**row["metrics"], "profit": profit_of(row)}
        rows.append([_mean_cell(metric, found.get(metric)) for metric in columns])
    return _table("Metrics of every policy", head, names, rows, evaluation)


def _mean_cell(metric: str, found: Mapping[str, Any] | None) -> str:
    if found is None or found.get("mean") is None:
        return f'<td title="undefined">{UNDEFINED}</td>'
    return f"<td>{measured(metric, found['mean'])}<small>{interval(metric, found)}</small></td>"


def leads(evaluation: Mapping[str, Any]) -> str:
    """Every comparison with its p-values; nothing without any."""
    rows = evaluation["comparisons"]
    head = [
        _heading("Lead", "currency", "Mean difference of profit on the same episodes."),
        _heading(f"95{SPACE}% interval", "currency", "Of this comparison alone."),
        _heading("p", "", "Two-sided, of no difference."),
        _heading("p adjusted", "", "By Holm, over all comparisons together."),
        _heading("Episodes", "", ""),
    ]
    cells = [
        [
            f"<td>{told}</td>"
            for told in (
                money(row["lead"]),
                interval("profit", row) or UNDEFINED,
                escape(chance(row["p_value"])),
                escape(chance(row["p_adjusted"])),
                f"{row['episodes']:,}",
            )
        ]
        for row in rows
    ]
    return _table("Leads", head, [row["policy"] for row in rows], cells, evaluation) if rows else ""


def attribution(evaluation: Mapping[str, Any]) -> str:
    """The parts of every policy's profit."""
    names, parts = ordered(evaluation), parts_of(evaluation)
    head = [_heading(PARTS.get(part, spoken(part)), "", "") for part in parts] + [_heading("profit", "", "")]
    rows = []
    for name in names:
        row = evaluation["policies"][name]
        told = [row["attribution"].get(part) for part in parts] + [profit_of(row)["mean"]]
        rows.append([f"<td>{money(value)}</td>" for value in told])
    return _table("Mean currency per episode", head, names, rows, evaluation)


def _heading(name: str, of: str, title: str) -> str:
    told = name if name.split(" ")[0] == "p" else name[:1].upper() + name[1:]  # p is a symbol
    return f'<th scope="col" title="{escape(title)}">{escape(told)}<small>{escape(of)}</small></th>'


def _table(
    label: str, head: Iterable[str], names: Sequence[str], rows: Sequence[Sequence[str]], evaluation: Mapping[str, Any]
) -> str:
    """A row for each policy; wide ones scroll inside themselves."""
    body = []
    for name, cells in zip(names, rows, strict=True):
        marked = ' class="agent"' if name == evaluation.get("agent") else ""
        told = escape(evaluation["policies"].get(name, {}).get("description", ""))
        body.append(f'<tr{marked}><th scope="row" title="{told}">{escape(spoken(name))}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="wide" role="region" aria-label="{escape(label)}" tabindex="0"><table>'
        f'<thead><tr><th scope="col">Policy</th>{"".join(head)}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )
