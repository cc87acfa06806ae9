"""`torchgym train`: train an agent by PPO."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from torchgym.cli import output
from torchgym.cli.agents import Evaluate, evaluate_agent
from torchgym.cli.options import COMPILE, CompileOption, chosen_market
from torchgym.cli.progress import progress_bars, stage
from torchgym.extras import needs
from torchgym.files import write_json
from torchgym.progress import Progress, silent
from torchgym.training.settings import PPOSettings
from torchgym.version import __version__

if TYPE_CHECKING:
    from torchgym.config import MarketConfig
    from torchgym.training import Ranks, Run

_WRITTEN = (
    *("checkpoint.pt", "run.json", "learning_curve.csv", "learning_curve.png"),
    *("evaluation.json", "evaluation.csv", "report.html"),
)
_LOG = "log"
_SAVE_EVERY = 20  # updates
_FIRST = "opening markets, first update"
# Columns of what is printed of the learning curve: the name in a row of it, heading, width and format.
_COLUMNS = (
    ("frames", "decisions", 11, ",.0f"),
    ("training_return", "return", 9, ",.1f"),
    ("validation_return", "held-out", 9, ",.1f"),
    ("loss", "loss", 8, ".3f"),
    ("entropy", "entropy", 8, ".3f"),
    ("kl_approx", "KL", 8, ".4f"),
    ("clip_fraction", "clipped", 8, ".1%"),
    ("explained_variance", "explained", 10, ".2f"),
    ("decisions_per_second", "per s", 7, ",.0f"),
)
# Settings of the market that an option may change; a task has its own.
_USUAL = {"max_ticks": 1_000, "ticks_per_action": 5, "num_symbols": 1, "action": "discrete", "reward": "pnl"}
_ROWS = 10  # that are printed of a training, beside the first
_ANY_TIME = ("folder", "episodes", "device", "compile", "threads", "logger", "resume", "overwrite")  # go with --resume


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train an agent by PPO, then compare it with scripted policies on held-out episodes.

    Writes checkpoint.pt, run.json, learning_curve.csv and .png, evaluation.json and .csv. Ctrl-C saves a checkpoint; --resume
    continues from it and ends in the same bits as an uninterrupted run. Under torchrun several processes share the markets:
    torchrun --nproc-per-node 2 -m torchgym train runs/train.
    """

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs/train")  # Run folder.
    preset: str = "default"  # Name of the market, or of a task in the default market; `torchgym presets` lists them.
    max_ticks: int | None = None  # Ticks of an episode; the default is the task's or, without one, 1,000.
    ticks_per_action: int | None = None  # Ticks per decision; the default is the task's, or 5.
    symbols: int | None = None  # Symbols per market; the default is the task's, or 1.
    information: Literal["public", "privileged", "none"] = "public"
    """What the agent sees of the value: a noisy estimate, the exact value, or nothing."""
    action: str | None = None
    """What the agent decides: a name in torchgym.sim.actions.ACTIONS; the default is the task's, or discrete."""
    reward: str | None = None
    """What the agent is rewarded for: a name in torchgym.readout.rewards.REWARDS; the default is the task's, or pnl."""
    ppo: PPOSettings = field(default_factory=PPOSettings)  # Settings of the agent and of its training.
    validations: int = 10  # How often the agent is tested on held-out episodes during training; 0 is never.
    episodes: int = 256  # Held-out episodes of the final test; 0 skips the test.
    seed: int = 0
    """Seed of the networks, of random choices and of the first training market. The other markets take the seeds after it;
    copies of a market have its seed."""
    device: str = "cpu"  # Device to run on, such as cpu or cuda.
    compile: CompileOption = "auto"
    threads: int = 1  # Threads of torch; networks this small gain nothing from more than one.
    logger: Literal["auto", "none", "tensorboard", "wandb", "mlflow"] = "auto"
    """Where the learning curve goes beside learning_curve.csv. auto: to TensorBoard, if it is installed, in the folder log."""
    resume: bool = False  # Continue the run in the folder with its settings; other settings are refused.
    overwrite: bool = False  # Start anew even if the folder holds a run.

    def execute(self) -> int:
        """Train, write and print; 0, or 130 where Ctrl-C ended it."""
        if self.episodes < 0 or self.episodes == 1:
            raise ValueError(f"episodes must be 0 or at least 2, got {self.episodes}")
        if self.logger not in ("auto", "none"):
            with needs(f"--logger {self.logger}", self.logger):
                importlib.import_module(self.logger)
        if not self.resume:
            _market(self)  # a wrong name is told at once, not after seconds of loading
        with ExitStack() as joined:
            _check_sizes(self)
            # Known before torch is loaded, unlike the ranks.
            first = os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"
            with _progress(first) as progress, stage(progress, "loading"):
                import torchgym.training.run  # asked for now, not after minutes of work
                import torchgym.visual.plots  # noqa: F401
                from torchgym.engine import check_device
                from torchgym.training import join_ranks

                check_device(self.device)
                output.set_threads(self.threads)
                ranks, device = joined.enter_context(join_ranks(self.device))
            status = _train(self, ranks, device)
        if status or not ranks.first:
            return status
        quoted = shlex.quote(str(self.folder))
        if not self.episodes:
            print(f"the agent is in {self.folder}; measure it with: torchgym evaluate {quoted}")
            return 0
        evaluate_agent(Evaluate(device=device, overwrite=True, **output.picked(self, "folder", "episodes", "compile")))
        print(f"the agent and what came of it are in {self.folder}; a page to look at: torchgym report {quoted}")
        return 0


def _market(options: Train) -> MarketConfig:
    """What the options ask for."""
    names = "max_ticks", "ticks_per_action", "information", "action", "reward"
    given = {"scaling": "relative", "num_symbols": options.symbols, **output.picked(options, *names)}
    return chosen_market(options.preset, given, _USUAL)


def _check_sizes(options: Train) -> None:
    """Raise ValueError where this machine lacks the memory for the training or for the test after it."""
    ppo, weights = options.ppo, sum(a * b for a, b in itertools.pairwise((1, *options.ppo.hidden)))
    needed = ppo.num_envs * (output.NUMBERS_PER_MARKET + ppo.rollout)
    output.check_memory(f"{ppo.num_envs:,} markets and {ppo.rollout:,} decisions of each", needed)
    output.check_memory(f"layers of {ppo.hidden}", weights)
    output.check_memory(f"{options.episodes:,} episodes", options.episodes * output.NUMBERS_PER_MARKET)


def _progress(first: bool) -> AbstractContextManager[Progress]:
    """Progress, shown by the first process alone."""
    return progress_bars() if first else nullcontext(silent)


def _train(options: Train, ranks: Ranks, device: str) -> int:
    """Train to the end, or to Ctrl-C; the first process writes files and prints."""
    run = _resumed(options, ranks, device) if options.resume else _begun(options, ranks, device)
    if ranks.first:
        settings, config = run.trainer.settings, run.trainer.config
        processes = f", shared by {ranks.count} processes" if ranks.count > 1 else ""
        print(
            f"{settings.frames:,} decisions in {settings.num_envs} markets of"
            f" {config.max_ticks:,} ticks, {config.ticks_per_action} per decision,"
            f" on {options.device}{processes}; {run.trainer.frames:,} are done",
            flush=True,
        )
        if settings.frames != settings.total_frames:
            print(
                f"{settings.total_frames:,} were asked for: every update takes {settings.num_envs} markets"
                f" × {settings.rollout} decisions = {settings.frames_per_update:,}"
            )
    if _learn(run, options, ranks):
        return 0
    if ranks.first:
        again = _command(replace(options, resume=True, overwrite=False), ranks, keep=_ANY_TIME)
        print(f"saved at {run.trainer.frames:,} decisions; go on with: {again}")
    return output.INTERRUPTED


def _command(options: Train, ranks: Ranks, keep: Sequence[str] = ()) -> str:
    """The command line of these options, or of those to keep."""
    from torchgym.training.parallel import launcher

    leave_out = ["folder", "overwrite", *(entry.name for entry in fields(options) if keep and entry.name not in keep)]
    command = output.command_line("train", options, first=[str(options.folder)], leave_out=leave_out)
    return " ".join([*launcher(ranks), command])


def _begun(options: Train, ranks: Ranks, device: str) -> Run:
    from torchgym.training import CHECKPOINT, start

    if ranks.first and (options.folder / CHECKPOINT).exists() and not options.overwrite:
        raise ValueError(f"{options.folder} holds a run: --resume goes on with it, --overwrite begins anew")
    config = _market(options)
    own = output.picked(options, "seed", "validations") | {"compile": COMPILE[options.compile]}
    run = start(config, options.ppo, device=device, ranks=ranks, **own)
    if ranks.first:
        for name in _WRITTEN:  # of a run that was here before: nothing of it may be taken for this one's
            (options.folder / name).unlink(missing_ok=True)
        shutil.rmtree(options.folder / _LOG, ignore_errors=True)
    run.save(options.folder)
    if ranks.first:
        about = {"torchgym": __version__, "command": _command(options, ranks), "preset": options.preset}
        settings = {"seed": options.seed, "settings": asdict(options.ppo), "config": config.to_dict()}
        write_json(options.folder / "run.json", about | settings)
    return run


def _resumed(options: Train, ranks: Ranks, device: str) -> Run:
    from torchgym.training import resume

    decided = [word for word in output.option_words(options, leave_out=_ANY_TIME) if word.startswith("--")]
    if decided:
        raise ValueError(
            f"{', '.join(decided)}: the run to go on with has decided that; leave it out, or begin a new run"
        )
    return resume(options.folder, device=device, compile=COMPILE[options.compile], ranks=ranks)


def _learn(run: Run, options: Train, ranks: Ranks) -> bool:
    """Whether training came to its end without Ctrl-C; what has been learned is on disk either way."""
    settings, began = run.trainer.settings, run.trainer.update
    shown = {began + 1, *(-(-settings.updates * part // _ROWS) for part in range(1, _ROWS + 1))}
    with (
        _logger(options, ranks) as log,
        output.interruptible(quiet=not ranks.first) as pressed,
        _progress(ranks.first) as progress,
    ):
        if run.trainer.update < settings.updates:
            progress(_FIRST, 0, 1)

        def report(run: Run) -> None:
            progress(_FIRST, 1, 1)
            progress("decisions", run.trainer.frames, settings.frames)
            # Before the last good checkpoint is replaced.
            if not all(bool(parameter.isfinite().all()) for parameter in run.trainer.agent.parameters()):
                raise ValueError(
                    f"the networks are no longer finite after {run.trainer.frames:,} decisions: train with a lower"
                    " --ppo.learning-rate or --ppo.reward-scale"
                )
            row, update = run.curve[-1], run.trainer.update
            log(row)
            if ranks.first and update in shown:
                print(_line(row, heading=update == began + 1), flush=True)
            if update % _SAVE_EVERY == 0:
                _save(run, options.folder)

        complete = run.advance(on_update=report, stop=pressed) and not ranks.any(pressed())
        _save(run, options.folder)
    return complete


def _save(run: Run, folder: Path) -> None:
    from torchgym.visual.plots import learning_curve

    run.save(folder)
    if not run.trainer.ranks.first:
        return
    output.write_csv(folder / "learning_curve.csv", run.curve)
    if run.trainer.update == run.trainer.settings.updates:
        output.write_figure(folder / "learning_curve.png", learning_curve(run.curve, str(folder)))


def _line(row: Mapping[str, float], *, heading: bool) -> str:
    """One update in figures, under headings where those are wanted; 78 columns."""
    headings = "".join(f"{head:>{width}}" for _, head, width, _ in _COLUMNS) + "\n"
    cells = (f"{format(row[name], form) if name in row else '–':>{width}}" for name, _, width, form in _COLUMNS)
    return (headings if heading else "") + "".join(cells)


@contextmanager
def _logger(options: Train, ranks: Ranks) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """What hands a row of the curve to TorchRL's logger."""
    kind = options.logger
    if kind == "auto":
        kind = "none" if importlib.util.find_spec("tensorboard") is None else "tensorboard"
    if kind == "none" or not ranks.first:
        yield silent
        return
    from torchrl.record.loggers import get_logger

    logger: Any = get_logger(kind, logger_name=str(options.folder), experiment_name=_LOG)

    def log(row: Mapping[str, float]) -> None:
        for name, value in row.items():
            logger.log_scalar(name, value, step=int(row["frames"]))

    try:
        yield log
    finally:
        logger.close()
