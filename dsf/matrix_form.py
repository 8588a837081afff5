"""A, B, C, D of an architecture as sympy matrices, for the reader."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp

from .algebra import dense
from .composites import Writes
from .definition import Architecture
from .features import Features, decay_and_window
from .operators import Operator, RealPart
from .values import as_array, is_zero


def matrices(architecture: Architecture, n: int = 2) -> dict[str, sp.Matrix]:
    """A, B, C and, where there is one, D at state size n, on the symbols of the signals.

    Infinite features have no matrix: their B and C are left out, and A where it is a register of them. Micro-steps: B
    has one column per u_j. Re(c^T x) is shown by its c. `readout` and `normalised` are not part of the matrices.

    >>> import dsf
    >>> matrices(dsf.architecture_named("retnet"))["A"]
    Matrix([
    [exp(log_gamma),              0],
    [             0, exp(log_gamma)]])
    """
    system = architecture.symbolic(n)
    register = isinstance(system.B, Features) and decay_and_window(system.A)[1]
    found = {} if register else {"A": system.dense()}
    size = n if register else found["A"].rows
    for name in "BCD":
        part = getattr(system, name)
        if isinstance(part, Features) or is_zero(part):
            continue
        found[name] = sp.Matrix(_matrix(part, size, row=name == "C"))
    return found


def _matrix(part: Any, n: int, row: bool) -> Any:
    like = as_array(sp.eye(n))
    if isinstance(part, Writes):
        return part.apply(as_array(sp.eye(len(part.A.factors()))))
    if isinstance(part, RealPart):
        part = part.c
    if isinstance(part, Operator):
        return dense(part, n, like)
    vector = np.atleast_1d(part)
    return vector[None, :] if row else vector[:, None]
