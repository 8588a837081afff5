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
from ..recurrences import lined, recur
from ..registry import REAL, kernel
from .heads import by_heads
from .lanes import NARROW
from .low_rank_backward import backward
from .low_rank_forward import forward, layout
from .rows import room
from .running import CALLS

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
    d = lined(leaf(A.d))
    return recur(LOW_RANK, (before, int(d.shape[-1] == 1)), d, scale, *vectors, lined(u.to(x.dtype)), x.contiguous())


def _step(_: int, x: torch.Tensor, d, b, u, v, k, w) -> torch.Tensor:
    z = (v[..., None] * x).sum(-2)
    return d[..., None] * x - (b * u)[..., None] * z[..., None, :] + k[..., None] * w[..., None, :]


def _memory(n: int, P: int, T: int, is_backward: int) -> int:
    return layout(n, P, T, is_backward)[-1]


LOW_RANK = by_heads(forward, backward, _memory, _step)
