"""Systems whose B and C are vectors, brought to the one form that kernels take: S <- A_t S + b_t u_t^T, y_t = c_t^T S.

Normaliser, micro-steps, initial state, real parts and D are dealt with here, once for all kernels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from dsf.lattice import climb, expand_microsteps, vector_like
from dsf.operators import Operator, RealPart
from dsf.reference import driven, normalise
from dsf.system import System
from dsf.values import is_zero, value

from .packing import Packing
from .reach import HALF, first_state, last_state, working_dtype


def run_columns(
    covers: type[Operator],
    run: Callable,
    system: System,
    u: torch.Tensor,
    state: torch.Tensor | None,
    packing: Packing | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """run(A, b, c, u, x, before) on one system, its A in the structure that is covered.

    Or on those of a packing. The state is kept in fp32 where the signals are in half precision, y has u's dtype.
    """
    drive = driven(system, u)
    x = first_state(system, drive, state, working_dtype(system, drive), packing)
    flat, v, read = expand_microsteps(system, drive)
    packs = () if packing is None else (packing.micro(v.shape[1] // drive.shape[1]),)
    A = climb(flat.A, covers, system.state_size, vector_like(flat))
    vectors = (flat.B, flat.C.c if isinstance(flat.C, RealPart) else flat.C)
    b, c = (value(vector).expand(*value(vector).shape[:-1], system.state_size) for vector in vectors)
    y, x = run(A, b, c, v, x, system.reads == "before", *packs)
    y = y[:, read]
    if isinstance(flat.C, RealPart) and y.is_complex():
        y = y.real
    if not is_zero(system.D):
        y = y + system.through(drive)
    y = normalise(system, y) if system.normalised else y
    return (y.to(u.dtype) if u.dtype in HALF else y), last_state(system, drive, state, x)
