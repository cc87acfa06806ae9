"""The page of a run's folder: one HTML file that needs nothing else, neither network nor fonts nor other files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from torchgym.config import PRESETS, MarketConfig
from torchgym.files import read_json, replacing
from torchgym.lab.performance.trace import Trace, trace
from torchgym.lab.policy import MakePolicy, own_config
from torchgym.progress import Count, silent
from torchgym.visual.palette import DARK, LIGHT
from torchgym.visual.report import figures, formats
from torchgym.visual.report.episode_figures import episode_figures

EVALUATION = "evaluation.json"
TRAINING = "run.json"
REPORT = "report.html"
_ENTRIES = ("torchgym", "config", "seed", "episodes", "decisions", "periods_per_year", "policies", "comparisons")
_OF_TRAINING = ("torchgym", "command", "seed", "settings")


def write_report(
    folder: Path,
    make_policy: MakePolicy,
    *,
    policy: str | None = None,
    episode: int | None = None,
    output: Path | None = None,
    command: str = "",
    progress: Count = silent,
) -> Path:
    """Trace an episode of an evaluation again and write its page.

    Args:
        folder: of the run; holds evaluation.json, and checkpoint.pt and run.json where an agent learnt.
        make_policy: of the policy to trace.
        policy: its name in the evaluation; None is the agent, or the first policy where there is none.
        episode: which one, from 0; None is the one that `median_episode` chooses.
        output: file to write; None is report.html in the folder.
        command: that makes the page again, to be shown on it.
        progress: called with the ticks played and the ticks in all: before the episode, after each decision, when it is over.

    Returns:
        The file.

    Raises:
        ValueError: without an evaluation or for one that cannot be read, an unknown policy or episode; nothing is written then.
        OSError: when the file cannot be written; an old one is still whole.
    """
    from torchgym.training import CHECKPOINT, read_checkpoint

    evaluation = read_evaluation(folder)
    chosen = chosen_policy(evaluation, policy)
    if episode is None:
        episode = median_episode(evaluation, chosen)
    if not 0 <= episode < evaluation["episodes"]:
        raise ValueError(f"episode must be 0 to {evaluation['episodes'] - 1}, got {episode}")
    seed = evaluation["seed"] + episode
    config = own_config(MarketConfig.from_dict(evaluation["config"]), seed)
    progress(0, config.max_ticks)
    traced = trace(config, make_policy(config, torch.tensor([seed], device="cpu")), seed, progress=progress)
    progress(config.max_ticks, config.max_ticks)  # also where ruin ended it
    checkpoint, training = folder / CHECKPOINT, folder / TRAINING
    curve = read_checkpoint(checkpoint)["curve"] if checkpoint.is_file() else None
    about = read_json(training, _OF_TRAINING) if training.is_file() else None
    text = page(evaluation, traced, policy=chosen, curve=curve, training=about, command=command)
    path = folder / REPORT if output is None else output
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def median_episode(evaluation: Mapping[str, Any], policy: str) -> int:
    """The episode whose profit is the median, the lower one of two, among those in which the policy trades, if there are any.

    >>> median_episode({"policies": {"agent": {"profit": [0.0, 3.0, -1.0, 2.0, 9.0], "trades": [0, 4, 8, 2, 6]}}}, "agent")
    3
    """
    profit, trades = (evaluation["policies"][policy][name] for name in ("profit", "trades"))
    episodes = [episode for episode, count in enumerate(trades) if count] or range(len(profit))
    return sorted(episodes, key=lambda episode: (profit[episode], episode))[(len(episodes) - 1) // 2]


def read_evaluation(folder: Path) -> dict[str, Any]:
    """What `torchgym evaluate` wrote.

    Raises:
        ValueError: when there is nothing, or something else, naming the command that makes it.
    """
    path = folder / EVALUATION
    if not path.is_file():
        raise ValueError(f"{path} does not exist: `torchgym evaluate {folder}` makes it")
    try:
        evaluation = read_json(path, _ENTRIES)
    except ValueError as error:
        raise ValueError(f"{error}; `torchgym evaluate {folder}` makes it anew") from error
    policies = evaluation["policies"].values()
    lacking = "policies" if not policies else "trades" if not all("trades" in row for row in policies) else None
    if not all("baseline" in row for row in evaluation["comparisons"] or ()):
        lacking = "baselines in its comparisons"
    if lacking is not None:
        raise ValueError(f"{path} has no {lacking}; `torchgym evaluate {folder} --overwrite` makes it anew")
    return evaluation


def page(
    evaluation: Mapping[str, Any],
    trace: Trace,
    *,
    policy: str | None = None,
    curve: Sequence[Mapping[str, Any]] | None = None,
    training: Mapping[str, Any] | None = None,
    command: str = "",
) -> str:
    """One evaluation as HTML.

    Args:
        evaluation: as `Evaluation.to_dict` makes it, or read back from its JSON.
        trace: one of its episodes.
        policy: which policy plays in the trace; None is the agent, or the first policy where there is none.
        curve: the agent's learning curve: rows with frames, training_return and, where the agent was tested, validation_return.
        training: how the agent was trained: command, seed, settings, torchgym; as in run.json.
        command: that makes the page again.

    Returns:
        A document with figures that follow the reader's light or dark theme. The same arguments give the same text.

    Raises:
        ValueError: for an unknown policy, listing the known ones.
    """
    names, policies, traced = figures.ordered(evaluation), evaluation["policies"], chosen_policy(evaluation, policy)
    estimates = {name: {"profit": mean_profit(policies[name]), **policies[name]["metrics"]} for name in names}
    attribution = policies[names[0]]["attribution"]
    environment = Environment(
        loader=PackageLoader("torchgym.visual.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "spoken": formats.spoken,
        "capitalised": formats.capitalised,
        "indented": partial(json.dumps, indent=2),
    }
    return environment.get_template("page.html").render(
        evaluation=evaluation,
        trace=trace,
        traced=traced,
        training=training,
        command=command,
        market=market_name(MarketConfig.from_dict(evaluation["config"])),
        idle=idle(evaluation, trace, traced),
        names=names,
        palettes={"light": asdict(LIGHT), "dark": asdict(DARK)},
        dark_colours=Markup(json.dumps(figures.dark_colours())),
        formats=formats,
        summary=summary(evaluation, names[0]),
        costs={part: -attribution[part] for part in figures.COSTS if part in attribution},
        estimates=estimates,
        metrics={metric: formats.described(metric) for row in estimates.values() for metric in row},
        mean_profit=mean_profit,
        parts={part: (formats.capitalised(figures.part_name(part)), "", "") for part in figures.parts_of(evaluation)},
        figures={
            "leads": figures.lead_figure(evaluation) if evaluation["comparisons"] else None,
            "episode": episode_figures(evaluation, trace, traced),
            "attribution": figures.attribution_figure(evaluation),
            "distribution": figures.distribution_figure(evaluation),
            "learning": figures.learning_figure(curve) if curve else None,
        },
        plotlyjs=Markup(get_plotlyjs()),
    )


def chosen_policy(evaluation: Mapping[str, Any], policy: str | None) -> str:
    """The named policy; for None the agent, or the first one.

    Raises:
        ValueError: for an unknown one, listing the known ones.
    """
    known = figures.ordered(evaluation)
    if policy is not None and policy not in known:
        raise ValueError(f"unknown policy {policy!r}: choose from {', '.join(known)}")
    return known[0] if policy is None else policy


def mean_profit(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Mean profit of a policy, with its 95 % interval where the evaluation has one."""
    return row["metrics"].get("profit") or {"mean": fmean(row["profit"])}


def market_name(config: MarketConfig) -> str:
    """The preset whose model of prices and traders it is, whatever the length of its episodes or the costs of trading.

    >>> market_name(PRESETS["calm"]().replace(max_ticks=500)), market_name(MarketConfig().replace(num_symbols=3))
    ('the calm market', 'the default market of 3 symbols')
    """
    parts = [part.name for part in fields(config) if is_dataclass(getattr(config, part.name))]
    made = {name: preset() for name, preset in PRESETS.items()}
    same = (name for name in made if all(getattr(made[name], part) == getattr(config, part) for part in parts))
    name = next(same, "")
    market = f"the {formats.spoken(name)} market" if name else "a market of its own settings"
    return market if config.num_symbols == 1 else f"{market} of {config.num_symbols:,} symbols"


def idle(evaluation: Mapping[str, Any], trace: Trace, policy: str) -> str:
    """In which episodes the policy does not trade, the traced one and others; nothing where it trades in all of them."""
    trades, name = evaluation["policies"][policy]["trades"], formats.capitalised(formats.spoken(policy))
    still = trades.count(0)
    if still == len(trades):
        return f"{name} does not trade in any of the {still:,} episodes."
    told = []
    if not trace.filled.any():
        told.append(f"{name} does not trade in this episode.")
    elif not trace.filled[:, 0].any():
        told.append(f"{name} trades in this episode, but not the first symbol, whose price is shown.")
    if still:
        told.append(f"It does not trade in {still:,} of the {len(trades):,} episodes.")
    return " ".join(told)


def summary(evaluation: Mapping[str, Any], policy: str) -> str:
    """The result in a sentence or two."""
    profit = mean_profit(evaluation["policies"][policy])
    ends = formats.interval("profit", profit)
    sentence = formats.capitalised(f"{formats.spoken(policy)} makes {formats.money(profit['mean'])} per episode")
    sentence += (f" (95{formats.SPACE}% interval {ends})" if ends else "") + " after all costs."
    if not any(evaluation["policies"][policy]["trades"]):
        sentence += " It never trades."
    rows = [row for row in evaluation["comparisons"] if row["agent"] == policy]
    clear = [row for row in rows if figures.is_significant(row)]
    ahead, behind = (_listed([row for row in clear if (row["lead"] > 0.0) == sign]) for sign in (True, False))
    clauses = [f"ahead of {ahead}"] * bool(ahead) + [f"behind {behind}"] * bool(behind)
    if clauses:
        sentence += f" It is significantly {' and '.join(clauses)}."
    rest = _listed([row for row in rows if not figures.is_significant(row)])
    return sentence + f" It is not significantly different from {rest}." * bool(rest)


def _listed(rows: Sequence[Mapping[str, Any]]) -> str:
    *names, last = [formats.spoken(row["baseline"]) for row in rows] or [""]
    return f"{', '.join(names)} and {last}" if names else last
