"""The walk through chunks from the host, forward and backward, for every structure that it takes: one launch, or two
where time is cut (see walk_cut.py)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .launching import launch, placed
from .walk_cut import Cut


@dataclass(frozen=True)
class Signals:
    """What a run reads: rows and columns [B | 1, T | 1, H | 1, n], g; where decays are ready or there is a rank, what
    was made of them (see programs/walk.py)."""

    rows: torch.Tensor
    columns: torch.Tensor
    g: torch.Tensor
    W: torch.Tensor | None = None
    V: torch.Tensor | None = None
    whole: torch.Tensor | None = None
    pairs: torch.Tensor | None = None

    def placed(self, cut: Cut) -> tuple[tuple, tuple, tuple]:
        of_g = cut.n if cut.options["READY"] else 1
        sizes = cut.B, cut.T, cut.H
        return placed(self.rows, *sizes, cut.n), placed(self.columns, *sizes, cut.n), placed(self.g, *sizes, of_g)

    @property
    def made(self) -> tuple[torch.Tensor, ...]:
        return tuple(self.g if x is None else x for x in (self.W, self.V, self.whole, self.pairs))


def _room(cut: Cut, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For the summaries of segments: what each leaves, and what it multiplies by."""
    if cut.segments == 1:
        return x, x
    of = (cut.n, cut.n) if cut.options["RANK"] else (cut.n,) if cut.options["READY"] else (1,)
    return x.new_empty(cut.segments, *x.shape), x.new_empty(cut.segments, cut.heads, *of)


def forward(cut: Cut, signals: Signals, u: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """y in u's dtype, and the last state in fp32; x [B, H, n, p] in fp32."""
    from .programs.walk import walk

    y, x = torch.empty_like(u, memory_format=torch.contiguous_format), x.contiguous()
    last, (ends, products) = torch.empty_like(x), _room(cut, x)
    rows, columns, g = signals.placed(cut)
    drive = placed(u, cut.B, cut.T, cut.H)
    arguments = (
        *rows,
        *columns,
        *drive,
        *g,
        *signals.made,
        x,
        ends,
        products,
        y,
        last,
        cut.tables(u)[0],
        *cut.sizes,
        cut.per,
        cut.segments,
    )
    split = cut.segments > 1
    if split:
        matrix = cut.options["RANK"]
        launch(walk, cut.grid(matrix=matrix), x, *arguments, SUMMARY=True, REST=False, **cut.options, **cut.compile)
    launch(walk, cut.grid(), x, *arguments, SUMMARY=False, REST=split, **cut.options, **cut.compile)
    return y, last


@dataclass(frozen=True)
class Ways:
    """What both ways leave: the state before every chunk and the gradient of that after it [chunks, H, n, p], in the
    dtype of the products, and with RANK what W and V read of them [B, T, H, p]; the gradients of u and of the first
    state."""

    states: torch.Tensor
    dstates: torch.Tensor
    erased: torch.Tensor
    derased: torch.Tensor
    du: torch.Tensor
    dx: torch.Tensor


def both_ways(cut: Cut, signals: Signals, u, x, dy, dlast) -> Ways:
    """The walk again, and backward in time, side by side."""
    from .programs.walk import both_ways as program

    x, dlast = x.contiguous(), dlast.contiguous()
    kept = torch.bfloat16 if u.dtype == torch.bfloat16 else torch.float32
    shape = (cut.chunks, cut.H, cut.n, cut.p)
    states, dstates = (torch.empty(shape, dtype=kept, device=u.device) for _ in range(2))
    du, dx = torch.empty_like(u, memory_format=torch.contiguous_format), torch.empty_like(x)
    erased, derased = (torch.empty_like(du, dtype=kept) if cut.options["RANK"] else du for _ in range(2))
    rows, columns, g = signals.placed(cut)
    drive, of_y = placed(u, cut.B, cut.T, cut.H), placed(dy, cut.B, cut.T, cut.H)
    rooms = x, *_room(cut, x), dlast, *_room(cut, x), dx, du, states, dstates, erased, derased
    arguments = (*rows, *columns, *drive, *of_y, *g, *signals.made, *rooms, cut.tables(u)[0])
    arguments = (*arguments, *cut.sizes, cut.per, cut.segments)
    split = cut.segments > 1
    if split:
        grid = cut.grid(2, cut.options["RANK"])
        launch(program, grid, x, *arguments, SUMMARY=True, REST=False, **cut.options, **cut.compile)
    launch(program, cut.grid(2), x, *arguments, SUMMARY=False, REST=split, **cut.options, **cut.compile)
    return Ways(states, dstates, erased, derased, du, dx)
