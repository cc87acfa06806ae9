"""Price impact of sliced orders, measured by paired runs: the same market on the same noise, with and without the order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.config.validation import check_one_learner
from torchgym.engine import Market
from torchgym.lab.realism import statistics
from torchgym.progress import Count, silent
from torchgym.sim import actions

SIZES = (1, 2, 4, 8, 16, 32)  # shares per tick
DURATION = 60  # ticks, an hour
HOLD = 4  # durations that a path is followed after the order's end
RATE = 8  # shares per tick of the orders of various durations
DURATIONS = (15, 30, 60, 120, 240)  # ticks
SMALLEST_FOLLOWED = 4  # shares per tick; what smaller orders leave behind drowns in noise


@dataclass(frozen=True)
class Impact:
    """Impact of orders that buy (or sell, mirrored) at a steady rate; log price, positive in the order's direction.

    K sizes, G groups of markets, L durations, P ticks from the order's start to the end of the watch.
    """

    duration: int  # ticks of the orders of various sizes
    sizes: tuple[int, ...]  # [K] shares per tick
    durations: tuple[int, ...]  # [L] ticks
    rate: int  # shares per tick of the orders of various durations
    participation: Tensor  # [K] shares filled over the volume of the same ticks without the order
    peak: Tensor  # [G, K] at the order's end
    path: Tensor  # [K, P] mean over markets, tick by tick
    peak_by_duration: Tensor  # [G, L] at the end of each duration
    retained: Tensor  # [G] share of the peak left one duration after the end, sizes from 4 shares per tick on pooled
    lopsidedness: Tensor  # [G] (buy - sell) / (buy + sell) of the peaks against the run without order

    @property
    def size_exponent(self) -> Tensor:
        """δ of peak ~ participation^δ at one duration, [G]; NaN where a mean impact is not positive."""
        return statistics.log_log_slope(self.participation, self.peak)

    @property
    def duration_exponent(self) -> Tensor:
        """δ of peak ~ duration^δ at one rate, [G]."""
        ticks = torch.tensor(self.durations, dtype=torch.float64, device=self.peak_by_duration.device)
        return statistics.log_log_slope(ticks, self.peak_by_duration)


def impact_config(config: MarketConfig) -> MarketConfig:
    """The same market with a learner who can send any of `SIZES`: nothing that the background traders do depends on it."""
    most = max(max(SIZES) * DURATION, RATE * max(DURATIONS))
    return config.fixed(action="percent", order_size=100, position_limit=2 * most, ticks_per_action=1)


def measure_impact(
    market: Market,
    *,
    sizes: Sequence[int] = SIZES,
    duration: int = DURATION,
    hold: int = HOLD,
    rate: int = RATE,
    durations: Sequence[int] = DURATIONS,
    repeats: int = 4,
    groups: int = 8,
    progress: Count = silent,
) -> Impact:
    """Impact of orders in the first symbol, from several moments of a running market.

    At each moment one fork per size and side sends q shares a tick for `duration` ticks and then watches for `hold` durations.
    All forks share every random number, so what they differ by is the order's doing; half the difference between the buying and
    the selling fork leaves only what has the order's sign. One pair at a steady rate gives all durations on its way. The market
    without an order runs on, gives the usual volume, and is the next moment's start.

    Exponents are fitted in `groups` groups of neighbouring markets, so that they have a spread.

    Args:
        market: of `impact_config`, warmed up, its learner without a position; it is forked, not moved. A ValueError where its
            learner cannot send these orders.
        sizes: shares per tick, ascending.
        durations: ticks, ascending.
        rate: shares per tick of the orders of these durations.
        repeats: moments, one watch apart.
        progress: called with the ticks done and the ticks in all, before the first one too.

    Source: Almgren et al. (2005); Tóth et al. (2011); paths and relaxation, Farmer et al. (2013).
    """
    _check(market.config, max(sizes), max(max(sizes) * duration, rate * max(durations)))
    watch = duration * (1 + hold)
    base, all_ticks = market.fork(), repeats * ((2 * len(sizes) + 1) * watch + 2 * max(durations))
    ticks = 0

    def count(more: int) -> None:
        nonlocal ticks
        ticks += more
        progress(ticks, all_ticks)

    count(0)
    totals: dict[str, Tensor] = {}
    for _ in range(repeats):
        for name, value in _one_moment(base, sizes, duration, watch, rate, durations, count).items():
            totals[name] = totals.get(name, torch.zeros_like(value)) + value / repeats
    both = totals["buy"] - totals["sell"]  # [N, K, P]
    off = totals["buy"] + totals["sell"] - 2.0 * totals["hold"][:, None]
    followed = [index for index, size in enumerate(sizes) if size >= SMALLEST_FOLLOWED] or [len(sizes) - 1]

    def moved(paths: Tensor, after: int) -> Tensor:
        """Half of what the paths show after so many ticks, [G, K]."""
        return _by_group(0.5 * paths[..., after - 1], groups)

    def of_peak(part: Tensor) -> Tensor:
        return part[:, followed].sum(-1) / peak[:, followed].sum(-1)

    peak = moved(both, duration)
    return Impact(
        duration=duration,
        sizes=tuple(sizes),
        durations=tuple(durations),
        rate=rate,
        participation=(totals["filled"] / totals["usual"].mean()).mean(0),
        peak=peak,
        path=0.5 * both.mean(0),
        peak_by_duration=_by_group(totals["steady"], groups),
        retained=of_peak(moved(both, min(2 * duration, watch))),
        lopsidedness=of_peak(moved(off, duration)),
    )


def _one_moment(
    base: Market,
    sizes: Sequence[int],
    duration: int,
    watch: int,
    rate: int,
    durations: Sequence[int],
    count: Callable[[int], None],
) -> dict[str, Tensor]:
    """Moves of log mid since the moment: buy and sell [N, K, P], hold [N, P], steady [N, L]; filled [N, K], usual [N] shares."""
    start = base.state.market_data.log_mid[:, :1].clone()
    sides: dict[str, list[Tensor]] = {"buy": [], "sell": []}
    filled = []
    for size in sizes:
        fills = torch.zeros_like(start[:, 0])
        for name, sign in (("buy", 1), ("sell", -1)):
            path, shares, _ = _send(base.fork(), sign * size, duration, watch)
            sides[name].append(path - start)
            fills = fills + 0.5 * shares
            count(watch)
        filled.append(fills)
    longest = max(durations)
    up, down = (_send(base.fork(), sign * rate, longest, longest)[0] for sign in (1, -1))
    count(2 * longest)
    held, _, usual = _send(base, 0, duration, watch)
    count(watch)
    ends = torch.tensor(durations, device=start.device) - 1
    return {
        **{name: torch.stack(paths, dim=1) for name, paths in sides.items()},
        "hold": held - start,
        "steady": 0.5 * (up - down)[:, ends],
        "filled": torch.stack(filled, dim=-1),
        "usual": usual,
    }


def _send(market: Market, shares: int, duration: int, watch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Trade for `duration` ticks in the first symbol, then watch: log mid [N, watch]; own and all shares [N] of the duration."""
    hold = actions.hold(market.config, market.num_envs, market.device)
    action = hold.clone()
    action[:, 0] += shares
    path, filled, volume = [], [], []
    for at in range(watch):
        result = market.step(action if at < duration else hold)
        path.append(market.live.market_data.log_mid[:, 0].clone())
        if at < duration:
            filled.append(result.info["filled"][:, 0].abs())
            volume.append(market.live.market_data.volumes[:, 0, -1].clone())
    return torch.stack(path, dim=-1), _total(filled), _total(volume)


def _total(per_tick: list[Tensor]) -> Tensor:
    return torch.stack(per_tick).sum(0).to(torch.float64)


def _by_group(values: Tensor, groups: int) -> Tensor:
    """Means over groups of neighbouring markets, [N, ...] -> [G, ...]."""
    parts: Any = values.tensor_split(min(groups, values.shape[0]))
    return torch.stack([part.mean(0) for part in parts])


def _check(config: MarketConfig, size: int, total: int) -> None:
    check_one_learner("measure_impact", config)
    fits = config.action == "percent" and config.order_size == 100 and size <= 100
    if not fits or config.position_limit < total or config.ticks_per_action != 1:
        raise ValueError(
            f"the learner of this market cannot send {size} shares a tick up to {total} shares: "
            "open the market with impact_config(config)"
        )
