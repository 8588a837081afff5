"""Structured operators on a state x [..., n, p]: what A_t, B_t, C_t are. Generic in their leaves (see values.py).

    Identity < Scaled < { Diagonal, Reflection c (a I - b k k^T) } < DiagonalPlusLowRank < Dense
    also Composed, Sum, Product (micro-steps), Shift, Block, OneHotDiagonal;  RealPart for C, Writes for B

Each class says how it acts (`apply`), what its transpose is (`T`) and how a scalar enters it (`scale`); everything else
is a function elsewhere: `dense` and the algebra below, eigenvalues.py, enclosures.py, lattice.py, printing.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import sympy as sp
import torch

from .functions import real
from .sets import Interval, _times, disc, inf
from .tree import Node, leaves, tree_map
from .values import Bound, MatrixBound, as_bound, column, is_name, is_one, is_zero, plus, times, value, widest


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
        return as_matrix(dense(self, n))

    def scale(self, c: Any) -> Operator:
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
        return add(self, other) if isinstance(other, Operator) else NotImplemented

    def __sub__(self, other: Operator) -> Operator:
        return add(self, -1 * other) if isinstance(other, Operator) else NotImplemented

    def __matmul__(self, other: Any) -> Any:
        return compose(self, other) if isinstance(other, Operator) else matvec(self, other)


def _check_scalar(c: Any) -> None:
    """A vector would scale rows, and leave an operator that claims a symmetry which it no longer has."""
    if isinstance(c, Operator):
        raise TypeError("operators are composed with @, as in diag(a) @ A; * takes a scalar")
    v: Any = value(c)
    sized = isinstance(v, (torch.Tensor, np.ndarray)) and v.ndim and v.shape[-1] != 1
    if sized or isinstance(v, Bound) and v.norm2 is not None:
        what = f"a vector of shape {tuple(v.shape)}" if sized else "a vector"
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
    """(S x)_i = x_{i-by}, zeros from above: a register of past inputs (by < 0 shifts up)."""

    by: int = 1

    def apply(self, x):
        rows, by = x.shape[-2], min(abs(self.by), x.shape[-2])
        kept = x[..., : rows - by, :] if self.by >= 0 else x[..., by:, :]
        on_tensors = isinstance(x, torch.Tensor)
        zeros = (torch if on_tensors else np).zeros_like(x[..., :by, :])  # not 0 * x, which is NaN where x is infinite
        parts = [zeros, kept] if self.by >= 0 else [kept, zeros]
        return torch.cat(parts, -2) if on_tensors else np.concatenate(parts, -2)

    T = property(lambda self: Shift(-self.by))


@dataclass(frozen=True)
class Dense(Operator):
    """A matrix M [..., m, n]; under bounds a MatrixBound."""

    M: Any

    def apply(self, x):
        return _matmul(self.M, x)

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


def _matmul(M: Any, x: Any) -> Any:
    """M @ x; a real and a complex tensor give a complex one (torch's own @ refuses them)."""
    if isinstance(M, torch.Tensor) and isinstance(x, torch.Tensor) and M.dtype != x.dtype:
        dtype = torch.promote_types(M.dtype, x.dtype)
        M, x = M.to(dtype), x.to(dtype)
    return M @ x


@dataclass(frozen=True)
class Block(Operator):
    """A square matrix of operators of one size n; the state is stacked along n: [..., J n, p]."""

    rows: tuple[tuple[Operator, ...], ...]

    def apply(self, x):
        J, n = len(self.rows), x.shape[-2] // len(self.rows)
        parts = [x[..., j * n : (j + 1) * n, :] for j in range(J)]
        out = [
            reduce(lambda s, t: s + t, (op.apply(part) for op, part in zip(row, parts, strict=True)))
            for row in self.rows
        ]
        return torch.cat(torch.broadcast_tensors(*out), -2) if isinstance(x, torch.Tensor) else np.concatenate(out, -2)

    T = property(lambda self: Block(tuple(tuple(op.T for op in col) for col in zip(*self.rows, strict=True))))

    def scale(self, c):
        return Block(tuple(tuple(c * op for op in row) for row in self.rows))


@dataclass(frozen=True)
class Composed(Operator):
    """left @ right, kept factored: the factors prove more about the spectrum than their product does."""

    left: Operator
    right: Operator

    def apply(self, x):
        return self.left.apply(self.right.apply(x))

    T = property(lambda self: Composed(self.right.T, self.left.T))

    def scale(self, c):
        return Composed(c * self.left, self.right)


@dataclass(frozen=True)
class Sum(Operator):
    """left + right, where no structure holds both."""

    left: Operator
    right: Operator

    def apply(self, x):
        return self.left.apply(x) + self.right.apply(x)

    T = property(lambda self: Sum(self.left.T, self.right.T))

    def scale(self, c):
        return Sum(c * self.left, c * self.right)


@dataclass(frozen=True)
class Product(Operator):
    """A_J ... A_1: the micro-steps of one token, along the axis J of every leaf (before its own axes).

    `steps` is J; 0 leaves it to the leaves, which cannot tell where they are the same at every micro-step.
    """

    factor: Operator
    steps: int = 0

    def factors(self) -> list[Operator]:
        sizes = (leaf.shape[_step_axis(self.factor, leaf)] for leaf in leaves(self.factor))
        return [micro_step(self.factor, j) for j in range(self.steps or max(sizes, default=1))]

    def apply(self, x):
        return reduce(lambda x, A: A.apply(x), self.factors(), x)

    @property
    def T(self):
        transposed = self.factor.T

        def flip(leaf):
            axis = _step_axis(transposed, leaf)
            return leaf.flip(axis) if isinstance(leaf, torch.Tensor) else np.flip(leaf, axis)

        return Product(tree_map(flip, transposed), self.steps)


@dataclass(frozen=True)
class Writes(Operator):
    """B of a system of micro-steps: u [..., J, p] -> sum_j A_J ... A_{j+1} b_j u_j^T."""

    A: Product
    b: Any

    def apply(self, u):
        x = 0
        for j, A in enumerate(self.A.factors()):
            b = self.b[..., min(j, self.b.shape[-2] - 1), :]  # size 1 there: the same at every micro-step
            x = (A.apply(x) if j else 0) + column(b) * u[..., j, :][..., None, :]
        return x


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


def _step_axis(factor: Operator, leaf: Any) -> int:
    matrices = [op.M for op in nodes(factor) if isinstance(op, Dense)]
    return -3 if any(leaf is M for M in matrices) else -2


def micro_step(factor: Operator, j: int) -> Operator:
    """The factor of micro-step j: axis J taken out of every leaf (size 1 there: the same at every micro-step)."""

    def take(leaf):
        axis = _step_axis(factor, leaf)
        index = [slice(None)] * leaf.ndim
        index[axis] = min(j, leaf.shape[axis] - 1)
        return leaf[tuple(index)]

    return tree_map(take, factor)


def nodes(A: Operator) -> list[Operator]:
    """A and every operator inside it."""
    inside: list[Operator] = [A]
    for part in vars(A).values():
        for op in (o for row in part for o in row) if isinstance(A, Block) else (part,):
            inside += nodes(op) if isinstance(op, Operator) else []
    return inside


# ---------------------------------------------------------------------------------------------------- constructors


def diag(d: Any) -> Diagonal:
    """diag(d) of a vector."""
    return Diagonal(d)


def outer(u: Any, v: Any = None) -> Operator:
    """u v^T; of one vector k k^T, which is symmetric."""
    return Reflection(0, -1, u) if v is None or v is u else DiagonalPlusLowRank(0, -1, u, v)


def block(rows: list) -> Block:
    """A block matrix of operators of one size, as a list of rows; the number 0 is a block of zeros."""
    size = len(rows)
    if any(len(row) != size for row in rows):
        raise ValueError(f"block takes a square list of rows, got rows of length {[len(row) for row in rows]}")
    return Block(tuple(tuple(Scaled(0) if is_zero(op) else op for op in row) for row in rows))


# --------------------------------------------------------------------------------------------------------- algebra


def _rank_one_parts(A: Operator) -> tuple | None:
    """A = d I - b k k^T as (d, b, k), or None."""
    if isinstance(A, Identity):
        return 1, 0, None
    if isinstance(A, Scaled):
        return A.a, 0, None
    return (times(A.c, A.a), times(A.c, A.b), A.k) if isinstance(A, Reflection) else None


def add(A: Operator, B: Operator) -> Operator:
    """A + B in the narrowest structure that holds it."""
    if isinstance(A, RealPart) and isinstance(B, RealPart):
        return RealPart(plus(A.c, B.c))
    p, q = _rank_one_parts(A), _rank_one_parts(B)
    if p and q and (p[2] is None or q[2] is None or p[2] is q[2]):
        a, b, k = plus(p[0], q[0]), plus(p[1], q[1]), q[2] if p[2] is None else p[2]
        return Scaled(a) if k is None else Reflection(a, b, k)
    d, e = _diagonal_plus_low_rank(A), _diagonal_plus_low_rank(B)
    if d and e and (d[2] is None or e[2] is None):
        total, (b, u, v) = plus(d[0], e[0]), e[1:] if d[2] is None else d[1:]
        return Diagonal(total) if u is None else DiagonalPlusLowRank(total, b, u, v)
    if isinstance(A, Dense) and isinstance(B, Dense) and not isinstance(A.M, MatrixBound):
        return Dense(A.M + B.M)
    return Sum(A, B)


def _diagonal_plus_low_rank(A: Operator) -> tuple | None:
    """A = diag(d) - b u v^T as (d, b, u, v), or None."""
    if isinstance(A, Diagonal):
        return A.d, 0, None, None
    if isinstance(A, DiagonalPlusLowRank):
        return A.d, A.b, A.u, A.v
    parts = _rank_one_parts(A)
    return parts and (*parts, parts[2])


def compose(A: Operator, B: Operator) -> Operator:
    """A B: merged where the structure is closed under products, else kept factored."""
    if isinstance(A, Identity):
        return B
    if isinstance(A, RealPart):  # Re(c^T B x)
        return RealPart(B.T @ A.c)
    if isinstance(A, Scaled):
        return A.a * B
    if isinstance(B, Identity):
        return A
    if isinstance(B, Scaled):
        return B.a * A
    if isinstance(A, Diagonal) and isinstance(B, Diagonal):
        return Diagonal(A.d * B.d)
    if isinstance(A, OneHotDiagonal) and isinstance(B, OneHotDiagonal) and isinstance(A.p, torch.Tensor):
        if not A.transposed and not B.transposed:  # column j goes to p^A[p^B_j], with d^A there
            d, e = (torch.as_tensor(value(x), device=A.p.device) for x in (A.d, B.d))
            p, q, d, e = torch.broadcast_tensors(A.p, B.p, d, e)
            return OneHotDiagonal(p.gather(-1, q), d.gather(-1, q) * e)
    if isinstance(A, Dense) and isinstance(B, Dense) and not (isinstance(A.M, MatrixBound) or is_name(A.M)):
        return Dense(_matmul(A.M, B.M))
    return Composed(A, B)


class MatVec(sp.Function):
    """R v on names."""

    def _latex(self, printer, exp=None):
        return " ".join(printer._print(x) for x in self.args)

    def _sympystr(self, printer):
        return " ".join(f"({printer._print(x)})" if x.is_Add else printer._print(x) for x in self.args)


def matvec(A: Operator, v: Any) -> Any:
    """A v of a vector [..., n]."""
    if isinstance(A, Identity):
        return v
    if is_name(v):
        return MatVec(A.M, v) if isinstance(A, Dense) else MatVec(sp.Symbol(type(A).__name__), v)
    if isinstance(v, Bound):
        return _matvec_bound(A, v)
    return A.apply(v[..., None])[..., 0]


def _matvec_bound(A: Operator, v: Bound) -> Bound:
    """|A v| <= |A| |v|; the matrices of domains are real (see Domain.bound)."""
    norm = A.M.norm if isinstance(A, Dense) and isinstance(A.M, MatrixBound) else inf
    length2 = _times(_times(norm, norm), v.norm2.hi if v.norm2 else inf)
    known = leaves(A)
    is_real = all(isinstance(x.set, Interval) for x in (v, *known) if isinstance(x, Bound))
    entries = Interval(-(length2**0.5), length2**0.5) if is_real else disc(length2**0.5)
    seen, steps = widest(x.dependence for x in (v, *known)), max(x.steps for x in (v, *known))
    return Bound(entries, Interval(0, length2), seen, steps)


def rows(A: Operator) -> int | None:
    """The number of rows of A, where its leaves know it."""
    if isinstance(A, Dense):
        return None if isinstance(A.M, MatrixBound) or is_name(A.M) else A.M.shape[-2]
    if isinstance(A, (Identity, Scaled, Shift)):
        return None
    if isinstance(A, Composed):
        return max(rows(A.left) or 0, (rows(A.right) or 0) if is_square(A.left) else 0) or None
    if isinstance(A, Block):
        known = [rows(op) for row in A.rows for op in row]
        return max((r for r in known if r), default=0) * len(A.rows) or None
    if isinstance(A, Sum):
        return max(rows(A.left) or 0, rows(A.right) or 0) or None
    if isinstance(A, Product):
        return rows(A.factor)
    if isinstance(A, RealPart):
        return 1
    sizes = [leaf.shape[-1] for leaf in leaves(A) if isinstance(leaf, (torch.Tensor, np.ndarray)) and leaf.ndim]
    return max(sizes, default=0) or None


def is_square(A: Operator) -> bool:
    """Is A square by its structure, so that the state's size is its own?"""
    return not any(isinstance(op, (Dense, RealPart, Writes)) for op in nodes(A))


def dense(A: Operator, n: int | None = None, like: Any = None) -> Any:
    """A as a matrix [..., n, n] (apply to the identity); I and Scaled must be told n, and `like` names the reading.

    >>> import torch
    >>> dense(I - outer(torch.tensor([0.6, 0.8])))
    tensor([[ 0.6400, -0.4800],
            [-0.4800,  0.3600]])
    """
    if isinstance(A, Dense):
        return A.M
    if isinstance(A, RealPart):
        raise ValueError("Re(c^T x) is not complex linear, and so has no matrix: take c, or the real form of the state")
    n = n or rows(A)
    if n is None:
        raise ValueError(f"{type(A).__name__} fits any size: say dense(A, n)")
    known = [leaf for leaf in leaves(A) if isinstance(leaf, (torch.Tensor, np.ndarray))]
    floats = [
        leaf for leaf in known if not isinstance(leaf, torch.Tensor) or leaf.is_floating_point() or leaf.is_complex()
    ]
    like = floats[0] if floats else like
    if isinstance(like, torch.Tensor):
        return A.apply(torch.eye(n, dtype=like.dtype, device=like.device))
    return A.apply(np.array(sp.eye(n).tolist(), dtype=object))


def as_matrix(M: Any) -> Any:
    """An array of symbols as a sympy Matrix; a tensor as it is."""
    return sp.Matrix(M) if isinstance(M, np.ndarray) else M


def dependence(x: Any) -> str:
    """Of what an operator (or a vector) under bounds is a function: const < token < window < prefix < state."""
    return widest(leaf.dependence for leaf in leaves(x) if isinstance(leaf, (Bound, MatrixBound)))
