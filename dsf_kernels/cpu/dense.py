"""A dense transition, compiled: the state of one head stays in cache through the steps.

    S <- M_t S + b_t u_t^T      y_t = c_t^T S      (before: y_t = c_t^T of the S that was)

The equations are in dense_forward.py; for backward one state per 64 steps is kept, and the gradient of an M that is
constant in time is summed on the way.
"""

from __future__ import annotations

import torch

from dsf.operators import Dense

from ..costs import Cost, Sizes
from ..recurrences import lined, recur
from ..registry import REAL, kernel
from .dense_backward import backward
from .dense_forward import forward, layout
from .heads import by_heads
from .lanes import NARROW
from .rows import room
from .running import CALLS

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
    return recur(DENSE, (before, int(M.shape[1] == 1)), M, *vectors, lined(u.to(x.dtype)), x.contiguous())


def _step(_: int, x: torch.Tensor, M: torch.Tensor, b: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return M @ x + b[..., None] * w[..., None, :]


def _gradient(M: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """A sum, over time too where M is constant."""
    return M.new_zeros(w.shape[0], M.shape[1], w.shape[2], *M.shape[3:])


def _memory(n: int, P: int, T: int, _: int) -> int:
    return layout(n, P, T)[-1]


DENSE = by_heads(forward, backward, _memory, _step, products=lambda n: n * n, gradient=_gradient)
