"""How a fused recurrence is cut into tiles of heads and rows, groups of steps, and segments of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..fusion import Fused
from .launching import multiprocessors, power

STEPS = 8, 4  # whose signals are asked for at once: forward, backward
EVERY = 64  # steps from one kept state to the next
ENTRIES = 256  # of a program's tile; twice as many backward, where what heads share is summed over programs
WIDEST = 256  # rows of a state of which y is a sum
LEAST, MOST = 128, 16  # steps of a segment; segments: each folds the summaries of those before it


@dataclass(frozen=True)
class Cut:
    """The sizes of a run, and how it is cut into tiles and segments."""

    B: int
    T: int
    H: int
    n: int
    heads: int
    rows: int
    steps: int
    groups: int
    segments: int
    per: int

    @property
    def blocks(self) -> tuple[int, int]:
        """Of heads, of rows."""
        return -(-self.H // self.heads), -(-self.n // self.rows)

    @property
    def grid(self) -> tuple[int, int, int]:
        heads, rows = self.blocks
        return heads * rows, self.B, self.segments

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.T, self.H, self.n, self.blocks[1], self.groups, self.per

    @property
    def options(self) -> dict[str, Any]:
        tile = {"HEADS": self.heads, "ROWS": self.rows, "STEPS": self.steps, "PARTS": EVERY // self.steps}
        return tile | {"num_warps": 4}


def cut_of(fused: Fused, u: torch.Tensor, x: torch.Tensor, back: bool) -> Cut:
    """Groups of steps, backward as many as from one kept state to the next; in segments."""
    (B, H, n, _), T = x.shape, u.shape[1]
    entries = ENTRIES * (2 if back and any(v.rows and not v.heads for _, v in fused.wanted) else 1)
    rows = min(power(n, 1), entries if fused.form.read else WIDEST)
    heads = min(max(1, entries // rows), power(H, 1))
    programs, groups = B * -(-H // heads) * -(-n // rows), -(-T // (EVERY if back else STEPS[0]))
    most = T // LEAST  # segments
    segments = max(1, min(4 * multiprocessors(u.device) // programs, most, MOST))
    per = -(-groups // segments)
    return Cut(B, T, H, n, heads, rows, STEPS[back], groups, -(-groups // per), per)
