"""Elementary functions whose every bit is the same eager, compiled, batched and alone.

The library's `sqrt`, `log`, `exp` and `tanh` round differently in different kernels, so a market that used them would drift
apart from its own replay. These are built from operations that IEEE 754 and two's complement fix completely: + − × ÷, one at a
time and never fused into multiply-adds, comparisons, integer arithmetic, shifts, and reinterpreted bits.

All functions take and return float32 or float64 of any shape, elementwise, and keep the dtype; they are not differentiable.
Errors below are against the true value, in units in the last place (ulp). Outside the stated domain nothing is promised,
but that no error is raised. (tests/test_exact.py holds all of it.)

Constants are zero-dim tensors in eager mode, because there each operation on a small tensor costs a microsecond and each Python
number another. Nothing is done in place: that saves nothing on small tensors, and a compiler would have to undo it.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

_WORD = {torch.float32: torch.int32, torch.float64: torch.int64}  # the integer that shares a float's width


class Constants:
    """The numbers of one formula, in the form that is cheapest where they are asked for.

    Calling it yields Python numbers while a graph is traced (they become literals; tensors would become inputs), otherwise
    zero-dim CPU tensors, which mix with tensors of any device and save the wrapping of a Python number in each operation.
    Both give the same bits.

    Args:
        dtype: of the tensors that the numbers meet. Beside floats, integers take the integer dtype of the same width.
        numbers: rounded to `dtype` once.
    """

    def __init__(self, dtype: torch.dtype, *numbers: float) -> None:
        word = _WORD.get(dtype, dtype)
        self.numbers = numbers
        self.tensors = tuple(
            torch.tensor(n, dtype=word if isinstance(n, int) else dtype, device="cpu") for n in numbers
        )

    def __call__(self) -> tuple[Tensor, ...]:
        """The numbers, in the order given; declared as tensors, since in arithmetic with tensors they act alike."""
        return cast("tuple[Tensor, ...]", self.numbers) if torch.compiler.is_compiling() else self.tensors


def sqrt(x: Tensor) -> Tensor:
    """Square root of x ≥ 0, within 2 ulp in float32 and 3 in float64; exactly 0 at 0.

    Halving the bits halves the exponent, which gives the root within 3.6 %; each step of Heron's rule squares the error.
    Every step but the last is scaled to centre its one-sided error, so two suffice in float32 and three in float64.

    Source: Blinn 1997, Floating-point tricks (bits as a logarithm); Muller, Elementary Functions, 3rd ed., section 5.3 (Heron).
    """
    one, offset, *halves = _SQRT[x.dtype]()
    root = ((x.view(_WORD[x.dtype]) >> one) + offset).view(x.dtype)
    for half in halves:
        root = (x / root + root) * half
    return root * x.sign()


def log(x: Tensor) -> Tensor:
    """Natural logarithm of a positive normal number, within 3 ulp in float32 and 5 in float64; exactly 0 at 1.

    x = 2^k m with m in [√½, √2): log x = k log 2 + 2 artanh(s), s = (m − 1)/(m + 1). The series of artanh in s² is cut to
    the fewest terms that the dtype needs, their coefficients refitted (relative error 8e-10 in float32, 2e-16 in float64).

    Source: Muller, Elementary Functions, 3rd ed., chapter 11 (range reduction); FreeBSD's `e_log.c` splits at √½ likewise.
    """
    low, mask, log2, one, two, *series = _LOG[x.dtype]()
    bits = x.view(_WORD[x.dtype])
    k = bits - low & mask  # still in the place of the exponent
    m = (bits - k).view(x.dtype)
    s = (m - one) / (m + one)
    square = s * s
    return (_polynomial(square, *series) * square + two) * s + k.to(x.dtype) * log2


def exp(x: Tensor) -> Tensor:
    """Exponential of x, within 3 ulp in either dtype, never 0 and never infinite; exactly 1 at 0.

    Saturates below −87.33 and above 88.37 (float32), −708.39 and 709.4 (float64), just inside the range of normal numbers.

    x = k log 2 + r with |r| ≤ ½ log 2, and e^r = (Q + N)/(Q − N) with N/Q ≈ tanh(r/2): an odd cubic over a quadratic in
    float32, a quintic over a quartic in float64, fitted minimax (relative error 5e-10 and 5e-18).

    Source: Cody and Waite 1980, Software Manual for the Elementary Functions, chapter 6 (log 2 in two parts, the quotient).
    """
    lowest, highest = _EXP_RANGE[x.dtype]
    per_log2, magic, place, log2, log2_rest, *quotient = _EXP[x.dtype]()
    x = x.clamp(lowest, highest)
    k, scale = _nearest_power(x * per_log2, magic, place)
    r = x - k * log2 - k * log2_rest
    numerator, denominator = _odd_quotient(r, quotient)
    return (denominator + numerator) / (denominator - numerator) * scale


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent, within 5 ulp in either dtype; exactly odd, and within [−1, 1].

    x = k/2 log 2 + h; with w = tanh(k/2 log 2) = (2^k − 1)/(2^k + 1) and tanh h ≈ N/Q as in `exp`, the addition theorem
    gives tanh x = (w Q + N)/(Q + w N), whose relative error stays small near 0, where k = 0.
    """
    limit = _TANH_LIMIT[x.dtype]
    per_half_log2, magic, place, half_log2, one, *quotient = _TANH[x.dtype]()
    x = x.clamp(-limit, limit)
    k, power = _nearest_power(x * per_half_log2, magic, place)
    numerator, denominator = _odd_quotient(x - k * half_log2, quotient)
    w = (power - one) / (power + one)
    quotient_of_sums = (w * denominator + numerator) / (denominator + w * numerator)
    return quotient_of_sums.clamp(-1.0, 1.0)


def normal(u: Tensor) -> Tensor:
    """Standard normal deviate: the inverse of the normal distribution function at u in [2^-24, 1 − 2^-24].

    The range is that of `random.uniform`, over all of whose 2^23 values it is within 5 ulp in float32 (relative error 9e-9 in
    float64), increases strictly, and is exactly antisymmetric: normal(1 − u) = −normal(u).

    normal(u) = (u − ½) g(log(u (1 − u))), where g is so smooth that one quotient of quintics, fitted minimax with relative
    error 9e-9, covers centre and tails alike. Branches of which `where` picks one would all be computed: Wichura's algorithm
    AS 241 takes half as many operations again.

    Source: Giles 2011, Approximating the erfinv function, GPU Computing Gems (the variable: his log(1 − (2u − 1)²) is
    log(u (1 − u)) + log 4).
    """
    one, half, *coefficients = _NORMAL[u.dtype]()
    y = log((one - u) * u)
    above = _polynomial(y, *coefficients[:6])
    below = _monic_polynomial(y, *coefficients[6:])
    return above / below * (u - half)


def halving_sum(values: Tensor) -> Tensor:
    """Sum over the last axis, whose length is a power of two, in a fixed order: [..., n] to [..., 1]."""
    while values.shape[-1] > 1:
        older, newer = values.chunk(2, -1)
        values = older + newer
    return values


def _polynomial(x: Tensor, leading: Tensor, second: Tensor, *rest: Tensor) -> Tensor:
    """Horner's rule, highest power first, a rounded product and a rounded sum in turn."""
    value = x * leading + second
    for coefficient in rest:
        value = value * x + coefficient
    return value


def _monic_polynomial(x: Tensor, second: Tensor, *rest: Tensor) -> Tensor:
    """The same with leading coefficient 1."""
    value = x + second
    for coefficient in rest:
        value = value * x + coefficient
    return value


def _nearest_power(k: Tensor, magic: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """The integer nearest to k, and 2 to that integer; both as floats.

    Adding 1.5 · 2^23 (2^52 in float64) pushes the fraction off the end of the significand; the exponent's bias added along
    with it leaves the bits of 2^k at the low end, to be shifted into place.
    """
    shifted = k + magic
    power = (shifted.view(_WORD[k.dtype]) << place).view(k.dtype)
    return shifted - magic, power


def _odd_quotient(x: Tensor, quotient: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Numerator x P(x²) and denominator Q(x²), Q monic, of an odd function's approximant; P's coefficients come first."""
    square = x * x
    half = (len(quotient) + 1) // 2
    return _polynomial(square, *quotient[:half]) * x, _monic_polynomial(square, *quotient[half:])


_SQRT = {
    torch.float32: Constants(torch.float32, 1, 0x1FBB645B, 0.49984897, 0.5),
    torch.float64: Constants(torch.float64, 1, 0x1FF76C8B43958107, 0.49984897, 0.4999999886, 0.5),
}
# the bits of √½, the mask of sign and exponent, log 2 per unit of the exponent's place
_LOG = {
    torch.float32: Constants(
        torch.float32,
        *(0x3F3504F3, -(1 << 23), math.log(2) * 2.0**-23, 1.0, 2.0),
        *(0.29871794274048859646, 0.39977538644555063961, 0.6666677641177749874),
    ),
    torch.float64: Constants(
        torch.float64,
        *(0x3FE6A09E667F3BCD, -(1 << 52), math.log(2) * 2.0**-52, 1.0, 2.0),
        *(0.16819829896331043296, 0.18123641882221722222, 0.22223371705372442683),
        *(0.28571417129460067024, 0.40000000052275948217, 0.66666666666587204302),
    ),
}
_EXP_RANGE = {torch.float32: (-87.33, 88.37), torch.float64: (-708.39, 709.4)}
# log 2 in two parts, the first short enough that its product with any k here is exact
_EXP = {
    torch.float32: Constants(
        torch.float32,
        *(1 / math.log(2), 1.5 * 2**23 + 127, 23, 0.693359375, -2.12194440054690583e-4),
        *(0.083244190747905110, 5.0010745175861760, 10.002149040494439),
    ),
    torch.float64: Constants(
        torch.float64,
        *(1 / math.log(2), 1.5 * 2**52 + 1023, 52, 0.693145751953125, 1.42860682030941723212e-6),
        *(0.033318188370764476, 14.002728742987915, 504.15282025487489, 112.03092752845295, 1008.3056405097498),
    ),
}
_TANH_LIMIT = {torch.float32: 10.0, torch.float64: 20.0}  # where the nearest float is ±1
_TANH = {
    torch.float32: Constants(
        torch.float32,
        *(2 / math.log(2), 1.5 * 2**23 + 127, 23, math.log(2) / 2, 1.0),
        *(0.16648838149581022, 2.5005372587930880, 2.5005372601236096),
    ),
    torch.float64: Constants(
        torch.float64,
        *(2 / math.log(2), 1.5 * 2**52 + 1023, 52, math.log(2) / 2, 1.0),
        *(0.066636376741528952, 7.0013643714939573, 63.019102531859361, 28.007731882113238, 63.019102531859361),
    ),
}
# fitted over log(u (1 − u)) for u from 2^-24 to ½, where all terms of a polynomial have one sign
_NORMAL_FIT = (
    *(
        52.779006283691509,
        -996.71494029714311,
        9867.9676746775010,
        -71969.229216983158,
        380309.13849400056,
        -1184916.5100230971,
    ),
    *(-129.41613800563986, 651.65941959247824, -19931.678101251294, 1808.6631751481690, -707255.19429157029),
)
_NORMAL = {dtype: Constants(dtype, 1.0, 0.5, *_NORMAL_FIT) for dtype in (torch.float32, torch.float64)}
