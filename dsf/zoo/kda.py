"""Kimi Delta Attention: the delta rule after a decay per key channel.

    x_t = (I - beta_t k_t k_t^T) diag(e^{g_t}) x_{t-1} + beta_t k_t u_t^T      y_t = q_t^T x_t      |k_t| = 1, g_t <= 0

First the decay, then the reflection: they do not commute, and the other order is another model. Equal entries of g give
Gated DeltaNet. Source: kimi2025linear.
"""

from dsf import Gate, I, System, Unit, Vector, architecture, decay, diag, inf, outer


@architecture("Kimi Delta Attention", year=2025, cite="kimi2025linear")
def kda(q=Vector, k=Unit, beta=Gate, g=Vector(-inf, 0)):
    return System(A=(I - beta * outer(k)) @ diag(decay(g)), B=beta * k, C=q)
