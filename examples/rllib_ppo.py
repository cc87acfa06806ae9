"""Train RLlib's PPO on a batch of markets, through gymnasium's vector entry point.

    pip install "torchgym[examples]" "ray[rllib]"
    python examples/rllib_ppo.py                         # in this process
    python examples/rllib_ppo.py --num-env-runners 2     # two worker processes play

RLlib demands a gymnasium of its own choosing (ray 2.60: 1.2.2), so give it an environment of its own: `make rllib` does. It
handles every market in Python, one after the other, which costs more than the markets: of the trainers shown here it is the
slowest.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import ray
import torch
import tyro
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.tune.registry import register_env
from torch import Tensor

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
    """markets of each process that plays"""
    num_env_runners: int = 0
    """processes that play; 0 leaves it to this one"""
    max_ticks: int = 1000
    ticks_per_action: int = 5
    rollout: int = 50
    """decisions per market between two updates"""
    test_episodes: int = 256
    seed: int = 0


class SpacedSeeds(gym.vector.VectorWrapper):
    """RLlib seeds its processes with neighbouring numbers, and a vector environment its markets too: spread them out."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self.env.reset(seed=None if seed is None else seed * self.num_envs, options=options)


def main(args: Args) -> dict[str, float]:
    config = tg.preset(
        args.preset,
        max_ticks=args.max_ticks,
        ticks_per_action=args.ticks_per_action,
        scaling="relative",
        reward={"pnl": 0.05},  # a hundred currency units of profit are worth 5
    )

    def make(context: dict[str, Any]) -> gym.vector.VectorEnv:  # runs in the process that plays
        torch.set_num_threads(1)
        env = tg.TradingVectorEnv(config, context["num_envs"], include_account=True)
        return SpacedSeeds(env)

    register_env("torchgym", make)
    frames = args.rollout * args.num_envs * max(args.num_env_runners, 1)
    settings = (
        PPOConfig()
        .environment("torchgym")
        .env_runners(
            num_env_runners=args.num_env_runners,
            num_envs_per_env_runner=args.num_envs,
            gym_env_vectorize_mode=gym.VectorizeMode.VECTOR_ENTRY_POINT,
            rollout_fragment_length=args.rollout,
        )
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[64, 64], fcnet_activation="tanh"))
        .training(
            train_batch_size_per_learner=frames,
            minibatch_size=frames // 4,
            num_epochs=4,
            lr=1e-3,
            gamma=0.98,
            lambda_=0.9,
            entropy_coeff=0.003,
            vf_loss_coeff=0.5,
            kl_coeff=0.0,
            use_kl_loss=False,
            clip_param=0.2,
            vf_clip_param=float("inf"),
            grad_clip=0.5,
        )
        .debugging(seed=args.seed, log_level="ERROR")
    )
    print("starting Ray", flush=True)
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    algorithm = settings.build_algo()
    print(f"training in {args.num_envs * max(args.num_env_runners, 1)} markets", flush=True)
    try:
        for _ in range(max(args.total_steps // frames, 1)):
            told = algorithm.train()["env_runners"]
            done, reward = told["num_env_steps_sampled_lifetime"], told.get("episode_return_mean", math.nan)
            if math.isfinite(reward):  # episodes have ended since the last update
                print(f"{done:>9,.0f} decisions, return per episode {reward:+6.2f}", flush=True)
        module = algorithm.get_module()
        assert module is not None, "one agent has one module"

        def make_policy(config: tg.MarketConfig, seeds: Tensor) -> Policy:
            def act(seen: tg.StepResult) -> Tensor:
                shown = torch.cat([seen.observation, seen.account], -1).to(torch.float32)
                with torch.no_grad():
                    return module.forward_inference({"obs": shown})["action_dist_inputs"].argmax(-1)

            return act

        policies = {"agent": make_policy, "value_follower": value_follower}
        print(f"testing on {args.test_episodes} held-out episodes", flush=True)
        found = evaluate(config, policies, agent="agent", episodes=args.test_episodes)
    finally:
        algorithm.stop()
        ray.shutdown()
    profits = {name: found.interval(name, "profit") for name in policies}
    for name, profit in profits.items():
        print(f"{name:15s} {profit.mean:+7.1f} ({profit.low:+.1f} … {profit.high:+.1f}) currency per held-out episode")
    return {name: profit.mean for name, profit in profits.items()}


if __name__ == "__main__":
    main(tyro.cli(Args))
