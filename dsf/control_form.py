"""To and from control theory's convention, z_{t+1} = A z_t + B u_t, y_t = C' z_t + D' u_t.

z_t is x_{t-1}: a system that reads after its update has C' = C A and D' = D + C B, and reading "before" IS the control
convention. So nothing is inverted on the way back, and A may be singular.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from .extras import required
from .functions import inner, real
from .operators import Dense, I, Operator, RealPart
from .system import System
from .tree import tree_map
from .values import column, is_zero, plus, value


def to_control(system: System) -> System:
    """The same input-output map with reads="before": A and B as they are, C A for C, D + C B for D.

    Structures are kept: a vector C becomes A^T c, Re(c^T x) becomes Re((A^T c)^T x) with D + Re(c^T b), for a real u.
    Raises ValueError for infinite features, micro-steps, normalised systems or nonlinear readouts.
    """
    system.check_linear()
    if system.reads == "before":
        return system
    C, through = _one_step_on(system)
    D, varying = _sum(system, through), not system.constant
    return replace(system, C=C, D=D, reads="before", architecture=None, signals=None, varying=varying)


def _one_step_on(system: System) -> tuple[Any, Any]:
    """(C A, C B), in the form in which C and B are given."""
    A, B, C = system.A, system.B, system.C
    if system.output_is_vector:
        return C @ A, C @ (B if system.input_is_vector else Dense(column(B)))
    c = value(C.c if isinstance(C, RealPart) else C)
    row, through = A.T @ c, Dense((B.T @ c)[..., None, :]) if system.input_is_vector else inner(c, B)
    return (RealPart(row), tree_map(real, through)) if isinstance(C, RealPart) else (row, through)


def _sum(system: System, through: Any) -> Any:
    """D + C B; beside an operator C B, a scalar D is a multiple of I."""
    D = system.D
    if isinstance(through, Operator) and not isinstance(D, Operator):
        return through if is_zero(D) else D * I + through
    return D + through if isinstance(D, Operator) else plus(D, through)


def from_control(source: Any) -> System:
    """A System (B = T = H = 1, reads="before") from a discrete python-control StateSpace or a tuple (A, B, C, D).

    u is [B, T, 1, m], y [B, T, 1, r]. Raises ValueError for continuous time: sample it first.
    """
    if isinstance(source, System):
        raise TypeError("this is a System already; to_control() keeps it one, and statespace() exports it")
    if hasattr(source, "dt"):
        if source.dt == 0:
            raise ValueError("this system is in continuous time; sample it first: from_control(sys.sample(dt))")
        source = (source.A, source.B, source.C, source.D)
    if not (isinstance(source, (tuple, list)) and len(source) == 4):
        raise TypeError(f"expected a python-control StateSpace or a tuple (A, B, C, D), got {type(source).__name__}")
    A, B, C, D = (torch.atleast_2d(M if isinstance(M, torch.Tensor) else torch.as_tensor(np.array(M))) for M in source)
    n, m, r = A.shape[0], B.shape[1], C.shape[0]
    for name, M, shape in (("A", A, (n, n)), ("B", B, (n, m)), ("C", C, (r, n)), ("D", D, (r, m))):
        if tuple(M.shape) != shape:
            raise ValueError(f"{name} should be {shape[0]} x {shape[1]} to fit A, B and C, got {tuple(M.shape)}")
        if not torch.isfinite(M).all():
            raise ValueError(f"{name} holds NaN or infinity")
    A, B, C, D = (Dense(M.to(torch.promote_types(M.dtype, torch.float64))[None, None, None]) for M in (A, B, C, D))
    return System(A=A, B=B, C=C, D=D, reads="before")


def statespace(system: System, batch: int | None = None, head: int | None = None) -> Any:
    """One head of a time-invariant system as a discrete python-control StateSpace (dt = 1, control's convention).

    Which batch entry and head must be said where there are several.
    A complex state becomes a real one of twice the size, [re; im], and Re(c^T x) its real readout.
    Raises ValueError where an operator varies in time, or where the output is complex.
    """
    control = required("control", "control")
    if system.length != 1:
        raise ValueError(
            f"python-control holds time-invariant systems, and this one has operators at {system.length} time steps; "
            "take one of them with system.slice(t, t + 1)"
        )
    for name, given, size in (("batch", batch, system.batch), ("head", head, system.heads)):
        if given is None and size > 1:
            raise ValueError(f"this system has {size} of axis {name}: say which, as in statespace({name}=0)")
    batch, head = batch or 0, head or 0
    matrices = to_control(system)._matrices()
    one = [M[batch if len(M) > 1 else 0, 0, head if M.shape[2] > 1 else 0].detach().cpu() for M in matrices]
    A, B, C, D = (M.to(torch.promote_types(M.dtype, torch.float64)) for M in one)
    if D.is_complex() or A.is_complex() and not isinstance(system.C, RealPart):
        raise ValueError(
            "python-control holds real systems, and the output of this one is complex: read it with RealPart(c)"
        )
    if A.is_complex():
        A = torch.cat([torch.cat([A.real, -A.imag], 1), torch.cat([A.imag, A.real], 1)])
        B, C = torch.cat([B.real, B.imag]), torch.cat([C.real, -C.imag], 1)
    return control.ss(*(M.numpy() for M in (A, B, C, D)), 1)
