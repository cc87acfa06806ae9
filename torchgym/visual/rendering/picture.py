"""A market and its learner as one picture.

Axes, labels and legends are drawn again only when a limit of an axis changes; a frame between is their pixels with the moving
lines, bars and texts on top. Limits are rounded, so that they change seldom, and depend on the history alone.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from torchgym.config import MarketConfig
from torchgym.readout.depth import depth
from torchgym.sim.state import MarketState
from torchgym.visual.palette import LIGHT
from torchgym.visual.rendering import labels
from torchgym.visual.rendering.history import History, HistoryRow

try:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter
    from matplotlib.transforms import ScaledTranslation
except ImportError as missing:
    raise ImportError('a picture needs matplotlib: pip install "torchgym[plots]"') from missing

SIZE = (960, 720)  # pixels, width and height
DPI = 100
BOOK_SPAN = (
    60  # points on each side of the mid that the book's profile shows; four fifths of a book's shares are nearer
)
_DIGITS = 14  # characters for a number of the account
_MANY_TRADES = 120  # from here on their marks are smaller
_TIME_STEP = 50  # decisions; ends of the time axis are multiples of it
_ACCOUNT = ("last", "spread", "position", "limit", "cash", "equity", "profit", "drawdown", "time left")

Array = npt.NDArray[np.float64]
AnyArtist = TypeVar("AnyArtist", bound=Artist)


class Picture:
    """Price, book, position and profit of one market.

    Args:
        config: of the market.
        figure: to draw on; None makes one that belongs to no window.
    """

    def __init__(self, config: MarketConfig, figure: Figure | None = None) -> None:
        self.config = config
        self.figure = Figure(figsize=(SIZE[0] / DPI, SIZE[1] / DPI), dpi=DPI) if figure is None else figure
        self._canvas = FigureCanvasAgg(self.figure) if figure is None else None
        self._moving: list[Artist] = []  # in the order in which they are drawn
        self._ground: tuple[tuple[float, ...], Any] | None = None  # limits of the axes, and the pixels of all else
        grid = self.figure.add_gridspec(
            3, 2, width_ratios=(4, 1), height_ratios=(3.2, 1, 1.5), wspace=0.06, hspace=0.16
        )
        grid.update(left=0.085, right=0.915, top=0.865, bottom=0.075)
        self._price, self._book, self._position, self._profit = (
            self._axes(grid[place], name)
            for place, name in zip(
                ((0, 0), (0, 1), (1, 0), (2, 0)), ("price", "", "position in shares", "profit"), strict=True
            )
        )
        self._make_price()
        self._make_book()
        self._make_position_and_profit()
        self._make_texts()

    def frame(self) -> npt.NDArray[np.uint8]:
        """The picture as of the last `update`, [720, 960, 3] uint8, a fresh array."""
        canvas = self._canvas
        assert canvas is not None, "a picture in a window is looked at there"
        limits = tuple(end for axes in self.figure.axes for end in (*axes.get_xlim(), *axes.get_ylim()))
        if self._ground is None or self._ground[0] != limits:
            canvas.draw()
            self._ground = limits, canvas.copy_from_bbox(self.figure.bbox)
        else:
            canvas.restore_region(self._ground[1])
        for artist in self._moving:
            artist.draw(canvas.get_renderer())
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def update(self, history: History, state: MarketState) -> None:
        """Move everything to its new place; nothing is drawn yet."""
        columns = dict(zip(HistoryRow._fields, np.array(history.rows).T, strict=True))
        self._update_time(columns["tick"])
        self._update_price(columns)
        self._update_book(history, state)
        self._update_position_and_profit(columns, history.opening_equity)
        self._update_texts(history, state)

    def _axes(self, place: Any, name: str) -> Axes:
        """Axes with hairlines for a grid, muted numbers and no box."""
        axes = self.figure.add_subplot(place)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(LIGHT.grid)
        axes.tick_params(labelcolor=LIGHT.muted, labelsize=8, left=False, right=False, bottom=False)
        axes.tick_params(labelbottom=name == "profit")
        axes.grid(color=LIGHT.grid, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        self._heading(axes, 0.0, name, LIGHT.muted)
        return axes

    def _heading(self, axes: Axes, place: float, text: str, colour: str) -> None:
        """Text above the axes, at this share of their width."""
        axes.text(place, 1.02, text, color=colour, fontsize=9, va="bottom", transform=axes.transAxes)

    def _move(self, artist: AnyArtist) -> AnyArtist:
        """The artist, from now on left out of the ground."""
        artist.set_animated(self._canvas is not None)
        self._moving.append(artist)
        return artist

    def _make_price(self) -> None:
        axes, across = self._price, self._price.get_xaxis_transform()
        above, below = (
            axes.transData + ScaledTranslation(0.0, shift / 72.0, self.figure.dpi_scale_trans) for shift in (8, -8)
        )

        def line(style: str, colour: str, **more: Any) -> Any:
            return self._move(axes.plot([], [], style, color=colour, **more)[0])

        edge = {"markeredgecolor": LIGHT.background, "markeredgewidth": 0.6}
        news = {"markersize": 7, "transform": across, "clip_on": False}
        self._headlines = self._move(
            axes.vlines([], 0.0, 1.0, colors=LIGHT.news, linewidths=0.8, linestyles=":", transform=across)
        )
        self._value = line("--", LIGHT.value, linewidth=1.3)
        self._mid = line("-", LIGHT.price, linewidth=1.5)
        self._now = line("o", LIGHT.price, markersize=5)
        self._buys = line("^", LIGHT.buy, transform=below, **edge)
        self._sells = line("v", LIGHT.sell, transform=above, **edge)
        self._good, self._bad = line("P", LIGHT.news, **news), line("X", LIGHT.news, **news)
        axes.yaxis.set_major_formatter(StrMethodFormatter(f"{{x:,.{labels.decimals(self.config)}f}}"))
        self.figure.legend(
            [self._mid, self._value, self._buys, self._sells, self._good, self._bad],
            ["mid", labels.value_label(self.config), "learner buys", "sells", "good news", "bad news"],
            loc="center left",
            bbox_to_anchor=(0.072, 0.914),
            ncols=6,
            frameon=False,
            fontsize=9,
            labelcolor=LIGHT.text,
            handlelength=1.6,
            columnspacing=1.3,
            handletextpad=0.5,
        )

    def _make_book(self) -> None:
        axes = self._book
        axes.set(xlim=(0.0, 1.0), ylim=(-BOOK_SPAN, BOOK_SPAN), xticks=[])
        axes.set_yticks([-50, 0, 50], ["−50", "0", "+50"])
        axes.axhline(0.0, color=LIGHT.price, linewidth=1.0)
        axes.yaxis.tick_right()
        axes.tick_params(right=False)
        axes.set_xlabel("points from the mid, shares", color=LIGHT.muted, fontsize=8)
        self._bids, self._asks = (
            self._move(axes.hlines([], 0.0, 1.0, colors=colour, linewidths=1.7)) for colour in (LIGHT.buy, LIGHT.sell)
        )
        self._heading(axes, 0.0, "bids", LIGHT.buy)
        self._heading(axes, 0.22, "asks", LIGHT.sell)
        place: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "va": "bottom"}
        self._largest = self._move(axes.text(1.0, 1.02, "", color=LIGHT.muted, fontsize=9, **place))

    def _make_position_and_profit(self) -> None:
        limit = 1.15 * self.config.position_limit
        self._position.set_ylim(-limit, limit)
        self._position.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        self._long, self._short = (
            self._move(self._position.stairs([0.0], [0.0, 1.0], fill=True, color=colour, alpha=0.75))
            for colour in (LIGHT.buy, LIGHT.sell)
        )
        self._lost = self._move(self._profit.fill([0.0], [0.0], color=LIGHT.value, linewidth=0.0, alpha=0.25)[0])
        self._gain = self._move(self._profit.plot([], [], "-", color=LIGHT.price, linewidth=1.5)[0])
        self._profit.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        self._profit.set_xlabel("tick", color=LIGHT.muted, fontsize=9)
        self._profit.legend(
            [self._gain, Patch(color=LIGHT.value, alpha=0.25)],
            ["equity less the opening one", "drawdown"],
            loc="upper left",
            ncols=2,
            frameon=False,
            fontsize=8,
            labelcolor=LIGHT.text,
        )
        for axes in (self._position, self._profit):
            axes.axhline(0.0, color=LIGHT.muted, linewidth=0.7)

    def _make_texts(self) -> None:
        text = self.figure.text
        column: dict[str, Any] = {"fontsize": 8, "family": "monospace", "va": "top", "linespacing": 1.9}
        self._title = self._move(text(0.085, 0.962, "", color=LIGHT.text, fontsize=12, fontweight="bold", va="center"))
        self._news = self._move(text(0.915, 0.962, "", color=LIGHT.muted, fontsize=10, ha="right", va="center"))
        text(0.748, 0.4, "\n".join(_ACCOUNT), color=LIGHT.text, **column)
        self._account = self._move(text(0.915, 0.4, "", color=LIGHT.text, ha="right", ma="right", **column))

    def _update_time(self, ticks: Array) -> None:
        step = _TIME_STEP * self.config.ticks_per_action
        first, last = step * (ticks[0] // step), step * (ticks[-1] // step + 1)
        for axes in (self._price, self._position, self._profit):
            axes.set_xlim(first, first + 1.02 * (min(last, self.config.max_ticks) - first))

    def _update_price(self, columns: dict[str, Array]) -> None:
        ticks, mid, filled, news = (columns[name] for name in ("tick", "mid", "filled", "news"))
        self._mid.set_data(ticks, mid)
        self._now.set_data(ticks[-1:], mid[-1:])
        self._value.set_data(ticks, columns["value"])
        for line, chosen in ((self._buys, filled > 0), (self._sells, filled < 0)):
            line.set_data(ticks[chosen], mid[chosen])
            line.set_markersize(7.0 if np.count_nonzero(filled) <= _MANY_TRADES else 5.0)
        came = columns["headlines"] > 0
        self._headlines.set_segments([np.array([(tick, 0.0), (tick, 1.0)]) for tick in ticks[came]])
        for line, chosen, height in ((self._good, came & (news > 0), 1.0), (self._bad, came & (news <= 0), 0.0)):
            line.set_data(ticks[chosen], np.full(int(chosen.sum()), height))
        shown = np.concatenate([mid, columns["value"]])
        self._price.set_ylim(*rounded_limits(shown.min(), shown.max(), least=20.0 * self.config.point_size))

    def _update_book(self, history: History, state: MarketState) -> None:
        prices, sizes = (part.cpu().numpy() for part in depth(state, 0, history.symbol))
        offsets = prices - history.rows[-1].mid / self.config.point_size
        near = np.abs(offsets) <= BOOK_SPAN
        largest = np.abs(sizes[near]).max(initial=1)
        for bars, side in ((self._bids, near & (sizes > 0)), (self._asks, near & (sizes < 0))):
            lengths = np.abs(sizes[side]) / largest
            bars.set_segments(
                [[(0.0, offset), (length, offset)] for offset, length in zip(offsets[side], lengths, strict=True)]
            )
        self._largest.set_text(f"max {largest:,}")

    def _update_position_and_profit(self, columns: dict[str, Array], opening_equity: float) -> None:
        ticks, held = columns["tick"], columns["position"][1:]  # a decision's position is drawn over the decision
        self._long.set_data(np.maximum(held, 0.0), ticks)
        self._short.set_data(np.minimum(held, 0.0), ticks)
        gain, peak = columns["equity"] - opening_equity, columns["peak"] - opening_equity
        self._gain.set_data(ticks, gain)
        self._lost.set_xy(np.concatenate([np.stack([ticks, peak], -1), np.stack([ticks, gain], -1)[::-1]]))
        low, high, least = min(gain.min(), 0.0), max(peak.max(), 0.0), 1e-4 * abs(opening_equity)
        self._profit.set_ylim(*rounded_limits(low, high + 0.25 * max(high - low, least), least=least))

    def _update_texts(self, history: History, state: MarketState) -> None:
        now, digits = history.rows[-1], labels.decimals(self.config)
        total, end = int(state.clock.last[0]), labels.ending(state)
        symbol = f", symbol {history.symbol}" if self.config.num_symbols > 1 else ""
        self._title.set_text(f"Tick {now.tick:,} of {total:,}{symbol}{f': {end}' if end else ''}")
        self._news.set_text(f"news: {labels.news_label(state, history.symbol)}")
        numbers = (
            _short(now.last, f",.{digits}f"),
            _short(now.ask - now.bid, f",.{digits}f"),
            _short(now.position, "+,"),
            _short(self.config.position_limit, ","),
            _short(now.cash, ",.2f"),
            _short(now.equity, ",.2f"),
            _short(now.equity - history.opening_equity, "+,.2f"),
            f"{100.0 * labels.drawdown(now):.3f} %",
            _short(total - now.tick, ","),
        )
        self._account.set_text("\n".join(numbers))


def rounded_limits(low: float, high: float, *, least: float) -> tuple[float, float]:
    """Ends of an axis that shows low to high, and at least so much, as multiples of a sixth of it or a little more.

    >>> rounded_limits(96.31, 98.72, least=0.2)
    (96.0, 99.0)
    """
    span = max(high - low, least)
    unit = 10.0 ** math.floor(math.log10(span / 6.0))
    step = next(size * unit for size in (1.0, 2.0, 5.0, 10.0) if size * unit >= span / 6.0)
    centre, half = 0.5 * (low + high), 0.52 * span
    return step * math.floor((centre - half) / step), step * math.ceil((centre + half) / step)


def _short(number: float, form: str) -> str:
    """The number in this form, or with fewer digits where that is too wide for the account's column.

    >>> _short(1234.5, ",.2f"), _short(123456789012.25, ",.2f")
    ('1,234.50', '1.23457e+11')
    """
    text = format(number, form)
    return text if len(text) <= _DIGITS else format(number, ".6g")
