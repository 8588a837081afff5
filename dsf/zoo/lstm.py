"""LSTM, torch.nn.LSTM: a gated cell whose gates read the previous output.

    x_t = diag(f) x_{t-1} + diag(i) tanh(u_t + Ru y_{t-1})      y_t = diag(o) tanh(x_t)
    f, i, o = sigmoid(f_t + Rf y_{t-1}), ...

The signals f, i, o, u are the input's shares of the pre-activations, W u + b. Source: hochreiter1997 (forget gate:
Gers et al. 2000).
"""

from dsf import Drive, Matrix, Param, Previous, System, Vector, architecture, diag, sigmoid, tanh


@architecture("LSTM", year=1997, cite="hochreiter1997")
def lstm(
    f=Vector,
    i=Vector,
    o=Vector,
    u=Drive,
    y=Previous,
    Rf=Param(Matrix),
    Ri=Param(Matrix),
    Ro=Param(Matrix),
    Ru=Param(Matrix),
):
    f, i, o = sigmoid(f + Rf @ y), sigmoid(i + Ri @ y), sigmoid(o + Ro @ y)
    return System(A=diag(f), B=diag(i), C=diag(o), u=tanh(u + Ru @ y), readout=tanh)
