"""The page: one HTML file that needs nothing else, neither network nor fonts nor files beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.resources import files
from typing import Any

from plotly.offline import get_plotlyjs

from torchgym.lab.performance.trace import Trace
from torchgym.visual.palette import DARK, LIGHT, Look
from torchgym.visual.report import episode, policies, tables
from torchgym.visual.report.figure import html
from torchgym.visual.report.words import SPACE, escape, money, spoken

# Nothing may be loaded from anywhere: what is not in the page is not shown.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_ROUNDING = 1e-6  # currency: a traced profit this near the evaluation's is the same


def page(
    evaluation: Mapping[str, Any],
    trace: Trace,
    *,
    policy: str | None = None,
    curve: Sequence[Mapping[str, Any]] | None = None,
    training: Mapping[str, Any] | None = None,
) -> str:
    """One evaluation as HTML.

    Args:
        evaluation: as `Evaluation.to_dict` tells it, or read back from its JSON.
        trace: one of its episodes.
        policy: who plays in the trace; None is the agent, or the first policy where there is none.
        curve: the agent's learning curve: rows with frames, training_return and, where the agent was tried, validation_return.
        training: how the agent was trained: command, seed, settings, torchgym; as in run.json.

    Returns:
        A document with figures that follow the reader's light or dark theme. The same arguments give the same text.

    Raises:
        ValueError: for an unknown policy, listing the known ones.
    """
    focus = policies.ordered(evaluation)[0]
    traced = chosen_policy(evaluation, policy)
    title = f"{spoken(focus)}: {evaluation['episodes']:,} episodes"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="theme-color" content="{LIGHT.background}" media="(prefers-color-scheme: light)">
<meta name="theme-color" content="{DARK.background}" media="(prefers-color-scheme: dark)">
<meta name="generator" content="torchgym {escape(evaluation["torchgym"])}">
<link rel="icon" href="data:,">
<title>{escape(title)} · torchgym</title>
<style>
:root {{{_variables(LIGHT)}}}
@media (prefers-color-scheme: dark) {{ :root {{{_variables(DARK)}}} }}
{_resource("page.css")}</style>
</head>
<body>
<main>
{_header(evaluation, focus)}
{_compared(evaluation)}
{_episode(evaluation, trace, traced)}
{_profits(evaluation)}
{_learnt(curve)}
{_reproduce(evaluation, trace, traced, training)}
</main>
<script>{get_plotlyjs()}</script>
<script>{_resource("page.js")}</script>
</body>
</html>
"""


def chosen_policy(evaluation: Mapping[str, Any], policy: str | None) -> str:
    """The named policy; for None the agent, or the first one.

    Raises:
        ValueError: for an unknown one, listing the known ones.
    """
    known = policies.ordered(evaluation)
    if policy is not None and policy not in known:
        raise ValueError(f"unknown policy {policy!r}: choose from {', '.join(known)}")
    return known[0] if policy is None else policy


def _resource(name: str) -> str:
    return files("torchgym.visual.report").joinpath(name).read_text(encoding="utf-8")


def _variables(look: Look) -> str:
    """The palette as CSS variables."""
    plain = [entry.name for entry in fields(look) if entry.name != "series"]
    return " ".join(f"--{name}: {getattr(look, name)};" for name in plain)


def _header(evaluation: Mapping[str, Any], focus: str) -> str:
    ticks = evaluation["decisions"] * evaluation["config"]["ticks_per_action"]
    length = f"{evaluation['decisions']:,} decisions" + (
        f", {ticks:,} ticks" if ticks != evaluation["decisions"] else ""
    )
    description = evaluation["policies"][focus].get("description")
    held_out = "held-out " if evaluation.get("agent") is not None else ""  # from what the agent learnt on
    return f"""<header>
<p class="kicker">torchgym evaluation</p>
<h1>{escape(spoken(focus)[:1].upper() + spoken(focus)[1:])}</h1>
<p class="lead">{escape(tables.summary(evaluation, focus))}</p>
<p class="muted">{escape(description + ". " if description else "")}{evaluation["episodes"]:,} {held_out}episodes of {length}
each, the same for all {len(evaluation["policies"])} policies. Money is in currency. Intervals cover 95{SPACE}%.</p>
</header>
<noscript><p>The figures need JavaScript; the tables do not.</p></noscript>
<section aria-labelledby="short"><h2 id="short">In short</h2>
{tables.cards(evaluation, focus)}
</section>"""


def _compared(evaluation: Mapping[str, Any]) -> str:
    picture = policies.leads(evaluation)
    lead = "" if picture is None else html(picture) + _folded("The leads as a table", tables.leads(evaluation))
    return f"""<section aria-labelledby="compared"><h2 id="compared">Beside the other policies</h2>
{lead}
<h3>All metrics</h3>
{tables.metrics(evaluation)}
<p class="caption">Means over episodes, with their intervals; a year counts {evaluation["periods_per_year"]:,.0f} decisions.</p>
</section>"""


def _episode(evaluation: Mapping[str, Any], trace: Trace, policy: str) -> str:
    number = trace.seed - evaluation["seed"]
    earned = (trace.equity[-1] - trace.equity[0]).item()
    profits = evaluation["policies"][policy]["profit"]
    told = f"Episode {number:,}, seed {trace.seed}, played by {spoken(policy)}: {money(earned)}"
    if 0 <= number < len(profits):
        rank = sum(profit <= profits[number] for profit in profits)
        told += f", number {rank:,} of {len(profits):,} from the lowest profit"
        if abs(profits[number] - earned) > _ROUNDING:
            told += f". The evaluation recorded {money(profits[number])} for it: the policy or the program has changed since"
    figures = "".join(html(picture) for picture in episode.pictures(evaluation, trace, policy))
    return f"""<section aria-labelledby="episode"><h2 id="episode">One episode</h2>
<p>{escape(told)}. <span class="fine">Drag across a figure to zoom all three, double-click to see all again.</span>
Press a name above a figure to hide what it stands for, or to show it again.</p>
{figures}
</section>"""


def _profits(evaluation: Mapping[str, Any]) -> str:
    return f"""<section aria-labelledby="profits"><h2 id="profits">Profits</h2>
{html(policies.attribution(evaluation))}
{_folded("The parts as a table", tables.attribution(evaluation))}
{html(policies.distribution(evaluation))}
</section>"""


def _learnt(curve: Sequence[Mapping[str, Any]] | None) -> str:
    if not curve:
        return ""
    figure = html(policies.learning(curve))
    return f'<section aria-labelledby="learnt"><h2 id="learnt">How it learnt</h2>{figure}</section>'


def _reproduce(
    evaluation: Mapping[str, Any], trace: Trace, policy: str, training: Mapping[str, Any] | None = None
) -> str:
    first, last = evaluation["seed"], evaluation["seed"] + evaluation["episodes"] - 1
    rows = {
        "Command": _command(evaluation),
        "torchgym": escape(evaluation["torchgym"]),
        "Seeds": f"{first} to {last}",
        "Traced episode": f"seed {trace.seed}, {escape(spoken(policy))}",
    }
    if training is not None:
        rows |= {"Training": _command(training), "Seed of training": escape(training["seed"])}
        rows |= {"Trained with": f"torchgym {escape(training['torchgym'])}"}
    told = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows.items())
    settings = "" if training is None else _folded_json("The settings of training", training["settings"])
    return f"""<section aria-labelledby="reproduce"><h2 id="reproduce">Reproduce</h2>
<p>A seed and a configuration decide an episode in every bit.</p>
<dl>{told}</dl>
{_folded_json("The market's configuration", evaluation["config"])}
{settings}
</section>"""


def _command(told: Mapping[str, Any]) -> str:
    return f"<code>{escape(told['command'])}</code>" if told.get("command") else "not recorded"


def _folded_json(name: str, content: Mapping[str, Any]) -> str:
    return _folded(name, f'<pre tabindex="0">{escape(json.dumps(content, indent=2))}</pre>')


def _folded(name: str, content: str) -> str:
    return f"<details><summary>{escape(name)}</summary>{content}</details>"
