"""The learner's walk and the call auction: cases to check on paper, and what must hold for any book."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from markets import same_bits
from torch import Tensor

from torchgym import MarketConfig
from torchgym.config import Structure, structure
from torchgym.numerics import compiled
from torchgym.sim import matching
from torchgym.sim.state import Auction, Book, Execution

BAND = 8
MID = 100  # points, of the random books
STRUCTURE = structure(MarketConfig(band=BAND))
LIMIT = 2**24  # the configuration keeps the shares of all orders below this
Limits = list[tuple[int, int]]  # (price, size) of each order, positive bids

thorough = settings(max_examples=120, deadline=None)


def a_book(*markets: Limits, expiry: int = 99) -> Book:
    """Markets of one symbol each; the shorter ones end in empty places."""
    slots = max(1, *(len(orders) for orders in markets))
    padded = [[*orders, *[(1, 0)] * (slots - len(orders))] for orders in markets]
    numbers = torch.tensor(padded, dtype=torch.int32)[:, None]
    return Book(price=numbers[..., 0], size=numbers[..., 1], expiry=torch.full_like(numbers[..., 0], expiry))


def with_slots(slots: int) -> Structure:
    """For books of so many slots, the makers having none."""
    return dataclasses.replace(STRUCTURE, families={"value": slice(0, slots), "maker": slice(slots, slots)})


def per_market(values: list[int] | int, markets: int) -> Tensor:
    listed = [values] * markets if isinstance(values, int) else values
    return torch.tensor(listed, dtype=torch.int64)[:, None]


def clear(
    *markets: Limits,
    mid_x2: list[int] | int = 2 * MID,
    coin: list[int] | int = 0,
    remainder: list[int] | int = 0,
    limit: list[int] | int = MID,
) -> tuple[Book, Auction]:
    own = [per_market(values, len(markets)).unsqueeze(-1) for values in (remainder, limit)]
    one = [per_market(values, len(markets)) for values in (mid_x2, coin)]
    book = a_book(*markets)
    return matching.clear(with_slots(book.size.shape[-1]), book, *own, *one)


def execute(
    *markets: Limits,
    shares: list[int] | int,
    limit: list[int] | int,
    mid_x2: list[int] | int = 2 * MID,
    reference: str = "quotes",
) -> tuple[Book, Execution]:
    one = [per_market(values, len(markets)) for values in (shares, limit, mid_x2)]
    return matching.execute(dataclasses.replace(STRUCTURE, reference=reference), a_book(*markets), *one)


def cumulative_floors(sizes: list[int], share: int) -> list[int]:
    """The definition, in Python integers."""
    running = np.cumsum([0, *sizes], dtype=object)
    upto = [int(total) * share // max(sum(sizes), 1) for total in running]
    return [after - before for before, after in itertools.pairwise(upto)]


# --- auctions on paper ---------------------------------------------------------------------------------------------------


@dataclass
class OnPaper:
    orders: Limits
    price: int
    volume: int
    fills: list[int]
    mid_x2: int = 2 * MID
    coin: int = 0


AUCTIONS = {
    "any price from 99 to 101 trades 6 with 4 left over: the mid": OnPaper(
        [(101, 10), (99, -6)], price=100, volume=6, fills=[6, -6]
    ),
    "101 to 103 leave nobody over: the nearest of them": OnPaper(
        [(103, 5), (100, 5), (98, -5)], price=101, volume=5, fills=[5, 0, -5]
    ),
    "volume before balance": OnPaper(
        [(102, 4), (100, 9), (99, -4), (100, -2)], price=100, volume=6, fills=[4, 2, -4, -2]
    ),
    "97 to 99 leave two sellers over, 100 leaves five: the nearest of the former": OnPaper(
        [(104, 5), (97, -7), (100, -3)], price=99, volume=5, fills=[5, -5, 0]
    ),
    "99 leaves two buyers over, 100 to 105 two sellers: whichever is nearer the mid, here 102": OnPaper(
        [(105, 5), (99, 2), (95, -5), (100, -2)], price=102, volume=5, fills=[5, 0, -5, 0], mid_x2=204
    ),
    "and here 97": OnPaper([(105, 5), (99, 2), (95, -5), (100, -2)], 97, 5, [5, 0, -5, 0], mid_x2=194),
    "three one-share bids for two shares: floors of 2/3, 4/3, 6/3": OnPaper(
        [(100, 1), (100, 1), (100, 1), (100, -2)], price=100, volume=2, fills=[0, 1, 1, -2]
    ),
    "better bids first, the rest pro rata: 3 of 2 + 4 + 6, floors of 0.5, 1.5, 3": OnPaper(
        [(101, 5), (100, 2), (100, 4), (100, 6), (99, 7), (100, -8)], price=100, volume=8, fills=[5, 0, 1, 2, 0, -8]
    ),
    "a mid of 100.5 with the coin down": OnPaper([(102, 3), (99, -3)], 100, 3, [3, -3], mid_x2=201, coin=0),
    "a mid of 100.5 with the coin up": OnPaper([(102, 3), (99, -3)], 101, 3, [3, -3], mid_x2=201, coin=1),
    "the coin means nothing to a whole mid": OnPaper([(102, 3), (99, -3)], 100, 3, [3, -3], coin=1),
    "a bid keener than the band trades at its edge at most": OnPaper(
        [(500, 5), (108, -5)], price=108, volume=5, fills=[5, -5]
    ),
    "an ask keener than the band trades at its edge at least": OnPaper(
        [(92, 5), (3, -5)], price=92, volume=5, fills=[5, -5]
    ),
    "keen orders beyond the band are all alike": OnPaper(
        [(500, 3), (200, 3), (100, -3)], price=100, volume=3, fills=[1, 2, -3]
    ),
    "orders beyond the band sit out, even against each other": OnPaper(
        [(91, 5), (90, -5), (109, -5), (110, 5)], price=100, volume=5, fills=[0, -5, 0, 5]
    ),
    "nothing crosses: no trade, at the mid": OnPaper([(99, 5), (101, -5)], price=100, volume=0, fills=[0, 0]),
    "bids alone": OnPaper([(99, 5), (103, 5)], price=100, volume=0, fills=[0, 0]),
    "nobody": OnPaper([], price=101, volume=0, fills=[0], mid_x2=201, coin=1),
}


@pytest.mark.parametrize("case", AUCTIONS.values(), ids=AUCTIONS.keys())
def test_auction_on_paper(case: OnPaper) -> None:
    book, auction = clear(case.orders, mid_x2=case.mid_x2, coin=case.coin)
    assert (auction.price.item(), auction.volume.item()) == (case.price, case.volume)
    assert auction.fills[0, 0, :-1].tolist() == case.fills
    assert (book.size == a_book(case.orders).size - auction.fills[..., :-1]).all()


def test_the_learners_remainder_stands_last_in_the_auction() -> None:
    # 3 shares for bids of 2, 2 and the learner's 2: floors of 1, 2, 3.
    _, auction = clear([(100, 2), (100, 2), (99, -3)], remainder=2, limit=100)
    assert auction.fills.flatten().tolist() == [1, 1, -3, 1]
    _, auction = clear([(101, 5), (100, -2)], remainder=-4, limit=100)
    assert auction.fills.flatten().tolist() == [5, -1, -4]


# --- walks on paper ------------------------------------------------------------------------------------------------------

STANDING = [(99, 6), (98, 4), (101, -5), (101, -5), (103, -10), (110, -50)]
WALKS = {
    # shares, limit: filled, paid, last price, fills, remainder
    "one share pays the ask": ((1, 105), (1, 101, 101, [0, 0, 0, -1, 0, 0], 0)),
    "part of a level: floors of 1.5 and 3": ((3, 105), (3, 303, 101, [0, 0, -1, -2, 0, 0], 0)),
    "a level and a bit": ((12, 105), (12, 1_010 + 206, 103, [0, 0, -5, -5, -2, 0], 0)),
    "exactly two levels": ((20, 105), (20, 1_010 + 1_030, 103, [0, 0, -5, -5, -10, 0], 0)),
    "the limit stops it": ((12, 102), (10, 1_010, 101, [0, 0, -5, -5, 0, 0], 2)),
    "the limit is reached": ((12, 103), (12, 1_216, 103, [0, 0, -5, -5, -2, 0], 0)),
    "the band stops it before 110": ((30, 120), (20, 2_040, 103, [0, 0, -5, -5, -10, 0], 10)),
    "the limit is below the ask": ((4, 100), (0, 0, 0, [0] * 6, 4)),
    "one share sold gets the bid": ((-1, 95), (-1, -99, 99, [1, 0, 0, 0, 0, 0], 0)),
    "a sale through two levels": ((-8, 95), (-8, -594 - 196, 98, [6, 2, 0, 0, 0, 0], 0)),
    "a sale of more than there is": ((-12, 95), (-10, -594 - 392, 98, [6, 4, 0, 0, 0, 0], -2)),
    "nothing": ((0, 95), (0, 0, 0, [0] * 6, 0)),
}


@pytest.mark.parametrize("name", WALKS)
def test_walk_on_paper(name: str) -> None:
    (shares, limit), (filled, paid, last, fills, remainder) = WALKS[name]
    book, done = execute(STANDING, shares=shares, limit=limit)
    assert (done.filled.item(), done.paid.item(), done.last_price.item()) == (filled, paid, last)
    assert done.fills.flatten().tolist() == fills
    assert (done.remainder.item(), done.limit.item()) == (remainder, limit)
    assert book.size.flatten().tolist() == [size - fill for (_, size), fill in zip(STANDING, fills, strict=True)]


def test_a_sealed_order_executes_nothing_before_the_auction() -> None:
    book, standing = a_book(STANDING), a_book(STANDING)
    after, done = matching.defer(STRUCTURE, book, per_market(7, 1), per_market(101, 1), per_market(200, 1))
    assert (after.size == standing.size).all()
    assert (done.filled.item(), done.paid.item(), done.last_price.item(), done.remainder.item()) == (0, 0, 0, 7)
    assert not done.fills.any()
    own, one = [done.remainder.unsqueeze(-1), done.limit.unsqueeze(-1)], [per_market(200, 1), per_market(0, 1)]
    _, auction = matching.clear(with_slots(len(STANDING)), after, *own, *one)
    assert auction.fills[0, 0, -1].item() == 7


# --- the rest of the book's life -----------------------------------------------------------------------------------------


def test_a_new_order_takes_the_place_of_the_old_one() -> None:
    book = a_book([(99, 5), (98, 4), (101, -3), (90, 7)], expiry=9)
    price, size = torch.tensor([[[97, 55, 102]]]), torch.tensor([[[-2, 0, 8]]])
    after = matching.replace_orders(book, price, size, torch.full_like(price, 20))
    assert after.price.flatten().tolist() == [97, 98, 102, 90]  # no order, and no slot, left alone keeps what it has
    assert after.size.flatten().tolist() == [-2, 4, 8, 7]
    assert after.expiry.flatten().tolist() == [20, 9, 20, 9]
    assert book.size.flatten().tolist() == [5, 4, -3, 7]  # the given book is untouched


def test_orders_live_to_the_end_of_their_last_tick() -> None:
    book = a_book([(99, 5), (98, 4), (101, -3)], [(99, 5), (98, 4), (101, -3)])
    book = dataclasses.replace(book, expiry=torch.tensor([[[4, 5, 6]], [[4, 5, 6]]]))
    after = matching.expire(book, torch.tensor([5, 3]))
    assert after.size.tolist() == [[[0, 0, -3]], [[5, 4, -3]]]


@pytest.mark.parametrize(
    ("orders", "shares", "mid_x2", "halves"),
    [
        ([(99, 5), (98, 10), (102, -4)], 7, 201, 2 * (5 * 99 + 2 * 98)),
        ([(99, 5), (102, -4)], 7, 201, 2 * 7 * 99),  # what the book cannot take, at the worst price reached
        ([(102, -4)], 7, 201, 7 * 201),  # an empty side: at the mid
        ([(99, 5), (85, 100)], 7, 200, 2 * 7 * 99),  # beyond the band is as good as empty
        ([(99, 5), (102, -4), (105, -4)], -6, 201, -2 * (4 * 102 + 2 * 105)),
        ([(99, 5), (102, -4)], -6, 201, -2 * 6 * 102),
        ([(99, 5)], -6, 200, -6 * 200),
        ([(99, 5), (102, -4)], 0, 201, 0),
    ],
)
def test_liquidation_value(orders: Limits, shares: int, mid_x2: int, halves: int) -> None:
    value = matching.liquidation_value(STRUCTURE, a_book(orders), per_market(shares, 1), per_market(mid_x2, 1))
    assert value.item() == halves


# --- any book ------------------------------------------------------------------------------------------------------------


@dataclass
class Crossed:
    """Random markets before an auction."""

    orders: list[Limits]
    mid_x2: list[int]
    coin: list[int]
    remainder: list[int]
    limit: list[int]

    def clear(self) -> tuple[Book, Auction]:
        return clear(*self.orders, **{name: x for name, x in vars(self).items() if name != "orders"})

    def only(self, row: int) -> Crossed:
        return Crossed(**{name: [values[row]] for name, values in vars(self).items()})

    def all_orders(self, row: int) -> Limits:
        """Book and learner, every limit cut to the band; None of them where it sits out is kept as an order of no shares."""
        base = self.mid_x2[row] // 2
        orders = [*self.orders[row], (self.limit[row], self.remainder[row])]
        return [cut_to_band(limit, size, base) for limit, size in orders]


def cut_to_band(limit: int, size: int, base: int) -> tuple[int, int]:
    if size > 0:
        return min(limit, base + BAND), size if limit >= base - BAND else 0
    return max(limit, base - BAND), size if limit <= base + BAND else 0


prices = st.integers(MID - BAND - 4, MID + BAND + 4)
sizes = st.integers(-4, 4)
limits = st.lists(st.tuples(prices, sizes), max_size=9)


@st.composite
def crossed(draw: st.DrawFn) -> Crossed:
    """One to six markets; many orders share a price, some are beyond the band on either side."""
    markets = draw(st.integers(1, 6))

    def each(strategy: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(strategy, min_size=markets, max_size=markets))

    return Crossed(
        orders=draw(st.lists(limits, min_size=markets, max_size=markets)),
        mid_x2=each(st.integers(2 * MID - 2, 2 * MID + 2)),
        coin=each(st.integers(0, 1)),
        remainder=each(sizes),
        limit=each(prices),
    )


@dataclass
class Outcome:
    """One market's auction in Python integers; orders cut to the band, the learner last."""

    orders: Limits
    fills: list[int]
    price: int
    volume: int
    base: int
    mid: int

    def volume_at(self, price: int) -> tuple[int, int]:
        """Volume and imbalance."""
        demand = sum(size for limit, size in self.orders if size > 0 and limit >= price)
        supply = -sum(size for limit, size in self.orders if size < 0 and limit <= price)
        return min(demand, supply), abs(demand - supply)


def outcomes(markets: Crossed) -> list[Outcome]:
    _, auction = markets.clear()
    return [
        Outcome(
            orders=markets.all_orders(row),
            fills=[*auction.fills[row, 0, : len(markets.orders[row])].tolist(), auction.fills[row, 0, -1].item()],
            price=auction.price[row].item(),
            volume=auction.volume[row].item(),
            base=mid_x2 // 2,
            mid=mid_x2 // 2 + mid_x2 % 2 * markets.coin[row],
        )
        for row, mid_x2 in enumerate(markets.mid_x2)
    ]


@given(crossed())
@thorough
def test_no_price_of_the_band_is_better(markets: Crossed) -> None:
    """Most shares, then least imbalance, then nearest to the rounded mid: and no second price is as good."""
    for outcome in outcomes(markets):
        ranks = {}
        for price in range(outcome.base - BAND, outcome.base + BAND + 1):
            volume, imbalance = outcome.volume_at(price)
            ranks[price] = (-volume, imbalance, abs(price - outcome.mid))
        best = min(ranks.values())
        assert outcome.volume == -best[0]
        if outcome.volume:
            assert [price for price, rank in ranks.items() if rank == best] == [outcome.price]
        else:
            assert outcome.price == outcome.mid


@given(crossed())
@thorough
def test_no_limit_is_broken_and_no_share_is_lost(markets: Crossed) -> None:
    book, _ = markets.clear()
    for row, outcome in enumerate(outcomes(markets)):
        assert sum(outcome.fills) == 0
        assert sum(fill for fill in outcome.fills if fill > 0) == outcome.volume
        for (limit, size), fill in zip(outcome.orders, outcome.fills, strict=True):
            assert 0 <= fill <= size or size <= fill <= 0
            assert fill == 0 or (limit - outcome.price) * fill >= 0
        left = [size - fill for (_, size), fill in zip(markets.orders[row], outcome.fills, strict=False)]
        assert book.size[row, 0, : len(left)].tolist() == left
        padding = book.size[row, 0, len(left) :]
        assert not padding.any()


@given(crossed())
@thorough
def test_better_orders_fill_whole_and_the_margin_pro_rata(markets: Crossed) -> None:
    for outcome in outcomes(markets):
        if not outcome.volume:
            continue
        for side in (1, -1):
            mine = [
                (limit * side, size * side, fill * side)
                for (limit, size), fill in zip(outcome.orders, outcome.fills, strict=True)
            ]
            eligible = [order for order in mine if order[1] > 0 and order[0] >= outcome.price * side]
            margin = min(limit for limit, _, _ in eligible)
            better = sum(size for limit, size, _ in eligible if limit > margin)
            assert all(fill == size for limit, size, fill in eligible if limit > margin)
            at_margin = [(size, fill) for limit, size, fill in eligible if limit == margin]
            assert 0 <= outcome.volume - better <= sum(size for size, _ in at_margin)
            expected = cumulative_floors([size for size, _ in at_margin], outcome.volume - better)
            assert [fill for _, fill in at_margin] == expected


@given(crossed())
@thorough
def test_what_is_left_inside_the_band_is_uncrossed(markets: Crossed) -> None:
    for outcome in outcomes(markets):
        left = [(limit, size - fill) for (limit, size), fill in zip(outcome.orders, outcome.fills, strict=True)]
        bids = [limit for limit, size in left if size > 0]
        asks = [limit for limit, size in left if size < 0]
        assert not bids or not asks or max(bids) < min(asks)


@given(crossed(), st.randoms(use_true_random=False))
@thorough
def test_markets_know_nothing_of_each_other(markets: Crossed, random: object) -> None:
    _, together = markets.clear()
    for row, orders in enumerate(markets.orders):
        _, alone = markets.only(row).clear()
        count = len(orders)
        assert alone.price.item() == together.price[row].item()
        assert alone.fills[0, 0, :count].tolist() == together.fills[row, 0, :count].tolist()
        assert alone.fills[0, 0, -1].item() == together.fills[row, 0, -1].item()


@given(crossed())
@thorough
def test_buyers_and_sellers_are_treated_alike(markets: Crossed) -> None:
    """Around a whole mid, the market in the mirror has the auction in the mirror."""
    whole = [mid_x2 // 2 * 2 for mid_x2 in markets.mid_x2]
    straight = dataclasses.replace(markets, mid_x2=whole)
    mirrored = Crossed(
        orders=[
            [(mid - price, -size) for price, size in orders] for mid, orders in zip(whole, markets.orders, strict=True)
        ],
        mid_x2=whole,
        coin=[1 - coin for coin in markets.coin],
        remainder=[-size for size in markets.remainder],
        limit=[mid - price for mid, price in zip(whole, markets.limit, strict=True)],
    )
    (_, one), (_, other) = straight.clear(), mirrored.clear()
    assert (one.fills == -other.fills).all()
    assert (one.price + other.price == torch.tensor(whole)[:, None]).all()


# --- any walk ------------------------------------------------------------------------------------------------------------


@dataclass
class Standing:
    """Random uncrossed markets and an order of the learner in each."""

    orders: list[Limits]
    mid_x2: list[int]
    shares: list[int]
    limit: list[int]
    reference: str = "quotes"

    def execute(self) -> tuple[Book, Execution]:
        return execute(*self.orders, shares=self.shares, limit=self.limit, mid_x2=self.mid_x2, reference=self.reference)


@st.composite
def standing(draw: st.DrawFn) -> Standing:
    """One to six markets; the mid lies halfway between the best quotes, or anywhere between them on an empty side."""
    books, mids, shares, limits_ = [], [], [], []
    for _ in range(draw(st.integers(1, 6))):
        bid = draw(st.integers(MID - 3, MID))
        ask = draw(st.integers(bid + 1, MID + 4))
        bids = draw(st.lists(st.tuples(st.integers(0, BAND + 3), st.integers(0, 9)), max_size=6))
        asks = draw(st.lists(st.tuples(st.integers(0, BAND + 3), st.integers(0, 9)), max_size=6))
        books.append([(bid - down, size) for down, size in bids] + [(ask + up, -size) for up, size in asks])
        books[-1] = draw(st.permutations(books[-1]))
        mids.append(bid + ask)
        shares.append(draw(st.integers(-40, 40)))
        limits_.append(draw(st.integers(MID - BAND - 4, MID + BAND + 4)))
    return Standing(orders=books, mid_x2=mids, shares=shares, limit=limits_)


@st.composite
def away(draw: st.DrawFn) -> Standing:
    """The same markets, where the mid is a value that may lie far from the book."""
    markets = draw(standing())
    mids = [mid_x2 + draw(st.integers(-5 * BAND, 5 * BAND)) for mid_x2 in markets.mid_x2]
    return dataclasses.replace(markets, mid_x2=mids, reference="value")


@given(standing() | away())
@thorough
def test_the_walk_takes_the_best_levels_in_order(markets: Standing) -> None:
    """Everything better than the last level is taken, nothing worse, that level pro rata, and as much as is wanted."""
    book, done = markets.execute()
    for row, orders in enumerate(markets.orders):
        wanted, limit, base = markets.shares[row], markets.limit[row], markets.mid_x2[row] // 2
        side = (wanted > 0) - (wanted < 0)
        fills = done.fills[row, 0, : len(orders)].tolist()
        best = min([0, *((price - base) * side for price, size in orders if size * side < 0)])
        reachable = [
            size * side < 0 and price * side <= limit * side and (price - base) * side <= best + BAND
            for price, size in orders
        ]
        available = sum(abs(size) for (_, size), near in zip(orders, reachable, strict=True) if near)
        assert done.filled[row].item() == side * min(abs(wanted), available)
        assert done.filled[row].item() + done.remainder[row].item() == wanted
        assert sum(fills) == -done.filled[row].item()
        assert done.paid[row].item() == -sum(fill * price for (price, _), fill in zip(orders, fills, strict=True))
        assert book.size[row, 0, : len(orders)].tolist() == [
            size - fill for (_, size), fill in zip(orders, fills, strict=True)
        ]

        reached = [price * side for (price, _), fill in zip(orders, fills, strict=True) if fill]
        assert done.last_price[row].item() == (max(reached) * side if reached else 0)
        last, margin = max(reached, default=-(10**6)), []
        for (price, size), fill, near in zip(orders, fills, reachable, strict=True):
            if near and price * side < last:
                assert fill == size
            elif near and price * side == last:
                margin.append((abs(size), abs(fill)))
            else:
                assert fill == 0
        share = sum(fill for _, fill in margin)
        assert [fill for _, fill in margin] == cumulative_floors([size for size, _ in margin], share)


@given(standing())
@thorough
def test_a_small_order_pays_the_quote(markets: Standing) -> None:
    for side in (1, -1):
        one = dataclasses.replace(
            markets, shares=[side] * len(markets.shares), limit=[MID + 99 * side] * len(markets.shares)
        )
        _, done = one.execute()
        for row, orders in enumerate(markets.orders):
            base = markets.mid_x2[row] // 2
            quotes = [price * side for price, size in orders if size * side < 0 and (price - base) * side <= BAND]
            assert done.paid[row].item() * side == (min(quotes) * side if quotes else 0)


@given(standing())
@thorough
def test_buying_and_selling_are_the_same_in_the_mirror(markets: Standing) -> None:
    """Around a whole mid: halved half mids, so the books here move by up to half a point against it."""
    whole = [mid_x2 // 2 * 2 for mid_x2 in markets.mid_x2]
    safe = [
        [(price, size) for price, size in orders if (mid // 2 - price) * size > 0]
        for mid, orders in zip(whole, markets.orders, strict=True)
    ]
    straight = Standing(safe, whole, markets.shares, markets.limit)
    mirrored = Standing(
        orders=[[(mid - price, -size) for price, size in orders] for mid, orders in zip(whole, safe, strict=True)],
        mid_x2=whole,
        shares=[-shares for shares in markets.shares],
        limit=[mid - limit for mid, limit in zip(whole, markets.limit, strict=True)],
    )
    (_, one), (_, other) = straight.execute(), mirrored.execute()
    assert (one.fills == -other.fills).all()
    assert (one.remainder == -other.remainder).all()
    traded_at = one.paid - other.paid  # a point paid more on one side is a point paid less on the other
    assert (traded_at == one.filled * torch.tensor(whole)[:, None]).all()


@given(standing())
@thorough
def test_unwinding_is_worth_what_the_walk_brings(markets: Standing) -> None:
    mid_x2 = torch.tensor(markets.mid_x2)[:, None]
    held = -torch.tensor(markets.shares)[:, None]
    value = matching.liquidation_value(STRUCTURE, a_book(*markets.orders), held, mid_x2)
    everything = dataclasses.replace(markets, limit=[MID + 99 * ((x > 0) - (x < 0)) for x in markets.shares])
    _, done = everything.execute()
    for row, shares in enumerate(markets.shares):
        left, worst = done.remainder[row].item(), done.last_price[row].item()
        unsold = -left * (2 * worst if worst else markets.mid_x2[row])
        assert value[row].item() == -2 * done.paid[row].item() + unsold
        if shares:
            assert value[row].item() <= -shares * markets.mid_x2[row]  # never better than the mid


# --- searches and sums ---------------------------------------------------------------------------------------------------

WAYS = {"eagerly": (False, 1024), "by halves": (True, 1024), "a crowd": (True, 4)}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an uncompiled step does it, and as a compiled one does for few orders and for many."""
    compiling, crowd = WAYS[request.param]
    monkeypatch.setattr("torch.compiler._is_compiling_flag", compiling)
    monkeypatch.setattr(compiled, "_CROWD", crowd)
    monkeypatch.setattr(compiled, "_BLOCK", 4)


@pytest.mark.usefixtures("way")
def test_the_last_level_with_less_than_a_bound_below_it() -> None:
    rng = np.random.default_rng(0)
    for span, slots in itertools.product((1, 7, 20), (1, 5, 33)):
        position, weight = rng.integers(-5, span + 3, (200, 1, slots)), rng.integers(0, 6, (200, 1, slots))
        bound = rng.integers(1, 2 * slots + 2, (200, 1, 1))
        low, highest = -3, -4 + 2 ** span.bit_length()
        numbers = [torch.from_numpy(values.astype(np.float32)) for values in (position, weight, bound)]
        found = compiled.last_level(*numbers, low=torch.full((200, 1, 1), float(low)), span=span)
        below = [(weight * (position < level)).sum(-1, keepdims=True) < bound for level in range(low, highest + 1)]
        expected = np.maximum(np.stack(below).sum(0) + low - 1, low)  # the lowest, too, where it has more below it
        assert torch.equal(found, torch.from_numpy(expected.astype(np.float32))), (span, slots)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("slots", [1, 4, 5, 8, 31, 32, 33])
def test_sums_keep_their_dtype(slots: int) -> None:
    for dtype in (np.float32, np.int32, np.int64):
        sizes = np.random.default_rng(slots).integers(0, 50, (3, 2, slots)).astype(dtype)
        for found, expected in (
            (compiled.running_sum(torch.from_numpy(sizes)), np.cumsum(sizes, -1, dtype=dtype)),
            (compiled.sum_of_few(torch.from_numpy(sizes)), sizes.sum(-1, keepdims=True, dtype=dtype)),
        ):
            assert same_bits(found, torch.from_numpy(expected))


# --- large numbers -------------------------------------------------------------------------------------------------------


def queues(rng: np.random.Generator, books: int, slots: int = 9) -> tuple[Book, Tensor, int]:
    """Random books of one symbol, crossed or not, of few prices and ages, so that many orders share both; and the tick."""
    shape, tick = (books, 1, slots), 100
    price = MID + rng.integers(-4, 5, shape)
    size = rng.integers(-6, 7, shape)
    age = rng.choice([0, 0, 1, 2, 3, 63, 64, 65, 80], shape)
    price, size, since = (torch.from_numpy(numbers.astype(np.int32)) for numbers in (price, size, tick - age))
    return Book(price, size, torch.full_like(size, tick), since), torch.full((books,), tick), tick


@pytest.mark.parametrize("books", [3_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_older_orders_first_as_a_matcher_with_lists_has_it(books: int) -> None:
    """Price, then age, then pro rata: every fill of the auction and of the walk, against tests/reference.py."""
    rng = np.random.default_rng(books)
    book, ticks, now = queues(rng, books)
    slots = book.size.shape[-1]
    remainder, limit, coin, mid_x2, shares = (
        torch.from_numpy(rng.integers(*bounds, (books, 1)))
        for bounds in ((-9, 10), (MID - 4, MID + 5), (0, 2), (2 * MID - 2, 2 * MID + 3), (-20, 21))
    )
    age = matching.ages(book, ticks)
    own = [numbers.unsqueeze(-1) for numbers in (remainder, limit)]
    _, auction = matching.clear(with_slots(slots), book, *own, mid_x2, coin, age)
    standing = dataclasses.replace(
        book, size=book.size.abs() * torch.sign(MID - book.price)
    )  # as a book is after an auction
    after, walked = matching.execute(STRUCTURE, standing, shares, limit, torch.full_like(mid_x2, 2 * MID), age)
    assert torch.equal(after.size, standing.size - walked.fills)
    orders, quotes = (
        torch.stack([one.price, one.size, one.expiry, one.since], -1)[:, 0].tolist() for one in (book, standing)
    )
    ages = torch.where(book.size != 0, torch.clamp(now - book.since, max=64), 0)[:, 0].tolist()
    one = zip(*(numbers[:, 0].tolist() for numbers in (remainder, limit, coin, mid_x2, shares)), strict=True)
    fills, taken = auction.fills[:, 0].tolist(), walked.fills[:, 0].tolist()
    older = 0
    for row, (rest, worst, toss, mid, wanted) in enumerate(one):
        limits = [*((price, size) for price, size, _, _ in orders[row]), (worst, rest)]
        assert reference.auction(BAND, limits, mid, toss, [*ages[row], 0])[2] == fills[row], row
        older += reference.auction(BAND, limits, mid, toss, [0] * (slots + 1))[2] != fills[row]
        resting = {at: reference.Order(*order) for at, order in enumerate(quotes[row]) if order[1] != 0}
        given = reference.walk(BAND, resting, wanted, worst, 2 * MID, now).fills
        assert [given.get(at, 0) for at in range(slots)] == taken[row], row
    assert older > books / 50  # or ages would have made no difference


def test_an_order_keeps_its_place_while_it_does_not_grow() -> None:
    before, ticks, now = queues(np.random.default_rng(0), 500)
    rng = np.random.default_rng(1)
    new = {"price": rng.integers(-1, 2, before.size.shape), "size": rng.integers(-2, 3, before.size.shape)}
    changed = {name: getattr(before, name) + torch.from_numpy(by) for name, by in new.items()}
    book = matching.dated(dataclasses.replace(before, since=None, **changed), before, ticks)
    columns = [before.price, before.size, book.price, book.size, before.since, book.since]
    kept = 0
    for price, size, new_price, new_size, since, dated in zip(*(x.flatten().tolist() for x in columns), strict=True):
        smaller = 0 < new_size <= size or size <= new_size < 0
        assert dated == (since if price == new_price and smaller else now)
        kept += dated == since != now
    assert kept > 200


def test_who_is_in_front_is_never_filled_later() -> None:
    """Of two orders alike but for their age, whatever else is in the book, the older one gets no fewer shares."""
    book, ticks, _ = queues(np.random.default_rng(2), 5_000)
    twins = {name: getattr(book, name).clone() for name in ("price", "size", "since")}
    twins["price"][..., 1], twins["size"][..., 1] = twins["price"][..., 0], twins["size"][..., 0]
    twins["since"][..., 0], twins["since"][..., 1] = 80, 90
    book = dataclasses.replace(book, **twins)
    nothing, mid_x2 = torch.zeros_like(book.size[..., :1]), torch.full_like(book.size[..., 0], 2 * MID)
    age = matching.ages(book, ticks)
    slots = book.size.shape[-1]
    _, auction = matching.clear(with_slots(slots), book, nothing, nothing + MID, mid_x2, nothing[..., 0], age)
    front, behind = auction.fills[..., 0].abs(), auction.fills[..., 1].abs()
    assert (front >= behind).all() and ((front > 0) & (behind == 0)).any()
    assert ((behind == 0) | (front == book.size[..., 0].abs())).all()


def partition(rng: np.random.Generator, total: int, parts: int) -> list[int]:
    """Positive integers that add up to the total."""
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False) + 1)
    return np.diff([0, *cuts.tolist(), total]).tolist()


@pytest.mark.parametrize("short_side", [1, -1])
def test_auctions_are_exact_up_to_the_bound_of_the_configuration(short_side: int) -> None:
    """A margin of 2**24 - 1 shares cut to nearly as many: products near 2**48, still the same as Python's integers."""
    rng = np.random.default_rng(0)
    total, markets = LIMIT - 1, 300
    longer = [partition(rng, total, 60) for _ in range(markets)]
    wanted = [total - int(x) for x in rng.integers(0, 200, markets)]
    shorter = [partition(rng, share, 7) for share in wanted]
    orders = [
        [(MID, -size * short_side) for size in many] + [(MID, size * short_side) for size in few]
        for many, few in zip(longer, shorter, strict=True)
    ]
    book, auction = clear(*orders)
    assert auction.volume.flatten().tolist() == wanted
    for row in range(markets):
        expected = cumulative_floors(longer[row], wanted[row])
        assert (-short_side * auction.fills[row, 0, :60]).tolist() == expected
        assert (short_side * auction.fills[row, 0, 60:-1]).tolist() == shorter[row]
        assert book.size[row].sum().item() == -short_side * (total - wanted[row])


@pytest.mark.parametrize("side", [1, -1])
def test_walks_are_exact_up_to_the_bound_of_the_configuration(side: int) -> None:
    rng = np.random.default_rng(1)
    markets, price = 200, 2**18
    resting = [partition(rng, LIMIT - 1, 40) for _ in range(markets)]
    at = [rng.integers(1, 6, 40).tolist() for _ in range(markets)]
    wanted = [LIMIT - 1 - int(x) for x in rng.integers(0, 10_000, markets)]
    orders = [
        [(price + side * up, -side * size) for up, size in zip(ups, many, strict=True)]
        for ups, many in zip(at, resting, strict=True)
    ]
    _, done = execute(*orders, shares=[side * x for x in wanted], limit=price + side * BAND, mid_x2=2 * price)
    assert done.filled.flatten().tolist() == [side * x for x in wanted]
    for row in range(markets):
        left, last = wanted[row], max(at[row])
        better = sum(size for up, size in zip(at[row], resting[row], strict=True) if up < last)
        margin = [size for up, size in zip(at[row], resting[row], strict=True) if up == last]
        cut = iter(cumulative_floors(margin, left - better))
        taken = [next(cut) if up == last else size for up, size in zip(at[row], resting[row], strict=True)]
        assert (-side * done.fills[row, 0]).tolist() == taken
        assert done.paid[row].item() == side * sum(
            (price + side * up) * x for up, x in zip(at[row], taken, strict=True)
        )
