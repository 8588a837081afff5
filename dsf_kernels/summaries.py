"""What a stretch of time does to a state: x_out = P x_in + S, with P = A_T ... A_1 and S the final state from zero.

Summaries compose, (P, S) then (P', S') being (P' P, P' S + S'), and composition is associative: stretches can be
summarised side by side, and what lies between them is one small product per stretch. P keeps the structure of A where
products do: multiples of I, diagonals (logarithms are summed), one-hot (indices are composed), shifts; else a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from dsf import algebra
from dsf.composites import Composed
from dsf.features import Features
from dsf.operators import Dense, Diagonal, Identity, OneHotDiagonal, Operator, Scaled, Shift
from dsf.reference import driven, initial_state
from dsf.system import System
from dsf.tree import Node, leaves, tree_map, tree_steps

from .reach import HALF, full_precision

CLOSED = (Identity, Scaled, Diagonal, OneHotDiagonal, Shift, Dense)  # a product of two is again one


@dataclass(frozen=True)
class Summary(Node):
    """x_out = A x_in + state; the leaves of A are [B | 1, H | 1, ...], state [B, H, n, p]."""

    A: Operator
    state: torch.Tensor


def summary(system: System, u: torch.Tensor) -> Summary:
    """Of a linear system (its readout may be anything) on a drive; half precision is computed in fp32.

    Raises ValueError for infinite features, whose state is the past itself.

    >>> from dsf import I
    >>> ones = torch.ones(1, 1, 1, 1)
    >>> found = summary(System(A=0.5 * I, B=ones, C=ones), torch.ones(1, 3, 1, 1))
    >>> found.A.a, found.state.item()
    (0.125, 1.75)
    """
    if isinstance(system.B, Features):
        raise ValueError("infinite features have no summary: their state is the past itself")
    if u.dtype in HALF:
        system, u = full_precision(system), u.float()
    drive = driven(system, u)
    B, T = drive.shape[:2]
    with torch.autocast(u.device.type, enabled=False):
        if not T:
            return Summary(Identity(), zero_state(system, drive))
        size = max(1, math.isqrt(T))
        whole = size * (T // size)
        each = of_segments(fold(system, B, T, size), fold_tensor(drive, B, T, size))
        parts = list(each_segment(each, B, whole // size))
        if whole < T:
            parts.append(of_segments(system.slice(whole, T), drive[:, whole:]))
    found = parts[0]
    for part in parts[1:]:
        found = compose(found, part)
    return found


def compose(earlier: Summary, later: Summary) -> Summary:
    """The summary of two stretches that follow one another."""
    return Summary(product(later.A, earlier.A), apply(later, earlier.state))


def apply(summary: Summary, x: torch.Tensor) -> torch.Tensor:
    """The state after the stretch, from the state before it."""
    return summary.A.apply(x) + summary.state


# ------------------------------------------------------------------------------------------------ segments side by side
def fold_tensor(x: torch.Tensor, batch: int, length: int, size: int) -> torch.Tensor:
    """[B, T, ...] -> [B S, C, ...]: segments of C steps as sequences of their own; what is left over is dropped.

    What is the same in every step and every sequence stays as it is.
    """
    segments = length // size
    if x.shape[1] == 1 and length > 1:
        return x if x.shape[0] == 1 else x.repeat_interleave(segments, 0)
    return x.expand(batch, *x.shape[1:])[:, : segments * size].reshape(batch * segments, size, *x.shape[2:])


def fold(system: System, batch: int, length: int, size: int) -> System:
    """The system whose sequences are the segments of C steps of this one."""
    return replace(system.map(lambda leaf: fold_tensor(leaf, batch, length, size)), x0=None)


def each_segment(summaries: Summary, batch: int, segments: int) -> Iterator[Summary]:
    """The summaries [B S, ...] of S segments one after the other, each [B, ...]."""

    def cut(leaf: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (leaf,) if leaf.shape[0] == 1 else leaf.unflatten(0, (batch, segments)).unbind(1)

    return tree_steps(summaries, cut, segments)


def zero_state(system: System, drive: torch.Tensor) -> torch.Tensor:
    """0, whatever the system would start from."""
    return initial_state(replace(system, x0=None), drive)


def of_segments(system: System, drive: torch.Tensor) -> Summary:
    """Step after step from zero, every sequence side by side; A along the way, or all at once where it is closed."""
    length, n = drive.shape[1], system.state_size
    x = zero_state(system, drive)
    A, along = _at_once(system.A, length, n, x), None
    for step, now in zip(system.steps(length), drive.unbind(1), strict=True):
        x = step.A.apply(x) + step.write(now)
        if A is None:
            along = step.A.apply(torch.eye(n, dtype=x.dtype, device=x.device) if along is None else along)
    if along is not None:
        A = Dense(along.reshape((1,) * (4 - along.dim()) + along.shape))
    assert A is not None
    return Summary(A, x)


def _at_once(A: Operator, length: int, n: int, like: torch.Tensor) -> Operator | None:
    """A_T ... A_1, or None where it is cheaper to let A act on I step after step."""
    constant = all(leaf.shape[1] == 1 for leaf in leaves(A))
    if isinstance(A, CLOSED):
        return power(tree_map(lambda leaf: leaf[:, 0], A), length) if constant else over_time(A, length)
    if not constant:
        return None
    M = algebra.dense(A, n, like)
    return power(Dense(M.reshape((1,) * (5 - M.dim()) + M.shape)[:, 0]), length)


# ------------------------------------------------------------------------------------------------------------ products
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
