"""How a run of the walk is cut: into chunks, blocks of columns of the state, and segments of time.

A cut fills the card: where heads and blocks of columns are too few, time is cut in segments, which meet by their exact
summaries (what they multiply a state by, and what they leave).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..packing import Packing
from ..sizes import Sizes
from .configurations import Configuration, configuration, cramped, rule
from .launching import INTERPRETED, multiprocessors, operands, power

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
