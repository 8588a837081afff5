"""A dense transition, one step after another, the state of one head in registers; matrices of up to 128 x 128.

    S <- M_t S + b_t u_t^T        y_t = c_t^T S        (before: y_t = c_t^T of the S that was)

Every M_t is read once forward, and twice backward. One launch; where heads are few, two: segments of time side by side
meet by their exact summaries (the product of their matrices, the state from zero). Kept for backward: the inputs, and a
state every 16 steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from dsf.operators import Dense

from ..costs import Cost
from ..packing import Packing
from ..recurrences import Loops, Reads, columns_by_steps, recur
from ..sizes import Sizes
from .configurations import Configuration, configuration
from .launching import SHARED, alike, gpu_kernel, launch, multiprocessors, operands, placed, power, shared_memory, up_to

WIDEST = 128  # rows of a state
COLUMNS = 64  # that a program holds, of up to as many rows; fewer of more
EVERY = 16  # steps, of which one state is kept
LEAST = 64  # steps of a segment
MOST = 16  # segments: each folds the summaries of those before it
WORTH = 3  # segments: the summaries are another pass, and of n more columns
STEP = 2e7  # flops that a step costs, as none starts before the last has ended
SIDE_BY_SIDE = 264  # programs


def cost(z: Sizes) -> Cost:
    """M_t at every step; products of n x n and n x p entries, one after another for every program."""
    flops = 2 * z.rows * z.steps * z.n * (z.n + 2) * z.p
    reads = -(-z.p // (64 if z.n <= 64 else 32))  # of M, by every block of columns
    moved = z.rows * z.steps * (reads * z.n * z.n + 2 * z.n + 2 * z.p) * z.itemsize
    return Cost(flops + STEP * z.steps * max(z.rows / SIDE_BY_SIDE, 1 / MOST), moved, 2)


@dataclass(frozen=True)
class Cut:
    """The sizes of a run, and how it is cut: every sequence into segments, and parts of EVERY steps."""

    B: int
    T: int
    H: int
    n: int
    p: int
    packing: Packing | None
    how: Configuration
    per: int

    @property
    def sequences(self) -> int:
        return self.B if self.packing is None else self.packing.count

    @property
    def segments(self) -> int:
        """Of the longest sequence."""
        return -(-(self.T if self.packing is None else self.packing.longest) // self.per)

    @property
    def parts(self) -> int:
        """Of all sequences."""
        return self.B * -(-self.T // EVERY) if self.packing is None else self.packing.units(EVERY)

    @property
    def places(self) -> int:
        """For the segments of all sequences (see programs/dense.py: segments_of)."""
        return self.parts // (self.per // EVERY) + self.sequences

    @property
    def P(self) -> int:
        return min(power(self.p), self.how.columns)

    @property
    def blocks(self) -> int:
        return -(-self.p // self.P)

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.T, self.H, self.n, self.p, self.per

    def grid(self, matrix: bool = False) -> tuple[int, int, int]:
        """matrix: blocks of n columns too, for what a summary multiplies by."""
        return self.sequences * self.H, self.blocks + (-(-self.n // self.P) if matrix else 0), self.segments

    def compile(self, **options: Any) -> dict[str, Any]:
        fixed = {"N": power(self.n), "P": self.P, "EVERY": EVERY, "PACKED": self.packing is not None}
        return fixed | self.how.compile | options

    def table(self, stand_in: torch.Tensor) -> torch.Tensor:
        """Where sequences lie (see programs/tiles.py)."""
        return stand_in if self.packing is None else self.packing.table(EVERY, stand_in.device)


def cut_of(how: Reads, u: torch.Tensor, n: int, back: bool) -> Cut:
    (B, T, H, p), packing = u.shape, how.packing
    large = n > COLUMNS
    warps = 8 if large or n > 32 and p > 32 and not back else 4
    columns = COLUMNS // (4 if back and u.dtype == torch.float32 else 2) if large else COLUMNS
    otherwise = Configuration(min(power(p), columns), warps, 1)
    size = configuration("dense_backward" if back else "dense", n, p, u.dtype, u.device, otherwise)
    longest = T if packing is None else packing.longest
    rows = -(-B * T // longest) * H  # if all sequences were as long
    places = 2 * multiprocessors(u.device) * max(1, 32 // power(n))  # small programs share a multiprocessor
    segments = min(places // (rows * -(-p // size.columns)), longest // LEAST, MOST)
    steps = -(-longest // segments) if segments >= WORTH else longest
    return Cut(B, T, H, n, p, packing, size, -(-steps // EVERY) * EVERY)


def _placed(cut: Cut, M, b, c, u) -> tuple[tuple, ...]:
    shape = cut.B, cut.T, cut.H
    matrix = (M, *M.expand(*shape, cut.n, cut.n).stride())
    return matrix, placed(c, *shape, cut.n), placed(b, *shape, cut.n), placed(u, *shape)


def _room(cut: Cut, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if cut.segments == 1:
        return x, x
    shape = cut.places, cut.H, cut.n
    return x.new_empty(*shape, cut.p), x.new_empty(*shape, cut.n)


def _forward(how: Reads, keep: bool, inputs):
    from .programs.dense import forward

    M, b, c, u, x = inputs
    cut = cut_of(how, u, x.shape[2], False)
    y, last = torch.empty_like(u, memory_format=torch.contiguous_format), torch.empty_like(x)
    kept = x.new_empty(cut.parts, cut.H, cut.n, cut.p) if keep else x
    parts, split = (a for group in _placed(cut, M, b, c, u) for a in group), cut.segments > 1
    arguments = (*parts, x, *_room(cut, x), y, last, kept, cut.table(u), *cut.sizes)
    options = cut.compile(BEFORE=int(how.before))
    if split:
        launch(forward, cut.grid(True), x, *arguments, SUMMARY=True, REST=False, KEEP=False, **options)
    launch(forward, cut.grid(), x, *arguments, SUMMARY=False, REST=split, KEEP=keep, **options)
    return (y, last), (kept,) if keep else ()


def _backward(how: Reads, kept, inputs, outputs, dy, dlast):
    from .programs.dense_backward import backward, summary_backward

    M, b, c, u, x = inputs
    cut = cut_of(how, u, x.shape[2], True)
    shape, constant, split = (cut.B, cut.T, cut.H), M.shape[1] == 1, cut.segments > 1
    matrix, rows, columns, drive = _placed(cut, M, b, c, u)
    of_y, room, table, options = placed(dy, *shape), _room(cut, x), cut.table(u), {"BEFORE": int(how.before)}
    if split:
        arguments = (*matrix, *rows, *of_y, *room, table, *cut.sizes)
        launch(summary_backward, cut.grid(True), x, *arguments, **cut.compile(**options))
    kind = x.dtype if constant or cut.blocks > 1 else M.dtype
    of_M = (cut.segments, cut.sequences) if constant else (cut.B, cut.T)
    dM = torch.empty(cut.blocks, *of_M, cut.H, cut.n, cut.n, dtype=kind, device=u.device)
    kinds = (x.dtype, x.dtype) if cut.blocks > 1 else (c.dtype, b.dtype)
    dc, db = (torch.empty(cut.blocks, *shape, cut.n, dtype=kind, device=u.device) for kind in kinds)
    du, dx = torch.empty_like(u, memory_format=torch.contiguous_format), torch.empty_like(x)
    scratch = x.new_empty(cut.places * cut.blocks * cut.H, EVERY, cut.n, cut.P)
    given = (*matrix, *rows, *columns, *drive, *of_y, dlast, *room, *kept, scratch)
    options |= {"CONSTANT": constant, "REST": split, "PRECISION": operands(u.dtype)["PRECISION"]}
    launch(backward, cut.grid(), x, *given, dM, dc, db, du, dx, table, *cut.sizes, **cut.compile(**options))
    dM, dc, db = (a[0] if cut.blocks == 1 else a.sum(0) for a in (dM, dc, db))
    return (dM.sum(0)[:, None] if constant else dM), db, dc, du, dx


def plain(how: Reads, inputs):
    """The same, step after step, in plain torch."""
    M, b, c, u, x = inputs

    def step(x: torch.Tensor, u, M, b) -> torch.Tensor:
        return M.float() @ x + b.float()[..., None] * u.float()[..., None, :]

    return columns_by_steps(step, how, x, c, u, M, b)


DENSE = Loops(_forward, _backward, plain)


def declines(A: Dense) -> str | None:
    """Why this matrix does not suit, or None: a large one takes shared memory twice, half of its digits each."""
    n, room = A.M.shape[-1], shared_memory(A.M.device)
    why = f"its programs hold states of up to {COLUMNS} rows in {room} bytes of shared memory, this one has {n}"
    return why if n > COLUMNS and room < SHARED else None


@gpu_kernel("triton_dense", covers=Dense, cost=cost, declines=declines, fits=up_to(WIDEST), packs=True)
def run(A: Dense, b, c, u: torch.Tensor, x: torch.Tensor, before: bool, packing: Packing | None = None):
    """Signature and shapes: see registry.py."""
    if not u.shape[1]:
        return u.to(x.dtype), x
    return recur(DENSE, Reads(before, packing), A.M, *alike(b, c, u), x.contiguous())
