"""Figures: the panel of a realism scorecard, the profits of an audit, learning curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torchgym.extras import needs
from torchgym.visual.palette import LIGHT

with needs("a figure", "torchgym[plots]"):
    from matplotlib import rc_context
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = LIGHT.price, LIGHT.value, LIGHT.buy, LIGHT.news
_STYLE: Any = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
}

Curve = Mapping[str, Any]


@rc_context(_STYLE)
def realism_panel(curves: Curve, title: str = "") -> Figure:
    """Nine pictures of a `Scorecard`'s curves; one without a measurement stays empty and says so.

    Where markets have days the hours take the place of the path.
    """
    figure, grid = _panel(12.0, 10.2, title, rows=3, columns=3)
    pictures = [_HOURS if picture[0] == "path" and curves.get("hours") else picture for picture in _REALISM]
    for axes, (key, name, draw) in zip(grid, pictures, strict=True):
        axes.set_title(name)
        if curves.get(key):
            draw(axes, curves[key])
            _legend(axes)
        else:
            _say(axes, "not measured")
    return figure


@rc_context(_STYLE)
def audit_bars(rows: Sequence[Any], title: str = "") -> Figure:
    """Mean profit of each policy of an `Audit` in basis points of what it traded, with 95 % intervals."""
    figure, (axes,) = _panel(9.0, 1.2 + 0.2 * len(rows), title)
    errors = [1.96e4 * row.profit_standard_error / row.turnover if row.turnover > 0.0 else 0.0 for row in rows]
    _bars(axes, [row.policy for row in rows], [row.profit_bp for row in rows], errors, [row.passed for row in rows])
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=10.0)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("profit net of costs, basis points of the amount traded (95 % interval)")
    return figure


@rc_context(_STYLE)
def learning_curve(curve: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """Reward of an agent during a `torchgym.training.Run`: while exploring, and on held-out episodes."""
    figure, (axes,) = _panel(8.0, 4.2, title)
    for column, style, colour, label in (
        ("training_return", "-", GREY, "while exploring, estimated from each update"),
        ("validation_return", "o-", BLUE, "held-out episodes, likeliest action"),
    ):
        rows = [row for row in curve if column in row]
        axes.plot([row["frames"] for row in rows], [row[column] for row in rows], style, color=colour, label=label)
    axes.lines[0].set(linewidth=0.8, alpha=0.6)
    tried = [row for row in curve if "validation_error" in row]
    low, high = ([row["validation_return"] + end * row["validation_error"] for row in tried] for end in (-1.96, 1.96))
    if tried:  # none of a run that tries its agent nowhere
        axes.fill_between([row["frames"] for row in tried], low, high, color=BLUE, alpha=0.15, label="95 % interval")
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.set(xlabel="decisions", ylabel="reward per episode")
    axes.xaxis.set_major_formatter(_thousands)
    _legend(axes)
    return figure


@rc_context(_STYLE)
def ladder_panel(steps: Sequence[Any], curves: Sequence[Mapping[str, Any]]) -> Figure:
    """One picture per task, of all its trainings beside the reference and the naive policy; and the shares of all tasks.

    The steps are those of `torchgym.training.ladder.summarise`, the curves those of `curve_rows` there.
    """
    columns = min(len(steps) + 1, 3)
    rows = math.ceil((len(steps) + 1) / columns)
    figure, grid = _panel(4.4 * columns, 3.6 * rows, "", rows, columns)
    for step, axes in zip(steps, grid, strict=False):
        _task(axes, step, [row for row in curves if row["task"] == step.task])
    _shares(grid[len(steps)], steps)
    for axes in grid[len(steps) + 1 :]:
        axes.remove()
    return figure


def _task(axes: Axes, step: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Means of each training over a twelfth of its updates, which are whole episodes on every task, and its test episodes."""
    tops = [step.reference_high, *step.agent_by_training]
    lows = [step.reference_low, *step.agent_by_training]
    for training, mean in enumerate(step.agent_by_training):
        own = [row for row in rows if row["training"] == training]
        width = max(len(own) // 12, 1)
        values = [row["training_return"] for row in own]
        smooth = [sum(values[at : at + width]) / width for at in range(len(values) - width + 1)]
        frames = [row["frames"] for row in own][width - 1 :]
        axes.plot(frames, smooth, "-", color=BLUE, alpha=0.5, linewidth=1.0)
        axes.plot(frames[-1:], [mean], "o", color=BLUE, markersize=5, clip_on=False)
        tops.append(max(smooth[len(smooth) // 4 :]))
        lows.append(min(smooth[len(smooth) // 4 :]))
    axes.lines[0].set_label("agents in training, exploring")
    axes.lines[1].set_label("agents on the test episodes")
    axes.axhspan(step.reference_low, step.reference_high, color=ORANGE, alpha=0.15, linewidth=0.0)
    axes.axhline(step.reference_mean, color=ORANGE, linestyle="--", label=f"{step.reference}, test episodes")
    axes.axhline(step.naive_mean, color=GREY, linestyle=":", label=f"{step.naive}: {step.naive_mean:,.0f}")
    room = 0.1 * (max(tops) - min(lows) or 1.0)
    if step.naive_mean >= min(lows) - 20.0 * room:  # else it stays outside; the legend has its number
        lows.append(step.naive_mean)
    axes.set_ylim(min(lows) - 5.0 * room, max(tops) + room)  # the legend stands below
    unit = "currency" if step.score == "profit" else "reward"
    axes.set(xlabel="decisions", ylabel=f"{unit} per episode")
    axes.xaxis.set_major_formatter(_thousands)
    axes.set_title(step.task)
    _legend(axes, loc="lower right")


def _shares(axes: Axes, steps: Sequence[Any]) -> None:
    shares = [[100.0 * end for end in (step.share, step.share_low, step.share_high)] for step in steps]
    known = [[0.0, 0.0, 0.0] if math.isnan(middle) else [middle, low, high] for middle, low, high in shares]
    middles = [middle for middle, _, _ in known]
    below = [max(middle - low, 0.0) for middle, low, _ in known]
    above = [max(high - middle, 0.0) for middle, _, high in known]
    _bars(axes, [step.task for step in steps], middles, [below, above], [step.passed for step in steps])
    axes.axvline(100.0, color=ORANGE, linestyle="--", linewidth=1.0)
    axes.set(xlabel="% of the reference's lead (95 % interval)")
    axes.set_title("Share of the reference reached")


def _panel(width: float, height: float, title: str, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches and its axes, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _say(axes: Axes, message: str) -> None:
    axes.text(0.5, 0.5, message, ha="center", color=GREY, transform=axes.transAxes)


def _legend(axes: Axes, **place: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**place)


def _bars(axes: Axes, names: Sequence[str], values: Any, errors: Any, passed: Sequence[bool]) -> None:
    """A bar per name, the first on top; one that fails says so."""
    colours = [BLUE if fine else ORANGE for fine in passed]
    axes.barh(range(len(names)), values, xerr=errors, color=colours, ecolor="black", capsize=2, height=0.7)
    labels = [name if fine else f"{name} (fails)" for name, fine in zip(names, passed, strict=True)]
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _thousands(value: float, place: float) -> str:
    return f"{value / 1e3:,.0f}k" if value else "0"


def _band(axes: Axes, x: Sequence[float], lines: Sequence[Sequence[float]], label: str, style: str = "-") -> None:
    """A line inside its band; lines are the low, the middle and the high one."""
    low, middle, high = lines
    axes.fill_between(x, low, high, color=BLUE, alpha=0.2, linewidth=0.0)
    axes.plot(x, middle, style, color=BLUE, label=label)


def _scaled(values: Sequence[float | None], factor: float) -> list[float]:
    return [math.nan if value is None else factor * value for value in values]


def _distribution(axes: Axes, curve: Curve) -> None:
    centre = curve["centre"]
    gaussian = [math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi) for x in centre]
    density = [y if y > 0.0 else math.nan for y in curve["density"]]
    axes.plot(centre, gaussian, "--", color=GREY, label="Gaussian")
    axes.plot(centre, density, "o", color=BLUE, markersize=3, label="market")
    axes.set(yscale="log", ylim=(1e-6, 2.0), xlim=(-10, 10))
    axes.set(xlabel="one-tick return (standard deviations)", ylabel="density")


def _memory(axes: Axes, curve: Curve) -> None:
    lag, parts = curve["lag"], ("absolute_low", "absolute", "absolute_high")
    _band(axes, lag, [curve[part] for part in parts], "|return|, 5-95 % of markets")
    size = [abs(value) for value in curve["returns"]]
    axes.plot(lag, size, ".", color=ORANGE, markersize=3, label="return, absolute value")
    axes.axhline(curve["noise"], color=GREY, linestyle=":", label="2/√T")
    axes.set(xscale="log", yscale="log", ylim=(1e-3, 1.0), xlabel="lag (ticks)", ylabel="autocorrelation")


def _kurtosis(axes: Axes, curve: Curve) -> None:
    horizon = curve["horizon"]
    _band(axes, horizon, [curve[part] for part in ("low", "median", "high")], "median, 5-95 % of markets", "o-")
    axes.axhline(0.0, color=GREY, linestyle="--", linewidth=1.0, label="Gaussian")
    axes.set(xscale="log", yscale="symlog", xlabel="horizon of the return (ticks)", ylabel="excess kurtosis")
    axes.set_xticks(horizon, [str(ticks) for ticks in horizon])
    axes.set_xticks([], minor=True)


def _impact_by_size(axes: Axes, curve: Curve) -> None:
    share = curve["participation"]
    peak, low, high = (_scaled(curve[part], 1e4) for part in ("peak", "peak_low", "peak_high"))
    bars = [[max(0.0, p - a) for p, a in zip(peak, low, strict=True)], [b - p for p, b in zip(peak, high, strict=True)]]
    axes.errorbar(share, peak, yerr=bars, fmt="o", color=BLUE, markersize=4, capsize=2, label="market, range of groups")
    slopes = sorted(value for value in curve["size_exponent"] if value is not None and math.isfinite(value))
    if slopes and min(peak) > 0.0:
        slope = slopes[len(slopes) // 2]
        fitted, usual = (slope, "-", ORANGE, f"(Q/V)^{slope:.2f}"), (0.5, "--", GREY, "square root")
        for power, style, colour, label in (fitted, usual):
            middle = sum(math.log(y) - power * math.log(x) for x, y in zip(share, peak, strict=True)) / len(share)
            axes.plot(share, [math.exp(middle) * x**power for x in share], style, color=colour, label=label)
        axes.set(yscale="log")
    axes.set(xscale="log", ylabel="peak impact (bp)")
    axes.set_xlabel(f"order over usual volume of its {curve['duration']} ticks, Q/V")
    axes.set_xticks(share, [f"{100.0 * value:.2g} %" for value in share])
    axes.set_xticks([], minor=True)


def _impact_in_time(axes: Axes, curve: Curve) -> None:
    chosen = [index for index, size in enumerate(curve["sizes"]) if size >= 4][-4:] or [len(curve["sizes"]) - 1]
    for colour, style, index in zip((GREY, GREEN, ORANGE, BLUE), (":", "-.", "--", "-"), chosen, strict=False):
        path = _scaled(curve["path"][index], 1e4)
        axes.plot(range(1, len(path) + 1), path, style, color=colour, label=f"{curve['sizes'][index]} shares a tick")
    axes.axvspan(0, curve["duration"], color=GREY, alpha=0.12, linewidth=0.0)
    axes.axhline(0.0, color="black", linewidth=0.6)
    axes.set(xlabel="ticks since the order's start (shaded: it trades)", ylabel="impact (bp)", xlim=(0, None))
    low, high = axes.get_ylim()
    axes.set_ylim(low, low + 1.4 * (high - low))  # room for the legend


def _sign_memory(axes: Axes, curve: Curve) -> None:
    positive = [math.nan if value is None or value <= 0.0 else value for value in curve["acf"]]
    first = next((value for value in positive if value > 0.0), None)
    if first is None:
        _say(axes, "no positive autocorrelation")
        return
    axes.plot(curve["lag"], positive, ".", color=BLUE, markersize=4, label="market")
    axes.plot(curve["lag"], [first * lag**-0.5 for lag in curve["lag"]], "--", color=GREY, label="lag^-0.5")
    axes.set(xscale="log", yscale="log", ylim=(1e-3, 1.0))
    axes.set(xlabel="lag (ticks)", ylabel="autocorrelation of flow's sign")


def _by_volatility(axes: Axes, curve: Curve) -> None:
    for name, unit, colour, style in (("spread", "points", BLUE, "o-"), ("volume", "shares a tick", ORANGE, "s--")):
        usual = sum(curve[name]) / len(curve[name])
        relative = [value / usual for value in curve[name]]
        axes.plot(curve["quintile"], relative, style, color=colour, label=f"{name} (mean {usual:.3g} {unit})")
    axes.axhline(1.0, color=GREY, linewidth=0.8, linestyle=":")
    axes.set(xlabel="quintile of the last 50 ticks' volatility", ylabel="relative to the mean", ylim=(0, None))
    axes.set_xticks(curve["quintile"])


def _path(axes: Axes, curve: Curve) -> None:
    ticks = [curve["every"] * index for index in range(len(curve["mid"]))]
    axes.plot(ticks, curve["value"], "--", color=ORANGE, linewidth=1.2, label="value")
    axes.plot(ticks, curve["mid"], color=BLUE, linewidth=0.9, label="mid")
    axes.set(xlabel="ticks", ylabel="price (currency)")
    axes.ticklabel_format(useOffset=False, style="plain")


def _hours(axes: Axes, curve: Curve) -> None:
    tick, inner = curve["tick"], slice(1, -1)
    for name, label, colour, style in (("volume", "volume", ORANGE, "-"), ("size", "absolute return", BLUE, "--")):
        axes.plot(tick[inner], curve[name][inner], style, color=colour, linewidth=1.0, label=label)
    ends = [tick[0], tick[-1]], [curve["volume"][0], curve["volume"][-1]]
    axes.plot(*ends, "o", color=ORANGE, markersize=5, label="volume of the auctions")
    axes.axhline(1.0, color=GREY, linewidth=0.8, linestyle=":")
    axes.set(xlabel="ticks since the opening", ylabel="relative to midday", ylim=(0, None))


def _news(axes: Axes, curve: Curve) -> None:
    lines = [_scaled(curve[part], 100.0) for part in ("low", "move", "high")]
    _band(axes, curve["tick"], lines, "mean, range of groups")
    axes.axvline(0.0, color=GREY, linestyle=":", label="headline of 0.5 % or more")
    axes.axhline(0.0, color="black", linewidth=0.6)
    axes.set(xlabel="ticks since the headline", ylabel="move in its direction (%)")


_HOURS: tuple[str, str, Callable[[Axes, Curve], None]] = ("hours", "Hours of the day", _hours)
# Key of the curve, title of the picture, and the function that draws it; row by row.
_REALISM: tuple[tuple[str, str, Callable[[Axes, Curve], None]], ...] = (
    ("distribution", "Distribution of returns", _distribution),
    ("memory", "Memory of returns and volatility", _memory),
    ("kurtosis", "Kurtosis by horizon", _kurtosis),
    ("impact", "Impact by size", _impact_by_size),
    ("impact", "Impact in time", _impact_in_time),
    ("sign_memory", "Memory of order signs", _sign_memory),
    ("by_volatility", "Spread and volume by volatility", _by_volatility),
    ("path", "Price and value of one market", _path),
    ("news", "Response to news", _news),
)
