"""Measure a trading rule of your own against the baselines, on the same held-out episodes.

    python examples/own_policy.py                    # half a minute on one CPU core, once it is compiled
    python examples/own_policy.py --preset volatile --episodes 512

The rule goes with the news: a headline better than neutral makes it buy to the limit, a worse one sell, and it is flat again when
the headline is spent. A rule decides on what the learner sees; `decided_by` makes policies of it, for any action scheme.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import tyro
from torch import Tensor

import torchgym as tg
from torchgym.lab.performance import evaluate
from torchgym.lab.policies import Memory, Seen, baselines, decided_by
from torchgym.lab.policy import MakePolicy


@dataclass
class Args:
    preset: str = "default"
    """which market: a name of torchgym.PRESETS"""
    max_ticks: int = 1000
    """ticks of an episode"""
    episodes: int = 256
    threshold: float = 0.2
    """how far a headline's sentiment must be from neutral, 0 to 1"""


def with_the_news(threshold: float) -> MakePolicy:
    def rule(seen: Seen, memory: Memory) -> Tensor:
        sentiment = seen["f_news_sentiment"]
        return seen.to_fraction(torch.where(sentiment.abs() > threshold, torch.sign(sentiment), 0.0))

    return decided_by(rule)


def show(stage: str, done: int, total: int) -> None:
    if not done:
        print(f"{stage} ...", flush=True)


def main(args: Args) -> dict[str, float]:
    torch.set_num_threads(1)  # tensors this small gain nothing from more
    config = tg.preset(args.preset, max_ticks=args.max_ticks)
    policies = {"with the news": with_the_news(args.threshold), **baselines(config)}
    found = evaluate(config, policies, agent="with the news", episodes=args.episodes, progress=show)
    print(f"{'policy':16s} {'profit':>8s} {'spread':>8s} {'impact':>8s} {'fees':>8s} {'lead':>8s}  p (Holm)")
    leads = {comparison.baseline: comparison for comparison in found.comparisons}
    for name, episodes in found.episodes.items():
        parts = {part: values.mean().item() for part, values in episodes.attribution().items()}
        costs = " ".join(f"{parts[part]:8.1f}" for part in ("spread", "impact", "fees"))
        lead = f"{leads[name].lead:+8.1f}  {leads[name].p_adjusted:.2g}" if name in leads else ""
        print(f"{name:16s} {episodes.profit.mean().item():+8.1f} {costs} {lead}")
    return {name: episodes.profit.mean().item() for name, episodes in found.episodes.items()}


if __name__ == "__main__":
    main(tyro.cli(Args))
