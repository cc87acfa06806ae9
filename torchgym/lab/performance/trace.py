"""One episode, tick by tick: what a picture of it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from torchgym.config import MarketConfig
from torchgym.config.validation import check_function, check_one_learner
from torchgym.engine import Market, StepResult, check_seed
from torchgym.lab.fills import Fills, Notes
from torchgym.lab.policy import Policy, own_config
from torchgym.progress import Count, silent
from torchgym.readout.depth import depth
from torchgym.readout.entries import PLACE_PATHS, info_entries, place_entries
from torchgym.readout.paths import Recorder

_PATHS = ("bid", "ask", "mid", "close", "value", "estimate", "news", "volume", "position", "equity")
_MARGIN = 0.004  # of the price: how far beyond the path of the mid the book is shown; makers quote within it
_LEAST_MARGIN = 20  # points

Levels = tuple[Tensor, Tensor]  # prices, rising, and signed shares, [L] int64 each


@dataclass(frozen=True)
class Trace:
    """T + 1 rows of one episode, from its opening on, one per tick; S symbols. On the CPU, prices and money in currency.

    A ruined episode ends with the decision that ruined it.
    """

    seed: int
    tick: Tensor  # [T + 1] int64, 0 at the opening
    bid: Tensor  # [T + 1, S] float64, best of the standing book, as are ask and mid
    ask: Tensor
    mid: Tensor
    close: Tensor  # [T + 1, S] float64, last price traded at
    value: Tensor  # [T + 1, S] float64, latent
    estimate: Tensor  # [T + 1, S] float64, of value, as the public knows it
    news: Tensor  # [T + 1, S] float64, log: publicly implied effect of the tick's headline, 0 without one
    volume: Tensor  # [T + 1, S] int64 shares
    position: Tensor  # [T + 1, S] int64 shares
    filled: Tensor  # [T + 1, S] int64 shares traded in the tick, positive when bought
    # [T + 1, S] float64, mean price of them; NaN without a trade, and where both sides or several symbols traded at once
    fill_price: Tensor
    equity: Tensor  # [T + 1] float64
    depth_time: Tensor  # [C] int64 ticks at which the book of the first symbol was looked at
    depth_price: Tensor  # [L] float64, middles of equally high steps
    fills: Fills  # of its T ticks, of one market
    places: Mapping[str, Tensor]  # rows of `PLACE_PATHS`, [T + 1, S, 2, Q] each, bids first; empty without places
    depth: Tensor  # [C, L] int64 shares resting there, bids positive, asks negative; a step that holds both shows what is left


def trace(
    config: MarketConfig,
    policy: Policy,
    seed: int,
    *,
    device: torch.device | str = "cpu",
    price_rows: int = 120,
    time_columns: int = 250,
    progress: Count = silent,
) -> Trace:
    """Play one episode tick by tick.

    The policy acts at the first of every `ticks_per_action` ticks and rests at the others, so market and account are
    the same in every bit as when the market itself takes these ticks as one decision; and so is all that the policy is shown.
    (tests/test_trace.py)

    Args:
        policy: the action, [1] or [1, S], for what was seen last; fresh, if it remembers anything.
        seed: of the episode, the first one of this seed.
        price_rows: most price steps of the book's picture.
        time_columns: most moments at which it is taken, spread evenly over the episode.
        progress: called after every decision with the ticks done and the ticks in all.

    Raises:
        ValueError: for less than one price step or two moments, a policy that is no function, a bad seed or a bad action.
    """
    check_one_learner("trace", config)
    check_function("policy", policy, "it takes what was seen last and returns the action")
    for name, count, least in (("price_rows", price_rows, 1), ("time_columns", time_columns, 2)):
        if count < least:
            raise ValueError(f"{name} must be at least {least}, got {count}")
    own = own_config(config, check_seed(seed))
    market = Market(own.replace(ticks_per_action=1), 1, seed=seed, device=device, compile=False)
    result = market.reset()
    ticks = own.max_ticks
    rows = ticks + 1
    moments = torch.linspace(0, rows - 1, min(time_columns, rows), dtype=torch.float64, device="cpu")
    of_places = list(place_entries(config, PLACE_PATHS))
    recorder = Recorder(market.structure, market.num_envs, market.device, [*_PATHS, *of_places], rows)
    notes = Notes(market.live)
    looked_at = set(moments.round().to(torch.int64).tolist())
    books: dict[int, Levels] = {}  # by tick
    filled: list[Tensor] = []  # [S] int64, in each tick
    turnover: list[Tensor] = []  # [] int64

    def write() -> None:
        """Put the state down as the next row."""
        state, row = market.live, len(filled)
        recorder.write(row, market.params, state)
        if row:
            notes.add(state)
        filled.append(state.ledger.filled[0, :, 0].cpu())
        turnover.append(state.ledger.turnover[0, 0].cpu())
        if row in looked_at:
            prices, sizes = depth(state)
            books[row] = prices.cpu(), sizes.cpu()

    write()
    while not bool(result.terminated | result.truncated):
        result = _decide(market, policy(result), config.ticks_per_action, write)
        progress(len(filled) - 1, ticks)
    rows, point = len(filled), own.point_size
    paths = {name: path[0, :rows].cpu() for name, path in recorder.paths.items()}
    columns = [paths.pop(name) for name in of_places]
    places = {}
    for at, name in enumerate(PLACE_PATHS if of_places else ()):
        places[name] = torch.stack(columns[at :: len(PLACE_PATHS)], -1).unflatten(-1, (2, config.quotes))
    fills = notes.fills()
    shares = torch.stack(filled)
    alone = (shares != 0) & ((shares != 0).sum(-1, keepdim=True) == 1)
    spent = torch.nn.functional.pad(fills.paid[:, 0].cpu().abs(), (1, 0)).unsqueeze(-1)
    alone &= spent == torch.stack(turnover).unsqueeze(-1)  # less where some was bought and some sold
    paid = torch.stack(turnover).to(torch.float64).unsqueeze(-1) * point / shares.abs()
    low, step, grid = _picture(list(books.values()), paths["mid"][:, 0] / point, price_rows)
    middles = low + step * torch.arange(grid.shape[1], dtype=torch.float64, device="cpu") + 0.5 * (step - 1)
    return Trace(
        seed=seed,
        tick=torch.arange(rows, device="cpu"),
        **paths,
        filled=shares,
        fill_price=torch.where(alone, paid, torch.nan),
        depth_time=torch.tensor(list(books), device="cpu"),
        depth_price=middles * point,
        fills=Fills(**{field.name: getattr(fills, field.name).cpu() for field in fields(fills)}),
        places=places,
        depth=grid,
    )


def _decide(market: Market, action: Tensor, ticks: int, after_tick: Callable[[], None]) -> StepResult:
    """One decision of so many ticks in a market of single ticks, as `Market.step` gives it: sums in the same order."""
    rows = info_entries(market.structure)
    result = market.step(action)
    turnover = market.live.ledger.turnover[:, 0]
    after_tick()
    for _ in range(ticks - 1):
        latest = market.step()
        turnover = turnover + market.live.ledger.turnover[:, 0]
        after_tick()
        summed = {name: result.info[name] + term for name, term in latest.info.items() if rows[name].event}
        result = replace(
            latest,
            reward=result.reward + latest.reward,
            terminated=result.terminated | latest.terminated,
            info={**latest.info, **summed},
        )
    result.info["turnover"] = turnover.to(torch.float64) * market.config.point_size
    return result


def _picture(books: Sequence[Levels], mids: Tensor, price_rows: int) -> tuple[int, int, Tensor]:
    """Books as columns of one grid of prices around the path of the mid [T + 1], in points.

    Returns:
        The lowest price and the height of a step, points; and shares [C, L] int64.
    """
    margin = max(_LEAST_MARGIN, _MARGIN * float(mids.max()))
    low, high = int(float(mids.min()) - margin), int(float(mids.max()) + margin)
    step = -(-(high - low + 1) // price_rows)
    grid = torch.zeros(len(books), -(-(high - low + 1) // step), dtype=torch.int64, device="cpu")
    for column, (prices, sizes) in zip(grid, books, strict=True):
        shown = (prices >= low) & (prices <= high)
        column.index_add_(0, torch.div(prices[shown] - low, step, rounding_mode="floor"), sizes[shown])
    return low, step, grid
