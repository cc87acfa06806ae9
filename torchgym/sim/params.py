"""The numbers of a batch of markets as tensors: those of the configuration, what follows from them, and what an episode draws.

`params.population.maker.skew` is a tensor that broadcasts over the batch: [N, 1] float64 or int64, or [N, 1, k] where the setting
is a tuple; of a family of single orders [N, 1, 1] float32, or [N, 1, 1, k]; of what learners order and hold (`PER_LEARNER`)
[N, 1, 1] float64 or int64. Beside the settings stand numbers that follow from them (`torchgym.sim.derived`). Those are made by
Python, so a market has the same bits whether a number comes from the configuration, from `params=` or from `randomize`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchgym.config import MarketConfig, all_numbers, with_numbers
from torchgym.config.numbers import Number, Setting, corners, find
from torchgym.config.validation import check_integer, check_number, shown
from torchgym.numerics import exact
from torchgym.numerics.trees import clone, map_tensors
from torchgym.sim import noise
from torchgym.sim.derived import DERIVED, log_ratio, span

_DTYPES = (torch.float32, torch.float64, torch.int64)
_MOST_WORLDS = 1_000  # that are checked one by one


# Numbers of each learner in each symbol, which broadcast over [N, S, L].
PER_LEARNER = frozenset(
    {
        "order_size",
        "position_limit",
        "per_position_limit",
        "starting_shares",
        "commission_rate",
        "maker_rate",
        "per_order_size",
    }
)


@dataclass(frozen=True)
class Place:
    """Where a number is: the tensor of its dtype, its columns there, and how it broadcasts."""

    dtype: torch.dtype
    columns: slice
    is_tuple: bool
    per_trader: bool


@dataclass(frozen=True)
class Table:
    """Where every number of a structure is, and by which function those come that follow from others."""

    places: dict[str, Place]
    parts: frozenset[str]  # paths that lead to numbers
    settings: dict[str, Setting] = field(compare=False, repr=False)  # of the configuration that it was made of
    derived: dict[str, Callable[[Any], Number]] = field(compare=False, repr=False)
    reads: dict[str, frozenset[str]] = field(compare=False, repr=False)  # settings that a derived number follows from


def make_table(config: MarketConfig) -> tuple[Table, dict[str, Number]]:
    """The table of a configuration, equal for all of one structure; and its numbers by path, with those that follow."""
    settings = all_numbers(config)
    numbers: dict[str, Number] = {path: setting.value for path, setting in settings.items()}
    singles = {f"population.{name}" for name in config.population.families} - {"population.maker"}
    derived = dict(DERIVED)
    for path, value in numbers.items():
        if isinstance(value, tuple) and len(value) == 2 and path.rpartition(".")[0] in singles:
            for name, function in ((f"{path}_span", span(path)), (f"{path}_log_ratio", log_ratio(path))):
                assert name not in numbers and name not in derived, name
                derived[name] = function
    derived["population.list_price"] = lambda c: float(c.list_price)  # as traders need it
    reads: dict[str, frozenset[str]] = {}
    for path, function in derived.items():
        source = _Source(config, dict(numbers))
        numbers[path] = function(source)
        reads[path] = frozenset(source._read)
    ends = dict.fromkeys(_DTYPES, 0)
    places: dict[str, Place] = {}
    for path, value in numbers.items():
        is_tuple = isinstance(value, tuple)
        of_trader = path.rpartition(".")[0] in singles or path == "population.list_price"
        per_trader = of_trader or path in PER_LEARNER
        first = value[0] if isinstance(value, tuple) else value
        dtype = torch.float32 if of_trader else torch.int64 if isinstance(first, int) else torch.float64
        width = len(value) if isinstance(value, tuple) else 1
        places[path] = Place(dtype, slice(ends[dtype], ends[dtype] + width), is_tuple, per_trader)
        ends[dtype] += width
    above = (path.split(".")[:count] for path in places for count in range(1, path.count(".") + 1))
    return Table(places, frozenset(map(".".join, above)), settings, derived, reads), numbers


@dataclass(frozen=True)
class Params:
    """Numbers of N markets; see the module. By attribute, or by path: `params["population.maker.skew"]`."""

    float32: Tensor  # [N, ...], every number of that dtype side by side
    float64: Tensor
    int64: Tensor
    table: Table = field(metadata={"static": True}, repr=False)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _remembered(self, name, self, name)

    def __getitem__(self, path: str) -> Any:
        place = self.table.places.get(path)
        if place is None:
            if path not in self.table.parts:
                raise KeyError(f"there is no number {path!r} among the parameters")
            return Numbers(self, path)
        columns = getattr(self, str(place.dtype).removeprefix("torch."))[:, place.columns]
        if place.is_tuple or place.per_trader:
            columns = columns.unsqueeze(1)
        return columns.unsqueeze(1) if place.is_tuple and place.per_trader else columns

    def __reduce__(self) -> Any:
        plain = Table(self.table.places, self.table.parts, {}, {}, {})  # functions have no name to be found by
        return Params, (self.float32, self.float64, self.int64, plain)


def _remembered(part: Any, name: str, params: Params, path: str) -> Any:
    """An attribute that is looked up once."""
    try:
        value = params[path]
    except KeyError as error:
        raise AttributeError(error.args[0]) from None
    part.__dict__[name] = value
    return value


class Numbers:
    """One part of the parameters, by attribute."""

    def __init__(self, params: Params, path: str) -> None:
        self._params = params
        self._path = path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _remembered(self, name, self._params, f"{self._path}.{name}")


class _Source:
    """Settings as attributes, of one market; notes which numbers were read."""

    def __init__(
        self, config: Any, numbers: Mapping[str, Number], path: str = "", read: set[str] | None = None
    ) -> None:
        self._config, self._numbers, self._path = config, numbers, path
        self._read = set() if read is None else read

    def __getattr__(self, name: str) -> Any:
        path = f"{self._path}{name}"
        if path in self._numbers:
            self._read.add(path)
            return self._numbers[path]
        families = getattr(self._config, "families", {})
        part = families[name] if name in families else getattr(self._config, name)
        plain = isinstance(part, (int, float, str, tuple))
        return part if plain else _Source(part, self._numbers, f"{path}.", self._read)


def make_params(
    config: MarketConfig, num_envs: int, device: torch.device, given: Mapping[str, Any] | Params | None = None
) -> Params:
    """Parameters of markets before anything is drawn: the configuration's numbers, or those given instead.

    Args:
        num_envs: N.
        given: numbers by path, each one for all markets or [N] of them; or nested mappings of such; or `Market.params` of as many
            markets of the same structure.

    Raises:
        ValueError: for an unknown path, a number that the setting refuses, a wrong count, or markets that would be impossible.
    """
    table, numbers = make_table(config)
    if isinstance(given, Params):
        if given.table.places != table.places or len(given.int64) != num_envs:
            raise ValueError(f"params must be those of {num_envs} markets of the same structure")
        return map_tensors(lambda tensor: tensor.to(device, copy=True), replace(given, table=table))
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"params must map paths to numbers, or be those of a market, got {shown(given)}")
    rows = {path: _checked_rows(config, path, value, num_envs) for path, value in _flat(given or {}, ())}
    for world in _worlds(rows):
        with_numbers(config, world)
    params = _filled(table, numbers, num_envs)
    for path, values in rows.items():
        _put(params, path, values)
    _derive_again(config, params, rows)
    return map_tensors(lambda tensor: tensor.to(device), params)


def _worlds(rows: Mapping[str, Sequence[float]]) -> Iterator[dict[str, float]]:
    """The different markets; of more than a thousand their corners, of which some may be stricter."""
    different = dict.fromkeys(zip(*rows.values(), strict=True))
    if len(different) <= _MOST_WORLDS:
        yield from (dict(zip(rows, world, strict=True)) for world in different)
    else:
        yield from corners({path: (min(values), max(values)) for path, values in rows.items()})


def _filled(table: Table, numbers: Mapping[str, Number], num_envs: int) -> Params:
    """The same numbers for all markets, on the CPU."""
    flat: dict[torch.dtype, list[float]] = {dtype: [] for dtype in _DTYPES}
    for path, place in table.places.items():
        value = numbers[path]
        flat[place.dtype] += value if isinstance(value, tuple) else (value,)
    float32, float64, int64 = (
        torch.tensor(flat[dtype], dtype=dtype, device="cpu").expand(num_envs, -1).contiguous() for dtype in _DTYPES
    )
    return Params(float32, float64, int64, table)


def _flat(given: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        if isinstance(value, Mapping):
            yield from _flat(value, (*above, name))
        else:
            yield ".".join((*above, name)), value


def _checked_rows(config: MarketConfig, path: str, value: Any, num_envs: int) -> list[float]:
    """One number for each market."""
    setting, _ = find(config, path)
    values = value.tolist() if isinstance(value, (Tensor, np.ndarray)) else value
    listed = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values] * num_envs
    if len(listed) != num_envs:
        raise ValueError(
            f"params[{path!r}] must be one number, or one for each of {num_envs} markets, got {shown(value)}"
        )
    bounds, name = setting.bounds, f"params[{path!r}]"
    check = check_integer if isinstance(setting.value, int) else check_number
    numbers = [check(name, number, bounds.low, bounds.high) for number in listed]
    odd = [number for number in numbers if path == "max_ticks" and number % config.ticks_per_action]
    if odd:
        raise ValueError(f"{name} = {odd[0]} must be a multiple of ticks_per_action = {config.ticks_per_action}")
    return numbers


def _column(table: Table, path: str) -> tuple[torch.dtype, int]:
    """Tensor and column of a single number."""
    place = table.places.get(path)
    if place is not None:
        return place.dtype, place.columns.start
    above, _, at = path.rpartition(".")
    return table.places[above].dtype, table.places[above].columns.start + int(at)


def number_of(params: Params, path: str, market: int = 0) -> float:
    """A single number of one market, as Python has it."""
    dtype, column = _column(params.table, path)
    value: float = getattr(params, str(dtype).removeprefix("torch."))[market, column].item()
    return value


def _put(params: Params, path: str, values: Sequence[float] | Tensor) -> None:
    dtype, column = _column(params.table, path)
    packed = getattr(params, str(dtype).removeprefix("torch."))
    packed[:, column] = torch.as_tensor(values, dtype=dtype, device=packed.device)


def _derive_again(config: MarketConfig, params: Params, rows: Mapping[str, Sequence[float]]) -> None:
    """Write anew what follows from these numbers, market by market; equal worlds are worked out once."""
    numbers: dict[str, Number] = {path: setting.value for path, setting in params.table.settings.items()}
    for path, function in params.table.derived.items():
        mine = [name for name in rows if {name, name.rpartition(".")[0]} & params.table.reads[path]]
        if not mine:
            continue
        known: dict[tuple[float, ...], Number] = {}
        worlds = list(zip(*(rows[name] for name in mine), strict=True))
        for world in worlds:
            if world not in known:
                known[world] = function(_Source(config, _with(numbers, dict(zip(mine, world, strict=True)))))
        place = params.table.places[path]
        made = [value if isinstance(value, tuple) else (value,) for value in (known[world] for world in worlds)]
        packed = getattr(params, str(place.dtype).removeprefix("torch."))
        packed[:, place.columns] = torch.tensor(made, dtype=place.dtype, device=packed.device)


def _with(numbers: Mapping[str, Number], world: Mapping[str, float]) -> dict[str, Number]:
    """The numbers with some of them replaced, by path; integers stay such."""
    new = dict(numbers)
    for path, value in world.items():
        name, _, at = (path, "", "") if path in new else path.rpartition(".")
        old = new[name]
        if isinstance(old, tuple):
            new[name] = tuple(value if index == int(at) else entry for index, entry in enumerate(old))
        else:
            new[name] = int(value) if isinstance(old, int) else value
    return new


def draw_params(config: MarketConfig, base: Params, key: Tensor) -> Params:
    """The world of an episode: what `config.randomize` names is drawn, everything else is the base's.

        log-uniform:  exp(log low + u (log high - log low))        uniform:  low + u (high - low)

    Which of the two: see `MarketConfig`. Logarithm and exponential are the exact ones, so a world has the same bits everywhere.
    What follows from a drawn number is worked out by Python on the host.

    Args:
        base: before the draw; returned as it is where nothing is randomised.
        key: [N, 2] int32, of the episode.
    """
    if not config.randomize:
        return base
    uniforms = noise.draw_params(key, tuple(config.randomize))
    drawn = clone(base)
    rows: dict[str, list[float]] = {}
    for path, bounds in config.randomize.items():
        setting, _ = find(config, path, base.table.settings)
        whole = isinstance(setting.value, int)
        uniform = uniforms[path].to(torch.float64)
        by_ratio = not setting.bounds.even and bounds[0] > 0.0
        step = config.ticks_per_action if path == "max_ticks" else 1  # an episode is whole decisions
        ends = (bounds[0], bounds[1] + float(step)) if whole else bounds
        number = torch.clamp(_between(ends, uniform, by_ratio=by_ratio), *ends)
        if whole:
            number = torch.floor(number)
            number = torch.clamp(number - torch.remainder(number, step), *bounds)
        _put(drawn, path, number)
        dtype, _ = _column(base.table, path)
        rows[path] = number.to(dtype).tolist()
    _derive_again(config, drawn, rows)
    return drawn


def _between(bounds: tuple[float, float], uniform: Tensor, *, by_ratio: bool) -> Tensor:
    """[N] float64, by a uniform number."""
    ends = torch.tensor(bounds, dtype=torch.float64, device=uniform.device)
    low, high = exact.log(ends) if by_ratio else ends
    number = low + uniform * (high - low)
    return exact.exp(number) if by_ratio else number


@functools.lru_cache(maxsize=16)
def plain_params(config: MarketConfig, device: torch.device) -> Params:
    """The configuration's numbers for one market, which broadcast over any batch; made once."""
    return make_params(config, 1, device)
