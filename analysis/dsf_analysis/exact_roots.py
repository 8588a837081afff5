"""Discs that provably hold the roots of a square-free integer polynomial, one each, as tight as double precision shows.

Nothing that is approximate decides: approximations are only proposed, and discs around them are checked in rationals.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import inf, isqrt, nextafter, prod
from typing import Any

import mpmath
import sympy as sp
from mpmath.libmp import to_rational

from dsf.sets import Interval

BITS = 80  # a disc is at most 2^-BITS of its centre's modulus: far below the rounding of a double
DIGITS = (40, 80, 160, 320, 640, 1280)  # of the approximations, until their discs are tight and apart


class NotCertified(ValueError):
    """No proof was found for these eigenvalues; says why."""


@dataclass(frozen=True)
class Root:
    """Exactly one root z with |z - (re + i im)| <= radius, `multiplicity` times.

    im = 0: z is real, and re itself where radius = 0. im > 0: z is not real, and its conjugate is a root as well.
    squared: |z|^2 of a pair, where it is known exactly.

    >>> Root(Fraction(-1), Fraction(0), Fraction(0)).interval
    [-1, -1]
    """

    re: Fraction
    im: Fraction
    radius: Fraction
    multiplicity: int = 1
    squared: Fraction | None = None

    @property
    def real(self) -> bool:
        return self.im == 0

    @property
    def interval(self) -> Interval:
        """The doubles around a real root."""
        return Interval(below(self.re - self.radius), above(self.re + self.radius))

    @property
    def modulus(self) -> Interval:
        """The doubles around |z|."""
        if self.real:
            return self.interval.abs
        squared = self.re**2 + self.im**2 if self.squared is None else self.squared
        radius = self.radius if self.squared is None else Fraction(0)
        lo, hi = _root_between(squared)
        return Interval(below(max(lo - radius, Fraction(0))), above(hi + radius))


def isolated(f: sp.Poly, unit: int, matrix: list[list[int]] | None = None) -> tuple[Root, ...]:
    """The roots of f(unit x), for f square-free and monic in integers; of a conjugate pair the upper one.

    matrix: one whose characteristic polynomial is f: its eigenvalues are better conditioned than the roots of f.
    Raises NotCertified where the discs do not come apart in the last of DIGITS.

    >>> x = sp.Symbol("x")
    >>> [str(root.re) for root in isolated(sp.Poly(x * (x - 1) * (x + 3), x), 2)]
    ['-3/2', '0', '1/2']
    """
    coefficients = [int(c) for c in f.all_coeffs()]
    size, real = len(coefficients) - 1, int(f.count_roots())  # by Sturm
    if size == 1:
        return (Root(Fraction(-coefficients[1], unit), Fraction(0), Fraction(0)),)
    for digits in DIGITS:
        try:
            with mpmath.workdps(digits):
                of = _companion(coefficients, unit) if matrix is None else mpmath.matrix(matrix) / unit
                found = mpmath.eig(of, left=False, right=False)
                proposed = [(_rational(mpmath.re(z)) * unit, _rational(mpmath.im(z)) * unit) for z in found]
        except (RuntimeError, ZeroDivisionError):  # the iteration did not converge in so few digits
            continue
        proposed.sort(key=lambda z: abs(z[1]))
        line, upper = [(re, Fraction(0)) for re, _ in proposed[:real]], [z for z in proposed[real:] if z[1] > 0]
        if 2 * len(upper) == size - real and (roots := _proved(coefficients, unit, line, upper)):
            return tuple(sorted(roots, key=lambda root: (root.re, root.im)))
    raise NotCertified(f"discs of degree {size} do not come apart in {DIGITS[-1]} digits")


Point = tuple[Fraction, Fraction]  # a centre, in units


def _proved(f: Sequence[int], unit: int, line: list[Point], upper: list[Point]) -> list[Root] | None:
    """The roots, where the discs around these centres meet no other and are tight; None where they are not."""
    radii = _radii(f, [*line, *upper, *((re, -im) for re, im in upper)])
    if radii is None:
        return None
    reals = [_on_the_line(f, re, r, unit) for (re, _), r in zip(line, radii, strict=False)]
    pairs = list(zip(upper, radii[len(line) :], strict=False))
    if None in reals or any(r**2 * 4**BITS > _squared(z) for z, r in pairs):
        return None
    found = [root for root in reals if root is not None]
    squared = None
    if len(pairs) == 1 and all(root.radius == 0 for root in found):  # |z|^2 is what the other roots leave of f(0)
        last = next(c for c in reversed(f) if c)
        squared = Fraction(abs(last), unit**2) / prod((abs(root.re) * unit for root in found if root.re), start=1)
    return found + [Root(re / unit, im / unit, r / unit, 1, squared) for (re, im), r in pairs]


def _radii(f: Sequence[int], centres: list[Point]) -> list[Fraction] | None:
    """Smith: the discs |z - z_i| <= n |f(z_i)| / prod |z_i - z_j| hold all roots, and one each where none meet.

    None where some meet. A disc around a real number is its own conjugate, so its root is real; one off the real line
    does not meet its conjugate, so its root is not.
    """
    radii = []
    for i, z in enumerate(centres):
        gaps = prod((_squared(_minus(z, w)) for j, w in enumerate(centres) if j != i), start=Fraction(1))
        if gaps == 0:
            return None
        radii.append(_root_above(len(centres) ** 2 * _squared(_value(f, z)) / gaps))
    discs = combinations(zip(centres, radii, strict=True), 2)
    return None if any(_squared(_minus(z, w)) <= (r + s) ** 2 for (z, r), (w, s) in discs) else radii


def _on_the_line(f: Sequence[int], centre: Fraction, radius: Fraction, unit: int) -> Root | None:
    """A real root: exact where it is rational (then an integer of units, for f is monic); None where it is not tight.

    A tight disc holds none of -1, 0 and 1, unless that is the root: so its ends tell on which side the root is.
    """
    whole, zero = Fraction(round(centre)), Fraction(0)
    if abs(whole - centre) <= radius and _value(f, (whole, zero)) == (0, 0):
        return Root(whole / unit, zero, zero)
    tight = radius * 2**BITS <= abs(centre) and all(abs(centre - end) > radius for end in (-unit, 0, unit))
    return Root(centre / unit, zero, radius / unit) if tight else None


def _companion(f: Sequence[int], unit: int) -> Any:
    """A matrix whose eigenvalues are the roots of f(unit x)."""
    size = len(f) - 1
    matrix = mpmath.zeros(size)
    for i in range(size):
        matrix[i, size - 1] = -mpmath.mpf(f[size - i]) / mpmath.mpf(unit) ** (size - i)
        if i:
            matrix[i, i - 1] = 1
    return matrix


def _minus(z: Point, w: Point) -> Point:
    return z[0] - w[0], z[1] - w[1]


def _squared(z: Point) -> Fraction:
    return z[0] ** 2 + z[1] ** 2


def _value(f: Sequence[int], z: Point) -> Point:
    re, im = Fraction(0), Fraction(0)
    for c in f:
        re, im = re * z[0] - im * z[1] + c, re * z[1] + im * z[0]
    return re, im


def _rational(x: Any) -> Fraction:
    return Fraction(*map(int, to_rational(x._mpf_)))


def _root_above(q: Fraction) -> Fraction:
    """A power of two above the square root of q, at most 4 times it; 0 of 0."""
    bits = q.numerator.bit_length() - q.denominator.bit_length() + 1  # q < 2^bits
    return Fraction(2) ** ((bits + 1) // 2) if q else q


def _root_between(q: Fraction) -> tuple[Fraction, Fraction]:
    """Rationals around the square root of q, equal where it is rational, else within 2^-BITS of it."""
    num, den = q.numerator * q.denominator, q.denominator
    shift = max(0, BITS + 1 - num.bit_length() // 2)
    whole = isqrt(num << 2 * shift)
    above = whole if whole * whole == num << 2 * shift else whole + 1
    return Fraction(whole, den << shift), Fraction(above, den << shift)


def below(q: Fraction) -> float:
    """The largest double <= q."""
    try:
        near = float(q)
    except OverflowError:
        return sys.float_info.max if q > 0 else -inf
    return near if Fraction(near) <= q else nextafter(near, -inf)


def above(q: Fraction) -> float:
    """The least double >= q."""
    return -below(-q)
