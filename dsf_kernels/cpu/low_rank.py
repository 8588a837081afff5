"""Diagonal plus low rank, compiled: the state of one head stays in cache, and every step sweeps over it once.

    S <- diag(d_t) S - b_t u_t (v_t^T S) + k_t w_t^T      y_t = c_t^T S      (before: y_t = c_t^T of the S that was)

The decay is multiplied step by step and never divided by: d = 0, a reset, and d of any sign are exact. The equations of
the sweeps are in low_rank_forward.py; for backward one state per 64 steps is kept.
"""

from __future__ import annotations

import torch

from dsf.operators import DiagonalPlusLowRank
from dsf.values import is_number, value

from ..costs import Cost, Sizes
from ..registry import REAL, kernel
from .compiling import compiled
from .lanes import NARROW
from .low_rank_backward import backward
from .low_rank_forward import CHUNK, forward, layout
from .rows import room
from .running import CALLS, Loops, addresses, lined, over_rows, recur, strides

STEP = 8000  # what a step of a head costs beside its entries


def cost(z: Sizes) -> Cost:
    """Fitted to one thread: per entry and step; per row; and per step, the dearer backward in it."""
    p = room(z.p, NARROW // z.itemsize)
    moved = z.rows * z.steps * (4 * z.n + 2 * z.p) * z.itemsize
    return Cost(z.rows * z.steps * (5 * z.n * p + 25 * z.n + STEP), 2 * moved, CALLS)


def declines(A: DiagonalPlusLowRank) -> str | None:
    """Why it does not suit, or None; complex tensors are declined by their dtype."""
    return "a number in A is complex" if any(isinstance(a, complex) for a in (A.d, A.b)) else None


@kernel(
    "compiled_low_rank",
    covers=DiagonalPlusLowRank,
    cost=cost,
    declines=declines,
    dtypes=REAL,
    devices=("cpu",),
    needs=("numba", "cpu"),
)
def run(
    A: DiagonalPlusLowRank, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, x: torch.Tensor, before: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Signature and shapes: see registry.py. Memory for backward: the inputs, and one state per 64 steps."""
    n = x.shape[-2]

    def leaf(a) -> torch.Tensor:
        return x.new_full((1, 1, 1, 1), a) if is_number(a) else value(a).to(x.dtype)

    scale, along = leaf(A.b), leaf(A.u)
    if scale.shape[-1] > 1:
        scale, along = leaf(1), scale * along
    vectors = (lined(a.to(x.dtype), n) for a in (along, leaf(A.v), b, c))
    return recur(LOW_RANK, before, lined(leaf(A.d)), scale, *vectors, lined(u.to(x.dtype)), x.contiguous())


def _sizes(inputs, before: bool) -> tuple[tuple[int, ...], int, int]:
    """T, H, n, p, is d a scalar, before; rows, and p as it is padded."""
    d, *_, w, x = inputs
    (B, T, H, p), n = w.shape, x.shape[2]
    return (T, H, n, p, int(d.shape[-1] == 1), int(before)), B * H, room(p, NARROW // x.element_size())


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
    memory = layout(n, P, T, 0)[-1]
    over_rows(compiled(forward), arguments, x, memory, count, count * T * n * P)
    return (y, last), starts


def _backward(before: bool, starts: torch.Tensor, inputs, outputs, dy: torch.Tensor, dlast: torch.Tensor):
    *leaves, w, x = inputs
    sizes, count, P = _sizes(inputs, before)
    T, H, n, *_ = sizes
    if not T:
        return [torch.zeros_like(a) for a in (*leaves, w)] + [dlast]
    found = [torch.empty(*w.shape[:3], a.shape[-1], dtype=x.dtype) for a in (*leaves, w)] + [torch.empty_like(x)]
    at = addresses(*leaves, w, starts, dy, dlast, *found)
    arguments = (at, strides((*leaves, w), w.shape[0], T, H), sizes)
    memory = layout(n, P, T, 1)[-1]
    over_rows(compiled(backward), arguments, x, memory, count, count * T * n * P)
    return found


def _plain(before: bool, inputs) -> tuple[torch.Tensor, torch.Tensor]:
    *leaves, w, x = inputs
    T, outputs = w.shape[1], []
    over_time = zip(*(a.expand(-1, T, -1, -1).unbind(1) for a in (*leaves, w)), strict=True)
    for d, b, u, v, k, c, drive in over_time:
        past, z = x, (v[..., None] * x).sum(-2)
        x = d[..., None] * x - (b * u)[..., None] * z[..., None, :] + k[..., None] * drive[..., None, :]
        outputs.append((c[..., None] * (past if before else x)).sum(-2))
    return (torch.stack(outputs, 1) if outputs else w.clone()), x


LOW_RANK = Loops(_forward, _backward, _plain)
