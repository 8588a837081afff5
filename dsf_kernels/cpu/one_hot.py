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
from ..registry import REAL, kernel
from . import one_hot_loops as loops
from .compiling import compiled
from .lanes import NARROW
from .rows import room
from .running import CALLS, Loops, addresses, lined, over_rows, recur, strides

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
    return recur(ONE_HOT, (A.transposed, before), lined(A.p.long(), n), *rows, lined(u.to(x.dtype)), x.contiguous())


def _sizes(how: tuple[bool, bool], inputs) -> tuple[tuple[int, ...], int, int]:
    """T, H, n, p, before, transposed; rows, and p as it is padded."""
    *_, w, x = inputs
    (B, T, H, p), n = w.shape, x.shape[2]
    return (T, H, n, p, int(how[1]), int(how[0])), B * H, room(p, NARROW // x.element_size())


def _forward(how, keep: bool, inputs):
    (p, *_), (*leaves, w, x) = inputs, inputs
    sizes, count, P = _sizes(how, inputs)
    T, H, n, *_ = sizes
    y, last = torch.empty(w.shape, dtype=x.dtype), torch.empty_like(x)
    starts = torch.empty(count if keep else 0, -(-T // loops.CHUNK), n * P, dtype=x.dtype)
    if not T:
        return (y, x.clone()), starts
    stray = torch.zeros(1, dtype=torch.long)
    at = addresses(*inputs, y, last, starts if keep else None, stray)
    arguments = (at, strides((*leaves, w), w.shape[0], T, H), sizes)
    over_rows(compiled(loops.forward), arguments, x, loops.layout(n, P, T)[-1], count, count * T * n * P)
    if stray.item():
        raise IndexError(f"the indices of a one-hot matrix are 0..{n - 1}; they reach from {p.min()} to {p.max()}")
    return (y, last), starts


def _backward(how, starts: torch.Tensor, inputs, outputs, dy: torch.Tensor, dlast: torch.Tensor):
    p, *vectors, w, x = inputs
    sizes, count, P = _sizes(how, inputs)
    T, H, n, *_ = sizes
    if not T:
        return [p, *(torch.zeros_like(a) for a in (*vectors, w)), dlast]
    found = [torch.empty(*w.shape[:3], a.shape[-1], dtype=x.dtype) for a in (*vectors, w)] + [torch.empty_like(x)]
    at = addresses(p, *vectors, w, starts, dy, dlast, *found)
    arguments = (at, strides((p, *vectors, w), w.shape[0], T, H), sizes)
    over_rows(compiled(loops.backward), arguments, x, loops.layout(n, P, T)[-1], count, count * T * n * P)
    return [p, *found]  # an index has no gradient, and nobody asks for it


def _plain(how: tuple[bool, bool], inputs) -> tuple[torch.Tensor, torch.Tensor]:
    (transposed, before), (*leaves, w, x) = how, inputs
    T, outputs = w.shape[1], []
    over_time = zip(*(a.expand(-1, T, -1, -1).unbind(1) for a in (*leaves, w)), strict=True)
    for p, d, b, c, drive in over_time:
        past, x = x, OneHotDiagonal(p, d, transposed).apply(x) + b[..., None] * drive[..., None, :]
        outputs.append((c[..., None] * (past if before else x)).sum(-2))
    return (torch.stack(outputs, 1) if outputs else w.clone()), x


ONE_HOT = Loops(_forward, _backward, _plain)
