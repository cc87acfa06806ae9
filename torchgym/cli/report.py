"""`torchgym report`: one HTML page per evaluation."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from torchgym.cli.output import make_console
from torchgym.cli.progress import progress_bars, stage

if TYPE_CHECKING:
    from torchgym.lab.policies import MakePolicy


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write an HTML page about an evaluation; it needs no network, and shows one of the episodes in detail."""

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs/train")
    """Folder of a run that has been evaluated."""
    policy: str | None = None
    """Policy whose episode is drawn; the default is the agent."""
    episode: int | None = None
    """Number of the episode to draw, from 0; the default is the one of median profit."""
    output: Path | None = None
    """File to write; the default is report.html in the folder."""
    open: bool = False
    """Show the page in a browser."""


def run(options: Report) -> int:
    """Trace, write and say where; 0."""
    with progress_bars() as progress:
        with stage(progress, "loading"):
            from torchgym.visual.report import chosen_policy, read_evaluation, write_report

            evaluation = read_evaluation(options.folder)
            name = chosen_policy(evaluation, options.policy)
            make_policy = _make_policy(options.folder, name, is_agent=name == evaluation.get("agent"))

        def tell(done: int, total: int) -> None:
            progress(f"episode of {name}", done, total)
            if done == total:
                progress("page", 0, 1)

        path = write_report(
            options.folder, make_policy, policy=name, episode=options.episode, output=options.output, progress=tell
        )
        progress("page", 1, 1)
    make_console().print(f"written: {path}", soft_wrap=True)
    if options.open:
        webbrowser.open(path.resolve().as_uri())
    return 0


def _make_policy(folder: Path, name: str, *, is_agent: bool) -> MakePolicy:
    """The agent's policy comes from its checkpoint, the others from the table of baselines."""
    from torchgym.lab.policies import BASELINES
    from torchgym.training import load_agent

    if is_agent:
        return load_agent(folder).make_policy
    if name not in BASELINES:
        raise ValueError(f"policy {name!r} cannot be played again: choose from {', '.join(BASELINES)} with --policy")
    return BASELINES[name].make
