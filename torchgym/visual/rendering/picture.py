"""A market and its learner as one picture, for a frame or in a window.

A frame has three layers, and the pixels of two are kept. What never changes is drawn once: the axes of the book, the legend.
The axes over time are drawn again when one of their limits changes; limits are rounded, so that this is seldom, and depend on
the history alone. Lines, bars and texts on top move with every frame.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from torchgym.config import MarketConfig
from torchgym.extras import needs
from torchgym.readout.depth import depth, own_orders
from torchgym.sim.state import MarketState
from torchgym.visual.palette import LIGHT
from torchgym.visual.rendering.history import History, HistoryRow
from torchgym.visual.rendering.text import account, decimals, ending, news_label, value_label

with needs("a picture", "torchgym[plots]"):
    import matplotlib.pyplot as plt
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import FigureManagerBase
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter
    from matplotlib.transforms import ScaledTranslation

    from torchgym.visual.rendering.characters import Characters

_SIZE: dict[str, Any] = {"figsize": (9.6, 7.2), "dpi": 100}  # 960 pixels wide, 720 high
BOOK_SPAN = 60  # points on each side of the mid that the book shows; four fifths of a book's shares are nearer
_DIGITS = 14  # characters for a number of the account
_MANY_TRADES = 120  # from here on their marks are smaller
_TIME_STEP = 50  # decisions; ends of the time axis are multiples of it
_STEPS = [1, 2, 5, 10]  # between ticks of an axis, times a power of ten
_LEGEND: dict[str, Any] = {"frameon": False, "labelcolor": LIGHT.text}
_REMEDY = (
    "choose an interactive backend of matplotlib on a machine with a display (MPLBACKEND=TkAgg or QtAgg), "
    'or render_mode="rgb_array" or "ansi", which need none'
)

Array = npt.NDArray[np.float64]
AnyArtist = TypeVar("AnyArtist", bound=Artist)


class Picture:
    """Price, book, position and profit of one market, on a figure of its own or on that of a window."""

    def __init__(self, config: MarketConfig, figure: Figure | None = None) -> None:
        self.config = config
        self.figure = Figure(**_SIZE) if figure is None else figure
        self._canvas = FigureCanvasAgg(self.figure) if figure is None else None
        self._moving: list[Artist] = []  # in the order in which they are drawn
        self._still: Any = None  # pixels of what never changes
        self._ground: tuple[Any, Any] | None = None  # limits of the axes over time; pixels of them and of the above
        ratios: dict[str, Any] = {"width_ratios": (4, 1), "height_ratios": (3.2, 1, 1.5)}
        grid = self.figure.add_gridspec(3, 2, wspace=0.06, hspace=0.16, **ratios)
        grid.update(left=0.085, right=0.915, top=0.865, bottom=0.075)
        self._price, self._book = self._axes(grid[0, 0], "price"), self._axes(grid[0, 1], "")
        self._position, self._profit = self._axes(grid[1, 0], "position in shares"), self._axes(grid[2, 0], "profit")
        self._over_time = self._price, self._position, self._profit
        self._make_price()
        self._make_book()
        self._make_position_and_profit()
        self._make_texts()

    def frame(self) -> npt.NDArray[np.uint8]:
        """The picture as of the last `update`, [720, 960, 3] uint8, a fresh array."""
        canvas = self._canvas
        assert canvas is not None, "a picture in a window is looked at there"
        renderer, limits = canvas.get_renderer(), tuple(axes.viewLim.bounds for axes in self._over_time)
        if self._still is None:
            self._still = self._draw_still(canvas)
        if self._ground is None or self._ground[0] != limits:
            canvas.restore_region(self._still)
            for axes in self._over_time:
                axes.draw(renderer)
            self._ground = limits, canvas.copy_from_bbox(self.figure.bbox)
        else:
            canvas.restore_region(self._ground[1])
        for artist in self._moving:
            artist.draw(renderer)
        pixels = np.asarray(canvas.buffer_rgba())
        frame = np.empty((*pixels.shape[:2], 3), dtype=np.uint8)
        for colour in range(3):  # six times as fast as all three at once
            frame[..., colour] = pixels[..., colour]
        return frame

    def _draw_still(self, canvas: FigureCanvasAgg) -> Any:
        for axes in self._over_time:
            axes.set_visible(False)
        canvas.draw()
        for axes in self._over_time:
            axes.set_visible(True)
        return canvas.copy_from_bbox(self.figure.bbox)

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
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=_STEPS))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
        self._heading(axes, 0.0, name, LIGHT.muted)
        return axes

    def _heading(self, axes: Axes, place: float, text: str, colour: str, **more: Any) -> Any:
        """Text above the axes, at this share of their width."""
        return axes.text(place, 1.02, text, color=colour, fontsize=9, va="bottom", transform=axes.transAxes, **more)

    def _move(self, artist: AnyArtist) -> AnyArtist:
        """The artist, from now on left out of the ground."""
        artist.set_animated(self._canvas is not None)
        self._moving.append(artist)
        return artist

    def _line(self, axes: Axes, style: str, colour: str, **more: Any) -> Any:
        """A moving line or row of markers."""
        return self._move(axes.plot([], [], style, color=colour, **more)[0])

    def _characters(self, x: float, y: float, **how: Any) -> Characters:
        """Lines of text on the figure."""
        characters = Characters(x, y, **how)
        self.figure.add_artist(characters)
        return characters

    def _make_price(self) -> None:
        axes, across = self._price, self._price.get_xaxis_transform()
        above, below = (
            axes.transData + ScaledTranslation(0.0, shift / 72.0, self.figure.dpi_scale_trans) for shift in (8, -8)
        )
        edge = {"markeredgecolor": LIGHT.background, "markeredgewidth": 0.6}
        news = {"markersize": 7, "transform": across, "clip_on": False}
        self._headlines = self._move(
            axes.vlines([], 0.0, 1.0, colors=LIGHT.news, linewidths=0.8, linestyles=":", transform=across)
        )
        self._value = self._line(axes, "--", LIGHT.value, linewidth=1.3)
        self._mid = self._line(axes, "-", LIGHT.price, linewidth=1.5)
        self._now = self._line(axes, "o", LIGHT.price, markersize=5)
        self._buys = self._line(axes, "^", LIGHT.buy, transform=below, **edge)
        self._sells = self._line(axes, "v", LIGHT.sell, transform=above, **edge)
        self._good, self._bad = self._line(axes, "P", LIGHT.news, **news), self._line(axes, "X", LIGHT.news, **news)
        axes.yaxis.set_major_formatter(StrMethodFormatter(f"{{x:,.{decimals(self.config)}f}}"))
        lines = [self._mid, self._value, self._buys, self._sells, self._good, self._bad]
        names = ["mid", value_label(self.config), "learner buys", "sells", "good news", "bad news"]
        spaces: dict[str, Any] = {"handlelength": 1.6, "columnspacing": 1.3, "handletextpad": 0.5}
        place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (0.072, 0.914), "ncols": 6}
        self.figure.legend(lines, names, fontsize=9, **place, **spaces, **_LEGEND)

    def _make_book(self) -> None:
        axes = self._book
        axes.set(xlim=(0.0, 1.0), ylim=(-BOOK_SPAN, BOOK_SPAN), xticks=[])
        axes.set_yticks([-50, 0, 50], ["−50", "0", "+50"])
        axes.axhline(0.0, color=LIGHT.price, linewidth=1.0)
        axes.yaxis.tick_right()
        axes.tick_params(right=False)
        own = "\n\u25b8 orders of the learner" * bool(self.config.quotes)
        axes.set_xlabel(f"points from the mid, shares{own}", color=LIGHT.muted, fontsize=8)
        self._bids, self._asks = (
            self._move(axes.hlines([], 0.0, 1.0, colors=colour, linewidths=1.7)) for colour in (LIGHT.buy, LIGHT.sell)
        )
        self._heading(axes, 0.0, "bids", LIGHT.buy)
        self._heading(axes, 0.22, "asks", LIGHT.sell)
        self._own = self._line(axes, ">", LIGHT.text, markersize=6, clip_on=False)

    def _make_position_and_profit(self) -> None:
        limit = 1.15 * self.config.position_limit
        self._position.set_ylim(-limit, limit)
        self._position.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        self._long, self._short = (
            self._move(self._position.stairs([0.0], [0.0, 1.0], fill=True, color=colour, alpha=0.75))
            for colour in (LIGHT.buy, LIGHT.sell)
        )
        self._lost = self._move(self._profit.fill([0.0], [0.0], color=LIGHT.value, linewidth=0.0, alpha=0.25)[0])
        self._gain = self._line(self._profit, "-", LIGHT.price, linewidth=1.5)
        self._profit.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        self._profit.set_xlabel("tick", color=LIGHT.muted, fontsize=9)
        areas, names = [self._gain, Patch(color=LIGHT.value, alpha=0.25)], ["equity less the opening one", "drawdown"]
        self._profit.legend(areas, names, loc="upper left", ncols=2, fontsize=8, **_LEGEND)
        for axes in (self._position, self._profit):
            axes.axhline(0.0, color=LIGHT.muted, linewidth=0.7)

    def _make_texts(self) -> None:
        column: dict[str, Any] = {"size": 8, "colour": LIGHT.text, "pitch": 15.3, "family": "monospace"}
        self._title = self._move(self._characters(0.085, 0.977, colour=LIGHT.text, size=12, weight="bold"))
        self._news = self._move(self._characters(0.915, 0.975, colour=LIGHT.muted, size=10, right=True))
        self._largest = self._move(self._characters(0.915, 0.895, colour=LIGHT.muted, size=9, right=True))
        self._names = self._characters(0.748, 0.4, **column)  # the same in every frame
        self._account = self._move(self._characters(0.915, 0.4, right=True, **column))

    def _update_time(self, ticks: Array) -> None:
        step = _TIME_STEP * self.config.ticks_per_action
        first, last = step * (ticks[0] // step), step * (ticks[-1] // step + 1)
        for axes in self._over_time:
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
        self._price.set_ylim(*_rounded_limits(shown.min(), shown.max(), least=20.0 * self.config.point_size))

    def _update_book(self, history: History, state: MarketState) -> None:
        prices, sizes = (part.cpu().numpy() for part in depth(state, 0, history.symbol))
        offsets = prices - history.rows[-1].mid / self.config.point_size
        near = np.abs(offsets) <= BOOK_SPAN
        largest = np.abs(sizes[near]).max(initial=1)
        for bars, side in ((self._bids, near & (sizes > 0)), (self._asks, near & (sizes < 0))):
            levels = zip(offsets[side], np.abs(sizes[side]) / largest, strict=True)
            bars.set_segments([[(0.0, offset), (length, offset)] for offset, length in levels])
        self._largest.set_text(f"max {largest:,}")
        own = np.array(list(own_orders(self.config, state, symbol=history.symbol)), dtype=np.float64)
        heights = own - history.rows[-1].mid / self.config.point_size
        heights = heights[np.abs(heights) <= BOOK_SPAN]
        self._own.set_data(np.zeros_like(heights), heights)

    def _update_position_and_profit(self, columns: dict[str, Array], opening_equity: float) -> None:
        ticks, held = columns["tick"], columns["position"][1:]  # a decision's position is drawn over the decision
        self._long.set_data(np.maximum(held, 0.0), ticks)
        self._short.set_data(np.minimum(held, 0.0), ticks)
        gain, peak = columns["equity"] - opening_equity, columns["peak"] - opening_equity
        self._gain.set_data(ticks, gain)
        self._lost.set_xy(np.concatenate([np.stack([ticks, peak], -1), np.stack([ticks, gain], -1)[::-1]]))
        low, high, least = min(gain.min(), 0.0), max(peak.max(), 0.0), 1e-4 * abs(opening_equity)
        self._profit.set_ylim(*_rounded_limits(low, high + 0.25 * max(high - low, least), least=least))

    def _update_texts(self, history: History, state: MarketState) -> None:
        symbol = f", symbol {history.symbol}" if self.config.num_symbols > 1 else ""
        tick, total = history.rows[-1].tick, int(state.clock.last[0])
        self._title.set_text(f"Tick {tick:,} of {total:,}{symbol}{ending(state)}")
        self._news.set_text(f"news: {news_label(state, history.symbol)}")
        numbers = account(history, state)
        self._names.set_text("\n".join(numbers))
        self._account.set_text("\n".join(_short(number) for number in numbers.values()))


class Window(Picture):
    """A window of matplotlib's interactive backends; shown at the first drawing. Closed by hand it stays closed.

    Raises:
        RuntimeError: when no window can be opened, naming the remedy.
    """

    def __init__(self, config: MarketConfig) -> None:
        try:
            figure = plt.figure(**_SIZE)
        except Exception as error:  # each toolkit has errors of its own
            raise RuntimeError(f'render_mode="human" cannot open a window ({error}): {_REMEDY}') from error
        manager = figure.canvas.manager
        if manager is None or type(manager) is FigureManagerBase:  # as backends have it that only write files
            plt.close(figure)
            backend = plt.get_backend()
            raise RuntimeError(f'render_mode="human" cannot open a window with the backend {backend!r}: {_REMEDY}')
        manager.set_window_title("torchgym")
        super().__init__(config, figure)
        self._manager = manager
        self._shown = False

    def show(self, history: History, state: MarketState) -> None:
        """Draw the market as it stands and let the window answer its user."""
        if self._shown and not plt.fignum_exists(self._manager.num):
            return
        self.update(history, state)
        if not self._shown:
            self._manager.show()
            self._shown = True
        self.figure.canvas.draw()
        self.figure.canvas.flush_events()

    def close(self) -> None:
        """Close the window; may be called again."""
        plt.close(self.figure)


def _rounded_limits(low: float, high: float, *, least: float) -> tuple[float, float]:
    """Ends of an axis, at ticks, that shows low to high and a little more, and at least so much."""
    middle, half = 0.5 * (low + high), 0.52 * max(high - low, least)
    ticks = MaxNLocator(7, steps=_STEPS).tick_values(middle - half, middle + half)
    return ticks[0], ticks[-1]


def _short(number: str) -> str:
    """The number with fewer digits where it is too wide for the account's column.

    >>> _short("1,234.50"), _short("123,456,789,012.25")
    ('1,234.50', '1.23457e+11')
    """
    return number if len(number) <= _DIGITS else format(float(number.replace(",", "")), ".6g")
