"""`Trainer`: an agent plays a batch of markets and learns from it, one update at a time."""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.envs.utils import step_mdp

from torchgym.config import MarketConfig
from torchgym.envs.torchrl import MarketEnv
from torchgym.training.parallel import ALONE, Ranks
from torchgym.training.ppo import PPO, generator, seed_of
from torchgym.training.settings import PPOSettings


class Trainer:
    """Learns by `PPOSettings.updates` updates. Each is a function of what the last one left, the seed and its number.

    All that an update draws, choices of actions and of minibatches, comes from torch's generator, seeded anew for it. So what
    `state_dict` holds between two updates is all there is: training that goes on from it ends in the same bits as training
    that was never interrupted, on the same machine with the same torch, number of threads and number of processes.

    Several processes play the markets that one would play, each its share of them; see `torchgym.training.parallel`.

    Args:
        config: the market.
        settings: of the agent and of learning; `num_envs` counts the markets of all processes together.
        seed: market i of the training gets seed + i; the networks and all choices follow from it as well.
        device: where markets and networks live.
        compile: run compiled markets.
        ranks: the processes that train together.

    Raises:
        ValueError: when the processes cannot share the markets evenly.
    """

    def __init__(
        self,
        config: MarketConfig,
        settings: PPOSettings,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        compile: bool = True,
        ranks: Ranks = ALONE,
    ) -> None:
        self.config = config
        self.settings = settings
        self.seed = seed
        self.ranks = ranks
        self.update = 0  # how many are done
        self._share = ranks.share(settings.num_envs)
        self.ppo = PPO(config, settings, seed=seed, device=device, ranks=ranks)
        self.agent = self.ppo.agent
        self.env = MarketEnv(config, len(self._share), device=device, seed=seed + self._share.start)
        self.env.market.compile = compile
        self._carried: TensorDictBase | None = None  # what the markets show now
        self._prepared = False  # whether the market's step is compiled

    @property
    def frames(self) -> int:
        """Decisions so far, of all processes together."""
        return self.update * self.settings.frames_per_update

    def step(self) -> float:
        """One update: play, then learn from it.

        Returns:
            Mean reward of a decision while playing, before scaling.
        """
        with generator(seed_of(self.seed, self.update + 1, self.ranks.rank)):
            data = self._play()
            reward = self.ranks.mean(data["next", "reward"].mean().item())
            self.ppo.learn(data, done=self.update / self.settings.updates)
        self.update += 1
        return reward

    def state_dict(self) -> dict[str, Any]:
        """Everything that later updates depend on, made of tensors and plain values; whole in the first process.

        It does not depend on how many processes share the markets: others may go on with it. All of them must call this.
        """
        carried = {} if self._carried is None else dict(self._carried.flatten_keys(".").items())
        market = self.env.market_state() if self.env.market.opened else {}
        rows = self.ranks.gather(
            {f"market.{name}": tensor for name, tensor in market.items()}
            | {f"carried.{name}": tensor for name, tensor in carried.items()}
        )
        return {
            "update": self.update,
            **self.ppo.state_dict(),
            "market": _under("market.", rows),
            "carried": _under("carried.", rows),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError, RuntimeError: when it belongs to another configuration or other settings.
        """
        saved = {len(tensor) for tensor in state["market"].values()}
        if saved - {self.settings.num_envs}:
            raise ValueError(f"the state is of {saved.pop()} markets, the trainer has {self.settings.num_envs}")
        share = slice(self._share.start, self._share.stop)
        self.ppo.load_state_dict(state)
        if state["market"]:
            self.env.set_market_state({name: tensor[share] for name, tensor in state["market"].items()})
        if state["carried"]:
            own = {name: tensor[share] for name, tensor in state["carried"].items()}
            self._carried = TensorDict(own, [len(self._share)], device=self.env.device).unflatten_keys(".")
        self.update = state["update"]

    def _play(self) -> TensorDictBase:
        """Decisions [N, rollout] of the agent as it is, with its choices' log-probabilities."""
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


def _under(prefix: str, rows: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The entries whose names begin so, without the beginning."""
    return {name.removeprefix(prefix): tensor for name, tensor in rows.items() if name.startswith(prefix)}
