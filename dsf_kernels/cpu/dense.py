"""A dense transition, compiled: the state of one head stays in cache through the steps.

    S <- M_t S + b_t u_t^T      y_t = c_t^T S      (before: y_t = c_t^T of the S that was)

The equations are in dense_forward.py; for backward one state per 64 steps is kept, and the gradient of an M that is
constant in time is summed on the way.
"""

from __future__ import annotations

import torch

from dsf.operators import Dense

from ..costs import Cost, Sizes
from ..registry import REAL, kernel
from .compiling import compiled
from .dense_backward import backward
from .dense_forward import CHUNK, forward, layout
from .lanes import NARROW
from .rows import room
from .running import CALLS, Loops, addresses, lined, over_rows, recur, strides

FASTER = 0.4  # than the nominal rate, per multiplication
STEP = 8000  # what a step of a head costs beside its entries


def cost(z: Sizes) -> Cost:
    """A product of n x n and n x p entries at every step, fitted to one thread; M is taken to vary in time."""
    p = room(z.p, NARROW // z.itemsize)
    moved = z.rows * z.steps * (z.n * z.n + 2 * z.n + 2 * z.p) * z.itemsize
    return Cost(z.rows * z.steps * (FASTER * 2 * z.n * (z.n + 2) * p + STEP), 2 * moved, CALLS)


@kernel(
    "compiled_dense",
    covers=Dense,
    cost=cost,
    dtypes=REAL,
    devices=("cpu",),
    needs=("numba", "cpu"),
)
def run(
    A: Dense, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, x: torch.Tensor, before: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Signature and shapes: see registry.py. Memory for backward: the inputs, and one state per 64 steps."""
    n = x.shape[-2]
    M = A.M.to(x.dtype)
    M = M if M.stride()[-2:] == (n, 1) else M.contiguous()
    vectors = (lined(a.to(x.dtype), n) for a in (b, c))
    return recur(DENSE, before, M, *vectors, lined(u.to(x.dtype)), x.contiguous())


def _sizes(inputs, before: bool) -> tuple[tuple[int, ...], int, int]:
    """T, H, n, p, before, is M constant in time; rows, and p as it is padded."""
    M, *_, w, x = inputs
    (B, T, H, p), n = w.shape, x.shape[2]
    return (T, H, n, p, int(before), int(M.shape[1] == 1)), B * H, room(p, NARROW // x.element_size())


def _forward(before: bool, keep: bool, inputs):
    *leaves, w, x = inputs
    sizes, count, P = _sizes(inputs, before)
    T, H, n, *_ = sizes
    y, last = torch.empty(w.shape, dtype=x.dtype), torch.empty_like(x)
    starts = torch.empty(count if keep else 0, -(-T // CHUNK), n * P, dtype=x.dtype)
    if not T:
        return (y, x.clone()), starts
    at = addresses(*inputs, y, last, starts if keep else None)
    arguments = (at, strides((*leaves, w), w.shape[0], T, H), sizes)
    work = count * T * n * n * P
    over_rows(compiled(forward), arguments, x, layout(n, P, T)[-1], count, work)
    return (y, last), starts


def _backward(before: bool, starts: torch.Tensor, inputs, outputs, dy: torch.Tensor, dlast: torch.Tensor):
    M, *vectors, w, x = inputs
    sizes, count, P = _sizes(inputs, before)
    (T, H, n, *_), B = sizes, w.shape[0]
    if not T:
        return [torch.zeros_like(a) for a in (M, *vectors, w)] + [dlast]
    found = [torch.zeros(B, M.shape[1], H, n, n, dtype=x.dtype)]  # a sum
    found += [torch.empty(B, T, H, a.shape[-1], dtype=x.dtype) for a in (*vectors, w)] + [torch.empty_like(x)]
    at = addresses(M, *vectors, w, starts, dy, dlast, *found)
    arguments = (at, strides((M, *vectors, w), B, T, H), sizes)
    work = count * T * n * n * P
    over_rows(compiled(backward), arguments, x, layout(n, P, T)[-1], count, work)
    return found


def _plain(before: bool, inputs) -> tuple[torch.Tensor, torch.Tensor]:
    M, b, c, w, x = inputs
    T, outputs = w.shape[1], []
    matrices = M.expand(-1, T, -1, -1, -1).unbind(1)
    over_time = zip(matrices, *(a.expand(-1, T, -1, -1).unbind(1) for a in (b, c, w)), strict=True)
    for m, write, read, drive in over_time:
        past, x = x, m @ x + write[..., None] * drive[..., None, :]
        outputs.append((read[..., None] * (past if before else x)).sum(-2))
    return (torch.stack(outputs, 1) if outputs else w.clone()), x


DENSE = Loops(_forward, _backward, _plain)
