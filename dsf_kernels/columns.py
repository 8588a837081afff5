"""Systems whose B and C are vectors, brought to the one form that kernels take: S <- A_t S + b_t u_t^T, y_t = c_t^T S.

Normaliser, micro-steps, initial state, real parts and D are dealt with here, once for all kernels.
"""

from __future__ import annotations

import torch

from dsf.lattice import climb, expand_microsteps, vector_like
from dsf.operators import RealPart
from dsf.reference import initial_state, normalise, with_ones
from dsf.system import System
from dsf.values import is_zero, value

from .reach import HALF, first_state, working_dtype
from .registry import Kernel


def run_columns(
    kernel: Kernel, system: System, u: torch.Tensor, state: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """One kernel on one system. The state is kept in fp32 where the signals are in half precision, y has u's dtype."""
    assert kernel.covers is not None
    drive = u if system.u is None else system.u
    drive = with_ones(drive) if system.normalised else drive
    dtype = working_dtype(system, drive)
    x = first_state(initial_state(system, drive) if state is None else state, dtype)
    flat, v, read = expand_microsteps(system, drive)
    A = climb(flat.A, kernel.covers, system.state_size, vector_like(flat))
    vectors = (flat.B, flat.C.c if isinstance(flat.C, RealPart) else flat.C)
    b, c = (value(vector).expand(*value(vector).shape[:-1], system.state_size) for vector in vectors)
    y, x = kernel.run(A, b, c, v, x, system.reads == "before")
    y = y[:, read]
    if isinstance(flat.C, RealPart) and y.is_complex():
        y = y.real
    if not is_zero(system.D):
        y = y + system.through(drive)
    y = normalise(system, y) if system.normalised else y
    return (y.to(u.dtype) if u.dtype in HALF else y), x
