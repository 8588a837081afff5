"""Gated linear attention: a decay per key channel, a function of the token.

    x_t = diag(e^{g_t}) x_{t-1} + k_t u_t^T      y_t = q_t^T x_t      g_t <= 0

Source: yang2023gla.
"""

from dsf import System, Vector, architecture, decay, diag, inf


@architecture("GLA", year=2023, cite="yang2023gla")
def gla(q=Vector, k=Vector, g=Vector(-inf, 0)):
    return System(A=diag(decay(g)), B=k, C=q)
