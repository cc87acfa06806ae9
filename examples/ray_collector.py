"""Let Ray's workers play on as many machines as the cluster has, and learn here: TorchRL's `Collector(backend="ray")`.

    pip install "torchgym[ray,examples]"
    python examples/ray_collector.py                       # two workers on this machine
    python examples/ray_collector.py --address auto --workers 16 --num-envs 1024      # on a running cluster

Every worker plays markets of its own with the newest networks, and sends its decisions to the one process that learns. The same
seed gives the same agent, bit for bit, whichever worker is faster: an update waits for all of them.
"""

from __future__ import annotations

import csv
import logging
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ray
import torch
import tyro
from torchrl.collectors import Collector

import torchgym as tg
from torchgym.lab.performance import evaluate
from torchgym.lab.policies import value_follower
from torchgym.training import PPO, PPOSettings


@dataclass
class Args:
    preset: str = "default"
    total_steps: int = 640_000
    """decisions over all markets"""
    workers: int = 2
    num_envs: int = 64
    """markets of each worker"""
    rollout: int = 50
    """decisions per market between two updates"""
    max_ticks: int = 1000
    ticks_per_action: int = 5
    test_episodes: int = 256
    seed: int = 0
    address: str | None = None
    """of a running cluster; none starts Ray on this machine"""
    compile: bool = True
    """compile the market's step: slow to start, fast to run"""
    log: Path | None = None
    """CSV file for the learning curve"""


def make_env(config: tg.MarketConfig, num_envs: int, seed: int, compile: bool) -> tg.MarketEnv:
    """Runs in the worker, whose choices are drawn from torch's generator. Modules with rows of your own are imported here."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    env = tg.MarketEnv(config, num_envs, seed=seed)
    env.market.compile = compile
    return env


def main(args: Args) -> dict[str, float]:
    torch.set_num_threads(1)
    config = tg.preset(
        args.preset, max_ticks=args.max_ticks, ticks_per_action=args.ticks_per_action, scaling="relative"
    )
    settings = PPOSettings(total_frames=args.total_steps, num_envs=args.workers * args.num_envs, rollout=args.rollout)
    ppo = PPO(config, settings, seed=args.seed)
    # Before the workers start, so that those on this machine find it compiled; the others compile it once for each machine.
    make_env(config, args.num_envs, args.seed, args.compile).market.prepare()
    makers = [
        partial(make_env, config, args.num_envs, args.seed + worker * args.num_envs, args.compile)
        for worker in range(args.workers)
    ]
    print(f"starting Ray and {args.workers} workers", flush=True)
    ray.init(address=args.address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    collector = Collector(
        makers,
        ppo.agent.actor,
        backend="ray",
        num_collectors=args.workers,
        sync=True,
        frames_per_batch=settings.frames_per_update,
        total_frames=settings.updates * settings.frames_per_update,
        backend_options={
            "remote_configs": {"num_cpus": 1, "num_gpus": 0, "memory": 2 * 1024**3},
            "collector_kwargs": {"track_traj_ids": False, "auto_register_policy_transforms": False},
        },
    )
    print(f"training in {settings.num_envs} markets", flush=True)
    try:
        collector.update_policy_weights_(ppo.agent.actor)
        curve, begin = [], time.monotonic()
        for update, batch in enumerate(collector):
            data = batch.flatten(0, 1).contiguous()  # [workers, N, T] to [workers · N, T]
            reward = data["next", "reward"].mean().item() * args.max_ticks / args.ticks_per_action
            ppo.learn(data, done=update / settings.updates)
            collector.update_policy_weights_(ppo.agent.actor)
            frames, seconds = (update + 1) * settings.frames_per_update, time.monotonic() - begin
            curve.append({"frames": frames, "seconds": seconds, "training_return": reward})
            print(f"{frames:>9,} decisions in {seconds:5.0f} s, return per episode {reward:+7.1f}", flush=True)
    finally:
        collector.shutdown()
        ray.shutdown()
    if args.log is not None:
        with args.log.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(curve[0]))
            writer.writeheader()
            writer.writerows(curve)
    policies = {"agent": ppo.agent.make_policy, "value_follower": value_follower}
    print(f"testing on {args.test_episodes} held-out episodes", flush=True)
    found = evaluate(config, policies, agent="agent", episodes=args.test_episodes, compile=args.compile)
    profits = {name: found.interval(name, "profit") for name in policies}
    for name, profit in profits.items():
        print(f"{name:15s} {profit.mean:+7.1f} ({profit.low:+.1f} … {profit.high:+.1f}) currency per held-out episode")
    return {name: profit.mean for name, profit in profits.items()}


if __name__ == "__main__":
    main(tyro.cli(Args))
