"""Recorded paths: what is written down after each decision, and the memory that it goes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.sim.state import MarketState, layout


def _currency(config: MarketConfig, points: Tensor) -> Tensor:
    return points.to(torch.float64) * config.point_size


def _half_currency(config: MarketConfig, half_points: Tensor) -> Tensor:
    return half_points.to(torch.float64) * (0.5 * config.point_size)


def _listed(config: MarketConfig, log_price: Tensor) -> Tensor:
    return config.list_price * config.point_size * torch.exp(log_price)


def _of_makers(config: MarketConfig, owned: Tensor) -> Tensor:
    """What all makers own together, [N, S, A] -> [N, S]."""
    return owned[..., layout(config).maker_owners].sum(-1)


# What can be recorded, each [N, S] of the tick that has just ended, but "equity" [N]; meaning and units: `Market.run`.
ENTRIES: dict[str, Callable[[MarketConfig, MarketState], Tensor]] = {
    "mid": lambda config, state: _half_currency(config, state.tape.half_mids[..., -1]),
    "close": lambda config, state: _currency(config, state.tape.close),
    "bid": lambda config, state: _currency(config, state.tape.bid),
    "ask": lambda config, state: _currency(config, state.tape.ask),
    "volume": lambda config, state: state.tape.volumes[..., -1],
    "fills": lambda config, state: state.tape.orders_filled,
    "bid_depth": lambda config, state: state.tape.bid_depth,
    "ask_depth": lambda config, state: state.tape.ask_depth,
    "buys": lambda config, state: state.tape.buys[..., -1],
    "sells": lambda config, state: state.tape.sells[..., -1],
    "value": lambda config, state: _listed(config, state.value.level),
    "estimate": lambda config, state: _listed(config, state.value.level + state.value.estimate_error),
    "news": lambda config, state: state.value.headline,
    "maker_shares": lambda config, state: _of_makers(config, state.accounts.shares),
    "maker_cash": lambda config, state: _currency(config, _of_makers(config, state.accounts.cash)),
    "position": lambda config, state: state.accounts.learner_shares,
    "equity": lambda config, state: _half_currency(config, state.accounts.half_equity),
}


def entries(record: Sequence[str] | None) -> tuple[str, ...]:
    """Names of what to record, all of `ENTRIES` for None.

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    if record is None:
        return tuple(ENTRIES)
    if isinstance(record, str):
        raise ValueError(f"record must be a sequence of names, got {record!r}: write [{record!r}]")
    names = tuple(record)
    unknown = [repr(name) for name in names if name not in ENTRIES]
    if unknown:
        raise ValueError(f"unknown entry {', '.join(unknown)} of a path: choose from {', '.join(ENTRIES)}")
    return names


class Recorder:
    """Memory for a whole path, taken once: a long one would otherwise be a heap of small tensors, and then two copies of it.

    Args:
        state: any of the market, whose entries have the right shapes.
        names: what to record, rows of `ENTRIES`.
        length: T, how many rows.

    Raises:
        ValueError: for a path that is longer than memory can hold.
    """

    def __init__(self, config: MarketConfig, state: MarketState, names: Sequence[str], length: int) -> None:
        self.config = config
        self.names = names
        entries = {name: ENTRIES[name](config, state) for name in names}
        try:
            self.paths = {  # [N, T, ...] each
                name: entry.new_empty((entry.shape[0], length, *entry.shape[1:])) for name, entry in entries.items()
            }
        except (RuntimeError, MemoryError, OverflowError, TypeError) as error:  # torch has all of these for it
            raise ValueError(
                f"a path of {length} rows does not fit into memory: {str(error).splitlines()[0]}"
            ) from error

    def write(self, at: int, state: MarketState) -> None:
        """Put the state down as row `at`."""
        for name in self.names:
            self.paths[name][:, at] = ENTRIES[name](self.config, state)
