"""Systems whose B and C are vectors, brought to the one form that kernels take: S <- A_t S + b_t u_t^T, y_t = c_t^T S.

Normaliser, micro-steps, initial state and D are dealt with here, once for all kernels.
"""

from __future__ import annotations

from functools import reduce

import torch

from dsf.composites import Product, Writes, micro_step
from dsf.features import Features
from dsf.feedback import Feedback
from dsf.lattice import climb, expand_microsteps, path, vector_like
from dsf.operators import Operator
from dsf.reference import initial_state, normalise, with_ones
from dsf.system import System
from dsf.tree import leaves
from dsf.values import is_zero, value

from .registry import Kernel

HALF = (torch.float16, torch.bfloat16)


def why_not(kernel: Kernel, system: System | Feedback) -> str | None:
    """Why a kernel of vectors b and c cannot run this system, or None."""
    if kernel.covers is None:
        return None
    if isinstance(system, Feedback):
        return "feedback: A_t is a function of y_{t-1}, known only once step t-1 has run"
    if isinstance(system.B, Features) or isinstance(system.C, Features):
        return "infinite features: only inner products phi(q)^T phi(k) exist"
    for side, M in (("B", system.B), ("C", system.C)):
        if isinstance(M, Operator) and not isinstance(M, Writes):
            return f"{side} is an operator ({type(M).__name__}), and the kernel takes a vector"
    if system.readout:
        return "the readout is a nonlinear function of the state"
    A = transition(system)
    if path(type(A), kernel.covers) is None:
        return f"{type(A).__name__} does not climb to {kernel.covers.__name__}"
    lifted = climb(A, kernel.covers, system.state_size, vector_like(system))
    if lifted is None:
        return f"this {type(A).__name__} has no form as {kernel.covers.__name__}"
    return kernel.declines(lifted)


def transition(system: System) -> Operator:
    """A of the first (micro-)step: its structure is that of all, and a lift of it is cheap."""
    A = system.slice(0, 1).A
    return micro_step(A.factor, 0) if isinstance(A, Product) else A


def working_dtype(system: System | Feedback, u: torch.Tensor | None = None) -> torch.dtype:
    """The dtype to which signals and drive promote."""
    parts = tuple(system.values.values()) if isinstance(system, Feedback) else tuple(system.leaves)
    found = [x.dtype for x in leaves((parts, u)) if x.is_floating_point() or x.is_complex()]
    return reduce(torch.promote_types, found) if found else torch.get_default_dtype()


def run_columns(
    kernel: Kernel, system: System, u: torch.Tensor, state: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """One kernel on one system. The state is kept in fp32 where the signals are in half precision, y has u's dtype."""
    assert kernel.covers is not None
    drive = u if system.u is None else system.u
    drive = with_ones(drive) if system.normalised else drive
    dtype = working_dtype(system, drive)
    x = initial_state(system, drive) if state is None else state
    x = x.to(torch.float32 if dtype in HALF else torch.promote_types(dtype, x.dtype))
    flat, v, read = expand_microsteps(system, drive)
    A = climb(flat.A, kernel.covers, system.state_size, vector_like(flat))
    b, c = (value(vector).expand(*value(vector).shape[:-1], system.state_size) for vector in (flat.B, flat.C))
    y, x = kernel.run(A, b, c, v, x, system.reads == "before")
    y = y[:, read]
    if not is_zero(system.D):
        y = y + system.through(drive)
    y = normalise(system, y) if system.normalised else y
    return (y.to(u.dtype) if u.dtype in HALF else y), x
