"""The classical cells with memory and with a leak, compiled: many short steps without a call between them.

Forward alone; what backward does not have to wait for is large operations anyway, and it is that of ../cells.py.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from dsf.feedback import Feedback
from dsf.system import System

from ..cell_recognition import plan_of
from ..cell_runs import run_cell, why_no_cell
from ..cells import CELLS, Cell, Tensors, outputs
from ..costs import Cost, Sizes, floor
from ..recurrences import lined
from ..registry import REAL, kernel
from .cell_loops import TOGETHER, layout, leaky, memory
from .compiling import compiled
from .running import CALLS, addresses, over_rows

FASTER = 1.3  # times dearer than the nominal rate, per multiplication
STEP = 1e4  # what a step of a sequence costs beside it
LOOPS = {CELLS[0]: memory, CELLS[1]: leaky}


def declines(system: System | Feedback) -> str | None:
    """Why the step is no cell's that is compiled, or None."""
    reason = why_no_cell(system)
    if reason is None and plan_of(system.architecture).cell not in LOOPS:  # type: ignore[union-attr]
        return "this cell is not compiled"
    return reason


def cost(system: Feedback, z: Sizes) -> Cost:
    """The floor's products; the gates written and read a few times."""
    least = floor(system, z)
    moved = least.bytes + 16 * z.rows * z.length * z.n * z.itemsize
    return Cost(FASTER * least.flops + STEP * z.rows * z.length, moved, CALLS)


def _forward(loop: Any) -> Any:
    def run(parts: Tensors, W: torch.Tensor, x: torch.Tensor, y: torch.Tensor, keep: bool):
        """As Cell.forward."""
        (T, H, B, n), G = parts[0].shape, W.shape[-1]
        parts = tuple(map(lined, parts))
        W = F.pad(W, (0, layout(n, G)[1] - G))
        gates = y.new_empty(T if keep else 1, H, B, 4 * n)
        ys, xs = outputs(T, y), outputs(T if loop is memory else 0, x)
        at, steps = addresses(*parts, W, gates, xs, ys), tuple(s for a in parts for s in a.stride()[:3])
        sizes = T, H, B, n, G, int(keep)
        rows, work = H * -(-B // TOGETHER), 4.0 * T * H * B * n * n
        over_rows(compiled(loop), (at, steps, sizes), y, layout(n, G)[-1], rows, work)
        return ys, ((gates, xs) if loop is memory else (gates,))

    return run


FORWARD = {cell: _forward(loop) for cell, loop in LOOPS.items()}


def _loops(cell: Cell) -> tuple:
    return FORWARD[cell], cell.backward


@kernel(
    "compiled_cells",
    form="system",
    cost=cost,
    declines=declines,
    dtypes=REAL,
    devices=("cpu",),
    needs=("numba", "cpu"),
)
def run(system: Feedback, u: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
    """As dsf.reference.scan, whose algebra derivatives of the gradient, and torch.func's transforms, take."""
    return run_cell(_loops, system, u, state)
