"""mLSTM, xLSTM's matrix memory: linear attention with a forget gate, an exponential input gate and a normaliser.

    x_t = e^{f_t} x_{t-1} + e^{i_t} k_t u_t^T      y_t = q_t^T x_t / max(|the same, u = 1|, 1)      f_t <= 0

f is the logarithm of the forget gate, log sigmoid of its pre-activation; i is that of the input gate, of any sign. The
paper's scale 1/sqrt(n) belongs to k, its output gate is outside. Source: beck2024xlstm.
"""

from dsf import I, LogDecay, Scalar, System, Vector, architecture, decay, exp, normalised


@architecture("mLSTM", year=2024, cite="beck2024xlstm")
def mlstm(q=Vector, k=Vector, f=LogDecay, i=Scalar):
    return normalised(System(A=decay(f) * I, B=exp(i) * k, C=q), floor=1.0)
