"""Chunks of time, from the host: how a run is cut, forward and backward, for every structure that the walk takes.

A cut fills the card: columns of the state in blocks, and where heads and blocks are too few, time in segments, which
meet by their exact summaries (what they multiply a state by, and what they leave). So a run takes one launch, or two.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..packing import Packing
from ..sizes import Sizes
from .configurations import Configuration, configuration, cramped, rule
from .launching import INTERPRETED, launch, multiprocessors, operands, placed, power

UNIT = 64  # steps of a unit: one chunk, or several (see programs/tiles.py)
CHUNK = UNIT  # steps; fewer where products of fp32 take more registers, or shared memory is small
WIDEST = 256  # rows of a state
WIDEST_MATRIX = 128  # of one that a segment multiplies by a matrix: more are not cut in time
MOST = 16  # segments: each folds the summaries of those before it
LEAST = 4  # chunks of a segment
CALL = 1.5  # calls that a walk costs: a chunk takes its time, however few steps it has


def tiled(z: Sizes) -> Sizes:
    """The sizes whose products a run pays for: sides of tiles are powers of two, 16 at least."""
    return replace(z, n=power(z.n), p=power(z.p))


@dataclass(frozen=True)
class Cut:
    """The sizes of a run and how it is cut. `options`: what the programs are compiled for."""

    B: int
    T: int
    H: int
    n: int
    p: int
    packing: Packing | None
    device: torch.device
    per: int
    options: dict[str, Any]
    compile: dict[str, int] = field(default_factory=dict)

    @property
    def packed(self) -> bool:
        return self.packing is not None

    @property
    def segments(self) -> int:
        longest = self.T if self.packing is None else self.packing.longest
        return -(-longest // (self.options["C"] * self.per))

    @property
    def heads(self) -> int:
        """Of all sequences."""
        return self.H * (self.B if self.packing is None else self.packing.count)

    @property
    def units(self) -> int:
        """Of a sequence that lies in a row of its own."""
        return -(-self.T // UNIT)

    @property
    def parts(self) -> int:
        """Units of all sequences."""
        return self.B * self.units if self.packing is None else self.packing.units(UNIT)

    @property
    def chunks(self) -> int:
        """Of all sequences; behind a sequence's end they have no steps."""
        return self.parts * (UNIT // self.options["C"])

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.T, self.H, self.n, self.p, self.units

    def tables(self, stand_in: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Where sequences lie, and whose every unit is (see programs/tiles.py)."""
        if self.packing is None:
            return stand_in, stand_in
        return self.packing.table(UNIT, self.device), self.packing.owners(UNIT, self.device)

    def grid(self, ways: int = 1, matrix: bool = False) -> tuple[int, int, int]:
        """matrix: blocks of n columns too, for what a summary multiplies by."""
        P = self.options["P"]
        return self.heads, -(-self.p // P) + (-(-self.n // P) if matrix else 0), ways * self.segments


def _chunk(n: int, dtype: torch.dtype, device: torch.device) -> int:
    if INTERPRETED:
        return CHUNK
    if dtype == torch.bfloat16:
        return CHUNK // 2 if cramped(n, dtype, device) else CHUNK
    return CHUNK // 2 if dtype == torch.float16 else CHUNK // 4


def cut_of(u: torch.Tensor, n: int, packing: Packing | None, **options: Any) -> Cut:
    """Of a drive u [B, T, H, p], or of packed sequences, and a state of n rows; options: READY, RANK, BEFORE (see
    programs/walk.py)."""
    B, T, H, p = u.shape
    wide = options["RANK"] and n > WIDEST_MATRIX
    narrow = Configuration(32 if u.dtype == torch.bfloat16 else 16, 8, 1) if wide else None
    if options["RANK"] and not wide and cramped(n, torch.float32, u.device):
        narrow = rule(n, p, torch.float32, u.device)  # segments multiply by matrices in fp32
    how = configuration("low_rank_walk" if options["RANK"] else "walk", n, p, u.dtype, u.device, narrow)
    chunk = _chunk(n, u.dtype, u.device)
    longest = T if packing is None else packing.longest
    chunks = -(-longest // chunk)
    busy = -(-B * T // longest)  # sequences side by side, were they all as long
    wanted = multiprocessors(u.device) // (busy * H * -(-p // how.columns))
    segments = max(1, min(wanted, chunks // LEAST, 1 if wide else MOST))
    options |= {"C": chunk, "N": power(n), "P": how.columns, "PACKED": packing is not None} | operands(u.dtype)
    return Cut(B, T, H, n, p, packing, u.device, -(-chunks // segments), options, how.compile)


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
