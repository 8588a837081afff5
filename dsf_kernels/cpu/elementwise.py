"""Every state of a diagonal recurrence, channel by channel: x_t = a_t o x_{t-1} + w_t, real or complex.

Threads take channels and walk in time over rows of memory: each is read once, and written once. Backward, the same walk
the other way: lam_t = g_t + conj(a_{t+1}) o lam_{t+1},  dw = lam,  da_t = lam_t o conj(x_{t-1}).
"""

from __future__ import annotations

from typing import Any

import torch

from dsf.operators import Diagonal
from dsf.values import Log, is_number

from ..costs import Cost
from ..registry import REAL, kernel
from ..sizes import Sizes
from . import elementwise_loops as loops
from .running import compiled, flat, over_pieces


def cost(z: Sizes) -> Cost:
    """w made, a and w read, the states written to fresh memory, and read again for y."""
    channels = z.rows * z.steps * z.n
    return Cost(8 * channels * z.p, channels * (8 * z.p + 1) * z.itemsize, 30)


class Walk:
    """How a run is cut: rows of channels [B, H, n] with n of them apart for no thread, p channels to a row."""

    def __init__(self, a: torch.Tensor, w: torch.Tensor):
        self.B, self.T, self.H, self.n, self.p = w.shape
        self.channels = self.H * self.n * self.p
        of_batch, self.of_t, of_h, self.of_i = (
            0 if size == 1 else step for size, step in zip(a.shape, a.stride(), strict=True)
        )
        self.starts = of_batch, of_h
        if of_h == self.n * self.of_i:  # one row of H n: what lies side by side is walked side by side
            self.H, self.n = 1, self.H * self.n
        self.cuts = -(-torch.get_num_threads() // (self.B * self.H))

    def each(self, call: Any) -> None:
        """call(place of a, at, first, to, lo, hi) for pieces of all rows, over the threads."""

        def several(first: int, last: int) -> None:
            for piece in range(first, last):
                row, cut = divmod(piece, self.cuts)
                batch, head = divmod(row, self.H)
                place = (batch * self.starts[0] + head * self.starts[1], self.of_t, self.of_i)
                at = (batch * self.T * self.H + head) * self.n * self.p
                lo, hi = self.n * cut // self.cuts, self.n * (cut + 1) // self.cuts
                call(place, at, row * self.n * self.p, batch, head, lo, hi)

        over_pieces(several, self.B * self.H * self.cuts, self.B * self.T * self.channels)


class _Walked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, log: bool, a, w, x):  # type: ignore[override]
        walk, xs = Walk(a, w), torch.empty_like(w)
        fa, fw, fxs, fx = (flat(v) for v in (a, w, xs, x))
        single = w.shape[4] == 1 and not w.is_complex()
        step = compiled(loops.along if single else loops.rows)

        def call(place, at, first, batch, head, lo, hi):
            if single:
                step(fa, place, log, fw, fxs, fx, at, walk.channels, first, lo, hi, walk.T)
            else:
                step(fa, place, fw, fxs, fx, at, walk.channels, first, lo, hi, walk.T, walk.p)

        walk.each(call)
        ctx.log = log
        ctx.save_for_backward(a, w, x, xs)
        return xs

    @staticmethod
    def backward(ctx, grad):  # type: ignore[override]
        a, w, x, xs = ctx.saved_tensors
        if torch.is_grad_enabled():  # a derivative of the derivative is wanted: by plain autograd
            inputs, need = (a, w, x), ctx.needs_input_grad[1:]
            wanted = [v for v, needed in zip(inputs, need, strict=True) if needed]
            found = iter(torch.autograd.grad(plain(ctx.log, *inputs), wanted, grad, create_graph=True))
            return (None, *(next(found) if needed else None for needed in need))
        walk, grad, steps = Walk(a, xs), grad.contiguous(), a.shape[1]
        dw, dx = torch.empty_like(xs), torch.zeros_like(x)
        single = xs.shape[4] == 1 and not xs.is_complex()
        da = (xs.new_empty if single and steps > 1 else xs.new_zeros)(walk.B, steps, *xs.shape[2:4])
        of_t = walk.H * walk.n if steps > 1 else 0
        fa, fxs, fx, fg, fdw, fda, fdx = (flat(v) for v in (a, xs, x, grad, dw, da, dx))
        step = compiled(loops.along_back if single else loops.rows_back)

        def call(place, at, first, batch, head, lo, hi):
            to = (batch * steps * walk.H + head) * walk.n
            where = (at, walk.channels, first, to, of_t, lo, hi, walk.T)
            if single:
                step(fa, place, ctx.log, fxs, fx, fg, fdw, fda, fdx, *where)
            else:
                step(fa, place, fxs, fx, fg, fdw, fda, fdx, *where, walk.p)

        walk.each(call)
        return None, da.sum_to_size(a.shape), dw, dx


def plain(log: bool, a, w, x) -> torch.Tensor:
    """The same, step after step, in plain torch: what can be differentiated any number of times."""
    a, states = (a.exp() if log else a).expand(-1, w.shape[1], -1, -1), []
    for a_t, w_t in zip(a.unbind(1), w.unbind(1), strict=True):
        x = a_t[..., None] * x + w_t
        states.append(x)
    return torch.stack(states, 1)


@kernel(
    "compiled_states",
    form="states",
    covers=Diagonal,
    cost=cost,
    dtypes=(*REAL, torch.complex64, torch.complex128),
    devices=("cpu",),
    needs=("numba", "cpu"),
)
def run(A: Diagonal, w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Signature and shapes: see registry.py. Kept for backward: the inputs, and the states."""
    if not w.shape[1]:
        return w.to(x.dtype)
    log = isinstance(A.d, Log)
    d = A.d.log if isinstance(A.d, Log) else x.new_full((1, 1, 1, 1), A.d) if is_number(A.d) else A.d
    if log and (w.shape[4] > 1 or x.is_complex()):  # a has p times fewer entries than w, or no fast e^x
        log, d = False, d.exp()
    a, w, x = (v.to(x.dtype) for v in (d, w, x))
    a = a if a.stride(3) == 1 or a.shape[3] == 1 else a.contiguous()
    if torch._C._are_functorch_transforms_active():  # they see through plain operations only
        return plain(log, a, w, x)
    return _Walked.apply(log, a, w.contiguous(), x.contiguous())
