"""Every state of a diagonal recurrence, channel by channel: x_t = a_t o x_{t-1} + w_t, real or complex.

Threads take channels and walk in time over rows of memory: each is read once, and written once. Backward, the same walk
the other way: lam_t = g_t + conj(a_{t+1}) o lam_{t+1},  dw = lam,  da_t = lam_t o conj(x_{t-1}).
"""

from __future__ import annotations

import torch

from dsf.operators import Diagonal
from dsf.values import Log, is_number

from ..costs import Cost
from ..recurrences import Loops, recur
from ..registry import REAL, kernel
from ..sizes import Sizes
from . import elementwise_loops as loops
from .compiling import compiled
from .running import CALLS, addresses, over_rows


def cost(z: Sizes) -> Cost:
    """w made, a and w read, the states written to fresh memory, and read again for y."""
    channels = z.rows * z.steps * z.n
    return Cost(8 * channels * z.p, channels * (8 * z.p + 1) * z.itemsize, CALLS)


def _cut(log: bool, a: torch.Tensor, w: torch.Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Strides of a; B, T, H, n, p as channels are walked, pieces of a row, steps of a, log."""
    (B, T, H, n, p), steps = w.shape, a.shape[1]
    places = tuple(0 if size == 1 else step for size, step in zip(a.shape, a.stride(), strict=True))
    if places[2] == n * places[3]:  # one row of H n: what lies side by side is walked side by side
        H, n = 1, H * n
    cuts = -(-torch.get_num_threads() // max(1, B * H))
    return places, (B, T, H, n, p, cuts, steps, int(log))


def _run(loops, at: tuple[int, ...], places: tuple[int, ...], sizes: tuple[int, ...], like: torch.Tensor) -> None:
    B, _, H, *_, cuts, _, _ = sizes
    over_rows(compiled(loops), (at, places, sizes), like, 0, B * H * cuts, like.numel())


def _in_vectors(xs: torch.Tensor) -> bool:
    return xs.shape[4] == 1 and not xs.is_complex()


def _forward(log: bool, keep: bool, inputs):
    a, w, x = inputs
    xs = torch.empty_like(w)
    step = loops.forward if _in_vectors(xs) else loops.forward_rows
    _run(step, addresses(a, w, x, xs), *_cut(log, a, w), xs)
    return (xs,), ()


def _backward(log: bool, kept, inputs, outputs, grad):
    (a, _, x), (xs,) = inputs, outputs
    places, sizes = _cut(log, a, xs)
    steps, vectors = sizes[6], _in_vectors(xs)
    dw, dx = torch.empty_like(xs), torch.zeros_like(x)
    da = (xs.new_empty if vectors and steps > 1 else xs.new_zeros)(xs.shape[0], steps, *xs.shape[2:4])
    step = loops.backward if vectors else loops.backward_rows
    _run(step, addresses(a, xs, x, grad, dw, da, dx), places, sizes, xs)
    return da, dw, dx


def plain(log: bool, a, w, x) -> torch.Tensor:
    """The same, step after step, in plain torch: what can be differentiated any number of times."""
    a, states = (a.exp() if log else a).expand(-1, w.shape[1], -1, -1), []
    for a_t, w_t in zip(a.unbind(1), w.unbind(1), strict=True):
        x = a_t[..., None] * x + w_t
        states.append(x)
    return torch.stack(states, 1)


STATES = Loops(_forward, _backward, lambda log, inputs: (plain(log, *inputs),), saves=True)


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
    return recur(STATES, log, a, w.contiguous(), x.contiguous())[0]
