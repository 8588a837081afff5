"""What the choice of a kernel depends on: structures, numbers, shapes and dtypes of a run, as one hashable value."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from dsf.deferred import Deferred
from dsf.feedback import Feedback
from dsf.system import PARTS, System
from dsf.tree import Node, leaves

_OTHERS = ("readout", "normalised", "floor", "reads")


def signature(system: System | Feedback, u: torch.Tensor) -> tuple:
    """Equal for two runs only if every kernel takes both or neither, at the same predicted cost."""
    if isinstance(system, Feedback | Deferred):
        known = (system.architecture, *map(_of, system.values.values()))  # the architecture itself: ids are reused
    else:
        known = (*(_of(getattr(system, name)) for name in (*PARTS, "x0")), *(getattr(system, k) for k in _OTHERS))
    inputs = leaves(tuple(system.values.values())) if isinstance(system, Feedback) else system.leaves
    trains = torch.is_grad_enabled() and any(x.requires_grad for x in (u, *inputs))
    return type(system), known, _of(u), trains


def _of(x: Any) -> Any:
    if isinstance(x, torch.Tensor):
        return x.shape, x.dtype, x.device.type, _stored(x)
    if isinstance(x, Node):
        return type(x), *(_of(getattr(x, field.name)) for field in dataclasses.fields(x))  # type: ignore[arg-type]
    if isinstance(x, tuple):
        return tuple(map(_of, x))
    return type(x), x  # a number: 1 and 1.0 and True are not told apart by ==


def _stored(x: torch.Tensor) -> tuple[bool, ...]:
    """Which axes are broadcast: they take no memory."""
    return tuple(stride == 0 for stride in x.stride())
