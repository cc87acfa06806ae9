"""Checks that every setting passes: each names the setting and the value, and says what would be right.

The declared type of a setting is its check. `check_fields` reads the annotations of a settings class:

    bool, str, Literal[...]              a switch, a name, one of some names
    int, float                           an int64, a finite number
    Annotated[int, Within(low, high)]    the same between bounds, both included; likewise of float
    tuple[float, float, float]           so many of them; tuple[float, ...] as many as one likes, none only if the default is ()
    Range[float]                         a (low, high) pair, in order
    X | None                             either
    a dataclass                          an object of that class

Every other type is left to the class. Numbers may be Python's or numpy's, tuples may be lists; what is stored are Python's
numbers and tuples. A bool is no number.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from torchgym.table import guess

LEAST = 1e-30  # the least size of a number that is not 0: float32 computes with it
_LONGEST = 200  # characters of a wrong value in a message


@dataclass(frozen=True)
class Within:
    """Bounds of a number, both included; the type of a setting is annotated with them.

    `even` says by which law `MarketConfig.randomize` draws it: uniformly, as fits shares and gains; else log-uniformly wherever
    the lower bound is above zero, as fits scales, of which half and double are equally far away.
    """

    low: float
    high: float
    even: bool = False


class Settings:
    """What dataclasses of settings derive from: a keyword that is none of theirs is answered with those that are.

    >>> @dataclass
    ... class Fees(Settings):
    ...     rate: float = 0.0
    >>> Fees(rates=1.0)
    Traceback (most recent call last):
        ...
    TypeError: Fees.__init__() got an unexpected keyword argument 'rates': choose from rate; did you mean rate?
    """

    def __new__(cls, *values: Any, **named: Any) -> Self:
        """A TypeError as Python words it, and with what there is."""
        known = [entry.name for entry in dataclasses.fields(cls)]  # type: ignore[arg-type]
        for name in named:
            if name not in known:
                told = f"{cls.__name__}.__init__() got an unexpected keyword argument {name!r}"
                raise TypeError(f"{told}: choose from {', '.join(known)}{guess([name], known)}")
        return super().__new__(cls)


_INT64 = Within(-(2**63), 2**63 - 1)
_FINITE = Within(-math.inf, math.inf)
_IN_ORDER = "in order"

Number = TypeVar("Number")
Range = Annotated[tuple[Number, Number], _IN_ORDER]
Share = Annotated[float, Within(0.0, 1.0, even=True)]  # of a whole
Chance = Annotated[float, Within(0.0, 1.0)]  # per tick
HalfLife = Annotated[float, Within(1e-3, 1e9)]  # ticks


def require(condition: bool, message: str) -> None:
    """A ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def shown(value: object) -> str:
    """The value as a message shows it, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = f"a very long {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def check_integer(name: str, value: object, low: float = _INT64.low, high: float = _INT64.high) -> int:
    """The value as a Python integer between the bounds.

    Raises:
        ValueError: for what is no integer of Python or numpy, or out of bounds.
    """
    number = int(value) if isinstance(value, (int, np.integer)) and _is_number(value) else None
    if number is not None and low <= number <= high:
        return number
    wanted = "an integer" if low == _INT64.low else f"an integer >= {low}"
    if number is not None and number > high:
        wanted = f"an integer <= {high}"
    raise ValueError(f"{name} must be {wanted}, got {shown(value)}")


def check_count(name: str, value: object, low: int = 0) -> int:
    """The value as a Python integer from `low` up; see `check_integer`."""
    return check_integer(name, value, low)


def check_one_learner(who: str, config: Any) -> None:
    """Raises ValueError for a market of several learners, where `who` serves one."""
    require(
        config.num_learners == 1,
        f"num_learners = {config.num_learners}, and {who} serves one learner: step several with torchgym.Market",
    )


def check_number(name: str, value: object, low: float, high: float = math.inf) -> float:
    """The value as a Python float between the bounds; −0 is 0.

    Raises:
        ValueError: for what is no number of Python or numpy, not finite, out of bounds, or nearer to 0 than `LEAST`.
    """
    number = math.nan
    if isinstance(value, (int, float, np.integer, np.floating)) and _is_number(value):
        try:
            number = float(value)
        except OverflowError:  # an integer beyond every float
            number = math.inf
    if not (math.isfinite(number) and low <= number <= high):
        raise ValueError(f"{name} must be a finite number in [{low}, {high}], got {shown(value)}")
    if number != 0.0 and abs(number) < LEAST:
        raise ValueError(f"{name} must be 0 or at least {LEAST} in size, got {shown(value)}")
    return number + 0.0


def check_range(name: str, value: object, low: float, high: float = math.inf) -> tuple[float, float]:
    """The value as a (low, high) pair of Python floats, in order and between the bounds; see `check_number`."""
    pair = _entries(name, value, 2, "a (low, high) pair")
    first, second = (check_number(f"{name}[{at}]", number, low, high) for at, number in enumerate(pair))
    require(first <= second, f"{name} must be in order, the lower bound first, got ({first!r}, {second!r})")
    return first, second


def check_name(name: str, value: object) -> str:
    """The value as a Python string.

    Raises:
        ValueError: for what is no string.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a name, got {shown(value)}")
    return str.__str__(value)  # numpy's strings are strings too


def check_fields(settings: Any, declared: type, prefix: str = "") -> None:
    """Check the fields of a frozen dataclass by their types in `declared`, its class or a base of it, and store them plain.

    Raises:
        ValueError: naming the field, after the prefix, its value, and what would be right.
    """
    known = kinds(declared)
    for entry in dataclasses.fields(declared):
        name, value = prefix + entry.name, getattr(settings, entry.name)
        if value is None and entry.default is None:
            continue
        plain = check_kind(name, value, known.get(entry.name))
        if isinstance(plain, tuple):
            require(len(plain) > 0 or entry.default == (), f"{name} must have at least one entry, got none")
        object.__setattr__(settings, entry.name, plain)


def check_kind(name: str, value: object, kind: Any) -> Any:
    """The value as a plain one of a declared type.

    Raises:
        ValueError: naming the value, and what would be right.
    """
    base, *notes = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    origin, parts = get_origin(base), get_args(base)
    if origin in (Union, types.UnionType):
        others = [part for part in parts if part is not types.NoneType]
        return value if value is None or len(others) > 1 else check_kind(name, value, others[0])
    if base is int or base is float:
        bounds = bounds_of(kind) or (_INT64 if base is int else _FINITE)
        check: Any = check_integer if base is int else check_number
        return check(name, value, bounds.low, bounds.high)
    if _IN_ORDER in notes:
        bounds = bounds_of(kind) or _FINITE
        return check_range(name, value, bounds.low, bounds.high)
    if origin is tuple:
        count = None if parts[-1] is Ellipsis else len(parts)
        entries = _entries(name, value, count, "a tuple" if count is None else f"a tuple of {count} entries")
        own = [parts[0]] * len(entries) if count is None else parts
        return tuple(check_kind(f"{name}[{at}]", entry, own[at]) for at, entry in enumerate(entries))
    if base is str or origin is Literal:
        text = check_name(name, value)
        require(not parts or text in parts, f"unknown {name} {text!r}: choose one of {', '.join(parts)}")
        return text
    if base is bool:
        require(isinstance(value, (bool, np.bool_)), f"{name} must be True or False, got {shown(value)}")
        return bool(value)
    if isinstance(base, type) and dataclasses.is_dataclass(base) and not isinstance(value, base):
        raise ValueError(f"{name} must be of the class {full_name(base)}, got {shown(value)}")
    return value


def check_function(name: str, value: object, remedy: str = "") -> None:
    """A ValueError, unless the value can be called."""
    if not callable(value):
        raise ValueError(f"{name} must be a function, got {shown(value)}{remedy and ': '}{remedy}")


def full_name(declared: type) -> str:
    """How a class is imported: those of the configuration from `torchgym.config`."""
    home = declared.__module__
    return f"{'torchgym.config' if home.startswith('torchgym.config.') else home}.{declared.__qualname__}"


@functools.cache
def kinds(declared: type) -> dict[str, Any]:
    """The declared type of each field, by name; only those of the base where a name in the class means nothing at run time."""
    try:
        return get_type_hints(declared, include_extras=True)
    except NameError:
        return kinds(declared.__mro__[1])


def bounds_of(kind: Any) -> Within | None:
    """The bounds that a declared type has, or the first one within it that has any."""
    parts = get_args(kind)
    own = next((part for part in parts if isinstance(part, Within)), None)
    return own or next(filter(None, map(bounds_of, parts)), None)


def _is_number(value: object) -> bool:
    """Neither a bool nor a duration, which Python and numpy count as integers."""
    return not isinstance(value, (bool, np.timedelta64))


def _entries(name: str, value: object, count: int | None, wanted: str) -> tuple[Any, ...]:
    """Those of a tuple or list of the right length."""
    if not isinstance(value, (tuple, list)) or count not in (None, len(value)):
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}")
    return tuple(value)
