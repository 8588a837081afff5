"""The readings of a value that is no operator: numbers, symbols, names, bounds. ONE rule of shape serves the first two.

    tensors  torch.Tensor [B, T, H, 1 | n]        symbols  numpy object array [1 | n] of sympy expressions
    names    one sympy symbol per signal          bounds   Bound: a set that holds every entry, at any n

A scalar ends in an axis of size 1, so that bodies broadcast. Logs stay logs: `decay(g)` is e^g that remembers g.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
import torch

from . import sets
from .sets import Interval, Set, inf
from .tree import Node

DEPENDENCE = ("const", "token", "window", "prefix", "state")  # of what a signal is a function, in increasing order


def widest(dependences) -> str:
    """The largest of some dependences; "const" of none."""
    return max(dependences, key=DEPENDENCE.index, default="const")


@dataclass(frozen=True)
class Bound:
    """What a signal can be over all inputs: every entry lies in `set`; `norm2` encloses |v|^2 (None: a scalar).

    `dependence` says of what it is a function; `steps` is the number of micro-steps J (0: it has no such axis).
    """

    set: Set
    norm2: Interval | None = None
    dependence: str = "const"
    steps: int = 0
    __array_ufunc__ = None  # numpy leaves `array * bound` to __rmul__

    def _with(self, other: Any, set: Set, norm2: Interval | None) -> Bound:
        dependence = widest((self.dependence, other.dependence))
        return Bound(set, norm2, dependence, max(self.steps, other.steps))

    def __add__(self, other):
        if (o := as_bound(other)) is None:
            return NotImplemented
        norm2 = None
        if self.norm2 or o.norm2:
            norm2 = Interval(0, inf)  # a scalar is added to each of n entries, and n is unknown
            if self.norm2 and o.norm2:  # triangle inequality
                length = self.norm2.hi**0.5 + o.norm2.hi**0.5
                norm2 = Interval(0, length * length)
        return self._with(o, sets.add(self.set, o.set), norm2)

    def __mul__(self, other):
        if (o := as_bound(other)) is None:
            return NotImplemented
        if o is self and isinstance(self.set, Interval):  # one signal twice: a square
            square = sets.square(self.set)
            return self._with(o, square, self.norm2 and Interval(0, sets._times(square.hi, self.norm2.hi)))
        return self._with(o, sets.mul(self.set, o.set), _norm2_of_product(self, o))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        return self * -1

    def __sub__(self, other):
        return self + -1 * other

    def __rsub__(self, other):
        return -self + other

    def __truediv__(self, other):
        return self * (other.reciprocal() if isinstance(other, Bound) else 1 / other)

    def __rtruediv__(self, other):
        return self.reciprocal() * other

    def __pow__(self, k):
        if not (isinstance(k, int) and k >= 1):
            return NotImplemented
        return self if k == 1 else (self * self) ** (k // 2) if k % 2 == 0 else self * self ** (k - 1)

    def reciprocal(self) -> Bound:
        return self.map(sets.inverse)

    def map(self, f) -> Bound:
        return replace(self, set=f(self.set), norm2=self.norm2 and Interval(0, inf))


def _norm2_of_product(a: Bound, b: Bound) -> Interval | None:
    if a.norm2 is None and b.norm2 is None:
        return None
    if a.norm2 and b.norm2:  # elementwise: |a o b| <= max|a_i| |b|, and the other way round
        ab, ba = (sets._times(sets.square(s.abs).hi, v.hi) for s, v in ((a.set, b.norm2), (b.set, a.norm2)))
        return Interval(0, min(ab, ba))
    scalar, vector = (a, b) if a.norm2 is None else (b, a)
    assert vector.norm2
    product = sets.mul(sets.square(scalar.set.abs), vector.norm2)
    assert isinstance(product, Interval)
    return product


def as_bound(x: Any) -> Bound | None:
    """A number as the bound that holds it alone."""
    if isinstance(x, (int, float, complex)):
        return Bound(sets.point(x))
    return x if isinstance(x, Bound) else None


@dataclass(frozen=True)
class MatrixBound:
    """What a matrix can be: are all symmetric, a bound of the 2-norm, a set that holds every eigenvalue."""

    spectrum: Set
    norm: float = inf
    symmetric: bool = False
    dependence: str = "const"
    steps: int = 0


@dataclass(frozen=True)
class Log(Node):
    """e^log, kept as its logarithm: products add exponents, 1 - e^log is -expm1(log). log may be -oo, or complex."""

    log: torch.Tensor
    __array_ufunc__ = None

    @property
    def value(self) -> torch.Tensor:
        return self.log.exp()

    def __mul__(self, other):
        if isinstance(other, Log):
            return Log(self.log + other.log)
        if is_one(other):
            return self
        return self.value * other if isinstance(other, (int, float, complex, torch.Tensor)) else NotImplemented

    __rmul__ = __mul__

    def __pow__(self, k):
        return Log(self.log * k) if is_number(k) and k > 0 else NotImplemented

    def __neg__(self):
        return -self.value

    def __add__(self, other):
        return self.value + value(other)

    __radd__ = __add__

    def __sub__(self, other):
        return torch.expm1(self.log) if is_one(other) else self.value - value(other)

    def __rsub__(self, other):
        return -torch.expm1(self.log) if is_one(other) else other - self.value

    def __truediv__(self, other):
        return Log(self.log - other.log) if isinstance(other, Log) else self.value / other

    def __rtruediv__(self, other):
        return other * torch.exp(-self.log)


def value(x: Any) -> Any:
    """The number that a Log stands for; anything else as it is."""
    return x.value if isinstance(x, Log) else x


def column(x: Any) -> Any:
    """[..., n] -> [..., n, 1], to act on a state [..., n, p]."""
    return x if is_number(x) else value(x)[..., None]


def is_number(x: Any) -> bool:
    return isinstance(x, (int, float, complex))


def is_one(x: Any) -> bool:  # the Python numbers 0 and 1 are structure, not data
    return is_number(x) and x == 1


def is_zero(x: Any) -> bool:
    return is_number(x) and x == 0


def times(x: Any, y: Any) -> Any:
    """x y, where the numbers 0 and 1 stay numbers."""
    if is_zero(x) or is_zero(y):
        return 0
    return y if is_one(x) else x if is_one(y) else x * y


def plus(x: Any, y: Any) -> Any:
    """x + y, where the number 0 stays a number."""
    return y if is_zero(x) else x if is_zero(y) else value(x) + value(y)


def is_name(x: Any) -> bool:
    """Is this the reading on names (one sympy symbol per signal)?"""
    return isinstance(x, sp.Basic)


def as_array(x: Any) -> np.ndarray:
    """A sympy matrix as a numpy object array: elementwise products then mean what they say."""
    return np.array(x.tolist(), dtype=object)
