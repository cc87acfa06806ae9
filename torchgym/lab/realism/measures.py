"""What each fact measures: functions of `Paths` or `Impact` to {measure: values}, one value per row unless it says otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from torchgym.lab.realism import statistics
from torchgym.lab.realism.impact import Impact
from torchgym.lab.realism.paths import MEMORY, Paths

HORIZONS = (1, 5, 15, 60, 390)  # ticks: a minute to a trading day
SPANS = (2, 4, 8, 16)  # ticks of the variance ratios
TOGETHER = 30  # ticks over which symbols are correlated
NEWS_BEFORE, NEWS_AFTER = 30, 60  # ticks around an event
LARGE_NEWS = 0.005  # log effect of a headline that counts as an event
GROUPS = 8  # rows pooled where one row has too few events
UNIT_ROOT = 14.1  # Dickey and Fuller's 5 % point of T (1 - phi), regression with a constant


def linear_memory(paths: Paths, lags: int = 50, spans: Sequence[int] = SPANS) -> dict[str, Tensor]:
    """Autocorrelation of returns up to `lags`, and variance ratios over `spans`.

    Volatility clustering widens the sampling error of an autocorrelation beyond 1 / sqrt(T) in any martingale; the robust band
    accounts for it; the naive one is reported beside it.
    """
    returns = paths.returns
    correlation = statistics.autocorrelation(returns, lags)
    error = statistics.robust_lag_error(returns, lags)
    ticks = returns.shape[1]
    tail = correlation[:, 2:].abs()
    return {
        "first_lag": correlation[:, 1],
        "lags_within_band": (tail <= 1.96 * error[:, 2:]).double().mean(-1),
        "lags_within_naive_band": (tail <= 1.96 / math.sqrt(ticks)).double().mean(-1),
        **{f"variance_ratio_{span}": statistics.variance_ratio(returns, span) for span in spans},
    }


def heavy_tails(paths: Paths) -> dict[str, Tensor]:
    """Excess kurtosis; Hill's index of the 1 % largest moves on either side."""
    returns = statistics.standardise(paths.returns)
    return {
        "excess_kurtosis": statistics.excess_kurtosis(returns),
        "upper_tail_index": statistics.hill_index(returns, tail="upper"),
        "lower_tail_index": statistics.hill_index(returns, tail="lower"),
    }


def kurtosis_by_horizon(paths: Paths, horizons: Sequence[int] = HORIZONS) -> Tensor:
    """Excess kurtosis of overlapping returns over each of the H `horizons`, [R, H]."""
    by_horizon = [statistics.excess_kurtosis(statistics.aggregate(paths.returns, span)) for span in horizons]
    return torch.stack(by_horizon, dim=-1)


def aggregation(paths: Paths, horizons: Sequence[int] = HORIZONS) -> dict[str, Tensor]:
    """Fall of kurtosis with the horizon.

    A path of 16,384 ticks holds 42 separate returns over 390 ticks: too few for the order of five kurtoses in one path, enough
    for one ratio. So the fall from each horizon to the next is judged on the curve of medians over rows, and is one number for
    all of them: the largest step, which must go down, in units of the kurtosis at one tick.
    """
    kurtosis = kurtosis_by_horizon(paths, horizons)
    curve = kurtosis.nanquantile(0.5, dim=0)
    heavy = kurtosis[:, 0] > 0
    ratio = torch.where(heavy, kurtosis[:, -1] / kurtosis[:, 0], torch.nan)  # no tails at one tick: nothing can fall
    return {"kurtosis_ratio": ratio, "largest_step": (curve.diff() / curve[0].abs()).amax().reshape(1)}


def conditional_tails(paths: Paths) -> dict[str, Tensor]:
    """Kurtosis that is left when returns are divided by the volatility forecast from the past."""
    raw = statistics.excess_kurtosis(paths.returns)
    left = statistics.excess_kurtosis(paths.returns / statistics.ewma_volatility(paths.returns))
    return {"conditional_kurtosis": left, "share_of_unconditional": left / raw}


def clustering(paths: Paths, lags: int = 50) -> dict[str, Tensor]:
    """Autocorrelation of absolute returns at lag 1; the smallest of its means over five lags up to `lags`, over 2 / sqrt(T)."""
    correlation = paths.size_memory[:, 1 : lags + 1]
    floor = correlation.unflatten(-1, (-1, 5)).mean(-1).amin(-1)
    return {"first_lag": correlation[:, 0], "smallest_over_noise": floor * math.sqrt(paths.ticks) / 2.0}


def slow_decay(paths: Paths, last: int = MEMORY) -> dict[str, Tensor]:
    """Power law against exponential, fitted to the autocorrelation of absolute returns over lags 5 … `last`."""
    fit = statistics.decay_fit(paths.size_memory, 5, last)
    return {"exponent": fit.exponent, "error_over_exponential": fit.power_error / fit.exponential_error}


def intermittency(paths: Paths, window: int = 100) -> dict[str, Tensor]:
    """Clustering of large moves: Fano factor over a window of moves beyond the row's own 95 % quantile; 0.95 if independent."""
    size = paths.returns.abs()
    rank = math.ceil(0.95 * size.shape[1])  # not `quantile`, which refuses tensors of more than 16 million values
    large = size > size.kthvalue(rank, dim=-1, keepdim=True).values
    return {"fano_factor": statistics.fano_factor(large, window)}


def volume_volatility(paths: Paths) -> dict[str, Tensor]:
    """Rank correlation of a tick's volume with its absolute return."""
    return {"rank_correlation": statistics.spearman(_of(paths, "volume"), paths.returns.abs())}


def leverage(paths: Paths) -> dict[str, Tensor]:
    """Mean over lags 1 … 10 of corr(r_t, r²_{t + lag})."""
    return {"mean_correlation": statistics.leverage(paths.returns, 10).mean(-1)}


def asymmetry(paths: Paths) -> dict[str, Tensor]:
    """Skewness of one-tick returns."""
    return {"skewness": statistics.skewness(paths.returns)}


def timescales(paths: Paths, window: int = 20) -> dict[str, Tensor]:
    """How much better coarse volatility predicts fine volatility than the reverse."""
    return {"coarse_less_fine": statistics.timescale_asymmetry(paths.returns, window=window)}


def sign_memory(paths: Paths) -> dict[str, Tensor]:
    """Autocorrelation of the sign of aggressive flow, zero where buys equal sells.

    The smallest of the means over lags 1, 2, 3–4, 5–8, … 65–100 must be positive; the exponent is fitted over lags 1 … 100.
    """
    correlation = statistics.autocorrelation(order_sign(paths), 100)
    edges = [(1, 2), (2, 3), (3, 5), (5, 9), (9, 17), (17, 33), (33, 65), (65, 101)]
    binned = torch.stack([correlation[:, low:high].mean(-1) for low, high in edges], dim=-1)
    return {
        "smallest_correlation": binned.amin(-1),
        "exponent": statistics.decay_fit(correlation, 1, 100).exponent,
    }


def order_sign(paths: Paths) -> Tensor:
    """Sign of aggressive buys less sells, [R, T]."""
    return torch.sign(_of(paths, "buys") - _of(paths, "sells"))


def flow_moves_price(paths: Paths) -> dict[str, Tensor]:
    """R² of the mid's change in points on the imbalance of flow, both summed over windows of 10 ticks.

    The source counts every event at the best quotes; a call auction has none within a tick, so the flow is what aggressive
    orders bought less what they sold.
    """
    flow = _windows(_of(paths, "buys") - _of(paths, "sells"), 10)
    return {"r_squared": statistics.r_squared(_windows(_of(paths, "change"), 10), flow)}


def spread(paths: Paths) -> dict[str, Tensor]:
    """The narrowest spread, its rank correlation with the mean absolute return of the last 50 ticks, its widening on news.

    Widening compares the 5 ticks from a headline on with the 30 before it: with the mean over all ticks it would compare an
    ordinary moment with the few of high volatility that make up most of that mean.
    """
    width = _of(paths, "spread")
    values = {
        "narrowest": width.amin(-1),
        "rank_correlation_with_volatility": statistics.spearman(width[:, 49:], recent_volatility(paths)),
    }
    widened = None if paths.news is None else _widening(width, paths.news)
    return values if widened is None else {**values, "after_news_over_before": widened}


def recent_volatility(paths: Paths, span: int = 50) -> Tensor:
    """Mean absolute return of the last `span` ticks, this one included, [R, T - span + 1]."""
    return statistics.aggregate(paths.returns.abs(), span) / span


def activity(paths: Paths) -> dict[str, Tensor]:
    """Autocorrelation at lag 1 of the number of orders that trade in a tick."""
    return {"first_lag": statistics.autocorrelation(_of(paths, "fills"), 1)[:, 1]}


def news_response(paths: Paths) -> dict[str, Tensor]:
    """The move around headlines of at least 0.5 %, signed by the headline; pooled over groups of rows.

    `move_before` is the mean move over the 30 ticks before, as a share of the move after, and zero where it lies within two
    standard errors of zero. "After" counts from the event's own tick. Groups without events are left out.
    """
    response = news_study(paths)
    if response is None:
        return {}
    move, error, volume, size = response
    before, after = move[:, NEWS_BEFORE - 1], move[:, -1] - move[:, NEWS_BEFORE - 1]
    start = NEWS_BEFORE
    settled = move[:, start + 30] - before
    values = {
        "move_after": 100.0 * after,
        "move_before": torch.where(before.abs() <= 2.0 * error, 0.0, before.abs() / after.abs()),
        "share_within_30_ticks": settled / after,
        "volatility_early_over_late": size[:, start + 1 : start + 6].mean(-1) / size[:, start + 31 :].mean(-1),
    }
    return values if volume is None else {**values, "volume_over_usual": volume[:, start : start + 5].mean(-1)}


def news_study(paths: Paths) -> tuple[Tensor, Tensor, Tensor | None, Tensor] | None:
    """Event study of large headlines, G groups of rows, offsets -30 … 60 around the event's tick.

    Returns:
        The mean cumulated move [G, 91], signed by the headline, from the tick before offset -30; the standard error [G] of
        that move at offset -1, infinite for a single event; volume [G, 91] over the row's mean, None if not recorded; absolute
        return [G, 91] over the row's mean. None without an event.
    """
    news = _of(paths, "news")
    usable = (news.abs() >= LARGE_NEWS) & _away_from_the_ends(news)
    row, at = usable.nonzero().unbind(-1)
    if len(row) == 0:
        return None
    places = at[:, None] + torch.arange(-NEWS_BEFORE, NEWS_AFTER + 1, device=news.device)
    sign = torch.sign(news[row, at])
    moves = (paths.returns[row[:, None], places] * sign[:, None]).cumsum(-1)
    _, group = (row * GROUPS // paths.rows).unique(return_inverse=True)
    count = functional.one_hot(group).sum(0).to(torch.float64)

    def pooled(per_event: Tensor) -> Tensor:
        total = per_event.new_zeros(len(count), *per_event.shape[1:]).index_add_(0, group, per_event)
        return total / count.reshape(-1, *[1] * (per_event.dim() - 1))

    def relative(series: Tensor) -> Tensor:
        return pooled(series[row[:, None], places] / series.mean(-1)[row, None])

    mean = pooled(moves)
    before = moves[:, NEWS_BEFORE - 1]
    variance = pooled((before - mean[group, NEWS_BEFORE - 1]).square())
    volume = None if paths.volume is None else relative(paths.volume)
    error = torch.where(count > 1, (variance / (count - 1)).sqrt(), math.inf)
    return mean, error, volume, relative(paths.returns.abs())


def follows_value(paths: Paths) -> dict[str, Tensor]:
    """Log price less log value: its spread, half-life, and Dickey and Fuller's T (1 - phi) of the first-order regression."""
    gap = _of(paths, "gap")
    past, now = gap[:, :-1], gap[:, 1:]
    past = past - past.mean(-1, keepdim=True)
    phi = (past * (now - now.mean(-1, keepdim=True))).sum(-1) / past.square().sum(-1)
    return {
        "mispricing": 100.0 * gap.std(-1),
        "reversion": gap.shape[1] * (1.0 - phi),
        "half_life": statistics.half_life(gap),
    }


def correlations(paths: Paths, span: int) -> Tensor:
    """Of the symbols' overlapping returns over `span` ticks, [N, S, S]."""
    returns = statistics.standardise(statistics.aggregate(paths.returns, span)).unflatten(0, (-1, paths.symbols))
    return returns @ returns.mT / returns.shape[-1]


def mean_correlation(correlation: Tensor) -> Tensor:
    """Over the pairs of different symbols, [N] of [N, S, S]."""
    symbols = correlation.shape[-1]
    return (correlation.sum((-1, -2)) - symbols) / (symbols * (symbols - 1))


def cross_section(paths: Paths) -> dict[str, Tensor]:
    """Mean correlation of two symbols' returns over 30 ticks, less that over one tick, and the largest eigenvalue's share.

    One value per market. The share cannot be below 1 / symbols plus the correlation's part: for fewer than four symbols no
    realistic correlation brings it into the band, and it is not judged.
    """
    if paths.symbols < 2:
        return {}
    correlation = correlations(paths, TOGETHER)
    mean = mean_correlation(correlation)
    values = {"mean_correlation": mean, "rise": mean - mean_correlation(correlations(paths, 1))}
    if paths.symbols >= 4:
        values["largest_eigenvalue"] = 100.0 * torch.linalg.eigvalsh(correlation)[:, -1] / paths.symbols
    return values


def hours(paths: Paths) -> dict[str, Tensor]:
    """The first and the last thirteenth of the day, its auctions apart, over its middle third; an auction over a tick there."""
    pattern = paths.hours
    assert pattern is not None
    ends = max(pattern.volume.shape[-1] // 13, 1)  # half an hour of 390 minutes

    def over_midday(series: Tensor, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts), -1).mean(-1) / series[:, pattern.midday].mean(-1)

    def of_ends(series: Tensor) -> Tensor:
        return over_midday(series, (series[:, 1 : 1 + ends], series[:, -1 - ends : -1]))

    auctions = over_midday(pattern.volume, (pattern.volume[:, :1], pattern.volume[:, -1:]))
    return {
        "volume_of_ends": of_ends(pattern.volume),
        "volatility_of_ends": of_ends(pattern.size),
        "auction_volume": auctions,
        "night": 100.0 * pattern.night,
    }


def impact_exponents(impact: Impact) -> dict[str, Tensor]:
    """Exponents of peak impact, one per group of markets."""
    return {name: getattr(impact, name) for name in ("size_exponent", "duration_exponent", "lopsidedness")}


def relaxation(impact: Impact) -> dict[str, Tensor]:
    """What is left of the peak one duration after the end, one value per group of markets."""
    return {"share_left": impact.retained}


def _widening(series: Tensor, news: Tensor) -> Tensor | None:
    """Mean over the 5 ticks from an event on, over the mean of the 30 ticks before; rows with events alone, None without any."""
    row, at = ((news != 0) & _away_from_the_ends(news)).nonzero().unbind(-1)
    if len(row) == 0:
        return None
    _, place = row.unique(return_inverse=True)

    def total(first: int, last: int) -> Tensor:
        """Sum over a row's events of the means over these offsets."""
        offsets = torch.arange(first, last + 1, device=series.device)
        means = series[row[:, None], at[:, None] + offsets].mean(-1)
        return means.new_zeros(int(place.max()) + 1).index_add_(0, place, means)

    return total(0, 4) / total(-NEWS_BEFORE, -1)


def _away_from_the_ends(series: Tensor) -> Tensor:
    at = torch.arange(series.shape[1], device=series.device)
    return (at >= NEWS_BEFORE) & (at < series.shape[1] - NEWS_AFTER)


def _windows(series: Tensor, span: int) -> Tensor:
    """Sums over windows that do not overlap, [R, T // span]."""
    return series.unfold(-1, span, span).sum(-1)


def _of(paths: Paths, name: str) -> Tensor:
    """A series that the fact's `needs` promise to be there."""
    series = getattr(paths, name)
    assert isinstance(series, Tensor), name
    return series
