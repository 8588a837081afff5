"""The kernel that runs everything: step after step, by dsf.reference."""

from __future__ import annotations

from typing import Any

import torch

from dsf import pairwise
from dsf.features import Features
from dsf.feedback import Feedback
from dsf.reference import scan
from dsf.system import System
from dsf.tree import leaves

from ..costs import Cost, Sizes, floor, pairs
from ..reach import HALF, full_precision
from ..registry import kernel

CALLS = 16  # operations of a step: cutting, A x, the write, the read
PASSES = 6  # over the state in every step: plain torch keeps every intermediate result in memory


def cost(system: System | Feedback, sizes: Sizes) -> Cost:
    """The floor's flops; the state moves through memory at every step."""
    least, z = floor(system, sizes), sizes
    if isinstance(system, System) and isinstance(system.B, Features):
        moved = least.bytes + 8 * z.rows * pairs(system, z) * z.itemsize
        return Cost(2 * least.flops, moved, CALLS * -(-z.length // pairwise.BLOCK))
    calls = CALLS + len(leaves(tuple(system.values.values()))) if isinstance(system, Feedback) else CALLS
    return Cost(least.flops, least.bytes + PASSES * z.steps * z.rows * z.n * z.p * z.itemsize, calls * z.steps)


@kernel("sequential", form="system", cost=cost)
def run(system: System | Feedback, u: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
    """dsf.reference.scan; half precision is computed, and its state kept, in fp32, and y has u's dtype."""
    if u.dtype not in HALF:
        return scan(system, u, state)
    y, state = scan(full_precision(system), u.float(), full_precision(state))
    return y.to(u.dtype), state
