"""How prices, money and news are written."""

from __future__ import annotations

from decimal import Decimal

from torchgym.config import MarketConfig
from torchgym.sim.state import MarketState
from torchgym.visual.rendering.history import HistoryRow

_DIGITS = 6  # at most, after the decimal point


def decimals(config: MarketConfig) -> int:
    """Digits after the decimal point that a price of whole points needs.

    >>> decimals(MarketConfig(point_size=0.01)), decimals(MarketConfig(point_size=0.125)), decimals(MarketConfig(point_size=5))
    (2, 3, 0)
    """
    exponent = Decimal(str(float(config.point_size))).normalize().as_tuple().exponent
    assert isinstance(exponent, int)  # a point's size is a finite number
    return min(max(-exponent, 0), _DIGITS)


def value_label(config: MarketConfig) -> str:
    """What the value is to the learner."""
    return "value, seen by the learner" if config.information == "privileged" else "value, hidden from the learner"


def news_label(state: MarketState, symbol: int) -> str:
    """The newest headline that still matters: its tone from -1 to 1, its age, and how long it goes on.

    >>> from torchgym import Market, preset
    >>> market = Market(preset("toy"), seed=0)
    >>> _ = market.reset()
    >>> news_label(market.live, 0)
    'none'
    """
    value, at = state.value, (0, symbol)
    rows = zip(
        *(part[at].tolist() for part in (value.sentiment, value.magnitude, value.duration, value.remaining)),
        strict=True,
    )
    active = [row for row in rows if row[3] > 0]
    if not active:
        return "none"
    sentiment, magnitude, duration, remaining = active[-1]
    age = duration - remaining
    when = "now" if age == 0 else f"{age} ticks ago" if age > 1 else "1 tick ago"
    return f"{'good' if sentiment > 0 else 'bad'} {sentiment * magnitude:+.2f}, {when}, {remaining} to go"


def ending(state: MarketState) -> str:
    """How the episode has ended: "ruined", "time is up", or nothing while it goes on."""
    if bool(state.ledger.ruined[0, 0]):
        return "ruined"
    return "time is up" if int(state.clock.tick[0]) >= int(state.clock.last[0]) else ""


def drawdown(row: HistoryRow) -> float:
    """Fraction of the highest equity so far that is lost; 0 where that was not positive."""
    return 1.0 - row.equity / row.peak if row.peak > 0.0 else 0.0
