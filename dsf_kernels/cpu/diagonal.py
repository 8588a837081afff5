"""Diagonal and scalar decay with the state in cache: every entry of S passes through a register once in four steps.

    S <- diag(a_t) S + b_t u_t^T      y_t = c_t^T S      (before: y_t = c_t^T of the S that was)

No decay is divided by and none is a difference of sums: 0 (a reset), signs and growth are exact, forward and backward.
Heads of a thread share the loop over time, so that what lies side by side in memory is read side by side; heads, steps
and sequences that share a signal read it where it lies. Kept for backward: the inputs, one state per chunk.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from dsf.operators import Diagonal
from dsf.values import Log, is_number

from ..costs import Cost
from ..recurrences import Loops, Reads, columns_by_steps, lined, recur
from ..registry import REAL, kernel
from ..sizes import Sizes
from . import diagonal_backward, diagonal_forward, diagonal_rows
from .compiling import compiled
from .lanes import NARROW
from .rows import room
from .running import CALLS, addresses, over_rows
from .signals import STEPS

CHUNK, BLOCK = 64, 16  # steps from one kept state to the next; steps that forward copies to where they lie together
COPIES, ONE_COLUMN = 400, 40  # what a step of a head costs beside its entries, in entries
TOGETHER = 1024  # entries of the heads that are read side by side
SIDE = 256  # entries of the heads that go backward side by side, where p = 1


def declines(A: Diagonal) -> str | None:
    """Why this diagonal does not suit, or None."""
    d = A.d.log if isinstance(A.d, Log) else A.d
    complex_ = isinstance(d, complex) or isinstance(d, torch.Tensor) and d.is_complex()
    return "the decay is complex" if complex_ else None


def cost(z: Sizes) -> Cost:
    """Fitted to one thread at n, p = 1..128: per entry and step, with whole rows of lanes; and per step of a head."""
    lanes = NARROW // z.itemsize
    moved = z.rows * z.steps * (3 * z.n + 2 * z.p) * z.itemsize
    entries = z.n + ONE_COLUMN if z.p == 1 and z.n % lanes == 0 else room(z.n, lanes) * z.p + COPIES
    return Cost(5 * z.rows * z.steps * entries, moved, CALLS)


class Cut(NamedTuple):
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
    def one_column(self) -> bool:
        return self.p == 1 and self.n % self.lanes == 0

    @property
    def span(self) -> int:
        """Steps whose sums over lanes are folded at once: enough of them to fill a vector."""
        return STEPS if self.p >= STEPS else BLOCK

    @property
    def side(self) -> int:
        return max(1, min(self.lanes, SIDE // self.n))

    @property
    def sizes(self) -> tuple[int, ...]:
        cut = (self.together, self.chunk, BLOCK, self.span)
        return (self.heads, self.T, self.n, self.p, *cut, int(self.before), int(self.log), self.side)

    def memory(self, block: int) -> int:
        """Entries that the loops write to beside the signals."""
        L = self.lanes
        if self.one_column:
            return (L + 1) * L + (2 * self.chunk + 1) * self.side * self.n
        row, width = room(self.n, L), room(self.p, L)
        sums = (self.span * max(self.p, L) + 2 * L) * (L + 1)
        states = (block // STEPS + 1) * row * self.p
        return self.together * block * (3 * row + 2 * width) + self.span * self.p + sums + states

    @property
    def work(self) -> float:
        return self.batch * self.heads * self.T * self.n * self.p


def cut_of(how: tuple[bool, bool], inputs: tuple[torch.Tensor, ...]) -> Cut:
    (log, before), (_, b, _, u, _) = how, inputs
    (B, T, H, p), n, lanes = u.shape, b.shape[3], NARROW // u.element_size()
    row = room(n, lanes)
    most = max(1, min(TOGETHER // row, 65536 // (row * p)))
    each = -(-torch.get_num_threads() // max(1, B))  # groups of a sequence that keep every thread busy
    if p == 1 and n % lanes == 0:  # the heads of a thread share nothing but what they read: states are small
        most = max(1, 8192 // n)
    return Cut(B, T, H, n, p, lanes, max(1, min(most, -(-H // each))), log, before)


def read(x: torch.Tensor) -> tuple[int, ...]:
    """Strides of batch, t, h, i, and none of groups; axes of size 1 have one place."""
    return (*(0 if size == 1 else step for size, step in zip(x.shape, x.stride(), strict=True)), 0)


def written(x: torch.Tensor, steps: int, shared: bool) -> tuple[int, ...]:
    """The same of a result, whose entries are added up where steps, or the heads of a group, have one place."""
    of_batch, of_t, of_h, of_i = x.stride()
    of_t, of_i = of_t if x.shape[1] == steps else 0, of_i if x.shape[3] > 1 else 0
    return (of_batch, of_t, 0, of_i, of_h) if shared else (of_batch, of_t, of_h, of_i, 0)


def packed(x: torch.Tensor, lanes: int) -> torch.Tensor:
    """[B, H, n, p] -> [B, H, n / lanes, p, lanes], a copy; zeros behind n."""
    x = F.pad(x, (0, 0, 0, -x.shape[2] % lanes)).unflatten(2, (-1, lanes))
    return torch.empty_like(x.mT, memory_format=torch.contiguous_format).copy_(x.mT)


def unpacked(x: torch.Tensor, n: int) -> torch.Tensor:
    return x.mT.flatten(2, 3)[:, :, :n]


def _forward(how, keep: bool, inputs):
    *signals, x = inputs
    cut, u = cut_of(how, inputs), inputs[3]
    S, y = packed(x, cut.lanes), torch.empty_like(u, memory_format=torch.contiguous_format)
    kept = x.new_empty(cut.batch, -(-(cut.T + cut.before) // cut.chunk) if keep else 0, *S.shape[1:])
    places = (*map(read, signals), written(y, cut.T, False))
    arguments = (addresses(*signals, y, S, kept if keep else None), places, cut.sizes)
    loops = compiled(diagonal_rows.forward if cut.one_column else diagonal_forward.forward)
    over_rows(loops, arguments, x, cut.memory(BLOCK), cut.batch * cut.groups, cut.work)
    return (y, unpacked(S, cut.n)), (kept,)


def _backward(how, kept, inputs, outputs, dy, dx):
    *signals, _ = inputs
    cut, M, T = cut_of(how, inputs), None, dy.shape[1]
    M = packed(dx, cut.lanes)
    shared = [v.shape[2] == 1 and cut.heads > 1 for v in signals]
    found = [_gradient(v, cut, one) for v, one in zip(signals, shared, strict=True)]
    places = (*map(read, (*signals, dy)), *(written(g, T, one) for g, one in zip(found, shared, strict=True)))
    arguments = (addresses(*signals, dy, M, *kept, *found), places, cut.sizes)
    loops = compiled(diagonal_rows.backward if cut.one_column else diagonal_backward.backward)
    over_rows(loops, arguments, dy, cut.memory(cut.chunk), cut.batch * cut.groups, cut.work)
    return (*found, unpacked(M, cut.n))


def _gradient(v: torch.Tensor, cut: Cut, shared: bool) -> torch.Tensor:
    """Room for a signal's gradient: of every sequence, and of every group of heads where heads share it."""
    fresh = v.new_zeros if shared or v.shape[1] == 1 else v.new_empty
    return fresh(cut.batch, v.shape[1], cut.groups if shared else v.shape[2], v.shape[3])


def _plain(how, inputs) -> tuple[torch.Tensor, torch.Tensor]:
    (log, before), (a, b, c, u, x) = how, inputs

    def step(x: torch.Tensor, u, a, b) -> torch.Tensor:
        return a[..., None] * x + b[..., None] * u[..., None, :]

    return columns_by_steps(step, Reads(before), x, c, u, a.exp() if log else a, b)


DIAGONAL = Loops(_forward, _backward, _plain)


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
    return recur(DIAGONAL, (log, before), *(lined(v.to(x.dtype)) for v in (d, b, c, u)), x)
