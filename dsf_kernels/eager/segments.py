"""Segments of time side by side, for every linear system with a finite state: about 2 C + T / C steps instead of T.

    1. the summary (P_s, S_s) of every segment of C steps, all at once
    2. x_{s+1} = P_s x_s + S_s from segment to segment
    3. every segment again, from the state before it, reading y

Passes 1 and 3 are the recurrence itself on T / C times as many sequences, so whatever writes or reads the state stays
as it is; decays are multiplied, never divided. Memory for backward: the inputs, and a state and a P per segment; both
passes are run again (under the transforms of torch.func: every state).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from dsf.deferred import Deferred
from dsf.features import Features
from dsf.feedback import Feedback
from dsf.operators import Dense, Operator
from dsf.reference import driven, initial_state, scan
from dsf.system import System
from dsf.tree import leaves

from ..costs import Cost, floor
from ..products import CLOSED
from ..reach import HALF, full_precision
from ..registry import kernel
from ..sizes import Sizes
from ..summaries import apply, each_segment, fold, fold_tensor, of_segments

SHORTEST = 16  # fewer steps are run one after the other
CALLS = 16  # operations of a step of pass 3, as of the plain recurrence; pass 1 takes half as many
CARRY = 5  # operations from segment to segment
# Passes through memory, as fitted beside the plain recurrence, whose state of one step stays in cache:
STATES = 48  # over the states of both passes
MATRICES = 48  # over A_t of a matrix, multiplied pair by pair
STEPPED = 16  # over P, where other structures act on it step after step


def declines(system: System | Feedback) -> str | None:
    """Why this system has no summaries, or None."""
    if isinstance(system, Feedback):
        return "feedback: A_t is a function of y_{t-1}, known only once step t-1 has run"
    if isinstance(system.outline.B, Features):
        return "infinite features: the state is the past itself, and has no summary"
    return None


def cost(system: System, z: Sizes) -> Cost:
    """The plain recurrence twice, in fewer and larger operations; and P, where it is a matrix."""
    least, size = floor(system, z), segment(z.length)
    segments = z.length // size
    calls = (CALLS + CALLS // 2) * size * z.micro + CARRY * segments + CALLS * z.micro * (z.length - segments * size)
    passes, A = STATES * z.n * z.p, system.outline.A
    if not _keeps_its_structure(A) and not _constant(system):
        passes += (MATRICES if isinstance(A, Dense) else STEPPED) * z.n * z.n
    return Cost(2 * least.flops, least.bytes + passes * z.rows * z.steps * z.itemsize, calls)


def _keeps_its_structure(A: Operator) -> bool:
    return isinstance(A, CLOSED) and not isinstance(A, Dense)


def _constant(system: System) -> bool:
    return not isinstance(system, Deferred) and all(leaf.shape[1] == 1 for leaf in leaves(system.A))


def segment(length: int) -> int:
    """C, with the fewest steps 2 C + T / C + what is left over.

    >>> segment(1000), segment(4096), segment(10)
    (20, 45, 10)
    """
    if length < SHORTEST:
        return max(length, 1)
    near = math.isqrt(length // 2)
    return min(range(near - near // 4, near + near // 4 + 1), key=lambda C: 2 * C + length // C + length % C)


@kernel("segments", form="system", cost=cost, declines=declines)
def run(system: System, u: torch.Tensor, state: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """As dsf.reference.scan; half precision is computed, and its state kept, in fp32, and y has u's dtype."""
    dtype = u.dtype
    if dtype in HALF:
        system, u, state = full_precision(system), u.float(), full_precision(state)
    with torch.autocast(u.device.type, enabled=False):
        y, x = _run(system, u, state)
    return (y.to(dtype) if dtype in HALF else y), x


def _run(system: System, u: torch.Tensor, state: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    B, T = u.shape[:2]
    size = segment(T)
    count, whole = T // size, T - T % size
    if count < 2:
        return scan(system, u, state)
    drive = driven(system, u)
    x = initial_state(system, drive) if state is None else state
    short = fold(system, B, T, size)
    summaries, starts = _recomputed(of_segments, short, fold_tensor(drive, B, T, size)), []
    for part in each_segment(summaries, B, count):
        starts.append(x)
        x = apply(part, x)
    y, ends = _recomputed(scan, short, fold_tensor(u, B, T, size), torch.stack(starts, 1).flatten(0, 1))
    y, x = y.reshape(B, whole, *y.shape[2:]), ends.unflatten(0, (B, count))[:, -1]
    if whole == T:
        return y, x
    tail, x = scan(system.slice(whole, T), u[:, whole:], x)
    return torch.cat([y, tail], 1), x


def _recomputed(f: Callable, *arguments: Any) -> Any:
    """f(*arguments), of which backward keeps the inputs only; the transforms of torch.func take plain code."""
    if torch._C._are_functorch_transforms_active() or not torch.is_grad_enabled():
        return f(*arguments)
    return checkpoint(f, *arguments, use_reentrant=False, preserve_rng_state=False)
