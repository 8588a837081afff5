"""Systems from systems. `normalised` and `microsteps` stand in bodies; the others join finished systems."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .composites import Product, Writes
from .features import Features
from .feedback import Feedback
from .operators import Dense, Operator
from .system import System, flipped, same_dtype
from .tree import leaves
from .values import Bound, Log, MatrixBound, is_name, is_zero, value


def normalised(system: System, floor: float | None = None, sink: Any = None) -> System:
    """y_t / (the same system driven by ones): the normaliser is one more channel, so every kernel applies.

    floor: divide by max(|.|, floor) instead (mLSTM: 1). sink: a scalar signal s, and e^s is added to the normaliser: a
    token without a value that every query sees (gpt-oss). Raises TypeError for what is no System or no such signal.
    """
    if not isinstance(system, System):
        hint = "; an architecture has a method for it: architecture.normalised()"
        raise TypeError(f"normalised takes the System of a body, got {type(system).__name__}{hint}")
    if sink is not None and (isinstance(sink, Log) or getattr(sink, "norm2", None) is not None):
        raise TypeError("a sink is a scalar signal, the logarithm of its weight")
    return replace(system, normalised=True, floor=floor, sink=sink)


def microsteps(system: System) -> System:
    """One token = J steps, each with its own A, B and write (signals `Each(...)`); C reads after the last."""
    if not is_zero(system.D):
        raise ValueError("a system of micro-steps has no D: a token's J inputs have no one direct way to its output")
    b = value(system.B)
    if isinstance(b, (Operator, Features)):
        raise TypeError("a system of micro-steps is written by a vector B, and has a finite state")
    A = Product(system.A, max(map(_steps, (system.A, b, system.C))))
    C = system.C if isinstance(system.C, Bound) or is_name(system.C) else _last_micro_step(system.C)
    return replace(system, A=A, B=Writes(A, b), C=C)


def _steps(x: Any) -> int:
    """The number of micro-steps that an operator or a vector shows; 0 on names."""
    if isinstance(x, Operator):
        bounds = [leaf.steps for leaf in leaves(x) if isinstance(leaf, (Bound, MatrixBound))]
        return max(bounds, default=0) if bounds or any(map(is_name, leaves(x))) else len(Product(x).factors())
    x = value(x)
    return x.steps if isinstance(x, Bound) else 0 if is_name(x) else x.shape[-2]


def _last_micro_step(C: Any) -> Any:
    if not isinstance(value(C), (torch.Tensor, np.ndarray)):
        raise TypeError("a system of micro-steps is read by a vector C")
    return value(C)[..., -1, :]


@dataclass(frozen=True, eq=False)
class Bidirectional:
    """y = forward(u) joined with backward(u run from the end). No causal A, B, C, D exists for it."""

    forward: Any
    backward: Any  # its signals already in reversed order of time
    join: str = "sum"

    def combine(self, forward: torch.Tensor, backward: torch.Tensor) -> torch.Tensor:
        return forward + backward if self.join == "sum" else torch.cat([forward, backward], -1)

    def __repr__(self) -> str:
        return f"Bidirectional ({self.join}), not causal\n  forward:  {self.forward}\n  backward: {self.backward}"


def bidirectional(forward: System, backward: System, join: str = "sum") -> Bidirectional:
    """Two systems on one input, the second run from the end of the sequence; outputs are summed or concatenated.

    Both take their signals in the natural order of time. join: "sum" or "concatenate".
    """
    _check_systems((System, Feedback), forward, backward)
    if join not in ("sum", "concatenate"):
        raise ValueError(f'join is "sum" or "concatenate", got {join!r}')
    return Bidirectional(forward, flipped(backward), join)


def series(first: System, second: System) -> System:
    """second(first(u)): the output of one drives the other, as ONE system of size n1 + n2 (dense).

    x = [x1; x2]: A = [[A1, 0], [B2 C1 A1, A2]], B = [B1; B2 (C1 B1 + D1)], C = [D2 C1, C2], D = D2 D1.
    Source: the state-space series connection, for systems that read after the update.
    """
    (A1, B1, C1, D1), (A2, B2, C2, D2) = _matrices(first, second)
    through = C1 @ B1 + D1
    zero = A1.new_zeros(1, 1, 1, A1.shape[-1], A2.shape[-1])
    A = _blocks([[A1, zero], [B2 @ C1 @ A1, A2]])
    return _joined(first, second, A, _blocks([[B1], [B2 @ through]]), _blocks([[D2 @ C1, C2]]), D2 @ D1)


def parallel(first: System, second: System) -> System:
    """first(u) + second(u), as ONE system of size n1 + n2 (block diagonal, dense)."""
    (A1, B1, C1, D1), (A2, B2, C2, D2) = _matrices(first, second)
    n1, n2 = A1.shape[-1], A2.shape[-1]
    upper, lower = A1.new_zeros(1, 1, 1, n1, n2), A1.new_zeros(1, 1, 1, n2, n1)
    A = _blocks([[A1, upper], [lower, A2]])
    return _joined(first, second, A, _blocks([[B1], [B2]]), _blocks([[C1, C2]]), D1 + D2)


def _check_systems(kinds: tuple[type, ...], *systems: Any) -> None:
    for s in systems:
        if not isinstance(s, kinds):
            raise TypeError(f"systems are joined, got {type(s).__name__}; an architecture is called with its signals")


def _matrices(first: System, second: System):
    _check_systems((System,), first, second)
    if "before" in (first.reads, second.reads):
        raise ValueError('series and parallel join systems that read after the update; one of these reads "before"')
    if _channelwise(first) != _channelwise(second):
        raise ValueError("one system takes vectors (B or C an operator), the other channels (B and C vectors)")
    for label, name in (("B", "batch"), ("T", "length"), ("H", "heads")):
        a, b = getattr(first, name), getattr(second, name)
        if a != b and 1 not in (a, b):
            raise ValueError(f"axis {label} is {a} in the first system, but {b} in the second")
    one = same_dtype(*first.dense_operators(), *second.dense_operators())
    return one[:4], one[4:]


def _channelwise(system: System) -> bool:
    """Are B and C vectors, so that p channels pass side by side?"""
    return not (system.input_is_vector or system.output_is_vector)


def _joined(first: System, second: System, A, B, C, D) -> System:
    x0, varying = _joined_start(first, second), not (first.constant and second.constant)
    if _channelwise(first):
        return System(A=Dense(A), B=B[..., 0], C=C[..., 0, :], D=D[..., 0], x0=x0, varying=varying)
    return System(A=Dense(A), B=Dense(B), C=Dense(C), D=Dense(D), x0=x0, varying=varying)


def _joined_start(first: System, second: System) -> torch.Tensor | None:
    """[x0; x0'], zeros where only one of them starts elsewhere."""
    known = first.x0 if first.x0 is not None else second.x0
    if known is None:
        return None
    sizes = ((s.x0, (*known.shape[:2], s.state_size, known.shape[-1])) for s in (first, second))
    return torch.cat([known.new_zeros(size) if x0 is None else x0 for x0, size in sizes], -2)


def _blocks(grid: list[list[torch.Tensor]]) -> torch.Tensor:
    lead = torch.broadcast_shapes(*(p.shape[:-2] for row in grid for p in row))
    full = [[p.expand(*lead, *p.shape[-2:]) for p in row] for row in grid]
    return torch.cat([torch.cat(row, -1) for row in full], -2)
