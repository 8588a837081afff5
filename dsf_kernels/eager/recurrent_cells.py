"""Feedback systems whose step is that of a classical cell, known by what they compute, not by name: a few calls a step.

See cells.py for the equations, cell_recognition.py for how a cell is known, cell_runs.py for what is kept.
"""

from __future__ import annotations

from typing import Any

import torch

from dsf.feedback import Feedback

from ..cell_runs import run_cell, why_no_cell
from ..cells import Cell
from ..costs import Cost, Sizes, floor
from ..registry import REAL, kernel

CALLS = 8  # operations of a step, the largest cell's


def cost(system: Feedback, sizes: Sizes) -> Cost:
    """The floor, with the gates written and read a few times; a few calls a step."""
    least, z = floor(system, sizes), sizes
    return Cost(least.flops, least.bytes + 16 * z.rows * z.length * z.n * z.itemsize, CALLS * z.length)


def _loops(cell: Cell):
    return cell.forward, cell.backward


@kernel("fused_cells", form="system", cost=cost, declines=why_no_cell, dtypes=REAL)
def run(system: Feedback, u: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
    """As dsf.reference.scan, whose algebra derivatives of the gradient, and torch.func's transforms, take."""
    return run_cell(_loops, system, u, state)
