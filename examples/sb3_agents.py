"""Train an agent of stable-baselines3, on a batch of markets that is one vectorised environment.

    pip install "torchgym[sb3,examples]"
    python examples/sb3_agents.py                      # PPO
    python examples/sb3_agents.py --algorithm dqn

`SB3VecEnv` steps all markets as one batch, so no wrapper processes are needed. The policy sees relative features and the account.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import tyro
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import Tensor

import torchgym as tg
from torchgym.lab.performance import evaluate
from torchgym.lab.policies import value_follower
from torchgym.lab.policy import Policy


@dataclass
class Args:
    algorithm: Literal["ppo", "dqn"] = "ppo"
    preset: str = "default"
    total_steps: int = 640_000
    """decisions over all markets"""
    num_envs: int = 64
    max_ticks: int = 1000
    ticks_per_action: int = 5
    test_episodes: int = 256
    seed: int = 0
    threads: int = 1


def main(args: Args) -> dict[str, float]:
    torch.set_num_threads(args.threads)
    config = tg.preset(
        args.preset,
        max_ticks=args.max_ticks,
        ticks_per_action=args.ticks_per_action,
        scaling="relative",
        # A hundred currency units of profit are worth 5 points of reward, which suits these algorithms' default step sizes.
        reward={"pnl": 0.05},
    )
    markets = tg.SB3VecEnv(config, args.num_envs, seed=args.seed, include_account=True)
    env = VecNormalize(markets, norm_reward=False)  # its statistics belong to the agent: keep both
    model = make_model(args, env)
    print(f"training in {args.num_envs} markets", flush=True)
    model.learn(args.total_steps, log_interval=10 if args.algorithm == "ppo" else 200)

    def make_policy(config: tg.MarketConfig, seeds: Tensor) -> Policy:
        def act(seen: tg.StepResult) -> Tensor:
            shown = torch.cat([seen.observation, seen.account], -1).to(torch.float32)
            choices, _ = model.predict(env.normalize_obs(shown.numpy()), deterministic=True)
            return torch.from_numpy(choices)

        return act

    policies = {"agent": make_policy, "value_follower": value_follower}
    print(f"testing on {args.test_episodes} held-out episodes", flush=True)
    found = evaluate(config, policies, agent="agent", episodes=args.test_episodes)
    profits = {name: found.interval(name, "profit") for name in policies}
    for name, profit in profits.items():
        print(f"{name:15s} {profit.mean:+7.1f} ({profit.low:+.1f} … {profit.high:+.1f}) currency per held-out episode")
    return {name: profit.mean for name, profit in profits.items()}


def make_model(args: Args, env: VecEnv) -> PPO | DQN:
    if args.algorithm == "ppo":
        steps = min(50, args.max_ticks // args.ticks_per_action)
        return PPO(
            "MlpPolicy",
            env,
            n_steps=steps,
            batch_size=steps * args.num_envs // 4,
            n_epochs=4,
            learning_rate=7e-4,
            gamma=0.98,
            gae_lambda=0.9,
            ent_coef=0.003,
            seed=args.seed,
            verbose=1,
        )
    return DQN(
        "MlpPolicy",
        env,
        learning_rate=5e-4,
        buffer_size=args.total_steps,
        learning_starts=args.total_steps // 20,
        batch_size=512,
        train_freq=1,  # decisions of every market
        gradient_steps=2,
        target_update_interval=args.num_envs * 100,
        gamma=0.98,
        exploration_fraction=0.5,
        exploration_final_eps=0.02,
        policy_kwargs={"net_arch": [64, 64]},
        seed=args.seed,
        verbose=1,
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
