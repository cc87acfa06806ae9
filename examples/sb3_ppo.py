"""Train stable-baselines3's PPO on a batch of markets.

    pip install "torchgym[sb3,examples]"
    python examples/sb3_ppo.py                  # about three minutes on one CPU core

`SB3VecEnv` steps all markets as one batch, so no wrapper processes are needed. The policy sees relative features and
the account.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import tyro
from stable_baselines3 import PPO

import torchgym as tg

HELD_OUT_SEED = 20_000_000


@dataclass
class Args:
    preset: str = "default"
    total_steps: int = 200_000
    """decisions over all markets"""
    num_envs: int = 64
    max_ticks: int = 1000
    ticks_per_action: int = 5
    test_episodes: int = 100
    seed: int = 0
    threads: int = 1


def main(args: Args) -> dict[str, float]:
    torch.set_num_threads(args.threads)
    config = tg.preset(
        args.preset,
        max_ticks=args.max_ticks,
        ticks_per_action=args.ticks_per_action,
        scaling="relative",
        # A hundred currency units of profit are worth 5 points of reward, which suits PPO's default step sizes.
        reward={"pnl": 0.05},
    )
    env = tg.SB3VecEnv(config, args.num_envs, seed=args.seed, include_account=True)
    decisions = config.max_ticks // config.ticks_per_action
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=min(50, decisions),
        batch_size=min(50, decisions) * args.num_envs // 4,
        n_epochs=4,
        learning_rate=7e-4,
        gamma=0.98,
        gae_lambda=0.9,
        ent_coef=0.003,
        seed=args.seed,
        verbose=1,
    )
    model.learn(args.total_steps)

    test = tg.SB3VecEnv(config, args.test_episodes, seed=HELD_OUT_SEED, include_account=True)
    observations = test.reset()
    for _ in range(decisions):
        actions, _ = model.predict(observations, deterministic=True)
        observations, _, _, infos = test.step(actions)
    # The last step ends every episode; its info still tells of the episode that ended.
    profit = np.array([info["equity"] for info in infos]) - config.starting_cash * config.point_size
    mean, error = float(profit.mean()), float(profit.std(ddof=1) / len(profit) ** 0.5)
    print(
        f"profit per held-out episode: {mean:+.1f} ± {error:.1f} currency over {len(profit)} episodes (holding earns 0)"
    )
    return {"profit": mean, "standard_error": error}


if __name__ == "__main__":
    main(tyro.cli(Args))
