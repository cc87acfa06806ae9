"""`torchgym train`: an agent learns to trade."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from torchgym.cli.evaluate import judge
from torchgym.cli.output import (
    INTERRUPTED,
    check_device,
    command_line,
    compilable,
    interruptible,
    make_console,
    progress_bars,
    write_csv,
    write_json,
)
from torchgym.config import preset
from torchgym.training.settings import PPOSettings
from torchgym.version import __version__

if TYPE_CHECKING:
    from torchgym.training import Run

_SAVE_EVERY = 20  # updates
_ANY_TIME = (
    "folder",
    "episodes",
    "device",
    "compile",
    "threads",
    "logger",
    "resume",
)  # options that --resume goes with


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train an agent by PPO, then measure it against scripted policies on episodes it has never seen.

    Writes checkpoint.pt, run.json, learning_curve.csv and .png, evaluation.json and .csv. Ctrl-C saves a checkpoint, and --resume
    goes on from it and ends in the same bits as if nothing had happened.
    """

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs/train")
    """Of this run."""
    preset: str = "default"
    """Which market; see `torchgym presets`."""
    max_ticks: int = 1_000
    """Length of an episode."""
    ticks_per_action: int = 5
    """Ticks per decision."""
    symbols: int = 1
    """Symbols per market."""
    information: Literal["public", "privileged", "none"] = "public"
    """What the agent is shown of value: a noisy estimate, the exact value, nothing."""
    reward: str = "pnl"
    """A row of torchgym.rewards.REWARDS."""
    ppo: PPOSettings = field(default_factory=PPOSettings)
    """The agent and how it learns."""
    validations: int = 10
    """How often the agent is tried on held-out episodes while it learns."""
    episodes: int = 256
    """Held-out episodes of the final test; 0 leaves it out."""
    seed: int = 0
    """Of the networks, the choices and the first training market; the others follow."""
    device: str = "cpu"
    """Where to run, such as cuda."""
    compile: bool = True
    """Compile the market's step: slow to start, fast to run, the same numbers."""
    threads: int = 1
    """Of torch; networks this small gain nothing from more."""
    logger: Literal["none", "csv", "tensorboard", "wandb", "mlflow"] = "none"
    """One of TorchRL's loggers beside learning_curve.csv; needs its package."""
    resume: bool = False
    """Go on with the run in the folder, with the settings that it has."""
    overwrite: bool = False
    """Begin anew where the folder holds a run already."""


def run(options: Train) -> int:
    """Train, write and print; 0, or 130 where Ctrl-C ended it."""
    import torch

    from torchgym.training import CHECKPOINT

    check_device(options.device)
    options = replace(options, compile=compilable(options.compile))
    torch.set_num_threads(options.threads)
    there = (options.folder / CHECKPOINT).exists()
    if there and not (options.resume or options.overwrite):
        raise ValueError(f"{options.folder} holds a run: --resume goes on with it, --overwrite begins anew")
    run = _resumed(options) if options.resume else _begun(options)
    console = make_console()
    settings = run.trainer.settings
    console.print(
        f"{settings.updates * settings.frames_per_update:,} decisions in {settings.num_envs} markets of"
        f" {run.trainer.config.max_ticks:,} ticks, {run.trainer.config.ticks_per_action} per decision, on {options.device};"
        f" {run.trainer.frames:,} are done",
        soft_wrap=True,
    )
    if not _learn(run, options):
        console.print(
            f"saved at {run.trainer.frames:,} decisions; go on with: torchgym train {options.folder} --resume"
        )
        return INTERRUPTED
    if options.episodes:
        judge(options.folder, episodes=options.episodes, device=options.device, compile=options.compile)
    console.print(f"written: {', '.join(sorted(path.name for path in options.folder.iterdir()))} in {options.folder}")
    console.print(f"a page to look at: torchgym report {options.folder}", soft_wrap=True)
    return 0


def _begun(options: Train) -> Run:
    from torchgym.training import start

    config = preset(
        options.preset,
        scaling="relative",
        max_ticks=options.max_ticks,
        ticks_per_action=options.ticks_per_action,
        num_symbols=options.symbols,
        information=options.information,
        reward=options.reward,
    )
    run = start(
        config,
        options.ppo,
        seed=options.seed,
        device=options.device,
        compile=options.compile,
        validations=options.validations,
    )
    options.folder.mkdir(parents=True, exist_ok=True)
    told = {
        "torchgym": __version__,
        "command": command_line("train", options, first=[str(options.folder)], leave_out=("folder", "overwrite")),
        "preset": options.preset,
        "seed": options.seed,
        "settings": asdict(options.ppo),
        "config": config.to_dict(),
    }
    write_json(options.folder / "run.json", told)
    return run


def _resumed(options: Train) -> Run:
    from torchgym.training import resume

    decided = [
        word for word in command_line("train", options, leave_out=_ANY_TIME).split()[2:] if word.startswith("--")
    ]
    if decided:
        raise ValueError(
            f"{', '.join(decided)}: the run to go on with has decided that; leave it out, or begin a new run"
        )
    return resume(options.folder, device=options.device, compile=options.compile)


def _learn(run: Run, options: Train) -> bool:
    """Whether it came to its end; what has been learned is on disk either way."""
    log = _logger(options)
    settings = run.trainer.settings
    with interruptible() as pressed, progress_bars() as progress:

        def told(run: Run) -> None:
            progress("decisions", run.trainer.frames, settings.updates * settings.frames_per_update)
            log(run)
            if run.trainer.update % _SAVE_EVERY == 0:
                _save(run, options.folder)

        complete = run.advance(told=told, stop=pressed)
    _save(run, options.folder)
    return complete


def _save(run: Run, folder: Path) -> None:
    from torchgym.plots import learning_curve

    run.save(folder)
    write_csv(folder / "learning_curve.csv", run.curve)
    if run.trainer.update == run.trainer.settings.updates:
        learning_curve(run.curve, str(folder)).savefig(folder / "learning_curve.png", dpi=110)


def _logger(options: Train) -> Callable[[Run], None]:
    """Tells TorchRL's logger the newest row of the curve."""
    if options.logger == "none":
        return lambda run: None
    from torchrl.record.loggers import get_logger

    to: Any = get_logger(options.logger, logger_name=str(options.folder), experiment_name="log")

    def log(run: Run) -> None:
        row = run.curve[-1]
        for name, value in row.items():
            to.log_scalar(name, value, step=int(row["frames"]))

    return log
