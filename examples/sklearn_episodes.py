"""Record episodes to a Parquet file, and let scikit-learn predict from it where the price goes.

    pip install "torchgym[data,sklearn,examples]"
    python examples/sklearn_episodes.py         # about fifteen seconds on one CPU core

Each row of the data is what the market showed at one tick; its label is whether the price stood higher some ticks later. Whole
episodes are held out, so that no neighbouring tick of a test row was ever seen in training.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import tyro
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import torchgym as tg
from torchgym.recording import describe, record


@dataclass
class Args:
    episodes: int = 64
    max_ticks: int = 1000
    horizon: int = 64
    """ticks ahead that the label looks"""
    stride: int = 8
    """ticks between two rows of an episode"""
    seed: int = 0
    output: Path | None = None
    """Parquet file to keep; without it the data go to a temporary folder"""


def main(args: Args) -> dict[str, float]:
    torch.set_num_threads(1)  # tensors this small gain nothing from more
    with tempfile.TemporaryDirectory() as folder:
        path = args.output or Path(folder) / "episodes.parquet"
        collect(args, path)
        return learn(args, path)


def collect(args: Args, path: Path) -> None:
    """Nobody trades: the market as it is without us."""
    config = tg.MarketConfig(max_ticks=args.max_ticks)

    def show(stage: str, done: int, total: int) -> None:
        if done * 5 % total == 0:
            print(f"collected {done} of {total} {stage} of {args.episodes} episodes", flush=True)

    made = record(path, config, episodes=args.episodes, seed=args.seed, market_fields=[], progress=show)
    print(f"{made.rows} rows of {made.columns} columns, {made.size / 1e6:.1f} MB in {made.path}", flush=True)


def learn(args: Args, path: Path) -> dict[str, float]:
    """Accuracy in held-out episodes, of the classifier and of always naming the class that was likelier in training."""
    names = [column.name for column in describe(path) if column.kind == "feature"]
    table = pq.read_table(path, columns=names)
    # Rows are sorted by episode and tick, and all episodes are of one length: who holds is never ruined.
    seen = np.column_stack([table[name] for name in names]).reshape(args.episodes, args.max_ticks + 1, len(names))

    price = seen[:, :, names.index("f_mid_price")]
    rows = np.arange(0, args.max_ticks + 1 - args.horizon, args.stride)
    features = seen[:, rows]
    higher = price[:, rows + args.horizon] > price[:, rows]
    split = int(0.75 * args.episodes)
    train_x, train_y = features[:split].reshape(-1, len(names)), higher[:split].reshape(-1)
    test_x, test_y = features[split:].reshape(-1, len(names)), higher[split:].reshape(-1)

    print(f"learning from {split} episodes", flush=True)
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
