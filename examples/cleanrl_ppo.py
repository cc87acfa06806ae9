"""PPO in one file with nothing hidden, in the manner of CleanRL, on gymnasium's vector interface.

    pip install "torchgym[examples]"
    python examples/cleanrl_ppo.py               # two minutes on one CPU core, once it is compiled

Where an episode ends by time, the value of its last observation still counts: with autoreset in the same step that observation is
`infos["final_obs"]`, and `dones` cuts the advantage of the next episode off.
"""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.distributions import Categorical

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
    num_steps: int = 50
    """decisions per market between two updates"""
    learning_rate: float = 1e-3
    gamma: float = 0.98
    gae_lambda: float = 0.9
    num_minibatches: int = 4
    update_epochs: int = 4
    clip_coef: float = 0.2
    ent_coef: float = 0.003
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    test_episodes: int = 256
    seed: int = 0
    threads: int = 1
    log: Path | None = None
    """CSV file for the learning curve"""


class Scale(nn.Module):
    """Inputs less their mean and over their deviation in the training so far."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.count, self.mean, self.square = 0, torch.zeros(inputs), torch.ones(inputs)

    def add(self, seen: Tensor) -> None:
        self.count += len(seen)
        share = len(seen) / self.count
        self.mean += share * (seen.mean(0) - self.mean)
        self.square += share * (seen.square().mean(0) - self.square)

    def forward(self, seen: Tensor) -> Tensor:
        deviation = (self.square - self.mean.square()).clamp(min=1e-8).sqrt()
        return ((seen - self.mean) / deviation).clamp(-10.0, 10.0)


def layers(scale: Scale, inputs: int, outputs: int, gain: float) -> nn.Sequential:
    first, second, last = nn.Linear(inputs, 64), nn.Linear(64, 64), nn.Linear(64, outputs)
    for layer, size in ((first, 2**0.5), (second, 2**0.5), (last, gain)):
        nn.init.orthogonal_(layer.weight, size)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(scale, first, nn.Tanh(), second, nn.Tanh(), last)


def main(args: Args) -> dict[str, float]:
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    config = tg.preset(
        args.preset,
        max_ticks=args.max_ticks,
        ticks_per_action=args.ticks_per_action,
        scaling="relative",
        reward={"pnl": 0.05},  # a hundred currency units of profit are worth 5
    )
    envs = tg.TradingVectorEnv(
        config,
        args.num_envs,
        autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,
        include_account=True,
    )
    inputs, choices = (gym.spaces.flatdim(space) for space in (envs.single_observation_space, envs.single_action_space))
    scale = Scale(inputs)
    actor, critic = layers(scale, inputs, choices, 0.01), layers(scale, inputs, 1, 1.0)
    parameters = [*actor.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=args.learning_rate, eps=1e-5)

    shape = (args.num_steps, args.num_envs)
    observations, actions = torch.zeros((*shape, inputs)), torch.zeros(shape, dtype=torch.int64)
    log_probs, rewards, values, next_values, dones = (torch.zeros(shape) for _ in range(5))
    batch_size = args.num_steps * args.num_envs
    updates = max(args.total_steps // batch_size, 1)
    episode_returns, curve, begin = np.zeros(args.num_envs), [], time.monotonic()
    seen = torch.from_numpy(envs.reset(seed=args.seed)[0]).float()

    print(f"training in {args.num_envs} markets", flush=True)
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = args.learning_rate * (1.0 - update / updates)
        finished: list[float] = []
        for step in range(args.num_steps):
            observations[step] = seen
            with torch.no_grad():
                choice = Categorical(logits=actor(seen))
                actions[step] = choice.sample()
                log_probs[step] = choice.log_prob(actions[step])
                values[step] = critic(seen).squeeze(-1)
            shown, reward, terminations, truncations, infos = envs.step(actions[step].numpy())
            ended = terminations | truncations
            seen = torch.from_numpy(shown).float()
            last = seen.clone()
            if ended.any():
                last[ended] = torch.from_numpy(np.stack(list(infos["final_obs"][ended]))).float()
            with torch.no_grad():
                next_values[step] = critic(last).squeeze(-1) * torch.from_numpy(~terminations)
            rewards[step], dones[step] = torch.from_numpy(reward), torch.from_numpy(ended)
            episode_returns += reward
            finished += episode_returns[ended].tolist()
            episode_returns[ended] = 0.0

        advantages, advantage = torch.zeros(shape), torch.zeros(args.num_envs)
        for step in reversed(range(args.num_steps)):
            delta = rewards[step] + args.gamma * next_values[step] - values[step]
            advantage = delta + args.gamma * args.gae_lambda * (1.0 - dones[step]) * advantage
            advantages[step] = advantage
        returns = advantages + values

        flat = [part.flatten(0, 1) for part in (observations, actions, log_probs, advantages, returns)]
        for _ in range(args.update_epochs):
            for rows in torch.randperm(batch_size).chunk(args.num_minibatches):
                obs, action, old_log_prob, gain, target = (part[rows] for part in flat)
                choice = Categorical(logits=actor(obs))
                ratio = (choice.log_prob(action) - old_log_prob).exp()
                gain = (gain - gain.mean()) / (gain.std() + 1e-8)
                clipped = ratio.clamp(1.0 - args.clip_coef, 1.0 + args.clip_coef)
                policy_loss = -torch.minimum(ratio * gain, clipped * gain).mean()
                value_loss = 0.5 * (critic(obs).squeeze(-1) - target).square().mean()
                loss = policy_loss + args.vf_coef * value_loss - args.ent_coef * choice.entropy().mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, args.max_grad_norm)
                optimizer.step()
        scale.add(observations.flatten(0, 1))

        if finished:
            frames = (update + 1) * batch_size
            row = {"frames": frames, "seconds": time.monotonic() - begin, "episode_return": float(np.mean(finished))}
            curve.append(row)
            print(f"{frames:>9,} decisions, return per episode {row['episode_return']:+6.2f}", flush=True)
    if args.log is not None:
        with args.log.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["frames", "seconds", "episode_return"])
            writer.writeheader()
            writer.writerows(curve)

    def make_policy(config: tg.MarketConfig, seeds: Tensor) -> Policy:
        def act(seen: tg.StepResult) -> Tensor:
            with torch.no_grad():
                return actor(torch.cat([seen.observation, seen.account], -1).float()).argmax(-1)

        return act

    policies = {"agent": make_policy, "value_follower": value_follower}
    print(f"testing on {args.test_episodes} held-out episodes", flush=True)
    found = evaluate(config, policies, agent="agent", episodes=args.test_episodes)
    profits = {name: found.interval(name, "profit") for name in policies}
    for name, profit in profits.items():
        print(f"{name:15s} {profit.mean:+7.1f} ({profit.low:+.1f} … {profit.high:+.1f}) currency per held-out episode")
    return {name: profit.mean for name, profit in profits.items()}


if __name__ == "__main__":
    main(tyro.cli(Args))
