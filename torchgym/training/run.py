"""A training run: updates, trials on held-out episodes, checkpoints; and going on from one in the same bits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from torchgym.config import MarketConfig
from torchgym.engine import Market, consecutive_seeds, read_content, write_content
from torchgym.lab.performance import TRAINING_SEEDS, VALIDATION_SEED, play
from torchgym.training.agent import Agent
from torchgym.training.parallel import ALONE, Ranks
from torchgym.training.ppo import generator
from torchgym.training.settings import PPOSettings
from torchgym.training.trainer import Trainer
from torchgym.version import __version__

CHECKPOINT = "checkpoint.pt"  # in the run's folder
_FORMAT = 2
# Entries of a checkpoint and their types; "trainer.update" is an entry of the trainer's state.
_ENTRIES: dict[str, type[Any]] = {
    "torchgym": str,
    "config": dict,
    "settings": dict,
    "seed": int,
    "curve": list,
    "validations": int,
    "validation_episodes": int,
    "trainer": dict,
    "trainer.update": int,
    **dict.fromkeys(("trainer.agent", "trainer.optimizer", "trainer.market", "trainer.carried"), dict),
}

Row = dict[str, float]  # one update of the learning curve; see `Run.curve`
OnUpdate = Callable[["Run"], None]


@dataclass
class Run:
    """A trainer and what has been seen of its progress.

    A row of `curve` has: `frames` (decisions so far), `seconds` (spent on them), `training_return` (sum of rewards per episode,
    estimated from the decisions of this update, with exploration); and where the agent was tried, choosing its likeliest action:
    `validation_return`, and `validation_profit` in currency, means per held-out episode.

    Args:
        trainer: a new one, or one that was loaded.
        curve: rows so far.
        validations: how often the agent is tried while it learns, at even distances and at the end; 0 never.
        validation_episodes: in a trial, from seed 10,000,000 on.

    Raises:
        ValueError: at construction, for numbers that make no sense.
    """

    trainer: Trainer
    curve: list[Row]
    validations: int = 10
    validation_episodes: int = 64
    _market: Market | None = None  # where it is tried

    def __post_init__(self) -> None:
        for name, low in (("validations", 0), ("validation_episodes", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")

    def advance(
        self, updates: int | None = None, *, on_update: OnUpdate | None = None, stop: Callable[[], bool] | None = None
    ) -> bool:
        """Learn until the settings' frames are reached, or for so many updates.

        Args:
            on_update: called after each update.
            stop: asked after each update; True, in any process, ends here. Of several processes all give one, or none.

        Returns:
            Whether the training is complete.
        """
        trainer, total = self.trainer, self.trainer.settings.updates
        end = total if updates is None else min(trainer.update + updates, total)
        while trainer.update < end:
            started = time.perf_counter()
            reward = trainer.step()
            row = {
                "frames": trainer.frames,
                "training_return": reward * (trainer.config.max_ticks // trainer.config.ticks_per_action),
            }
            tried = [update * self.validations // total for update in (trainer.update - 1, trainer.update)]
            if tried[0] < tried[1] and trainer.ranks.first:
                row |= self._validate()
            before = self.curve[-1]["seconds"] if self.curve else 0.0
            self.curve.append({"seconds": before + time.perf_counter() - started, **row})
            if on_update is not None:
                on_update(self)
            if stop is not None and trainer.ranks.any(stop()):
                break
        return trainer.update == total

    def save(self, folder: Path) -> Path:
        """Write the checkpoint: agent, settings, version, and all that is needed to go on. The old one stays until it is whole.

        Of several processes all must call this, and the first one writes.

        Returns:
            Its path.

        Raises:
            RuntimeError: when several processes do not hold the same networks; nothing is written then.
        """
        trainer, path = self.trainer, folder / CHECKPOINT
        trainer.ppo.check_alike()
        content = {
            "torchgym_agent": _FORMAT,
            "torchgym": __version__,
            "config": trainer.config.to_dict(),
            "settings": asdict(trainer.settings),
            "seed": trainer.seed,
            "curve": self.curve,
            "validations": self.validations,
            "validation_episodes": self.validation_episodes,
            "trainer": trainer.state_dict(),
        }
        if not trainer.ranks.first:
            return path
        folder.mkdir(parents=True, exist_ok=True)
        write_content(path, content)
        return path

    def _validate(self) -> Row:
        """The agent as it is on held-out episodes."""
        env, count = self.trainer.env, self.validation_episodes
        if self._market is None:
            compile = env.market.compile
            self._market = Market(self.trainer.config, count, seed=0, device=env.device, compile=compile)
        played = play(self._market, self.trainer.agent.make_policy, consecutive_seeds(VALIDATION_SEED, count))
        return {
            "validation_return": played.reward.mean().item(),
            "validation_profit": played.profit.mean().item(),
        }


def start(
    config: MarketConfig,
    settings: PPOSettings,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    compile: bool = True,
    validations: int = 10,
    validation_episodes: int = 64,
    ranks: Ranks = ALONE,
) -> Run:
    """A run that has not learned yet.

    Raises:
        ValueError: for a seed whose markets would reach into the held-out episodes.
    """
    if not 0 <= seed <= TRAINING_SEEDS - settings.num_envs:
        raise ValueError(
            f"seed must be from 0 to {TRAINING_SEEDS - settings.num_envs}, got {seed}: markets from seed"
            f" {TRAINING_SEEDS} on are kept for judging the agent"
        )
    trainer = Trainer(config, settings, seed=seed, device=device, compile=compile, ranks=ranks)
    return Run(trainer, [], validations, validation_episodes)


def resume(folder: Path, *, device: torch.device | str = "cpu", compile: bool = True, ranks: Ranks = ALONE) -> Run:
    """A run that goes on where its checkpoint stands, in the bits of one that was never interrupted.

    Of several processes the first one reads it for all.

    Raises:
        ValueError: without a checkpoint, for a damaged one, or one of another torchgym.
    """
    saved = ranks.given_by_first(read_checkpoint(folder / CHECKPOINT) if ranks.first else None)
    if saved["torchgym"] != __version__:
        raise ValueError(
            f"{folder / CHECKPOINT} was written by torchgym {saved['torchgym']}, this is {__version__}, which may learn"
            " otherwise: go on with that version, or train anew"
        )
    with _fitting(folder / CHECKPOINT):
        config, settings = MarketConfig.from_dict(saved["config"]), PPOSettings(**saved["settings"])
    trainer = Trainer(config, settings, seed=saved["seed"], device=device, compile=compile, ranks=ranks)
    with _fitting(folder / CHECKPOINT):
        trainer.load_state_dict(saved["trainer"])
        return Run(trainer, saved["curve"], saved["validations"], saved["validation_episodes"])


def load_agent(path: Path, *, device: torch.device | str = "cpu") -> Agent:
    """The agent of a checkpoint; `config` and `settings` are its attributes.

    Args:
        path: of the checkpoint, or of the run's folder.

    Raises:
        ValueError: without a checkpoint, or for a damaged one.
    """
    path = path / CHECKPOINT if path.is_dir() else path
    saved = read_checkpoint(path)
    with _fitting(path), generator(0):  # the weights that it is made with are not kept, and the caller's generator is
        agent = Agent(MarketConfig.from_dict(saved["config"]), PPOSettings(**saved["settings"]))
        agent.load_state_dict(saved["trainer"]["agent"])
    return agent.to(device)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.

    Raises:
        ValueError: when there is none, or it is damaged or something else, or it lacks entries.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist: `torchgym train` makes one")
    saved = read_content(path)
    if saved.get("torchgym_agent") != _FORMAT:
        raise ValueError(f"{path} is not a checkpoint of an agent that this torchgym can read")
    for name, kind in _ENTRIES.items():
        *parent, entry = name.split(".")
        content = saved[parent[0]] if parent else saved
        if not isinstance(content.get(entry), kind):
            raise ValueError(f"{path} has no {kind.__name__} {name!r}: it is not a checkpoint that torchgym wrote")
    return saved


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """Turns errors from the content of a checkpoint into a ValueError that names the file."""
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        text = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} does not fit together: {text}") from error
