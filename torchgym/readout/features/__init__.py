"""What the learner sees: observations of the market by the table of features.

Every bit is the same eager, compiled, alone or in a batch: mids are integers, so sums over windows of them are exact in any
order; sums of real numbers go pairwise in a fixed order; roots, logarithms and exponentials come from `torchgym.numerics.exact`.
(tests/test_features.py)
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchgym.config import MarketConfig, Structure
from torchgym.readout.features.context import FeatureContext
from torchgym.readout.features.feature import LIMIT, Feature, feature
from torchgym.readout.features.table import FEATURE_SETS, FEATURES
from torchgym.sim.params import Params
from torchgym.sim.state import MarketState
from torchgym.table import check_made

__all__ = [
    "FEATURES",
    "FEATURE_SETS",
    "LIMIT",
    "Feature",
    "FeatureContext",
    "added",
    "bounds",
    "feature",
    "names",
    "observe",
    "rows",
    "size",
]


# A row of `FEATURES`, and the run of its columns that is shown; None for all of them.
Plan = tuple[tuple[str, slice | None], ...]
# Of each set, with the names and the rows that it was made for.
_plans: dict[str, tuple[tuple[str, ...], dict[str, Feature], Plan]] = {}


def _plan(config: MarketConfig | Structure) -> Plan:
    """Where the features of the configured set are, neighbours together; made once, the tick only follows it."""
    shown = FEATURE_SETS.find(config.features)
    if config.features in _plans:
        names, made_for, plan = _plans[config.features]
        if names is shown and all(FEATURES.get(row) is feature for row, feature in made_for.items()):
            return plan
    plan = _places(config.features, shown)
    _plans[config.features] = (shown, {row: FEATURES[row] for row, _ in plan}, plan)
    return plan


def _places(of: str, shown: tuple[str, ...]) -> Plan:
    if not isinstance(shown, tuple) or not shown or len(set(shown)) < len(shown):
        raise ValueError(f"FEATURE_SETS[{of!r}] must be a tuple of different names, one at least, got {shown!r}")
    places = _columns()
    unknown = ", ".join(repr(name) for name in shown if name not in places)
    if unknown:
        raise ValueError(f"unknown feature {unknown} in FEATURE_SETS[{of!r}]: choose from {', '.join(places)}")
    runs = itertools.groupby(
        enumerate(places[name] for name in shown), key=lambda entry: (entry[1][0], entry[1][1] - entry[0])
    )
    plan: list[tuple[str, slice | None]] = []
    for (row, _), run in runs:
        columns = [at for _, (_, at) in run]
        whole = len(columns) == len(FEATURES[row].names)
        plan.append((row, None if whole else slice(columns[0], columns[-1] + 1)))
    return tuple(plan)


def _columns() -> dict[str, tuple[str, int]]:
    """The row of each feature, and its column in it."""
    owners: dict[str, tuple[str, int]] = {}
    for row, entry in FEATURES.items():
        if row != entry.name:
            raise ValueError(f"FEATURES[{row!r}] calls itself {entry.name!r}: give both the same name")
        for at, name in enumerate(entry.names):
            if name in owners:
                raise ValueError(f"FEATURES[{row!r}] and FEATURES[{owners[name][0]!r}] both have {name!r}: rename one")
            owners[name] = (row, at)
    return owners


def rows(config: MarketConfig) -> list[tuple[str, Feature, int]]:
    """Each feature of the configured set, for one symbol: its name, its row, and its place among the row's names."""
    places = _columns()
    return [(name, FEATURES[places[name][0]], places[name][1]) for name in _shown(config)]


def added(config: MarketConfig | Structure) -> tuple[Feature, ...]:
    """The rows of the configured set that were added to the table, or replaced in it."""
    return FEATURES.added(dict.fromkeys(row for row, _ in _plan(config)))


def _shown(config: MarketConfig | Structure) -> tuple[str, ...]:
    _plan(config)
    return FEATURE_SETS[config.features]


def _per_symbol(config: MarketConfig | Structure, plain: tuple[str, ...]) -> list[str]:
    if config.num_symbols == 1:
        return list(plain)
    return [f"{name}@{symbol}" for symbol in range(config.num_symbols) for name in plain]


def names(config: MarketConfig | Structure) -> list[str]:
    """Names of the features of one observation, in order; with several symbols `name@symbol`, symbol by symbol.

    Raises:
        ValueError: for an unknown set, or one of unknown features, listing the known ones; so do `size`, `bounds` and `observe`.

    >>> names(MarketConfig(num_symbols=2))[54]
    'f_mid_price@1'
    """
    return _per_symbol(config, _shown(config))


def size(config: MarketConfig | Structure) -> int:
    """Length of one observation: symbols × features."""
    return config.num_symbols * len(_shown(config))


def bounds(config: MarketConfig) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Lowest and highest value of each feature, [S·F] float64 each, infinite where it has none; ±LIMIT when relative."""
    if config.scaling == "relative":
        high = np.full(size(config), LIMIT)
        return -high, high
    table = np.array([(row.low, row.high) for _, row, _ in rows(config)] * config.num_symbols, dtype=np.float64)
    return table[:, 0].copy(), table[:, 1].copy()


def observe(structure: Structure, params: Params, state: MarketState) -> Tensor:
    """What the learner sees of each market at the end of a tick.

    Returns:
        [N, S·F] float64, named by `names`, within `bounds`, never NaN or infinite. Raw features are in the units of the table;
        relative ones don't change when every price and the list price, or the point size, double.
    """
    context = FeatureContext(structure, params, state)
    relative = structure.scaling == "relative"
    shape = state.market_data.bid.shape
    columns = []
    for name, run in _plan(structure):
        row = FEATURES[name]
        block = row.relative(context) if relative else row.raw(context)
        check_made(f"FEATURES[{name!r}]", block, (*shape, len(row.names)), torch.float64)
        columns.append(block if run is None else block[..., run])
    table = torch.cat(columns, -1)
    return (table.clamp(-LIMIT, LIMIT) if relative else table).flatten(1)
