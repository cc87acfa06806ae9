"""A market and its learner in sixteen lines of plain text, and the numbers and labels that pictures show, too."""

from __future__ import annotations

from decimal import Decimal

from torchgym.config import MarketConfig
from torchgym.engine import levels
from torchgym.readout.depth import own_orders
from torchgym.sim.state import MarketState
from torchgym.visual.rendering.history import History

WIDTH = 78  # columns at most
LEVELS = 5  # of the book, on each side
_DIGITS = 6  # at most, after the decimal point


def text(history: History, state: MarketState) -> str:
    """The book's best levels, what happened last, and the learner's account.

    At most 16 lines of at most 78 columns; no colours and no control codes, so it can go to any terminal, log or file.

    Args:
        history: up to this state.
        state: the market now; its first row is shown.
    """
    config, now, digits, numbers = history.config, history.rows[-1], decimals(history.config), account(history, state)
    gain = 100.0 * (now.equity / history.opening_equity - 1.0)
    traded = f", {'bought' if now.filled > 0 else 'sold'} {abs(now.filled):,} last" if now.filled else ""
    rows = {
        "price": f"{numbers['last']} last, {now.mid:,.{digits + 1}f} mid, {numbers['spread']} spread",
        "value": f"{now.value:,.{digits}f}{value_label(config).removeprefix('value')}",
        "news": news_label(state, history.symbol),
        "position": f"{numbers['position']} of at most {numbers['limit']} shares{traded}",
        "cash": numbers["cash"],
        "equity": numbers["equity"],
        "profit": f"{numbers['profit']} ({gain:+.3f} %), drawdown {numbers['drawdown']}",
        "time left": f"{numbers['time left']} of {int(state.clock.last[0]):,} ticks",
    }
    which = f", symbol {history.symbol} of 0 to {config.num_symbols - 1}" if config.num_symbols > 1 else ""
    title = f"tick {now.tick:,}, seed {int(state.clock.seed[0])}{which}{ending(state)}"
    lines = [title, *_book(history, state), "", *(f"{name:<11}{content}" for name, content in rows.items())]
    return "\n".join(line[:WIDTH].rstrip() for line in lines)


def _book(history: History, state: MarketState) -> list[str]:
    """Bids on the left, asks on the right, the best on top; bars share one scale. A star marks prices of the learner's orders."""
    point, digits = history.config.point_size, decimals(history.config)
    sides = levels(state, 0, history.symbol, LEVELS)
    largest = max((size for side in sides for _, size in side), default=1)
    own = own_orders(history.config, state, symbol=history.symbol)

    def row(price: int, size: int) -> tuple[str, str, float, str]:
        return f"{price * point:,.{digits}f}", f"{size:,}", size / largest, "*" if price in own else " "

    rows = [[row(*level) for level in side] for side in sides]
    widest_price = max((len(price) for side in rows for price, *_ in side), default=0)
    widest_size = max((len(size) for side in rows for _, size, *_ in side), default=0)
    room = min(24, (WIDTH - 7) // 2 - widest_price - widest_size)

    def bar(share: float) -> str:
        return "█" * max(1, round(room * share)) if share else ""

    bids, asks = ([*side, *[("", "", 0.0, " ")] * (LEVELS - len(side))] for side in rows)
    lines = [
        f"{'bids':>{room + widest_size + widest_price + 3}} │ asks{', * with own orders' * bool(history.config.quotes)}"
    ]
    for (bid, bid_size, bid_share, bid_mark), (ask, ask_size, ask_share, ask_mark) in zip(bids, asks, strict=True):
        lines.append(
            f"{bar(bid_share):>{room}} {bid_size:>{widest_size}} {bid_mark}{bid:>{widest_price}} │ "
            f"{ask:<{widest_price}}{ask_mark} {ask_size:>{widest_size}} {bar(ask_share)}"
        )
    return lines


def account(history: History, state: MarketState) -> dict[str, str]:
    """The latest price and the learner's account as numbers to be read, by their names."""
    config, now = history.config, history.rows[-1]
    price = f",.{decimals(config)}f"
    drawdown = 1.0 - now.equity / now.peak if now.peak > 0.0 else 0.0  # of the highest equity so far
    return {
        "last": format(now.last, price),
        "spread": format(now.ask - now.bid, price),
        "position": f"{now.position:+,}",
        "limit": f"{config.position_limit:,}",
        "cash": f"{now.cash:,.2f}",
        "equity": f"{now.equity:,.2f}",
        "profit": f"{now.equity - history.opening_equity:+,.2f}",
        "drawdown": f"{100.0 * drawdown:.3f} %",
        "time left": f"{int(state.clock.last[0]) - now.tick:,}",
    }


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
    news = state.value
    parts = (part[0, symbol].tolist() for part in (news.sentiment, news.magnitude, news.duration, news.remaining))
    active = [headline for headline in zip(*parts, strict=True) if headline[3] > 0]
    if not active:
        return "none"
    sentiment, magnitude, duration, remaining = active[-1]
    age = duration - remaining
    when = "now" if age == 0 else f"{age} ticks ago" if age > 1 else "1 tick ago"
    return f"{'good' if sentiment > 0 else 'bad'} {sentiment * magnitude:+.2f}, {when}, {remaining} to go"


def ending(state: MarketState) -> str:
    """How the episode has ended, ": ruined" or ": time is up"; nothing while it goes on."""
    if bool(state.ledger.ruined[0, 0]):
        return ": ruined"
    return ": time is up" if int(state.clock.tick[0]) >= int(state.clock.last[0]) else ""
