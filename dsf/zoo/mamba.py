"""Mamba (S6): a selective, real, diagonal state space; every channel is a head with p = 1.

    x_t = diag(e^{-dt_t exp(log_a)}) x_{t-1} + dt_t b_t u_t      y_t = c_t^T x_t + d u_t      dt_t >= 0

b and c are shared by all channels. Source: gu2023mamba.
"""

from dsf import Param, Positive, Scalar, Shared, System, Vector, architecture, decay, diag, exp


@architecture("Mamba", year=2023, cite="gu2023mamba")
def mamba(b=Shared(Vector), c=Shared(Vector), dt=Positive, log_a=Param(Vector), d=Param(Scalar)):
    return System(A=diag(decay(-dt * exp(log_a))), B=dt * b, C=c, D=d)
