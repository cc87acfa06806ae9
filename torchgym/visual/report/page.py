"""The page: one HTML file that needs nothing else, neither network nor fonts nor other files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from torchgym.lab.performance.trace import Trace
from torchgym.visual.palette import DARK, LIGHT
from torchgym.visual.report import tables
from torchgym.visual.report.episode_figures import episode_figures
from torchgym.visual.report.figures import dark_colours
from torchgym.visual.report.formats import SPACE, capitalised, money, spoken
from torchgym.visual.report.policy_figures import (
    attribution_figure,
    distribution_figure,
    lead_figure,
    learning_figure,
    ordered,
)

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
        evaluation: as `Evaluation.to_dict` makes it, or read back from its JSON.
        trace: one of its episodes.
        policy: which policy plays in the trace; None is the agent, or the first policy where there is none.
        curve: the agent's learning curve: rows with frames, training_return and, where the agent was tested, validation_return.
        training: how the agent was trained: command, seed, settings, torchgym; as in run.json.

    Returns:
        A document with figures that follow the reader's light or dark theme. The same arguments give the same text.

    Raises:
        ValueError: for an unknown policy, listing the known ones.
    """
    focus, traced = ordered(evaluation)[0], chosen_policy(evaluation, policy)
    compared = bool(evaluation["comparisons"])
    environment = Environment(
        loader=PackageLoader("torchgym.visual.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"spoken": spoken, "capitalised": capitalised, "indented": _indented}
    return environment.get_template("page.html").render(
        evaluation=evaluation,
        trace=trace,
        traced=traced,
        training=training,
        focus=focus,
        space=SPACE,
        palettes={"light": asdict(LIGHT), "dark": asdict(DARK)},
        dark_colours=Markup(json.dumps(dark_colours())),
        summary=tables.summary(evaluation, focus),
        cards=tables.cards(evaluation, focus),
        tables={
            "leads": tables.leads_table(evaluation) if compared else None,
            "metrics": tables.metrics_table(evaluation),
            "attribution": tables.attribution_table(evaluation),
        },
        figures={
            "leads": lead_figure(evaluation) if compared else None,
            "episode": episode_figures(evaluation, trace, traced),
            "attribution": attribution_figure(evaluation),
            "distribution": distribution_figure(evaluation),
            "learning": learning_figure(curve) if curve else None,
        },
        episode=_episode(evaluation, trace, traced),
        plotlyjs=Markup(get_plotlyjs()),
    )


def chosen_policy(evaluation: Mapping[str, Any], policy: str | None) -> str:
    """The named policy; for None the agent, or the first one.

    Raises:
        ValueError: for an unknown one, listing the known ones.
    """
    known = ordered(evaluation)
    if policy is not None and policy not in known:
        raise ValueError(f"unknown policy {policy!r}: choose from {', '.join(known)}")
    return known[0] if policy is None else policy


def _episode(evaluation: Mapping[str, Any], trace: Trace, policy: str) -> str:
    """Which episode is drawn, and what its profit is beside the others'."""
    number = trace.seed - evaluation["seed"]
    earned = (trace.equity[-1] - trace.equity[0]).item()
    profits = evaluation["policies"][policy]["profit"]
    text = f"Episode {number:,}, seed {trace.seed}, played by {spoken(policy)}: {money(earned)}"
    if 0 <= number < len(profits):
        rank = sum(profit <= profits[number] for profit in profits)
        text += f", number {rank:,} of {len(profits):,} from the lowest profit"
        if abs(profits[number] - earned) > _ROUNDING:
            text += f". The evaluation recorded {money(profits[number])} for it: the policy or the program has changed since"
    return text


def _indented(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2)
