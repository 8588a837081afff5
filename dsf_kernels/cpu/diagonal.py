"""Diagonal and scalar decay with the state in cache: every entry of S passes through a register once in four steps.

    S <- diag(a_t) S + b_t u_t^T      y_t = c_t^T S      (before: y_t = c_t^T of the S that was)

No decay is divided by and none is a difference of sums: 0 (a reset), signs and growth are exact, forward and backward.
Heads of a thread share the loop over time, so that what lies side by side in memory is read side by side; heads, steps
and sequences that share a signal read it where it lies. Kept for backward: the inputs, one state per chunk.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from dsf.operators import Diagonal
from dsf.values import Log, is_number

from ..costs import Cost
from ..registry import REAL, kernel
from ..sizes import Sizes
from . import diagonal_loops as loops
from . import vectors
from .running import compiled, flat, over_pieces

CHUNK, BLOCK = 64, 16  # steps from one kept state to the next; steps that forward copies to where they lie together
COPIES = 400  # what a step of a head costs beside its entries, in entries
TOGETHER = 1024  # entries of the heads that are read side by side
HELPERS = (loops.rows_in, loops.rows_out, loops.columns, loops.clear, loops.copy)
HELPERS += (loops.four, loops.put, loops.four_steps, loops.four_states, loops.four_back)


def declines(A: Diagonal) -> str | None:
    """Why this diagonal does not suit, or None."""
    d = A.d.log if isinstance(A.d, Log) else A.d
    complex_ = isinstance(d, complex) or isinstance(d, torch.Tensor) and d.is_complex()
    return "the decay is complex" if complex_ else None


def cost(z: Sizes) -> Cost:
    """Three operations an entry and step, 2.5 times as slow as in a matrix product; whole vectors of rows; copies."""
    lanes = vectors.BYTES // z.itemsize
    n = -(-z.n // lanes) * lanes
    moved = z.rows * z.steps * (3 * z.n + 2 * z.p) * z.itemsize
    return Cost(5 * z.rows * z.steps * (n * z.p + COPIES), moved, 30)


class Run(NamedTuple):
    """The sizes of a run and how it is cut: `together` heads at a time."""

    batch: int
    T: int
    heads: int
    n: int
    p: int
    lanes: int
    together: int
    log: bool
    before: bool

    @property
    def groups(self) -> int:
        return -(-self.heads // self.together)

    @property
    def chunk(self) -> int:
        return CHUNK if self.p > BLOCK else BLOCK

    @property
    def span(self) -> int:
        """Steps whose sums over lanes are folded at once: enough of them to fill a vector."""
        return loops.STEPS if self.p >= loops.STEPS else BLOCK

    def room(self, block: int) -> int:
        """Entries that the loops write to beside the signals."""
        row, width = (-(-k // self.lanes) * self.lanes for k in (self.n, self.p))
        sums = (self.span * max(self.p, self.lanes) + 2 * self.lanes) * (self.lanes + 1)
        states = (block // loops.STEPS + 1) * row * self.p
        return self.together * block * (3 * row + 2 * width) + self.span * self.p + sums + states

    def each(self, call: Any, block: int) -> None:
        """call(work, batch, group, sizes) for all groups of heads, over the threads."""

        def several(first: int, last: int) -> None:
            work = flat(torch.empty(self.room(block), dtype=torch.float32 if self.lanes == 16 else torch.float64))
            for i in range(first, last):
                batch, group = divmod(i, self.groups)
                lo, hi = group * self.together, min((group + 1) * self.together, self.heads)
                sizes = (lo, hi, self.heads, self.T, self.n, self.p, self.chunk, BLOCK, self.span, int(self.before))
                call(work, batch, group, sizes)

        over_pieces(several, self.batch * self.groups, self.batch * self.heads * self.T * self.n * self.p)


def run_of(a: torch.Tensor, b: torch.Tensor, u: torch.Tensor, log: bool, before: bool) -> Run:
    (B, T, H, p), n, lanes = u.shape, b.shape[3], vectors.BYTES // u.element_size()
    row = -(-n // lanes) * lanes
    most = max(1, min(TOGETHER // row, 65536 // (row * p)))
    each = -(-torch.get_num_threads() // B)  # groups of a sequence that keep every thread busy
    return Run(B, T, H, n, p, lanes, max(1, min(most, -(-H // each))), log, before)


def read(x: torch.Tensor, batch: int) -> tuple[Any, tuple[int, int, int, int]]:
    """Memory, and where entry [t, h, i] of a sequence lies in it: axes of size 1 have one place."""
    of_batch, of_t, of_h, of_i = (0 if size == 1 else step for size, step in zip(x.shape, x.stride(), strict=True))
    return flat(x), (batch * of_batch, of_t, of_h, of_i)


def written(x: torch.Tensor, batch: int, steps: int, group: int | None = None) -> tuple[Any, tuple[int, int, int, int]]:
    """The same of a result, whose entries are added up where steps, or the heads of a group, have one place."""
    of_batch, of_t, of_h, of_i = x.stride()
    at, of_t, of_i = batch * of_batch, of_t if x.shape[1] == steps else 0, of_i if x.shape[3] > 1 else 0
    return flat(x), (at, of_t, of_h, of_i) if group is None else (at + group * of_h, of_t, 0, of_i)


def packed(x: torch.Tensor, lanes: int) -> torch.Tensor:
    """[B, H, n, p] -> [B, H, n / lanes, p, lanes], a copy; zeros behind n."""
    x = F.pad(x, (0, 0, 0, -x.shape[2] % lanes)).unflatten(2, (-1, lanes))
    return torch.empty_like(x.mT, memory_format=torch.contiguous_format).copy_(x.mT)


def unpacked(x: torch.Tensor, n: int) -> torch.Tensor:
    return x.mT.flatten(2, 3)[:, :, :n]


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, keep: bool, log: bool, before: bool, a, b, c, u, x):  # type: ignore[override]
        run, step = run_of(a, b, u, log, before), compiled(loops.forward, HELPERS)
        S, y = packed(x, run.lanes), torch.empty_like(u, memory_format=torch.contiguous_format)
        chunks = -(-(run.T + before) // run.chunk) if keep else 0
        kept = x.new_empty(run.batch, chunks, *S.shape[1:])

        def call(work, i, group, sizes):
            signals = [part for s in (b, c, u) for part in read(s, i)]
            step(work, flat(S[i]), flat(kept[i]), *read(a, i), log, *signals, *written(y, i, run.T), sizes)

        run.each(call, BLOCK)
        ctx.run = run
        ctx.save_for_backward(a, b, c, u, x, kept)
        return y, unpacked(S, run.n)

    @staticmethod
    def backward(ctx, grad_y, grad_x):  # type: ignore[override]
        a, b, c, u, x, kept = ctx.saved_tensors
        run: Run = ctx.run
        if torch.is_grad_enabled():  # a derivative of the derivative is wanted: by plain autograd
            inputs, need = (a, b, c, u, x), ctx.needs_input_grad[3:]
            results = plain(run.log, run.before, *inputs)
            wanted = [v for v, needed in zip(inputs, need, strict=True) if needed]
            found = iter(
                torch.autograd.grad(results, wanted, (grad_y, grad_x), create_graph=True, materialize_grads=True)
            )
            return (None, None, None, *(next(found) if needed else None for needed in need))
        step, M, grad_y = compiled(loops.backward, HELPERS), packed(grad_x, run.lanes), innermost(grad_y)
        slots = [_gradient(v, run) for v in (a, b, c)]
        du = torch.empty_like(u, memory_format=torch.contiguous_format)

        def call(work, i, group, sizes):
            signals = [part for s in (b, c, u, grad_y) for part in read(s, i)]
            slot_of = [group if shared(v, run) else None for v in (a, b, c, u)]
            found = [part for s, slot in zip((*slots, du), slot_of, strict=True) for part in written(s, i, run.T, slot)]
            step(work, flat(M[i]), flat(kept[i]), *read(a, i), run.log, *signals, *found, sizes)

        run.each(call, run.chunk)
        da, db, dc = (s.sum_to_size(v.shape) for s, v in zip(slots, (a, b, c), strict=True))
        return None, None, None, da, db, dc, du, unpacked(M, run.n)


def shared(v: torch.Tensor, run: Run) -> bool:
    return v.shape[2] == 1 and run.heads > 1


def _gradient(v: torch.Tensor, run: Run) -> torch.Tensor:
    """Room for a signal's gradient: of every sequence, and of every group of heads where heads share it."""
    heads = run.groups if shared(v, run) else v.shape[2]
    fresh = v.new_zeros if shared(v, run) or v.shape[1] == 1 else v.new_empty
    return fresh(run.batch, v.shape[1], heads, v.shape[3])


def innermost(v: torch.Tensor) -> torch.Tensor:
    """A copy, unless the entries of a step lie side by side."""
    return v if v.stride(3) == 1 or v.shape[3] == 1 else v.contiguous()


def plain(log: bool, before: bool, a, b, c, u, x) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, step after step, in plain torch: what can be differentiated any number of times."""
    a, outputs = a.exp() if log else a, []
    steps = (v.expand(-1, u.shape[1], -1, -1).unbind(1) for v in (a, b, c))
    for a_t, b_t, c_t, u_t in zip(*steps, u.unbind(1), strict=True):
        new = a_t[..., None] * x + b_t[..., None] * u_t[..., None, :]
        outputs.append((c_t[..., None] * (x if before else new)).sum(-2))
        x = new
    return torch.stack(outputs, 1), x


@kernel(
    "compiled_diagonal",
    covers=Diagonal,
    cost=cost,
    declines=declines,
    dtypes=REAL,
    devices=("cpu",),
    needs=("numba", "cpu"),
)
def run(A: Diagonal, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, x: torch.Tensor, before: bool):
    """Signature and shapes: see registry.py."""
    if not u.shape[1]:
        return u.to(x.dtype), x
    log = isinstance(A.d, Log)
    d = A.d.log if isinstance(A.d, Log) else x.new_full((1, 1, 1, 1), A.d) if is_number(A.d) else A.d
    a, b, c, u = (innermost(v.to(x.dtype)) for v in (d, b, c, u))
    if torch._C._are_functorch_transforms_active():  # they see through plain operations only
        return plain(log, before, a, b, c, u, x)
    keep = torch.is_grad_enabled() and any(v.requires_grad for v in (a, b, c, u, x))
    return _Compiled.apply(keep, log, before, a, b, c, u, x)
