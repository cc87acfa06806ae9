"""Train skrl's PPO on torch tensors, from the market to the optimiser: nothing passes through numpy.

    pip install "torchgym[skrl,examples]"
    python examples/skrl_ppo.py                  # two minutes on one CPU core, once it is compiled
    python examples/skrl_ppo.py --device cuda --num-envs 4096

skrl takes the observation after a reset for the one at which an episode ended. `Bootstrapping` gives it the real one, so that
running out of time is not taken for the value of a new episode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import tyro
from skrl import logger
from skrl.agents.torch.ppo import PPO, PPO_CFG
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, Model
from skrl.resources.preprocessors.torch import RunningStandardScaler
from skrl.trainers.torch import SequentialTrainer, SequentialTrainerCfg
from torch import Tensor, nn

import torchgym as tg
from torchgym.lab.performance import evaluate
from torchgym.lab.policies import value_follower
from torchgym.lab.policy import Policy


@dataclass
class Args:
    preset: str = "default"
    total_steps: int = 640_000
    """decisions over all markets"""
    num_envs: int = 64
    max_ticks: int = 1000
    ticks_per_action: int = 5
    rollout: int = 50
    test_episodes: int = 256
    seed: int = 0
    device: str = "cpu"
    threads: int = 1


class Actor(CategoricalMixin, Model):
    def __init__(self, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        CategoricalMixin.__init__(self)
        self.net = layers(self.num_observations, self.num_actions)

    def compute(self, inputs: dict[str, Tensor], role: str) -> tuple[Tensor, dict[str, Any]]:
        return self.net(inputs["observations"]), {}


class Critic(DeterministicMixin, Model):
    def __init__(self, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.net = layers(self.num_observations, 1)

    def compute(self, inputs: dict[str, Tensor], role: str) -> tuple[Tensor, dict[str, Any]]:
        return self.net(inputs["observations"]), {}


class Bootstrapping(PPO):
    """PPO that values the last observation of an episode where time has run out."""

    def record_transition(self, *, next_observations: Tensor, infos: dict[str, Any], **rest: Any) -> None:
        last = infos.get("final_observation", next_observations)
        super().record_transition(next_observations=last, infos=infos, **rest)

    def post_interaction(self, *, timestep: int, timesteps: int) -> None:
        super().post_interaction(timestep=timestep, timesteps=timesteps)
        done = timestep + 1
        if done * 20 // timesteps > timestep * 20 // timesteps:
            print(f"{done:,} of {timesteps:,} decisions in each market", flush=True)


def layers(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs))


def main(args: Args) -> dict[str, float]:
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    logger.setLevel("WARNING")
    config = tg.preset(
        args.preset,
        max_ticks=args.max_ticks,
        ticks_per_action=args.ticks_per_action,
        scaling="relative",
        reward={"pnl": 0.05},  # a hundred currency units of profit are worth 5
    )
    env = tg.SkrlEnv(config, args.num_envs, seed=args.seed, include_account=True, device=args.device)
    spaces: dict[str, Any] = {
        "observation_space": env.observation_space,
        "action_space": env.action_space,
        "device": env.device,
    }
    actor = Actor(**spaces)
    agent = Bootstrapping(
        models={"policy": actor, "value": Critic(**spaces)},
        memory=RandomMemory(memory_size=args.rollout, num_envs=env.num_envs, device=env.device),
        cfg=PPO_CFG(
            rollouts=args.rollout,
            learning_epochs=4,
            mini_batches=4,
            learning_rate=7e-4,
            discount_factor=0.98,
            gae_lambda=0.9,
            entropy_loss_scale=0.003,
            value_loss_scale=0.5,
            value_clip=0.0,
            time_limit_bootstrap=True,
            observation_preprocessor=RunningStandardScaler,
            observation_preprocessor_kwargs={
                "size": env.observation_space,
                "clip_threshold": 10.0,
                "device": env.device,
            },
            experiment={"write_interval": 0, "checkpoint_interval": 0},
        ),
        **spaces,
    )
    steps = max(args.total_steps // env.num_envs, args.rollout)
    print(f"training in {args.num_envs} markets", flush=True)
    SequentialTrainer(env=env, agents=agent, cfg=SequentialTrainerCfg(timesteps=steps, headless=True)).train()

    def make_policy(config: tg.MarketConfig, seeds: Tensor) -> Policy:
        def act(seen: tg.StepResult) -> Tensor:
            with torch.no_grad():
                shown = torch.cat([seen.observation, seen.account], -1).to(torch.float32)
                return actor.net(agent._observation_preprocessor(shown)).argmax(-1)

        return act

    policies = {"agent": make_policy, "value_follower": value_follower}
    print(f"testing on {args.test_episodes} held-out episodes", flush=True)
    found = evaluate(config, policies, agent="agent", episodes=args.test_episodes, device=args.device)
    profits = {name: found.interval(name, "profit") for name in policies}
    for name, profit in profits.items():
        print(f"{name:15s} {profit.mean:+7.1f} ({profit.low:+.1f} … {profit.high:+.1f}) currency per held-out episode")
    return {name: profit.mean for name, profit in profits.items()}


if __name__ == "__main__":
    main(tyro.cli(Args))
