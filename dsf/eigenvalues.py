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

from .functions import inner
from .operators import (
    Block,
    Diagonal,
    DiagonalPlusLowRank,
    Identity,
    OneHotDiagonal,
    Operator,
    Product,
    Reflection,
    Scaled,
    Shift,
    rows,
)
from .tree import leaves
from .values import is_number, is_zero, value


@singledispatch
def eigenvalues(A: Operator, n: int | None = None) -> Any:
    """The n eigenvalues of A with multiplicity, [..., n], or None where the structure does not tell.

    n is needed where A fits any size (I, a I). Tensors give tensors, symbols numpy object arrays.

    >>> import torch
    >>> from dsf import I, outer
    >>> eigenvalues(I - 2 * outer(torch.tensor([0.6, 0.8])))
    tensor([ 1.0000, -1.0000])
    """
    return None


def _size(A: Operator, n: int | None) -> int:
    n = n or rows(A)
    if n is None:
        raise ValueError(f"{type(A).__name__} fits any size: say eigenvalues(A, n)")
    return n


def _like(A: Operator) -> Any:
    """A leaf that names the reading, or a float."""
    return next((value(leaf) for leaf in leaves(A)), 1.0)


def _full(a: Any, n: int, like: Any) -> Any:
    """The scalar a (a number, or [..., 1]) n times: [..., n]."""
    if is_number(a):
        a = torch.as_tensor([float(a)], dtype=like.dtype) if isinstance(like, torch.Tensor) else np.array([a], dtype=object)
    a = value(a)
    return a.expand(*a.shape[:-1], n) if isinstance(a, torch.Tensor) else np.broadcast_to(a, (*a.shape[:-1], n))


def _join(*parts: Any) -> Any:
    if not isinstance(parts[0], torch.Tensor):
        return np.concatenate(parts, -1)
    lead = torch.broadcast_shapes(*(p.shape[:-1] for p in parts))
    return torch.cat([p.expand(*lead, p.shape[-1]) for p in parts], -1)


@eigenvalues.register
def _(A: Identity, n: int | None = None):
    return _full(1, _size(A, n), torch.ones(1))


@eigenvalues.register
def _(A: Scaled, n: int | None = None):
    return _full(A.a, _size(A, n), _like(A) if leaves(A) else torch.ones(1))


@eigenvalues.register
def _(A: Diagonal, n: int | None = None):
    d = value(A.d)
    return _full(d, _size(A, n), _like(A)) if is_number(d) or d.shape[-1] == 1 else d


@eigenvalues.register
def _(A: Reflection, n: int | None = None):
    """c a (n-1 times) and c (a - b k^T k), on k: the rank-one lemma."""
    n, c, like = _size(A, n), value(A.c), value(A.k)
    on = c * (value(A.a) - value(A.b) * inner(like, like))
    return _join(_full(c * value(A.a), n - 1, like), _full(on, 1, like))


@eigenvalues.register
def _(A: DiagonalPlusLowRank, n: int | None = None):
    """d (n-1 times) and d - b v^T u where d is a scalar; unknown otherwise."""
    n, d, u, v = _size(A, n), value(A.d), value(A.u), value(A.v)
    if is_zero(A.b):
        return d
    if not is_number(d) and d.shape[-1] != 1:
        return None if n > 1 else d - value(A.b) * inner(v, u)
    return _join(_full(d, n - 1, u), _full(d - value(A.b) * inner(v, u), 1, u))


@eigenvalues.register
def _(A: Shift, n: int | None = None):
    return _full(0 if A.by else 1, _size(A, n), torch.ones(1))


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
    off = _roots(*(eigenvalues(op, 2)[..., :1] for row in A.rows for op in row))
    on = _roots(*(eigenvalues(op, 2)[..., 1:] for row in A.rows for op in row))
    repeated = off.repeat_interleave(size - 1, -1) if isinstance(like, torch.Tensor) else np.repeat(off, size - 1, -1)
    return _join(repeated, on)


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
    p, d = torch.broadcast_tensors(A.p, value(A.d))
    flat = [_of_cycles(q.tolist(), e.tolist()) for q, e in zip(p.reshape(-1, p.shape[-1]), d.reshape(-1, p.shape[-1]))]
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
            product = complex(np.prod([d[i] for i in cycle]))
            r, theta = cmath.polar(product)
            found += [cmath.rect(r ** (1 / len(cycle)), (theta + 2 * cmath.pi * m) / len(cycle)) for m in range(len(cycle))]
    return found + [0j] * (len(p) - len(found))
