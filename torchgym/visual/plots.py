"""Figures: the panel of a realism scorecard, the profits of an audit, speed against size, learning curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torchgym.visual.palette import LIGHT

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as missing:
    raise ImportError('figures need matplotlib: pip install "torchgym[plots]"') from missing

BLUE, ORANGE, GREEN, GREY = LIGHT.price, LIGHT.value, LIGHT.buy, LIGHT.news

Curves = Mapping[str, Any]


def realism_panel(curves: Curves, title: str = "") -> Figure:
    """Nine pictures of a market in a grid of three by three; what was not measured stays empty and says so.

    Args:
        curves: of a `Scorecard`, or read back from its JSON.
        title: above all pictures.
    """
    figure = Figure(figsize=(12.0, 10.2), layout="constrained")
    grid = figure.subplots(3, 3)
    for axes, (key, name, draw) in zip(grid.flat, PICTURES, strict=True):
        axes.set_title(name, fontsize=11, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
        if curves.get(key):
            draw(axes, curves[key])
        else:
            axes.text(0.5, 0.5, "not measured", ha="center", color=GREY, transform=axes.transAxes)
    if title:
        figure.suptitle(title, fontsize=13, x=0.01, ha="left")
    return figure


def audit_bars(rows: Sequence[Any], title: str = "") -> Figure:
    """Mean profit of each policy in basis points of what it traded, with 95 % intervals.

    Args:
        rows: of an `Audit`.
        title: above the bars.
    """
    figure = Figure(figsize=(9.0, 1.2 + 0.2 * len(rows)), layout="constrained")
    axes = figure.subplots()
    places = range(len(rows))
    means = [row.profit_bp for row in rows]
    errors = [_error_bp(row) for row in rows]
    colours = [BLUE if row.passed else ORANGE for row in rows]
    axes.barh(places, means, xerr=[1.96 * error for error in errors], color=colours, ecolor="black", capsize=2)
    axes.set_yticks(places, [row.policy if row.passed else f"{row.policy} (fails)" for row in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set_xscale("symlog", linthresh=10.0)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("profit net of costs, basis points of the amount traded (95 % interval)")
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(title, fontsize=11, loc="left")
    return figure


def bench_panel(rows: Sequence[Any], title: str = "") -> Figure:
    """How fast markets are, against how many there are; what a tick costs, against how many traders are in each.

    Args:
        rows: of `torchgym.bench.bench`; of these, the costs of a step in the cases where markets and where traders grow. What was
            not measured stays empty and says so.
        title: above both pictures.
    """
    figure = Figure(figsize=(10.0, 4.4), layout="constrained")
    speeds, costs = figure.subplots(1, 2)
    for axes, case, size, draw in ((speeds, 6, "markets", _speed), (costs, 7, "traders", _cost)):
        axes.spines[["top", "right"]].set_visible(False)
        seen = sorted(
            (row for row in rows if row.case == case and row.measure == "step"), key=lambda row: int(getattr(row, size))
        )
        if seen:
            draw(axes, [getattr(row, size) for row in seen], seen)
        else:
            axes.text(0.5, 0.5, "not measured", ha="center", color=GREY, transform=axes.transAxes)
    if title:
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def learning_curve(curve: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """What an agent earns while it learns: exploring, and on held-out episodes.

    Args:
        curve: of a `torchgym.training.Run`.
        title: above the picture.
    """
    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.plot([row["frames"] for row in curve], [row["training_return"] for row in curve], color=GREY, linewidth=0.8)
    tried = [row for row in curve if "validation_return" in row]
    axes.plot([row["frames"] for row in tried], [row["validation_return"] for row in tried], "o-", color=BLUE)
    axes.lines[0].set_label("while exploring, estimated from each update")
    axes.lines[1].set_label("held-out episodes, likeliest action")
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.set(xlabel="decisions", ylabel="reward per episode")
    axes.xaxis.set_major_formatter(_thousands)
    axes.legend(fontsize=8, frameon=False)
    if title:
        axes.set_title(title, fontsize=11, loc="left")
    return figure


def ladder_panel(steps: Sequence[Any], curves: Sequence[Mapping[str, Any]]) -> Figure:
    """Per rung every training while it learns and on the test episodes, beside its reference and doing nothing; and the shares.

    Args:
        steps: of `torchgym.training.ladder.summarise`, in order.
        curves: of `torchgym.training.ladder.curve_rows`.
    """
    columns = min(len(steps) + 1, 3)
    rows = -(-(len(steps) + 1) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes in grid[len(steps) + 1 :]:
        axes.set_axis_off()
    for axes in grid[: len(steps) + 1]:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
    for step, axes in zip(steps, grid, strict=False):
        _climb(axes, step, [row for row in curves if row["rung"] == step.rung])
    _shares(grid[len(steps)], steps)
    return figure


def _climb(axes: Axes, step: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Trainings as they explore, means over a twelfth of all updates (whole episodes on every rung); and the agents tested."""
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
    axes.axhline(step.hold_mean, color=GREY, linestyle=":", label=f"doing nothing: {step.hold_mean:,.0f}")
    room = 0.1 * (max(tops) - min(lows) or 1.0)
    far = step.hold_mean < min(lows) - 20.0 * room  # off the picture; the legend has its number
    low = min(lows) if far else min(*lows, step.hold_mean)
    axes.set_ylim(low - 5.0 * room, max(tops) + room)  # the legend stands below
    unit = "currency" if step.score == "profit" else "reward"
    axes.set(xlabel="decisions", ylabel=f"{unit} per episode")
    axes.set_title(step.rung, fontsize=11, loc="left")
    axes.xaxis.set_major_formatter(_thousands)
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _shares(axes: Axes, steps: Sequence[Any]) -> None:
    places = range(len(steps))
    defined = [step for step in steps if math.isfinite(step.share)]
    shares = [100.0 * step.share if step in defined else 0.0 for step in steps]
    ends = [
        [max(100.0 * (step.share - step.share_low), 0.0) if step in defined else 0.0 for step in steps],
        [max(100.0 * (step.share_high - step.share), 0.0) if step in defined else 0.0 for step in steps],
    ]
    colours = [BLUE if step.passed else ORANGE for step in steps]
    axes.barh(places, shares, xerr=ends, color=colours, ecolor="black", capsize=3, height=0.6)
    axes.set_yticks(places, [step.rung if step.passed else f"{step.rung} (fails)" for step in steps], fontsize=9)
    axes.invert_yaxis()
    axes.axvline(100.0, color=ORANGE, linestyle="--", linewidth=1.0)
    axes.set(xlabel="% of the reference's lead (95 % interval)")
    axes.set_title("Share of the reference reached", fontsize=11, loc="left")


def _thousands(value: float, place: float) -> str:
    return f"{value / 1e3:,.0f}k" if value else "0"


def _speed(axes: Axes, markets: Sequence[int], rows: Sequence[Any]) -> None:
    """Market-steps a second, from microseconds per market and tick."""
    rates = [1e6 / row.median for row in rows]
    ends = [[1e6 / row.median - 1e6 / row.high for row in rows], [1e6 / row.low - 1e6 / row.median for row in rows]]
    axes.errorbar(markets, rates, yerr=ends, fmt="o-", color=BLUE, markersize=4, capsize=2)
    axes.set(xscale="log", yscale="log", xlabel="markets in the batch", ylabel="market-steps per second")
    axes.set_title(f"{rows[0].traders:,} traders per market, {rows[0].mode}", fontsize=11, loc="left")
    _mark_sizes(axes, markets)


def _cost(axes: Axes, traders: Sequence[int], rows: Sequence[Any]) -> None:
    """Microseconds per market and tick, beside growth in proportion to the traders."""
    costs = [row.median for row in rows]
    ends = [[row.median - row.low for row in rows], [row.high - row.median for row in rows]]
    proportional = [costs[0] * count / traders[0] for count in traders]
    axes.errorbar(traders, costs, yerr=ends, fmt="o-", color=BLUE, markersize=4, capsize=2, label="measured")
    axes.plot(traders, proportional, "--", color=GREY, label="in proportion to the traders")
    axes.set(xscale="log", yscale="log", xlabel="traders per market", ylabel="µs per market and tick")
    axes.set_title(f"{', '.join(f'{row.markets:,}' for row in rows)} markets", fontsize=11, loc="left")
    axes.legend(fontsize=8, frameon=False)
    _mark_sizes(axes, traders)


def _mark_sizes(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.grid(axis="y", alpha=0.3)


def _error_bp(row: Any) -> float:
    return float(1e4 * row.profit_standard_error / row.turnover) if row.turnover > 0.0 else 0.0


def _distribution(axes: Axes, curve: Curves) -> None:
    centre, density = curve["centre"], curve["density"]
    gaussian = [math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi) for x in centre]
    seen = [(x, y) for x, y in zip(centre, density, strict=True) if y > 0.0]
    axes.plot(centre, gaussian, "--", color=GREY, label="Gaussian")
    axes.plot([x for x, _ in seen], [y for _, y in seen], "o", color=BLUE, markersize=3, label="market")
    axes.set(yscale="log", ylim=(1e-6, 2.0), xlim=(-10, 10))
    axes.set(xlabel="one-tick return (standard deviations)", ylabel="density")
    axes.legend(fontsize=8, frameon=False)


def _memory(axes: Axes, curve: Curves) -> None:
    lag = curve["lag"]
    axes.fill_between(lag, curve["absolute_low"], curve["absolute_high"], color=BLUE, alpha=0.2, linewidth=0.0)
    axes.plot(lag, curve["absolute"], color=BLUE, label="|return|, 5-95 % of markets")
    size = [abs(value) for value in curve["returns"]]
    axes.plot(lag, size, ".", color=ORANGE, markersize=3, label="return, absolute value")
    axes.axhline(curve["noise"], color=GREY, linestyle=":", label="2/√T")
    axes.set(xscale="log", yscale="log", ylim=(1e-3, 1.0), xlabel="lag (ticks)", ylabel="autocorrelation")
    axes.legend(fontsize=8, frameon=False)


def _kurtosis(axes: Axes, curve: Curves) -> None:
    axes.fill_between(curve["horizon"], curve["low"], curve["high"], color=BLUE, alpha=0.2, linewidth=0.0)
    axes.plot(curve["horizon"], curve["median"], "o-", color=BLUE, label="median, 5-95 % of markets")
    axes.axhline(0.0, color=GREY, linestyle="--", linewidth=1.0, label="Gaussian")
    axes.set(xscale="log", yscale="symlog", xlabel="horizon of the return (ticks)", ylabel="excess kurtosis")
    axes.set_xticks(curve["horizon"], [str(ticks) for ticks in curve["horizon"]])
    axes.set_xticks([], minor=True)
    axes.legend(fontsize=8, frameon=False)


def _impact_by_size(axes: Axes, curve: Curves) -> None:
    share, peak = curve["participation"], _basis_points(curve["peak"])
    low, high = _basis_points(curve["peak_low"]), _basis_points(curve["peak_high"])
    bars = [[max(0.0, p - a) for p, a in zip(peak, low, strict=True)], [b - p for p, b in zip(peak, high, strict=True)]]
    axes.errorbar(share, peak, yerr=bars, fmt="o", color=BLUE, markersize=4, capsize=2, label="market, range of groups")
    slopes = sorted(value for value in curve["size_exponent"] if value is not None and math.isfinite(value))
    if slopes and min(peak) > 0.0:
        slope = slopes[len(slopes) // 2]
        middle = sum(math.log(y) - slope * math.log(x) for x, y in zip(share, peak, strict=True)) / len(share)
        axes.plot(share, [math.exp(middle) * x**slope for x in share], color=ORANGE, label=f"(Q/V)^{slope:.2f}")
        root = math.exp(sum(math.log(y) - 0.5 * math.log(x) for x, y in zip(share, peak, strict=True)) / len(share))
        axes.plot(share, [root * x**0.5 for x in share], "--", color=GREY, label="square root")
        axes.set(yscale="log")
    axes.set(
        xscale="log", xlabel=f"order over usual volume of its {curve['duration']} ticks, Q/V", ylabel="peak impact (bp)"
    )
    axes.set_xticks(share, [f"{100.0 * value:.2g} %" for value in share])
    axes.set_xticks([], minor=True)
    axes.legend(fontsize=8, frameon=False)


def _impact_in_time(axes: Axes, curve: Curves) -> None:
    duration = curve["duration"]
    chosen = [index for index, size in enumerate(curve["sizes"]) if size >= 4][-4:] or [len(curve["sizes"]) - 1]
    for colour, style, index in zip((GREY, GREEN, ORANGE, BLUE), (":", "-.", "--", "-"), chosen, strict=False):
        path = _basis_points(curve["path"][index])
        axes.plot(range(1, len(path) + 1), path, style, color=colour, label=f"{curve['sizes'][index]} shares a tick")
    axes.axvspan(0, duration, color=GREY, alpha=0.12, linewidth=0.0)
    axes.axhline(0.0, color="black", linewidth=0.6)
    axes.set(xlabel="ticks since the order's start (shaded: it trades)", ylabel="impact (bp)", xlim=(0, None))
    axes.legend(fontsize=8, frameon=False)


def _sign_memory(axes: Axes, curve: Curves) -> None:
    seen = [
        (lag, value) for lag, value in zip(curve["lag"], curve["acf"], strict=True) if value is not None and value > 0
    ]
    if not seen:
        axes.text(0.5, 0.5, "no positive autocorrelation", ha="center", color=GREY, transform=axes.transAxes)
        return
    first = seen[0][1]
    axes.plot([lag for lag, _ in seen], [value for _, value in seen], ".", color=BLUE, markersize=4, label="market")
    axes.plot(curve["lag"], [first * lag**-0.5 for lag in curve["lag"]], "--", color=GREY, label="lag^-0.5")
    axes.set(xscale="log", yscale="log", xlabel="lag (ticks)", ylabel="autocorrelation of flow's sign")
    axes.set_ylim(1e-3, 1.0)
    axes.legend(fontsize=8, frameon=False)


def _by_volatility(axes: Axes, curve: Curves) -> None:
    usual = {name: sum(curve[name]) / len(curve[name]) for name in ("spread", "volume")}
    for name, unit, colour, style in (("spread", "points", BLUE, "o-"), ("volume", "shares a tick", ORANGE, "s--")):
        relative = [value / usual[name] for value in curve[name]]
        axes.plot(curve["quintile"], relative, style, color=colour, label=f"{name} (mean {usual[name]:.3g} {unit})")
    axes.axhline(1.0, color=GREY, linewidth=0.8, linestyle=":")
    axes.set(xlabel="quintile of the last 50 ticks' volatility", ylabel="relative to the mean", ylim=(0, None))
    axes.set_xticks(curve["quintile"])
    axes.legend(fontsize=8, frameon=False)


def _path(axes: Axes, curve: Curves) -> None:
    ticks = [curve["every"] * index for index in range(len(curve["mid"]))]
    axes.plot(ticks, curve["value"], "--", color=ORANGE, linewidth=1.2, label="value")
    axes.plot(ticks, curve["mid"], color=BLUE, linewidth=0.9, label="mid")
    axes.set(xlabel="ticks", ylabel="price (currency)")
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.legend(fontsize=8, frameon=False)


def _news(axes: Axes, curve: Curves) -> None:
    axes.fill_between(
        curve["tick"], _percent(curve["low"]), _percent(curve["high"]), color=BLUE, alpha=0.2, linewidth=0.0
    )
    axes.plot(curve["tick"], _percent(curve["move"]), color=BLUE, label="mean, range of groups")
    axes.axvline(0.0, color=GREY, linestyle=":", label="headline of 0.5 % or more")
    axes.axhline(0.0, color="black", linewidth=0.6)
    axes.set(xlabel="ticks since the headline", ylabel="move in its direction (%)")
    axes.legend(fontsize=8, frameon=False)


def _basis_points(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else 1e4 * value for value in values]


def _percent(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else 100.0 * value for value in values]


# Which curves, the picture's name, and who draws it; row by row.
PICTURES: tuple[tuple[str, str, Callable[[Axes, Curves], None]], ...] = (
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
