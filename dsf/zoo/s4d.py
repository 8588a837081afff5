"""S4D: a diagonal, complex, time-invariant state space by zero-order hold.

    x_t = e^{dt lam} x_{t-1} + lam^{-1} (e^{dt lam} - 1) b u_t      y_t = 2 Re(c^T x_t) + d u_t      Re lam <= 0

One state per conjugate pair, hence the 2. Source: gu2022s4d.
"""

from dsf import Complex, LeftHalfPlane, Param, Positive, RealPart, Scalar, System, Vector, architecture, diag, zoh


@architecture("S4D", year=2022, cite="gu2022s4d")
def s4d(
    dt=Param(Positive),
    lam=Param(Vector(LeftHalfPlane)),
    b=Param(Vector(Complex)),
    c=Param(Vector(Complex)),
    d=Param(Scalar),
):
    A, B = zoh(diag(lam), b, dt)
    return System(A=A, B=B, C=RealPart(2 * c), D=d)
