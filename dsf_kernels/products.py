"""Products of operators over time, A_T ... A_1, which keep the structure of A where products do.

Multiples of I, diagonals (logarithms are summed), one-hot (indices are composed), shifts; else a matrix.
"""

from __future__ import annotations

import torch

from dsf import algebra
from dsf.composites import Composed
from dsf.operators import Dense, Diagonal, Identity, OneHotDiagonal, Operator, Scaled, Shift
from dsf.tree import leaves, tree_map

CLOSED = (Identity, Scaled, Diagonal, OneHotDiagonal, Shift, Dense)  # a product of two is again one


def product(A: Operator, B: Operator) -> Operator:
    """A B as one operator of a structure that products keep.

    >>> product(Shift(1), Shift(2))
    Shift(by=3, slots=0)
    """
    if isinstance(A, Shift) and isinstance(B, Shift) and A.slots == B.slots and A.by * B.by >= 0:
        return Shift(A.by + B.by, A.slots)
    if isinstance(A, OneHotDiagonal) and isinstance(B, OneHotDiagonal) and A.transposed and B.transposed:
        return product(B.T, A.T).T
    found = algebra.compose(A, B)
    if not isinstance(found, Composed):
        return found
    n = algebra.rows(A) or algebra.rows(B)
    return Dense(A.apply(algebra.dense(B, n)))


def power(A: Operator, exponent: int) -> Operator:
    """A^e for e >= 1, by squaring."""
    found: Operator = Identity()
    while True:
        if exponent % 2:
            found = product(found, A)
        exponent //= 2
        if not exponent:
            return found
        A = product(A, A)


def over_time(A: Operator, length: int) -> Operator:
    """A_T ... A_1 of leaves [B, T | 1, ...]: neighbours are multiplied, then their products, and so on."""
    A = tree_map(lambda leaf: leaf.expand(leaf.shape[0], length, *leaf.shape[2:]), A)
    last: Operator = Identity()  # what found no neighbour, the latest first
    while length > 1:
        if length % 2:
            last = product(last, tree_map(lambda leaf: leaf[:, -1], A))
        length //= 2
        pairs = tree_map(lambda leaf: leaf[:, : 2 * length].unflatten(1, (length, 2)), A)  # noqa: B023 (used at once)
        A = product(tree_map(lambda pair: pair[:, :, 1], pairs), tree_map(lambda pair: pair[:, :, 0], pairs))
    return product(last, tree_map(lambda leaf: leaf[:, 0], A))


def in_closed_form(A: Operator, length: int, n: int, like: torch.Tensor) -> Operator | None:
    """A_T ... A_1 of T >= 1 steps, or None where it is cheaper to let A act on I step after step."""
    constant = all(leaf.shape[1] == 1 for leaf in leaves(A))
    if isinstance(A, CLOSED):
        return power(tree_map(lambda leaf: leaf[:, 0], A), length) if constant else over_time(A, length)
    if not constant:
        return None
    M = algebra.dense(A, n, like)
    return power(Dense(M.reshape((1,) * (5 - M.dim()) + M.shape)[:, 0]), length)
