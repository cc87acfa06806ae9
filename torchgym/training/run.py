"""`Trainer`: an agent that plays and learns, update by update; `Run`: its trials on held-out episodes and its checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.envs.utils import step_mdp

from torchgym.config import MarketConfig
from torchgym.config.validation import check_count, check_kind
from torchgym.engine import Compile, Market, check_device, check_seed, consecutive_seeds, read_content, write_content
from torchgym.envs.torchrl import MarketEnv
from torchgym.lab.performance import TRAINING_SEEDS, VALIDATION_SEED, play
from torchgym.training.parallel import ALONE, Ranks
from torchgym.training.ppo import PPO, Agent, generator, seed_of
from torchgym.training.settings import PPOSettings
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


class Trainer:
    """Learns by `PPOSettings.updates` updates. Each is a function of what the last one left, the seed and its number.

    All that an update draws, choices of actions and of minibatches, comes from torch's generator, seeded anew for it. So what
    `state_dict` holds between two updates is all there is: training that goes on from it ends in the same bits as training
    that was never interrupted, on the same machine with the same torch, number of threads and number of processes.

    Several processes play the markets that one would play, each its share of them; see `torchgym.training.parallel`.

    Args:
        settings: `num_envs` counts the markets of all processes together.
        seed: market i of the training gets seed + i // copies; the networks and all choices follow from it as well.
        compile: as of `Market`.

    Raises:
        ValueError: for a bad seed, or when the processes cannot share the markets evenly.
    """

    def __init__(
        self,
        config: MarketConfig,
        settings: PPOSettings,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        compile: Compile = "auto",
        ranks: Ranks = ALONE,
    ) -> None:
        self.config = config = check_kind("config", config, MarketConfig)
        self.settings = settings = check_kind("settings", settings, PPOSettings)
        self.seed = seed = check_seed(seed)
        self.ranks = ranks
        self.update = 0  # how many are done
        self._share = ranks.share(settings.num_envs, settings.copies)
        self.ppo = PPO(config, settings, seed=seed, device=device, ranks=ranks)
        self.agent = self.ppo.agent
        self.env = MarketEnv(config, len(self._share), device=device)
        self.env.market.reseed([seed + market // settings.copies for market in self._share])
        self.env.market.compile = compile
        self._carried: TensorDictBase | None = None  # what the markets show now
        self._prepared = False  # whether the market's step is compiled, where it is to be compiled first

    @property
    def frames(self) -> int:
        """Decisions so far, of all processes together."""
        return self.update * self.settings.frames_per_update

    def step(self) -> Row:
        """One update: play, then learn from it. Returns `training_return` and what `PPO.learn` tells; see `Run`.

        A RuntimeError when all updates are done.
        """
        if self.update >= self.settings.updates:
            raise RuntimeError(f"the training is complete after {self.update} updates: total_frames asks for no more")
        with generator(seed_of(self.seed, self.update + 1, self.ranks.rank)):
            data = self._play()
            reward = self.ranks.mean(data["next", "reward"].mean().item())
            told = self.ppo.learn(data, done=self.update / self.settings.updates)
        self.update += 1
        return {"training_return": reward * (self.config.max_ticks // self.config.ticks_per_action), **told}

    def state_dict(self) -> dict[str, Any]:
        """Everything that later updates depend on, made of tensors and plain values; whole in the first process.

        It does not depend on how many processes share the markets: others may go on with it. All of them must call this.
        """
        carried = {} if self._carried is None else dict(self._carried.flatten_keys(".").items())
        market = self.env.market_state() if self.env.market.opened else {}
        rows = {"market": self.ranks.gather(market), "carried": self.ranks.gather(carried)}
        return {"update": self.update, **self.ppo.state_dict(), **rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; a ValueError or RuntimeError when it belongs to another configuration or other settings."""
        saved = {len(tensor) for tensor in state["market"].values()}
        if saved - {self.settings.num_envs}:
            raise ValueError(f"the state is of {saved.pop()} markets, the trainer has {self.settings.num_envs}")
        share = slice(self._share.start, self._share.stop)
        market, carried = ({name: rows[share] for name, rows in state[part].items()} for part in ("market", "carried"))
        self.ppo.load_state_dict(state)
        if market:
            self.env.set_market_state(market)
        if carried:
            self._carried = TensorDict(carried, [len(self._share)], device=self.env.device).unflatten_keys(".")
        self.update = state["update"]

    def _play(self) -> TensorDictBase:
        """Decisions [N, rollout] of the agent as it is, with its actions' log-probabilities."""
        if not self._prepared:
            with self.ranks.one_ahead():  # one process compiles, the others find it done
                self.env.market.prepare()
            self._prepared = True
        if self._carried is None:
            self._carried = self.env.reset()
        with torch.no_grad():
            data = self.env.rollout(
                self.settings.rollout,
                self.agent.actor,
                auto_reset=False,
                break_when_any_done=False,
                tensordict=self._carried,
            )
            # A copy: a view would keep the whole rollout in memory, and in the checkpoint.
            self._carried = self.env.maybe_reset(step_mdp(data[:, -1]).clone())
        return data


@dataclass
class Run:
    """A trainer and what has been seen of its progress.

    A row of `curve` has: `frames` (decisions so far), `seconds` (spent on them, trials included), `decisions_per_second` (playing
    and learning, in this update), `training_return` (sum of rewards per episode, estimated from the decisions of this update,
    with exploration), what `PPO.learn` tells of this update, and where the agent was tried, choosing its likeliest action:
    `validation_return`, and `validation_profit` in currency, means per held-out episode, and the standard error of the first,
    `validation_error`, where there are several episodes.

    Raises:
        ValueError: at construction, for numbers that make no sense.
    """

    trainer: Trainer
    curve: list[Row]  # so far
    validations: int = 10  # how often the agent is tried while it learns, at even distances and at the end; 0 never
    validation_episodes: int = 64  # in a trial, from seed 10,000,000 on
    _market: Market | None = None  # where it is tried

    def __post_init__(self) -> None:
        self.validations = check_count("validations", self.validations, 0)
        self.validation_episodes = check_count("validation_episodes", self.validation_episodes, 1)

    def advance(
        self, updates: int | None = None, *, on_update: OnUpdate | None = None, stop: Callable[[], bool] | None = None
    ) -> bool:
        """Learn until the settings' frames are reached, or for so many updates; whether the training is complete.

        Args:
            on_update: called after each update.
            stop: asked after each update; True, in any process, ends here. Of several processes all give one, or none.
        """
        trainer, total = self.trainer, self.trainer.settings.updates
        end = total if updates is None else min(trainer.update + updates, total)
        while trainer.update < end:
            started = time.perf_counter()
            told = trainer.step()
            speed = trainer.settings.frames_per_update / (time.perf_counter() - started)
            row = {"frames": trainer.frames, "decisions_per_second": speed, **told}
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

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write the checkpoint: agent, settings, version, and all that is needed to go on. The old one stays until it is whole.

        Of several processes all must call this, and the first one writes. Returns its path; a RuntimeError, before anything is
        written, says that the processes do not hold the same networks.
        """
        trainer, path = self.trainer, Path(folder) / CHECKPOINT
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
        if trainer.ranks.first:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_content(path, content)
        return path

    def _validate(self) -> Row:
        """The agent as it is on held-out episodes."""
        env, count = self.trainer.env, self.validation_episodes
        if self._market is None:
            compile = env.market.compile
            self._market = Market(self.trainer.config, count, seed=0, device=env.device, compile=compile)
        played = play(self._market, self.trainer.agent.make_policy, consecutive_seeds(VALIDATION_SEED, count))
        row = {"validation_return": played.reward.mean().item(), "validation_profit": played.profit.mean().item()}
        return row if count == 1 else row | {"validation_error": played.reward.std().item() / math.sqrt(count)}


def start(
    config: MarketConfig,
    settings: PPOSettings,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    compile: Compile = "auto",
    validations: int = 10,
    validation_episodes: int = 64,
    ranks: Ranks = ALONE,
) -> Run:
    """A run that has not learned yet; a ValueError for a seed whose markets would reach into the held-out episodes."""
    check_kind("settings", settings, PPOSettings)
    whole = isinstance(seed, Integral) and not isinstance(seed, bool)
    if not (whole and 0 <= seed <= TRAINING_SEEDS - settings.num_envs):
        raise ValueError(
            f"seed must be from 0 to {TRAINING_SEEDS - settings.num_envs}, got {seed!r}: markets from seed"
            f" {TRAINING_SEEDS} on are kept for judging the agent"
        )
    trainer = Trainer(config, settings, seed=seed, device=device, compile=compile, ranks=ranks)
    return Run(trainer, [], validations, validation_episodes)


def resume(
    folder: str | PathLike[str],
    *,
    device: torch.device | str = "cpu",
    compile: Compile = "auto",
    ranks: Ranks = ALONE,
) -> Run:
    """A run that goes on where its checkpoint stands, in the bits of one that was never interrupted.

    Of several processes the first one reads it for all. A ValueError says that there is none, that it is damaged, or that it is
    of another torchgym.
    """
    path = Path(folder) / CHECKPOINT
    saved = ranks.given_by_first(read_checkpoint(path) if ranks.first else None)
    if saved["torchgym"] != __version__:
        raise ValueError(
            f"{path} was written by torchgym {saved['torchgym']}, this is {__version__}, which may learn"
            " otherwise: go on with that version, or train anew"
        )
    with _fitting(path):
        config, settings = MarketConfig.from_dict(saved["config"]), PPOSettings(**saved["settings"])
    trainer = Trainer(config, settings, seed=saved["seed"], device=device, compile=compile, ranks=ranks)
    with _fitting(path):
        trainer.load_state_dict(saved["trainer"])
        return Run(trainer, saved["curve"], saved["validations"], saved["validation_episodes"])


def load_agent(path: str | PathLike[str], *, device: torch.device | str = "cpu") -> Agent:
    """The agent of a checkpoint, or of the one in a run's folder; `config` and `settings` are its attributes.

    Without a checkpoint, or for a damaged one, a ValueError.
    """
    path, device = Path(path), check_device(device)
    path = path / CHECKPOINT if path.is_dir() else path
    saved = read_checkpoint(path)
    with _fitting(path), generator(0):  # the weights that it is made with are not kept, and the caller's generator is
        agent = Agent(MarketConfig.from_dict(saved["config"]), PPOSettings(**saved["settings"]))
        agent.load_state_dict(saved["trainer"]["agent"])
    return agent.to(device)


def read_checkpoint(path: str | PathLike[str]) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU; a ValueError when it is missing, damaged, something else or lacks entries."""
    path = Path(path)
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
