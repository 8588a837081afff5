"""To and from control theory's convention, z_{t+1} = A z_t + B u_t, y_t = C' z_t + D' u_t.

z_t is x_{t-1}: a system that reads after its update has C' = C A and D' = D + C B, and reading "before" IS the control
convention. So nothing is inverted on the way back, and A may be singular.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .extras import required
from .operators import Dense
from .system import System


def to_control(system: System) -> System:
    """The same input-output map with reads="before": dense operators A, B, C A, D + C B.

    Raises ValueError for infinite features, micro-steps, normalised systems or nonlinear readouts.
    """
    A, B, C, D = system.dense_operators()
    if system.reads == "after":
        C, D = C @ A, D + C @ B
    if system.input_size is None and system.D is not None and C.shape[-2] == 1:  # p channels: vectors stay vectors
        return System(A=Dense(A), B=B[..., 0], C=C[..., 0, :], D=D[..., 0], reads="before", x0=system.x0)
    return System(A=Dense(A), B=Dense(B), C=Dense(C), D=Dense(D), reads="before", x0=system.x0)


def from_control(source: Any) -> System:
    """A System (B = T = H = 1, reads="before") from a discrete python-control StateSpace or a tuple (A, B, C, D).

    u is [B, T, 1, m], y [B, T, 1, r]. Raises ValueError for continuous time: sample it first.
    """
    if hasattr(source, "dt"):
        if source.dt == 0:
            raise ValueError("this system is in continuous time; sample it first: from_control(sys.sample(dt))")
        source = (source.A, source.B, source.C, source.D)
    if not (isinstance(source, (tuple, list)) and len(source) == 4):
        raise TypeError(f"expected a python-control StateSpace or a tuple (A, B, C, D), got {type(source).__name__}")
    A, B, C, D = (torch.atleast_2d(torch.as_tensor(np.asarray(M))) for M in source)
    n, m, r = A.shape[0], B.shape[1], C.shape[0]
    for name, M, shape in (("A", A, (n, n)), ("B", B, (n, m)), ("C", C, (r, n)), ("D", D, (r, m))):
        if tuple(M.shape) != shape:
            raise ValueError(f"{name} should be {shape[0]} x {shape[1]} to fit A, B and C, got {tuple(M.shape)}")
        if not torch.isfinite(M).all():
            raise ValueError(f"{name} holds NaN or infinity")
    dtype = torch.promote_types(torch.float64, torch.result_type(A, B))
    return System(**{k: Dense(M.to(dtype)[None, None, None]) for k, M in dict(A=A, B=B, C=C, D=D).items()}, reads="before")


def statespace(system: System, batch: int = 0, head: int = 0) -> Any:
    """One head of a time-invariant system as a discrete python-control StateSpace (dt = 1, control's convention).

    A complex state becomes a real one of twice the size, [re; im], and Re(c^T x) its real readout.
    Raises ValueError where an operator varies in time.
    """
    control = required("control", "control")
    if system.length != 1:
        raise ValueError(
            f"python-control holds time-invariant systems, and this one has operators at {system.length} time steps; "
            "take one of them with system.slice(t, t + 1)"
        )
    real_part = type(system.C).__name__ == "RealPart"
    if real_part:
        from dataclasses import replace

        system = replace(system, C=system.C.c)
    A, B, C, D = (M.expand(batch + 1, 1, head + 1, *M.shape[3:])[batch, 0, head] for M in _control_matrices(system))
    if A.is_complex() or real_part:
        zero = torch.zeros_like(A.real)
        A_, B_ = torch.cat([torch.cat([A.real, -_imag(A)], 1), torch.cat([_imag(A), A.real], 1)]), torch.cat([B.real, _imag(B)])
        return control.ss(A_.numpy(), B_.numpy(), torch.cat([C.real, -_imag(C)], 1).numpy(), D.real.numpy(), 1) if zero is not None else None
    return control.ss(A.numpy(), B.numpy(), C.numpy(), D.numpy(), 1)


def _control_matrices(system: System):
    A, B, C, D = (M.detach().cpu() for M in system.dense_operators())
    A, B, C = (M.to(torch.promote_types(A.dtype, torch.promote_types(B.dtype, C.dtype))) for M in (A, B, C))
    return (A, B, C @ A, D + C @ B) if system.reads == "after" else (A, B, C, D)


def _imag(M: torch.Tensor) -> torch.Tensor:
    return M.imag if M.is_complex() else torch.zeros_like(M)
