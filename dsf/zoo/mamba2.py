"""Mamba-2 (SSD): a selective state space with one scalar decay per head.

    x_t = e^{-dt_t exp(log_a)} x_{t-1} + dt_t k_t u_t^T      y_t = q_t^T x_t + d u_t      dt_t >= 0

q and k are the paper's C and B; groups of heads that share them are `Shared(Vector, groups)`. Source: dao2024ssd.
"""

from dsf import I, Param, Positive, Scalar, System, Vector, architecture, decay, exp


@architecture("Mamba-2", year=2024, cite="dao2024ssd")
def mamba2(q=Vector, k=Vector, dt=Positive, log_a=Param(Scalar), d=Param(Scalar)):
    return System(A=decay(-dt * exp(log_a)) * I, B=dt * k, C=q, D=d)
