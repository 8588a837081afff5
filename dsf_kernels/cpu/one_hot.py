"""A one-hot matrix times a diagonal, compiled: rows of the state move to new places, scaled on the way.

    S <- P diag(d) S + b u^T, column j of P is e_{p_j}; transposed: S <- diag(d) P^T S + b u^T       y = c^T S

Nothing of size n x n is made. The equations, forward and backward, are in one_hot_loops.py; for backward one state per
64 steps is kept.
"""

from __future__ import annotations

import torch

from dsf.operators import OneHotDiagonal
from dsf.values import is_number, value

from ..costs import Cost, Sizes
from ..recurrences import lined, recur
from ..registry import REAL, kernel
from .heads import by_heads
from .lanes import NARROW
from .one_hot_loops import backward, forward, layout
from .rows import room
from .running import CALLS

STEP = 1000  # what a step of a head costs beside its entries


def cost(z: Sizes) -> Cost:
    """Fitted to one thread: per entry and step, per row, per step; an index is read with 8 bytes."""
    p = room(z.p, NARROW // z.itemsize)
    moved = z.rows * z.steps * ((3 * z.n + 2 * z.p) * z.itemsize + 8 * z.n)
    return Cost(z.rows * z.steps * (7 * z.n * p + 30 * z.n + STEP), 2 * moved, CALLS)


def declines(A: OneHotDiagonal) -> str | None:
    """Why it does not suit, or None; complex tensors are declined by their dtype."""
    return "a number in A is complex" if isinstance(A.d, complex) else None


@kernel(
    "compiled_one_hot",
    covers=OneHotDiagonal,
    cost=cost,
    declines=declines,
    dtypes=REAL,
    devices=("cpu",),
    needs=("numba", "cpu"),
)
def run(
    A: OneHotDiagonal, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, x: torch.Tensor, before: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Signature and shapes: see registry.py. Raises IndexError where an index is no row of the state."""
    n = x.shape[-2]
    d = x.new_full((1, 1, 1, 1), A.d) if is_number(A.d) else value(A.d).to(x.dtype)
    rows = (lined(a.to(x.dtype), n) for a in (d, b, c))
    return recur(
        ONE_HOT, (before, int(A.transposed)), lined(A.p.long(), n), *rows, lined(u.to(x.dtype)), x.contiguous()
    )


def _step(transposed: int, x: torch.Tensor, p, d, b, w) -> torch.Tensor:
    return OneHotDiagonal(p, d, bool(transposed)).apply(x) + b[..., None] * w[..., None, :]


def _memory(n: int, P: int, T: int, _: int) -> int:
    return layout(n, P, T)[-1]


ONE_HOT = by_heads(forward, backward, _memory, _step, gradient=lambda p, w: None)
