"""TorchRL's own FinancialRegimeEnv and PendulumEnv, one and 1,024 of them, stepped by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
import torchrl
from tensordict import TensorDictBase
from timing import measure, parser, report
from torchrl.envs import EnvBase, FinancialRegimeEnv, PendulumEnv

REGIME = (
    "one draw of a geometric random walk of constant drift and volatility, a window of 50 prices moved on, all or nothing bought"
    " or sold at the last price for a cost; no traders, no order book, no market impact"
)
PENDULUM = (
    "one integration step of a swinging pendulum and its cost: no market, the floor of TorchRL's own cost per step"
)
BATCH = 1_024


def walk(env: EnvBase, start: TensorDictBase, actions: torch.Tensor, restart: int | None = None) -> Callable[[], None]:
    """Steps with ready-made actions; after `restart` of them, where given, on from the start again."""
    action, count, now = itertools.cycle(actions), itertools.count(1), start.clone()

    def step() -> None:
        nonlocal now
        _, now = env.step_and_maybe_reset(now.set("action", next(action)))
        if restart is not None and next(count) % restart == 0:
            now = start.clone()

    return step


def regime(count: int) -> Callable[[], None]:
    """One market opens its own next episode at the end of each.

    A batch cannot: the environment's reset takes the window's length from a tensor, and fails where that has a batch. So a batch
    is stacked from single resets and goes back to them one step before its episodes end.
    """
    env = FinancialRegimeEnv(seed=0)
    if count == 1:
        return walk(env, env.reset(), torch.randint(0, 3, (1_000, 1)))
    start = torch.stack([env.reset() for _ in range(count)]).contiguous()
    return walk(env, start, torch.randint(0, 3, (64, count, 1)), restart=env.DEFAULT_MAX_STEPS - 1)


def pendulum(count: int) -> Callable[[], None]:
    """Episodes never end."""
    env = PendulumEnv(seed=0)
    batch = [] if count == 1 else [count]
    start = env.reset(env.gen_params(batch_size=batch), set_state=False)
    return walk(env, start, 4.0 * torch.rand(64, *batch, 1) - 2.0)


def main() -> None:
    options = parser(__doc__).parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    told = {"version": torchrl.__version__, "torch": torch.__version__}
    for count in (1, BATCH):
        case = "one market" if count == 1 else "batch, episodes restarted from stored first states"
        windows = measure(regime(count), options)
        report(windows, options, peer="FinancialRegimeEnv", case=case, markets=count, contains=REGIME, **told)
    for count in (1, BATCH):
        case = "one pendulum" if count == 1 else "batch"
        windows = measure(pendulum(count), options)
        report(windows, options, peer="PendulumEnv", case=case, markets=count, contains=PENDULUM, **told)


if __name__ == "__main__":
    main()
