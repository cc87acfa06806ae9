"""`torchgym record`: episodes of a market in a Parquet file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchgym.cli.output import NUMBERS_PER_MARKET, check_device, check_memory, make_console
from torchgym.cli.progress import progress_bars, stage
from torchgym.config import MarketConfig, preset

if TYPE_CHECKING:
    from torchgym.lab.policies import MakePolicy

_NUMBERS_PER_SEED = 5
_RECORDINGS = Path("runs/record")
_DECIDED_BY_RUN = ("preset", "ticks", "ticks_per_action", "symbols", "policy")


@dataclass(frozen=True, kw_only=True)
class Record:
    """Play whole episodes and record them in a Parquet file, one row per episode, tick and symbol."""

    preset: str = "default"
    """Name of the market; `torchgym presets` lists them."""
    episodes: int = 64
    """Number of episodes."""
    ticks: int = 1_000
    """Ticks of an episode."""
    ticks_per_action: int = 1
    """Ticks per decision, and per row."""
    symbols: int = 1
    """Symbols per market."""
    policy: str = "hold"
    """Policy that trades: a name in torchgym.lab.policies.BASELINES."""
    run: Path | None = None
    """Folder of a training run, whose agent plays in its market; of the options above, only --episodes may be given with it."""
    seed: int = 0
    """Seed of the first episode; the other episodes take the seeds after it. Agents train on seeds below ten million."""
    markets: int = 64
    """Largest number of markets that play at once; with a scripted policy the file is the same for any number."""
    features: bool = True
    """Also record what the learner saw: 54 columns and more, most of the file."""
    output: Path | None = None
    """File to write; the default is runs/record/NAME.parquet, NAME being the preset or the run's folder."""
    overwrite: bool = False
    """Replace the file if it exists."""
    compile: bool = False
    """Compile the market's step: slow to start, fast to run."""
    device: str = "cpu"
    """Device to run on, such as cpu or cuda."""


def run(options: Record) -> int:
    """Play, write and print; 0."""
    with progress_bars() as progress:
        with stage(progress, "loading"):
            from torchgym.recording import record

            check_device(options.device)
            config, make_policy, about = _scripted(options) if options.run is None else _trained(options, options.run)
        name = options.preset if options.run is None else options.run.resolve().name
        path = _RECORDINGS / f"{name}.parquet" if options.output is None else options.output
        path.parent.mkdir(parents=True, exist_ok=True)
        playing = min(options.markets, options.episodes)
        needed = playing * NUMBERS_PER_MARKET + options.episodes * _NUMBERS_PER_SEED
        check_memory(f"{options.episodes:,} episodes, {playing:,} at once,", needed)
        made = record(
            path,
            config,
            episodes=options.episodes,
            seed=options.seed,
            make_policy=make_policy,
            num_envs=options.markets,
            features=options.features,
            about=about,
            overwrite=options.overwrite,
            compile=options.compile,
            device=options.device,
            progress=progress,
        )
    ruined = f", {made.ruined:,} of them ended by ruin" if made.ruined else ""
    console = make_console()
    console.print(
        f"{made.episodes:,} episodes{ruined}, {made.rows:,} rows of {made.columns} columns, {_megabytes(made.size)}",
        highlight=False,
    )
    for line in (
        f"written: {made.path}",
        f'pandas:  pandas.read_parquet("{made.path}", dtype_backend="pyarrow")',
        f'polars:  polars.read_parquet("{made.path}")',
        f'columns: torchgym.recording.describe("{made.path}")',
    ):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    return 0


def _scripted(options: Record) -> tuple[MarketConfig, MakePolicy, dict[str, str]]:
    """The market and the policy of the options, and what to tell of them.

    Raises:
        ValueError: for an unknown policy, or one that makes no sense in this market, listing those that do.
    """
    from torchgym.lab.policies import baselines

    config = preset(
        options.preset,
        num_symbols=options.symbols,
        max_ticks=options.ticks,
        ticks_per_action=options.ticks_per_action,
    )
    known = baselines(config)
    if options.policy not in known:
        raise ValueError(f"unknown policy {options.policy!r}: choose one of {', '.join(known)}, or an agent with --run")
    return config, known[options.policy], {"preset": options.preset, "policy": options.policy}


def _trained(options: Record, folder: Path) -> tuple[MarketConfig, MakePolicy, dict[str, str]]:
    """The market of a run and its agent, and what to tell of them.

    Raises:
        ValueError: for options that the run has decided, or without a checkpoint that can be read.
    """
    decided = [name for name in _DECIDED_BY_RUN if getattr(options, name) != getattr(Record, name)]
    if decided:
        listed = ", ".join(f"--{name.replace('_', '-')}" for name in decided)
        raise ValueError(f"{listed}: the run {folder} has decided that; leave it out, or leave out --run")
    from torchgym.training import load_agent

    agent = load_agent(folder, device=options.device)
    return agent.config, agent.make_policy, {"run": str(folder), "policy": "agent"}


def _megabytes(size: int) -> str:
    """Bytes, to be read.

    >>> _megabytes(2_345_678)
    '2.3 MB'
    """
    return f"{size / 1e6:,.1f} MB"
