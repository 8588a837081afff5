"""Systems of which every state is wanted: x_t = A_t x_{t-1} + w_t by a kernel, write and read for all steps at once.

For states as small as what is read of them: B and C operators (p = 1), a nonlinear readout, one channel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from dsf.lattice import climb, vector_like
from dsf.operators import Operator
from dsf.reference import driven, normalise
from dsf.system import System

from .reach import HALF, first_state, working_dtype


def run_states(
    covers: type[Operator], run: Callable, system: System, u: torch.Tensor, state: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """run(A, w, x) on one system: w_t = B_t u_t, then the states, then y_t = C_t readout(x_t) + D_t u_t."""
    drive = driven(system, u)
    x = first_state(system, drive, state, working_dtype(system, drive))
    A = climb(system.A, covers, system.state_size, vector_like(system))
    w = system.write(drive).to(x.dtype).expand(*drive.shape[:3], *x.shape[2:])
    xs = run(A, w, x)
    last = xs[:, -1] if u.shape[1] else x
    read = xs if system.reads == "after" else torch.cat([x[:, None], xs[:, :-1]], 1)[:, : u.shape[1]]
    y = system.read(read, drive)
    y = normalise(system, y) if system.normalised else y
    return (y.to(u.dtype) if u.dtype in HALF else y), last
