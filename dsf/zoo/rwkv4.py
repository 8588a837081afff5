"""RWKV-4: a decayed mean of the past with weights e^k, and a bonus for the present token; every channel is a head.

    x_t = e^{w} x_{t-1} + e^{k_t} u_t      y_t = (x_{t-1} + e^{bonus + k_t} u_t) / (the same, u = 1)      w <= 0

n = 1: the state is a numerator and a denominator. Both sides of the ratio are divided by e^bonus here. The paper's w is
-w > 0; token shift and the gate sigmoid(r) y are outside. Source: peng2023rwkv4.
"""

from dsf import I, LogDecay, Param, Scalar, System, architecture, decay, exp, normalised


@architecture("RWKV-4", year=2023, cite="peng2023rwkv4")
def rwkv4(k=Scalar, w=Param(LogDecay), bonus=Param(Scalar)):
    return normalised(System(A=decay(w) * I, B=exp(k), C=exp(-bonus), D=exp(k), reads="before"))
