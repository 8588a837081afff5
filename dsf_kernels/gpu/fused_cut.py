"""How a fused recurrence is cut into tiles of heads and rows, groups of steps, and segments of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..fusion import Fused
from ..packing import Packing
from .configurations import Configuration, configuration
from .launching import multiprocessors, power

STAGES = 3, 2  # so many times doubled: the steps whose signals are asked for at once, forward and backward
EVERY = 64  # steps from one kept state to the next
ENTRIES = 256  # of a program's tile; twice as many backward, where what heads share is summed over programs
LARGEST = 512  # entries of a tile that measurements may choose
WARPS = 4
WIDEST = 256  # rows of a state that are summed over
LEAST, MOST = 128, 16  # steps of a segment; segments: each folds the summaries of those before it


@dataclass(frozen=True)
class Cut:
    """The sizes of a run, and how it is cut into tiles and segments."""

    sequences: int
    T: int
    H: int
    n: int
    heads: int
    rows: int
    steps: int
    warps: int
    segments: int
    per: int
    packing: Packing | None

    @property
    def blocks(self) -> tuple[int, int]:
        """Of heads, of rows."""
        return -(-self.H // self.heads), -(-self.n // self.rows)

    @property
    def grid(self) -> tuple[int, int]:
        heads, rows = self.blocks
        return self.sequences * heads * rows, self.segments

    @property
    def units(self) -> int:
        """States that are kept, of every head."""
        return self.packing.units(EVERY) if self.packing else self.sequences * -(-self.T // EVERY)

    def table(self, like: torch.Tensor) -> torch.Tensor:
        """Where sequences lie that are packed; else anything."""
        return self.packing.table(EVERY, like.device) if self.packing else like

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.T, self.H, self.n, self.blocks[1], self.per

    @property
    def options(self) -> dict[str, Any]:
        tile = {"HEADS": self.heads, "ROWS": self.rows, "STEPS": self.steps, "PARTS": EVERY // self.steps}
        return tile | {"PACKED": self.packing is not None, "num_warps": self.warps}


def sums(fused: Fused) -> bool:
    """Has a program to hold all rows of a state?"""
    return not fused.form.read or fused.across


def cut_of(name: str, fused: Fused, u: torch.Tensor, x: torch.Tensor, back: bool, packing: Packing | None) -> Cut:
    """Groups of steps, backward as many as from one kept state to the next; in segments. name: of the body."""
    (sequences, H, n, _), T = x.shape, u.shape[1]
    how = _configuration(name, fused, u, H, n, back)
    entries, steps = how.columns, min(1 << how.stages, EVERY)
    rows = min(power(n, 1), WIDEST if sums(fused) else entries)
    heads = min(max(1, entries // rows), power(H, 1))
    longest = packing.longest if packing else T
    programs, groups = sequences * -(-H // heads) * -(-n // rows), -(-longest // (EVERY if back else steps))
    segments = max(1, min(4 * multiprocessors(u.device) // programs, longest // LEAST, MOST))
    per = -(-groups // segments)
    return Cut(sequences, T, H, n, heads, rows, steps, how.warps, -(-groups // per), per, packing)


def _configuration(name: str, fused: Fused, u: torch.Tensor, H: int, n: int, back: bool) -> Configuration:
    """columns: entries of a tile, of the H n that a sequence has; stages: see STAGES."""
    shared = back and any(v.rows and not v.heads for _, v in fused.wanted)
    otherwise = Configuration(ENTRIES * (2 if shared else 1), WARPS, STAGES[back])
    program = f"fused_{'backward' if back else 'forward'}_{name}"
    return configuration(program, n, min(H * n, LARGEST), u.dtype, u.device, otherwise)
