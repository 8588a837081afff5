"""DeltaProduct: J delta-rule steps per token, so A_t is a product of J generalised Householder matrices.

    x <- (I - beta_j k_j k_j^T) x + beta_j k_j u_j^T   for j = 1..J      y_t = q_t^T x_t      beta_j in [0, 2]

J = 2; more: `with_domain(k=Each(Unit, 3), beta=Each(Scalar(0, 2), 3))`. The drive is [B, T, H, J, p].
Source: siems2025deltaproduct.
"""

from dsf import Each, I, Scalar, System, Unit, Vector, architecture, microsteps, outer


@architecture("DeltaProduct", year=2025, cite="siems2025deltaproduct")
def deltaproduct(q=Vector, k=Each(Unit), beta=Each(Scalar(0, 2))):
    return microsteps(System(A=I - beta * outer(k), B=beta * k, C=q))
