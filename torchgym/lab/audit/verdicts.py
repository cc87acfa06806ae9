"""What a policy must and must not earn: requirements over the episodes' profits, judged with stated errors.

Every policy plays the same episodes, so differences and averages of two policies are taken episode by episode: the market's own
drift, which is most of the noise, is common to them. A policy and its mirror (the same trades, the other way round) together
neither win nor lose by drift, and what is left is what trading costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

# A gain counts as one from this many standard errors up. One false alarm has a chance of 0.0005, any in a table of 100 rows less
# than 0.05 (Bonferroni), given enough episodes for a normal mean: some hundreds.
GAIN = 3.3
LOSS = 2.0  # a loss is asserted with this margin in standard errors
CLEAR = 5.0  # what the exact value must bring, in standard errors
TRIP_COST = (0.7, 2.0)  # of a round trip, in units of the quoted spread and the commission


@dataclass(frozen=True)
class Sample:
    """What one policy made of each episode, [E] float64 currency. Profit is after all costs and after everything is sold."""

    profit: Tensor
    paper: Tensor  # profit by the mid before unwinding began
    fees: Tensor  # commission paid
    fees_due: Tensor  # rate × amount traded
    borrow: Tensor  # charge for short positions, paid
    borrow_due: Tensor  # rate × short value, summed over ticks
    turnover: Tensor  # amount traded, both sides positive
    quoted: Tensor  # half the spread shown × shares, over all fills
    rested: Tensor  # amount that resting orders traded, part of the turnover
    maker_bps: float  # fee of these, negative a rebate
    limit: int  # shares


Others = Mapping[str, Sample]
Judge = Callable[[Sample, Others], tuple[bool, str]]  # own sample, samples of all policies -> passed, reason


@dataclass(frozen=True)
class Requirement:
    """What a policy must do, in words and as a judge."""

    text: str
    judge: Judge
    needs: tuple[str, ...] = ()  # policies that it is compared with


def mean_and_error(sample: Tensor) -> tuple[float, float]:
    """Mean and its standard error over episodes [E]."""
    return sample.mean().item(), sample.std().item() / math.sqrt(sample.numel())


def t_statistic(sample: Tensor) -> float:
    """Mean in standard errors; finite also where the sample does not vary."""
    mean, error = mean_and_error(sample)
    return mean / max(error, 1e-9)


def break_even(own: Sample) -> tuple[float, float] | None:
    """The maker fee in bp at which the same trades earn nothing, and its standard error; None where nothing rested.

    Fees move no orders, so profit falls with the fee in a straight line, but for rounding. The error is that of a ratio of means.
    """
    if not own.rested.any():
        return None
    above = own.profit + own.fees - (own.fees_due - own.rested * (1e-4 * own.maker_bps))
    fee = above.sum().item() / own.rested.sum().item()
    _, error = mean_and_error(above - fee * own.rested)
    return 1e4 * fee, 1e4 * error / own.rested.mean().item()


def _described(sample: Tensor) -> str:
    mean, error = mean_and_error(sample)
    return f"{mean:+.2f} ± {error:.2f} (t = {t_statistic(sample):+.1f})"


def _loses(sample: Tensor) -> bool:
    mean, error = mean_and_error(sample)
    return mean + LOSS * error < 0.0


def _keeps_everything(own: Sample, others: Others) -> tuple[bool, str]:
    moved = int((own.profit != 0.0).sum())
    return moved == 0, f"{moved} episodes in which money came or went"


def _no_gain(own: Sample, others: Others) -> tuple[bool, str]:
    return t_statistic(own.profit) < GAIN, f"{_described(own.profit)}, a gain from t = {GAIN} up"


def _loss(own: Sample, others: Others) -> tuple[bool, str]:
    return _loses(own.profit), f"{_described(own.profit)}, a loss below t = {-LOSS}"


def _commission_in_full(own: Sample, others: Others) -> tuple[bool, str]:
    short = _fees_short(own)
    reason = f"{_described(own.profit)}; commission paid less than due by at most {max(short, 0.0):.4f}"
    return _loses(own.profit) and short <= 1e-6, reason


def _borrow_in_full(own: Sample, others: Others) -> tuple[bool, str]:
    short, due = (own.borrow_due - own.borrow).max().item(), own.borrow_due.mean().item()
    reason = f"{_described(own.profit)}; {due:.2f} due for borrowing, paid less by at most {max(short, 0.0):.4f}"
    return t_statistic(own.profit) < GAIN and short <= 1e-6, reason


def _break_even_told(own: Sample) -> str:
    found = break_even(own)
    return (
        "nothing rested that traded"
        if found is None
        else f"breaks even at a maker fee of {found[0]:+.2f} ± {found[1]:.2f} bp"
    )


def _fees_short(own: Sample) -> float:
    """The most that an episode paid too little in fees, or got too much in rebates, currency."""
    return (own.fees_due - own.fees).max().item()


def _quotes_in_vain(own: Sample, others: Others) -> tuple[bool, str]:
    short = _fees_short(own)
    reason = f"{_described(own.profit)}, a gain from t = {GAIN} up; {_break_even_told(own)}"
    reason = f"{reason}; fees paid less than due by at most {max(short, 0.0):.4f}"
    return t_statistic(own.profit) < GAIN and short <= 1e-6, reason


NOTHING = Requirement("keep every cent", _keeps_everything)
NO_GAIN = Requirement("no significant gain after costs", _no_gain)
LOSES = Requirement("lose", _loss)
COMMISSION = Requirement("lose, and pay the whole commission however small the orders", _commission_in_full)
BORROW = Requirement("no gain, and pay the whole charge for borrowed shares", _borrow_in_full)

VAIN_QUOTES = Requirement("no significant gain after fees, which are paid in full", _quotes_in_vain)


def subsidised(same: str) -> Requirement:
    """A rebate changes nothing but the fee: the trades are those of the same quotes at the usual fee, and no unit more is paid.

    Whether that earns is the exchange's choice of fee, and no gift of the market: the reason tells from which fee on it does.
    """

    def judge(own: Sample, others: Others) -> tuple[bool, str]:
        plain = others[same]
        apart = ((own.profit + own.fees) - (plain.profit + plain.fees)).abs().max().item()
        short = _fees_short(own)
        reason = f"{_described(own.profit)} at a maker fee of {own.maker_bps:+.2f} bp; {_break_even_told(own)}"
        reason = f"{reason}; before fees {apart:.4f} from {same}, rebates beyond what is due {max(short, 0.0):.4f}"
        return apart <= 1e-6 and short <= 1e-6, reason

    return Requirement(f"the trades of {same}, and no more than the rebate on top", judge, (same,))


def loses_with(mirror: str) -> Requirement:
    """No gain alone; and together with its mirror, so without the market's drift, a loss."""

    def judge(own: Sample, others: Others) -> tuple[bool, str]:
        both = 0.5 * (own.profit + others[mirror].profit)
        reason = f"{_described(own.profit)}; averaged with {mirror} {_described(both)}, a loss below t = {-LOSS}"
        return t_statistic(own.profit) < GAIN and _loses(both), reason

    return Requirement("earn nothing, and lose once the market's drift is averaged out", judge, (mirror,))


def round_trip(mirror: str) -> Requirement:
    """The quoted spread and the commission are paid, no more than twice over, in either order alike."""
    low, high = TRIP_COST

    def judge(own: Sample, others: Others) -> tuple[bool, str]:
        owed = (own.quoted + own.fees).sum().item()
        share = -own.profit.sum().item() / owed if owed > 0.0 else 0.0
        difference = own.profit - others[mirror].profit
        passed = low <= share <= high and _loses(own.profit) and abs(t_statistic(difference)) < GAIN
        return passed, f"pays {share:.2f} of quoted spread and commission; less {mirror} {_described(difference)}"

    text = f"lose {low} to {high} times the quoted spread and commission, in either order alike"
    return Requirement(text, judge, (mirror,))


def informed(ceiling: str, share: float = 1.0) -> Requirement:
    """May earn, at most `share` of what the ceiling does, each per share of its position limit."""

    def judge(own: Sample, others: Others) -> tuple[bool, str]:
        top = others[ceiling]
        beyond = own.profit - share * top.profit * (own.limit / top.limit)
        reason = f"{_described(own.profit)}; beyond {share:g} × {ceiling} {_described(beyond)}"
        return t_statistic(beyond) < GAIN, reason

    return Requirement(f"may earn, at most {share:g} × {ceiling}", judge, (ceiling,))


def earns(ceiling: str) -> Requirement:
    """A significant gain, and no more than the ceiling's."""

    def judge(own: Sample, others: Others) -> tuple[bool, str]:
        beyond = own.profit - others[ceiling].profit
        reason = f"{_described(own.profit)}, a gain from t = {GAIN} up; beyond {ceiling} {_described(beyond)}"
        return t_statistic(own.profit) >= GAIN and t_statistic(beyond) < GAIN, reason

    return Requirement(f"a significant gain, at most that of {ceiling}", judge, (ceiling,))


def earns_clearly(floor: str) -> Requirement:
    """A clear gain, and no less than the floor's."""

    def judge(own: Sample, others: Others) -> tuple[bool, str]:
        beyond = own.profit - others[floor].profit
        reason = f"{_described(own.profit)}, clear from t = {CLEAR} up; beyond {floor} {_described(beyond)}"
        return t_statistic(own.profit) >= CLEAR and t_statistic(beyond) > -LOSS, reason

    return Requirement(f"a clear gain, at least that of {floor}", judge, (floor,))
