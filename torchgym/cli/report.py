"""`torchgym report`: one HTML page per evaluation."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from torchgym.cli.output import make_console, progress_bars

if TYPE_CHECKING:
    from torchgym.policies import PolicyMaker


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a page about an evaluation that opens offline, on a phone too; one of its episodes is played again and drawn."""

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs/train")
    """Of a run that has been evaluated."""
    policy: str | None = None
    """Whose episode to draw; the agent's unless named."""
    episode: int | None = None
    """Which episode, from 0; the one of median profit unless named."""
    output: Path | None = None
    """File to write; report.html in the folder unless named."""
    open: bool = False
    """Show it in a browser."""


def run(options: Report) -> int:
    """Trace, write and say where; 0."""
    from torchgym.report import chosen_policy, read_evaluation, write_report

    evaluation = read_evaluation(options.folder)
    name = chosen_policy(evaluation, options.policy)
    maker = _maker(options.folder, name, is_agent=name == evaluation.get("agent"))
    with progress_bars() as progress:
        path = write_report(
            options.folder,
            maker,
            policy=name,
            episode=options.episode,
            output=options.output,
            progress=lambda done, total: progress(f"episode of {name}", done, total),
        )
    make_console().print(f"written: {path}", soft_wrap=True)
    if options.open:
        webbrowser.open(path.resolve().as_uri())
    return 0


def _maker(folder: Path, name: str, *, is_agent: bool) -> PolicyMaker:
    """The agent's policy comes from its checkpoint, the others from the table of baselines."""
    from torchgym.policies import BASELINES
    from torchgym.training import load_agent

    if is_agent:
        return load_agent(folder).maker
    if name not in BASELINES:
        raise ValueError(f"policy {name!r} cannot be played again: choose from {', '.join(BASELINES)} with --policy")
    return BASELINES[name].make
