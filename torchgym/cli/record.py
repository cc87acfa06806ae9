"""`torchgym record`: episodes of a market in a Parquet file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchgym.cli.output import check_device, compilable, make_console, progress_bars
from torchgym.config import MarketConfig, preset

if TYPE_CHECKING:
    from torchgym.policies import PolicyMaker

_RECORDINGS = Path("runs/record")
_DECIDED_BY_RUN = ("preset", "ticks", "ticks_per_action", "symbols", "policy")


@dataclass(frozen=True, kw_only=True)
class Record:
    """Play whole episodes and write what was seen, done and earned to a Parquet file, one row per episode, tick and symbol."""

    preset: str = "default"
    """Which market; see torchgym.PRESETS."""
    episodes: int = 64
    """How many episodes."""
    ticks: int = 1_000
    """Length of an episode."""
    ticks_per_action: int = 1
    """Ticks per decision, and per row."""
    symbols: int = 1
    """Symbols per market."""
    policy: str = "hold"
    """Who trades; see torchgym.policies.BASELINES."""
    run: Path | None = None
    """Folder of a training run: its agent plays, in the market it was trained for; of the options above --episodes applies."""
    seed: int = 0
    """Of the first episode; the others follow. Agents train on those below ten million."""
    markets: int = 64
    """How many markets play at once, at most; what a scripted policy leaves is the same file."""
    features: bool = True
    """Also record what the learner saw, 54 columns and more: most of the file."""
    output: Path | None = None
    """File to write; the default is runs/record/PRESET.parquet, or that of the run's name."""
    overwrite: bool = False
    """Replace a file that is there already."""
    compile: bool = False
    """Compile the market's step: slow to start, fast to run."""
    device: str = "cpu"
    """Where to run, such as cuda."""


def run(options: Record) -> int:
    """Play, write and print; 0."""
    try:
        from torchgym.recording import record
    except ImportError as missing:  # it says what to install
        raise ValueError(str(missing)) from missing

    check_device(options.device)
    config, maker, about = _scripted(options) if options.run is None else _trained(options, options.run)
    name = options.preset if options.run is None else options.run.resolve().name
    path = _RECORDINGS / f"{name}.parquet" if options.output is None else options.output
    path.parent.mkdir(parents=True, exist_ok=True)
    with progress_bars() as progress:
        made = record(
            path,
            config,
            episodes=options.episodes,
            seed=options.seed,
            maker=maker,
            num_envs=options.markets,
            features=options.features,
            about=about,
            overwrite=options.overwrite,
            compile=compilable(options.compile),
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


def _scripted(options: Record) -> tuple[MarketConfig, PolicyMaker, dict[str, str]]:
    """The market and the policy of the options, and what to tell of them.

    Raises:
        ValueError: for an unknown policy, or one that makes no sense in this market, listing those that do.
    """
    from torchgym.policies import baselines

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


def _trained(options: Record, folder: Path) -> tuple[MarketConfig, PolicyMaker, dict[str, str]]:
    """The market of a run and its agent, and what to tell of them.

    Raises:
        ValueError: for options that the run has decided, or without a checkpoint that can be read.
    """
    decided = [name for name in _DECIDED_BY_RUN if getattr(options, name) != getattr(Record, name)]
    if decided:
        told = ", ".join(f"--{name.replace('_', '-')}" for name in decided)
        raise ValueError(f"{told}: the run {folder} has decided that; leave it out, or leave out --run")
    from torchgym.training import load_agent

    agent = load_agent(folder, device=options.device)
    return agent.config, agent.maker, {"run": str(folder), "policy": "agent"}


def _megabytes(size: int) -> str:
    """Bytes, to be read.

    >>> _megabytes(2_345_678)
    '2.3 MB'
    """
    return f"{size / 1e6:,.1f} MB"
