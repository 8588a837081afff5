"""Closed sets of numbers: what a signal, and therefore A_t, can be over ALL inputs.

    Interval [lo, hi]      Rectangle re + i im      Polar { r e^{i theta} }: disc, annulus, arc, ray

Every operation returns a set that holds every possible result (it may hold more), so sets prove "no", never "yes".
End points are double-precision numbers; membership allows TOLERANCE.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

inf = math.inf
pi = math.pi
TOLERANCE = 1e-9  # membership: rounding of the numbers that are compared with the set, relative beyond 1


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b  # 0 * oo = 0: the end point oo is a limit, never a value


def _slack(end: float) -> float:
    return TOLERANCE * max(1.0, abs(end)) if math.isfinite(end) else 0.0


class _Sums:
    """a + b and a * b of sets of any two kinds."""

    def __add__(self: Any, other):
        return add(self, other)

    def __mul__(self: Any, other):
        return mul(self, other)


@dataclass(frozen=True)
class Interval(_Sums):
    """The real numbers lo <= x <= hi.

    >>> Interval(0, 1) * Interval(-2, 3)
    [-2, 3]
    """

    lo: float = -inf
    hi: float = inf

    def __post_init__(self):
        if not self.lo <= self.hi:  # also refuses NaN
            raise ValueError(f"an interval needs lo <= hi, got lo={self.lo}, hi={self.hi}")

    def __repr__(self) -> str:
        return f"[{_number(self.lo)}, {_number(self.hi)}]"

    def __contains__(self, z: complex) -> bool:
        z = complex(z)
        inside = self.lo - _slack(self.lo) <= z.real <= self.hi + _slack(self.hi)
        return inside and abs(z.imag) <= TOLERANCE * max(1.0, abs(z))

    def map(self, increasing: Callable[[float], float]) -> Interval:
        return Interval(increasing(self.lo), increasing(self.hi))

    def hull(self, other: Interval) -> Interval:
        return Interval(min(self.lo, other.lo), max(self.hi, other.hi))

    @property
    def bounded(self) -> bool:
        return self.hi - self.lo < inf

    @property
    def rectangle(self) -> Rectangle:
        return Rectangle(self, Interval(0, 0))

    @property
    def polar(self) -> Polar:
        if self.lo >= 0:
            return Polar(self, Interval(0, 0))
        if self.hi <= 0:
            return Polar(Interval(-self.hi, -self.lo), Interval(pi, pi))
        return Polar(Interval(0, max(-self.lo, self.hi)), Interval(0, pi))

    @property
    def abs(self) -> Interval:
        return self.polar.r

    def __neg__(self) -> Interval:
        return Interval(-self.hi, -self.lo)


@dataclass(frozen=True)
class Rectangle(_Sums):
    """The complex numbers with real part in `re` and imaginary part in `im`."""

    re: Interval = Interval()
    im: Interval = Interval()

    def __repr__(self) -> str:
        return "C" if self == Rectangle() else f"{self.re} + i {self.im}"

    def __contains__(self, z: complex) -> bool:
        return complex(z).real in self.re and complex(z).imag in self.im

    @property
    def rectangle(self) -> Rectangle:
        return self

    @property
    def polar(self) -> Polar:
        a, b = self.re.abs, self.im.abs
        r = Interval(math.hypot(a.lo, b.lo), math.hypot(a.hi, b.hi))
        if self.re.lo >= 0:
            return Polar(r, Interval(-pi / 2, pi / 2))
        if self.re.hi <= 0:
            return Polar(r, Interval(pi / 2, 3 * pi / 2))
        return Polar(r)

    @property
    def abs(self) -> Interval:
        return self.polar.r

    def __neg__(self) -> Rectangle:
        return Rectangle(-self.re, -self.im)


@dataclass(frozen=True)
class Polar(_Sums):
    """The complex numbers r e^{i theta} with modulus in `r` and argument in `theta` (a full turn by default)."""

    r: Interval
    theta: Interval = Interval(-pi, pi)

    def __post_init__(self):
        if self.r.lo < 0:
            raise ValueError(f"a modulus is >= 0, got {self.r}")
        if self.full:  # every full turn is the same set, wherever it starts
            object.__setattr__(self, "theta", Interval(-pi, pi))

    def __repr__(self) -> str:
        return f"{{|z| in {self.r}" + ("" if self.full else f", arg z in {self.theta}") + "}"

    @property
    def full(self) -> bool:
        return self.theta.hi - self.theta.lo >= 2 * pi - 1e-12

    def __contains__(self, z: complex) -> bool:
        z = complex(z)
        angle, slack = math.atan2(z.imag, z.real), TOLERANCE * max(1.0, abs(z))
        return abs(z) in self.r and (self.full or abs(z) <= slack or self._turns_to(angle))

    def _turns_to(self, angle: float) -> bool:
        first = angle + 2 * pi * math.ceil(
            (self.theta.lo - TOLERANCE - angle) / (2 * pi)
        )  # the argument, next above lo
        return first <= self.theta.hi + TOLERANCE

    @property
    def polar(self) -> Polar:
        return self

    @property
    def rectangle(self) -> Rectangle:
        side = Interval(-self.r.hi, self.r.hi)
        return Rectangle(side, side)

    @property
    def abs(self) -> Interval:
        return self.r

    def __neg__(self) -> Polar:
        return Polar(self.r, Interval(self.theta.lo + pi, self.theta.hi + pi))


Set = Interval | Rectangle | Polar
Complex = Rectangle()
LeftHalfPlane = Rectangle(Interval(-inf, 0), Interval())


def disc(radius: float) -> Polar:
    """|z| <= radius."""
    return Polar(Interval(0, radius))


def annulus(inner: float, outer: float) -> Polar:
    """inner <= |z| <= outer."""
    return Polar(Interval(inner, outer))


def arc(radius: float, lo: float, hi: float) -> Polar:
    """The points of a circle whose argument lies in [lo, hi] (radians)."""
    return Polar(Interval(radius, radius), Interval(lo, hi))


def point(z: complex) -> Set:
    """The set that holds one number."""
    if isinstance(z, complex):
        return Rectangle(Interval(z.real, z.real), Interval(z.imag, z.imag))
    return Interval(float(z), float(z))


def is_real(s: Set) -> bool:
    return isinstance(s, Interval)


def add(a: Set, b: Set) -> Set:
    """{ x + y }."""
    if isinstance(a, Interval) and isinstance(b, Interval):
        return Interval(a.lo + b.lo, a.hi + b.hi)
    p, q = a.rectangle, b.rectangle
    return Rectangle(Interval(p.re.lo + q.re.lo, p.re.hi + q.re.hi), Interval(p.im.lo + q.im.lo, p.im.hi + q.im.hi))


def mul(a: Set, b: Set) -> Set:
    """{ x y }: moduli multiply, arguments add."""
    if isinstance(a, Interval) and isinstance(b, Interval):
        products = [_times(x, y) for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
        return Interval(min(products), max(products))
    if isinstance(b, Interval):
        a, b = b, a
    if isinstance(a, Interval) and isinstance(b, Rectangle):
        re, im = mul(a, b.re), mul(a, b.im)
        assert isinstance(re, Interval) and isinstance(im, Interval)
        return Rectangle(re, im)
    p, q = a.polar, b.polar
    r, theta = mul(p.r, q.r), add(p.theta, q.theta)
    assert isinstance(r, Interval) and isinstance(theta, Interval)
    return Polar(r, theta)


def inverse(a: Set) -> Set:
    """{ 1 / x : x != 0 }; an interval with 0 inside gives the whole line, with 0 at an end a half line."""
    if not isinstance(a, Interval):
        r = inverse(a.polar.r)
        assert isinstance(r, Interval)
        return Polar(Interval(max(r.lo, 0), r.hi), -a.polar.theta)  # of {0} alone, r is the whole line
    if a.lo < 0 < a.hi or a.lo == a.hi == 0:
        return Interval()
    return Interval(1 / a.hi if a.hi else -inf, 1 / a.lo if a.lo else inf)


def square(a: Interval) -> Interval:
    """{ x^2 }: tighter than a * a, which forgets that both factors are the same."""
    return Interval(_times(a.abs.lo, a.abs.lo), _times(a.abs.hi, a.abs.hi))


def exp(a: Set) -> Set:
    """{ e^x }: of a complex set, modulus e^re and argument im."""
    if isinstance(a, Interval):
        return Interval(_exp(a.lo), inf if a.hi > 709 else _exp(a.hi))  # e^709 is the last below overflow
    modulus = exp(a.rectangle.re)
    assert isinstance(modulus, Interval)
    return Polar(modulus, a.rectangle.im)


def _exp(x: float) -> float:
    return inf if x == inf else math.exp(min(x, 709.0))


def hull(sets: list[Set]) -> Set:
    """One set that holds them all: an interval if all are real, else the smallest annulus."""
    reals = [s for s in sets if isinstance(s, Interval)]
    if len(reals) == len(sets):
        return Interval(min(s.lo for s in reals), max(s.hi for s in reals))
    return Polar(Interval(min(s.abs.lo for s in sets), max(s.abs.hi for s in sets)))


def scaled(a: Set, factor: float) -> Set:
    return mul(point(factor), a)


def eigenvalues_2x2(m: list[list[Interval]]) -> list[Set]:
    """Encloses the eigenvalues of every real 2x2 matrix [[a, b], [c, d]] with entries in intervals.

    They are (a+d)/2 +- sqrt(((a-d)/2)^2 + bc) where the root is real, else a conjugate pair with |z|^2 = ad - bc and
    real part (a+d)/2.
    """
    (a, b), (c, d) = m
    mean, half = scaled(add(a, d), 0.5), scaled(add(a, -d), 0.5)
    det, radicand = add(mul(a, d), -mul(b, c)), None
    assert isinstance(half, Interval) and isinstance(det, Interval) and isinstance(mean, Interval)
    radicand = add(square(half), mul(b, c))
    assert isinstance(radicand, Interval)
    parts: list[Set] = []
    if radicand.hi >= 0:
        root = Interval(math.sqrt(max(radicand.lo, 0)), math.sqrt(radicand.hi))
        parts += [add(mean, root), add(mean, -root)]
    if radicand.lo < 0 <= det.hi:  # a conjugate pair has det = |z|^2 >= 0, and |re z| <= |z|
        parts.append(Polar(Interval(math.sqrt(max(det.lo, 0)), math.sqrt(det.hi))))
    return parts


def _number(x: float) -> str:
    return "oo" if x == inf else "-oo" if x == -inf else f"{x:.4g}"
