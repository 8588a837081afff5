"""Exact eigenvalues where the structure knows them, on tensors and on symbols; None where it does not.

No matrix is formed and nothing is iterated: eigenvalues of defective matrices from a numerical solver have errors of
the order of eps^(1/n), these have rounding errors only.
"""

from __future__ import annotations

import cmath
from functools import singledispatch
from typing import Any

import numpy as np
import sympy as sp
import torch

from .algebra import rows
from .composites import Block, Composed, Product
from .functions import inner
from .operators import Diagonal, DiagonalPlusLowRank, Identity, OneHotDiagonal, Operator, Reflection, Scaled, Shift
from .tree import leaves
from .values import is_zero, value


@singledispatch
def eigenvalues(A: Operator, n: int | None = None) -> Any:
    """The n eigenvalues of A with multiplicity, [..., n], or None where the structure does not tell.

    n is needed where A fits any size (I, a I). Tensors give tensors, symbols numpy object arrays.

    >>> import torch
    >>> from dsf import I, outer
    >>> eigenvalues(I - 2 * outer(torch.tensor([1.0, 0.0])))
    tensor([ 1., -1.])
    """
    return None


def _size(A: Operator, n: int | None) -> int:
    n = n or rows(A)
    if n is None:
        raise ValueError(f"{type(A).__name__} fits any size: say eigenvalues(A, n)")
    return n


def _like(A: Operator) -> Any:
    """A leaf that names the reading; of numbers alone, tensors."""
    return next((value(leaf) for leaf in leaves(A)), torch.ones(1, dtype=torch.float64))


def _number(a: Any, like: Any) -> Any:
    """A Python number as a vector of size 1 in the reading of `like`; anything else as it is."""
    if not isinstance(a, (int, float, complex)):
        return value(a)
    if not isinstance(like, torch.Tensor):
        return np.array([sp.sympify(a)], dtype=object)
    whole = like.dtype.is_complex or like.dtype.is_floating_point
    dtype = like.dtype if whole else torch.float64
    return torch.tensor([a], dtype=torch.promote_types(dtype, torch.complex64) if isinstance(a, complex) else dtype)


def _is_vector(*parts: Any) -> bool:
    return any(x.shape[-1] != 1 for x in map(value, parts) if hasattr(x, "shape"))


def _full(a: Any, n: int, like: Any) -> Any:
    """The scalar a (a number, or [..., 1]) n times: [..., n]."""
    a = _number(a, like)
    return a.expand(*a.shape[:-1], n) if isinstance(a, torch.Tensor) else np.broadcast_to(a, (*a.shape[:-1], n))


def _join(*parts: Any) -> Any:
    if not isinstance(parts[0], torch.Tensor):
        return np.concatenate(parts, -1)
    lead = torch.broadcast_shapes(*(p.shape[:-1] for p in parts))
    return torch.cat([p.expand(*lead, p.shape[-1]) for p in parts], -1)


@eigenvalues.register
def _(A: Identity, n: int | None = None):
    return _full(1, _size(A, n), _like(A))


@eigenvalues.register
def _(A: Scaled, n: int | None = None):
    return _full(A.a, _size(A, n), _like(A))


@eigenvalues.register
def _(A: Diagonal, n: int | None = None):
    return value(A.d) if _is_vector(A.d) else _full(A.d, _size(A, n), _like(A))


@eigenvalues.register
def _(A: Reflection, n: int | None = None):
    """c a (n-1 times) and c (a - b k^T k), on k: the rank-one lemma."""
    if _is_vector(A.a, A.b, A.c):
        return None
    n, c, like = _size(A, n), value(A.c), value(A.k)
    on = c * (value(A.a) - value(A.b) * inner(like, like))
    return _join(_full(c * value(A.a), n - 1, like), _full(on, 1, like))


@eigenvalues.register
def _(A: DiagonalPlusLowRank, n: int | None = None):
    """d (n-1 times) and d - b v^T u where d is a scalar; unknown otherwise."""
    if is_zero(A.b):
        return eigenvalues(Diagonal(A.d), _size(A, n))
    if _is_vector(A.d, A.b):
        return None
    n, d, u, v = _size(A, n), value(A.d), value(A.u), value(A.v)
    return _join(_full(d, n - 1, u), _full(d - value(A.b) * inner(v, u), 1, u))


@eigenvalues.register
def _(A: Shift, n: int | None = None):
    return _full(0 if A.by else 1, _size(A, n), _like(A))


@eigenvalues.register
def _(A: Composed, n: int | None = None):
    """c X of a shift X: c times 0 (or 1, where nothing moves)."""
    if not (isinstance(A.left, Scaled) and isinstance(A.right, Shift)):
        return None
    return eigenvalues(A.left if A.right.by == 0 else Scaled(0 * value(A.left.a)), n)


@eigenvalues.register
def _(A: Product, n: int | None = None):
    if not isinstance(A.factor, (Identity, Scaled, Diagonal)):
        return None
    each = [eigenvalues(factor, n) for factor in A.factors()]
    product = each[0]
    for other in each[1:]:
        product = product * other
    return product


@eigenvalues.register
def _(A: Block, n: int | None = None):
    """Two by two blocks in span{I, k k^T} of one k: the 2x2 matrices on k (once) and off k (n-1 times)."""
    from .enclosures import _in_one_span

    size = _size(A, n) // 2
    if len(A.rows) != 2 or not _in_one_span(A):
        return None
    like = _like(A)
    pairs = [_pair(op, like) for row in A.rows for op in row]
    if any(pair is None for pair in pairs):
        return None
    off, on = (_roots(*(pair[..., i : i + 1] for pair in pairs)) for i in (0, 1))
    repeated = off.repeat_interleave(size - 1, -1) if isinstance(like, torch.Tensor) else np.repeat(off, size - 1, -1)
    return _join(repeated, on)


def _pair(A: Operator, like: Any) -> Any:
    """The eigenvalues off k and on k of a member of span{I, k k^T}, in the reading of `like`."""
    if isinstance(A, Reflection):
        return eigenvalues(A, 2)
    a = A.a if isinstance(A, Scaled) else 1
    return None if _is_vector(a) else _full(a, 2, like)


def _roots(a: Any, b: Any, c: Any, d: Any) -> Any:
    """The eigenvalues of [[a, b], [c, d]], of entries [..., 1]: [..., 2], complex on tensors."""
    mean, radicand = (a + d) / 2, ((a - d) / 2) ** 2 + b * c
    if isinstance(mean, torch.Tensor):
        radicand = torch.as_tensor(radicand)
        root = radicand.to(torch.promote_types(radicand.dtype, torch.complex64)).sqrt()
    else:
        root = np.vectorize(sp.sqrt, otypes=[object])(radicand)
    return _join(mean + root, mean - root)


@eigenvalues.register
def _(A: OneHotDiagonal, n: int | None = None):
    """j -> p_j is a functional graph: a cycle of length L with product w gives the L-th roots of w, the rest is 0."""
    if not isinstance(A.p, torch.Tensor):
        return None
    p, d = torch.broadcast_tensors(A.p, _number(A.d, A.p))
    pairs = zip(p.reshape(-1, p.shape[-1]), d.reshape(-1, p.shape[-1]), strict=True)
    flat = [_of_cycles(q.tolist(), e.tolist()) for q, e in pairs]
    dtype = torch.complex64 if d.dtype in (torch.float32, torch.complex64) else torch.complex128
    return torch.tensor(flat, dtype=dtype).reshape(p.shape)


def _of_cycles(p: list[int], d: list[complex]) -> list[complex]:
    found: list[complex] = []
    seen: set[int] = set()
    for start in range(len(p)):
        path: list[int] = []
        j = start
        while j not in seen:
            seen.add(j)
            path.append(j)
            j = p[j]
        if j in path:  # a new cycle closes
            cycle = path[path.index(j) :]
            length = len(cycle)
            r, theta = cmath.polar(complex(np.prod([d[i] for i in cycle])))
            found += [cmath.rect(r ** (1 / length), (theta + 2 * cmath.pi * m) / length) for m in range(length)]
    return found + [0j] * (len(p) - len(found))
