"""Tasks: what a learner is asked to do in any market, in a form that learns well. Each is a gymnasium id, `torchgym/NAME-v0`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torchgym.table import Table


@dataclass(frozen=True)
class Task:
    """One row of `TASKS`: settings of the market that make the task, and in which form the faces show it."""

    meaning: str
    settings: Mapping[str, Any]
    include_account: bool = True
    dtype: str = "float32"  # of observations in numpy


TASKS: Table[Task] = Table(
    "task",
    {
        "Trading": Task(
            "earn by trading one stock on public information",
            # Networks need features without a scale. Short episodes end, and so tell a mean reward, within minutes.
            {"scaling": "relative", "max_ticks": 1_000},
        ),
        "MarketMaking": Task(
            "earn the spread by quoting both sides, a tenth of currency a tick at the position limit being the price of risk",
            {
                "scaling": "relative",
                "max_ticks": 1_000,
                "quotes": 1,
                "action": "quotes",
                "priority": "time",
                "maker_bps": 0.0,  # with the default fee quotes near the mid lose
                "reward": {"pnl": 1.0, "inventory": 0.1},
            },
        ),
        "Execution": Task(
            "sell 1,000 shares in 50 decisions; what is left at the end is sold into the book that stands there",
            {
                "scaling": "relative",
                "max_ticks": 500,
                "ticks_per_action": 10,
                "action": "position",
                "order_size": 100,
                "position_limit": 1_000,
                "starting_shares": 1_000,
                "mark": "liquidation",
            },
        ),
        "Portfolio": Task(
            "share out the equity between cash and eight stocks, long only",
            {
                "scaling": "relative",
                "max_ticks": 1_000,
                # Prices come near value over hundreds of ticks: who decides more often pays more than there is to gain.
                "ticks_per_action": 100,
                "num_symbols": 8,
                "action": "weights",
                "position_limit": 1_000,
                "reward": "log_return",
            },
        ),
    },
)


def task_presets() -> dict[str, str]:
    """The name that each task has among the presets, and the task.

    >>> task_presets()["market_making"]
    'MarketMaking'
    """
    return {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): name for name in TASKS}
