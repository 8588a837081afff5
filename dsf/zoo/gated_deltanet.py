"""Gated DeltaNet: the delta rule with a scalar decay of the whole state.

    x_t = e^{g_t} (I - beta_t k_t k_t^T) x_{t-1} + beta_t k_t u_t^T      y_t = q_t^T x_t      g_t <= 0

beta multiplies erase and write: beta = 0 writes nothing. Source: yang2024gateddelta.
"""

from dsf import Gate, I, LogDecay, System, Unit, Vector, architecture, decay, outer


@architecture("Gated DeltaNet", year=2024, cite="yang2024gateddelta")
def gated_deltanet(q=Vector, k=Unit, beta=Gate, g=LogDecay):
    return System(A=decay(g) * (I - beta * outer(k)), B=beta * k, C=q)
