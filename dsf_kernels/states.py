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

from .packing import Packing
from .reach import HALF, first_state, last_state, working_dtype


def run_states(
    covers: type[Operator],
    run: Callable,
    system: System,
    u: torch.Tensor,
    state: torch.Tensor | None,
    packing: Packing | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """run(A, w, x) on one system: w_t = B_t u_t, then the states, then y_t = C_t readout(x_t) + D_t u_t."""
    drive = driven(system, u)
    x = first_state(system, drive, state, working_dtype(system, drive), packing)
    A = climb(system.A, covers, system.state_size, vector_like(system))
    w = system.write(drive).to(x.dtype).expand(*drive.shape[:3], *x.shape[2:])
    xs = run(A, w, x) if packing is None else run(A, w, x, packing)
    past, last = _around(xs, x) if packing is None else _around_each(xs, x, packing)
    read = xs if system.reads == "after" else past
    y = system.read(read, drive)
    y = normalise(system, y) if system.normalised else y
    return (y.to(u.dtype) if u.dtype in HALF else y), last_state(system, drive, state, last)


def _around(xs: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The states before those of every step, and the last one."""
    past = torch.cat([x[:, None], xs], 1)
    return past[:, :-1], past[:, -1]


def _around_each(xs: torch.Tensor, x: torch.Tensor, packing: Packing) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of every sequence."""
    pairs = (_around(own, first) for own, first in zip(packing.apart(xs), x.split(1), strict=True))
    pasts, lasts = zip(*pairs, strict=True)
    return torch.cat(pasts, 1), torch.cat(lasts)
