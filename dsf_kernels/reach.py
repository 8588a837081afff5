"""Which kernels a system can reach: the structure of A climbs to theirs, and the rest of it fits their form."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

import torch

from dsf.composites import Product, Writes, micro_step
from dsf.features import Features
from dsf.feedback import Feedback
from dsf.lattice import climb, path, vector_like
from dsf.operators import Operator, RealPart
from dsf.reference import initial_state
from dsf.system import System
from dsf.tree import leaves, tree_map

from .packing import Packing
from .registry import Kernel

HALF = (torch.float16, torch.bfloat16)


def why_not(kernel: Kernel, system: System | Feedback) -> str | None:
    """Why a kernel cannot run this system, or None."""
    if kernel.covers is None:
        return kernel.declines(system)
    if isinstance(system, Feedback):
        return "feedback: A_t is a function of y_{t-1}, known only once step t-1 has run"
    step = system.outline
    if isinstance(step.B, Features) or isinstance(step.C, Features):
        return "infinite features: only inner products phi(q)^T phi(k) exist"
    unfit = _not_columns(step) if kernel.form == "columns" else _not_states(step)
    if unfit:
        return unfit
    A = transition(system)
    if path(type(A), kernel.covers) is None:
        return f"{type(A).__name__} does not climb to {kernel.covers.__name__}"
    try:
        like = vector_like(step)
    except ValueError:
        return "its operators A, B, C hold no tensor"
    lifted = climb(A, kernel.covers, step.state_size, like)
    if lifted is None:
        return f"this {type(A).__name__} has no form as {kernel.covers.__name__}"
    return kernel.declines(lifted)


def _not_columns(system: System) -> str | None:
    for side, M, known in (("B", system.B, Writes), ("C", system.C, RealPart)):
        if isinstance(M, Operator) and not isinstance(M, known):
            return f"{side} is an operator ({type(M).__name__}), and the kernel takes a vector"
    return "the readout is a nonlinear function of the state" if system.readout else None


def _not_states(system: System) -> str | None:
    return "micro-steps: the state is read at every J-th step only" if isinstance(system.B, Writes) else None


def transition(system: System) -> Operator:
    """A of the first (micro-)step: its structure is that of all, and a lift of it is cheap."""
    step = system.outline
    return micro_step(step.A.factor, 0) if isinstance(step.A, Product) and isinstance(step.B, Writes) else step.A


def working_dtype(system: System | Feedback, u: torch.Tensor | None = None) -> torch.dtype:
    """The dtype to which signals and drive promote."""
    parts = tuple(system.values.values()) if isinstance(system, Feedback) else tuple(system.leaves)
    found = [x.dtype for x in leaves((parts, u)) if x.is_floating_point() or x.is_complex()]
    return reduce(torch.promote_types, found) if found else torch.get_default_dtype()


def first_state(
    system: System,
    drive: torch.Tensor,
    given: torch.Tensor | None,
    dtype: torch.dtype,
    packing: Packing | None = None,
) -> torch.Tensor:
    """The state from which a run starts, in the dtype in which it is kept: fp32 where the run is in half precision."""
    if packing is not None:
        drive = packing.each(drive)
    x = initial_state(system, drive) if given is None else given
    return x.to(torch.float32 if dtype in HALF else torch.promote_types(dtype, x.dtype))


def last_state(system: System, drive: torch.Tensor, given: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
    """The last state x of a run, real where nothing but what reads it is complex."""
    if not x.is_complex() or given is not None and given.is_complex():
        return x
    return x if initial_state(system, drive[:, :1]).is_complex() else x.real


def full_precision(x: Any) -> Any:
    """A system, a tensor or tensors with what is in half precision in fp32."""
    if isinstance(x, System):
        return replace(x.map(full_precision), x0=full_precision(x.x0))
    if isinstance(x, Feedback):
        return x.map(full_precision)
    return tree_map(lambda leaf: leaf.float() if leaf.dtype in HALF else leaf, x)
