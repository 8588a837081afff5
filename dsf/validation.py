"""Sizes are compared on entry, never broadcast silently: an error names the axis and both signals."""

from __future__ import annotations

from typing import Any

import torch

from .domains import Domain
from .features import Features
from .feedback import Feedback
from .operators import Operator
from .pairwise import is_weighted
from .system import System
from .transforms import Bidirectional
from .tree import leaves
from .values import is_zero


def check_signals(name: str, domains: dict[str, Domain], tensors: dict[str, Any]) -> None:
    """The signals of an architecture: names, ranks, sizes, dtypes, devices. Raises TypeError or ValueError."""
    missing, extra = domains.keys() - tensors.keys(), tensors.keys() - domains.keys()
    if missing or extra:
        wrong = [
            f"{what} {', '.join(sorted(names))}"
            for what, names in (("lacks", missing), ("does not know", extra))
            if names
        ]
        raise TypeError(f"{name} takes the signals {', '.join(domains)}; the call {' and '.join(wrong)}")
    seen: dict[str, tuple[int, str]] = {}
    device: tuple[torch.device, str] | None = None
    for signal, domain in domains.items():
        x, axes = tensors[signal], domain.axes
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"{name}: {signal} should be a torch.Tensor [{', '.join(axes)}], got {type(x).__name__}")
        if x.dim() != len(axes):
            raise ValueError(f"{name}: {signal} should be [{', '.join(axes)}], got shape {tuple(x.shape)}")
        if domain.kind == "index" and (x.is_floating_point() or x.is_complex()):
            raise TypeError(f"{name}: {signal} is an index and should be an integer tensor, got {x.dtype}")
        if domain.kind != "index" and not (x.is_floating_point() or x.is_complex()):
            raise TypeError(f"{name}: {signal} should be a floating-point tensor, got {x.dtype}; use .float()")
        if x.is_complex() and domain.kind != "index" and domain.reals == 1:
            raise TypeError(f"{name}: {signal} lies in the real set {domain.set} and should be real, got {x.dtype}")
        if x.dtype == torch.complex32:
            raise TypeError(f"{name}: {signal} is complex in half precision, which torch cannot compute; use complex64")
        if device is None:
            device = (x.device, signal)
        if x.device != device[0]:
            raise ValueError(
                f"{name}: {signal} is on {x.device}, but {device[1]} on {device[0]}; move one with .to(...)"
            )
        for axis, size in zip(axes, x.shape, strict=True):
            expected = {"G": domain.groups, "J": domain.steps}.get(axis)
            if expected is not None and size != expected:
                raise ValueError(f"{name}: axis {axis} of {signal} is {size}, but its domain says {expected}")
            first, owner = seen.setdefault(axis, (size, signal)) if expected is None else (size, signal)
            if size != first:
                raise ValueError(f"{name}: axis {axis} of {signal} is {size}, but {first} in {owner}")
    for signal, domain in domains.items():
        if domain.groups and "H" in seen and seen["H"][0] % domain.groups:
            raise ValueError(f"{name}: {seen['H'][0]} heads do not divide into {signal}'s {domain.groups} groups")


def check_drive(system: Any, u: Any) -> None:
    """u fits the system: rank, B, T, H, the width of an input vector, dtype, device."""
    if isinstance(system, Bidirectional):
        check_drive(system.forward, u)
        return check_drive(system.backward, u)
    if not isinstance(system, (System, Feedback)):
        raise TypeError(
            f"expected a System, got {type(system).__name__}; an architecture becomes one when it is called with its "
            "signals, as in system = architecture(**signals)"
        )
    if not isinstance(u, torch.Tensor):
        raise TypeError(f"the drive u should be a torch.Tensor [B, T, H, p], got {type(u).__name__}")
    if not (u.is_floating_point() or u.is_complex()):
        raise TypeError(f"the drive u should be floating point, got {u.dtype}; use u.float()")
    J = system.micro_steps if isinstance(system, System) else 0
    layout = "[B, T, H, J, p]" if J else "[B, T, H, p]"
    if u.dim() != (5 if J else 4):
        raise ValueError(f"the drive u should be {layout}, got shape {tuple(u.shape)}")
    _check_same_sizes(system, u)
    parts = leaves(tuple(system.values.values())) if isinstance(system, Feedback) else system.leaves
    for axis, label in enumerate("BTH"):
        for leaf in parts:
            if leaf.shape[axis] not in (1, u.shape[axis]):
                raise ValueError(
                    f"axis {label} of the drive u is {u.shape[axis]}, but {leaf.shape[axis]} in the system's signals"
                )
    if parts and parts[0].device != u.device:
        raise ValueError(f"the drive u is on {u.device}, the system on {parts[0].device}; move one with .to(...)")
    if J and u.shape[3] != J:
        raise ValueError(f"axis J of the drive u is {u.shape[3]}, but the system has {J} micro-steps")
    m = system.input_size
    if m is not None and u.shape[-1] != m:
        raise ValueError(f"B is an operator on vectors of size {m}, but the last axis of the drive u is {u.shape[-1]}")
    if isinstance(system, System):
        _check_outputs(system, u.shape[-1])


def _check_same_sizes(system: Any, u: torch.Tensor) -> None:
    """B, T, H of u are those of the signals, also where a signal has size 1: nothing is repeated silently."""
    domains = system.architecture.signals if system.architecture else {}
    for signal, x in (system.signals or {}).items():
        for axis, label in enumerate("BTH"):
            if label in domains[signal].axes and (size := x.shape[domains[signal].axes.index(label)]) != u.shape[axis]:
                raise ValueError(f"axis {label} of the drive u is {u.shape[axis]}, but {size} in {signal}")


def _check_outputs(system: System, channels: int) -> None:
    """p channels pass side by side, or vectors pass: no mixture of the two is broadcast."""
    r, m = system.output_size, system.input_size
    if r is not None and m is None and channels != 1:
        raise ValueError(
            f"C is an operator, so u should have one channel, but the last axis of the drive u is {channels}"
        )
    D = system.outline.D
    scalar = not is_zero(D) and not isinstance(D, Operator)
    if scalar and (r is not None or m is not None) and (r or 1) != (m or 1):
        raise ValueError(f"D is a scalar, but y has {r or 1} entries and u has {m or 1}: make D an operator")


def check_state(system: Any, u: torch.Tensor, state: Any) -> None:
    """A carried state fits the system."""
    if state is None:
        return
    if isinstance(system, Bidirectional):
        raise ValueError("a bidirectional system reads the whole sequence: it has no state to carry; call it without")
    if isinstance(system, Feedback) or isinstance(system.outline.B, Features):
        return _check_parts(system, u, state)
    if not isinstance(state, torch.Tensor):
        raise TypeError(f"the state should be a tensor [B, H, n, p], got {type(state).__name__}")
    p = 1 if system.input_size is not None else u.shape[-1] + bool(system.normalised)
    expected = (u.shape[0], u.shape[2], system.state_size, p)
    if tuple(state.shape) != expected:
        raise ValueError(f"the state should be [B, H, n, p] = {expected}, got {tuple(state.shape)}")


def _check_parts(system: Any, u: torch.Tensor, state: Any) -> None:
    """(x, y) of a feedback system; of infinite features the past, (k, u), or (k, u, w) where tokens carry weights."""
    B, H, S = u.shape[0], u.shape[2], "S"
    layouts: dict[str, tuple]
    if isinstance(system, Feedback):
        kind, layouts = "pair", {"x": (B, H, u.shape[-1], 1), "y": (B, H, u.shape[-1])}
    else:
        kind, layouts = "pair", {"k": (B, S, H, system.B.x.shape[-1]), "u": (B, S, *u.shape[2:])}
        if is_weighted(system):
            kind, layouts = "triple", layouts | {"w": (B, S, H)}
    what = f"({', '.join(layouts)})" + " so far" * (not isinstance(system, Feedback))
    if not (isinstance(state, tuple) and len(state) == len(layouts)):
        got = f"a tuple of {len(state)}" if isinstance(state, tuple) else type(state).__name__
        raise TypeError(f"the state of this system is the {kind} {what}, got {got}")
    S = state[0].shape[1] if state[0].dim() > 1 else 0
    expected = tuple(tuple(S if size == "S" else size for size in shape) for shape in layouts.values())
    if (got := tuple(tuple(part.shape) for part in state)) != expected:
        raise ValueError(f"the state should be {what} = {expected}, got {got}")
