"""The algebra of operators: constructors, sums and products in the narrowest structure, matrices, sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp
import torch

from .composites import Block, Composed, Product, Sum, Writes, nodes
from .operators import (
    Dense,
    Diagonal,
    DiagonalPlusLowRank,
    Identity,
    OneHotDiagonal,
    Operator,
    RealPart,
    Reflection,
    Scaled,
    Shift,
    matrix_product,
)
from .sets import Interval, _times, disc, inf
from .tree import leaves
from .values import Bound, MatrixBound, is_name, is_zero, plus, times, value, widest


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
        return Dense(matrix_product(A.M, B.M))
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
    >>> from dsf import I
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
