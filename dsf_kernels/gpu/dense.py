"""A dense transition, one step after another, the state of one head in registers; matrices of up to 64 x 64.

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
from ..recurrences import Loops, columns_by_steps, recur
from ..sizes import Sizes
from .launching import alike, gpu_kernel, launch, multiprocessors, operands, placed, power, up_to

WIDEST = 64  # rows of a state, and columns that a program holds
EVERY = 16  # steps, of which one state is kept
LEAST = 64  # steps of a segment
MOST = 16  # segments: each folds the summaries of those before it
WORTH = 3  # segments: the summaries are another pass, and of n more columns
STEP = 2e7  # flops that a step costs, as none starts before the last has ended
SIDE_BY_SIDE = 264  # programs


def cost(z: Sizes) -> Cost:
    """M_t at every step; products of n x n and n x p entries, one after another for every program."""
    flops = 2 * z.rows * z.steps * z.n * (z.n + 2) * z.p
    moved = z.rows * z.steps * (z.n * z.n + 2 * z.n + 2 * z.p) * z.itemsize
    return Cost(flops + STEP * z.steps * max(z.rows / SIDE_BY_SIDE, 1 / MOST), moved, 2)


@dataclass(frozen=True)
class Cut:
    """The sizes of a run, and how it is cut."""

    B: int
    T: int
    H: int
    n: int
    p: int
    P: int
    per: int

    @property
    def segments(self) -> int:
        return -(-self.T // self.per)

    @property
    def blocks(self) -> int:
        return -(-self.p // self.P)

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.T, self.H, self.n, self.p, self.per

    def grid(self, matrix: bool = False) -> tuple[int, int, int]:
        """matrix: blocks of n columns too, for what a summary multiplies by."""
        return self.B * self.H, self.blocks + (-(-self.n // self.P) if matrix else 0), self.segments

    def compile(self, **options: Any) -> dict[str, Any]:
        return {"N": power(self.n), "P": self.P, "num_warps": 4, "num_stages": 1} | options


def cut_of(u: torch.Tensor, n: int) -> Cut:
    B, T, H, p = u.shape
    P = min(power(p), WIDEST)
    places = 2 * multiprocessors(u.device) * max(1, 32 // power(n))  # small programs share a multiprocessor
    segments = min(places // (B * H * -(-p // P)), T // LEAST, MOST)
    steps = -(-T // segments) if segments >= WORTH else T
    return Cut(B, T, H, n, p, P, -(-steps // EVERY) * EVERY)


def _placed(cut: Cut, M, b, c, u) -> tuple[tuple, ...]:
    shape = cut.B, cut.T, cut.H
    matrix = (M, *M.expand(*shape, cut.n, cut.n).stride())
    return matrix, placed(c, *shape, cut.n), placed(b, *shape, cut.n), placed(u, *shape)


def _room(cut: Cut, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if cut.segments == 1:
        return x, x
    return x.new_empty(cut.segments, *x.shape), x.new_empty(cut.segments, cut.B * cut.H, cut.n, cut.n)


def _forward(before: bool, keep: bool, inputs):
    from .programs.dense import forward

    M, b, c, u, x = inputs
    cut = cut_of(u, x.shape[2])
    y, last = torch.empty_like(u, memory_format=torch.contiguous_format), torch.empty_like(x)
    kept = x.new_empty(cut.B, cut.H, -(-cut.T // EVERY), cut.n, cut.p) if keep else None
    parts, split = (a for group in _placed(cut, M, b, c, u) for a in group), cut.segments > 1
    arguments = (*parts, x, *_room(cut, x), y, last, x if kept is None else kept, *cut.sizes)
    options = cut.compile(EVERY=EVERY, BEFORE=int(before), num_warps=8 if cut.n > 32 and cut.P == 64 else 4)
    if split:
        launch(forward, cut.grid(True), x, *arguments, SUMMARY=True, REST=False, KEEP=False, **options)
    launch(forward, cut.grid(), x, *arguments, SUMMARY=False, REST=split, KEEP=keep, **options)
    return (y, last), kept


def _backward(before: bool, kept, inputs, outputs, dy, dlast):
    from .programs.dense_backward import backward, summary_backward

    M, b, c, u, x = inputs
    cut = cut_of(u, x.shape[2])
    shape, constant, split = (cut.B, cut.T, cut.H), M.shape[1] == 1, cut.segments > 1
    matrix, rows, columns, drive = _placed(cut, M, b, c, u)
    of_y, room, options = placed(dy, *shape), _room(cut, x), {"BEFORE": int(before)}
    if split:
        arguments = (*matrix, *rows, *of_y, *room, *cut.sizes)
        launch(summary_backward, cut.grid(True), x, *arguments, **cut.compile(**options))
    kind = x.dtype if constant or cut.blocks > 1 else M.dtype
    of_M = (cut.segments, cut.B) if constant else (cut.B, cut.T)
    dM = torch.empty(cut.blocks, *of_M, cut.H, cut.n, cut.n, dtype=kind, device=u.device)
    kinds = (x.dtype, x.dtype) if cut.blocks > 1 else (c.dtype, b.dtype)
    dc, db = (torch.empty(cut.blocks, *shape, cut.n, dtype=kind, device=u.device) for kind in kinds)
    du, dx = torch.empty_like(u, memory_format=torch.contiguous_format), torch.empty_like(x)
    scratch = x.new_empty(cut.segments * cut.blocks * cut.B * cut.H, EVERY, cut.n, cut.P)
    given = (*matrix, *rows, *columns, *drive, *of_y, dlast, *room, kept, scratch)
    options |= {"EVERY": EVERY, "CONSTANT": constant, "REST": split, "PRECISION": operands(u.dtype)["PRECISION"]}
    launch(backward, cut.grid(), x, *given, dM, dc, db, du, dx, *cut.sizes, **cut.compile(**options))
    dM, dc, db = (a[0] if cut.blocks == 1 else a.sum(0) for a in (dM, dc, db))
    return (dM.sum(0)[:, None] if constant else dM), db, dc, du, dx


def plain(before: bool, inputs):
    """The same, step after step, in plain torch."""
    M, b, c, u, x = inputs

    def step(x: torch.Tensor, u, M, b) -> torch.Tensor:
        return M.float() @ x + b.float()[..., None] * u.float()[..., None, :]

    return columns_by_steps(step, before, x, c, u, M, b)


DENSE = Loops(_forward, _backward, plain)


@gpu_kernel("triton_dense", covers=Dense, cost=cost, fits=up_to(WIDEST))
def run(A: Dense, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, x: torch.Tensor, before: bool):
    """Signature and shapes: see registry.py."""
    if not u.shape[1]:
        return u.to(x.dtype), x
    return recur(DENSE, before, A.M, *alike(b, c, u), x.contiguous())
