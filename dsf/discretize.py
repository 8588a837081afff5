"""From continuous time x' = A x + B u to one step of length dt: the same function of diagonals and of matrices.

    zero-order hold     A_d = e^{dt A}                              B_d = A^{-1} (e^{dt A} - I) B
    GBT(alpha)          A_d = (I - alpha dt A)^{-1} (I + (1-alpha) dt A)    B_d = (I - alpha dt A)^{-1} dt B
                        alpha = 0 Euler, 1/2 bilinear (Tustin), 1 backward Euler

Source: LSSL (gu2021lssl), S4D (gu2022s4d). A stays ONE occurrence, so bounds stay tight: Mobius(z) is
alpha' + beta' (1 - alpha z)^{-1} (see `gbt`), and the spectral mapping theorem encloses the spectrum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp
import torch

from . import sets
from .algebra import MatVec, dependence
from .functions import decay
from .operators import Dense, Diagonal, Operator
from .sets import Interval, inf
from .values import Bound, MatrixBound, as_array, column, is_name, widest

HALF = (torch.float16, torch.bfloat16)


class Inverse(sp.Function):
    """(I - M)^{-1} on names."""

    def _latex(self, printer, exp=None):
        return rf"\left(I - {printer._print(self.args[0])}\right)^{{-1}}"

    def _sympystr(self, printer):
        return f"(I - {printer._print(self.args[0])})^-1"


class IPlus(sp.Function):
    """I + M on names."""

    def _latex(self, printer, exp=None):
        return rf"\left(I + {printer._print(self.args[0])}\right)"

    def _sympystr(self, printer):
        return f"(I + {printer._print(self.args[0])})"


def zoh(A: Operator, b: Any, dt: Any) -> tuple[Operator, Any]:
    """Zero-order hold: u is constant within a step. A Diagonal, or a Dense matrix (on symbols without eigenvalue 0).

    Raises TypeError for other structures.
    """
    if isinstance(A, Diagonal):
        z = dt * A.d
        step = decay(z)
        return Diagonal(step), (dt * _expm1_ratio(z) if isinstance(z, torch.Tensor) else (step - 1) / A.d) * b
    if not isinstance(A, Dense):
        raise TypeError(f"zoh takes a Diagonal or a Dense operator, got {type(A).__name__}")
    M = A.M
    if is_name(M):
        return Dense(sp.exp(dt * M)), MatVec((sp.exp(dt * M) - 1) / M, b)
    if isinstance(M, MatrixBound):
        z = (dt * A).M
        return Dense(_mapped(z, sets.exp)), _free_vector(A, b, dt)
    if not isinstance(M, torch.Tensor):
        n = M.shape[-1]
        step = as_array((sp.Matrix(M) * dt[0]).exp())
        return Dense(step), as_array(sp.Matrix(M).solve(sp.Matrix(step - np.eye(n, dtype=int)) * sp.Matrix(b)))[:, 0]
    n = M.shape[-1]
    z, w = column(dt) * M, (dt * b)[..., None]
    lead = torch.broadcast_shapes(z.shape[:-2], w.shape[:-2])
    top = torch.cat(
        [z.expand(*lead, n, n), w.expand(*lead, n, 1)], -1
    )  # expm of [[A, b], [0, 0]] holds both: no inverse
    both = torch.linalg.matrix_exp(torch.cat([top, torch.zeros_like(top[..., :1, :])], -2))
    return Dense(both[..., :n, :n]), both[..., :n, n]


def _expm1_ratio(z: torch.Tensor) -> torch.Tensor:
    """(e^z - 1) / z, and its gradient, also at z = 0: there a pole integrates, and B is dt b."""
    small = z.abs() < 1e-3
    safe = torch.where(small, torch.ones_like(z), z)
    series = 1 + z / 2 * (1 + z / 3 * (1 + z / 4 * (1 + z / 5 * (1 + z / 6))))  # the rest is below 1e-18
    return torch.where(small, series, torch.expm1(safe) / safe)


def gbt(A: Operator, b: Any, dt: Any, alpha: float) -> tuple[Operator, Any]:
    """The generalised bilinear transform; alpha in [0, 1]. A Diagonal or Dense.

    alpha > 0: (1 + (1-alpha) z) / (1 - alpha z) = (1 - 1/alpha) + (1/alpha) (1 - alpha z)^{-1}, with z = dt A once.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1] (0 Euler, 1/2 bilinear, 1 backward Euler), got {alpha}")
    if isinstance(A, Diagonal):
        z = dt * A.d
        if alpha == 0:
            return Diagonal(1 + z), dt * b
        inverse = 1 / (1 - alpha * z)
        return Diagonal((1 - 1 / alpha) + (1 / alpha) * inverse), inverse * (dt * b)
    if not isinstance(A, Dense):
        raise TypeError(f"gbt takes a Diagonal or a Dense operator, got {type(A).__name__}")
    return _gbt_dense(A, b, dt, alpha)


def bilinear(A: Operator, b: Any, dt: Any) -> tuple[Operator, Any]:
    """Tustin's rule, gbt with alpha = 1/2: maps the left half plane onto the unit disc."""
    return gbt(A, b, dt, 0.5)


def _gbt_dense(A: Dense, b: Any, dt: Any, alpha: float) -> tuple[Operator, Any]:
    z, a = (dt * A).M, sp.nsimplify(alpha)
    if is_name(A.M):
        inverse: Any = Inverse(a * z)
        plus: Any = IPlus((1 - a) * z)
        return Dense(plus * inverse), MatVec(inverse, dt * b)
    if isinstance(z, MatrixBound):

        def mobius(s):
            if alpha == 0:
                return sets.add(sets.point(1), s)
            inverse = sets.inverse(sets.add(sets.point(1), sets.scaled(s, -alpha)))
            return sets.add(sets.point(1 - 1 / alpha), sets.scaled(inverse, 1 / alpha))

        return Dense(_mapped(z, mobius)), _free_vector(A, b, dt)
    n = z.shape[-1]
    if isinstance(z, torch.Tensor) and z.dtype in HALF:  # torch inverts no half-precision matrices
        step, write = _gbt_dense(Dense(A.M.float()), b.float(), dt.float(), alpha)
        assert isinstance(step, Dense)
        return Dense(step.M.to(z.dtype)), write.to(z.dtype)
    if isinstance(z, torch.Tensor):
        eye = torch.eye(n, dtype=z.dtype, device=z.device)
        inverse = torch.linalg.inv(eye - alpha * z)
    else:
        eye = as_array(sp.eye(n))
        inverse = as_array(sp.Matrix(eye - a * z).inv())
    rest = 1 - alpha if isinstance(z, torch.Tensor) else 1 - a  # exact on symbols
    return Dense(inverse @ (eye + rest * z)), (inverse @ (dt * b)[..., None])[..., 0]


def _mapped(z: MatrixBound, f) -> MatrixBound:
    """Spectral mapping: the eigenvalues of f(M) are f(eigenvalues). Symmetric stays symmetric, other norms are free."""
    spectrum = f(z.spectrum)
    return MatrixBound(spectrum, spectrum.abs.hi if z.symmetric else inf, z.symmetric, z.dependence, z.steps)


def _free_vector(A: Operator, b: Bound, dt: Bound) -> Bound:
    return Bound(Interval(), Interval(0, inf), widest((dependence(A), b.dependence, dt.dependence)), b.steps)
