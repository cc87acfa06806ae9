"""A market and its learner in sixteen lines of plain text."""

from __future__ import annotations

from torchgym.engine import levels
from torchgym.sim.state import MarketState
from torchgym.visual.rendering import labels
from torchgym.visual.rendering.history import History

WIDTH = 78  # columns at most
LEVELS = 5  # of the book, on each side


def text(history: History, state: MarketState) -> str:
    """The book's best levels, what happened last, and the learner's account.

    At most 16 lines of at most 78 columns; no colours and no control codes, so it can go to any terminal, log or file.

    Args:
        history: up to this state.
        state: the market now; its first row is shown.
    """
    config, now, symbol = history.config, history.rows[-1], history.symbol
    digits, total, left = labels.decimals(config), int(state.clock.last[0]), int(state.clock.last[0]) - now.tick
    profit = now.equity - history.opening_equity
    start = history.opening_equity
    traded = f", {'bought' if now.filled > 0 else 'sold'} {abs(now.filled):,} last" if now.filled else ""
    rows = {
        "price": f"{now.last:,.{digits}f} last, {now.mid:,.{digits + 1}f} mid, {now.ask - now.bid:,.{digits}f} spread",
        "value": f"{now.value:,.{digits}f}{labels.value_label(config).removeprefix('value')}",
        "news": labels.news_label(state, symbol),
        "position": f"{now.position:+,} of at most {config.position_limit:,} shares{traded}",
        "cash": f"{now.cash:,.2f}",
        "equity": f"{now.equity:,.2f}",
        "profit": f"{profit:+,.2f} ({100.0 * profit / start:+.3f} %), drawdown {100.0 * labels.drawdown(now):.3f} %",
        "time left": f"{left:,} of {total:,} ticks",
    }
    which = f", symbol {symbol} of 0 to {config.num_symbols - 1}" if config.num_symbols > 1 else ""
    end = labels.ending(state)
    title = f"tick {now.tick:,}, seed {int(state.clock.seed[0])}{which}{f': {end}' if end else ''}"
    lines = [title, *_book(history, state), "", *(f"{name:<11}{told}" for name, told in rows.items())]
    return "\n".join(line[:WIDTH].rstrip() for line in lines)


def _book(history: History, state: MarketState) -> list[str]:
    """Bids on the left, asks on the right, the best on top; bars share one scale."""
    point, digits = history.config.point_size, labels.decimals(history.config)
    sides = levels(state, 0, history.symbol, LEVELS)
    written = [[(f"{price * point:,.{digits}f}", f"{size:,}", size) for price, size in side] for side in sides]
    cells = [cell for side in written for cell in side]
    widest_price = max((len(price) for price, _, _ in cells), default=0)
    widest_size = max((len(size) for _, size, _ in cells), default=0)
    largest = max((size for _, _, size in cells), default=1)
    room = min(24, (WIDTH - 7) // 2 - widest_price - widest_size)
    side_width = room + 1 + widest_size + 2 + widest_price
    lines = [f"{'bids':>{side_width}} │ asks"]
    for place in range(LEVELS):
        halves = []
        for side in written:
            price, size, shares = side[place] if place < len(side) else ("", "", 0)
            bar = "█" * (max(1, round(room * shares / largest)) if shares else 0)
            halves.append((price, size, bar))
        (bid, bid_size, bid_bar), (ask, ask_size, ask_bar) = halves
        lines.append(
            f"{bid_bar:>{room}} {bid_size:>{widest_size}}  {bid:>{widest_price}} │ "
            f"{ask:<{widest_price}}  {ask_size:>{widest_size}} {ask_bar}"
        )
    return lines
