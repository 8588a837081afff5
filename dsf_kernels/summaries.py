"""What a stretch of time does to a state: x_out = P x_in + S, with P = A_T ... A_1 and S the final state from zero.

Summaries compose, (P, S) then (P', S') being (P' P, P' S + S'), and composition is associative: stretches can be
summarised side by side, and what lies between them is one small product per stretch. P keeps the structure of A where
products do (see products.py); else it is a matrix, whose columns run beside the state, from I, where nothing is
written. What runs is run by the kernel that `simulate` takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce

import torch
import torch.nn.functional as F

from dsf.features import Features
from dsf.lattice import climb, vector_like
from dsf.operators import Dense, DiagonalPlusLowRank, Identity, Operator, RealPart
from dsf.reference import driven, initial_state
from dsf.system import System
from dsf.tree import Node, tree_steps
from dsf.validation import check_drive

from .dispatch import simulate
from .products import in_closed_form, product
from .reach import HALF, full_precision, transition


@dataclass(frozen=True)
class Summary(Node):
    """x_out = A x_in + state; the leaves of A are [B | 1, H | 1, ...], state [B, H, n, p]."""

    A: Operator
    state: torch.Tensor


def summary(system: System, u: torch.Tensor) -> Summary:
    """Of a linear system (its readout may be anything) on a drive; half precision is computed in fp32.

    Raises ValueError for infinite features, whose state is the past itself, for what is no System, and where sizes do
    not fit; TypeError for what is no tensor.

    >>> from dsf import I
    >>> ones = torch.ones(1, 1, 1, 1)
    >>> found = summary(System(A=0.5 * I, B=ones, C=ones), torch.ones(1, 3, 1, 1))
    >>> found.A.a, found.state.item()
    (0.125, 1.75)
    """
    if not isinstance(system, System):
        raise ValueError(f"a {type(system).__name__} has no summary: it takes no state linearly from step to step")
    check_drive(system, u)
    if isinstance(system.outline.B, Features):
        raise ValueError("infinite features have no summary: their state is the past itself")
    if u.dtype in HALF:
        system, u = full_precision(system), u.float()
    drive = driven(system, u)
    with torch.autocast(u.device.type, enabled=False):
        x = zero_state(system, drive)
        if not drive.shape[1]:
            return Summary(Identity(), x)
        return _of_states(*_states(system, drive, x), x)


def compose(earlier: Summary, later: Summary) -> Summary:
    """The summary of two stretches that follow one another."""
    return Summary(product(later.A, earlier.A), apply(later, earlier.state))


def apply(summary: Summary, x: torch.Tensor) -> torch.Tensor:
    """The state after the stretch, from the state before it."""
    return summary.A.apply(x) + summary.state


def zero_state(system: System, drive: torch.Tensor) -> torch.Tensor:
    """0, whatever the system would start from."""
    return initial_state(replace(system, x0=None), drive)


# -------------------------------------------------------------------------------------------------- one run of a kernel
def _states(system: System, drive: torch.Tensor, x: torch.Tensor) -> tuple[System, torch.Tensor]:
    """The system without what reads its states x, and its drive: what an operator writes are vectors, times ones."""
    B = system.B
    if system.input_is_vector:
        B, drive = system.write(drive)[..., 0], torch.ones_like(drive[..., :1])
    c = x.new_zeros(1, 1, 1, system.state_size)
    return System(A=system.A, B=B, C=RealPart(c) if c.is_complex() else c), drive


def _of_states(system: System, drive: torch.Tensor, x: torch.Tensor) -> Summary:
    """From x = 0."""
    n, p = x.shape[2:]
    A = in_closed_form(system.A, drive.shape[1], n, x)
    if A is not None:
        return Summary(A, simulate(system, drive, x)[1])
    if not _is_low_rank(system):
        return _in_segments(system, drive)
    columns = torch.eye(n, dtype=x.dtype, device=x.device).expand(*x.shape[:2], n, n)
    last = simulate(system, F.pad(drive, (0, n)), torch.cat([x, columns], -1))[1]
    return Summary(Dense(last[..., p:]), last[..., :p])


def _is_low_rank(system: System) -> bool:
    """Is every step a diagonal and a matrix of rank one? For other structures kernels make a matrix of each step."""
    return climb(transition(system), DiagonalPlusLowRank, system.state_size, vector_like(system)) is not None


# ------------------------------------------------------------------------------------------------ segments side by side
def _in_segments(system: System, drive: torch.Tensor) -> Summary:
    """About sqrt(T) segments of so many steps, one after the other."""
    B, T = drive.shape[:2]
    size = math.isqrt(T)
    whole = size * (T // size)
    each = of_segments(fold(system, B, T, size), fold_tensor(drive, B, T, size))
    parts = list(each_segment(each, B, whole // size))
    if whole < T:
        parts.append(of_segments(system.slice(whole, T), drive[:, whole:]))
    return reduce(compose, parts)


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


def of_segments(system: System, drive: torch.Tensor) -> Summary:
    """Step after step from zero, every sequence side by side; A along the way, or all at once where it is closed."""
    length, n = drive.shape[1], system.state_size
    x = zero_state(system, drive)
    A, along = in_closed_form(system.A, length, n, x), None
    for step, now in zip(system.steps(length), drive.unbind(1), strict=True):
        x = step.A.apply(x) + step.write(now)
        if A is None:
            along = step.A.apply(torch.eye(n, dtype=x.dtype, device=x.device) if along is None else along)
    if along is not None:
        A = Dense(along.reshape((1,) * (4 - along.dim()) + along.shape))
    assert A is not None
    return Summary(A, x)
