"""Who earns and who pays: the wealth of each trader family, quarter by quarter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torchgym.engine import Market
from torchgym.lab.realism.paths import Paths

QUARTERS = 4
SPREAD_HORIZON = 30  # ticks, half an hour
_NOT_TRADERS = ("learner", "fees", "borrow")


@dataclass(frozen=True)
class Economy:
    """A run in four quarters, N markets; wealth is cash plus shares at the mid, all symbols together, in currency."""

    wealth: dict[str, Tensor]  # [N, 5] of each trader family: at the start and at the end of each quarter
    traders: dict[str, int]  # how many traders a family has in a market
    traded: Tensor  # [N, 4] currency that changed hands in each quarter
    volatility: Tensor  # [N, 4] standard deviation of one-tick returns
    volume: Tensor  # [N, 4] shares per tick
    spread: Tensor  # [N, 4] mean, points
    realised_spread: Tensor | None = None  # [N] points per share that makers trade

    @classmethod
    def of(cls, snapshots: Sequence[Mapping[str, Tensor]], traders: Mapping[str, int], paths: Paths) -> Economy:
        """Put together what was measured.

        Args:
            snapshots: `wealth` at the start and at the end of each of the four quarters.
            traders: how many traders each family has in a market.
            paths: of the four quarters; a ValueError without volume, spread and mid.
        """
        if len(snapshots) != QUARTERS + 1:
            raise ValueError(f"expected {QUARTERS + 1} snapshots of wealth, got {len(snapshots)}")
        if paths.volume is None or paths.spread is None or paths.mid is None:
            raise ValueError("an economy needs paths with volume, spread and mid")

        def quarters(series: Tensor) -> Tensor:
            """[R, T] -> [N, 4, S * T / 4]."""
            length = series.shape[1] // QUARTERS
            cut = series[:, : QUARTERS * length].reshape(-1, paths.symbols, QUARTERS, length)
            return cut.transpose(1, 2).flatten(2)

        return cls(
            wealth={name: torch.stack([owned[name] for owned in snapshots], dim=-1) for name in snapshots[0]},
            traders=dict(traders),
            traded=quarters(paths.volume * paths.mid).sum(-1),
            volatility=quarters(paths.returns).std(-1),
            volume=quarters(paths.volume).mean(-1) * paths.symbols,
            spread=quarters(paths.spread).mean(-1),
            realised_spread=realised_spread(paths),
        )


def realised_spread(paths: Paths, horizon: int = SPREAD_HORIZON) -> Tensor | None:
    """What makers keep of the spread, [N] points per share they trade, all symbols together; None where they were not recorded.

    Each trade is valued at the mid `horizon` ticks later, when the price has come to what the other side knew. The rest of their
    profit comes from the price moves of the inventories that they carry on.

    Source: Huang and Stoll (1996), Dealer versus auction markets.
    """
    flow, edge, change = paths.maker_flow, paths.maker_edge, paths.change
    if flow is None or edge is None or change is None or paths.ticks <= horizon:
        return None
    level = change.cumsum(-1)
    later = level[:, horizon:] - level[:, :-horizon]
    kept = edge[:, :-horizon] + flow[:, :-horizon] * later

    def of_market(series: Tensor) -> Tensor:
        return series.sum(-1).reshape(-1, paths.symbols).sum(-1)

    return of_market(kept) / of_market(flow[:, :-horizon].abs())


def wealth(market: Market) -> dict[str, Tensor]:
    """What each trader family owns now, [N] currency, valued at the mid."""
    point = market.config.point_size
    mid = 0.5 * market.live.market_data.mids_x2[..., -1].to(torch.float64)
    return {
        name: point * (owned["cash"].to(torch.float64) + (owned["shares"] * mid).sum(-1))
        for name, owned in market.holdings().items()
        if name not in _NOT_TRADERS
    }


def sound_economy(run: Economy) -> dict[str, Tensor]:
    """Profits in basis points of everything traded, and the last quarter over the first; [N] each.

    What all families win and lose adds up to nothing, so a family with a steady loss pays for the others' service. "Without
    bound" would be a transfer that is large against what is traded, or one that grows: `largest_transfer` is the largest gain
    or loss of a family over the run, `largest_change` the largest difference between its rates in the last and first quarter.
    """
    profit = torch.stack([owned.diff(dim=-1) for owned in run.wealth.values()], dim=1)  # [N, families, 4]
    total = 1e4 * profit.sum(-1) / run.traded.sum(-1, keepdim=True)
    rate = 1e4 * profit / run.traded[:, None]
    of_family = dict(zip(run.wealth, total.unbind(1), strict=True))
    values = {
        "largest_transfer": total.abs().amax(-1),
        "largest_change": (rate[..., -1] - rate[..., 0]).abs().amax(-1),
    }
    for name in ("volatility", "volume", "spread"):
        series = getattr(run, name)
        values[f"{name}_last_over_first"] = series[:, -1] / series[:, 0]
    if "maker" in of_family:
        values["maker_profit"] = of_family["maker"]
    if run.realised_spread is not None:
        values["realised_spread"] = run.realised_spread
    if "value" in of_family and "noise" in of_family:
        value, noise = (of_family[name] / run.traders[name] for name in ("value", "noise"))
        values["informed_less_noise"] = value - noise
    return values
