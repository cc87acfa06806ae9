"""The scripted market makers and executors where theory has an answer, and in the market that reacts.

    python benchmarks/closed_form.py                      # about half an hour on one CPU core
    python benchmarks/closed_form.py --parts execution    # two minutes
    torchgym ladder --tasks as_null                       # trains the agents that the last part looks at
    python benchmarks/closed_form.py --parts learning     # two minutes

Four parts, each with a CSV file. `making`: P&L, its deviation and the inventory in `as_null`, beside what recursions over whole
points say of the same quotes, the optimum in continuous time and the optimum on whole points. `execution`: the cost of schedules
in `ac_null`, beside Almgren and Chriss. `reacting`: quotes in the default market, and where the mid is after their fills.
`learning`: what the agents of the ladder's rung `as_null` quote and are worth, beside the best. The picture is drawn from all but
`reacting`.

Two means are taken with a control variate, a part of the figure whose mean is zero whatever the policy: what the mid's steps
alone earn on the shares held. A step is drawn after the tick's trades and does not depend on them. In `ac_null` the mid moves by
a step of five points, and by at most two for what is sold: the sign of the move is that of the step. Plain means stand beside.
"""

from __future__ import annotations

import csv
import math
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rows import add, mean, tell
from torch import Tensor
from whole_points import best_quotes, depths_of, expected, mean_ladder_cost

import torchgym as tg
from torchgym.cli.output import write_figure
from torchgym.engine import Market, StepResult, consecutive_seeds
from torchgym.lab.execution import almgren_chriss, cost_of, costs_of, schedule
from torchgym.lab.performance import TEST_SEED
from torchgym.lab.policies import toward
from torchgym.lab.policy import MakePolicy, Policy
from torchgym.lab.quoting import (
    avellaneda_stoikov,
    cartea_jaimungal,
    closed_form_depths,
    closed_form_value,
    flow_of,
    gueant_lehalle,
    symmetric,
)
from torchgym.readout import features
from torchgym.readout.entries import account_names
from torchgym.sim.actions import DEEPEST
from torchgym.sim.params import plain_params
from torchgym.training import Agent, load_agent
from torchgym.training.ladder.tasks import ALPHA, PHI
from torchgym.visual.plots import BLUE, GREEN, GREY, ORANGE

RESULTS = Path(__file__).parent / "results"
PARTS = ("making", "execution", "reacting")  # what needs no agents
PHIS = (1e-4, 1e-3, 5e-3)  # points per squared share and tick

MAKERS: Mapping[str, MakePolicy] = {
    "Avellaneda-Stoikov, gamma 0.01": avellaneda_stoikov(0.01),
    "Avellaneda-Stoikov, gamma 0.001": avellaneda_stoikov(0.001),
    "same spread, no skew": avellaneda_stoikov(0.01, skewed=False),
    "fixed 7": symmetric(7.0),
    "Gueant-Lehalle, gamma 0.01": gueant_lehalle(0.01),
    **{f"Cartea-Jaimungal, phi {phi:g}": cartea_jaimungal(phi, ALPHA) for phi in PHIS},
}
AVERSIONS = (0.0, 1e-6, 1e-5, 5e-5, 2e-4, 1e-3)  # per point and share, of variance
REACTING: Mapping[str, MakePolicy] = {
    "symmetric, typical half-spread": symmetric(),
    "Avellaneda-Stoikov, gamma 2e-5": avellaneda_stoikov(2e-5),
    "Gueant-Lehalle, gamma 0.001": gueant_lehalle(0.001),
}
HORIZONS = (0, 1, 30, 300)  # ticks after the end of the tick of a fill

_MAKING = (
    *("threads", "policy", "episodes", "mean_spread", "pnl", "pnl_error", "pnl_exact", "sd", "sd_exact"),
    *("sd_inventory", "sd_inventory_exact", "rms_inventory", "rms_inventory_exact"),
    *("phi", "criterion", "criterion_error", "criterion_exact", "criterion_theory", "criterion_best", "command"),
)
_EXECUTION = (
    *("threads", "policy", "episodes", "cost", "cost_error", "cost_plain", "cost_plain_error", "cost_theory"),
    *("cost_whole_shares", "cost_whole_points", "sd", "sd_theory", "command"),
)
_REACTING = (
    *("threads", "policy", "episodes", "pnl_per_share", "pnl_per_share_error", "pnl", "pnl_error", "shares", "fills"),
    *("edge", "edge_error", *(f"{name}{h}" for h in HORIZONS for name in ("after_", "after_error_")), "command"),
)
_LEARNING = (
    *(
        "threads",
        "training",
        "frames",
        "episodes",
        "criterion",
        "criterion_error",
        "criterion_exact",
        "criterion_script",
    ),
    *("criterion_best", "criterion_theory", "share", "bids", "asks", "best_bids", "best_asks", "furthest", "command"),
)
NEAR = 3  # shares: inventories up to this are looked at, either side


@dataclass
class Args:
    parts: tuple[str, ...] = PARTS
    episodes: int = 40_960
    """of a policy in the null markets; whole batches"""
    reacting_episodes: int = 1_024
    markets: int = 2_048
    """of a batch"""
    agents: Path = Path("runs/ladder/default/as_null")
    """where the ladder left its trainings"""
    learning_episodes: int = 2_048
    """of an agent; whole batches"""
    compile: bool = True
    results: Path = RESULTS
    figure: Path = Path(__file__).resolve().parents[1] / "docs" / "closed_form.png"


class Table:
    """One part's CSV file, written anew row by row."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path, self.columns = path, columns
        path.unlink(missing_ok=True)

    def add(self, **row: Any) -> None:
        """One row, with the machine and the command."""
        command = f"python benchmarks/closed_form.py {shlex.join(sys.argv[1:])}".strip()
        add(self.path, self.columns, {**row, "threads": torch.get_num_threads(), "command": command})


def ratio(above: Tensor, below: Tensor) -> tuple[float, float]:
    """Of two means over episodes, with its standard error by linearisation."""
    found = float(above.sum() / below.sum())
    return found, float((above - found * below).std()) / math.sqrt(len(above)) / float(below.mean())


Watch = Callable[[StepResult, Tensor, StepResult], None]  # before, action, after


def play(market: Market, make_policy: MakePolicy, seed: int, watch: Watch) -> tuple[StepResult, StepResult]:
    """One episode of every market: its first result and its last."""
    seeds = consecutive_seeds(seed, market.num_envs)
    first = before = market.reset(seeds=seeds)
    policy = make_policy(market.config, seeds)
    for _ in range(market.config.max_ticks // market.config.ticks_per_action):
        action = policy(before)
        after = market.step(action)
        watch(before, action, after)
        before = after
    return first, before


def points(config: tg.MarketConfig, now: Tensor) -> Tensor:
    """Prices of currency in points."""
    return now / config.point_size


# --- market making


def play_making(market: Market, make_policy: MakePolicy, seed: int) -> dict[str, Tensor]:
    """Per episode [N] float64: P&L, what the mid's steps earned of it, last inventory, sum of its squares, mean spread."""
    config, zeros = market.config, torch.zeros(market.num_envs, dtype=torch.float64)
    found = {name: zeros.clone() for name in ("steps", "squares", "spread", "both")}

    def watch(before: StepResult, action: Tensor, after: StepResult) -> None:
        held = after.info["position"][:, 0].to(torch.float64)
        found["steps"] += held * points(config, after.info["mid"] - before.info["mid"])[:, 0]
        found["squares"] += held**2
        both = (action < DEEPEST).all(-1)
        found["both"] += both
        found["spread"] += torch.where(both, action.sum(-1), 0.0)

    first, last = play(market, make_policy, seed, watch)
    found["pnl"] = torch.round(points(config, last.info["equity"] - first.info["equity"]))
    found["held"] = last.info["position"][:, 0].to(torch.float64)
    return found


def batches(args: Args, name: str, episodes: int, play_one: Callable[[int], dict[str, Tensor]]) -> dict[str, Tensor]:
    """All batches of a policy, with a line on each fifth."""
    parts, count = [], math.ceil(episodes / args.markets)
    for at in range(count):
        parts.append(play_one(TEST_SEED + at * args.markets))
        if at % 5 == 4 or at == count - 1:
            tell(f"{name}: {(at + 1) * args.markets:,} of {count * args.markets:,} episodes")
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def making(args: Args) -> None:
    """`as_null`."""
    config = tg.preset("as_null")
    market, flow = Market(config, args.markets, compile=args.compile), flow_of(config)
    table = Table(args.results / "closed_form_making.csv", _MAKING)
    for name, make_policy in MAKERS.items():
        found = batches(args, name, args.episodes, partial(play_making, market, make_policy))
        phi = float(name.split("phi ")[1]) if "phi" in name else None
        exact = expected(flow, *depths_of(config, make_policy), phi or 0.0, ALPHA)
        row: dict[str, Any] = {}
        if phi is not None:
            penalty = phi * found["squares"] + ALPHA * found["held"] ** 2
            row = dict(
                zip(("criterion", "criterion_error"), mean(found["pnl"] - found["steps"] - penalty), strict=True)
            )
            row |= {"phi": phi, "criterion_exact": exact.criterion}
            row["criterion_theory"] = closed_form_value(flow, config.max_ticks, phi, ALPHA)
            row["criterion_best"] = best_quotes(flow, config.max_ticks, phi, ALPHA)[0]
        pnl, error = mean(found["pnl"])
        table.add(
            policy=name,
            episodes=len(found["pnl"]),
            mean_spread=float(found["spread"].sum() / found["both"].sum()),
            pnl=pnl,
            pnl_error=error,
            pnl_exact=exact.pnl,
            sd=float(found["pnl"].std()),
            sd_exact=exact.deviation,
            sd_inventory=float(found["held"].std()),
            sd_inventory_exact=exact.inventory,
            rms_inventory=math.sqrt(float(found["squares"].mean()) / config.max_ticks),
            rms_inventory_exact=math.sqrt(exact.square),
            **row,
        )
        print(f"{name:34s} {pnl:8.2f} +- {error:.2f}, exactly {exact.pnl:.2f}", flush=True)


# --- execution


def at_once(config: tg.MarketConfig, seeds: Tensor) -> Policy:
    """Sells all of it in the first tick."""
    return lambda result: toward(config, result, 0)


def play_execution(market: Market, make_policy: MakePolicy, seed: int) -> dict[str, Tensor]:
    """Per episode [N] float64: cost in points x shares, what the mid's steps earned, shares that are left at the end."""
    config, steps = market.config, torch.zeros(market.num_envs, dtype=torch.float64)

    def watch(before: StepResult, action: Tensor, after: StepResult) -> None:
        side = torch.sign(after.info["mid"] - before.info["mid"])[:, 0]
        steps.add_(side * config.fundamentals.step * after.info["position"][:, 0])

    first, last = play(market, make_policy, seed, watch)
    cost = torch.round(points(config, first.info["equity"] - last.info["equity"]))
    return {"cost": cost, "steps": steps, "held": last.info["position"][:, 0].to(torch.float64)}


def execution(args: Args) -> None:
    """`ac_null`."""
    config = tg.preset("ac_null")
    market, costs = Market(config, args.markets, compile=args.compile), costs_of(config)
    table = Table(args.results / "closed_form_execution.csv", _EXECUTION)
    shares, decisions = config.starting_shares, config.max_ticks
    for aversion in (*AVERSIONS, None):
        name = "all at once" if aversion is None else f"Almgren-Chriss, lambda {aversion:g}"
        make_policy = at_once if aversion is None else almgren_chriss(aversion)
        found = batches(args, name, args.episodes, partial(play_execution, market, make_policy))
        assert not found["held"].any()
        left = torch.zeros(decisions + 1, dtype=torch.float64)
        left[0] = shares
        if aversion is not None:
            left = schedule(costs, shares, decisions, aversion)
        whole = torch.round(left)
        theory, sd = cost_of(costs, left)
        cost, error = mean(found["cost"] + found["steps"])
        plain, plain_error = mean(found["cost"])
        whole_left = whole.to(torch.int64).tolist()
        on_points = mean_ladder_cost(whole_left, half_spread=3, per_point=20, permanent=costs.permanent)
        table.add(
            policy=name,
            episodes=len(found["cost"]),
            cost=cost,
            cost_error=error,
            cost_plain=plain,
            cost_plain_error=plain_error,
            cost_theory=theory,
            cost_whole_shares=cost_of(costs, whole)[0],
            cost_whole_points=on_points,
            sd=float(found["cost"].std()),
            sd_theory=sd,
        )
        print(f"{name:34s} {cost:9.1f} +- {error:.2f}, theory {theory:.1f}, on points {on_points:.1f}", flush=True)


# --- the market that reacts


def play_reacting(market: Market, make_policy: MakePolicy, seed: int) -> dict[str, Tensor]:
    """Per episode [N] float64: P&L in points x shares, shares and fills, and sums over fills of what they earn.

    `edge` is side x (mid before the tick - fill price) x shares; `after_h` is side x (mid h ticks after the tick - fill price) x
    shares, of the fills after which so many ticks are left, of which `shares_h` are the shares.
    """
    config, names = market.config, account_names(market.config)
    unit = plain_params(config, market.device).typical_half_spread
    at = {name: names.index(name) for name in names}
    mids: list[Tensor] = []
    fills: list[tuple[Tensor, Tensor, Tensor]] = []  # shares signed, price in points, mid before: bid and ask [N, 2]

    def watch(before: StepResult, action: Tensor, after: StepResult) -> None:
        def told(entry: str) -> Tensor:
            return torch.stack([after.account[:, at[f"{side}_1_{entry}"]] for side in ("bid", "ask")], -1)

        mid = points(config, after.info["mid"])
        shares = torch.round(told("filled") * config.order_size)
        fills.append((shares, mid + told("fill_price") * unit, points(config, before.info["mid"])))
        mids.append(mid)

    first, last = play(market, make_policy, seed, watch)
    path = torch.stack(mids)  # [T, N, 1]
    shares, price, before = (torch.stack(part) for part in zip(*fills, strict=True))
    found = {
        "pnl": points(config, last.info["equity"] - first.info["equity"]),
        "shares": shares.abs().sum((0, 2)),
        "fills": (shares != 0).to(torch.float64).sum((0, 2)),
        "edge": (shares * (before - price)).sum((0, 2)),
    }
    for ticks in HORIZONS:
        end = len(path) - ticks
        found[f"after_{ticks}"] = (shares[:end] * (path[ticks:] - price[:end])).sum((0, 2))
        found[f"shares_{ticks}"] = shares[:end].abs().sum((0, 2))
    return found


def reacting(args: Args) -> None:
    """The default market, with places for resting orders."""
    config = tg.preset(
        "default", quotes=1, action="depths", priority="time", order_size=10, max_ticks=1_000, maker_bps=0.0
    )
    markets = min(args.markets, args.reacting_episodes)
    market = Market(config, markets, compile=args.compile)
    own = Args(markets=markets)
    table = Table(args.results / "closed_form_reacting.csv", _REACTING)
    for name, make_policy in REACTING.items():
        found = batches(own, name, args.reacting_episodes, partial(play_reacting, market, make_policy))
        row: dict[str, Any] = {"shares": mean(found["shares"])[0], "fills": mean(found["fills"])[0]}
        row["pnl"], row["pnl_error"] = mean(found["pnl"])
        row["pnl_per_share"], row["pnl_per_share_error"] = ratio(found["pnl"], found["shares"])
        row["edge"], row["edge_error"] = ratio(found["edge"], found["shares"])
        for ticks in HORIZONS:
            both = ratio(found[f"after_{ticks}"], found[f"shares_{ticks}"])
            row[f"after_{ticks}"], row[f"after_error_{ticks}"] = both
        table.add(policy=name, episodes=len(found["pnl"]), **row)
        print(f"{name:34s} {row['pnl_per_share']:+.3f} +- {row['pnl_per_share_error']:.3f} points a share", flush=True)


# --- agents


def learnt_depths(agent: Agent) -> tuple[Tensor, Tensor]:
    """Whole depths that an agent of the rung `as_null` rests bid and ask at before each tick, [T, 2 limit + 1] float64.

    Raises:
        ValueError: where it looks at more than position and time, or lets an order rest as it is.
    """
    config, names = agent.config, account_names(agent.config)
    if set(agent.settings.inputs) != {"position", "time_left"}:
        raise ValueError(
            f"inputs = {agent.settings.inputs}: a table of quotes needs an agent of position and time_left alone"
        )
    held = torch.arange(-config.position_limit, config.position_limit + 1) / config.position_limit
    quotes = []
    for tick in range(config.max_ticks):
        account = torch.zeros(len(held), len(names), dtype=torch.float64)
        account[:, names.index("position")] = held
        account[:, names.index("time_left")] = 1.0 - tick / config.max_ticks
        nothing = torch.zeros(len(held), len(features.names(config)))
        quotes.append(agent.policy(cast(StepResult, SimpleNamespace(observation=nothing, account=account))))
    depths = torch.stack(quotes)
    if (depths < 0.0).any():
        raise ValueError("the agent keeps orders where they are at some inventory: the recursion has no such quotes")
    bids, asks = torch.ceil(depths).unbind(-1)  # prices are rounded away from the mid
    return bids, asks


def learning(args: Args) -> None:
    """`as_null` as a rung of the ladder: its agents, each of one training."""
    paths = sorted(args.agents.glob("training_*"))
    if not paths:
        raise ValueError(f"{args.agents} holds no trainings: torchgym ladder --tasks as_null makes them")
    config = load_agent(paths[0]).config
    market, flow = Market(config, args.markets, compile=args.compile), flow_of(config)
    ticks, limit = config.max_ticks, config.position_limit
    best, best_bids, best_asks = best_quotes(flow, ticks, PHI, ALPHA, limit)
    script = expected(flow, *depths_of(config, cartea_jaimungal(PHI, ALPHA, most=limit), limit), PHI, ALPHA).criterion
    near = slice(limit - NEAR, limit + NEAR + 1)

    def told(quotes: Tensor) -> Tensor:
        return quotes[ticks // 2, near]

    table = Table(args.results / "closed_form_learning.csv", _LEARNING)
    for path in paths:
        agent = load_agent(path)
        found = batches(args, path.name, args.learning_episodes, partial(play_making, market, agent.make_policy))
        penalty = PHI * found["squares"] + ALPHA * found["held"] ** 2
        criterion, error = mean(found["pnl"] - found["steps"] - penalty)
        bids, asks = learnt_depths(agent)
        exact = expected(flow, bids, asks, PHI, ALPHA).criterion
        both = ((told(bids), told(best_bids)), (told(asks), told(best_asks)))
        lists = (
            " ".join(f"{depth:g}" for depth in side.tolist()) for sides in zip(*both, strict=True) for side in sides
        )
        table.add(
            training=path.name,
            frames=agent.settings.frames,
            episodes=len(found["pnl"]),
            criterion=criterion,
            criterion_error=error,
            criterion_exact=exact,
            criterion_script=script,
            criterion_best=best,
            criterion_theory=closed_form_value(flow, ticks, PHI, ALPHA),
            share=exact / best,
            **dict(zip(("bids", "asks", "best_bids", "best_asks"), lists, strict=True)),
            furthest=max(float((own - wanted).abs().max()) for own, wanted in both),
        )
        print(f"{path.name:34s} {criterion:8.2f} +- {error:.2f}, exactly {exact:.2f}, best {best:.2f}", flush=True)


# --- the picture


def panel(made: list[dict[str, str]], learnt: list[dict[str, str]], executed: list[dict[str, str]]) -> Figure:
    """Measured dots on the frontiers of theory, and depths by inventory: the best, and those that agents learnt."""
    figure = Figure(figsize=(12.0, 8.4), layout="constrained")
    (frontier, quotes), (agents, costs) = figure.subplots(2, 2)
    _frontier(frontier, made)
    _quotes(quotes)
    _learnt(agents, learnt)
    _costs(costs, executed)
    for axes in (frontier, quotes, agents, costs):
        axes.spines[["right", "top"]].set_visible(False)
        axes.title.set_size(11)
        axes.legend(fontsize=8, frameon=False)
    return figure


def _frontier(axes: Axes, made: list[dict[str, str]]) -> None:
    config = tg.preset("as_null")
    flow, ticks = flow_of(config), config.max_ticks
    line = []
    for phi in torch.logspace(-5, -1.5, 40, dtype=torch.float64).tolist():
        # The envelope theorem: what the optimum loses per unit of a price is the amount that is paid for.
        value, step = closed_form_value(flow, ticks, phi, ALPHA), 1e-3 * phi
        slope = (closed_form_value(flow, ticks, phi + step, ALPHA) - value) / step
        end = (closed_form_value(flow, ticks, phi, 1.001 * ALPHA) - value) / (0.001 * ALPHA)
        line.append((math.sqrt(-slope / ticks), value - phi * slope - ALPHA * end))
    axes.plot(*zip(*line, strict=True), color=GREY, label="best in continuous time")
    for prefix, colour in (
        ("Cartea", BLUE),
        ("Avellaneda", ORANGE),
        ("Gueant", GREEN),
        ("same", "black"),
        ("fixed", "red"),
    ):
        rows = [row for row in made if row["policy"].startswith(prefix)]
        where = [float(row["rms_inventory"]) for row in rows], [float(row["pnl"]) for row in rows]
        label = {"Gueant": "Guéant-Lehalle", "same": "same spread, no skew", "fixed": "fixed ±7"}.get(prefix)
        errors = [2.0 * float(row["pnl_error"]) for row in rows]
        label = label or rows[0]["policy"].split(",")[0]
        axes.errorbar(*where, yerr=errors, fmt="o", markersize=4, color=colour, label=label)
    axes.set(
        title="making a market: measured", xlabel="root mean square of the inventory, shares", ylabel="P&L, points"
    )


def _quotes(axes: Axes) -> None:
    config, most = tg.preset("as_null"), 40
    flow, ticks = flow_of(config), config.max_ticks
    for phi, colour in zip(PHIS, (BLUE, ORANGE, GREEN), strict=True):
        bid, ask = (side[0, most - 10 : most + 11] for side in closed_form_depths(flow, ticks, phi, ALPHA, most))
        held = range(-10, 11)
        axes.plot(held, ask, color=colour, label=f"ask, φ = {phi:g}")
        axes.plot(held, -bid, color=colour, linestyle="--")
        _, bids, asks = best_quotes(flow, ticks, phi, ALPHA, most)
        axes.plot(held, asks[0, most - 10 : most + 11], ".", color=colour, markersize=4)
        axes.plot(held, -bids[0, most - 10 : most + 11], ".", color=colour, markersize=4)
    axes.set(
        title="best quotes at the start; dots: whole points",
        xlabel="inventory, shares",
        ylabel="points from the mid; dashed: bid",
        ylim=(-32.0, 32.0),
    )


def _learnt(axes: Axes, rows: list[dict[str, str]]) -> None:
    def depths(row: dict[str, str], entry: str) -> list[float]:
        return [float(depth) for depth in row[entry].split()]

    held = range(-NEAR, NEAR + 1)
    for entry, colour, shift in (("bids", BLUE, -0.1), ("asks", ORANGE, 0.1)):
        axes.step(held, depths(rows[0], f"best_{entry}"), color=colour, where="mid", label=f"best {entry}")
        for training, row in enumerate(rows):
            where = [q + shift + 0.04 * (training - len(rows) // 2) for q in held]
            axes.plot(where, depths(row, entry), ".", color=colour, markersize=6)
        axes.lines[-1].set_label(f"{entry} of {len(rows)} agents")
    axes.set(
        title=f"learnt by PPO, φ = {PHI:g}, in the middle of the episode",
        xlabel="inventory, shares",
        ylabel="whole points from the mid",
        ylim=(0.0, None),
    )


def _costs(axes: Axes, executed: list[dict[str, str]]) -> None:
    config = tg.preset("ac_null")
    costs = costs_of(config)
    aversions = [0.0, *torch.logspace(-7, -1, 60, dtype=torch.float64).tolist()]
    line = [cost_of(costs, schedule(costs, config.starting_shares, config.max_ticks, each)) for each in aversions]
    axes.plot([sd for _, sd in line], [cost for cost, _ in line], color=GREY, label="Almgren and Chriss")
    axes.plot(
        [float(row["sd"]) for row in executed], [float(row["cost"]) for row in executed], "o", color=BLUE, markersize=4
    )
    axes.lines[-1].set_label("measured")
    axes.set(title="selling 1,000 shares: measured", xlabel="sd of the cost, points × shares", ylabel="expected cost")


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a part's table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main(args: Args) -> None:
    torch.set_num_threads(1)
    for part in args.parts:
        {"making": making, "execution": execution, "reacting": reacting, "learning": learning}[part](args)
    paths = [args.results / f"closed_form_{part}.csv" for part in ("making", "learning", "execution")]
    if all(path.exists() for path in paths):
        write_figure(args.figure, panel(*map(read, paths)))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
