"""What measures and records markets: `torchgym realism`, `audit`, `record` and `presets`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from torchgym.cli import output
from torchgym.cli.options import COMPILE, CompileOption, chosen_market
from torchgym.cli.progress import progress_bars, stage
from torchgym.config import PRESETS, TASKS, MarketConfig, preset, task_presets
from torchgym.files import write_json

if TYPE_CHECKING:
    from rich.table import Table

    from torchgym.lab.audit import Audit
    from torchgym.lab.audit.playing import AnyAttempt
    from torchgym.lab.policy import MakePolicy
    from torchgym.lab.realism import Comparison, MeasureVerdict, Scorecard

# Numbers that are kept, at least.
_NUMBERS_PER_TICK = 10  # of every market and symbol
_NUMBERS_PER_BAR = 4  # of every market
_NUMBERS_PER_AUDITED = 400  # episode, of all policies together
_NUMBERS_PER_RECORDED = 5  # episode
_AGENT = "trained_agent"  # as which it is audited
_DECIDED_BY_DATA = ("ticks", "symbols", "impact", "nulls", "resamples")
_OF_DATA = ("close", "time_format", "ticks_per_bar")
_DECIDED_BY_RUN = ("preset", "ticks", "ticks_per_action", "symbols", "policy")


@dataclass(frozen=True, kw_only=True)
class Realism:
    """Run a market and print which stylised facts it shows; writes scorecard.json and panel.png.

    With --data the facts of a file of real prices are printed beside those of the market, both judged by what one path of that
    length can tell; writes comparison.json.
    """

    preset: str = "default"  # Name of the market; `torchgym presets` lists them.
    data: Path | None = None
    """Bars of real prices, .csv, .csv.gz or .parquet: columns time (or date), close and, if known, volume, in order of time."""
    close: str = "close"  # With --data: column of the prices, such as "adj close".
    time_format: str = ""
    """With --data: how times are written, such as %m/%d/%Y, or s or ms for numbers since 1970; the default is ISO 8601."""
    ticks_per_bar: int = 1
    """With --data: ticks of the market in a bar. A tick stands for about a minute: 60 make an hour, 390 a trading day."""
    markets: int = 64  # Number of markets.
    ticks: int = 16_384  # Measured ticks of each market, a multiple of 4.
    burn_in: int = 1_000  # Ticks before those, which are not measured.
    seed: int = 9_000_000_000  # Seed of the first market; the other markets take the seeds after it.
    symbols: int = 1  # Symbols per market.
    impact: bool = True  # Also measure price impact, for facts 12 and 13.
    nulls: bool = True  # Also run a market of noise traders alone, as a null model.
    resamples: int = 50  # Resamples of the block bootstrap; 0 leaves the intervals out.
    output: Path = Path("runs/realism")  # Folder to write to; the preset's name is added.
    compile: CompileOption = "auto"
    device: str = "cpu"  # Device to run on, such as cpu or cuda.

    def execute(self) -> int:
        """Measure, write and print; 0."""
        if self.data is not None:
            return _beside_data(self, self.data)
        if lacking := _changed(self, _OF_DATA):
            raise ValueError(f"{lacking}: these go with --data, a file of real prices")
        config = preset(self.preset, num_symbols=self.symbols)
        with_empty = self.nulls and self.preset != "zero_intelligence"
        empty = preset("zero_intelligence", num_symbols=self.symbols) if with_empty else None
        with progress_bars() as progress:
            with stage(progress, "loading"):
                from torchgym.engine import check_device
                from torchgym.lab.realism import scorecard
                from torchgym.visual.plots import realism_panel

                check_device(self.device)
            ticks = self.ticks + self.burn_in
            needed = self.markets * self.symbols * ticks * _NUMBERS_PER_TICK
            output.check_memory(f"{self.markets:,} markets of {ticks:,} ticks", needed)
            names = "markets", "ticks", "burn_in", "seed", "impact", "resamples", "device"
            own = output.picked(self, *names) | {"compile": COMPILE[self.compile]}
            with output.made_folder(self.output / self.preset) as folder:
                card = scorecard(config, name=self.preset, zero_intelligence=empty, progress=progress, **own)
                title = f"{card.name}: {card.markets} markets x {card.ticks:,} ticks, seeds from {card.seed}"
                with stage(progress, "writing"):
                    card_as_dict = card.to_dict()
                    write_json(folder / "scorecard.json", card_as_dict)
                    output.write_figure(folder / "panel.png", realism_panel(card_as_dict["curves"], title))
        console = output.make_console()
        console.print(_facts(card, title))
        console.print(_counts_line(card))
        for null in card.nulls:
            must = "facts " + ", ".join(map(str, null.must_fail)) if null.must_fail else "an M fact"
            fails = ", ".join(map(str, null.failed)) or "none"
            mark = "as it does" if null.as_expected else "[bold red]and does NOT[/]"
            console.print(f"null model {null.name} ({null.meaning}) fails facts {fails}; it must fail {must}, {mark}")
        print(f"written: {folder / 'scorecard.json'}, {folder / 'panel.png'}")
        return 0


def _beside_data(options: Realism, path: Path) -> int:
    """The facts of a file beside those of the preset."""
    if decided := _changed(options, _DECIDED_BY_DATA):
        raise ValueError(f"{decided}: --data decides that; leave it out, or leave out --data")
    config = preset(options.preset)
    with progress_bars() as progress:
        with stage(progress, "loading"):
            from torchgym.engine import check_device
            from torchgym.lab.realism import bar_path, compare, outcomes, read_bars
            from torchgym.lab.realism.bars import name_of

            check_device(options.device)
        with stage(progress, "reading"):
            data = bar_path(read_bars(path, close=options.close, time_format=options.time_format))
        ticks = data.paths.ticks * options.ticks_per_bar
        needed = options.markets * (data.paths.ticks + options.ticks_per_bar) * _NUMBERS_PER_BAR
        output.check_memory(f"{options.markets:,} markets of {ticks:,} ticks", needed)
        names = "markets", "ticks_per_bar", "burn_in", "seed", "device"
        own = output.picked(options, *names) | {"compile": COMPILE[options.compile]}
        with output.made_folder(options.output / f"{options.preset}-{name_of(path)}") as folder:
            found = compare(data, config, name=options.preset, progress=progress, **own)
            with stage(progress, "writing"):
                write_json(folder / "comparison.json", found.to_dict())
    console = output.make_console()
    console.print(_both(found))
    for sentence in data.about:
        print(f"{data.name}: {sentence}")
    bar = "a tick" if options.ticks_per_bar == 1 else f"{options.ticks_per_bar} ticks"
    print(f"{found.preset}: {found.markets} markets of {data.paths.ticks:,} bars of {bar}, seeds from {found.seed}")
    for name, verdicts in ((data.name, found.verdicts), (found.preset, found.of_markets)):
        tiers = outcomes(verdicts).items()
        print(
            f"{name}: "
            + "; ".join(f"{tier}: {', '.join(f'{n} {word}' for word, n in each.items())}" for tier, each in tiers)
        )
    print(f"written: {folder / 'comparison.json'}")
    return 0


def _both(found: Comparison) -> Table:
    numbers = found.data.name, "90 % interval", found.preset, "5-95 % of markets"
    headings = "fact and its measures", "tier", *numbers[:2], "verdict", *numbers[2:], "verdict", "must be"
    table = output.make_table(f"{found.data.name} beside {found.preset}", *headings, right=numbers)
    marks = {**output.MARKS, None: "cannot tell"}
    for verdict, other in zip(found.verdicts, found.of_markets, strict=True):
        fact = verdict.fact
        name = f"[bold]{fact.number} {fact.name}[/]"
        table.add_row(name, fact.tier, "", "", marks[verdict.passed], "", "", marks[other.passed], "")
        for mine, theirs in zip(verdict.measures, other.measures, strict=True):
            cells = (
                (output.figure(each.median), _between((each.low, each.high)), marks[each.passed])
                for each in (mine, theirs)
            )
            table.add_row(f"  {mine.criterion.meaning}", "", *next(cells), *next(cells), mine.criterion.text)
        table.add_section()
    return table


def _facts(card: Scorecard, title: str) -> Table:
    numbers = "median", "90 % interval", "5-95 % of markets"
    headings = "fact and its measures", "tier", *numbers, "must be", "inside", "pass"
    table = output.make_table(title, *headings, right=(*numbers, "inside"))
    for verdict in card.verdicts:
        fact, mark = verdict.fact, output.MARKS[verdict.passed]
        name = f"{fact.number} {fact.name}"
        name = f"{name}: not applicable" if verdict.passed is None else f"[bold]{name}[/]"
        table.add_row(name, fact.tier, "", "", "", "", "", mark)
        for measured in () if verdict.passed is None else verdict.measures:
            table.add_row(*_measure(measured))
        table.add_section()
    return table


def _measure(measured: MeasureVerdict) -> tuple[str, ...]:
    entry, several = measured.criterion, measured.count > 1
    return (
        f"  {entry.meaning}",
        "",
        output.figure(measured.median),
        _between(measured.interval),
        _between((measured.low, measured.high) if several else None),
        f"{entry.unit} (not judged)".strip() if entry.share is None else entry.text,
        f"{100.0 * measured.inside:.0f} %" if several and measured.passed is not None else "",
        output.MARKS[measured.passed],
    )


def _between(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{output.figure(ends[0])} … {output.figure(ends[1])}"


def _counts_line(card: Scorecard) -> str:
    parts = []
    for tier, counts in card.counts().items():
        judged = counts["passed"] + counts["failed"]
        left = f" ({counts['not applicable']} not applicable)" if counts["not applicable"] else ""
        parts.append(f"{tier}: {counts['passed']} of {judged} facts hold{left}")
    return "; ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Cheats:
    """Play scripted policies against a market and print what they earn; writes audit.json and audit.png."""

    preset: str = "default"  # Name of the market; `torchgym presets` lists them.
    policies: tuple[str, ...] | None = None
    """Names of policies, which are in torchgym.lab.audit.POLICIES; the default is all of them. A wrong one lists them."""
    agent: Path | None = None  # Folder of a training run, whose agent plays too, as `trained_agent`.
    episodes: int = 512  # Episodes per policy.
    ticks: int = 1_000  # Ticks of an episode.
    seed: int = 5_000_000_000_000  # Seed of the first episode; the other episodes take the seeds after it.
    device: str = "cpu"  # Device to run on, such as cpu or cuda.
    output: Path = Path("runs/audit")  # Folder to write to; the preset's name is added.
    compile: CompileOption = "auto"

    def execute(self) -> int:
        """Play, write and print; 1 where a policy breaks its rule, else 0."""
        config = preset(self.preset)
        with progress_bars() as progress:
            with stage(progress, "loading"):
                from torchgym.engine import check_device
                from torchgym.lab.audit import POLICIES, AgentAttempt, audit
                from torchgym.visual.plots import audit_bars

                check_device(self.device)
            output.check_memory(f"{self.episodes:,} episodes", self.episodes * _NUMBERS_PER_AUDITED)
            own = output.picked(self, "episodes", "ticks", "seed", "device") | {"compile": COMPILE[self.compile]}
            named = tuple(POLICIES) if self.policies is None else self.policies
            others = [name for name in named if self.agent is None or name != _AGENT]
            playing: dict[str, AnyAttempt] = {name: POLICIES.find(name) for name in others}
            if self.agent is not None:
                from torchgym.training import load_agent

                agent = load_agent(self.agent, device=self.device)
                playing[_AGENT] = AgentAttempt.of(agent.make_policy, agent.config)
            with output.made_folder(self.output / self.preset) as folder:
                made = audit(config, progress=progress, policies=playing, **own)
                title = f"{self.preset}: {made.episodes} episodes of {made.ticks:,} ticks, seeds from {made.seed}"
                with stage(progress, "writing"):
                    write_json(folder / "audit.json", made.to_dict())
                    output.write_figure(folder / "audit.png", audit_bars(made.rows, title))
        output.make_console().print(_profits(made, title))
        print(f"{sum(row.passed for row in made.rows)} of {len(made.rows)} policies do what they must")
        print(f"written: {folder / 'audit.json'}, {folder / 'audit.png'}")
        return 0 if made.passed else 1


def _profits(made: Audit, title: str) -> Table:
    numbers = "profit per episode", "bp of turnover", "t"
    table = output.make_table(title, "policy", *numbers, "must", "found", "pass", right=numbers)
    for row in made.rows:
        profit = f"{row.profit_mean:.2f} ± {row.profit_standard_error:.2f}"
        score = profit, f"{row.profit_bp:.2f}", f"{row.t_statistic:.1f}"
        table.add_row(row.policy, *score, row.requirement, row.reason, output.MARKS[row.passed])
    return table


@dataclass(frozen=True, kw_only=True)
class Record:
    """Play whole episodes and record them in a Parquet file, one row per episode, decision and symbol."""

    preset: str = "default"  # Name of the market, or of a task in the default market; `torchgym presets` lists them.
    episodes: int = 64  # Number of episodes.
    ticks: int | None = None  # Ticks of an episode; the default is the task's or, without one, 1,000.
    ticks_per_action: int | None = None  # Ticks per decision, and per row; the default is the task's, or 1.
    symbols: int | None = None  # Symbols per market; the default is the task's, or 1.
    policy: str = "hold"  # Policy that trades: a name in torchgym.lab.policies.BASELINES.
    run: Path | None = None
    """Folder of a training run, whose agent plays in its market; of the options above, only --episodes may be given with it."""
    seed: int = 0
    """Seed of the first episode; the other episodes take the seeds after it. Agents train on seeds below ten million."""
    markets: int = 64
    """Largest number of markets that play at once; with a scripted policy the file is the same for any number."""
    features: bool = True  # Also record what the learner saw: 54 columns and more, most of the file.
    origin: str = "2000-01-03"
    """First trading day of every episode, for the column time; weekdays follow, without holidays."""
    ticks_per_day: int | None = None
    """Ticks of a trading day, 09:30 to 16:00: 390 are minutes, 1 is a day a tick. The default is the market's day, or 390."""
    output: Path | None = None
    """File to write; the default is runs/record/NAME.parquet, NAME being the preset or the run's folder."""
    overwrite: bool = False  # Replace the file if it exists.
    compile: CompileOption = "auto"
    device: str = "cpu"  # Device to run on, such as cpu or cuda.

    def execute(self) -> int:
        """Play, write and print; 0."""
        with progress_bars() as progress:
            with stage(progress, "loading"):
                from torchgym.engine import check_device
                from torchgym.recording import Calendar, record

                check_device(self.device)
                config, make_policy, about = _scripted(self) if self.run is None else _trained(self, self.run)
                calendar = Calendar.of(config, self.origin, self.ticks_per_day)
            name = self.preset if self.run is None else self.run.resolve().name
            path = Path("runs/record") / f"{name}.parquet" if self.output is None else self.output
            if path.suffix not in ("", ".parquet", ".pq"):
                raise ValueError(f"output = {path}: the file is Parquet, give it a name that ends in .parquet")
            playing = min(self.markets, self.episodes)
            needed = playing * output.NUMBERS_PER_MARKET + self.episodes * _NUMBERS_PER_RECORDED
            output.check_memory(f"{self.episodes:,} episodes, {playing:,} at once,", needed)
            with output.made_folder(path.parent):
                made = record(
                    path,
                    config,
                    make_policy=make_policy,
                    num_envs=self.markets,
                    calendar=calendar,
                    about=about,
                    compile=COMPILE[self.compile],
                    progress=progress,
                    **output.picked(self, "episodes", "seed", "features", "overwrite", "device"),
                )
        ruined = f", {made.ruined:,} of them ended by ruin" if made.ruined else ""
        size = f"{made.size / 1e6:,.1f} MB"
        print(f"{made.episodes:,} episodes{ruined}, {made.rows:,} rows of {made.columns} columns, {size}")
        print(f"written: {made.path}")
        print(f'pandas:  pandas.read_parquet("{made.path}", dtype_backend="pyarrow")')
        print(f'polars:  polars.read_parquet("{made.path}")')
        print(f'columns: torchgym.recording.describe("{made.path}")')
        return 0


def _scripted(options: Record) -> tuple[MarketConfig, MakePolicy, dict[str, str]]:
    """The market and the policy of the options, which must make sense in it, and what to note of them in the file."""
    from torchgym.lab.policies import baselines

    numbers = {"num_symbols": options.symbols, "max_ticks": options.ticks, "ticks_per_action": options.ticks_per_action}
    config = chosen_market(options.preset, numbers, {"num_symbols": 1, "max_ticks": 1_000, "ticks_per_action": 1})
    known = baselines(config)
    if options.policy not in known:
        raise ValueError(f"unknown policy {options.policy!r}: choose one of {', '.join(known)}, or an agent with --run")
    return config, known[options.policy], {"preset": options.preset, "policy": options.policy}


def _trained(options: Record, folder: Path) -> tuple[MarketConfig, MakePolicy, dict[str, str]]:
    """The market of a run and its agent, and what to note of them in the file; what the run has decided is refused."""
    if decided := _changed(options, _DECIDED_BY_RUN):
        raise ValueError(f"{decided}: the run {folder} has decided that; leave it out, or leave out --run")
    from torchgym.training import load_agent

    agent = load_agent(folder, device=options.device)
    return agent.config, agent.make_policy, {"run": str(folder), "policy": "agent"}


@dataclass(frozen=True, kw_only=True)
class Presets:
    """List the named markets and the tasks, or show in what one of them differs from the default market."""

    preset: Annotated[str | None, tyro.conf.Positional] = None  # Market or task to show; without it, all are listed.

    def execute(self) -> int:
        """Print; 0."""
        if self.preset is None:
            table = output.make_table("torchgym.preset(name)", "name", "what it is and what for")
            for name in PRESETS:
                table.add_row(name, _meaning(name))
            table.add_section()
            for name, task in task_presets().items():
                table.add_row(name, f"the task {task} in the default market: {_meaning(name)}")
        else:
            own, usual = _flat(preset(self.preset).to_dict()), _flat(MarketConfig().to_dict())
            title = f"{self.preset}: {_meaning(self.preset)}"
            table = output.make_table(title, "setting", "default", self.preset)
            for name, value in own.items():
                if value != usual.get(name):
                    table.add_row(name, str(usual.get(name)), str(value))
        output.make_console().print(table)
        return 0


def _changed(options: Realism | Record, names: tuple[str, ...]) -> str:
    """Those of the options that are not at their defaults, as they are written."""
    changed = (name for name in names if getattr(options, name) != getattr(type(options), name))
    return ", ".join(
        f"--{'no-' if getattr(options, name) is False else ''}{name.replace('_', '-')}" for name in changed
    )


def _meaning(name: str) -> str:
    if name in PRESETS:
        return " ".join((PRESETS[name].__doc__ or "").split())
    return TASKS[task_presets()[name]].meaning


def _flat(entries: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Every setting by its dotted name."""
    settings: dict[str, object] = {}
    for name, value in entries.items():
        settings |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return settings
