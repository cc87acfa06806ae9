"""Train a PPO agent to trade in an agent-based market, then measure it against simple rules on episodes it has never seen.

    python examples/train_ppo.py                       # about seven minutes on one CPU core
    python examples/train_ppo.py --preset volatile --total-frames 1000000 --device cuda

A frame is one decision in one market. The agent sees public features and its own account; it buys, sells or holds. At the end
there is a table in the terminal, and in the output folder: `evaluation.csv`, `learning_curve.csv`, `train_ppo.png`, `agent.pt`.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.collectors import Collector
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import MLP, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

import torchgym as tg

Policy = Callable[[tg.StepResult], Tensor]
VALIDATION_SEED, TEST_SEED = 10_000_000, 20_000_000  # far from the training seeds, and from each other


@dataclass
class Args:
    preset: str = "default"
    """which market: a name of torchgym.PRESETS"""
    total_frames: int = 409_600
    """decisions over all markets"""
    num_envs: int = 128
    max_ticks: int = 1000
    """ticks of an episode"""
    ticks_per_action: int = 5
    rollout: int = 50
    """decisions per market between two updates"""
    epochs: int = 4
    minibatches: int = 4
    learning_rate: float = 7e-4
    gamma: float = 0.98
    gae_lambda: float = 0.9
    clip: float = 0.2
    entropy: float = 0.005
    reward_scale: float = 0.05
    """of the reward in currency"""
    validation_episodes: int = 32
    validations: int = 6
    """how often the agent is tried on the validation episodes while it learns"""
    test_episodes: int = 256
    seed: int = 0
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    compile: bool = False
    """run the market as one compiled graph: faster steps after a minute of compiling"""
    threads: int = 1
    """of torch; two are faster on an idle machine and far slower on a busy one"""
    output: Path = Path("runs/train_ppo")


def main(args: Args) -> dict[str, dict[str, float]]:
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    console = Console()
    args.output.mkdir(parents=True, exist_ok=True)
    timing = {"max_ticks": args.max_ticks, "ticks_per_action": args.ticks_per_action}
    config = tg.preset(args.preset, scaling="relative", **timing)
    actor, curve = train(args, config, console)

    console.print(f"Testing on {args.test_episodes} episodes that no policy has seen, the same for all ...")
    runs = {}
    for name, policy in {"agent": policy_of(actor), **baselines(args, config)}.items():
        runs[name] = play(args, config, policy)
        console.print(f"  {name}: {runs[name]['profit'].mean():+.1f} per episode", highlight=False)
    summary = {name: summarise(run, runs["agent"]) for name, run in runs.items()}
    console.print(table_of(summary))
    write_csv(args.output / "evaluation.csv", [{"policy": name, **row} for name, row in summary.items()])
    write_csv(args.output / "learning_curve.csv", curve)
    picture(args.output / "train_ppo.png", curve, runs["agent"])
    torch.save({"actor": actor.state_dict(), "config": config.to_dict(), "args": repr(args)}, args.output / "agent.pt")
    console.print(f"Written to {args.output}/: " + ", ".join(sorted(path.name for path in args.output.iterdir())))
    return summary


def train(args: Args, config: tg.MarketConfig, console: Console) -> tuple[nn.Module, list[dict[str, float]]]:
    env = tg.MarketEnv(config, args.num_envs, device=args.device, seed=args.seed, compile=args.compile)
    keys = ["observation", "account"]
    width = sum(env.observation_spec[key].shape[-1] for key in keys)
    choices = env.market.scheme.choices

    def network(outputs: int) -> MLP:
        return MLP(width, outputs, num_cells=[64, 64], activation_class=nn.Tanh, device=args.device)

    policy = network(choices)
    with torch.no_grad():  # begin near the uniform policy
        policy[-1].weight.mul_(0.01)
        policy[-1].bias.zero_()
    actor = ProbabilisticActor(
        TensorDictModule(policy, in_keys=keys, out_keys=["logits"]),
        in_keys=["logits"],
        spec=env.action_spec,
        distribution_class=torch.distributions.Categorical,
        distribution_kwargs={"validate_args": False},
        return_log_prob=True,
    )
    critic = ValueOperator(network(1), in_keys=keys)
    advantage = GAE(gamma=args.gamma, lmbda=args.gae_lambda, value_network=critic)
    loss_module = ClipPPOLoss(
        actor, critic, clip_epsilon=args.clip, entropy_coeff=args.entropy, critic_coeff=0.5, normalize_advantage=True
    )
    optimizer = torch.optim.Adam(loss_module.parameters(), lr=args.learning_rate, eps=1e-5)
    batch = args.num_envs * args.rollout
    updates = max(args.total_frames // batch, 1)
    collector = Collector(
        env,
        actor,
        frames_per_batch=batch,
        total_frames=updates * batch,
        track_traj_ids=False,
        auto_register_policy_transforms=False,
    )
    curve: list[dict[str, float]] = []
    started = time.perf_counter()
    console.print(
        f"Training on {args.num_envs} {args.preset} markets, {config.max_ticks} ticks an episode,"
        f" {config.ticks_per_action} per decision, {updates * batch:,} decisions, {args.device}."
    )
    for update, data in enumerate(collector, start=1):
        optimizer.param_groups[0]["lr"] = args.learning_rate * (1.0 - (update - 1) / updates)
        profit = data["next", "reward"].sum(1).mean().item() * config.max_ticks / config.ticks_per_action / args.rollout
        data["next", "reward"] *= args.reward_scale
        for _ in range(args.epochs):
            with torch.no_grad():
                advantage(data)
            flat = data.reshape(-1)
            for rows in torch.randperm(batch, device=flat.device).split(max(batch // args.minibatches, 1)):
                losses = loss_module(flat[rows])
                loss = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(loss_module.parameters(), 0.5)
                optimizer.step()
        row = {"frames": update * batch, "seconds": time.perf_counter() - started, "training_profit": profit}
        if update % max(updates // args.validations, 1) == 0 or update == updates:
            run = play(args, config, policy_of(actor), episodes=args.validation_episodes, seed=VALIDATION_SEED)
            row["validation_profit"] = run["profit"].mean().item()
        curve.append(row)
        held_out = f" | held-out return {row['validation_profit']:+8.1f}" if "validation_profit" in row else ""
        rate = row["frames"] / row["seconds"]
        console.print(
            f"update {update:3d}/{updates} | {row['frames']:9,d} frames | {rate:6,.0f} frames/s"
            f" | training return {profit:+8.1f}{held_out}",
            highlight=False,
            soft_wrap=True,
        )
    collector.shutdown()
    return actor, curve


def policy_of(actor: nn.Module) -> Policy:
    """The trained agent, choosing its most likely action."""

    def act(seen: tg.StepResult) -> Tensor:
        data = TensorDict(
            {"observation": seen.observation.float(), "account": seen.account.float()}, [len(seen.observation)]
        )
        with torch.no_grad(), set_exploration_type(ExplorationType.DETERMINISTIC):
            return actor(data)["action"]

    return act


def baselines(args: Args, config: tg.MarketConfig) -> dict[str, Policy]:
    """Rules to beat: 0 sells, 1 holds, 2 buys."""
    names = tg.Market(config, 1, seed=0).feature_names
    trend, deviation = names.index("f_log_return_24"), names.index("f_fair_value_dev")
    generator = torch.Generator(device=args.device).manual_seed(args.seed + 1)

    def toward(target: Tensor, seen: tg.StepResult) -> Tensor:
        gap = target - seen.info["position"][:, 0]
        return 1 + (gap >= config.order_size).long() - (gap <= -config.order_size).long()

    def momentum(seen: tg.StepResult) -> Tensor:
        return toward(config.position_limit * torch.sign(seen.observation[:, trend]), seen)

    def follow(seen: tg.StepResult) -> Tensor:
        gap = seen.observation[:, deviation]  # in units of one percent; trade beyond 0.6 %
        return 1 + (gap < -0.6).long() - (gap > 0.6).long()

    def constant(choice: int) -> Policy:
        return lambda seen: torch.full_like(seen.info["tick"], choice)

    def random(seen: tg.StepResult) -> Tensor:
        return torch.randint(0, 3, seen.info["tick"].shape, generator=generator, device=args.device)

    return {
        "hold": constant(1),
        "random": random,
        "always buy": constant(2),
        "momentum": momentum,
        "value follower": follow,
    }


def play(
    args: Args, config: tg.MarketConfig, policy: Policy, *, episodes: int | None = None, seed: int = TEST_SEED
) -> dict[str, Tensor]:
    """An episode in each market from `seed` on: profit, drawdown, turnover [N]; equity [N, T + 1]; the first market's path."""
    market = tg.Market(config, episodes or args.test_episodes, seed=seed, device=args.device, compile=args.compile)
    seen = market.reset()
    equity, turnover = [seen.info["equity"]], torch.zeros_like(seen.reward)
    path: dict[str, list[float]] = {"price": [], "value": [], "position": []}
    point, listed = 0.5 * config.point_size, config.point_size * config.list_price
    for _ in range(config.max_ticks // config.ticks_per_action):
        seen = market.step(policy(seen))
        equity.append(seen.info["equity"])
        turnover = turnover + seen.info["turnover"]
        path["price"].append(market.state.tape.half_mids[0, 0, -1].item() * point)
        path["value"].append(listed * math.exp(market.state.value.level[0, 0].item()))
        path["position"].append(seen.info["position"][0, 0].item())
    line = torch.stack(equity, dim=1).cpu()
    return {
        "profit": line[:, -1] - line[:, 0],
        "drawdown": (line.cummax(1).values - line).amax(1),
        "turnover": turnover.cpu(),
        "equity": line,
        **{name: torch.tensor(values) for name, values in path.items()},
    }


def summarise(run: dict[str, Tensor], agent: dict[str, Tensor]) -> dict[str, float]:
    """Over episodes, in currency; Sharpe is mean over standard deviation of an episode's profit.

    `p_value` is the chance of the agent's lead over this policy if there were none: one-sided, paired by episode, normal.
    """
    profit = run["profit"]
    error = profit.std().item() / math.sqrt(len(profit))
    lead = agent["profit"] - profit
    spread = lead.std().item() / math.sqrt(len(lead))
    return {
        "profit": profit.mean().item(),
        "standard_error": error,
        "sharpe": profit.mean().item() / (profit.std().item() or math.nan),
        "drawdown": run["drawdown"].mean().item(),
        "turnover": run["turnover"].mean().item(),
        "agent_lead": lead.mean().item(),
        "p_value": 0.5 * math.erfc(lead.mean().item() / spread / math.sqrt(2.0)) if spread else math.nan,
    }


def table_of(summary: dict[str, dict[str, float]]) -> Table:
    table = Table(
        title="Held-out episodes, currency per episode", box=box.SIMPLE, pad_edge=False, collapse_padding=True
    )
    table.caption = "lead: of the agent over that policy, paired by episode"
    for column in ("policy", "profit ± s.e.", "Sharpe", "drawdown", "turnover", "lead", "p"):
        table.add_column(column, justify="left" if column == "policy" else "right", no_wrap=True)
    for name, row in summary.items():
        lead = ("", "") if name == "agent" else (f"{row['agent_lead']:+.1f}", f"{row['p_value']:.0e}")
        table.add_row(
            name,
            f"{row['profit']:+.1f} ± {row['standard_error']:.1f}",
            "" if math.isnan(row["sharpe"]) else f"{row['sharpe']:+.2f}",
            f"{row['drawdown']:.0f}",
            f"{row['turnover']:,.0f}",
            *lead,
        )
    return table


def write_csv(path: Path, rows: list[dict[str, float]]) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def picture(path: Path, curve: list[dict[str, float]], run: dict[str, Tensor]) -> None:
    figure, axes = plt.subplots(2, 2, figsize=(12, 7), layout="constrained")
    frames = [row["frames"] for row in curve]
    axes[0, 0].plot(frames, [row["training_profit"] for row in curve], color="0.6", label="training, exploring")
    tried = [row for row in curve if "validation_profit" in row]
    held_out = [row["validation_profit"] for row in tried]
    axes[0, 0].plot([row["frames"] for row in tried], held_out, "o-", color="tab:blue", label="held-out episodes")
    axes[0, 0].axhline(0.0, color="black", linewidth=0.8)
    axes[0, 0].set(title="Learning curve", xlabel="decisions", ylabel="profit per episode (currency)")
    axes[0, 0].legend()
    axes[0, 1].plot(run["price"], color="tab:blue", label="price")
    axes[0, 1].plot(run["value"], color="tab:orange", label="value (hidden)")
    axes[0, 1].set(title="One test episode", ylabel="currency")
    axes[0, 1].legend()
    axes[1, 0].step(range(len(run["position"])), run["position"], color="tab:green")
    axes[1, 0].set(title="The agent's position in it", xlabel="decision", ylabel="shares")
    axes[1, 1].plot(run["equity"][0] - run["equity"][0, 0], color="tab:purple")
    axes[1, 1].set(title="Its profit in it", xlabel="decision", ylabel="currency")
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main(tyro.cli(Args))
