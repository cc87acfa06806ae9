"""The tasks of the ladder: from the exact value to public information, trends, two markets of known answers, other problems.

In each task an agent and a scripted reference get the same information. Where the reference earns and the agent does not, it is
the agent's learning that fails; where neither does, there is nothing to learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torchgym.config import MarketConfig, preset, task
from torchgym.lab.execution import almgren_chriss
from torchgym.lab.policies import BASELINES, decided_by, entered, shown, standardised, tilted, value_follower
from torchgym.lab.policy import MakePolicy
from torchgym.lab.quoting import avellaneda_stoikov, cartea_jaimungal, gueant_lehalle, symmetric
from torchgym.table import Table
from torchgym.training import PPOSettings

# Distances of value and price at which a follower acts, as fractions. The reference is the one that earns most on the validation
# episodes, so that the agent is not measured against a badly set rule.
_GAPS = (0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02)
_FOLLOWERS = {f"value_follower {gap:g}": partial(value_follower, clear_gap=gap) for gap in _GAPS}

# Points that a squared share costs in `as_null`, at the end of each tick and at the end of the episode.
PHI, ALPHA = 1e-3, 0.01
RISK_AVERSION = 1e-5  # of `ac_null`, per point and share: the price of the cost's variance
_POINT = 0.01  # currency

Base = Callable[[str], MarketConfig]  # from the name of a preset to the market that a task changes


def _trading(name: str) -> MarketConfig:
    """The preset, 1,000 ticks, a decision every five."""
    return preset(name, scaling="relative", max_ticks=1_000, ticks_per_action=5)


def _always(own: str) -> Base:
    """The preset `own`, whatever the ladder's preset is."""
    return lambda name: preset(own, scaling="relative")


def squared_shares(price: float, limit: int) -> float:
    """Weight of the reward terms `inventory` and `final_inventory` that makes a squared share cost `price` points.

    >>> squared_shares(0.01, 20)
    0.04
    """
    return price * limit**2 * _POINT


@dataclass(frozen=True)
class Task:
    """One task.

    Args:
        description: what the agent sees and pays.
        market: settings of the market that make it, changed from the base.
        settings: of the agent, changed from the usual ones.
        base: makes the market before these changes, given the name of the ladder's preset.
        references: scripted policies with the same information; the best on the validation episodes counts.
        naive: the one of `BASELINES` whose score counts as nothing; shares are of the reference's lead over it.
        score: what is compared, "profit" (currency per episode) or "reward" (sum per episode).
        least_share: of the reference that the agent must reach; None asks only for a significant gain.
        optimum: the expected score that nothing can exceed, if it is known.
    """

    description: str
    market: Mapping[str, Any]
    settings: Mapping[str, Any]
    base: Base = _trading
    references: Mapping[str, MakePolicy] = field(default_factory=lambda: _FOLLOWERS)
    naive: str = "hold"
    score: str = "profit"
    least_share: float | None = None
    optimum: float | None = None

    def config(self, name: str) -> MarketConfig:
        """The market on this task's terms, in the ladder's preset where it has none of its own."""
        return self.base(name).replace(**self.market)

    def ppo(self, frames: int | None = None) -> PPOSettings:
        """The agent's settings; `frames` instead of the task's own."""
        return PPOSettings(**{**self.settings, **({} if frames is None else {"total_frames": frames})})


# With less exploration some agents stop trading before they have seen that trading pays.
_EXPLORING = {"entropy": 0.02, "gae_lambda": 0.97, "total_frames": 1_280_000}
_GAP_ALONE = {"inputs": ("f_fair_value_dev",), **_EXPLORING}
_ACCOUNT_ALONE = {"inputs": ("position", "time_left"), "hidden": (32, 32)}
_QUOTING = {
    **_ACCOUNT_ALONE,
    "total_frames": 7_680_000,
    "num_envs": 640,
    "minibatches": 8,
    "learning_rate": 0.012,
    "gamma": 0.995,
    "gae_lambda": 0.8,
    "reward_scale": 5.0,
    "entropy": 0.004,
    "first_numbers": 0.1,  # two points from the mid, where orders fill
}
_SELLING = {
    **_ACCOUNT_ALONE,
    "total_frames": 1_536_000,
    "learning_rate": 2e-3,
    "gamma": 1.0,
    "gae_lambda": 0.9,
    "reward_scale": 0.01,
    "entropy": 0.001,
    "bootstrap": False,
}
# Most of what a portfolio gains is chance that all who hold stocks share, so markets are compared with copies of themselves.
_SHARING = {
    "inputs": ("f_fair_value_dev", "time_left"),
    "shared": True,
    "hidden": (8,),
    "copies": 16,
    "rollout": 10,
    "total_frames": 76_800,  # 480 episodes, each of them in 16 copies
    "minibatches": 1,
    "learning_rate": 0.03,
    "max_grad_norm": 10.0,
    "gamma": 0.9,
    "gae_lambda": 0.5,
    "reward_scale": 100.0,
    "entropy": 0.0,
}
_RETURNS = ("f_log_return_12", "f_log_return_24", "f_log_return_48", "f_log_return_64")

# Returns over so many ticks beyond twice their usual size are followed, until one as large says otherwise.
_TREND_FOLLOWERS = {
    f"trend over {lookback} ticks": decided_by(entered(standardised(lookback), 2.0)) for lookback in (12, 24, 48, 64)
}

_MAKERS = {
    **{f"symmetric {depth:g}": symmetric(depth) for depth in (5.0, 10.0, 15.0, 20.0)},
    **{f"avellaneda_stoikov {gamma:g}": avellaneda_stoikov(gamma) for gamma in (1e-6, 1e-5, 2e-5, 1e-4)},
    **{f"gueant_lehalle {gamma:g}": gueant_lehalle(gamma) for gamma in (1e-4, 1e-3, 1e-2)},
}
_TILTS = {f"value_tilt {gap:g}": tilted(shown("estimate_gap"), gap) for gap in (0.005, 0.01, 0.02)}
_EXECUTORS = {
    "twap_liquidator": BASELINES["twap_liquidator"].make,
    **{f"almgren_chriss {aversion:g}": almgren_chriss(aversion) for aversion in (1e-6, 1e-5, 1e-4)},
}

TASKS = Table(
    "task",
    {
        "inventory": Task(
            description="starts with 50 shares, five orders; holding shares is all that costs",
            market={"reward": "inventory", "starting_shares": 50},
            settings={"inputs": ("f_fair_value_dev",), "normalise": False, "total_frames": 320_000},
            references={"liquidate_at_once": BASELINES["liquidate_at_once"].make},
            score="reward",
            least_share=0.99,
            # An order of a fifth of the limit at once, and one more at each of the next decisions, five ticks each.
            optimum=-5.0 * (0.8**2 + 0.6**2 + 0.4**2 + 0.2**2),
        ),
        "exact_free": Task(
            description="exact value, no commission and no borrow charge (the spread stays)",
            market={"information": "privileged", "commission_bps": 0.0, "borrow_ppb": 0},
            settings=_GAP_ALONE,
            least_share=0.8,
        ),
        "exact": Task("exact value, all costs", {"information": "privileged"}, _GAP_ALONE, least_share=0.8),
        "estimate": Task("noisy public estimate of value, all costs", {}, _GAP_ALONE),
        "public": Task("all 54 public features, scale-free, all costs", {}, _EXPLORING),
        "trend": Task(
            description="returns of the last 12 to 64 ticks in the null market, where orders of chance leave a trend in prices",
            market={},
            base=lambda name: _trading("zero_intelligence"),
            # Trends are faint, so each update needs more decisions.
            settings={
                "inputs": _RETURNS,
                **_EXPLORING,
                "total_frames": 2_560_000,
                "num_envs": 512,
                "minibatches": 8,
            },
            references=_TREND_FOLLOWERS,
            least_share=0.8,
        ),
        "as_null": Task(
            description="the market-making problem with a closed form; shares held cost by their square",
            base=_always("as_null"),
            # At a limit of 200 shares the few that are worth holding would hardly show in the account. 20 change the best
            # value by less than a thousandth of a point. What fills earn against the mid is the profit without the mid's steps on
            # shares held. Those have mean zero whatever the quotes, and are most of the noise.
            market={
                "position_limit": 20,
                "reward": {
                    "spread_capture": 1.0,
                    "inventory": squared_shares(PHI, 20),
                    "final_inventory": squared_shares(ALPHA, 20),
                },
            },
            settings=_QUOTING,
            references={"cartea_jaimungal": cartea_jaimungal(PHI, ALPHA, most=20)},
            score="reward",
            least_share=0.98,
            optimum=669.694 * _POINT,  # on whole points: benchmarks/whole_points.py
        ),
        "ac_null": Task(
            description="the execution problem with a closed form; the variance of the cost has a price",
            base=_always("ac_null"),
            # Slippage is the profit without the steps of the mid on shares held, which have mean zero, and without what permanent
            # impact takes from them: 1,000 points x shares less 0.001 of the sum of squared sales. What is left at the end counts
            # as sold into the book. Orders of up to 100 shares, as the best schedule begins with 97: of the whole position an
            # agent's first tries would be far too large.
            market={
                "action": "percent",
                "order_size": 100,
                "reward": {"slippage": 1.0, "inventory": squared_shares(RISK_AVERSION * 5.0**2, 1_000)},
            },
            settings=_SELLING,
            references={"almgren_chriss": almgren_chriss(RISK_AVERSION)},
            naive="twap_liquidator",
            score="reward",
            # Equal slices cost 7,542 points × shares, the best schedule 5,346. To lose 7.3 % of this lead is to pay 3 % more.
            least_share=0.927,
        ),
        "market_making": Task(
            description="the task MarketMaking: earns the spread by quoting, at a price for inventory",
            base=partial(task, "MarketMaking"),
            market={},
            settings={"total_frames": 2_560_000},
            references=_MAKERS,
            score="reward",
        ),
        "execution": Task(
            description="the task Execution: sells 1,000 shares in 50 decisions",
            base=partial(task, "Execution"),
            market={},
            settings={},
            references=_EXECUTORS,
            naive="liquidate_at_once",
        ),
        "portfolio": Task(
            description="the task Portfolio: shares out the equity between cash and eight stocks, long only",
            base=partial(task, "Portfolio"),
            market={},
            settings=_SHARING,
            references=_TILTS,
            score="reward",
        ),
    },
)

VALUE_TASKS = ("inventory", "exact_free", "exact", "estimate", "public")  # in the usual market, of growing difficulty
