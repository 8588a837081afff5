"""RetNet: linear attention with one constant decay per head.

    x_t = gamma x_{t-1} + k_t u_t^T      y_t = q_t^T x_t      gamma = e^log_gamma in [0, 1]

Rotations of q and k (xPos) and the group norm are outside. Source: sun2023retnet.
"""

from dsf import I, LogDecay, Param, System, Vector, architecture, decay


@architecture("RetNet", year=2023, cite="sun2023retnet")
def retnet(q=Vector, k=Vector, log_gamma=Param(LogDecay)):
    return System(A=decay(log_gamma) * I, B=k, C=q)
