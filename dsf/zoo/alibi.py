"""ALiBi: softmax attention whose scores fall linearly with the distance; as dynamics, a constant decay per head.

    x_t = e^{-slope} x_{t-1} + phi(k_t) u_t^T      y_t = phi(q_t)^T x_t / (the same, u = 1)      slope >= 0
    phi(q)^T phi(k) = e^{q^T k}:  the pair t, s has the score q_t^T k_s - slope (t - s)

The state is the past: (k, u, w), with w the log weight of each token so far. No hidden scale: put 1/sqrt(n) into q.
Source: press2022alibi.
"""

from dsf import I, Param, Positive, System, Vector, architecture, decay, features, normalised


@architecture("ALiBi", year=2022, cite="press2022alibi")
def alibi(q=Vector, k=Vector, slope=Param(Positive)):
    return normalised(System(A=decay(-slope) * I, B=features.exp(k), C=features.exp(q)))
