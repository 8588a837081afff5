"""LSSL: the dense HiPPO-LegS state space, discretised by the bilinear rule.

    x_t = (I - dt/2 A)^{-1} (I + dt/2 A) x_{t-1} + (I - dt/2 A)^{-1} dt B u_t      y_t = c^T x_t + d u_t
    A_ij = -sqrt((2i+1)(2j+1)) (i > j), -(i+1) (i = j), 0 (i < j)      B_i = sqrt(2i+1)

A is triangular, its eigenvalues are -1, ..., -n. `zoh` and `gbt(..., alpha)` replace the bilinear rule in a body of
one's own. Source: gu2021lssl, gu2020hippo (without the 1/t of LegS, as S4 and LSSL do).
"""

import sympy as sp

from dsf import Fixed, Interval, Param, Positive, Scalar, System, Vector, architecture, bilinear, inf


def hippo_legs(n: int) -> sp.Matrix:
    """HiPPO-LegS's A, exact."""
    root = [sp.sqrt(2 * i + 1) for i in range(n)]
    return sp.Matrix(n, n, lambda i, j: -root[i] * root[j] if i > j else -(i + 1) if i == j else 0)


def hippo_legs_input(n: int) -> sp.Matrix:
    """HiPPO-LegS's B, exact."""
    return sp.Matrix([sp.sqrt(2 * i + 1) for i in range(n)])


@architecture("LSSL", year=2021, cite="gu2021lssl")
def lssl(
    dt=Param(Positive),
    a=Fixed("matrix", hippo_legs, Interval(-inf, -1)),
    b=Fixed("vector", hippo_legs_input),
    c=Param(Vector),
    d=Param(Scalar),
):
    A, B = bilinear(a, b, dt)
    return System(A=A, B=B, C=c, D=d)
