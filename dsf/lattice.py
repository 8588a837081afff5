"""The order of structures, as lifts: how an operator is written in a wider structure, so that a kernel can run it.

    Identity < Scaled < { Diagonal, Reflection } < DiagonalPlusLowRank < Dense
    also OneHotDiagonal, Shift, Block, Product, Composed, Sum < Dense

Lifts are of three kinds:
- total on operators: every operator of the one structure has a form in the other (Identity -> Scaled);
- partial on operators: some have, and the lift returns None for the others (Composed -> DiagonalPlusLowRank);
- on systems: `expand_microsteps`, the J micro-steps of a token become J tokens, and y is read at every J-th.

A lift broadcasts and never expands: a scalar keeps its axis of size 1, a Log stays a Log, the number 1 becomes Log(0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch

from .algebra import dense
from .composites import Block, Composed, Product, Sum, Writes, _step_axis, nodes
from .operators import (
    Dense,
    Diagonal,
    DiagonalPlusLowRank,
    Identity,
    OneHotDiagonal,
    Operator,
    Reflection,
    Scaled,
    Shift,
)
from .system import System
from .tree import leaves, tree_map
from .values import Log, is_number, is_one, times, value

Lift = Callable[[Any, int, torch.Tensor], Operator | None]
LIFTS: dict[type, dict[type, Lift]] = {}


def lift(lo: type, hi: type) -> Callable[[Lift], Lift]:
    """Registers f(A, n, like) -> A in the structure `hi`, or None where it has no such form."""
    return lambda f: LIFTS.setdefault(lo, {}).setdefault(hi, f)


def path(lo: type, hi: type) -> tuple[type, ...] | None:
    """The shortest climb from one structure to another, or None.

    >>> [step.__name__ for step in path(Identity, Diagonal)]
    ['Identity', 'Scaled', 'Diagonal']
    """
    climbs = [(lo,)]
    for climb_ in climbs:  # breadth first: the list grows while it is read, and the order has no cycles
        if climb_[-1] is hi:
            return climb_
        climbs += [(*climb_, above) for above in LIFTS.get(climb_[-1], {})]
    return None


def climb(A: Operator, hi: type, n: int, like: torch.Tensor) -> Operator | None:
    """A on states of n rows in the structure `hi`; None where no climb exists, or a partial lift does not apply.

    like: a vector leaf [..., 1 | n] of the same system, whose number of axes, dtype and device new leaves take.

    >>> climb(Identity(), Scaled, 4, torch.zeros(2, 8, 3, 4)).a
    Log(log=tensor([[[[0.]]]]))
    """
    lifted: Operator | None = A
    steps = path(type(A), hi)
    for lo, above in pairwise(steps or ()):
        lifted = lifted and LIFTS[lo][above](lifted, n, like)
    return lifted if steps else None


def vector_like(system: System) -> torch.Tensor:
    """A vector leaf of a system on tensors, for `climb`."""
    parts = (system.C, system.B, system.A)  # C first: B of a system of micro-steps has their axis too
    matrices = [op.M for part in parts if isinstance(part, Operator) for op in nodes(part) if isinstance(op, Dense)]
    for leaf in leaves(parts):
        if leaf.is_floating_point() or leaf.is_complex():
            return leaf[..., 0] if any(leaf is M for M in matrices) else leaf
    raise ValueError("this system has no signals: its operators A, B, C hold no tensor")


# --------------------------------------------------------------------------------------------------- total lifts
def _zeros(like: torch.Tensor, *own: int) -> torch.Tensor:
    real = like.real if like.is_complex() else like  # zeros are real: they promote where they meet complex numbers
    return real.new_zeros((1,) * (like.dim() - 1) + own)


def _decay(a: Any, like: torch.Tensor) -> Any:
    """A scalar as one that kernels take: 1 is Log(0), another number a tensor; its axis stays of size 1."""
    return Log(_zeros(like, 1)) if is_one(a) else _zeros(like, 1) + a if is_number(a) else a


lift(Identity, Scaled)(lambda A, n, like: Scaled(_decay(1, like)))
lift(Scaled, Diagonal)(lambda A, n, like: Diagonal(_decay(A.a, like)))
lift(Scaled, Reflection)(lambda A, n, like: Reflection(A.a, 0, _zeros(like, n)))
lift(Diagonal, DiagonalPlusLowRank)(lambda A, n, like: DiagonalPlusLowRank(A.d, 0, _zeros(like, n), _zeros(like, n)))
lift(Reflection, DiagonalPlusLowRank)(
    lambda A, n, like: DiagonalPlusLowRank(_decay(times(A.c, A.a), like), times(A.c, A.b), A.k, A.k)
)


def _matrix(A: Operator, n: int, like: torch.Tensor) -> Dense:
    M = dense(A, n, like)
    return Dense(M.reshape((1,) * (like.dim() + 1 - M.dim()) + M.shape))  # Shift has no leaves, hence no [B, T, H]


for _structure in (DiagonalPlusLowRank, OneHotDiagonal, Shift, Block, Product, Composed, Sum):
    lift(_structure, Dense)(_matrix)


# ------------------------------------------------------------------------------------------------- partial lifts
@lift(Composed, DiagonalPlusLowRank)
def _(A: Composed, n: int, like: torch.Tensor) -> DiagonalPlusLowRank | None:
    """(I - b k k^T) diag(d) = diag(d) - b k (d k)^T."""
    R, D = A.left, A.right
    if isinstance(R, Reflection) and isinstance(D, Diagonal) and is_one(R.a) and is_one(R.c):
        return DiagonalPlusLowRank(D.d, R.b, R.k, value(D.d) * R.k)
    return None


# ----------------------------------------------------------------------------------------------- lifts of systems
def expand_microsteps(system: System, u: torch.Tensor) -> tuple[System, torch.Tensor, slice]:
    """A system of J micro-steps as one of J T steps, with its drive [B, J T, H, p] and the steps where y is read.

    u [B, T, H, J, p]. A system without micro-steps is returned as it is, with every step read.
    """
    if not isinstance(system.A, Product) or not isinstance(system.B, Writes):
        return system, u, slice(None)
    T, J, factor = u.shape[1], u.shape[3], system.A.factor

    def as_steps(leaf: torch.Tensor, axis: int = -2) -> torch.Tensor:
        leaf = leaf.movedim(axis, 2)  # J next to T
        if leaf.shape[1] == leaf.shape[2] == 1:
            return leaf[:, 0]  # constant
        return leaf.expand(-1, T, J, *leaf.shape[3:]).flatten(1, 2)

    A = tree_map(lambda leaf: as_steps(leaf, _step_axis(factor, leaf)), factor)
    C = tree_map(lambda leaf: leaf.repeat_interleave(J, 1) if leaf.shape[1] > 1 else leaf, system.C)
    read = slice(J - 1, None, J) if system.reads == "after" else slice(0, None, J)
    flat = replace(system, A=A, B=as_steps(system.B.b), C=C, signals=None)
    return flat, as_steps(u), read
