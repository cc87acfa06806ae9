"""A market and its learner as one picture, drawn again and again on the same figure.

Making a figure takes as long as drawing it does, so every line, bar and word is made once and only moved afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from torchgym.config import MarketConfig
from torchgym.readout.depth import depth
from torchgym.sim.state import MarketState
from torchgym.visual.palette import LIGHT, Look
from torchgym.visual.rendering import words
from torchgym.visual.rendering.axes import area, fit, headed, lines, plain, round_up
from torchgym.visual.rendering.history import History, Moment

try:
    from matplotlib.artist import Artist
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter
    from matplotlib.transforms import ScaledTranslation
except ImportError as missing:
    raise ImportError('a picture needs matplotlib: pip install "torchgym[plots]"') from missing

SIZE = (960, 720)  # pixels, width and height
DPI = 100
REACH = 60  # points around the mid that the book's profile shows; four fifths of a book's shares are nearer
_ROOM = 14  # characters for a number of the account
_MANY_TRADES = 120  # from here on their marks are smaller
_FIRST_SPAN = 50  # decisions that the time axis has room for from the start, unless the episode is shorter

Array = npt.NDArray[np.float64]


class Picture:
    """Price, book, position and profit of one market.

    Args:
        config: of the market.
        figure: to draw on; None makes one that belongs to no window.
        look: its colours.
    """

    def __init__(self, config: MarketConfig, figure: Figure | None = None, look: Look = LIGHT) -> None:
        self.config, self.look = config, look
        self.figure = Figure(figsize=(SIZE[0] / DPI, SIZE[1] / DPI), dpi=DPI) if figure is None else figure
        self._canvas = FigureCanvasAgg(self.figure) if figure is None else None
        self.figure.set_facecolor(look.background)
        grid = self.figure.add_gridspec(
            3, 2, width_ratios=(4, 1), height_ratios=(3.2, 1, 1.5), left=0.085, right=0.915, top=0.865, bottom=0.075
        )
        grid.update(wspace=0.06, hspace=0.16)
        self._price, self._book = self.figure.add_subplot(grid[0, 0]), self.figure.add_subplot(grid[0, 1])
        self._position, self._profit = self.figure.add_subplot(grid[1, 0]), self.figure.add_subplot(grid[2, 0])
        self._title = self.figure.text(0.085, 0.962, "", color=look.text, fontsize=12, fontweight="bold", va="center")
        self._news = self.figure.text(0.915, 0.962, "", color=look.muted, fontsize=10, ha="right", va="center")
        self._account = self.figure.text(
            0.915, 0.42, "", color=look.text, fontsize=8, family="monospace", ha="right", va="top", linespacing=1.9
        )
        for axes in (self._price, self._book, self._position, self._profit):
            plain(axes, look)
        self._fixed: list[Artist] = [self.figure.patch, self._price.patch, self._book.patch]  # what never changes
        self._fixed += [self._position.patch, self._profit.patch]
        self._ground: Any = None  # these alone, as drawn pixels
        self._make_price()
        self._make_book()
        self._make_account()

    def frame(self) -> npt.NDArray[np.uint8]:
        """What was drawn last, [720, 960, 3] uint8, a fresh array."""
        canvas = self._canvas
        assert canvas is not None, "a picture in a window is looked at there"
        if self._ground is None:
            self._ground = self._draw_ground(canvas)
        canvas.restore_region(self._ground)
        self.figure.draw(canvas.get_renderer())
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def _draw_ground(self, canvas: FigureCanvasAgg) -> Any:
        """The pixels of what never changes, which from now on is not drawn any more: a third of the time of a frame."""
        canvas.draw()
        renderer = canvas.get_renderer()
        renderer.clear()
        for artist in self._fixed:
            artist.draw(renderer)
            artist.set_visible(False)
        return canvas.copy_from_bbox(self.figure.bbox)

    def update(self, history: History, state: MarketState) -> None:
        """Move everything to where it belongs now; nothing is drawn yet."""
        columns = {
            name: np.array(column)
            for name, column in zip(Moment._fields, zip(*history.moments, strict=True), strict=True)
        }
        self._update_time(columns["tick"])
        self._update_price(columns)
        self._update_book(history, state)
        self._update_account(columns, history.opening_equity)
        self._update_words(history, state)

    def _make_price(self) -> None:
        axes, look = self._price, self.look
        self._headlines = lines(axes, look.news, linewidths=0.8, linestyles=":", transform=axes.get_xaxis_transform())
        (self._value,) = axes.plot([], [], "--", color=look.value, linewidth=1.3)
        (self._mid,) = axes.plot([], [], "-", color=look.price, linewidth=1.5)
        (self._now,) = axes.plot([], [], "o", color=look.price, markersize=5)
        up, down = (
            axes.transData + ScaledTranslation(0.0, shift / 72.0, self.figure.dpi_scale_trans) for shift in (-8, 8)
        )
        edge: dict[str, Any] = {"linestyle": "", "markeredgecolor": look.background, "markeredgewidth": 0.6}
        (self._buys,) = axes.plot([], [], marker="^", color=look.buy, transform=up, **edge)
        (self._sells,) = axes.plot([], [], marker="v", color=look.sell, transform=down, **edge)
        news: dict[str, Any] = {
            "linestyle": "",
            "color": look.news,
            "transform": axes.get_xaxis_transform(),
            "clip_on": False,
        }
        (self._good,) = axes.plot([], [], marker="P", markersize=7, **news)
        (self._bad,) = axes.plot([], [], marker="X", markersize=7, **news)
        axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(StrMethodFormatter(f"{{x:,.{words.decimals(self.config)}f}}"))
        axes.tick_params(labelbottom=False)
        legend = self.figure.legend(
            [self._mid, self._value, self._buys, self._sells, self._good, self._bad],
            ["mid", words.value_label(self.config), "learner buys", "sells", "good news", "bad news"],
            loc="center left",
            bbox_to_anchor=(0.072, 0.914),
            ncols=6,
            frameon=False,
            fontsize=9,
            labelcolor=look.text,
            handlelength=1.6,
            columnspacing=1.3,
            handletextpad=0.5,
        )
        self._fixed += [legend, headed(axes, 0.0, "price", look.muted)]

    def _make_book(self) -> None:
        axes, look = self._book, self.look
        self._bids, self._asks = (lines(axes, colour, linewidths=1.7) for colour in (look.bid, look.ask))
        self._book_mid = axes.axhline(0.0, color=look.price, linewidth=1.0)
        axes.yaxis.tick_right()
        axes.tick_params(right=False)
        axes.yaxis.set_major_formatter(StrMethodFormatter(f"{{x:,.{words.decimals(self.config)}f}}"))
        axes.xaxis.set_major_locator(MaxNLocator(2, integer=True))
        self._fixed += [
            headed(axes, place, name, colour)
            for place, name, colour in ((0.0, "bids", look.bid), (0.22, "asks", look.ask), (0.46, "shares", look.muted))
        ]

    def _make_account(self) -> None:
        look = self.look
        self._long = area(self._position, look.buy, alpha=0.75)
        self._short = area(self._position, look.sell, alpha=0.75)
        limit = 1.15 * self.config.position_limit
        self._position.set_ylim(-limit, limit)
        self._position.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        self._position.tick_params(labelbottom=False)

        self._lost = area(self._profit, look.drawdown, alpha=0.25)
        (self._gain,) = self._profit.plot([], [], "-", color=look.equity, linewidth=1.5)
        self._profit.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        self._profit.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        self._profit.set_xlabel("tick", color=look.muted, fontsize=9)
        self._profit.xaxis.set_label_coords(0.5, -0.19)
        handles: Sequence[Line2D | Patch] = [self._gain, Patch(color=look.drawdown, alpha=0.25)]
        legend = self._profit.legend(
            handles,
            ["equity less the opening one", "drawdown"],
            loc="upper left",
            ncols=2,
            frameon=False,
            fontsize=8,
            labelcolor=look.text,
        )
        self._fixed += [legend, self._profit.xaxis.label]
        self._fixed += [headed(self._position, 0.0, "position in shares", look.muted)]
        self._fixed += [headed(self._profit, 0.0, "profit", look.muted)]
        for axes in (self._position, self._profit):
            axes.axhline(0.0, color=look.muted, linewidth=0.7)

    def _update_time(self, ticks: Array) -> None:
        first, last = ticks[0], ticks[-1]
        span = max(last - first, min(_FIRST_SPAN * self.config.ticks_per_action, self.config.max_ticks))
        for axes in (self._price, self._position, self._profit):
            axes.set_xlim(first, first + 1.02 * span)

    def _update_price(self, columns: dict[str, Array]) -> None:
        ticks, mid, filled, news = (columns[name] for name in ("tick", "mid", "filled", "news"))
        self._mid.set_data(ticks, mid)
        self._now.set_data(ticks[-1:], mid[-1:])
        self._value.set_data(ticks, columns["value"])
        for line, chosen in ((self._buys, filled > 0), (self._sells, filled < 0)):
            line.set_data(ticks[chosen], mid[chosen])
            line.set_markersize(7.0 if np.count_nonzero(filled) <= _MANY_TRADES else 5.0)
        told = columns["headlines"] > 0
        self._headlines.set_segments([np.array([(tick, 0.0), (tick, 1.0)]) for tick in ticks[told]])
        for line, chosen, height in ((self._good, told & (news > 0), 1.0), (self._bad, told & (news <= 0), 0.0)):
            line.set_data(ticks[chosen], np.full(int(chosen.sum()), height))
        shown = np.concatenate([mid, columns["value"]])
        fit(self._price, shown.min(), shown.max(), least=20.0 * self.config.point_size, margin=0.1)

    def _update_book(self, history: History, state: MarketState) -> None:
        point, mid = self.config.point_size, history.moments[-1].mid
        prices, sizes = (part.cpu().numpy() for part in depth(state, 0, history.symbol))
        prices = prices * point
        reach = max(REACH * point, 2.0 * (history.moments[-1].ask - mid))
        near = np.abs(prices - mid) <= reach
        for bars, side in ((self._bids, near & (sizes > 0)), (self._asks, near & (sizes < 0))):
            bars.set_segments(
                [
                    np.array([(0.0, price), (abs(size), price)])
                    for price, size in zip(prices[side], sizes[side], strict=True)
                ]
            )
        self._book_mid.set_ydata([mid, mid])
        self._book.set_ylim(mid - reach, mid + reach)
        self._book.set_xlim(0.0, round_up(np.abs(sizes[near]).max(initial=1)))

    def _update_account(self, columns: dict[str, Array], opening_equity: float) -> None:
        ticks, position = columns["tick"], columns["position"]
        # What a decision led to is drawn over that decision: so the newest position has a width too.
        steps, held = np.repeat(ticks, 2)[:-1], np.repeat(position, 2)[1:]
        for patch, part in ((self._long, np.maximum(held, 0)), (self._short, np.minimum(held, 0))):
            patch.set_xy(np.concatenate([[(steps[0], 0.0)], np.stack([steps, part], -1), [(steps[-1], 0.0)]]))
        gain, peak = columns["equity"] - opening_equity, columns["peak"] - opening_equity
        self._gain.set_data(ticks, gain)
        self._lost.set_xy(np.concatenate([np.stack([ticks, peak], -1), np.stack([ticks, gain], -1)[::-1]]))
        low, high = min(gain.min(), 0.0), max(peak.max(), 0.0)
        least = 1e-4 * abs(opening_equity)
        fit(self._profit, low, high + 0.22 * max(high - low, least), least=least, margin=0.06)

    def _update_words(self, history: History, state: MarketState) -> None:
        now, digits = history.moments[-1], words.decimals(self.config)
        total, end = int(state.clock.last[0]), words.ending(state)
        symbol = f", symbol {history.symbol}" if self.config.num_symbols > 1 else ""
        self._title.set_text(f"Tick {now.tick:,} of {total:,}{symbol}{f': {end}' if end else ''}")
        self._news.set_text(f"news: {words.news_label(state, history.symbol)}")
        told = {
            "last": _short(now.last, f",.{digits}f"),
            "spread": _short(now.ask - now.bid, f",.{digits}f"),
            "position": _short(now.position, "+,"),
            "limit": _short(self.config.position_limit, ","),
            "cash": _short(now.cash, ",.2f"),
            "equity": _short(now.equity, ",.2f"),
            "profit": _short(now.equity - history.opening_equity, "+,.2f"),
            "drawdown": f"{100.0 * words.drawdown(now):.3f} %",
            "time left": _short(total - now.tick, ","),
        }
        self._account.set_text("\n".join(f"{name:<9}{number:>{_ROOM}}" for name, number in told.items()))


def _short(number: float, form: str) -> str:
    """The number in this form, or with fewer digits where that is too wide for the account's column.

    >>> _short(1234.5, ",.2f"), _short(123456789012.25, ",.2f")
    ('1,234.50', '1.23457e+11')
    """
    told = format(number, form)
    return told if len(told) <= _ROOM else format(number, ".6g")
