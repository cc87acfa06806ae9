"""What compares agents: `torchgym evaluate`, `report` and `ladder`."""

from __future__ import annotations

import math
import webbrowser
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from torchgym.cli import output
from torchgym.cli.options import COMPILE, CompileOption
from torchgym.cli.progress import progress_bars, stage
from torchgym.files import read_json, write_json
from torchgym.version import __version__

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from torchgym.config import MarketConfig
    from torchgym.lab.performance import Evaluation
    from torchgym.lab.policy import MakePolicy
    from torchgym.training.ladder import TaskSummary

EVALUATION = "evaluation.json"
_TABLE = "evaluation.csv"
_NUMBERS_PER_DECISION = 10  # that are kept of every episode
_WIDTH = 80  # columns of the table, in a terminal that has them


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Play held-out episodes with a trained agent and scripted policies and compare them; writes evaluation.json and .csv."""

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs/train")  # Folder of a training run.
    policies: tuple[str, ...] = ()
    """Policies to compare with, names in torchgym.lab.policies.BASELINES; without names, all that fit the market."""
    episodes: int = 256  # Number of episodes; all policies play the same ones.
    seed: int = 20_000_000
    """Seed of the first episode; the other episodes take the seeds after it. Training uses seeds below ten million."""
    ticks_per_year: float = 98_280  # Ticks of a year, for annualised figures: 252 days of 390 minutes.
    device: str = "cpu"  # Device to run on, such as cpu or cuda.
    compile: CompileOption = "auto"
    overwrite: bool = False  # Replace an evaluation of other episodes, policies or ticks of a year.

    def execute(self) -> int:
        """Play, write and print; 0."""
        evaluate_agent(self)
        print(f"written: {self.folder / EVALUATION}, {self.folder / _TABLE}")
        return 0


def evaluate_agent(options: Evaluate) -> None:
    """Evaluate the agent of a run, write the two files and print the table."""
    with progress_bars() as progress:
        with stage(progress, "loading"):
            from torchgym.engine import check_device
            from torchgym.lab.performance import TRAINING_SEEDS, evaluate
            from torchgym.lab.policies import BASELINES
            from torchgym.training import CHECKPOINT, load_agent, read_checkpoint

            check_device(options.device)
        folder, episodes, seed = options.folder, options.episodes, options.seed
        if seed < TRAINING_SEEDS:
            raise ValueError(f"seed must be at least {TRAINING_SEEDS}, got {seed}: agents train on those below")
        agent = load_agent(folder, device=options.device)
        saved = read_checkpoint(folder / CHECKPOINT)["torchgym"]
        chosen = {"agent": agent.make_policy, **_chosen(agent.config, options.policies)}
        if not options.overwrite:
            terms = output.picked(options, "episodes", "seed", "ticks_per_year")
            _check_replaces_nothing(folder / EVALUATION, {**terms, "policies": set(chosen)})
        decisions = agent.config.longest_episode
        needed = episodes * (output.NUMBERS_PER_MARKET + decisions * len(chosen) * _NUMBERS_PER_DECISION)
        output.check_memory(f"{episodes:,} episodes of {decisions:,} decisions", needed)
        descriptions = {name: row.description for name, row in BASELINES.items()}
        layers = " and ".join(map(str, agent.settings.hidden))
        descriptions["agent"] = f"PPO, layers of {layers}, trained with torchgym {saved}"
        own = output.picked(options, "episodes", "seed", "ticks_per_year", "device")
        own |= {"compile": COMPILE[options.compile], "progress": progress}
        made = evaluate(agent.config, chosen, agent="agent", descriptions=descriptions, **own)
        made.resample(partial(progress, "intervals"))
    command = output.command_line("evaluate", options, first=[str(folder)], leave_out=("folder", "overwrite"))
    write_json(folder / EVALUATION, made.to_dict(command))
    output.write_csv(folder / _TABLE, made.rows())
    _print_table(output.make_console(), made)


def _check_replaces_nothing(path: Path, terms: dict[str, object]) -> None:
    """A ValueError where the file holds an evaluation on other terms; a damaged one may go."""
    try:
        there = read_json(path, ("command", *terms))
    except (FileNotFoundError, ValueError):
        return
    if {**{name: there[name] for name in terms}, "policies": set(there["policies"])} != terms:
        raise ValueError(f"{path} holds the result of `{there['command']}`: --overwrite replaces it")


def _chosen(config: MarketConfig, names: tuple[str, ...]) -> dict[str, MakePolicy]:
    from torchgym.lab.policies import baselines

    known = baselines(config)
    unknown = [repr(name) for name in names if name not in known]
    if unknown:
        raise ValueError(f"unknown policy {', '.join(unknown)}: choose from {', '.join(known)}")
    return {name: known[name] for name in names} if names else known


def _print_table(console: Console, made: Evaluation) -> None:
    """In as many columns as there are, 80 at most.

    Intervals that do not fit stand beneath their means; a terminal of fewer columns leaves the reward out.
    """
    import torch

    width = min(console.width, _WIDTH)
    differ = not all(torch.allclose(own.reward, own.profit) for own in made.episodes.values())
    wide, high = (_evaluate_table(made, gap, rewarded=differ and width == _WIDTH) for gap in " \n")
    fits = console.measure(wide, options=console.options.update(width=2 * _WIDTH)).maximum <= width
    console.print(wide if fits else high, width=width)


def _evaluate_table(made: Evaluation, gap: str, rewarded: bool) -> Table:
    """What a policy earned, its reward where that is no profit, and the agent's lead; more is in the CSV and on the page."""
    from rich import box

    count, decisions = next(iter(made.episodes.values())).traded.shape
    title = f"{count:,} episodes of {decisions:,} decisions, seeds from {made.seed}; profit in currency per episode"
    numbers = (*(["reward (95 %)"] if rewarded else []), "profit (95 %)", "agent's lead (95 %)", "p")
    table = output.make_table(title, "policy", *numbers, right=numbers)
    table.box, table.caption_justify = box.SIMPLE_HEAD, "left"
    table.caption = (
        f"Intervals are uncorrected, p is corrected by Holm's method. More figures: {_TABLE}, torchgym report."
    )
    leads = {comparison.baseline: comparison for comparison in made.comparisons}
    for policy in made.episodes:
        profit, reward, lead = made.interval(policy, "profit"), made.interval(policy, "reward"), leads.get(policy)
        assert profit is not None and reward is not None  # every episode has them, and there are two at least
        table.add_row(
            policy,
            *([_interval(*reward, gap, "+.3g")] if rewarded else []),
            _interval(*profit, gap),
            "" if lead is None else _interval(lead.lead, lead.low, lead.high, gap),
            "" if lead is None else f"{lead.p_adjusted:.2g}",
        )
    return table


def _interval(mean: float, low: float, high: float, gap: str = " ", form: str = "") -> str:
    """Without a `form`, as money: with a digit after the point below a thousand."""
    form = form or ("+,.1f" if max(abs(end) for end in (mean, low, high)) < 1000.0 else "+,.0f")
    return f"{mean:{form}}{gap}({low:{form}} … {high:{form}})"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write an HTML page about an evaluation; it needs no network, and shows one of the episodes in detail."""

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs/train")  # Folder of a run that has been evaluated.
    policy: str | None = None  # Policy whose episode is drawn; the default is the agent.
    episode: int | None = None
    """Number of the episode to draw, from 0; the default is the one of median profit among those with a trade."""
    output: Path | None = None  # File to write; the default is report.html in the folder.
    open: bool = False  # Show the page in a browser.

    def execute(self) -> int:
        """Trace, write and say where; 0."""
        with progress_bars() as progress:
            with stage(progress, "loading"):
                from torchgym.lab.policies import BASELINES
                from torchgym.training import load_agent
                from torchgym.visual.report import chosen_policy, read_evaluation, write_report

                evaluation = read_evaluation(self.folder)
                name = chosen_policy(evaluation, self.policy)
                if name == evaluation.get("agent"):
                    make_policy: MakePolicy = load_agent(self.folder).make_policy
                elif name in BASELINES:
                    make_policy = BASELINES[name].make
                else:
                    known = ", ".join(BASELINES)
                    raise ValueError(f"policy {name!r} cannot be played again: choose from {known} with --policy")

            def show(done: int, total: int) -> None:
                progress(f"episode of {name}", done, total)
                if done == total:
                    progress("page", 0, 1)

            chosen = output.picked(self, "episode", "output")
            command = output.command_line("report", self, first=[str(self.folder)], leave_out=("folder", "open"))
            path = write_report(self.folder, make_policy, policy=name, command=command, progress=show, **chosen)
            progress("page", 1, 1)
        print(f"written: {path}")
        if self.open:
            webbrowser.open(path.resolve().as_uri())
        return 0


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Train agents on tasks of growing difficulty and compare each with a scripted policy that knows as much.

    Writes ladder.csv, curves.csv and ladder.png. Ctrl-C saves the progress; the same command continues from there.
    """

    preset: str = "default"  # Name of the market; `torchgym presets` lists them.
    tasks: tuple[str, ...] = ("inventory", "exact_free", "exact", "estimate", "public")
    """Names of the tasks; there are also trend, as_null, ac_null, market_making, execution and portfolio."""
    seeds: int = 5  # Trainings per task.
    seed: int = 0  # Seed of the first training; each following training adds 1,000.
    episodes: int = 1_024  # Held-out episodes on which agents and references are tested.
    frames: int | None = None  # Decisions per training; the default is each task's own number.
    output: Path = Path("runs/ladder")  # Folder for checkpoints and results; the preset's name is added.
    results: Path | None = None  # Folder for tables and picture; the default is the one above.
    device: str = "cpu"  # Device to run on, such as cpu or cuda.
    compile: CompileOption = "auto"
    threads: int = 1  # Threads of torch; networks this small gain nothing from more than one.

    def execute(self) -> int:
        """Train, write and print; 0, 1 where a task asks for more than the agents reach, 130 where Ctrl-C ended it."""
        with progress_bars() as progress:
            with stage(progress, "loading"):
                from torchgym.engine import check_device
                from torchgym.training.ladder import Plan, curve_rows, run_ladder, summarise
                from torchgym.visual.plots import ladder_panel

                check_device(self.device)
                output.set_threads(self.threads)
            names = "preset", "tasks", "seeds", "seed", "episodes", "frames", "device"
            plan = Plan(**output.picked(self, *names), compile=COMPILE[self.compile])
            output.check_memory(f"{self.episodes:,} episodes", self.episodes * output.NUMBERS_PER_MARKET)
            folder = self.output / self.preset
            results = self.results or folder
            with output.made_folder(folder), output.made_folder(results), output.interruptible() as pressed:
                made = run_ladder(plan, folder, progress=progress, stop=pressed)
            if made is None:
                print("saved; the same command goes on from there")
                return output.INTERRUPTED
            summaries = []
            for done, result in enumerate(made):
                progress("intervals", done, len(made))
                summaries.append(summarise(result))
            progress("intervals", len(made), len(made))
            with stage(progress, "writing"):
                curves, command = curve_rows(made), output.command_line("ladder", self, leave_out=("output", "results"))
                about, rows = {"torchgym": __version__, "command": command}, []
                for summary in summaries:
                    trainings = " ".join(map(str, summary.agent_by_training))
                    rows.append({"preset": self.preset, **asdict(summary), "agent_by_training": trainings, **about})
                output.write_csv(results / "ladder.csv", rows)
                output.write_csv(results / "curves.csv", curves)
                output.write_figure(results / "ladder.png", ladder_panel(summaries, curves))
        output.make_console().print(_ladder_table(summaries, self.preset))
        print(f"written: ladder.csv, curves.csv, ladder.png in {results}")
        return 0 if all(summary.passed for summary in summaries) else 1


def _ladder_table(summaries: list[TaskSummary], preset: str) -> Table:
    first = summaries[0]
    title = f"{preset}: {first.trainings} trainings per task, {first.episodes:,} held-out episodes; score per episode"
    numbers = "agent (95 %)", "worst … best training", "reference (95 %)", "share (95 %)", "frames", "minutes"
    table = output.make_table(title, "task", *numbers, "must reach", "pass", right=numbers)
    for row in summaries:
        table.add_row(
            f"{row.task}: {row.description}",
            _interval(row.agent_mean, row.agent_low, row.agent_high),
            f"{min(row.agent_by_training):+.1f} … {max(row.agent_by_training):+.1f}",
            f"{row.reference}: {_interval(row.reference_mean, row.reference_low, row.reference_high)}",
            "–" if math.isnan(row.share) else f"{row.share:.0%} ({row.share_low:.0%} … {row.share_high:.0%})",
            f"{row.frames:,}",
            f"{row.minutes:.1f}",
            row.needs,
            output.MARKS[row.passed],
        )
    return table
