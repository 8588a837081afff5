"""RWKV-6 (Finch): a decay per channel, read before the update, with a bonus for the present token.

    y_t = r_t^T (x_{t-1} + diag(bonus) k_t u_t^T)      x_t = diag(e^{w_t}) x_{t-1} + k_t u_t^T      w_t <= 0

The bonus is D_t = r_t^T diag(bonus) k_t. Source: peng2024rwkv6.
"""

from dsf import Param, System, Vector, architecture, decay, diag, inf, inner


@architecture("RWKV-6", year=2024, cite="peng2024rwkv6")
def rwkv6(r=Vector, k=Vector, w=Vector(-inf, 0), bonus=Param(Vector)):
    return System(A=diag(decay(w)), B=k, C=r, D=inner(r, bonus * k), reads="before")
