"""Softmax attention: an infinite feature map on linear attention's dynamics.

    x_t = x_{t-1} + phi(k_t) u_t^T      y_t = phi(q_t)^T x_t / (phi(q_t)^T sum_s phi(k_s))
    phi(q)^T phi(k) = e^{q^T k}

dim phi = oo, so the state is the past (k, u) itself. No hidden scale: put 1/sqrt(n) into q. Source: vaswani2017;
as a dynamical system: sieber2024dsf.
"""

from dsf import I, System, Vector, architecture, features, normalised


@architecture("Softmax attention", year=2017, cite="vaswani2017")
def softmax_attention(q=Vector, k=Vector):
    return normalised(System(A=I, B=features.exp(k), C=features.exp(q)))
