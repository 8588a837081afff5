"""Structured operators on a state x [..., n, p]: what A_t, B_t, C_t are. Generic in their leaves (see values.py).

    Identity < Scaled < { Diagonal, Reflection c (a I - b k k^T) } < DiagonalPlusLowRank < Dense
    also Composed, Sum, Product (micro-steps), Shift, Block, OneHotDiagonal;  RealPart for C, Writes for B

Each class says how it acts (`apply`), what its transpose is (`T`) and how a scalar enters it (`scale`); everything else
is a function elsewhere: algebra.py, exact_eigenvalues.py, enclosures.py, lattice.py, printing.py. Operators made of
operators are in composites.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
import torch

from .functions import real
from .sets import Interval
from .tree import Node
from .values import Bound, Log, MatrixBound, as_bound, column, is_name, is_one, is_zero, times, value, widest


class Operator(Node):
    """A linear map; `A @ v` acts on a vector [..., n], `A.apply(x)` on a state [..., n, p], `A @ B` composes."""

    __array_ufunc__ = None  # numpy and torch leave `a * operator` to __rmul__

    def apply(self, x: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not say how it acts on a state")

    @property
    def T(self) -> Operator:
        """The transpose (no conjugate)."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its transpose is")

    def dense(self, n: int | None = None) -> Any:
        """As a matrix [..., n, n], on symbols a sympy Matrix; n is needed where the operator fits any size (I, a I)."""
        from .algebra import as_matrix, dense

        return as_matrix(dense(self, n))

    def scale(self, c: Any) -> Operator:
        from .composites import Composed

        return Composed(Scaled(c), self)

    def __rmul__(self, c: Any) -> Operator:
        _check_scalar(c)
        return self if is_one(c) else self.scale(c)

    __mul__ = __rmul__

    def __truediv__(self, c: Any) -> Operator:
        return (1 / c) * self

    def __neg__(self) -> Operator:
        return -1 * self

    def __add__(self, other: Operator) -> Operator:
        from .algebra import add

        return add(self, other) if isinstance(other, Operator) else NotImplemented

    def __sub__(self, other: Operator) -> Operator:
        from .algebra import add

        return add(self, -1 * other) if isinstance(other, Operator) else NotImplemented

    def __matmul__(self, other: Any) -> Any:
        from .algebra import compose, matvec

        return compose(self, other) if isinstance(other, Operator) else matvec(self, other)


def _check_scalar(c: Any) -> None:
    """A vector would scale rows, and leave an operator that claims a symmetry which it no longer has."""
    if isinstance(c, Operator):
        raise TypeError("operators are composed with @, as in diag(a) @ A; * takes a scalar")
    v: Any = c.log if isinstance(c, Log) else c  # of one shape; e^log would be computed, and kept for its gradient
    sized = isinstance(v, (torch.Tensor, np.ndarray)) and v.ndim and v.shape[-1] != 1
    if sized or isinstance(v, Bound) and v.norm2 is not None:
        what = f"a vector of shape {tuple(v.shape)}" if not isinstance(v, Bound) else "a vector"
        raise ValueError(f"a scalar (its last axis of size 1) multiplies an operator, got {what}: write diag(v) @ A")


@dataclass(frozen=True)
class Identity(Operator):
    """I, of any size."""

    def apply(self, x):
        return x

    T = property(lambda self: self)

    def scale(self, c):
        return Scaled(c)


I = Identity()  # noqa: E741  (the name the field uses)


@dataclass(frozen=True)
class Scaled(Operator):
    """a I, of any size."""

    a: Any

    def apply(self, x):
        return column(self.a) * x

    T = property(lambda self: self)

    def scale(self, c):
        return Scaled(times(c, self.a))


@dataclass(frozen=True)
class Diagonal(Operator):
    """diag(d), real or complex; an axis of size 1 in d stands for a multiple of I."""

    d: Any

    def apply(self, x):
        return column(self.d) * x

    T = property(lambda self: self)

    def scale(self, c):
        return Diagonal(times(c, self.d))


@dataclass(frozen=True)
class Reflection(Operator):
    """c (a I - b k k^T); a, b, c may be the numbers 0 and 1.

    a is not divided out (0/0 at a = 0), and c is not multiplied in (c twice would loosen the bounds).
    """

    a: Any
    b: Any
    k: Any
    c: Any = 1

    def apply(self, x):
        k = column(self.k)
        along = column(self.b) * k * (k * x).sum(-2)[..., None, :]
        return column(self.c) * (column(self.a) * x - along)

    T = property(lambda self: self)

    def scale(self, c):
        if is_zero(self.a):  # a multiple of k k^T: one factor is enough
            return Reflection(0, times(c, times(self.c, self.b)), self.k)
        return Reflection(self.a, self.b, self.k, times(c, self.c))


@dataclass(frozen=True)
class DiagonalPlusLowRank(Operator):
    """diag(d) - b u v^T; symmetric where u is v. d may be a number or a scalar."""

    d: Any
    b: Any
    u: Any
    v: Any

    def apply(self, x):
        along = column(self.b) * column(self.u) * (column(self.v) * x).sum(-2)[..., None, :]
        return column(self.d) * x - along

    T = property(lambda self: DiagonalPlusLowRank(self.d, self.b, self.v, self.u))

    def scale(self, c):
        return DiagonalPlusLowRank(times(c, self.d), times(c, self.b), self.u, self.v)


@dataclass(frozen=True)
class OneHotDiagonal(Operator):
    """P diag(d), where column j of P is e_{p_j} (not necessarily a permutation); `transposed`: diag(d) P^T."""

    p: Any  # [..., n] integers in 0..n-1
    d: Any
    transposed: bool = False

    def apply(self, x):
        if isinstance(self.p, np.ndarray):
            return self._matrix(x) @ x
        if self.transposed:
            index, x = torch.broadcast_tensors(self.p[..., None], x)
            return column(self.d) * torch.gather(x, -2, index)
        index, dx = torch.broadcast_tensors(self.p[..., None], column(self.d) * x)
        return torch.zeros_like(dx).scatter_add(-2, index, dx)

    def _matrix(self, x):
        n = len(x)
        d = np.broadcast_to(np.asarray(self.d, dtype=object), (n,))
        m = np.array([[sp.KroneckerDelta(self.p[j], i) * d[j] for j in range(n)] for i in range(n)], dtype=object)
        return m.T if self.transposed else m

    T = property(lambda self: OneHotDiagonal(self.p, self.d, not self.transposed))

    def scale(self, c):
        return OneHotDiagonal(self.p, times(c, self.d), self.transposed)


@dataclass(frozen=True)
class Shift(Operator):
    """(S x)_i = x_{i-by}, zeros from above: a register of past inputs (by < 0 shifts up).

    slots: the register has so many, each a block of n / slots rows (0: each row is one). On infinite features a slot
    holds the write of one token, B fills the first and C reads the sum of all: y_t sees the last `slots` tokens.
    """

    by: int = 1
    slots: int = 0

    def __post_init__(self):
        if not isinstance(self.slots, int) or self.slots < 0:
            raise ValueError(f"the slots of a register are a whole number >= 1 (0: one per row), got {self.slots!r}")

    def apply(self, x):
        rows = x.shape[-2]
        if self.slots and rows % self.slots:
            raise ValueError(f"{rows} rows do not divide into a register's {self.slots} slots")
        by = min(abs(self.by) * (rows // self.slots if self.slots else 1), rows)
        kept = x[..., : rows - by, :] if self.by >= 0 else x[..., by:, :]
        on_tensors = isinstance(x, torch.Tensor)
        zeros = (torch if on_tensors else np).zeros_like(x[..., :by, :])  # not 0 * x, which is NaN where x is infinite
        parts = [zeros, kept] if self.by >= 0 else [kept, zeros]
        return torch.cat(parts, -2) if on_tensors else np.concatenate(parts, -2)

    T = property(lambda self: Shift(-self.by, self.slots))


@dataclass(frozen=True)
class Dense(Operator):
    """A matrix M [..., m, n]; under bounds a MatrixBound."""

    M: Any

    def apply(self, x):
        return matrix_product(self.M, x)

    @property
    def T(self):
        M = self.M
        if isinstance(M, MatrixBound) or is_name(M):
            return Dense(M if isinstance(M, MatrixBound) else sp.Symbol(f"{M}^T"))
        return Dense(M.mT if isinstance(M, torch.Tensor) else M.swapaxes(-1, -2))

    def scale(self, c):
        M = self.M
        if isinstance(M, MatrixBound):
            b = as_bound(c)
            assert b is not None
            spectrum, norm = b.set * M.spectrum, b.set.abs.hi
            symmetric = M.symmetric and isinstance(b.set, Interval)
            dependence, steps = widest((M.dependence, b.dependence)), max(M.steps, b.steps)
            return Dense(MatrixBound(spectrum, 0.0 if norm == 0 else norm * M.norm, symmetric, dependence, steps))
        return Dense(c * M if is_name(M) else column(c) * M)


def matrix_product(M: Any, x: Any) -> Any:
    """M @ x; a real and a complex tensor give a complex one (torch's own @ refuses them)."""
    if isinstance(M, torch.Tensor) and isinstance(x, torch.Tensor) and M.dtype != x.dtype:
        dtype = torch.promote_types(M.dtype, x.dtype)
        M, x = M.to(dtype), x.to(dtype)
    return M @ x


@dataclass(frozen=True)
class RealPart(Operator):
    """C with y = Re(c^T x): the real readout of a complex state (no conjugate)."""

    c: Any

    def apply(self, x):
        return real((column(self.c) * x).sum(-2))[..., None, :]

    def scale(self, c):
        if isinstance(v := value(c), complex) or isinstance(v, torch.Tensor) and v.is_complex():
            raise ValueError("a complex number does not pass through Re(c^T x): multiply c by it")
        return RealPart(times(c, self.c))
