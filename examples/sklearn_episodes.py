"""Collect episodes as plain numpy, and let scikit-learn predict where the price goes.

    pip install "torchgym[sklearn,examples]"
    python examples/sklearn_episodes.py         # about fifteen seconds on one CPU core

Each row of the data is what the market showed at one tick; its label is whether the price stood higher some ticks later. Whole
episodes are held out, so that no neighbouring tick of a test row was ever seen in training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import tyro
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from torchgym.quant_gym import PyTradingEnv, PyVecTradingEnv


@dataclass
class Args:
    episodes: int = 64
    max_ticks: int = 1000
    horizon: int = 64
    """ticks ahead that the label looks"""
    stride: int = 8
    """ticks between two rows of an episode"""
    seed: int = 0


def main(args: Args) -> dict[str, float]:
    torch.set_num_threads(1)  # tensors this small gain nothing from more
    names = PyTradingEnv(max_ticks=args.max_ticks, seed=args.seed).feature_names()
    env = PyVecTradingEnv(num_envs=args.episodes, max_ticks=args.max_ticks, base_seed=args.seed)
    seen = [env.reset_all()]
    for tick in range(args.max_ticks):
        observations, _, _, _, _ = env.step_all([1] * args.episodes)  # hold: the market as it is without us
        seen.append(observations)
        if (tick + 1) % max(args.max_ticks // 5, 1) == 0:
            print(f"collected {tick + 1} of {args.max_ticks} ticks of {args.episodes} episodes", flush=True)
    path = np.stack(seen, axis=1)  # [episodes, ticks + 1, features]

    price = path[:, :, names.index("f_mid_price")]
    rows = np.arange(0, args.max_ticks + 1 - args.horizon, args.stride)
    features = path[:, rows]
    higher = price[:, rows + args.horizon] > price[:, rows]
    split = int(0.75 * args.episodes)
    train_x, train_y = features[:split].reshape(-1, len(names)), higher[:split].reshape(-1)
    test_x, test_y = features[split:].reshape(-1, len(names)), higher[split:].reshape(-1)

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    model.fit(train_x, train_y)
    accuracy = float(model.score(test_x, test_y))
    majority = float(np.mean(test_y == (train_y.mean() > 0.5)))
    print(f"{len(train_y)} rows to learn from, {len(test_y)} rows of unseen episodes, {args.horizon} ticks ahead")
    print(f"out-of-sample accuracy {accuracy:.1%}, majority class {majority:.1%}")
    weights = model[-1].coef_[0]
    for index in np.argsort(-np.abs(weights))[:5]:
        print(f"  {names[index]:24s} {weights[index]:+.2f}")
    return {"accuracy": accuracy, "majority": majority}


if __name__ == "__main__":
    main(tyro.cli(Args))
