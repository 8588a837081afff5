"""DeltaNet: one step of gradient descent on |x^T k - u|^2 / 2 per token, with step size beta.

    x_t = (I - beta_t k_t k_t^T) x_{t-1} + beta_t k_t u_t^T      y_t = q_t^T x_t      |k_t| = 1, beta_t in [0, 1]

Eigenvalues 1 (n-1 times) and 1 - beta. Negative ones: `with_domain(beta=Scalar(0, 2))` (grazzi2025).
Source: schlag2021, yang2024deltanet.
"""

from dsf import Gate, I, System, Unit, Vector, architecture, outer


@architecture("DeltaNet", year=2024, cite="yang2024deltanet")
def deltanet(q=Vector, k=Unit, beta=Gate):
    return System(A=I - beta * outer(k), B=beta * k, C=q)
