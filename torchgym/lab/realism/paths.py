"""Recorded paths as the facts read them: one row per symbol of a market, time last, the burn-in cut off."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.lab.realism import statistics

if TYPE_CHECKING:
    from tensordict import TensorDict

BURN_IN = 1_000  # ticks that are not measured
MEMORY = 200  # lags


def whole_days(ticks: int, day: int, since_opening: int) -> int:
    """How many days of so many ticks fit into a path that begins `since_opening` ticks after an opening; 0 or more."""
    return max(ticks - -since_opening % day, 0) // day


def check_days(config: MarketConfig, ticks: int, burn_in: int, fewest: int, remedy: str = "give ticks >= {}") -> None:
    """Whether so many ticks leave enough of them to measure, where only whole days less their last tick are.

    Args:
        remedy: what to do about too few; in place of {} comes how many it takes.

    Raises:
        ValueError: too few, with the remedy; or days of different lengths.
    """
    day = config.common_day()
    if day is None or whole_days(ticks, day, burn_in) * (day - 1) >= fewest:
        return
    enough = -burn_in % day + -(-fewest // (day - 1)) * day
    wanted = remedy.format(enough + -enough % 4)
    raise ValueError(f"of {ticks} ticks too few fall into whole days of {day}: {wanted}")


@dataclass(frozen=True)
class Hours:
    """The pattern of trading days of D ticks, by row; the night's move is the last tick's."""

    volume: Tensor  # [R, D] mean shares traded
    size: Tensor  # [R, D] mean absolute return
    night: Tensor  # [R] share of a day's variance that falls into the last tick

    @property
    def midday(self) -> slice:
        """The middle third of the day."""
        third = self.volume.shape[-1] // 3
        return slice(third, 2 * third)


@dataclass(frozen=True)
class Paths:
    """What happened in each tick, R = markets x symbols rows of T ticks, float64. A tick stands for about a minute.

    Only returns are always there. Everything but the last two says what happened in a tick, so that blocks of time may be put
    together in another order; the last two are levels, for pictures.

    Row m * symbols + s is symbol s of market m.
    """

    returns: Tensor  # [R, T] log returns of the mid
    symbols: int = 1
    change: Tensor | None = None  # [R, T] change of the mid, points
    spread: Tensor | None = None  # [R, T] best ask less best bid at the end of the tick, points
    volume: Tensor | None = None  # [R, T] shares traded
    buys: Tensor | None = None  # [R, T] shares bought by orders that came to trade at once
    sells: Tensor | None = None  # [R, T] shares sold by them
    fills: Tensor | None = None  # [R, T] orders that traded
    maker_flow: Tensor | None = None  # [R, T] shares that the makers together bought, sales negative
    maker_edge: Tensor | None = None  # [R, T] what they paid less than the mid after the tick, points x shares
    gap: Tensor | None = None  # [R, T] log price less log value
    news: Tensor | None = None  # [R, T] log effect of this tick's headline, zero without one
    mid: Tensor | None = None  # [R, T] currency
    value: Tensor | None = None  # [R, T] currency
    hours: Hours | None = None  # what `without_hours` took out

    def __post_init__(self) -> None:
        for name, tensor in self._tensors().items():
            if tensor.shape != self.returns.shape or tensor.dim() != 2:
                raise ValueError(
                    f"{name} must have the shape [rows, ticks] of the returns, got {tuple(tensor.shape)}"
                    f" beside {tuple(self.returns.shape)}"
                )
        if self.symbols < 1 or self.returns.shape[0] % self.symbols:
            raise ValueError(f"{self.returns.shape[0]} rows do not divide into markets of {self.symbols} symbols")

    @property
    def rows(self) -> int:
        """Symbols of all markets together."""
        return self.returns.shape[0]

    @property
    def ticks(self) -> int:
        """Ticks per row."""
        return self.returns.shape[1]

    def arrays(self) -> dict[str, Tensor]:
        """The tensors whose time may be cut in blocks, by name."""
        return {name: tensor for name, tensor in self._tensors().items() if name not in ("mid", "value")}

    def _tensors(self) -> dict[str, Tensor]:
        held = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        return {name: tensor for name, tensor in held.items() if isinstance(tensor, Tensor)}

    @cached_property
    def size_memory(self) -> Tensor:
        """Autocorrelation of absolute returns up to `MEMORY` lags, [R, K], entry k at lag k; fewer lags on shorter paths."""
        return statistics.autocorrelation(self.returns.abs(), min(MEMORY, self.ticks - 1))

    @classmethod
    def from_prices(cls, log_prices: Tensor) -> Paths:
        """Paths of which only prices are known: real data, or a model.

        Args:
            log_prices: [R, T + 1], natural logarithms, equally spaced in time; a ValueError where they are not finite.
        """
        if log_prices.dim() != 2 or log_prices.shape[1] < 2:
            raise ValueError(f"log_prices must have the shape [rows, ticks], got {tuple(log_prices.shape)}")
        if not bool(log_prices.isfinite().all()):
            raise ValueError("log_prices must be finite: fill or cut the gaps first")
        return cls(returns=log_prices.to(torch.float64).diff(dim=-1))

    @classmethod
    def from_recording(cls, recording: TensorDict, *, burn_in: int = BURN_IN, point_size: float = 0.01) -> Paths:
        """Paths of what `Market.run` recorded.

        Args:
            recording: [N, burn_in + T].
            burn_in: ticks left out, at least 1 (the first return needs a price before it); a ValueError when nothing is left.
            point_size: currency per point, as in the market's configuration.
        """
        if not 1 <= burn_in < recording.batch_size[1] - 1:
            raise ValueError(
                f"burn_in must be at least 1 and leave two ticks of the {recording.batch_size[1]} recorded, got {burn_in}"
            )

        def rows(name: str, start: int = burn_in) -> Tensor:
            """[N, T, S] -> [N * S, T]."""
            return recording[name][:, start:].transpose(1, 2).flatten(0, 1).to(torch.float64)

        mid, value = rows("mid", burn_in - 1), rows("value")
        known = set(recording.keys())
        flow, edge = None, None
        if {"maker_shares", "maker_cash"} <= known:
            flow = rows("maker_shares", burn_in - 1).diff(dim=-1)
            edge = (flow * mid[:, 1:] + rows("maker_cash", burn_in - 1).diff(dim=-1)) / point_size
        return cls(
            returns=mid.log().diff(dim=-1),
            symbols=recording["mid"].shape[-1],
            # whole numbers of half points and of points, which dividing currency by the point's size misses by a rounding
            change=(mid.diff(dim=-1) * (2.0 / point_size)).round() / 2.0,
            spread=((rows("ask") - rows("bid")) / point_size).round(),
            volume=rows("volume"),
            buys=rows("buys"),
            sells=rows("sells"),
            fills=rows("fills") if "fills" in known else None,
            maker_flow=flow,
            maker_edge=edge,
            gap=mid[:, 1:].log() - value.log(),
            news=rows("news"),
            mid=mid[:, 1:],
            value=value,
        )

    def without_hours(self, day: int, since_opening: int) -> Paths:
        """The whole days of these paths without the pattern of the day, which is kept as `hours`.

        Returns and changes are divided by the mean absolute return at their tick of the day, that of all rows together; volume,
        flow and fills by the mean volume. The last tick of a day, at whose end the night lies, is left out, as a gap between bars
        of real prices is (`bar_path`).

        Args:
            day: D, ticks of a day.
            since_opening: ticks of its day that went before the first tick of the paths.

        Raises:
            ValueError: for paths without volume, or with less than a whole day.

        Source: Andersen and Bollerslev 1997, Intraday periodicity and volatility persistence in financial markets.
        """
        first = -since_opening % day
        days = whole_days(self.ticks, day, since_opening)
        if days < 1:
            raise ValueError(f"{self.ticks} ticks hold no whole day of {day}: record {first + day} or more")
        if self.volume is None:
            raise ValueError("hours are measured on paths with volume")

        def by_day(series: Tensor) -> Tensor:
            """[R, T] to [R, days, D]."""
            return series[:, first : first + days * day].unflatten(1, (days, day))

        def scale(series: Tensor) -> Tensor:
            """[D], 1 on average; 1 where nothing ever is."""
            means = by_day(series).mean((0, 1))
            return torch.where(means > 0.0, means / means[:-1].mean(), 1.0)

        cut = {name: by_day(series) for name, series in self._tensors().items()}
        size, volume = scale(self.returns.abs()), scale(self.volume)
        scales = {
            **dict.fromkeys(("returns", "change"), size),
            **dict.fromkeys(("volume", "buys", "sells", "fills"), volume),
        }
        variance = cut["returns"].square().sum(1)  # [R, D]
        hours = Hours(
            volume=cut["volume"].mean(1),
            size=cut["returns"].abs().mean(1),
            night=variance[:, -1] / variance.sum(-1),
        )
        even = {name: (days_of / scales.get(name, 1.0))[..., :-1].flatten(1) for name, days_of in cut.items()}
        return dataclasses.replace(self, hours=hours, **even)  # type: ignore[arg-type]
