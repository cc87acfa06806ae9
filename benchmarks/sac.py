"""What soft actor-critic learns of making markets, execution and portfolios, beside scripted policies in the same episodes.

    python benchmarks/sac.py                                # five trainings of three tasks, three hours on a busy CPU core
    python benchmarks/sac.py --tasks Execution --seeds 0

Trainings are those of stable-baselines3 (Haarnoja et al. 2018, Soft actor-critic), on `SB3VecEnv`. Rows are added to a CSV file:
per training and scripted policy, the agent's lead on held-out episodes, the same for all, with its interval and Holm's p-value.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from per_stock import Copies, Inputs, PerStock
from rows import add, command, mean, tell
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.sac.policies import SACPolicy
from torch import Tensor

import torchgym as tg
from torchgym.lab.execution import almgren_chriss
from torchgym.lab.performance import TEST_SEED, evaluate, paired
from torchgym.lab.policies import baselines
from torchgym.lab.policy import MakePolicy, Policy

RESULTS = Path(__file__).parent / "results" / "sac.csv"


@dataclass(frozen=True)
class Training:
    """How one task is learnt; chosen on the validation episodes, which no figure comes from."""

    decisions: int
    """of all markets"""
    markets: int
    gamma: float
    learning_rate: float = 1e-3
    """at the start; it falls linearly to zero"""
    settings: dict[str, Any] = field(default_factory=dict)
    """of `SAC`, changed from the usual ones"""
    policy: str | type[SACPolicy] = "MlpPolicy"
    copies: int = 1
    """markets that play each episode side by side, and are rewarded for what they earn beyond their mean"""
    warm_up: int = 50
    """decisions of each market by chance before anything is learnt"""


# Rewards are noisy: many markets, large batches, and little weight on entropy.
USUAL: dict[str, Any] = {
    "batch_size": 2_048,
    "ent_coef": 0.003,
    "train_freq": 1,  # decisions of every market
    "gradient_steps": 1,
    "policy_kwargs": {"net_arch": [64, 64]},
}
TRAININGS = {
    "MarketMaking": Training(2_560_000, markets=256, gamma=0.95, settings={"buffer_size": 1_000_000}),
    "Execution": Training(1_024_000, markets=128, gamma=0.99, settings={"batch_size": 1_024}),
    "Portfolio": Training(
        30_720,
        markets=256,
        gamma=0.9,
        learning_rate=3e-3,
        settings={
            "buffer_size": 200_000,
            "tau": 0.01,
            "gradient_steps": 24,
            "policy_kwargs": {"net_arch": [32, 32]},
            # The end of an episode is the end of what is held.
            "replay_buffer_kwargs": {"handle_timeout_termination": False},
        },
        policy=PerStock,
        copies=4,
        warm_up=40,
    ),
}


@dataclass
class Options:
    """Which tasks, which trainings, and where rows go."""

    tasks: tuple[str, ...] = tuple(TRAININGS)
    seeds: tuple[int, ...] = (0, 10_000, 20_000, 30_000, 40_000)
    """of the trainings; markets have those from here on"""
    episodes: int = 1_024
    policies: tuple[str, ...] = ()
    """scripted ones to compare with; without names, all"""
    csv: Path = RESULTS


def main(options: Options) -> None:
    torch.set_num_threads(1)
    for name in options.tasks:
        config = tg.task(name)
        agents, seconds = {}, {}
        known = scripted(config)
        if unknown := sorted(set(options.policies) - set(known)):
            raise ValueError(f"unknown policies {', '.join(unknown)} for {name}: choose from {', '.join(known)}")
        for seed in options.seeds:
            tell(f"{name}, training of seed {seed}")
            begin = time.monotonic()
            agents[f"sac {seed}"] = train(config, TRAININGS[name], seed)
            seconds[seed] = time.monotonic() - begin
        tell(f"{name}: {options.episodes} held-out episodes")
        compared = {policy: known[policy] for policy in options.policies or known}
        found = evaluate(config, agents | compared, episodes=options.episodes, compile=True).episodes
        scores = {policy: own.reward for policy, own in found.items()}
        for seed in options.seeds:
            agent = f"sac {seed}"
            others = {policy: own for policy, own in scores.items() if policy == agent or policy not in agents}
            about = {"threads": 1, "task": name, "seed": seed, "decisions": TRAININGS[name].decisions}
            about |= {"seconds": seconds[seed], "episodes": options.episodes, "first_episode": TEST_SEED}
            mine = dict(zip(("agent", "agent_error"), mean(scores[agent]), strict=True))
            for lead in paired(others, agent):
                theirs = {"policy": lead.baseline, "reward": scores[lead.baseline].mean().item()}
                theirs |= {"lead": lead.lead, "low": lead.low, "high": lead.high, "p_adjusted": lead.p_adjusted}
                row = {**about, **mine, **theirs, "command": command()}
                add(options.csv, list(row), row)
            tell(f"{name}, seed {seed}: {mine['agent']:+.4g} ± {mine['agent_error']:.2g}")


def train(config: tg.MarketConfig, training: Training, seed: int) -> MakePolicy:
    """One training."""
    markets = tg.SB3VecEnv(config, training.markets, seed=seed, include_account=True, compile=True)
    env: VecEnv
    shown: Callable[[Any], Any]  # to the model
    if training.copies > 1:
        shown = inputs = Inputs(markets.feature_names, config.num_symbols)
        env = Copies(markets, inputs, training.copies, scale=1_000.0)
    else:
        env = normalised = VecNormalize(markets, gamma=training.gamma)
        shown = normalised.normalize_obs
    model = SAC(
        training.policy,
        env,
        learning_rate=lambda left: training.learning_rate * left,
        learning_starts=training.warm_up * training.markets,
        gamma=training.gamma,
        seed=seed,
        **USUAL | training.settings,
    )
    model.learn(training.decisions)

    def make_policy(config: tg.MarketConfig, seeds: Tensor) -> Policy:
        def act(seen: tg.StepResult) -> Tensor:
            observation = torch.cat([seen.observation, seen.account], -1).to(torch.float32)
            numbers, _ = model.predict(shown(observation.numpy()), deterministic=True)
            return torch.from_numpy(numbers).to(torch.float64)

        return act

    return make_policy


def scripted(config: tg.MarketConfig) -> dict[str, MakePolicy]:
    """Those that the task is compared with."""
    schedules = {"almgren_chriss 1e-06": almgren_chriss(1e-6)} if config.starting_shares else {}
    return baselines(config) | schedules


if __name__ == "__main__":
    main(tyro.cli(Options))
