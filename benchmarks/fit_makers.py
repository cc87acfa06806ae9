"""Fits what makers expect of the order flow, so that returns have no memory although the flow has.

    python benchmarks/fit_makers.py                    # the default market; two minutes on two CPU cores
    python benchmarks/fit_makers.py --preset crash

Makers follow the part of a surprise that the recent ones did not announce: `surprise - sum of w_k f_k`, with f_k exponential
means of past surprises (`torchgym.sim.traders.maker`). Which weights w_k leave returns white depends on everything that the
market is made of. In each round the market runs with the weights of the last, and the next tick's move of the mid, y, is
compared with what was known: the means f_k, and means of past moves with the same half-lives, g_k. A change d of the weights
moves y by -gain * sum of d_k f_k, so

    E[z y] = gain * E[z f'] d,        z = (2 g_1 ... 2 g_K, f_1 ... f_K), each in its standard deviations

are the equations for d; they are more than there are unknowns, and are solved by least squares with a ridge. Each row is divided
by the standard deviation of its moves. The half of d is taken, and the weights are the mean over the second half of the rounds.
Seeds are those of calibration, below a million; `torchgym realism` judges on others.

Source: returns without memory as a fit of the impact's decay to the flow, Bouchaud, Gefen, Potters and Wyart (2004); moments of
instruments, Hansen (1982), Large sample properties of generalized method of moments estimators.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rows import add, tell
from torch import Tensor

import torchgym as tg
from torchgym.engine import Market
from torchgym.lab.realism import statistics
from torchgym.lab.realism.impact import impact_config
from torchgym.sim import actions

RESULTS = Path(__file__).parent / "results" / "fit_makers.csv"
WEIGHTS = "population.maker.expectation_weights"
SEED = 500_000  # of the first market of the first round
BURN_IN = 1_000  # ticks
SPANS = (2, 16, 64, 390)  # ticks, of the variance ratios that are told
RIDGE = 0.1  # of the largest singular value
STEP = 0.5
OF_MOVES = 2.0  # how much more past moves count than past surprises


@dataclass
class Args:
    preset: str = "default"
    markets: int = 64
    ticks: int = 16_384
    """of a round, after 1,000 that are not measured"""
    rounds: int = 4
    compile: bool = True
    results: Path = RESULTS


def main(args: Args) -> None:
    """Rounds of fitting; a row for each, and one for the weights to keep."""
    config = tg.preset(args.preset)
    weights = torch.tensor(config.population.maker.expectation_weights, dtype=torch.float64)
    half_lives = config.population.maker.expectation_half_lives
    tried: list[Tensor] = []
    for turn in range(args.rounds):
        mids, means = record(args, config, weights, SEED + args.markets * turn)
        change = correction(mids, means, half_lives) / config.population.maker.surprise_gain
        tell(f"round {turn + 1} of {args.rounds}: " + _row(args, str(turn + 1), weights, mids))
        weights = weights + STEP * change
        tried.append(weights)
    weights = torch.stack(tried[len(tried) // 2 :]).mean(0)
    mids, _ = record(args, config, weights, SEED + args.markets * args.rounds)
    tell("to keep: " + _row(args, "kept", weights, mids))
    print(f"expectation_weights=({', '.join(f'{weight:.3f}' for weight in weights.tolist())})")


def record(args: Args, config: tg.MarketConfig, weights: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Mid [N, T + 1] and means of past surprises [N, T + 1, K], points, float64, at the end of each tick."""
    given = {f"{WEIGHTS}.{place}": weight for place, weight in enumerate(weights.tolist())}
    market = Market(impact_config(config), args.markets, seed=seed, params=given, compile=args.compile)
    market.reset()
    hold = actions.hold(market.config, args.markets, market.device)
    mids, means = [], []
    for at in range(BURN_IN + args.ticks):
        market.step(hold)
        if at >= BURN_IN - 1:
            mids.append(0.5 * market.live.market_data.mids_x2[:, 0, -1].to(torch.float64))
            means.append(market.live.traders["maker"].expected[:, 0].clone())
    return torch.stack(mids, dim=1), torch.stack(means, dim=1)


def correction(mids: Tensor, means: Tensor, half_lives: tuple[float, ...]) -> Tensor:
    """How the weights times the gain must change, [K] float64."""
    moves = mids.diff(dim=-1)
    scale = moves.std(-1)[:, None]
    moves = moves / scale
    past = torch.stack([_mean_before(moves, half_life) for half_life in half_lives], dim=-1)
    known = means[:, :-1] / scale[..., None]
    settled = moves.shape[1] // 8  # means of past moves begin at zero
    moves, past, known = (part[:, settled:].flatten(0, 1) for part in (moves, past, known))
    unit = known.std(0)
    known = known / unit
    both = torch.cat([OF_MOVES * past / past.std(0), known], dim=-1)
    left = both.T @ known / len(moves)
    right = both.T @ moves / len(moves)
    ridge = RIDGE * torch.linalg.matrix_norm(left, 2) * torch.eye(len(unit), dtype=left.dtype)
    system, target = torch.cat([left, ridge]), torch.cat([right, torch.zeros_like(unit)])
    return torch.linalg.lstsq(system, target).solution / unit


def _mean_before(series: Tensor, half_life: float) -> Tensor:
    """Exponential mean of what lies before each entry, [N, T]."""
    newest = 1.0 - 2.0 ** (-1.0 / half_life)
    mean, means = torch.zeros_like(series[:, 0]), []
    for value in series.unbind(-1):
        means.append(mean)
        mean = mean + newest * (value - mean)
    return torch.stack(means, dim=-1)


def _row(args: Args, name: str, weights: Tensor, mids: Tensor) -> str:
    """Write what a round showed, medians over markets; the same in words."""
    returns = mids.log().diff(dim=-1)
    shown = {"first_lag": statistics.autocorrelation(returns, 1)[:, 1].median().item()}
    shown |= {f"variance_ratio_{span}": statistics.variance_ratio(returns, span).median().item() for span in SPANS}
    row = {
        "command": "python benchmarks/fit_makers.py " + shlex.join(sys.argv[1:]),
        **{key: getattr(args, key) for key in ("preset", "markets", "ticks")},
        "round": name,
        **{f"weight_{place + 1}": weight for place, weight in enumerate(weights.tolist())},
        **shown,
    }
    add(args.results, list(row), row)
    return ", ".join(f"{key} {value:.3f}" for key, value in row.items() if isinstance(value, float))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
