"""gym-trading-env: one environment, and eight in gymnasium's SyncVectorEnv."""

from __future__ import annotations

import importlib.metadata
import itertools
from collections.abc import Callable

import gym_trading_env  # noqa: F401  registers "TradingEnv"
import gymnasium
import numpy as np
import pandas as pd
from timing import measure, parser, report

ROWS = 10_000
CONTAINS = (
    "replays the next row of a stored price table: the position is moved at the stored close for a fee, the portfolio valued and"
    " logged, 5 stored and 2 portfolio features returned; no traders, no order book, no market impact"
)


def prices() -> pd.DataFrame:
    """A geometric random walk of hourly bars with the five features that the peer's documentation builds first."""
    rng = np.random.default_rng(0)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.005, ROWS)))
    opened = np.concatenate(([100.0], close[:-1]))
    wick = np.exp(np.abs(rng.normal(0.0, 0.002, (2, ROWS))))
    table = pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) * wick[0],
            "low": np.minimum(opened, close) / wick[1],
            "close": close,
            "volume": rng.lognormal(8.0, 1.0, ROWS),
        },
        index=pd.date_range("2020-01-01", periods=ROWS, freq="h"),
    )
    table["feature_close"] = table["close"].pct_change().fillna(0.0)
    for name in ("open", "high", "low"):
        table[f"feature_{name}"] = table[name] / table["close"]
    table["feature_volume"] = table["volume"] / table["volume"].rolling(168, min_periods=1).max()
    return table


def make(table: pd.DataFrame) -> gymnasium.Env:
    return gymnasium.make(
        "TradingEnv",
        df=table,
        positions=[-1, 0, 1],
        trading_fees=0.0001,
        borrow_interest_rate=0.000003,
        verbose=0,
    )


def single(env: gymnasium.Env) -> Callable[[], None]:
    actions = itertools.cycle(np.random.default_rng(0).integers(0, 3, 1_000).tolist())
    env.reset(seed=0)

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(next(actions))
        if terminated or truncated:
            env.reset()

    return step


def vector(envs: gymnasium.vector.VectorEnv) -> Callable[[], object]:
    actions = itertools.cycle(np.random.default_rng(0).integers(0, 3, (1_000, envs.num_envs)))
    envs.reset(seed=0)
    return lambda: envs.step(next(actions))  # opens the next episodes by itself


def main() -> None:
    options = parser(__doc__).parse_args()
    told = {"peer": "gym-trading-env", "version": importlib.metadata.version("gym-trading-env"), "contains": CONTAINS}
    table = prices()
    report(measure(single(make(table)), options), options, case="one environment", **told)
    envs = gymnasium.vector.SyncVectorEnv([lambda: make(table)] * 8)
    report(measure(vector(envs), options), options, case="SyncVectorEnv", markets=8, **told)


if __name__ == "__main__":
    main()
